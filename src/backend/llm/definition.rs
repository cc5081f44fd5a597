//! A definition, checked: where the provider is, how it is spoken to, and what calls have that leave it out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::sync::Semaphore;

use super::dialect::{ANTHROPIC_VERSION, Dialect};
use crate::{
    backend::{
        endpoint,
        http::{SecretHeader, Service, Wanted, headers},
        registry::Surroundings,
        secrets,
        span::{self, DAY},
    },
    clock::{Clock, Time},
    error::Faults,
    proto::{LlmBackend, PoolSpec, SecretRef},
};

const DEFAULT_CONNECT: Duration = Duration::from_secs(5);
/// A large prompt is read for minutes by a machine of one's own, and reasoning models think before they speak.
const DEFAULT_FIRST_TOKEN: Duration = Duration::from_secs(300);
const DEFAULT_IDLE: Duration = Duration::from_secs(60);
/// A connection that several calls share may leave a ping unanswered for so long, or as long as a call waits for its
/// first token if that is less: a server that thinks for minutes answers pings all the while.
const LONGEST_PONG: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_millis(1);
/// A definition is read by people.
const MOST_ALIASES: usize = 1000;
const LONGEST_NAME: usize = 256;
const MOST_TOKENS: u32 = 10_000_000;
const HOTTEST: f64 = 2.0;
/// Copies of 4 MiB at most, so 64 MiB of a pool's; a call beyond that is passed on without one.
const MOST_COPIES: usize = 16;

/// A provider, and how to speak to it.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) dialect: Dialect,
    pub(super) defaults: Defaults,
    pub(super) aliases: BTreeMap<String, String>,
    /// Azure's `api-version`; empty elsewhere.
    pub(super) version: String,
    pub(super) ask_for_usage: bool,
    pub(super) first_token: Duration,
    pub(super) idle: Duration,
    pub(super) places: Vec<Arc<Place>>,
    /// Who may keep a copy of a long answer, to look at it at its end.
    pub(super) copies: Semaphore,
    pub(super) clock: Clock,
}

/// One of the provider's endpoints.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: Arc<str>,
    pub(super) service: Service,
    /// When anyone last had an answer from it, in nanoseconds; 0 is never.
    heard: AtomicU64,
}

impl Place {
    /// It has answered.
    pub(super) fn heard(&self, now: Time) {
        self.heard.store(now.as_nanos().max(1), Ordering::Relaxed);
    }

    /// Whether it has answered anyone so lately.
    pub(super) fn was_heard(&self, now: Time, lately: Duration) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        heard != 0 && now.since(Time::from_nanos(heard)) < lately
    }
}

/// What calls have that leave it out.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    pub(super) model: String,
    pub(super) max_tokens: Option<u32>,
    pub(super) temperature: Option<f64>,
}

impl Provider {
    /// Reads a definition.
    pub(super) fn read(
        spec: &PoolSpec,
        own: &LlmBackend,
        surroundings: &Surroundings,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut read = None;
        let range = SHORTEST..=DAY;
        faults.within("llm", |faults| {
            let dialect = Dialect::read(own.dialect);
            if dialect.is_none() {
                faults.add(
                    "dialect",
                    "is unknown: OPENAI, AZURE, ANTHROPIC, OLLAMA, or left out",
                );
            }
            let dialect = dialect.unwrap_or(Dialect::OpenAi);
            read = Some(Self {
                dialect,
                defaults: read_defaults(own, faults),
                aliases: read_aliases(own, faults),
                version: read_version(own, dialect, faults),
                ask_for_usage: own.ask_for_usage.unwrap_or(true),
                first_token: span::defined(
                    faults,
                    "first_token_timeout",
                    own.first_token_timeout,
                    range.clone(),
                    DEFAULT_FIRST_TOKEN,
                ),
                idle: span::defined(faults, "idle_timeout", own.idle_timeout, range, DEFAULT_IDLE),
                places: Vec::new(),
                copies: Semaphore::new(MOST_COPIES),
                clock: surroundings.clock.clone(),
            });
        });
        let sent = Sent::read(own, &mut faults);
        match read {
            Some(mut provider) => {
                let own = (own, provider.first_token);
                provider.places = read_places(spec, own, &sent, surroundings, &mut faults);
                faults.is_empty().then_some(provider).ok_or(faults)
            }
            None => Err(faults),
        }
    }

