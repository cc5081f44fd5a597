//! From a definition to its backend: one arm for each kind.

use std::{sync::Arc, time::Duration};

use super::{Backend, Place, comfyui, echo, http, llm, plugin, postgres, redis, secrets::Secrets, tcp};
use crate::{
    clock::Clock,
    error::Faults,
    proto::{Endpoint, PoolSpec, Tls, pool_spec},
};

/// What backends need beside their definition.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where secrets and certificate authorities are read from.
    pub secrets: Secrets,
    /// Where time comes from.
    pub clock: Clock,
}

/// Time limits where a definition leaves them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindDefaults {
    /// For an operation, from grant to last byte.
    pub execute: Duration,
    /// Without progress from the backend.
    pub stall: Duration,
    /// To bring a session to a clean state.
    pub reset: Duration,
}

/// To bring a session of most kinds to a clean state.
const RESET: Duration = Duration::from_secs(5);

/// Makes a definition's backend. It reads nothing and connects to nothing yet.
///
/// # Errors
/// Every fault of the backend's own message and of the endpoints, with paths relative to the definition.
pub fn build(spec: &PoolSpec, surroundings: &Surroundings) -> Result<Arc<dyn Backend>, Faults> {
    match &spec.backend {
        Some(pool_spec::Backend::Echo(own)) => echo::build(spec, *own),
        Some(pool_spec::Backend::Http(own)) => http::build(spec, own, surroundings),
        Some(pool_spec::Backend::Postgres(own)) => postgres::build(spec, own, surroundings),
        Some(pool_spec::Backend::Redis(own)) => redis::build(spec, own, surroundings),
        Some(pool_spec::Backend::Tcp(own)) => tcp::build(spec, own, surroundings),
        Some(pool_spec::Backend::Plugin(own)) => plugin::build(spec, own, surroundings),
        Some(pool_spec::Backend::Llm(own)) => llm::build(spec, own, surroundings),
        Some(pool_spec::Backend::Comfyui(own)) => comfyui::build(spec, own, surroundings),
        None => Err(Faults::one(
            "backend",
            "is missing: set one of `comfyui`, `echo`, `http`, `llm`, `plugin`, `postgres`, `redis`, `tcp`",
        )),
    }
}

/// The time limits of a definition's kind; those of most kinds if it names none.
#[must_use]
pub const fn defaults(spec: &PoolSpec) -> KindDefaults {
    match &spec.backend {
        Some(pool_spec::Backend::Echo(_) | pool_spec::Backend::Http(_)) | None => KindDefaults {
            execute: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            reset: RESET,
        },
        // A long query says nothing until its first row, a blocking command nothing until its answer, a driver perhaps
        // nothing until its end, and a device nothing until it has something to tell.
        Some(
            pool_spec::Backend::Plugin(_)
            | pool_spec::Backend::Postgres(_)
            | pool_spec::Backend::Redis(_)
            | pool_spec::Backend::Tcp(_),
        ) => KindDefaults {
            execute: Duration::from_secs(60),
            stall: Duration::from_secs(600),
            reset: RESET,
        },
        // A long answer that is not streamed comes after minutes of silence; streamed ones have limits of their own.
        Some(pool_spec::Backend::Llm(_)) => KindDefaults {
            execute: Duration::from_secs(600),
            stall: Duration::from_secs(600),
            reset: RESET,
        },
        // A long video, and the prompts before it. While a prompt waits or runs, the box is asked every few seconds how it
        // stands, so silence means that the box does not answer at all: it may load a model. And a slot is taken until
        // its prompt is gone: a node notices an interrupt at the end of a step, or at its own.
        Some(pool_spec::Backend::Comfyui(_)) => KindDefaults {
            execute: Duration::from_secs(1800),
            stall: Duration::from_secs(300),
            reset: Duration::from_secs(1800),
        },
    }
}

