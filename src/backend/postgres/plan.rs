//! What an operation asks for, read from its name and parameters before anything is handed over.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    rows::Shape,
    text::is_procedural,
    value::{self, Argument},
};
use crate::{
    backend::{Body, Needs, Operation},
    error::Faults,
    proto,
};

/// Statements in a batch, at most.
const MAX_BATCH: usize = 1000;
/// Channels of one `listen`, at most.
const MAX_CHANNELS: usize = 100;

/// One statement with its arguments.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) args: Vec<proto::Value>,
    pub(super) shape: Shape,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Plan {
    /// A statement; its rows if it has some.
    Statement(Statement),
    /// Statements in one go.
    Batch {
        statements: Vec<Statement>,
        atomic: bool,
    },
    /// Text that may hold several statements: `begin` and its like too.
    Simple { sql: String, shape: Shape },
    /// COPY FROM STDIN, fed by the body.
    CopyIn { sql: String },
    /// COPY TO STDOUT.
    CopyOut { sql: String },
    /// LISTEN until so many notifications have come.
    Listen { channels: Vec<String>, count: u64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query<'a> {
    sql: String,
    #[serde(default, borrow)]
    args: Vec<&'a RawValue>,
    #[serde(default)]
    rows: Option<Shape>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    statements: Vec<Query<'a>>,
    #[serde(default)]
    atomic: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    sql: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    #[serde(default)]
    isolation: Option<Isolation>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    deferrable: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listen {
    channels: Vec<String>,
    /// 0: until it is cancelled.
    #[serde(default)]
    count: u64,
}

impl Plan {
    /// Reads an operation.
    ///
    /// # Errors
    /// Every fault, with paths relative to the operation.
    pub(super) fn read(operation: &Operation) -> Result<Self, Faults> {
        let name = operation.name.as_str();
        refuse_what_is_not_taken(operation)?;
        match name {
            "query" => statement(operation, Shape::Typed),
            "execute" => statement(operation, Shape::None),
            "begin" => begin(operation),
            "commit" => fixed("COMMIT", operation),
            "rollback" => fixed("ROLLBACK", operation),
            "batch" => batch(operation),
            "simple" => simple(operation),
            "copy_in" => copy(operation).map(|sql| Self::CopyIn { sql }),
            "copy_out" => copy(operation).map(|sql| Self::CopyOut { sql }),
            "listen" => listen(operation),
            _ => Err(Faults::one(
                "name",
                format!(
                    "`{name}` is unknown: a postgres pool knows `query`, `execute`, `begin`, `commit`, `rollback`, \
                     `batch`, `simple`, `copy_in`, `copy_out`, `listen`"
                ),
            )),
        }
    }

    /// What the operation needs.
    pub(super) fn needs(name: &str) -> Needs {
        let lease = matches!(name, "begin" | "commit" | "rollback" | "listen");
        Needs { lease, beside: 0 }
    }

    /// Whether a part of it may be committed although another part fails.
    pub(super) fn may_commit_in_parts(&self, name: &str) -> bool {
        match self {
            Self::Statement(statement) => is_procedural(&statement.sql),
            // `begin` and its like are one statement each.
            Self::Simple { .. } => name == "simple",
            Self::Batch { statements, atomic } => {
                let commits = |statement: &Statement| {
                    is_procedural(&statement.sql)
                        || matches!(first_word(&statement.sql).as_str(), "COMMIT" | "END" | "PREPARE")
                };
                !atomic || statements.iter().any(commits)
            }
            // A semicolon may be a part of the COPY, too: then an error that is said to be final is no lie.
            Self::CopyIn { sql } | Self::CopyOut { sql } => {
                sql.trim_end().trim_end_matches(';').contains(';')
            }
            Self::Listen { .. } => false,
        }
    }
}

/// Arguments and bodies where nothing takes them would be lost in silence.
fn refuse_what_is_not_taken(operation: &Operation) -> Result<(), Faults> {
    let mut faults = Faults::default();
    let name = &operation.name;
    let takes_args = matches!(name.as_str(), "query" | "execute");
    if !takes_args && !operation.args.is_empty() {
        faults.add("args", format!("`{name}` takes none"));
    }
    let empty = matches!(&operation.body, Body::Whole(bytes) if bytes.is_empty());
    if name != "copy_in" && !empty {
        faults.add("body", format!("`{name}` takes none: `copy_in` does"));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn statement(operation: &Operation, shape: Shape) -> Result<Plan, Faults> {
    let text = operation.params.text();
    let query: Query<'_> = operation.params.parse_borrowed(&text)?;
    let mut faults = Faults::default();
    check_statement(&query.sql, "params.sql", &mut faults);
    if !query.args.is_empty() && !operation.args.is_empty() {
        faults.add("args", "are there twice, here and in params.args: leave one out");
    }
    if shape == Shape::None && query.rows.is_some() {
        faults.add("params.rows", "`execute` returns none: use `query`");
    }
    let mut args = operation.args.clone();
    check_args("args", &args, &mut faults);
    args.extend(json_args("params.args", &query.args, &mut faults));
    let shape = query.rows.filter(|_| shape != Shape::None).unwrap_or(shape);
    let sql = query.sql;
    done(faults, Plan::Statement(Statement { sql, args, shape }))
}

fn check_args(field: &str, args: &[proto::Value], faults: &mut Faults) {
    if let Err(found) = value::arguments(field, args) {
        for fault in found.list() {
            faults.add(&fault.field, fault.message.clone());
        }
    }
}

fn json_args(field: &str, args: &[&RawValue], faults: &mut Faults) -> Vec<proto::Value> {
    match value::all_from_json(field, args) {
        Ok(values) => {
            check_args(field, &values, faults);
            values
        }
        Err(found) => {
            found
                .list()
                .iter()
                .for_each(|fault| faults.add(&fault.field, fault.message.clone()));
            Vec::new()
        }
    }
}

fn check_sql(sql: &str, field: &str, faults: &mut Faults) {
    if sql.contains('\0') {
        faults.add(field, "must not hold a zero byte");
    }
}

/// As [`check_sql`], for one statement whose answer is rows.
fn check_statement(sql: &str, field: &str, faults: &mut Faults) {
    check_sql(sql, field, faults);
    // Its data would not fit between the answers of a batch.
    if first_word(sql) == "COPY" {
        faults.add(field, "is a COPY: use `copy_in` or `copy_out`");
    }
}

/// What comes after a comment, which may hold others.
fn behind_comment(mut rest: &str) -> &str {
    let mut depth = 1;
    while depth > 0 {
        let Some(at) = rest.find(['/', '*']) else {
            return "";
        };
        rest = rest.get(at..).unwrap_or_default();
        let step = match rest.get(..2) {
            Some("/*") => 1,
            Some("*/") => -1,
            _ => 0,
        };
        depth += step;
        rest = rest.get(if step == 0 { 1 } else { 2 }..).unwrap_or_default();
    }
    rest
}

/// A statement's first word in upper case, behind blanks, comments and empty statements.
pub(super) fn first_word(sql: &str) -> String {
    let blank = |letter: char| letter.is_whitespace() || letter == ';';
    let mut rest = sql.trim_start_matches(blank);
    loop {
        let after = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once(['\n', '\r']).map_or("", |(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            behind_comment(comment)
        } else {
            break;
        };
        rest = after.trim_start_matches(blank);
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    word.to_ascii_uppercase()
}

fn begin(operation: &Operation) -> Result<Plan, Faults> {
    let text = operation.params.text();
    let begin: Begin = operation.params.parse_borrowed(&text)?;
    let mut sql = "BEGIN".to_owned();
    sql.push_str(match begin.isolation {
        None => "",
        Some(Isolation::ReadUncommitted) => " ISOLATION LEVEL READ UNCOMMITTED",
        Some(Isolation::ReadCommitted) => " ISOLATION LEVEL READ COMMITTED",
        Some(Isolation::RepeatableRead) => " ISOLATION LEVEL REPEATABLE READ",
        Some(Isolation::Serializable) => " ISOLATION LEVEL SERIALIZABLE",
    });
    if begin.read_only {
        sql.push_str(" READ ONLY");
    }
    if begin.deferrable {
        sql.push_str(" DEFERRABLE");
    }
    let shape = Shape::None;
    Ok(Plan::Simple { sql, shape })
}

/// An operation without parameters.
fn fixed(sql: &str, operation: &Operation) -> Result<Plan, Faults> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    let text = operation.params.text();
    let Nothing {} = operation.params.parse_borrowed(&text)?;
    let (sql, shape) = (sql.to_owned(), Shape::None);
    Ok(Plan::Simple { sql, shape })
}

fn simple(operation: &Operation) -> Result<Plan, Faults> {
    let text = operation.params.text();
    let query: Query<'_> = operation.params.parse_borrowed(&text)?;
    let mut faults = Faults::default();
    check_sql(&query.sql, "params.sql", &mut faults);
    if !query.args.is_empty() {
        faults.add(
            "params.args",
            "`simple` takes none: several statements cannot share them",
        );
    }
    let shape = query.rows.unwrap_or_default();
    let sql = query.sql;
    done(faults, Plan::Simple { sql, shape })
}

fn batch(operation: &Operation) -> Result<Plan, Faults> {
    let text = operation.params.text();
    let batch: Batch<'_> = operation.params.parse_borrowed(&text)?;
    let mut faults = Faults::default();
    if batch.statements.is_empty() || batch.statements.len() > MAX_BATCH {
        faults.add("params.statements", format!("must be 1 to {MAX_BATCH}"));
    }
    let mut statements = Vec::with_capacity(batch.statements.len());
    for (index, query) in batch.statements.into_iter().enumerate() {
        let field = format!("params.statements[{index}]");
        check_statement(&query.sql, &format!("{field}.sql"), &mut faults);
        let args = json_args(&format!("{field}.args"), &query.args, &mut faults);
        let (sql, shape) = (query.sql, query.rows.unwrap_or(Shape::Json));
        statements.push(Statement { sql, args, shape });
    }
    let atomic = batch.atomic;
    done(faults, Plan::Batch { statements, atomic })
}

fn copy(operation: &Operation) -> Result<String, Faults> {
    let text = operation.params.text();
    let copy: Copy = operation.params.parse_borrowed(&text)?;
    let mut faults = Faults::default();
    check_sql(&copy.sql, "params.sql", &mut faults);
    if first_word(&copy.sql) != "COPY" {
        faults.add("params.sql", "must be a COPY statement, FROM STDIN or TO STDOUT");
    }
    done(faults, copy.sql)
}

fn listen(operation: &Operation) -> Result<Plan, Faults> {
    let text = operation.params.text();
    let listen: Listen = operation.params.parse_borrowed(&text)?;
    let mut faults = Faults::default();
    if listen.channels.is_empty() || listen.channels.len() > MAX_CHANNELS {
        faults.add("params.channels", format!("must be 1 to {MAX_CHANNELS}"));
    }
    for (index, channel) in listen.channels.iter().enumerate() {
        if channel.is_empty() || channel.len() > 63 || channel.contains('\0') {
            faults.add(
                &format!("params.channels[{index}]"),
                "must be 1 to 63 bytes, without a zero byte",
            );
        }
    }
    let Listen { channels, count } = listen;
    done(faults, Plan::Listen { channels, count })
}

fn done<T>(faults: Faults, value: T) -> Result<T, Faults> {
    if faults.is_empty() { Ok(value) } else { Err(faults) }
}

/// Encodes arguments that [`Plan::read`] has found good.
pub(super) fn arguments(args: &[proto::Value]) -> Result<Vec<Argument<'_>>, Faults> {
    value::arguments("args", args)
}
