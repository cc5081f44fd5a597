//! Bytes carried both ways.

use tokio::sync::mpsc;

use super::*;
use crate::backend::{BodyChunk, BodyReader, Event};

/// The caller's ends of a tunnel, and what runs it.
struct Caller {
    input: mpsc::Sender<BodyChunk>,
    credit: mpsc::UnboundedReceiver<usize>,
    events: mpsc::Receiver<Event>,
    ended: tokio::task::JoinHandle<(Result<Completion, CallError>, Box<dyn Session>)>,
    fence: Arc<Fence>,
    peer: TcpStream,
}

impl Caller {
    async fn with(params: Value) -> Self {
        Self::on(Bench::with(lines()).await, params)
    }

    fn on(bench: Bench, params: Value) -> Self {
        let Bench {
            fence,
            mut session,
            peer,
            ..
        } = bench;
        let (input, parts) = mpsc::channel(4);
        let (taken, credit) = mpsc::unbounded_channel();
        let (events, received) = mpsc::channel(2);
        let mut tunnel = operation("tunnel", params);
        tunnel.body = Body::Stream(BodyReader::new(parts, taken));
        let ended = tokio::spawn(async move {
            let ended = session.execute(tunnel, &mut Sink::Stream(events)).await;
            (ended, session)
        });
        Self {
            input,
            credit,
            events: received,
            ended,
            fence,
            peer,
        }
    }

    async fn send(&self, text: &str) {
        let part = BodyChunk::Data(Bytes::copy_from_slice(text.as_bytes()));
        self.input.send(part).await.unwrap();
    }

    async fn last(&self) {
        self.input.send(BodyChunk::Last).await.unwrap();
    }

    async fn next(&mut self) -> Option<String> {
        let event = self.events.recv().await?;
        let Event::Data(bytes) = event else {
            panic!("no data: {event:?}")
        };
        Some(String::from_utf8(bytes.into()).unwrap())
    }

    async fn heard(&mut self, text: &str) {
        let mut read = vec![0; text.len()];
        self.peer.read_exact(&mut read).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&read), text);
    }
}

#[track_caller]
fn counts(ended: Result<Completion, CallError>) -> Vec<(String, String)> {
    ended.unwrap().attributes
}

fn carried(sent: &str, received: &str) -> Vec<(String, String)> {
    vec![
        ("sent".to_owned(), sent.to_owned()),
        ("received".to_owned(), received.to_owned()),
    ]
}

#[tokio::test]
async fn bytes_go_both_ways_as_they_come_and_the_peers_end_ends_it() {
    let mut caller = Caller::with(json!({})).await;
    for round in ["one", "two"] {
        caller.send(round).await;
        caller.heard(round).await;
        assert_eq!(caller.credit.recv().await, Some(3));
        caller.peer.write_all(b"back").await.unwrap();
        assert_eq!(caller.next().await.unwrap(), "back");
    }
    caller.peer.shutdown().await.unwrap();
    assert_eq!(caller.next().await, None);
    let (ended, session) = caller.ended.await.unwrap();
    assert_eq!(counts(ended), carried("6", "8"));
    assert_eq!(session.cleanliness(), Cleanliness::Broken, "it ends the session");
    let closing = tokio::spawn(session.close());
    let mut rest = Vec::new();
    caller.peer.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "a goodbye");
    drop(caller.peer);
    closing.await.unwrap();
}

#[tokio::test]
async fn what_was_read_before_comes_first() {
    let mut bench = Bench::with(lines()).await;
    bench.request("GET\r\n", "one\r\nrest").await.unwrap();
    let mut caller = Caller::on(bench, json!({}));
    assert_eq!(caller.next().await.unwrap(), "rest");
}

#[tokio::test]
async fn the_callers_end_is_told_the_peer_who_may_go_on() {
    let mut caller = Caller::with(json!({})).await;
    caller.send("question").await;
    caller.last().await;
    let mut heard = String::new();
    caller.peer.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "question");
    caller.peer.write_all(b"late answer").await.unwrap();
    assert_eq!(caller.next().await.unwrap(), "late answer");
    caller.peer.shutdown().await.unwrap();
    let (ended, _) = caller.ended.await.unwrap();
    assert_eq!(counts(ended), carried("8", "11"));
}

