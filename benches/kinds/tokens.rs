//! An LLM provider, a process of its own: it streams as many tokens as `max_tokens` says, as OpenAI does; all of them
//! at once, or one every few milliseconds if the `model` is called so.

use std::{convert::Infallible, process::ExitCode, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

use crate::support::http_peer::Identity;

/// Between two tokens of a model that takes its time.
pub const PACE: Duration = Duration::from_millis(20);
/// The models.
pub const AT_ONCE: &str = "at-once";
pub const PACED: &str = "paced";
/// Every token.
pub const TOKEN: &str = " token";

#[derive(Deserialize)]
struct Asked {
    model: String,
    max_tokens: usize,
}

/// Serves until it is killed; prints `plain tls`, its two addresses.
pub fn serve() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let plain = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let secure = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!(
            "{} {}",
            plain.local_addr().expect("one"),
            secure.local_addr().expect("one")
        );
        let acceptor = Identity::new().acceptor();
        tokio::spawn(async move {
            loop {
                let (socket, _) = plain.accept().await.expect("a client");
                socket.set_nodelay(true).expect("nodelay");
                tokio::spawn(answer(socket));
            }
        });
        loop {
            let (socket, _) = secure.accept().await.expect("a client");
            socket.set_nodelay(true).expect("nodelay");
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(socket) = acceptor.accept(socket).await {
                    answer(socket).await;
                }
            });
        }
    })
}

async fn answer(socket: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(async |request: Request<Incoming>| {
        let body = request.into_body().collect().await.expect("a request").to_bytes();
        let asked: Asked = serde_json::from_slice(&body).expect("a chat");
        let pace = (asked.model == PACED).then_some(PACE);
        let frames = events(asked.max_tokens, pace).map(|event| Ok::<_, Infallible>(Frame::data(event)));
        let answer = Response::builder().header("content-type", "text/event-stream");
        Ok::<_, Infallible>(answer.body(StreamBody::new(Box::pin(frames))).expect("an answer"))
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service)
        .await
        .ok();
}

fn events(tokens: usize, pace: Option<Duration>) -> impl Stream<Item = Bytes> {
    let about = r#""id":"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz","object":"chat.completion.chunk","created":1760000000,"model":"bench","system_fingerprint":"fp_0123456789""#;
    let event = |delta: &str, finish: &str| {
        Bytes::from(format!(
            "data: {{{about},\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}],\
             \"usage\":null}}\n\n"
        ))
    };
    let token = event(&format!("{{\"content\":\"{TOKEN}\"}}"), "null");
    let last = [
        event("{}", "\"stop\""),
        Bytes::from(format!(
            "data: {{{about},\"choices\":[],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":{tokens},\"total_tokens\":{}}}}}\n\n",
            tokens + 3
        )),
        Bytes::from_static(b"data: [DONE]\n\n"),
    ];
    let begun = tokio::time::Instant::now();
    let tokens = stream::iter(0..tokens).then(move |number| {
        let token = token.clone();
        async move {
            if let Some(pace) = pace {
                tokio::time::sleep_until(begun + pace * u32::try_from(number).expect("few")).await;
            }
            token
        }
    });
    tokens.chain(stream::iter(last))
}
