//! Sessions of TCP services, whose end of the connection the tests hold themselves; and tunnels for native clients.

mod calls;
mod carried;
mod native;

use sublet::proto::{
    Endpoint, PoolSpec, Sizing, TcpBackend, TcpBytes, TcpFraming, TcpReset, Timeouts,
    pool_spec::Backend,
    tcp_bytes::Written,
    tcp_framing::Ends,
    tcp_reset::{How, Keep},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::support::{app::App, calls::*};

/// A broker with one pool, `device`, of a service whose connections the test answers.
struct Stage {
    app: App,
    broker: Broker,
    listener: TcpListener,
}

/// The definition of a pool of sessions whose messages are lines.
fn definition(address: String, sessions: u32) -> PoolSpec {
    PoolSpec {
        endpoints: vec![Endpoint {
            address,
            ..Endpoint::default()
        }],
        sizing: Some(Sizing {
            max_sessions: Some(sessions),
            ..Sizing::default()
        }),
        backend: Some(Backend::Tcp(TcpBackend {
            framing: Some(TcpFraming {
                ends: Some(Ends::Delimiter(TcpBytes {
                    written: Some(Written::Text("\r\n".to_owned())),
                })),
            }),
            ..TcpBackend::default()
        })),
        ..PoolSpec::default()
    }
}

/// As [`definition`]; sessions are kept when each message was answered.
fn kept(address: String, sessions: u32) -> PoolSpec {
    let mut spec = definition(address, sessions);
    if let Some(Backend::Tcp(own)) = &mut spec.backend {
        own.reset = Some(TcpReset {
            how: Some(How::Keep(Keep::Answered.into())),
        });
    }
    spec
}

impl Stage {
    async fn with(make: impl FnOnce(String) -> PoolSpec) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = App::start().await;
        let spec = make(listener.local_addr().unwrap().to_string());
        create(&app.address, "device", spec).await;
        let broker = broker(&app.address);
        Self {
            app,
            broker,
            listener,
        }
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }
}

async fn hears(peer: &mut TcpStream, text: &str) {
    let mut read = vec![0; text.len()];
    peer.read_exact(&mut read).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read), text);
}

async fn says(peer: &mut TcpStream, text: &str) {
    peer.write_all(text.as_bytes()).await.unwrap();
}

/// Everything that still comes, and whether the end was orderly.
async fn end_of(peer: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut rest = Vec::new();
    let orderly = peer.read_to_end(&mut rest).await.is_ok();
    (rest, orderly)
}
