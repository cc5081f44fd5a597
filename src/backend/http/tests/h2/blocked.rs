//! Services that stop reading: what was begun of a frame is all that still reaches them of whoever is cut off.

use futures_util::future::join_all;

use super::{
    super::{
        h2_peer::{HEADERS, WINDOW_UPDATE},
        streams,
    },
    *,
};
use crate::backend::{
    BodyChunk,
    http::{
        h2::{Need, Slot},
        link::Link,
        pace::Pace,
        payload::Payload,
    },
};

/// Reads next to nothing, and allows to send more than any socket holds.
fn deaf() -> Manners {
    Manners {
        reads: 0,
        window: Some(1 << 30),
        streams: None,
        ..silent()
    }
}

/// Allows to send as much on the whole connection.
fn widen(peer: &H2Peer) {
    peer.say(0, (WINDOW_UPDATE, 0), 0, &(1_u32 << 30).to_be_bytes());
}

/// Makes h2 give the connection up.
fn break_rules(peer: &H2Peer) {
    peer.say(0, (WINDOW_UPDATE, 0), 0, &[0; 4]);
}

/// Uploads for ever.
async fn upload(bench: &mut Bench) -> CallError {
    let (input, operation) = streams::upload(json!({"method": "POST"}));
    let feed = async {
        let part = Bytes::from(vec![b'x'; 64 * 1024]);
        while input.send(BodyChunk::Data(part.clone())).await.is_ok() {}
    };
    tokio::select! {
        result = bench.run(operation) => result.unwrap_err(),
        () = feed => panic!("it took nothing more without a word"),
    }
}

