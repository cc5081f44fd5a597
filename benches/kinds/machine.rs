//! How busy the machine was with something else, since figures mean little without it.

use std::fs;

/// The load and the processors' time when it began.
pub struct Machine {
    load: String,
    stolen: u64,
    all: u64,
}

impl Machine {
    pub fn now() -> Self {
        let load = fs::read_to_string("/proc/loadavg").expect("the load");
        let stat = fs::read_to_string("/proc/stat").expect("the processors' time");
        let all: Vec<u64> = stat.lines().next().map_or_else(Vec::new, |line| {
            line.split_whitespace()
                .skip(1)
                .take(8)
                .filter_map(|ticks| ticks.parse().ok())
                .collect()
        });
        Self {
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            stolen: all.get(7).copied().unwrap_or_default(),
            all: all.iter().sum(),
        }
    }

    /// Says what it was when this began, and how much the host took away since.
    pub fn report(&self) {
        let now = Self::now();
        let share = (now.stolen - self.stolen) as f64 / (now.all - self.all).max(1) as f64;
        println!(
            "\nload average {} before, {} at the end; {:.1} % of the processors' time stolen",
            self.load,
            now.load,
            share * 100.0
        );
    }
}
