//! What comes into an open session, message by message.

use prost::Message as _;
use tonic::Status;

use super::{missing, not_executed, not_sent, operation};
use crate::{
    broker::{CallRequest, SessionCall, SessionInput},
    error::{Failure, Faults},
    proto,
};

/// What came from an open session's caller. `None` if it reset the stream, or its connection broke.
pub(in crate::grpc) fn session_message(
    received: Result<proto::OpenSessionRequest, Status>,
) -> Option<SessionInput> {
    match received {
        Ok(request) => Some(session_input(request)),
        Err(status) if is_unreadable(&status) => Some(SessionInput::Broken(unreadable(&status))),
        Err(_) => None,
    }
}

/// Whether a message came that could not be decoded. What happens to a stream or its connection has a cause below it;
/// what the decoder itself says has none.
pub(in crate::grpc) fn is_unreadable(status: &Status) -> bool {
    use tonic::Code;
    let decoding = matches!(
        status.code(),
        Code::OutOfRange
            | Code::Internal
            | Code::InvalidArgument
            | Code::ResourceExhausted
            | Code::Unimplemented
    );
    decoding && std::error::Error::source(status).is_none()
}

/// The failure of a message that cannot be read.
pub(in crate::grpc) fn unreadable(status: &Status) -> Failure {
    let message = format!(
        "cannot be read ({}): send each as an OpenSessionRequest of at most 4 MiB",
        status.message()
    );
    not_sent("message", message)
}

/// A message to an open session.
fn session_input(request: proto::OpenSessionRequest) -> SessionInput {
    use proto::open_session_request::Message;
    match request.message {
        Some(Message::Call(call)) => SessionInput::Call(SessionCall {
            id: call.id,
            bytes: call.encoded_len(),
            stream: call.stream,
            more_input: call.more_input,
            request: session_call(call.operation),
        }),
        Some(Message::Input(input)) => SessionInput::Input {
            call_id: input.call_id,
            data: input.data,
            last: input.last,
        },
        Some(Message::Cancel(cancel)) => SessionInput::Cancel {
            call_id: cancel.call_id,
        },
        Some(Message::Open(_)) => broken("open", "the session is open already"),
        None => broken("message", "is required: call, input or cancel"),
    }
}

fn session_call(found: Option<proto::Operation>) -> Result<CallRequest, Failure> {
    let mut faults = Faults::default();
    match operation(found, "call.operation", &mut faults) {
        Some(call) => Ok(call),
        None => faults
            .into_result(())
            .map_or_else(not_executed, |()| Err(missing())),
    }
}

fn broken(field: &str, message: &str) -> SessionInput {
    SessionInput::Broken(not_sent(field, message))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn message_that_cannot_be_read_is_no_reset() {
        let found = session_message(Err(Status::out_of_range("5000000 bytes")));
        assert!(
            matches!(&found, Some(SessionInput::Broken(failure)) if failure.to_string().contains("5000000")),
            "{found:?}"
        );
        assert!(session_message(Err(Status::cancelled("reset"))).is_none());
        let broke = std::io::Error::other("the connection broke");
        let mut reset = Status::internal("h2 protocol error");
        reset.set_source(Arc::new(broke));
        assert!(session_message(Err(reset)).is_none());
    }
}
