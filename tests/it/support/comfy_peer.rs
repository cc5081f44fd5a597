//! A ComfyUI box that plays its part over real sockets: it takes prompts, runs them one at a time, says what happens, and
//! does what a test tells it to do wrong. It agrees with a conversation recorded from a real one.
//!
//! Nodes that a real one does not have are the tests' own: `Gate` waits for [`Peer::open`] or an interrupt, `Deaf` for
//! [`Peer::open`] alone, `Late` for an interrupt that it is slow to notice, `Steps` makes progress and previews,
//! `Explode` fails, `Block` blocks its branch, `Say` puts out a text.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    net::TcpSocket,
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

use super::{comfy_http, comfy_run, http_peer::Identity};

/// The client that is not the broker.
const SOMEBODY: &str = "somebody else";

/// A box that is running. Dropped, it stops.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    pub shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
pub struct Shared {
    pub state: Mutex<State>,
    pub changes: watch::Sender<()>,
    pub gate: Semaphore,
}

/// All that a box knows, and what was done to it.
#[derive(Debug, Default)]
pub struct State {
    pub sockets: Vec<(String, mpsc::UnboundedSender<Message>)>,
    pub pending: Vec<Job>,
    pub running: Option<Job>,
    pub history: BTreeMap<String, Value>,
    pub files: BTreeMap<(String, String, String), Bytes>,
    pub cache: HashMap<String, Value>,
    /// The running prompt was interrupted, and its node has not noticed.
    pub interrupted: bool,
    /// Rises when it forgets everything.
    pub life: u32,
    pub number: f64,
    pub saved: u32,
    /// Files that came by HTTP and were written.
    pub written: u32,
    /// It has the cancel of newer ones.
    pub modern: bool,
    /// It does not read submissions.
    pub holds: bool,
    /// So many interrupts are refused by a proxy before it.
    pub refused: u32,
    /// So many interrupts are lost: they come just before their prompt begins.
    pub wiped: u32,
    /// It gives prompts ids of its own.
    pub renames: bool,
    /// Bodies that were cut off.
    pub cut: u32,
    /// What it says is wrong with the nodes of prompts that it takes; nothing else if this is null.
    pub node_errors: Value,
    /// It writes no history.
    pub forgets: bool,
    /// What it, or a proxy before it, answers instead.
    pub instead: Vec<Instead>,
    /// What has to be in every request's `authorization`.
    pub password: Option<String>,
    /// Every request, as `METHOD path`.
    pub requests: Vec<String>,
    /// Bodies of submissions, byte for byte.
    pub submissions: Vec<String>,
    /// Bodies of interrupts and changes of the queue.
    pub cancels: Vec<String>,
    /// Prompts that began to run.
    pub began: Vec<String>,
    /// Prompts that ended, and how.
    pub ended: Vec<(String, String)>,
    /// Client ids that sockets ever had.
    pub client_ids: Vec<String>,
    /// The most prompts of one broker that it ever had at the same time.
    pub most: usize,
}

/// An answer that is not the box's usual one.
#[derive(Clone, Debug)]
pub struct Instead {
    /// To which requests, as `METHOD path`, without the query.
    pub to: String,
    pub status: u16,
    pub retry_after: Option<&'static str>,
    /// The box does what it is asked all the same.
    pub done: bool,
    pub body: String,
}

/// A prompt at the box.
#[derive(Clone, Debug)]
pub struct Job {
    pub number: f64,
    pub id: String,
    pub prompt: Value,
    pub extra: Value,
    pub outputs: Vec<String>,
}

impl Job {
    pub fn item(&self) -> Value {
        json!([self.number, self.id, self.prompt, self.extra, self.outputs])
    }

    pub fn client(&self) -> Option<&str> {
        self.extra["client_id"].as_str()
    }
}

impl Peer {
    pub fn start() -> Self {
        Self::listen(None)
    }

    /// A box behind a proxy that wants a password.
    pub fn guarded(identity: &Identity, password: &str) -> Self {
        let peer = Self::listen(Some(identity.acceptor()));
        peer.change(|state| state.password = Some(password.to_owned()));
        peer
    }

