//! Prompts on ComfyUI boxes, and their files.

use serde_json::{Value, json};
use sublet::proto::{ComfyUiBackend, Endpoint, pool_spec::Backend};

use super::*;
use crate::support::{comfy_peer::Peer, comfy_run::PNG};

async fn stage() -> (Stage, Peer) {
    let peer = Peer::start();
    let spec = PoolSpec {
        endpoints: vec![Endpoint {
            name: "attic".to_owned(),
            address: peer.address(),
            max_sessions: Some(1),
        }],
        backend: Some(Backend::Comfyui(ComfyUiBackend::default())),
        ..PoolSpec::default()
    };
    (Stage::with("art", spec).await, peer)
}

/// A workflow that saves images under these names.
fn saves(prefixes: &[&str]) -> String {
    let mut nodes = vec![
        r#""9": {"class_type": "EmptyImage", "inputs": {"width": 64, "seed": 18446744073709551615}}"#
            .to_owned(),
    ];
    for (number, prefix) in prefixes.iter().enumerate() {
        nodes.push(format!(
            r#""{number}": {{"class_type":"SaveImage","inputs":{{"images":["9", 0],"filename_prefix":{}}}}}"#,
            json!(prefix)
        ));
    }
    format!("{{ {} }}", nodes.join(",\n  "))
}

const PROMPT: [&str; 5] = ["--pool", "art", "queue_prompt", "--workflow", "flow.json"];

