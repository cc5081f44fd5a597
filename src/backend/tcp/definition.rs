//! A definition, checked: where the peer is, how its messages end, and what is said at a session's turns.

use std::sync::Arc;

use bytes::Bytes;

use super::{framing::Framing, typed};
use crate::{
    backend::{
        endpoint,
        registry::Surroundings,
        secrets::Secrets,
        tls::{Asked, TlsPlan},
    },
    clock::Clock,
    error::Faults,
    proto::{Endpoint, PoolSpec, SecretRef, TcpBackend},
};

const DEFAULT_MESSAGE: u32 = 1 << 20;
/// A message is held whole, in each session.
const MAX_MESSAGE: u32 = 16 << 20;
/// More would be a program.
const MAX_STEPS: usize = 32;
const MISSING: &str = "must have the address of the service: `host:port`";

/// A service, and how to speak to it.
#[derive(Debug)]
pub(super) struct Peer {
    /// The endpoint's name.
    pub(super) name: Arc<str>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<TlsPlan>,
    pub(super) framing: Option<Framing>,
    /// The longest message, in bytes.
    pub(super) limit: usize,
    pub(super) greeting: Vec<Step>,
    pub(super) health: Option<Exchange>,
    pub(super) reset: Reset,
    pub(super) secrets: Secrets,
    pub(super) clock: Clock,
}

/// One step of a greeting.
#[derive(Debug)]
pub(super) enum Step {
    Send(Bytes),
    Secret(SecretRef),
    Expect(Expect),
}

/// What has to come.
#[derive(Debug)]
pub(super) enum Expect {
    /// A message that begins like this.
    BeginsWith(Framing, Bytes),
    /// These bytes.
    Exactly(Bytes),
}

/// Something to send, and its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) send: Bytes,
    pub(super) expect: Expect,
}

/// What makes a session fit for its next holder.
#[derive(Debug)]
pub(super) enum Reset {
    /// Nothing does.
    Close,
    Exchange(Exchange),
    /// It is, if each message sent was answered by one.
    Answered,
    /// It is, as long as the peer says nothing.
    Silent,
}

impl Peer {
    /// Reads a definition.
    pub(super) fn read(
        spec: &PoolSpec,
        own: &TcpBackend,
        surroundings: &Surroundings,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let endpoint = endpoint::only(spec, "tcp", MISSING, &mut faults);
        let address = endpoint.and_then(|endpoint| read_address(endpoint, &mut faults));
        let host = address.as_ref().map_or("", |(host, _)| host);
        let tls = read_tls(own, host, &mut faults);
        let said = typed::at("tcp", &mut faults, |faults| Said::read(own, faults));
        let (Some((host, port)), Some(endpoint), true) = (address, endpoint, faults.is_empty()) else {
            return Err(faults);
        };
        Ok(Self {
            name: endpoint::name(endpoint),
            host,
            port,
            tls,
            framing: said.framing,
            limit: said.limit,
            greeting: said.greeting,
            health: said.health,
            reset: said.reset,
            secrets: surroundings.secrets.clone(),
            clock: surroundings.clock.clone(),
        })
    }

    /// Whether the greeting has secrets.
    pub(super) fn has_secrets(&self) -> bool {
        self.greeting.iter().any(|step| matches!(step, Step::Secret(_)))
    }
}

/// What is said on a session, and how.
struct Said {
    framing: Option<Framing>,
    limit: usize,
    greeting: Vec<Step>,
    health: Option<Exchange>,
    reset: Reset,
}

impl Said {
    fn read(own: &TcpBackend, faults: &mut Faults) -> Self {
        let limit = own.max_message_bytes.unwrap_or(DEFAULT_MESSAGE);
        if limit == 0 || limit > MAX_MESSAGE {
            faults.add("max_message_bytes", format!("must be 1 to {MAX_MESSAGE}"));
        }
        let framing = own.framing.as_ref();
        let framing =
            framing.map(|framing| typed::at("framing", faults, |f| typed::framing(framing, limit, f)));
        if own.greeting.len() > MAX_STEPS {
            faults.add("greeting", format!("must have at most {MAX_STEPS} steps"));
        }
        let mut greeting = Vec::new();
        for (index, step) in own.greeting.iter().enumerate() {
            let field = format!("greeting[{index}]");
            greeting.extend(typed::at(&field, faults, |f| {
                typed::step(step, framing.as_ref(), f)
            }));
        }
        let health = own
            .health
            .as_ref()
            .and_then(|health| typed::at("health", faults, |f| typed::exchange(health, framing.as_ref(), f)));
        let reset = own
            .reset
            .as_ref()
            .and_then(|reset| typed::at("reset", faults, |f| typed::reset(reset, framing.as_ref(), f)));
        Self {
            limit: usize::try_from(limit).unwrap_or_default(),
            greeting,
            health,
            reset: reset.unwrap_or(Reset::Close),
            framing,
        }
    }
}

fn read_tls(own: &TcpBackend, host: &str, faults: &mut Faults) -> Option<TlsPlan> {
    let tls = own.tls.clone().unwrap_or_default();
    typed::at("tcp.tls", faults, |faults| {
        let asked = Asked {
            own: &tls,
            on: tls.enabled && !host.is_empty(),
            host,
            alpn: &[],
        };
        TlsPlan::read(&asked, faults)
    })
}

/// `host:port` or `[v6]:port`.
fn read_address(endpoint: &Endpoint, faults: &mut Faults) -> Option<(String, u16)> {
    // There is no usual port.
    let found = endpoint::host_and_port(&endpoint.address, 0).filter(|(_, port)| *port > 0);
    if found.is_none() {
        faults.add(
            "endpoints[0].address",
            "must be host:port, such as device.example:4001 or [::1]:4001",
        );
    }
    found
}
