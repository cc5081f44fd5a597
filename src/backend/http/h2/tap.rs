//! What a peer's frames say about its socket, read on their way to h2: its limit of streams, its goodbye, and what
//! becomes of each stream.
//!
//! Two things are changed on the way. Every SETTINGS frame says that the peer keeps no table of headers, which any
//! sender may assume: so each head that we send can be understood without those before it, and be left out; and no
//! caller's headers shape another's, which would tell whoever counts bytes (RFC 7541, section 7.1). And h2 gets back
//! the window of frames that the gate has left out.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    desk::Desk,
    frame::{self, HEAD, Head, Kind},
    lanes::Lanes,
};

/// Bytes read from the socket at once.
const CHUNK: usize = 16 * 1024;
/// A frame that is read whole here, at most: more settings than this nobody has.
const LONGEST: usize = 4 * 1024;
/// A goodbye's last stream and its code; the reason that follows may be long.
const GOODBYE: usize = 8;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
/// `HEADER_TABLE_SIZE` is 0.
const NO_TABLE: [u8; 6] = [0, 1, 0, 0, 0, 0];
const REFUSED_STREAM: u32 = 0x7;

/// Reads frames on their way.
#[derive(Debug)]
pub(super) struct Tap {
    lanes: Arc<Lanes>,
    desk: Desk,
    chunk: Box<[u8]>,
    /// Read and not looked at.
    raw: BytesMut,
    /// To be handed to h2.
    out: BytesMut,
    /// Left of a payload that goes through as it is.
    through: usize,
    /// The window to give back to h2.
    credit: usize,
    /// Nothing may come between a header block's frames.
    in_block: bool,
    /// The peer has sent its settings, which come first.
    greeted: bool,
    streams: Option<u32>,
}

impl Tap {
    pub(super) fn new(lanes: Arc<Lanes>, desk: Desk) -> Self {
        Self {
            lanes,
            desk,
            chunk: vec![0; CHUNK].into(),
            raw: BytesMut::new(),
            out: BytesMut::new(),
            through: 0,
            credit: 0,
            in_block: false,
            greeted: false,
            streams: None,
        }
    }

    /// Streams that the peer allows at once; none is any number.
    pub(super) const fn streams(&self) -> Option<u32> {
        self.streams
    }

    /// Gives h2 back a window that it thinks is used.
    pub(super) const fn give_back(&mut self, bytes: usize) {
        self.credit += bytes;
    }

    pub(super) fn poll_read<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            self.parse()?;
            if !self.out.is_empty() {
                let part = self.out.len().min(buf.remaining());
                buf.put_slice(&self.out.split_to(part));
                return Poll::Ready(Ok(()));
            }
            let mut chunk = ReadBuf::new(&mut self.chunk);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.lanes.hear();
            self.raw.extend_from_slice(chunk.filled());
        }
    }

    /// Looks at what has been read, as far as it goes.
    fn parse(&mut self) -> io::Result<()> {
        loop {
            let part = self.through.min(self.raw.len());
            self.out.extend_from_slice(&self.raw.split_to(part));
            self.through -= part;
            if self.through > 0 {
                return Ok(());
            }
            self.pay_back();
            let Some(head) = self.raw.first_chunk::<HEAD>().map(|bytes| Head::read(*bytes)) else {
                return Ok(());
            };
            if !self.greeted && (head.kind != Kind::Settings || head.is_ack()) {
                self.desk.foreign();
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no HTTP/2"));
            }
            self.greeted = true;
            if !self.take(head)? {
                return Ok(());
            }
        }
    }

    fn pay_back(&mut self) {
        if let (false, Ok(credit @ 1..)) = (self.in_block, u32::try_from(self.credit)) {
            self.out.extend_from_slice(&frame::credit(credit));
            self.credit = 0;
        }
    }

    /// Takes a frame's beginning; false if more of it has to come first.
    fn take(&mut self, head: Head) -> io::Result<bool> {
        let length = match head.kind {
            Kind::Settings | Kind::Reset => head.length,
            Kind::GoAway => head.length.min(GOODBYE),
            Kind::Data | Kind::Headers | Kind::Continuation | Kind::WindowUpdate | Kind::Other => 0,
        };
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.raw.len() < HEAD + length {
            return Ok(false);
        }
        let bytes = self.raw.split_to(HEAD + length);
        let payload = bytes.get(HEAD..).unwrap_or_default();
        match head.kind {
            Kind::Settings if !head.is_ack() => {
                self.settings(payload);
                return Ok(true);
            }
            Kind::Reset => self
                .lanes
                .came(head, Some(number_in(payload) == Some(REFUSED_STREAM))),
            Kind::GoAway => {
                self.lanes
                    .go_away(number_in(payload).unwrap_or_default() & 0x7fff_ffff);
                self.desk.leaving();
            }
            Kind::Data if head.length == 0 && !head.ends_stream() => {
                // It says nothing, and h2 ends a socket on which there were a hundred of them.
                self.lanes.came(head, None);
                return Ok(true);
            }
            Kind::Data | Kind::Headers => self.lanes.came(head, None),
            Kind::Settings | Kind::Continuation | Kind::WindowUpdate | Kind::Other => {}
        }
        if matches!(head.kind, Kind::Headers | Kind::Continuation) {
            self.in_block = head.goes_on();
        }
        self.through = head.length - length;
        self.out.unsplit(bytes);
        Ok(true)
    }

    /// Hands settings on, with one more at their end; the last one of a name counts.
    fn settings(&mut self, payload: &[u8]) {
        let (settings, _) = payload.as_chunks::<6>();
        for [a, b, c, d, e, f] in settings {
            if u16::from_be_bytes([*a, *b]) == MAX_CONCURRENT_STREAMS {
                self.streams = Some(u32::from_be_bytes([*c, *d, *e, *f]));
            }
        }
        // Its length is below LONGEST, so it fits two bytes.
        let length = u16::try_from(payload.len() + NO_TABLE.len()).unwrap_or(u16::MAX);
        let [high, low] = length.to_be_bytes();
        self.out.extend_from_slice(&[0, high, low, 0x4, 0, 0, 0, 0, 0]);
        self.out.extend_from_slice(payload);
        self.out.extend_from_slice(&NO_TABLE);
    }
}

/// The number that a payload begins with.
fn number_in(mut payload: &[u8]) -> Option<u32> {
    payload.try_get_u32().ok()
}
