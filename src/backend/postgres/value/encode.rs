//! From an argument's value to what Bind takes.

use std::borrow::Cow;

use super::{
    array::{self, DIMENSIONS},
    builtin::{self, Named},
    bytea,
};
use crate::{
    error::Faults,
    proto::{self, value::Kind},
};

/// How an argument's bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// As the type's input function reads them.
    Text,
    /// As the type's receive function reads them.
    Binary,
}

/// One parameter for Parse and Bind. Borrows from the value where it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument<'a> {
    /// How `bytes` are to be read.
    pub(crate) format: Format,
    /// The value; none for NULL.
    pub(crate) bytes: Option<Cow<'a, [u8]>>,
    /// The type; 0 where the server is to infer it.
    pub(crate) oid: u32,
}

/// Why a value cannot be an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Where below the value, such as `.list.values[2]`; empty for the value itself.
    pub(crate) path: String,
    /// What is wrong and what would be right, for people.
    pub(crate) message: String,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        let path = String::new();
        Self { path, message }
    }
}

/// Bytes that are not said to be of another type: left to be inferred, the server would take them for the binary form
/// of whatever type it finds there.
const BYTEA: u32 = 17;

/// Bind counts its parameters in 16 bits.
const ARGUMENTS: usize = u16::MAX as usize;

/// Every argument of a call; `field` is where they come from, `args` or `params.args`.
///
/// # Errors
/// Every argument's fault, at `field[INDEX]` or below it; or one at `field` if there are more than a call can have.
pub(crate) fn arguments<'a>(field: &str, values: &'a [proto::Value]) -> Result<Vec<Argument<'a>>, Faults> {
    if values.len() > ARGUMENTS {
        let message = format!(
            "{} arguments are too many: Postgres takes {ARGUMENTS}; send a list",
            values.len()
        );
        return Err(Faults::one(field, message));
    }
    let mut faults = Faults::default();
    let mut arguments = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        match encode(value) {
            Ok(argument) => arguments.push(argument),
            Err(refusal) => faults.add(&format!("{field}[{index}]{}", refusal.path), refusal.message),
        }
    }
    if faults.is_empty() {
        Ok(arguments)
    } else {
        Err(faults)
    }
}

/// One argument.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn encode(value: &proto::Value) -> Result<Argument<'_>, Refusal> {
    let named = type_of(value)?;
    let oid = named.map_or(0, |named| named.oid);
    let text = |bytes| Argument {
        format: Format::Text,
        bytes: Some(bytes),
        oid,
    };
    Ok(match value.kind.as_ref().ok_or_else(no_kind)? {
        Kind::Null(_) => Argument {
            format: Format::Text,
            bytes: None,
            oid,
        },
        Kind::Bytes(bytes) => Argument {
            format: Format::Binary,
            bytes: Some(Cow::Borrowed(bytes)),
            oid: if oid == 0 { BYTEA } else { oid },
        },
        Kind::Text(string) => text(Cow::Borrowed(without_nul(string)?.as_bytes())),
        Kind::List(list) => {
            let delimiter = named.map_or(',', |named| named.delimiter);
            let mut literal = String::new();
            Literal {
                text: &mut literal,
                delimiter,
            }
            .list(list, 1)?;
            text(Cow::Owned(literal.into_bytes()))
        }
        Kind::Bool(truth) => text(Cow::Borrowed(if *truth { b"t" } else { b"f" })),
        Kind::Int(int) => text(Cow::Owned(int.to_string().into_bytes())),
        Kind::Float(float) => text(Cow::Owned(float_text(*float).into_bytes())),
    })
}

fn type_of(value: &proto::Value) -> Result<Option<Named>, String> {
    let name = value.r#type.as_str();
    if name.is_empty() {
        return Ok(None);
    }
    let named = builtin::named(name)
        .ok_or_else(|| format!("unknown type `{name}`: leave it out, or cast in the SQL ($1::{name})"))?;
    let list = matches!(value.kind, Some(Kind::List(_)));
    if list && named.array == Some(false) {
        return Err(format!(
            "a list is not of type `{name}`, but of an array: `{name}[]`"
        ));
    }
    Ok(Some(named))
}

fn no_kind() -> String {
    "the value is missing: set one of its kinds; `null` is NULL".to_owned()
}

fn without_nul(text: &str) -> Result<&str, String> {
    if text.contains('\0') {
        return Err(
            "Postgres text cannot hold a NUL character: remove it, or send `bytes` to a bytea".to_owned(),
        );
    }
    Ok(text)
}

/// The shortest text that reads as the same double, without an exponent where people would write none: an integer
/// column then takes `3.0`, too.
fn float_text(float: f64) -> String {
    if float.is_infinite() {
        let sign = if float > 0.0 { "" } else { "-" };
        format!("{sign}Infinity")
    } else if float == 0.0 || (1e-5..1e16).contains(&float.abs()) {
        format!("{float}")
    } else {
        format!("{float:e}")
    }
}

/// An array literal in the making.
struct Literal<'a> {
    text: &'a mut String,
    delimiter: char,
}

impl Literal<'_> {
    fn list(&mut self, list: &proto::ValueList, depth: usize) -> Result<(), Refusal> {
        if depth > DIMENSIONS {
            return Err(format!("Postgres arrays have at most {DIMENSIONS} dimensions").into());
        }
        self.text.push('{');
        for (index, value) in list.values.iter().enumerate() {
            if index > 0 {
                self.text.push(self.delimiter);
            }
            self.element(value, depth).map_err(|inner| Refusal {
                path: format!(".list.values[{index}]{}", inner.path),
                ..inner
            })?;
        }
        self.text.push('}');
        Ok(())
    }

    /// Texts are always in quotes: every type takes them, and nothing in them can be mistaken.
    fn element(&mut self, value: &proto::Value, depth: usize) -> Result<(), Refusal> {
        if !value.r#type.is_empty() {
            let name = &value.r#type;
            return Err(format!("name the whole list's type (`{name}[]`), not an element's").into());
        }
        match value.kind.as_ref().ok_or_else(no_kind)? {
            Kind::Null(_) => self.text.push_str("NULL"),
            Kind::Bool(truth) => self.text.push(if *truth { 't' } else { 'f' }),
            Kind::Int(int) => self.text.push_str(&int.to_string()),
            Kind::Float(float) => self.text.push_str(&float_text(*float)),
            Kind::Text(text) => array::quote(without_nul(text)?, self.text),
            Kind::Bytes(bytes) => array::quote(&bytea::hex(bytes), self.text),
            Kind::List(list) => self.list(list, depth + 1)?,
        }
        Ok(())
    }
}
