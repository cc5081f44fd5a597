//! HTTP/1.1 services.

use std::sync::Arc;

use super::{Backend, registry::Surroundings};
use crate::{
    error::Faults,
    proto::{HttpBackend, PoolSpec},
};

/// Makes an HTTP backend.
pub(super) fn build(
    _spec: &PoolSpec,
    _own: &HttpBackend,
    _surroundings: &Surroundings,
) -> Result<Arc<dyn Backend>, Faults> {
    Err(Faults::one("http", "is not built in"))
}
