//! One RPC over HTTP/2, as gRPC frames it: messages with a prefix each way, and a status behind the last.

use std::{borrow::Cow, future::poll_fn};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use prost::Message;
use tonic::Code;

use super::fault::Fault;

/// A message of a driver's: what fits into a gRPC client's answer by default, less room for the broker's own envelope.
pub(crate) const MAX_MESSAGE: usize = (4 << 20) - (64 << 10);
/// A flag and the length, before each message.
const PREFIX: usize = 5;
/// Bytes of a message that are given to h2 at once.
const PART: usize = 16 * 1024;

/// One RPC. Dropped before its end, it is cancelled: what of it is not written yet never is.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The broker's side.
    pub(crate) sending: Sending,
    /// The driver's side.
    pub(crate) receiving: Receiving,
}

/// The broker's side of an RPC.
#[derive(Debug)]
pub(crate) struct Sending {
    stream: SendStream<Bytes>,
    ended: bool,
}

/// The driver's side of an RPC.
#[derive(Debug)]
pub(crate) struct Receiving {
    answer: Answer,
    buffer: BytesMut,
}

#[derive(Debug)]
enum Answer {
    Awaited(ResponseFuture),
    Coming(RecvStream),
    Ended,
}

impl Exchange {
    pub(super) fn new(response: ResponseFuture, stream: SendStream<Bytes>) -> Self {
        Self {
            sending: Sending { stream, ended: false },
            receiving: Receiving {
                answer: Answer::Awaited(response),
                buffer: BytesMut::new(),
            },
        }
    }

    /// HTTP/2's number of it.
    pub(super) fn stream(&self) -> u32 {
        self.sending.stream.stream_id().as_u32()
    }

    /// One message there and one back.
    pub(super) async fn unary<Q: Message, A: Message + Default>(&mut self, question: &Q) -> Result<A, Fault> {
        // A driver may answer before it has taken all, and its answer says more than the break.
        let sent = self.sending.send(question, true).await;
        let answer = match (self.receiving.next().await, sent) {
            (Ok(Some(answer)), _) => answer,
            (Ok(None), _) => return Err(Fault::Protocol("ended an RPC with OK and no answer".to_owned())),
            (Err(Fault::Broken { .. }), Err(fault)) | (Err(fault), _) => return Err(fault),
        };
        match self.receiving.next::<A>().await? {
            None => Ok(answer),
            Some(_) => Err(Fault::Protocol("answered twice".to_owned())),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.sending.ended || !matches!(self.receiving.answer, Answer::Ended) {
            self.sending.stream.send_reset(Reason::CANCEL);
        }
    }
}

impl Sending {
    /// Sends a message, waiting while the driver's side takes nothing; `last` half-closes behind it. If the future is
    /// dropped, a part of the message may have gone: the RPC can only be cancelled then.
    pub(crate) async fn send(&mut self, message: &impl Message, last: bool) -> Result<(), Fault> {
        self.pour(&mut frame(message)?, last).await
    }

    /// Sends what messages were framed as, likewise. What has gone is taken out of `frame`: if the future is dropped, the
    /// rest may be sent later.
    pub(crate) async fn pour(&mut self, frame: &mut BytesMut, last: bool) -> Result<(), Fault> {
        while !frame.is_empty() {
            let room = self.room(frame.len().min(PART)).await?;
            let part = frame.split_to(room.min(frame.len())).freeze();
            self.pass(part, last && frame.is_empty())?;
        }
        Ok(())
    }

    /// Whether the last message has been given to HTTP/2.
    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Half-closes.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        self.pass(Bytes::new(), true)
    }

    fn pass(&mut self, part: Bytes, last: bool) -> Result<(), Fault> {
        let passed = self.stream.send_data(part, last);
        passed.map_err(|error| Fault::broken(&error))?;
        self.ended |= last;
        Ok(())
    }

    /// Bytes that the driver's side takes now.
    async fn room(&mut self, wanted: usize) -> Result<usize, Fault> {
        self.stream.reserve_capacity(wanted);
        while self.stream.capacity() == 0 {
            match poll_fn(|cx| self.stream.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Fault::broken(&error)),
                None => {
                    return Err(Fault::Broken {
                        message: "the driver takes no more of the call".to_owned(),
                        refused: false,
                    });
                }
            }
        }
        Ok(self.stream.capacity())
    }
}

