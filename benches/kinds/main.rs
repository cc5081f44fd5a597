//! The kinds of backend: how soon each is heard to stop when a client is killed in mid-stream; and what tunnels, redis
//! commands, HTTP/2 requests and streams of tokens are through the broker, beside the same without it.
//!
//! Clients that are killed are processes of their own, and so are the broker and the servers that are measured beside
//! it. Both sides of a ratio have the same runtime, server and payload; Sublet runs with its defaults. Rounds of all
//! sides take turns, and the medians are compared. `-- killed`, `-- beside` and `-- streams` do one part only,
//! `-- quick` little of each.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    clippy::cast_precision_loss,
    reason = "it measures with real clocks, prints its table, and stops at the first surprise"
)]
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    reason = "a program of its own"
)]

mod beside;
#[allow(dead_code, reason = "shared with the execute bench, which uses the rest")]
#[path = "../execute/broker.rs"]
mod broker;
mod client;
#[allow(dead_code, reason = "shared with the execute bench, which uses the rest")]
#[path = "../execute/cpu.rs"]
mod cpu;
mod killed;
mod load;
mod machine;
#[allow(dead_code, reason = "shared with the leases bench, which uses the rest")]
#[path = "../leases/memory.rs"]
mod memory;
mod peers;
#[allow(dead_code, reason = "shared with the execute bench, which uses the rest")]
#[path = "../execute/report.rs"]
mod report;
mod session;
mod streams;
#[allow(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/it/support/mod.rs"]
mod support;
mod table;
mod tokens;
mod transfer;
#[path = "../execute/trust.rs"]
mod trust;
mod tunnel;

use std::{process::ExitCode, time::Duration};

use machine::Machine;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much to measure.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Clients killed, for each kind.
    kills: usize,
    /// Rounds of each side.
    rounds: usize,
    round: Duration,
    /// Bytes sent each way through a tunnel, in each round.
    bytes: u64,
}

const FULL: Effort = Effort {
    kills: 30,
    rounds: 5,
    round: Duration::from_secs(2),
    bytes: 512 << 20,
};

const QUICK: Effort = Effort {
    kills: 3,
    rounds: 1,
    round: Duration::from_millis(200),
    bytes: 16 << 20,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("client") => return client::run(&arguments[1..]),
        Some("serve-tcp") => return peers::serve_tcp(),
        Some("serve-h2") => return peers::serve_h2(),
        Some("serve-tokens") => return tokens::serve(),
        _ => {}
    }
    let asked = |word: &str| arguments.iter().any(|argument| argument == word);
    let effort = if asked("quick") { QUICK } else { FULL };
    let machine = Machine::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let all = !["killed", "beside", "streams"].into_iter().any(asked);
        if all || asked("killed") {
            killed::measure(&effort).await;
        }
        if all || asked("beside") {
            beside::measure(&effort).await;
        }
        if all || asked("streams") {
            streams::measure(&effort).await;
        }
    });
    machine.report();
    ExitCode::SUCCESS
}
