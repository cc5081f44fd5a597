//! The use cases: acquire, execute, stream, renew. A file each.

mod plan;
mod policy;

pub use self::{plan::Plan, policy::Policy};