    /// The endpoint of that name.
    pub(super) fn place(&self, name: &str) -> Option<Arc<Place>> {
        let named = self.places.iter().find(|place| &*place.name == name);
        named.map(Arc::clone)
    }
}

/// What is sent with every request.
struct Sent {
    headers: HeaderMap,
    secret: Vec<SecretHeader>,
}

impl Sent {
    fn read(own: &LlmBackend, faults: &mut Faults) -> Self {
        let dialect = Dialect::read(own.dialect).unwrap_or(Dialect::OpenAi);
        let mut sent = Self {
            headers: HeaderMap::new(),
            secret: Vec::new(),
        };
        if dialect == Dialect::Anthropic {
            sent.add_version(own, faults);
        }
        if let Some(key) = &own.api_key {
            faults.within("llm.api_key", |faults| secrets::check(key, faults));
            let (name, prefix) = dialect.key();
            sent.secret.push(SecretHeader {
                name: HeaderName::from_static(name),
                prefix,
                reference: key.clone(),
            });
        }
        for (name, value) in sorted(&own.headers) {
            let field = format!("llm.headers.{name}");
            let value = headers::value(&field, value, faults);
            if let (Some(name), Some(value)) = (sent.free(&field, name, faults), value) {
                sent.headers.insert(name, value);
            }
        }
        for (name, reference) in sorted(&own.secret_headers) {
            let field = format!("llm.secret_headers.{name}");
            faults.within(&field, |faults| secrets::check(reference, faults));
            if let Some(name) = sent.free(&field, name, faults) {
                sent.add_secret(name, reference);
            }
        }
        let named = HeaderValue::from_static(concat!("sublet/", env!("CARGO_PKG_VERSION")));
        sent.headers.entry(header::USER_AGENT).or_insert(named);
        sent
    }

    fn add_version(&mut self, own: &LlmBackend, faults: &mut Faults) {
        let written = if own.api_version.is_empty() {
            ANTHROPIC_VERSION
        } else {
            own.api_version.as_str()
        };
        if let Some(value) = headers::value("llm.api_version", written, faults) {
            self.headers.insert("anthropic-version", value);
        }
    }

    fn add_secret(&mut self, name: HeaderName, reference: &SecretRef) {
        self.secret.push(SecretHeader {
            name,
            prefix: "",
            reference: reference.clone(),
        });
    }

    /// A header's name, if nothing else has it.
    fn free(&self, field: &str, name: &str, faults: &mut Faults) -> Option<HeaderName> {
        let name = headers::name(field, name, headers::Whose::Pool, faults)?;
        let taken = self.headers.contains_key(&name) || self.secret.iter().any(|other| other.name == name);
        if taken {
            faults.add(field, "is there twice, or is the kind's own; case does not count");
        }
        (!taken).then_some(name)
    }
}

fn read_defaults(own: &LlmBackend, faults: &mut Faults) -> Defaults {
    let given = own.defaults.clone().unwrap_or_default();
    faults.within("defaults", |faults| {
        check_name("model", &given.model, faults);
        if given
            .max_tokens
            .is_some_and(|most| most == 0 || most > MOST_TOKENS)
        {
            faults.add("max_tokens", format!("must be 1 to {MOST_TOKENS}"));
        }
        if given
            .temperature
            .is_some_and(|heat| !(0.0..=HOTTEST).contains(&heat))
        {
            faults.add("temperature", format!("must be 0 to {HOTTEST}"));
        }
    });
    Defaults {
        model: given.model,
        max_tokens: given.max_tokens,
        temperature: given.temperature,
    }
}

