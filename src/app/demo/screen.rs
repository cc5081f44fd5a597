//! Where the demo is shown: drawn in place on a terminal, a line a second elsewhere.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use super::{
    tally::Tally,
    view::{self, Paint},
};
use crate::proto::PoolStats;

/// The screen.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    paint: Paint,
    /// Lines of the last frame, over which the next one is drawn.
    drawn: usize,
    /// Whole seconds told so far, where no terminal is.
    told: u64,
}

impl Screen {
    /// Says what is about to be seen.
    pub(super) fn new(address: SocketAddr, clients: usize) -> Self {
        let terminal = io::stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none();
        let screen = Self {
            terminal,
            paint: if colours { Paint::Colours } else { Paint::Plain },
            drawn: 0,
            told: 0,
        };
        let sessions = super::sessions();
        print(&format!(
            "A broker on {address}: {clients} clients share {sessions} sessions, over gRPC.\n\n"
        ));
        screen
    }

    /// Shows the present state, `passed` after the start.
    pub(super) fn draw(&mut self, passed: Duration, pools: &[PoolStats], tally: &Tally) {
        if !self.terminal {
            if passed.as_secs() > self.told {
                self.told = passed.as_secs();
                print(&format!("{}\n", view::line(passed, pools, tally)));
            }
            return;
        }
        let lines = view::frame(passed, pools, tally, self.paint);
        // Up to the first line of the last frame; each line then clears what is left of the old one.
        let mut text = if self.drawn == 0 {
            String::new()
        } else {
            format!("\x1b[{}A", self.drawn)
        };
        for line in &lines {
            text.push_str(line);
            text.push_str("\x1b[K\n");
        }
        self.drawn = lines.len();
        print(&text);
    }

    /// Says what it was good for.
    pub(super) fn summary(&self, passed: Duration, pools: &[PoolStats], tally: &Tally) {
        print(&format!("\n{}", view::summary(passed, pools, tally)));
    }
}

/// If nobody watches any more, the demo goes on and its exit code still counts.
fn print(text: &str) {
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}
