//! The real program over real sockets: a broker on a free port, or as a process that can be killed, its generated
//! clients, and real stores.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests stop at the first surprise"
)]

mod comfyui;
mod contention;
mod drain;
mod durability;
mod endpoints;
mod exec;
mod half_open;
mod health;
mod http2;
mod llm;
mod plugin;
mod postgres;
mod redis;
mod support;
mod tcp;
mod truth;
mod wire;
