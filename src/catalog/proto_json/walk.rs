//! Walks JSON beside the description of the message it should be, so that every fault has its path: the reader of
//! the whole message stops at the first, and does not say where it was.

use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::people;
use crate::error::Faults;

/// Reads a message as it is; unknown keys are an error.
pub(super) fn read(descriptor: &MessageDescriptor, value: Value) -> Result<DynamicMessage, String> {
    let options = DeserializeOptions::new();
    DynamicMessage::deserialize_with_options(descriptor.clone(), value, &options)
        .map_err(|error| error.to_string())
}

/// What was found on the way.
pub(super) struct Walk {
    strict: bool,
    /// Every fault; none if lenient.
    pub(super) faults: Faults,
    /// Paths of unknown keys; none if strict.
    pub(super) ignored: Vec<String>,
}

impl Walk {
    /// Refuses unknown keys; takes what people write.
    pub(super) fn strict(at: &str) -> Self {
        Self {
            strict: true,
            faults: Faults::below(at),
            ignored: Vec::new(),
        }
    }

    /// Leaves out unknown keys.
    pub(super) fn lenient() -> Self {
        Self {
            strict: false,
            faults: Faults::default(),
            ignored: Vec::new(),
        }
    }

    /// The value in canonical form, without unknown keys.
    pub(super) fn message(&mut self, value: Value, message: &MessageDescriptor, path: &str) -> Value {
        let Value::Object(members) = value else {
            self.fault(path, "must be an object");
            return value;
        };
        let mut known = Map::new();
        for (key, value) in members {
            let field = message
                .get_field_by_json_name(&key)
                .or_else(|| message.get_field_by_name(&key));
            let Some(field) = field else {
                self.unknown(below(path, &key), message);
                continue;
            };
            let path = below(path, field.name());
            let value = self.field(value, &field, &path);
            if known.insert(field.json_name().to_owned(), value).is_some() {
                self.fault(&path, "is there twice, in two spellings");
            }
        }
        Value::Object(known)
    }

    fn unknown(&mut self, path: String, message: &MessageDescriptor) {
        if self.strict {
            let names: Vec<_> = message
                .fields()
                .map(|field| format!("`{}`", field.name()))
                .collect();
            self.faults.add(
                &path,
                format!("is not known here; known are {}", names.join(", ")),
            );
        } else {
            self.ignored.push(path);
        }
    }

    fn field(&mut self, value: Value, field: &FieldDescriptor, path: &str) -> Value {
        match (value, field.kind()) {
            (Value::Null, _) => Value::Null,
            (Value::Object(members), Kind::Message(entry)) if field.is_map() => {
                let of = entry.map_entry_value_field();
                let members = members.into_iter();
                let walked = members.map(|(key, value)| {
                    let value = self.single(value, &of, &below(path, &key));
                    (key, value)
                });
                Value::Object(walked.collect())
            }
            (Value::Array(items), _) if field.is_list() => {
                let items = items.into_iter().enumerate();
                let walked = items.map(|(index, item)| self.single(item, field, &format!("{path}[{index}]")));
                Value::Array(walked.collect())
            }
            (value, _) if field.is_map() => {
                self.fault(path, "must be an object");
                value
            }
            (value, _) if field.is_list() => {
                self.fault(path, "must be a list");
                value
            }
            (value, _) => self.single(value, field, path),
        }
    }

    fn single(&mut self, value: Value, field: &FieldDescriptor, path: &str) -> Value {
        let kind = field.kind();
        if let Some(message) = kind
            .as_message()
            .filter(|message| message.package_name() != "google.protobuf")
        {
            return self.message(value, message, path);
        }
        if !self.strict {
            return value;
        }
        match people::canonical(value, &kind) {
            Ok(value) => {
                self.check(&value, field, path);
                value
            }
            Err(fault) => {
                self.fault(path, &fault);
                Value::Null
            }
        }
    }

    /// Reads the one value alone, so that a misfit has its path.
    fn check(&mut self, value: &Value, field: &FieldDescriptor, path: &str) {
        let value = if field.is_list() {
            Value::Array(vec![value.clone()])
        } else {
            value.clone()
        };
        let alone = Map::from_iter([(field.json_name().to_owned(), value)]);
        if read(field.parent_message(), Value::Object(alone)).is_err() {
            self.fault(path, people::expected(&field.kind()));
        }
    }

    fn fault(&mut self, path: &str, message: &str) {
        if self.strict {
            self.faults.add(path, message);
        }
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
