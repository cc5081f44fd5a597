//! Calls that are repeated: nothing runs twice, and every repeat learns the truth.

use super::*;
use crate::lease::End;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn repeatable_acquire(number: u128, contents: &str) -> AcquireLease {
    AcquireLease {
        request: Some(RequestId {
            id: id(number),
            fingerprint: Fingerprint::of(contents.as_bytes()),
        }),
        ..acquire_in(SECOND * 30)
    }
}

#[tokio::test(start_paused = true)]
async fn repeated_acquire_returns_the_same_lease() {
    let broker = broker_with(2);
    let first = broker.acquire_lease(repeatable_acquire(1, "a")).await.unwrap();
    let again = broker.acquire_lease(repeatable_acquire(1, "a")).await.unwrap();
    assert_eq!(first.leased.number, again.leased.number);
    let other = broker
        .acquire_lease(repeatable_acquire(1, "b"))
        .await
        .unwrap_err();
    assert!(matches!(other.error, Error::Invalid { .. }));
}

#[tokio::test(start_paused = true)]
async fn repeated_acquire_of_an_ended_lease_says_how_it_ended_for_60_seconds() {
    let broker = broker_with(2);
    let first = broker.acquire_lease(repeatable_acquire(1, "a")).await.unwrap();
    broker.revoke(&first.leased.id);
    tokio::time::sleep(SECOND * 59).await;
    let again = broker
        .acquire_lease(repeatable_acquire(1, "a"))
        .await
        .unwrap_err();
    assert!(matches!(again.error, Error::LeaseRevoked { .. }));
    tokio::time::sleep(SECOND * 2).await;
    broker.acquire_lease(repeatable_acquire(1, "a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn repeat_joins_the_waiting_acquire_and_its_place_lapses_with_the_last_joiner() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let pool = Arc::clone(&broker.pools.get("echo").unwrap().pool);
    let spawn = || {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { broker.acquire_lease(repeatable_acquire(1, "a")).await })
    };
    let (first, second) = (spawn(), spawn());
    tokio::task::yield_now().await;
    assert_eq!(pool.stats().waiters, 1, "one place for both");
    first.abort();
    first.await.unwrap_err();
    assert_eq!(pool.stats().waiters, 1);
    second.abort();
    second.await.unwrap_err();
    assert_eq!(pool.stats().waiters, 0);
    let third = spawn();
    tokio::task::yield_now().await;
    broker.release(&token, false);
    third.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn numbered_call_runs_once_however_often_it_is_repeated() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let call = || numbered(&token, 1, "sleep", r#"{"duration":"2s","id":"once"}"#);
    let (first, joined) = tokio::join!(broker.execute_on_lease(call()), broker.execute_on_lease(call()));
    let replayed = broker.execute_on_lease(call()).await.unwrap();
    assert!(Arc::ptr_eq(&first.unwrap(), &joined.unwrap()));
    assert_eq!(replayed.info.elapsed, SECOND * 2);
    broker.release(&token, false);
    assert_eq!(received(&broker, "once").await, 1);
}

#[tokio::test(start_paused = true)]
async fn numbered_call_runs_on_when_its_caller_goes() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let call = || numbered(&token, 1, "sleep", r#"{"duration":"5s","id":"on"}"#);
    let gone = tokio::time::timeout(SECOND, broker.execute_on_lease(call())).await;
    assert!(gone.is_err());
    broker.execute_on_lease(call()).await.unwrap();
    broker.release(&token, false);
    assert_eq!(received(&broker, "on").await, 1);
}

#[tokio::test(start_paused = true)]
async fn numbers_must_follow_each_other() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let gap = broker
        .execute_on_lease(numbered(&token, 3, "echo", "1"))
        .await
        .unwrap_err();
    assert!(matches!(gap.error, Error::SeqnoGap { got: 3, next: 1 }));
    for seqno in 1..=3 {
        broker
            .execute_on_lease(numbered(&token, seqno, "echo", "1"))
            .await
            .unwrap();
    }
    let old = broker
        .execute_on_lease(numbered(&token, 2, "echo", "1"))
        .await
        .unwrap_err();
    assert!(matches!(old.error, Error::AlreadyExecuted));
    assert_eq!(old.executed, Some(Executed::Yes));
    let other = broker
        .execute_on_lease(numbered(&token, 3, "echo", "2"))
        .await
        .unwrap_err();
    assert!(matches!(other.error, Error::Invalid { .. }));
}

#[tokio::test(start_paused = true)]
async fn call_that_was_not_executed_uses_no_number() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    broker
        .execute_on_lease(numbered(&token, 1, "echo", "1"))
        .await
        .unwrap();
    let failed = broker
        .execute_on_lease(numbered(&token, 2, "fail", r#"{"executed":"no"}"#))
        .await;
    assert_eq!(executed(&failed), Some(Executed::No));
    let replayed = broker
        .execute_on_lease(numbered(&token, 1, "echo", "1"))
        .await
        .unwrap();
    assert_eq!(json(&replayed), "1", "the answer before is still the last one");
    broker
        .execute_on_lease(numbered(&token, 2, "echo", "2"))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn failed_call_s_error_is_replayed() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let call = || numbered(&token, 1, "fail", r#"{"executed":"yes","id":"f"}"#);
    for _ in 0..2 {
        let failure = broker.execute_on_lease(call()).await.unwrap_err();
        assert!(matches!(failure.error, Error::Backend(_)));
    }
    assert_eq!(
        executed(&broker.execute_on_lease(call()).await),
        Some(Executed::Yes)
    );
    broker.release(&token, false);
    assert_eq!(received(&broker, "f").await, 1);
}

#[tokio::test(start_paused = true)]
async fn outcome_of_a_call_cut_after_hand_over_stays_unknown() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let call = || {
        let mut call = numbered(&token, 1, "sleep", r#"{"duration":"20s"}"#);
        call.call.timeout = Some(SECOND);
        call
    };
    broker.execute_on_lease(call()).await.unwrap_err();
    let again = broker.execute_on_lease(call()).await.unwrap_err();
    assert!(matches!(again.error, Error::OutcomeUnknown { .. }));
    assert_eq!(again.executed, Some(Executed::Unknown));
    broker
        .execute_on_lease(numbered(&token, 2, "echo", "1"))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn streams_are_never_replayed() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let call = || numbered(&token, 1, "stream", r#"{"count":3}"#);
    let mut stream = broker.stream_on_lease(call()).await.unwrap();
    while stream.events.recv().await.is_some() {}
    stream.outcome.await.unwrap().unwrap();
    let again = broker.stream_on_lease(call()).await.unwrap_err();
    assert!(matches!(again.error, Error::AlreadyExecuted));
    let unary = broker.execute_on_lease(call()).await.unwrap_err();
    assert!(matches!(unary.error, Error::AlreadyExecuted));
}

#[tokio::test(start_paused = true)]
async fn numbered_stream_whose_reader_goes_is_of_unknown_outcome() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let call = || numbered(&token, 1, "stream", r#"{"count":300,"interval":"1s"}"#);
    let mut stream = broker.stream_on_lease(call()).await.unwrap();
    stream.events.recv().await.unwrap();
    drop(stream);
    tokio::time::sleep(SECOND).await;
    let again = broker.stream_on_lease(call()).await.unwrap_err();
    assert!(matches!(again.error, Error::OutcomeUnknown { .. }), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn one_shot_with_a_request_id_runs_once_and_is_kept_for_60_seconds() {
    let broker = broker_with(2);
    let call = || repeatable(id(1), "sleep", r#"{"duration":"2s","id":"s"}"#);
    let (first, joined) = tokio::join!(broker.execute_on_pool(call()), broker.execute_on_pool(call()));
    assert!(Arc::ptr_eq(&first.unwrap(), &joined.unwrap()));
    tokio::time::sleep(SECOND * 59).await;
    broker.execute_on_pool(call()).await.unwrap();
    assert_eq!(received(&broker, "s").await, 1);
    tokio::time::sleep(SECOND * 2).await;
    broker.execute_on_pool(call()).await.unwrap();
    assert_eq!(received(&broker, "s").await, 2, "forgotten, so it is a new call");
}

#[tokio::test(start_paused = true)]
async fn one_shot_that_was_not_executed_is_forgotten() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let call = || {
        let mut call = repeatable(id(1), "echo", "1");
        call.waiting.timeout = Some(SECOND);
        call
    };
    let failed = broker.execute_on_pool(call()).await;
    assert_eq!(executed(&failed), Some(Executed::No));
    broker.release(&token, false);
    broker.execute_on_pool(call()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ended_leases_leave_no_answers_behind() {
    let broker = broker_with(1);
    for end in [End::Released, End::Expired] {
        let (_, token) = lease(&broker).await;
        broker
            .execute_on_lease(numbered(&token, 1, "echo", "1"))
            .await
            .unwrap();
        if end == End::Released {
            broker.release(&token, false);
        } else {
            tokio::time::sleep(SECOND * 11).await;
        }
    }
    assert_eq!(
        format!("{:?}", broker.replays.lock().answers)
            .matches("Kept {")
            .count(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn call_cut_by_its_lease_s_end_leaves_no_answer_behind() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let call = tokio::spawn({
        let (broker, token) = (Arc::clone(&broker), token.clone());
        async move {
            broker
                .execute_on_lease(numbered(&token, 1, "sleep", r#"{"duration":"5s"}"#))
                .await
        }
    });
    tokio::time::sleep(SECOND).await;
    broker.release(&token, false);
    call.await.unwrap().unwrap_err();
    assert_eq!(
        format!("{:?}", broker.replays.lock().answers)
            .matches("Kept {")
            .count(),
        0
    );
}
