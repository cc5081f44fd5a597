//! Every row of the table of errors, as providers spell it.

use std::time::Duration;

use tonic::Code;

use super::*;
use llm_peer::{answered, begun, events, finish, stop, times, token};

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
            503,
            "",
            r#"{"error":"server busy, please try again. maximum pending requests exceeded"}"#,
            BUSY,
        ),
        (408, "", "", BUSY),
        (409, "", "", BUSY),
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
async fn a_stream_that_is_cut_before_its_end_marker_is_a_loss_of_data() {
    let cut = |text: String| [begun(&text), vec![Step::Close]].concat();
    let ended = |text: String| events(&text, 1000);
    let half = token("lost").trim_end().trim_end_matches('}').to_owned();
    let cases = [
        ("cut after a token", cut(token("a")), Executed::Unknown),
        (
            "cut within a chunk",
            cut(format!("{}{half}", token("a"))),
            Executed::Unknown,
        ),
        (
            "cut before any",
            cut(String::from(": hello\n\n")),
            Executed::Unknown,
        ),
        (
            "cut after the model stopped",
            cut(format!("{}{}", token("a"), finish("stop"))),
            Executed::Yes,
        ),
        (
            "ended without a marker",
            ended(format!("{}{}", token("a"), finish("stop"))),
            Executed::Yes,
        ),
        (
            "ended within a chunk",
            ended(format!("{}{half}", token("a"))),
            Executed::Unknown,
        ),
        (
            "marked without a reason",
            ended(format!("{}data: [DONE]\n\n", token("a"))),
            Executed::Unknown,
        ),
    ];
    for (what, script, wanted) in cases {
        let peer = Peer::start(vec![script, events(&stop(), 100)]);
        let mut bench = Bench::with(&peer).await;
        let (error, executed) = bench.fail("chat", HELLO).await;
        assert_eq!(error.metadata["kind"], "truncated", "{what}");
        assert_eq!(
            (error.code, executed, error.retry_after),
            (Code::DataLoss, wanted, None),
            "{what}"
        );
        assert_eq!(
            bench.stream("chat", HELLO).await.unwrap().attributes["finish_reason"],
            "stop",
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_whole_answer_that_is_cut_or_is_none_is_a_loss_of_data() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"id\":";
    let script = vec![Step::Request, Step::Send(cut.into()), Step::Close];
    let peer = Peer::start(vec![script, answered(200, "", "<html>a portal</html>")]);
    let mut bench = Bench::with(&peer).await;
    let (error, executed) = failure(bench.ask("chat", HELLO).await.unwrap_err());
    assert_eq!(
        (error.metadata["kind"].as_str(), executed),
        ("truncated", Executed::Unknown)
    );
    let (error, executed) = failure(bench.ask("chat", HELLO).await.unwrap_err());
    assert_eq!(
        (error.metadata["kind"].as_str(), executed),
        ("malformed", Executed::Yes)
    );
    assert_eq!(error.code, Code::DataLoss);
}

#[tokio::test]
async fn a_part_that_cannot_be_read_is_told_and_ends_the_answer() {
    for bad in ["data: {\"choices\": [{\n\n", "data: nonsense\n\n"] {
        let peer = Peer::start(vec![events(&format!("{}{bad}{}", token("a"), stop()), 1000)]);
        let (error, _) = Bench::with(&peer).await.fail("chat", HELLO).await;
        assert_eq!(
            (error.metadata["kind"].as_str(), error.code),
            ("malformed", Code::DataLoss),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn each_deadline_is_told_apart() {
    let slow = LlmBackend {
        first_token_timeout: span(50),
        ..own(Wire::Openai)
    };
    let timeout = |error: CallError| {
        let CallError::Timeout { what, .. } = error else {
            panic!("{error:?}");
        };
        what
    };
    for script in [
        vec![Step::Request, Step::ToEnd],
        // Neither a comment nor the first chunk, which says only who speaks, is a token.
        [
            begun(": wait\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"),
            vec![Step::ToEnd],
        ]
        .concat(),
    ] {
        let peer = Peer::start(vec![script, events(&format!("{}{}", token("a"), stop()), 50)]);
        let mut bench = Bench::of(&peer, slow.clone()).await;
        assert_eq!(
            timeout(bench.stream("chat", HELLO).await.unwrap_err()),
            "first token"
        );
        bench.session.settle().await.unwrap();
        peer.until(|lines| lines[0].end == Some(End::Reset)).await;
        assert_eq!(bench.stream("chat", HELLO).await.unwrap().text, "a");
    }
    let idle = LlmBackend {
        idle_timeout: span(50),
        ..own(Wire::Openai)
    };
    let peer = Peer::start(vec![[begun(&token("a")), vec![Step::ToEnd]].concat()]);
    let mut bench = Bench::of(&peer, idle).await;
    assert_eq!(timeout(bench.stream("chat", HELLO).await.unwrap_err()), "idle");
}

#[tokio::test]
async fn a_connection_that_the_provider_closed_is_dialed_anew_and_what_it_read_is_never_sent_twice() {
    let answer = answered(200, "", "{}");
    let peer = Peer::start(vec![
        [answer.clone(), vec![Step::Close]].concat(),
        [answer, vec![Step::Request, Step::Reset]].concat(),
        vec![Step::ToEnd],
    ]);
    let mut bench = Bench::with(&peer).await;
    bench.ask("chat", HELLO).await.unwrap();
    peer.until(|lines| lines[0].end.is_some()).await;
    bench.ask("chat", HELLO).await.unwrap();
    let error = bench.ask("chat", HELLO).await.unwrap_err();
    assert!(
        matches!(error, CallError::Broken { executed: None, .. }),
        "{error:?}"
    );
    assert_eq!((peer.lines().len(), peer.requests().len()), (2, 3));
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_again_has_done_nothing() {
    let mut peer = Peer::start(vec![[answered(200, "", "{}"), vec![Step::Close]].concat()]);
    let mut bench = Bench::with(&peer).await;
    bench.ask("chat", HELLO).await.unwrap();
    peer.until(|lines| lines[0].end.is_some()).await;
    peer.refuse().await;
    let before = bench.fence.sent();
    let error = bench.ask("chat", HELLO).await.unwrap_err();
    assert!(matches!(error, CallError::Dial(_)), "{error:?}");
    assert_eq!(bench.fence.sent(), before);
}
