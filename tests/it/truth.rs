//! `executed` is what the backend saw, for every reason that a call can fail with.

use std::time::Duration;

use sublet::proto::{
    AcquireOptions, ExecuteRequest, ExecuteStreamRequest, PausePoolRequest, RevokeLeaseRequest,
    UpdatePoolRequest,
};

use crate::support::{app::App, calls::*};

/// One call, whose params carry its id, and what its error must say.
struct Case {
    reason: &'static str,
    executed: &'static str,
    /// Whether the backend's own record has it.
    seen: bool,
}

fn within(timeout: Duration, mut request: ExecuteRequest) -> ExecuteRequest {
    if let Some(operation) = request.operation.as_mut() {
        operation.timeout = Some(span(timeout));
    }
    request
}

fn no_wait(mut request: ExecuteRequest) -> ExecuteRequest {
    request.options = Some(AcquireOptions {
        wait_timeout: Some(span(Duration::ZERO)),
        ..AcquireOptions::default()
    });
    request
}

async fn check(broker: &mut Broker, request: ExecuteRequest, id: &str, case: Case) {
    let failed = execute(broker, request).await.unwrap_err();
    assert_eq!(reason(&failed), case.reason, "{id}: {failed:?}");
    assert_eq!(executed(&failed), case.executed, "{id}: {failed:?}");
    let seen = received(broker, "watched")
        .await
        .iter()
        .any(|received| received == id);
    assert_eq!(seen, case.seen, "{id}: the backend's record");
}

const fn case(reason: &'static str, executed: &'static str, seen: bool) -> Case {
    Case {
        reason,
        executed,
        seen,
    }
}

