//! The TCP backend against peers on real sockets, which the tests themselves hold.

mod between;
mod definition;
mod messages;
#[path = "../../../../tests/it/support/http_peer.rs"]
#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "http's tests and integration tests use the rest"
)]
mod peer;
mod secure;
mod tunnel;

use std::{path::Path, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    backend::{
        Body, CallError, Cleanliness, Completion, DialErrorKind, Output, Params, Sink, registry,
        secrets::Secrets,
    },
    clock::Clock,
    error::Executed,
    proto::{
        Endpoint, TcpBytes, TcpExchange, TcpExpect, TcpFraming, TcpReset, pool_spec, tcp_bytes::Written,
        tcp_expect::Answer, tcp_framing::Ends, tcp_reset::How,
    },
};

/// A session, as the broker would use it, and the peer's end of its connection.
struct Bench {
    fence: Arc<Fence>,
    backend: Arc<dyn Backend>,
    session: Box<dyn Session>,
    peer: TcpStream,
}

fn typed(text: &str) -> TcpBytes {
    TcpBytes {
        written: Some(Written::Text(text.to_owned())),
    }
}

fn exactly(text: &str) -> TcpExpect {
    TcpExpect {
        answer: Some(Answer::Exactly(typed(text))),
    }
}

fn begins_with(text: &str) -> TcpExpect {
    TcpExpect {
        answer: Some(Answer::BeginsWith(typed(text))),
    }
}

fn exchange(send: &str, expect: TcpExpect) -> TcpExchange {
    TcpExchange {
        send: Some(typed(send)),
        expect: Some(expect),
    }
}

/// Messages are lines.
fn lines() -> TcpBackend {
    TcpBackend {
        framing: Some(TcpFraming {
            ends: Some(Ends::Delimiter(typed("\r\n"))),
        }),
        ..TcpBackend::default()
    }
}

fn lines_reset_by(how: How) -> TcpBackend {
    TcpBackend {
        reset: Some(TcpReset { how: Some(how) }),
        ..lines()
    }
}

fn backend(address: &str, own: TcpBackend, root: &Path) -> Result<Arc<dyn Backend>, Faults> {
    let spec = PoolSpec {
        endpoints: vec![Endpoint {
            address: address.to_owned(),
            ..Endpoint::default()
        }],
        backend: Some(pool_spec::Backend::Tcp(own)),
        ..PoolSpec::default()
    };
    let variables = [("SUBLET_SECRET_KEY".to_owned(), "canary".to_owned())];
    let surroundings = Surroundings {
        secrets: Secrets::with_variables(root, variables.into()),
        clock: Clock::tokio(),
    };
    registry::build(&spec, &surroundings)
}

impl Bench {
    async fn with(own: TcpBackend) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let backend = backend(&address, own, Path::new("/nowhere")).unwrap();
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let session = backend.dial(Arc::clone(&fence), "").await.unwrap();
        let peer = listener.accept().await.unwrap().0;
        Self {
            fence,
            backend,
            session,
            peer,
        }
    }

    /// The pool grants the session to somebody else.
    fn next_holder(&self) {
        self.fence.open(self.fence.number() + 1);
    }

    async fn call(&mut self, name: &str, params: Value) -> Result<Output, CallError> {
        run(&*self.backend, &mut *self.session, operation(name, params)).await
    }

    /// Sends, and has the peer answer with `answer` when it has heard it.
    async fn request(&mut self, text: &str, answer: &str) -> Result<Output, CallError> {
        let request = operation("request", json!({ "text": text }));
        let (backend, session, peer) = (&*self.backend, &mut *self.session, &mut self.peer);
        let answering = async {
            hears(peer, text).await;
            peer.write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(run(backend, session, request), answering).0
    }

    /// The peer reads exactly this.
    async fn heard(&mut self, text: &str) {
        hears(&mut self.peer, text).await;
    }

    /// Says something that the session's socket has received when this returns.
    async fn says(&mut self, text: &str) {
        self.peer.write_all(text.as_bytes()).await.unwrap();
        while unacknowledged(&self.peer) > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// How the peer's end of the connection ends: what was left to read, and whether the end was orderly.
    async fn end(mut self) -> (Vec<u8>, bool) {
        let closing = tokio::spawn(self.session.close());
        let mut rest = Vec::new();
        let orderly = self.peer.read_to_end(&mut rest).await.is_ok();
        drop(self.peer);
        closing.await.unwrap();
        (rest, orderly)
    }
}

async fn run(
    backend: &dyn Backend,
    session: &mut dyn Session,
    operation: Operation,
) -> Result<Output, CallError> {
    backend.inspect(&operation).map_err(CallError::Invalid)?;
    let mut sink = Sink::collect(4 << 20);
    let Completion { output, .. } = session.execute(operation, &mut sink).await?;
    let Sink::Collect(collected) = sink else {
        unreachable!()
    };
    Ok(match output {
        Output::None => collected.into_parts().0,
        output @ (Output::Json(_) | Output::Rows(_) | Output::Body(_)) => output,
    })
}

async fn hears(peer: &mut TcpStream, text: &str) {
    let mut read = vec![0; text.len()];
    peer.read_exact(&mut read).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read), text);
}

/// Bytes that the other end's kernel has not acknowledged yet.
fn unacknowledged(socket: &TcpStream) -> u32 {
    let local = socket.local_addr().unwrap().port();
    let remote = socket.peer_addr().unwrap().port();
    let list = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    let row = list.lines().find_map(|row| {
        let fields: Vec<_> = row.split_whitespace().collect();
        (fields[1].ends_with(&local) && fields[2].ends_with(&remote)).then(|| fields[4].to_owned())
    });
    row.map_or(0, |queues| {
        u32::from_str_radix(queues.split_once(':').unwrap().0, 16).unwrap()
    })
}

fn operation(name: &str, params: Value) -> Operation {
    Operation {
        name: name.to_owned(),
        params: Params::Object(params),
        args: Vec::new(),
        body: Body::Whole(Bytes::new()),
        alone: false,
        inspected: crate::backend::Inspected::default(),
    }
}

#[track_caller]
fn body(output: Result<Output, CallError>) -> String {
    match output.unwrap() {
        Output::Body(bytes) => String::from_utf8(bytes.into()).unwrap(),
        output @ (Output::None | Output::Json(_) | Output::Rows(_)) => panic!("no bytes: {output:?}"),
    }
}

#[track_caller]
fn json_of(output: Result<Output, CallError>) -> Value {
    match output.unwrap() {
        Output::Json(text) => serde_json::from_str(&text).unwrap(),
        output @ (Output::None | Output::Body(_) | Output::Rows(_)) => panic!("no JSON: {output:?}"),
    }
}

/// The fields that are at fault, and what is wrong with them.
#[track_caller]
fn faults(error: CallError) -> Vec<String> {
    let CallError::Invalid(faults) = error else {
        panic!("not invalid: {error:?}")
    };
    fields(&faults)
}

fn fields(faults: &Faults) -> Vec<String> {
    faults.list().iter().map(|fault| fault.field.clone()).collect()
}
