//! The servers beside which the broker is measured, each a process of its own: one of bytes, and one of HTTP/2.

use std::{convert::Infallible, process::ExitCode};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::tunnel::PART;

/// What a client of the server of bytes says first: it wants each byte back, ...
pub const ECHO: u8 = b'e';
/// ... so many bytes, as a number of 8 bytes, little end first, ...
pub const SOURCE: u8 = b's';
/// ... or one byte once all of its own have come.
pub const SINK: u8 = b'k';

/// Serves bytes until it is killed.
pub fn serve_tcp() -> ExitCode {
    serve(async |socket| bytes(socket).await.unwrap_or_default())
}

/// Serves 100 bytes to each request of HTTP/2, until it is killed.
pub fn serve_h2() -> ExitCode {
    serve(async |socket| {
        let service = service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&[b'x'; 100]))))
        });
        let connection = http2::Builder::new(TokioExecutor::new());
        connection
            .serve_connection(TokioIo::new(socket), service)
            .await
            .ok();
    })
}

/// Prints its address, and serves each connection as it is told.
fn serve<F>(connection: impl Fn(TcpStream) -> F) -> ExitCode
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        loop {
            let (socket, _) = listener.accept().await.expect("a client");
            socket.set_nodelay(true).expect("nodelay");
            tokio::spawn(connection(socket));
        }
    })
}

async fn bytes(mut socket: TcpStream) -> std::io::Result<()> {
    match socket.read_u8().await? {
        ECHO => {
            let (mut reader, mut writer) = socket.split();
            tokio::io::copy(&mut reader, &mut writer).await?;
        }
        SOURCE => {
            let mut left = usize::try_from(socket.read_u64_le().await?).expect("a length");
            let part = vec![b'x'; PART];
            while left > 0 {
                left -= socket.write(&part[..left.min(PART)]).await?;
            }
        }
        _ => {
            let mut part = vec![0; PART];
            while socket.read(&mut part).await? > 0 {}
            socket.write_u8(SINK).await?;
        }
    }
    socket.shutdown().await
}
