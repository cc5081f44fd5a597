//! The use cases: acquire, execute, stream, renew. A file each.
mod policy;
pub use self::policy::Policy;
