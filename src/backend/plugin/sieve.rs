//! Takes out of what a driver's side sends the frames that say nothing: DATA that is empty and ends no stream, which
//! proxies may send. h2 ends a connection on which there were a hundred of them in its life.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use super::frames::{HEADER, Head};

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Reads frames on their way.
#[derive(Debug)]
pub(super) struct Sieve {
    chunk: Box<[u8]>,
    /// Read and not looked at: less than a frame's header between two calls.
    raw: BytesMut,
    /// To be handed on.
    out: BytesMut,
    /// Left of a frame that goes through as it is.
    through: usize,
}

impl Sieve {
    pub(super) fn new() -> Self {
        Self {
            chunk: vec![0; CHUNK].into(),
            raw: BytesMut::new(),
            out: BytesMut::new(),
            through: 0,
        }
    }

    pub(super) fn poll_read<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.out.is_empty() {
            let mut chunk = ReadBuf::new(&mut self.chunk);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.raw.extend_from_slice(chunk.filled());
            self.sift();
        }
        let part = self.out.len().min(buf.remaining());
        buf.put_slice(&self.out.split_to(part));
        Poll::Ready(Ok(()))
    }

    /// Looks at what has been read, as far as whole headers go.
    fn sift(&mut self) {
        loop {
            let part = self.through.min(self.raw.len());
            self.out.extend_from_slice(&self.raw.split_to(part));
            self.through -= part;
            let Some(header) = self.raw.first_chunk() else {
                return;
            };
            let head = Head::read(*header);
            if head.says_nothing() {
                self.raw.advance(HEADER);
            } else {
                self.through = HEADER + head.length();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::{super::frames::frame, *};

    /// What comes out of these bytes if they come in pieces of so many.
    async fn sifted(bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut peer, mut io) = duplex(piece);
        let writing = async move { peer.write_all(bytes).await.unwrap() };
        let reading = async {
            let (mut sieve, mut all) = (Sieve::new(), Vec::new());
            loop {
                let mut part = [0; 7];
                let mut buf = ReadBuf::new(&mut part);
                let read = poll_fn(|cx| sieve.poll_read(&mut io, cx, &mut buf));
                read.await.unwrap();
                if buf.filled().is_empty() {
                    return all;
                }
                all.extend_from_slice(buf.filled());
            }
        };
        tokio::join!(reading, writing).0
    }

    #[tokio::test]
    async fn only_frames_that_say_nothing_are_taken_out_wherever_their_bytes_are_split() {
        let empty = frame(0, 0, 1, 0);
        let kept = [
            frame(4, 0, 0, 0),
            frame(0, 0, 1, 30),
            frame(0, 1, 1, 0),
            frame(0, 0, 0, 0),
        ];
        let sent = [
            &empty, &kept[0], &empty, &empty, &kept[1], &empty, &kept[2], &kept[3],
        ];
        let sent: Vec<u8> = sent.into_iter().flatten().copied().collect();
        for piece in [1, 8, 9, 10, 1000] {
            assert_eq!(sifted(&sent, piece).await, kept.concat(), "in pieces of {piece}");
        }
    }
}
