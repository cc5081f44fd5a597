//! The library's own files, compiled with the lock beside this one.

pub(crate) use sublet::pool::{Ending, EndpointSettings, Priority, Refusal, Request, Settings};

#[allow(unused_imports, reason = "the library shows more of the core")]
#[path = "../../../src/pool/core/mod.rs"]
pub(crate) mod core;
#[allow(unused_imports, reason = "the library shows more of the exchange")]
#[path = "../../../src/pool/exchange/mod.rs"]
pub(crate) mod exchange;
#[path = "../../../src/pool/here.rs"]
mod here;
pub(crate) mod sync;
