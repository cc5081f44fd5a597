//! A definition, checked: where the server is, who logs in, and what every session begins with.

use crate::{
    backend::{
        registry::Surroundings,
        site::{Asked, Site},
    },
    error::Faults,
    proto::{PoolSpec, RedisBackend},
};

pub(in crate::backend) const DEFAULT_PORT: u16 = 6379;
const DEFAULT_NAME: &str = "sublet";
/// The user of a server that has no others.
const DEFAULT_USER: &str = "default";
/// A longer name would only burden the server's lists.
const MAX_NAME: usize = 64;
/// The server keeps a database's number in 31 bits.
const MAX_DATABASE: u32 = 0x7fff_ffff;

/// A server, and how to speak to it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) site: Site,
    pub(super) user: String,
    pub(super) database: u32,
    /// What the server calls the sessions.
    pub(super) client_name: String,
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
        let asked = Asked {
            kind: "redis",
            default_port: DEFAULT_PORT,
            example: "cache.example.com",
            tls: own.tls.as_ref(),
            alpn: &[b"redis"],
            password: own.password.as_ref(),
        };
        let site = Site::read(spec, &asked, surroundings, &mut faults);
        check_names(own, &mut faults);
        let (Some(site), true) = (site, faults.is_empty()) else {
            return Err(faults);
        };
        let or = |given: &str, default: &str| if given.is_empty() { default } else { given }.to_owned();
        Ok(Self {
            site,
            user: or(&own.user, DEFAULT_USER),
            database: own.database,
            client_name: or(&own.client_name, DEFAULT_NAME),
            named: !own.user.is_empty(),
        })
    }
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
