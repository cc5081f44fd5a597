//! An LLM provider and a ComfyUI box, scripted in this program.

use serde_json::{Value, json};
use sublet::proto::{ComfyUiBackend, Endpoint, LlmBackend, PoolSpec, pool_spec::Backend};

use super::Work;
use crate::{
    broker::Broker,
    client::Call,
    support::{
        calls, comfy_peer,
        http_peer::{Peer, Step},
        llm_peer::{begun, token},
    },
};

/// A stream of tokens that has begun.
pub struct Llm {
    peer: Peer,
    calls: usize,
}

impl Llm {
    pub async fn start(broker: &Broker) -> Self {
        let peer = Peer::start(vec![[begun(&token("a")), vec![Step::ToEnd]].concat()]);
        let backend = Backend::Llm(LlmBackend::default());
        broker.create("llm", 1, backend, Some(&peer.address())).await;
        Self { peer, calls: 0 }
    }
}

impl Work for Llm {
    const NAME: &'static str = "llm, in a stream of tokens";
    const ANSWERS: bool = true;

    fn call(&self) -> Call {
        Call {
            pool: "llm",
            operation: "chat",
            params: r#"{"prompt":"x"}"#.to_owned(),
        }
    }

    async fn begun(&mut self) {
        self.calls += 1;
        let calls = self.calls;
        self.peer
            .until(|lines| lines.iter().filter(|line| !line.requests.is_empty()).count() == calls)
            .await;
    }

    async fn stopped(&mut self) {
        let calls = self.calls;
        self.peer
            .until(|lines| lines.iter().filter(|line| line.end.is_some()).count() == calls)
            .await;
    }
}

/// A box whose nodes notice an interrupt at once, and its pool.
pub struct ComfyUi(comfy_peer::Peer);

impl ComfyUi {
    pub async fn start(broker: &Broker) -> Self {
        let peer = comfy_peer::Peer::start();
        let spec = PoolSpec {
            endpoints: vec![Endpoint {
                address: peer.address(),
                max_sessions: Some(1),
                ..Endpoint::default()
            }],
            backend: Some(Backend::Comfyui(ComfyUiBackend::default())),
            ..PoolSpec::default()
        };
        calls::create(&broker.address, "art", spec).await;
        Self(peer)
    }

    /// A prompt that does not end by itself.
    fn call() -> Call {
        Call {
            pool: "art",
            operation: "queue_prompt",
            params: json!({ "workflow": gate() }).to_string(),
        }
    }
}

/// Somebody else's prompt.
const THEIRS: &str = "00000000-0000-4000-8000-000000000001";

fn gate() -> Value {
    json!({ "1": { "class_type": "Gate", "inputs": {} } })
}

/// A prompt that runs.
pub struct Running<'a>(pub &'a mut ComfyUi);

impl Work for Running<'_> {
    const NAME: &'static str = "comfyui, in a running prompt";
    const ANSWERS: bool = true;

    fn call(&self) -> Call {
        ComfyUi::call()
    }

    async fn begun(&mut self) {
        self.0.0.runs().await;
    }

    async fn stopped(&mut self) {
        self.0.0.until(|state| state.running.is_none()).await;
    }
}

/// A prompt that waits for somebody else's, which goes on.
pub struct Pending<'a>(&'a mut ComfyUi);

impl<'a> Pending<'a> {
    pub async fn behind(comfyui: &'a mut ComfyUi) -> Self {
        comfyui.0.put(THEIRS, gate());
        comfyui.0.runs().await;
        Self(comfyui)
    }
}

impl Work for Pending<'_> {
    const NAME: &'static str = "comfyui, in a waiting prompt";
    const ANSWERS: bool = true;

    fn call(&self) -> Call {
        ComfyUi::call()
    }

    async fn begun(&mut self) {
        self.0.0.until(|state| !state.pending.is_empty()).await;
    }

    async fn stopped(&mut self) {
        self.0.0.until(|state| state.pending.is_empty()).await;
        assert_eq!(
            self.0.0.look(|state| state.began.last().cloned()),
            Some(THEIRS.to_owned())
        );
    }
}
