//! What was measured, as a table.

use std::{process::ExitCode, time::Duration};

use hdrhistogram::Histogram;

/// One round of one side.
#[derive(Clone, Debug)]
pub struct Round {
    pub calls: u64,
    pub lasted: Duration,
    pub latency: Histogram<u64>,
    pub cpu: Duration,
}

impl Round {
    fn rate(&self) -> f64 {
        self.calls as f64 / self.lasted.as_secs_f64()
    }

    fn cpu_per_call(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.calls.max(1) as f64
    }
}

/// The medians of one side's rounds.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub rate: f64,
    pub p50: f64,
    pub p99: f64,
    pub cpu: f64,
}

impl Side {
    pub fn of(rounds: &[Round]) -> Self {
        let median = |of: &dyn Fn(&Round) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self {
            rate: median(&Round::rate),
            p50: median(&|round| round.latency.value_at_quantile(0.50) as f64 / 1e3),
            p99: median(&|round| round.latency.value_at_quantile(0.99) as f64 / 1e3),
            cpu: median(&Round::cpu_per_call),
        }
    }
}

#[derive(Default)]
pub struct Table {
    rows: Vec<(String, Side)>,
    goals: Vec<(String, String, bool)>,
}

impl Table {
    pub fn row(&mut self, name: &str, side: Side) {
        self.rows.push((name.to_owned(), side));
    }

    pub fn goal(&mut self, name: &str, found: String, met: bool) {
        self.goals.push((name.to_owned(), found, met));
    }

    pub fn print(self) -> ExitCode {
        println!(
            "{:<44} {:>10} {:>9} {:>9} {:>12}",
            "", "calls/s", "p50 us", "p99 us", "CPU us/call"
        );
        for (name, side) in &self.rows {
            println!(
                "{name:<44} {:>10.0} {:>9.0} {:>9.0} {:>12.1}",
                side.rate, side.p50, side.p99, side.cpu
            );
        }
        println!();
        for (name, found, met) in &self.goals {
            println!("{} {name}: {found}", if *met { "met   " } else { "MISSED" });
        }
        ExitCode::SUCCESS
    }
}
