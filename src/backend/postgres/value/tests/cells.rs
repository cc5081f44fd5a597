//! Cells of rows.

use super::{bytes, float, int, list, null, text, type_named};
use crate::{
    backend::postgres::value::{Type, column, decode, decode::value},
    proto::{self, value::Kind},
};

fn cell(type_name: &str, text: &str) -> proto::Value {
    decode(type_named(type_name), Some(text.as_bytes()))
}

#[test]
fn cells_of_each_kind_read_as_their_type_says() {
    let cases = [
        ("bool", "t", value(Kind::Bool(true))),
        ("bool", "f", value(Kind::Bool(false))),
        ("int2", "-32768", int(-32768)),
        ("int4", "2147483647", int(2_147_483_647)),
        ("int8", "-9223372036854775808", int(i64::MIN)),
        ("oid", "4294967295", int(4_294_967_295)),
        ("float4", "0.1", float(0.1)),
        ("float8", "1e+300", float(1e300)),
        ("float8", "1.7976931348623157e+308", float(f64::MAX)),
        ("float8", "5e-324", float(5e-324)),
        ("float8", "Infinity", float(f64::INFINITY)),
        ("float8", "-Infinity", float(f64::NEG_INFINITY)),
        ("bytea", "\\x00ff7F", bytes(&[0, 255, 127])),
        ("bytea", "\\x", bytes(&[])),
        ("bytea", "", bytes(&[])),
        ("bytea", "a\\\\b\\000\\377 '", bytes(b"a\\b\0\xff '")),
    ];
    for (type_name, text, expected) in cases {
        assert_eq!(cell(type_name, text), expected, "{type_name} {text}");
    }
    let Some(Kind::Float(nan)) = cell("float8", "NaN").kind else {
        panic!("NaN is a float");
    };
    assert!(nan.is_nan());
    assert_eq!(decode(type_named("int4"), None), null());
}

#[test]
fn a_negative_zero_keeps_its_sign() {
    let Some(Kind::Float(zero)) = cell("float8", "-0").kind else {
        panic!("-0 is a float");
    };
    assert!(zero.is_sign_negative());
}

#[test]
fn what_has_no_kind_of_its_own_stays_the_servers_text() {
    let cases = [
        ("numeric", "123456789012345678901234567890.1200"),
        ("numeric", "NaN"),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("timestamp", "infinity"),
        ("timestamptz", "0044-03-15 12:00:00+00 BC"),
        ("interval", "1 year 2 mons -3 days"),
        ("json", "{\"a\" : 1e400}\n"),
        ("int4range", "[1,5)"),
        ("int4multirange", "{[1,3),[5,7)}"),
        ("box", "(1,1),(0,0)"),
        ("money", "$1,000.00"),
        ("bit", "0101"),
        ("int2vector", "1 2 3"),
        ("text", "{1,2}"),
    ];
    for (type_name, cell_text) in cases {
        assert_eq!(cell(type_name, cell_text), text(cell_text), "{type_name}");
    }
}

#[test]
fn a_cell_that_is_not_what_its_type_promises_stays_text() {
    let cases = [
        ("bool", "true"),
        ("int4", "1.5"),
        ("int8", "9223372036854775808"),
        ("float8", "1e400"),
        ("float8", "much"),
        ("bytea", "\\x0"),
        ("bytea", "\\xzz"),
        ("bytea", "\\477"),
        ("bytea", "\\"),
    ];
    for (type_name, cell_text) in cases {
        assert_eq!(cell(type_name, cell_text), text(cell_text), "{type_name}");
    }
    assert_eq!(decode(type_named("text"), Some(b"a\xff")), text("a\u{fffd}"));
}

#[test]
fn arrays_read_as_lists_of_their_elements() {
    let cases = [
        ("int4[]", "{}", list([])),
        ("int4[]", "{1,NULL,-3}", list([int(1), null(), int(-3)])),
        (
            "int8[]",
            "{{1,2},{3,4}}",
            list([list([int(1), int(2)]), list([int(3), int(4)])]),
        ),
        (
            "bool[]",
            "{t,f}",
            list([value(Kind::Bool(true)), value(Kind::Bool(false))]),
        ),
        (
            "float8[]",
            "{1.5,-Infinity}",
            list([float(1.5), float(f64::NEG_INFINITY)]),
        ),
        (
            "text[]",
            r#"{a,"NULL",null,"","b c","d,e","\"","\\","{}",é}"#,
            list([
                text("a"),
                text("NULL"),
                null(),
                text(""),
                text("b c"),
                text("d,e"),
                text("\""),
                text("\\"),
                text("{}"),
                text("é"),
            ]),
        ),
        (
            "bytea[]",
            r#"{"\\x00ff","a\\000"}"#,
            list([bytes(&[0, 255]), bytes(b"a\0")]),
        ),
        (
            "box[]",
            "{(1,1),(0,0);(2,2),(1,1)}",
            list([text("(1,1),(0,0)"), text("(2,2),(1,1)")]),
        ),
        (
            "jsonb[]",
            r#"{"{\"a\": 1}",2}"#,
            list([text("{\"a\": 1}"), text("2")]),
        ),
        ("numeric[]", "{1.10,NaN}", list([text("1.10"), text("NaN")])),
        ("int4[]", "{1,x}", list([int(1), text("x")])),
        (
            "int4[]",
            "{{{{{{7}}}}}}",
            (0..6).fold(int(7), |inner, _| list([inner])),
        ),
    ];
    for (type_name, cell_text, expected) in cases {
        assert_eq!(cell(type_name, cell_text), expected, "{type_name} {cell_text}");
    }
}

#[test]
fn what_is_not_an_array_literal_or_has_bounds_of_its_own_stays_text() {
    let cases = [
        "[0:1]={1,2}",
        "",
        "{",
        "{1",
        "{1,",
        "{1,}",
        "{,1}",
        "{1}2",
        "{\"1}",
        "{\"1\\",
        "{1\\2}",
        "{{1}",
        "{1{2}}",
        "1",
        "{{{{{{{7}}}}}}}",
    ];
    for cell_text in cases {
        assert_eq!(cell("int4[]", cell_text), text(cell_text), "{cell_text}");
    }
}

#[test]
fn columns_carry_the_types_own_name() {
    let cases = [
        (20, None, "int8"),
        (1184, None, "timestamptz"),
        (1007, None, "int4[]"),
        (18, None, "\"char\""),
        (1002, None, "\"char\"[]"),
        (2249, None, "record"),
        (0, None, "oid:0"),
        (16_400, None, "oid:16400"),
        (16_400, Some("mood"), "mood"),
    ];
    for (oid, known, expected) in cases {
        let column = column("a", oid, known);
        assert_eq!((column.name.as_str(), column.r#type.as_str()), ("a", expected));
    }
    let enum_array = decode(Type::of(16_401), Some(b"{sad,ok}"));
    assert_eq!(enum_array, text("{sad,ok}"));
}
