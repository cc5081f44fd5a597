//! Rows and structs as JSON, a line each.

use prost_types::{Struct, value::Kind as Any};
use serde_json::{Map, Number, Value as Json};

use crate::{
    backend::hex,
    proto::{Column, Row, Rows, Value, value::Kind},
};

/// Rows that come in parts, of which only the first has the columns.
#[derive(Debug, Default)]
pub(super) struct Table {
    names: Vec<String>,
}

impl Table {
    /// A part's rows, as an object each.
    pub(super) fn lines(&mut self, part: Rows) -> Vec<String> {
        if !part.columns.is_empty() {
            self.names = names(&part.columns);
        }
        part.rows.into_iter().map(|row| self.line(row)).collect()
    }

    fn line(&self, row: Row) -> String {
        let mut line = String::from("{");
        for (index, value) in row.values.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // In the columns' order, which a map would not keep.
            let name = self.names.get(index).cloned();
            let name = Json::from(name.unwrap_or_else(|| format!("{}", index + 1)));
            line.push_str(&format!("{comma}{name}:{}", json(value)));
        }
        line.push('}');
        line
    }
}

/// The columns' names; one that is there twice becomes `name_2`, as in the broker's own JSON rows.
fn names(columns: &[Column]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for column in columns {
        let mut name = column.name.clone();
        let mut number = 1;
        while names.contains(&name) {
            number += 1;
            name = format!("{}_{number}", column.name);
        }
        names.push(name);
    }
    names
}

fn json(value: Value) -> Json {
    match value.kind {
        None | Some(Kind::Null(_)) => Json::Null,
        Some(Kind::Bool(truth)) => truth.into(),
        Some(Kind::Int(int)) => int.into(),
        Some(Kind::Float(float)) => number(float),
        Some(Kind::Text(text)) => text.into(),
        // As psql shows them.
        Some(Kind::Bytes(bytes)) => format!("\\x{}", hex::encode(&bytes)).into(),
        Some(Kind::List(list)) => list.values.into_iter().map(json).collect(),
    }
}

/// A struct's JSON text.
pub(super) fn object(object: Struct) -> String {
    fields(object).to_string()
}

fn fields(object: Struct) -> Json {
    let fields = object.fields.into_iter();
    Json::Object(
        fields
            .map(|(name, value)| (name, any(value)))
            .collect::<Map<_, _>>(),
    )
}

/// Any value's JSON.
pub(super) fn any(value: prost_types::Value) -> Json {
    match value.kind {
        None | Some(Any::NullValue(_)) => Json::Null,
        Some(Any::BoolValue(truth)) => truth.into(),
        Some(Any::NumberValue(float)) => number(float),
        Some(Any::StringValue(text)) => text.into(),
        Some(Any::ListValue(list)) => list.values.into_iter().map(any).collect(),
        Some(Any::StructValue(object)) => fields(object),
    }
}

/// A number, an integer without a fraction; what JSON has no number for is text.
fn number(float: f64) -> Json {
    let text = float.to_string();
    match text.parse::<i64>() {
        Ok(int) => int.into(),
        Err(_) => Number::from_f64(float).map_or(Json::String(text), Json::Number),
    }
}

/// The number of that name.
pub(super) fn number_of(object: &Struct, name: &str) -> Option<f64> {
    match object.fields.get(name)?.kind.as_ref()? {
        Any::NumberValue(number) => Some(*number),
        Any::NullValue(_)
        | Any::BoolValue(_)
        | Any::StringValue(_)
        | Any::ListValue(_)
        | Any::StructValue(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ValueList;

    fn value(kind: Kind) -> Value {
        Value {
            kind: Some(kind),
            ..Value::default()
        }
    }

    #[test]
    fn rows_are_objects_in_the_order_of_their_columns_over_all_parts() {
        let column = |name: &str| Column {
            name: name.to_owned(),
            ..Column::default()
        };
        let row = |values: Vec<Value>| Rows {
            rows: vec![Row { values }],
            ..Rows::default()
        };
        let mut first = row(vec![
            value(Kind::Int(i64::MAX)),
            value(Kind::Text("a\"b".to_owned())),
        ]);
        first.columns = vec![column("z"), column("a"), column("z")];
        let list = ValueList {
            values: vec![value(Kind::Bool(true)), value(Kind::Null(0))],
        };
        let second = row(vec![
            value(Kind::Float(f64::NAN)),
            value(Kind::Bytes(b"\0\xff"[..].into())),
            value(Kind::List(list)),
        ]);
        let mut table = Table::default();
        assert_eq!(table.lines(first), [r#"{"z":9223372036854775807,"a":"a\"b"}"#]);
        assert_eq!(
            table.lines(second),
            [r#"{"z":"NaN","a":"\\x00ff","z_2":[true,null]}"#]
        );
    }

    #[test]
    fn numbers_without_a_fraction_have_none() {
        assert_eq!(number(3.0).to_string(), "3");
        assert_eq!(number(-0.25).to_string(), "-0.25");
        assert_eq!(number(1e300).as_f64(), Some(1e300));
    }
}
