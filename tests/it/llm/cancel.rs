//! Callers who go, leases that end, and callers who do not read: the provider notices, and nobody else does.

use sublet::proto::RevokeLeaseRequest;

use super::*;
use crate::support::{
    h2_peer::{DATA, H2Peer, Manners},
    http_peer::{End, Identity, Step},
    llm_peer::{END, begun, chunk, events, stop, token},
};

#[tokio::test]
async fn a_client_that_is_killed_in_mid_stream_ends_the_request_at_the_provider() {
    let hanging = [begun(&token("a")), vec![Step::ToEnd]].concat();
    let peer = Peer::start(vec![hanging, events(&format!("{}{}", token("b"), stop()), 40)]);
    let (app, mut broker) = stage(&openai(&peer), LlmBackend::default()).await;
    let mut stream = begin(&mut broker, hello()).await.unwrap();
    assert_eq!(first_text(&mut stream).await, "a");
    assert_eq!(peer.lines()[0].end, None);
    drop((stream, broker));
    peer.until(|lines| lines[0].end == Some(End::Reset)).await;
    // The slot is the next one's.
    let mut other = crate::support::calls::broker(&app.address);
    let mut stream = begin(&mut other, hello()).await.unwrap();
    assert_eq!(first_text(&mut stream).await, "b");
    app.stop().await;
}

#[tokio::test]
async fn over_http2_only_the_stream_of_who_goes_is_reset() {
    let identity = Identity::speaking(&[b"h2", b"http/1.1"]);
    let silent = Manners {
        answers: false,
        ..Manners::default()
    };
    let peer = H2Peer::start_tls(vec![silent], identity.acceptor());
    let app = App::start().await;
    let address = format!("https://localhost:{}", peer.port());
    let mut pool = definition(&address, trusting(Dialect::Ollama));
    pool.sizing.as_mut().unwrap().max_sessions = Some(2);
    create(&app.address, "llm", pool).await;
    let line = b"{\"message\":{\"content\":\"a\"},\"done\":false}\n";
    let mut streams = Vec::new();
    for number in [1, 3] {
        let mut broker = broker(&app.address);
        let begun = async {
            peer.until(|wires| wires.iter().map(|wire| wire.open.len()).sum::<usize>() == streams.len() + 1)
                .await;
            peer.head(0, number);
            peer.say(0, (DATA, 0), number, line);
        };
        let (stream, ()) = tokio::join!(begin(&mut broker, hello()), begun);
        let mut stream = stream.unwrap();
        assert_eq!(first_text(&mut stream).await, "a");
        streams.push(stream);
    }
    assert_eq!(peer.wires().len(), 1, "both are on one connection");
    drop(streams.remove(0));
    peer.until(|wires| wires[0].resets(1) == 1).await;
    let last = b"{\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n";
    peer.say(0, (DATA, 1), 3, last);
    let mut rest = streams.remove(0);
    assert!(matches!(
        next(&mut rest).await.unwrap(),
        Some(event::Event::End(_))
    ));
    assert_eq!(peer.wires()[0].resets(3), 0);
    app.stop().await;
}

#[tokio::test]
async fn a_lease_that_is_revoked_in_mid_stream_ends_the_request() {
    let peer = Peer::start(vec![
        [begun(&token("a")), vec![Step::ToEnd]].concat(),
        events(&stop(), 40),
    ]);
    let (app, mut broker) = stage(&openai(&peer), LlmBackend::default()).await;
    let lease = lease(&mut broker, "llm").await;
    let mut stream = begin(
        &mut broker,
        on_lease(&lease.lease_token, "chat", r#"{"prompt":"a"}"#),
    )
    .await
    .unwrap();
    assert_eq!(first_text(&mut stream).await, "a");
    let revoke = RevokeLeaseRequest {
        lease_id: lease.lease.unwrap().id,
    };
    pools(&app.address).revoke_lease(revoke).await.unwrap();
    let ended = next(&mut stream).await.unwrap_err();
    assert_eq!(
        (reason(&ended).as_str(), executed(&ended).as_str()),
        ("LEASE_REVOKED", "unknown")
    );
    peer.until(|lines| lines[0].end == Some(End::Reset)).await;
    begin(&mut broker, hello()).await.unwrap();
    app.stop().await;
}

/// Far more than what lies between a provider that sends and a caller who does not read.
const TOKENS: usize = 64;
const LONG: usize = 512 * 1024;

#[tokio::test]
async fn a_caller_who_does_not_read_pauses_the_provider() {
    let long = token(&"x".repeat(LONG));
    let script: Vec<Step> = begun(&token("a"))
        .into_iter()
        .chain((0..TOKENS).map(|_| Step::Send(chunk(long.as_bytes()))))
        .chain([Step::Send(chunk(stop().as_bytes())), Step::Send(END.to_vec())])
        .collect();
    let peer = Peer::start(vec![script]);
    let (app, mut broker) = stage(&openai(&peer), LlmBackend::default()).await;
    let mut stream = begin(&mut broker, hello()).await.unwrap();
    assert_eq!(first_text(&mut stream).await, "a");
    // Were it read on, the provider would have got rid of it all long before this ends.
    for _ in 0..500 {
        stats(&app.address, "llm").await;
        assert!(
            peer.lines()[0].sent < TOKENS * LONG / 2,
            "it could send {}",
            peer.lines()[0].sent
        );
    }
    let mut seen = 0;
    while let Some(event) = next(&mut stream).await.unwrap() {
        if let event::Event::Text(text) = event {
            seen += text.len();
        }
    }
    assert_eq!(seen, TOKENS * LONG);
    app.stop().await;
}
