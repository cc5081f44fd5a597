//! A streamed answer taken apart: server-sent events, or lines of JSON. Bytes may be cut anywhere; what is held is
//! bounded.

use std::mem;

use bytes::{Buf as _, BytesMut};

/// One event, or one line, is held whole at most this long: what fits a message to the caller with room to spare.
pub(super) const MAX_FRAME: usize = 1 << 20;

/// How a stream is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Division {
    /// Server-sent events, by the rules of the WHATWG's HTML standard.
    Events,
    /// Lines of JSON.
    Lines,
}

/// A part of a stream is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Takes a stream apart.
#[derive(Debug)]
pub(super) struct Frames {
    division: Division,
    buffer: BytesMut,
    /// Up to here the buffer holds no line's end.
    searched: usize,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_return: bool,
    /// Nothing has come yet: a byte order mark is skipped.
    at_start: bool,
    /// The data of the event under way, if it has any.
    data: Option<Vec<u8>>,
}

const MARK: &[u8] = b"\xef\xbb\xbf";

impl Frames {
    pub(super) fn new(division: Division) -> Self {
        Self {
            division,
            buffer: BytesMut::new(),
            searched: 0,
            after_return: false,
            at_start: true,
            data: None,
        }
    }

    /// Takes what came.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame's data, if all of it is here.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        while let Some(line) = self.line()? {
            let frame = match self.division {
                Division::Events => self.event_line(&line)?,
                Division::Lines => (!line.trim_ascii().is_empty()).then(|| line.to_vec()),
            };
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }

    /// What was left when the stream ended without a last line's end, or an event's.
    pub(super) fn rest(&mut self) -> Option<Vec<u8>> {
        let line = mem::take(&mut self.buffer);
        match self.division {
            Division::Lines => (!line.trim_ascii().is_empty()).then(|| line.to_vec()),
            Division::Events => {
                if !line.is_empty() {
                    self.event_line(&line).ok()?;
                }
                self.event()
            }
        }
    }

    /// The event that is complete, unless it has nothing to say: standards have it left out if its data is empty.
    fn event(&mut self) -> Option<Vec<u8>> {
        self.data.take().filter(|data| !data.trim_ascii().is_empty())
    }

    fn line(&mut self) -> Result<Option<BytesMut>, TooLong> {
        self.skip();
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(end) = unsearched.iter().position(|byte| self.ends_line(*byte)) else {
            self.searched = self.buffer.len();
            return if self.searched > MAX_FRAME {
                Err(TooLong)
            } else {
                Ok(None)
            };
        };
        let line = self.buffer.split_to(self.searched + end);
        self.after_return = self.buffer.first() == Some(&b'\r');
        self.buffer.advance(1);
        self.searched = 0;
        if line.len() > MAX_FRAME {
            return Err(TooLong);
        }
        Ok(Some(line))
    }

    fn ends_line(&self, byte: u8) -> bool {
        byte == b'\n' || (byte == b'\r' && self.division == Division::Events)
    }

    /// Skips what belongs to no line: the LF of a CRLF, and a mark at the very beginning once all of it is here.
    fn skip(&mut self) {
        if self.after_return && !self.buffer.is_empty() {
            if self.buffer.first() == Some(&b'\n') {
                self.buffer.advance(1);
            }
            self.after_return = false;
        }
        if self.at_start && (self.buffer.len() >= MARK.len() || !MARK.starts_with(&self.buffer)) {
            if self.buffer.starts_with(MARK) {
                self.buffer.advance(MARK.len());
                self.searched = 0;
            }
            self.at_start = false;
        }
    }

    /// One line of an event; its data when it is complete. The event's name is in the data too, and nothing else of it
    /// is of use here.
    fn event_line(&mut self, line: &[u8]) -> Result<Option<Vec<u8>>, TooLong> {
        if line.is_empty() {
            return Ok(self.event());
        }
        let Some(value) = line.strip_prefix(b"data") else {
            return Ok(None);
        };
        let value = match value.strip_prefix(b":") {
            Some(value) => value.strip_prefix(b" ").unwrap_or(value),
            None if value.is_empty() => value,
            None => return Ok(None),
        };
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => self.data = Some(value.to_vec()),
        }
        let long = self.data.as_ref().is_some_and(|data| data.len() > MAX_FRAME);
        if long { Err(TooLong) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out when `text` comes in parts of `size` bytes.
    fn frames(division: Division, text: &[u8], size: usize) -> Vec<String> {
        let mut frames = Frames::new(division);
        let mut found = Vec::new();
        for part in text.chunks(size) {
            frames.push(part);
            while let Some(frame) = frames.next().unwrap() {
                found.push(String::from_utf8(frame).unwrap());
            }
        }
        found.extend(frames.rest().map(|rest| String::from_utf8(rest).unwrap()));
        found
    }

    #[test]
    fn events_come_out_whole_wherever_the_stream_is_cut() {
        let text = "\u{feff}: ping\n\nevent: x\ndata: {\"é\":\"日本\"}\n\ndata:two\r\ndata: lines\r\n\r\nid: 1\rdata\r\r\
                    data: {}\n\n: comment\ndataset: no\n\ndata: [DONE]\n\n";
        let wanted = ["{\"é\":\"日本\"}", "two\nlines", "{}", "[DONE]"];
        for size in 1..=text.len() {
            assert_eq!(
                frames(Division::Events, text.as_bytes(), size),
                wanted,
                "parts of {size}"
            );
        }
    }

    #[test]
    fn lines_come_out_whole_wherever_the_stream_is_cut() {
        let text = "{\"é\":1}\r\n\n  \n{\"b\":2}\n{\"c\":3}";
        for size in 1..=text.len() {
            let found = frames(Division::Lines, text.as_bytes(), size);
            let found: Vec<_> = found.iter().map(|line| line.trim_end()).collect();
            assert_eq!(found, ["{\"é\":1}", "{\"b\":2}", "{\"c\":3}"], "parts of {size}");
        }
    }

    #[test]
    fn a_last_event_without_its_empty_line_is_the_rest() {
        assert_eq!(
            frames(Division::Events, b"data: a\n\ndata: [DONE]\n", 3),
            ["a", "[DONE]"]
        );
        assert_eq!(frames(Division::Events, b"data: a\n\ndata: [DO", 3), ["a", "[DO"]);
        assert_eq!(frames(Division::Events, b"data: a\n\n: bye", 3), ["a"]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let part = vec![b'x'; 64 * 1024];
        for (division, begin, again) in [
            (Division::Lines, "", ""),
            (Division::Events, "data: ", ""),
            (Division::Events, "data: ", "\ndata: "),
            (Division::Events, ": ", ""),
        ] {
            let mut frames = Frames::new(division);
            frames.push(begin.as_bytes());
            let mut pushed = 0;
            while frames.next().is_ok() {
                frames.push(&part);
                frames.push(again.as_bytes());
                pushed += part.len();
                assert!(pushed <= MAX_FRAME + 2 * part.len());
            }
        }
    }
}
