//! Leases: their ends, what they leave, and what a call on them is told.

use super::*;
use crate::lease::End;

#[tokio::test(start_paused = true)]
async fn release_hands_the_session_to_the_next_in_line() {
    let broker = broker_with(1);
    let (first, token) = lease(&broker).await;
    let waiting = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.acquire_lease(acquire_in(SECOND * 30)).await.unwrap() }
    });
    tokio::task::yield_now().await;
    assert_eq!(broker.release(&token, false), End::Released);
    let second = waiting.await.unwrap();
    assert_eq!(first.session_id, second.leased.session_id);
    assert!(second.leased.reused);
    assert!(second.leased.fence_number > first.fence_number);
}

#[tokio::test(start_paused = true)]
async fn expired_lease_returns_its_session() {
    let broker = broker_with(1);
    let (first, token) = lease(&broker).await;
    let granted = broker.acquire_lease(acquire_in(SECOND * 30)).await.unwrap();
    assert_eq!(granted.leased.session_id, first.session_id);
    assert_eq!(broker.release(&token, false), End::Expired);
    let failure = broker
        .execute_on_lease(on_lease(&token, operation("echo", "1")))
        .await
        .unwrap_err();
    assert!(matches!(failure.error, Error::LeaseExpired { .. }), "{failure:?}");
    assert_eq!(failure.executed, Some(Executed::No));
}

#[tokio::test(start_paused = true)]
async fn kept_alive_lease_lives_until_its_hard_limit() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    for _ in 0..23 {
        tokio::time::sleep(SECOND * 5).await;
        assert!(broker.renew(&token, None).status.is_ok());
    }
    tokio::time::sleep(SECOND * 6).await;
    assert_eq!(broker.renew(&token, None).status.unwrap_err(), End::HardLimit);
}

#[tokio::test(start_paused = true)]
async fn long_call_does_not_let_its_lease_expire() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let sleep = operation("sleep", r#"{"duration":"25s"}"#);
    broker.execute_on_lease(on_lease(&token, sleep)).await.unwrap();
    let status = broker.renew(&token, None).status.unwrap();
    assert_eq!(status.ttl, SECOND * 10);
}

