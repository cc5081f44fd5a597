//! Keeps the sessions of one backend: a state machine that decides, and a shell that acts.

mod settings;

pub use self::settings::{HealthSettings, Settings};
