//! What would not fit: heads that are too long, streams and connections beyond the limits.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use super::{
    super::h2_peer::{HEADERS, Wire},
    shared::over_tls,
    *,
};

fn heads(wire: &Wire) -> Vec<&h2_peer::Frame> {
    wire.frames.iter().filter(|frame| frame.kind == HEADERS).collect()
}

#[tokio::test]
async fn a_head_that_is_no_single_frame_is_refused_and_costs_nothing() {
    let peer = H2Peer::start(vec![Manners::default()]);
    let mut slots = benches(&peer, http2(), 1).await;
    let sent = slots[0].fence.sent();
    for long in ["Z".repeat(16_000), "é".repeat(2000), "\\".repeat(6000)] {
        let error = slots[0]
            .ask(json!({"headers": {"x-long": long}}))
            .await
            .unwrap_err();
        let CallError::Invalid(faults) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(faults.list()[0].field, "params");
        assert!(faults.list()[0].message.contains("15 KiB"), "{faults}");
        assert_eq!(slots[0].executed(&error, sent), Executed::No);
        assert_eq!(slots[0].session.cleanliness(), Cleanliness::Clean);
        assert_eq!(slots[0].fence.sent(), sent);
    }
    assert_eq!(slots[0].ask(json!({})).await.unwrap().retries, 0);
    assert_eq!(heads(&peer.wires()[0]).len(), 1);
}

/// The peer knows no head of more than one frame.
#[tokio::test]
async fn the_longest_head_of_any_bytes_is_one_frame() {
    let peer = H2Peer::start(vec![Manners::default()]);
    let mut slots = benches(&peer, http2(), 1).await;
    let printable: String = (' '..='~').collect();
    let values = [
        ("Z".to_owned(), 15_000),
        ("\\".to_owned(), 5000),
        ("{".to_owned(), 7500),
        ("\u{80}\u{ff}".to_owned(), 900),
        (printable, 100),
    ];
    for (value, times) in values {
        let params = json!({"headers": {"x-long": value.repeat(times)}});
        assert_eq!(slots[0].ask(params).await.unwrap().text(), "{}", "{value}");
    }
    let many: serde_json::Map<_, _> = (0..1000)
        .map(|number| (format!("x{number}"), json!("")))
        .collect();
    slots[0].ask(json!({ "headers": many })).await.unwrap();
}

#[tokio::test]
async fn a_first_head_that_is_left_out_takes_its_socket_with_it() {
    let peer = H2Peer::start(vec![Manners::default()]);
    let mut slots = benches(&peer, http2(), 2).await;
    slots[0].fence.shut();
    let (shut, open) = slots.split_at_mut(1);
    let mut call = Box::pin(shut[0].ask(json!({})));
    tokio::select! {
        biased;
        _ = &mut call => {}
        answer = open[0].ask(json!({})) => assert_eq!(answer.unwrap().text(), "{}"),
    }
    drop(call);
    slots[0].session.settle().await.unwrap();
    slots[0].fence.open(2);
    for slot in &mut slots {
        slot.ask(json!({})).await.unwrap();
    }
    for wire in peer.wires() {
        // It says that there is no table of headers; a peer that wants to hear so understands nothing else.
        assert!(heads(&wire).first().is_none_or(|head| head.payload[0] == 0x20));
    }
    assert_eq!(peer.wires().len(), 2);
}

#[tokio::test]
async fn a_service_that_allows_no_streams_is_no_session_and_no_connection() {
    let none = Manners {
        streams: Some(0),
        ..Manners::default()
    };
    let peer = H2Peer::start(vec![none]);
    let backend = backend(&spec(&peer.address(), http2()), Path::new("/nowhere")).unwrap();
    let error = dial(&backend).await.unwrap_err();
    assert_eq!(error.kind, DialErrorKind::Transient, "{error}");
    peer.until(|wires| wires[0].ended).await;
}

/// Leads to one service first, and to another from then on.
async fn changing(first: String, then: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut target = first;
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = TcpStream::connect(&target).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut from, &mut to).await });
            target.clone_from(&then);
        }
    });
    address
}

#[tokio::test]
async fn a_service_that_changes_to_http2_gets_no_more_connections_than_the_definition_says() {
    let old = Identity::speaking(&[b"http/1.1"]);
    let before = Peer::start_tls(vec![vec![Step::Serve]], &old);
    let new = Identity::speaking(&[b"h2"]);
    let one = Manners {
        streams: Some(1),
        ..Manners::default()
    };
    let peer = H2Peer::start_tls(vec![one], new.acceptor.clone());
    let own = HttpBackend {
        max_connections: Some(1),
        ..over_tls(Protocol::Unspecified)
    };
    let address = changing(before.address(), peer.address()).await;
    let backend = backend(&spec(&address, own), Path::new("/nowhere")).unwrap();
    let _first = dial(&backend).await.unwrap();
    let (a, b, c) = tokio::join!(dial(&backend), dial(&backend), dial(&backend));
    let mut made: Vec<_> = [a, b, c].into_iter().filter_map(Result::ok).collect();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].ask(json!({})).await.unwrap().text(), "{}");
    peer.until(|wires| wires.iter().filter(|wire| !wire.ended).count() == 1)
        .await;
}
