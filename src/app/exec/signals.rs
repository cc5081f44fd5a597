//! Signals that end a call.

use std::fs;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::exit::Exit;

/// Ctrl-C.
const INTERRUPT: u8 = 2;
const TERMINATE: u8 = 15;
/// The terminal is closed.
const HANGUP: u8 = 1;

/// The signals that are heard.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None if whoever started this wants it to outlive its terminal, as `nohup` does.
    hangup: Option<Signal>,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Exit> {
        let ignored = fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, HANGUP));
        let hangup = (!ignored).then(|| heard(SignalKind::hangup()));
        Ok(Self {
            interrupt: heard(SignalKind::interrupt())?,
            terminate: heard(SignalKind::terminate())?,
            hangup: hangup.transpose()?,
        })
    }

    /// The number of the next one.
    pub(super) async fn next(&mut self) -> u8 {
        let Self {
            interrupt,
            terminate,
            hangup,
        } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => INTERRUPT,
            _ = terminate.recv() => TERMINATE,
            _ = hung_up => HANGUP,
        }
    }
}

fn heard(kind: SignalKind) -> Result<Signal, Exit> {
    signal(kind).map_err(|error| Exit::internal("cannot listen for signals", error))
}

/// Whether a process ignores a signal, by what the kernel tells of it.
fn ignores(status: &str, signal: u8) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| (mask >> (signal - 1)) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_stays_so() {
        let status = "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001002\nSigCgt:\t0000000000000001\n";
        assert!(ignores(status, INTERRUPT));
        assert!(!ignores(status, HANGUP));
        assert!(ignores("SigIgn:\t0000000000000001\n", HANGUP));
        assert!(!ignores("", HANGUP));
    }
}