#[tokio::test]
async fn one_shots_tell_the_truth() {
    let app = App::start().await;
    create(&app.address, "watched", echo(2)).await;
    let mut broker = broker(&app.address);
    let broker = &mut broker;
    let call = |name: &str, params: &str| one_shot("watched", name, params);
    check(
        broker,
        call("fail", r#"{"id":"a"}"#),
        "a",
        case("BACKEND_ERROR", "yes", true),
    )
    .await;
    check(
        broker,
        call("drop", r#"{"when":"before","id":"b"}"#),
        "b",
        case("SESSION_LOST", "no", false),
    )
    .await;
    check(
        broker,
        call("drop", r#"{"when":"after","id":"c"}"#),
        "c",
        case("SESSION_LOST", "unknown", true),
    )
    .await;
    let slow = within(
        Duration::from_millis(50),
        call("sleep", r#"{"duration":"60s","id":"d"}"#),
    );
    check(broker, slow, "d", case("EXECUTE_TIMEOUT", "unknown", true)).await;
    check(
        broker,
        call("set", r#"{"value":1,"id":"e"}"#),
        "e",
        case("INVALID_ARGUMENT", "no", false),
    )
    .await;
    let large = call("stream", r#"{"count":100,"size":65536,"id":"f"}"#);
    check(broker, large, "f", case("RESPONSE_TOO_LARGE", "unknown", true)).await;
    let absent = one_shot("absent", "echo", r#"{"id":"g"}"#);
    let streamed = ExecuteStreamRequest {
        request: Some(absent.clone()),
    };
    let failed = [
        execute(broker, absent).await.unwrap_err(),
        broker.execute_stream(streamed).await.unwrap_err(),
    ];
    for failed in failed {
        assert_eq!(
            (reason(&failed).as_str(), executed(&failed).as_str()),
            ("POOL_NOT_FOUND", "no")
        );
        assert_eq!(failed.metadata().get("sublet-executed").unwrap(), "no");
    }
}

#[tokio::test]
async fn refusals_tell_the_truth() {
    let app = App::start().await;
    create(&app.address, "watched", echo(1)).await;
    let mut broker = broker(&app.address);
    let call = |id: &str| no_wait(one_shot("watched", "fail", &format!(r#"{{"id":"{id}"}}"#)));
    let held = lease(&mut broker, "watched").await;
    let failed = execute(&mut broker, call("a")).await.unwrap_err();
    assert_eq!(
        (reason(&failed).as_str(), executed(&failed).as_str()),
        ("ACQUIRE_TIMEOUT", "no")
    );
    release(&mut broker, &held.lease_token).await;
    let name = "watched".to_owned();
    pools(&app.address)
        .pause_pool(PausePoolRequest { name: name.clone() })
        .await
        .unwrap();
    let mut paused = call("b");
    paused.options.as_mut().unwrap().wait_timeout = Some(span(Duration::from_millis(20)));
    let failed = execute(&mut broker, paused).await.unwrap_err();
    assert_eq!(
        (reason(&failed).as_str(), executed(&failed).as_str()),
        ("POOL_PAUSED", "no")
    );
    pools(&app.address)
        .resume_pool(sublet::proto::ResumePoolRequest { name })
        .await
        .unwrap();
    assert!(received(&mut broker, "watched").await.is_empty());
}

#[tokio::test]
async fn calls_on_leases_tell_the_truth() {
    let app = App::start().await;
    create(&app.address, "watched", echo(2)).await;
    let mut broker = broker(&app.address);
    let held = lease(&mut broker, "watched").await;
    let token = held.lease_token.as_str();
    let numbered = |seqno, name: &str, params: &str| ExecuteRequest {
        seqno,
        ..on_lease(token, name, params)
    };
    let gap = numbered(5, "fail", r#"{"id":"a"}"#);
    check(&mut broker, gap, "a", case("SEQNO_GAP", "no", false)).await;
    let cut = within(
        Duration::from_millis(50),
        numbered(1, "sleep", r#"{"duration":"60s","id":"b"}"#),
    );
    check(
        &mut broker,
        cut.clone(),
        "b",
        case("EXECUTE_TIMEOUT", "unknown", true),
    )
    .await;
    check(&mut broker, cut, "b", case("OUTCOME_UNKNOWN", "unknown", true)).await;
    execute(&mut broker, numbered(2, "echo", "1")).await.unwrap();
    execute(&mut broker, numbered(3, "echo", "1")).await.unwrap();
    let old = execute(&mut broker, numbered(2, "echo", "1")).await.unwrap_err();
    assert_eq!(
        (reason(&old).as_str(), executed(&old).as_str()),
        ("ALREADY_EXECUTED", "yes")
    );
    let running = tokio::spawn({
        let (mut broker, request) = (
            broker.clone(),
            on_lease(token, "sleep", r#"{"duration":"60s","id":"c"}"#),
        );
        async move { execute(&mut broker, request).await.unwrap_err() }
    });
    while !received(&mut broker, "watched").await.contains(&"c".to_owned()) {
        tokio::task::yield_now().await;
    }
    let busy = on_lease(token, "fail", r#"{"id":"d"}"#);
    check(&mut broker, busy, "d", case("LEASE_BUSY", "no", false)).await;
    let lease_id = held.lease.unwrap().id;
    pools(&app.address)
        .revoke_lease(RevokeLeaseRequest { lease_id })
        .await
        .unwrap();
    let revoked = running.await.unwrap();
    assert_eq!(
        (reason(&revoked).as_str(), executed(&revoked).as_str()),
        ("LEASE_REVOKED", "unknown")
    );
    let late = on_lease(token, "fail", r#"{"id":"e"}"#);
    check(&mut broker, late, "e", case("LEASE_REVOKED", "no", false)).await;
    let stranger = on_lease("sl1.0.1.99.00", "fail", r#"{"id":"f"}"#);
    check(&mut broker, stranger, "f", case("LEASE_NOT_FOUND", "no", false)).await;
    let ended = release(&mut broker, "sl1.0.1.99.00").await;
    assert_eq!(ended, sublet::proto::LeaseEnd::NotFound);
}

#[tokio::test]
async fn full_queue_and_dead_backend_are_told_apart() {
    let app = App::start().await;
    let mut few = echo(1);
    few.queue = Some(sublet::proto::Queue {
        max_waiters: Some(1),
        ..sublet::proto::Queue::default()
    });
    create(&app.address, "watched", few).await;
    let mut broker = broker(&app.address);
    let held = lease(&mut broker, "watched").await;
    let waiting = tokio::spawn({
        let mut broker = broker.clone();
        async move { lease(&mut broker, "watched").await }
    });
    while stats(&app.address, "watched").await.waiters < 1 {
        tokio::task::yield_now().await;
    }
    let full = execute(&mut broker, one_shot("watched", "echo", "1"))
        .await
        .unwrap_err();
    assert_eq!(
        (reason(&full).as_str(), executed(&full).as_str()),
        ("QUEUE_FULL", "no")
    );
    release(&mut broker, &held.lease_token).await;
    waiting.await.unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let dead = sublet::proto::PoolSpec {
        endpoints: vec![sublet::proto::Endpoint {
            address: format!("127.0.0.1:{port}"),
            ..sublet::proto::Endpoint::default()
        }],
        backend: Some(sublet::proto::pool_spec::Backend::Http(
            sublet::proto::HttpBackend::default(),
        )),
        ..echo(1)
    };
    create(&app.address, "dead", dead).await;
    let mut call = one_shot("dead", "request", "{}");
    call.options = Some(AcquireOptions {
        wait_timeout: Some(span(Duration::from_millis(300))),
        ..AcquireOptions::default()
    });
    let dead = execute(&mut broker, call).await.unwrap_err();
    assert_eq!(
        (reason(&dead).as_str(), executed(&dead).as_str()),
        ("BACKEND_UNREACHABLE", "no")
    );
}

#[tokio::test]
async fn etag_of_an_older_reading_is_refused() {
    let app = App::start().await;
    let first = create(&app.address, "watched", echo(1)).await;
    let update = |sessions| UpdatePoolRequest {
        pool: Some(sublet::proto::Pool {
            spec: Some(echo(sessions)),
            ..first.clone()
        }),
        ..UpdatePoolRequest::default()
    };
    pools(&app.address).update_pool(update(2)).await.unwrap();
    let stale = pools(&app.address).update_pool(update(3)).await.unwrap_err();
    assert_eq!(reason(&stale), "ETAG_MISMATCH");
    assert_eq!(stats(&app.address, "watched").await.max_sessions, 2);
}
