//! What a box says of a prompt, before the answer: an event, and perhaps bytes behind it.

use serde::Deserialize;
use serde_json::Value;

/// What `comfyui` calls the operation that begins a prompt.
const PROMPT: &str = "queue_prompt";
/// The operations of `comfyui` whose streams tell what happens.
const TELLING: [&str; 3] = [PROMPT, "wait", "fetch"];

/// Whether an operation begins a prompt.
pub(super) fn begins(operation: &str) -> bool {
    operation == PROMPT
}

/// Whether an operation's JSON is such events. Others' JSON is the answer, whatever is in it.
pub(super) fn tells(operation: &str) -> bool {
    TELLING.contains(&operation)
}

/// An event.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    /// So many prompts are before it.
    Queued(u64),
    /// It runs.
    Started,
    /// A node runs: its id, and its class.
    Node(String, Option<String>),
    /// Bytes follow that are none of the answer.
    Preview,
    /// A file; its bytes follow if they were asked for.
    Output(Output),
    /// All of the file has come, that many bytes.
    OutputEnd(Option<u64>),
    /// Something to be told.
    Notice(String),
    /// The prompt was left to run: how it is found again is the answer.
    Detached,
    /// What the prompt has put out, which is the answer.
    Done,
    /// Nothing that matters here: what it is about comes as an error, or is no news.
    Nothing,
}

/// A file that a node has put out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Output {
    /// None for an image that has no file.
    pub(super) filename: Option<String>,
    pub(super) content_type: String,
    /// Its size, where that is known.
    pub(super) bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Message {
    event: String,
    position: Option<u64>,
    node: Option<String>,
    class: Option<String>,
    filename: Option<String>,
    content_type: Option<String>,
    bytes: Option<u64>,
    message: Option<String>,
    text: Option<Value>,
}

/// Reads an event; none if it is something else, which is for the caller then.
pub(super) fn read(json: &str) -> Option<Told> {
    let said: Message = serde_json::from_str(json).ok()?;
    Some(match said.event.as_str() {
        "queued" => Told::Queued(said.position.unwrap_or_default()),
        "started" => Told::Started,
        "node" => Told::Node(said.node.unwrap_or_default(), said.class),
        "preview" => Told::Preview,
        "output" => Told::Output(Output {
            filename: said.filename,
            content_type: said.content_type.unwrap_or_default(),
            bytes: said.bytes,
        }),
        "output_end" => Told::OutputEnd(said.bytes),
        "text" => {
            let node = said.node.unwrap_or_default();
            Told::Notice(format!("node {node}: {}", words(said.text.as_ref())))
        }
        "warning" => Told::Notice(format!("warning: {}", said.message.unwrap_or_default())),
        "detached" => Told::Detached,
        "done" => Told::Done,
        "cached" | "error" | "cancelled" => Told::Nothing,
        _ => return None,
    })
}

/// A text, or several.
fn words(text: Option<&Value>) -> String {
    match text {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(texts)) => {
            let texts: Vec<_> = texts.iter().map(|text| words(Some(text))).collect();
            texts.join("\n")
        }
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_what_is_none_is_left_alone() {
        let output = Output {
            filename: Some("a.png".to_owned()),
            content_type: "image/png".to_owned(),
            bytes: Some(7),
        };
        let said = r#"{"event":"output","node":"2","filename":"a.png","content_type":"image/png","bytes":7}"#;
        assert_eq!(read(said), Some(Told::Output(output)));
        let unknown_size = r#"{"event":"output","filename":"a.png","content_type":null,"bytes":null}"#;
        assert!(matches!(
            read(unknown_size),
            Some(Told::Output(Output { bytes: None, .. }))
        ));
        assert_eq!(
            read(r#"{"event":"queued","position":3,"prompt_id":"p"}"#),
            Some(Told::Queued(3))
        );
        let text = r#"{"event":"text","node":"5","text":["a cat",["on",1]]}"#;
        assert_eq!(read(text), Some(Told::Notice("node 5: a cat\non\n1".to_owned())));
        for other in ["[1]", "{}", r#"{"event":"news"}"#, r#"{"event":1}"#] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
