//! What a server's error means to a caller: the published table from SQLSTATE to gRPC code
//! (docs/backends/postgres-sqlstates.md), the facts that go with it, and whether the error proves a rollback.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use tonic::Code;

use crate::error::{BackendError, Executed};

/// Bytes of a message at most.
const MESSAGE: usize = 1024;

/// Bytes of one fact at most. Who raises an error in SQL may make any of them as long as they like.
const FACT: usize = 512;

/// Bytes of all facts at most, so that they fit the 4 KiB of an error's details beside message and place.
const FACTS: usize = 2048;

/// What the table says of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    /// A whole SQLSTATE, or its class: the first two characters.
    sqlstate: &'static str,
    code: Code,
    /// When a repeat may fare better, if waiting is all it takes.
    retry_after: Option<Duration>,
    /// What it is about, for the published table.
    about: &'static str,
}

const fn row(sqlstate: &'static str, code: Code, about: &'static str) -> Row {
    Row {
        sqlstate,
        code,
        retry_after: None,
        about,
    }
}

const fn retry(sqlstate: &'static str, code: Code, millis: u64, about: &'static str) -> Row {
    Row {
        sqlstate,
        code,
        retry_after: Some(Duration::from_millis(millis)),
        about,
    }
}

/// Whole codes, which go before their classes.
///
/// No row is UNAVAILABLE: that promises that nothing was executed, which no error of the server's proves by its code.
/// What names an object by itself (a table, a schema, a cursor) and misses it is `NotFound`; a missing column or
/// function is `InvalidArgument`, because it mostly comes of the statement's own text or its arguments' types.
#[rustfmt::skip]
const CODES: &[Row] = &[
    row("2200H", Code::ResourceExhausted, "sequence has no more values"),
    row("23505", Code::AlreadyExists, "unique violation"),
    retry("25P03", Code::Aborted, 1000, "idle in transaction for too long"),
    row("26000", Code::NotFound, "no such prepared statement"),
    row("34000", Code::NotFound, "no such cursor"),
    row("3D000", Code::NotFound, "no such database"),
    row("3F000", Code::NotFound, "no such schema"),
    retry("40001", Code::Aborted, 50, "serialization failure: repeat the transaction"),
    row("40002", Code::FailedPrecondition, "integrity constraint violation at commit"),
    row("40003", Code::Unknown, "statement completion unknown"),
    retry("40P01", Code::Aborted, 50, "deadlock: repeat the transaction"),
    row("42501", Code::PermissionDenied, "insufficient privilege"),
    row("42701", Code::AlreadyExists, "duplicate column"),
    row("42704", Code::NotFound, "no such object"),
    row("42710", Code::AlreadyExists, "duplicate object"),
    row("42723", Code::AlreadyExists, "duplicate function"),
    row("42P01", Code::NotFound, "no such table"),
    row("42P03", Code::AlreadyExists, "duplicate cursor"),
    row("42P04", Code::AlreadyExists, "duplicate database"),
    row("42P05", Code::AlreadyExists, "duplicate prepared statement"),
    row("42P06", Code::AlreadyExists, "duplicate schema"),
    row("42P07", Code::AlreadyExists, "duplicate table"),
    retry("53300", Code::ResourceExhausted, 1000, "too many connections"),
    retry("55P03", Code::Aborted, 1000, "lock not available"),
    row("57014", Code::Cancelled, "query cancelled, also by statement_timeout"),
    row("57P04", Code::FailedPrecondition, "database dropped"),
    row("58P01", Code::NotFound, "no such file on the server"),
    row("58P02", Code::AlreadyExists, "duplicate file on the server"),
    row("P0002", Code::NotFound, "PL/pgSQL: no data found"),
    row("XX001", Code::DataLoss, "data corrupted"),
    row("XX002", Code::DataLoss, "index corrupted"),
];

