//! Everything a definition says, ready to run.

use std::sync::Arc;

use super::Policy;
use crate::{backend::Backend, pool::Settings};

/// Everything a definition says, ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The pool's limits.
    pub settings: Settings,
    /// The policy for calls and leases.
    pub policy: Policy,
    /// Its backend.
    pub backend: Arc<dyn Backend>,
}
