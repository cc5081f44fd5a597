//! Arguments of calls.

use std::borrow::Cow;

use super::{bytes, float, int, list, null, text};
use crate::{
    backend::postgres::value::{Argument, Format, arguments, decode::value, encode::encode},
    proto::{self, value::Kind},
};

fn typed(name: &str, mut value: proto::Value) -> proto::Value {
    name.clone_into(&mut value.r#type);
    value
}

fn literal(value: &proto::Value) -> String {
    let argument = encode(value).unwrap();
    assert_eq!(argument.format, Format::Text);
    String::from_utf8(argument.bytes.unwrap().into_owned()).unwrap()
}

#[test]
fn arguments_travel_as_text_that_the_server_reads() {
    let cases = [
        (value(Kind::Bool(true)), "t"),
        (value(Kind::Bool(false)), "f"),
        (int(i64::MIN), "-9223372036854775808"),
        (float(0.1), "0.1"),
        (float(3.0), "3"),
        (float(-0.0), "-0"),
        (float(1e15), "1000000000000000"),
        (float(1e300), "1e300"),
        (float(5e-324), "5e-324"),
        (float(f64::NAN), "NaN"),
        (float(f64::INFINITY), "Infinity"),
        (float(f64::NEG_INFINITY), "-Infinity"),
        (text("it's \"é\"\\"), "it's \"é\"\\"),
        (text(""), ""),
        (list([]), "{}"),
        (list([int(1), null(), value(Kind::Bool(true))]), "{1,NULL,t}"),
        (list([text("a"), text("NULL"), text("")]), r#"{"a","NULL",""}"#),
        (list([text("\"\\{},")]), r#"{"\"\\{},"}"#),
        (list([bytes(&[0, 255])]), r#"{"\\x00ff"}"#),
        (
            list([list([float(1.5)]), list([float(f64::NAN)])]),
            "{{1.5},{NaN}}",
        ),
        (
            typed("box[]", list([text("1,1,0,0"), text("2,2,1,1")])),
            r#"{"1,1,0,0";"2,2,1,1"}"#,
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(literal(&value), expected);
    }
}

#[test]
fn bytes_travel_in_binary_and_are_bytea_unless_said_otherwise() {
    let argument = |oid| Argument {
        format: Format::Binary,
        bytes: Some(Cow::Borrowed(&b"\0\xff"[..])),
        oid,
    };
    assert_eq!(encode(&bytes(b"\0\xff")), Ok(argument(17)));
    assert_eq!(encode(&typed("uuid", bytes(b"\0\xff"))), Ok(argument(2950)));
}

#[test]
fn null_is_of_the_type_that_is_named_or_inferred() {
    let oids = [null(), typed("int4", null())].map(|value| {
        let argument = encode(&value).unwrap();
        assert_eq!(argument.bytes, None);
        argument.oid
    });
    assert_eq!(oids, [0, 23]);
}

#[test]
fn types_go_by_postgres_and_by_sql_names() {
    let cases = [
        ("", 0),
        ("int4", 23),
        ("Integer", 23),
        ("bigint", 20),
        ("double  precision", 701),
        ("timestamp with time zone", 1184),
        ("timestamptz", 1184),
        ("pg_catalog.text", 25),
        ("character varying", 1043),
        ("char", 1042),
        ("\"char\"", 18),
        ("decimal", 1700),
        ("text[]", 1009),
        ("integer[][]", 1007),
        ("_int4", 1007),
        ("timestamp with time zone[]", 1185),
        ("int8multirange[]", 6157),
        ("oid:16400", 16_400),
        ("oid", 26),
    ];
    for (name, oid) in cases {
        assert_eq!(encode(&typed(name, null())).unwrap().oid, oid, "{name}");
    }
    for name in [
        "foo",
        "int4[",
        "int4[3]",
        "varchar(10)",
        "_int4[]",
        "void[]",
        "oid:x",
        "[]",
        "_",
    ] {
        let message = encode(&typed(name, null())).unwrap_err().message;
        assert!(
            message.starts_with(&format!("unknown type `{name}`")),
            "{message}"
        );
    }
}

#[test]
fn faults_say_where_and_what_would_be_right() {
    let values = [
        text("fine"),
        text("a\0b"),
        typed("foo", int(1)),
        proto::Value::default(),
        list([int(1), list([text("\0")])]),
        list([typed("int4", int(1))]),
        typed("int4", list([int(1)])),
        (0..7).fold(int(1), |inner, _| list([inner])),
    ];
    let faults = arguments("params.args", &values).unwrap_err();
    let told: Vec<_> = faults
        .list()
        .iter()
        .map(|fault| format!("{}: {}", fault.field, fault.message))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    params.args[1]: Postgres text cannot hold a NUL character: remove it, or send `bytes` to a bytea
    params.args[2]: unknown type `foo`: leave it out, or cast in the SQL ($1::foo)
    params.args[3]: the value is missing: set one of its kinds; `null` is NULL
    params.args[4].list.values[1].list.values[0]: Postgres text cannot hold a NUL character: remove it, or send `bytes` to a bytea
    params.args[5].list.values[0]: name the whole list's type (`int4[]`), not an element's
    params.args[6]: a list is not of type `int4`, but of an array: `int4[]`
    params.args[7].list.values[0].list.values[0].list.values[0].list.values[0].list.values[0].list.values[0]: Postgres arrays have at most 6 dimensions
    ");
    assert_eq!(arguments("args", &[int(1), text("x")]).unwrap().len(), 2);
}

#[test]
fn more_arguments_than_bind_can_count_are_refused() {
    let mut values = vec![int(1); 65_535];
    assert!(arguments("args", &values).is_ok());
    values.push(int(1));
    let faults = arguments("args", &values).unwrap_err();
    assert!(
        faults
            .to_string()
            .starts_with("args: 65536 arguments are too many"),
        "{faults}"
    );
}
