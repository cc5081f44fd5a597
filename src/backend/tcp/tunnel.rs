//! Bytes carried both ways as they come, until the peer's end.
//!
//! Loops: `up` and `down`, in the call's own future.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};

use super::link::{Link, READ};
use crate::backend::{Body, CallError, Completion, Event, Fence, Output, Sink};

/// The caller's two ends.
pub(super) struct Ends<'a> {
    pub(super) body: Body,
    pub(super) sink: &'a mut Sink,
}

/// What is under way. Silence is as it should be while nothing is, and both directions are open; whatever waits then
/// for the peer, or for the caller, is looked after by the call's limits.
struct Traffic {
    fence: Arc<Fence>,
    under_way: AtomicU32,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Something is under way, until this is dropped.
struct UnderWay<'a>(&'a Traffic);

impl Traffic {
    fn new(fence: &Arc<Fence>) -> Self {
        fence.set_at_rest(true);
        Self {
            fence: Arc::clone(fence),
            under_way: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.fence.set_at_rest(false);
        UnderWay(self)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let before = self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        self.0.fence.set_at_rest(before == 1);
    }
}

impl Drop for Traffic {
    /// However the call ends, the next one's silence is a stall.
    fn drop(&mut self) {
        self.fence.set_at_rest(false);
    }
}

/// Carries bytes between the caller and the peer. With `half_open` the caller's input goes on after the peer's end,
/// which is told by an empty part.
///
/// # Errors
/// When the connection broke, or the caller's input did.
pub(super) async fn carry(
    fence: &Arc<Fence>,
    link: &mut Link,
    ends: Ends<'_>,
    half_open: bool,
) -> Result<Completion, CallError> {
    let traffic = Traffic::new(fence);
    let (io, received) = link.parts();
    let early = std::mem::take(received);
    let (reader, writer) = split(io);
    let Ends { body, sink } = ends;
    let mut up = pin!(up(writer, body, &traffic));
    let mut uploaded = None;
    // One side has ended: the other one has to come to its end too.
    let mut half = None;
    {
        let mut down = pin!(down(reader, early, sink, &traffic));
        loop {
            tokio::select! {
                read = &mut down => break read?,
                ended = &mut up, if uploaded.is_none() => {
                    if matches!(ended, Err(CallError::Input)) {
                        return Err(CallError::Input);
                    }
                    // If writing failed, what the peer said last is still to be read.
                    uploaded = Some(ended);
                    half = Some(traffic.begin());
                }
            }
        }
    }
    half.get_or_insert_with(|| traffic.begin());
    match uploaded {
        Some(ended) => ended?,
        None if half_open => {
            sink.send(Event::Data(Bytes::new()))
                .await
                .map_err(CallError::Sink)?;
            up.await?;
        }
        None => {}
    }
    let count = |name: &str, bytes: &AtomicU64| (name.to_owned(), bytes.load(Ordering::Relaxed).to_string());
    Ok(Completion {
        output: Output::None,
        attributes: vec![count("sent", &traffic.sent), count("received", &traffic.received)],
        retries: 0,
    })
}

/// From the caller to the peer, each part as it comes; at its end the peer is told that nothing more comes.
async fn up(mut writer: impl AsyncWrite + Unpin, body: Body, traffic: &Traffic) -> Result<(), CallError> {
    let mut parts = match body {
        Body::Whole(bytes) => {
            send(&mut writer, &bytes, traffic).await?;
            return finish(&mut writer, traffic).await;
        }
        Body::Stream(parts) => parts,
    };
    while let Some(part) = parts.next().await.map_err(|_| CallError::Input)? {
        send(&mut writer, &part, traffic).await?;
    }
    finish(&mut writer, traffic).await
}

async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    part: &Bytes,
    traffic: &Traffic,
) -> Result<(), CallError> {
    let _under_way = traffic.begin();
    writer.write_all(part).await.map_err(|error| broken(&error))?;
    writer.flush().await.map_err(|error| broken(&error))?;
    traffic.sent.fetch_add(part.len() as u64, Ordering::Relaxed);
    Ok(())
}

async fn finish(writer: &mut (impl AsyncWrite + Unpin), traffic: &Traffic) -> Result<(), CallError> {
    let _under_way = traffic.begin();
    writer.shutdown().await.map_err(|error| broken(&error))
}

/// From the peer to the caller; nothing is read while the caller does not take what was.
async fn down(
    mut reader: impl AsyncRead + Unpin,
    mut read: BytesMut,
    sink: &mut Sink,
    traffic: &Traffic,
) -> Result<(), CallError> {
    loop {
        while !read.is_empty() {
            let _under_way = traffic.begin();
            let part = read.split_to(read.len().min(READ)).freeze();
            let length = part.len() as u64;
            sink.send(Event::Data(part)).await.map_err(CallError::Sink)?;
            traffic.received.fetch_add(length, Ordering::Relaxed);
        }
        if read.capacity() < READ / 4 {
            read.reserve(READ);
        }
        if reader.read_buf(&mut read).await.map_err(|error| broken(&error))? == 0 {
            return Ok(());
        }
    }
}

fn broken(error: &io::Error) -> CallError {
    CallError::Lost {
        message: format!("the connection to the peer broke: {error}"),
        executed: None,
    }
}
