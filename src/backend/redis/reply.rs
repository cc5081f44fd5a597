//! Replies as JSON, written as their tokens come.
//!
//! What JSON has no word for is an object whose only or first key begins with `$`; a map that has such a key itself, or
//! one that is no text, is a list of pairs below `$map`. So every reply has one form, and can be read back.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;

use super::{
    code,
    resp::{Kind, MAX_WHOLE, Token},
};

/// A value does not fit one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Writes one value.
#[derive(Debug)]
pub(super) struct Writer {
    json: String,
    groups: Vec<Group>,
    /// Sets, pushes, big numbers and verbatim strings say what they are.
    typed: bool,
}

#[derive(Debug)]
struct Group {
    left: u64,
    shape: Shape,
    close: &'static str,
}

#[derive(Debug)]
enum Shape {
    List {
        first: bool,
    },
    /// Where each key and each value begins, and where the map does.
    Map {
        start: usize,
        marks: Vec<usize>,
    },
    /// A map, then the value that it is about.
    Attributed,
}

impl Writer {
    pub(super) const fn new(typed: bool) -> Self {
        Self {
            json: String::new(),
            groups: Vec::new(),
            typed,
        }
    }

    /// Writes a token. True if the value is complete.
    pub(super) fn token(&mut self, token: Token) -> Result<bool, TooLarge> {
        if let Token::Large(_) = token {
            return Err(TooLarge);
        }
        self.separate();
        let complete = match token {
            Token::Open(kind, count) => self.open(kind, count),
            scalar => {
                write_scalar(&mut self.json, scalar, self.typed);
                self.end_value()
            }
        };
        if self.json.len() > MAX_WHOLE {
            return Err(TooLarge);
        }
        Ok(complete)
    }

    /// What was written.
    pub(super) fn into_json(self) -> String {
        self.json
    }

    /// What stands between the value before and the next one.
    fn separate(&mut self) {
        let between = match self.groups.last_mut() {
            None => "",
            Some(Group {
                shape: Shape::List { first },
                ..
            }) => {
                if std::mem::take(first) {
                    ""
                } else {
                    ","
                }
            }
            Some(Group {
                shape: Shape::Map { marks, .. },
                ..
            }) => {
                let between = match marks.len() {
                    0 => "",
                    even if even % 2 == 0 => ",",
                    _ => ":",
                };
                marks.push(self.json.len() + between.len());
                between
            }
            Some(Group {
                shape: Shape::Attributed,
                left: 1,
                ..
            }) => ",\"value\":",
            Some(Group {
                shape: Shape::Attributed,
                ..
            }) => "",
        };
        self.json.push_str(between);
    }

    fn open(&mut self, kind: Kind, count: u64) -> bool {
        let (open, close) = match kind {
            Kind::Set if self.typed => ("{\"$set\":[", "]}"),
            Kind::Push if self.typed => ("{\"$push\":[", "]}"),
            Kind::Array | Kind::Set | Kind::Push => ("[", "]"),
            Kind::Map => ("{", "}"),
            Kind::Attribute => ("{\"$attributes\":{", "}"),
        };
        if kind == Kind::Attribute {
            let shape = Shape::Attributed;
            let (left, close) = (2, "}");
            self.groups.push(Group { left, shape, close });
        }
        self.json.push_str(open);
        let (left, shape) = match kind {
            Kind::Map | Kind::Attribute => {
                let (start, marks) = (self.json.len(), Vec::new());
                (count * 2, Shape::Map { start, marks })
            }
            Kind::Array | Kind::Set | Kind::Push => (count, Shape::List { first: true }),
        };
        self.groups.push(Group { left, shape, close });
        if count > 0 {
            return false;
        }
        self.close();
        self.end_value()
    }

    /// A value is complete, and perhaps the groups that it was the last of. True if nothing is open any more.
    fn end_value(&mut self) -> bool {
        while let Some(group) = self.groups.last_mut() {
            group.left -= 1;
            if group.left > 0 {
                return false;
            }
            self.close();
        }
        true
    }

