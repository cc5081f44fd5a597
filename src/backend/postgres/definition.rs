//! A definition, checked: where the server is, who logs in, and what every session has.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::{
    backend::{
        registry::Surroundings,
        site::{Asked, Site},
        span::{self, DAY},
    },
    error::Faults,
    proto::{PoolSpec, PostgresBackend, postgres_backend::Reset},
};

pub(in crate::backend) const DEFAULT_PORT: u16 = 5432;
const DEFAULT_CACHE: u32 = 256;
const MAX_CACHE: u32 = 10_000;
const DEFAULT_IDLE_IN_TRANSACTION: Duration = Duration::from_secs(60);
/// How often a server (14 or newer) looks whether the broker is still there while it runs a statement.
const CHECK_INTERVAL: &str = "5s";
/// Parameters that the broker itself depends on.
const RESERVED: [&str; 5] = ["user", "database", "replication", "client_encoding", "options"];

/// A server, and how to speak to it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) site: Site,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) transaction_only: bool,
    pub(super) init_sql: Vec<String>,
    pub(super) cache: usize,
    parameters: BTreeMap<String, String>,
    /// Whether the server is too old to look after its client while it runs a statement.
    old: AtomicBool,
}

impl Server {
    /// Reads a definition.
    pub(super) fn read(
        spec: &PoolSpec,
        own: &PostgresBackend,
        surroundings: &Surroundings,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let asked = Asked {
            kind: "postgres",
            default_port: DEFAULT_PORT,
            example: "db.example.com",
            tls: own.tls.as_ref(),
            alpn: &[b"postgresql"],
            password: own.password.as_ref(),
        };
        let site = Site::read(spec, &asked, surroundings, &mut faults);
        check_names(own, &mut faults);
        let parameters = read_parameters(own, &mut faults);
        let cache = own.statement_cache.unwrap_or(DEFAULT_CACHE);
        if cache > MAX_CACHE {
            faults.add("postgres.statement_cache", format!("must be 0 to {MAX_CACHE}"));
        }
        let (Some(site), true) = (site, faults.is_empty()) else {
            return Err(faults);
        };
        Ok(Self {
            site,
            user: own.user.clone(),
            database: own.database.clone(),
            transaction_only: own.reset() == Reset::Transaction,
            init_sql: own.init_sql.clone(),
            cache: usize::try_from(cache).unwrap_or_default(),
            parameters,
            old: AtomicBool::new(false),
        })
    }

    /// What the startup message says. What is in it survives every reset.
    pub(super) fn startup(&self) -> Vec<(&str, &str)> {
        let mut all = vec![("user", self.user.as_str()), ("client_encoding", "UTF8")];
        if !self.database.is_empty() {
            all.push(("database", &self.database));
        }
        if !self.old.load(Ordering::Relaxed) {
            all.push((CHECK, CHECK_INTERVAL));
        }
        let own = self.parameters.iter();
        all.extend(own.map(|(name, value)| (name.as_str(), value.as_str())));
        all
    }

    /// The server does not know [`CHECK`]: it is not asked for again. False if that was known.
    pub(super) fn note_old(&self) -> bool {
        !self.old.swap(true, Ordering::Relaxed)
    }
}

/// The parameter that older servers do not know.
pub(super) const CHECK: &str = "client_connection_check_interval";

fn check_names(own: &PostgresBackend, faults: &mut Faults) {
    if own.user.is_empty() {
        faults.add("postgres.user", "is missing: the user to log in as");
    }
    for (index, sql) in own.init_sql.iter().enumerate() {
        if sql.trim().is_empty() || sql.contains('\0') {
            faults.add(
                &format!("postgres.init_sql[{index}]"),
                "must be a statement, without a zero byte",
            );
        }
    }
}

fn read_parameters(own: &PostgresBackend, faults: &mut Faults) -> BTreeMap<String, String> {
    let idle = span::defined(
        faults,
        "postgres.idle_in_transaction_timeout",
        own.idle_in_transaction_timeout,
        Duration::ZERO..=DAY,
        DEFAULT_IDLE_IN_TRANSACTION,
    );
    let mut all = BTreeMap::from([
        ("application_name".to_owned(), "sublet".to_owned()),
        (
            "idle_in_transaction_session_timeout".to_owned(),
            idle.as_millis().to_string(),
        ),
    ]);
    let given: BTreeMap<_, _> = own.parameters.iter().collect();
    for (name, value) in given {
        let field = format!("postgres.parameters.{name}");
        let known = name.to_ascii_lowercase();
        if RESERVED.contains(&known.as_str()) {
            faults.add(
                &field,
                "is the broker's own: use the field for it, if there is one",
            );
        } else if name.is_empty() || name.contains('\0') || value.contains('\0') {
            faults.add(&field, "must have a name, and no zero byte");
        } else {
            all.insert(known, value.clone());
        }
    }
    all
}
