//! What is sent as an argument reads the same as a cell.

use proptest::prelude::*;

use super::{bytes, float, int, list, null, text};
use crate::{
    backend::postgres::value::{Type, builtin::named, decode, encode::encode},
    proto::{self, value::Kind},
};

fn there_and_back(type_name: &str, mut value: proto::Value) -> proto::Value {
    type_name.clone_into(&mut value.r#type);
    let argument = encode(&value).unwrap();
    let oid = named(type_name).unwrap().oid;
    decode(Type::of(oid), argument.bytes.as_deref())
}

/// Lists of `leaf` and NULL within lists, as deep as Postgres has them.
fn nested(leaf: impl Strategy<Value = proto::Value> + 'static) -> impl Strategy<Value = proto::Value> {
    let leaf = prop_oneof![4 => leaf, 1 => Just(null())];
    let inner = leaf.prop_recursive(4, 32, 5, |inner| {
        prop::collection::vec(inner, 0..5).prop_map(list)
    });
    prop::collection::vec(inner, 0..5).prop_map(list)
}

/// Any text but with NUL, and what array literals are made of more often than chance would have it.
fn texts() -> impl Strategy<Value = proto::Value> {
    let any = any::<String>().prop_map(|text| text.replace('\0', ""));
    prop_oneof![any, "[{}\",; \\\\a\n]{0,8}", "(?i)null"].prop_map(|string: String| text(&string))
}

proptest! {
    #[test]
    fn lists_of_any_text_come_back(value in nested(texts())) {
        prop_assert_eq!(there_and_back("text[]", value.clone()), value);
    }

    #[test]
    fn lists_with_another_delimiter_come_back(value in nested(texts())) {
        prop_assert_eq!(there_and_back("box[]", value.clone()), value);
    }

    #[test]
    fn lists_of_bytes_come_back(value in nested(any::<Vec<u8>>().prop_map(|raw| bytes(&raw)))) {
        prop_assert_eq!(there_and_back("bytea[]", value.clone()), value);
    }

    #[test]
    fn lists_of_integers_come_back(value in nested(any::<i64>().prop_map(int))) {
        prop_assert_eq!(there_and_back("int8[]", value.clone()), value);
    }

    #[test]
    fn floats_come_back(number in any::<f64>().prop_filter("NaN is not itself", |f| !f.is_nan())) {
        prop_assert_eq!(there_and_back("float8", float(number)), float(number));
        prop_assert_eq!(there_and_back("float8[]", list([float(number)])), list([float(number)]));
    }

    #[test]
    fn no_cell_panics_or_is_lost(cell in any::<String>(), oid in any::<u16>()) {
        match decode(Type::of(oid.into()), Some(cell.as_bytes())).kind {
            Some(Kind::Text(text)) => prop_assert_eq!(text, cell),
            Some(_) => {}
            None => prop_assert!(false, "no kind"),
        }
    }

    #[test]
    fn no_array_cell_panics(cell in "[{}\",;\\\\a1NUL\\[\\]=:]{0,24}") {
        let value = decode(Type::of(1009), Some(cell.as_bytes()));
        prop_assert!(matches!(value.kind, Some(Kind::List(_) | Kind::Text(_))));
    }
}
