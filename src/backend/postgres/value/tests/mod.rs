//! Values through both directions, by type, by fault, and with any characters.

mod arguments;
mod cells;
mod json;
mod round_trip;

use super::{Type, decode::value};
use crate::proto::{self, value::Kind};

fn text(text: &str) -> proto::Value {
    value(Kind::Text(text.to_owned()))
}

fn int(int: i64) -> proto::Value {
    value(Kind::Int(int))
}

fn float(float: f64) -> proto::Value {
    value(Kind::Float(float))
}

fn bytes(bytes: &[u8]) -> proto::Value {
    value(Kind::Bytes(bytes.to_vec().into()))
}

fn list(values: impl Into<Vec<proto::Value>>) -> proto::Value {
    let values = values.into();
    value(Kind::List(proto::ValueList { values }))
}

fn null() -> proto::Value {
    value(super::decode::null())
}

/// The type that a caller's name stands for.
fn type_named(name: &str) -> Type {
    Type::of(super::builtin::named(name).unwrap().oid)
}
