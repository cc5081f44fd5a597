//! Ollama's lines: parts of a message, and a last one that says what it was.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Step, Told, reason};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Line<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    model: Option<String>,
    /// Of a chat.
    #[serde(borrow)]
    message: Option<Message<'a>>,
    /// Of a completion.
    response: Option<String>,
    thinking: Option<String>,
    done: bool,
    done_reason: Option<String>,
    #[serde(borrow)]
    prompt_eval_count: Option<&'a RawValue>,
    #[serde(borrow)]
    eval_count: Option<&'a RawValue>,
    #[serde(borrow)]
    total_duration: Option<&'a RawValue>,
    #[serde(borrow)]
    load_duration: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_eval_duration: Option<&'a RawValue>,
    #[serde(borrow)]
    eval_duration: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    content: Option<String>,
    thinking: Option<String>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

pub(super) fn read(part: &str, told: &mut Told) -> Result<Step, serde_json::Error> {
    let line: Line<'_> = serde_json::from_str(part)?;
    line.note(told);
    let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let message = line.message.unwrap_or_default();
    Ok(Step {
        more: said(&line.thinking) || said(&message.thinking) || message.tool_calls.is_some(),
        text: line.response.or(message.content).unwrap_or_default(),
        error: line.error.map(|_| part.to_owned()),
        end: line.done,
        only_usage: false,
    })
}

pub(super) fn whole(text: &str, told: &mut Told) -> Result<(), serde_json::Error> {
    let line: Line<'_> = serde_json::from_str(text)?;
    line.note(told);
    Ok(())
}

impl Line<'_> {
    fn note(&self, told: &mut Told) {
        if told.model.is_none() {
            told.model.clone_from(&self.model);
        }
        if self.done {
            // Older servers do not say why; that the model is done they do.
            told.finish = reason(self.done_reason.clone()).or(Some("stop".to_owned()));
        }
        told.usage = self.usage().or(told.usage.take());
    }

    fn usage(&self) -> Option<String> {
        let counters = [
            ("prompt_eval_count", self.prompt_eval_count),
            ("eval_count", self.eval_count),
            ("total_duration", self.total_duration),
            ("load_duration", self.load_duration),
            ("prompt_eval_duration", self.prompt_eval_duration),
            ("eval_duration", self.eval_duration),
        ];
        let told = counters
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let members: Vec<_> = told.map(|(name, value)| format!("\"{name}\":{value}")).collect();
        (!members.is_empty()).then(|| format!("{{{}}}", members.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chats_and_completions_are_read_to_their_last_line() {
        let mut told = Told::default();
        let chat = read(
            r#"{"model":"l","message":{"role":"assistant","content":"Hi"},"done":false}"#,
            &mut told,
        )
        .unwrap();
        assert_eq!((chat.text.as_str(), chat.more), ("Hi", false));
        let complete = read(r#"{"model":"l","response":" you","done":false}"#, &mut told).unwrap();
        assert_eq!((complete.text.as_str(), complete.end), (" you", false));
        assert_eq!(told.finish, None);
        let last = r#"{"model":"l","message":{"content":""},"done":true,"done_reason":"length","total_duration":4883583458,"prompt_eval_count":26,"eval_count":282}"#;
        assert!(read(last, &mut told).unwrap().end);
        let wanted = Told {
            model: Some("l".to_owned()),
            finish: Some("length".to_owned()),
            usage: Some(
                r#"{"prompt_eval_count":26,"eval_count":282,"total_duration":4883583458}"#.to_owned(),
            ),
        };
        assert_eq!(told, wanted);
    }

    #[test]
    fn tools_thoughts_and_errors_are_told() {
        let step = |part| read(part, &mut Told::default()).unwrap();
        assert!(
            step(r#"{"message":{"content":"","tool_calls":[{"function":{"name":"f"}}]},"done":false}"#).more
        );
        assert!(step(r#"{"message":{"content":"","thinking":"hm"},"done":false}"#).more);
        let error = r#"{"error":"an error was encountered while running the model"}"#;
        assert_eq!(step(error).error.as_deref(), Some(error));
    }
}
