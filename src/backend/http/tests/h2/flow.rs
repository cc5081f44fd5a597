//! Flow control and time limits: who is slow holds up nobody but himself.

use std::time::Duration;

use super::{
    super::{h2_peer::PING, streams},
    *,
};
use crate::backend::{BodyChunk, Event};

#[tokio::test]
async fn a_caller_who_does_not_read_stops_his_own_answer_and_no_other() {
    let peer = H2Peer::start(vec![silent()]);
    let mut slots = benches(&peer, http2(), 20).await;
    let mut last = slots.pop().unwrap();
    let (mut sinks, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..19 {
        let (events, seen) = tokio::sync::mpsc::channel(1);
        sinks.push(Sink::Stream(events));
        readers.push(seen);
    }
    let mut calls: Vec<_> = slots
        .iter_mut()
        .zip(&mut sinks)
        .map(|(slot, sink)| slot.session.execute(request(json!({})), sink))
        .collect();
    let asked = async {
        peer.until(|wires| wires[0].open.len() == 19).await;
        for stream in peer.wires()[0].streams() {
            peer.head(0, stream);
            // What the windows hold, as a service that honours them would send it.
            for _ in 0..16 {
                peer.say(0, (0, 0), stream, &[b'x'; 16 * 1024]);
            }
        }
        peer.until(|wires| wires[0].sent == 19 * 16 * 16 * 1024).await;
        let answer = async {
            peer.until(|wires| wires[0].open.len() == 20).await;
            let stream = *peer.wires()[0].streams().last().unwrap();
            peer.answer(0, stream, b"1");
        };
        let (answered, ()) = tokio::join!(last.ask(json!({})), answer);
        assert_eq!(answered.unwrap().text(), "1");
    };
    let mut asked = Box::pin(asked);
    std::future::poll_fn(|cx| {
        for call in &mut calls {
            assert!(call.as_mut().poll(cx).is_pending());
        }
        asked.as_mut().poll(cx)
    })
    .await;
    let given = |wire: &h2_peer::Wire, stream: u32| {
        let updates = wire
            .frames
            .iter()
            .filter(|frame| frame.kind == 8 && frame.stream == stream);
        updates
            .map(|frame| u32::from_be_bytes(frame.payload[..4].try_into().unwrap()))
            .sum::<u32>()
    };
    // Nobody read more than a frame or two, so no stream got its window back.
    let wire = peer.wires().remove(0);
    assert!(wire.streams().iter().all(|stream| given(&wire, *stream) == 0),);
    // And one that reads gets on.
    let mut reader = readers.remove(0);
    let mut call = calls.remove(0);
    let read = async {
        let mut got = 0;
        while got < 16 * 16 * 1024 {
            if let Some(Event::Data(part)) = reader.recv().await {
                got += part.len();
            }
        }
        peer.until(|wires| given(&wires[0], 1) > 0).await;
    };
    tokio::select! {
        _ = &mut call => panic!("it ended"),
        () = read => {}
    }
}

#[tokio::test]
async fn frames_that_say_nothing_do_no_harm() {
    let peer = H2Peer::start(vec![silent()]);
    let mut slots = benches(&peer, http2(), 1).await;
    let answer = async {
        peer.until(|wires| wires[0].open.len() == 1).await;
        peer.head(0, 1);
        for _ in 0..300 {
            peer.say(0, (0, 0), 1, b"");
        }
        peer.say(0, (0, 1), 1, b"1");
    };
    let (answered, ()) = tokio::join!(slots[0].ask(json!({})), answer);
    assert_eq!(answered.unwrap().text(), "1");
}

#[tokio::test]
async fn a_caller_who_does_not_read_small_parts_costs_no_other_slot_its_call() {
    let peer = H2Peer::start(vec![silent()]);
    let mut slots = benches(&peer, http2(), 2).await;
    let mut other = slots.pop().unwrap();
    let (events, _seen) = tokio::sync::mpsc::channel(1);
    let mut sink = Sink::Stream(events);
    let asked = async {
        peer.until(|wires| wires[0].open.len() == 1).await;
        peer.head(0, 1);
        for _ in 0..200_000 {
            peer.say(0, (0, 0), 1, b"x");
        }
        peer.until(|wires| wires[0].sent == 200_000).await;
        let answer = async {
            peer.until(|wires| wires[0].open.len() == 2).await;
            peer.answer(0, 3, b"1");
        };
        let (answered, ()) = tokio::join!(other.ask(json!({})), answer);
        assert_eq!(answered.unwrap().text(), "1");
    };
    tokio::select! {
        result = slots[0].session.execute(request(json!({})), &mut sink) => panic!("it ended: {result:?}"),
        () = asked => {}
    }
}

#[tokio::test]
async fn a_service_that_takes_no_more_of_one_body_takes_the_others() {
    let stingy = Manners {
        credits: false,
        answers: false,
        window: Some(10_000),
        ..Manners::default()
    };
    let peer = H2Peer::start(vec![stingy]);
    let mut slots = benches(&peer, http2(), 2).await;
    let mut other = slots.pop().unwrap();
    let answer = async {
        peer.until(|wires| wires[0].data(1) == 10_000).await;
        let reply = async {
            peer.until(|wires| wires[0].data(3) == 5).await;
            peer.answer(0, 3, b"1");
        };
        let (answered, ()) = tokio::join!(other.run(post("hello")), reply);
        assert_eq!(answered.unwrap().text(), "1");
    };
    tokio::select! {
        _ = slots[0].run(post(vec![b'x'; 1 << 20])) => panic!("it ended"),
        () = answer => {}
    }
    assert_eq!(peer.wires()[0].data(1), 10_000);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_is_given_and_the_rest_is_not_sent() {
    let peer = H2Peer::start(vec![silent()]);
    let mut slots = benches(&peer, http2(), 1).await;
    let (input, operation) = streams::upload(json!({"method": "POST"}));
    input
        .send(BodyChunk::Data(Bytes::from_static(b"half")))
        .await
        .unwrap();
    let early = async {
        peer.until(|wires| wires[0].data(1) == 4).await;
        peer.answer(0, 1, b"2");
    };
    let (answer, ()) = tokio::join!(slots[0].run(operation), early);
    assert_eq!(answer.unwrap().text(), "2");
    assert_eq!(slots[0].session.cleanliness(), Cleanliness::Clean);
    peer.until(|wires| wires[0].resets(1) == 1).await;
}

fn hurried(first_byte: i32, write: i32) -> HttpBackend {
    HttpBackend {
        first_byte_timeout: span(first_byte),
        write_timeout: span(write),
        ..http2()
    }
}

#[tokio::test]
async fn a_service_that_says_nothing_is_timed_out_and_its_stream_reset() {
    let peer = H2Peer::start(vec![silent()]);
    let mut slots = benches(&peer, hurried(50, 900), 1).await;
    let error = slots[0].ask(json!({})).await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Timeout {
                what: "first byte",
                ..
            }
        ),
        "{error:?}"
    );
    slots[0].session.settle().await.unwrap();
    peer.until(|wires| wires[0].resets(1) == 1).await;
}

