//! Answers as messages.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use prost::Message as _;
use prost_types::{ListValue, Struct, value::Kind};
use serde_json::Value;

use super::status;
use crate::{
    backend::{Event, Output},
    broker::{Answer, Info, LeasedSession, Renewed, SessionOutput, UNARY_LIMIT},
    clock::Clock,
    lease::{End, Status},
    proto,
};

/// The largest integer that a double holds without doubt.
const SAFE_INTEGER: u64 = 1 << 53;

/// A span as a message. Saturates far beyond what a broker lives.
pub(super) fn duration(span: Duration) -> prost_types::Duration {
    span.try_into().unwrap_or_default()
}

pub(super) fn timestamp(moment: SystemTime) -> prost_types::Timestamp {
    moment.into()
}

pub(super) const fn lease_end(end: End) -> proto::LeaseEnd {
    match end {
        End::Released => proto::LeaseEnd::Released,
        End::Expired => proto::LeaseEnd::Expired,
        End::HardLimit => proto::LeaseEnd::HardLimit,
        End::Revoked => proto::LeaseEnd::Revoked,
        End::SessionLost => proto::LeaseEnd::SessionLost,
        End::PoolDeleted => proto::LeaseEnd::PoolDeleted,
        End::BrokerStopped => proto::LeaseEnd::BrokerStopped,
        End::NotFound => proto::LeaseEnd::NotFound,
    }
}

/// A lease; `bound` ones have no ttl.
pub(super) fn lease(leased: &LeasedSession, status: Status, bound: bool, clock: &Clock) -> proto::Lease {
    let now = clock.now();
    let moment = |span| Some(timestamp(clock.wall(now + span)));
    proto::Lease {
        id: leased.id.clone(),
        pool: leased.pool().name().to_string(),
        session_id: leased.session_id.to_string(),
        endpoint: leased.endpoint.to_string(),
        fence: leased.fence_number,
        ttl: (!bound).then(|| duration(status.ttl)),
        renew_after: (!bound).then(|| duration(status.renew_after)),
        expire_time: if bound { None } else { moment(status.ttl) },
        hard_expire_time: moment(status.hard),
        waited: Some(duration(leased.waited)),
        reused: leased.reused,
    }
}

pub(super) fn lease_status(renewed: Renewed) -> proto::LeaseStatus {
    let mut status = proto::LeaseStatus {
        lease_id: renewed.id,
        ..proto::LeaseStatus::default()
    };
    match renewed.status {
        Ok(life) => {
            status.ttl = Some(duration(life.ttl));
            status.renew_after = Some(duration(life.renew_after));
        }
        Err(end) => status.set_ended(lease_end(end)),
    }
    status
}

pub(super) fn info(info: &Info) -> proto::ExecuteInfo {
    proto::ExecuteInfo {
        session_id: info.session_id.to_string(),
        endpoint: info.endpoint.to_string(),
        attempt: info.attempt,
        reused: info.reused,
        fence: info.fence,
        waited: Some(duration(info.waited)),
        elapsed: Some(duration(info.elapsed)),
    }
}

/// An answer. Moved out of its Arc where nobody else keeps it.
pub(super) fn result(answer: Arc<Answer>) -> proto::Result {
    match Arc::try_unwrap(answer) {
        Ok(answer) => {
            let head = info(&answer.info);
            with_info(answer.output, answer.attributes, answer.want_text, head)
        }
        Err(shared) => {
            let output = match &shared.output {
                Output::None => Output::None,
                Output::Json(text) => Output::Json(text.clone()),
                Output::Rows(rows) => Output::Rows(rows.clone()),
                Output::Body(bytes) => Output::Body(bytes.clone()),
            };
            let attributes = shared.attributes.clone();
            with_info(output, attributes, shared.want_text, info(&shared.info))
        }
    }
}

fn with_info(
    output: Output,
    attributes: Vec<(String, String)>,
    want_text: bool,
    info: proto::ExecuteInfo,
) -> proto::Result {
    use proto::result::Output as Wire;
    let output = match output {
        Output::None => None,
        Output::Json(text) => Some(json(text, want_text)),
        Output::Rows(rows) => Some(Wire::Rows(rows)),
        Output::Body(bytes) => Some(Wire::Body(bytes)),
    };
    proto::Result {
        output,
        attributes: attributes.into_iter().collect(),
        info: Some(info),
    }
}

