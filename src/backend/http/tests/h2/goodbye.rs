//! Goodbyes, lowered limits and refusals: what the service did nothing of is sent elsewhere, once.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::{super::h2_peer::GOAWAY, *};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goodbye_in_the_middle_loses_no_request_and_repeats_none() {
    let leaving = Manners {
        leaves_after: Some(20),
        ..Manners::default()
    };
    let peer = H2Peer::start(vec![leaving.clone(), leaving, Manners::default()]);
    let slots = benches(&peer, http2(), 60).await;
    let calls: Vec<_> = slots
        .into_iter()
        .enumerate()
        .map(|(number, mut slot)| tokio::spawn(async move { slot.run(post(number.to_string())).await }))
        .collect();
    let answers = join_all(calls).await;
    let again = answers
        .iter()
        .filter(|answer| answer.as_ref().unwrap().as_ref().unwrap().retries > 0);
    assert!(again.count() > 0);
    let done: Vec<_> = peer.wires().into_iter().flat_map(|wire| wire.done).collect();
    let different: BTreeSet<_> = done.iter().collect();
    assert_eq!((done.len(), different.len()), (60, 60), "each exactly once");
}

#[tokio::test]
async fn after_a_goodbye_a_running_call_ends_where_it_is_and_the_next_goes_elsewhere() {
    let peer = H2Peer::start(vec![silent(), Manners::default()]);
    let mut slots = benches(&peer, http2(), 2).await;
    let mut idle = slots.pop().unwrap();
    let mut busy = slots.pop().unwrap();
    let serve = async {
        peer.until(|wires| wires[0].open.len() == 1).await;
        let stream = peer.wires()[0].streams()[0];
        peer.go_away(0, stream);
        // The idle slot has to hear of it.
        while idle.session.probe().await.is_ok() {
            tokio::task::yield_now().await;
        }
        peer.answer(0, stream, b"1");
    };
    let (answer, ()) = tokio::join!(busy.ask(json!({})), serve);
    let answer = answer.unwrap();
    assert_eq!((answer.text(), answer.retries), ("1", 0));
    let next = busy.ask(json!({})).await.unwrap();
    assert_eq!((next.text(), next.retries), ("{}", 0), "a goodbye is no failure");
    assert_eq!(idle.ask(json!({})).await.unwrap().text(), "{}");
    let wires = peer.wires();
    assert_eq!((wires.len(), wires[1].done.len()), (2, 2));
    peer.until(|wires| wires[0].ended).await;
}

#[tokio::test]
async fn a_goodbye_with_a_long_reason_is_a_goodbye() {
    let peer = H2Peer::start(vec![silent(), Manners::default()]);
    let mut slots = benches(&peer, http2(), 1).await;
    let serve = async {
        peer.until(|wires| wires[0].open.len() == 1).await;
        let reason = [&[0, 0, 0, 1, 0, 0, 0, 0][..], &[b'x'; 9000]].concat();
        peer.say(0, (GOAWAY, 0), 0, &reason);
        peer.answer(0, 1, b"1");
    };
    let (answer, ()) = tokio::join!(slots[0].ask(json!({})), serve);
    assert_eq!(answer.unwrap().text(), "1");
    assert_eq!(slots[0].ask(json!({})).await.unwrap().retries, 0);
    assert_eq!(peer.wires().len(), 2);
}

#[tokio::test]
async fn a_lowered_limit_takes_idle_slots_away_and_no_running_call() {
    let peer = H2Peer::start(vec![silent(), Manners::default()]);
    let mut slots = benches(&peer, http2(), 4).await;
    let mut idle = slots.split_off(2);
    let lower = async {
        peer.until(|wires| wires[0].open.len() == 2).await;
        peer.allow(0, 1);
        peer.until(|wires| wires[0].acknowledged() == 2).await;
        for slot in &mut idle {
            slot.session.probe().await.unwrap_err();
        }
        let streams = peer.wires()[0].streams();
        for stream in streams {
            peer.answer(0, stream, b"1");
        }
    };
    let (busy, last) = slots.split_at_mut(1);
    let (a, b, ()) = tokio::join!(busy[0].ask(json!({})), last[0].ask(json!({})), lower);
    assert_eq!((a.unwrap().text(), b.unwrap().text()), ("1", "1"));
    for slot in &mut idle {
        assert_eq!(
            slot.ask(json!({})).await.unwrap().text(),
            "{}",
            "they go on elsewhere"
        );
    }
    let wires = peer.wires();
    assert_eq!((wires.len(), wires[1].done.len(), wires[0].most_open), (2, 2, 2));
}

#[tokio::test]
async fn a_raised_limit_is_used_before_another_socket_is_opened() {
    let one = Manners {
        streams: Some(1),
        ..Manners::default()
    };
    let peer = H2Peer::start(vec![one]);
    let mut slots = benches(&peer, http2(), 1).await;
    peer.allow(0, 3);
    peer.until(|wires| wires[0].acknowledged() == 2).await;
    for _ in 0..2 {
        let mut slot = dial(&slots[0].backend).await.unwrap();
        slot.ask(json!({})).await.unwrap();
        slots.push(slot);
    }
    assert_eq!(peer.wires().len(), 1);
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_and_a_stubborn_refusal_did_nothing() {
    for (refuses, retries) in [(2, Some(2)), (9, None)] {
        let peer = H2Peer::start(vec![Manners {
            refuses,
            ..Manners::default()
        }]);
        let mut slots = benches(&peer, http2(), 1).await;
        let sent = slots[0].fence.sent();
        let result = slots[0].run(post("body")).await;
        match (result, retries) {
            (Ok(answer), Some(retries)) => {
                assert_eq!((answer.body(), answer.retries), (&b"body"[..], retries))
            }
            (Err(error), None) => assert_eq!(slots[0].executed(&error, sent), Executed::No, "{error:?}"),
            (result, _) => panic!("{result:?}"),
        }
        slots[0].session.settle().await.unwrap();
        assert_eq!(peer.wires()[0].done.len(), usize::from(retries.is_some()));
    }
}

#[tokio::test]
async fn a_reset_of_another_kind_is_not_sent_again_and_its_outcome_is_unknown() {
    let peer = H2Peer::start(vec![silent()]);
    let mut slots = benches(&peer, http2(), 2).await;
    let sent = slots[0].fence.sent();
    let reset = async {
        peer.until(|wires| wires[0].open.len() == 1).await;
        let stream = peer.wires()[0].streams()[0];
        peer.say(0, (3, 0), stream, &2_u32.to_be_bytes());
    };
    let (result, ()) = tokio::join!(slots[0].ask(json!({})), reset);
    let error = result.unwrap_err();
    assert_eq!(slots[0].executed(&error, sent), Executed::Unknown, "{error:?}");
    slots[0].session.settle().await.unwrap();
    assert_eq!(slots[0].session.cleanliness(), Cleanliness::Clean);
    assert_eq!(peer.wires()[0].streams().len(), 1);
}

#[tokio::test]
async fn a_socket_that_broke_with_requests_on_it_leaves_their_outcome_unknown() {
    let peer = H2Peer::start(vec![silent()]);
    let mut slots = benches(&peer, http2(), 2).await;
    let sent = slots[0].fence.sent();
    let mut call = Box::pin(slots[0].ask(json!({})));
    tokio::select! {
        _ = &mut call => panic!("it ended"),
        () = peer.until(|wires| wires[0].open.len() == 1) => {}
    }
    drop(peer);
    let error = call.await.unwrap_err();
    assert_eq!(slots[0].executed(&error, sent), Executed::Unknown, "{error:?}");
}
