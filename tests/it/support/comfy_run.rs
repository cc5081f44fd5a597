//! How the scripted ComfyUI box runs prompts: in the order of its queue, one at a time, node by node.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::comfy_peer::{Job, Shared};

/// The nodes that it has.
pub const CLASSES: [&str; 14] = [
    "EmptyImage",
    "ImageBlur",
    "LoadImage",
    "SaveImage",
    "PreviewImage",
    "SaveImageWebsocket",
    "KSampler",
    "Gate",
    "Deaf",
    "Late",
    "Steps",
    "Explode",
    "Block",
    "Say",
];
/// Those that put something out.
pub const OUTPUTS: [&str; 9] = [
    "SaveImage",
    "PreviewImage",
    "SaveImageWebsocket",
    "Gate",
    "Deaf",
    "Late",
    "Steps",
    "Explode",
    "Say",
];
/// The smallest PNG there is.
pub const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and so on";

/// Which outputs can run, and what is wrong with nodes.
pub fn validate(
    prompt: &Map<String, Value>,
    outputs: &[String],
    files: &BTreeMap<(String, String, String), Bytes>,
) -> (Vec<String>, Value) {
    let mut wrong = Map::new();
    for (id, node) in prompt {
        let Some(error) = fault(node, files) else { continue };
        let dependent: Vec<&String> = outputs
            .iter()
            .filter(|output| needs(prompt, output, id))
            .collect();
        let about =
            json!({ "errors": [error], "dependent_outputs": dependent, "class_type": node["class_type"] });
        wrong.insert(id.clone(), about);
    }
    let good = |output: &&String| !wrong.keys().any(|id| needs(prompt, output, id));
    let good = outputs.iter().filter(good).cloned().collect();
    (good, Value::Object(wrong))
}

fn fault(node: &Value, files: &BTreeMap<(String, String, String), Bytes>) -> Option<Value> {
    let inputs = &node["inputs"];
    match node["class_type"].as_str().unwrap() {
        "SaveImage" if inputs.get("images").is_none() => Some(json!({
            "type": "required_input_missing", "message": "Required input is missing", "details": "images",
            "extra_info": { "input_name": "images" },
        })),
        "EmptyImage" if inputs["width"].as_i64().unwrap() < 1 => {
            let width = &inputs["width"];
            Some(json!({
                "type": "value_smaller_than_min", "message": format!("Value {width} smaller than min of 1"),
                "details": "width",
                "extra_info": {
                    "input_name": "width", "received_value": width,
                    "input_config": ["INT", { "default": 512, "min": 1, "max": 16384, "step": 1 }],
                },
            }))
        }
        "LoadImage" => {
            let image = inputs["image"].as_str().unwrap();
            let (folder, name) = image.rsplit_once('/').unwrap_or(("", image));
            let there = files.contains_key(&("input".to_owned(), folder.to_owned(), name.to_owned()));
            (!there).then(|| json!({
                "type": "custom_validation_failed", "message": "Custom validation failed for node",
                "details": format!("image - Invalid image file: {image}"), "extra_info": { "input_name": "image" },
            }))
        }
        _ => None,
    }
}

/// Whether a node needs another, or is it.
fn needs(prompt: &Map<String, Value>, node: &str, other: &str) -> bool {
    let links = |about: &Value| -> Vec<String> {
        let inputs = about["inputs"].as_object().cloned().unwrap_or_default();
        let link = |value: &Value| value.get(0).and_then(Value::as_str).map(str::to_owned);
        inputs.values().filter_map(link).collect()
    };
    node == other
        || prompt
            .get(node)
            .is_some_and(|about| links(about).iter().any(|link| needs(prompt, link, other)))
}

/// Runs what is in the queue, for ever.
pub async fn work(shared: Arc<Shared>) {
    loop {
        shared
            .until(|state| (!state.pending.is_empty()).then_some(()))
            .await;
        let (job, life) = shared.change(|state| {
            let first = (0..state.pending.len())
                .min_by(|a, b| state.pending[*a].number.total_cmp(&state.pending[*b].number))
                .unwrap();
            let job = state.pending.remove(first);
            state.running = Some(job.clone());
            state.interrupted = false;
            state.began.push(job.id.clone());
            (job, state.life)
        });
        shared.tell_status();
        let run = Run {
            shared: &shared,
            client: job.client().map(str::to_owned),
            job: &job,
            states: std::sync::Mutex::default(),
        };
        let over = shared.until(|state| (state.life != life).then_some(()));
        tokio::select! {
            () = run.whole() => {}
            () = over => continue,
        }
    }
}

struct Run<'a> {
    shared: &'a Shared,
    job: &'a Job,
    client: Option<String>,
    states: std::sync::Mutex<Map<String, Value>>,
}

