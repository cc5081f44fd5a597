//! Keeps the sessions of one backend: a state machine that decides ([`core`](self)), an exchange where sessions
//! change hands under one lock, and a shell that acts.
//!
//! Tasks: one driver for each pool, which sleeps until the core's next deadline and ends with the pool; and one
//! short-lived task for each dial, probe, reset and close, bounded by the definition's timeouts. Callers spawn
//! nothing and dial nothing: they may go away at any time.

mod beside;
mod calls;
mod check;
mod core;
mod driver;
mod exchange;
mod held;
mod here;
mod report;
mod request;
mod settings;
mod shell;
mod sync;
#[cfg(test)]
mod tests;
mod work;

pub use self::{
    core::{Histogram, SessionState, Stats},
    held::{Acquire, GiveBack, Held},
    report::{CheckReport, SessionInfo, WaiterInfo},
    request::{Ending, Priority, Refusal, Request},
    settings::{EndpointSettings, HealthSettings, Settings},
    shell::{Identity, Pool},
};
