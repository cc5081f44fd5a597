//! A session: one connection, who used it last, and what is known of what he left behind.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    definition::{Exchange, Peer, Reset},
    link::{Link, LinkError},
    plan::{Payload, Plan, Shape, Wanted},
    tunnel,
};
use crate::{
    backend::{
        Body, CallError, Cleanliness, Completion, Event, Fence, Operation, Output, Session, SessionLost,
        Sink, hex, socket::Pending,
    },
    error::Faults,
};

/// Bytes of one event, at most.
const FRAME: usize = 64 << 10;

/// One session.
#[derive(Debug)]
pub(super) struct TcpSession {
    peer: Arc<Peer>,
    fence: Arc<Fence>,
    link: Link,
    /// The grant that used it last; 0 is nobody.
    holder: u64,
    /// Somebody has used it since it was last clean.
    used: bool,
    /// Messages that the holder has sent.
    sent: u64,
    /// Messages that he has received.
    received: u64,
    /// It is in the middle of something, or beyond use: it can only be cut.
    broken: bool,
    /// It has been a tunnel, and came to its end in order.
    spent: bool,
    /// A request's answer is here, and the holder does not have it: the next one's would be taken for it.
    unread: bool,
}

impl TcpSession {
    pub(super) const fn new(peer: Arc<Peer>, fence: Arc<Fence>, link: Link) -> Self {
        Self {
            peer,
            fence,
            link,
            holder: 0,
            used: false,
            sent: 0,
            received: 0,
            broken: false,
            spent: false,
            unread: false,
        }
    }

    async fn run(&mut self, mut operation: Operation, sink: &mut Sink) -> Result<Completion, CallError> {
        let plan = operation.plan(|operation| Plan::read(operation, &self.peer))?;
        self.begin().await.map_err(CallError::lost_before)?;
        if self.unread && !matches!(plan, Plan::Receive(_)) {
            return Err(invalid(
                "name",
                "must be `receive`: the answer to the request before is still to be taken",
            ));
        }
        match plan {
            Plan::Send(payload) => {
                let sent = self.send(payload, operation.body).await?;
                Ok(done(Output::None, &[("sent", sent)]))
            }
            Plan::Receive(wanted) => {
                if matches!(operation.body, Body::Stream(_)) {
                    return Err(invalid("body", "`receive` takes none: leave more_input out"));
                }
                let length = self.message(&wanted).await?;
                self.give(length, wanted.shape, sink).await
            }
            Plan::Request(payload, wanted) => {
                let sent = self.send(payload, operation.body).await?;
                // Cut now, its answer would be taken for the next one's.
                self.broken = true;
                let length = self.message(&wanted).await?;
                (self.broken, self.unread) = (false, true);
                let mut completion = self.give(length, wanted.shape, sink).await?;
                completion.attributes.push(("sent".to_owned(), sent.to_string()));
                Ok(completion)
            }
            Plan::Tunnel { half_open } => {
                let body = operation.body;
                self.tunnel(tunnel::Ends { body, sink }, half_open).await
            }
        }
    }

    /// Finds out whether a call may begin. What came on a new connection is its first holder's; afterwards, what came
    /// while nobody held it is nobody's.
    async fn begin(&mut self) -> Result<(), LinkError> {
        if self.broken || self.spent {
            return Err(LinkError::UsedUp);
        }
        self.link.come_home()?;
        let holder = self.fence.number();
        if holder == 0 {
            // The holder's time ended a moment ago: nobody's call may change what is known of him.
            return Err(LinkError::TakenAway);
        }
        if holder != self.holder {
            if self.holder != 0 {
                self.broken = true;
                self.link.is_silent().await?;
                self.broken = false;
            }
            (self.holder, self.sent, self.received) = (holder, 0, 0);
        }
        self.used = true;
        Ok(())
    }

    /// Whatever becomes of it, nobody knows where the peer's protocol stands afterwards.
    async fn tunnel(&mut self, ends: tunnel::Ends<'_>, half_open: bool) -> Result<Completion, CallError> {
        self.broken = true;
        let done = tunnel::carry(&self.fence, &mut self.link, ends, half_open).await?;
        (self.broken, self.spent) = (false, true);
        Ok(done)
    }

    /// Sends what there is to send, and says how many bytes that were.
    async fn send(&mut self, payload: Payload, body: Body) -> Result<u64, CallError> {
        if self.link.pending() == Pending::End {
            self.broken = true;
            return Err(CallError::lost_before(LinkError::Closed));
        }
        let nothing = "there is nothing to send: give `text` or `hex` in the params, or a body";
        let length = match (payload, body) {
            (Payload::Typed(_), Body::Stream(_)) => {
                return Err(invalid(
                    "body",
                    "is there beside `text` or `hex`: leave more_input out",
                ));
            }
            (Payload::Typed(bytes), Body::Whole(_)) | (Payload::Body, Body::Whole(bytes)) => {
                if bytes.is_empty() {
                    return Err(invalid("body", nothing));
                }
                self.broken = true;
                self.send_part(bytes).await?
            }
            (Payload::Body, Body::Stream(mut parts)) => {
                let mut length = 0;
                while let Some(part) = parts.next().await.map_err(|_| CallError::Input)? {
                    self.broken = true;
                    length += self.send_part(part).await?;
                }
                length
            }
        };
        if length == 0 {
            return Err(invalid("body", nothing));
        }
        self.broken = false;
        self.sent += 1;
        Ok(length)
    }

