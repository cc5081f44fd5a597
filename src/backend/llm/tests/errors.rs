//! Every row of the table of errors, as providers spell it.

use std::time::Duration;

use tonic::Code;

use super::*;
use llm_peer::{answered, events, times, token};

/// What a refusal is to come out as.
#[derive(Clone, Copy)]
struct Row {
    kind: &'static str,
    code: Code,
    executed: Executed,
    retry: Option<u64>,
}

const fn row(kind: &'static str, code: Code, executed: Executed, retry: Option<u64>) -> Row {
    Row {
        kind,
        code,
        executed,
        retry,
    }
}

const NO: Executed = Executed::No;
const YES: Executed = Executed::Yes;
const RATE: Row = row("rate_limited", Code::ResourceExhausted, NO, Some(1000));
const QUOTA: Row = row("quota_exhausted", Code::ResourceExhausted, NO, None);
const BUSY: Row = row("overloaded", Code::ResourceExhausted, YES, Some(1000));
const INVALID: Row = row("invalid", Code::InvalidArgument, YES, None);
const AUTH: Row = row("auth", Code::FailedPrecondition, NO, None);
const ABSENT: Row = row("not_found", Code::NotFound, NO, None);
const MOVED: Row = row("not_found", Code::NotFound, YES, None);
const LONG: Row = row("context_length", Code::OutOfRange, NO, None);
const FILTER: Row = row("content_filter", Code::InvalidArgument, YES, None);
const UPSTREAM: Row = row("upstream_5xx", Code::Internal, YES, Some(1000));

/// Status, headers, body, and what comes out.
type Case = (u16, &'static str, &'static str, Row);

fn cases() -> Vec<Case> {
    [of_limits(), of_load(), of_requests(), of_contents()].concat()
}

const fn after(retry: Option<u64>, of: Row) -> Row {
    Row { retry, ..of }
}

fn of_limits() -> Vec<Case> {
    vec![
        (
            429,
            "",
            r#"{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
            RATE,
        ),
        (429, "retry-after: 7\r\n", "", after(Some(7000), RATE)),
        (429, "retry-after: 0.25\r\n", "", after(Some(250), RATE)),
        (
            429,
            "retry-after-ms: 80\r\nretry-after: 7\r\n",
            "",
            after(Some(80), RATE),
        ),
        (429, "x-ms-retry-after-ms: 90\r\n", "", after(Some(90), RATE)),
        (429, "retry-after: 4000\r\n", "", after(Some(120_000), RATE)),
        (
            429,
            "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:49:40 GMT\r\n",
            "",
            after(Some(3000), RATE),
        ),
        (
            429,
            "retry-after: 7\r\nx-should-retry: false\r\n",
            "",
            after(None, RATE),
        ),
        (
            429,
            "retry-after: 7\r\n",
            r#"{"error":{"message":"no money","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            QUOTA,
        ),
        (
            429,
            "x-should-retry: true\r\nretry-after: 1\r\n",
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
            QUOTA,
        ),
        (
            429,
            "retry-after: 7\r\n",
            r#"{"error":{"message":"m","type":"exceeded_current_quota_error"}}"#,
            QUOTA,
        ),
    ]
}

