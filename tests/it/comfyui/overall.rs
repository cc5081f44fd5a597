//! How much of a prompt is done.

use serde_json::json;

use super::*;

/// What was said to be done, each time.
fn overall(told: &[(Value, Vec<u8>)]) -> Vec<f64> {
    let progress = told.iter().filter(|(event, _)| event["event"] == "progress");
    progress
        .map(|(event, _)| event["overall"].as_f64().unwrap())
        .collect()
}

#[tokio::test]
async fn what_is_done_never_becomes_less_and_is_not_all_before_the_last_node_has_begun() {
    let mut stage = Stage::with(1).await;
    let mut workflow = saves();
    workflow["3"] = json!({ "class_type": "Steps", "inputs": { "steps": 4 } });
    let first = stage.stream(&json!({ "workflow": workflow })).await.all().await;
    // The results of its first two nodes are known now.
    let second = stage.stream(&json!({ "workflow": workflow })).await.all().await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(
        second
            .iter()
            .any(|(event, _)| event["event"] == "cached" && event["nodes"] == json!(["1", "2"]))
    );
    for told in [first, second] {
        let last = told
            .iter()
            .position(|(event, _)| event["event"] == "node" && event["node"] == "3");
        let (before, all) = (overall(&told[..last.unwrap()]), overall(&told));
        assert!(before.iter().all(|share| *share < 1.0), "{before:?}");
        assert!(all.is_sorted(), "{all:?}");
        assert_eq!(all.last(), Some(&1.0));
    }
}
