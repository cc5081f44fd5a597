//! One-shots: what they hold, what they refuse, and how they are cut.

use super::*;
use crate::{backend::Sink, broker::execute::Loan};

#[tokio::test(start_paused = true)]
async fn one_shot_borrows_a_session_and_gives_it_back() {
    let broker = broker_with(1);
    for turn in 0..3 {
        let answer =
            broker.execute_on_pool(one_shot(operation("echo", r#"{"b":1,"a":18446744073709551615}"#)));
        let answer = answer.await.unwrap();
        assert_eq!(json(&answer), r#"{"b":1,"a":18446744073709551615}"#);
        assert_eq!(answer.info.reused, turn > 0);
    }
    let stats = broker.pools.get("echo").unwrap().pool.stats();
    assert_eq!((stats.active, stats.idle, stats.sessions_created), (0, 1, 1));
    assert_eq!((stats.requests, stats.requests_ok), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn stateful_operation_asks_for_a_lease() {
    let broker = broker_with(1);
    let failure = broker
        .execute_on_pool(one_shot(operation("set", r#"{"value":1}"#)))
        .await
        .unwrap_err();
    assert!(failure.to_string().contains("needs a lease"), "{failure}");
    assert_eq!(failure.executed, Some(Executed::No));
}

#[tokio::test(start_paused = true)]
async fn unknown_operation_takes_no_session() {
    let broker = broker_with(1);
    let failure = broker
        .execute_on_pool(one_shot(operation("dance", "{}")))
        .await
        .unwrap_err();
    assert!(failure.to_string().contains("operation.name"), "{failure}");
    assert_eq!(broker.pools.get("echo").unwrap().pool.stats().acquires, 0);
}

#[tokio::test(start_paused = true)]
async fn no_wait_means_an_idle_session_or_nothing() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let mut call = one_shot(operation("echo", "1"));
    call.waiting.timeout = Some(Duration::ZERO);
    let failure = broker.execute_on_pool(call).await.unwrap_err();
    assert!(matches!(failure.error, Error::AcquireTimeout { .. }));
    broker.release(&token, false);
    let mut call = one_shot(operation("echo", "1"));
    call.waiting.timeout = Some(Duration::ZERO);
    broker.execute_on_pool(call).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_is_not_part_of_the_execute_timeout() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let call = lasting(SECOND, operation("sleep", r#"{"duration":"900ms"}"#));
    let waiting = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.execute_on_pool(one_shot(call)).await }
    });
    tokio::time::sleep(SECOND * 5).await;
    broker.release(&token, false);
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer.info.waited, SECOND * 5);
}

#[tokio::test(start_paused = true)]
async fn silent_backend_is_a_stall() {
    let broker = broker_with(1);
    let call = lasting(
        SECOND * 300,
        operation("sleep", r#"{"duration":"200s","id":"stalled"}"#),
    );
    let failure = broker.execute_on_pool(one_shot(call)).await.unwrap_err();
    assert!(failure.to_string().contains("stall"), "{failure}");
    assert_eq!(failure.executed, Some(Executed::Unknown));
    assert_eq!(received(&broker, "stalled").await, 1);
}

#[tokio::test(start_paused = true)]
async fn unary_answer_that_grows_too_large_is_cancelled() {
    let broker = broker_with(1);
    let call = operation("stream", r#"{"count":100,"size":65536}"#);
    let failure = broker.execute_on_pool(one_shot(call)).await.unwrap_err();
    assert!(
        matches!(failure.error, Error::ResponseTooLarge { .. }),
        "{failure:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn stream_yields_its_items_and_exactly_one_end() {
    let broker = broker_with(1);
    let call = one_shot(operation("stream", r#"{"count":100}"#));
    let mut stream = broker.stream_on_pool(call).await.unwrap();
    let mut items = 0;
    while stream.events.recv().await.is_some() {
        items += 1;
    }
    assert_eq!(items, 100);
    let end = stream.outcome.await.unwrap().unwrap();
    assert!(matches!(end.output, Output::None));
}

#[tokio::test(start_paused = true)]
async fn stream_that_nobody_reads_is_cancelled() {
    let broker = broker_with(1);
    let call = one_shot(lasting(SECOND * 300, operation("stream", r#"{"count":1000}"#)));
    let stream = broker.stream_on_pool(call).await.unwrap();
    let failure = stream.outcome.await.unwrap().unwrap_err();
    assert!(failure.to_string().contains("did not read"), "{failure}");
    broker
        .execute_on_pool(one_shot(operation("echo", "1")))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn stream_whose_reader_goes_is_cancelled_at_once() {
    let broker = broker_with(1);
    let call = one_shot(operation("stream", r#"{"count":1000,"interval":"1s"}"#));
    let mut stream = broker.stream_on_pool(call).await.unwrap();
    stream.events.recv().await.unwrap();
    let started = broker.clock().now();
    drop(stream);
    broker
        .execute_on_pool(one_shot(operation("echo", "1")))
        .await
        .unwrap();
    assert_eq!(broker.clock().now().since(started), Duration::ZERO);
}

/// What is said of the execution is what the backend's own record shows.
#[tokio::test(start_paused = true)]
async fn executed_is_true_to_what_the_backend_saw() {
    let broker = broker_with(1);
    let cases = [
        ("fail", r#"{"executed":"yes","id":"a"}"#, Executed::Yes, 1),
        ("drop", r#"{"when":"before","id":"b"}"#, Executed::No, 0),
        ("drop", r#"{"when":"after","id":"c"}"#, Executed::Unknown, 1),
        ("sleep", r#"{"duration":"200s","id":"d"}"#, Executed::Unknown, 1),
        ("sleep", r#"{"duration":"oops","id":"e"}"#, Executed::No, 0),
    ];
    for (name, params, expected, seen) in cases {
        let result = broker.execute_on_pool(one_shot(operation(name, params))).await;
        assert_eq!(executed(&result), Some(expected), "{name} {params}: {result:?}");
        let id: serde_json::Value = serde_json::from_str(params).unwrap();
        assert_eq!(
            received(&broker, id["id"].as_str().unwrap()).await,
            seen,
            "{name} {params}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn caller_hears_what_is_known_before_its_own_deadline() {
    let broker = broker_with(1);
    let mut call = operation("sleep", r#"{"duration":"20s"}"#);
    call.caller_deadline = Some(broker.clock().now() + SECOND);
    let started = broker.clock().now();
    let failure = broker.execute_on_pool(one_shot(call)).await.unwrap_err();
    assert!(matches!(failure.error, Error::ExecuteTimeout { .. }));
    assert_eq!(failure.executed, Some(Executed::Unknown));
    assert_eq!(broker.clock().now().since(started), Duration::from_millis(950));
}

/// Two one-shots of a pool, one in the middle of its call and one that has its session and handed nothing over yet.
async fn cut_by(cut: impl AsyncFnOnce(&Arc<Broker>)) -> [Failure; 2] {
    let broker = broker_with(2);
    let call = lasting(
        SECOND * 60,
        operation("sleep", r#"{"duration":"25s","id":"cut"}"#),
    );
    let running = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.execute_on_pool(one_shot(call)).await }
    });
    tokio::time::sleep(SECOND).await;
    let entry = broker.pools.get("echo").unwrap();
    let held = broker.take_session(&entry, &Waiting::default()).await.unwrap();
    let loan = Loan::new(&entry, held, broker.clock());
    cut(&broker).await;
    let idle = loan.run(operation("echo", "1"), Sink::collect(UNARY_LIMIT)).await;
    [running.await.unwrap().unwrap_err(), idle.unwrap_err()]
}

#[tokio::test(start_paused = true)]
async fn one_shot_whose_session_is_closed_hears_that_it_was_lost() {
    let told = cut_by(async |broker| {
        for session in broker.pools.get("echo").unwrap().pool.sessions() {
            broker.close_session("echo", &session.id).unwrap();
        }
    });
    let told = told.await;
    for (failure, executed) in told.iter().zip([Executed::Unknown, Executed::No]) {
        assert!(matches!(failure.error, Error::SessionLost { .. }), "{failure:?}");
        assert_eq!(failure.executed, Some(executed));
    }
}

#[tokio::test(start_paused = true)]
async fn one_shot_that_outlives_the_grace_hears_that_the_broker_stops() {
    let told = cut_by(async |broker| broker.drain(SECOND * 5).await).await;
    for (failure, executed) in told.iter().zip([Executed::Unknown, Executed::No]) {
        assert!(matches!(failure.error, Error::BrokerDraining), "{failure:?}");
        assert_eq!(failure.executed, Some(executed));
    }
}

#[tokio::test(start_paused = true)]
async fn one_shot_that_outlives_its_pool_hears_that_the_pool_was_deleted() {
    let told = cut_by(async |broker| {
        // Its last session closes only when the one-shots have given theirs back.
        tokio::spawn(Arc::clone(broker).remove_pool("echo", SECOND * 5, false));
        tokio::time::sleep(SECOND * 6).await;
    });
    let told = told.await;
    for (failure, executed) in told.iter().zip([Executed::Unknown, Executed::No]) {
        assert!(matches!(failure.error, Error::PoolDraining), "{failure:?}");
        assert_eq!(failure.executed, Some(executed));
    }
}