/// A message as gRPC frames it.
pub(crate) fn frame(message: &impl Message) -> Result<BytesMut, Fault> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).map_err(|_| Fault::Protocol("is sent too much".to_owned()))?);
    frame.put(message.encode_to_vec().as_slice());
    Ok(frame)
}

impl Receiving {
    /// The next message; None when the RPC has ended with OK. While nobody calls this, the driver's side is paused as
    /// soon as its window is used up. The future may be dropped and called again.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Fault> {
        loop {
            if let Some(message) = self.take()? {
                let read = M::decode(message);
                return read
                    .map(Some)
                    .map_err(|error| Fault::Protocol(format!("sent what is no message: {error}")));
            }
            match &mut self.answer {
                Answer::Awaited(response) => {
                    let response = response.await.map_err(|error| Fault::broken(&error))?;
                    self.begin(response)?;
                }
                Answer::Coming(stream) => match stream.data().await {
                    Some(part) => {
                        let part = part.map_err(|error| Fault::broken(&error))?;
                        self.buffer.extend_from_slice(&part);
                        let released = stream.flow_control().release_capacity(part.len());
                        released.map_err(|error| Fault::broken(&error))?;
                    }
                    None => {
                        let trailers = stream.trailers().await.map_err(|error| Fault::broken(&error))?;
                        self.answer = Answer::Ended;
                        return self.end(&trailers.unwrap_or_default());
                    }
                },
                Answer::Ended => return Ok(None),
            }
        }
    }

    /// Reads an answer's head.
    fn begin(&mut self, response: http::Response<RecvStream>) -> Result<(), Fault> {
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(no_grpc(head.status));
        }
        let kind = head.headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
        if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
            return Err(Fault::Protocol(
                "is no gRPC server: its content type is another".to_owned(),
            ));
        }
        // An error without a message may come with the head.
        if body.is_end_stream() && head.headers.contains_key(STATUS) {
            self.answer = Answer::Ended;
            return self.end::<()>(&head.headers).map(|_| ());
        }
        self.answer = Answer::Coming(body);
        Ok(())
    }

    /// A whole message, if there is one.
    fn take(&mut self) -> Result<Option<Bytes>, Fault> {
        let Some((prefix, _)) = self.buffer.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 {
            return Err(Fault::Protocol("compresses, and was not asked to".to_owned()));
        }
        if length > MAX_MESSAGE {
            return Err(Fault::Protocol(format!(
                "sent a message of {length} bytes: at most {MAX_MESSAGE}, stream more"
            )));
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn end<M>(&self, trailers: &HeaderMap) -> Result<Option<M>, Fault> {
        let Some(code) = trailers.get(STATUS) else {
            return Err(Fault::Protocol("ended an RPC without a status".to_owned()));
        };
        let code = Code::from_bytes(code.as_bytes());
        if code != Code::Ok {
            let message = trailers.get(MESSAGE).map(|text| decoded(text.as_bytes()));
            let message = message.map(Cow::into_owned).unwrap_or_default();
            return Err(Fault::Status { code, message });
        }
        if !self.buffer.is_empty() {
            return Err(Fault::Protocol("ended an RPC within a message".to_owned()));
        }
        Ok(None)
    }
}

/// What an answer of plain HTTP means: a proxy before the driver says that it does not reach it now, as gRPC's own table
/// of HTTP's codes has it; anything else is no driver at all.
fn no_grpc(status: StatusCode) -> Fault {
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Fault::Status {
            code: Code::Unavailable,
            message: format!("HTTP {status}, from what is before it"),
        },
        _ => Fault::Protocol(format!("is no gRPC server: HTTP {status}")),
    }
}

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// A status's message, in which gRPC writes some bytes as `%20`.
fn decoded(text: &[u8]) -> Cow<'_, str> {
    if !text.contains(&b'%') {
        return String::from_utf8_lossy(text);
    }
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => digit(high).zip(digit(low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_does_not_reach_its_driver_now_may_reach_it_later() {
        use crate::backend::DialErrorKind;
        let kind = |status| no_grpc(status).of_dial("Describe").kind;
        for status in [429, 502, 503, 504] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(kind(status), DialErrorKind::Transient, "{status}");
        }
        for status in [StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
            assert_eq!(kind(status), DialErrorKind::Permanent, "{status}");
        }
    }

    #[test]
    fn a_statuss_message_is_decoded_where_it_is_encoded() {
        assert_eq!(decoded(b"plain"), "plain");
        assert_eq!(decoded(b"caf%C3%A9 100%25 %zz%2"), "caf\u{e9} 100% %zz%2");
    }
}
