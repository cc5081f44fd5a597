//! From an operation to a request. What the caller wrote is changed in places only: an alias, a default, what the
//! dialect calls otherwise.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header, uri::PathAndQuery};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    definition::Provider,
    dialect::{Dialect, Doing},
    filled::{Usage, limit, name_model, read_stream, spell_out_prompt},
};
use crate::{
    backend::{Body, Operation, Params, http::Asked, object::Object},
    error::Faults,
};

/// The one member that is the broker's and never sent.
const OWN: &str = "sublet";

/// A request, checked.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) doing: Doing,
    pub(super) events: Events,
    pub(super) method: Method,
    path: String,
    /// What is sent, but for what depends on whether the answer is streamed.
    body: Option<String>,
    /// What the call itself says about streaming.
    stream: Option<bool>,
    /// Usage is asked for in the broker's own name.
    asks_for_usage: bool,
    /// So that no caller has expected it.
    pub(super) hides_usage: bool,
}

/// What a streamed answer's events are.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Events {
    /// Text as text; what carries more than text also as it came.
    #[default]
    Text,
    /// Each as it came.
    Raw,
    /// Each as it came, and its text.
    Both,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Own {
    events: Events,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    path: String,
    method: Option<String>,
    #[serde(borrow, default)]
    json: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Plan {
    /// Reads an operation.
    pub(super) fn read(operation: &Operation, provider: &Provider) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        if !operation.args.is_empty() {
            faults.add("args", "`llm` takes none");
        }
        let bodiless = matches!(&operation.body, Body::Whole(bytes) if bytes.is_empty());
        if !bodiless {
            faults.add("body", "`llm` takes none: what is sent is in the params");
        }
        let text = operation.params.text();
        let plan = match Doing::named(&operation.name) {
            None => {
                let message = format!(
                    "`{}` is not an operation of `llm`: it has chat, complete, embed, models, raw",
                    operation.name
                );
                faults.add("name", message);
                None
            }
            Some(Doing::Raw) => keep(&mut faults, operation.params.parse_borrowed(&text))
                .and_then(|raw| Self::raw(&raw, &mut faults)),
            Some(Doing::Models) => keep(&mut faults, operation.params.parse_borrowed::<Nothing>(&text))
                .and_then(|_| Self::listing(provider, &mut faults)),
            Some(doing) => keep(&mut faults, operation.params.parse_borrowed(&text)).and_then(|members| {
                let object = Object::new(&text, members);
                Self::of_model(doing, object, operation, (provider, &mut faults))
            }),
        };
        plan.filter(|_| faults.is_empty()).ok_or(faults)
    }

    fn plain(doing: Doing, method: Method, path: String) -> Self {
        Self {
            doing,
            events: Events::default(),
            method,
            path,
            body: None,
            stream: None,
            asks_for_usage: false,
            hides_usage: false,
        }
    }

    fn raw(raw: &Raw<'_>, faults: &mut Faults) -> Option<Self> {
        let written = raw
            .method
            .as_deref()
            .unwrap_or(if raw.json.is_some() { "POST" } else { "GET" });
        let method = match written.to_ascii_uppercase().as_str() {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            _ => {
                faults.add("params.method", "must be GET, POST, PUT, PATCH or DELETE");
                return None;
            }
        };
        check_path(&raw.path, faults);
        Some(Self {
            body: raw.json.map(|json| json.get().to_owned()),
            ..Self::plain(Doing::Raw, method, raw.path.clone())
        })
    }

    fn listing(provider: &Provider, faults: &mut Faults) -> Option<Self> {
        let (method, path) = path(Doing::Models, provider, "", faults)?;
        Some(Self::plain(Doing::Models, method, path))
    }

    /// The request that shows at the least cost whether the provider answers: it is never a prompt.
    pub(super) fn of_health(provider: &Provider) -> Option<Self> {
        Self::listing(provider, &mut Faults::default())
    }

    fn of_model(
        doing: Doing,
        mut object: Object<'_>,
        operation: &Operation,
        (provider, faults): (&Provider, &mut Faults),
    ) -> Option<Self> {
        check_content(doing, &object, &operation.params, faults);
        let own = read_own(&mut object, faults);
        if doing == Doing::Chat {
            spell_out_prompt(&mut object, faults);
        }
        let model = name_model(&mut object, provider);
        let mut stream = None;
        let mut usage = Usage::AsItIs;
        if doing.generates() {
            limit(&mut object, provider);
            stream = read_stream(&mut object, faults);
            usage = Usage::read(&mut object, provider);
        }
        let (method, path) = path(doing, provider, &model, faults)?;
        Some(Self {
            events: own.events,
            body: Some(object.written()),
            stream,
            asks_for_usage: usage == Usage::ToBeAdded,
            hides_usage: usage != Usage::AsItIs,
            ..Self::plain(doing, method, path)
        })
    }

    /// Whether the answer is to be streamed to a caller who takes events, or one who does not.
    pub(super) fn streams(&self, caller_streams: bool) -> Result<bool, Faults> {
        match (self.doing.generates(), self.stream, caller_streams) {
            (true, Some(true), false) => Err(Faults::one(
                "params.stream",
                "must not be true here: a streamed answer needs ExecuteStream, or `stream` in the call of OpenSession",
            )),
            (true, given, true) => Ok(given.unwrap_or(true)),
            (_, _, _) => Ok(false),
        }
    }

    /// The request to an endpoint whose address has the path `base`, of an answer that is streamed or not.
    pub(super) fn asked(&self, dialect: Dialect, base: &str, streamed: bool) -> Asked {
        let mut added = String::new();
        if self.doing.generates() && self.stream.is_none() {
            match (streamed, dialect) {
                (true, _) => added.push_str(",\"stream\":true"),
                // It streams unless it is told not to.
                (false, Dialect::Ollama) => added.push_str(",\"stream\":false"),
                (false, Dialect::OpenAi | Dialect::Azure | Dialect::Anthropic) => {}
            }
        }
        if streamed && self.asks_for_usage {
            added.push_str(",\"stream_options\":{\"include_usage\":true}");
        }
        let mut headers = HeaderMap::new();
        if self.body.is_some() {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
        }
        let body = self.body.as_deref().map(|body| with_added(body, &added));
        Asked {
            method: self.method.clone(),
            path: dialect.below(self.doing, base, &self.path).to_owned(),
            headers,
            body: body.map(Bytes::from).unwrap_or_default(),
        }
    }
}