fn of_load() -> Vec<Case> {
    vec![
        (402, "", r#"{"error":"pay first"}"#, QUOTA),
        (
            529,
            "",
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            Row { executed: NO, ..BUSY },
        ),
        (
            429,
            "",
            r#"{"error":{"type":"engine_overloaded_error","message":"try later"}}"#,
            Row { executed: NO, ..BUSY },
        ),
        (
            503,
            "",
            r#"{"error":"server busy, please try again. maximum pending requests exceeded"}"#,
            BUSY,
        ),
        (408, "", "", BUSY),
        (409, "", "", BUSY),
        (425, "", "", BUSY),
    ]
}

fn of_requests() -> Vec<Case> {
    vec![
        (
            400,
            "",
            r#"{"error":{"message":"bad","type":"invalid_request_error","param":"seed","code":null}}"#,
            INVALID,
        ),
        (
            422,
            "",
            r#"{"detail":[{"loc":["body","messages"],"msg":"field required"}]}"#,
            INVALID,
        ),
        (
            400,
            "x-should-retry: true\r\n",
            "nope",
            after(Some(1000), INVALID),
        ),
        (
            401,
            "",
            r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#,
            AUTH,
        ),
        (
            403,
            "",
            r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#,
            AUTH,
        ),
        (404, "", r#"{"detail":"Not Found"}"#, ABSENT),
        (404, "", r#"{"error":"model 'x' not found"}"#, ABSENT),
        (307, "location: /elsewhere\r\n", "", ABSENT),
        (308, "location: /elsewhere\r\n", "", ABSENT),
        (301, "location: /elsewhere\r\n", "", MOVED),
        (303, "location: /elsewhere\r\n", "", MOVED),
        (418, "", "teapot", INVALID),
    ]
}

fn of_contents() -> Vec<Case> {
    vec![
        (
            400,
            "",
            r#"{"error":{"message":"m","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
            LONG,
        ),
        (
            400,
            "",
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            LONG,
        ),
        (
            400,
            "",
            r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
            LONG,
        ),
        (
            400,
            "",
            r#"{"error":{"message":"filtered","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            FILTER,
        ),
        (
            400,
            "",
            r#"{"error":{"message":"m","code":"content_policy_violation"}}"#,
            FILTER,
        ),
        (500, "", "Internal Server Error", UPSTREAM),
        (
            502,
            "retry-after: 2\r\n",
            "<html>bad gateway</html>",
            after(Some(2000), UPSTREAM),
        ),
        (504, "x-should-retry: false\r\n", "", after(None, UPSTREAM)),
    ]
}

#[tokio::test]
async fn refusals_come_out_as_the_table_says_streamed_or_not() {
    let script: Vec<Step> = cases()
        .iter()
        .flat_map(|(status, headers, body, _)| times(2, &answered(*status, headers, body)))
        .collect();
    let peer = Peer::start(vec![script]);
    let mut bench = Bench::with(&peer).await;
    for (status, headers, body, wanted) in cases() {
        let unary = failure(bench.ask("chat", HELLO).await.unwrap_err());
        let streamed = bench.fail("chat", HELLO).await;
        for (error, executed) in [unary, streamed] {
            let told = format!("{status} {headers} {body}: {error:?}");
            assert_eq!(error.metadata["kind"], wanted.kind, "{told}");
            assert_eq!((error.code, executed), (wanted.code, wanted.executed), "{told}");
            assert_eq!(
                error.retry_after,
                wanted.retry.map(Duration::from_millis),
                "{told}"
            );
            assert_eq!(error.metadata["provider_status"], status.to_string(), "{told}");
            assert_eq!(
                error.metadata.get("body").map_or("", String::as_str),
                body,
                "{told}"
            );
        }
    }
    assert_eq!(peer.lines().len(), 1, "a refusal costs no connection");
}

#[tokio::test]
async fn an_error_has_the_providers_facts_and_never_the_key() {
    let body =
        format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}.","type":"t","code":"c"}}}}"#);
    let headers = "x-request-id: req_9\r\nx-ratelimit-remaining-tokens: -1\r\nx-ratelimit-reset-tokens: 6m0s\r\n\
                   retry-after: 4000\r\n";
    let peer = Peer::start(vec![answered(401, headers, &body)]);
    let (error, _) = Bench::with(&peer).await.fail("chat", HELLO).await;
    let facts = [
        ("request_id", "req_9"),
        ("ratelimit_remaining_tokens", "-1"),
        ("ratelimit_reset_tokens", "6m0s"),
        ("retry_after", "4000"),
        ("provider_type", "t"),
        ("provider_code", "c"),
    ];
    for (name, value) in facts {
        assert_eq!(error.metadata[name], value, "{name}");
    }
    assert_eq!(error.message, "auth: 401 Incorrect API key provided: [redacted].");
    assert!(!format!("{error:?}").contains(KEY), "{error:?}");
    let long = "x".repeat(200_000);
    let peer = Peer::start(vec![answered(500, "", &long)]);
    let (error, _) = Bench::with(&peer).await.fail("chat", HELLO).await;
    assert!(error.metadata["body"].len() < 600, "an excerpt is short");
}

#[tokio::test]
async fn an_error_inside_an_answer_that_began_well_is_an_error() {
    let cases = [
        (
            r#"{"error":{"message":"m","type":"server_error","code":null}}"#,
            UPSTREAM,
        ),
        (r#"{"error":{"message":"m","code":429}}"#, RATE),
        (r#"{"error":{"message":"m","type":"rate_limit_error"}}"#, RATE),
        (r#"{"error":{"message":"m","type":"overloaded_error"}}"#, BUSY),
        (r#"{"error":{"message":"m","type":"authentication_error"}}"#, AUTH),
        (r#"{"error":{"message":"m","type":"not_found_error"}}"#, ABSENT),
        (
            r#"{"error":{"message":"m","type":"invalid_request_error"}}"#,
            INVALID,
        ),
        (
            r#"{"error":{"message":"maximum context length is 512 tokens","type":"BadRequestError","code":400}}"#,
            LONG,
        ),
        (r#"{"error":{"message":"m","code":"insufficient_quota"}}"#, QUOTA),
    ];
    for (body, wanted) in cases {
        let stream = format!("{}data: {body}\n\n", token("a"));
        let peer = Peer::start(vec![answered(200, "", body), events(&stream, 64)]);
        let mut bench = Bench::with(&peer).await;
        let unary = failure(bench.ask("chat", HELLO).await.unwrap_err());
        let streamed = bench.fail("chat", HELLO).await;
        for (error, executed) in [unary, streamed] {
            assert_eq!(
                (error.metadata["kind"].as_str(), error.code),
                (wanted.kind, wanted.code),
                "{body}"
            );
            assert_eq!(executed, Executed::Yes, "the provider had begun");
            assert_eq!(
                error.retry_after,
                wanted.retry.map(Duration::from_millis),
                "{body}"
            );
        }
        assert_eq!(bench.session.cleanliness(), crate::backend::Cleanliness::Clean);
    }
}

#[tokio::test]
async fn a_redirect_is_the_answer_to_what_was_done_unless_it_was_only_asked_or_is_to_be_asked_again() {
    let get = r#"{"path":"/x"}"#;
    let post = r#"{"path":"/x","json":{}}"#;
    for (params, status, wanted) in [
        (get, 303, NO),
        (post, 303, YES),
        (post, 302, YES),
        (post, 307, NO),
        (post, 308, NO),
    ] {
        let peer = Peer::start(vec![answered(status, "location: /y\r\n", "")]);
        let (error, executed) = Bench::with(&peer).await.fail("raw", params).await;
        assert_eq!(
            (error.code, executed),
            (Code::NotFound, wanted),
            "{params} {status}"
        );
    }
}

#[tokio::test]
async fn a_secret_header_with_a_scheme_is_not_told_without_it_either() {
    let headers = [
        ("x-gateway", "SUBLET_SECRET_SCHEME"),
        ("x-short", "SUBLET_SECRET_SHORT"),
    ];
    let gateway = LlmBackend {
        secret_headers: headers
            .map(|(name, secret)| (name.to_owned(), env(secret)))
            .into(),
        ..own(Wire::Openai)
    };
    let body = format!(
        r#"{{"error":{{"message":"no gw-canary-9876543210, Bearer gw-canary-9876543210, {KEY}; word by Token word"}}}}"#
    );
    let peer = Peer::start(vec![answered(400, "", &body)]);
    let (error, _) = Bench::of(&peer, gateway).await.fail("chat", HELLO).await;
    assert_eq!(
        error.message,
        "invalid: 400 no [redacted], [redacted], [redacted]; word by [redacted]"
    );
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}
