//! How far a call is, on standard error, if that is a terminal.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prost_types::{Struct, value::Kind};

use super::values::number_of;

/// Thousandths are as fine as a terminal shows.
const LENGTH: u64 = 1000;
/// How often the time that has passed is drawn anew.
const TICK: Duration = Duration::from_millis(120);
const WAITING: &str = "{spinner} {wide_msg} {elapsed}";
const RUNNING: &str = "{spinner} [{bar:30}] {percent:>3}% {wide_msg} {elapsed}";

/// The bar. Dropped, it is gone from the terminal.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    endpoint: String,
    /// What the node at work is called, once that is known.
    node: String,
    measured: bool,
}

impl Bar {
    /// One that is drawn unless nobody `watches` it; until it ends, lines between must go through [`Self::aside`].
    pub(super) fn new(watched: bool) -> Self {
        let target = if watched {
            // Hidden by itself where there is no terminal.
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(LENGTH), target);
        bar.set_style(style(WAITING));
        bar.set_message("waiting for a session");
        bar.enable_steady_tick(TICK);
        Self {
            bar,
            endpoint: String::new(),
            node: String::new(),
            measured: false,
        }
    }

    /// A session is held.
    pub(super) fn accepted(&mut self, endpoint: &str) {
        self.endpoint = harmless(endpoint);
        self.say("running");
    }

    /// What goes on now.
    pub(super) fn say(&self, what: &str) {
        let what = harmless(what).replace('\n', " ");
        self.bar.set_message(match self.endpoint.as_str() {
            "" => what,
            endpoint => format!("{endpoint}: {what}"),
        });
    }

    /// A node is at work.
    pub(super) fn node(&mut self, node: &str, class: Option<&str>) {
        self.node = class.unwrap_or(node).to_owned();
        self.say(&self.node);
    }

    /// Whether it could make something of what a backend says of its progress.
    pub(super) fn progress(&mut self, progress: &Struct) -> bool {
        let number = |name| number_of(progress, name);
        let step = match (number("value"), number("max")) {
            (Some(value), Some(max)) if max > 0.0 => Some((value, max)),
            _ => None,
        };
        let Some(overall) = number("overall").or(step.map(|(value, max)| value / max)) else {
            return false;
        };
        if !self.measured {
            self.measured = true;
            self.bar.set_style(style(RUNNING));
        }
        self.bar.set_position(thousandths(overall));
        let what = match self.node.as_str() {
            "" => node_of(progress),
            node => node,
        };
        match step {
            Some((value, max)) => self.say(format!("{what} {value}/{max}").trim_start()),
            None => self.say(what),
        }
        true
    }

    /// Does something while the bar is not in its way.
    pub(super) fn aside<T>(&self, what: impl FnOnce() -> T) -> T {
        self.bar.suspend(what)
    }

    /// A line on standard error, terminal or not. If nobody reads it, there is nobody to tell.
    pub(super) fn tell(&self, line: &str) {
        let line = harmless(line);
        self.aside(|| writeln!(io::stderr(), "{line}").ok());
    }

    #[cfg(test)]
    pub(super) fn has_ended(&self) -> bool {
        self.bar.is_finished()
    }

    /// Takes it away for good.
    pub(super) fn end(&self) {
        if !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ").tick_chars("-\\|/ ")
}

fn node_of(progress: &Struct) -> &str {
    match progress.fields.get("node").and_then(|node| node.kind.as_ref()) {
        Some(Kind::StringValue(node)) => node,
        _ => "",
    }
}

/// A share of 1 in thousandths.
fn thousandths(share: f64) -> u64 {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    // A second has as many milliseconds.
    let span = Duration::from_secs_f64(share);
    span.as_millis().try_into().unwrap_or(LENGTH)
}

/// A text without what a terminal would take for commands, or for the order in which to show the rest.
pub(super) fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars().filter(|c| *c != '\r') {
        let turning = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let shown = !(c.is_control() || turning) || c == '\n' || c == '\t';
        harmless.push(if shown { c } else { char::REPLACEMENT_CHARACTER });
    }
    harmless
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(members: &[(&str, Kind)]) -> Struct {
        let field = |(name, kind): &(&str, Kind)| {
            let value = prost_types::Value {
                kind: Some(kind.clone()),
            };
            ((*name).to_owned(), value)
        };
        Struct {
            fields: members.iter().map(field).collect(),
        }
    }

    fn at(bar: &Bar) -> (u64, String) {
        (bar.bar.position(), bar.bar.message())
    }

    #[test]
    fn it_says_where_a_call_runs_and_how_far_it_is() {
        let number = |number| Kind::NumberValue(number);
        let mut bar = Bar::new(false);
        assert_eq!(at(&bar), (0, "waiting for a session".to_owned()));
        bar.accepted("attic");
        assert_eq!(at(&bar).1, "attic: running");
        let step = told(&[
            ("node", Kind::StringValue("7".to_owned())),
            ("value", number(5.0)),
            ("max", number(20.0)),
            ("overall", number(0.125)),
        ]);
        assert!(bar.progress(&step));
        assert_eq!(at(&bar), (125, "attic: 7 5/20".to_owned()));
        bar.node("7", Some("KSampler"));
        assert!(bar.progress(&step));
        assert_eq!(at(&bar).1, "attic: KSampler 5/20");
        assert!(bar.progress(&told(&[("value", number(1.0)), ("max", number(2.0))])));
        assert_eq!(at(&bar).0, 500);
    }

    #[test]
    fn what_measures_nothing_is_no_progress() {
        let mut bar = Bar::new(false);
        let notice = Kind::StringValue("a".to_owned());
        assert!(!bar.progress(&told(&[("notice", notice)])));
        let nothing = told(&[("value", Kind::NumberValue(0.0)), ("max", Kind::NumberValue(0.0))]);
        assert!(!bar.progress(&nothing));
        assert_eq!(thousandths(f64::NAN), 0);
        assert_eq!(thousandths(7.0), 1000);
    }

    #[test]
    fn a_terminal_is_not_commanded() {
        assert_eq!(harmless("a\x1b[2J\r\n\tb\u{9b}é"), "a\u{fffd}[2J\n\tb\u{fffd}é");
        assert_eq!(harmless("gnp.\u{202e}exe\u{2066}"), "gnp.\u{fffd}exe\u{fffd}");
    }
}