/// Returns when nothing more goes out: all that could make it is on this thread.
async fn stuck(fence: &Fence) {
    let mut before = None;
    while before != Some(fence.sent()) {
        before = Some(fence.sent());
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
}

/// What sockets hold here of what nobody reads.
async fn capacity() -> usize {
    let peer = H2Peer::start(vec![deaf()]);
    let mut slots = benches(&peer, http2(), 1).await;
    widen(&peer);
    let fence = Arc::clone(&slots[0].fence);
    tokio::select! {
        error = upload(&mut slots[0]) => panic!("it ended: {error:?}"),
        () = stuck(&fence) => {}
    }
    usize::try_from(fence.sent()).unwrap()
}

/// Bytes of a stream's frames, heads included.
fn arrived(wire: &h2_peer::Wire, stream: u32) -> u64 {
    let own = wire
        .frames
        .iter()
        .filter(|frame| frame.stream == stream && frame.kind <= HEADERS);
    own.map(|frame| frame.payload.len() as u64 + 9).sum()
}

#[tokio::test]
async fn a_revoke_in_the_middle_of_a_frame_lets_out_its_rest_and_nothing_more() {
    let peer = H2Peer::start(vec![deaf()]);
    let mut slots = benches(&peer, http2(), 2).await;
    widen(&peer);
    let mut other = slots.pop().unwrap();
    let mut bench = slots.pop().unwrap();
    let (fence, before) = (Arc::clone(&bench.fence), bench.fence.sent());
    let mut call = Box::pin(upload(&mut bench));
    tokio::select! {
        error = &mut call => panic!("it ended: {error:?}"),
        () = stuck(&fence) => {}
    }
    fence.shut();
    let handed_over = fence.sent() - before;
    // The other slot is behind that frame, and waits no longer than for its own limit; nothing of it was sent.
    tokio::time::pause();
    let sent = other.fence.sent();
    let error = other.ask(json!({})).await.unwrap_err();
    tokio::time::resume();
    assert!(
        matches!(error, CallError::Timeout { what: "write", .. }),
        "{error:?}"
    );
    assert_eq!(other.executed(&error, sent), Executed::No);
    drop(call);
    peer.read_on();
    bench.session.settle().await.unwrap();
    other.session.settle().await.unwrap();
    bench.fence.open(2);
    let answer = async {
        peer.until(|wires| wires[0].open.contains(&5)).await;
        peer.answer(0, 5, b"1");
    };
    let (answered, ()) = tokio::join!(other.ask(json!({})), answer);
    assert_eq!(answered.unwrap().text(), "1", "the socket goes on");
    let wires = peer.wires();
    assert_eq!(wires.len(), 1);
    assert_eq!(arrived(&wires[0], 1), handed_over);
    assert_eq!(bench.fence.sent() - before, handed_over);
    assert_eq!((wires[0].resets(1), arrived(&wires[0], 3)), (1, 0));
}

#[tokio::test]
async fn a_socket_that_takes_no_requests_keeps_no_slot() {
    let peer = H2Peer::start(vec![deaf(), Manners::default()]);
    let mut slots = benches(&peer, http2(), 2).await;
    widen(&peer);
    let mut other = slots.pop().unwrap();
    let fence = Arc::clone(&slots[0].fence);
    let breaking = async {
        stuck(&fence).await;
        break_rules(&peer);
    };
    // h2 has given it up when it tells the call that was under way, but cannot say so and end.
    let (error, ()) = tokio::join!(upload(&mut slots[0]), breaking);
    assert!(matches!(error, CallError::Broken { .. }), "{error:?}");
    for retries in [1, 0] {
        let answer = other.ask(json!({})).await.unwrap();
        assert_eq!((answer.text(), answer.retries), ("{}", retries));
    }
    assert_eq!(peer.wires().len(), 2);
}

/// A place on a socket, with a fence of its own.
async fn place(table: &Arc<Table>) -> (Slot, Arc<Fence>) {
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let Link::Shared(slot) = table.link(&fence, Need::Session).await.unwrap() else {
        panic!("it has its own connection");
    };
    (slot, fence)
}

#[tokio::test]
async fn what_is_said_of_a_request_that_failed_stays_true() {
    // Of a body so much that all of it is taken, and of the heads behind it not all.
    let most = capacity().await.saturating_sub(1 << 20);
    let peer = H2Peer::start(vec![deaf()]);
    let surroundings = Surroundings {
        secrets: Secrets::with_variables(Path::new("/nowhere"), [].into()),
        clock: Clock::tokio(),
    };
    let own = http2();
    let target = Target::read(&spec(&peer.address(), own.clone()), &own, &surroundings).unwrap();
    let table = Table::new(Arc::new(target));
    let mut places = Vec::new();
    for _ in 0..250 {
        places.push(place(&table).await);
    }
    let fences: Vec<_> = places.iter().map(|(_, fence)| Arc::clone(fence)).collect();
    widen(&peer);
    let calls = places
        .iter_mut()
        .enumerate()
        .map(|(number, (slot, fence))| async move {
            let body = if number == 0 { vec![b'x'; most] } else { vec![] };
            let mut request = ::http::Request::new(Payload::whole(body.into()));
            let filling = ::http::HeaderValue::from_bytes(&[b'Z'; 15_000]).unwrap();
            request.headers_mut().insert("x-filling", filling);
            let pace = Arc::new(Pace::new(Clock::tokio()));
            let fault = slot.send(request, fence, &pace).await.unwrap_err();
            (fault.message, fence.sent())
        });
    let mut calls: Vec<_> = calls.collect();
    let mut body = Box::pin(calls.remove(0));
    tokio::select! {
        _ = &mut body => panic!("it ended"),
        () = stuck(&fences[0]) => {}
    }
    let breaking = async {
        stuck(&fences[200]).await;
        break_rules(&peer);
    };
    let (mut said, last, ()) = tokio::join!(join_all(calls), body, breaking);
    said.insert(0, last);
    let unsent = said.iter().filter(|(_, sent)| *sent == 0).count();
    assert!(unsent > 0 && unsent < 249, "{unsent}: {}", said[0].0);
    peer.read_on();
    peer.until(|wires| wires[0].ended).await;
    let said: Vec<_> = said.into_iter().map(|(_, sent)| sent).collect();
    let sent: Vec<_> = fences.iter().map(|fence| fence.sent()).collect();
    assert_eq!(sent, said);
    assert!(peer.wires()[0].streams().len() <= 250 - unsent);
}
