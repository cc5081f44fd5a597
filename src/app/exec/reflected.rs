//! Messages as the JSON that protobuf defines, by the protos' descriptors.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::proto::DESCRIPTORS;

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).ok());

/// A message's JSON text; none if the protos do not have it, or something in it.
pub(super) fn json<M: Message>(name: &str, message: &M) -> Option<String> {
    let descriptor = POOL.as_ref()?.get_message_by_name(name)?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).ok()?;
    serde_json::to_string(&dynamic).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Event, event};

    #[test]
    fn an_event_is_written_as_protobuf_writes_it() {
        let event = Event {
            event: Some(event::Event::Data(b"\xff\0".to_vec().into())),
        };
        assert_eq!(json("sublet.v1.Event", &event).unwrap(), r#"{"data":"/wA="}"#);
    }

    #[test]
    fn an_error_is_written_with_its_details() {
        use tonic_types::{ErrorDetails, StatusExt as _};
        let details =
            ErrorDetails::with_error_info("GONE", "sublet.v1", [("executed".to_owned(), "no".to_owned())]);
        let status = tonic::Status::with_error_details(tonic::Code::Aborted, "gone", details);
        let status = tonic_types::Status::decode(status.details()).unwrap();
        let text = json("google.rpc.Status", &status).unwrap();
        for part in [
            r#""code":10"#,
            r#""reason":"GONE""#,
            r#""executed":"no""#,
            "google.rpc.ErrorInfo",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
