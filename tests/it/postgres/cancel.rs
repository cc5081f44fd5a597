//! Calls that are dropped at any point, and next holders who must not notice: no 57014 that is not theirs, no row of
//! another's, and mostly the same session.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use sublet::proto::{ExecuteRequest, ExecuteStreamRequest, RevokeLeaseRequest};
use tokio::time::timeout;

use super::{Stage, opened::Opened};
use crate::support::{
    calls::*,
    dice::{Dice, loops},
};

const LOOPS: u64 = 300;
/// Nothing takes so long.
const STEP: Duration = Duration::from_secs(30);

/// How a call ends before its time.
const WAYS: [&str; 8] = [
    "one-shot dropped",
    "stream dropped",
    "call on a lease dropped",
    "lease released",
    "lease revoked",
    "open session's call cancelled",
    "open session dropped",
    "execute timeout",
];

/// What is cancelled: it names its own number, so that an answer to another call would be known.
fn work(dice: &mut Dice, tag: u64) -> ExecuteRequest {
    let query = |sql: String| one_shot("db", "query", &json!({ "sql": sql, "rows": "json" }).to_string());
    match dice.roll(8) {
        0 => query(format!("select {tag} as tag, pg_sleep(60)")),
        1 => query("select 'of another' as tag, pg_sleep(60)".to_owned()),
        2 => query(format!(
            "select {tag} as tag, g from generate_series(1, 100000000) g"
        )),
        3 => query(format!(
            "insert into filled select {tag}, repeat('x', 100) from generate_series(1, 100000) returning tag"
        )),
        4 => {
            let statements: Vec<_> = (0..40)
                .map(|step| json!({ "sql": format!("select {tag} as tag, pg_sleep({step} / 40.0)") }))
                .collect();
            let atomic = dice.roll(2) == 0;
            let params = json!({ "statements": statements, "atomic": atomic });
            one_shot("db", "batch", &params.to_string())
        }
        5 => {
            let sql = format!("select {tag}; select pg_sleep(0.01); select {tag}, pg_sleep(60)");
            one_shot("db", "simple", &json!({ "sql": sql }).to_string())
        }
        6 => {
            let mut copy = one_shot("db", "copy_in", r#"{"sql":"copy filled from stdin"}"#);
            copy.operation.as_mut().unwrap().body = format!("{tag}\tx\n").repeat(100_000).into();
            copy
        }
        _ => {
            let sql = format!("copy (select {tag} from generate_series(1, 100000000)) to stdout");
            one_shot("db", "copy_out", &json!({ "sql": sql }).to_string())
        }
    }
}

fn on(token: &str, request: ExecuteRequest) -> ExecuteRequest {
    ExecuteRequest {
        operation: request.operation,
        ..on_lease(token, "", "")
    }
}

/// Ordinary statements, on a lease or not; each answer must be that statement's own.
async fn ordinary(stage: &mut Stage, dice: &mut Dice, what: &str) {
    let token = if dice.roll(2) == 0 {
        None
    } else {
        Some(lease(&mut stage.broker, "db").await.lease_token)
    };
    for _ in 0..3 {
        ask(stage, dice, token.as_deref(), what).await;
    }
    if let Some(token) = token {
        release(&mut stage.broker, &token).await;
    }
}

async fn ask(stage: &mut Stage, dice: &mut Dice, token: Option<&str>, what: &str) {
    let tag = dice.roll(1 << 31);
    let (name, sql) = match dice.roll(3) {
        // Kept by the server, new to it, and text.
        0 => ("query", "select $1::int8::text as tag".to_owned()),
        1 => ("query", format!("select '{tag}' as tag")),
        _ => ("simple", format!("select '{tag}' as tag")),
    };
    let mut params = json!({ "sql": sql, "rows": "json" });
    if sql.contains('$') {
        params["args"] = json!([tag.to_string()]);
    }
    let answer = match token {
        None => stage.one(name, params).await,
        Some(token) => stage.on(token, name, params).await,
    };
    let answer = answer.unwrap_or_else(|failed| panic!("after {what}: {failed:?}"));
    assert_eq!(answer, json!([{ "tag": tag.to_string() }]), "after {what}");
}

/// Begins a call and drops it.
async fn drop_call(stage: &Stage, dice: &mut Dice, request: ExecuteRequest) {
    let mut broker = stage.broker.clone();
    let running = tokio::spawn(async move { execute(&mut broker, request).await });
    dice.a_while().await;
    running.abort();
}

async fn drop_stream(stage: &Stage, dice: &mut Dice, request: ExecuteRequest) {
    let mut broker = stage.broker.clone();
    let some = dice.roll(20);
    let request = ExecuteStreamRequest {
        request: Some(request),
    };
    let running = tokio::spawn(async move {
        let mut events = broker.execute_stream(request).await.unwrap().into_inner();
        for _ in 0..some {
            drop(events.message().await);
        }
        std::future::pending::<()>().await;
    });
    dice.a_while().await;
    running.abort();
}

/// The lease ends, or its call alone, while the call runs.
async fn end_leased(stage: &mut Stage, dice: &mut Dice, request: ExecuteRequest, way: &str) {
    let granted = lease(&mut stage.broker, "db").await;
    let token = granted.lease_token;
    let what = format!("{way}, {}", request.operation.as_ref().unwrap().name);
    let request = on(&token, request);
    let mut broker = stage.broker.clone();
    let running = tokio::spawn(async move { execute(&mut broker, request).await });
    dice.a_while().await;
    match way {
        "call on a lease dropped" => {
            running.abort();
            // The holder's own next call waits for no settling: it is told to come again.
            while let Err(busy) = stage.on(&token, "simple", json!({ "sql": "rollback" })).await {
                assert_eq!(reason(&busy), "LEASE_BUSY", "{what}: {busy:?}");
                tokio::task::yield_now().await;
            }
            ask(stage, dice, Some(&token), way).await;
        }
        "lease revoked" => {
            let lease_id = granted.lease.unwrap().id;
            let revoke = RevokeLeaseRequest { lease_id };
            pools(&stage.app.address).revoke_lease(revoke).await.unwrap();
        }
        _ => {}
    }
    release(&mut stage.broker, &token).await;
}

async fn end_opened(stage: &mut Stage, dice: &mut Dice, request: ExecuteRequest, way: &str) {
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let way = format!("{way}, {}", request.operation.as_ref().unwrap().name);
    opened.call(request.operation.unwrap(), false, false);
    dice.a_while().await;
    if way.contains("cancelled") {
        opened.cancel_latest();
        drop(opened.answer().await);
        opened.begin("query", r#"{"sql":"select 'mine' as tag","rows":"json"}"#, false);
        let answer = opened.answer().await;
        assert!(
            answer.as_ref().is_ok_and(|text| text.contains("mine")),
            "after {way}: {answer:?}"
        );
        opened.finish().await;
    }
}

async fn time_out(stage: &mut Stage, dice: &mut Dice, mut request: ExecuteRequest) {
    let limit = Duration::from_micros(100 << dice.roll(8));
    request.operation.as_mut().unwrap().timeout = Some(span(limit));
    // It may be done by then.
    drop(stage.call(request).await);
}

#[tokio::test]
async fn dropped_calls_reach_no_next_holder() {
    let loops = loops(LOOPS);
    let mut stage = Stage::with(1).await;
    let table = json!({ "sql": "create unlogged table filled (tag int8, fill text)" });
    stage.one("execute", table).await.unwrap();
    let mut dice = Dice::new(0x5DEE_CE66_D1CE_4E5B);
    let mut closed = BTreeMap::<String, u64>::new();
    let mut pid = backend(&mut stage).await;
    for turn in 0..loops {
        let way = WAYS[usize::try_from(turn).unwrap() % WAYS.len()];
        let request = work(&mut dice, turn);
        let name = request.operation.as_ref().unwrap().name.clone();
        let what = format!("{way}, {name}, loop {turn}");
        let step = async {
            match way {
                "one-shot dropped" => drop_call(&stage, &mut dice, request).await,
                "stream dropped" => drop_stream(&stage, &mut dice, request).await,
                "execute timeout" => time_out(&mut stage, &mut dice, request).await,
                opened if opened.starts_with("open") => {
                    end_opened(&mut stage, &mut dice, request, way).await;
                }
                _ => end_leased(&mut stage, &mut dice, request, way).await,
            }
            ordinary(&mut stage, &mut dice, &what).await;
        };
        timeout(STEP, step)
            .await
            .unwrap_or_else(|_| panic!("{what}: nothing happens"));
        let now = backend(&mut stage).await;
        // A stream that is reset discards its session.
        if now != pid && way != "open session dropped" {
            *closed.entry(format!("{way}, {name}")).or_default() += 1;
        }
        pid = now;
        if turn % 100 == 99 {
            stage
                .one("execute", json!({ "sql": "truncate filled" }))
                .await
                .unwrap();
        }
    }
    let lost: u64 = closed.values().sum();
    assert!(
        lost * 10 < loops,
        "{lost} sessions of {loops} were closed: {closed:#?}"
    );
}

async fn backend(stage: &mut Stage) -> Value {
    stage.rows("select pg_backend_pid() as pid").await
}
