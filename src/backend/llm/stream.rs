//! An answer that comes in parts, passed on as fast as the caller reads and no faster.

use std::time::Duration;

use bytes::Bytes;

use super::{
    fault::Kind,
    frames::{Frames, MAX_FRAME, TooLong},
    plan::Events,
    reading::{Malformed, Reading, Step},
    session::{Ended, Scene},
    whole::{completion, send},
};
use crate::{
    backend::{CallError, Completion, Event, Output, Sink, SinkClosed, http::Exchange},
    error::Executed,
};

const TOO_LONG: SinkClosed = SinkClosed::PartTooLarge {
    what: "one part of the provider's stream is",
    limit: MAX_FRAME,
};
/// An event's text, at most: a broker keeps some events for a caller who is slow.
const MAX_TEXT: usize = 64 * 1024;
/// How long the provider may take to end its answer behind the end marker, and how much it may still say, before its
/// connection is closed, or its stream reset, instead of kept. The caller's end waits for it, so it is short: mostly the
/// end comes with the marker, or right behind it.
const FAREWELL: Duration = Duration::from_millis(250);
const MAX_FAREWELL: usize = 64 * 1024;

/// A stream under way.
pub(super) struct Stream<'a, 'b> {
    exchange: &'a mut Exchange<'b>,
    scene: &'a Scene<'a>,
    frames: Frames,
    reading: Reading,
    /// How long the first token took.
    first: Option<Duration>,
    ended: bool,
}

impl<'a, 'b> Stream<'a, 'b> {
    pub(super) fn new(exchange: &'a mut Exchange<'b>, scene: &'a Scene<'a>) -> Self {
        let dialect = scene.provider.dialect;
        Self {
            exchange,
            scene,
            frames: Frames::new(dialect.division()),
            reading: Reading::new(dialect),
            first: None,
            ended: false,
        }
    }

    /// Passes the stream on to its end. True beside the completion if its connection can be kept.
    pub(super) async fn pass_on(mut self, sink: &mut Sink) -> Result<(Completion, bool), Ended> {
        while !self.ended {
            match self.next_part().await? {
                Some(bytes) => self.take(&bytes, sink).await?,
                None => self.finish(sink).await?,
            }
        }
        if !self.reading.is_finished() {
            return Err(self.truncated("the stream ended without saying why the model stopped"));
        }
        if let Some(usage) = self.reading.told.usage_event() {
            send(sink, usage).await?;
        }
        let whole = self.say_goodbye().await;
        let mut completion = completion(self.exchange, self.scene, &self.reading.told, Output::None);
        let first = self.first.map(|first| first.as_millis().to_string());
        let first = first.map(|first| ("time_to_first_token_ms".to_owned(), first));
        completion.attributes.extend(first);
        Ok((completion, whole))
    }

    /// The next bytes, within the limit that holds now.
    async fn next_part(&mut self) -> Result<Option<Bytes>, Ended> {
        let (clock, provider) = (&self.scene.provider.clock, self.scene.provider);
        let (what, limit, due) = match self.first {
            None => ("first token", provider.first_token, self.scene.first_token_due()),
            Some(_) => ("idle", provider.idle, clock.now() + provider.idle),
        };
        let part = tokio::select! {
            biased;
            part = self.exchange.next() => part,
            () = clock.sleep_until(due) => Err(CallError::Timeout { what, limit }),
        };
        match part {
            Err(CallError::Broken { message, .. }) => Err(self.truncated(&message)),
            other => other.map_err(Ended::For),
        }
    }

    async fn take(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<(), Ended> {
        self.frames.push(bytes);
        loop {
            let frame = self.frames.next();
            let frame = frame.map_err(|TooLong| Ended::For(CallError::Sink(TOO_LONG)))?;
            let Some(frame) = frame.filter(|_| !self.ended) else {
                return Ok(());
            };
            match self.read(frame) {
                Ok((text, step)) => self.tell(text, step, sink).await?,
                Err(part) => return Err(self.malformed(&part)),
            }
        }
    }

    /// The body is over. What it left without a last line's end may still be the end marker.
    async fn finish(&mut self, sink: &mut Sink) -> Result<(), Ended> {
        if let Some(rest) = self.frames.rest()
            && let Ok((text, step)) = self.read(rest)
        {
            self.tell(text, step, sink).await?;
        }
        if self.ended {
            Ok(())
        } else {
            Err(self.truncated("the stream ended before its end marker"))
        }
    }

    /// One part's text, and what it says; the text alone if that cannot be read.
    fn read(&mut self, frame: Vec<u8>) -> Result<(String, Step), String> {
        let lossy =
            |error: std::string::FromUtf8Error| String::from_utf8_lossy(error.as_bytes()).into_owned();
        let text = String::from_utf8(frame).map_err(lossy)?;
        match self.reading.read(&text) {
            Ok(step) => Ok((text, step)),
            Err(Malformed) => Err(text),
        }
    }

    async fn tell(&mut self, part: String, step: Step, sink: &mut Sink) -> Result<(), Ended> {
        if step.error.is_some() {
            return Err(self.scene.part(self.exchange, &part));
        }
        if step.is_token() && self.first.is_none() {
            self.first = Some(self.scene.elapsed());
        }
        self.ended |= step.end;
        let events = self.scene.plan.events;
        let hidden = step.only_usage && self.scene.plan.hides_usage;
        let raw = match events {
            Events::Text => step.more,
            Events::Raw | Events::Both => part.trim_start().starts_with('{') && !hidden,
        };
        if raw {
            send(sink, Event::Json(part)).await?;
        }
        if events != Events::Raw {
            send_text(sink, step.text).await?;
        }
        Ok(())
    }

    /// Reads the answer's end behind the end marker, so that the connection can be kept.
    async fn say_goodbye(&mut self) -> bool {
        let clock = &self.scene.provider.clock;
        let due = clock.now() + FAREWELL;
        let mut seen = 0;
        while seen <= MAX_FAREWELL {
            let part = tokio::select! {
                biased;
                part = self.exchange.next() => part,
                () = clock.sleep_until(due) => return false,
            };
            match part {
                Ok(Some(bytes)) => seen += bytes.len(),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        false
    }

    /// Why the model stopped is the provider's final word, even if its end is missing.
    fn executed(&self) -> Executed {
        if self.reading.is_finished() {
            Executed::Yes
        } else {
            Executed::Unknown
        }
    }

    fn truncated(&self, message: &str) -> Ended {
        self.scene
            .lost(self.exchange, Kind::Truncated, message, self.executed())
    }

    fn malformed(&self, part: &str) -> Ended {
        let message = format!("a part of the stream cannot be read: {part}");
        self.scene
            .lost(self.exchange, Kind::Malformed, &message, self.executed())
    }
}

/// Gives text on in events that are small enough for some of them to wait for the caller.
async fn send_text(sink: &mut Sink, mut text: String) -> Result<(), Ended> {
    while !text.is_empty() {
        let rest = text.split_off(text.floor_char_boundary(MAX_TEXT));
        send(sink, Event::Text(text)).await?;
        text = rest;
    }
    Ok(())
}
