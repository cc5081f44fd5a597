//! What the demo shows, as text.

use std::{fmt::Write as _, time::Duration};

use super::{
    stage::{DemoPool, POOLS},
    tally::{Act, Tally},
};
use crate::proto::{PoolStats, Timing};

/// Whether colours may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    /// Yes.
    Colours,
    /// No.
    Plain,
}

impl Paint {
    fn on(self, code: &str, text: &str) -> String {
        match self {
            Self::Colours => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// The frame of a terminal, line by line.
pub(super) fn frame(passed: Duration, pools: &[PoolStats], tally: &Tally, paint: Paint) -> Vec<String> {
    let head = format!(
        "{:<10}{:<22}{:>8}{:>9}{:>9}{:>11}{:>9}",
        "pool", "sessions", "waiting", "grants", "reused", "wait p50", "p99"
    );
    let mut lines = vec![paint.on("2", &head)];
    lines.extend(
        pools
            .iter()
            .zip(&POOLS)
            .map(|(stats, pool)| row(stats, pool, paint)),
    );
    lines.push(String::new());
    lines.push(format!("{}   {:>4.1} s", acts(tally), passed.as_secs_f64()));
    lines
}

fn row(stats: &PoolStats, pool: &DemoPool, paint: Paint) -> String {
    let (active, idle) = (stats.active_sessions, stats.idle_sessions);
    let other = stats.total_sessions.saturating_sub(active + idle);
    let free = pool.sessions.saturating_sub(stats.total_sessions);
    let dots =
        |count: u32, code: &str, dot: &str| paint.on(code, &dot.repeat(usize::try_from(count).unwrap_or(0)));
    let bar = [
        dots(active, "32", "●"),
        dots(idle, "36", "○"),
        dots(other, "33", "◌"),
        dots(free, "2", "·"),
    ]
    .concat();
    let pad = " ".repeat(
        8_usize.saturating_sub(usize::try_from(pool.sessions.max(stats.total_sessions)).unwrap_or(8)),
    );
    let in_use = format!("{active} of {} in use", pool.sessions);
    format!(
        "{:<10}{bar}{pad}{in_use:<14}{:>8}{:>9}{:>9}{:>11}{:>9}",
        pool.name,
        stats.waiters,
        stats.granted,
        share(stats.reuse_ratio),
        millis(wait(stats).p50),
        millis(wait(stats).p99),
    )
}

/// A line a second, for where no terminal is.
pub(super) fn line(passed: Duration, pools: &[PoolStats], tally: &Tally) -> String {
    let mut line = format!("{:>4.1} s", passed.as_secs_f64());
    for (stats, pool) in pools.iter().zip(&POOLS) {
        // Writing to a String cannot fail.
        write!(
            line,
            " | {}: {} of {} in use, {} waiting, {} grants",
            pool.name, stats.active_sessions, pool.sessions, stats.waiters, stats.granted
        )
        .ok();
    }
    format!("{line} | {}", acts(tally))
}

fn acts(tally: &Tally) -> String {
    format!(
        "{} leases, {} one-shots, {} streams, {} open sessions",
        tally.count(Act::Lease),
        tally.count(Act::OneShot),
        tally.count(Act::Stream),
        tally.count(Act::Session),
    )
}

/// What it was good for, pool by pool.
pub(super) fn summary(passed: Duration, pools: &[PoolStats], tally: &Tally) -> String {
    let mut text = format!("In {:.1} s: {}.\n\n", passed.as_secs_f64(), acts(tally));
    text.push_str("pool        grants  sessions opened  most at once    reused   wait p50      p99\n");
    for (stats, pool) in pools.iter().zip(&POOLS) {
        // Writing to a String cannot fail.
        writeln!(
            text,
            "{:<10}{:>8}{:>17}{:>14}{:>10}{:>11}{:>9}",
            pool.name,
            stats.granted,
            stats.sessions_created,
            stats.peak_sessions,
            share(stats.reuse_ratio),
            millis(wait(stats).p50),
            millis(wait(stats).p99),
        )
        .ok();
    }
    text.push('\n');
    text.extend(pools.iter().zip(&POOLS).map(|(stats, pool)| gain(stats, pool)));
    text
}

/// What sharing was worth: the dials that were not needed.
fn gain(stats: &PoolStats, pool: &DemoPool) -> String {
    let dial = span(stats.dial.and_then(|dial| dial.average));
    let dials = |count: u64| shown(dial.mul_f64(f64::from(u32::try_from(count).unwrap_or(u32::MAX))));
    format!(
        "{}: opening a session took {}; one for each grant would have been {} of it, sharing took {}\n",
        pool.name,
        shown(dial),
        dials(stats.granted),
        dials(stats.sessions_created),
    )
}

fn wait(stats: &PoolStats) -> Timing {
    stats.wait.unwrap_or_default()
}

fn share(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

fn millis(duration: Option<prost_types::Duration>) -> String {
    shown(span(duration))
}

fn span(duration: Option<prost_types::Duration>) -> Duration {
    duration
        .and_then(|duration| duration.try_into().ok())
        .unwrap_or_default()
}

fn shown(span: Duration) -> String {
    let millis = span.as_secs_f64() * 1000.0;
    match millis {
        ..10.0 => format!("{millis:.1} ms"),
        10.0..10_000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", span.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(active: u32, waiters: u32) -> PoolStats {
        let seconds = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
        PoolStats {
            total_sessions: active + 1,
            active_sessions: active,
            idle_sessions: 1,
            peak_sessions: active + 1,
            waiters,
            granted: 1201,
            sessions_created: 4,
            reuse_ratio: 0.9967,
            wait: Some(Timing {
                p50: seconds(0, 4_200_000),
                p99: seconds(1, 0),
                ..Timing::default()
            }),
            dial: Some(Timing {
                average: seconds(0, 250_000_000),
                ..Timing::default()
            }),
            ..PoolStats::default()
        }
    }

    #[test]
    fn what_is_shown_is_short_and_lines_up() {
        let (pools, tally) = ([pool(3, 12), pool(1, 0)], Tally::default());
        tally.note(Act::Lease, Ok(()));
        let passed = Duration::from_millis(4230);
        let frame = frame(passed, &pools, &tally, Paint::Plain).join("\n");
        insta::assert_snapshot!(format!(
            "{frame}\n\n{}\n\n{}",
            line(passed, &pools, &tally),
            summary(passed, &pools, &tally)
        ));
    }
}
