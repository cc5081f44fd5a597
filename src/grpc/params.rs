//! Params that came as a Struct, as JSON.

use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

use crate::error::Faults;

/// The largest integer that a double holds without doubt.
const SAFE_INTEGER: f64 = 9_007_199_254_740_992.0;

/// A Struct as JSON. Integers that a double may have changed are refused.
pub(super) fn json_object(fields: prost_types::Struct, faults: &mut Faults) -> Value {
    let mut object = Map::new();
    for (name, value) in fields.fields {
        faults.within(&name, |faults| {
            object.insert(name.clone(), json_value(value, faults));
        });
    }
    Value::Object(object)
}

fn json_value(value: prost_types::Value, faults: &mut Faults) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::NumberValue(number)) => json_number(number, faults),
        Some(Kind::StructValue(fields)) => json_object(fields, faults),
        Some(Kind::ListValue(list)) => {
            let mut items = Vec::with_capacity(list.values.len());
            for (index, value) in list.values.into_iter().enumerate() {
                faults.within(&format!("[{index}]"), |faults| {
                    items.push(json_value(value, faults))
                });
            }
            Value::Array(items)
        }
    }
}

/// Whole numbers become integers, as their writer meant them: JavaScript and Python write 20 as 20.0 here.
fn json_number(number: f64, faults: &mut Faults) -> Value {
    if number.fract() == 0.0 && number.abs() > SAFE_INTEGER {
        faults.add(
            "",
            format!(
                "{number} is beyond 2^53 and may have lost digits in the Struct: send params_json instead"
            ),
        );
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "whole and within 2^53, so that the cast is exact"
    )]
    if number.fract() == 0.0 && number.abs() <= SAFE_INTEGER {
        return Value::Number(Number::from(number as i64));
    }
    Number::from_f64(number).map_or_else(
        || {
            faults.add("", "JSON has no NaN and no infinity");
            Value::Null
        },
        Value::Number,
    )
}
