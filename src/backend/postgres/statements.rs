//! The statements that a session keeps prepared on its server: the least recently used goes.

use std::{num::NonZeroUsize, sync::Arc};

use lru::LruCache;

use super::{rows::Columns, text::may_be_kept};

/// What makes two uses the same statement: the text, and the types that the caller gave its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) sql: Arc<str>,
    pub(super) types: Box<[u32]>,
}

/// A statement on the server.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) name: Arc<str>,
    /// What it returns; `None` for one that returns no rows.
    pub(super) columns: Option<Columns>,
}

/// A session's prepared statements.
#[derive(Debug)]
pub(super) struct Statements {
    /// `None`: none are kept.
    kept: Option<LruCache<Key, Prepared>>,
    numbered: u64,
    /// Names on the server that are of no use any more.
    stale: Vec<Arc<str>>,
    /// Names that the running call asks the server to prepare or to close: until it has answered, they may be there.
    in_doubt: Vec<Arc<str>>,
}

/// A longer text is not worth the server's memory: it hardly comes twice.
const MAX_SQL: usize = 16 * 1024;

impl Statements {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            kept: NonZeroUsize::new(capacity).map(LruCache::new),
            numbered: 0,
            stale: Vec::new(),
            in_doubt: Vec::new(),
        }
    }

    pub(super) fn find(&mut self, key: &Key) -> Option<Prepared> {
        self.kept.as_mut()?.get(key).cloned()
    }

    /// A name for a new statement: empty, which the server replaces at every use, for one that is not kept.
    pub(super) fn name(&mut self, key: &Key) -> Arc<str> {
        if self.kept.is_none() || key.sql.len() > MAX_SQL || !may_be_kept(&key.sql) {
            return Arc::from("");
        }
        self.numbered += 1;
        let name: Arc<str> = format!("sublet_{}", self.numbered).into();
        self.in_doubt.push(Arc::clone(&name));
        name
    }

    /// The server has it.
    pub(super) fn keep(&mut self, key: Key, prepared: Prepared) {
        if prepared.name.is_empty() {
            return;
        }
        self.in_doubt.retain(|doubted| *doubted != prepared.name);
        let Some(kept) = &mut self.kept else { return };
        if let Some((_, old)) = kept.push(key, prepared) {
            self.stale.push(old.name);
        }
    }

    /// The server has it no more, or it has changed.
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(old) = self.kept.as_mut().and_then(|kept| kept.pop(key)) {
            self.stale.push(old.name);
        }
    }

    /// The server has none of them any more.
    pub(super) fn forget_all(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.clear();
        }
        self.stale.clear();
    }

    /// The server may have them or not: they are closed, which is no error for one that it does not have.
    pub(super) fn abandon_all(&mut self) {
        if let Some(kept) = &mut self.kept {
            while let Some((_, old)) = kept.pop_lru() {
                self.stale.push(old.name);
            }
        }
    }

    /// How many the server must have once the stale ones are closed.
    pub(super) fn len(&self) -> usize {
        self.kept.as_ref().map_or(0, LruCache::len)
    }

    /// Names to be closed with the next statement.
    pub(super) fn take_stale(&mut self) -> Vec<Arc<str>> {
        let stale = std::mem::take(&mut self.stale);
        self.in_doubt.extend(stale.iter().cloned());
        stale
    }

    /// The server has answered everything.
    pub(super) fn settle(&mut self) {
        self.in_doubt.clear();
    }

    /// The call was broken off: what is in doubt is closed later, which the server takes for names that it does not
    /// know, too.
    pub(super) fn break_off(&mut self) {
        self.stale.append(&mut self.in_doubt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sql: &str) -> Key {
        Key {
            sql: format!("select {sql}").into(),
            types: Box::default(),
        }
    }

    fn keep(statements: &mut Statements, sql: &str) -> Arc<str> {
        let name = statements.name(&key(sql));
        let prepared = Prepared {
            name: Arc::clone(&name),
            columns: None,
        };
        statements.keep(key(sql), prepared);
        name
    }

    #[test]
    fn least_recently_used_goes_and_is_closed() {
        let mut statements = Statements::new(2);
        let [a, b] = ["a", "b"].map(|sql| keep(&mut statements, sql));
        assert_eq!(statements.find(&key("a")).unwrap().name, a);
        keep(&mut statements, "c");
        assert!(statements.find(&key("b")).is_none());
        assert_eq!(statements.take_stale(), [b]);
        assert!(statements.take_stale().is_empty(), "once is enough");
    }

    #[test]
    fn what_a_broken_call_may_have_prepared_or_not_closed_is_closed_later() {
        let mut statements = Statements::new(1);
        let old = keep(&mut statements, "a");
        let kept = keep(&mut statements, "b");
        let fresh = statements.name(&key("c"));
        assert_eq!(statements.take_stale(), [Arc::clone(&old)]);
        statements.break_off();
        assert_eq!(statements.take_stale(), [fresh, old]);
        statements.settle();
        statements.break_off();
        assert!(statements.take_stale().is_empty(), "it was answered");
        assert_eq!(statements.find(&key("b")).unwrap().name, kept);
    }

    #[test]
    fn types_make_another_statement() {
        let mut statements = Statements::new(2);
        keep(&mut statements, "a");
        let typed = Key {
            types: Box::new([23]),
            ..key("a")
        };
        assert!(statements.find(&typed).is_none());
    }

    #[test]
    fn nothing_is_kept_without_a_cache_nor_of_a_long_text_or_a_moment() {
        let mut statements = Statements::new(0);
        assert_eq!(&*keep(&mut statements, "a"), "");
        assert!(statements.find(&key("a")).is_none());
        let mut statements = Statements::new(2);
        assert_eq!(&*keep(&mut statements, &"a".repeat(MAX_SQL + 1)), "");
        assert_eq!(&*keep(&mut statements, "'now'::date"), "");
    }
}
