//! What reaches the provider of what a caller says.

use super::*;
use llm_peer::{answered, events, stop, times, token};

const ANSWER: &str = r#"{"id":"c", "object":"chat.completion","model":"m-1","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"length"}],"usage":{"total_tokens":18446744073709551615}}"#;

#[tokio::test]
async fn params_and_answers_pass_byte_for_byte() {
    let peer = Peer::start(vec![answered(200, "x-request-id: req_7\r\n", ANSWER)]);
    let mut bench = Bench::with(&peer).await;
    let sent = "{ \"z\":18446744073709551615,\n \"temperature\":1.10,\"seed\":9007199254740993,\
                \"messages\" : [ {\"role\":\"user\",\"content\":\"\\u00e9\"} ],\"new\":{\"b\":[1 , 2],\"a\":1e400} }";
    let done = bench.ask("chat", sent).await.unwrap();
    assert_eq!(json_of(&done), ANSWER);
    assert_eq!(bodies(&peer), [sent]);
    let attributes: BTreeMap<_, _> = done.attributes.into_iter().collect();
    let wanted = [
        ("status", "200"),
        ("request_id", "req_7"),
        ("model", "m-1"),
        ("finish_reason", "length"),
        ("truncated", "true"),
    ];
    let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(attributes, wanted.into());
    let head = &peer.requests()[0].head;
    for line in [
        "POST /v1/chat/completions HTTP/1.1\r\n",
        "content-type: application/json\r\n",
        &format!("authorization: Bearer {KEY}\r\n"),
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
}

#[tokio::test]
async fn defaults_and_aliases_fill_in_what_a_call_leaves_out() {
    let peer = Peer::start(vec![times(5, &answered(200, "", ANSWER))]);
    let pool = LlmBackend {
        defaults: Some(LlmDefaults {
            model: "fast".to_owned(),
            max_tokens: Some(64),
            temperature: Some(0.5),
        }),
        model_aliases: [("fast", "m-1"), ("big", "m-\"2\"")]
            .map(|(alias, model)| (alias.to_owned(), model.to_owned()))
            .into(),
        ..own(Wire::Openai)
    };
    let mut bench = Bench::of(&peer, pool).await;
    for params in [
        HELLO,
        r#"{"model":"big","messages":[],"max_tokens":1,"temperature":0}"#,
        r#"{"model":null,"messages":[],"max_completion_tokens":5}"#,
    ] {
        bench.ask("chat", params).await.unwrap();
    }
    bench
        .ask("complete", r#"{"prompt":"a","model":"other"}"#)
        .await
        .unwrap();
    bench.ask("embed", r#"{"input":"x"}"#).await.unwrap();
    assert_eq!(
        bodies(&peer),
        [
            r#"{"messages":[{"role":"user","content":"hello"}],"model":"m-1","max_tokens":64,"temperature":0.5}"#,
            r#"{"model":"m-\"2\"","messages":[],"max_tokens":1,"temperature":0}"#,
            r#"{"model":"m-1","messages":[],"max_completion_tokens":5,"temperature":0.5}"#,
            r#"{"prompt":"a","model":"other","max_tokens":64,"temperature":0.5}"#,
            r#"{"input":"x","model":"m-1"}"#,
        ]
    );
    let heads: Vec<_> = peer.requests().into_iter().map(|seen| seen.head).collect();
    assert!(heads[3].starts_with("POST /v1/completions "), "{}", heads[3]);
    assert!(heads[4].starts_with("POST /v1/embeddings "), "{}", heads[4]);
}

#[tokio::test]
async fn a_streamed_call_says_so_and_asks_for_usage_unless_told_otherwise() {
    let stream = events(&format!("{}{}", token("a"), stop()), 1000);
    let peer = Peer::start(vec![times(5, &stream)]);
    let mut bench = Bench::with(&peer).await;
    for params in [
        r#"{"messages":[]}"#,
        r#"{"messages":[],"stream":true,"sublet":{"events":"both"}}"#,
        r#"{"stream_options":{"x":1},"messages":[]}"#,
        r#"{"messages":[],"stream_options":{"include_usage":false}}"#,
    ] {
        bench.stream("chat", params).await.unwrap();
    }
    assert_eq!(
        bodies(&peer),
        [
            r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream_options":{"x":1,"include_usage":true},"messages":[],"stream":true}"#,
            r#"{"messages":[],"stream_options":{"include_usage":false},"stream":true}"#,
        ]
    );
    let quiet = LlmBackend {
        ask_for_usage: Some(false),
        ..own(Wire::Openai)
    };
    let peer = Peer::start(vec![stream]);
    Bench::of(&peer, quiet)
        .await
        .stream("chat", r#"{"messages":[]}"#)
        .await
        .unwrap();
    assert_eq!(bodies(&peer), [r#"{"messages":[],"stream":true}"#]);
}

#[tokio::test]
async fn a_caller_who_takes_events_may_want_the_answer_whole_but_not_the_other_way_round() {
    let peer = Peer::start(vec![times(2, &answered(200, "", ANSWER))]);
    let mut bench = Bench::with(&peer).await;
    let whole = bench
        .stream("chat", r#"{"messages":[],"stream":false}"#)
        .await
        .unwrap();
    assert_eq!(
        (
            String::from_utf8(whole.data).unwrap().as_str(),
            whole.text.as_str()
        ),
        (ANSWER, "")
    );
    assert_eq!(whole.attributes["finish_reason"], "length");
    // Some servers know of no streams.
    let unasked = bench.stream("chat", HELLO).await.unwrap();
    assert_eq!(unasked.data, ANSWER.as_bytes());
    let error = bench
        .ask("chat", r#"{"messages":[],"stream":true}"#)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, CallError::Invalid(faults) if faults.list()[0].field == "params.stream"),
        "{error:?}"
    );
    assert_eq!(peer.requests().len(), 2);
}

#[tokio::test]
async fn raw_asks_for_any_path_and_interprets_nothing() {
    let odd = r#"{"error": null,"data":[18446744073709551615]}"#;
    let peer = Peer::start(vec![
        [
            answered(200, "", odd),
            answered(200, "", "plain"),
            answered(204, "", ""),
        ]
        .concat(),
    ]);
    let mut bench = Bench::made(&spec(
        &format!("http://{}/api/v2/", peer.address()),
        own(Wire::Openai),
    ))
    .await;
    let done = bench
        .ask("raw", r#"{"path":"/responses?a=1","json":{"b": 1.0}}"#)
        .await
        .unwrap();
    assert_eq!(json_of(&done), odd);
    let done = bench.ask("raw", r#"{"path":"/files/f"}"#).await.unwrap();
    assert!(
        matches!(&done.output, Output::Body(bytes) if bytes == "plain"),
        "{done:?}"
    );
    bench
        .ask("raw", r#"{"path":"/files/f","method":"delete"}"#)
        .await
        .unwrap();
    let heads: Vec<_> = peer.requests().into_iter().map(|seen| seen.head).collect();
    assert!(
        heads[0].starts_with("POST /api/v2/responses?a=1 "),
        "{}",
        heads[0]
    );
    assert!(heads[1].starts_with("GET /api/v2/files/f "), "{}", heads[1]);
    assert!(heads[2].starts_with("DELETE /api/v2/files/f "), "{}", heads[2]);
    assert_eq!(bodies(&peer)[0], r#"{"b": 1.0}"#);
}

#[tokio::test]
async fn nonsense_is_refused_with_its_field_before_anything_is_sent() {
    let peer = Peer::start(vec![vec![Step::ToEnd]]);
    let bench = Bench::with(&peer).await;
    for (name, params, field) in [
        ("chatter", "{}", "name"),
        ("chat", "{}", "params"),
        ("chat", "[]", "params"),
        ("chat", "{\"messages\":", "params"),
        ("chat", r#"{"prompt":["a"]}"#, "params.prompt"),
        ("chat", r#"{"prompt":"a","messages":[]}"#, "params.prompt"),
        ("chat", r#"{"prompt":"a","stream":1}"#, "params.stream"),
        (
            "chat",
            r#"{"prompt":"a","sublet":{"event":"raw"}}"#,
            "params.sublet",
        ),
        ("models", r#"{"limit":1}"#, "params"),
        ("raw", "{}", "params"),
        ("raw", r#"{"path":"x"}"#, "params.path"),
        ("raw", r#"{"path":"/a/../b"}"#, "params.path"),
        ("raw", r#"{"path":"/a/%2e%2e/b"}"#, "params.path"),
        ("raw", r##"{"path":"/a#b"}"##, "params.path"),
        ("raw", r#"{"path":"/a b"}"#, "params.path"),
        ("raw", r#"{"path":"/caf\u00e9"}"#, "params.path"),
        ("raw", r#"{"path":"/a?q=\u65e5"}"#, "params.path"),
        ("raw", r#"{"path":"/a\tb"}"#, "params.path"),
        ("raw", r#"{"path":"/a\u007fb"}"#, "params.path"),
        ("raw", r#"{"path":"/a","method":"CONNECT"}"#, "params.method"),
    ] {
        let faults = bench.backend.inspect(&operation(name, params)).unwrap_err();
        assert_eq!(faults.list()[0].field, field, "{name} {params}: {faults}");
    }
    let empty = Operation {
        params: Params::Empty,
        ..operation("chat", "")
    };
    let faults = bench.backend.inspect(&empty).unwrap_err();
    assert!(faults.to_string().contains("params_json is safer"), "{faults}");
    assert_eq!(bench.fence.sent(), 0);
}

#[tokio::test]
async fn a_call_that_another_definition_has_read_is_read_anew_by_the_sessions_own() {
    let peer = Peer::start(vec![answered(200, "", ANSWER)]);
    let named = |model: &str| LlmBackend {
        model_aliases: [("fast".to_owned(), model.to_owned())].into(),
        ..own(Wire::Openai)
    };
    let mut bench = Bench::of(&peer, named("m-1")).await;
    // The pool was changed while somebody holds the session.
    bench.backend = backend(&spec(&peer.address(), named("m-2"))).unwrap();
    bench
        .ask("chat", r#"{"model":"fast","messages":[]}"#)
        .await
        .unwrap();
    assert_eq!(bodies(&peer), [r#"{"model":"m-1","messages":[]}"#]);
}
