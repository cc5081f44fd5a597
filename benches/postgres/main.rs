//! PostgreSQL direct, behind PgBouncer, and behind Sublet, on one machine in one run: pgbench's point select and its
//! TPC-B-like transaction, by 1, 20 and 200 clients. `make bench-postgres` installs what it needs and runs it;
//! `-- quick` takes the point select by 20 clients only.
//!
//! The first two are measured with pgbench, as their users do; Sublet with generated stubs in this process, which shares
//! the machine with everything else, as pgbench does.

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
    dead_code,
    missing_debug_implementations,
    reason = "a program of its own"
)]

#[path = "../execute/broker.rs"]
mod broker;
#[path = "../execute/cpu.rs"]
mod cpu;
mod load;
mod pgbench;
mod pgbouncer;
#[path = "../../tests/it/support/postgres.rs"]
mod postgres;
mod table;
#[path = "../../tests/it/support/throwaway.rs"]
mod throwaway;

use std::time::Duration;

use load::Way;
use pgbouncer::PgBouncer;
use table::{Found, Table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// pgbench's scale: 100,000 accounts each, about 15 MB.
const SCALE: u32 = 20;
const ROUND: Duration = Duration::from_secs(4);
/// Connections to the server where many clients share few.
const FEW: u32 = 20;
/// And where each client has its own.
const MANY: u32 = 200;

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One SELECT by primary key.
    Select,
    /// pgbench's default transaction: five statements between BEGIN and END.
    TpcB,
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "quick");
    // One thread, as pgbench has: the client must not be what is measured.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let settings = "-c max_connections=900 -c shared_buffers=512MB";
    let server = postgres::Server::start_with(settings);
    let port = server.address().port();
    pgbench::fill(port, SCALE);
    let bouncer = PgBouncer::start(port);
    runtime.block_on(async {
        let bench = Bench::start(port, bouncer).await;
        let works: &[Work] = if quick {
            &[Work::Select]
        } else {
            &[Work::Select, Work::TpcB]
        };
        let clients: &[u32] = if quick { &[20] } else { &[1, 20, 200] };
        for work in works {
            for clients in clients {
                bench.compare(*work, *clients).await;
            }
        }
    });
}

struct Bench {
    port: u16,
    bouncer: PgBouncer,
    broker: broker::Broker,
}

impl Bench {
    async fn start(port: u16, bouncer: PgBouncer) -> Self {
        let broker = broker::Broker::start().await;
        let address = format!("127.0.0.1:{port}");
        for (name, sessions, own) in load::pools() {
            broker.create(name, sessions, own, Some(&address)).await;
        }
        Self {
            port,
            bouncer,
            broker,
        }
    }

    async fn compare(&self, work: Work, clients: u32) {
        println!("\n## {work:?}, {clients} client(s)\n");
        let mut table = Table::default();
        // Every side in turn, three times, so that a slow moment of the machine hits none alone.
        for _ in 0..3 {
            table.add(
                "direct",
                pgbench::run(self.port, "bench", work, clients, || Duration::ZERO),
            );
            let cpu = || load::process_cpu(self.bouncer.id());
            for mode in ["session", "transaction"] {
                let found = pgbench::run(self.bouncer.port, mode, work, clients, cpu);
                table.add(&format!("PgBouncer, {mode}"), found);
            }
            for way in Way::ALL {
                let cpu = || load::process_cpu(self.broker.id());
                let found: Found = load::run(&self.broker.address, way, work, clients, &cpu).await;
                table.add(way.name(), found);
            }
        }
        table.print();
        if work == Work::Select && clients == 20 {
            table.goal("Sublet, OpenSession", "PgBouncer, session", 1.5);
            table.goal("Sublet, one-shot TRANSACTION", "PgBouncer, transaction", 1.1);
        }
    }
}
