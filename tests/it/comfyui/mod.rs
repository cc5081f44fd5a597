//! ComfyUI boxes, scripted, behind a real broker.

mod attached;
mod basics;
mod beside;
mod cancel;
mod chosen;
mod dropped;
mod ends;
mod errors;
mod files;
mod guarded;
mod held;
mod interrupts;
mod jobs;
mod loss;
mod named;
mod overall;
mod recorded;
mod refused;
mod strange;
mod streams;

use std::time::Duration;

use serde_json::{Value, json};
use sublet::proto::{
    AcquireOptions, ComfyUiBackend, Endpoint, ExecuteRequest, ExecuteStreamRequest, ExecuteStreamResponse,
    PoolSpec, Sizing, Timeouts, event::Event, pool_spec::Backend,
};
use tonic::{Status, Streaming};

use crate::support::{app::App, calls::*, comfy_peer::Peer};

/// A broker with one pool, `art`, of boxes with one slot each.
struct Stage {
    app: App,
    broker: Broker,
    boxes: Vec<Peer>,
}

impl Stage {
    async fn with(count: usize) -> Self {
        Self::changed(count, |_| {}).await
    }

    async fn changed(count: usize, change: impl FnOnce(&mut PoolSpec)) -> Self {
        let mut boxes = Vec::new();
        for _ in 0..count {
            boxes.push(Peer::start());
        }
        let app = App::start().await;
        let mut spec = definition(&boxes);
        change(&mut spec);
        create(&app.address, "art", spec).await;
        let broker = broker(&app.address);
        Self { app, broker, boxes }
    }

    fn peer(&self) -> &Peer {
        &self.boxes[0]
    }

    async fn run(&mut self, name: &str, params: &Value) -> Result<Value, Status> {
        let answer = execute(&mut self.broker, one_shot("art", name, &params.to_string())).await?;
        Ok(serde_json::from_str(&answer).unwrap_or(Value::String(answer)))
    }

    async fn prompt(&mut self, workflow: Value) -> Result<Value, Status> {
        self.run("queue_prompt", &json!({ "workflow": workflow })).await
    }

    async fn stream(&mut self, params: &Value) -> Stream {
        stream(
            &mut self.broker,
            one_shot("art", "queue_prompt", &params.to_string()),
        )
        .await
    }
}

fn definition(boxes: &[Peer]) -> PoolSpec {
    let endpoint = |(index, peer): (usize, &Peer)| Endpoint {
        name: format!("box-{index}"),
        address: peer.address(),
        max_sessions: Some(1),
    };
    PoolSpec {
        endpoints: boxes.iter().enumerate().map(endpoint).collect(),
        backend: Some(Backend::Comfyui(ComfyUiBackend::default())),
        ..PoolSpec::default()
    }
}

/// Little time to clean up, so that a box that takes longer makes its session close.
fn impatient(spec: &mut PoolSpec) {
    let short = Some(span(Duration::from_millis(300)));
    spec.timeouts = Some(Timeouts {
        reset: short,
        close: short,
        ..Timeouts::default()
    });
}

/// A call for one box.
fn at(endpoint: &str, name: &str, params: &Value) -> ExecuteRequest {
    ExecuteRequest {
        options: Some(AcquireOptions {
            endpoint: endpoint.to_owned(),
            ..AcquireOptions::default()
        }),
        ..one_shot("art", name, &params.to_string())
    }
}

/// A workflow that saves an image.
fn saves() -> Value {
    json!({
        "1": { "class_type": "EmptyImage", "inputs": { "width": 64, "height": 64, "batch_size": 1, "color": 255 } },
        "2": { "class_type": "SaveImage", "inputs": { "images": ["1", 0], "filename_prefix": "art" } },
    })
}

/// A workflow with one node that puts something out.
fn only(class: &str, inputs: Value) -> Value {
    json!({ "1": { "class_type": class, "inputs": inputs } })
}

/// A stream of events.
struct Stream(Streaming<ExecuteStreamResponse>);

async fn stream(broker: &mut Broker, request: ExecuteRequest) -> Stream {
    let request = ExecuteStreamRequest {
        request: Some(request),
    };
    Stream(broker.execute_stream(request).await.unwrap().into_inner())
}

impl Stream {
    async fn next(&mut self) -> Result<Event, Status> {
        let answer = self.0.message().await?.unwrap();
        Ok(answer.event.unwrap().event.unwrap())
    }

    /// The next event of a kind; others before it are passed over.
    async fn until(&mut self, kind: &str) -> Value {
        loop {
            if let Event::JsonText(text) = self.next().await.unwrap() {
                let told: Value = serde_json::from_str(&text).unwrap();
                if told["event"] == kind {
                    return told;
                }
            }
        }
    }

    /// Why it ends.
    async fn failure(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    /// Everything to the end: what was told, and the bytes that came behind each.
    async fn all(mut self) -> Result<Vec<(Value, Vec<u8>)>, Status> {
        let mut told: Vec<(Value, Vec<u8>)> = Vec::new();
        loop {
            match self.next().await? {
                Event::JsonText(text) => told.push((serde_json::from_str(&text).unwrap(), Vec::new())),
                Event::Data(bytes) => told.last_mut().unwrap().1.extend(bytes),
                Event::Progress(progress) => {
                    let number = |name: &str| match progress.fields.get(name)?.kind.as_ref()? {
                        prost_types::value::Kind::NumberValue(number) => Some(*number),
                        _ => None,
                    };
                    told.push((
                        json!({ "event": "progress", "value": number("value"), "overall": number("overall") }),
                        Vec::new(),
                    ));
                }
                Event::End(_) => return Ok(told),
                _ => {}
            }
        }
    }
}

fn kinds(told: &[(Value, Vec<u8>)]) -> Vec<&str> {
    told.iter()
        .map(|(event, _)| event["event"].as_str().unwrap())
        .collect()
}

/// A fact of an error.
fn fact(status: &Status, name: &str) -> String {
    use tonic_types::StatusExt as _;
    let details = status.get_error_details();
    let info = details.error_info();
    info.and_then(|info| info.metadata.get(name).cloned())
        .unwrap_or_default()
}