    fn listen(tls: Option<TlsAcceptor>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // So small that whoever is not read from notices soon.
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changes: watch::Sender::new(()),
            gate: Semaphore::new(0),
        });
        let accepting = tokio::spawn(comfy_http::accept(listener, Arc::clone(&shared), tls));
        let working = tokio::spawn(comfy_run::work(Arc::clone(&shared)));
        Self {
            address,
            shared,
            tasks: vec![accepting, working],
        }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on a request is answered so, and not as usual.
    pub fn answer_instead(&self, to: &str, status: u16, done: bool) {
        self.change(|state| {
            state.instead.push(Instead {
                to: to.to_owned(),
                status,
                retry_after: None,
                done,
                body: "a proxy says no".to_owned(),
            });
        });
    }

    /// Lets one `Gate` or `Deaf` go on.
    pub fn open(&self) {
        self.shared.gate.add_permits(1);
    }

    /// Closes every socket; HTTP goes on.
    pub fn drop_sockets(&self) {
        self.shared.change(|state| state.sockets.clear());
    }

    /// Forgets everything, as a restart does.
    pub fn restart(&self) {
        self.shared.change(|state| {
            state.life += 1;
            state.sockets.clear();
            state.pending.clear();
            state.running = None;
            state.history.clear();
        });
    }

    /// Takes a submission, as if it had come by HTTP.
    pub fn submit(&self, body: Value) -> (StatusCode, Value) {
        self.shared.submit(&body)
    }

    /// Somebody else's prompt.
    pub fn put(&self, id: &str, prompt: Value) {
        self.shared
            .submit(&json!({ "prompt": prompt, "prompt_id": id, "client_id": SOMEBODY }));
    }

    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.state.lock().unwrap())
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) {
        self.shared.change(change);
    }

    /// Returns once `what` holds; panics if it does not for long.
    pub async fn until(&self, what: impl Fn(&State) -> bool) {
        let waiting = self.shared.until(|state| what(state).then_some(()));
        if tokio::time::timeout(Duration::from_secs(30), waiting)
            .await
            .is_err()
        {
            let state = self.shared.state.lock().unwrap();
            panic!(
                "it did not happen: {:?} began {:?} ended {:?}",
                state.requests, state.began, state.ended
            );
        }
    }

    /// Returns once its queue was asked for so many times more: whoever waits for something to be gone still does.
    pub async fn is_asked(&self, times: usize) {
        let before = self.look(|state| state.requests.len());
        self.until(|state| {
            let asked = state.requests[before..].iter();
            asked.filter(|line| *line == "GET /queue").count() >= times
        })
        .await;
    }

    /// Returns once a prompt runs; gives its id.
    pub async fn runs(&self) -> String {
        self.until(|state| state.running.is_some()).await;
        self.look(|state| state.running.as_ref().unwrap().id.clone())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // A test that failed may have held it.
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner).sockets.clear();
    }
}

