//! Streamed text of an LLM's.

use sublet::proto::{Endpoint, LlmBackend, pool_spec::Backend};

use super::*;
use crate::support::{
    http_peer::{End, Peer, Step},
    llm_peer::{END, answered, begun, chunk, events, stop, token},
};

async fn stage(peer: &Peer) -> Stage {
    let spec = PoolSpec {
        endpoints: vec![Endpoint {
            address: format!("http://{}", peer.address()),
            ..Endpoint::default()
        }],
        backend: Some(Backend::Llm(LlmBackend::default())),
        ..PoolSpec::default()
    };
    Stage::with("llm", spec).await
}

const CHAT: [&str; 4] = ["--pool", "llm", "chat", "{\"prompt\": \"hello\"}"];

#[tokio::test]
async fn text_is_on_standard_output_as_it_comes() {
    let rest = format!("{}{}", token("upon a time"), stop());
    let script = [
        begun(&token("Once ")),
        vec![
            Step::Wait,
            Step::Send(chunk(rest.as_bytes())),
            Step::Send(END.to_vec()),
        ],
    ];
    let peer = Peer::start(vec![script.concat()]);
    let stage = stage(&peer).await;
    let mut child = stage.command(&CHAT).spawn().unwrap();
    // The provider says the rest only after this.
    until(&mut child, "Once ").await;
    peer.go_on();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "upon a time\n");
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

#[tokio::test]
async fn what_it_cost_is_told_to_who_asks() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"total_tokens\":5}}\n\n";
    let said = format!(
        "{}{}{}",
        token("a\n"),
        stop().replace("data: [DONE]\n\n", usage),
        "data: [DONE]\n\n"
    );
    let peer = Peer::start(vec![events(&said, 40)]);
    let stage = stage(&peer).await;
    let ran = stage.run(&[&CHAT[..], &["--verbose"]].concat()).await;
    assert_eq!(ran.well(), "a\n", "no second line break");
    for part in [
        "waited ",
        "finish_reason: stop\n",
        "usage: {\"prompt_tokens\":3,\"total_tokens\":5}\n",
    ] {
        assert!(ran.err.contains(part), "{ran:?}");
    }
}

#[tokio::test]
async fn a_signal_ends_the_request_at_the_provider() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let hanging = [begun(&token("Once ")), vec![Step::ToEnd]].concat();
        let peer = Peer::start(vec![hanging]);
        let stage = stage(&peer).await;
        let mut child = stage.command(&CHAT).spawn().unwrap();
        until(&mut child, "Once ").await;
        assert_eq!(peer.lines()[0].end, None);
        let (ended, said) = signalled(child, signal).await;
        assert_eq!(
            (ended, said.as_str()),
            (Some(code), "sublet: the call is cancelled\n")
        );
        peer.until(|lines| lines[0].end == Some(End::Reset)).await;
    }
}

#[tokio::test]
async fn a_refusal_of_the_provider_is_told_with_its_advice() {
    let body = r#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#;
    let peer = Peer::start(vec![answered(429, "Retry-After: 2\r\n", body)]);
    let stage = stage(&peer).await;
    let ran = stage.run(&CHAT).await;
    for part in [
        "sublet: RESOURCE_EXHAUSTED BACKEND_ERROR: ",
        "Rate limit reached",
        "\n  executed: no\n  kind: rate_limited\n",
        "\n  provider_code: rate_limit_exceeded\n",
        "\n  try again in: 2s\n",
    ] {
        assert!(ran.ill(1).contains(part), "{ran:?}");
    }
}
