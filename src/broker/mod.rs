//! The use cases: acquire, execute, stream, renew. A file each.
