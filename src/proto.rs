//! The generated messages and services of `sublet.v1`, and their descriptors.

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

/// The encoded descriptors of every proto the broker serves, with comments; google.rpc's error details included.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
