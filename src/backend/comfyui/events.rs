//! What a box says on its socket, as far as it concerns one prompt.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{strange, truth::Ended as How};

/// Kinds of binary messages, by the number in front.
const PREVIEW: u32 = 1;
const TEXT: u32 = 3;
const PREVIEW_WITH_METADATA: u32 = 4;

/// A message, read.
#[derive(Debug)]
pub(super) enum Said {
    /// So much waits at the box and runs.
    Remaining(u32),
    /// About a prompt; without an id it is about the one that runs.
    About(Option<String>, Heard),
    /// Nothing that matters.
    Nothing,
}

/// What was said about a prompt.
#[derive(Debug)]
pub(super) enum Heard {
    /// It runs.
    Started,
    /// These nodes' results are known already.
    Cached(Vec<String>),
    /// A node runs.
    Node(String),
    /// How far it is.
    Progress(Progress),
    /// A node has put something out.
    Executed(String, Box<RawValue>),
    /// A branch was blocked by one of its nodes; the prompt goes on.
    Blocked(Box<RawValue>),
    /// An image.
    Image(Image),
    /// A text of a node's.
    Text(String, String),
    /// It has ended: the history says how, or is about to; here it was said if there is none.
    Ended(Option<How>),
}

/// How far a prompt is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Progress {
    pub(super) node: String,
    pub(super) value: f64,
    pub(super) max: f64,
    /// Nodes that have finished, where the box says so: all of them, each time.
    pub(super) finished: Vec<String>,
}

/// An image on the socket: a preview, or what a node put out there.
#[derive(Debug)]
pub(super) struct Image {
    /// The node, where the box says so.
    pub(super) node: Option<String>,
    pub(super) kind: String,
    pub(super) bytes: Bytes,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    prompt_id: Option<String>,
    node: Option<String>,
    nodes: Option<Box<RawValue>>,
    output: Option<Box<RawValue>>,
    value: f64,
    max: f64,
    status: Option<Status>,
    exception_type: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    exec_info: Exec,
}

#[derive(Deserialize)]
struct Exec {
    queue_remaining: u32,
}

/// Reads a text message. What is not understood is left out: boxes with extensions say all kinds of things.
pub(super) fn text(text: &str) -> Said {
    let text = strange::cured(text);
    let text = &*text;
    let Ok(message) = serde_json::from_str::<Message<'_>>(text) else {
        return Said::Nothing;
    };
    let data = message.data.map_or("{}", RawValue::get);
    let Ok(told) = serde_json::from_str::<Told>(data) else {
        return Said::Nothing;
    };
    if message.kind == "status" {
        return told.status.map_or(Said::Nothing, |status| {
            Said::Remaining(status.exec_info.queue_remaining)
        });
    }
    let id = told.prompt_id.clone();
    match heard(&message.kind, told, data) {
        Some(heard) => Said::About(id, heard),
        None => Said::Nothing,
    }
}

fn heard(kind: &str, told: Told, data: &str) -> Option<Heard> {
    Some(match kind {
        "execution_start" => Heard::Started,
        "execution_cached" => Heard::Cached(serde_json::from_str(told.nodes?.get()).ok()?),
        "executing" => match told.node {
            Some(node) => Heard::Node(node),
            None => Heard::Ended(None),
        },
        "progress" => Heard::Progress(Progress {
            node: told.node.unwrap_or_default(),
            value: told.value,
            max: told.max,
            finished: Vec::new(),
        }),
        "progress_state" => Heard::Progress(state(told.nodes?.get())?),
        "executed" => Heard::Executed(told.node?, told.output.filter(|output| output.get() != "null")?),
        "execution_error" if told.exception_type.as_deref() == Some(BLOCKED) => {
            Heard::Blocked(RawValue::from_string(data.to_owned()).ok()?)
        }
        "execution_success" => Heard::Ended(Some(How::Success)),
        "execution_interrupted" => Heard::Ended(Some(How::Interrupted)),
        "execution_error" => Heard::Ended(Some(How::Failed(RawValue::from_string(data.to_owned()).ok()))),
        _ => return None,
    })
}

const BLOCKED: &str = "ExecutionBlocked";

/// Whether an `execution_error` is only about a blocked branch.
pub(super) fn is_blocked(data: &str) -> bool {
    serde_json::from_str::<Told>(data).is_ok_and(|told| told.exception_type.as_deref() == Some(BLOCKED))
}

