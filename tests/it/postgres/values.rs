//! Values of every type, both ways, beside what psql prints for the same SQL.

mod cases;

use serde_json::{Value as Json, json, value::RawValue};
use sublet::proto::{Value, ValueList, value::Kind};

use self::cases::{CASES, SETUP};
use super::{
    Stage,
    staged::{of, psql, text},
};
use crate::support::calls::*;

/// A type and one of its literals, as SQL.
fn literal(kind: &str, value: &str) -> String {
    format!("'{}'::{kind}", value.replace('\'', "''"))
}

/// A value as psql prints it.
fn shown(value: &Value) -> String {
    match value.kind.as_ref().unwrap() {
        Kind::Null(_) => "<null>".to_owned(),
        Kind::Bool(truth) => if *truth { "t" } else { "f" }.to_owned(),
        Kind::Int(int) => int.to_string(),
        Kind::Float(float) if float.is_infinite() => {
            if *float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
        }
        Kind::Float(float) => float.to_string(),
        Kind::Text(text) => text.clone(),
        Kind::Bytes(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\\x{digits}")
        }
        Kind::List(list) => shown_list(
            list.values
                .iter()
                .map(|value| (shown(value), is_list(value), is_null(value))),
        ),
    }
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind, Some(Kind::List(_)))
}

fn is_null(value: &Value) -> bool {
    matches!(value.kind, Some(Kind::Null(_)))
}

/// As the server writes an array: in quotes whatever could be taken for something else.
fn shown_list(items: impl Iterator<Item = (String, bool, bool)>) -> String {
    let items = items.map(|(text, list, null)| match (list, null) {
        (true, _) => text,
        (_, true) => "NULL".to_owned(),
        _ => {
            let special = |c: char| "{},;\"\\".contains(c) || c.is_ascii_whitespace();
            let plain = !text.is_empty() && !text.contains(special) && !text.eq_ignore_ascii_case("null");
            if plain {
                text
            } else {
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            }
        }
    });
    format!("{{{}}}", items.collect::<Vec<_>>().join(","))
}

/// A JSON value as psql prints it.
fn shown_json(raw: &str) -> String {
    fn of(value: &Json) -> String {
        match value {
            Json::Null => "<null>".to_owned(),
            Json::Bool(truth) => if *truth { "t" } else { "f" }.to_owned(),
            Json::String(text) => text.clone(),
            Json::Array(items) => shown_list(
                items
                    .iter()
                    .map(|item| (of(item), item.is_array(), item.is_null())),
            ),
            Json::Number(_) | Json::Object(_) => value.to_string(),
        }
    }
    of(&serde_json::from_str(raw).unwrap())
}

/// The same text, or the same double: the server writes `1e+300`, Rust and JSON write others.
fn same(kind: &str, ours: &str, psql: &str) -> bool {
    if ours == psql {
        return true;
    }
    let number = |text: &str| text.parse::<f64>().ok().map(f64::to_bits);
    let numbers =
        |text: &str| -> Option<Vec<u64>> { text.trim_matches(['{', '}']).split(',').map(number).collect() };
    kind.starts_with("float") && numbers(ours).is_some() && numbers(ours) == numbers(psql)
}

