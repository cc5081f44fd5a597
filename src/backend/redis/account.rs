//! What a connection still owes: replies, and of the one that is being read the rest.

use super::{
    resp::{Kind, Token},
    wire::WireError,
};

/// Elements within elements, at most: those who read the answer's JSON mostly take no more than 100.
const MAX_DEPTH: usize = 64;

/// A group of elements that is being read.
#[derive(Clone, Copy, Debug)]
struct Group {
    left: u64,
    /// It stands before a value, and is none itself.
    attribute: bool,
}

/// The account of one connection. A reply counts until its last token has been noted; a push, which the server says
/// unasked, never does.
#[derive(Debug, Default)]
pub(super) struct Account {
    expected: usize,
    /// Those of `expected` whose commands are queued, and not one byte of them written.
    unsent: usize,
    groups: Vec<Group>,
    /// Bytes left of a string that comes in parts, its end of line included.
    part_left: u64,
    /// What is being read is a push.
    pushing: bool,
}

impl Account {
    /// Commands that will have so many replies are queued.
    pub(super) const fn queued(&mut self, replies: usize) {
        self.expected += replies;
        self.unsent += replies;
    }

    /// The first byte of what is queued was written.
    pub(super) const fn sent(&mut self) {
        self.unsent = 0;
    }

    /// What was queued and never written is taken back.
    pub(super) fn taken_back(&mut self) {
        self.expected -= std::mem::take(&mut self.unsent);
    }

    /// A command of which something was written has not been answered yet.
    pub(super) const fn is_awaiting(&self) -> bool {
        self.expected > self.unsent
    }

    /// The command whose reply was to come next has been answered, by that or by pushes.
    pub(super) fn answered(&mut self) -> Result<(), WireError> {
        // One too many would be taken for the answer to another call, or to what was never sent.
        if !self.is_awaiting() {
            return Err(WireError::malformed("an answer to nothing"));
        }
        self.expected -= 1;
        Ok(())
    }

    /// Replies still to come.
    pub(super) const fn expected(&self) -> usize {
        self.expected
    }

    /// A group of elements, or a string in parts, has been begun and has more to come.
    pub(super) const fn is_within(&self) -> bool {
        !self.groups.is_empty() || self.part_left > 0
    }

    pub(super) const fn is_pushing(&self) -> bool {
        self.pushing
    }

    /// Bytes left of a string that comes in parts, its end of line included.
    pub(super) const fn part_left(&self) -> u64 {
        self.part_left
    }

    /// So many bytes of the string were taken; at its end the value is complete.
    pub(super) fn took(&mut self, bytes: u64) -> Result<(), WireError> {
        self.part_left = self.part_left.saturating_sub(bytes);
        if self.part_left == 0 {
            self.end_value()?;
        }
        Ok(())
    }

    /// Notes what a token begins and ends.
    pub(super) fn note(&mut self, token: &Token) -> Result<(), WireError> {
        match *token {
            Token::Open(kind, count) => self.open(kind, count),
            Token::Large(length) => {
                self.part_left = length + 2;
                Ok(())
            }
            _ => self.end_value(),
        }
    }

    fn open(&mut self, kind: Kind, count: u64) -> Result<(), WireError> {
        if self.groups.len() >= MAX_DEPTH {
            return Err(WireError::malformed("an answer of too many levels"));
        }
        self.pushing |= kind == Kind::Push && self.groups.is_empty();
        let paired = matches!(kind, Kind::Map | Kind::Attribute);
        let left = if paired { count * 2 } else { count };
        let attribute = kind == Kind::Attribute;
        match (left, attribute) {
            (0, true) => Ok(()),
            (0, false) => self.end_value(),
            _ => {
                self.groups.push(Group { left, attribute });
                Ok(())
            }
        }
    }

    /// A value is complete, and perhaps the groups that it was the last of.
    fn end_value(&mut self) -> Result<(), WireError> {
        while let Some(group) = self.groups.last_mut() {
            group.left -= 1;
            if group.left > 0 {
                return Ok(());
            }
            let attribute = group.attribute;
            self.groups.pop();
            if attribute {
                return Ok(());
            }
        }
        if std::mem::take(&mut self.pushing) {
            return Ok(());
        }
        self.answered()
    }
}
