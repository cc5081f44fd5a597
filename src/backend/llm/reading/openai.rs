//! OpenAI's chunks, and those of all who speak as it does.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Step, Told, reason};

const END: &str = "[DONE]";

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice {
    index: u64,
    /// Of a chat.
    delta: Option<Delta>,
    /// Of a completion.
    text: Option<String>,
    logprobs: Option<IgnoredAny>,
    finish_reason: Option<String>,
}

/// A part of a message. Providers have members of their own here, which only the caller can know.
#[derive(Debug, Default)]
struct Delta {
    text: String,
    more: bool,
}

pub(super) fn read(part: &str, told: &mut Told) -> Result<Step, serde_json::Error> {
    if part.trim() == END {
        return Ok(Step {
            end: true,
            ..Step::default()
        });
    }
    let chunk: Chunk<'_> = serde_json::from_str(part)?;
    let choices = chunk.choices.unwrap_or_default();
    let mut step = Step {
        error: chunk.error.map(|_| part.to_owned()),
        only_usage: choices.is_empty() && chunk.usage.is_some(),
        ..Step::default()
    };
    for choice in choices {
        step.take_choice(choice, told);
    }
    note(told, chunk.model, chunk.usage);
    Ok(step)
}

/// The last word about usage counts: some servers tell it with every chunk.
fn note(told: &mut Told, model: Option<String>, usage: Option<&RawValue>) {
    if told.model.is_none() {
        told.model = model;
    }
    if let Some(usage) = usage {
        told.usage = Some(usage.get().to_owned());
    }
}

impl Step {
    fn take_choice(&mut self, choice: Choice, told: &mut Told) {
        let delta = choice.delta.unwrap_or_default();
        let text = choice.text.unwrap_or(delta.text);
        if choice.index == 0 {
            self.text.push_str(&text);
        }
        self.more |= delta.more || choice.logprobs.is_some() || (choice.index > 0 && !text.is_empty());
        if told.finish.is_none() || choice.index == 0 {
            told.finish = reason(choice.finish_reason).or(told.finish.take());
        }
    }
}

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Delta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a delta")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Delta, A::Error> {
                let mut delta = Delta::default();
                while let Some(name) = map.next_key::<String>()? {
                    let value: &RawValue = map.next_value()?;
                    match (name.as_str(), value.get().as_bytes().first()) {
                        ("role", _) => {}
                        ("content", Some(b'"')) => {
                            delta.text =
                                serde_json::from_str(value.get()).map_err(serde::de::Error::custom)?;
                        }
                        _ => delta.more |= !matches!(value.get(), "null" | "\"\"" | "[]" | "{}"),
                    }
                }
                Ok(delta)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Ended>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Ended {
    #[serde(default)]
    finish_reason: Option<String>,
}

pub(super) fn whole(text: &str, told: &mut Told) -> Result<(), serde_json::Error> {
    let whole: Whole<'_> = serde_json::from_str(text)?;
    let choices = whole.choices.unwrap_or_default();
    told.finish = choices
        .into_iter()
        .find_map(|choice| reason(choice.finish_reason));
    note(told, whole.model, whole.usage);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(part: &str) -> (Step, Told) {
        let mut told = Told::default();
        let step = read(part, &mut told).unwrap_or_else(|error| panic!("{part}: {error}"));
        (step, told)
    }

    fn choice(rest: &str) -> String {
        format!(r#"{{"id":"x","model":"m","choices":[{{"index":0,{rest}}}]}}"#)
    }

    #[test]
    fn text_comes_of_chats_and_completions_alike() {
        let (found, told) = step(&choice(
            r#""delta":{"role":"assistant","content":"é\n"},"finish_reason":null"#,
        ));
        assert_eq!((found.text.as_str(), found.more), ("é\n", false));
        assert_eq!((told.model.as_deref(), told.finish), (Some("m"), None));
        let (found, told) = step(&choice(
            r#""text":" ready","logprobs":null,"finish_reason":"length""#,
        ));
        assert_eq!(
            (found.text.as_str(), told.finish.as_deref()),
            (" ready", Some("length"))
        );
    }

    #[test]
    fn first_chunks_say_nothing_yet() {
        for delta in [
            r#"{"role":"assistant"}"#,
            r#"{"role":"assistant","content":"","refusal":null,"tool_calls":[]}"#,
            r#"{"content":null}"#,
            "{}",
        ] {
            let (found, _) = step(&choice(&format!(r#""delta":{delta},"finish_reason":null"#)));
            assert!(!found.is_token() && !found.only_usage, "{delta}");
        }
        let (azure, _) = step(r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}],"usage":null}"#);
        assert!(!azure.is_token() && !azure.only_usage);
    }

    #[test]
    fn what_is_more_than_text_is_told_so() {
        for rest in [
            r#""delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}"#,
            r#""delta":{"function_call":{"name":"f"}}"#,
            r#""delta":{"refusal":"no"}"#,
            r#""delta":{"content":null,"reasoning_content":"hm"}"#,
            r#""delta":{"content":[{"type":"thinking"}]}"#,
            r#""delta":{"content":"a"},"logprobs":{"content":[]}"#,
        ] {
            assert!(step(&choice(rest)).0.more, "{rest}");
        }
        let (other, _) = step(r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#);
        assert_eq!((other.text.as_str(), other.more), ("", true));
    }

    #[test]
    fn usage_errors_and_the_end_are_known() {
        let (found, told) = step(r#"{"choices":[],"usage":{"prompt_tokens":58, "total_tokens":66}}"#);
        assert!(found.only_usage);
        assert_eq!(
            told.usage.as_deref(),
            Some(r#"{"prompt_tokens":58, "total_tokens":66}"#)
        );
        let error = r#"{"error":{"message":"gone","code":502}}"#;
        assert_eq!(step(error).0.error.as_deref(), Some(error));
        assert_eq!(step(r#"{"error":null,"choices":[]}"#).0, Step::default());
        assert!(step("[DONE]").0.end);
        assert!(read("{\"choices\":[", &mut Told::default()).is_err());
    }

    #[test]
    fn the_first_choice_says_why_the_model_stopped() {
        let mut told = Told::default();
        for (index, finish) in [(1, "\"stop\""), (0, "\"length\""), (1, "null"), (0, "null")] {
            let part =
                format!(r#"{{"choices":[{{"index":{index},"delta":{{}},"finish_reason":{finish}}}]}}"#);
            read(&part, &mut told).unwrap();
        }
        assert_eq!(told.finish.as_deref(), Some("length"));
    }
}