/// The node that runs, and those that have finished.
fn state(nodes: &str) -> Option<Progress> {
    #[derive(Deserialize)]
    struct Node {
        #[serde(default)]
        value: f64,
        #[serde(default)]
        max: f64,
        #[serde(default)]
        state: String,
    }
    let nodes: std::collections::BTreeMap<String, Node> = serde_json::from_str(nodes).ok()?;
    let finished = nodes.iter().filter(|(_, node)| node.state == "finished");
    let finished = finished.map(|(id, _)| id.clone()).collect();
    let running = nodes.into_iter().find(|(_, node)| node.state == "running");
    let (node, value, max) =
        running.map_or((String::new(), 0.0, 0.0), |(id, node)| (id, node.value, node.max));
    Some(Progress {
        node,
        value,
        max,
        finished,
    })
}

/// Reads a binary message.
pub(super) fn binary(mut bytes: Bytes) -> Said {
    match number(&mut bytes) {
        Some(PREVIEW) => {
            let kind = match number(&mut bytes) {
                Some(1) => "image/jpeg",
                Some(2) => "image/png",
                _ => "application/octet-stream",
            };
            Said::About(
                None,
                Heard::Image(Image {
                    node: None,
                    kind: kind.to_owned(),
                    bytes,
                }),
            )
        }
        Some(PREVIEW_WITH_METADATA) => with_metadata(bytes).unwrap_or(Said::Nothing),
        Some(TEXT) => node_text(bytes).unwrap_or(Said::Nothing),
        _ => Said::Nothing,
    }
}

fn with_metadata(mut bytes: Bytes) -> Option<Said> {
    #[derive(Deserialize)]
    struct About {
        node_id: Option<String>,
        prompt_id: Option<String>,
        image_type: Option<String>,
    }
    let length = usize::try_from(number(&mut bytes)?).ok()?;
    let about: About = serde_json::from_slice(&take(&mut bytes, length)?).ok()?;
    let image = Image {
        node: about.node_id,
        kind: about.image_type.unwrap_or_default(),
        bytes,
    };
    Some(Said::About(about.prompt_id, Heard::Image(image)))
}

fn node_text(mut bytes: Bytes) -> Option<Said> {
    let length = usize::try_from(number(&mut bytes)?).ok()?;
    let node = String::from_utf8(take(&mut bytes, length)?.to_vec()).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Some(Said::About(None, Heard::Text(node, text)))
}

fn number(bytes: &mut Bytes) -> Option<u32> {
    let first = take(bytes, 4)?;
    let four: [u8; 4] = first.as_ref().try_into().ok()?;
    Some(u32::from_be_bytes(four))
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_branch_is_no_end_and_a_failed_node_is() {
        let error = |kind: &str| {
            text(&format!(
                r#"{{"type":"execution_error","data":{{"prompt_id":"p","exception_type":"{kind}"}}}}"#
            ))
        };
        assert!(matches!(
            error("ExecutionBlocked"),
            Said::About(Some(_), Heard::Blocked(_))
        ));
        assert!(matches!(
            error("ValueError"),
            Said::About(Some(_), Heard::Ended(Some(How::Failed(_))))
        ));
    }

    #[test]
    fn images_come_with_metadata_and_without() {
        let plain = Bytes::from_static(b"\0\0\0\x01\0\0\0\x02abc");
        let Said::About(None, Heard::Image(image)) = binary(plain) else {
            panic!("it is an image");
        };
        assert_eq!(
            (image.kind.as_str(), image.bytes.as_ref()),
            ("image/png", &b"abc"[..])
        );
        let about = br#"{"node_id":"3","prompt_id":"p","image_type":"image/jpeg"}"#;
        let mut told = vec![0, 0, 0, 4, 0, 0, 0, u8::try_from(about.len()).unwrap()];
        told.extend_from_slice(about);
        told.extend_from_slice(b"abc");
        let Said::About(Some(id), Heard::Image(image)) = binary(told.into()) else {
            panic!("it is an image of a prompt");
        };
        assert_eq!((id.as_str(), image.node.as_deref()), ("p", Some("3")));
        assert_eq!(image.bytes.as_ref(), b"abc");
    }

    #[test]
    fn what_is_cut_short_or_strange_says_nothing() {
        for bytes in [&b""[..], b"\0\0", b"\0\0\0\x04\xff\xff\xff\xff", b"\0\0\0\x09x"] {
            assert!(matches!(binary(Bytes::copy_from_slice(bytes)), Said::Nothing));
        }
        for said in [
            "",
            "{}",
            r#"{"type":"crystools.monitor","data":{"cpu":1}}"#,
            r#"{"type":"executed","data":[]}"#,
        ] {
            assert!(matches!(text(said), Said::Nothing), "{said}");
        }
    }
}
