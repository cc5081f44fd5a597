//! Files on their way to a box and from it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::json;
use sublet::proto::{
    Call, Input, Open, OpenSessionRequest, open_session_request::Message as Sent,
    open_session_response::Message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::support::comfy_run::PNG;

fn loads(image: &str) -> Value {
    json!({
        "1": { "class_type": "LoadImage", "inputs": { "image": image } },
        "2": { "class_type": "SaveImage", "inputs": { "images": ["1", 0], "filename_prefix": "from" } },
    })
}

fn upload(name: &str, bytes: &[u8]) -> ExecuteRequest {
    let mut request = at("box-0", "upload", &json!({ "name": name }));
    request.operation.as_mut().unwrap().body = Bytes::copy_from_slice(bytes);
    request
}

#[tokio::test]
async fn a_file_that_comes_with_a_prompt_is_where_its_workflow_says() {
    let mut stage = Stage::with(1).await;
    let files = json!([{ "name": "photo.png", "base64": BASE64_STANDARD.encode(PNG) }]);
    let params = json!({ "workflow": loads("attachment:photo.png"), "files": files });
    for _ in 0..2 {
        let answer = stage.run("queue_prompt", &params).await.unwrap();
        assert_eq!(answer["files"].as_array().unwrap().len(), 1);
    }
    stage.peer().look(|state| {
        let inputs: Vec<_> = state
            .files
            .iter()
            .filter(|((folder, _, _), _)| folder == "input")
            .collect();
        assert_eq!(inputs.len(), 1, "the same file is there once");
        let ((_, subfolder, name), bytes) = inputs[0];
        assert_eq!((subfolder.as_str(), bytes.as_ref()), ("sublet", PNG));
        assert!(name.ends_with("-photo.png"), "{name}");
        assert!(state.submissions[0].contains(&format!("\"sublet/{name}\"")));
    });
}

#[tokio::test]
async fn an_uploaded_file_is_used_by_the_name_that_the_box_gave_it() {
    let mut stage = Stage::with(1).await;
    let mut references = Vec::new();
    for bytes in [PNG, b"no image"] {
        let answer = execute(&mut stage.broker, upload("dot.png", bytes))
            .await
            .unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        references.push(answer["reference"].as_str().unwrap().to_owned());
    }
    assert_eq!(references, ["dot.png", "dot (1).png"]);
    stage.prompt(loads(&references[0])).await.unwrap();
    let status = stage.prompt(loads(&references[1])).await.unwrap_err();
    assert_eq!(fact(&status, "exception"), "PIL.UnidentifiedImageError");
}

#[tokio::test]
async fn an_upload_keeps_every_byte() {
    let mut stage = Stage::with(1).await;
    let bytes: Vec<u8> = (0..1_000_000_u32)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    execute(&mut stage.broker, upload("big.bin", &bytes))
        .await
        .unwrap();
    let key = ("input".to_owned(), String::new(), "big.bin".to_owned());
    stage.peer().look(|state| assert_eq!(state.files[&key], bytes));
}

#[tokio::test]
async fn a_mask_names_its_image() {
    let mut stage = Stage::with(1).await;
    let params = json!({ "name": "mask.png", "mask_of": { "filename": "dot.png", "type": "input" } });
    let mut request = at("box-0", "upload", &params);
    request.operation.as_mut().unwrap().body = Bytes::from_static(PNG);
    execute(&mut stage.broker, request).await.unwrap();
    stage
        .peer()
        .look(|state| assert!(state.requests.contains(&"POST /upload/mask".to_owned())));
}

#[tokio::test]
async fn only_the_outputs_of_named_nodes_are_given() {
    let mut stage = Stage::with(1).await;
    let mut workflow = saves();
    workflow["3"] = json!({ "class_type": "PreviewImage", "inputs": { "images": ["1", 0] } });
    let params = json!({ "workflow": workflow, "output_nodes": ["3"], "outputs": "bytes" });
    let told = stage.stream(&params).await.all().await.unwrap();
    let files: Vec<_> = told
        .iter()
        .filter(|(event, _)| event["event"] == "output")
        .collect();
    assert_eq!(files.len(), 1);
    assert_eq!(
        (&files[0].0["node"], &files[0].0["type"]),
        (&json!("3"), &json!("temp"))
    );
}

#[tokio::test]
async fn a_large_file_comes_in_parts() {
    let mut stage = Stage::with(1).await;
    let large = Bytes::from(vec![7; 9 << 20]);
    stage.peer().change(|state| {
        state.files.insert(
            ("output".to_owned(), "film".to_owned(), "a.mp4".to_owned()),
            large.clone(),
        );
    });
    let view = one_shot("art", "view", r#"{"filename":"a.mp4","subfolder":"film"}"#);
    let mut stream = stream(&mut stage.broker, view).await;
    let (mut size, mut largest) = (0, 0);
    loop {
        match stream.next().await.unwrap() {
            Event::Data(bytes) => {
                size += bytes.len();
                largest = largest.max(bytes.len());
            }
            Event::End(_) => break,
            _ => {}
        }
    }
    assert_eq!(size, large.len());
    assert!(largest <= 1 << 20, "{largest}");
}

#[tokio::test]
async fn an_upload_may_come_in_parts() {
    let mut stage = Stage::with(1).await;
    let (out, messages) = mpsc::unbounded_channel();
    let send = |message: Sent| {
        let message = Some(message);
        out.send(OpenSessionRequest { message }).unwrap();
    };
    send(Sent::Open(Open {
        pool: "art".to_owned(),
        options: None,
    }));
    send(Sent::Call(Call {
        id: 1,
        operation: Some(operation("upload", r#"{"name":"film.mp4"}"#)),
        more_input: true,
        ..Call::default()
    }));
    let answers = stage
        .broker
        .open_session(UnboundedReceiverStream::new(messages))
        .await;
    let mut answers = answers.unwrap().into_inner();
    let mut left = 9 << 20;
    loop {
        match answers.message().await.unwrap().unwrap().message.unwrap() {
            Message::InputCredit(credit) if left > 0 => {
                let size = left.min(credit as usize);
                left -= size;
                send(Sent::Input(Input {
                    call_id: 1,
                    data: vec![7; size].into(),
                    last: left == 0,
                }));
            }
            Message::Result(_) => break,
            Message::Error(status) => panic!("{status:?}"),
            _ => {}
        }
    }
    let key = ("input".to_owned(), String::new(), "film.mp4".to_owned());
    stage
        .peer()
        .look(|state| assert_eq!(state.files[&key].len(), 9 << 20));
}
