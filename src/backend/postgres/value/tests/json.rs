//! Arguments from JSON, rows to JSON.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::{int, list, null, text, type_named};
use crate::{
    backend::postgres::value::{JsonRows, Type, all_from_json, decode::value, json::from_json},
    proto::{self, value::Kind},
};

fn argument(json: &str) -> Result<proto::Value, String> {
    from_json(serde_json::from_str::<&RawValue>(json).unwrap())
}

#[test]
fn json_arguments_keep_their_digits_and_bytes() {
    let cases = [
        ("null", null()),
        ("true", value(Kind::Bool(true))),
        ("false", value(Kind::Bool(false))),
        ("-9223372036854775808", int(i64::MIN)),
        ("9223372036854775808", text("9223372036854775808")),
        ("-0", text("-0")),
        ("1.10", text("1.10")),
        ("1e3", text("1e3")),
        ("\"x\\u00e9\\n\"", text("xé\n")),
        ("{\"b\": 1.0, \"a\":[ ]}", text("{\"b\": 1.0, \"a\":[ ]}")),
        ("[]", list([])),
        (
            " [1, \"x\", null, [2.50], {\"a\": 1}] ",
            list([
                int(1),
                text("x"),
                null(),
                list([text("2.50")]),
                text("{\"a\": 1}"),
            ]),
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(argument(json), Ok(expected), "{json}");
    }
}

#[test]
fn json_that_no_argument_can_be_is_refused() {
    assert!(argument("[[[[[[1]]]]]]").is_ok());
    let deep = argument("[[[[[[[1]]]]]]]").unwrap_err();
    assert!(deep.contains("at most 6 dimensions"), "{deep}");
    let surrogate = argument("\"\\ud800\"").unwrap_err();
    assert!(
        surrogate.contains("surrogate") || surrogate.contains("escape"),
        "{surrogate}"
    );
}

#[test]
fn every_argument_that_is_refused_is_told_with_its_place() {
    let read = |args: &str| {
        all_from_json(
            "params.args",
            &serde_json::from_str::<Vec<&RawValue>>(args).unwrap(),
        )
    };
    assert_eq!(read("[1, null]"), Ok(vec![int(1), null()]));
    let faults = read(r#"["\ud800", 1, [[[[[[[1]]]]]]]]"#).unwrap_err();
    let fields: Vec<_> = faults.list().iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["params.args[0]", "params.args[2]"]);
}

fn row(cells: &[(&str, &str, Option<&str>)]) -> String {
    let columns: Vec<_> = cells
        .iter()
        .map(|(name, of, _)| (*name, type_named(of)))
        .collect();
    JsonRows::of(&columns).row(cells.iter().map(|(_, _, text)| text.map(str::as_bytes)))
}

#[test]
fn rows_are_json_objects_that_lose_nothing() {
    let cases = [
        ("int4", "-5", "-5"),
        ("oid", "4294967295", "4294967295"),
        ("int8", "9007199254740993", "\"9007199254740993\""),
        ("numeric", "1.10", "\"1.10\""),
        ("float8", "1e+300", "1e+300"),
        ("float8", "-0", "-0"),
        ("float8", "NaN", "\"NaN\""),
        ("float8", "-Infinity", "\"-Infinity\""),
        ("bool", "t", "true"),
        ("bool", "f", "false"),
        ("bool", "?", "\"?\""),
        (
            "json",
            "{\"b\" : 1e400,\n\"a\":[]} ",
            "{\"b\" : 1e400,\n\"a\":[]} ",
        ),
        ("jsonb", "null", "null"),
        ("json", "{", "\"{\""),
        ("bytea", "\\x00fF", "\"\\\\x00fF\""),
        ("bytea", "a\\377", "\"\\\\x61ff\""),
        ("bytea", "\\", "\"\\\\\""),
        ("text", "a\"\\\n\u{1}\u{7f}é", "\"a\\\"\\\\\\n\\u0001\u{7f}é\""),
        ("int4[]", "{{1,NULL},{2,3}}", "[[1,null],[2,3]]"),
        ("int8[]", "{1}", "[\"1\"]"),
        ("float4[]", "{1.5,Infinity}", "[1.5,\"Infinity\"]"),
        ("jsonb[]", "{\"{\\\"a\\\": 1}\"}", "[{\"a\": 1}]"),
        ("bytea[]", "{\"a\\\\000\"}", "[\"\\\\x6100\"]"),
        ("text[]", "{}", "[]"),
        ("int4[]", "[0:0]={1}", "\"[0:0]={1}\""),
        ("timestamptz", "infinity", "\"infinity\""),
    ];
    for (of, cell, expected) in cases {
        let json = row(&[("a", of, Some(cell))]);
        assert_eq!(json, format!("{{\"a\":{expected}}}"), "{of} {cell}");
        serde_json::from_str::<&RawValue>(&json).unwrap();
    }
    assert_eq!(
        row(&[("z", "int4", None), ("a", "int4", Some("1"))]),
        "{\"z\":null,\"a\":1}"
    );
    assert_eq!(row(&[]), "{}");
}

#[test]
fn names_that_come_twice_are_kept_apart() {
    let names = ["a", "a", "a_2", "a", "?column?", "?column?", "a\"", "a_2"];
    let cells = names.map(|name| (name, "int4", Some("1")));
    assert_eq!(
        row(&cells),
        r#"{"a":1,"a_3":1,"a_2":1,"a_4":1,"?column?":1,"?column?_2":1,"a\"":1,"a_2_2":1}"#
    );
}

proptest! {
    #[test]
    fn any_text_is_one_json_string(text in any::<String>()) {
        let rows = JsonRows::of(&[(text.as_str(), Type::of(25))]);
        let json = rows.row([Some(text.as_bytes())]);
        let parsed: std::collections::BTreeMap<String, String> = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(parsed.get(&text), Some(&text));
    }

    #[test]
    fn whatever_a_cell_holds_the_row_is_json(cell in any::<Vec<u8>>(), oid in 16_u32..4100) {
        let json = JsonRows::of(&[("a", Type::of(oid))]).row([Some(cell.as_slice())]);
        prop_assert!(serde_json::from_str::<&RawValue>(&json).is_ok(), "{}", json);
    }
}
