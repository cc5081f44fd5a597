//! Where a pool's one server is and how sessions get in: what the definitions of kinds that log in have in common.

use std::sync::Arc;

use super::{
    DialError, endpoint,
    registry::Surroundings,
    secrets::{self, Secret, Secrets},
    tls::{self, TlsPlan, blocking},
};
use crate::{
    error::Faults,
    proto::{PoolSpec, SecretRef, Tls},
};

const MISSING: &str = "must have the address of the server: `host:port`";

/// A server's address, its TLS, and the password of who logs in.
#[derive(Debug)]
pub(super) struct Site {
    /// The endpoint's name.
    pub(super) name: Arc<str>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<TlsPlan>,
    pub(super) secrets: Secrets,
    password: Option<SecretRef>,
}

/// What a kind's definition says of its site.
pub(super) struct Asked<'a> {
    /// The kind, below which the fields are.
    pub(super) kind: &'static str,
    pub(super) default_port: u16,
    /// A host's name, for people.
    pub(super) example: &'static str,
    pub(super) tls: Option<&'a Tls>,
    pub(super) alpn: &'static [&'static [u8]],
    pub(super) password: Option<&'a SecretRef>,
}

impl Site {
    /// Reads it; `None` if it has faults.
    pub(super) fn read(
        spec: &PoolSpec,
        asked: &Asked<'_>,
        surroundings: &Surroundings,
        faults: &mut Faults,
    ) -> Option<Self> {
        let endpoint = endpoint::only(spec, asked.kind, MISSING, faults);
        let address = endpoint.and_then(|endpoint| asked.read_address(&endpoint.address, faults));
        if let Some(reference) = asked.password {
            let field = format!("{}.password", asked.kind);
            faults.within(&field, |faults| secrets::check(reference, faults));
        }
        let host = address.as_ref().map_or("", |(host, _)| host);
        let tls = asked.read_tls(host, faults);
        let (host, port) = address?;
        Some(Self {
            name: endpoint::name(endpoint?),
            host,
            port,
            tls,
            secrets: surroundings.secrets.clone(),
            password: asked.password.cloned(),
        })
    }

    /// The password as it is now, if there is to be one.
    pub(super) async fn password(&self) -> Result<Option<Secret>, DialError> {
        let Some(reference) = self.password.clone() else {
            return Ok(None);
        };
        let secrets = self.secrets.clone();
        blocking(move || secrets.read(&reference)).await.map(Some)
    }
}

impl Asked<'_> {
    fn read_address(&self, address: &str, faults: &mut Faults) -> Option<(String, u16)> {
        let found = endpoint::host_and_port(address, self.default_port);
        if found.is_none() {
            let Self {
                kind,
                default_port: port,
                example,
                ..
            } = self;
            let message = format!(
                "must be host:port, such as {example}:{port} or [::1]:{port}; user, password and database have fields \
                 of their own below `{kind}`"
            );
            faults.add("endpoints[0].address", message);
        }
        found
    }

    fn read_tls(&self, host: &str, faults: &mut Faults) -> Option<TlsPlan> {
        let own = self.tls.cloned().unwrap_or_default();
        let mut plan = None;
        faults.within(&format!("{}.tls", self.kind), |faults| {
            let asked = tls::Asked {
                own: &own,
                on: own.enabled && !host.is_empty(),
                host,
                alpn: self.alpn,
            };
            plan = TlsPlan::read(&asked, faults);
        });
        plan
    }
}
