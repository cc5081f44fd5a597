//! Arguments from JSON and rows to JSON, for calls that carry JSON.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use super::{
    array::{self, DIMENSIONS, Item},
    builtin::{Scalar, Type},
    bytea,
    decode::{self, null, value},
};
use crate::{
    error::Faults,
    proto::{self, value::Kind},
};

/// Every argument of a call as [`from_json`] reads it; `field` is where they come from, `params.args`.
///
/// # Errors
/// Every argument's fault, at `field[INDEX]`.
pub(crate) fn all_from_json(field: &str, args: &[&RawValue]) -> Result<Vec<proto::Value>, Faults> {
    let mut faults = Faults::default();
    let mut values = Vec::with_capacity(args.len());
    for (index, json) in args.iter().enumerate() {
        match from_json(json) {
            Ok(value) => values.push(value),
            Err(message) => faults.add(&format!("{field}[{index}]"), message),
        }
    }
    if faults.is_empty() {
        Ok(values)
    } else {
        Err(faults)
    }
}

/// The value of an argument that was given as JSON. Numbers keep their digits: what is not an integer of 64 bits is
/// the number's own text. Objects are their own text, byte for byte; lists are lists, so a JSON array for a `jsonb`
/// has to be sent as a string.
///
/// # Errors
/// What is wrong with it, for people: a string that is not Unicode, a list of more dimensions than Postgres has.
pub(crate) fn from_json(json: &RawValue) -> Result<proto::Value, String> {
    at_depth(json, 0)
}

fn at_depth(json: &RawValue, depth: usize) -> Result<proto::Value, String> {
    let text = json.get();
    Ok(value(match text.as_bytes().first() {
        Some(b'n') => null(),
        Some(b't') => Kind::Bool(true),
        Some(b'f') => Kind::Bool(false),
        Some(b'"') => Kind::Text(serde_json::from_str(text).map_err(|error| error.to_string())?),
        Some(b'[') => Kind::List(list(text, depth + 1)?),
        Some(b'{') => Kind::Text(text.to_owned()),
        Some(_) | None => number(text),
    }))
}

/// Each level reads its text again, which the limit of dimensions bounds.
fn list(text: &str, depth: usize) -> Result<proto::ValueList, String> {
    if depth > DIMENSIONS {
        return Err(format!(
            "Postgres arrays have at most {DIMENSIONS} dimensions; send JSON as a string"
        ));
    }
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let values = items.into_iter().map(|item| at_depth(item, depth));
    Ok(proto::ValueList {
        values: values.collect::<Result<_, _>>()?,
    })
}

/// An integer only if its digits are the same again, which `-0` is not.
fn number(text: &str) -> Kind {
    match text.parse::<i64>() {
        Ok(int) if int.to_string() == text => Kind::Int(int),
        Ok(_) | Err(_) => Kind::Text(text.to_owned()),
    }
}

/// Writes rows as JSON objects, members in the columns' order.
#[derive(Debug)]
pub(crate) struct JsonRows {
    /// Each column's `"name":` and type.
    columns: Vec<(String, Type)>,
}

impl JsonRows {
    /// For rows of these columns, by name and type. A name that came before gets the first of `_2`, `_3`… that no
    /// column has.
    #[must_use]
    pub(crate) fn of(columns: &[(&str, Type)]) -> Self {
        let mut taken: HashSet<String> = HashSet::new();
        let own: HashSet<&str> = columns.iter().map(|(name, _)| *name).collect();
        let mut next: HashMap<&str, usize> = HashMap::new();
        let keys = columns.iter().map(|(name, column)| {
            let mut key = (*name).to_owned();
            while !taken.insert(key.clone()) {
                let suffix = next.entry(name).or_insert(2);
                key = format!("{name}_{suffix}");
                *suffix += 1;
                if own.contains(key.as_str()) {
                    key = (*name).to_owned();
                }
            }
            let mut member = String::new();
            string(&key, &mut member);
            member.push(':');
            (member, *column)
        });
        Self {
            columns: keys.collect(),
        }
    }

    /// One row, of cells in text format. Small integers and finite floats are numbers; `int8` and `numeric` are
    /// strings, because many readers of JSON would change their digits; JSON is embedded byte for byte; arrays are
    /// lists of the same; all else is the server's text, bytes always in hex.
    #[must_use]
    pub(crate) fn row<'a>(&self, cells: impl IntoIterator<Item = Option<&'a [u8]>>) -> String {
        let mut json = String::from("{");
        for (index, ((key, column), cell)) in self.columns.iter().zip(cells).enumerate() {
            if index > 0 {
                json.push(',');
            }
            json.push_str(key);
            match cell {
                Some(cell) => write_cell(*column, &String::from_utf8_lossy(cell), &mut json),
                None => json.push_str("null"),
            }
        }
        json.push('}');
        json
    }
}

fn write_cell(column: Type, text: &str, json: &mut String) {
    match column {
        Type::Scalar(scalar) => write_scalar(scalar, text, json),
        Type::Array { element, delimiter } => match array::parse(text, delimiter) {
            Some(items) => write_items(element, &items, json),
            None => string(text, json),
        },
    }
}

fn write_items(element: Scalar, items: &[Item<'_>], json: &mut String) {
    json.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        match item {
            Item::Null => json.push_str("null"),
            Item::Text(text) => write_scalar(element, text, json),
            Item::List(items) => write_items(element, items, json),
        }
    }
    json.push(']');
}

fn write_scalar(scalar: Scalar, text: &str, json: &mut String) {
    match scalar {
        Scalar::Bool => match decode::truth(text) {
            Some(truth) => json.push_str(if truth { "true" } else { "false" }),
            None => string(text, json),
        },
        // The server's own text of a number is JSON, except for what JSON has no numbers for.
        Scalar::Int | Scalar::Float if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
            embed(text, json);
        }
        Scalar::Json => embed(text, json),
        Scalar::Bytes => match bytea::parse(text) {
            Some(_) if text.starts_with("\\x") => string(text, json),
            Some(bytes) => string(&bytea::hex(&bytes), json),
            None => string(text, json),
        },
        Scalar::Int | Scalar::Float | Scalar::Int8 | Scalar::Text => string(text, json),
    }
}

/// Text that is JSON goes in as it is. That is looked at, because one cell must never break a whole answer.
fn embed(text: &str, json: &mut String) {
    if serde_json::from_str::<&RawValue>(text).is_ok() {
        json.push_str(text);
    } else {
        string(text, json);
    }
}

/// Appends a JSON string.
fn string(text: &str, json: &mut String) {
    json.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c| matches!(c, '"' | '\\' | '\0'..='\x1f')) {
        let (plain, special) = rest.split_at(at);
        json.push_str(plain);
        let mut chars = special.chars();
        match chars.next() {
            Some('\n') => json.push_str("\\n"),
            Some('\t') => json.push_str("\\t"),
            Some('\r') => json.push_str("\\r"),
            Some(c @ ('"' | '\\')) => json.extend(['\\', c]),
            Some(control) => json.push_str(&format!("\\u{:04x}", u32::from(control))),
            None => {}
        }
        rest = chars.as_str();
    }
    json.push_str(rest);
    json.push('"');
}