/// What came of a node.
enum Done {
    Output(Value),
    Failed(Value),
    Interrupted,
}

impl Run<'_> {
    fn tell(&self, kind: &str, mut data: Value) {
        data["prompt_id"] = json!(self.job.id);
        self.shared.tell(self.client.as_deref(), kind, data);
    }

    async fn whole(&self) {
        let nodes = self.job.prompt.as_object().unwrap();
        let wanted: Vec<&String> = nodes
            .keys()
            .filter(|id| self.job.outputs.iter().any(|output| needs(nodes, output, id)))
            .collect();
        self.tell("execution_start", json!({ "timestamp": 1 }));
        let known = |id: &&&String| {
            self.shared
                .state
                .lock()
                .unwrap()
                .cache
                .contains_key(&key(nodes, id))
        };
        let cached: Vec<_> = wanted.iter().filter(known).map(|id| (*id).clone()).collect();
        self.tell("execution_cached", json!({ "nodes": cached, "timestamp": 1 }));
        let (mut outputs, mut executed) = (Map::new(), Vec::new());
        let (mut ended, mut messages) = ("success", Vec::new());
        for id in wanted {
            let done = if cached.contains(id) {
                Done::Output(self.shared.state.lock().unwrap().cache[&key(nodes, id)].clone())
            } else {
                self.show(id, 0.0, 1.0, "running");
                self.tell("executing", json!({ "node": id, "display_node": id }));
                self.node(id, &nodes[id]).await
            };
            let about = json!({
                "node_id": id, "node_type": nodes[id]["class_type"], "executed": executed, "timestamp": 1,
                "prompt_id": self.job.id,
            });
            match done {
                Done::Output(output) => {
                    self.done(id, nodes, &output);
                    if !output.is_null() {
                        outputs.insert(id.clone(), output);
                    }
                    executed.push(id.clone());
                }
                Done::Failed(error) => {
                    let mut about = about;
                    about
                        .as_object_mut()
                        .unwrap()
                        .extend(error.as_object().unwrap().clone());
                    self.tell("execution_error", about.clone());
                    messages.push(json!(["execution_error", about]));
                    if error["exception_type"] != json!("ExecutionBlocked") {
                        ended = "error";
                        break;
                    }
                }
                Done::Interrupted => {
                    self.tell("execution_interrupted", about.clone());
                    messages.push(json!(["execution_interrupted", about]));
                    ended = "interrupted";
                    break;
                }
            }
        }
        self.end(ended, outputs, messages);
    }

    /// A node has done its work, and what it put out need not be made again; what is waited for has to.
    fn done(&self, id: &str, nodes: &Map<String, Value>, output: &Value) {
        if !output.is_null() {
            let told = json!({ "node": id, "display_node": id, "output": output });
            self.tell("executed", told);
        }
        self.show(id, 1.0, 1.0, "finished");
        let class = nodes[id]["class_type"].as_str().unwrap();
        if !["SaveImageWebsocket", "Gate", "Deaf", "Late", "Steps"].contains(&class) {
            self.shared
                .change(|state| state.cache.insert(key(nodes, id), output.clone()));
        }
    }

    /// Success is said before the history is written, and that nothing runs any more after it.
    fn end(&self, ended: &str, outputs: Map<String, Value>, messages: Vec<Value>) {
        if ended == "success" {
            self.tell("execution_success", json!({ "timestamp": 1 }));
        }
        let status = if ended == "success" { "success" } else { "error" };
        let entry = json!({
            "prompt": [self.job.number, self.job.id, self.job.prompt, self.job.extra, self.job.outputs],
            "outputs": outputs,
            "status": { "status_str": status, "completed": status == "success", "messages": messages },
            "meta": {},
        });
        self.shared.change(|state| {
            if !state.forgets {
                state.history.insert(self.job.id.clone(), entry);
            }
            state.running = None;
            state.ended.push((self.job.id.clone(), ended.to_owned()));
        });
        self.shared.tell_status();
        self.tell("executing", json!({ "node": null }));
    }

    /// How each node stands.
    fn show(&self, id: &str, value: f64, max: f64, state: &str) {
        let about =
            json!({ "value": value, "max": max, "state": state, "node_id": id, "prompt_id": self.job.id });
        let mut states = self.states.lock().unwrap();
        states.insert(id.to_owned(), about);
        self.tell("progress_state", json!({ "nodes": *states }));
    }

    async fn node(&self, id: &str, node: &Value) -> Done {
        let inputs = &node["inputs"];
        match node["class_type"].as_str().unwrap() {
            "SaveImage" => self.save("output", inputs["filename_prefix"].as_str().unwrap_or("ComfyUI")),
            "PreviewImage" => self.save("temp", "ComfyUI_temp"),
            "SaveImageWebsocket" => {
                self.show(id, 0.0, 1.0, "running");
                self.image(id, "image/png", PNG);
                self.tell("progress", json!({ "value": 0, "max": 1, "node": id }));
                Done::Output(Value::Null)
            }
            "Gate" => tokio::select! {
                biased;
                () = self.shared.until(|state| state.interrupted.then_some(())) => Done::Interrupted,
                opened = self.shared.gate.acquire() => { opened.unwrap().forget(); Done::Output(Value::Null) }
            },
            "Late" => self.late().await,
            "Deaf" => {
                self.shared.gate.acquire().await.unwrap().forget();
                if self.shared.state.lock().unwrap().interrupted {
                    Done::Interrupted
                } else {
                    Done::Output(Value::Null)
                }
            }
            "Steps" => {
                let steps = inputs["steps"].as_u64().unwrap();
                for step in 1..=steps {
                    self.tell("progress", json!({ "value": step, "max": steps, "node": id }));
                    if inputs["plain"] == json!(true) {
                        self.shared
                            .say(self.client.as_deref(), &Message::binary(plain_preview()));
                    } else {
                        self.image(id, "image/jpeg", b"a small picture");
                    }
                }
                Done::Output(Value::Null)
            }
            "Explode" | "Block" => fails(inputs),
            "LoadImage" => {
                let image = inputs["image"].as_str().unwrap();
                let (folder, name) = image.rsplit_once('/').unwrap_or(("", image));
                let key = ("input".to_owned(), folder.to_owned(), name.to_owned());
                if self.shared.state.lock().unwrap().files[&key].starts_with(b"\x89PNG") {
                    return Done::Output(Value::Null);
                }
                Done::Failed(json!({
                    "exception_type": "PIL.UnidentifiedImageError",
                    "exception_message": format!("cannot identify image file '{image}'\n"),
                    "traceback": [], "current_inputs": {}, "current_outputs": [],
                }))
            }
            "Say" => {
                let mut text = vec![0, 0, 0, 3, 0, 0, 0, u8::try_from(id.len()).unwrap()];
                text.extend_from_slice(id.as_bytes());
                text.extend_from_slice(b"thinking");
                self.shared.say(self.client.as_deref(), &Message::binary(text));
                Done::Output(json!({ "text": [inputs["text"]], "more": repeated(inputs, "more") }))
            }
            _ => Done::Output(Value::Null),
        }
    }

    /// Notices an interrupt when others have had many turns.
    async fn late(&self) -> Done {
        self.shared.until(|state| state.interrupted.then_some(())).await;
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        Done::Interrupted
    }

    fn save(&self, folder: &str, prefix: &str) -> Done {
        let filename = self.shared.change(|state| {
            state.saved += 1;
            let filename = format!("{prefix}_{:05}_.png", state.saved);
            let bytes = Bytes::from([PNG, filename.as_bytes()].concat());
            state
                .files
                .insert((folder.to_owned(), String::new(), filename.clone()), bytes);
            filename
        });
        Done::Output(json!({ "images": [{ "filename": filename, "subfolder": "", "type": folder }] }))
    }

    fn image(&self, id: &str, kind: &str, bytes: &[u8]) {
        let about = json!({ "node_id": id, "prompt_id": self.job.id, "image_type": kind }).to_string();
        let mut message = vec![0, 0, 0, 4];
        message.extend_from_slice(&u32::try_from(about.len()).unwrap().to_be_bytes());
        message.extend_from_slice(about.as_bytes());
        message.extend_from_slice(bytes);
        self.shared.say(self.client.as_deref(), &Message::binary(message));
    }
}

fn fails(inputs: &Value) -> Done {
    Done::Failed(json!({
        "exception_type": inputs["exception"], "exception_message": inputs["message"],
        "traceback": ["frame 1\n"], "current_inputs": repeated(inputs, "current"), "current_outputs": [],
    }))
}

/// An input, as many times as `times` says: a box may put out more than it was sent.
fn repeated(inputs: &Value, name: &str) -> Value {
    let times = inputs["times"].as_u64().unwrap_or(1);
    (0..times).map(|_| inputs[name].clone()).collect()
}

fn plain_preview() -> Vec<u8> {
    [&[0, 0, 0, 1, 0, 0, 0, 1], &b"a small picture"[..]].concat()
}

/// What a node's result depends on.
fn key(nodes: &Map<String, Value>, id: &str) -> String {
    let mut key = nodes[id].to_string();
    for value in nodes[id]["inputs"]
        .as_object()
        .cloned()
        .unwrap_or_default()
        .values()
    {
        if let Some(link) = value.get(0).and_then(Value::as_str) {
            key.push_str(&self::key(nodes, link));
        }
    }
    key
}
