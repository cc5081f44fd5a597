//! SIGTERM with live leases, under load.

use sublet::proto::{LeaseEnd, RenewLeaseRequest};

use crate::support::{calls::*, process::Process};

#[tokio::test]
async fn sigterm_lets_lease_holders_finish_and_exits_with_0() {
    let data = tempfile::tempdir().unwrap();
    let process = Process::serve(data.path(), None).await;
    create(&process.address, "echo", echo(4)).await;
    let mut broker = broker(&process.address);
    let held = lease(&mut broker, "echo").await;
    let load: Vec<_> = (0..8).map(|_| tokio::spawn(load(broker.clone()))).collect();
    process.terminate();
    let mut refusals = 0;
    for caller in load {
        refusals += caller.await.unwrap();
    }
    assert!(refusals >= 8, "every caller was refused in the end");
    let renew = RenewLeaseRequest {
        lease_token: held.lease_token.clone(),
        ttl: None,
    };
    let status = broker
        .renew_lease(renew)
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    assert_eq!(status.ended(), LeaseEnd::Unspecified);
    execute(&mut broker, on_lease(&held.lease_token, "echo", "1"))
        .await
        .unwrap();
    assert_eq!(release(&mut broker, &held.lease_token).await, LeaseEnd::Released);
    assert_eq!(process.exit_code().await, Some(0));
}

/// One-shots until the broker refuses; each ends in an answer, or in a refusal that says that nothing was executed.
async fn load(mut broker: Broker) -> u32 {
    loop {
        if let Err(status) = execute(&mut broker, one_shot("echo", "echo", "1")).await {
            assert_eq!(
                (reason(&status).as_str(), executed(&status).as_str()),
                ("BROKER_DRAINING", "no")
            );
            return 1;
        }
    }
}

#[tokio::test]
async fn what_was_refused_in_a_drain_succeeds_against_the_restarted_broker() {
    let data = tempfile::tempdir().unwrap();
    let process = Process::serve(data.path(), None).await;
    create(&process.address, "echo", echo(1)).await;
    let mut first = broker(&process.address);
    let _held = lease(&mut first, "echo").await;
    let mut second = broker(&process.address);
    let waiting = tokio::spawn(async move { execute(&mut second, one_shot("echo", "echo", "1")).await });
    while stats(&process.address, "echo").await.waiters < 1 {
        tokio::task::yield_now().await;
    }
    process.terminate();
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(
        (reason(&refused).as_str(), executed(&refused).as_str()),
        ("BROKER_DRAINING", "no")
    );
    process.kill().await;
    let restarted = Process::serve(data.path(), None).await;
    let mut third = broker(&restarted.address);
    assert_eq!(
        execute(&mut third, one_shot("echo", "echo", "1")).await.unwrap(),
        "1"
    );
}