/// An object's text with members at its end.
fn with_added(body: &str, added: &str) -> String {
    let Some((inside, after)) = body.rsplit_once('}').filter(|_| !added.is_empty()) else {
        return body.to_owned();
    };
    let empty = inside.trim_end().ends_with('{');
    let added = if empty {
        added.trim_start_matches(',')
    } else {
        added
    };
    format!("{inside}{added}}}{after}")
}

/// What was read, or its faults among the others.
fn keep<T>(faults: &mut Faults, read: Result<T, Faults>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(found) => {
            for fault in found.list() {
                faults.add(&fault.field, fault.message.clone());
            }
            None
        }
    }
}

fn path(doing: Doing, provider: &Provider, model: &str, faults: &mut Faults) -> Option<(Method, String)> {
    let dialect = provider.dialect;
    if dialect == Dialect::Azure && model.is_empty() && doing != Doing::Models {
        faults.add(
            "params.model",
            "must name the deployment, or the pool must have llm.defaults.model",
        );
    }
    let Some((method, mut path)) = dialect.path(doing, model) else {
        let message = format!("{} has no such operation: use chat, or raw", dialect.name());
        faults.add("name", message);
        return None;
    };
    if !provider.version.is_empty() {
        path.push_str("?api-version=");
        path.push_str(&provider.version);
    }
    Some((method, path))
}

fn check_path(path: &str, faults: &mut Faults) {
    let folder = path.split('?').next().unwrap_or_default();
    let dots = |part: &str| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    let message = if !path.starts_with('/') {
        "must begin with a slash; the address is the pool's"
    } else if path.contains('#') {
        "must have no fragment"
    } else if folder.split('/').any(dots) {
        "must have no `.` and `..`: they could lead out of the pool's base path"
    } else if !path.bytes().all(|byte| byte.is_ascii_graphic()) || PathAndQuery::try_from(path).is_err() {
        "must be in visible ASCII: percent-encode the rest"
    } else {
        return;
    };
    faults.add("params.path", message);
}

/// Some servers answer to nothing with something, so what is surely missing is told here.
fn check_content(doing: Doing, object: &Object<'_>, params: &Params, faults: &mut Faults) {
    let hint = match params {
        Params::Empty => {
            "; the params are empty: did your client encode the Struct? Some loaders send {} in silence, params_json \
             is safer"
        }
        Params::Object(_) | Params::Text(_) => "",
    };
    let wanted = match doing {
        Doing::Chat if !object.has("messages") && !object.has("prompt") => {
            "must have `messages`, or `prompt`"
        }
        Doing::Complete if !object.has("prompt") && !hint.is_empty() => "must have `prompt`",
        Doing::Embed if !hint.is_empty() => "must have `input`",
        Doing::Chat | Doing::Complete | Doing::Embed | Doing::Models | Doing::Raw => return,
    };
    faults.add("params", format!("{wanted}{hint}"));
}

fn read_own(object: &mut Object<'_>, faults: &mut Faults) -> Own {
    let Some(written) = object.get(OWN) else {
        return Own::default();
    };
    object.remove(OWN);
    serde_json::from_str(written).unwrap_or_else(|error| {
        faults.add("params.sublet", error.to_string());
        Own::default()
    })
}
