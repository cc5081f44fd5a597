//! The scripted box agrees with a conversation recorded from a real one.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{comfy_peer::Peer, comfy_run::PNG};

/// Prompts that are compared; after them the recorded box is slow, which is not.
const PROMPTS: usize = 8;

/// A conversation: what was asked and answered, and what was said of each prompt that ran.
struct Record {
    asked: Vec<Value>,
    said: HashMap<String, Vec<String>>,
}

fn recorded() -> Record {
    let text = include_str!("../support/recorded/comfyui.jsonl");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let asked = lines
        .iter()
        .filter(|line| line["http"] == "POST /prompt")
        .take(PROMPTS)
        .cloned()
        .collect();
    let mut said: HashMap<String, Vec<String>> = HashMap::new();
    for line in &lines {
        note(&line["ws_text"], &mut said);
    }
    Record { asked, said }
}

/// What was said, with the node it is about; how far a node is may be said any number of times.
fn note(told: &Value, said: &mut HashMap<String, Vec<String>>) {
    let (kind, data) = (told["type"].as_str().unwrap_or_default(), &told["data"]);
    let Some(id) = data["prompt_id"]
        .as_str()
        .filter(|_| !kind.starts_with("progress"))
    else {
        return;
    };
    let about = if data["node"].is_string() {
        data["node"].clone()
    } else {
        data["node_id"].clone()
    };
    said.entry(id.to_owned())
        .or_default()
        .push(format!("{kind} {about}"));
}

/// The shape of an answer: its values where they mean something, and what there is else.
fn shape(answer: &Value) -> Value {
    json!({
        "error": answer["error"], "node_errors": answer["node_errors"],
        "has_id": answer["prompt_id"].is_string(), "has_number": answer["number"].is_number(),
    })
}

#[tokio::test]
async fn the_scripted_box_says_what_a_real_one_said() {
    let record = recorded();
    assert_eq!(record.asked.len(), PROMPTS);
    let peer = Peer::start();
    let input = |name: &str| ("input".to_owned(), String::new(), name.to_owned());
    peer.change(|state| {
        state.files.insert(input("dot.png"), PNG.into());
        state.files.insert(input("dot (1).png"), b"no image"[..].into());
    });
    let url = format!("ws://{}/ws?clientId=me", peer.address());
    let socket = tokio::net::TcpStream::connect(peer.address()).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(url, socket).await.unwrap();
    for (number, line) in record.asked.iter().enumerate() {
        let mut body = line["request"].clone();
        body["client_id"] = json!("me");
        let (status, answer) = peer.submit(body);
        assert_eq!(json!(status.as_u16()), line["status"], "prompt {number}");
        assert_eq!(shape(&answer), shape(&line["response"]), "prompt {number}");
        let Some(id) = answer["prompt_id"].as_str() else {
            continue;
        };
        let mut said = HashMap::new();
        while said
            .get(id)
            .and_then(|said: &Vec<String>| said.last())
            .is_none_or(|last| last != "executing null")
        {
            if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
                note(&serde_json::from_str(&text).unwrap(), &mut said);
            }
        }
        let theirs = &record.said[line["response"]["prompt_id"].as_str().unwrap()];
        assert_eq!(&said[id], theirs, "prompt {number}");
    }
}
