//! Calls that are cut off: nothing more of them reaches the service, and the socket's other slots go on.

use super::{
    super::{
        h2_peer::{HEADERS, RESET},
        streams,
    },
    *,
};
use crate::backend::BodyChunk;

/// Feeds an upload for ever.
async fn feed(input: tokio::sync::mpsc::Sender<BodyChunk>) {
    let part = Bytes::from(vec![b'x'; 10_000]);
    while input.send(BodyChunk::Data(part.clone())).await.is_ok() {}
}

/// Bytes of a stream's frames, heads included.
fn arrived(peer: &H2Peer, stream: u32) -> u64 {
    let wire = &peer.wires()[0];
    let own = wire
        .frames
        .iter()
        .filter(|frame| frame.stream == stream && frame.kind <= HEADERS);
    own.map(|frame| frame.payload.len() as u64 + 9).sum()
}

async fn revoke_in_mid_upload(peer: &H2Peer, own: HttpBackend) {
    let mut slots = benches(peer, own, 2).await;
    let mut other = slots.pop().unwrap();
    let mut bench = slots.pop().unwrap();
    for round in 0..20 {
        let (input, operation) = streams::upload(json!({"method": "POST"}));
        let feeding = tokio::spawn(feed(input));
        let mut sink = Sink::collect(1000);
        let before = bench.fence.sent();
        let mut call = bench.session.execute(operation, &mut sink);
        let stream = 1 + 4 * round;
        tokio::select! {
            _ = &mut call => panic!("it ended"),
            () = peer.until(|wires| wires[0].data(stream) > 200_000) => {}
        }
        bench.fence.shut();
        let handed_over = bench.fence.sent() - before;
        // What h2 holds of it goes nowhere from here on, though the call is not gone yet.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        drop(call);
        bench.fence.open(2);
        bench.session.settle().await.unwrap();
        feeding.await.unwrap();
        peer.until(|wires| wires[0].resets(stream) > 0).await;
        // A later request on the same socket has passed all that was before it.
        assert_eq!(other.ask(json!({})).await.unwrap().text(), "{}");
        assert_eq!(bench.fence.sent() - before, handed_over);
        assert_eq!(
            arrived(peer, stream),
            handed_over,
            "all of it, and not one byte more"
        );
        bench.fence.open(1);
    }
    assert_eq!(peer.wires().len(), 1, "the socket stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_revoke_in_mid_upload_the_service_counts_no_byte_more() {
    let peer = H2Peer::start(vec![Manners::default()]);
    revoke_in_mid_upload(&peer, http2()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_it_over_tls() {
    let identity = Identity::speaking(&[b"h2"]);
    let peer = H2Peer::start_tls(vec![Manners::default()], identity.acceptor.clone());
    let own = HttpBackend {
        tls: Some(crate::proto::Tls {
            enabled: true,
            skip_verify: true,
            ..crate::proto::Tls::default()
        }),
        ..HttpBackend::default()
    };
    revoke_in_mid_upload(&peer, own).await;
}

#[tokio::test]
async fn a_dropped_call_is_reset_at_once_and_the_slot_goes_on() {
    let peer = H2Peer::start(vec![silent()]);
    let mut slots = benches(&peer, http2(), 1).await;
    tokio::select! {
        _ = slots[0].ask(json!({})) => panic!("it ended"),
        () = peer.until(|wires| wires[0].open.len() == 1) => {}
    }
    peer.until(|wires| wires[0].count(RESET) == 1).await;
    assert_eq!(slots[0].session.cleanliness(), Cleanliness::Dirty);
    slots[0].session.settle().await.unwrap();
    assert_eq!(slots[0].session.cleanliness(), Cleanliness::Clean);
    let answer = async {
        peer.until(|wires| wires[0].streams().len() == 2).await;
        peer.answer(0, 3, b"1");
    };
    let (answered, ()) = tokio::join!(slots[0].ask(json!({})), answer);
    let answered = answered.unwrap();
    assert_eq!(
        (answered.text(), answered.retries, peer.wires().len()),
        ("1", 0, 1)
    );
}

#[tokio::test]
async fn a_dropped_call_in_the_middle_of_an_answer_is_reset_at_once() {
    let peer = H2Peer::start(vec![silent()]);
    let mut slots = benches(&peer, http2(), 1).await;
    let (events, mut seen) = tokio::sync::mpsc::channel(1);
    let mut sink = Sink::Stream(events);
    let begin = async {
        peer.until(|wires| wires[0].open.len() == 1).await;
        peer.head(0, 1);
        peer.say(0, (0, 0), 1, b"part");
        seen.recv().await.unwrap();
        seen.recv().await.unwrap();
    };
    tokio::select! {
        _ = slots[0].session.execute(request(json!({})), &mut sink) => panic!("it ended"),
        () = begin => {}
    }
    peer.until(|wires| wires[0].resets(1) == 1).await;
    slots[0].session.settle().await.unwrap();
}

#[tokio::test]
async fn a_request_behind_a_shut_fence_is_left_out_and_the_socket_goes_on() {
    let peer = H2Peer::start(vec![Manners::default()]);
    let mut slots = benches(&peer, http2(), 2).await;
    slots[1].ask(json!({})).await.unwrap();
    for _ in 0..5 {
        slots[0].fence.shut();
        let sent = slots[0].fence.sent();
        let (shut, open) = slots.split_at_mut(1);
        let mut call = Box::pin(shut[0].run(post(vec![b'x'; 50_000])));
        tokio::select! {
            _ = &mut call => {}
            answer = open[0].ask(json!({})) => assert_eq!(answer.unwrap().text(), "{}"),
        }
        drop(call);
        slots[0].session.settle().await.unwrap();
        assert_eq!(slots[0].fence.sent(), sent);
        slots[0].fence.open(2);
        let answer = slots[0].run(post(vec![b'1'; 100_000])).await.unwrap();
        assert_eq!(
            (answer.text().len(), answer.retries),
            (100_000, 0),
            "no window was lost"
        );
    }
    let wire = &peer.wires()[0];
    assert_eq!((wire.count(RESET), peer.wires().len()), (0, 1));
}

#[tokio::test]
async fn the_window_of_what_was_left_out_is_not_lost_to_the_others() {
    let peer = H2Peer::start(vec![Manners::default()]);
    let mut slots = benches(&peer, http2(), 2).await;
    // More than the socket's window in all, if it were lost each time.
    for round in 0..20 {
        let (input, operation) = streams::upload(json!({"method": "POST"}));
        let mut sink = Sink::collect(1000);
        let (cut, _) = slots.split_at_mut(1);
        let mut call = cut[0].session.execute(operation, &mut sink);
        let begun = async {
            input
                .send(BodyChunk::Data(Bytes::from_static(b"x")))
                .await
                .unwrap();
            peer.until(|wires| wires[0].data(1 + 4 * round) == 1).await;
        };
        tokio::select! {
            _ = &mut call => panic!("it ended"),
            () = begun => {}
        }
        cut[0].fence.shut();
        input
            .send(BodyChunk::Data(vec![b'x'; 12_000].into()))
            .await
            .unwrap();
        tokio::select! {
            _ = &mut call => {}
            () = peer.until(|wires| wires[0].resets(1 + 4 * round) > 0) => {}
        }
        drop(call);
        cut[0].session.settle().await.unwrap();
        cut[0].fence.open(2);
        slots[1].run(post(vec![b'1'; 60_000])).await.unwrap();
        let wire = &peer.wires()[0];
        assert_eq!(wire.data(1 + 4 * round), 1);
    }
}

#[tokio::test]
async fn an_upload_whose_caller_goes_away_is_reset_without_its_end() {
    let peer = H2Peer::start(vec![Manners::default()]);
    let mut slots = benches(&peer, http2(), 1).await;
    let (input, operation) = streams::upload(json!({"method": "POST"}));
    let feed = async {
        input
            .send(BodyChunk::Data(Bytes::from_static(b"half")))
            .await
            .unwrap();
        peer.until(|wires| wires[0].data(1) == 4).await;
        drop(input);
    };
    let (result, ()) = tokio::join!(slots[0].run(operation), feed);
    assert!(matches!(result, Err(CallError::Input)), "{result:?}");
    slots[0].session.settle().await.unwrap();
    peer.until(|wires| wires[0].resets(1) == 1).await;
    assert!(peer.wires()[0].done.is_empty());
}

/// Cancels so many requests, each when the service has begun it.
async fn cancel(slot: &mut Bench, peer: &H2Peer, count: usize) {
    for _ in 0..count {
        let seen = slot.fence.sent();
        let fence = Arc::clone(&slot.fence);
        let begun = peer.until(|wires| fence.sent() > seen && wires[0].open.len() == 2);
        let mut sink = Sink::collect(1000);
        tokio::select! {
            _ = slot.session.execute(request(json!({})), &mut sink) => panic!("it ended"),
            () = begun => {}
        }
        slot.session.settle().await.unwrap();
        peer.until(|wires| wires[0].open.len() == 1).await;
    }
}

#[tokio::test]
async fn a_storm_of_cancels_costs_no_other_slot_its_call() {
    let peer = H2Peer::start(vec![silent()]);
    let mut slots = benches(&peer, http2(), 2).await;
    let (events, mut seen) = tokio::sync::mpsc::channel(4);
    let mut sink = Sink::Stream(events);
    let (storm, long) = slots.split_at_mut(1);
    let mut call = long[0].session.execute(request(json!({})), &mut sink);
    let cancels = async {
        peer.until(|wires| wires[0].open.len() == 1).await;
        peer.head(0, 1);
        seen.recv().await.unwrap();
        cancel(&mut storm[0], &peer, 2300).await;
        // The answers that were on their way.
        for stream in peer.wires()[0].streams().into_iter().skip(1) {
            peer.answer(0, stream, b"late");
        }
        peer.say(0, (0, 1), 1, b"end");
    };
    let (ended, ()) = tokio::join!(&mut call, cancels);
    ended.unwrap();
    drop(call);
    let answer = async {
        peer.until(|wires| wires[0].open.len() == 2).await;
        let stream = *peer.wires()[0].streams().last().unwrap();
        peer.answer(0, stream, b"1");
    };
    let (answered, ()) = tokio::join!(storm[0].ask(json!({})), answer);
    assert_eq!(answered.unwrap().text(), "1");
    let wires = peer.wires();
    assert_eq!(
        (wires.len(), wires[0].ended),
        (1, false),
        "it is still the same socket"
    );
}
