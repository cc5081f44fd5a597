//! What a socket's task has heard about the prompt that is watched, for the call that watches it. Progress and previews
//! are only worth their latest, so a slow caller makes nothing grow.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::events::{Heard, Image, Progress};

/// Events that wait for a call, at most: more than any workflow has nodes. Beyond it the socket is not read.
const MOST_EVENTS: usize = 4096;
/// Bytes that wait for a call, at most: images, and what nodes put into texts and outputs, which may be images too.
const MOST_BYTES: usize = 64 << 20;

/// What is heard.
#[derive(Debug, Default)]
pub(super) struct Feed {
    state: Mutex<State>,
    news: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    watch: Option<Watch>,
    queue: VecDeque<Next>,
    progress: Option<Progress>,
    preview: Option<Image>,
    bytes: usize,
    lost: bool,
}

/// What a call wants to hear.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) prompt: String,
    /// Nodes that put their images out on the socket.
    pub(super) finals: HashSet<String>,
    pub(super) previews: bool,
    /// The node that runs.
    pub(super) current: Option<String>,
}

/// The next thing heard.
#[derive(Debug)]
pub(super) enum Next {
    Heard(Heard),
    Preview(Image),
    /// The socket is gone: nothing more will be heard.
    Lost,
}

impl Next {
    /// What it holds that is large.
    fn bytes(&self) -> usize {
        match self {
            Self::Heard(Heard::Image(image)) | Self::Preview(image) => image.bytes.len(),
            Self::Heard(Heard::Executed(_, said) | Heard::Blocked(said)) => said.get().len(),
            Self::Heard(Heard::Text(_, text)) => text.len(),
            Self::Heard(Heard::Cached(nodes)) => nodes.iter().map(String::len).sum(),
            Self::Heard(_) | Self::Lost => 0,
        }
    }
}

impl Feed {
    /// From now on what is said about this prompt is kept; what was kept is not any more.
    pub(super) fn watch(&self, watch: Option<Watch>) {
        let mut state = self.state.lock();
        let lost = state.lost;
        *state = State {
            watch,
            lost,
            ..State::default()
        };
        drop(state);
        self.room.notify_one();
    }

    /// The box has given the prompt an id of its own.
    pub(super) fn rename(&self, id: &str) {
        if let Some(watch) = &mut self.state.lock().watch {
            id.clone_into(&mut watch.prompt);
        }
    }

    /// Takes what was said. About a prompt without an id is about the one that runs, if that is ours.
    pub(super) fn hear(&self, id: Option<&str>, heard: Heard) {
        let mut state = self.state.lock();
        if state.take(id, heard).is_some() {
            drop(state);
            self.news.notify_one();
        }
    }

    /// The socket is gone.
    pub(super) fn lose(&self) {
        self.state.lock().lost = true;
        self.news.notify_one();
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state.lock().lost
    }

    /// Returns when there is room for more. May be dropped at any time.
    pub(super) async fn room(&self) {
        loop {
            let room = self.room.notified();
            if self.state.lock().has_room() {
                return;
            }
            room.await;
        }
    }

    /// Returns when there is something to hear; what was heard is kept if this is dropped.
    pub(super) async fn next(&self) -> Next {
        loop {
            let news = self.news.notified();
            if let Some(next) = self.state.lock().next() {
                self.room.notify_one();
                return next;
            }
            news.await;
        }
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.queue.len() < MOST_EVENTS && self.bytes < MOST_BYTES
    }

    fn take(&mut self, id: Option<&str>, heard: Heard) -> Option<()> {
        let watch = self.watch.as_mut()?;
        let ours = match id {
            Some(id) => id == watch.prompt,
            None => watch.current.is_some(),
        };
        if !ours {
            return None;
        }
        match heard {
            Heard::Progress(progress) => self.progress = Some(merge(self.progress.take(), progress)),
            Heard::Image(mut image) => {
                image.node = image.node.or_else(|| watch.current.clone());
                let is_final = image
                    .node
                    .as_ref()
                    .is_some_and(|node| watch.finals.contains(node));
                if is_final {
                    self.push(Heard::Image(image));
                } else if watch.previews {
                    self.preview = Some(image);
                }
            }
            other @ (Heard::Started
            | Heard::Cached(_)
            | Heard::Node(_)
            | Heard::Executed(..)
            | Heard::Blocked(_)
            | Heard::Text(..)
            | Heard::Ended(_)) => {
                if let Heard::Node(node) = &other {
                    watch.current = Some(node.clone());
                } else if matches!(other, Heard::Ended(_)) {
                    watch.current = None;
                }
                self.push(other);
            }
        }
        Some(())
    }

