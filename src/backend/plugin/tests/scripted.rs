//! Drivers that do what no library does by itself: they speak in small frames, say nothing, or answer one RPC only.

use futures_util::FutureExt as _;
use h2::{SendStream, server::SendResponse};
use tokio::sync::{mpsc, watch};

use super::{
    super::{connection::STREAM_WINDOW, exchange::MAX_MESSAGE},
    *,
};
use crate::{
    backend::{DialError, Event},
    proto::plugin::{
        Answer, DisconnectResponse, ExecuteResponse, ExecuteStreamResponse, execute_response::Outcome,
        execute_stream_response::Event as Told,
    },
};

/// How a driver answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// A stream's items come in frames of their own.
    SmallItems,
    /// Between a stream's items come frames that say nothing.
    EmptyFrames,
    /// Connect fails, and whether it made a session nobody knows. Disconnect is answered.
    ConnectFails,
    /// The same, and a Disconnect on a connection that has seen a Connect is never answered.
    FirstDisconnectHangs,
}

/// A driver, and how many Disconnects it was asked for.
struct Scripted {
    address: String,
    disconnects: watch::Receiver<usize>,
    _folder: tempfile::TempDir,
}

impl Scripted {
    fn start(manner: Manner) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("driver");
        let listener = UnixListener::bind(&path).unwrap();
        let (noted, disconnects) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, manner, noted.clone()));
            }
        });
        Self {
            address: format!("unix:{}", path.display()),
            disconnects,
            _folder: folder,
        }
    }

    async fn dial(&self) -> (Arc<dyn Backend>, Arc<Fence>, Result<Box<dyn Session>, DialError>) {
        let backend = backend(self.address.clone());
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let dialed = backend.dial(Arc::clone(&fence), "").await;
        (backend, fence, dialed)
    }
}

async fn serve(socket: UnixStream, manner: Manner, disconnects: watch::Sender<usize>) {
    let mut connection = server::handshake(socket).await.unwrap();
    let (mut seen, mut hanging) = (false, Vec::new());
    while let Some(Ok((request, respond))) = connection.accept().await {
        match request.uri().path().rsplit('/').next() {
            Some("Describe") => answer(respond, &description(), "0"),
            Some("Connect") => {
                seen = true;
                let fails = matches!(manner, Manner::ConnectFails | Manner::FirstDisconnectHangs);
                let instance_id = "one".to_owned();
                answer(
                    respond,
                    &ConnectResponse { instance_id },
                    if fails { "14" } else { "0" },
                );
            }
            Some("Disconnect") => {
                disconnects.send_modify(|count| *count += 1);
                if seen && manner == Manner::FirstDisconnectHangs {
                    hanging.push(respond);
                } else {
                    answer(respond, &DisconnectResponse {}, "0");
                }
            }
            _ => stream(begin(respond), manner),
        }
    }
}

fn begin(mut respond: SendResponse<Bytes>) -> SendStream<Bytes> {
    let head = Response::builder().header("content-type", "application/grpc");
    respond.send_response(head.body(()).unwrap(), false).unwrap()
}

fn answer(respond: SendResponse<Bytes>, message: &impl Message, code: &'static str) {
    let mut stream = begin(respond);
    if code == "0" {
        stream.send_data(framed(&message.encode_to_vec()), false).unwrap();
    }
    stream.send_trailers(status(code)).unwrap();
}

fn description() -> DescribeResponse {
    DescribeResponse {
        protocol_version: 1,
        instance_id: "one".to_owned(),
        driver: "scripted".to_owned(),
        operations: vec![plugin::Operation {
            name: "load".to_owned(),
            streaming: true,
            ..plugin::Operation::default()
        }],
        ..DescribeResponse::default()
    }
}

fn event(event: Told) -> Bytes {
    let event = Some(event);
    framed(&ExecuteStreamResponse { event }.encode_to_vec())
}

/// One item.
fn item() -> Bytes {
    event(Told::Json("7".to_owned()))
}

/// More items than the stream's window holds.
fn many() -> usize {
    STREAM_WINDOW as usize / item().len() + 10
}

fn stream(mut stream: SendStream<Bytes>, manner: Manner) {
    let end = Told::End(ExecuteResponse {
        instance_id: "one".to_owned(),
        outcome: Some(Outcome::Answer(Answer::default())),
    });
    let items = if manner == Manner::EmptyFrames {
        300
    } else {
        many()
    };
    for _ in 0..items {
        stream.send_data(item(), false).unwrap();
        if manner == Manner::EmptyFrames {
            stream.send_data(Bytes::new(), false).unwrap();
        }
    }
    stream.send_data(event(end), false).unwrap();
    stream.send_trailers(status("0")).unwrap();
}

#[tokio::test]
async fn driver_that_yields_small_items_is_paused_by_a_caller_who_does_not_read() {
    let driver = Scripted::start(Manner::SmallItems);
    let (_backend, fence, dialed) = driver.dial().await;
    let mut session = dialed.unwrap();
    let (events, mut seen) = mpsc::channel(1);
    let mut sink = Sink::Stream(events);
    let mut call = session.execute(load(1), &mut sink);
    let (mut progress, mut turns) = (fence.progress(), 0);
    while turns < TURNS {
        assert!(futures_util::poll!(&mut call).is_pending());
        yield_now().await;
        turns = if fence.progress() == progress {
            turns + 1
        } else {
            0
        };
        progress = fence.progress();
    }
    let reading = async {
        for _ in 0..many() {
            assert!(matches!(seen.recv().await, Some(Event::Json(item)) if item == "7"));
        }
    };
    tokio::try_join!(call, reading.map(Ok)).unwrap();
}

#[tokio::test]
async fn frames_that_say_nothing_cost_no_session() {
    let driver = Scripted::start(Manner::EmptyFrames);
    let mut session = driver.dial().await.2.unwrap();
    let mut sink = Sink::collect(MAX_MESSAGE);
    session.execute(load(1), &mut sink).await.unwrap();
}

#[tokio::test]
async fn what_a_failed_dial_may_have_left_is_withdrawn_behind_a_shut_fence() {
    let driver = Scripted::start(Manner::ConnectFails);
    let (backend, fence, dialed) = driver.dial().await;
    dialed.unwrap_err();
    fence.shut();
    let mut withdrawing = backend.withdraw(fence);
    let mut turns = 0;
    while futures_util::poll!(&mut withdrawing).is_pending() {
        assert!(turns < TURNS, "it waits for the fence");
        yield_now().await;
        turns += 1;
    }
    assert_eq!(*driver.disconnects.borrow(), 1);
}

#[tokio::test]
async fn fence_that_is_shut_while_a_dial_is_withdrawn_leaves_the_withdrawing_a_new_connection() {
    let mut driver = Scripted::start(Manner::FirstDisconnectHangs);
    let (backend, fence, dialed) = driver.dial().await;
    dialed.unwrap_err();
    let mut withdrawing = backend.withdraw(Arc::clone(&fence));
    tokio::select! {
        () = &mut withdrawing => panic!("it is not answered"),
        asked = driver.disconnects.wait_for(|count| *count == 1) => assert_eq!(*asked.unwrap(), 1),
    }
    fence.shut();
    let mut turns = 0;
    while futures_util::poll!(&mut withdrawing).is_pending() {
        assert!(turns < TURNS, "it waits for the fence");
        yield_now().await;
        turns += 1;
    }
    assert_eq!(*driver.disconnects.borrow(), 2);
}
