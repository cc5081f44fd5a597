//! Calls that are dropped at any point, by many at once: no box ever has two prompts of ours on its one slot, nothing is
//! left there, and somebody else's prompts go on.

use serde_json::json;
use sublet::proto::{GetPoolStatsRequest, RevokeLeaseRequest, stats_service_client::StatsServiceClient};
use tokio::{sync::watch, time::timeout};

use super::*;
use crate::support::dice::{Dice, loops};

const LOOPS: u64 = 120;
/// Those who call and go, at the same time: more than there are boxes.
const CALLERS: u64 = 6;
const BOXES: usize = 3;
/// Nothing takes so long.
const STEP: Duration = Duration::from_secs(60);

/// How a prompt's caller goes.
const WAYS: [&str; 6] = [
    "one-shot dropped",
    "stream dropped",
    "call on a lease dropped",
    "lease released",
    "lease revoked",
    "answered",
];

/// What is dropped: a prompt that does not end by itself, one that does soon, one with a file.
fn work(dice: &mut Dice) -> Value {
    match dice.roll(4) {
        0 => json!({ "workflow": only("Gate", json!({})) }),
        1 => json!({ "workflow": only("Late", json!({})) }),
        2 => json!({ "workflow": only("Steps", json!({ "steps": 20 })), "preview_fps": 30 }),
        _ => json!({
            "workflow": { "1": { "class_type": "LoadImage", "inputs": { "image": "attachment:a" } },
                          "2": { "class_type": "Gate", "inputs": { "image": ["1", 0] } } },
            "files": [{ "name": "a", "base64": "iVBORw0KGgo=" }],
        }),
    }
}

async fn drop_call(broker: &Broker, dice: &mut Dice, request: ExecuteRequest) {
    let mut broker = broker.clone();
    let running = tokio::spawn(async move { drop(broker.execute(request).await) });
    dice.a_while().await;
    running.abort();
}

async fn drop_stream(broker: &Broker, dice: &mut Dice, request: ExecuteRequest) {
    let (mut broker, some) = (broker.clone(), dice.roll(8));
    let running = tokio::spawn(async move {
        let mut events = stream(&mut broker, request).await;
        for _ in 0..some {
            if events.next().await.is_err() {
                return;
            }
        }
    });
    dice.a_while().await;
    running.abort();
}

async fn end_lease(address: &str, broker: &mut Broker, dice: &mut Dice, params: &str, way: &str) {
    let granted = lease(broker, "art").await;
    let request = on_lease(&granted.lease_token, "queue_prompt", params);
    let mut other = broker.clone();
    let running = tokio::spawn(async move { drop(other.execute(request).await) });
    dice.a_while().await;
    match way {
        "call on a lease dropped" => running.abort(),
        "lease revoked" => {
            let lease_id = granted.lease.unwrap().id;
            let revoke = RevokeLeaseRequest { lease_id };
            pools(address).revoke_lease(revoke).await.unwrap();
        }
        _ => {}
    }
    // One that was revoked is gone already.
    let request = sublet::proto::ReleaseLeaseRequest {
        lease_token: granted.lease_token,
        discard: false,
    };
    drop(broker.release_lease(request).await);
}

async fn one_caller(address: String, number: u64) {
    let (mut broker, mut dice) = (broker(&address), Dice::new(0x5DEE_CE66_D1CE_4E5B + number));
    for turn in 0..loops(LOOPS) / CALLERS {
        let way = WAYS[usize::try_from(turn + number).unwrap() % WAYS.len()];
        let params = work(&mut dice).to_string();
        let request = one_shot("art", "queue_prompt", &params);
        let step = async {
            match way {
                "one-shot dropped" => drop_call(&broker, &mut dice, request).await,
                "stream dropped" => drop_stream(&broker, &mut dice, request).await,
                "answered" => {
                    let whole = json!({ "workflow": saves() }).to_string();
                    execute(&mut broker, one_shot("art", "queue_prompt", &whole))
                        .await
                        .unwrap();
                }
                _ => end_lease(&address, &mut broker, &mut dice, &params, way).await,
            }
        };
        timeout(STEP, step)
            .await
            .unwrap_or_else(|_| panic!("{way}, caller {number}, turn {turn}: nothing happens"));
    }
}

/// Somebody else at a box, whose prompts each end well when they are let go on.
async fn somebody_else(peer: &Peer, over: watch::Receiver<bool>) {
    let mut dice = Dice::new(0x2545_F491_4F6C_DD1D);
    for number in 0.. {
        if *over.borrow() {
            return;
        }
        peer.put(&theirs(number), only("Gate", json!({})));
        // It may be one of ours that is let go on.
        while !peer.look(|state| state.ended.iter().any(|(id, _)| *id == theirs(number))) {
            dice.a_while().await;
            peer.open();
        }
    }
}

fn theirs(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_calls_reach_no_other_prompt() {
    let stage = Stage::with(BOXES).await;
    // One of them has the cancel of newer boxes.
    stage.peer().change(|state| state.modern = true);
    let address = stage.app.address.clone();
    let over = watch::Sender::new(false);
    let calling = async {
        let callers = (0..CALLERS).map(|number| tokio::spawn(one_caller(address.clone(), number)));
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        over.send_replace(true);
    };
    tokio::join!(calling, somebody_else(&stage.boxes[1], over.subscribe()));
    for (index, peer) in stage.boxes.iter().enumerate() {
        peer.until(|state| state.remaining() == 0).await;
        peer.look(|state| {
            assert_eq!(state.most, 1, "box {index}");
            let theirs = state.ended.iter().filter(|(id, _)| id.starts_with("00000000"));
            assert!(
                theirs.clone().all(|(_, how)| how == "success"),
                "{:?}",
                theirs.collect::<Vec<_>>()
            );
        });
        let request = at(
            &format!("box-{index}"),
            "queue_prompt",
            &json!({ "workflow": saves() }),
        );
        execute(&mut stage.broker.clone(), request).await.unwrap();
    }
    let mut statistics = StatsServiceClient::new(channel(&address));
    let asked = GetPoolStatsRequest {
        pool: "art".to_owned(),
    };
    let stats = statistics
        .get_pool_stats(asked)
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap();
    assert_eq!((stats.active_sessions, stats.waiters), (0, 0), "{stats:?}");
}