impl Shared {
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        let changed = change(&mut state);
        state.most = state.most.max(state.ours());
        drop(state);
        self.changes.send_replace(());
        changed
    }

    /// Returns once `what` gives something.
    pub async fn until<T>(&self, what: impl Fn(&State) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        loop {
            if let Some(found) = what(&self.state.lock().unwrap()) {
                return found;
            }
            changes.changed().await.unwrap();
        }
    }

    /// Says something to one client, or to all.
    pub fn say(&self, client: Option<&str>, message: &Message) {
        let state = self.state.lock().unwrap();
        for (sid, socket) in &state.sockets {
            if client.is_none_or(|client| client == sid) {
                socket.send(message.clone()).ok();
            }
        }
    }

    pub fn tell(&self, client: Option<&str>, kind: &str, data: Value) {
        self.say(
            client,
            &Message::text(python(&json!({ "type": kind, "data": data }))),
        );
    }

    pub fn tell_status(&self) {
        let remaining = self.state.lock().unwrap().remaining();
        self.tell(
            None,
            "status",
            json!({ "status": { "exec_info": { "queue_remaining": remaining } } }),
        );
    }

    pub fn submit(&self, body: &Value) -> (StatusCode, Value) {
        match self.read(body) {
            Ok((job, nodes)) => self.queue(body, job, &nodes),
            Err((error, nodes)) => (
                StatusCode::BAD_REQUEST,
                json!({ "error": error, "node_errors": nodes }),
            ),
        }
    }

    /// What is asked for and what is wrong with some of it; else what is wrong with all of it.
    fn read(&self, body: &Value) -> Result<(Job, Value), (Value, Value)> {
        let refuse = |kind: &str, message: &str, details: &str, extra: Value| {
            let error = json!({ "type": kind, "message": message, "details": details, "extra_info": extra });
            Err((error, json!({})))
        };
        let Some(prompt) = body.get("prompt").and_then(Value::as_object).cloned() else {
            let message = "No prompt provided";
            return refuse("no_prompt", message, message, json!({}));
        };
        let id = body.get("prompt_id").and_then(Value::as_str).map(str::to_owned);
        let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        if uuid::Uuid::try_parse(&id)
            .map(|read| read.to_string())
            .ok()
            .as_ref()
            != Some(&id)
        {
            let details = "prompt_id must be a UUID string in canonical lowercase hyphenated form; omit it to let the \
                           server generate one";
            return refuse(
                "invalid_prompt_id",
                "prompt_id must be a valid UUID",
                details,
                json!({}),
            );
        }
        for (node, about) in &prompt {
            let class = about["class_type"].as_str().unwrap();
            if !comfy_run::CLASSES.contains(&class) {
                let extra = json!({ "node_id": node, "class_type": class, "node_title": class });
                let message = format!("Node '{class}' not found. The custom node may not be installed.");
                return refuse(
                    "missing_node_type",
                    &message,
                    &format!("Node ID '#{node}'"),
                    extra,
                );
            }
        }
        let ends = |about: &Value| comfy_run::OUTPUTS.contains(&about["class_type"].as_str().unwrap());
        let outputs = prompt.iter().filter(|(_, about)| ends(about));
        let outputs: Vec<String> = outputs.map(|(id, _)| id.clone()).collect();
        if outputs.is_empty() {
            return refuse("prompt_no_outputs", "Prompt has no outputs", "", json!({}));
        }
        let files = self.state.lock().unwrap().files.clone();
        let (outputs, nodes) = comfy_run::validate(&prompt, &outputs, &files);
        if outputs.is_empty() {
            let first = &nodes.as_object().unwrap().values().next().unwrap()["errors"][0];
            let part = |name: &str| first[name].as_str().unwrap();
            let details = format!("{}: {}", part("message"), part("details"));
            let error = json!({
                "type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation",
                "details": details, "extra_info": {},
            });
            return Err((error, nodes));
        }
        let renames = self.state.lock().unwrap().renames;
        let job = Job {
            number: 0.0,
            id: if renames {
                uuid::Uuid::new_v4().to_string()
            } else {
                id
            },
            prompt: Value::Object(prompt),
            extra: json!({}),
            outputs,
        };
        Ok((job, nodes))
    }

    fn queue(&self, body: &Value, mut job: Job, nodes: &Value) -> (StatusCode, Value) {
        job.extra = body.get("extra_data").cloned().unwrap_or_else(|| json!({}));
        if let Some(client) = body.get("client_id") {
            job.extra["client_id"] = client.clone();
        }
        let id = job.id.clone();
        let odd = self.state.lock().unwrap().node_errors.clone();
        let nodes = if odd.is_null() { nodes.clone() } else { odd };
        let number = self.change(|state| {
            state.number += 1.0;
            let front = body["front"] == json!(true);
            let next = if front { -state.number } else { state.number };
            job.number = body["number"].as_f64().unwrap_or(next);
            let number = job.number;
            state.pending.push(job);
            number
        });
        self.tell_status();
        (
            StatusCode::OK,
            json!({ "prompt_id": id, "number": number, "node_errors": nodes }),
        )
    }

    /// Whether it was heard.
    pub fn interrupt(&self, body: &str) -> bool {
        let asked: Value = serde_json::from_str(body).unwrap_or_default();
        self.change(|state| {
            if state.refused > 0 {
                state.refused -= 1;
                return false;
            }
            state.cancels.push(format!("interrupt {body}"));
            if state.wiped > 0 {
                state.wiped -= 1;
                return true;
            }
            let runs = state.running.as_ref().map(|job| json!(job.id));
            if runs.is_some() && (asked.get("prompt_id").is_none() || asked.get("prompt_id") == runs.as_ref())
            {
                state.interrupted = true;
            }
            true
        })
    }

    pub fn change_queue(&self, body: &str) {
        let asked: Value = serde_json::from_str(body).unwrap();
        self.change(|state| {
            state.cancels.push(format!("queue {body}"));
            if asked["clear"] == json!(true) {
                state.pending.clear();
            }
            let deleted = asked["delete"].as_array().cloned().unwrap_or_default();
            state.pending.retain(|job| !deleted.contains(&json!(job.id)));
        });
        self.tell_status();
    }
}

impl State {
    /// The cancel of newer boxes.
    pub fn cancel(&mut self, id: &str) {
        self.cancels.push(format!("cancel {id}"));
        self.pending.retain(|job| job.id != id);
        if self.running.as_ref().is_some_and(|job| job.id == id) {
            self.interrupted = true;
        }
    }

    /// The broker's prompts, those that wait and the one that runs.
    fn ours(&self) -> usize {
        let all = self.pending.iter().chain(&self.running);
        all.filter(|job| job.client() != Some(SOMEBODY)).count()
    }

    pub fn remaining(&self) -> usize {
        self.pending.len() + usize::from(self.running.is_some())
    }
}

/// JSON as Python writes it: `"@NaN"` stands for a number that JSON does not have.
pub fn python(json: &Value) -> String {
    let text = json.to_string();
    let text = text.replace(r#""@NaN""#, "NaN");
    text.replace(r#""@Infinity""#, "Infinity")
        .replace(r#""@-Infinity""#, "-Infinity")
}

/// What is said to everyone about a prompt without a client id.
pub fn broadcast(id: &str) -> Vec<(&'static str, Value)> {
    vec![
        (
            "progress",
            json!({ "value": 1, "max": 2, "prompt_id": id, "node": "1" }),
        ),
        ("progress_state", json!({ "prompt_id": id, "nodes": {} })),
        (
            "executed",
            json!({ "node": "1", "output": { "text": ["theirs"] }, "prompt_id": id }),
        ),
        ("executing", json!({ "node": null, "prompt_id": id })),
    ]
}
