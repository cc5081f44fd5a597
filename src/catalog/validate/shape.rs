//! What no definition may have, whatever its kind: more text than a store's row should hold, and the one character
//! that a Postgres store cannot hold.

use serde_json::Value;

use crate::{catalog::proto_json, error::Faults, proto::PoolSpec};

/// A page of definitions must fit into an answer, and nobody means to write a longer one.
const LONGEST: usize = 64 * 1024;

pub(super) fn check(spec: &PoolSpec, faults: &mut Faults) {
    let value = proto_json::readable(spec);
    let length = value.to_string().len();
    if length > LONGEST {
        faults.add(
            "",
            format!("is {length} bytes of JSON: at most {LONGEST} are kept"),
        );
    }
    find_nul("", &value, faults);
}

fn find_nul(path: &str, value: &Value, faults: &mut Faults) {
    match value {
        Value::String(text) if text.contains('\0') => faults.add(path, "holds a NUL character"),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_nul(&format!("{path}[{index}]"), item, faults);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                if key.contains('\0') {
                    faults.add(&path, "holds a NUL character");
                }
                find_nul(&path, member, faults);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
