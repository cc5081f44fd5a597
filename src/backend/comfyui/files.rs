//! Files of a box: what a finished prompt has put out, and their way to the caller and from it.

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};
use ring::digest;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    desk::{self, Answer, Desk},
    fault,
    plan::{File, Upload, View, Wanted},
};
use crate::{
    backend::{CallError, Event, Sink, SinkClosed, hex, http::Asked},
    proto,
};

/// A part of a file, at most.
const MAX_PART: usize = 1 << 20;

/// A text of an answer or an event, at most: what a gRPC client takes by default, less room for the rest of the message.
pub(super) const MAX_TEXT: usize = (4 << 20) - (64 << 10);

/// A file that a node has put out.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) node: String,
    /// What the node calls it: `images`, `audio`, `gifs`, …
    pub(super) key: String,
    pub(super) filename: String,
    pub(super) subfolder: String,
    pub(super) kind: String,
}

impl Found {
    pub(super) fn json(&self) -> Value {
        json!({
            "node": self.node, "key": self.key,
            "filename": self.filename, "subfolder": self.subfolder, "type": self.kind,
        })
    }
}

/// Puts a member into an object.
pub(super) fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

/// Every file in a prompt's outputs, whatever the nodes call them.
pub(super) fn listed(outputs: &RawValue, wanted: &Wanted) -> Vec<Found> {
    #[derive(Deserialize)]
    struct Named {
        filename: String,
        #[serde(default)]
        subfolder: String,
        #[serde(default)]
        r#type: String,
    }
    let nodes: serde_json::Map<String, Value> = serde_json::from_str(outputs.get()).unwrap_or_default();
    let mut found = Vec::new();
    for (node, keys) in nodes {
        let Some(keys) = keys.as_object().filter(|_| wanted.takes(&node)) else {
            continue;
        };
        for (key, values) in keys {
            let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
            for value in values {
                let Ok(named) = Named::deserialize(value) else {
                    continue;
                };
                found.push(Found {
                    node: node.clone(),
                    key: key.clone(),
                    filename: named.filename,
                    subfolder: named.subfolder,
                    kind: if named.r#type.is_empty() {
                        "output".to_owned()
                    } else {
                        named.r#type
                    },
                });
            }
        }
    }
    found
}

/// Streams a file: `output`, its bytes, `output_end`.
pub(super) async fn deliver(desk: &mut Desk, found: &Found, sink: &mut Sink) -> Result<(), CallError> {
    let mut path = "/view".to_owned();
    desk::parameter(&mut path, "filename", &found.filename);
    desk::parameter(&mut path, "type", &found.kind);
    desk::parameter(&mut path, "subfolder", &found.subfolder);
    let mut exchange = desk
        .open(&desk::asked(Method::GET, &path, "", Bytes::new()))
        .await?;
    if !exchange.head.status.is_success() {
        let status = exchange.head.status;
        exchange.finish(false).await;
        return Err(absent(found, status));
    }
    let header = |name| {
        exchange
            .head
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let mut event = found.json();
    let length = header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    put(&mut event, "event", json!("output"));
    put(&mut event, "content_type", json!(header(header::CONTENT_TYPE)));
    put(&mut event, "bytes", json!(length));
    send(sink, Event::Json(event.to_string())).await?;
    let mut total = 0;
    while let Some(part) = exchange.next().await? {
        total += part.len();
        send_bytes(sink, part).await?;
    }
    exchange.finish(true).await;
    let end =
        json!({ "event": "output_end", "node": found.node, "filename": found.filename, "bytes": total });
    send(sink, Event::Json(end.to_string())).await
}

fn absent(found: &Found, status: StatusCode) -> CallError {
    fault::of_answer(&Answer {
        status,
        headers: http::HeaderMap::new(),
        body: Bytes::from(format!("the file {} cannot be read", found.filename)),
    })
}

/// Hands an answer on as it comes: its status and content type, then its bytes.
pub(super) async fn relay(desk: &mut Desk, asked: &Asked, sink: &mut Sink) -> Result<(), CallError> {
    let mut exchange = desk.open(asked).await?;
    if !exchange.head.status.is_success() {
        let mut body = BytesMut::new();
        while let Some(part) = exchange.next().await? {
            // Enough for a message.
            if body.len() < MAX_PART {
                body.extend_from_slice(&part);
            }
        }
        let (status, headers) = (exchange.head.status, exchange.head.headers.clone());
        let body = exchange.redacted(&String::from_utf8_lossy(&body)).into();
        exchange.finish(true).await;
        return Err(fault::of_answer(&Answer {
            status,
            headers,
            body,
        }));
    }
    let head = proto::Head {
        status: i32::from(exchange.head.status.as_u16()),
        headers: content_type(&exchange.head.headers),
    };
    send(sink, Event::Head(head)).await?;
    while let Some(part) = exchange.next().await? {
        send_bytes(sink, part).await?;
    }
    exchange.finish(true).await;
    Ok(())
}

fn content_type(headers: &http::HeaderMap) -> Vec<proto::Header> {
    let kind = headers.get(header::CONTENT_TYPE);
    let told = kind.map(|value| proto::Header {
        name: "content-type".to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    });
    told.into_iter().collect()
}

/// A text that is an answer, if it fits one.
pub(super) fn fitting(text: String) -> Result<String, CallError> {
    if text.len() <= MAX_TEXT {
        return Ok(text);
    }
    Err(CallError::Sink(SinkClosed::PartTooLarge {
        what: "what the box tells is",
        limit: MAX_TEXT,
    }))
}

pub(super) async fn send_bytes(sink: &mut Sink, mut bytes: Bytes) -> Result<(), CallError> {
    while !bytes.is_empty() {
        let part = bytes.split_to(bytes.len().min(MAX_PART));
        send(sink, Event::Data(part)).await?;
    }
    Ok(())
}

pub(super) async fn send(sink: &mut Sink, event: Event) -> Result<(), CallError> {
    sink.send(event).await.map_err(CallError::Sink)
}

/// The request of `view`.
pub(super) fn view(view: &View) -> Asked {
    let mut path = "/view".to_owned();
    desk::parameter(&mut path, "filename", &view.filename);
    desk::parameter(&mut path, "type", view.r#type.word());
    desk::parameter(&mut path, "subfolder", &view.subfolder);
    for (name, value) in [("preview", &view.preview), ("channel", &view.channel)] {
        if let Some(value) = value {
            desk::parameter(&mut path, name, value);
        }
    }
    desk::asked(Method::GET, &path, "", Bytes::new())
}

/// What a file is called at the box, as workflows write it.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) name: String,
    #[serde(default)]
    pub(super) subfolder: String,
}

impl Stored {
    /// As an input of a node.
    pub(super) fn reference(&self) -> String {
        if self.subfolder.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.subfolder, self.name)
        }
    }
}

