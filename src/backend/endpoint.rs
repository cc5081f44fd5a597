//! The endpoint of a definition whose kind has exactly one.

use std::sync::Arc;

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

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn host_and_port(address: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
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
