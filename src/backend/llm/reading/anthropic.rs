//! Anthropic's events. Their data names them too.

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{Step, Told, reason};

/// What a message has cost so far. Counters are cumulative: a later one takes the place of an earlier one.
#[derive(Debug, Default)]
pub(in crate::backend::llm) struct Usage(Map<String, Value>);

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<&'a str>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
    #[serde(default)]
    text: Option<String>,
}

pub(super) fn read(part: &str, told: &mut Told, usage: &mut Usage) -> Result<Step, serde_json::Error> {
    let event: Event<'_> = serde_json::from_str(part)?;
    let mut step = Step::default();
    if event.error.is_some() {
        step.error = Some(part.to_owned());
        return Ok(step);
    }
    match event.kind.unwrap_or_default().as_str() {
        "message_start" => {
            let message = event.message;
            usage.add(message.as_ref().and_then(|message| message.usage), told)?;
            told.model = message.and_then(|message| message.model);
        }
        "content_block_start" => step.begin_block(event.content_block)?,
        "content_block_delta" => step.take_delta(event.delta),
        "message_delta" => {
            usage.add(event.usage, told)?;
            let finish = event.delta.and_then(|delta| delta.stop_reason);
            told.finish = reason(finish).or(told.finish.take());
        }
        "message_stop" => step.end = true,
        "error" => step.error = Some(part.to_owned()),
        // Nothing of the answer; and a ping needs no type.
        "ping" | "content_block_stop" | "" => {}
        // Whatever there will be.
        _ => step.more = true,
    }
    Ok(step)
}

impl Step {
    /// A block of text begins with nothing, mostly; that of a tool with its name.
    fn begin_block(&mut self, block: Option<&RawValue>) -> Result<(), serde_json::Error> {
        let Some(block) = block else { return Ok(()) };
        let block: Block<'_> = serde_json::from_str(block.get())?;
        if block.kind == "text" {
            self.text = block.text.unwrap_or_default();
        } else {
            self.more = true;
        }
        Ok(())
    }

    fn take_delta(&mut self, delta: Option<Delta<'_>>) {
        match delta {
            Some(Delta {
                kind: Some("text_delta"),
                text: Some(text),
                ..
            }) => self.text = text,
            Some(_) => self.more = true,
            None => {}
        }
    }
}

impl Usage {
    fn add(&mut self, usage: Option<&RawValue>, told: &mut Told) -> Result<(), serde_json::Error> {
        let Some(usage) = usage else { return Ok(()) };
        let members: Map<String, Value> = serde_json::from_str(usage.get())?;
        let known = members.into_iter().filter(|(_, value)| !value.is_null());
        self.0.extend(known);
        told.usage = Some(serde_json::to_string(&self.0)?);
        Ok(())
    }
}

pub(super) fn whole(text: &str, told: &mut Told) -> Result<(), serde_json::Error> {
    let message: Message<'_> = serde_json::from_str(text)?;
    told.model = message.model;
    told.finish = reason(message.stop_reason);
    told.usage = message.usage.map(|usage| usage.get().to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_from_its_start_to_its_stop() {
        let (mut told, mut usage) = (Told::default(), Usage::default());
        let mut text = String::new();
        let parts = [
            r#"{"type":"message_start","message":{"model":"c","stop_reason":null,"usage":{"input_tokens":25,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"He\u0079"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":15,"input_tokens":null}}"#,
        ];
        for part in parts {
            let step = read(part, &mut told, &mut usage).unwrap();
            assert!(!step.more && !step.end && step.error.is_none(), "{part}");
            text.push_str(&step.text);
        }
        assert!(
            read(r#"{"type":"message_stop"}"#, &mut told, &mut usage)
                .unwrap()
                .end
        );
        assert_eq!(text, "Hey");
        let wanted = Told {
            model: Some("c".to_owned()),
            finish: Some("end_turn".to_owned()),
            usage: Some(r#"{"input_tokens":25,"output_tokens":15}"#.to_owned()),
        };
        assert_eq!(told, wanted, "cumulative counters replace each other");
    }

    #[test]
    fn what_is_more_than_text_is_told_so() {
        for part in [
            r#"{"type":"content_block_start","content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hm"}}"#,
            r#"{"type":"of_the_future"}"#,
        ] {
            let step = read(part, &mut Told::default(), &mut Usage::default()).unwrap();
            assert!(step.more && step.text.is_empty(), "{part}");
        }
    }

    #[test]
    fn an_error_inside_the_stream_is_one() {
        let part = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let step = read(part, &mut Told::default(), &mut Usage::default()).unwrap();
        assert_eq!(step.error.as_deref(), Some(part));
    }
}
