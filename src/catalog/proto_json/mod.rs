//! Definitions as proto-JSON. The store's text is canonical, and keys that this version does not know are ignored
//! there, since a newer one wrote them; files and the command line are read strictly, but may write `5m` and enum
//! values in lower case.

mod people;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use self::walk::Walk;
use crate::{
    error::Faults,
    proto::{DESCRIPTORS, Pool, PoolSpec},
};

static POOL: LazyLock<MessageDescriptor> = LazyLock::new(|| described("sublet.v1.Pool"));
static SPEC: LazyLock<MessageDescriptor> = LazyLock::new(|| described("sublet.v1.PoolSpec"));

#[allow(
    clippy::expect_used,
    reason = "the build made these descriptors from the very protos that have the messages"
)]
fn described(name: &str) -> MessageDescriptor {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("the descriptors are the build's own");
    pool.get_message_by_name(name)
        .expect("the protos have this message")
}

/// A definition as a message whose fields can be walked.
pub(super) fn dynamic(spec: &PoolSpec) -> DynamicMessage {
    let mut message = DynamicMessage::new(SPEC.clone());
    let copied = message.transcode_from(spec);
    debug_assert!(copied.is_ok(), "the descriptor is of this very message");
    message
}

/// The canonical proto-JSON of a definition.
#[must_use]
pub fn canonical(spec: &PoolSpec) -> String {
    written(spec, false).to_string()
}

/// As [`canonical`], with field names as the protos and the paths of faults write them.
#[must_use]
pub fn readable(spec: &PoolSpec) -> Value {
    written(spec, true)
}

fn written(spec: &PoolSpec, proto_names: bool) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(proto_names);
    let written = dynamic(spec).serialize_with_options(serde_json::value::Serializer, &options);
    // Only a duration beyond 10,000 years has no JSON; validation refuses it.
    written.unwrap_or_default()
}

/// A definition from the store, and the paths of keys that this version does not know.
///
/// # Errors
/// What does not fit, for the log.
pub fn stored(text: &str) -> Result<(PoolSpec, Vec<String>), String> {
    let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut walk = Walk::lenient();
    let value = walk.message(value, &SPEC, "");
    let spec = message(&SPEC, value)?;
    Ok((spec, walk.ignored))
}

/// A pool from a file or the command line. `at` names it in the faults, such as `pools[2]`.
///
/// # Errors
/// Every unknown key and every value that does not fit, with its path.
pub fn strict(value: Value, at: &str) -> Result<Pool, Faults> {
    let mut walk = Walk::strict(at);
    let value = walk.message(value, &POOL, "");
    if !walk.faults.is_empty() {
        return Err(walk.faults);
    }
    message(&POOL, value).map_err(|error| Faults::one(at, error))
}

fn message<T: Message + Default>(descriptor: &MessageDescriptor, value: Value) -> Result<T, String> {
    let message = walk::read(descriptor, value)?;
    message.transcode_to().map_err(|error| error.to_string())
}
