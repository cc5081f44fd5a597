//! A session whose driver's side is held still in the middle of a call.

mod scripted;

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::server;
use http::{HeaderMap, Response};
use prost::Message;
use tokio::{
    net::{UnixListener, UnixStream},
    task::yield_now,
};

use super::{build, frames::frame};
use crate::{
    backend::{
        Backend, Body, CallError, Cleanliness, Fence, Inspected, Operation, Params, Session, Sink,
        registry::Surroundings, secrets::Secrets,
    },
    clock::Clock,
    error::Executed,
    proto::{
        PluginBackend, PoolSpec,
        plugin::{self, ConnectResponse, DescribeResponse},
        pool_spec,
    },
};

/// What a call has to say: more than any socket takes at once, less than HTTP/2's windows here.
const BODY: usize = 1 << 20;
/// Turns in which nothing happens mean that everyone waits.
const TURNS: usize = 100;

/// A session, its fence, and its driver's socket, which nobody reads.
struct Stage {
    session: Box<dyn Session>,
    fence: Arc<Fence>,
    peer: UnixStream,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("driver");
        let listener = UnixListener::bind(&path).unwrap();
        let backend = backend(format!("unix:{}", path.display()));
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let dialing = backend.dial(Arc::clone(&fence), "");
        let serving = async {
            let (socket, _) = listener.accept().await.unwrap();
            let (socket, peer) = twice(socket);
            (tokio::spawn(serve(socket)), peer)
        };
        let (session, (server, peer)) = tokio::join!(dialing, serving);
        let session = session.unwrap();
        server.abort();
        server.await.unwrap_err();
        Self {
            session,
            fence,
            peer,
            _folder: folder,
        }
    }

    /// Everything that has reached the driver's side, and all that comes while everyone has turns.
    async fn read(&self) -> usize {
        let (mut all, mut part) = (0, vec![0; 1 << 16]);
        let mut turns = 0;
        while turns < TURNS {
            match self.peer.try_read(&mut part) {
                Ok(0) => break,
                Ok(read) => (all, turns) = (all + read, 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => turns += 1,
                Err(error) => panic!("{error}"),
            }
            yield_now().await;
        }
        all
    }
}

fn backend(address: String) -> Arc<dyn Backend> {
    let own = PluginBackend {
        address,
        ..PluginBackend::default()
    };
    let spec = PoolSpec {
        backend: Some(pool_spec::Backend::Plugin(own.clone())),
        ..PoolSpec::default()
    };
    let surroundings = Surroundings {
        secrets: Secrets::with_variables("/nowhere", BTreeMap::new()),
        clock: Clock::tokio(),
    };
    build(&spec, &own, &surroundings).unwrap()
}

/// One socket for HTTP/2, and the same once more.
fn twice(socket: UnixStream) -> (UnixStream, UnixStream) {
    let socket = socket.into_std().unwrap();
    let again = socket.try_clone().unwrap();
    (
        UnixStream::from_std(socket).unwrap(),
        UnixStream::from_std(again).unwrap(),
    )
}

/// Answers Describe and Connect.
async fn serve(socket: UnixStream) {
    let mut builder = server::Builder::new();
    builder.initial_window_size(4 << 20);
    builder.initial_connection_window_size(4 << 20);
    let mut connection = builder.handshake::<_, Bytes>(socket).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let message = match request.uri().path().rsplit('/').next() {
            Some("Describe") => DescribeResponse {
                protocol_version: 1,
                instance_id: "one".to_owned(),
                driver: "still".to_owned(),
                operations: vec![plugin::Operation {
                    name: "load".to_owned(),
                    ..plugin::Operation::default()
                }],
                ..DescribeResponse::default()
            }
            .encode_to_vec(),
            _ => ConnectResponse {
                instance_id: "one".to_owned(),
            }
            .encode_to_vec(),
        };
        let head = Response::builder().header("content-type", "application/grpc");
        let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
        stream.send_data(framed(&message), false).unwrap();
        stream.send_trailers(status("0")).unwrap();
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(message);
    framed.freeze()
}

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
}

fn load(bytes: usize) -> Operation {
    Operation {
        name: "load".to_owned(),
        params: Params::Text("{}".to_owned()),
        args: Vec::new(),
        body: Body::Whole(vec![b'x'; bytes].into()),
        alone: false,
        inspected: Inspected::default(),
    }
}

#[tokio::test]
async fn nothing_of_an_ended_holder_is_written_when_its_peer_reads_on_in_the_next_ones_time() {
    let mut stage = Stage::new().await;
    let before = stage.fence.sent();
    let mut sink = Sink::collect(1000);
    let mut call = stage.session.execute(load(BODY), &mut sink);
    let (mut sent, mut turns) = (before, 0);
    while turns < TURNS {
        assert!(futures_util::poll!(&mut call).is_pending());
        yield_now().await;
        turns = if stage.fence.sent() == sent { turns + 1 } else { 0 };
        sent = stage.fence.sent();
    }
    let handed_over = usize::try_from(sent - before).unwrap();
    assert!(handed_over > 0 && handed_over < BODY, "{handed_over}");
    // Its lease is revoked.
    stage.fence.shut();
    drop(call);
    assert_eq!(stage.session.cleanliness(), Cleanliness::Broken);
    // The pool's own work begins, and the peer reads on.
    stage.fence.open(2);
    assert_eq!(stage.read().await, handed_over);
}

#[tokio::test]
async fn call_that_a_goodbye_has_left_out_was_not_executed() {
    let mut stage = Stage::new().await;
    let mut sink = Sink::collect(1000);
    let mut call = stage.session.execute(load(10), &mut sink);
    while stage.fence.sent() == 0 {
        assert!(futures_util::poll!(&mut call).is_pending());
        yield_now().await;
    }
    // A GOAWAY whose last stream is Connect's.
    let mut goodbye = frame(7, 0, 0, 8);
    goodbye.truncate(9);
    goodbye.extend([0, 0, 0, 3, 0, 0, 0, 0]);
    assert_eq!(stage.peer.try_write(&goodbye).unwrap(), goodbye.len());
    let Err(CallError::Lost { executed, message }) = call.await else {
        panic!("it is lost")
    };
    assert_eq!(executed, Some(Executed::No), "{message}");
}
