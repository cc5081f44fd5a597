//! What the parts of a streamed answer say, in each dialect.

mod anthropic;
mod ollama;
mod openai;

use prost_types::value::Kind;
use serde_json::{Map, Value};

use super::dialect::{Dialect, Doing};
use crate::backend::Event;

/// What one part of a stream says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Text of the answer.
    pub(super) text: String,
    /// It carries more of the answer than text: a tool call, another choice, a refusal.
    pub(super) more: bool,
    /// It is there only because usage was asked for.
    pub(super) only_usage: bool,
    /// The provider's error, as JSON.
    pub(super) error: Option<String>,
    /// The stream's end marker.
    pub(super) end: bool,
}

impl Step {
    /// Whether the answer itself has begun.
    pub(super) fn is_token(&self) -> bool {
        !self.text.is_empty() || self.more
    }
}

/// What a whole stream has said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) model: Option<String>,
    /// Why the model stopped, in the provider's words.
    pub(super) finish: Option<String>,
    /// What it cost, as JSON, in the provider's words.
    pub(super) usage: Option<String>,
}

impl Told {
    /// The usage, as callers have it.
    pub(super) fn usage_event(&self) -> Option<Event> {
        let Value::Object(members) = serde_json::from_str(self.usage.as_ref()?).ok()? else {
            return None;
        };
        Some(Event::Usage(usage(members)))
    }
}

fn usage(members: Map<String, Value>) -> prost_types::Struct {
    let fields = members.into_iter().map(|(name, value)| (name, figure(value)));
    prost_types::Struct {
        fields: fields.collect(),
    }
}

fn figure(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => Kind::ListValue(prost_types::ListValue {
            values: items.into_iter().map(figure).collect(),
        }),
        Value::Object(members) => Kind::StructValue(usage(members)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// Reads a stream's parts.
#[derive(Debug)]
pub(super) struct Reading {
    dialect: Dialect,
    pub(super) told: Told,
    usage: anthropic::Usage,
}

/// A part is not what the dialect has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Reading {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            told: Told::default(),
            usage: anthropic::Usage::default(),
        }
    }

    /// Reads one part.
    pub(super) fn read(&mut self, part: &str) -> Result<Step, Malformed> {
        let read = match self.dialect {
            Dialect::OpenAi | Dialect::Azure => openai::read(part, &mut self.told),
            Dialect::Anthropic => anthropic::read(part, &mut self.told, &mut self.usage),
            Dialect::Ollama => ollama::read(part, &mut self.told),
        };
        read.map_err(|_| Malformed)
    }

    /// Whether the model has said why it stopped: nothing of the answer comes after that.
    pub(super) const fn is_finished(&self) -> bool {
        self.told.finish.is_some()
    }
}

/// What an answer that was not streamed says of itself.
pub(super) fn whole(dialect: Dialect, doing: Doing, text: &str) -> Told {
    let mut told = Told::default();
    let read = match (dialect, doing) {
        (_, Doing::Raw | Doing::Models) => Ok(()),
        (Dialect::OpenAi | Dialect::Azure, _) => openai::whole(text, &mut told),
        (Dialect::Anthropic, _) => anthropic::whole(text, &mut told),
        (Dialect::Ollama, _) => ollama::whole(text, &mut told),
    };
    // What it does not say is left out; the answer is the caller's to judge.
    read.ok();
    told
}

/// A reason with a word in it: some servers send empty ones until there is one.
fn reason(written: Option<String>) -> Option<String> {
    written.filter(|reason| !reason.is_empty())
}

/// Whether a model stopped because there was no room for more.
pub(super) fn is_truncated(finish: &str) -> bool {
    matches!(finish, "length" | "max_tokens" | "model_context_window_exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streamed(dialect: Dialect, part: &str) -> bool {
        let mut reading = Reading::new(dialect);
        reading.read(part).unwrap();
        reading.is_finished()
    }

    #[test]
    fn a_reason_without_a_word_is_none() {
        for reason in ["\"\"", "null"] {
            let chunk = format!(r#"{{"choices":[{{"index":0,"finish_reason":{reason}}}]}}"#);
            assert!(!streamed(Dialect::OpenAi, &chunk), "{chunk}");
            assert_eq!(
                whole(Dialect::OpenAi, Doing::Chat, &chunk).finish,
                None,
                "{chunk}"
            );
            let delta = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":{reason}}}}}"#);
            assert!(!streamed(Dialect::Anthropic, &delta), "{delta}");
            let message = format!(r#"{{"stop_reason":{reason}}}"#);
            assert_eq!(
                whole(Dialect::Anthropic, Doing::Chat, &message).finish,
                None,
                "{message}"
            );
            // That it is done Ollama says beside.
            let line = format!(r#"{{"done":true,"done_reason":{reason}}}"#);
            assert!(streamed(Dialect::Ollama, &line), "{line}");
            let told = whole(Dialect::Ollama, Doing::Chat, &line).finish;
            assert_eq!(told.as_deref(), Some("stop"), "{line}");
        }
    }
}