#[tokio::test]
async fn a_service_that_takes_no_more_is_timed_out() {
    let stingy = Manners {
        credits: false,
        answers: false,
        ..Manners::default()
    };
    let peer = H2Peer::start(vec![stingy]);
    let mut slots = benches(&peer, hurried(900, 50), 1).await;
    let error = slots[0].run(post(vec![b'x'; 1 << 20])).await.unwrap_err();
    assert!(
        matches!(error, CallError::Timeout { what: "write", .. }),
        "{error:?}"
    );
    slots[0].session.settle().await.unwrap();
    peer.until(|wires| wires[0].resets(1) == 1).await;
}

/// Answers no ping, as a service whose event loop is busy.
fn mute() -> Manners {
    Manners {
        pongs: false,
        ..silent()
    }
}

#[tokio::test]
async fn a_service_that_answers_not_even_a_ping_is_dead() {
    let peer = H2Peer::start(vec![mute()]);
    let mut slots = benches(&peer, hurried(8000, 20_000), 1).await;
    let (events, mut seen) = tokio::sync::mpsc::channel(4);
    let mut sink = Sink::Stream(events);
    let mut call = slots[0].session.execute(request(json!({})), &mut sink);
    let begin = async {
        peer.until(|wires| wires[0].open.len() == 1).await;
        peer.head(0, 1);
        seen.recv().await.unwrap();
    };
    tokio::select! {
        _ = &mut call => panic!("it ended"),
        () = begin => {}
    }
    // Nothing moves any more but the clock.
    tokio::time::pause();
    let clock = Clock::tokio();
    let error = call.await.unwrap_err();
    assert!(matches!(error, CallError::Broken { .. }), "{error:?}");
    let silent = clock.now().since(crate::clock::Time::ZERO);
    assert!(silent > Duration::from_secs(20), "the longer of its limits");
    assert!(silent < Duration::from_secs(24));
    tokio::time::resume();
    peer.until(|wires| wires[0].ended && wires[0].count(PING) == 1)
        .await;
}

#[tokio::test]
async fn a_service_that_blocks_its_event_loop_within_its_limits_is_not_cut() {
    let peer = H2Peer::start(vec![mute()]);
    let mut slots = benches(&peer, hurried(120_000, 900), 1).await;
    let mut call = Box::pin(slots[0].ask(json!({})));
    tokio::select! {
        _ = &mut call => panic!("it ended"),
        () = peer.until(|wires| wires[0].open.len() == 1) => {}
    }
    tokio::time::pause();
    let busy = tokio::time::timeout(Duration::from_secs(100), &mut call);
    busy.await.unwrap_err();
    tokio::time::resume();
    peer.answer(0, 1, b"1");
    assert_eq!(call.await.unwrap().text(), "1");
    assert_eq!(peer.wires().len(), 1);
}

#[tokio::test]
async fn a_service_that_answers_a_ping_and_falls_silent_again_is_asked_again() {
    let peer = H2Peer::start(vec![mute()]);
    let mut slots = benches(&peer, hurried(30_000, 900), 1).await;
    let (events, mut seen) = tokio::sync::mpsc::channel(4);
    let mut sink = Sink::Stream(events);
    let mut call = slots[0].session.execute(request(json!({})), &mut sink);
    let begin = async {
        peer.until(|wires| wires[0].open.len() == 1).await;
        peer.head(0, 1);
        seen.recv().await.unwrap();
    };
    tokio::select! {
        _ = &mut call => panic!("it ended"),
        () = begin => {}
    }
    tokio::time::pause();
    let clock = Clock::tokio();
    tokio::select! {
        _ = &mut call => panic!("it ended"),
        () = peer.until(|wires| wires[0].count(PING) == 1) => {}
    }
    let frames = peer.wires().remove(0).frames;
    let ping = frames.iter().find(|frame| frame.kind == PING).unwrap();
    let ack = 0x1;
    peer.say(0, (PING, ack), 0, &ping.payload);
    let error = call.await.unwrap_err();
    assert!(matches!(error, CallError::Broken { .. }), "{error:?}");
    let silent = clock.now().since(crate::clock::Time::ZERO);
    assert!(
        silent < Duration::from_secs(50),
        "the limit began anew when it fell silent: {silent:?}"
    );
    tokio::time::resume();
    peer.until(|wires| wires[0].ended && wires[0].count(PING) == 2)
        .await;
}
