//! What callers see: events in their order, facts, errors with code and advice.

use std::time::Duration;

use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;
use crate::support::{
    http_peer::{Identity, Step},
    llm_peer::{answered, begun, events, stop, times, token},
};

const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"total_tokens\":7}}\n\n";

fn answer() -> String {
    format!(
        "{}{}{}",
        token("Hel"),
        token("lo"),
        stop().replace("data: [DONE]", &format!("{USAGE}data: [DONE]"))
    )
}

#[tokio::test]
async fn a_chat_streams_text_then_usage_then_its_end_in_clear_and_over_tls() {
    let identity = Identity::speaking(&[b"http/1.1"]);
    let clear = Peer::start(vec![events(&answer(), 11)]);
    let secure = Peer::start_tls(vec![events(&answer(), 11)], &identity);
    let addresses = [openai(&clear), format!("https://localhost:{}/v1", secure.port())];
    for address in addresses {
        let own = if address.starts_with("https") {
            trusting(Dialect::Openai)
        } else {
            LlmBackend::default()
        };
        let (app, mut broker) = stage(&address, own).await;
        let mut stream = begin(&mut broker, hello()).await.unwrap();
        let Some(event::Event::Accepted(info)) = next(&mut stream).await.unwrap() else {
            panic!("it is accepted first");
        };
        assert_eq!(info.endpoint, address);
        assert_eq!(first_text(&mut stream).await, "Hel");
        assert_eq!(first_text(&mut stream).await, "lo");
        let Some(event::Event::Usage(usage)) = next(&mut stream).await.unwrap() else {
            panic!("usage comes before the end");
        };
        assert!(usage.fields.contains_key("total_tokens"));
        let Some(event::Event::End(end)) = next(&mut stream).await.unwrap() else {
            panic!("the end comes last");
        };
        assert_eq!(end.attributes["finish_reason"], "stop");
        assert_eq!(end.attributes["request_id"], "req_1");
        assert!(end.attributes.contains_key("time_to_first_token_ms"));
        assert_eq!(next(&mut stream).await.unwrap(), None);
        app.stop().await;
    }
}

#[tokio::test]
async fn a_unary_answer_is_the_providers_own_text() {
    let text = "{\"z\":18446744073709551615, \"choices\":[{\"finish_reason\":\"stop\"}],\"a\":1.10}";
    let peer = Peer::start(vec![answered(200, "", text)]);
    let (app, mut broker) = stage(&openai(&peer), LlmBackend::default()).await;
    assert_eq!(execute(&mut broker, hello()).await.unwrap(), text);
    app.stop().await;
}

#[tokio::test]
async fn a_refusal_has_its_code_its_facts_and_when_to_come_again() {
    let limited = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
    let broke = r#"{"error":{"message":"no money","code":"insufficient_quota"}}"#;
    let script = [
        answered(429, "retry-after-ms: 1500\r\n", limited),
        answered(429, "retry-after: 1\r\n", broke),
    ]
    .concat();
    let peer = Peer::start(vec![script]);
    let (app, mut broker) = stage(&openai(&peer), LlmBackend::default()).await;
    let refused = broker.execute(hello()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "BACKEND_ERROR")
    );
    assert_eq!(
        (executed(&refused).as_str(), told(&refused, "kind").as_str()),
        ("no", "rate_limited")
    );
    let advice = refused.get_details_retry_info().and_then(|info| info.retry_delay);
    assert_eq!(advice, Some(Duration::from_millis(1500)));
    assert_eq!(refused.metadata().get("sublet-retry-after-ms").unwrap(), "1500");
    let refused = error(&mut broker, hello()).await;
    assert_eq!(told(&refused, "kind"), "quota_exhausted");
    assert!(
        refused.get_details_retry_info().is_none(),
        "money does not come by waiting"
    );
    app.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_told_after_what_came_of_it() {
    let peer = Peer::start(vec![
        [begun(&token("half")), vec![Step::Reset]].concat(),
        events(&answer(), 50),
    ]);
    let (app, mut broker) = stage(&openai(&peer), LlmBackend::default()).await;
    let mut stream = begin(&mut broker, hello()).await.unwrap();
    assert_eq!(first_text(&mut stream).await, "half");
    let lost = next(&mut stream).await.unwrap_err();
    assert_eq!(
        (lost.code(), told(&lost, "kind").as_str()),
        (Code::DataLoss, "truncated")
    );
    assert_eq!(executed(&lost), "unknown", "the provider has worked");
    let mut again = begin(&mut broker, hello()).await.unwrap();
    assert_eq!(
        first_text(&mut again).await,
        "Hel",
        "it is the caller's to try again, never the broker's"
    );
    assert_eq!(peer.requests().len(), 2);
    app.stop().await;
}