/// Uploads a file; the box says what it calls it.
pub(super) async fn upload(desk: &mut Desk, upload: &Upload, bytes: &[u8]) -> Result<Answer, CallError> {
    let overwrite = if upload.overwrite { "true" } else { "false" };
    let mut form = Form::new(bytes);
    form.field("type", upload.r#type.word());
    form.field("subfolder", &upload.subfolder);
    form.field("overwrite", overwrite);
    if let Some(original) = &upload.mask_of {
        form.field("original_ref", &reference(original));
    }
    form.file("image", &upload.name, bytes);
    let (kind, body) = form.end();
    let path = match upload.mask_of {
        Some(_) => "/upload/mask",
        None => "/upload/image",
    };
    let answer = desk.whole(&desk::asked(Method::POST, path, &kind, body)).await?;
    if answer.status.is_success() {
        Ok(answer)
    } else {
        Err(fault::of_answer(&answer))
    }
}

fn reference(file: &File) -> String {
    json!({ "filename": file.filename, "subfolder": file.subfolder, "type": file.r#type.word() }).to_string()
}

/// Uploads a file that came with a prompt, under a name made of what is in it: the same file is there once, however often
/// it comes, and two of the same name stay apart. It is never written anew: a prompt that runs may be reading it. The box
/// sees by itself that it has it.
pub(super) async fn attach(desk: &mut Desk, name: &str, bytes: &[u8]) -> Result<Stored, CallError> {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mark = hex::encode(digest.as_ref().get(..16).unwrap_or_default());
    let asked = Upload {
        name: format!("{mark}-{name}"),
        subfolder: "sublet".to_owned(),
        r#type: super::plan::Folder::Input,
        overwrite: false,
        mask_of: None,
    };
    upload(desk, &asked, bytes).await?.json()
}

/// A form with a file, as browsers send them.
struct Form {
    boundary: String,
    body: BytesMut,
}

impl Form {
    /// The boundary is random, so that nobody can put it into a file.
    fn new(bytes: &[u8]) -> Self {
        Self {
            boundary: format!("sublet-{}", uuid::Uuid::new_v4().simple()),
            body: BytesMut::with_capacity(bytes.len() + 1024),
        }
    }

    fn part(&mut self, about: &str, value: &[u8]) {
        let head = format!(
            "--{}\r\ncontent-disposition: form-data; {about}\r\n\r\n",
            self.boundary
        );
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(value);
        self.body.extend_from_slice(b"\r\n");
    }

    fn field(&mut self, name: &str, value: &str) {
        self.part(&format!("name=\"{name}\""), value.as_bytes());
    }

    fn file(&mut self, name: &str, filename: &str, bytes: &[u8]) {
        let about =
            format!("name=\"{name}\"; filename=\"{filename}\"\r\ncontent-type: application/octet-stream");
        self.part(&about, bytes);
    }

    fn end(mut self) -> (String, Bytes) {
        let end = format!("--{}--\r\n", self.boundary);
        self.body.extend_from_slice(end.as_bytes());
        (
            format!("multipart/form-data; boundary={}", self.boundary),
            self.body.freeze(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_found_whatever_its_node_calls_it() {
        let outputs = r#"{"2":{"images":[{"filename":"a.png","subfolder":"s","type":"temp"}],"text":["x"]},
            "10":{"gifs":[{"filename":"b.mp4","type":"output","format":"video/h264"}],"animated":[true]}}"#;
        let outputs = RawValue::from_string(outputs.to_owned()).unwrap();
        let mut wanted = Wanted::default();
        let found: Vec<_> = listed(&outputs, &wanted)
            .into_iter()
            .map(|file| (file.node, file.key, file.filename, file.subfolder, file.kind))
            .collect();
        let file = |node: &str, key: &str, name: &str, folder: &str, kind: &str| {
            (
                node.to_owned(),
                key.to_owned(),
                name.to_owned(),
                folder.to_owned(),
                kind.to_owned(),
            )
        };
        let mp4 = file("10", "gifs", "b.mp4", "", "output");
        assert_eq!(found, [mp4, file("2", "images", "a.png", "s", "temp")]);
        wanted.nodes = Some(vec!["2".to_owned()]);
        assert_eq!(listed(&outputs, &wanted).len(), 1);
    }
}
