//! How much of a prompt is done: its nodes that need not run any more, of all, and a part of the one at work.

use std::collections::HashSet;

use super::{events::Progress, workflow::Classes};

/// How much is done.
#[derive(Debug, Default)]
pub(super) struct Overall {
    /// Nodes that need not run any more. A box counts those among the finished ones that it had in its cache, and says of
    /// them that they were cached too.
    done: HashSet<String>,
    current: Option<String>,
    told: f64,
}

impl Overall {
    /// The results of these nodes were known before.
    pub(super) fn cached(&mut self, nodes: &[String]) {
        self.done.extend(nodes.iter().cloned());
    }

    /// A node begins, so the one before it has finished; not every box says so itself.
    pub(super) fn begins(&mut self, node: &str) {
        let before = self.current.replace(node.to_owned());
        self.done.extend(before.filter(|before| before != node));
    }

    /// From 0 to 1, and never less than before: a box may come back to a node, and says the same in several ways.
    pub(super) fn share(&mut self, progress: &Progress, nodes: &Classes) -> f64 {
        self.done.extend(progress.finished.iter().cloned());
        let counts = |node: &&String| nodes.contains_key(*node) && **node != progress.node;
        let done = self.done.iter().filter(counts).count();
        // What a node makes of itself while it runs is no node of the prompt.
        let at_work = progress.max > 0.0 && nodes.contains_key(&progress.node);
        let part = if at_work {
            (progress.value / progress.max).clamp(0.0, 1.0)
        } else {
            0.0
        };
        let number = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
        let share = (number(done) + part) / number(nodes.len().max(1));
        self.told = self.told.max(share.min(1.0));
        self.told
    }
}