#[tokio::test]
async fn half_open_the_caller_is_told_the_peers_end_and_may_go_on() {
    let mut caller = Caller::with(json!({"half_open": true})).await;
    caller.peer.write_all(b"bye").await.unwrap();
    caller.peer.shutdown().await.unwrap();
    assert_eq!(caller.next().await.unwrap(), "bye");
    assert_eq!(caller.next().await.unwrap(), "", "the end");
    caller.send("still here").await;
    caller.heard("still here").await;
    caller.last().await;
    let (ended, _) = caller.ended.await.unwrap();
    assert_eq!(counts(ended), carried("10", "3"));
}

#[tokio::test]
async fn a_tunnel_that_is_cut_resets_the_connection() {
    let mut caller = Caller::with(json!({})).await;
    caller.send("one").await;
    caller.heard("one").await;
    caller.ended.abort();
    assert!(caller.ended.await.is_err());
    let mut rest = Vec::new();
    caller.peer.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_caller_who_goes_without_a_last_part_costs_the_session() {
    let mut caller = Caller::with(json!({})).await;
    caller.send("one").await;
    caller.heard("one").await;
    drop(caller.input);
    let (ended, mut session) = caller.ended.await.unwrap();
    assert!(matches!(ended, Err(CallError::Input)), "{ended:?}");
    session.settle().await.unwrap_err();
    session.close().await;
    caller.peer.read_to_end(&mut Vec::new()).await.unwrap_err();
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_after_what_came_before() {
    let mut caller = Caller::with(json!({})).await;
    caller.send("one").await;
    caller.heard("one").await;
    socket2::SockRef::from(&caller.peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(caller.peer);
    assert!(caller.events.recv().await.is_none());
    let (ended, _) = caller.ended.await.unwrap();
    let error = ended.unwrap_err();
    assert!(
        matches!(error, CallError::Lost { executed: None, .. }),
        "{error:?}"
    );
}

/// Whether an unmoved count would be taken for a stall.
fn is_at_rest(fence: &Fence) -> bool {
    fence.progress() != fence.progress()
}

#[tokio::test]
async fn silence_is_no_stall_while_both_sides_are_open_and_nothing_waits() {
    let mut caller = Caller::with(json!({"half_open": true})).await;
    caller.send("one").await;
    caller.heard("one").await;
    // What the peer has heard, the call has not yet noted to be done with.
    while !is_at_rest(&caller.fence) {
        tokio::task::yield_now().await;
    }
    caller.peer.shutdown().await.unwrap();
    assert_eq!(caller.next().await.unwrap(), "", "the end");
    assert!(!is_at_rest(&caller.fence), "one side has ended");
    caller.last().await;
    caller.ended.await.unwrap().0.unwrap();
    assert!(!is_at_rest(&caller.fence), "it has ended");
}

#[tokio::test]
async fn a_caller_who_does_not_read_pauses_the_peer() {
    let mut caller = Caller::with(json!({})).await;
    let part = vec![b'x'; 64 << 10];
    let mut sent = 0;
    // The peer may send until every buffer is full; then nothing moves any more.
    loop {
        let writing = caller.peer.try_write(&part);
        match writing {
            Ok(written) => sent += written,
            Err(_) if caller.events.capacity() == 0 && !is_at_rest(&caller.fence) => {
                let before = caller.fence.progress();
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                if caller.fence.progress() == before && caller.peer.try_write(&part).is_err() {
                    break;
                }
            }
            Err(_) => tokio::task::yield_now().await,
        }
    }
    assert!(sent > 64 << 10 && sent < 64 << 20, "{sent}");
    let mut received = 0;
    while received < sent {
        received += caller.next().await.unwrap().len();
    }
    assert_eq!(received, sent);
}
