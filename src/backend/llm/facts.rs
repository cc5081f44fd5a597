//! What an answer's headers say: the provider's number of the request, and what is left of its limits.

use http::HeaderMap;

/// A longer value says nothing that a limit's has to say.
const LONGEST: usize = 128;

/// A request's number, by the names that providers give it, the most telling first.
const REQUEST_ID: [&str; 4] = ["x-request-id", "request-id", "apim-request-id", "x-ms-request-id"];

/// Limits by the providers' names and by ours.
const LIMITS: [(&str, &str); 18] = [
    ("x-ratelimit-limit-requests", "ratelimit_limit_requests"),
    ("x-ratelimit-remaining-requests", "ratelimit_remaining_requests"),
    ("x-ratelimit-reset-requests", "ratelimit_reset_requests"),
    ("x-ratelimit-limit-tokens", "ratelimit_limit_tokens"),
    ("x-ratelimit-remaining-tokens", "ratelimit_remaining_tokens"),
    ("x-ratelimit-reset-tokens", "ratelimit_reset_tokens"),
    ("anthropic-ratelimit-requests-limit", "ratelimit_limit_requests"),
    (
        "anthropic-ratelimit-requests-remaining",
        "ratelimit_remaining_requests",
    ),
    ("anthropic-ratelimit-requests-reset", "ratelimit_reset_requests"),
    ("anthropic-ratelimit-tokens-limit", "ratelimit_limit_tokens"),
    (
        "anthropic-ratelimit-tokens-remaining",
        "ratelimit_remaining_tokens",
    ),
    ("anthropic-ratelimit-tokens-reset", "ratelimit_reset_tokens"),
    (
        "anthropic-ratelimit-input-tokens-limit",
        "ratelimit_limit_input_tokens",
    ),
    (
        "anthropic-ratelimit-input-tokens-remaining",
        "ratelimit_remaining_input_tokens",
    ),
    (
        "anthropic-ratelimit-input-tokens-reset",
        "ratelimit_reset_input_tokens",
    ),
    (
        "anthropic-ratelimit-output-tokens-limit",
        "ratelimit_limit_output_tokens",
    ),
    (
        "anthropic-ratelimit-output-tokens-remaining",
        "ratelimit_remaining_output_tokens",
    ),
    (
        "anthropic-ratelimit-output-tokens-reset",
        "ratelimit_reset_output_tokens",
    ),
];

/// The request's number and the limits, by our names, in the provider's words.
pub(super) fn of(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let id = REQUEST_ID.iter().find_map(|name| value(headers, name));
    let limits = LIMITS
        .iter()
        .filter_map(|(theirs, ours)| Some((*ours, value(headers, theirs)?)));
    id.map(|id| ("request_id", id))
        .into_iter()
        .chain(limits)
        .collect()
}

fn value(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (!value.is_empty() && value.len() <= LONGEST).then(|| value.to_owned())
}
