//! Notifications, and notices.

use serde_json::{Value as Json, json};
use sqlx::{AssertSqlSafe, Executor as _};
use sublet::proto::{event::Event, open_session_response::Message};

use super::{
    Stage,
    opened::Opened,
    staged::{next, stream, until},
    streams::event_of,
};
use crate::support::calls::*;

/// Whether somebody listens: the server keeps no list of others' channels, but of their last statements.
const LISTENING: &str = "select count(*) from pg_stat_activity where datname = current_database() \
                         and query ~ '^LISTEN' and state = 'idle'";

fn listen(channels: &[&str], count: u64) -> String {
    json!({ "channels": channels, "count": count }).to_string()
}

fn notification(event: Event) -> (String, String) {
    let Event::JsonText(text) = event else {
        panic!("{event:?}");
    };
    let shown: Json = serde_json::from_str(&text).unwrap();
    assert!(shown["process_id"].as_i64().unwrap() > 0);
    let part = |name: &str| shown[name].as_str().unwrap().to_owned();
    (part("channel"), part("payload"))
}

#[tokio::test]
async fn notifications_come_on_a_lease_until_enough_have_come() {
    let mut stage = Stage::with(2).await;
    let mut admin = stage.database.connect().await;
    let token = lease(&mut stage.broker, "db").await.lease_token;
    let name = "A \"channel\"; drop";
    let request = on_lease(&token, "listen", &listen(&[name, "b"], 3));
    let mut events = stream(&mut stage.broker, request).await.unwrap();
    assert!(matches!(next(&mut events).await, Ok(Some(Event::Accepted(_)))));
    until(&mut admin, LISTENING, 1).await;
    let notify = "select pg_notify('A \"channel\"; drop', 'é'), pg_notify('other', 'x')";
    admin.execute(notify).await.unwrap();
    assert_eq!(
        notification(next(&mut events).await.unwrap().unwrap()),
        (name.to_owned(), "é".to_owned())
    );
    admin.execute("notify b").await.unwrap();
    assert_eq!(
        notification(next(&mut events).await.unwrap().unwrap()),
        ("b".to_owned(), String::new())
    );
    admin.execute("notify b, '3'; notify b, '4'").await.unwrap();
    assert_eq!(notification(next(&mut events).await.unwrap().unwrap()).1, "3");
    assert!(
        matches!(next(&mut events).await, Ok(Some(Event::End(_)))),
        "three were asked for"
    );
    let channels = json!({ "sql": "select count(*)::int as n from pg_listening_channels()", "rows": "json" });
    assert_eq!(
        stage.on(&token, "query", channels).await.unwrap(),
        json!([{ "n": 0 }])
    );
}

#[tokio::test]
async fn notifications_come_in_an_open_session_and_a_cancelled_listen_leaves_it_usable() {
    let mut stage = Stage::with(1).await;
    let mut admin = stage.database.connect().await;
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let id = opened.call(operation("listen", &listen(&["a"], 0)), true, false);
    let behind = opened.call(operation("query", r#"{"sql":"select 1"}"#), false, false);
    assert!(matches!(event_of(&mut opened, id).await, Event::Accepted(_)));
    until(&mut admin, LISTENING, 1).await;
    for payload in ["1", "2", "3"] {
        admin
            .execute(AssertSqlSafe(format!("notify a, '{payload}'")))
            .await
            .unwrap();
        assert_eq!(
            notification(event_of(&mut opened, id).await),
            ("a".to_owned(), payload.to_owned())
        );
    }
    opened.cancel(id);
    let (answered, Message::Error(cancelled)) = opened.next().await.unwrap() else {
        panic!("a cancelled call says so");
    };
    assert_eq!((answered, cancelled.code), (id, 1));
    let (answered, answer) = opened.next().await.unwrap();
    assert_eq!(answered, behind);
    assert!(matches!(answer, Message::Result(_)), "{answer:?}");
    opened.finish().await;
    // The next holder hears nothing of it.
    let channels = "select count(*)::int as n from pg_listening_channels()";
    assert_eq!(stage.rows(channels).await, json!([{ "n": 0 }]));
    assert_eq!(stats(&stage.app.address, "db").await.sessions_created, 1);
}

#[tokio::test]
async fn what_came_before_the_listen_comes_first() {
    let mut stage = Stage::with(1).await;
    let mut admin = stage.database.connect().await;
    let token = lease(&mut stage.broker, "db").await.lease_token;
    stage
        .on(&token, "execute", json!({ "sql": "listen a" }))
        .await
        .unwrap();
    admin.execute("notify a, 'early'").await.unwrap();
    let came = stage
        .on(&token, "listen", json!({ "channels": ["a"], "count": 1 }))
        .await
        .unwrap();
    assert_eq!(came[0]["payload"], "early", "{came}");
}

#[tokio::test]
async fn listening_needs_a_lease_and_channels() {
    let mut stage = Stage::with(1).await;
    let refused = stage
        .one("listen", json!({ "channels": ["a"] }))
        .await
        .unwrap_err();
    assert!(refused.message().contains("needs a lease"), "{refused:?}");
    let token = lease(&mut stage.broker, "db").await.lease_token;
    for channels in [json!([]), json!([""]), json!(["x".repeat(64)]), json!(["a\0"])] {
        let refused = stage
            .on(&token, "listen", json!({ "channels": channels }))
            .await
            .unwrap_err();
        assert_eq!(
            refused.code(),
            tonic::Code::InvalidArgument,
            "{channels}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn notices_are_progress_in_a_stream_and_attributes_in_an_answer() {
    let mut stage = Stage::with(1).await;
    let sql = "do $$ begin raise notice 'first %', 1; raise warning 'second'; end $$";
    let params = json!({ "sql": sql }).to_string();
    let answer = stage.answer(one_shot("db", "execute", &params)).await.unwrap();
    assert_eq!(answer.attributes["notice.0"], "NOTICE: first 1");
    assert_eq!(answer.attributes["notice.1"], "WARNING: second");
    let mut events = stream(&mut stage.broker, one_shot("db", "execute", &params))
        .await
        .unwrap();
    let mut notices = Vec::new();
    while let Some(event) = next(&mut events).await.unwrap() {
        if let Event::Progress(notice) = event {
            notices.push(format!("{:?}", notice.fields["notice"]));
        }
    }
    assert_eq!(notices.len(), 2);
    assert!(
        notices[0].contains("first 1") && notices[0].contains("NOTICE"),
        "{notices:?}"
    );
    assert!(notices[1].contains("second") && notices[1].contains("WARNING") && notices[1].contains("01000"));
    // Many of them make no answer large, and none is another call's.
    let many = "do $$ begin for i in 1..500 loop raise notice '%', repeat('x', 5000); end loop; end $$";
    let answer = stage
        .answer(one_shot("db", "execute", &json!({ "sql": many }).to_string()))
        .await
        .unwrap();
    let notices: Vec<_> = answer
        .attributes
        .iter()
        .filter(|(name, _)| name.starts_with("notice."))
        .collect();
    assert_eq!(notices.len(), 10);
    assert!(notices.iter().all(|(_, text)| text.len() <= 512));
    let answer = stage
        .answer(one_shot("db", "execute", r#"{"sql":"select 1"}"#))
        .await
        .unwrap();
    assert!(
        answer.attributes.keys().all(|name| !name.starts_with("notice.")),
        "{answer:?}"
    );
}
