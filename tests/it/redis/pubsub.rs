//! Subscriptions.

use serde_json::json;
use sublet::proto::event::Event;

use super::{RedisBackend, Stage, begin_stream, definition, items, next, words};
use crate::support::{app::App, calls::*, redis::Server};

/// Names of channels are the whole server's.
fn channel(stage: &Stage) -> String {
    stage.own.trim().replace("name=", "")
}

#[tokio::test]
async fn messages_come_until_there_are_enough() {
    let mut stage = Stage::with(1).await;
    let own = channel(&stage);
    let id = stage.run("CLIENT ID").await.unwrap();
    let params = json!({
        "channels": [format!("{own}a")], "patterns": [format!("{own}p*")], "sharded": [format!("{own}s")], "count": 3,
    });
    let mut stream = begin_stream(
        &mut stage.broker,
        one_shot("cache", "subscribe", &params.to_string()),
    )
    .await;
    let Event::Progress(subscribed) = next(&mut stream).await.unwrap() else {
        panic!("it says first that it has subscribed");
    };
    assert!(subscribed.fields.contains_key("subscribed"));
    for publish in ["PUBLISH {}a 1", "PUBLISH {}pp 2", "SPUBLISH {}s 3"] {
        assert_eq!(stage.admin.run(&publish.replace("{}", &own)).await, 1);
    }
    let mut seen = Vec::new();
    while let Event::JsonText(text) = next(&mut stream).await.unwrap() {
        seen.push(serde_json::from_str::<serde_json::Value>(&text).unwrap());
    }
    assert_eq!(
        seen,
        [
            json!({ "channel": format!("{own}a"), "payload": "1" }),
            json!({ "channel": format!("{own}pp"), "payload": "2", "pattern": format!("{own}p*") }),
            json!({ "channel": format!("{own}s"), "payload": "3", "sharded": true }),
        ]
    );
    // It has left everything, and goes on.
    stage.until(1, &["sub=0 ", "psub=0 "]).await;
    assert_eq!(stage.run("CLIENT ID").await.unwrap(), id);
}

