//! What calls leave out and the pool or the dialect fills in: a model, an alias's meaning, limits, a question for usage.

use super::{definition::Provider, dialect::Dialect};
use crate::{backend::object::Object, error::Faults};

/// Tokens that Anthropic is asked for where neither the call nor the pool says how many: it demands a number, and each
/// of its models allows as many.
const ANTHROPIC_TOKENS: u32 = 4096;

/// A prompt is a chat's one message.
pub(super) fn spell_out_prompt(object: &mut Object<'_>, faults: &mut Faults) {
    if !object.has("prompt") {
        return object.remove("prompt");
    }
    let Some(prompt) = object.get("prompt").filter(|written| written.starts_with('"')) else {
        return faults.add(
            "params.prompt",
            "must be text; for more than text send `messages`",
        );
    };
    if object.has("messages") {
        faults.add("params.prompt", "must not be there beside `messages`");
    }
    object.remove("prompt");
    object.remove("messages");
    object.add(
        "messages",
        format!("[{{\"role\":\"user\",\"content\":{prompt}}}]"),
    );
}

/// Sees to it that the request names a model if anyone does, and gives its name.
pub(super) fn name_model(object: &mut Object<'_>, provider: &Provider) -> String {
    let given = object.string("model");
    let named = given.as_deref().unwrap_or(&provider.defaults.model);
    let model = provider
        .aliases
        .get(named)
        .map_or(named, String::as_str)
        .to_owned();
    let changed = given.as_deref() != Some(model.as_str()) && !model.is_empty();
    let absent = !object.has("model");
    if changed && (given.is_some() || absent) {
        let written = serde_json::Value::from(model.as_str()).to_string();
        if object.get("model").is_some() {
            object.replace("model", &written);
        } else {
            object.add("model", written);
        }
    }
    model
}

/// Adds how many tokens there may be, and the temperature, where only the pool says so.
pub(super) fn limit(object: &mut Object<'_>, provider: &Provider) {
    let tokens = provider.defaults.max_tokens.map(|most| most.to_string());
    let heat = provider.defaults.temperature.map(|heat| heat.to_string());
    let demanded = tokens.clone().or(Some(ANTHROPIC_TOKENS.to_string()));
    match provider.dialect {
        Dialect::Ollama => into_options(
            object,
            [
                ("max_tokens", "num_predict", tokens),
                ("temperature", "temperature", heat),
            ],
        ),
        // Its newer models have another name for it, and refuse both.
        Dialect::OpenAi | Dialect::Azure if object.has("max_completion_tokens") => {
            add_missing(object, [("temperature", heat)]);
        }
        Dialect::OpenAi | Dialect::Azure => {
            add_missing(object, [("max_tokens", tokens), ("temperature", heat)])
        }
        Dialect::Anthropic => add_missing(object, [("max_tokens", demanded), ("temperature", heat)]),
    }
}

fn add_missing<const N: usize>(object: &mut Object<'_>, members: [(&'static str, Option<String>); N]) {
    for (name, value) in members {
        if let (Some(value), None) = (value, object.get(name)) {
            object.add(name, value);
        }
    }
}

/// Ollama has these among its options, by names of its own.
fn into_options(object: &mut Object<'_>, members: [(&'static str, &'static str, Option<String>); 2]) {
    let mut wanted = Vec::new();
    for (name, theirs, default) in members {
        let given = object.get(name).filter(|_| object.has(name)).map(str::to_owned);
        object.remove(name);
        wanted.extend(given.or(default).map(|value| (theirs, Some(value))));
    }
    let written = object.get("options").filter(|_| object.has("options"));
    let Some(mut options) = Object::read(written.unwrap_or("{}")).filter(|_| !wanted.is_empty()) else {
        return;
    };
    for member in wanted {
        add_missing(&mut options, [member]);
    }
    let changed = options.written();
    object.remove("options");
    object.add("options", changed);
}

/// What the call itself says about streaming.
pub(super) fn read_stream(object: &mut Object<'_>, faults: &mut Faults) -> Option<bool> {
    match object.get("stream") {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some("null") => {
            object.remove("stream");
            None
        }
        Some(_) => {
            faults.add("params.stream", "must be true or false, or left out");
            None
        }
    }
}

/// What is done about usage in a streamed answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// It comes by itself, or the caller or the pool has decided.
    AsItIs,
    /// The broker asks for it, among the caller's own options.
    Added,
    /// The broker asks for it, when it is known that the answer is streamed.
    ToBeAdded,
}

impl Usage {
    pub(super) fn read(object: &mut Object<'_>, provider: &Provider) -> Self {
        if !provider.ask_for_usage || !provider.dialect.asks_for_usage() {
            return Self::AsItIs;
        }
        if !object.has("stream_options") {
            object.remove("stream_options");
            return Self::ToBeAdded;
        }
        let options = object.get("stream_options").and_then(Object::read);
        let Some(mut options) = options.filter(|options| options.get("include_usage").is_none()) else {
            return Self::AsItIs;
        };
        options.add("include_usage", "true");
        object.replace("stream_options", &options.written());
        Self::Added
    }
}
