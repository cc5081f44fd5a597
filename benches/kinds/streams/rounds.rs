//! Rounds of both sides in turn, and what they found, as tables in markdown.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{Callers, STREAMS, TOKENS, asked};
use crate::{
    Effort, load,
    memory::{forget_peak, mib, peak},
    tokens::AT_ONCE,
};

/// What one caller heard.
pub struct Heard {
    first: Duration,
    tokens: usize,
}

/// A caller who listens.
pub struct Listening {
    begun: Instant,
    first: Option<Duration>,
    tokens: usize,
}

impl Listening {
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
            first: None,
            tokens: 0,
        }
    }

    pub fn text(&mut self, tokens: usize) {
        if tokens > 0 {
            self.first.get_or_insert_with(|| self.begun.elapsed());
        }
        self.tokens += tokens;
    }

    pub fn end(self) -> Heard {
        Heard {
            first: self.first.expect("a token"),
            tokens: self.tokens,
        }
    }
}

pub async fn all<T>(asking: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut answers = Vec::new();
    for task in asking {
        answers.push(task.await.expect("a caller"));
    }
    answers
}

/// One side of a comparison.
pub struct Side {
    name: &'static str,
    callers: Callers,
    /// The process between its callers and the provider.
    between: Option<u32>,
}

#[derive(Default)]
struct Found {
    /// Tokens a second.
    rates: Vec<f64>,
    /// Times to the first token.
    firsts: Vec<Duration>,
    /// Microseconds of the processors for each token, between.
    costs: Vec<f64>,
    /// The most memory that was seen in each round.
    memory: Vec<u64>,
}

impl Side {
    pub const fn new(name: &'static str, callers: Callers) -> Self {
        Self {
            name,
            callers,
            between: None,
        }
    }

    pub const fn of(mut self, process: u32) -> Self {
        self.between = Some(process);
        self
    }

    async fn round(&mut self, asked: &str, found: &mut Found) {
        if let Some(process) = self.between {
            forget_peak(process);
        }
        let (cpu, begun) = (load::cpu_of(self.between.as_slice()), Instant::now());
        let heard = self.callers.ask(STREAMS, asked).await;
        let (took, cpu) = (begun.elapsed(), load::cpu_of(self.between.as_slice()) - cpu);
        let tokens: usize = heard.iter().map(|heard| heard.tokens).sum();
        assert_eq!(tokens, STREAMS * TOKENS);
        found.rates.push(tokens as f64 / took.as_secs_f64());
        found.costs.push(cpu.as_secs_f64() * 1e6 / tokens as f64);
        found.firsts.extend(heard.iter().map(|heard| heard.first));
        found.memory.extend(self.between.map(peak));
    }
}

/// Many streams at once.
pub async fn table(title: &str, sides: &mut [Side; 2], asked: &str, effort: &Effort) {
    let mut found = [Found::default(), Found::default()];
    for _ in 0..effort.rounds {
        for (side, found) in sides.iter_mut().zip(&mut found) {
            side.round(asked, found).await;
        }
    }
    println!("\n## {title}\n");
    println!("| | tokens/s | of direct | first token p50 ms | p99 ms | CPU between, µs a token |");
    println!("|---|---|---|---|---|---|");
    let direct = median(&found[0].rates);
    for (side, found) in sides.iter().zip(&mut found) {
        found.firsts.sort_unstable();
        println!(
            "| {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.1} |",
            side.name,
            median(&found.rates),
            median(&found.rates) / direct,
            millis(at(&found.firsts, 50)),
            millis(at(&found.firsts, 99)),
            median(&found.costs)
        );
    }
    let memory: Vec<String> = found[1]
        .memory
        .iter()
        .map(|most| format!("{:.1}", mib(*most)))
        .collect();
    println!(
        "\nthe broker's memory in each round, MiB at most: {}",
        memory.join(", ")
    );
}

/// One stream at a time, of one token: how much later it comes.
pub async fn first_tokens(title: &str, sides: &mut [Side; 2], count: usize, effort: &Effort) {
    let asked = asked(AT_ONCE, 1);
    let mut firsts = [Vec::new(), Vec::new()];
    for _ in 0..effort.rounds {
        for (side, firsts) in sides.iter_mut().zip(&mut firsts) {
            for _ in 0..count {
                let heard = side.callers.ask(1, &asked).await;
                firsts.extend(heard.iter().map(|heard| heard.first));
            }
        }
    }
    println!("\n## {title}\n");
    println!("| | first token p50 ms | p99 ms | added p50 ms |");
    println!("|---|---|---|---|");
    let [direct, _] = &mut firsts;
    direct.sort_unstable();
    let least = at(direct, 50);
    for (side, firsts) in sides.iter().zip(&mut firsts) {
        firsts.sort_unstable();
        println!(
            "| {} | {:.2} | {:.2} | {:.2} |",
            side.name,
            millis(at(firsts, 50)),
            millis(at(firsts, 99)),
            millis(at(firsts, 50)) - millis(least)
        );
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
