//! Prompts that run, and where.

use std::collections::HashSet;

use serde_json::json;
use sublet::proto::result::Output;

use super::*;
use crate::support::comfy_run::PNG;

#[tokio::test]
async fn a_prompt_is_answered_with_what_its_files_are_called() {
    let mut stage = Stage::with(1).await;
    let answer = stage.prompt(saves()).await.unwrap();
    assert_eq!(answer["status"], "success");
    assert_eq!(answer["endpoint"], "box-0");
    assert_eq!(
        answer["files"],
        json!([{ "node": "2", "key": "images", "filename": "art_00001_.png", "subfolder": "", "type": "output" }])
    );
    assert_eq!(answer["outputs"]["2"]["images"][0]["filename"], "art_00001_.png");
    let view = one_shot("art", "view", r#"{"filename":"art_00001_.png"}"#);
    let result = stage
        .broker
        .execute(view)
        .await
        .unwrap()
        .into_inner()
        .result
        .unwrap();
    let Some(Output::Body(bytes)) = result.output else {
        panic!("a file is bytes: {result:?}");
    };
    assert!(bytes.starts_with(PNG));
    assert_eq!(result.attributes["header.content-type"], "image/png");
}

#[tokio::test]
async fn a_workflow_arrives_byte_for_byte() {
    let mut stage = Stage::with(1).await;
    let workflow = r#"{"9" : {"class_type":"SaveImage","inputs":{"z":1.0,"images":["10",0],"filename_prefix":"é\u00e9"}},
 "10":{"class_type":"KSampler","inputs":{"seed":18446744073709551615,"cfg":7.10,"a":1e3}}}"#;
    let params = format!(r#"{{"workflow":{workflow},"extra_data":{{"b":18446744073709551615, "a":1}}}}"#);
    execute(&mut stage.broker, one_shot("art", "queue_prompt", &params))
        .await
        .unwrap();
    let sent = stage.peer().look(|state| state.submissions[0].clone());
    assert!(
        sent.starts_with(&format!(r#"{{"prompt":{workflow},"client_id":"#)),
        "{sent}"
    );
    assert!(
        sent.contains(r#""extra_data":{"b":18446744073709551615, "a":1}"#),
        "{sent}"
    );
}

#[tokio::test]
async fn each_socket_has_a_client_id_of_its_own_and_prompts_carry_it() {
    let mut stage = Stage::with(2).await;
    let (mut one, mut two) = (stage.broker.clone(), stage.broker.clone());
    let first = lease(&mut one, "art").await;
    let second = lease(&mut two, "art").await;
    for lease in [&first, &second] {
        let params = json!({ "workflow": saves() }).to_string();
        execute(
            &mut stage.broker,
            on_lease(&lease.lease_token, "queue_prompt", &params),
        )
        .await
        .unwrap();
    }
    let mut ids = HashSet::new();
    for peer in &stage.boxes {
        peer.look(|state| {
            assert_eq!(state.client_ids.len(), 1);
            let sent: Value = serde_json::from_str(&state.submissions[0]).unwrap();
            assert_eq!(sent["client_id"], state.client_ids[0].as_str());
            ids.insert(state.client_ids[0].clone());
        });
    }
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn six_boxes_are_one_pool() {
    let stage = Stage::with(6).await;
    let mut running = Vec::new();
    for _ in 0..6 {
        let mut broker = stage.broker.clone();
        let params = json!({ "workflow": only("Gate", json!({})) }).to_string();
        running.push(tokio::spawn(async move {
            execute(&mut broker, one_shot("art", "queue_prompt", &params)).await
        }));
    }
    for peer in &stage.boxes {
        peer.runs().await;
    }
    stage.boxes.iter().for_each(Peer::open);
    let mut at = HashSet::new();
    for call in running {
        let answer: Value = serde_json::from_str(&call.await.unwrap().unwrap()).unwrap();
        at.insert(answer["endpoint"].as_str().unwrap().to_owned());
    }
    assert_eq!(at.len(), 6);
}

#[tokio::test]
async fn a_caller_may_name_the_box() {
    let mut stage = Stage::with(3).await;
    for index in [2, 0, 1, 2] {
        let name = format!("box-{index}");
        let answer = execute(
            &mut stage.broker,
            at(&name, "queue_prompt", &json!({ "workflow": saves() })),
        )
        .await
        .unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&answer).unwrap()["endpoint"],
            name.as_str()
        );
    }
}

#[tokio::test]
async fn a_box_with_less_in_its_queue_is_preferred() {
    let mut stage = Stage::with(2).await;
    // Both are known, and somebody else keeps the first one busy.
    for name in ["box-0", "box-1"] {
        execute(
            &mut stage.broker,
            at(name, "queue_prompt", &json!({ "workflow": saves() })),
        )
        .await
        .unwrap();
    }
    let busy = |state: &crate::support::comfy_peer::State| state.remaining() == 3;
    for number in 0..3 {
        let id = format!("00000000-0000-4000-8000-00000000000{number}");
        stage.boxes[1].put(&id, only("Gate", json!({})));
    }
    stage.boxes[1].until(busy).await;
    // What it says of its queue is heard in its own time: a look at it is certain.
    execute(&mut stage.broker, at("box-1", "queue", &json!({})))
        .await
        .unwrap();
    for _ in 0..3 {
        let answer = stage.prompt(saves()).await.unwrap();
        assert_eq!(answer["endpoint"], "box-0");
    }
}

#[tokio::test]
async fn an_endpoint_has_to_say_how_many_slots_it_has() {
    let app = App::start().await;
    let spec = PoolSpec {
        endpoints: vec![Endpoint {
            address: "ftp://box".to_owned(),
            ..Endpoint::default()
        }],
        sizing: Some(Sizing::default()),
        backend: Some(Backend::Comfyui(ComfyUiBackend {
            headers: [("origin".to_owned(), "http://x".to_owned())].into(),
            ..ComfyUiBackend::default()
        })),
        ..PoolSpec::default()
    };
    let status = pools(&app.address)
        .create_pool(named("art", spec))
        .await
        .unwrap_err();
    for field in [
        "endpoints[0].max_sessions",
        "endpoints[0].address",
        "comfyui.headers.origin",
    ] {
        assert!(status.message().contains(field), "{status:?}");
    }
}