fn read_aliases(own: &LlmBackend, faults: &mut Faults) -> BTreeMap<String, String> {
    if own.model_aliases.len() > MOST_ALIASES {
        faults.add("model_aliases", format!("must be at most {MOST_ALIASES}"));
    }
    for (alias, model) in sorted(&own.model_aliases) {
        let field = format!("model_aliases.{alias}");
        if alias.is_empty() || model.is_empty() {
            faults.add(&field, "must have a name on both sides");
        }
        check_name(&field, alias, faults);
        check_name(&field, model, faults);
    }
    own.model_aliases.clone().into_iter().collect()
}

fn check_name(field: &str, name: &str, faults: &mut Faults) {
    if name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        let message = format!("must be at most {LONGEST_NAME} bytes, without control characters");
        faults.add(field, message);
    }
}

fn read_version(own: &LlmBackend, dialect: Dialect, faults: &mut Faults) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let given = own.api_version.as_str();
    match dialect {
        Dialect::Azure if given.is_empty() => {
            faults.add("api_version", "must be Azure's api-version, such as 2024-10-21");
        }
        Dialect::Azure | Dialect::Anthropic if !given.chars().all(legal) => {
            faults.add("api_version", "must be letters, digits and any of -._~");
        }
        Dialect::OpenAi | Dialect::Ollama if !given.is_empty() => {
            faults.add("api_version", "means nothing to this dialect: leave it out");
        }
        Dialect::Azure => return given.to_owned(),
        Dialect::OpenAi | Dialect::Ollama | Dialect::Anthropic => {}
    }
    String::new()
}

const MISSING: &str =
    "must have the address of the provider: `host:port`, or a URL such as https://api.example/v1";

fn read_places(
    spec: &PoolSpec,
    (own, first_token): (&LlmBackend, Duration),
    sent: &Sent,
    surroundings: &Surroundings,
    faults: &mut Faults,
) -> Vec<Arc<Place>> {
    if spec.endpoints.is_empty() {
        faults.add("endpoints", MISSING);
    }
    let dialect = Dialect::read(own.dialect).unwrap_or(Dialect::OpenAi);
    let tls = own.tls.clone().unwrap_or_default();
    let connect = spec.timeouts.as_ref().and_then(|timeouts| timeouts.connect);
    let connect = connect.and_then(|given| Duration::try_from(given).ok());
    let mut places: Vec<Arc<Place>> = Vec::new();
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let name = endpoint::name(endpoint);
        let wanted = Wanted {
            endpoint,
            name: Arc::clone(&name),
            tls: &tls,
            base: dialect.base(),
            headers: sent.headers.clone(),
            secret_headers: sent.secret.clone(),
            connect: connect.unwrap_or(DEFAULT_CONNECT),
            pong: first_token.min(LONGEST_PONG),
        };
        let mut found = Faults::default();
        if endpoint.address.contains('@') {
            found.add(
                "address",
                "must hold no user or password: the key belongs into llm.api_key",
            );
        }
        let service = Service::read(wanted, surroundings, &mut found);
        merge(&found, index, faults);
        places.extend(service.map(|service| {
            let heard = AtomicU64::new(0);
            Arc::new(Place { name, service, heard })
        }));
    }
    places
}

/// Adds an endpoint's faults: those of TLS are the definition's, and told once.
fn merge(found: &Faults, index: usize, faults: &mut Faults) {
    for fault in found.list() {
        let field = if fault.field.starts_with("tls") {
            format!("llm.{}", fault.field)
        } else {
            format!("endpoints[{index}].{}", fault.field)
        };
        let told = |other: &crate::error::FieldFault| {
            other.field == field
                && (other.message == fault.message || fault.message.contains("user or password"))
        };
        if !faults.list().iter().any(told) {
            faults.add(&field, fault.message.clone());
        }
    }
}

/// In the order of names, so that faults come in the same order each time.
fn sorted<T>(map: &HashMap<String, T>) -> Vec<(&String, &T)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, _)| *name);
    entries
}
