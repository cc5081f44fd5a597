//! A definition, checked: where the service is and what every request to it carries.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{address::Address, headers};
use crate::{
    backend::{
        endpoint,
        registry::Surroundings,
        secrets::{self, Secrets},
        span::{self, DAY},
        tls::{Asked, TlsPlan},
    },
    clock::Clock,
    error::Faults,
    proto::{Endpoint, HttpBackend, PoolSpec, SecretRef, http_backend::Protocol},
};

const DEFAULT_CONNECT: Duration = Duration::from_secs(5);
pub(super) const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_millis(1);
/// As many as there may be sessions.
const MOST_SOCKETS: u32 = 10_000;
const MISSING: &str = "must have the address of the service: `host:port`, or a URL";

/// An HTTP service, and how to speak to it.
#[derive(Debug)]
pub(super) struct Target {
    /// The endpoint's name.
    pub(super) name: Arc<str>,
    pub(super) address: Address,
    pub(super) speaks: Speaks,
    /// Sockets that carry several slots, at most; none set is as many as the slots need.
    pub(super) sockets: Option<usize>,
    pub(super) tls: Option<TlsPlan>,
    /// Sent with every request; a call's own replace them.
    pub(super) headers: HeaderMap,
    pub(super) secret_headers: Vec<SecretHeader>,
    pub(super) limits: Limits,
    pub(super) secrets: Secrets,
    pub(super) clock: Clock,
}

/// A header whose value is read at each dial.
#[derive(Clone, Debug)]
pub(in crate::backend) struct SecretHeader {
    pub(in crate::backend) name: HeaderName,
    /// What comes before the secret: nothing, or a scheme such as `Bearer `.
    pub(in crate::backend) prefix: &'static str,
    pub(in crate::backend) reference: SecretRef,
}

/// Which protocol it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
    /// Whatever it agrees to in ALPN.
    Either,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For a connection that a call opens anew; the pool bounds its own dials itself.
    pub(super) connect: Duration,
    pub(super) write: Duration,
    pub(super) first_byte: Duration,
    /// For the answer to a ping.
    pub(super) pong: Duration,
}

impl Target {
    /// Reads a definition.
    pub(super) fn read(
        spec: &PoolSpec,
        own: &HttpBackend,
        surroundings: &Surroundings,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let endpoint = endpoint::only(spec, "http", MISSING, &mut faults);
        let address = endpoint.and_then(|endpoint| read_endpoint(endpoint, own, &mut faults));
        let https = address.as_ref().is_some_and(|address| address.https);
        let speaks = Speaks::read(own, https, &mut faults);
        let tls = read_tls(own, speaks, address.as_ref(), &mut faults);
        let sockets = read_sockets(own, speaks, &mut faults);
        let headers = read_headers(own, &mut faults);
        let secret_headers = read_secret_headers(own, &mut faults);
        let limits = read_limits(spec, own, &mut faults);
        match (address, endpoint) {
            (Some(address), Some(endpoint)) if faults.is_empty() => Ok(Self {
                name: endpoint::name(endpoint),
                address,
                speaks,
                sockets,
                tls,
                headers,
                secret_headers,
                limits,
                secrets: surroundings.secrets.clone(),
                clock: surroundings.clock.clone(),
            }),
            _ => Err(faults),
        }
    }

    /// The Host header, unless the definition has one of its own.
    pub(super) fn host(&self) -> Option<HeaderValue> {
        let own = self.headers.get(http::header::HOST).cloned();
        own.or_else(|| HeaderValue::from_str(&self.address.authority).ok())
    }
}

impl Speaks {
    fn read(own: &HttpBackend, https: bool, faults: &mut Faults) -> Self {
        match Protocol::try_from(own.protocol) {
            Ok(Protocol::Http1) => Self::Http1,
            Ok(Protocol::Http2) => Self::Http2,
            Ok(Protocol::Unspecified) if https => Self::Either,
            Ok(Protocol::Unspecified) => Self::Http1,
            Err(_) => {
                faults.add("http.protocol", "is unknown: HTTP1, HTTP2, or left out");
                Self::Http1
            }
        }
    }

