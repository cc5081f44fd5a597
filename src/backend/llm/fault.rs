//! What providers answer instead of an answer: the table of errors. The page on this kind has it for people.

use std::{collections::BTreeMap, time::SystemTime};

use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use tonic::Code;

use super::{excerpt, facts, retry};
use crate::error::{BackendError, Executed};

/// What an error is to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    RateLimited,
    QuotaExhausted,
    Overloaded,
    Invalid,
    Auth,
    NotFound,
    ContextLength,
    ContentFilter,
    Upstream,
    Truncated,
    Malformed,
}

impl Kind {
    /// Its name, its code, and whether trying again helps unless the provider says otherwise.
    const fn row(self) -> (&'static str, Code, bool) {
        match self {
            Self::RateLimited => ("rate_limited", Code::ResourceExhausted, true),
            Self::QuotaExhausted => ("quota_exhausted", Code::ResourceExhausted, false),
            Self::Overloaded => ("overloaded", Code::ResourceExhausted, true),
            Self::Invalid => ("invalid", Code::InvalidArgument, false),
            // The login is the pool's and not the caller's, so it is not for the caller to log in.
            Self::Auth => ("auth", Code::FailedPrecondition, false),
            Self::NotFound => ("not_found", Code::NotFound, false),
            Self::ContextLength => ("context_length", Code::OutOfRange, false),
            Self::ContentFilter => ("content_filter", Code::InvalidArgument, false),
            Self::Upstream => ("upstream_5xx", Code::Internal, true),
            Self::Truncated => ("truncated", Code::DataLoss, false),
            Self::Malformed => ("malformed", Code::DataLoss, false),
        }
    }

    /// Whether a request that was answered so was carried out. These say that the provider has not begun with it; so
    /// do 429 and 529, but 503 may come of anything on the way. A redirect is the answer to what was done, unless it was
    /// only asked for, or has to be asked for again just so.
    fn executed(self, status: StatusCode, method: &Method) -> Executed {
        match self {
            Self::NotFound if done_elsewhere(status) && !method.is_safe() => Executed::Yes,
            Self::RateLimited | Self::QuotaExhausted | Self::Auth | Self::NotFound | Self::ContextLength => {
                Executed::No
            }
            Self::Overloaded if matches!(status.as_u16(), 429 | 529) => Executed::No,
            Self::Overloaded
            | Self::Invalid
            | Self::ContentFilter
            | Self::Upstream
            | Self::Truncated
            | Self::Malformed => Executed::Yes,
        }
    }

    /// Whether no wish of the provider's to see the request again is believed.
    const fn is_hopeless(self) -> bool {
        matches!(self, Self::QuotaExhausted)
    }
}

/// What a provider said in an error's body.
#[derive(Debug, Default)]
struct Said {
    message: String,
    code: String,
    kind: String,
    request_id: Option<String>,
}

/// Whether a redirect says that the request was carried out, or does not say that it was not.
fn done_elsewhere(status: StatusCode) -> bool {
    let again = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT];
    status.is_redirection() && !again.contains(&status)
}

/// The answer to a request by `method` that is an error, and what came of its body. Secrets are out of it.
pub(super) fn of_answer(
    method: &Method,
    (status, headers): (StatusCode, &HeaderMap),
    body: &str,
    now: SystemTime,
) -> (BackendError, Executed) {
    let said = Said::read(body);
    let kind = said.classify(Some(status.as_u16()));
    let executed = kind.executed(status, method);
    (said.error(kind, (status, headers), body, now), executed)
}

/// An error inside an answer that began well.
pub(super) fn of_part(headers: &HeaderMap, part: &str, now: SystemTime) -> BackendError {
    let said = Said::read(part);
    let kind = said.classify(None);
    said.error(kind, (StatusCode::OK, headers), part, now)
}

/// An answer that is not what it should be.
pub(super) fn of_shape(
    kind: Kind,
    (status, headers): (StatusCode, &HeaderMap),
    message: &str,
    body: &str,
    now: SystemTime,
) -> BackendError {
    let said = Said {
        message: message.to_owned(),
        ..Said::default()
    };
    said.error(kind, (status, headers), body, now)
}

/// Whether a JSON text says with its first words that it is an error: some servers say so with a status of 200.
pub(super) fn is_error(text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Found {
        #[serde(default)]
        error: Option<serde::de::IgnoredAny>,
        #[serde(rename = "type", default)]
        kind: Option<Value>,
        #[serde(default)]
        object: Option<Value>,
    }
    let found: Result<Found, _> = serde_json::from_str(text);
    found.is_ok_and(|found| {
        let named = |word: Option<Value>| word.as_ref().and_then(Value::as_str) == Some("error");
        found.error.is_some() || named(found.kind) || named(found.object)
    })
}