#[tokio::test]
async fn every_type_s_values_come_as_psql_prints_them_and_go_back_as_they_came() {
    let mut stage = Stage::with(1).await;
    stage.run(SETUP).await;
    let cases = || {
        CASES
            .iter()
            .flat_map(|(kind, values)| values.iter().map(move |value| (*kind, *value)))
    };
    let queries: Vec<_> = cases()
        .map(|(kind, value)| format!("select {}", literal(kind, value)))
        .collect();
    let printed = psql(&stage.database, "", &queries);
    let mut wrong = Vec::new();
    for ((kind, value), printed) in cases().zip(printed) {
        let rows = stage
            .typed(&format!("select {} as v", literal(kind, value)), vec![])
            .await
            .unwrap();
        let came = &rows.rows[0].values[0];
        if !same(kind, &shown(came), &printed) {
            wrong.push(format!("{kind} typed: {} is not {printed}", shown(came)));
        }
        // What came goes back as it is, with the column's own type, and is compared there.
        let mut back = came.clone();
        back.r#type.clone_from(&rows.columns[0].r#type);
        let sql = format!(
            "select ($1::{kind})::text collate \"C\" = ({})::text",
            literal(kind, value)
        );
        let answer = stage.typed(&sql, vec![back]).await;
        match answer.map(|rows| rows.rows[0].values[0].kind.clone()) {
            Ok(Some(Kind::Bool(true))) => {}
            other => wrong.push(format!("{kind} back: {value}: {other:?}")),
        }
        // And as text in JSON, to come as JSON.
        let params =
            json!({ "sql": format!("select $1::text::{kind} as v"), "args": [value], "rows": "json" });
        let answer = execute(&mut stage.broker, one_shot("db", "query", &params.to_string()))
            .await
            .unwrap();
        let rows: Vec<std::collections::BTreeMap<String, Box<RawValue>>> =
            serde_json::from_str(&answer).unwrap();
        let raw = rows[0]["v"].get();
        let number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let as_it_is = number || ["json", "jsonb"].contains(&kind);
        let json = if as_it_is { raw.to_owned() } else { shown_json(raw) };
        if !same(kind, &json, &printed) {
            wrong.push(format!("{kind} json: {raw} is not {printed}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn null_of_every_type_is_null_both_ways() {
    let mut stage = Stage::with(1).await;
    stage.run(SETUP).await;
    for (kind, _) in CASES {
        let rows = stage
            .typed(&format!("select null::{kind} as v"), vec![])
            .await
            .unwrap();
        assert!(is_null(&rows.rows[0].values[0]), "{kind}");
        let null = Value {
            r#type: rows.columns[0].r#type.clone(),
            ..of(Kind::Null(0))
        };
        let rows = stage
            .typed(&format!("select $1::{kind} is null"), vec![null])
            .await
            .unwrap();
        assert_eq!(shown(&rows.rows[0].values[0]), "t", "{kind}");
        let params = json!({ "sql": format!("select $1::{kind} as v"), "args": [null], "rows": "json" });
        assert_eq!(
            stage.one("query", params).await.unwrap(),
            json!([{ "v": null }]),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn any_byte_and_any_character_pass_both_ways() {
    let mut stage = Stage::with(1).await;
    let all: Vec<u8> = (0..=255).collect();
    let bytes = of(Kind::Bytes(all.clone().into()));
    let rows = stage
        .typed("select $1, length($1)", vec![bytes.clone()])
        .await
        .unwrap();
    assert_eq!(rows.rows[0].values[0].kind, bytes.kind);
    assert_eq!(shown(&rows.rows[0].values[1]), "256");
    // Every character of the planes that are in use, less NUL, which no text holds, and surrogates, which are none.
    let every: String = (1..0x2_0000).filter_map(char::from_u32).collect();
    let rows = stage
        .typed("select $1::text, length($1::text)", vec![text(&every)])
        .await
        .unwrap();
    assert_eq!(rows.rows[0].values[0].kind, text(&every).kind);
    assert_eq!(shown(&rows.rows[0].values[1]), every.chars().count().to_string());
    let params = json!({ "sql": "select $1::text as v", "args": [every], "rows": "json" });
    assert_eq!(stage.one("query", params).await.unwrap(), json!([{ "v": every }]));
    let refused = stage
        .typed("select $1::text", vec![text("a\0b")])
        .await
        .unwrap_err();
    assert!(refused.message().contains("NUL"), "{refused:?}");
}

#[tokio::test]
async fn settings_of_a_session_change_how_values_are_written_and_not_what_they_are() {
    let mut stage = Stage::with(1).await;
    let token = lease(&mut stage.broker, "db").await.lease_token;
    let all: Vec<u8> = (0..=255).collect();
    let set = json!({ "sql": "set bytea_output = escape" });
    stage.on(&token, "execute", set).await.unwrap();
    let mut request = on_lease(&token, "query", r#"{"sql":"select $1::bytea"}"#);
    request.operation.as_mut().unwrap().args = vec![of(Kind::Bytes(all.clone().into()))];
    let answer = stage.answer(request).await.unwrap();
    let Some(sublet::proto::result::Output::Rows(rows)) = answer.output else {
        panic!("{answer:?}");
    };
    assert_eq!(rows.rows[0].values[0].kind, Some(Kind::Bytes(all.into())));
    let value = "-1 year -2 mons +3 days -04:05:06.789";
    for style in ["postgres", "postgres_verbose", "sql_standard", "iso_8601"] {
        let set = format!("set intervalstyle = {style}");
        stage.on(&token, "execute", json!({ "sql": set })).await.unwrap();
        let query = format!("select {} as v", literal("interval", value));
        let printed = psql(&stage.database, &set, std::slice::from_ref(&query));
        let rows = stage
            .on(&token, "query", json!({ "sql": query, "rows": "json" }))
            .await
            .unwrap();
        assert_eq!(rows[0]["v"], json!(printed[0]));
        let params = json!({ "sql": "select $1::interval = $2::interval as v", "args": [printed[0], printed[0]], "rows": "json" });
        assert_eq!(
            stage.on(&token, "query", params).await.unwrap(),
            json!([{ "v": true }])
        );
    }
}

#[tokio::test]
async fn pseudo_types_come_as_the_server_writes_them() {
    let mut stage = Stage::with(1).await;
    stage
        .run("create function nothing() returns void language plpgsql as 'begin end'")
        .await;
    let rows = stage
        .typed("select nothing(), row(1, 'a b', null), null", vec![])
        .await
        .unwrap();
    let values: Vec<_> = rows.rows[0].values.iter().map(shown).collect();
    assert_eq!(values, ["", "(1,\"a b\",)", "<null>"]);
    let names: Vec<_> = rows.columns.iter().map(|column| column.r#type.as_str()).collect();
    assert_eq!(names, ["void", "record", "text"]);
}

#[tokio::test]
async fn widest_row_and_columns_of_one_name_lose_nothing() {
    let mut stage = Stage::with(1).await;
    let columns: Vec<_> = (0..1600).map(|column| format!("c{column} int2")).collect();
    stage
        .run(&format!("create table wide ({})", columns.join(",")))
        .await;
    let values: Vec<_> = (0..1600).map(|column| column.to_string()).collect();
    stage
        .run(&format!("insert into wide values ({})", values.join(",")))
        .await;
    let rows = stage.typed("select * from wide", vec![]).await.unwrap();
    assert_eq!(rows.columns.len(), 1600);
    assert!(rows.rows[0].values.iter().map(shown).eq(values));
    let args: Vec<_> = (0..1600).map(|value| of(Kind::Int(value))).collect();
    let places: Vec<_> = (1..=1600).map(|place| format!("${place}::int2")).collect();
    let rows = stage
        .typed(&format!("select {}", places.join(",")), args)
        .await
        .unwrap();
    assert_eq!(shown(&rows.rows[0].values[1599]), "1599");
    let rows = stage.rows("select 1 as a, 2 as a, 3 as a_2, 4 as a, 5").await;
    assert_eq!(
        rows,
        json!([{ "a": 1, "a_2": 3, "a_3": 2, "a_4": 4, "?column?": 5 }])
    );
}

#[tokio::test]
async fn lists_are_arrays_and_bytes_in_them_are_bytes() {
    let mut stage = Stage::with(1).await;
    let list = |values: Vec<Value>| of(Kind::List(ValueList { values }));
    let quoted = ["NULL", "a,b", "{}", "\"", "\\", "", " x ", "é\u{1f600}"];
    let mut texts: Vec<_> = quoted.iter().map(|quoted| text(quoted)).collect();
    texts.push(of(Kind::Null(0)));
    let rows = stage
        .typed("select $1::text[], cardinality($1)", vec![list(texts.clone())])
        .await
        .unwrap();
    assert_eq!(rows.rows[0].values[0].kind, list(texts).kind);
    let bytes = list(vec![of(Kind::Bytes(vec![0, 255, 92].into()))]);
    let rows = stage
        .typed("select $1::bytea[]", vec![bytes.clone()])
        .await
        .unwrap();
    assert_eq!(rows.rows[0].values[0].kind, bytes.kind);
    let boxes = Value {
        r#type: "box[]".to_owned(),
        ..list(vec![text("(1,1),(0,0)"), text("(3,3),(2,2)")])
    };
    let rows = stage
        .typed("select $1::box[]", vec![boxes.clone()])
        .await
        .unwrap();
    assert_eq!(rows.rows[0].values[0].kind, boxes.kind);
    let params = json!({ "sql": "select $1::int8[] as v", "args": [[[1, null], [3, 9_007_199_254_740_993_i64]]], "rows": "json" });
    assert_eq!(
        stage.one("query", params).await.unwrap(),
        json!([{ "v": [["1", null], ["3", "9007199254740993"]] }])
    );
}
