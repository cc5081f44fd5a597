//! Where a session's events go: to a caller that streams, through a bounded channel, or into one unary answer.

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::sync::mpsc;

use super::Output;
use crate::proto;

/// One event of an answer.
#[derive(Debug)]
pub enum Event {
    /// HTTP status and headers.
    Head(proto::Head),
    /// Bytes, at most 64 KiB.
    Data(Bytes),
    /// Text.
    Text(String),
    /// One item, as JSON text.
    Json(String),
    /// Rows, at most 256 of them or 64 KiB.
    Rows(proto::Rows),
    /// Progress.
    Progress(prost_types::Struct),
    /// Usage.
    Usage(prost_types::Struct),
}

/// Why a sink takes no more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SinkClosed {
    /// The caller went away.
    #[error("the caller went away")]
    Gone,
    /// A unary answer would become too large.
    #[error("the answer is too large")]
    TooLarge,
    /// A part of the answer is larger than any may be, streamed or not.
    #[error("{what} larger than {limit} bytes")]
    PartTooLarge {
        /// Which part, with its verb: `one row is`.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Where events go.
#[derive(Debug)]
pub enum Sink {
    /// To a caller, who may be slow: sending waits.
    Stream(mpsc::Sender<Event>),
    /// Into one answer.
    Collect(Collected),
}

impl Sink {
    /// A sink that collects up to `limit` bytes.
    #[must_use]
    pub fn collect(limit: usize) -> Self {
        Self::Collect(Collected {
            limit,
            ..Collected::default()
        })
    }

    /// Whether events reach a caller one by one.
    #[must_use]
    pub const fn streams(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Sends an event, waiting while the caller does not read. If the future is dropped, the event may be lost.
    ///
    /// # Errors
    /// When the sink takes no more.
    pub async fn send(&mut self, event: Event) -> Result<(), SinkClosed> {
        match self {
            Self::Stream(events) => events.send(event).await.map_err(|_| SinkClosed::Gone),
            Self::Collect(collected) => collected.add(event),
        }
    }
}

/// Events collected into one answer.
#[derive(Debug, Default)]
pub struct Collected {
    limit: usize,
    size: usize,
    body: BytesMut,
    text: String,
    items: Vec<String>,
    rows: Option<proto::Rows>,
    attributes: Vec<(String, String)>,
    /// A head announced JSON.
    json: bool,
}

impl Collected {
    fn add(&mut self, event: Event) -> Result<(), SinkClosed> {
        self.size += size(&event);
        if self.size > self.limit {
            return Err(SinkClosed::TooLarge);
        }
        match event {
            Event::Head(head) => {
                self.json = announces_json(&head);
                self.attributes.extend(attributes(head));
            }
            Event::Data(bytes) => self.body.extend_from_slice(&bytes),
            Event::Text(text) => self.text.push_str(&text),
            Event::Json(item) => self.items.push(item),
            Event::Rows(rows) => self.add_rows(rows),
            Event::Progress(_) | Event::Usage(_) => {}
        }
        Ok(())
    }

    fn add_rows(&mut self, part: proto::Rows) {
        let all = self.rows.get_or_insert_default();
        if all.columns.is_empty() {
            all.columns = part.columns;
        }
        all.rows.extend(part.rows);
        all.affected += part.affected;
    }

    /// What was collected: at most one kind of output, and attributes.
    #[must_use]
    pub fn into_parts(self) -> (Output, Vec<(String, String)>) {
        let output = if let Some(rows) = self.rows {
            Output::Rows(rows)
        } else if !self.items.is_empty() {
            Output::Json(format!("[{}]", self.items.join(",")))
        } else if !self.text.is_empty() {
            Output::Json(serde_json::Value::String(self.text).to_string())
        } else if !self.body.is_empty() {
            body_output(self.body.freeze(), self.json)
        } else {
            Output::None
        };
        (output, self.attributes)
    }
}

/// Bytes as they are; as JSON text, untouched, if they were announced to be JSON and are.
fn body_output(body: Bytes, json: bool) -> Output {
    let is_json = json && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
    match std::str::from_utf8(&body) {
        Ok(text) if is_json => Output::Json(text.to_owned()),
        Ok(_) | Err(_) => Output::Body(body),
    }
}

/// Whether a head's content type is `application/json`, or one that ends in `+json`.
fn announces_json(head: &proto::Head) -> bool {
    let kind = head.headers.iter().find(|header| header.name == "content-type");
    let essence = kind
        .and_then(|header| header.value.split(';').next())
        .unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// An HTTP head as attributes: `status`, `header.NAME`, repeated ones joined with ", ".
fn attributes(head: proto::Head) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = vec![("status".to_owned(), head.status.to_string())];
    for header in head.headers {
        let name = format!("header.{}", header.name);
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, value)) => {
                value.push_str(", ");
                value.push_str(&header.value);
            }
            None => found.push((name, header.value)),
        }
    }
    found
}

fn size(event: &Event) -> usize {
    use prost::Message as _;
    match event {
        Event::Head(head) => head.encoded_len(),
        Event::Data(bytes) => bytes.len(),
        Event::Text(text) | Event::Json(text) => text.len() + 1,
        Event::Rows(rows) => rows.encoded_len(),
        Event::Progress(_) | Event::Usage(_) => 0,
    }
}
