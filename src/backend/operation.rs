//! An operation as a backend sees it, and what it completes with.

use std::{
    any::Any,
    borrow::Cow,
    fmt,
    future::poll_fn,
    sync::OnceLock,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::mpsc;

use super::CallError;
use crate::{error::Faults, proto};

/// One operation, decoded.
#[derive(Debug)]
pub struct Operation {
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub params: Params,
    /// Its typed arguments.
    pub args: Vec<proto::Value>,
    /// Its body.
    pub body: Body,
    /// Whether its caller has the session for this operation only, so that nothing may be left open behind it. The
    /// broker says so.
    pub alone: bool,
    /// What the kind has read of it already.
    pub inspected: Inspected,
}

impl Operation {
    /// What the kind read of it when it inspected it; if it did not, what `read` makes of it now.
    pub(crate) fn plan<T: Any + Send + Sync>(
        &mut self,
        read: impl FnOnce(&Self) -> Result<T, Faults>,
    ) -> Result<T, CallError> {
        match self.inspected.take() {
            Some(plan) => Ok(plan),
            None => read(self).map_err(CallError::Invalid),
        }
    }
}

/// What a kind has read of an operation when it inspected it, kept for when it runs it: reading twice is dear.
#[derive(Default)]
pub struct Inspected(OnceLock<Box<dyn Any + Send + Sync>>);

impl Inspected {
    /// Keeps what was read; the first time counts.
    pub(crate) fn keep<T: Any + Send + Sync>(&self, read: T) {
        // It was inspected before: both have read the same.
        self.0.set(Box::new(read)).ok();
    }

    /// What was kept, if it is of this kind.
    pub(crate) fn take<T: Any + Send + Sync>(&mut self) -> Option<T> {
        self.0.take()?.downcast().ok().map(|read| *read)
    }
}

impl fmt::Debug for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inspected").field(&self.0.get().is_some()).finish()
    }
}

/// Parameters in the shape they came in.
#[derive(Clone, Debug)]
pub enum Params {
    /// None: an empty object, or nothing at all.
    Empty,
    /// A Struct; its integers are known to fit a double.
    Object(Value),
    /// Text, to be passed on byte for byte.
    Text(String),
}

impl Params {
    /// The parameters as JSON text, byte for byte if they came as text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Empty => Cow::Borrowed("{}"),
            Self::Object(value) => Cow::Owned(value.to_string()),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }

    /// Whether the answer's JSON has to be text too.
    #[must_use]
    pub const fn want_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Reads the parameters into a kind's own type, which should refuse unknown fields. Use `RawValue` for members
    /// whose bytes matter.
    ///
    /// # Errors
    /// One fault at `params`; with empty params it asks whether the client encoded them.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Faults> {
        self.parse_borrowed(&self.text())
    }

    /// As [`Params::parse`], for a type that borrows from `text`, which is [`Params::text`]'s.
    ///
    /// # Errors
    /// As for [`Params::parse`].
    pub fn parse_borrowed<'a, T: Deserialize<'a>>(&self, text: &'a str) -> Result<T, Faults> {
        serde_json::from_str(text).map_err(|error| {
            let hint = match self {
                Self::Empty => {
                    "; the params are empty: did your client encode the Struct? Some loaders send {} in silence, \
                     params_json is safer"
                }
                Self::Object(_) | Self::Text(_) => "",
            };
            Faults::one("params", format!("{error}{hint}"))
        })
    }
}

/// An operation's body.
#[derive(Debug)]
pub enum Body {
    /// All of it; often empty.
    Whole(Bytes),
    /// It comes in parts.
    Stream(BodyReader),
}

/// A part of a streamed body.
#[derive(Debug)]
pub enum BodyChunk {
    /// Bytes.
    Data(Bytes),
    /// The end.
    Last,
}

/// Reads a streamed body, and gives the caller credit for what was taken.
#[derive(Debug)]
pub struct BodyReader {
    chunks: mpsc::Receiver<BodyChunk>,
    credit: mpsc::UnboundedSender<usize>,
}

impl BodyReader {
    /// A reader of `chunks` that reports the size of each chunk taken to `credit`. `chunks` is bounded by the credit
    /// given; `credit` by the chunks.
    #[must_use]
    pub const fn new(chunks: mpsc::Receiver<BodyChunk>, credit: mpsc::UnboundedSender<usize>) -> Self {
        Self { chunks, credit }
    }

    /// The next part: `Ok(None)` at the end. May be dropped between parts.
    ///
    /// # Errors
    /// When the caller went away before the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyCut> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`BodyReader::next`], for who is polled.
    ///
    /// # Errors
    /// When the caller went away before the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyCut>> {
        Poll::Ready(match ready!(self.chunks.poll_recv(cx)) {
            Some(BodyChunk::Data(bytes)) => {
                // The caller may have gone since; then nobody needs the credit.
                self.credit.send(bytes.len()).ok();
                Ok(Some(bytes))
            }
            Some(BodyChunk::Last) => Ok(None),
            None => Err(BodyCut),
        })
    }
}

/// A streamed body ended before its last part.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body ended before its last part")]
pub struct BodyCut;

/// What an operation completed with.
#[derive(Debug, Default)]
pub struct Completion {
    /// The output, unless it went to the sink.
    pub output: Output,
    /// Facts beside it.
    pub attributes: Vec<(String, String)>,
    /// Tries that were needed, less one.
    pub retries: u32,
}

/// An operation's output.
#[derive(Debug, Default)]
pub enum Output {
    /// Nothing, or all of it went to the sink.
    #[default]
    None,
    /// JSON text.
    Json(String),
    /// Rows.
    Rows(proto::Rows),
    /// Bytes.
    Body(Bytes),
}
