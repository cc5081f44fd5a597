//! A JSON object as text that is changed in places: what nobody touches keeps its bytes, its order and its digits.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// An object's members, in the order they were written in.
#[derive(Debug)]
pub(crate) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// An object's text, and what is to be changed in it.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    text: &'a str,
    members: Vec<Member<'a>>,
    added: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Member<'a> {
    name: String,
    written: &'a str,
    fate: Fate,
}

#[derive(Debug)]
enum Fate {
    Kept,
    Removed,
    Replaced(String),
}

impl<'a> Object<'a> {
    /// Takes a text whose members were read from it.
    pub(crate) fn new(text: &'a str, members: Members<'a>) -> Self {
        let member = |(name, value): (String, &'a RawValue)| Member {
            name,
            written: value.get(),
            fate: Fate::Kept,
        };
        Self {
            text,
            members: members.0.into_iter().map(member).collect(),
            added: Vec::new(),
        }
    }

    /// Reads a text; none if it is no object.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let members = serde_json::from_str(text).ok()?;
        Some(Self::new(text, members))
    }

    /// A member's value, as it was written; of several with the name the last, which is the one that readers go by.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.members.iter().rev().find(|member| member.name == name);
        found.map(|member| member.written)
    }

    /// Whether there is such a member, and it is not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|written| written != "null")
    }

    /// A member's value if it is a string.
    pub(crate) fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// Leaves every member of that name out.
    pub(crate) fn remove(&mut self, name: &str) {
        for member in self.named(name) {
            member.fate = Fate::Removed;
        }
    }

    /// Gives every member of that name another value.
    pub(crate) fn replace(&mut self, name: &str, value: &str) {
        for member in self.named(name) {
            member.fate = Fate::Replaced(value.to_owned());
        }
    }

    /// Adds a member at the end.
    pub(crate) fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.added.push((name, value.into()));
    }

    fn named<'b>(&'b mut self, name: &'b str) -> impl Iterator<Item = &'b mut Member<'a>> {
        self.members.iter_mut().filter(move |member| member.name == name)
    }

    /// The object as it is to be now.
    pub(crate) fn written(&self) -> String {
        let mut out = Writer {
            text: String::with_capacity(self.text.len() + 64),
            empty: true,
        };
        out.text.push_str(until_brace(self.text));
        let mut at = out.text.len();
        for member in &self.members {
            let (start, end) = self.place(member);
            let lead = self.text.get(at..start).unwrap_or_default();
            match &member.fate {
                Fate::Removed => {}
                Fate::Kept => out.member(lead, member.written),
                Fate::Replaced(value) => out.member(lead, value),
            }
            at = end;
        }
        for (name, value) in &self.added {
            out.member(&format!(",\"{name}\":"), value);
        }
        out.text.push_str(self.text.get(at..).unwrap_or("}"));
        out.text
    }

    /// Where a member's value is in the text, which it is a part of.
    fn place(&self, member: &Member<'_>) -> (usize, usize) {
        let start = member.written.as_ptr().addr() - self.text.as_ptr().addr();
        (start, start + member.written.len())
    }
}

/// A text up to its first brace, included.
fn until_brace(text: &str) -> &str {
    text.split_inclusive('{').next().unwrap_or("{")
}

struct Writer {
    text: String,
    empty: bool,
}

impl Writer {
    /// Writes a member: what leads to its value, from the end of the member before, and the value.
    fn member(&mut self, lead: &str, value: &str) {
        let lead = if self.empty {
            lead.trim_start().strip_prefix(',').unwrap_or(lead)
        } else {
            lead
        };
        self.text.push_str(lead);
        self.text.push_str(value);
        self.empty = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "{ \"z\": 18446744073709551615,\n\t\"model\" : \"a\" , \"x\":1.10,\"n\":{\"b\":[1 , 2]} }";

    fn changed(text: &str, change: impl FnOnce(&mut Object<'_>)) -> String {
        let mut object = Object::read(text).unwrap();
        change(&mut object);
        let written = object.written();
        serde_json::from_str::<serde::de::IgnoredAny>(&written).unwrap_or_else(|_| panic!("{written}"));
        written
    }

    #[test]
    fn an_object_that_nobody_changes_keeps_its_bytes() {
        for text in [TEXT, "{}", " { } ", "{\"a\":1}", "{\"a\":{},\"a\":2}\n"] {
            assert_eq!(changed(text, |_| {}), text);
        }
    }

    #[test]
    fn members_are_replaced_removed_and_added_where_they_stand() {
        assert_eq!(
            changed(TEXT, |object| object.replace("model", "\"b\"")),
            TEXT.replace("\"a\"", "\"b\"")
        );
        let without = "{\n\t\"model\" : \"a\" , \"x\":1.10,\"n\":{\"b\":[1 , 2]} }";
        assert_eq!(changed(TEXT, |object| object.remove("z")), without);
        assert_eq!(
            changed("{\"a\":1,\"b\":2,\"c\":3}", |o| o.remove("b")),
            "{\"a\":1,\"c\":3}"
        );
        assert_eq!(changed("{\"a\":1,\"b\":2}", |o| o.remove("b")), "{\"a\":1}");
        assert_eq!(changed("{\"a\":1}", |o| o.remove("a")), "{}");
        assert_eq!(changed("{}", |o| o.add("a", "1")), "{\"a\":1}");
        assert_eq!(
            changed(" {\"a\":1 } ", |o| o.add("b", "2")),
            " {\"a\":1,\"b\":2 } "
        );
        let both = changed("{\"a\":1,\"b\":2}", |object| {
            object.remove("a");
            object.remove("b");
            object.add("c", "3");
            object.add("d", "4");
        });
        assert_eq!(both, "{\"c\":3,\"d\":4}");
    }

    #[test]
    fn the_last_of_several_members_is_read_and_all_are_changed() {
        let object = Object::read("{\"a\":1,\"a\":2,\"b\":null}").unwrap();
        assert_eq!(object.get("a"), Some("2"));
        assert!(object.has("a") && !object.has("b") && !object.has("c"));
        assert_eq!(
            changed("{\"a\":1,\"a\":2}", |o| o.replace("a", "3")),
            "{\"a\":3,\"a\":3}"
        );
        assert!(Object::read("[1]").is_none());
    }

    #[test]
    fn names_with_escapes_are_the_names_they_mean() {
        assert_eq!(
            changed("{\"mod\\u0065l\":1}", |o| o.replace("model", "2")),
            "{\"mod\\u0065l\":2}"
        );
    }
}