    fn close(&mut self) {
        let Some(group) = self.groups.pop() else { return };
        if let Shape::Map { start, marks } = group.shape
            && !self.has_plain_keys(&marks)
        {
            self.pair_up(start, &marks);
        }
        self.json.push_str(group.close);
    }

    /// Whether every key is text, there once, and none of this module's own.
    fn has_plain_keys(&self, marks: &[usize]) -> bool {
        let mut seen = HashSet::new();
        marks.chunks_exact(2).all(|pair| {
            let [key, value] = *pair else { return false };
            // The colon stands between.
            let key = self.json.get(key..value - 1).unwrap_or_default();
            key.starts_with('"') && !key.starts_with("\"$") && seen.insert(key)
        })
    }

    /// Makes pairs of what was written as an object's members.
    fn pair_up(&mut self, start: usize, marks: &[usize]) {
        let members = self.json.split_off(start);
        self.json.push_str("\"$map\":[");
        for (index, pair) in marks.chunks_exact(2).enumerate() {
            let [key, value] = *pair else { continue };
            let end = marks
                .get(index * 2 + 2)
                .map_or(members.len(), |next| next - 1 - start);
            self.json.push_str(if index == 0 { "[" } else { ",[" });
            self.json
                .push_str(members.get(key - start..value - 1 - start).unwrap_or_default());
            self.json.push(',');
            self.json
                .push_str(members.get(value - start..end).unwrap_or_default());
            self.json.push(']');
        }
        self.json.push(']');
    }
}

fn write_scalar(json: &mut String, token: Token, typed: bool) {
    match token {
        Token::Null => json.push_str("null"),
        Token::Bool(true) => json.push_str("true"),
        Token::Bool(false) => json.push_str("false"),
        Token::Int(int) => json.push_str(&int.to_string()),
        Token::Double(text) => write_double(json, &text),
        Token::Big(digits) if typed || !is_integer(&digits) => {
            json.push_str("{\"$big_number\":");
            write_text(json, &digits);
            json.push('}');
        }
        Token::Big(digits) => json.push_str(&String::from_utf8_lossy(&digits)),
        Token::Text(text) => write_text(json, &text),
        Token::Verbatim(text) => write_verbatim(json, &text, typed),
        Token::Error(text) => write_error(json, &text),
        // Written by [`Writer::token`].
        Token::Large(_) | Token::Open(..) => {}
    }
}

/// Writes a string; one that is not UTF-8 as `{"$base64": …}`.
pub(super) fn write_text(json: &mut String, text: &[u8]) {
    if let Ok(text) = std::str::from_utf8(text) {
        json.push_str(&serde_json::Value::from(text).to_string());
    } else {
        json.push_str("{\"$base64\":\"");
        BASE64.encode_string(text, json);
        json.push_str("\"}");
    }
}

/// A double keeps the server's digits, and a point even if it is whole; what JSON has no number for is
/// `{"$double": …}`.
fn write_double(json: &mut String, text: &Bytes) {
    let number = std::str::from_utf8(text)
        .ok()
        .filter(|text| serde_json::from_str::<serde_json::Number>(text).is_ok());
    match number {
        Some(number) => {
            json.push_str(number);
            if is_integer(number.as_bytes()) {
                json.push_str(".0");
            }
        }
        None => {
            json.push_str("{\"$double\":");
            write_text(json, text);
            json.push('}');
        }
    }
}

fn write_verbatim(json: &mut String, text: &Bytes, typed: bool) {
    let (format, content) = text.split_at_checked(4).unwrap_or_default();
    if !typed {
        return write_text(json, content);
    }
    json.push_str("{\"$verbatim\":");
    write_text(json, format.get(..3).unwrap_or_default());
    json.push_str(",\"text\":");
    write_text(json, content);
    json.push('}');
}

/// An error in its place among other values.
fn write_error(json: &mut String, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    json.push_str("{\"$error\":{\"code\":");
    write_text(json, code::prefix(&text).as_bytes());
    json.push_str(",\"message\":");
    write_text(json, text.as_bytes());
    json.push_str("}}");
}

