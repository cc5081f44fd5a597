//! Services that fall silent without closing: the broker must notice by itself, tell the truth, and go on.

use std::time::Duration;

use sublet::proto::{
    AcquireOptions, Endpoint, ExecuteRequest, HttpBackend, PoolSpec, Sizing, Timeouts, Tls,
    pool_spec::Backend,
};
use tonic::Code;

use crate::support::{
    app::App,
    calls::*,
    http_peer::{Peer, Step},
};

const SOON: Duration = Duration::from_millis(100);

/// A pool of one connection to `peer`, with short patience for it.
fn http(peer: &Peer, tls: bool) -> PoolSpec {
    PoolSpec {
        endpoints: vec![Endpoint {
            address: peer.address(),
            ..Endpoint::default()
        }],
        sizing: Some(Sizing {
            max_sessions: Some(1),
            ..Sizing::default()
        }),
        timeouts: Some(Timeouts {
            connect: tls.then(|| span(SOON)),
            stall: Some(span(SOON)),
            ..Timeouts::default()
        }),
        backend: Some(Backend::Http(HttpBackend {
            tls: tls.then(|| Tls {
                enabled: true,
                ..Tls::default()
            }),
            ..HttpBackend::default()
        })),
        ..PoolSpec::default()
    }
}

#[tokio::test]
async fn service_that_falls_silent_is_told_as_unknown_and_costs_its_connection_alone() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let scripts = [
        ("before its answer", vec![Step::Request, Step::ToEnd]),
        (
            "in its answer",
            vec![Step::Request, Step::Send(half.into()), Step::ToEnd],
        ),
    ];
    for (when, script) in scripts {
        let peer = Peer::start(vec![script, vec![Step::Serve]]);
        let app = App::start().await;
        create(&app.address, "web", http(&peer, false)).await;
        let mut broker = broker(&app.address);
        let call = || one_shot("web", "request", "{}");
        let failed = execute(&mut broker, call()).await.unwrap_err();
        assert_eq!(failed.code(), Code::DeadlineExceeded, "{when}");
        assert_eq!(
            (reason(&failed).as_str(), executed(&failed).as_str()),
            ("EXECUTE_TIMEOUT", "unknown"),
            "{when}"
        );
        assert!(failed.message().contains("stall"), "{when}: {}", failed.message());
        peer.until(|lines| lines[0].end.is_some()).await;
        // On a busy machine even a prompt answer may come later than the stall.
        while let Err(late) = execute(&mut broker, call()).await {
            assert!(late.message().contains("stall"), "{when}: {}", late.message());
        }
        app.stop().await;
    }
}

#[tokio::test]
async fn service_that_takes_a_connection_and_says_nothing_is_unreachable() {
    let peer = Peer::start(vec![vec![Step::ToEnd]]);
    let app = App::start().await;
    create(&app.address, "web", http(&peer, true)).await;
    let request = ExecuteRequest {
        options: Some(AcquireOptions {
            wait_timeout: Some(span(SOON * 3)),
            ..AcquireOptions::default()
        }),
        ..one_shot("web", "request", "{}")
    };
    let failed = execute(&mut broker(&app.address), request).await.unwrap_err();
    assert_eq!(
        (reason(&failed).as_str(), executed(&failed).as_str()),
        ("BACKEND_UNREACHABLE", "no")
    );
    peer.until(|lines| lines[0].end.is_some()).await;
    app.stop().await;
}