/// JSON as text, if the caller sent text, a number in it does not fit a double, or it would be too large as a value,
/// which takes up to six times the text's size; else as a value.
fn json(text: String, want_text: bool) -> proto::result::Output {
    use proto::result::Output as Wire;
    if want_text {
        return Wire::JsonText(text);
    }
    let value = match serde_json::from_str::<Value>(&text) {
        Ok(value) if fits_double(&value) => proto_value(value),
        _ => return Wire::JsonText(text),
    };
    if value.encoded_len() > UNARY_LIMIT {
        return Wire::JsonText(text);
    }
    Wire::Json(value)
}

/// Whether every integer of a value is held by a double without loss.
fn fits_double(value: &Value) -> bool {
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number <= SAFE_INTEGER,
            (_, Some(number)) => number.unsigned_abs() <= SAFE_INTEGER,
            // A whole double beyond 2^53 may have been an integer with more digits than fit.
            (None, None) => number
                .as_f64()
                .is_some_and(|number| number.fract() != 0.0 || number == 0.0),
        },
        Value::Array(items) => items.iter().all(fits_double),
        Value::Object(members) => members.values().all(fits_double),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn proto_value(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.into_iter().map(proto_value).collect(),
        }),
        Value::Object(members) => Kind::StructValue(Struct {
            fields: members
                .into_iter()
                .map(|(name, value)| (name, proto_value(value)))
                .collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

pub(super) fn event(event: Event) -> proto::Event {
    use proto::event::Event as Wire;
    let event = match event {
        Event::Head(head) => Wire::Head(head),
        Event::Data(bytes) => Wire::Data(bytes),
        Event::Text(text) => Wire::Text(text),
        Event::Json(text) => Wire::JsonText(text),
        Event::Rows(rows) => Wire::Rows(rows),
        Event::Progress(progress) => Wire::Progress(progress),
        Event::Usage(usage) => Wire::Usage(usage),
    };
    proto::Event { event: Some(event) }
}

pub(super) fn accepted(about: &Info) -> proto::Event {
    proto::Event {
        event: Some(proto::event::Event::Accepted(info(about))),
    }
}

pub(super) fn end(answer: Arc<Answer>) -> proto::Event {
    proto::Event {
        event: Some(proto::event::Event::End(result(answer))),
    }
}

/// A message from an open session.
pub(super) fn session_output(call_id: u64, output: SessionOutput) -> proto::OpenSessionResponse {
    use proto::open_session_response::Message;
    let message = match output {
        SessionOutput::Accepted(info) => Message::Event(accepted(&info)),
        SessionOutput::Event(found) => Message::Event(event(found)),
        SessionOutput::End(answer) => Message::Event(end(answer)),
        SessionOutput::Result(answer) => Message::Result(result(answer)),
        SessionOutput::Error(failure) => Message::Error(status::message(&failure)),
        SessionOutput::InputCredit(bytes) => Message::InputCredit(bytes),
    };
    proto::OpenSessionResponse {
        call_id,
        message: Some(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::limits::MAX_MESSAGE_BYTES;

    fn encoded(text: String) -> proto::Result {
        result(Arc::new(Answer {
            output: Output::Json(text),
            attributes: Vec::new(),
            info: Info::default(),
            want_text: false,
        }))
    }

    #[test]
    fn answer_within_the_limit_fits_a_message_though_it_would_not_as_a_value() {
        let text = format!("[{}0]", "0,".repeat(1 << 20));
        assert!(text.len() < UNARY_LIMIT);
        let found = encoded(text.clone());
        assert!(found.encoded_len() <= MAX_MESSAGE_BYTES);
        assert_eq!(found.output, Some(proto::result::Output::JsonText(text)));
        let small = encoded("[0]".to_owned());
        assert!(matches!(small.output, Some(proto::result::Output::Json(_))));
    }
}
