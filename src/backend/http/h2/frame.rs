//! The heads of HTTP/2's frames (RFC 9113, section 4.1): as much of them as it takes to know whose a frame is.

use std::io::IoSlice;

/// A head's size.
pub(super) const HEAD: usize = 9;
/// A payload that we send, at most, whatever the peer allows: what is begun of a frame is finished, so it is small.
pub(super) const LARGEST: usize = 16 * 1024;
/// What a client says first (RFC 9113, section 3.4).
pub(super) const PREFACE: usize = 24;
/// The code of a reset by who wants no more of a stream.
const CANCEL: u32 = 0x8;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes that follow the head.
    pub(super) length: usize,
    pub(super) kind: Kind,
    /// The stream; 0 is the whole connection.
    pub(super) stream: u32,
    flags: u8,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Continuation,
    Reset,
    Settings,
    GoAway,
    WindowUpdate,
    /// Of no interest here.
    Other,
}

impl Kind {
    const fn of(number: u8) -> Self {
        match number {
            0x0 => Self::Data,
            0x1 => Self::Headers,
            0x3 => Self::Reset,
            0x4 => Self::Settings,
            0x7 => Self::GoAway,
            0x8 => Self::WindowUpdate,
            0x9 => Self::Continuation,
            _ => Self::Other,
        }
    }
}

impl Head {
    /// Reads one.
    pub(super) fn read(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, s, t, u, v] = bytes;
        Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind: Kind::of(kind),
            // The highest bit is reserved.
            stream: u32::from_be_bytes([s & 0x7f, t, u, v]),
            flags,
        }
    }

    /// Reads the one that `buffers` begin with; none if they hold less.
    pub(super) fn first_of(buffers: &[IoSlice<'_>]) -> Option<Self> {
        let mut head = [0; HEAD];
        let bytes = buffers.iter().flat_map(|buffer| buffer.iter());
        let mut count = 0;
        for (place, byte) in head.iter_mut().zip(bytes) {
            *place = *byte;
            count += 1;
        }
        (count == HEAD).then(|| Self::read(head))
    }

    /// The frame's size, its head included.
    pub(super) const fn whole(&self) -> usize {
        HEAD + self.length
    }

    /// Whether its sender sends nothing more on the stream.
    pub(super) const fn ends_stream(&self) -> bool {
        matches!(self.kind, Kind::Data | Kind::Headers) && self.flags & END_STREAM != 0
    }

    /// Whether the header block goes on in the next frame.
    pub(super) const fn goes_on(&self) -> bool {
        matches!(self.kind, Kind::Headers | Kind::Continuation) && self.flags & END_HEADERS == 0
    }

    /// Whether it acknowledges settings.
    pub(super) const fn is_ack(&self) -> bool {
        matches!(self.kind, Kind::Settings) && self.flags & ACK != 0
    }
}

/// The frame that tells the peer that nothing more of a stream comes, and that none is wanted.
pub(super) fn cancel(stream: u32) -> [u8; HEAD + 4] {
    short(0x3, stream, CANCEL)
}

/// The frame by which a peer gives back `bytes` of the connection's window.
pub(super) fn credit(bytes: u32) -> [u8; HEAD + 4] {
    short(0x8, 0, bytes)
}

fn short(kind: u8, stream: u32, value: u32) -> [u8; HEAD + 4] {
    let [a, b, c, d] = stream.to_be_bytes();
    let [w, x, y, z] = value.to_be_bytes();
    [0, 0, 4, kind, 0, a, b, c, d, w, x, y, z]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_over_several_buffers() {
        let bytes = [0, 1, 2, 0x1, 0x5, 0x80, 0, 0, 7, 99];
        let buffers = [IoSlice::new(&bytes[..4]), IoSlice::new(&bytes[4..])];
        let head = Head::first_of(&buffers).unwrap();
        assert_eq!((head.length, head.kind, head.stream), (258, Kind::Headers, 7));
        assert!(head.ends_stream() && !head.goes_on() && !head.is_ack());
        assert_eq!(head.whole(), 267);
        assert_eq!(Head::first_of(&[IoSlice::new(&bytes[..8])]), None);
    }

    #[test]
    fn own_frames_are_what_they_say() {
        let bytes = cancel(0x0102_0304);
        let head = Head::first_of(&[IoSlice::new(&bytes)]).unwrap();
        assert_eq!(
            (head.length, head.kind, head.stream),
            (4, Kind::Reset, 0x0102_0304)
        );
        let bytes = credit(70_000);
        let head = Head::first_of(&[IoSlice::new(&bytes)]).unwrap();
        assert_eq!((head.kind, head.stream), (Kind::WindowUpdate, 0));
        assert_eq!(bytes[9..], 70_000_u32.to_be_bytes());
    }
}
