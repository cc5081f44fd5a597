//! Following a prompt from the queue to its end. Events say what happens and when it is worth asking; what the box
//! answers when it is asked decides. Without a socket asking is all there is.

mod asking;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use prost_types::{Struct, Value, value::Kind};
use serde_json::{json, value::RawValue};

use super::{
    desk::Desk,
    events::{Heard, Image, Progress},
    feed::{Feed, Next},
    files, outputs,
    overall::Overall,
    place::Place,
    plan::{Prompt, Wanted},
    truth::{Ended, History},
};
use crate::{
    backend::{CallError, Event, Sink},
    clock::Time,
};

/// How often a box is asked while its socket lives: events may be lost all the same.
const ASK_SELDOM: Duration = Duration::from_secs(5);
/// How often without its socket.
const ASK_OFTEN: Duration = Duration::from_secs(1);
/// How often after it has said that the prompt has ended: the history is written a little later.
const ASK_NOW: Duration = Duration::from_millis(50);
/// How long what was said before the end is waited for once the box has the history: it is on its way.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A prompt that is followed.
pub(super) struct Follow<'a> {
    pub(super) place: &'a Place,
    pub(super) prompt: &'a Prompt,
    pub(super) id: &'a str,
    pub(super) feed: &'a Feed,
    pub(super) desk: &'a mut Desk,
    pub(super) sink: &'a mut Sink,
    pub(super) tale: Tale,
}

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Tale {
    started: bool,
    /// It was said that it has ended; so often was the history asked for since.
    ended: Option<u32>,
    /// How, if that was said.
    how: Option<Ended>,
    /// The socket was lost on the way.
    pub(super) degraded: bool,
    pub(super) warnings: Vec<String>,
    /// What nodes have put out, for a prompt that will have no history.
    outputs: BTreeMap<String, Box<RawValue>>,
    /// Bytes of all that they have put out, kept or not.
    put_out: usize,
    overall: Overall,
    /// The history is here, and it is waited so long for what was said before.
    finished: Option<(Box<History>, Time)>,
    position: Option<usize>,
    last_preview: Option<Time>,
    out_of_reach: Option<Time>,
    /// It was out of reach at some time: it may have restarted unseen.
    was_out_of_reach: bool,
    /// It had not begun to run when the box was asked last.
    pending: bool,
    /// Nodes whose images were heard that are on the socket only.
    images: BTreeSet<String>,
    /// The box did not know it when it was asked last.
    absent: bool,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Told {
    Finished(Box<History>),
    /// It has ended, and the box has no history of it; how, if that was said.
    Unseen(Option<Ended>),
}

impl Tale {
    /// The history, once all that was said before is known.
    fn over(&mut self, now: Time) -> Option<Box<History>> {
        let heard_all = self.ended.is_some() || self.degraded;
        let (history, due) = self.finished.take()?;
        if heard_all || now >= due {
            // A socket that does not say the end has not said all before it either.
            self.degraded |= !heard_all;
            return Some(history);
        }
        self.finished = Some((history, due));
        None
    }
}

impl Tale {
    /// Keeps what a node has put out; if all of it would not fit an answer, nothing.
    fn keep(&mut self, node: String, output: Box<RawValue>) {
        self.put_out += output.get().len();
        if self.put_out <= files::MAX_TEXT {
            self.outputs.insert(node, output);
        } else {
            self.outputs.clear();
        }
    }

    /// What these nodes have put out, as they told it; none if it is too much.
    pub(super) fn told(&self, wanted: &Wanted) -> Option<String> {
        let told = self.outputs.iter().filter(|(node, _)| wanted.takes(node));
        let told = told.map(|(node, output)| (node.as_str(), output.get()));
        (self.put_out <= files::MAX_TEXT).then(|| outputs::object(told))
    }
}

impl Follow<'_> {
    /// Returns when the prompt has ended.
    pub(super) async fn until_it_ends(&mut self) -> Result<Told, CallError> {
        let clock = self.place.clock.clone();
        for warning in self.tale.warnings.clone() {
            self.emit(&json!({ "event": "warning", "message": warning }))
                .await?;
        }
        let mut next = clock.now();
        loop {
            if let Some(history) = self.tale.over(clock.now()) {
                if matches!(history.ended, Ended::Success) {
                    self.check_images().await?;
                }
                return Ok(Told::Finished(history));
            }
            let lost = self.tale.degraded;
            tokio::select! {
                biased;
                heard = self.feed.next(), if !lost => {
                    if self.take(heard).await? {
                        next = clock.now();
                    }
                }
                () = clock.sleep_until(next) => {
                    if self.ask().await? {
                        return Ok(Told::Unseen(self.tale.how.take()));
                    }
                    next = clock.now() + self.pause();
                }
            }
        }
    }

    fn pause(&self) -> Duration {
        match (self.tale.ended, self.tale.degraded) {
            _ if self.tale.finished.is_some() => LAST_WORDS,
            _ if self.tale.out_of_reach.is_some() => ASK_OFTEN,
            (None, _) if self.tale.absent => ASK_OFTEN,
            (Some(_), _) => ASK_NOW,
            (None, true) => ASK_OFTEN,
            (None, false) => ASK_SELDOM,
        }
    }

    /// Passes on what was heard; true if the box should be asked now.
    async fn take(&mut self, next: Next) -> Result<bool, CallError> {
        match next {
            Next::Heard(heard) => self.heard(heard).await,
            Next::Preview(image) => {
                self.preview(image).await?;
                Ok(false)
            }
            Next::Lost => {
                self.tale.degraded = true;
                let message = "the box's socket was lost: from here on it is asked how far it is";
                self.warn(message.to_owned()).await?;
                Ok(true)
            }
        }
    }

    async fn heard(&mut self, heard: Heard) -> Result<bool, CallError> {
        match heard {
            Heard::Started => self.start().await?,
            Heard::Cached(nodes) => {
                self.tale.overall.cached(&nodes);
                self.emit(&json!({ "event": "cached", "nodes": nodes })).await?;
            }
            Heard::Node(node) => {
                self.tale.overall.begins(&node);
                let class = self.prompt.classes.get(&node);
                self.emit(&json!({ "event": "node", "node": node, "class": class }))
                    .await?;
            }
            Heard::Progress(progress) => self.progress(&progress).await?,
            Heard::Executed(node, output) => self.executed(node, output).await?,
            Heard::Blocked(data) => {
                let data: serde_json::Value = serde_json::from_str(data.get()).unwrap_or_default();
                let node = data
                    .get("node_id")
                    .and_then(serde_json::Value::as_str)
                    .unwrap_or("?");
                let why = data.get("exception_message").and_then(serde_json::Value::as_str);
                let why = why.unwrap_or_default().trim();
                self.warn(format!("node {node} blocked its branch: {why}"))
                    .await?;
            }
            Heard::Image(image) => self.image(image).await?,
            Heard::Text(node, text) => {
                self.emit(&json!({ "event": "text", "node": node, "text": [text] }))
                    .await?;
            }
            Heard::Ended(how) => {
                self.tale.ended.get_or_insert(0);
                self.tale.how = self.tale.how.take().or(how);
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn start(&mut self) -> Result<(), CallError> {
        if std::mem::replace(&mut self.tale.started, true) {
            return Ok(());
        }
        self.emit(&json!({ "event": "started", "prompt_id": self.id }))
            .await
    }

    /// Texts of a node come at once; files when the prompt has ended.
    async fn executed(&mut self, node: String, output: Box<RawValue>) -> Result<(), CallError> {
        let told: serde_json::Value = serde_json::from_str(output.get()).unwrap_or_default();
        let text = told.get("text").filter(|text| text.is_array());
        if let Some(text) = text.filter(|_| self.prompt.wanted.takes(&node)) {
            self.emit(&json!({ "event": "text", "node": node, "text": text }))
                .await?;
        }
        self.tale.keep(node, output);
        Ok(())
    }

    /// How far the node is that runs, and how far the prompt: nodes that have finished, of all.
    async fn progress(&mut self, progress: &Progress) -> Result<(), CallError> {
        if !self.sink.streams() {
            return Ok(());
        }
        let mut fields = BTreeMap::from([
            ("prompt_id".to_owned(), text(self.id)),
            ("node".to_owned(), text(&progress.node)),
            ("value".to_owned(), number(progress.value)),
            ("max".to_owned(), number(progress.max)),
        ]);
        let overall = self.tale.overall.share(progress, &self.prompt.classes);
        fields.insert("overall".to_owned(), number(overall));
        files::send(self.sink, Event::Progress(Struct { fields })).await
    }

    /// A preview, unless one was sent a moment ago.
    async fn preview(&mut self, image: Image) -> Result<(), CallError> {
        let now = self.place.clock.now();
        let apart = Duration::try_from_secs_f64(1.0 / self.prompt.preview_fps).unwrap_or(Duration::MAX);
        if self.tale.last_preview.is_some_and(|last| now.since(last) < apart) {
            return Ok(());
        }
        self.tale.last_preview = Some(now);
        self.bytes("preview", image).await
    }

    /// An image that a node puts out on the socket only.
    async fn image(&mut self, image: Image) -> Result<(), CallError> {
        let node = image.node.clone().unwrap_or_default();
        self.tale.images.insert(node.clone());
        if !self.prompt.wanted.takes(&node) {
            return Ok(());
        }
        if self.sink.streams() {
            return self.bytes("output", image).await;
        }
        let message =
            format!("node {node} put an image out on the socket, which only ExecuteStream passes on");
        self.warn(message).await
    }

    async fn bytes(&mut self, event: &str, image: Image) -> Result<(), CallError> {
        let told = json!({
            "event": event, "node": image.node, "content_type": image.kind, "bytes": image.bytes.len(),
        });
        self.emit(&told).await?;
        files::send_bytes(self.sink, image.bytes).await
    }

    async fn warn(&mut self, message: String) -> Result<(), CallError> {
        let told = json!({ "event": "warning", "message": message });
        if !self.tale.warnings.contains(&message) && self.tale.warnings.len() < MOST_WARNINGS {
            self.tale.warnings.push(message);
        }
        self.emit(&told).await
    }

    async fn emit(&mut self, event: &serde_json::Value) -> Result<(), CallError> {
        if !self.sink.streams() {
            return Ok(());
        }
        let mut told = event.to_string();
        if told.len() > files::MAX_TEXT {
            let about = ["event", "node"].map(|name| event.get(name).cloned().unwrap_or_default());
            let [kind, node] = about;
            told = json!({ "event": kind, "node": node, "left_out": true, "bytes": told.len() }).to_string();
        }
        files::send(self.sink, Event::Json(told)).await
    }
}

/// Warnings of one prompt that are kept for its answer.
const MOST_WARNINGS: usize = 100;

fn text(text: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    }
}

fn number(number: f64) -> Value {
    Value {
        kind: Some(Kind::NumberValue(number)),
    }
}