fn prompt(more: &[&'static str]) -> Vec<&'static str> {
    [&PROMPT[..], more].concat()
}

#[tokio::test]
async fn the_files_of_a_prompt_are_saved_whole_and_their_paths_told() {
    let (stage, peer) = stage().await;
    let workflow = saves(&["art"]);
    stage.write("flow.json", &workflow);
    let ran = stage.run(&prompt(&["--save", "out"])).await;
    assert_eq!(ran.well(), "out/art_00001_.png\n");
    let image = [PNG, b"art_00001_.png"].concat();
    assert_eq!(stage.read("out/art_00001_.png"), image);
    let sent = peer.look(|state| state.submissions[0].clone());
    assert!(sent.contains(&workflow), "byte for byte: {sent}");
    // The box has made nothing new, and gives the same file again.
    let again = stage.run(&prompt(&["--save", "out"])).await;
    assert_eq!(again.well(), "out/art_00001_ (1).png\n");
    assert_eq!(stage.list("out"), ["art_00001_ (1).png", "art_00001_.png"]);
}

#[tokio::test]
async fn without_a_folder_the_answer_is_what_the_prompt_has_put_out() {
    let (stage, _peer) = stage().await;
    stage.write("flow.json", saves(&["art"]));
    let ran = stage.run(&PROMPT).await;
    let done: Value = serde_json::from_str(ran.well()).unwrap();
    assert_eq!(done["files"][0]["filename"], "art_00001_.png");
    let bytes = stage.run(&prompt(&["{\"outputs\": \"bytes\"}"])).await;
    let done: Value = serde_json::from_str(bytes.well()).unwrap();
    assert_eq!(done["event"], "done");
    assert!(bytes.err.contains("give --save DIR"), "{bytes:?}");
    let view = r#"{"filename": "art_00001_.png"}"#;
    let seen = stage.run(&["--pool", "art", "view", view]).await;
    assert_eq!(
        (seen.code, seen.out.starts_with(PNG)),
        (Some(0), true),
        "{seen:?}"
    );
}

#[tokio::test]
async fn previews_are_not_saved_and_images_without_a_file_are() {
    let (stage, _peer) = stage().await;
    let workflow = json!({
        "1": { "class_type": "EmptyImage", "inputs": { "width": 64 } },
        "2": { "class_type": "Steps", "inputs": { "steps": 5 } },
        "3": { "class_type": "SaveImageWebsocket", "inputs": { "images": ["1", 0] } },
        "4": { "class_type": "Say", "inputs": { "text": "a cat" } },
    });
    stage.write("flow.json", workflow.to_string());
    let ran = stage
        .run(&prompt(&["{\"preview_fps\": 30}", "--save", "out"]))
        .await;
    assert_eq!(ran.well(), "out/queue_prompt.png\n");
    assert_eq!(stage.read("out/queue_prompt.png"), PNG);
    assert!(ran.err.contains("node 4: a cat\n"), "{ran:?}");
}

#[tokio::test]
async fn a_file_whose_name_leads_out_of_the_folder_is_not_saved() {
    let (stage, _peer) = stage().await;
    stage.write("flow.json", saves(&["../../evil", "/evil", "day/art", ".evil"]));
    let ran = stage.run(&prompt(&["--save", "some/out"])).await;
    let told = ran.ill(1);
    assert!(told.contains("leads out of the folder"), "{told}");
    assert!(told.contains("sublet: not saved: 3 of the files"), "{told}");
    assert_eq!(ran.text().lines().count(), 1);
    let saved = stage.list("some/out");
    assert!(saved.len() == 1 && saved[0].starts_with("art_"), "{saved:?}");
    assert_eq!(stage.list("some"), ["out"]);
    assert_eq!(stage.list("."), ["flow.json", "some"]);
}

#[tokio::test]
async fn attached_files_reach_the_box() {
    let (stage, peer) = stage().await;
    let workflow = json!({
        "1": { "class_type": "LoadImage", "inputs": { "image": "attachment:photo.png" } },
        "2": { "class_type": "SaveImage", "inputs": { "images": ["1", 0] } },
    });
    stage.write("flow.json", workflow.to_string());
    stage.write("photo", PNG);
    let attach = ["--attach", "photo.png=photo", "--save", "out"];
    stage.run(&prompt(&attach)).await.well();
    let kept = peer.look(|state| state.files.values().filter(|file| file.as_ref() == PNG).count());
    assert_eq!(kept, 1);
    // One that is larger than a message.
    let large = [PNG, &vec![7; 9 << 20][..]].concat();
    stage.write("large", &large);
    let refused = stage.run(&prompt(&["--attach", "photo.png=large"])).await;
    assert!(refused.ill(64).contains("`upload`"), "{refused:?}");
    let upload = [
        "--pool",
        "art",
        "upload",
        "{\"name\": \"large.png\"}",
        "--body",
        "large",
    ];
    let uploaded = stage.run(&upload).await;
    let uploaded: Value = serde_json::from_str(uploaded.well()).unwrap();
    assert_eq!(uploaded["reference"], "large.png");
    assert!(peer.look(|state| state.files.values().any(|file| *file == large)));
}

#[tokio::test]
async fn ctrl_c_interrupts_the_prompt_and_leaves_no_file() {
    let (stage, peer) = stage().await;
    let workflow = json!({ "1": { "class_type": "Gate", "inputs": {} } });
    stage.write("flow.json", workflow.to_string());
    let child = stage.command(&prompt(&["--save", "out"])).spawn().unwrap();
    let id = peer.runs().await;
    let seen = interrupt(child).await;
    assert_eq!(seen.0, Some(130), "{seen:?}");
    peer.until(|state| state.ended == [(id.clone(), "interrupted".to_owned())])
        .await;
    assert_eq!(stage.list("."), ["flow.json"]);
}

#[tokio::test]
async fn a_workflow_that_the_box_refuses_is_told_by_its_faults() {
    let (stage, _peer) = stage().await;
    stage.write(
        "flow.json",
        r#"{"3": {"class_type": "Masterpiece", "inputs": {}}}"#,
    );
    let refused = stage.run(&PROMPT).await;
    let fault = "\n  operation.params.workflow.3.class_type: missing_node_type: ";
    assert!(refused.ill(1).contains(fault), "{refused:?}");
}

#[tokio::test]
async fn a_prompt_that_is_left_to_run_tells_how_it_is_found_again() {
    let (stage, peer) = stage().await;
    stage.write("flow.json", saves(&["later"]));
    let ran = stage.run(&prompt(&["{\"detach\": true}", "--save", "out"])).await;
    let job: Value = serde_json::from_str(ran.well()).unwrap();
    peer.until(|state| !state.ended.is_empty()).await;
    let about = json!({ "prompt_id": job["prompt_id"] }).to_string();
    let again = |operation| {
        [
            "--pool",
            "art",
            "--endpoint",
            "attic",
            operation,
            &about,
            "--save",
            "out",
        ]
    };
    // Without a word about outputs: whoever saves wants their bytes.
    assert_eq!(stage.run(&again("wait")).await.well(), "out/later_00001_.png\n");
    assert_eq!(
        stage.run(&again("fetch")).await.well(),
        "out/later_00001_ (1).png\n"
    );
}

#[tokio::test]
async fn what_a_prompt_has_put_out_is_told_if_nothing_of_it_is_saved() {
    let (stage, _peer) = stage().await;
    stage.write("flow.json", saves(&["art"]));
    let ran = stage
        .run(&prompt(&["{\"outputs\": \"references\"}", "--save", "out"]))
        .await;
    let done: Value = serde_json::from_str(ran.well()).unwrap();
    assert_eq!(done["files"][0]["filename"], "art_00001_.png");
    assert_eq!(ran.err, "there was nothing to save\n");
    assert_eq!(stage.list("."), ["flow.json"], "no folder for nothing");
}

#[tokio::test]
async fn files_are_saved_to_the_last_although_nobody_reads_their_paths() {
    let (stage, _peer) = stage().await;
    stage.write("flow.json", saves(&["a", "b", "c"]));
    let mut child = stage.command(&prompt(&["--save", "out"])).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stage.list("out").len(), 3);
}

#[tokio::test]
async fn files_that_are_to_be_saved_do_not_come_with_a_whole_answer() {
    let (stage, _peer) = stage().await;
    stage.write("flow.json", saves(&["art"]));
    let refused = stage.run(&prompt(&["--whole", "--save", "out"])).await;
    assert!(refused.ill(64).contains("leave --whole out"), "{refused:?}");
    let whole = stage.run(&prompt(&["--whole"])).await;
    let done: Value = serde_json::from_str(whole.well()).unwrap();
    assert_eq!(done["files"][0]["filename"], "art_00001_.png");
}