/// Whether it is an integer as JSON writes them.
fn is_integer(digits: &[u8]) -> bool {
    let digits = digits.strip_prefix(b"-").unwrap_or(digits);
    let leading = digits.len() > 1 && digits.first() == Some(&b'0');
    !digits.is_empty() && !leading && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::backend::redis::resp;

    fn written(text: &[u8], typed: bool) -> Result<String, TooLarge> {
        let mut incoming = BytesMut::from(text);
        let mut writer = Writer::new(typed);
        loop {
            let token = resp::next(&mut incoming).unwrap().unwrap();
            if writer.token(token)? {
                assert!(incoming.is_empty(), "complete too early");
                return Ok(writer.into_json());
            }
        }
    }

    #[test]
    fn each_type_has_one_form() {
        for (text, plain, typed) in [
            ("*0\r\n", "[]", "[]"),
            ("%0\r\n", "{}", "{}"),
            ("~1\r\n:1\r\n", "[1]", r#"{"$set":[1]}"#),
            (">2\r\n+a\r\n_\r\n", r#"["a",null]"#, r#"{"$push":["a",null]}"#),
            ("*2\r\n*1\r\n#t\r\n*0\r\n", "[[true],[]]", "[[true],[]]"),
            ("(-12\r\n", "-12", r#"{"$big_number":"-12"}"#),
            (",3\r\n", "3.0", "3.0"),
            (",1e+20\r\n", "1e+20", "1e+20"),
            (",nan\r\n", r#"{"$double":"nan"}"#, r#"{"$double":"nan"}"#),
            ("=5\r\nmkd:*\r\n", r#""*""#, r#"{"$verbatim":"mkd","text":"*"}"#),
            ("$1\r\n\"\r\n", r#""\"""#, r#""\"""#),
            (
                "*1\r\n!5\r\nOWN x\r\n",
                r#"[{"$error":{"code":"OWN","message":"OWN x"}}]"#,
                r#"[{"$error":{"code":"OWN","message":"OWN x"}}]"#,
            ),
        ] {
            assert_eq!(written(text.as_bytes(), false).unwrap(), plain, "{text:?}");
            assert_eq!(written(text.as_bytes(), true).unwrap(), typed, "{text:?}");
        }
    }

    #[test]
    fn maps_are_objects_where_their_keys_allow_it() {
        for (text, json) in [
            (
                "%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n_\r\n",
                r#"{"a":1,"b":{"c":null}}"#,
            ),
            ("%1\r\n:1\r\n:2\r\n", r#"{"$map":[[1,2]]}"#),
            ("%2\r\n+a\r\n:1\r\n+a\r\n:2\r\n", r#"{"$map":[["a",1],["a",2]]}"#),
            ("%1\r\n+$set\r\n*0\r\n", r#"{"$map":[["$set",[]]]}"#),
            (
                "%2\r\n%1\r\n:1\r\n:2\r\n*1\r\n:3\r\n+b\r\n:4\r\n",
                r#"{"$map":[[{"$map":[[1,2]]},[3]],["b",4]]}"#,
            ),
        ] {
            assert_eq!(written(text.as_bytes(), false).unwrap(), json, "{text:?}");
        }
    }

    #[test]
    fn attributes_stand_beside_the_value_that_they_are_about() {
        let text = "*2\r\n|1\r\n+ttl\r\n:5\r\n+a\r\n|0\r\n+b\r\n";
        assert_eq!(
            written(text.as_bytes(), false).unwrap(),
            r#"[{"$attributes":{"ttl":5},"value":"a"},{"$attributes":{},"value":"b"}]"#
        );
    }

    #[test]
    fn what_does_not_fit_one_message_is_too_large() {
        let text = format!("*2\r\n${MAX_WHOLE}\r\n{}\r\n:1\r\n", "x".repeat(MAX_WHOLE));
        assert_eq!(written(text.as_bytes(), false), Err(TooLarge));
        assert_eq!(written(b"*1\r\n$9999999\r\n", false), Err(TooLarge));
    }
}
