//! What a caller sees while a prompt runs.

use serde_json::json;

use super::*;
use crate::support::comfy_run::PNG;

#[tokio::test]
async fn a_stream_tells_what_happens_and_brings_previews_and_files() {
    let mut stage = Stage::with(1).await;
    let mut workflow = saves();
    workflow["3"] = json!({ "class_type": "Steps", "inputs": { "steps": 20 } });
    workflow["4"] = json!({ "class_type": "SaveImageWebsocket", "inputs": { "images": ["1", 0] } });
    workflow["5"] = json!({ "class_type": "Say", "inputs": { "text": "a cat" } });
    let params = json!({ "workflow": workflow, "preview_fps": 30, "outputs": "bytes" });
    let told = stage.stream(&params).await.all().await.unwrap();
    let kinds = kinds(&told);
    for kind in [
        "started",
        "cached",
        "node",
        "progress",
        "preview",
        "output",
        "output_end",
        "text",
        "done",
    ] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    assert_eq!(*kinds.last().unwrap(), "done");
    let of = |kind: &str| {
        told.iter()
            .filter(|(event, _)| event["event"] == kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("preview")[0].1, b"a small picture");
    let outputs = of("output");
    let (socket, file) = (outputs[0], outputs[1]);
    assert_eq!((socket.0["node"].as_str(), socket.1.as_slice()), (Some("4"), PNG));
    assert_eq!(socket.0["bytes"], PNG.len());
    assert_eq!(file.0["filename"], "art_00001_.png");
    assert_eq!(file.0["content_type"], "image/png");
    assert_eq!(file.0["bytes"], file.1.len());
    assert!(file.1.starts_with(PNG));
    let texts: Vec<_> = of("text")
        .into_iter()
        .map(|(event, _)| event["text"][0].clone())
        .collect();
    assert_eq!(texts, ["thinking", "a cat"]);
    let furthest = of("progress").last().unwrap().0["overall"].as_f64().unwrap();
    assert!(furthest > 0.5, "{furthest}");
    let sent = stage.peer().look(|state| state.submissions[0].clone());
    assert!(sent.contains(r#""preview_method":"auto""#), "{sent}");
}

#[tokio::test]
async fn previews_come_only_where_they_are_asked_for() {
    let mut stage = Stage::with(1).await;
    for (fps, some) in [(0, false), (30, true)] {
        for plain in [true, false] {
            let steps = only("Steps", json!({ "steps": 3, "plain": plain }));
            let params = json!({ "workflow": steps, "preview_fps": fps });
            let told = stage.stream(&params).await.all().await.unwrap();
            assert_eq!(kinds(&told).contains(&"preview"), some, "{fps} {plain}");
        }
    }
}

#[tokio::test]
async fn previews_are_no_more_than_were_asked_for() {
    let mut stage = Stage::with(1).await;
    // One in a thousand seconds: the first.
    let params = json!({ "workflow": only("Steps", json!({ "steps": 2000 })), "preview_fps": 0.001 });
    let told = stage.stream(&params).await.all().await.unwrap();
    let previews = kinds(&told).into_iter().filter(|kind| *kind == "preview").count();
    assert_eq!(previews, 1);
}

#[tokio::test]
async fn a_prompt_that_waits_is_told_how_many_are_before_it() {
    let mut stage = Stage::with(1).await;
    for number in 0..2 {
        let id = format!("00000000-0000-4000-8000-00000000000{number}");
        stage.peer().put(&id, only("Gate", json!({})));
    }
    let mut stream = stage.stream(&json!({ "workflow": saves() })).await;
    assert_eq!(stream.until("queued").await["position"], 2);
    stage.peer().open();
    stage.peer().open();
    stream.until("started").await;
    stream.until("done").await;
}

#[tokio::test]
async fn one_in_front_goes_first() {
    let mut stage = Stage::with(1).await;
    stage
        .peer()
        .put("00000000-0000-4000-8000-000000000001", only("Gate", json!({})));
    stage.peer().runs().await;
    stage
        .peer()
        .put("00000000-0000-4000-8000-000000000002", only("Gate", json!({})));
    let mut stream = stage.stream(&json!({ "workflow": saves(), "front": true })).await;
    assert_eq!(stream.until("queued").await["position"], 1);
    stage.peer().open();
    stream.until("done").await;
    assert_eq!(stage.peer().look(|state| state.ended.len()), 2);
}
