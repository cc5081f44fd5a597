//! From a cell's text to a value.

use bytes::Bytes;

use super::{
    array::{self, Item},
    builtin::{Scalar, Type},
    bytea,
};
use crate::proto::{self, value::Kind};

/// The value of a cell in text format; `None` is NULL. The value's own `type` stays empty, because the column names
/// it once for all rows. What does not read as its type says stays the text that the server wrote.
#[must_use]
pub(crate) fn decode(column: Type, cell: Option<&[u8]>) -> proto::Value {
    let Some(bytes) = cell else {
        return value(null());
    };
    let text = String::from_utf8_lossy(bytes);
    let kind = match column {
        Type::Scalar(as_) => scalar(as_, &text),
        Type::Array { element, delimiter } => {
            array::parse(&text, delimiter).map(|items| list(element, items))
        }
    };
    value(kind.unwrap_or_else(|| Kind::Text(text.into_owned())))
}

/// A value without a type.
pub(super) const fn value(kind: Kind) -> proto::Value {
    proto::Value {
        kind: Some(kind),
        r#type: String::new(),
    }
}

/// NULL.
pub(super) const fn null() -> Kind {
    Kind::Null(prost_types::NullValue::NullValue as i32)
}

/// The value of a text; none if it is, or has to stay, text.
fn scalar(scalar: Scalar, text: &str) -> Option<Kind> {
    match scalar {
        Scalar::Bool => truth(text).map(Kind::Bool),
        Scalar::Int | Scalar::Int8 => text.parse().ok().map(Kind::Int),
        Scalar::Float => float(text).map(Kind::Float),
        Scalar::Bytes => bytea::parse(text).map(|bytes| Kind::Bytes(Bytes::from(bytes))),
        Scalar::Json | Scalar::Text => None,
    }
}

/// A `bool`'s text.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "t" => Some(true),
        "f" => Some(false),
        _ => None,
    }
}

/// A float's text. A finite number that a double cannot hold is none.
pub(super) fn float(text: &str) -> Option<f64> {
    let float: f64 = text.parse().ok()?;
    (float.is_finite() || !text.contains(|c: char| c.is_ascii_digit())).then_some(float)
}

fn list(element: Scalar, items: Vec<Item<'_>>) -> Kind {
    let values = items.into_iter().map(|item| value(part(element, item)));
    Kind::List(proto::ValueList {
        values: values.collect(),
    })
}

fn part(element: Scalar, item: Item<'_>) -> Kind {
    match item {
        Item::Null => null(),
        Item::Text(text) => scalar(element, &text).unwrap_or_else(|| Kind::Text(text.into_owned())),
        Item::List(items) => list(element, items),
    }
}
