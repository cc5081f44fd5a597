//! Serves a test's driver so that it can be ended like a process: every connection is cut.

use std::path::Path;

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use sublet::proto::plugin::driver_service_server::DriverServiceServer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::{driver::Driver, http_peer::Identity};

/// A driver's listener and connections. Dropped, all are cut.
pub struct Serving {
    pub address: String,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Serving {
    /// On a free port.
    pub fn tcp(driver: Driver, death: watch::Receiver<bool>, identity: Option<&Identity>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = identity.map(Identity::acceptor);
        let address = match &acceptor {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("127.0.0.1:{port}"),
        };
        Self::listen(listener, address, (driver, death), acceptor)
    }

    /// Where another one was before.
    pub fn at(driver: Driver, death: watch::Receiver<bool>, address: &str) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        Self::listen(listener, address.to_owned(), (driver, death), None)
    }

    /// At a Unix socket.
    pub fn unix(driver: Driver, mut death: watch::Receiver<bool>, path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let task = tokio::spawn(async move {
            let mut all = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (socket, _) = accepted.unwrap();
                        all.spawn(serve(socket, driver.clone()));
                    }
                    _ = death.wait_for(|dead| *dead) => return,
                }
            }
        });
        let address = format!("unix:{}", path.display());
        Self { address, task }
    }

    fn listen(
        listener: std::net::TcpListener,
        address: String,
        (driver, mut death): (Driver, watch::Receiver<bool>),
        acceptor: Option<TlsAcceptor>,
    ) -> Self {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let task = tokio::spawn(async move {
            let mut all = JoinSet::new();
            loop {
                let socket = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = death.wait_for(|dead| *dead) => return,
                };
                socket.set_nodelay(true).unwrap();
                let (driver, acceptor) = (driver.clone(), acceptor.clone());
                all.spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(socket) = acceptor.accept(socket).await {
                                serve(socket, driver).await;
                            }
                        }
                        None => serve(socket, driver).await,
                    }
                });
            }
        });
        Self { address, task }
    }

    /// Cuts everything, and returns when the address is free.
    pub async fn stop(mut self) -> String {
        self.task.abort();
        (&mut self.task).await.ok();
        self.address.clone()
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, driver: Driver) {
    let service = TowerToHyperService::new(DriverServiceServer::new(driver));
    let connection = http2::Builder::new(TokioExecutor::new());
    connection
        .serve_connection(TokioIo::new(socket), service)
        .await
        .ok();
}
