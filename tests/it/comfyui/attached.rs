//! Files that come with a prompt, as other languages write their names.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_file_is_put_in_however_its_name_is_written() {
    let mut stage = Stage::with(1).await;
    let params = json!({
        "workflow": {
            "1": { "class_type": "LoadImage", "inputs": { "image": "attachment:für 📷.png" } },
            "2": { "class_type": "SaveImage", "inputs": { "images": ["1", 0], "filename_prefix": "art" } },
        },
        "files": [{ "name": "für 📷.png", "base64": "iVBORw0KGgo=" }],
    });
    // Python's json.dumps writes it so.
    let params = params.to_string().replace("für 📷", r"f\u00fcr \ud83d\udcf7");
    let answer = execute(&mut stage.broker, one_shot("art", "queue_prompt", &params)).await;
    let answer: Value = serde_json::from_str(&answer.unwrap()).unwrap();
    assert_eq!(answer["files"][0]["filename"], "art_00001_.png");
    assert!(
        !stage
            .peer()
            .look(|state| state.submissions[0].contains("attachment:"))
    );
}

#[tokio::test]
async fn a_file_that_is_at_the_box_already_is_not_written_anew() {
    let mut stage = Stage::with(1).await;
    let params = json!({
        "workflow": only("Say", json!({ "text": "attachment:photo.png" })),
        "files": [{ "name": "photo.png", "base64": "iVBORw0KGgo=" }],
    });
    for _ in 0..2 {
        stage.run("queue_prompt", &params).await.unwrap();
    }
    stage.peer().look(|state| {
        assert_eq!(state.written, 1);
        assert_eq!(state.files.len(), 1);
    });
}

#[tokio::test]
async fn a_name_leaves_room_for_what_is_put_before_it() {
    let mut stage = Stage::with(1).await;
    let name = "x".repeat(201);
    let params = json!({
        "workflow": only("Say", json!({ "text": format!("attachment:{name}") })),
        "files": [{ "name": name, "base64": "iVBORw0KGgo=" }],
    });
    let status = stage.run("queue_prompt", &params).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
}