#[tokio::test(start_paused = true)]
async fn one_call_at_a_time_on_a_lease() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let slow = broker.execute_on_lease(on_lease(&token, operation("sleep", r#"{"duration":"5s"}"#)));
    let second = async {
        tokio::time::sleep(SECOND).await;
        broker
            .execute_on_lease(on_lease(&token, operation("echo", "2")))
            .await
    };
    let (slow, second) = tokio::join!(slow, second);
    assert!(slow.is_ok());
    assert!(matches!(second.unwrap_err().error, Error::LeaseBusy));
}

/// Each way to end a lease cuts the call that runs on it; what is known of its execution is what the backend saw.
#[tokio::test(start_paused = true)]
async fn every_end_cuts_the_running_call() {
    for end in [End::Released, End::Revoked, End::HardLimit] {
        let broker = broker_with(1);
        let policy = broker.pools.get("echo").unwrap().policy();
        let patient = Policy {
            stall: SECOND * 600,
            ..policy
        };
        broker.change_pool("echo", Settings::default(), patient, None);
        let (leased, token) = lease(&broker).await;
        let sleep = lasting(
            SECOND * 300,
            operation("sleep", r#"{"duration":"200s","id":"cut"}"#),
        );
        let call = tokio::spawn({
            let (broker, token) = (Arc::clone(&broker), token.clone());
            async move { broker.execute_on_lease(on_lease(&token, sleep)).await }
        });
        tokio::time::sleep(SECOND).await;
        if end == End::Released {
            assert_eq!(broker.release(&token, false), End::Released);
        } else if end == End::Revoked {
            assert_eq!(broker.revoke(&leased.id), End::Revoked);
        }
        let failure = call.await.unwrap().unwrap_err();
        let told = match &failure.error {
            Error::LeaseReleased => End::Released,
            Error::LeaseRevoked { .. } => End::Revoked,
            Error::LeaseExpired { how: "hard limit" } => End::HardLimit,
            _ => panic!("{failure:?}"),
        };
        assert_eq!(told, end);
        assert_eq!(failure.executed, Some(Executed::Unknown));
        assert_eq!(received(&broker, "cut").await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn session_goes_on_after_a_call_that_timed_out() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    broker
        .execute_on_lease(on_lease(&token, operation("set", r#"{"value":1}"#)))
        .await
        .unwrap();
    let sleep = lasting(SECOND, operation("sleep", r#"{"duration":"9s"}"#));
    let failure = broker
        .execute_on_lease(on_lease(&token, sleep))
        .await
        .unwrap_err();
    assert!(matches!(failure.error, Error::ExecuteTimeout { .. }));
    let answer = broker
        .execute_on_lease(on_lease(&token, operation("get", "{}")))
        .await
        .unwrap();
    assert_eq!(
        json(&answer),
        "1",
        "settled, not reset: the holder's state is still there"
    );
}

#[tokio::test(start_paused = true)]
async fn session_goes_on_after_its_caller_went_away_in_mid_call() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let sleep = on_lease(&token, operation("sleep", r#"{"duration":"9s"}"#));
    let gone = tokio::time::timeout(SECOND, broker.execute_on_lease(sleep)).await;
    assert!(gone.is_err(), "the caller has gone");
    tokio::task::yield_now().await;
    broker
        .execute_on_lease(on_lease(&token, operation("echo", "1")))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn next_holder_finds_nothing_of_the_last_one() {
    let broker = broker_with(1);
    let (first, token) = lease(&broker).await;
    broker
        .execute_on_lease(on_lease(&token, operation("set", r#"{"value":"secret"}"#)))
        .await
        .unwrap();
    broker.release(&token, false);
    let (second, token) = lease(&broker).await;
    let answer = broker
        .execute_on_lease(on_lease(&token, operation("get", "{}")))
        .await
        .unwrap();
    assert_eq!(json(&answer), "null");
    assert_eq!(first.session_id, second.session_id, "reset, not replaced");
}

#[tokio::test(start_paused = true)]
async fn discarded_session_is_closed() {
    let broker = broker_with(1);
    let (first, token) = lease(&broker).await;
    broker.release(&token, true);
    let (second, _) = lease(&broker).await;
    assert_ne!(first.session_id, second.session_id);
}

#[tokio::test(start_paused = true)]
async fn lost_session_ends_its_lease_and_says_so() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let drop = operation("drop", r#"{"when":"after","id":"lost"}"#);
    let failure = broker.execute_on_lease(on_lease(&token, drop)).await.unwrap_err();
    assert!(matches!(failure.error, Error::SessionLost { .. }), "{failure:?}");
    assert_eq!(broker.renew(&token, None).status.unwrap_err(), End::SessionLost);
    let again = broker
        .execute_on_lease(on_lease(&token, operation("echo", "1")))
        .await
        .unwrap_err();
    assert!(matches!(again.error, Error::SessionLost { .. }));
    assert_eq!(again.executed, Some(Executed::No));
    lease(&broker).await;
}

#[tokio::test(start_paused = true)]
async fn closing_a_session_revokes_its_lease() {
    let broker = broker_with(1);
    let (first, token) = lease(&broker).await;
    broker.close_session("echo", &first.session_id).unwrap();
    assert_eq!(broker.renew(&token, None).status.unwrap_err(), End::Revoked);
    let (second, _) = lease(&broker).await;
    assert_ne!(first.session_id, second.session_id);
    let absent = broker.close_session("echo", "nothing").unwrap_err();
    assert!(matches!(absent.error, Error::SessionNotFound { .. }));
}

#[tokio::test(start_paused = true)]
async fn stranger_s_token_is_as_unknown_as_an_absent_one() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let forged = format!("{}00", token.get(..token.len() - 2).unwrap());
    for token in [forged.as_str(), "sl1.0.7.999.00", "nonsense"] {
        let failure = broker
            .execute_on_lease(on_lease(token, operation("echo", "1")))
            .await
            .unwrap_err();
        assert!(matches!(failure.error, Error::LeaseNotFound));
        assert_eq!(broker.release(token, false), End::NotFound);
    }
    let earlier = broker
        .execute_on_lease(on_lease("sl1.0.6.1.00", operation("echo", "1")))
        .await;
    assert!(matches!(earlier.unwrap_err().error, Error::SessionLost { .. }));
}

#[tokio::test(start_paused = true)]
async fn caller_s_deadline_leaves_time_for_the_reason() {
    let broker = broker_with(1);
    let _held = lease(&broker).await;
    let started = broker.clock().now();
    let mut ask = acquire_in(SECOND * 30);
    ask.waiting.caller_deadline = Some(started + SECOND);
    let failure = broker.acquire_lease(ask).await.unwrap_err();
    assert!(matches!(failure.error, Error::AcquireTimeout { .. }));
    assert_eq!(broker.clock().now().since(started), Duration::from_millis(950));
}