#[tokio::test]
async fn deadlines_are_told_apart() {
    let short = Some(span(Duration::from_millis(50)));
    for (own, script, wanted) in [
        (
            LlmBackend {
                first_token_timeout: short,
                ..LlmBackend::default()
            },
            vec![Step::Request, Step::Hang],
            "first token",
        ),
        (
            LlmBackend {
                idle_timeout: short,
                ..LlmBackend::default()
            },
            [begun(&token("a")), vec![Step::Hang]].concat(),
            "idle",
        ),
        (
            LlmBackend::default(),
            vec![Step::Request, Step::Hang],
            "stall: no progress from the backend",
        ),
        (
            LlmBackend::default(),
            [begun(&token("a")), vec![Step::Hang]].concat(),
            "timeout",
        ),
    ] {
        let peer = Peer::start(vec![script]);
        let mut pool = definition(&openai(&peer), own);
        let mut request = hello();
        match wanted {
            "timeout" => request.operation.as_mut().unwrap().timeout = short,
            "stall: no progress from the backend" => pool.timeouts.get_or_insert_default().stall = short,
            _ => {}
        }
        let app = App::start().await;
        create(&app.address, "llm", pool).await;
        let mut broker = broker(&app.address);
        let late = error(&mut broker, request).await;
        assert_eq!(
            (late.code(), reason(&late).as_str()),
            (Code::DeadlineExceeded, "EXECUTE_TIMEOUT")
        );
        assert_eq!(
            (told(&late, "timeout").as_str(), executed(&late).as_str()),
            (wanted, "unknown")
        );
        app.stop().await;
    }
}

#[tokio::test]
async fn a_provider_to_which_there_is_no_connection_in_time_has_done_nothing() {
    let silent = Peer::start(vec![vec![Step::ToEnd]]);
    let address = format!("https://localhost:{}", silent.port());
    let mut pool = definition(&address, trusting(Dialect::Openai));
    let timeouts = pool.timeouts.get_or_insert_default();
    timeouts.connect = Some(span(Duration::from_millis(20)));
    timeouts.acquire = Some(span(Duration::from_millis(300)));
    let app = App::start().await;
    create(&app.address, "llm", pool).await;
    let refused = error(&mut broker(&app.address), hello()).await;
    assert_eq!(
        (
            refused.code(),
            reason(&refused).as_str(),
            executed(&refused).as_str()
        ),
        (Code::Unavailable, "BACKEND_UNREACHABLE", "no")
    );
    silent.until(|lines| lines[0].end.is_some()).await;
    app.stop().await;
}

#[tokio::test]
async fn what_is_too_long_for_a_message_is_told_so_and_what_to_do_about_it() {
    let long = "x".repeat(4 << 20);
    let endless = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{long}");
    let whole = answered(200, "", &format!("{{\"data\":\"{long}\"}}"));
    let peer = Peer::start(vec![whole, events(&endless, 10_000)]);
    let (app, mut broker) = stage(&openai(&peer), LlmBackend::default()).await;
    let unary = broker.execute(hello()).await.unwrap_err();
    let streamed = error(&mut broker, hello()).await;
    for (refused, advice) in [(unary, "ExecuteStream"), (streamed, "1048576")] {
        assert_eq!(
            (reason(&refused).as_str(), executed(&refused).as_str()),
            ("RESPONSE_TOO_LARGE", "unknown")
        );
        assert!(refused.message().contains(advice), "{}", refused.message());
    }
    app.stop().await;
}

#[tokio::test]
async fn a_call_whose_connection_breaks_before_the_answer_begins_is_unknown() {
    let peer = Peer::start(vec![vec![Step::Request, Step::Reset]]);
    let (app, mut broker) = stage(&openai(&peer), LlmBackend::default()).await;
    let lost = broker.execute(hello()).await.unwrap_err();
    assert_eq!(
        (reason(&lost).as_str(), executed(&lost).as_str()),
        ("OUTCOME_UNKNOWN", "unknown")
    );
    app.stop().await;
}

#[tokio::test]
async fn a_call_may_ask_for_one_of_several_endpoints() {
    let text = |name: &str| format!("{{\"model\":\"{name}\"}}");
    let peers = ["one", "two"].map(|name| Peer::start(vec![times(3, &answered(200, "", &text(name)))]));
    let mut pool = definition(&openai(&peers[0]), LlmBackend::default());
    pool.sizing = None;
    pool.endpoints[0].name = "one".to_owned();
    pool.endpoints.push(Endpoint {
        name: "two".to_owned(),
        address: openai(&peers[1]),
        ..Endpoint::default()
    });
    let app = App::start().await;
    create(&app.address, "llm", pool).await;
    let mut broker = broker(&app.address);
    for name in ["two", "one", "two"] {
        let mut request = hello();
        request.options.get_or_insert_default().endpoint = name.to_owned();
        assert_eq!(execute(&mut broker, request).await.unwrap(), text(name));
    }
    assert_eq!((peers[0].requests().len(), peers[1].requests().len()), (1, 2));
    app.stop().await;
}
