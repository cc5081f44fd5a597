//! Execute beside a bare tonic server in the same run: throughput, p50, p99 and CPU per call; and HTTP calls through a
//! pool beside a fresh connection per call.
//!
//! Each server is a child process of this one, so that its CPU time can be read apart from the client's. Both sides of
//! a ratio have the same runtime (one current-thread runtime per core, one loop that accepts), client and payload;
//! Sublet runs with its defaults. Rounds of the two sides alternate, and the medians are compared.

#![allow(
    clippy::print_stdout,
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

mod bare;
mod broker;
mod cpu;
mod fresh;
mod load;
mod peer;
mod report;
mod trust;

use std::process::ExitCode;

use report::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("serve-bare") => return bare::serve(),
        Some("serve-http") => return peer::serve(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut table = Table::default();
        load::grpc(&mut table).await;
        fresh::http(&mut table).await;
        table.print()
    })
}
