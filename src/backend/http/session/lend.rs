//! HTTP for kinds that speak over it. They say what is sent and read the answers themselves; connections, places on
//! shared ones, the fence, and what may be sent anew are the business of this kind.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, uri::PathAndQuery};

use super::{Call, HttpSession};
use crate::{
    backend::{
        CallError, DialError, Fence, Session, Shared,
        carrier::Carrier,
        http::{
            address::Address,
            answer,
            definition::{DEFAULT_WAIT, Limits, SecretHeader, Speaks, Target},
            dial,
            h2::Table,
            link::{Inbound, Link},
            pace::Pace,
            plan::{Plan, Sending},
            wire::Wire,
        },
        registry::Surroundings,
        span::DAY,
        tls::{Asked as TlsAsked, TlsPlan},
    },
    error::Faults,
    proto::{Endpoint, Tls},
};

/// An HTTP service at one endpoint. Its connections are one slot's each, or shared among the slots of this endpoint.
#[derive(Debug)]
pub(in crate::backend) struct Service {
    target: Arc<Target>,
    table: Arc<Table>,
}

/// What is known of a service before it is dialed.
#[derive(Debug)]
pub(in crate::backend) struct Wanted<'a> {
    pub(in crate::backend) endpoint: &'a Endpoint,
    pub(in crate::backend) name: Arc<str>,
    pub(in crate::backend) tls: &'a Tls,
    /// What every path begins with if the address has no path.
    pub(in crate::backend) base: &'static str,
    /// Sent with every request.
    pub(in crate::backend) headers: HeaderMap,
    pub(in crate::backend) secret_headers: Vec<SecretHeader>,
    /// For a connection that a call opens anew.
    pub(in crate::backend) connect: Duration,
    /// How long a connection that is shared may leave a ping unanswered.
    pub(in crate::backend) pong: Duration,
}

/// A request, which can be made as often as needed.
#[derive(Clone, Debug)]
pub(in crate::backend) struct Asked {
    pub(in crate::backend) method: Method,
    /// The path below the service's own, with its query.
    pub(in crate::backend) path: String,
    pub(in crate::backend) headers: HeaderMap,
    pub(in crate::backend) body: Bytes,
}

/// One slot to a service.
#[derive(Debug)]
pub(in crate::backend) struct Client(HttpSession);

/// Tells how far a connection's request has been written.
#[derive(Debug)]
pub(in crate::backend) struct Grip(Arc<Pace>);

impl Grip {
    /// Whether all of it has been handed over.
    pub(in crate::backend) fn is_written(&self) -> bool {
        self.0.is_written()
    }
}

/// A request that is being answered. Dropped before [`Exchange::finish`], it is cut off, and the client has to be
/// settled.
pub(in crate::backend) struct Exchange<'a> {
    call: Call<'a>,
    pub(in crate::backend) head: http::response::Parts,
    body: Inbound,
    last: bool,
}

impl Service {
    /// Reads an endpoint; faults of its address are at `address`, those of TLS at `tls`.
    pub(in crate::backend) fn read(
        wanted: Wanted<'_>,
        surroundings: &Surroundings,
        faults: &mut Faults,
    ) -> Option<Self> {
        Self::read_as(None, wanted, surroundings, faults)
    }

    /// As [`Service::read`], for a service to which HTTP/1.1 only is spoken.
    pub(in crate::backend) fn read_http1(
        wanted: Wanted<'_>,
        surroundings: &Surroundings,
        faults: &mut Faults,
    ) -> Option<Self> {
        Self::read_as(Some(Speaks::Http1), wanted, surroundings, faults)
    }

    fn read_as(
        speaks: Option<Speaks>,
        wanted: Wanted<'_>,
        surroundings: &Surroundings,
        faults: &mut Faults,
    ) -> Option<Self> {
        let mut address = Address::read(&wanted.endpoint.address, wanted.tls.enabled)
            .map_err(|message| faults.add("address", message))
            .ok()?;
        if address.base.is_empty() {
            wanted.base.clone_into(&mut address.base);
        }
        let preferred = if address.https {
            Speaks::Either
        } else {
            Speaks::Http1
        };
        let speaks = speaks.unwrap_or(preferred);
        let tls = read_tls(wanted.tls, &address, speaks, faults);
        let target = Arc::new(Target {
            name: wanted.name,
            speaks,
            sockets: None,
            tls,
            headers: wanted.headers,
            secret_headers: wanted.secret_headers,
            limits: Limits {
                connect: wanted.connect,
                write: DEFAULT_WAIT,
                // How long an answer may take is the kind's own business.
                first_byte: DAY,
                pong: wanted.pong,
            },
            secrets: surroundings.secrets.clone(),
            clock: surroundings.clock.clone(),
            address,
        });
        let table = Table::new(Arc::clone(&target));
        Some(Self { target, table })
    }

    /// What every path begins with.
    pub(in crate::backend) fn base(&self) -> &str {
        &self.target.address.base
    }

    /// Where it is: the same for all ways to write its address.
    pub(in crate::backend) fn place(&self) -> String {
        self.target.address.one_form()
    }

    /// How many connections its slots share.
    pub(in crate::backend) fn shared(&self) -> Shared {
        self.table.shared()
    }

    /// Opens a slot with its first connection, or a place on one.
    pub(in crate::backend) async fn dial(&self, fence: Arc<Fence>) -> Result<Client, DialError> {
        let (table, target) = (Arc::clone(&self.table), Arc::clone(&self.target));
        HttpSession::dial(table, target, fence).await.map(Client)
    }

