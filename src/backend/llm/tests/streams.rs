//! Streamed answers: what comes out, at whose pace, and what a caller who goes leaves behind.

use std::time::Duration;

use super::*;
use llm_peer::{END, begun, chunk, events, stop, times, token};

const TOOLS: &str = r#"{"model":"m-1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{\"seed\":18446744073709551615}"}}]}}]}"#;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#;

fn answer() -> String {
    format!(
        ": ping\n\ndata: {{\"model\":\"m-1\",\"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}}}}]}}\n\n{}{}data: {TOOLS}\n\n{}",
        token("日本 "),
        token("é\n"),
        stop().replace("data: [DONE]", &format!("data: {USAGE}\n\ndata: [DONE]"))
    )
}

#[tokio::test]
async fn text_usage_and_facts_come_out_wherever_the_stream_is_cut() {
    let (plain, windows) = (answer(), answer().replace('\n', "\r\n"));
    for (text, size) in [
        (&plain, 1),
        (&plain, 7),
        (&plain, 64),
        (&plain, 10_000),
        (&windows, 1),
        (&windows, 13),
    ] {
        let peer = Peer::start(vec![events(text, size)]);
        let streamed = Bench::with(&peer).await.stream("chat", HELLO).await.unwrap();
        assert_eq!(streamed.text, "日本 é\n", "chunks of {size}");
        assert_eq!(streamed.raw, [TOOLS], "what is more than text comes as it is");
        assert_eq!(figure(&streamed.usage, "total_tokens"), 7.0);
        let facts = [
            ("finish_reason", "stop"),
            ("truncated", "false"),
            ("model", "m-1"),
            ("request_id", "req_1"),
            ("ratelimit_remaining_requests", "59"),
            ("status", "200"),
        ];
        for (name, value) in facts {
            assert_eq!(streamed.attributes[name], value, "{name}");
        }
        assert!(
            streamed.attributes["time_to_first_token_ms"]
                .parse::<u64>()
                .is_ok()
        );
    }
}

#[tokio::test]
async fn raw_parts_come_as_they_are_without_what_nobody_asked_for() {
    let peer = Peer::start(vec![times(3, &events(&answer(), 50))]);
    let mut bench = Bench::with(&peer).await;
    let raw = r#"{"prompt":"a","sublet":{"events":"raw"}}"#;
    let wanted: Vec<String> = answer()
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"))
        .map(|rest| format!("{{{rest}"))
        .collect();
    let without: Vec<_> = wanted.iter().filter(|part| *part != USAGE).cloned().collect();
    let streamed = bench.stream("chat", raw).await.unwrap();
    assert_eq!((streamed.raw, streamed.text.as_str()), (without.clone(), ""));
    assert_eq!(figure(&streamed.usage, "prompt_tokens"), 5.0);
    let both = raw.replace("raw", "both");
    let streamed = bench.stream("chat", &both).await.unwrap();
    assert_eq!((streamed.raw, streamed.text.as_str()), (without, "日本 é\n"));
    let asked = raw.replace(
        "\"sublet\"",
        "\"stream_options\":{\"include_usage\":true},\"sublet\"",
    );
    let streamed = bench.stream("chat", &asked).await.unwrap();
    assert_eq!(streamed.raw, wanted, "who asked for usage has its chunk");
    assert_eq!(peer.lines().len(), 1, "streams keep their connection");
}

#[tokio::test]
async fn a_part_that_is_too_long_ends_the_answer_and_not_the_session() {
    let endless = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}",
        "x".repeat(2 << 20)
    );
    let peer = Peer::start(vec![events(&endless, 10_000), events(&stop(), 100)]);
    let mut bench = Bench::with(&peer).await;
    let error = bench.stream("chat", HELLO).await.unwrap_err();
    let limit = frames::MAX_FRAME;
    assert!(
        matches!(error, CallError::Sink(crate::backend::SinkClosed::PartTooLarge { limit: told, .. }) if told == limit),
        "{error:?}"
    );
    bench.session.settle().await.unwrap();
    bench.stream("chat", HELLO).await.unwrap();
}