/// Where an endpoint of a definition is, however its address is written; one that makes no sense is as it is written.
#[must_use]
pub fn place(spec: &PoolSpec, endpoint: &Endpoint) -> Place {
    let address = endpoint.address.as_str();
    let on = |tls: &Option<Tls>| tls.as_ref().is_some_and(|tls| tls.enabled);
    let found = match &spec.backend {
        Some(pool_spec::Backend::Http(own)) => http::place(address, on(&own.tls), ""),
        Some(pool_spec::Backend::Llm(own)) => http::place(address, on(&own.tls), llm::base(own)),
        Some(pool_spec::Backend::Comfyui(own)) => http::place(address, on(&own.tls), ""),
        Some(pool_spec::Backend::Postgres(_)) => Place::of_host(address, postgres::DEFAULT_PORT),
        Some(pool_spec::Backend::Redis(_)) => Place::of_host(address, redis::DEFAULT_PORT),
        Some(pool_spec::Backend::Tcp(_)) => Place::of_host(address, 0),
        Some(pool_spec::Backend::Echo(_) | pool_spec::Backend::Plugin(_)) | None => None,
    };
    found.unwrap_or_else(|| Place::as_written(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings() -> Surroundings {
        Surroundings {
            secrets: Secrets::below("/nowhere"),
            clock: Clock::tokio(),
        }
    }

    #[test]
    fn a_definition_without_a_backend_is_told_the_kinds() {
        let faults = build(&PoolSpec::default(), &surroundings()).unwrap_err();
        let fault = &faults.list()[0];
        assert_eq!(fault.field, "backend");
        assert!(
            fault.message.contains("echo") && fault.message.contains("http"),
            "{}",
            fault.message
        );
    }

    #[test]
    fn a_definition_makes_a_backend_of_its_kind() {
        let spec = PoolSpec {
            backend: Some(pool_spec::Backend::Echo(crate::proto::EchoBackend::default())),
            ..PoolSpec::default()
        };
        assert_eq!(build(&spec, &surroundings()).unwrap().kind(), "echo");
        assert_eq!(defaults(&spec).execute, Duration::from_secs(60));
        assert_eq!(defaults(&spec).stall, Duration::from_secs(30));
        assert_eq!(defaults(&spec).reset, Duration::from_secs(5));
    }

    #[test]
    fn a_slot_on_a_box_is_held_as_long_as_its_prompt_may_run() {
        let spec = PoolSpec {
            backend: Some(pool_spec::Backend::Comfyui(
                crate::proto::ComfyUiBackend::default(),
            )),
            ..PoolSpec::default()
        };
        assert!(defaults(&spec).reset >= defaults(&spec).execute);
    }

    #[test]
    fn a_place_is_the_same_for_all_ways_to_write_it() {
        use crate::proto::{HttpBackend, PluginBackend, PostgresBackend, RedisBackend, TcpBackend};
        let place = |backend: pool_spec::Backend, address: &str| {
            let spec = PoolSpec {
                backend: Some(backend),
                ..PoolSpec::default()
            };
            let endpoint = Endpoint {
                address: address.to_owned(),
                ..Endpoint::default()
            };
            let found = place(&spec, &endpoint);
            (found.address.to_string(), found.tls)
        };
        let http = || pool_spec::Backend::Http(HttpBackend::default());
        let postgres = || pool_spec::Backend::Postgres(PostgresBackend::default());
        let plain = |address: &str| (address.to_owned(), false);
        assert_eq!(place(http(), "HTTP://Api/"), plain("api:80"));
        assert_eq!(place(http(), "https://api/V1/"), ("api:443/V1".to_owned(), true));
        assert_eq!(place(postgres(), "DB"), plain("db:5432"));
        assert_eq!(place(postgres(), "[0:0::1]:5433"), plain("[::1]:5433"));
        let redis = pool_spec::Backend::Redis(RedisBackend::default());
        assert_eq!(place(redis, "Cache"), plain("cache:6379"));
        let tcp = pool_spec::Backend::Tcp(TcpBackend::default());
        assert_eq!(place(tcp, "Device:4001"), plain("device:4001"));
        let plugin = pool_spec::Backend::Plugin(PluginBackend::default());
        assert_eq!(place(plugin, "COM1:/"), plain("COM1:/"), "only its driver knows");
        assert_eq!(place(http(), "no address"), plain("no address"));
    }
}
