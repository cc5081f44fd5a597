//! An answer on its way to the caller: the head first, then its body as fast as the caller reads.

use bytes::Bytes;
use http::{HeaderMap, Response, Version, header};
use http_body_util::BodyExt as _;

use super::link::{Inbound, causes};
use crate::{
    backend::{CallError, Event, Sink},
    proto,
};

/// A frame's limit.
const MAX_FRAME: usize = 64 * 1024;
/// An answer's body that is read through only to keep its connection, at most.
const MAX_SKIPPED: usize = 64 * 1024;

/// Hands an answer to the caller. While the caller does not read, nothing is read from the service.
pub(super) async fn deliver(answer: Response<Inbound>, sink: &mut Sink) -> Result<(), CallError> {
    let (head, mut body) = answer.into_parts();
    let head = proto::Head {
        status: i32::from(head.status.as_u16()),
        headers: head.headers.iter().map(told).collect(),
    };
    send(sink, Event::Head(head)).await?;
    while let Some(mut bytes) = next_part(&mut body).await? {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(MAX_FRAME));
            send(sink, Event::Data(part)).await?;
        }
    }
    Ok(())
}

/// Reads an answer's body through. False if it is too long for that.
pub(super) async fn skip(answer: Response<Inbound>) -> Result<bool, CallError> {
    let mut body = answer.into_body();
    let mut seen = 0;
    while let Some(bytes) = next_part(&mut body).await? {
        seen += bytes.len();
        if seen > MAX_SKIPPED {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the service announced that this answer is the connection's last.
pub(super) fn is_last(version: Version, headers: &HeaderMap) -> bool {
    let said = |word: &str| {
        let values = headers.get_all(header::CONNECTION).iter();
        let mut words = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        words.any(|other| other.trim().eq_ignore_ascii_case(word))
    };
    said("close") || (version < Version::HTTP_11 && !said("keep-alive"))
}

async fn send(sink: &mut Sink, event: Event) -> Result<(), CallError> {
    sink.send(event).await.map_err(CallError::Sink)
}

/// The next bytes; trailers are left out.
pub(super) async fn next_part(body: &mut Inbound) -> Result<Option<Bytes>, CallError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CallError::Broken {
            message: format!("the answer broke off: {}", causes(&*error)),
            executed: None,
        })?;
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn told((name, value): (&http::HeaderName, &http::HeaderValue)) -> proto::Header {
    proto::Header {
        name: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    }
}