    /// Opens a socket of its own on which nothing has been spoken yet, for protocols that begin as HTTP/1.1.
    pub(in crate::backend) async fn socket(&self, fence: &Arc<Fence>) -> Result<Bare, DialError> {
        let dialed = dial::dial(&self.target, fence).await?;
        let mut headers = self.target.headers.clone();
        headers.extend(dialed.secret_headers);
        if let Some(host) = self.target.host() {
            headers.insert(http::header::HOST, host);
        }
        Ok(Bare {
            io: dialed.carrier,
            headers,
            base: self.target.address.base.clone(),
        })
    }
}

/// A socket to a service, on which nothing has been spoken yet.
#[derive(Debug)]
pub(in crate::backend) struct Bare {
    pub(in crate::backend) io: Carrier<Wire>,
    /// What every request carries, the host included.
    pub(in crate::backend) headers: HeaderMap,
    /// What every path begins with.
    pub(in crate::backend) base: String,
}

fn read_tls(own: &Tls, address: &Address, speaks: Speaks, faults: &mut Faults) -> Option<TlsPlan> {
    let mut plan = None;
    faults.within("tls", |faults| {
        let asked = TlsAsked {
            own,
            on: address.https,
            host: &address.host,
            alpn: speaks.offers(),
        };
        plan = TlsPlan::read(&asked, faults);
    });
    plan
}

impl Client {
    /// The session beneath: what it does between calls is the same for every kind that speaks over it.
    pub(in crate::backend) const fn session(&self) -> &impl Session {
        &self.0
    }

    /// As [`Client::session`], to be acted on.
    pub(in crate::backend) const fn session_mut(&mut self) -> &mut impl Session {
        &mut self.0
    }

    /// As [`Client::session`], to be closed.
    pub(in crate::backend) fn into_session(self) -> Box<dyn Session> {
        Box::new(self.0)
    }

    /// Sends a request and waits for the answer's head. What is provably not sent, or refused undone, is sent anew.
    pub(in crate::backend) async fn ask(&mut self, asked: &Asked) -> Result<Exchange<'_>, CallError> {
        let plan = self.plan(asked).map_err(CallError::Invalid)?;
        let mut call = Call::begin(&mut self.0, Sending::Whole);
        let answer = call.ask(&plan).await.inspect_err(|error| {
            if matches!(error, CallError::Invalid(_)) {
                call.session.rest();
            }
        })?;
        let last = answer::is_last(answer.version(), answer.headers());
        let (head, body) = answer.into_parts();
        Ok(Exchange {
            call,
            head,
            body,
            last,
        })
    }

    /// Makes sure that there is a connection that lives, as far as anyone can tell.
    pub(in crate::backend) async fn renew(&mut self) -> Result<(), CallError> {
        let session = &mut self.0;
        if session.is_over() || session.is_dead().await {
            session.hang_up().await;
        }
        if session.link.is_some() {
            return Ok(());
        }
        let mut call = Call::begin(session, Sending::Whole);
        call.redial().await?;
        call.session.rest();
        Ok(())
    }

    /// What tells how far the next request on the present connection has been written, if the connection is one of its
    /// own.
    pub(in crate::backend) fn grip(&self) -> Option<Grip> {
        match &self.0.link {
            Some(Link::Own(connection)) => Some(Grip(Arc::clone(&connection.pace))),
            Some(Link::Shared(_)) | None => None,
        }
    }

    fn plan(&self, asked: &Asked) -> Result<Plan, Faults> {
        let path = format!("{}{}", self.0.target.address.base, asked.path);
        let path = PathAndQuery::try_from(path).map_err(|_| Faults::one("params.path", "is no path"))?;
        Ok(Plan {
            method: asked.method.clone(),
            path,
            headers: asked.headers.clone(),
            body: asked.body.clone(),
            redirects: 0,
        })
    }
}

const REDACTED: &str = "[redacted]";
/// What follows a scheme is a key only if it is as long as one; a word could be anything's.
const SHORTEST_KEY: usize = 8;

/// The key itself, of a secret that names a scheme before it, such as `Bearer`.
fn without_scheme(secret: &str) -> Option<&str> {
    let (_, key) = secret.trim_end().rsplit_once(' ')?;
    (key.chars().count() >= SHORTEST_KEY).then_some(key)
}

impl Exchange<'_> {
    /// The next bytes of the answer; none at its end. Nothing is read from the service until they are asked for, but
    /// for a bounded buffer. May be dropped and called again.
    pub(in crate::backend) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        self.call.paced(answer::next_part(&mut self.body)).await
    }

    /// How often the request had to be sent anew.
    pub(in crate::backend) const fn retries(&self) -> u32 {
        self.call.retries
    }

    /// A text of the service's without the secrets that it was sent.
    pub(in crate::backend) fn redacted(&self, text: &str) -> String {
        let session = &*self.call.session;
        let Some(link) = &session.link else {
            return text.to_owned();
        };
        let mut text = text.to_owned();
        for header in &session.target.secret_headers {
            let value = link.secret_headers().get(&header.name);
            let value = value.and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
            let secret = value.and_then(|value| value.strip_prefix(header.prefix));
            if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
                text = text.replace(secret, REDACTED);
                if let Some(bare) = without_scheme(secret) {
                    text = text.replace(bare, REDACTED);
                }
            }
        }
        text
    }

    /// Ends the exchange at a protocol boundary: the connection is kept if the answer was read `whole`, else closed.
    /// Dropped, it is cut off, and the client has to be settled.
    pub(in crate::backend) async fn finish(self, whole: bool) {
        let Self {
            mut call, body, last, ..
        } = self;
        // A stream is reset when nobody holds on to any part of it, and that is what hanging up waits for.
        drop(body);
        call.keep_if(whole, last).await;
        call.session.rest();
    }
}
