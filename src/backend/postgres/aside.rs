//! What a server says beside the answer: notices, and notifications of channels that the session listens to.

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{
    NoticeResponseBody, NotificationResponseBody, ParameterStatusBody,
};
use prost_types::{Struct, Value, value::Kind};

/// Bytes of a notice's message, at most: who raises one may make it as long as a value. A NOTIFY's payload has a
/// limit of the server's, 8000 bytes.
const MESSAGE: usize = 8 * 1024;

/// Something that belongs to no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Aside {
    /// A warning, or what a function raised for people.
    Notice {
        severity: String,
        sqlstate: String,
        message: String,
    },
    /// A NOTIFY on a channel.
    Notification {
        channel: String,
        payload: String,
        process_id: i32,
    },
    /// The server became a standby, or ceased to be one.
    Standby(bool),
}

impl Aside {
    pub(super) fn notice(body: &NoticeResponseBody) -> Option<Self> {
        let mut fields = body.fields();
        let (mut severity, mut sqlstate, mut message) = Default::default();
        while let Ok(Some(field)) = fields.next() {
            let place: &mut String = match field.type_() {
                b'V' => &mut severity,
                b'C' => &mut sqlstate,
                b'M' => &mut message,
                _ => continue,
            };
            let text = field.value_bytes();
            let text = String::from_utf8_lossy(text.get(..MESSAGE).unwrap_or(text));
            // A character that was cut in its middle goes.
            *place = text.trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned();
        }
        Some(Self::Notice {
            severity,
            sqlstate,
            message,
        })
    }

    pub(super) fn notification(body: &NotificationResponseBody) -> Option<Self> {
        Some(Self::Notification {
            channel: body.channel().ok()?.to_owned(),
            payload: body.message().ok()?.to_owned(),
            process_id: body.process_id(),
        })
    }

    pub(super) fn parameter(body: &ParameterStatusBody) -> Option<Self> {
        (body.name().ok()? == "in_hot_standby")
            .then(|| Self::Standby(body.value().is_ok_and(|value| value == "on")))
    }

    /// As a streaming caller sees it.
    pub(super) fn event(&self) -> Option<Struct> {
        let (name, fields) = match self {
            Self::Notice {
                severity,
                sqlstate,
                message,
            } => (
                "notice",
                vec![
                    ("severity", text(severity)),
                    ("sqlstate", text(sqlstate)),
                    ("message", text(message)),
                ],
            ),
            Self::Notification {
                channel,
                payload,
                process_id,
            } => (
                "notification",
                vec![
                    ("channel", text(channel)),
                    ("payload", text(payload)),
                    ("process_id", Kind::NumberValue(f64::from(*process_id))),
                ],
            ),
            Self::Standby(_) => return None,
        };
        let inner = Kind::StructValue(object(fields));
        Some(object(vec![(name, inner)]))
    }
}

/// Whether it tells of a setting by which the server reads a statement's literals, which it does when it prepares it.
pub(super) fn is_read_by(body: &ParameterStatusBody) -> bool {
    matches!(
        body.name(),
        Ok("DateStyle" | "IntervalStyle" | "TimeZone" | "standard_conforming_strings")
    )
}

fn text(value: &str) -> Kind {
    Kind::StringValue(value.to_owned())
}

fn object(fields: Vec<(&str, Kind)>) -> Struct {
    let fields = fields
        .into_iter()
        .map(|(name, kind)| (name.to_owned(), Value { kind: Some(kind) }));
    Struct {
        fields: fields.collect(),
    }
}