    async fn send_part(&mut self, bytes: Bytes) -> Result<u64, CallError> {
        let length = bytes.len() as u64;
        let sent = self.link.send(bytes, self.peer.limit).await;
        sent.map_err(|error| lost(&error))?;
        Ok(length)
    }

    /// Waits for a message. Cut, nothing of it is lost: the next call finds it where it is.
    async fn message(&mut self, wanted: &Wanted) -> Result<usize, CallError> {
        let found = self.link.message(&wanted.framing, wanted.limit, &self.peer.clock);
        let found = found.await;
        found.map_err(|error| {
            self.broken = true;
            lost(&error)
        })
    }

    /// Gives the caller the message at the front; it is taken when he has all of it.
    async fn give(&mut self, length: usize, shape: Shape, sink: &mut Sink) -> Result<Completion, CallError> {
        let message = self.link.received().get(..length).unwrap_or_default();
        let output = match shape {
            Shape::Bytes => {
                for frame in message.chunks(FRAME) {
                    let frame = Bytes::copy_from_slice(frame);
                    sink.send(Event::Data(frame)).await.map_err(CallError::Sink)?;
                }
                Output::None
            }
            Shape::Text | Shape::Hex => Output::Json(readable(message, shape)),
        };
        self.link.take(length);
        self.unread = false;
        self.received += 1;
        Ok(done(output, &[("received", length as u64)]))
    }

    /// What the next holder would find if nothing were done.
    fn left_behind(&self) -> Cleanliness {
        if self.broken || self.spent || self.link.pending() == Pending::End {
            return Cleanliness::Broken;
        }
        if !self.used {
            return Cleanliness::Clean;
        }
        let fits = match self.peer.reset {
            Reset::Close => false,
            Reset::Exchange(_) => self.sent <= self.received,
            Reset::Answered => self.sent == self.received,
            Reset::Silent => true,
        };
        let exchange = matches!(self.peer.reset, Reset::Exchange(_));
        match self.link.pending() {
            _ if !fits => Cleanliness::Broken,
            Pending::Nothing if exchange => Cleanliness::Dirty,
            Pending::Nothing => Cleanliness::Clean,
            // To be looked at, which takes a moment.
            Pending::Bytes if self.link.may_be_ticket() => Cleanliness::Dirty,
            Pending::Bytes | Pending::End => Cleanliness::Broken,
        }
    }

    async fn clean(&mut self) -> Result<(), LinkError> {
        self.link.come_home()?;
        self.link.is_silent().await?;
        let peer = Arc::clone(&self.peer);
        if let Reset::Exchange(exchange) = &peer.reset {
            self.exchange(exchange).await?;
        }
        self.used = false;
        Ok(())
    }

    async fn check(&mut self) -> Result<(), LinkError> {
        self.link.come_home()?;
        let peer = Arc::clone(&self.peer);
        // What a new connection says of itself waits for its first holder.
        let fresh = self.holder == 0 && self.link.pending() == Pending::Bytes;
        match &peer.health {
            None if fresh => Ok(()),
            None => self.link.is_silent().await,
            Some(exchange) => {
                self.link.is_silent().await?;
                self.exchange(exchange).await
            }
        }
    }

    /// Sends and takes the answer, which nothing may follow.
    async fn exchange(&mut self, exchange: &Exchange) -> Result<(), LinkError> {
        let (limit, clock) = (self.peer.limit, &self.peer.clock);
        self.link.send(exchange.send.clone(), limit).await?;
        self.link.expect(&exchange.expect, limit, clock).await?;
        self.link.is_silent().await
    }
}

fn readable(message: &[u8], shape: Shape) -> String {
    match std::str::from_utf8(message) {
        Ok(text) if shape == Shape::Text => serde_json::json!({ "text": text }),
        Ok(_) | Err(_) => serde_json::json!({ "hex": hex::encode(message) }),
    }
    .to_string()
}

fn done(output: Output, counts: &[(&str, u64)]) -> Completion {
    Completion {
        output,
        attributes: counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), count.to_string()))
            .collect(),
        retries: 0,
    }
}

fn invalid(field: &str, message: &str) -> CallError {
    CallError::Invalid(Faults::one(field, message))
}

fn lost(error: &LinkError) -> CallError {
    CallError::Lost {
        message: error.to_string(),
        executed: None,
    }
}

impl From<LinkError> for SessionLost {
    fn from(error: LinkError) -> Self {
        Self::because(error.to_string())
    }
}

impl Session for TcpSession {
    fn endpoint(&self) -> &Arc<str> {
        &self.peer.name
    }

    fn execute<'a>(
        &'a mut self,
        operation: Operation,
        sink: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>> {
        self.run(operation, sink).boxed()
    }

    /// Only a call that has nothing under way in either direction leaves a session that can go on.
    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        async {
            if self.broken {
                Err(LinkError::UsedUp.into())
            } else {
                Ok(())
            }
        }
        .boxed()
    }

    fn cleanliness(&self) -> Cleanliness {
        self.left_behind()
    }

    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        async {
            let broken = std::mem::replace(&mut self.broken, true);
            if broken {
                return Err(LinkError::UsedUp.into());
            }
            self.clean().await?;
            self.broken = false;
            Ok(())
        }
        .boxed()
    }

    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        async {
            let broken = std::mem::replace(&mut self.broken, true);
            if broken {
                return Err(LinkError::UsedUp.into());
            }
            self.check().await?;
            self.broken = false;
            Ok(())
        }
        .boxed()
    }

    /// In the middle of something it is cut, and the peer sees a reset.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            if !self.broken {
                self.link.close().await;
            }
        }
        .boxed()
    }
}
