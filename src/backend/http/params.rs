//! The params of `request`, in the shapes that people write them in.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The envelope of a request. What is sent as its body keeps its bytes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Envelope {
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) query: Option<Query>,
    pub(super) headers: Pairs<Values>,
    #[serde(deserialize_with = "given")]
    pub(super) json: Option<Box<RawValue>>,
    pub(super) text: Option<String>,
    pub(super) hex: Option<String>,
    pub(super) follow_redirects: u8,
}

/// One or several values of a header.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a header's value is a string, or a list of strings")]
pub(super) enum Values {
    One(String),
    Many(Vec<String>),
}

/// An object's members, in the order they were written in.
#[derive(Debug)]
pub(super) struct Pairs<T>(pub(super) Vec<(String, T)>);

/// A query, encoded.
#[derive(Debug)]
pub(super) struct Query(pub(super) String);

impl Values {
    pub(super) fn list(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Pairs(members))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Query {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match raw.get().as_bytes().first() {
            Some(b'"') => read(&raw).map(|text: String| Self(text.trim_start_matches('?').to_owned())),
            Some(b'{') => encode(read::<Pairs<Box<RawValue>>, _>(&raw)?).map(Self),
            _ => Err(de::Error::custom("query must be a string, or an object")),
        }
    }
}

fn read<T: DeserializeOwned, E: de::Error>(raw: &RawValue) -> Result<T, E> {
    serde_json::from_str(raw.get()).map_err(E::custom)
}

fn encode<E: de::Error>(pairs: Pairs<Box<RawValue>>) -> Result<String, E> {
    let mut query = String::new();
    for (name, raw) in &pairs.0 {
        for value in values(name, raw)? {
            if !query.is_empty() {
                query.push('&');
            }
            percent_encode(name, &mut query);
            query.push('=');
            percent_encode(&value, &mut query);
        }
    }
    Ok(query)
}

/// A member's values as text: numbers keep their digits.
fn values<E: de::Error>(name: &str, raw: &RawValue) -> Result<Vec<String>, E> {
    match raw.get().as_bytes().first() {
        Some(b'"') => Ok(vec![read(raw)?]),
        Some(b'[') => {
            let items: Vec<Box<RawValue>> = read(raw)?;
            let nested: Result<Vec<_>, E> = items.iter().map(|item| scalar(name, item)).collect();
            nested
        }
        _ => Ok(vec![scalar(name, raw)?]),
    }
}

fn scalar<E: de::Error>(name: &str, raw: &RawValue) -> Result<String, E> {
    match raw.get().as_bytes().first() {
        Some(b'"') => read(raw),
        Some(b'[' | b'{' | b'n') | None => Err(E::custom(format!(
            "query.{name} must be a string, a number, a truth value, or a list of those"
        ))),
        Some(_) => Ok(raw.get().to_owned()),
    }
}

/// Encodes all but the unreserved characters of RFC 3986.
fn percent_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// A member that is there, even if it is null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(json: &str) -> Option<String> {
        serde_json::from_str::<Query>(json).ok().map(|query| query.0)
    }

    #[test]
    fn a_query_is_text_as_it_is_or_an_object_encoded_in_its_order() {
        assert_eq!(query("\"?a=1&b\"").unwrap(), "a=1&b");
        let object = r#"{"z":"a b&c=d/é","a":18446744073709551615,"list":[1,"x",true],"none":[]}"#;
        let encoded = "z=a%20b%26c%3Dd%2F%C3%A9&a=18446744073709551615&list=1&list=x&list=true";
        assert_eq!(query(object).unwrap(), encoded);
    }

    #[test]
    fn a_query_of_other_shapes_is_refused() {
        for json in ["1", "null", "[]", r#"{"a":null}"#, r#"{"a":{}}"#, r#"{"a":[[]]}"#] {
            assert_eq!(query(json), None, "{json}");
        }
    }

    #[test]
    fn json_keeps_its_bytes_and_null_is_something() {
        let envelope: Envelope =
            serde_json::from_str(r#"{"json":{"z":1.0, "a":18446744073709551615}}"#).unwrap();
        assert_eq!(
            envelope.json.unwrap().get(),
            r#"{"z":1.0, "a":18446744073709551615}"#
        );
        let envelope: Envelope = serde_json::from_str(r#"{"json":null}"#).unwrap();
        assert_eq!(envelope.json.unwrap().get(), "null");
        assert!(serde_json::from_str::<Envelope>("{}").unwrap().json.is_none());
        assert!(serde_json::from_str::<Envelope>(r#"{"jsn":1}"#).is_err());
    }
}
