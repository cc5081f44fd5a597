//! The table is the contract, so the document, the code and these tests have to agree.

use std::collections::BTreeSet;

use tonic::Code;

use super::{CLASSES, CODES, FACTS, OTHER, Report, Row, code, executed};
use crate::error::Executed;

const DOCUMENT: &str = include_str!("../../../../docs/backends/postgres-sqlstates.md");

/// A code's name as gRPC writes it.
fn name(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

fn line(row: &Row) -> String {
    let sqlstate = match row.sqlstate.len() {
        0 => "other".to_owned(),
        2 => format!("{}xxx", row.sqlstate),
        _ => row.sqlstate.to_owned(),
    };
    let retry = row
        .retry_after
        .map_or_else(String::new, |after| format!("{} ms", after.as_millis()));
    format!("| {sqlstate} | {} | {retry} | {} |", name(row.code), row.about)
}

/// The table as it is published.
fn table() -> String {
    let head = "| SQLSTATE | gRPC code | retry after | about |\n|---|---|---|---|";
    let rows = CODES.iter().chain(CLASSES).chain([&OTHER]);
    let lines: Vec<String> = rows.map(line).collect();
    format!("{head}\n{}\n", lines.join("\n"))
}

#[test]
fn table_is_the_clients_contract() {
    insta::assert_snapshot!(table());
}

#[test]
fn the_document_has_the_table_that_the_code_goes_by() {
    assert!(
        DOCUMENT.contains(&table()),
        "put this into docs/backends/postgres-sqlstates.md:\n{}",
        table()
    );
}

#[test]
fn each_row_is_reached_and_none_promises_that_nothing_was_executed() {
    let mut seen = BTreeSet::new();
    for row in CODES {
        assert_eq!(row.sqlstate.len(), 5);
        assert_eq!(code(row.sqlstate), row.code, "{}", row.sqlstate);
        assert!(seen.insert(row.sqlstate), "{} comes twice", row.sqlstate);
    }
    for row in CLASSES {
        assert_eq!(
            code(&format!("{}ZZZ", row.sqlstate)),
            row.code,
            "{}",
            row.sqlstate
        );
        assert!(seen.insert(row.sqlstate), "{} comes twice", row.sqlstate);
    }
    for row in CODES.iter().chain(CLASSES).chain([&OTHER]) {
        assert_ne!(row.code, Code::Unavailable, "{}", row.sqlstate);
        assert_ne!(row.code, Code::Unauthenticated, "{}", row.sqlstate);
    }
}

#[test]
fn a_code_of_its_own_goes_before_its_class_and_an_unknown_one_is_unknown() {
    let cases = [
        ("23505", Code::AlreadyExists),
        ("23503", Code::FailedPrecondition),
        ("42601", Code::InvalidArgument),
        ("42703", Code::InvalidArgument),
        ("42P01", Code::NotFound),
        ("57014", Code::Cancelled),
        ("57P01", Code::Aborted),
        ("28P01", Code::FailedPrecondition),
        ("MY001", Code::Unknown),
        ("é", Code::Unknown),
        ("4", Code::Unknown),
        ("", Code::Unknown),
    ];
    for (sqlstate, expected) in cases {
        assert_eq!(code(sqlstate), expected, "{sqlstate}");
    }
}

#[test]
fn only_a_plain_statements_error_proves_that_it_was_rolled_back() {
    let cases = [
        ("23505", "ERROR", false, Executed::No),
        ("23505", "ERROR", true, Executed::Yes),
        ("40001", "ERROR", false, Executed::No),
        ("40003", "ERROR", false, Executed::Unknown),
        ("08P01", "ERROR", true, Executed::Unknown),
        ("57P01", "FATAL", false, Executed::Unknown),
        ("57P02", "PANIC", true, Executed::Unknown),
        // A translated severity proves nothing.
        ("23505", "FEHLER", false, Executed::Unknown),
        ("23505", "", false, Executed::Unknown),
    ];
    for (sqlstate, severity, procedural, expected) in cases {
        assert_eq!(
            executed(sqlstate, severity, procedural),
            expected,
            "{sqlstate} {severity} {procedural}"
        );
    }
}

fn report(fields: &[(u8, &str)]) -> Report {
    Report::read(fields.iter().map(|(letter, text)| (*letter, text.as_bytes())))
}

#[test]
fn an_error_carries_what_a_program_acts_on() {
    let fields = [
        (b'S', "FEHLER"),
        (b'V', "ERROR"),
        (b'C', "23505"),
        (
            b'M',
            "duplicate key value violates unique constraint \"users_email\"",
        ),
        (b'D', "Key (email)=(a@example.com) already exists."),
        (b's', "public"),
        (b't', "users"),
        (b'n', "users_email"),
        (b'F', "nbtinsert.c"),
        (b'L', "666"),
    ];
    let report = report(&fields);
    assert_eq!(report.executed(false), Executed::No);
    insta::assert_snapshot!(format!("{:#?}", report.into_error()), @r#"
    BackendError {
        code: AlreadyExists,
        message: "duplicate key value violates unique constraint \"users_email\"",
        metadata: {
            "constraint": "users_email",
            "detail": "Key (email)=(a@example.com) already exists.",
            "schema": "public",
            "severity": "ERROR",
            "sqlstate": "23505",
            "table": "users",
        },
        retry_after: None,
    }
    "#);
}

#[test]
fn the_untranslated_severity_wins_wherever_it_stands() {
    for fields in [
        [(b'S', "FATAL "), (b'V', "FATAL")],
        [(b'V', "FATAL"), (b'S', "FATAL ")],
    ] {
        assert_eq!(report(&fields).severity, "FATAL");
    }
    assert_eq!(report(&[(b'S', "ERROR")]).severity, "ERROR");
}

#[test]
fn an_error_is_bounded_whatever_a_function_raises() {
    let long = "é".repeat(10_000);
    let letters = b"CVMDHPWstcdn";
    let error = Report::read(letters.map(|letter| (letter, long.as_bytes()))).into_error();
    let facts: usize = error.metadata.values().map(String::len).sum();
    assert!(facts <= FACTS, "{facts} bytes of facts");
    assert_eq!(error.message.len(), 1024);
    let cut: Vec<_> = error
        .metadata
        .iter()
        .map(|(key, text)| (*key, text.len()))
        .collect();
    assert_eq!(
        cut,
        [
            ("constraint", 512),
            ("position", 512),
            ("severity", 512),
            ("sqlstate", 512)
        ]
    );
}

#[test]
fn text_that_is_not_utf_8_is_replaced() {
    let report = Report::read([(b'M', &b"Pa\xdfwort"[..])]);
    assert_eq!(report.message, "Pa\u{fffd}wort");
}
