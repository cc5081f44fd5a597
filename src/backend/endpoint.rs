//! Endpoints: the one of a definition whose kind has exactly one, what an endpoint is called, and where it is.

use std::{net::Ipv6Addr, sync::Arc};

use crate::{
    error::Faults,
    proto::{Endpoint, PoolSpec},
};

/// The one endpoint of a `kind`; `missing` says what its address has to be.
pub(super) fn only<'a>(
    spec: &'a PoolSpec,
    kind: &str,
    missing: &str,
    faults: &mut Faults,
) -> Option<&'a Endpoint> {
    match spec.endpoints.as_slice() {
        [one] => Some(one),
        [] => {
            faults.add("endpoints", missing);
            None
        }
        _ => {
            faults.add("endpoints", format!("must be exactly one for `{kind}`"));
            None
        }
    }
}

/// What statistics and leases call it: its address unless it has a name.
pub(crate) fn name(endpoint: &Endpoint) -> Arc<str> {
    if endpoint.name.is_empty() {
        endpoint.address.as_str().into()
    } else {
        endpoint.name.as_str().into()
    }
}

/// Where an endpoint is: equal for all ways to write the same address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `host:port/path` in its one form; as it was written where the kind knows of no other way. Endpoints with the same
    /// are one.
    pub address: Arc<str>,
    /// Whether it is spoken to with TLS, as far as the address says so.
    pub tls: bool,
}

impl Place {
    /// An address that is what was written.
    pub(super) fn as_written(address: &str) -> Self {
        let address = address.into();
        Self { address, tls: false }
    }

    /// Of a kind whose addresses are a host and a port; `None` if this is none.
    pub(super) fn of_host(address: &str, default_port: u16) -> Option<Self> {
        let (host, port) = host_and_port(address, default_port)?;
        Some(Self::as_written(&one_form(&host, port)))
    }
}

/// `host:port`, the same for all ways to write the host.
pub(super) fn one_form(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(host) => format!("[{host}]:{port}"),
        Err(_) => format!("{}:{port}", host.to_ascii_lowercase()),
    }
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn host_and_port(address: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some(""))?)
        }
        None => match address.split_once(':') {
            Some((_, "")) => return None,
            Some((host, port)) => (host, port),
            None => (address, ""),
        },
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    let port = if port.is_empty() {
        default_port
    } else {
        // A sign would be read as well.
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        port.parse().ok().filter(|port| digits && *port > 0)?
    };
    (!host.is_empty() && host.len() <= 253 && host.chars().all(legal)).then(|| (host.to_owned(), port))
}
