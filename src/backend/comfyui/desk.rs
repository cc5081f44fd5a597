//! Requests to a box over one HTTP connection, a request at a time.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;

use super::{fault, strange};
use crate::backend::{
    CallError, Session, SessionLost,
    http::{Asked, Client, Exchange, Grip},
};

/// An answer that is read whole, at most: a history entry holds its workflow and everything its nodes put out, and a
/// queue the workflows of all that wait.
const MAX_ANSWER: usize = 64 << 20;

/// One HTTP connection to a box.
#[derive(Debug)]
pub(super) struct Desk(Client);

/// Takes an answer's bytes.
type Taker<'a> = &'a mut (dyn FnMut(&[u8]) + Send);

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Desk {
    pub(super) const fn new(client: Client) -> Self {
        Self(client)
    }

    /// Asks for something small; any status is an answer.
    pub(super) async fn get(&mut self, path: &str) -> Result<Answer, CallError> {
        self.whole(&asked(Method::GET, path, "", Bytes::new())).await
    }

    /// As [`Desk::get`], and reads its JSON; a status that is no success is the box's error.
    pub(super) async fn read<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, CallError> {
        let answer = self.get(path).await?;
        if !answer.status.is_success() {
            return Err(fault::of_answer(&answer));
        }
        answer.json()
    }

    /// As [`Desk::read`], but hands the answer's bytes on as they come, however many they are.
    pub(super) async fn read_in_parts(&mut self, path: &str, taker: Taker<'_>) -> Result<(), CallError> {
        let asked = asked(Method::GET, path, "", Bytes::new());
        let answer = self.answered(&asked, Some(taker)).await?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(fault::of_answer(&answer))
        }
    }

    /// Sends JSON.
    pub(super) async fn post(&mut self, path: &str, json: String) -> Result<Answer, CallError> {
        let asked = asked(Method::POST, path, "application/json", Bytes::from(json));
        self.whole(&asked).await
    }

    /// Sends a request and reads the answer whole. The connection is at a boundary afterwards, unless this is dropped.
    pub(super) async fn whole(&mut self, asked: &Asked) -> Result<Answer, CallError> {
        self.answered(asked, None).await
    }

    async fn answered(&mut self, asked: &Asked, taker: Option<Taker<'_>>) -> Result<Answer, CallError> {
        let outcome = self.try_answered(asked, taker).await;
        if outcome.is_err() {
            // What was cut off is hung up, so that the next request finds a connection of its own. Its loss tells no
            // more than the error does.
            self.settle().await.ok();
        }
        outcome
    }

    /// An answer's body goes to who takes it, if it is a success.
    async fn try_answered(&mut self, asked: &Asked, taker: Option<Taker<'_>>) -> Result<Answer, CallError> {
        let mut exchange = self.0.ask(asked).await?;
        let mut body = BytesMut::new();
        let mut taker = taker.filter(|_| exchange.head.status.is_success());
        while let Some(part) = exchange.next().await? {
            if let Some(take) = &mut taker {
                take(&part);
                continue;
            }
            if body.len() + part.len() > MAX_ANSWER {
                return Err(CallError::Broken {
                    message: format!("the box's answer is larger than {MAX_ANSWER} bytes"),
                    executed: None,
                });
            }
            body.extend_from_slice(&part);
        }
        let (status, headers) = (exchange.head.status, exchange.head.headers.clone());
        let mut body = body.freeze();
        if !status.is_success() {
            // A proxy may show what it was sent, and what is no success goes into errors.
            body = exchange.redacted(&String::from_utf8_lossy(&body)).into();
        }
        exchange.finish(true).await;
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    /// Sends a request whose answer is read in parts.
    pub(super) async fn open(&mut self, asked: &Asked) -> Result<Exchange<'_>, CallError> {
        self.0.ask(asked).await
    }

    /// Makes sure that there is a connection that lives.
    pub(super) async fn renew(&mut self) -> Result<(), CallError> {
        self.0.renew().await
    }

    /// What tells how far the next request has been written.
    pub(super) fn grip(&self) -> Option<Grip> {
        self.0.grip()
    }

    /// Cuts off what was under way.
    pub(super) async fn settle(&mut self) -> Result<(), SessionLost> {
        self.0.session_mut().settle().await
    }

    /// The HTTP connection as a session, to be looked at.
    pub(super) const fn session(&self) -> &impl Session {
        self.0.session()
    }

    /// As [`Desk::session`], to be closed.
    pub(super) fn into_session(self) -> Box<dyn Session> {
        self.0.into_session()
    }
}

impl Answer {
    /// Its JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_str(&strange::cured(&self.text())).map_err(|error| CallError::Broken {
            message: format!("the box's answer is not what it should be: {error}"),
            executed: None,
        })
    }

    /// Its body as text.
    pub(super) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// A request; `kind` is its body's content type, empty without a body.
pub(super) fn asked(method: Method, path: &str, kind: &str, body: Bytes) -> Asked {
    let mut headers = HeaderMap::new();
    if let Ok(kind) = HeaderValue::from_str(kind)
        && !kind.is_empty()
    {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    Asked {
        method,
        path: path.to_owned(),
        headers,
        body,
    }
}

/// A query's parameter, with a name that needs no encoding.
pub(super) fn parameter(path: &mut String, name: &str, value: &str) {
    path.push(if path.contains('?') { '&' } else { '?' });
    path.push_str(name);
    path.push('=');
    encode(value, path);
}

/// Encodes all but the unreserved characters of RFC 3986.
pub(super) fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}