    /// What it is asked for in ALPN, the best first.
    pub(super) const fn offers(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::Either => &[b"h2", b"http/1.1"],
        }
    }
}

fn read_sockets(own: &HttpBackend, speaks: Speaks, faults: &mut Faults) -> Option<usize> {
    let given = own.max_connections.filter(|most| *most > 0)?;
    if speaks == Speaks::Http1 {
        faults.add(
            "http.max_connections",
            "means nothing with HTTP/1.1, where each session is a connection: set sizing.max_sessions",
        );
    }
    if given > MOST_SOCKETS {
        faults.add(
            "http.max_connections",
            format!("must be from 1 to {MOST_SOCKETS}, or 0 for as many as needed"),
        );
    }
    usize::try_from(given).ok()
}

fn read_endpoint(endpoint: &Endpoint, own: &HttpBackend, faults: &mut Faults) -> Option<Address> {
    let enabled = own.tls.as_ref().is_some_and(|tls| tls.enabled);
    match Address::read(&endpoint.address, enabled) {
        Ok(address) => Some(address),
        Err(message) => {
            faults.add("endpoints[0].address", message);
            None
        }
    }
}

fn read_headers(own: &HttpBackend, faults: &mut Faults) -> HeaderMap {
    let mut read = HeaderMap::new();
    for (name, value) in sorted(&own.headers) {
        let field = format!("http.headers.{name}");
        let name = headers::name(&field, name, headers::Whose::Pool, faults);
        let value = headers::value(&field, value, faults);
        if let (Some(name), Some(value)) = (name, value)
            && read.insert(name, value).is_some()
        {
            faults.add(&field, "is there twice; case does not count");
        }
    }
    read
}

fn read_secret_headers(own: &HttpBackend, faults: &mut Faults) -> Vec<SecretHeader> {
    let mut read: Vec<SecretHeader> = Vec::new();
    for (name, reference) in sorted(&own.secret_headers) {
        let field = format!("http.secret_headers.{name}");
        faults.within(&field, |faults| secrets::check(reference, faults));
        let plain = own.headers.keys().any(|other| other.eq_ignore_ascii_case(name));
        if plain
            || read
                .iter()
                .any(|other| other.name.as_str().eq_ignore_ascii_case(name))
        {
            faults.add(&field, "is there twice; case does not count");
        }
        if let Some(name) = headers::name(&field, name, headers::Whose::Pool, faults) {
            read.push(SecretHeader {
                name,
                prefix: "",
                reference: reference.clone(),
            });
        }
    }
    read
}

/// In the order of names, so that faults come in the same order each time.
fn sorted<T>(map: &std::collections::HashMap<String, T>) -> Vec<(&String, &T)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, _)| *name);
    entries
}

fn read_limits(spec: &PoolSpec, own: &HttpBackend, faults: &mut Faults) -> Limits {
    let range = SHORTEST..=DAY;
    let connect = spec.timeouts.as_ref().and_then(|timeouts| timeouts.connect);
    let connect = connect.and_then(|given| Duration::try_from(given).ok());
    let write = span::defined(
        faults,
        "http.write_timeout",
        own.write_timeout,
        range.clone(),
        DEFAULT_WAIT,
    );
    let first_byte = span::defined(
        faults,
        "http.first_byte_timeout",
        own.first_byte_timeout,
        range,
        DEFAULT_WAIT,
    );
    Limits {
        connect: connect.unwrap_or(DEFAULT_CONNECT),
        write,
        first_byte,
        // A service that is silent within the limits of a call may be busy.
        pong: write.max(first_byte),
    }
}

fn read_tls(
    own: &HttpBackend,
    speaks: Speaks,
    address: Option<&Address>,
    faults: &mut Faults,
) -> Option<TlsPlan> {
    let (tls, address) = (own.tls.clone().unwrap_or_default(), address?);
    let mut plan = None;
    faults.within("http.tls", |faults| {
        let asked = Asked {
            own: &tls,
            on: address.https,
            host: &address.host,
            alpn: speaks.offers(),
        };
        plan = TlsPlan::read(&asked, faults);
    });
    plan
}
