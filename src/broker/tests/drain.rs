//! The end of a broker, and of a pool.

use super::*;
use crate::lease::End;

#[tokio::test(start_paused = true)]
async fn drain_refuses_the_new_and_lets_holders_finish() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let waiting = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.acquire_lease(acquire_in(SECOND * 60)).await }
    });
    tokio::task::yield_now().await;
    let drained = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.drain(SECOND * 30).await }
    });
    let refused = waiting.await.unwrap().unwrap_err();
    assert!(matches!(refused.error, Error::BrokerDraining));
    let one_shot = broker
        .execute_on_pool(one_shot(operation("echo", "1")))
        .await
        .unwrap_err();
    assert!(matches!(one_shot.error, Error::BrokerDraining));
    assert_eq!(one_shot.executed, Some(Executed::No));
    tokio::time::sleep(SECOND * 5).await;
    assert!(broker.renew(&token, None).status.is_ok());
    broker
        .execute_on_lease(on_lease(&token, operation("echo", "1")))
        .await
        .unwrap();
    assert_eq!(broker.release(&token, false), End::Released);
    drained.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn drain_cuts_what_is_left_when_the_grace_ends() {
    let broker = broker_with(2);
    let (_, token) = lease(&broker).await;
    let call = on_lease(
        &token,
        lasting(SECOND * 60, operation("sleep", r#"{"duration":"25s"}"#)),
    );
    let one_shot = one_shot(lasting(SECOND * 60, operation("sleep", r#"{"duration":"25s"}"#)));
    let (call, one_shot, ()) = tokio::join!(
        broker.execute_on_lease(call),
        broker.execute_on_pool(one_shot),
        async {
            tokio::task::yield_now().await;
            broker.drain(SECOND * 10).await;
        }
    );
    let failure = call.unwrap_err();
    assert!(
        matches!(failure.error, Error::OutcomeUnknown { .. }),
        "never UNAVAILABLE: {failure:?}"
    );
    assert_eq!(failure.executed, Some(Executed::Unknown));
    assert_eq!(one_shot.unwrap_err().executed, Some(Executed::Unknown));
    assert_eq!(broker.renew(&token, None).status.unwrap_err(), End::BrokerStopped);
    assert_eq!(broker.pools.get("echo").unwrap().pool.stats().total, 0);
}

#[tokio::test(start_paused = true)]
async fn deleted_pool_waits_for_its_leases_then_revokes_them() {
    let broker = broker_with(1);
    let (_, token) = lease(&broker).await;
    let started = broker.clock().now();
    let removing = Arc::clone(&broker).remove_pool("echo", SECOND * 8, false);
    let holder = async {
        tokio::time::sleep(SECOND * 2).await;
        broker
            .execute_on_lease(on_lease(&token, operation("echo", "1")))
            .await
            .unwrap();
        let refused = broker.acquire_lease(acquire_in(SECOND)).await.unwrap_err();
        assert!(matches!(refused.error, Error::PoolDraining));
    };
    tokio::join!(removing, holder);
    assert_eq!(broker.clock().now().since(started), SECOND * 8);
    let told = broker
        .execute_on_lease(on_lease(&token, operation("echo", "1")))
        .await
        .unwrap_err();
    assert!(matches!(told.error, Error::LeaseRevoked { how: "pool deleted" }));
    assert!(broker.pools.get("echo").is_err());
}
