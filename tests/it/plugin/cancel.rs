//! A caller who goes away, is slow, or cancels.

use std::{env, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use super::*;

/// Where the client's broker is.
const BROKER: &str = "SUBLET_TEST_PLUGIN_CLIENT_OF";
const READY: &str = "in mid-stream";

/// The client that is killed; without a broker there is nothing to do.
#[tokio::test]
async fn client_in_mid_stream() {
    let Ok(address) = env::var(BROKER) else { return };
    let request = ExecuteStreamRequest {
        request: Some(one_shot("dev", "hang", "{}")),
    };
    let mut events = broker(&address)
        .execute_stream(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        next(&mut events).await.unwrap(),
        Some(Told::Text("begun".to_owned()))
    );
    use std::io::Write as _;
    let mut out = std::io::stdout();
    writeln!(out, "\n{READY}").unwrap();
    out.flush().unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn client_killed_in_mid_stream_stops_the_driver_and_costs_no_session() {
    let mut stage = Stage::with(1).await;
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "plugin::cancel::client_in_mid_stream", "--nocapture"])
        .env(BROKER, &stage.app.address)
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().unwrap().contains(READY) {}
    child.kill().await.unwrap();
    stage.driver.record.wait_for("hang cancelled", 1).await;
    stage.driver.record.wait_for("cancel answered", 1).await;
    assert_eq!(stage.one("echo", json!({})).await.unwrap(), json!({}));
    assert_eq!(stage.created().await, 1);
}

#[tokio::test]
async fn cancelled_call_on_a_lease_leaves_the_holder_its_session_and_state() {
    let mut stage = Stage::with(1).await;
    let token = lease(&mut stage.broker, "dev").await.lease_token;
    stage.on(&token, "set", json!({"value": 7})).await.unwrap();
    for name in ["hang", "wait"] {
        let mut broker = stage.broker.clone();
        let request = on_lease(&token, name, "{}");
        let call = tokio::spawn(async move {
            match name {
                "hang" => {
                    let request = ExecuteStreamRequest {
                        request: Some(request),
                    };
                    let mut events = broker.execute_stream(request).await.unwrap().into_inner();
                    while events.message().await.unwrap().is_some() {}
                }
                _ => drop(broker.execute(request).await),
            }
        });
        stage.driver.record.wait_for(&format!("{name} began"), 1).await;
        call.abort();
        stage
            .driver
            .record
            .wait_for(&format!("{name} cancelled"), 1)
            .await;
        let got = stage.on(&token, "get", json!({})).await.unwrap();
        assert_eq!(got, json!("7"), "after {name}");
    }
    assert_eq!(stage.driver.record.count("cancel answered"), 2);
    assert_eq!(stage.created().await, 1);
}

#[tokio::test]
async fn lease_released_while_its_call_is_being_cancelled_costs_no_session() {
    let mut stage = Stage::with(1).await;
    for round in 1..=20 {
        let token = lease(&mut stage.broker, "dev").await.lease_token;
        let mut events = stage.stream(on_lease(&token, "hang", "{}")).await;
        assert!(next(&mut events).await.unwrap().is_some());
        drop(events);
        release(&mut stage.broker, &token).await;
        stage.driver.record.wait_for("hang cancelled", round).await;
    }
    stage.one("echo", json!({})).await.unwrap();
    assert_eq!(stage.created().await, 1);
}

#[tokio::test]
async fn slow_reader_pauses_the_driver() {
    let mut stage = Stage::with(2).await;
    let items = 2000;
    let params = json!({"count": items, "size": 60_000}).to_string();
    let mut events = stage.stream(one_shot("dev", "count", &params)).await;
    assert!(matches!(next(&mut events).await.unwrap(), Some(Told::Data(_))));
    // Meanwhile others are served, each time after all that the driver could send has had its turn.
    for _ in 0..200 {
        stage.one("echo", json!({})).await.unwrap();
    }
    let taken = stage.driver.record.count("item");
    assert!(
        taken < items / 4,
        "{taken} of {items} items, which nobody has read"
    );
    let mut seen = 1;
    while let Some(Told::Data(_)) = next(&mut events).await.unwrap() {
        seen += 1;
    }
    assert_eq!(seen, items);
}

#[tokio::test]
async fn driver_that_does_not_end_a_cancelled_call_loses_its_session() {
    let mut stage = Stage::broken(1, Fault::BlocksOnCancel).await;
    let mut spec = definition(&stage.driver.address, 1);
    spec.timeouts = Some(sublet::proto::Timeouts {
        reset: Some(span(std::time::Duration::from_millis(50))),
        close: Some(span(std::time::Duration::from_millis(50))),
        ..sublet::proto::Timeouts::default()
    });
    create(&stage.app.address, "hasty", spec).await;
    let events = stage.stream(one_shot("hasty", "hang", "{}")).await;
    stage.driver.record.wait_for("hang began", 1).await;
    drop(events);
    stage.driver.record.wait_for("cancel", 1).await;
    let text = execute(&mut stage.broker, one_shot("hasty", "echo", "{}"))
        .await
        .unwrap();
    assert_eq!(text, "{}");
    assert_eq!(stats(&stage.app.address, "hasty").await.sessions_created, 2);
}