impl Said {
    fn read(body: &str) -> Self {
        let whole: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |value: Option<&Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => String::new(),
        };
        let error = whole.get("error").unwrap_or(&whole);
        let inner = ["/details/error_code", "/innererror/code"];
        let inner = inner.iter().find_map(|path| error.pointer(path));
        let mut said = Self {
            message: text(error.get("message")),
            code: text(
                inner
                    .or_else(|| whole.pointer("/details/error_code"))
                    .or(error.get("code")),
            ),
            kind: text(error.get("type")),
            request_id: whole.get("request_id").and_then(Value::as_str).map(str::to_owned),
        };
        if said.message.is_empty() {
            let other = whole.get("error").filter(|error| error.is_string());
            let other = other.or(whole.get("detail")).map(|other| match other {
                Value::String(text) => text.clone(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    other.to_string()
                }
            });
            said.message = other.unwrap_or_else(|| body.to_owned());
        }
        said
    }

    fn classify(&self, status: Option<u16>) -> Kind {
        let (code, kind) = (self.code.to_ascii_lowercase(), self.kind.to_ascii_lowercase());
        let named = |words: &[&str]| {
            words
                .iter()
                .any(|word| code.contains(word) || kind.contains(word))
        };
        let message = self.message.to_ascii_lowercase();
        let is_refusal = status.is_none_or(|status| matches!(status, 400 | 413 | 422));
        if named(&["insufficient_quota", "current_quota", "spend_limit", "billing"]) {
            return Kind::QuotaExhausted;
        }
        if named(&["context_length", "context_size"])
            || (is_refusal && TOO_LONG.iter().any(|words| message.contains(words)))
        {
            return Kind::ContextLength;
        }
        if named(&["content_filter", "content_policy", "responsibleaipolicy"]) {
            return Kind::ContentFilter;
        }
        if named(&["overloaded"]) {
            return Kind::Overloaded;
        }
        // vLLM and gateways write the status that they would have given into the error.
        let number = status.or_else(|| code.parse().ok().filter(|number| (400..600).contains(number)));
        number.map_or_else(|| by_words(&named), by_status)
    }

    fn error(
        self,
        kind: Kind,
        (status, headers): (StatusCode, &HeaderMap),
        body: &str,
        now: SystemTime,
    ) -> BackendError {
        let (name, code, helps) = kind.row();
        let message = excerpt::of(&self.message);
        let mut metadata: BTreeMap<&'static str, String> = facts::of(headers).into_iter().collect();
        metadata.insert("kind", name.to_owned());
        metadata.insert("provider_status", status.as_u16().to_string());
        let told = [
            ("provider_code", excerpt::of(&self.code)),
            ("provider_type", excerpt::of(&self.kind)),
            ("body", excerpt::of(body)),
            ("retry_after", retry::wording(headers).unwrap_or_default()),
        ];
        metadata.extend(told.into_iter().filter(|(_, text)| !text.is_empty()));
        if let Some(id) = self.request_id {
            metadata.entry("request_id").or_insert_with(|| excerpt::of(&id));
        }
        let retry_after = retry::advice(headers, helps, now).filter(|_| !kind.is_hopeless());
        BackendError {
            code,
            message: format!("{name}: {} {message}", status.as_u16()),
            metadata,
            retry_after,
        }
    }
}

/// What servers say of a prompt that does not fit, where no code does.
const TOO_LONG: [&str; 6] = [
    "context length",
    "context window",
    "context size",
    "context limit",
    "prompt is too long",
    "input is too long",
];

const fn by_status(status: u16) -> Kind {
    match status {
        401 | 403 => Kind::Auth,
        402 => Kind::QuotaExhausted,
        // A redirect leads to where the pool's address does not.
        300..=399 | 404 => Kind::NotFound,
        // Too slow, locked, too early, and busy: what the providers' own clients try again.
        408 | 409 | 425 | 503 | 529 => Kind::Overloaded,
        429 => Kind::RateLimited,
        500..=599 => Kind::Upstream,
        _ => Kind::Invalid,
    }
}

fn by_words(named: &dyn Fn(&[&str]) -> bool) -> Kind {
    if named(&["rate_limit"]) {
        Kind::RateLimited
    } else if named(&["unavailable"]) {
        Kind::Overloaded
    } else if named(&["authentication", "permission", "api_key"]) {
        Kind::Auth
    } else if named(&["not_found"]) {
        Kind::NotFound
    } else if named(&["invalid"]) {
        Kind::Invalid
    } else {
        Kind::Upstream
    }
}