#[tokio::test]
async fn a_whole_answer_that_is_too_large_for_one_message_can_be_streamed() {
    let long = format!("{{\"data\":[\"{}\"]}}", "x".repeat(5 << 20));
    let peer = Peer::start(vec![
        llm_peer::answered(200, "", &long),
        llm_peer::answered(200, "", &long),
    ]);
    let mut bench = Bench::with(&peer).await;
    let error = bench.ask("embed", r#"{"input":"x"}"#).await.unwrap_err();
    assert!(
        matches!(error, CallError::Sink(crate::backend::SinkClosed::TooLarge)),
        "{error:?}"
    );
    bench.session.settle().await.unwrap();
    let streamed = bench.stream("embed", r#"{"input":"x"}"#).await.unwrap();
    assert!(streamed.data == long.as_bytes());
}

#[tokio::test]
async fn raw_streams_pass_as_they_come() {
    let mut script = begun("event: response.created\ndata: {\"a\": 1}\n\n");
    script.extend([
        Step::Wait,
        Step::Send(chunk(b"data: {}\n\n")),
        Step::Send(END.to_vec()),
    ]);
    let peer = Peer::start(vec![script]);
    let mut bench = Bench::with(&peer).await;
    let (events, mut seen) = mpsc::channel(10);
    let mut sink = Sink::Stream(events);
    let call = bench.session.execute(
        operation("raw", r#"{"path":"/responses","json":{"stream":true}}"#),
        &mut sink,
    );
    let read = async {
        let first = seen.recv().await;
        assert!(matches!(first, Some(Event::Data(part)) if part.starts_with(b"event: response.created")));
        peer.go_on();
        assert!(matches!(seen.recv().await, Some(Event::Data(part)) if part == "data: {}\n\n"));
    };
    let both = async { tokio::join!(call, read) };
    let (done, ()) = tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .expect("it is held back");
    done.unwrap();
}

#[tokio::test]
async fn a_dropped_call_ends_the_request_and_the_slot_goes_on() {
    let peer = Peer::start(vec![
        [begun(&token("a")), vec![Step::ToEnd]].concat(),
        events(&stop(), 100),
    ]);
    let mut bench = Bench::with(&peer).await;
    let (events, mut seen) = mpsc::channel(10);
    let mut sink = Sink::Stream(events);
    {
        let mut call = bench.session.execute(operation("chat", HELLO), &mut sink);
        tokio::select! {
            event = seen.recv() => assert!(matches!(event, Some(Event::Text(_)))),
            done = &mut call => panic!("{done:?}"),
        }
    }
    bench.session.settle().await.unwrap();
    peer.until(|lines| lines[0].end == Some(End::Reset)).await;
    bench.stream("chat", HELLO).await.unwrap();
}

/// Far more than what lies between a provider that sends and a caller who does not read.
const TOKENS: usize = 64;
const LONG: usize = 512 * 1024;

#[tokio::test]
async fn a_caller_who_does_not_read_pauses_the_provider() {
    let long = chunk(token(&"x".repeat(LONG)).as_bytes());
    let mut script = begun("");
    script.extend((0..TOKENS).map(|_| Step::Send(long.clone())));
    script.extend([Step::Send(chunk(stop().as_bytes())), Step::Send(END.to_vec())]);
    let peer = Peer::start(vec![script]);
    let mut bench = Bench::with(&peer).await;
    let (events, mut seen) = mpsc::channel(1);
    let mut sink = Sink::Stream(events);
    let mut call = bench.session.execute(operation("chat", HELLO), &mut sink);
    let mut before = 0;
    // Until a whole round of everyone's work moves nothing any more.
    for still in 0.. {
        assert!(futures_util::poll!(&mut call).is_pending());
        tokio::task::yield_now().await;
        let sent = peer.lines()[0].sent;
        if sent > LONG && sent == before && still > 10_000 {
            break;
        }
        before = sent;
    }
    assert!(
        before < TOKENS * LONG / 2,
        "the provider could send {before} bytes"
    );
    let read = async {
        let mut text = 0;
        while text < TOKENS * LONG {
            if let Some(Event::Text(part)) = seen.recv().await {
                text += part.len();
            }
        }
    };
    let (done, ()) = tokio::join!(call, read);
    done.unwrap();
}

#[tokio::test]
async fn a_long_whole_answer_says_what_it_cost_and_why_it_ended() {
    let long = "x".repeat(200_000);
    let answer = format!(
        r#"{{"model":"m-1","choices":[{{"message":{{"content":"{long}"}},"finish_reason":"length"}}],"usage":{{"total_tokens":7}}}}"#
    );
    let peer = Peer::start(vec![times(2, &llm_peer::answered(200, "", &answer))]);
    let mut bench = Bench::with(&peer).await;
    let params = r#"{"prompt":"a","stream":false}"#;
    let streamed = bench.stream("chat", params).await.unwrap();
    assert!(streamed.data == answer.as_bytes(), "it is passed on unchanged");
    assert_eq!(figure(&streamed.usage, "total_tokens"), 7.0);
    for (name, value) in [
        ("finish_reason", "length"),
        ("truncated", "true"),
        ("model", "m-1"),
    ] {
        assert_eq!(streamed.attributes[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_provider_that_takes_its_time_behind_the_end_marker_holds_up_nobody() {
    let cost = format!("data: {USAGE}\n\ndata: [DONE]");
    let text = stop().replace("data: [DONE]", &cost);
    let mut script = begun(&token("a"));
    script.extend([Step::Wait, Step::Send(chunk(text.as_bytes())), Step::ToEnd]);
    let peer = Peer::start(vec![script]);
    let mut bench = Bench::with(&peer).await;
    let (events, mut seen) = mpsc::channel(10);
    let mut sink = Sink::Stream(events);
    let mut call = bench.session.execute(operation("chat", HELLO), &mut sink);
    tokio::select! {
        _ = &mut call => panic!("it ended"),
        event = seen.recv() => assert!(matches!(event, Some(Event::Text(_))), "{event:?}"),
    }
    // Nothing moves any more but the clock, and what is said now.
    tokio::time::pause();
    let clock = Clock::tokio();
    peer.go_on();
    tokio::select! {
        _ = &mut call => panic!("it ended"),
        event = seen.recv() => assert!(matches!(event, Some(Event::Usage(_))), "{event:?}"),
    }
    let waited = clock.now().since(crate::clock::Time::ZERO);
    assert_eq!(waited, Duration::ZERO, "what it cost is told at once");
    call.await.unwrap();
    let waited = clock.now().since(crate::clock::Time::ZERO);
    assert!(waited < Duration::from_millis(260), "it took {waited:?}");
}

#[tokio::test]
async fn events_without_a_word_are_none() {
    let text = format!("data:\n\n{}event: ping\ndata: \n\ndata\n\n{}", token("a"), stop());
    let peer = Peer::start(vec![events(&text, 9)]);
    let both = r#"{"prompt":"a","sublet":{"events":"both"}}"#;
    let streamed = Bench::with(&peer).await.stream("chat", both).await.unwrap();
    assert_eq!((streamed.text.as_str(), streamed.raw.len()), ("a", 2));
}

#[tokio::test]
async fn raw_parts_that_begin_with_white_space_are_parts() {
    let text = format!("{}{}", token("a"), stop()).replace("data: {", "data: \t {");
    let peer = Peer::start(vec![times(2, &events(&text, 50))]);
    let mut bench = Bench::with(&peer).await;
    for how in ["raw", "both"] {
        let params = format!(r#"{{"prompt":"a","sublet":{{"events":"{how}"}}}}"#);
        let streamed = bench.stream("chat", &params).await.unwrap();
        assert_eq!(streamed.raw.len(), 2, "{how}: {:?}", streamed.raw);
        assert!(streamed.raw[0].starts_with("\t {"), "{:?}", streamed.raw);
    }
}
