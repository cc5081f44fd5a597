//! What the checks came to: a line each, and the exit code.

use std::{fmt, time::Duration};

use super::super::exit::Exit;
use crate::clock::Clock;

/// What a check came to, if it did not fail.
pub(super) enum Verdict {
    /// Well; with something worth saying, or nothing.
    Ok(String),
    /// It could not be made.
    Skip(String),
}

/// A check's result: its verdict, or what the driver did and what the protocol has it do.
pub(super) type Checked = Result<Verdict, String>;

/// Prints lines and counts.
pub(super) struct Report {
    clock: Clock,
    print: fn(&str),
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Report {
    pub(super) const fn new(clock: Clock, print: fn(&str)) -> Self {
        Self {
            clock,
            print,
            passed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    /// Makes a check, tells what it came to, and says whether it did not fail.
    pub(super) async fn step(&mut self, name: &str, check: impl Future<Output = Checked>) -> bool {
        let started = self.clock.now();
        let checked = check.await;
        let took = Took(self.clock.now().since(started));
        let (word, more) = match &checked {
            Ok(Verdict::Ok(more)) => {
                self.passed += 1;
                ("ok", more)
            }
            Ok(Verdict::Skip(why)) => {
                self.skipped += 1;
                ("skip", why)
            }
            Err(why) => {
                self.failed += 1;
                ("FAIL", why)
            }
        };
        let line = format!("{word:<5} {name:<22} {took:>9}  {more}");
        (self.print)(line.trim_end());
        checked.is_ok()
    }

    /// The exit: well if nothing failed.
    pub(super) fn verdict(&self) -> Result<(), Exit> {
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = self;
        let told = format!("{passed} ok, {failed} failed, {skipped} skipped");
        if *failed > 0 {
            return Err(Exit::unwell(told));
        }
        (self.print)(&told);
        Ok(())
    }
}

/// A time, for people.
#[derive(Default)]
pub(super) struct Took(pub(super) Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.1} ms", self.0.as_secs_f64() * 1000.0))
    }
}
