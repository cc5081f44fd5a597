//! The pool beside deadpool and bb8, on the same machine, in the same run, with each one's defaults: `cargo bench
//! --bench pool` (`-- quick` for the first figures only). Ratios are of medians of seven runs, taken in turns.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "it prints its table, and stops at the first surprise"
)]
#![allow(missing_docs, reason = "a program of its own")]

mod contenders;
mod scenes;

use std::{sync::Arc, time::Duration};

use contenders::{Bb8, Deadpool, Ours, World};
use scenes::Race;

const RUNS: usize = 7;

fn main() {
    let quick = std::env::args().any(|argument| argument == "quick");
    let one = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    println!("medians of {RUNS} runs, {} cores, one thread\n", cores());
    head();
    one.block_on(async {
        single().await;
        contended("64 tasks over 8 sessions").await;
        if !quick {
            spike().await;
            down().await;
            cancelled().await;
        }
    });
    if quick {
        return;
    }
    let two = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    println!("\nfor comparison, without goals: two worker threads\n");
    head();
    two.block_on(async {
        tokio::spawn(contended("64 tasks, 2 threads"))
            .await
            .expect("it ends")
    });
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn head() {
    row(["what", "ours", "deadpool", "bb8", "ratio", "goal", "met"].map(str::to_owned));
    row(["---"; 7].map(str::to_owned));
}

fn row(cells: [String; 7]) {
    let [what, ours, deadpool, bb8, ratio, goal, met] = cells;
    println!("| {what:<28} | {ours:>9} | {deadpool:>9} | {bb8:>9} | {ratio:>11} | {goal:>15} | {met:<6} |");
}

fn verdict(met: bool) -> String {
    if met { "met" } else { "MISSED" }.to_owned()
}

/// The three, each over a world of its own.
async fn three(size: u32, open: u32, dial: Duration) -> (Arc<Ours>, Arc<Deadpool>, Arc<Bb8>) {
    let ours = Ours::new(size, World::dialing_in(dial)).await;
    let deadpool = Deadpool::new(size, World::dialing_in(dial)).await;
    let bb8 = Bb8::new(size, World::dialing_in(dial)).await;
    scenes::open(&ours, open).await;
    scenes::open(&deadpool, open).await;
    scenes::open(&bb8, open).await;
    (ours, deadpool, bb8)
}

async fn single() {
    let (ours, deadpool, bb8) = three(8, 1, Duration::ZERO).await;
    let mut taken = [const { Vec::new() }; 3];
    for _ in 0..RUNS {
        taken[0].push(scenes::alone(&ours).await);
        taken[1].push(scenes::alone(&deadpool).await);
        taken[2].push(scenes::alone(&bb8).await);
    }
    let [ours, deadpool, bb8] = taken.map(median);
    compare("checkout + return, 1 task", [ours, deadpool, bb8], (0.60, 0.75));
}

async fn contended(what: &str) {
    let (ours, deadpool, bb8) = three(8, 8, Duration::ZERO).await;
    let mut races: [Vec<Race>; 3] = [const { Vec::new() }; 3];
    for _ in 0..RUNS {
        races[0].push(scenes::race(&ours).await);
        races[1].push(scenes::race(&deadpool).await);
        races[2].push(scenes::race(&bb8).await);
    }
    let medians = |of: fn(&Race) -> f64| {
        races
            .each_ref()
            .map(|races| median(races.iter().map(of).collect()))
    };
    compare(what, medians(|race| race.nanos), (0.90, 0.90));
    let (jain, spread) = (medians(|race| race.jain), medians(|race| race.spread));
    plain(
        "  fairness (Jain)",
        jain.map(|value| format!("{value:.4}")),
        ">= 0.999",
        jain[0] >= 0.999,
    );
    plain(
        "  fairness (max/min)",
        spread.map(|value| format!("{value:.2}")),
        "<= 1.10",
        spread[0] <= 1.10,
    );
}

async fn spike() {
    let (ours, deadpool, bb8) = three(50, 5, Duration::from_millis(150)).await;
    scenes::work(&ours).await;
    scenes::work(&deadpool).await;
    scenes::work(&bb8).await;
    let found = [
        scenes::spike(&ours).await,
        scenes::spike(&deadpool).await,
        scenes::spike(&bb8).await,
    ];
    plain(
        "spike: dials",
        found.map(|(dials, _)| dials.to_string()),
        "<= 1",
        found[0].0 <= 1,
    );
    let last = found.map(|(_, last)| last);
    plain(
        "  last request served after",
        last.map(|last| format!("{last:.1?}")),
        "<= 35 ms",
        last[0].as_millis() <= 35,
    );
}

async fn down() {
    let ours = scenes::down(Ours::new(10, World::down()).await).await;
    let deadpool = scenes::down(Deadpool::new(10, World::down()).await).await;
    let bb8 = scenes::down(Bb8::new(10, World::down()).await).await;
    let found = [ours, deadpool, bb8];
    plain(
        "backend down 2 s: dials",
        found.map(|(dials, _)| dials.to_string()),
        "<= 10",
        found[0].0 <= 10,
    );
    plain(
        "  dials at the same time",
        found.map(|(_, most)| most.to_string()),
        "1",
        found[0].1 == 1,
    );
}

async fn cancelled() {
    let dial = Duration::from_millis(80);
    let ours = scenes::cancelled(Ours::new(20, World::dialing_in(dial)).await).await;
    let deadpool = scenes::cancelled(Deadpool::new(20, World::dialing_in(dial)).await).await;
    let bb8 = scenes::cancelled(Bb8::new(20, World::dialing_in(dial)).await).await;
    let found = [ours, deadpool, bb8];
    plain(
        "callers cancelled: served",
        found.map(|(served, _)| format!("{served}/20")),
        ">= 19/20",
        found[0].0 >= 19,
    );
    plain(
        "  dials",
        found.map(|(_, dials)| dials.to_string()),
        "1",
        found[0].1 == 1,
    );
}

fn compare(what: &str, [ours, deadpool, bb8]: [f64; 3], (over_deadpool, over_bb8): (f64, f64)) {
    let (first, second) = (ours / deadpool, ours / bb8);
    row([
        what.to_owned(),
        format!("{ours:.0} ns"),
        format!("{deadpool:.0} ns"),
        format!("{bb8:.0} ns"),
        format!("{first:.2}, {second:.2}"),
        format!("<= {over_deadpool:.2}, {over_bb8:.2}"),
        verdict(first <= over_deadpool && second <= over_bb8),
    ]);
}

fn plain(what: &str, [ours, deadpool, bb8]: [String; 3], goal: &str, met: bool) {
    row([
        what.to_owned(),
        ours,
        deadpool,
        bb8,
        String::new(),
        goal.to_owned(),
        verdict(met),
    ]);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
