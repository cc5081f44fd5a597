//! Streams of tokens from an LLM provider, through the broker beside the same without it: what each token costs, how
//! much later the first one comes, and how much memory the broker has while they run.

mod direct;
mod rounds;

use sublet::proto::{
    Endpoint, ExecuteStreamRequest, LlmBackend, PoolSpec, Sizing, Tls, event::Event, pool_spec::Backend,
};

use crate::{
    Effort,
    broker::Broker,
    cpu::{Server, role},
    support::calls::{self, broker, one_shot},
    tokens::{AT_ONCE, PACED, TOKEN},
};
use direct::Direct;
use rounds::{Heard, Listening, Side};

/// Streams at the same time.
const STREAMS: usize = 200;
/// Tokens of each.
const TOKENS: usize = 500;
/// Streams of one token, one after the other, for the time to the first token on an idle machine.
const SINGLES: usize = 300;
/// Connections to the broker, where there are many callers.
const CONNECTIONS: usize = 4;

pub async fn measure(effort: &Effort) {
    let provider = Server::start(&mut role("serve-tokens"));
    let (plain, secure) = provider.address.split_once(' ').expect("two addresses");
    for (name, address, tls) in [("HTTP", plain, false), ("HTTPS", secure, true)] {
        // A broker for each, so that the memory is its alone.
        let server = Broker::start().await;
        calls::create(&server.address, "llm", definition(address, tls)).await;
        let direct = Direct::connect(address, tls, STREAMS).await;
        let pooled = Pooled::connect(&server.address);
        let mut sides = [
            Side::new("direct, a connection for each stream", Callers::Direct(direct)),
            Side::new("Sublet, ExecuteStream", Callers::Pooled(pooled)).of(server.id()),
        ];
        rounds::first_tokens(
            &format!("{name}, one stream at a time"),
            &mut sides,
            SINGLES,
            effort,
        )
        .await;
        let title = format!("{name}, {STREAMS} streams of {TOKENS} tokens, as fast as they go");
        rounds::table(&title, &mut sides, &asked(AT_ONCE, TOKENS), effort).await;
        let title = format!("{name}, {STREAMS} streams of {TOKENS} tokens, one every 20 ms");
        rounds::table(&title, &mut sides, &asked(PACED, TOKENS), effort).await;
    }
}

fn definition(address: &str, tls: bool) -> PoolSpec {
    PoolSpec {
        endpoints: vec![Endpoint {
            address: address.to_owned(),
            ..Endpoint::default()
        }],
        sizing: Some(Sizing {
            max_sessions: Some(u32::try_from(STREAMS).expect("few")),
            ..Sizing::default()
        }),
        backend: Some(Backend::Llm(LlmBackend {
            tls: tls.then(|| Tls {
                enabled: true,
                skip_verify: true,
                ..Tls::default()
            }),
            ..LlmBackend::default()
        })),
        ..PoolSpec::default()
    }
}

/// What both sides send, byte for byte but for what asks for a stream.
fn asked(model: &str, tokens: usize) -> String {
    format!(r#"{{"model":"{model}","max_tokens":{tokens},"messages":[{{"role":"user","content":"go"}}]}}"#)
}

/// Those who ask, all at once or one alone.
pub enum Callers {
    Direct(Direct),
    Pooled(Pooled),
}

impl Callers {
    /// Has `count` callers ask at the same time, and returns what they heard.
    async fn ask(&mut self, count: usize, asked: &str) -> Vec<Heard> {
        match self {
            Self::Direct(direct) => direct.ask(count, asked).await,
            Self::Pooled(pooled) => pooled.ask(count, asked).await,
        }
    }
}

/// Callers of the broker, on a few connections.
pub struct Pooled(Vec<calls::Broker>);

impl Pooled {
    fn connect(address: &str) -> Self {
        Self((0..CONNECTIONS).map(|_| broker(address)).collect())
    }

    async fn ask(&self, count: usize, asked: &str) -> Vec<Heard> {
        let callers = self.0.iter().cycle().take(count);
        let asking = callers.map(|broker| tokio::spawn(listen(broker.clone(), asked.to_owned())));
        rounds::all(asking.collect()).await
    }
}

async fn listen(mut broker: calls::Broker, asked: String) -> Heard {
    let mut listening = Listening::begin();
    let request = ExecuteStreamRequest {
        request: Some(one_shot("llm", "chat", &asked)),
    };
    let events = broker.execute_stream(request).await;
    let mut events = events.expect("a stream").into_inner();
    let mut ended = false;
    while let Some(answer) = events.message().await.expect("an event") {
        match answer.event.and_then(|event| event.event) {
            Some(Event::Text(text)) => listening.text(text.len() / TOKEN.len()),
            Some(Event::End(_)) => ended = true,
            _ => {}
        }
    }
    assert!(ended, "the stream broke off");
    listening.end()
}
