//! How many sockets there are, and what each carries.

use futures_util::future::join_all;

use super::*;

#[tokio::test]
async fn requests_share_one_socket_and_come_back_to_their_own_slot() {
    let peer = H2Peer::start(vec![Manners::default()]);
    let mut slots = benches(&peer, http2(), 50).await;
    for round in 0..3 {
        let asked = slots.iter_mut().enumerate().map(|(number, slot)| async move {
            let body = format!("[{number},{round}]");
            let answer = slot.run(post(body.clone())).await.unwrap();
            assert_eq!((answer.text(), answer.retries), (body.as_str(), 0));
        });
        join_all(asked).await;
    }
    let wires = peer.wires();
    assert_eq!((wires.len(), wires[0].done.len()), (1, 150));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_once_open_ten_sockets_where_each_allows_a_hundred() {
    let peer = Arc::new(H2Peer::start(vec![silent()]));
    let slots = benches(&peer, http2(), 1000).await;
    assert_eq!(peer.wires().len(), 10);
    let calls: Vec<_> = slots
        .into_iter()
        .enumerate()
        .map(|(number, mut slot)| {
            tokio::spawn(async move {
                let body = number.to_string();
                assert_eq!(slot.run(post(body.clone())).await.unwrap().text(), body);
                slot
            })
        })
        .collect();
    // None is answered before all are there, so all run at once.
    peer.until(|wires| wires.iter().map(|wire| wire.open.len()).sum::<usize>() == 1000)
        .await;
    for (number, wire) in peer.wires().iter().enumerate() {
        assert_eq!(wire.most_open, 100);
        for stream in wire.streams() {
            let whole = |wires: &[h2_peer::Wire]| {
                wires[number]
                    .frames
                    .iter()
                    .any(|frame| frame.stream == stream && frame.kind == 0)
            };
            peer.until(whole).await;
            let wires = peer.wires();
            let sent = wires[number]
                .frames
                .iter()
                .find(|frame| frame.stream == stream && frame.kind == 0);
            peer.answer(number, stream, &sent.unwrap().payload);
        }
    }
    let slots = join_all(calls).await;
    assert_eq!(slots.iter().filter(|slot| slot.is_ok()).count(), 1000);
    assert_eq!(peer.wires().len(), 10);
}

#[tokio::test]
async fn sockets_beyond_the_definitions_number_are_refused_as_too_many() {
    let two = Manners {
        streams: Some(2),
        ..Manners::default()
    };
    let peer = H2Peer::start(vec![two]);
    let own = HttpBackend {
        max_connections: Some(2),
        ..http2()
    };
    let mut slots = benches(&peer, own, 4).await;
    let error = dial(&slots[0].backend).await.unwrap_err();
    assert_eq!(error.kind, DialErrorKind::TooMany, "{error}");
    let left = slots.pop().unwrap();
    left.session.close().await;
    let mut taken = dial(&slots[0].backend).await.unwrap();
    assert_eq!(taken.ask(json!({})).await.unwrap().text(), "{}");
    assert_eq!(peer.wires().len(), 2);
}

#[tokio::test]
async fn a_socket_closes_with_its_last_slot_and_says_goodbye() {
    let peer = H2Peer::start(vec![Manners::default()]);
    let mut slots = benches(&peer, http2(), 2).await;
    slots[1].ask(json!({})).await.unwrap();
    let last = slots.pop().unwrap();
    slots.pop().unwrap().session.close().await;
    assert!(!peer.wires()[0].ended);
    last.session.close().await;
    peer.until(|wires| wires[0].ended).await;
    assert_eq!(peer.wires()[0].count(h2_peer::GOAWAY), 1);
}

#[tokio::test]
async fn a_service_that_speaks_another_protocol_is_permanent() {
    let peer = Peer::start(vec![vec![
        Step::Bytes(24),
        answer("HTTP/1.1 400 Bad\n\n"),
        Step::ToEnd,
    ]]);
    let backend = backend(&spec(&peer.address(), http2()), Path::new("/nowhere")).unwrap();
    let error = dial(&backend).await.unwrap_err();
    assert_eq!(error.kind, DialErrorKind::Permanent, "{error}");
    let closing = Peer::start(vec![vec![Step::Bytes(24)]]);
    let backend = super::backend(&spec(&closing.address(), http2()), Path::new("/nowhere")).unwrap();
    let error = dial(&backend).await.unwrap_err();
    assert_eq!(error.kind, DialErrorKind::Transient, "{error}");
}

pub(super) fn over_tls(protocol: Protocol) -> HttpBackend {
    HttpBackend {
        protocol: protocol.into(),
        tls: Some(crate::proto::Tls {
            enabled: true,
            skip_verify: true,
            ..crate::proto::Tls::default()
        }),
        ..HttpBackend::default()
    }
}

#[tokio::test]
async fn over_tls_the_service_chooses_unless_the_definition_does() {
    let both = Identity::speaking(&[b"h2", b"http/1.1"]);
    let peer = H2Peer::start_tls(vec![Manners::default()], both.acceptor.clone());
    for own in [over_tls(Protocol::Unspecified), over_tls(Protocol::Http2)] {
        let mut slots = benches(&peer, own, 3).await;
        for slot in &mut slots {
            assert_eq!(
                slot.run(post(vec![b'7'; 100_000])).await.unwrap().text().len(),
                100_000
            );
        }
    }
    assert_eq!(peer.wires().len(), 2);
    let old = Identity::speaking(&[b"http/1.1"]);
    let peer = Peer::start_tls(vec![vec![Step::Serve]], &old);
    let chosen = over_tls(Protocol::Unspecified);
    let mut bench = Bench::made(&spec(&peer.address(), chosen)).await;
    assert_eq!(bench.ask(json!({})).await.unwrap().text(), "{}");
    let backend = backend(
        &spec(&peer.address(), over_tls(Protocol::Http2)),
        Path::new("/nowhere"),
    )
    .unwrap();
    let error = dial(&backend).await.unwrap_err();
    assert_eq!(error.kind, DialErrorKind::Permanent, "{error}");
}

#[tokio::test]
async fn no_callers_headers_are_kept_in_a_table_that_others_share() {
    let peer = H2Peer::start(vec![Manners::default()]);
    let mut slots = benches(&peer, http2(), 1).await;
    let params = json!({"headers": {"x-key": "a value that is the same each time"}});
    for _ in 0..3 {
        slots[0].ask(params.clone()).await.unwrap();
    }
    let wires = peer.wires();
    let heads: Vec<_> = wires[0].frames.iter().filter(|frame| frame.kind == 1).collect();
    // The first says that there is no table; nothing is shortened after it.
    assert_eq!(heads[0].payload[0], 0x20);
    assert_eq!(heads[1].payload, heads[0].payload[1..]);
    assert_eq!(heads[2].payload, heads[1].payload);
}

#[tokio::test]
async fn a_probe_sends_nothing_and_finds_a_socket_that_broke() {
    let peer = H2Peer::start(vec![Manners::default()]);
    let mut slots = benches(&peer, http2(), 2).await;
    slots[0].session.probe().await.unwrap();
    let before = peer.wires()[0].frames.len();
    slots[0].session.probe().await.unwrap();
    assert_eq!(peer.wires()[0].frames.len(), before);
    drop(peer);
    let lost = async {
        while slots[0].session.probe().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), lost)
        .await
        .unwrap();
    slots[1].session.probe().await.unwrap_err();
}

#[tokio::test]
async fn definitions_that_make_no_sense_are_refused() {
    let both = HttpBackend {
        max_connections: Some(3),
        ..HttpBackend::default()
    };
    let faults = backend(&spec("api:80", both), Path::new("/")).unwrap_err();
    assert_eq!(faults.list()[0].field, "http.max_connections");
    let unknown = HttpBackend {
        protocol: 9,
        ..HttpBackend::default()
    };
    let faults = backend(&spec("api:80", unknown), Path::new("/")).unwrap_err();
    assert_eq!(faults.list()[0].field, "http.protocol");
}
