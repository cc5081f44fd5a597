//! Follows HTTP/2's frames in a stream of bytes, just far enough to know whose they are and which streams end.

/// A frame's header: RFC 9113, section 4.1.
pub(super) const HEADER: usize = 9;
/// What a client writes before its first frame: RFC 9113, section 3.4.
const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// The frames that one side writes.
#[derive(Debug)]
pub(super) struct Frames {
    header: [u8; HEADER],
    /// Bytes of the header that have passed.
    known: usize,
    /// Bytes of the payload that are to come.
    left: usize,
    /// The present frame is the connection's own.
    own: bool,
    /// The stream that ends with the present frame.
    ending: Option<u32>,
    ended: u32,
    reset: u32,
}

impl Frames {
    /// What a client writes: its preface comes first.
    pub(super) const fn of_client() -> Self {
        Self {
            header: [0; HEADER],
            // The preface counts as a frame's payload.
            known: HEADER,
            left: PREFACE,
            own: true,
            ending: None,
            ended: 0,
            reset: 0,
        }
    }

    /// What a server writes.
    pub(super) const fn of_server() -> Self {
        Self {
            known: 0,
            left: 0,
            ..Self::of_client()
        }
    }

    /// The last stream of which nothing more comes: its end has passed, or its reset.
    pub(super) const fn ended(&self) -> u32 {
        self.ended
    }

    /// The last stream of which a reset has passed.
    pub(super) const fn reset(&self) -> u32 {
        self.reset
    }

    /// How many of the next bytes are the rest of a frame that belongs to the connection and to no stream, or such a
    /// frame. A frame whose header is not there in one piece counts as a stream's.
    pub(super) fn own(&self, next: &[u8]) -> usize {
        if self.known > 0 {
            let rest = HEADER - self.known + self.left;
            return if self.own { rest.min(next.len()) } else { 0 };
        }
        match next.first_chunk() {
            Some(header) if Head::read(*header).stream == 0 => {
                next.len().min(HEADER + Head::read(*header).length)
            }
            _ => 0,
        }
    }

    /// Notes bytes that pass; gives how many of them were of streams.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> usize {
        let mut of_streams = 0;
        while !bytes.is_empty() {
            if self.known == 0 {
                self.own = self.own(bytes) > 0;
            }
            let wanted = if self.known < HEADER {
                HEADER - self.known
            } else {
                self.left
            };
            let (part, rest) = bytes.split_at(bytes.len().min(wanted));
            bytes = rest;
            if !self.own {
                of_streams += part.len();
            }
            self.take(part);
        }
        of_streams
    }

    /// A part of the header, or of the payload.
    fn take(&mut self, part: &[u8]) {
        if self.known < HEADER {
            if let Some(place) = self.header.get_mut(self.known..self.known + part.len()) {
                place.copy_from_slice(part);
            }
            self.known += part.len();
            if self.known < HEADER {
                return;
            }
            let head = Head::read(self.header);
            self.left = head.length;
            self.ending = head.ends_stream().then_some(head.stream);
        } else {
            self.left -= part.len();
        }
        if self.left == 0 {
            self.known = 0;
            if let Some(stream) = self.ending.take() {
                self.ended = self.ended.max(stream);
                if Head::read(self.header).kind == RST_STREAM {
                    self.reset = self.reset.max(stream);
                }
            }
        }
    }
}

/// A frame's header.
pub(super) struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    pub(super) fn read(header: [u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = header;
        Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    /// Bytes of its payload.
    pub(super) const fn length(&self) -> usize {
        self.length
    }

    /// Whether it is empty DATA that ends no stream.
    pub(super) const fn says_nothing(&self) -> bool {
        self.kind == DATA && self.length == 0 && self.stream != 0 && !self.ends_stream()
    }

    const fn ends_stream(&self) -> bool {
        self.kind == RST_STREAM || matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// A frame with a payload of so many bytes, for tests.
#[cfg(test)]
pub(super) fn frame(kind: u8, flags: u8, stream: u32, length: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, length, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(std::iter::repeat_n(0xff, usize::from(length)));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    #[test]
    fn a_stream_has_ended_when_the_last_byte_of_its_last_frame_has_passed() {
        let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        all.extend(frame(4, 1, 0, 12));
        all.extend(frame(HEADERS, 4, 1, 7));
        all.extend(frame(DATA, 0, 1, 200));
        all.extend(frame(DATA, END_STREAM, 1, 3));
        let mut frames = Frames::of_client();
        for (at, byte) in all.iter().enumerate() {
            assert_eq!(frames.ended(), 0, "after {at} of {} bytes", all.len());
            frames.pass(&[*byte]);
        }
        assert_eq!(frames.ended(), 1);
        frames.pass(&frame(WINDOW_UPDATE, 1, 9, 4));
        assert_eq!(frames.ended(), 1, "a window's frame ends nothing");
        frames.pass(&[frame(DATA, END_STREAM, 5, 0), frame(DATA, 0, 7, 4)].concat());
        assert_eq!(frames.ended(), 5, "an empty frame ends its stream too");
    }

    #[test]
    fn a_reset_ends_its_stream_as_well() {
        let mut frames = Frames::of_server();
        frames.pass(&[frame(HEADERS, END_STREAM, 1, 3), frame(RST_STREAM, 0, 3, 4)].concat());
        assert_eq!((frames.ended(), frames.reset()), (3, 3));
        frames.pass(&frame(DATA, END_STREAM, 5, 0));
        assert_eq!((frames.ended(), frames.reset()), (5, 3), "an end is no reset");
    }

    #[test]
    fn the_connections_own_frames_are_told_from_those_of_streams() {
        let mut frames = Frames::of_server();
        let ping = frame(PING, 1, 0, 8);
        let data = frame(DATA, 0, 1, 20);
        assert_eq!(frames.own(&[ping.clone(), data.clone()].concat()), 17);
        assert_eq!(frames.own(&data), 0);
        assert_eq!(frames.own(&frame(WINDOW_UPDATE, 0, 1, 4)), 0, "a stream's window");
        assert_eq!(frames.own(&ping[..4]), 0, "nobody knows yet");
        assert_eq!(frames.pass(&ping[..12]), 0);
        assert_eq!(frames.own(&ping[12..]), 5, "the rest of what has begun");
        assert_eq!(frames.pass(&[&ping[12..], &data[..]].concat()), 29);
        assert_eq!(frames.pass(&data[..10]), 10);
        assert_eq!(frames.own(&data[10..]), 0, "in the middle of a stream's frame");
    }
}
