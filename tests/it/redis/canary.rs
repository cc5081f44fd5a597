//! Calls that are dropped at any point, and next holders who must not notice.

use std::time::Duration;

use serde_json::{Value, json};
use sublet::proto::{ExecuteRequest, ExecuteStreamRequest};
use tokio::time::timeout;

use super::Stage;
use crate::support::{
    calls::*,
    dice::{Dice, loops},
};

const LOOPS: u64 = 240;
/// Nothing takes so long.
const STEP: Duration = Duration::from_secs(30);

/// What is dropped: it names its own number, so that an answer to another call would be known.
fn work(dice: &mut Dice, tag: u64) -> ExecuteRequest {
    let command = |args: Value| one_shot("cache", "command", &json!({ "args": args }).to_string());
    match dice.roll(8) {
        0 => command(json!(["BLPOP", format!("never-{tag}"), 0])),
        1 => command(json!(["ECHO", tag.to_string()])),
        2 => command(json!(["LRANGE", "long", 0, -1])),
        3 => command(json!(["GET", "large"])),
        4 => command(json!([
            "EVAL",
            "for i = 1, 1000000 do end return ARGV[1]",
            0,
            tag
        ])),
        5 => {
            let commands: Vec<_> = (0..100)
                .map(|step| json!(["ECHO", format!("{tag}/{step}")]))
                .collect();
            let atomic = dice.roll(2) == 0;
            let params = json!({ "commands": commands, "atomic": atomic });
            one_shot("cache", "pipeline", &params.to_string())
        }
        6 => {
            let params = json!({ "channels": ["noise"], "count": 1_000_000 });
            one_shot("cache", "subscribe", &params.to_string())
        }
        _ => command(json!(["SET", "big", "x".repeat(1 << 20)])),
    }
}

/// Begins a call, unary or streamed, and drops it.
async fn drop_call(stage: &Stage, dice: &mut Dice, request: ExecuteRequest) {
    let (mut broker, streamed, some) = (stage.broker.clone(), dice.roll(2) == 0, dice.roll(20));
    let running = tokio::spawn(async move {
        if !streamed {
            return drop(execute(&mut broker, request).await);
        }
        let request = Some(request);
        let mut events = broker
            .execute_stream(ExecuteStreamRequest { request })
            .await
            .unwrap()
            .into_inner();
        for _ in 0..some {
            drop(events.message().await);
        }
    });
    dice.a_while().await;
    running.abort();
}

async fn ask(stage: &mut Stage, dice: &mut Dice, turn: u64) {
    let tag = dice.roll(1 << 31);
    let answer = stage.run(&format!("ECHO {tag}")).await;
    let answer = answer.unwrap_or_else(|failed| panic!("in loop {turn}: {failed:?}"));
    assert_eq!(answer, tag.to_string(), "in loop {turn}");
}

#[tokio::test]
async fn dropped_calls_reach_no_next_holder() {
    let mut stage = Stage::with(1).await;
    let fill = "for i = 1, 3000 do redis.call('RPUSH', 'long', string.rep('x', 1024)) end \
                redis.call('SETRANGE', 'large', 3000000, 'x')";
    stage
        .one("command", json!({ "args": ["EVAL", fill, 0] }))
        .await
        .unwrap();
    let mut dice = Dice::new(0x5DEE_CE66_D1CE_4E5B);
    for turn in 0..loops(LOOPS) {
        let request = work(&mut dice, turn);
        let step = async {
            if dice.roll(2) == 0 {
                drop_call(&stage, &mut dice, request).await;
            } else {
                let token = lease(&mut stage.broker, "cache").await.lease_token;
                let leased = ExecuteRequest {
                    operation: request.operation,
                    ..on_lease(&token, "", "")
                };
                drop_call(&stage, &mut dice, leased).await;
                release(&mut stage.broker, &token).await;
            }
            for _ in 0..3 {
                ask(&mut stage, &mut dice, turn).await;
            }
        };
        timeout(STEP, step)
            .await
            .unwrap_or_else(|_| panic!("in loop {turn} nothing happens"));
    }
}
