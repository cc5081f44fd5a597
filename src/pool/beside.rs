//! A few sessions beside a pool's own, for operations that must not wait for one. They are a small pool themselves,
//! which follows its elder in everything; and it may have one beside it in its turn.

use std::{iter::successors, sync::Arc};

use super::{
    Pool,
    core::Numbers,
    settings::{EndpointSettings, Settings},
    shell::Identity,
};
use crate::{
    backend::{Backend, Beside},
    clock::Clock,
};

impl Pool {
    /// The pool beside one of this identity and these settings. `numbers` are the elder's too, so that no fence is that of
    /// two sessions.
    pub(super) fn start_beside(
        identity: &Identity,
        beside: Beside,
        settings: &Settings,
        numbers: Numbers,
        clock: &Clock,
    ) -> Arc<Self> {
        let identity = Identity {
            name: format!("{}/beside", identity.name).into(),
            ..identity.clone()
        };
        let settings = settings_beside(settings, beside.at_each);
        Self::start_numbered(identity, beside.backend, settings, numbers, clock.clone())
    }

    /// What a change of the definition means for the pool beside; `replaced` is the new backend, if there is one.
    pub(super) fn reconfigure_beside(&self, settings: &Settings, replaced: Option<&dyn Backend>) {
        let asked = match replaced {
            Some(backend) => backend.beside(),
            None => self.backend().beside(),
        };
        if let (Some(pool), Some(Beside { backend, at_each })) = (&self.beside, asked) {
            pool.reconfigure(settings_beside(settings, at_each), replaced.map(|_| backend));
        }
    }

    /// The pool, the one beside it, the one beside that.
    pub(super) fn family(&self) -> impl Iterator<Item = &Self> {
        successors(Some(self), |pool| pool.beside.as_deref())
    }
}

/// What the definition means for the sessions beside.
fn settings_beside(settings: &Settings, at_each: u32) -> Settings {
    let endpoint = |endpoint: &EndpointSettings| EndpointSettings {
        max_sessions: Some(at_each),
        ..endpoint.clone()
    };
    let endpoints: Vec<_> = settings.endpoints.iter().map(endpoint).collect();
    let count = u32::try_from(endpoints.len().max(1)).unwrap_or(u32::MAX);
    let max_sessions = count.saturating_mul(at_each);
    Settings {
        endpoints,
        min_sessions: 0,
        max_sessions,
        max_idle: max_sessions,
        ..settings.clone()
    }
}