    /// The latest progress and preview go before what came after them.
    fn push(&mut self, heard: Heard) {
        let latest = self.latest().into_iter().chain([Next::Heard(heard)]);
        let latest: Vec<_> = latest.collect();
        self.bytes += latest.iter().map(Next::bytes).sum::<usize>();
        self.queue.extend(latest);
    }

    fn latest(&mut self) -> Vec<Next> {
        let progress = self
            .progress
            .take()
            .map(|progress| Next::Heard(Heard::Progress(progress)));
        let preview = self.preview.take().map(Next::Preview);
        progress.into_iter().chain(preview).collect()
    }

    fn next(&mut self) -> Option<Next> {
        if self.queue.is_empty() {
            let latest = self.latest();
            self.bytes += latest.iter().map(Next::bytes).sum::<usize>();
            self.queue.extend(latest);
        }
        if let Some(next) = self.queue.pop_front() {
            self.bytes = self.bytes.saturating_sub(next.bytes());
            return Some(next);
        }
        self.lost.then_some(Next::Lost)
    }
}

/// Boxes say the same twice, once with which nodes have finished and once without.
fn merge(before: Option<Progress>, mut now: Progress) -> Progress {
    if now.finished.is_empty() {
        now.finished = before.map(|before| before.finished).unwrap_or_default();
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watching() -> Feed {
        let feed = Feed::default();
        feed.watch(Some(Watch {
            prompt: "ours".to_owned(),
            finals: HashSet::from(["9".to_owned()]),
            previews: true,
            current: None,
        }));
        feed
    }

    fn progress(value: f64) -> Heard {
        Heard::Progress(Progress {
            node: "3".to_owned(),
            value,
            max: 20.0,
            finished: Vec::new(),
        })
    }

    fn image(node: Option<&str>) -> Heard {
        Heard::Image(Image {
            node: node.map(str::to_owned),
            kind: String::new(),
            bytes: bytes::Bytes::from_static(b"x"),
        })
    }

    #[tokio::test]
    async fn what_is_about_others_is_not_heard() {
        let feed = watching();
        feed.hear(Some("theirs"), Heard::Started);
        feed.hear(None, image(None));
        feed.hear(Some("ours"), Heard::Started);
        assert!(matches!(feed.next().await, Next::Heard(Heard::Started)));
        feed.lose();
        assert!(matches!(feed.next().await, Next::Lost));
    }

    #[tokio::test]
    async fn a_slow_caller_hears_the_latest_progress_and_preview_and_every_final_image() {
        let feed = watching();
        feed.hear(Some("ours"), Heard::Node("3".to_owned()));
        for value in 0..1000 {
            feed.hear(Some("ours"), progress(f64::from(value)));
            feed.hear(None, image(None));
        }
        feed.hear(Some("ours"), image(Some("9")));
        feed.hear(Some("ours"), image(Some("9")));
        assert!(matches!(feed.next().await, Next::Heard(Heard::Node(_))));
        let Next::Heard(Heard::Progress(latest)) = feed.next().await else {
            panic!("progress comes before what followed it");
        };
        assert!((latest.value - 999.0).abs() < f64::EPSILON);
        assert!(matches!(feed.next().await, Next::Preview(_)));
        assert!(matches!(feed.next().await, Next::Heard(Heard::Image(_))));
        assert!(matches!(feed.next().await, Next::Heard(Heard::Image(_))));
    }

    #[tokio::test]
    async fn outputs_that_are_large_fill_the_feed_too() {
        let said =
            |length: usize| serde_json::value::RawValue::from_string(format!("\"{}\"", "x".repeat(length)));
        for heard in [
            Heard::Executed("3".to_owned(), said(MOST_BYTES).unwrap()),
            Heard::Blocked(said(MOST_BYTES).unwrap()),
            Heard::Text("3".to_owned(), "x".repeat(MOST_BYTES)),
        ] {
            let feed = watching();
            feed.hear(Some("ours"), heard);
            assert!(futures_util::poll!(std::pin::pin!(feed.room())).is_pending());
            feed.next().await;
            feed.room().await;
        }
    }

    #[tokio::test]
    async fn a_full_feed_has_no_room_until_something_was_heard() {
        let feed = watching();
        for _ in 0..MOST_EVENTS {
            feed.hear(Some("ours"), Heard::Started);
        }
        let mut room = std::pin::pin!(feed.room());
        assert!(futures_util::poll!(&mut room).is_pending());
        feed.next().await;
        room.await;
    }
}
