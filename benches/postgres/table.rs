//! What was found, as a table in markdown.

use std::time::Duration;

/// One round of one side.
#[derive(Clone, Debug)]
pub struct Found {
    /// Transactions.
    pub done: u64,
    pub lasted: Duration,
    /// Microseconds.
    pub p50: f64,
    pub p99: f64,
    /// CPU time of what stands between client and server.
    pub cpu: Duration,
}

impl Found {
    fn tps(&self) -> f64 {
        self.done as f64 / self.lasted.as_secs_f64()
    }

    /// Its share of one core.
    fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.lasted.as_secs_f64() * 100.0
    }

    fn each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.done.max(1) as f64
    }
}

/// Rounds of every side.
#[derive(Default)]
pub struct Table(Vec<(String, Vec<Found>)>);

impl Table {
    pub fn add(&mut self, name: &str, found: Found) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, rounds)) => rounds.push(found),
            None => self.0.push((name.to_owned(), vec![found])),
        }
    }

    pub fn print(&self) {
        println!("| | tps | p50 µs | p99 µs | CPU between, % of a core | µs a transaction |");
        println!("|---|---|---|---|---|---|");
        for (name, rounds) in &self.0 {
            println!(
                "| {name} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} |",
                median(rounds, Found::tps),
                median(rounds, |found| found.p50),
                median(rounds, |found| found.p99),
                median(rounds, Found::share),
                median(rounds, Found::each),
            );
        }
    }

    pub fn goal(&self, ours: &str, theirs: &str, times: f64) {
        let rate = |wanted: &str| {
            let rounds = self.0.iter().find(|(name, _)| name == wanted);
            rounds.map_or(0.0, |(_, rounds)| median(rounds, Found::tps))
        };
        let ratio = rate(ours) / rate(theirs);
        let met = if ratio >= times { "met   " } else { "MISSED" };
        println!("\n{met} {ours} >= {times} x {theirs}: {ratio:.2} x");
    }
}

fn median(rounds: &[Found], of: impl Fn(&Found) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
