//! The conversation recorded from a real llama.cpp server, chapter by chapter: what the kind sends is what was sent
//! then, and what the server said comes out as it should.

use serde_json::Value;

use super::*;
use llm_peer::{Recorded, conversation};

/// An exchange of a chapter, the `number`th.
fn exchange(chapter: &str, number: usize) -> Recorded {
    let mut found = conversation()
        .into_iter()
        .filter(|found| found.chapter == chapter);
    found.nth(number).unwrap()
}

async fn bench(recorded: &Recorded) -> (Peer, Bench) {
    let peer = Peer::start(vec![recorded.steps()]);
    let bench = Bench::with(&peer).await;
    (peer, bench)
}

/// The request that came, as JSON, is the recorded one.
fn assert_asked(peer: &Peer, recorded: &Recorded, without: &[&str]) {
    let seen = &peer.requests()[0];
    assert!(
        seen.head.starts_with(&format!("{} ", recorded.asked)),
        "{}",
        seen.head
    );
    let mut sent: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    for member in without {
        sent.as_object_mut().unwrap().remove(*member);
    }
    assert_eq!(sent, recorded.request);
}

#[tokio::test]
async fn whole_answers_pass_as_they_were() {
    for (chapter, name, finish) in [
        ("models", "models", None),
        ("chat", "chat", Some("length")),
        ("complete", "complete", Some("length")),
        ("stop word", "complete", Some("stop")),
    ] {
        let recorded = exchange(chapter, 0);
        let (peer, mut bench) = bench(&recorded).await;
        let params = if recorded.request.is_null() {
            "{}".to_owned()
        } else {
            recorded.request.to_string()
        };
        let done = bench.ask(name, &params).await.unwrap();
        assert_eq!(json_of(&done), recorded.parts[0], "{chapter}");
        assert_asked(&peer, &recorded, &[]);
        let attributes: BTreeMap<_, _> = done.attributes.into_iter().collect();
        assert_eq!(
            attributes.get("finish_reason").map(String::as_str),
            finish,
            "{chapter}"
        );
    }
}

#[tokio::test]
async fn streamed_answers_come_out_token_by_token_with_or_without_usage() {
    for (chapter, name, text) in [
        ("chat, streamed", "chat", " a and ready to and of a lease"),
        ("chat, streamed, usage asked for", "chat", " lease to and ready"),
        ("complete, streamed", "complete", " ready to , is"),
    ] {
        let recorded = exchange(chapter, 0);
        let (peer, mut bench) = bench(&recorded).await;
        let streamed = bench.stream(name, &recorded.request.to_string()).await.unwrap();
        assert_eq!(
            (streamed.text.as_str(), streamed.raw.len()),
            (text, 0),
            "{chapter}"
        );
        assert_eq!(streamed.attributes["finish_reason"], "length");
        assert_eq!(streamed.usage, None, "this server ignores the question");
        let asked_then = recorded.request.get("stream_options").is_some();
        assert_asked(
            &peer,
            &recorded,
            if asked_then { &[] } else { &["stream_options"] },
        );
    }
}

#[tokio::test]
async fn refusals_are_read_as_this_server_writes_them() {
    let kinds = [
        // Broken JSON, which the kind itself would never send.
        (
            1,
            "raw",
            r#"{"path":"/chat/completions","json":{}}"#,
            "upstream_5xx",
            "Internal Server Error",
        ),
        (2, "raw", r#"{"path":"/absent"}"#, "not_found", "Not Found"),
        (
            4,
            "embed",
            r#"{"model":"tiny","input":"x"}"#,
            "upstream_5xx",
            "embedding=True",
        ),
    ];
    for (number, name, params, kind, words) in kinds {
        let recorded = exchange("errors", number);
        let (_peer, mut bench) = bench(&recorded).await;
        let (error, _) = failure(bench.ask(name, params).await.unwrap_err());
        assert_eq!(error.metadata["kind"], kind);
        assert!(error.message.contains(words), "{}", error.message);
        assert_eq!(error.metadata["provider_status"], recorded.status.to_string());
    }
    let recorded = exchange("errors", 3);
    let (peer, mut bench) = bench(&recorded).await;
    let (error, executed) = failure(
        bench
            .ask("complete", &recorded.request.to_string())
            .await
            .unwrap_err(),
    );
    assert_eq!(
        (error.metadata["kind"].as_str(), executed),
        ("context_length", Executed::No)
    );
    assert_eq!(error.metadata["provider_code"], "context_length_exceeded");
    assert_asked(&peer, &recorded, &[]);
}

#[tokio::test]
async fn a_chat_without_messages_is_refused_though_this_server_answers_it() {
    let recorded = exchange("errors", 0);
    assert_eq!(
        (recorded.status, &recorded.request),
        (200, &json!({"model": "tiny"}))
    );
    let (peer, bench) = bench(&recorded).await;
    let faults = bench
        .backend
        .inspect(&operation("chat", &recorded.request.to_string()))
        .unwrap_err();
    assert_eq!(faults.list()[0].field, "params");
    assert!(peer.requests().is_empty());
}

#[tokio::test]
async fn a_stream_of_nothing_is_what_this_server_makes_of_an_overflow() {
    let recorded = exchange("context overflow while streaming", 0);
    assert_eq!((recorded.status, recorded.parts.len()), (200, 0));
    let (_peer, mut bench) = bench(&recorded).await;
    let (error, executed) = bench.fail("complete", &recorded.request.to_string()).await;
    assert_eq!(
        (error.metadata["kind"].as_str(), executed),
        ("truncated", Executed::Unknown)
    );
}
