//! `raw`: any route of a box that has no operation of its own. Those that would go past the broker's bookkeeping, or
//! reach prompts of others, are refused.

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::desk;
use crate::{
    backend::{Operation, http::Asked},
    error::Faults,
};

/// Routes that are refused, whatever the method, and what to do instead.
const REFUSED: [(&str, &str); 6] = [
    ("/ws", "events come with queue_prompt"),
    (
        "/interrupt",
        "it can hit what others run: use cancel, which names one prompt",
    ),
    ("/jobs/cancel", "use cancel, which names one prompt"),
    ("/upload", "use upload"),
    ("/manager", "it can end the box, and what others run with it"),
    ("/v2/manager", "it can end the box, and what others run with it"),
];
/// Routes that may be read, but not written to.
const READ_ONLY: [(&str, &str); 3] = [
    ("/prompt", "use queue_prompt"),
    (
        "/queue",
        "it can hit what others wait for: use cancel, which names one prompt",
    ),
    (
        "/history",
        "it can hit what others look for: use queue_prompt with delete_history",
    ),
];

/// A request, checked.
#[derive(Debug)]
pub(super) struct Raw(pub(super) Asked);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default)]
    method: Option<String>,
    path: String,
    json: Option<Box<RawValue>>,
}

/// Reads the params of `raw`.
pub(super) fn read(operation: &Operation, faults: &mut Faults) -> Option<Raw> {
    let params: Params = match operation.params.parse() {
        Ok(params) => params,
        Err(found) => {
            for fault in found.list() {
                faults.add(&fault.field, fault.message.clone());
            }
            return None;
        }
    };
    let method = match params.method.as_deref().unwrap_or("GET") {
        "GET" => Method::GET,
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        "DELETE" => Method::DELETE,
        _ => {
            faults.add("params.method", "must be GET, POST, PUT, PATCH or DELETE");
            Method::GET
        }
    };
    if let Some(why) = refusal(&method, &params.path) {
        faults.add("params.path", why);
    }
    let (kind, body) = match &params.json {
        Some(json) => ("application/json", Bytes::copy_from_slice(json.get().as_bytes())),
        None => ("", Bytes::new()),
    };
    Some(Raw(desk::asked(method, &params.path, kind, body)))
}

fn refusal(method: &Method, path: &str) -> Option<String> {
    let only = path.split('?').next().unwrap_or_default();
    let legal = |c: char| c.is_ascii_graphic() && !"\"#<>\\^`{|}".contains(c);
    if !path.starts_with('/') || !path.chars().all(legal) {
        return Some(
            "must begin with a slash, with what is not plain percent-encoded in its query".to_owned(),
        );
    }
    // One way to write each route, so that the lists above mean what they say.
    if only.contains(['%', ';']) || only.contains("//") || only.split('/').any(|part| part.starts_with('.')) {
        return Some("must be written plainly: no %, no empty part, no dot in front of a part".to_owned());
    }
    let only = only.to_ascii_lowercase();
    let route = only
        .strip_prefix("/api")
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(&only);
    let route = route.trim_end_matches('/');
    let of_one_job = route.starts_with("/jobs/") && method != Method::GET;
    if of_one_job {
        return Some("is refused: use cancel".to_owned());
    }
    let is = |(refused, _): &&(&str, &str)| route == *refused || route.starts_with(&format!("{refused}/"));
    let refused = REFUSED.iter().find(is);
    let read_only = READ_ONLY.iter().find(is).filter(|_| method != Method::GET);
    refused
        .or(read_only)
        .map(|(_, instead)| format!("is refused: {instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_reach_others_is_refused_however_it_is_written() {
        for path in [
            "/interrupt",
            "/api/interrupt",
            "/API/interrupt",
            "/upload/mask",
            "/v2/manager/reboot",
            "/interrupt/",
            "/%69nterrupt",
            "//interrupt",
            "/./interrupt",
            "interrupt",
        ] {
            assert!(refusal(&Method::POST, path).is_some(), "{path}");
        }
        for path in [
            "/queue",
            "/api/queue",
            "/prompt",
            "/history",
            "/api/jobs/cancel",
            "/api/jobs/x/cancel",
        ] {
            assert!(refusal(&Method::POST, path).is_some(), "{path}");
        }
        for path in [
            "/queue",
            "/prompt?x=%20",
            "/history/a",
            "/api/jobs",
            "/models/checkpoints",
            "/features",
        ] {
            assert_eq!(refusal(&Method::GET, path), None, "{path}");
        }
        assert_eq!(refusal(&Method::POST, "/free"), None);
    }
}
