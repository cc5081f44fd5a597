//! What differs between dialects on the wire.

use super::*;
use llm_peer::{answered, events, lines, stop, times};

fn head(peer: &Peer, request: usize) -> String {
    peer.requests()[request].head.clone()
}

#[tokio::test]
async fn anthropic_has_its_own_headers_paths_and_events() {
    let stream = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"c-1\",\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"},\"usage\":{\"output_tokens\":15}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    let failing = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let cut = stream.split("event: message_stop").next().unwrap();
    let peer = Peer::start(vec![
        [
            events(stream, 9),
            answered(
                200,
                "request-id: r1\r\n",
                r#"{"model":"c-1","stop_reason":"end_turn"}"#,
            ),
            events(failing, 9),
        ]
        .concat(),
        events(cut, 50),
    ]);
    let mut bench = Bench::of(&peer, own(Wire::Anthropic)).await;
    let streamed = bench.stream("chat", HELLO).await.unwrap();
    assert_eq!(streamed.text, "Hi");
    assert_eq!(
        (
            figure(&streamed.usage, "input_tokens"),
            figure(&streamed.usage, "output_tokens")
        ),
        (25.0, 15.0)
    );
    assert_eq!(streamed.attributes["finish_reason"], "max_tokens");
    assert_eq!(streamed.attributes["truncated"], "true");
    let done = bench
        .ask("chat", r#"{"messages":[],"max_tokens":3}"#)
        .await
        .unwrap();
    assert!(
        done.attributes
            .contains(&("finish_reason".to_owned(), "end_turn".to_owned()))
    );
    assert!(
        done.attributes
            .contains(&("request_id".to_owned(), "r1".to_owned()))
    );
    assert_eq!(bench.fail("chat", HELLO).await.0.metadata["kind"], "overloaded");
    let (error, executed) = bench.fail("chat", HELLO).await;
    assert_eq!(
        (error.metadata["kind"].as_str(), executed),
        ("truncated", Executed::Yes)
    );
    let first = head(&peer, 0);
    assert!(first.starts_with("POST /v1/messages "), "{first}");
    assert!(first.contains(&format!("x-api-key: {KEY}\r\n")), "{first}");
    assert!(first.contains("anthropic-version: 2023-06-01\r\n"), "{first}");
    let sent = bodies(&peer);
    assert_eq!(
        sent[0],
        r#"{"messages":[{"role":"user","content":"hello"}],"max_tokens":4096,"stream":true}"#
    );
    assert_eq!(sent[1], r#"{"messages":[],"max_tokens":3}"#);
    let faults = bench
        .backend
        .inspect(&operation("embed", r#"{"input":"x"}"#))
        .unwrap_err();
    assert_eq!(faults.list()[0].field, "name");
}

#[tokio::test]
async fn an_address_may_end_before_anthropics_version_or_after_it() {
    for (base, path) in [("/anthropic", "/anthropic/v1/models"), ("/x/v1/", "/x/v1/models")] {
        let peer = Peer::start(vec![answered(200, "", "{}")]);
        let address = format!("http://{}{base}", peer.address());
        Bench::made(&spec(&address, own(Wire::Anthropic)))
            .await
            .ask("models", "{}")
            .await
            .unwrap();
        assert!(
            head(&peer, 0).starts_with(&format!("GET {path} ")),
            "{}",
            head(&peer, 0)
        );
    }
}

#[tokio::test]
async fn each_of_several_endpoints_may_end_before_anthropics_version_or_after_it() {
    let peers = [(); 2].map(|()| Peer::start(vec![times(2, &answered(200, "", "{}"))]));
    let addresses = [(&peers[0], "/before"), (&peers[1], "/after/v1")]
        .map(|(peer, base)| format!("http://{}{base}", peer.address()));
    let mut both = spec(&addresses[0], own(Wire::Anthropic));
    both.endpoints.push(Endpoint {
        address: addresses[1].clone(),
        ..Endpoint::default()
    });
    let backend = backend(&both).unwrap();
    for ((peer, address), base) in peers.iter().zip(&addresses).zip(["/before/v1", "/after/v1"]) {
        let mut bench = Bench::at(Arc::clone(&backend), address).await;
        bench.session.probe().await.unwrap();
        bench.ask("chat", HELLO).await.unwrap();
        for (number, path) in [(0, "GET {}/models "), (1, "POST {}/messages ")] {
            let wanted = path.replace("{}", base);
            assert!(
                head(peer, number).starts_with(&wanted),
                "{wanted} {}",
                head(peer, number)
            );
        }
    }
}

#[tokio::test]
async fn azure_has_its_deployment_in_the_path_and_the_key_in_a_header_of_its_own() {
    let peer = Peer::start(vec![
        [
            events(&stop(), 99),
            answered(200, "", "{}"),
            answered(200, "", "{}"),
        ]
        .concat(),
    ]);
    let azure = LlmBackend {
        api_version: "2024-10-21".to_owned(),
        model_aliases: [("fast".to_owned(), "gpt 4/o".to_owned())].into(),
        ..own(Wire::Azure)
    };
    let mut bench = Bench::of(&peer, azure).await;
    bench
        .stream("chat", r#"{"prompt":"a","model":"fast"}"#)
        .await
        .unwrap();
    bench.ask("embed", r#"{"input":"a","model":"e"}"#).await.unwrap();
    bench.ask("models", "{}").await.unwrap();
    let first = head(&peer, 0);
    let path = "/openai/deployments/gpt%204%2Fo/chat/completions?api-version=2024-10-21";
    assert!(first.starts_with(&format!("POST {path} ")), "{first}");
    assert!(first.contains(&format!("api-key: {KEY}\r\n")), "{first}");
    assert!(!first.contains("authorization"), "{first}");
    assert!(
        head(&peer, 1).starts_with("POST /openai/deployments/e/embeddings?"),
        "{}",
        head(&peer, 1)
    );
    assert!(
        head(&peer, 2).starts_with("GET /openai/models?api-version="),
        "{}",
        head(&peer, 2)
    );
    let faults = bench.backend.inspect(&operation("chat", HELLO)).unwrap_err();
    assert_eq!(faults.list()[0].field, "params.model");
}

/// A pool of Ollama's with defaults of its own.
fn ollama() -> LlmBackend {
    LlmBackend {
        defaults: Some(LlmDefaults {
            model: "l".to_owned(),
            max_tokens: Some(9),
            temperature: Some(0.0),
        }),
        api_key: None,
        ..own(Wire::Ollama)
    }
}

#[tokio::test]
async fn ollama_streams_lines_to_the_one_that_is_done() {
    let chat = concat!(
        "{\"model\":\"l\",\"message\":{\"content\":\"H\u{e9}\"},\"done\":false}\n",
        "{\"model\":\"l\",\"message\":{\"content\":\"!\"},\"done\":false}\n",
        "{\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":26,\"eval_count\":2}\n",
    );
    let cut = chat.split("{\"done\":true").next().unwrap();
    let failing = "{\"message\":{\"content\":\"a\"}}\n{\"error\":\"an error was encountered while running the model\"}\n";
    let script = [lines(chat, 5), lines(failing, 500)].concat();
    let peer = Peer::start(vec![script, lines(cut, 50)]);
    let mut bench = Bench::of(&peer, ollama()).await;
    let streamed = bench.stream("chat", HELLO).await.unwrap();
    assert_eq!((streamed.text.as_str(), streamed.raw.len()), ("H\u{e9}!", 0));
    assert_eq!(figure(&streamed.usage, "eval_count"), 2.0);
    let (error, executed) = bench.fail("chat", HELLO).await;
    assert_eq!(
        (error.metadata["kind"].as_str(), executed),
        ("upstream_5xx", Executed::Yes)
    );
    let (error, executed) = bench.fail("chat", HELLO).await;
    assert_eq!(
        (error.metadata["kind"].as_str(), executed),
        ("truncated", Executed::Unknown)
    );
}

#[tokio::test]
async fn ollama_has_its_own_paths_and_its_limits_among_options() {
    let complete =
        "{\"response\":\"a\",\"done\":false}\n{\"response\":\"\",\"done\":true,\"done_reason\":\"length\"}";
    let peer = Peer::start(vec![
        [lines(complete, 3), times(3, &answered(200, "", "{}"))].concat(),
    ]);
    let mut bench = Bench::of(&peer, ollama()).await;
    let params = r#"{"prompt":"a","max_tokens":3,"options":{"seed":18446744073709551615,"temperature":1.0}}"#;
    let streamed = bench.stream("complete", params).await.unwrap();
    assert_eq!(streamed.text, "a");
    assert_eq!(streamed.attributes["truncated"], "true");
    bench.ask("chat", HELLO).await.unwrap();
    bench.ask("embed", r#"{"input":"x"}"#).await.unwrap();
    bench.ask("models", "{}").await.unwrap();
    let paths = ["/api/generate", "/api/chat", "/api/embed", "/api/tags"];
    for (seen, path) in peer.requests().iter().zip(paths) {
        let head = &seen.head;
        assert!(
            head.contains(&format!(" {path} ")) && !head.contains("authorization"),
            "{head}"
        );
    }
    assert_eq!(
        bodies(&peer)[..3],
        [
            r#"{"prompt":"a","model":"l","options":{"seed":18446744073709551615,"temperature":1.0,"num_predict":3},"stream":true}"#,
            r#"{"messages":[{"role":"user","content":"hello"}],"model":"l","options":{"num_predict":9,"temperature":0},"stream":false}"#,
            r#"{"input":"x","model":"l"}"#,
        ]
    );
}

#[tokio::test]
async fn a_health_check_asks_for_models_once_and_believes_the_answers_of_others() {
    for (dialect, path) in [(Wire::Openai, "/v1/models"), (Wire::Ollama, "/api/tags")] {
        let peer = Peer::start(vec![times(5, &answered(200, "", "{}"))]);
        let mut bench = Bench::of(&peer, own(dialect)).await;
        for _ in 0..3 {
            bench.session.probe().await.unwrap();
        }
        bench.ask("models", "{}").await.unwrap();
        bench.session.probe().await.unwrap();
        let seen = peer.requests();
        assert!(
            seen[0].head.starts_with(&format!("GET {path} ")),
            "{}",
            seen[0].head
        );
        assert_eq!((seen.len(), peer.lines().len()), (2, 1));
    }
}

#[tokio::test]
async fn a_provider_that_refuses_the_key_or_breaks_is_unhealthy_and_one_without_a_list_is_not() {
    for (status, healthy) in [
        (401, false),
        (500, false),
        (503, false),
        (404, true),
        (405, true),
        (501, true),
        (429, true),
        (403, true),
    ] {
        let peer = Peer::start(vec![answered(status, "", "{}")]);
        let mut bench = Bench::with(&peer).await;
        assert_eq!(bench.session.probe().await.is_ok(), healthy, "{status}");
    }
}

#[tokio::test]
async fn anthropics_pings_may_say_nothing_and_its_errors_need_no_type() {
    let stream = concat!(
        "event: ping\ndata:\n\nevent: ping\ndata: {}\n\n",
        "event: error\ndata: {\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
    );
    let peer = Peer::start(vec![events(stream, 9)]);
    let mut bench = Bench::of(&peer, own(Wire::Anthropic)).await;
    assert_eq!(bench.fail("chat", HELLO).await.0.metadata["kind"], "overloaded");
}
