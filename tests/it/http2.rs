//! Pools of HTTP/2 sessions, through the broker: as many sockets as the streams need, and callers who go are heard of.

use std::sync::Arc;

use futures_util::future::join_all;
use sublet::proto::{
    Endpoint, Event, ExecuteStreamRequest, HttpBackend, PoolSpec, Sizing, event, http_backend::Protocol,
    pool_spec::Backend,
};

use crate::support::{
    app::App,
    calls::*,
    h2_peer::{H2Peer, Manners, RESET},
};

fn http2(peer: &H2Peer, sessions: u32) -> PoolSpec {
    PoolSpec {
        endpoints: vec![Endpoint {
            address: peer.address(),
            ..Endpoint::default()
        }],
        sizing: Some(Sizing {
            max_sessions: Some(sessions),
            ..Sizing::default()
        }),
        backend: Some(Backend::Http(HttpBackend {
            protocol: Protocol::Http2.into(),
            ..HttpBackend::default()
        })),
        ..PoolSpec::default()
    }
}

fn silent() -> Manners {
    Manners {
        answers: false,
        ..Manners::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_requests_at_once_open_ten_sockets_where_each_allows_a_hundred() {
    let peer = Arc::new(H2Peer::start(vec![silent()]));
    let app = App::start().await;
    create(&app.address, "web", http2(&peer, 1000)).await;
    // A connection to the broker lets at most half of its streams wait.
    let brokers: Vec<_> = (0..4).map(|_| broker(&app.address)).collect();
    let calls: Vec<_> = (0..1000)
        .map(|number| {
            let mut broker = brokers[number % brokers.len()].clone();
            tokio::spawn(async move { execute(&mut broker, one_shot("web", "request", "{}")).await })
        })
        .collect();
    // None is answered before all are there, so all run at once.
    peer.until(|wires| wires.iter().map(|wire| wire.open.len()).sum::<usize>() == 1000)
        .await;
    let wires = peer.wires();
    assert_eq!(wires.len(), 10);
    let told = stats(&app.address, "web").await;
    assert_eq!((told.shared_connections, told.active_sessions), (10, 1000));
    for (socket, wire) in wires.iter().enumerate() {
        assert_eq!(wire.most_open, 100);
        for stream in wire.streams() {
            peer.answer(socket, stream, b"{}");
        }
    }
    for call in join_all(calls).await {
        call.unwrap().unwrap();
    }
    app.stop().await;
}

fn is_data(event: Option<&Event>) -> bool {
    event.is_some_and(|event| matches!(event.event, Some(event::Event::Data(_))))
}

#[tokio::test]
async fn caller_who_goes_in_mid_stream_is_heard_of_at_the_service() {
    let peer = H2Peer::start(vec![silent()]);
    let app = App::start().await;
    create(&app.address, "web", http2(&peer, 2)).await;
    let mut broker = broker(&app.address);
    let request = ExecuteStreamRequest {
        request: Some(one_shot("web", "request", "{}")),
    };
    let begin = async {
        peer.until(|wires| wires.first().is_some_and(|wire| wire.open.len() == 1))
            .await;
        peer.head(0, 1);
        peer.say(0, (0, 0), 1, b"part");
    };
    let (stream, ()) = tokio::join!(broker.execute_stream(request), begin);
    let mut events = stream.unwrap().into_inner();
    while !is_data(events.message().await.unwrap().unwrap().event.as_ref()) {}
    assert_eq!(peer.wires()[0].count(RESET), 0);
    drop(events);
    peer.until(|wires| wires[0].resets(1) == 1).await;
    app.stop().await;
}
