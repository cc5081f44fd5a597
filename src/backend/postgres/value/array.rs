//! Array literals: `{1,NULL,"a b"}`, as `array_out` writes and `array_in` reads them.

use std::borrow::Cow;

/// Postgres has no arrays of more dimensions (`MAXDIM`), which bounds the depth of every recursion here.
pub(super) const DIMENSIONS: usize = 6;

/// A part of an array.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// `NULL`.
    Null,
    /// An element's text, without quotes and escapes.
    Text(Cow<'a, str>),
    /// The next dimension.
    List(Vec<Self>),
}

/// The items of an array literal; none if it is not one, or has lower bounds of its own (`[0:1]={…}`), which a list
/// could not keep.
pub(super) fn parse(text: &str, delimiter: char) -> Option<Vec<Item<'_>>> {
    let mut parser = Parser {
        rest: text,
        delimiter,
    };
    let items = parser.list(1)?;
    parser.rest.is_empty().then_some(items)
}

struct Parser<'a> {
    rest: &'a str,
    delimiter: char,
}

impl<'a> Parser<'a> {
    fn list(&mut self, depth: usize) -> Option<Vec<Item<'a>>> {
        self.take('{')?;
        let mut items = Vec::new();
        if self.take('}').is_some() {
            return Some(items);
        }
        loop {
            items.push(self.item(depth)?);
            if self.take('}').is_some() {
                return Some(items);
            }
            self.take(self.delimiter)?;
        }
    }

    fn item(&mut self, depth: usize) -> Option<Item<'a>> {
        match self.rest.as_bytes().first()? {
            b'{' if depth < DIMENSIONS => self.list(depth + 1).map(Item::List),
            b'"' => self.quoted(),
            _ => self.bare(),
        }
    }

    fn quoted(&mut self) -> Option<Item<'a>> {
        self.take('"')?;
        let (plain, rest) = self.rest.split_at(self.rest.find(['"', '\\'])?);
        self.rest = rest;
        if self.take('"').is_some() {
            return Some(Item::Text(Cow::Borrowed(plain)));
        }
        let mut text = plain.to_owned();
        let mut chars = rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => text.push(chars.next()?),
                other => text.push(other),
            }
        }
        self.rest = chars.as_str();
        Some(Item::Text(Cow::Owned(text)))
    }

    /// The server quotes whatever could be taken for something else, a text `NULL` among them.
    fn bare(&mut self) -> Option<Item<'a>> {
        let end = self.rest.find([self.delimiter, '}'])?;
        let (text, rest) = self.rest.split_at(end);
        if text.is_empty() || text.contains(['{', '"', '\\']) {
            return None;
        }
        self.rest = rest;
        Some(if text.eq_ignore_ascii_case("NULL") {
            Item::Null
        } else {
            Item::Text(Cow::Borrowed(text))
        })
    }

    fn take(&mut self, expected: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }
}

/// Appends an element's text in quotes, which every element type takes.
pub(super) fn quote(text: &str, literal: &mut String) {
    literal.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal.push('"');
}
