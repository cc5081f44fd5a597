//! Which fields an update changes.

#[cfg(test)]
mod tests;

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage as _, Value};
use prost_types::FieldMask;

use super::proto_json;
use crate::{
    error::Faults,
    proto::{Pool, PoolSpec},
};

/// `current` with what `change` says. Without a mask every populated field changes, and messages are merged; a masked
/// field is taken as it is, so that one which is not populated goes back to its default.
pub(super) fn merge(current: &PoolSpec, change: &Pool, mask: Option<&FieldMask>) -> Result<PoolSpec, Faults> {
    let mut target = proto_json::dynamic(current);
    let empty = PoolSpec::default();
    let source = proto_json::dynamic(change.spec.as_ref().unwrap_or(&empty));
    match mask.filter(|mask| !mask.paths.is_empty()) {
        None => overlay(&mut target, &source),
        Some(mask) => {
            let paths = read(mask, &target.descriptor())?;
            for path in paths {
                match path {
                    Path::Nothing => {}
                    Path::Spec => target = source.clone(),
                    Path::Field(fields) => set(&mut target, Some(&source), &fields),
                }
            }
        }
    }
    // The message is of the definition's own description, so it always fits.
    Ok(target.transcode_to().unwrap_or_default())
}

/// What one path of a mask means.
enum Path {
    /// It says which pool is meant, and changes nothing.
    Nothing,
    /// The whole definition.
    Spec,
    /// A field of the definition: never empty.
    Field(Vec<FieldDescriptor>),
}

fn read(mask: &FieldMask, spec: &MessageDescriptor) -> Result<Vec<Path>, Faults> {
    let mut faults = Faults::default();
    let mut paths = Vec::new();
    for path in &mask.paths {
        match read_one(path, spec) {
            Ok(path) => paths.push(path),
            Err(message) => faults.add("update_mask", format!("`{path}` {message}")),
        }
    }
    if faults.is_empty() { Ok(paths) } else { Err(faults) }
}

fn read_one(path: &str, spec: &MessageDescriptor) -> Result<Path, String> {
    match path {
        "name" | "etag" => return Ok(Path::Nothing),
        "spec" | "*" => return Ok(Path::Spec),
        "state" | "create_time" | "update_time" => return Err("is output only".into()),
        _ => {}
    }
    let Some(below) = path.strip_prefix("spec.") else {
        return Err("is not a field of a pool; paths look like `spec.sizing.max_sessions`".into());
    };
    let mut message = Some(spec.clone());
    let mut fields = Vec::new();
    for name in below.split('.') {
        let Some(inside) = message else {
            return Err("goes into a value that changes only as a whole: name the field above".into());
        };
        let Some(field) = inside.get_field_by_name(name) else {
            let names: Vec<_> = inside
                .fields()
                .map(|field| format!("`{}`", field.name()))
                .collect();
            return Err(format!(
                "is not known: `{}` has {}",
                inside.name(),
                names.join(", ")
            ));
        };
        message = merged(&field);
        fields.push(field);
    }
    Ok(Path::Field(fields))
}

/// The message of a field whose parts change one by one. Lists, maps, and durations and their like change as a whole.
fn merged(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let kind = field.kind();
    let message = kind
        .as_message()
        .filter(|_| !field.is_list() && !field.is_map())?;
    (message.package_name() != "google.protobuf").then(|| message.clone())
}

fn set(target: &mut DynamicMessage, source: Option<&DynamicMessage>, path: &[FieldDescriptor]) {
    let Some((field, below)) = path.split_first() else {
        return;
    };
    let given = source
        .filter(|source| source.has_field(field))
        .map(|source| source.get_field(field));
    if below.is_empty() {
        match given {
            Some(value) => target.set_field(field, value.into_owned()),
            None => target.clear_field(field),
        }
        return;
    }
    let inner = given.as_ref().and_then(|value| value.as_message());
    // Nothing to set, and nothing that could go back to its default.
    if inner.is_none() && !target.has_field(field) {
        return;
    }
    if let Value::Message(message) = target.get_field_mut(field) {
        set(message, inner, below);
    }
}

fn overlay(target: &mut DynamicMessage, source: &DynamicMessage) {
    for (field, value) in source.fields() {
        let both = merged(&field).is_some() && target.has_field(&field);
        if let Some(inner) = value.as_message().filter(|_| both) {
            if let Value::Message(message) = target.get_field_mut(&field) {
                overlay(message, inner);
            }
        } else {
            target.set_field(&field, value.clone());
        }
    }
}