/// Classes. A failed login of ours (28) is never the caller's UNAUTHENTICATED.
#[rustfmt::skip]
const CLASSES: &[Row] = &[
    row("02", Code::NotFound, "no data"),
    row("03", Code::InvalidArgument, "SQL statement not yet complete"),
    row("08", Code::Internal, "connection exception, protocol violation"),
    row("09", Code::FailedPrecondition, "triggered action exception"),
    row("0A", Code::Unimplemented, "feature not supported"),
    row("0B", Code::FailedPrecondition, "invalid transaction initiation"),
    row("0F", Code::InvalidArgument, "locator exception"),
    row("0L", Code::InvalidArgument, "invalid grantor"),
    row("0P", Code::InvalidArgument, "invalid role specification"),
    row("0Z", Code::FailedPrecondition, "diagnostics exception"),
    row("20", Code::FailedPrecondition, "case not found"),
    row("21", Code::FailedPrecondition, "cardinality violation"),
    row("22", Code::InvalidArgument, "data exception"),
    row("23", Code::FailedPrecondition, "integrity constraint violation"),
    row("24", Code::FailedPrecondition, "invalid cursor state"),
    row("25", Code::FailedPrecondition, "invalid transaction state: read only, failed, none"),
    row("27", Code::FailedPrecondition, "triggered data change violation"),
    row("28", Code::FailedPrecondition, "the pool's own login failed"),
    row("2B", Code::FailedPrecondition, "dependent objects still exist"),
    row("2D", Code::FailedPrecondition, "invalid transaction termination"),
    row("2F", Code::FailedPrecondition, "SQL routine exception"),
    row("38", Code::FailedPrecondition, "external routine exception"),
    row("39", Code::FailedPrecondition, "external routine invocation exception"),
    row("3B", Code::FailedPrecondition, "savepoint exception"),
    row("40", Code::Aborted, "transaction rollback"),
    row("42", Code::InvalidArgument, "syntax error, unknown column or function, wrong type"),
    row("44", Code::FailedPrecondition, "WITH CHECK OPTION violation"),
    row("53", Code::ResourceExhausted, "insufficient resources: disk, memory"),
    row("54", Code::InvalidArgument, "program limit exceeded: the statement can never run"),
    row("55", Code::FailedPrecondition, "object not in prerequisite state"),
    retry("57", Code::Aborted, 1000, "operator intervention: the server stops or starts"),
    row("58", Code::Internal, "system error of the server's host"),
    row("72", Code::Aborted, "snapshot too old"),
    row("F0", Code::Internal, "configuration file error"),
    row("HV", Code::FailedPrecondition, "foreign data wrapper error"),
    row("P0", Code::FailedPrecondition, "PL/pgSQL error, RAISE EXCEPTION"),
    row("XX", Code::Internal, "internal error of the server"),
];

/// What a stale statement of the broker's is instead, whatever its SQLSTATE.
const STALE: (Code, Option<Duration>) = (Code::Aborted, Some(Duration::from_millis(50)));
const RETRY: &str = "what the statement uses has changed since it was prepared: retry the transaction";

/// All else: a code of an extension's or of the caller's own, of which nothing is known.
const OTHER: Row = row("", Code::Unknown, "any other, such as a function's own");

/// The row of a code: its own, else its class's.
fn lookup(sqlstate: &str) -> Row {
    let own = CODES.iter().find(|row| row.sqlstate == sqlstate);
    let class = || {
        let class = sqlstate.get(..2)?;
        CLASSES.iter().find(|row| row.sqlstate == class)
    };
    own.or_else(class).copied().unwrap_or(OTHER)
}

/// The gRPC code of a SQLSTATE.
#[cfg(test)]
pub(crate) fn code(sqlstate: &str) -> Code {
    lookup(sqlstate).code
}

