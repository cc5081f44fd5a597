//! A real broker, the `sublet` program with its defaults, and its pools.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use sublet::proto::{
    CreatePoolRequest, EchoBackend, Endpoint, HttpBackend, Pool, PoolSpec, Sizing, Tls,
    pool_service_client::PoolServiceClient, pool_spec,
};
use tonic::transport::Channel;

/// A broker as a child process.
pub struct Broker {
    child: std::process::Child,
    pub address: String,
    data: tempfile::TempDir,
}

impl Broker {
    /// Starts a broker on a free port, over a fresh SQLite store.
    pub async fn start() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let address = format!("127.0.0.1:{port}");
        let child = Command::new(env!("CARGO_BIN_EXE_sublet"))
            .args(["serve", "--listen", &address, "--log-filter", "error"])
            .arg("--data-dir")
            .arg(data.path())
            .spawn()
            .expect("the broker starts");
        let broker = Self { child, address, data };
        broker.wait().await;
        broker
    }

    /// Returns as soon as health says that it serves.
    async fn wait(&self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if let Ok(channel) = channel(&self.address).await
                && sublet::grpc::ask_health(channel, "").await.unwrap_or(false)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the broker over {} does not serve", self.data.path().display());
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub async fn create(
        &self,
        name: &str,
        sessions: u32,
        backend: pool_spec::Backend,
        endpoint: Option<&str>,
    ) {
        let channel = channel(&self.address).await.expect("a channel");
        let endpoints = endpoint.map(|address| Endpoint {
            address: address.to_owned(),
            ..Endpoint::default()
        });
        let spec = PoolSpec {
            endpoints: endpoints.into_iter().collect(),
            sizing: Some(Sizing {
                max_sessions: Some(sessions),
                ..Sizing::default()
            }),
            backend: Some(backend),
            ..PoolSpec::default()
        };
        let request = CreatePoolRequest {
            pool: Some(Pool {
                name: name.to_owned(),
                spec: Some(spec),
                ..Pool::default()
            }),
            validate_only: false,
        };
        PoolServiceClient::new(channel)
            .create_pool(request)
            .await
            .expect("a pool");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn echo() -> pool_spec::Backend {
    pool_spec::Backend::Echo(EchoBackend::default())
}

pub fn http(tls: bool) -> pool_spec::Backend {
    pool_spec::Backend::Http(HttpBackend {
        tls: tls.then(|| Tls {
            enabled: true,
            skip_verify: true,
            ..Tls::default()
        }),
        ..HttpBackend::default()
    })
}

pub async fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    endpoint.tcp_nodelay(true).connect().await
}
