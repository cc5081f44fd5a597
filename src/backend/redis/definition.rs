//! A definition, checked: where the server is, who logs in, and what every session begins with.

use std::sync::Arc;

use crate::{
    backend::{
        endpoint,
        registry::Surroundings,
        secrets::{self, Secrets},
        tls::{Asked, TlsPlan},
    },
    error::Faults,
    proto::{Endpoint, PoolSpec, RedisBackend, SecretRef},
};

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_NAME: &str = "sublet";
/// The user of a server that has no others.
const DEFAULT_USER: &str = "default";
/// A longer name would only burden the server's lists.
const MAX_NAME: usize = 64;
/// The server keeps a database's number in 31 bits.
const MAX_DATABASE: u32 = 0x7fff_ffff;
const MISSING: &str = "must have the address of the server: `host:port`";

/// A server, and how to speak to it.
#[derive(Debug)]
pub(super) struct Server {
    /// The endpoint's name.
    pub(super) name: Arc<str>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<SecretRef>,
    pub(super) database: u32,
    pub(super) tls: Option<TlsPlan>,
    /// What the server calls the sessions.
    pub(super) client_name: String,
    pub(super) secrets: Secrets,
    /// Whether the definition names a user: one without a password logs in with an empty one then.
    pub(super) named: bool,
}

impl Server {
    /// Reads a definition.
    pub(super) fn read(
        spec: &PoolSpec,
        own: &RedisBackend,
        surroundings: &Surroundings,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let endpoint = endpoint::only(spec, "redis", MISSING, &mut faults);
        let address = endpoint.and_then(|endpoint| read_address(endpoint, &mut faults));
        check_names(own, &mut faults);
        if let Some(reference) = &own.password {
            faults.within("redis.password", |faults| secrets::check(reference, faults));
        }
        let host = address.as_ref().map_or("", |(host, _)| host);
        let tls = read_tls(own, host, &mut faults);
        let (Some((host, port)), Some(endpoint), true) = (address, endpoint, faults.is_empty()) else {
            return Err(faults);
        };
        let or = |given: &str, default: &str| if given.is_empty() { default } else { given }.to_owned();
        Ok(Self {
            name: endpoint::name(endpoint),
            host,
            port,
            user: or(&own.user, DEFAULT_USER),
            password: own.password.clone(),
            database: own.database,
            tls,
            client_name: or(&own.client_name, DEFAULT_NAME),
            secrets: surroundings.secrets.clone(),
            named: !own.user.is_empty(),
        })
    }
}

fn read_address(endpoint: &Endpoint, faults: &mut Faults) -> Option<(String, u16)> {
    let found = endpoint::host_and_port(&endpoint.address, DEFAULT_PORT);
    if found.is_none() {
        faults.add(
            "endpoints[0].address",
            "must be host:port, such as cache.example.com:6379 or [::1]:6379; user, password and database have fields \
             of their own below `redis`",
        );
    }
    found
}

fn check_names(own: &RedisBackend, faults: &mut Faults) {
    if own.user.chars().any(|c| c.is_whitespace() || c.is_control()) {
        faults.add("redis.user", "must have neither blanks nor control characters");
    }
    let visible = own.client_name.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible || own.client_name.len() > MAX_NAME {
        let message = format!("must be at most {MAX_NAME} visible ASCII characters, without blanks");
        faults.add("redis.client_name", message);
    }
    if own.database > MAX_DATABASE {
        faults.add("redis.database", format!("must be 0 to {MAX_DATABASE}"));
    }
}

fn read_tls(own: &RedisBackend, host: &str, faults: &mut Faults) -> Option<TlsPlan> {
    let tls = own.tls.clone().unwrap_or_default();
    let mut plan = None;
    faults.within("redis.tls", |faults| {
        let asked = Asked {
            own: &tls,
            on: tls.enabled && !host.is_empty(),
            host,
            alpn: &[b"redis"],
        };
        plan = TlsPlan::read(&asked, faults);
    });
    plan
}