/// Whether the statement that failed so was carried out.
///
/// An ERROR undoes its statement, so it proves `no`; a session that ends with it proves nothing, for the statement may
/// have been committed already, and neither does an error of the connection's. `procedural` is a statement that may
/// commit parts of its work before it fails: CALL, DO, and what runs outside of transactions (VACUUM, CREATE INDEX
/// CONCURRENTLY).
#[must_use]
pub(crate) fn executed(sqlstate: &str, severity: &str, procedural: bool) -> Executed {
    if severity != "ERROR" || sqlstate == "40003" || sqlstate.starts_with("08") {
        Executed::Unknown
    } else if procedural {
        Executed::Yes
    } else {
        Executed::No
    }
}

/// The fields of an `ErrorResponse` or `NoticeResponse` that mean something to a caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// `ERROR`, `FATAL`, `PANIC`; in the server's language from servers before 9.6.
    pub(crate) severity: String,
    /// The SQLSTATE, five characters.
    pub(crate) sqlstate: String,
    /// The message, one line mostly.
    pub(crate) message: String,
    /// All else, by the key it has in an error's metadata, uncut.
    pub(crate) facts: BTreeMap<&'static str, String>,
    /// The broker's own prepared statement is of no use any more: not the caller's fault, and gone at the next try.
    pub(crate) stale: bool,
}

impl Report {
    /// Reads the message's fields: each one's letter and its text. Text that is not UTF-8, which comes before the
    /// encoding is agreed on, has its faults replaced.
    #[must_use]
    pub(crate) fn read<'a>(fields: impl IntoIterator<Item = (u8, &'a [u8])>) -> Self {
        let mut report = Self::default();
        for (letter, text) in fields {
            let text = String::from_utf8_lossy(text).into_owned();
            match letter {
                b'V' => report.severity = text,
                // The translated one serves only where the other does not come, before or after it.
                b'S' if report.severity.is_empty() => report.severity = text,
                b'C' => report.sqlstate = text,
                b'M' => report.message = text,
                _ => {
                    if let Some(key) = key(letter) {
                        report.facts.insert(key, text);
                    }
                }
            }
        }
        report
    }

    /// Whether the statement was carried out: see [`executed`].
    #[must_use]
    pub(crate) fn executed(&self, procedural: bool) -> Executed {
        executed(&self.sqlstate, &self.severity, procedural)
    }

    /// The error as the broker's callers get it, bounded in size.
    #[must_use]
    pub(crate) fn into_error(mut self) -> BackendError {
        let mut row = lookup(&self.sqlstate);
        if self.stale {
            (row.code, row.retry_after) = STALE;
            self.facts.insert("hint", RETRY.to_owned());
        }
        let mut metadata = BTreeMap::new();
        let mut left = FACTS;
        let mut add = |key: &'static str, text: &str| {
            let kept = shortened(text, FACT.min(left));
            if !kept.is_empty() {
                left -= kept.len();
                metadata.insert(key, kept.to_owned());
            }
        };
        add("sqlstate", &self.sqlstate);
        add("severity", &self.severity);
        for key in BY_WORTH {
            add(key, self.facts.get(key).map_or("", String::as_str));
        }
        BackendError {
            code: row.code,
            message: shortened(&self.message, MESSAGE).to_owned(),
            metadata,
            retry_after: row.retry_after,
        }
    }
}

/// The facts that programs act on come first, in case there is no room for all.
const BY_WORTH: [&str; 9] = [
    "position",
    "constraint",
    "table",
    "column",
    "schema",
    "datatype",
    "hint",
    "detail",
    "where",
];

/// The key of a field's letter, from the protocol's "Error and Notice Message Fields". File, line and routine of the
/// server's source, and positions in its own queries, are for its developers.
const fn key(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'D' => "detail",
        b'H' => "hint",
        b'P' => "position",
        b'W' => "where",
        b's' => "schema",
        b't' => "table",
        b'c' => "column",
        b'd' => "datatype",
        b'n' => "constraint",
        _ => return None,
    })
}

/// At most `limit` bytes, whole characters.
fn shortened(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}
