//! Looking whether a backend can be reached now: dials, probes and closes one session within the cap.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::{
    Pool,
    core::Core,
    exchange::NewSession,
    held::GiveBack,
    report::CheckReport,
    request::{Priority, Refusal, Request},
    work::within,
};

/// Endpoints checked at the same time: their sessions count against the pool's limit meanwhile.
const AT_ONCE: usize = 4;

impl Pool {
    /// Dials one session at each endpoint, probes it and closes it; at a few endpoints at the same time. Where there is
    /// no place for one more, an idle session is probed instead, and kept; with a single endpoint also one that comes
    /// free within the connect timeout. Goes on in the background with those it has begun if dropped.
    pub async fn check(self: &Arc<Self>) -> Vec<CheckReport> {
        let endpoints = self.exchange.look(Core::open_places);
        let patient = endpoints.len() == 1;
        let checks = endpoints
            .into_iter()
            .map(|endpoint| self.check_at(endpoint, patient));
        stream::iter(checks).buffered(AT_ONCE).collect().await
    }

    async fn check_at(self: &Arc<Self>, endpoint: Arc<str>, patient: bool) -> CheckReport {
        let pool = Arc::clone(self);
        let name = Arc::clone(&endpoint);
        let task = self.runtime.spawn(async move {
            let (place, todo) = pool.exchange.begin_check(pool.clock.now(), &name);
            pool.finish(todo);
            match place {
                Some(new) => pool.check_new(new).await,
                None => pool.check_idle(name, patient).await,
            }
        });
        let checked = task.await;
        let mut report = checked.unwrap_or_else(|error| failed(format!("the check itself failed: {error}")));
        if report.endpoint.is_empty() {
            report.endpoint = endpoint;
        }
        report
    }

    async fn check_new(self: Arc<Self>, new: NewSession) -> CheckReport {
        let started = self.clock.now();
        let mut seat = match self.open(&new).await {
            Ok(seat) => seat,
            Err(error) => {
                let message = error.message.clone();
                new.face.fence.shut();
                let todo = self.report_failure(new.key, error);
                self.finish(todo);
                return failed(message);
            }
        };
        let opened = self.clock.now();
        let outcome = within(self.probe_limit(), seat.session.probe()).await;
        let report = CheckReport {
            healthy: outcome.is_ok(),
            message: outcome.err().map_or_else(String::new, |lost| lost.message),
            endpoint: Arc::clone(&seat.face.endpoint),
            dial_time: opened.since(started),
            probe_time: self.clock.now().since(opened),
        };
        // The core closes it, because it was reserved for a check only.
        let todo = self.exchange.dialed(self.clock.now(), seat);
        self.finish(todo);
        report
    }

    async fn check_idle(self: Arc<Self>, endpoint: Arc<str>, patient: bool) -> CheckReport {
        let asked = self.clock.now();
        let request = Request {
            asked,
            deadline: asked + self.exchange.look(|core| core.settings().connect),
            wait: patient,
            priority: Priority::High,
            client: Some(Arc::from("check")),
            endpoint: Some(endpoint),
            beside: 0,
        };
        let mut held = match self.acquire(request).await {
            Ok(held) => held,
            Err(refusal) => return failed(explain(refusal)),
        };
        let started = self.clock.now();
        let outcome = within(self.probe_limit(), held.session().probe()).await;
        let report = CheckReport {
            healthy: outcome.is_ok(),
            message: outcome
                .as_ref()
                .err()
                .map_or_else(String::new, |lost| lost.message.clone()),
            endpoint: Arc::clone(held.endpoint()),
            probe_time: self.clock.now().since(started),
            ..CheckReport::default()
        };
        held.give_back(if outcome.is_ok() {
            GiveBack::Used
        } else {
            GiveBack::Discard
        });
        report
    }
}

fn explain(refusal: Refusal) -> String {
    match refusal {
        Refusal::Timeout { waited } => format!("not checked: every session was in use for {waited:?}"),
        Refusal::QueueFull { limit } => format!("not checked: {limit} callers wait for a session already"),
        Refusal::Paused => {
            "not checked: the pool is paused, and has no place for one more session".to_owned()
        }
        Refusal::Unreachable { message, .. } => message,
        Refusal::NoSuchEndpoint => "not checked: the endpoint was removed".to_owned(),
        Refusal::Deleted => "not checked: the pool is being deleted".to_owned(),
        Refusal::BrokerStopping => "not checked: the broker is stopping".to_owned(),
    }
}

fn failed(message: String) -> CheckReport {
    CheckReport {
        message,
        ..CheckReport::default()
    }
}
