//! What was found, as tables in markdown. The first side of each is the one without a broker.

use std::time::Duration;

use crate::{
    Effort,
    load::{self, Caller},
    report::{Round, Side},
};

/// One side of a comparison.
pub struct Row {
    name: &'static str,
    callers: Vec<Caller>,
    /// The processes between its callers and the server.
    between: Vec<u32>,
    rounds: Vec<Round>,
}

impl Row {
    pub fn new(name: &'static str, callers: Vec<Caller>, between: &[u32]) -> Self {
        Self {
            name,
            callers,
            between: between.to_vec(),
            rounds: Vec::new(),
        }
    }
}

/// Has the sides take turns, and prints their medians.
pub async fn calls(title: &str, mut rows: Vec<Row>, effort: &Effort) {
    for _ in 0..effort.rounds {
        for row in &mut rows {
            let round = load::round(&mut row.callers, effort.round, &row.between).await;
            row.rounds.push(round);
        }
    }
    println!("\n## {title}\n");
    println!("| | calls/s | of direct | p50 µs | p99 µs | CPU between, µs a call |");
    println!("|---|---|---|---|---|---|");
    let sides: Vec<Side> = rows.iter().map(|row| Side::of(&row.rounds)).collect();
    for (row, side) in rows.iter().zip(&sides) {
        println!(
            "| {} | {:.0} | {:.2} | {:.0} | {:.0} | {:.1} |",
            row.name,
            side.rate,
            side.rate / sides[0].rate,
            side.p50,
            side.p99,
            side.cpu
        );
    }
}

/// One side of a transfer: its name, and how long each way took in each round.
pub type Took = (&'static str, Vec<Duration>, Vec<Duration>);

pub fn transfers(title: &str, rows: &[Took], bytes: u64) {
    println!("\n## {title}\n");
    println!("| | from the server, MiB/s | of direct | to the server, MiB/s | of direct |");
    println!("|---|---|---|---|---|");
    let rate = |took: &[Duration]| {
        let mut took = took.to_vec();
        took.sort_unstable();
        bytes as f64 / f64::from(1 << 20) / took[took.len() / 2].as_secs_f64()
    };
    let (down, up) = (rate(&rows[0].1), rate(&rows[0].2));
    for (name, downs, ups) in rows {
        println!(
            "| {name} | {:.0} | {:.2} | {:.0} | {:.2} |",
            rate(downs),
            rate(downs) / down,
            rate(ups),
            rate(ups) / up
        );
    }
}
