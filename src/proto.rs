//! The generated messages and services of `sublet.v1` and `sublet.plugin.v1`, and the former's descriptors.

#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
mod generated {
    tonic::include_proto!("sublet.v1");
}

pub use generated::*;

/// The generated messages and service of `sublet.plugin.v1`, which drivers serve.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
pub mod plugin {
    tonic::include_proto!("sublet.plugin.v1");
}

/// The encoded descriptors of every proto the broker serves, with comments; google.rpc's error details included.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
