//! What a prompt is answered with, as far as it fits a message.

use serde_json::json;

use crate::backend::{
    CallError, Completion, Event, Output, Sink,
    comfyui::{files, follow::Tale, place::Place},
};

/// The answer's text.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub(super) about: (&'a Place, &'a str),
    pub(super) files: &'a [files::Found],
    pub(super) tale: &'a Tale,
    /// As the box wrote them; none if they are too large.
    pub(super) outputs: Option<&'a str>,
    pub(super) history: Option<&'a str>,
}

impl Document<'_> {
    /// With all that fits a message. What a prompt has made must not be lost because one of its nodes says much.
    pub(super) fn fitting(mut self) -> Result<String, CallError> {
        let mut left_out: Vec<_> = self.outputs.is_none().then_some("outputs").into_iter().collect();
        let mut told = self.text(&left_out);
        if told.len() > files::MAX_TEXT && self.history.take().is_some() {
            left_out.push("history");
            told = self.text(&left_out);
        }
        if told.len() > files::MAX_TEXT && self.outputs.take().is_some() {
            left_out.push("outputs");
            told = self.text(&left_out);
        }
        files::fitting(told)
    }

    fn text(&self, left_out: &[&str]) -> String {
        let files: Vec<_> = self.files.iter().map(files::Found::json).collect();
        let (place, id) = self.about;
        let name = serde_json::Value::from(&*place.name);
        let (files, warnings) = (json!(files), json!(self.tale.warnings));
        let mut told = format!(
            r#"{{"prompt_id":"{id}","endpoint":{name},"status":"success","files":{files},"warnings":{warnings}"#
        );
        for (member, text) in [("outputs", self.outputs), ("history", self.history)] {
            if let Some(text) = text {
                told.push_str(&format!(r#","{member}":{text}"#));
            }
        }
        if self.tale.degraded {
            told.push_str(r#","degraded":true"#);
        }
        if !left_out.is_empty() {
            told.push_str(&format!(r#","left_out":{}"#, json!(left_out)));
        }
        told.push('}');
        told
    }
}

/// What the box says of a failure; without the tensors that its node was given, if those make it too large.
pub(super) fn shortened(data: &str) -> String {
    if data.len() <= files::MAX_TEXT {
        return data.to_owned();
    }
    let mut told: serde_json::Map<String, serde_json::Value> = serde_json::from_str(data).unwrap_or_default();
    told.retain(|name, _| !["current_inputs", "current_outputs"].contains(&name.as_str()));
    let told = serde_json::Value::from(told).to_string();
    if told.len() <= files::MAX_TEXT {
        told
    } else {
        "null".to_owned()
    }
}

/// The last event of a stream, or the whole of an answer.
pub(super) async fn answer(sink: &mut Sink, event: &str, told: String) -> Result<Completion, CallError> {
    if !sink.streams() {
        return Ok(Completion {
            output: Output::Json(told),
            ..Completion::default()
        });
    }
    let rest = told.strip_prefix('{').unwrap_or_default();
    files::send(sink, Event::Json(format!(r#"{{"event":"{event}",{rest}"#))).await?;
    Ok(Completion::default())
}
