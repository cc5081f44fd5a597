//! What leases cost the real program: keepalive round trips and memory with 10,000 live leases over 100 connections;
//! and how soon it serves, and its size when idle.
//!
//! `-- quick` takes about 3 s; its figures are rough.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "it measures with real clocks, prints its table, and stops at the first surprise"
)]
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    reason = "a program of its own"
)]

#[allow(dead_code, reason = "shared with the execute bench, which uses the rest")]
#[path = "../execute/broker.rs"]
mod broker;
mod keepalive;
#[allow(dead_code, reason = "shared with the kinds bench, which uses the rest")]
mod memory;
mod startup;

use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much to measure.
struct Effort {
    starts: usize,
    /// Time after the start until the idle broker is weighed.
    idle: Duration,
    /// How long leases are kept alive, in each way.
    keeping: Duration,
}

const FULL: Effort = Effort {
    starts: 10,
    idle: Duration::from_secs(2),
    keeping: Duration::from_secs(10),
};

const QUICK: Effort = Effort {
    starts: 3,
    idle: Duration::from_millis(100),
    keeping: Duration::from_millis(500),
};

fn main() {
    let quick = std::env::args().any(|argument| argument == "quick");
    let effort = if quick { QUICK } else { FULL };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        startup::measure(&effort).await;
        keepalive::measure(&effort).await;
    });
}

/// One figure without a goal.
fn figure(what: &str, found: &str) {
    println!("       {what}: {found}");
}

/// One figure and whether it reaches its goal.
fn goal(what: &str, found: &str, met: bool) {
    println!("{} {what}: {found}", if met { "met   " } else { "MISSED" });
}
