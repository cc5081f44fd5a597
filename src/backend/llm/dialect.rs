//! What differs between providers in how they are asked: paths, headers, and what an answer's stream is made of.

use http::Method;

use super::frames::Division;
use crate::proto::llm_backend::Dialect as Wire;

/// How a provider is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenAi,
    Azure,
    Anthropic,
    Ollama,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Chat,
    Complete,
    Embed,
    Models,
    Raw,
}

/// What Anthropic's paths begin with.
const VERSION: &str = "/v1";

/// The version of Anthropic's API that this kind was written for.
pub(super) const ANTHROPIC_VERSION: &str = "2023-06-01";

impl Dialect {
    pub(super) fn read(written: i32) -> Option<Self> {
        Some(match Wire::try_from(written).ok()? {
            Wire::Unspecified | Wire::Openai => Self::OpenAi,
            Wire::Azure => Self::Azure,
            Wire::Anthropic => Self::Anthropic,
            Wire::Ollama => Self::Ollama,
        })
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "OPENAI",
            Self::Azure => "AZURE",
            Self::Anthropic => "ANTHROPIC",
            Self::Ollama => "OLLAMA",
        }
    }

    /// What paths begin with where the address has no path.
    pub(super) const fn base(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Anthropic => "/v1",
            Self::Azure | Self::Ollama => "",
        }
    }

    /// The header of the key, and what comes before the key in it.
    pub(super) const fn key(self) -> (&'static str, &'static str) {
        match self {
            Self::OpenAi | Self::Ollama => ("authorization", "Bearer "),
            Self::Azure => ("api-key", ""),
            Self::Anthropic => ("x-api-key", ""),
        }
    }

    /// Where an operation is asked for, below the address; none if the provider has no such thing. `deployment` is what
    /// Azure calls a model.
    pub(super) fn path(self, doing: Doing, deployment: &str) -> Option<(Method, String)> {
        let (get, post) = (
            |path: &str| (Method::GET, path.to_owned()),
            |path: &str| (Method::POST, path.to_owned()),
        );
        Some(match (self, doing) {
            (_, Doing::Raw) | (Self::Anthropic, Doing::Complete | Doing::Embed) => return None,
            (Self::OpenAi, Doing::Chat) => post("/chat/completions"),
            (Self::OpenAi, Doing::Complete) => post("/completions"),
            (Self::OpenAi, Doing::Embed) => post("/embeddings"),
            (Self::OpenAi, Doing::Models) => get("/models"),
            (Self::Azure, Doing::Models) => get("/openai/models"),
            (Self::Azure, Doing::Chat) => post(&azure(deployment, "chat/completions")),
            (Self::Azure, Doing::Complete) => post(&azure(deployment, "completions")),
            (Self::Azure, Doing::Embed) => post(&azure(deployment, "embeddings")),
            (Self::Anthropic, Doing::Chat) => post("/v1/messages"),
            (Self::Anthropic, Doing::Models) => get("/v1/models"),
            (Self::Ollama, Doing::Chat) => post("/api/chat"),
            (Self::Ollama, Doing::Complete) => post("/api/generate"),
            (Self::Ollama, Doing::Embed) => post("/api/embed"),
            (Self::Ollama, Doing::Models) => get("/api/tags"),
        })
    }

    /// An operation's path below an address whose own path is `base`: Anthropic's may end before the version or after
    /// it, as the official clients have it. What a caller asks for by its path stays as it is.
    pub(super) fn below<'a>(self, doing: Doing, base: &str, path: &'a str) -> &'a str {
        let versioned = self == Self::Anthropic && doing != Doing::Raw && base.ends_with(VERSION);
        let shorter = path.strip_prefix(VERSION).filter(|_| versioned);
        shorter.unwrap_or(path)
    }

    pub(super) const fn division(self) -> Division {
        match self {
            Self::OpenAi | Self::Azure | Self::Anthropic => Division::Events,
            Self::Ollama => Division::Lines,
        }
    }

    /// Whether usage comes with a stream only where it is asked for.
    pub(super) const fn asks_for_usage(self) -> bool {
        matches!(self, Self::OpenAi | Self::Azure)
    }
}

fn azure(deployment: &str, what: &str) -> String {
    let mut path = "/openai/deployments/".to_owned();
    for byte in deployment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("{path}/{what}")
}

impl Doing {
    /// What callers call it.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "chat" => Self::Chat,
            "complete" => Self::Complete,
            "embed" => Self::Embed,
            "models" => Self::Models,
            "raw" => Self::Raw,
            _ => return None,
        })
    }

    /// Whether its answer is made token by token.
    pub(super) const fn generates(self) -> bool {
        matches!(self, Self::Chat | Self::Complete)
    }
}