#[tokio::test]
async fn a_count_may_be_answered_at_once() {
    let mut stage = Stage::with(1).await;
    let own = channel(&stage);
    let endless = stage
        .one("subscribe", json!({ "channels": [own] }))
        .await
        .unwrap_err();
    assert!(endless.message().contains("params.count"), "{endless:?}");
    let params = json!({ "channels": [own], "count": 1 }).to_string();
    let mut broker = stage.broker.clone();
    let call =
        tokio::spawn(async move { execute(&mut broker, one_shot("cache", "subscribe", &params)).await });
    stage.until(1, &["sub=1 "]).await;
    stage.admin.run(&format!("PUBLISH {own} x")).await;
    assert_eq!(
        call.await.unwrap().unwrap(),
        format!(r#"[{{"channel":"{own}","payload":"x"}}]"#)
    );
}

#[tokio::test]
async fn a_subscriber_who_goes_is_gone_at_the_server() {
    let mut stage = Stage::with(1).await;
    let own = channel(&stage);
    let params = json!({ "channels": [own] }).to_string();
    let mut stream = begin_stream(&mut stage.broker, one_shot("cache", "subscribe", &params)).await;
    next(&mut stream).await.unwrap();
    stage.until(1, &["sub=1 "]).await;
    drop(stream);
    stage.until(0, &["sub=1 "]).await;
    stage.admin.run(&format!("PUBLISH {own} late")).await;
    assert_eq!(stage.run("ECHO mine").await.unwrap(), "mine");
}

#[tokio::test]
async fn a_subscriber_who_does_not_read_pauses_the_server() {
    let mut stage = Stage::with(1).await;
    let own = channel(&stage);
    let params = json!({ "channels": [own], "count": 40_000 }).to_string();
    let mut stream = begin_stream(&mut stage.broker, one_shot("cache", "subscribe", &params)).await;
    next(&mut stream).await.unwrap();
    let payload = "x".repeat(1024);
    let mut published = 0;
    // The server keeps what it cannot send: then nobody reads any more.
    let name = stage.own.clone();
    while stage.admin.sessions(&["omem=0 ", &name]).await.len() == 1 {
        for _ in 0..100 {
            assert_eq!(stage.admin.run(&format!("PUBLISH {own} {payload}")).await, 1);
        }
        published += 100;
        assert!(
            published < 200_000,
            "the broker reads on for a caller who does not"
        );
    }
    for _ in published..40_000 {
        stage.admin.run(&format!("PUBLISH {own} x")).await;
    }
    // Nothing of it is lost.
    for _ in 0..40_000 {
        assert!(matches!(next(&mut stream).await.unwrap(), Event::JsonText(_)));
    }
    assert!(matches!(next(&mut stream).await.unwrap(), Event::End(_)));
}

#[tokio::test]
async fn a_holder_s_own_protocol_is_no_hindrance() {
    let mut stage = Stage::with(1).await;
    let own = channel(&stage);
    let token = lease(&mut stage.broker, "cache").await.lease_token;
    stage.run_on(&token, "HELLO 2").await.unwrap();
    let params = json!({ "channels": [own], "count": 1 }).to_string();
    let mut stream = begin_stream(&mut stage.broker, on_lease(&token, "subscribe", &params)).await;
    next(&mut stream).await.unwrap();
    stage.admin.run(&format!("PUBLISH {own} x")).await;
    assert!(matches!(next(&mut stream).await.unwrap(), Event::JsonText(_)));
    while stream.message().await.unwrap().is_some() {}
    stage.run_on(&token, "MULTI").await.unwrap();
    let inside = items(&mut stage.broker, on_lease(&token, "subscribe", &params)).await;
    assert!(inside.unwrap_err().message().contains("transaction"));
}

#[tokio::test]
async fn a_channel_that_the_user_may_not_hear_is_refused_and_nothing_is_left() {
    let server = Server::start_with("", |_| {});
    let mut stage = Stage::on_server(&server, 1).await;
    stage.admin.run("ACL SETUSER default resetchannels &open*").await;
    let params = json!({ "channels": ["open"], "patterns": ["closed*"], "count": 1 });
    let refused = stage.one("subscribe", params).await.unwrap_err();
    assert_eq!(
        (refused.code(), executed(&refused).as_str()),
        (tonic::Code::PermissionDenied, "no"),
        "{refused:?}"
    );
    stage.until(1, &["sub=0 ", "psub=0 "]).await;
    assert_eq!(stage.run("ECHO mine").await.unwrap(), "mine");
}

#[tokio::test]
async fn a_shard_that_moves_with_the_last_message_leaves_nothing_to_the_next_caller() {
    let bus = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = bus.local_addr().unwrap().port();
    drop(bus);
    let settings = format!("--cluster-enabled yes --cluster-require-full-coverage no --cluster-port {port}");
    let server = Server::start_with(&settings, |_| {});
    let mut admin = server.connect().await;
    assert_eq!(admin.run("CLUSTER ADDSLOTSRANGE 0 16383").await, "OK");
    // A node takes a moment to find that it is a cluster.
    while admin.run("SET a another").await != "OK" {}
    let slot = admin.run("CLUSTER KEYSLOT ch").await;
    let app = App::start().await;
    create(
        &app.address,
        "cache",
        definition(&server, 1, RedisBackend::default()),
    )
    .await;
    let mut broker = broker(&app.address);
    let params = json!({ "sharded": ["ch"], "count": 1 }).to_string();
    let mut stream = begin_stream(&mut broker, one_shot("cache", "subscribe", &params)).await;
    assert!(matches!(next(&mut stream).await.unwrap(), Event::Progress(_)));
    // One write of the server's brings both.
    admin.run("MULTI").await;
    admin.run("SPUBLISH ch x").await;
    admin.run(&format!("CLUSTER DELSLOTS {slot}")).await;
    assert_eq!(admin.run("EXEC").await, json!([1, "OK"]));
    assert!(matches!(next(&mut stream).await.unwrap(), Event::JsonText(_)));
    assert!(matches!(next(&mut stream).await.unwrap(), Event::End(_)));
    for (command, answer) in [("SET a own", "\"OK\""), ("GET a", "\"own\"")] {
        let call = one_shot("cache", "command", &words(command).to_string());
        assert_eq!(execute(&mut broker, call).await.unwrap(), answer, "{command}");
    }
}
