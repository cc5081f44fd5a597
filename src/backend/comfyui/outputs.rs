//! What nodes have put out, as text: bytes and order stay.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::plan::Wanted;

/// The outputs of those nodes that are wanted, as the box wrote them and in its order.
pub(super) fn chosen<'a>(outputs: &'a RawValue, wanted: &Wanted) -> Cow<'a, str> {
    match serde_json::from_str::<Members<'_>>(outputs.get()) {
        Ok(members) if wanted.nodes.is_some() => {
            let members = members.0.iter().filter(|(node, _)| wanted.takes(node));
            object(members.map(|(node, output)| (node.as_str(), output.get()))).into()
        }
        Ok(_) | Err(_) => outputs.get().into(),
    }
}

/// An object of members whose values are JSON already.
pub(super) fn object<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let members: Vec<_> = members
        .map(|(name, value)| format!("{}:{value}", Value::from(name)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// An object's members in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> serde::de::Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outputs_of_some_nodes_keep_their_bytes_and_their_order() {
        let text = r#"{"10": {"seed": [18446744073709551615, 1.50]}, "2":{"b":[], "a":[]}, "3":null}"#;
        let outputs = RawValue::from_string(text.to_owned()).unwrap();
        let wanted = |nodes: &[&str]| Wanted {
            nodes: Some(nodes.iter().map(|node| (*node).to_owned()).collect()),
            ..Wanted::default()
        };
        assert_eq!(chosen(&outputs, &Wanted::default()), text);
        assert_eq!(
            chosen(&outputs, &wanted(&["2", "10"])),
            r#"{"10":{"seed": [18446744073709551615, 1.50]},"2":{"b":[], "a":[]}}"#
        );
        assert_eq!(chosen(&outputs, &wanted(&["4"])), "{}");
    }
}
