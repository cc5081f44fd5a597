//! Callers of the provider itself, with a kept connection each, who read its events as the broker does.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::rounds::{self, Heard, Listening};
use crate::{tokens::TOKEN, trust::connector};

type Connection = SendRequest<Full<Bytes>>;

pub struct Direct(Vec<Connection>);

#[derive(Deserialize)]
struct Chunk {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Delta,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
}

impl Direct {
    pub async fn connect(address: &str, tls: bool, count: usize) -> Self {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(connect(address, tls).await);
        }
        Self(connections)
    }

    pub async fn ask(&mut self, count: usize, asked: &str) -> Vec<Heard> {
        let rest = self.0.split_off(count);
        let body = Bytes::from(asked.replacen('{', "{\"stream\":true,", 1));
        let asking = self.0.drain(..).map(|connection| {
            let body = body.clone();
            tokio::spawn(listen(connection, body))
        });
        let answered = rounds::all(asking.collect()).await;
        let (heard, connections): (Vec<_>, Vec<_>) = answered.into_iter().unzip();
        self.0 = connections;
        self.0.extend(rest);
        heard
    }
}

async fn connect(address: &str, tls: bool) -> Connection {
    let socket = TcpStream::connect(address).await.expect("a connection");
    socket.set_nodelay(true).expect("nodelay");
    if !tls {
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("a handshake");
        tokio::spawn(connection);
        return sender;
    }
    let name = ServerName::try_from("localhost").expect("a name");
    let socket = connector().connect(name, socket).await.expect("a handshake");
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("a handshake");
    tokio::spawn(connection);
    sender
}

async fn listen(mut connection: Connection, body: Bytes) -> (Heard, Connection) {
    let mut listening = Listening::begin();
    connection.ready().await.expect("a connection");
    let request = Request::post("/v1/chat/completions")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(body))
        .expect("a request");
    let answer = connection.send_request(request).await.expect("an answer");
    let (mut answer, mut held, mut ended) = (answer.into_body(), Vec::new(), false);
    while let Some(frame) = answer.frame().await {
        held.extend_from_slice(frame.expect("a part").data_ref().expect("no trailers"));
        let whole = held
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for line in held[..whole].split(|byte| *byte == b'\n') {
            match line.strip_prefix(b"data: ") {
                Some(b"[DONE]") => ended = true,
                Some(chunk) => listening.text(tokens(chunk)),
                None => {}
            }
        }
        held.drain(..whole);
    }
    assert!(ended, "the stream broke off");
    (listening.end(), connection)
}

fn tokens(chunk: &[u8]) -> usize {
    let chunk: Chunk = serde_json::from_slice(chunk).expect("a chunk");
    let content = chunk.choices.into_iter().find_map(|choice| choice.delta.content);
    content.map_or(0, |content| content.len() / TOKEN.len())
}
