//! A few sessions beside a pool's own, for operations that must not wait for one. They are a small pool themselves,
//! which follows its elder in everything.

use std::{iter::once, sync::Arc};

use super::{
    Pool,
    core::{Core, Numbers},
    settings::{EndpointSettings, Settings},
    shell::Identity,
};
use crate::{backend::Backend, clock::Clock};

/// Sessions beside at each endpoint: enough for people and programs that look after their work, too few to burden it.
const AT_EACH: u32 = 4;

impl Pool {
    /// The pool beside one of this identity and these settings. `numbers` are the elder's too, so that no fence is that of
    /// two sessions.
    pub(super) fn start_beside(
        identity: &Identity,
        backend: Arc<dyn Backend>,
        settings: &Settings,
        numbers: Numbers,
        clock: &Clock,
    ) -> Arc<Self> {
        let identity = Identity {
            name: format!("{}/beside", identity.name).into(),
            ..identity.clone()
        };
        let core = Core::new(clock.now(), numbers, identity.seed, settings_beside(settings));
        Self::start_core(identity, backend, core, clock.clone(), None)
    }

    /// The pool, and then the one beside it.
    pub(super) fn family(&self) -> impl Iterator<Item = &Self> {
        once(self).chain(self.beside.as_deref())
    }
}

/// What the definition means for the sessions beside.
pub(super) fn settings_beside(settings: &Settings) -> Settings {
    let endpoint = |endpoint: &EndpointSettings| EndpointSettings {
        max_sessions: Some(AT_EACH),
        ..endpoint.clone()
    };
    let endpoints: Vec<_> = settings.endpoints.iter().map(endpoint).collect();
    let count = u32::try_from(endpoints.len().max(1)).unwrap_or(u32::MAX);
    let max_sessions = count.saturating_mul(AT_EACH);
    Settings {
        endpoints,
        min_sessions: 0,
        max_sessions,
        max_idle: max_sessions,
        ..settings.clone()
    }
}
