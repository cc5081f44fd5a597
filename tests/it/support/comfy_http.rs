//! HTTP and sockets of the scripted ComfyUI box.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::comfy_peer::{Instead, Job, Shared, State, python};

/// One accept loop, and a task for each connection.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => answer(socket, shared).await,
                Some(tls) => answer(tls.accept(socket).await.unwrap(), shared).await,
            }
        });
    }
}

async fn answer(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(serve(request, &shared).await) }
    });
    let server = hyper::server::conn::http1::Builder::new();
    // It ends when the other side goes, in whatever way.
    server
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await
        .ok();
}

type Answer = Response<Full<Bytes>>;

async fn serve(request: Request<Incoming>, shared: &Arc<Shared>) -> Answer {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    shared.change(|state| state.requests.push(format!("{method} {uri}")));
    let guarded = shared.state.lock().unwrap().password.clone();
    let shown = request
        .headers()
        .get("authorization")
        .map(|shown| shown.to_str().unwrap().to_owned());
    if request.headers().contains_key("origin") || guarded.is_some() && guarded != shown {
        let body = format!("{} is not welcome", shown.unwrap_or_default());
        return Response::builder()
            .status(StatusCode::FORBIDDEN)
            .body(Full::new(body.into()))
            .unwrap();
    }
    // A proxy may have it below a path.
    let path = uri.path().strip_prefix("/attic").unwrap_or(uri.path());
    let path = path
        .strip_prefix("/api")
        .filter(|rest| !rest.starts_with("/jobs"))
        .unwrap_or(path);
    let query = uri.query().unwrap_or_default().to_owned();
    if path == "/ws" {
        return upgrade(request, &query, shared);
    }
    let kind = request
        .headers()
        .get("content-type")
        .map(|kind| kind.to_str().unwrap().to_owned());
    if path == "/prompt" && method == Method::POST {
        shared.until(|state| (!state.holds).then_some(())).await;
    }
    let Ok(body) = request.into_body().collect().await else {
        shared.change(|state| state.cut += 1);
        return plain(StatusCode::BAD_REQUEST, "");
    };
    let body = body.to_bytes();
    let line = format!("{method} {path}");
    let instead = shared.state.lock().unwrap().instead.clone();
    let instead = instead.into_iter().find(|instead| instead.to == line);
    let usual = || match method {
        Method::GET => tell(path, &query, shared),
        _ => act(path, kind.as_deref(), &body, shared),
    };
    match instead {
        None => usual(),
        Some(instead) => {
            if instead.done {
                drop(usual());
            }
            other(instead)
        }
    }
}

fn other(instead: Instead) -> Answer {
    let answer = Response::builder().status(instead.status);
    let answer = match instead.retry_after {
        Some(wait) => answer.header("retry-after", wait),
        None => answer,
    };
    answer.body(Full::new(instead.body.into())).unwrap()
}

/// Answers a question.
fn tell(path: &str, query: &str, shared: &Shared) -> Answer {
    let state = shared.state.lock().unwrap();
    match path {
        "/prompt" => ok(&json!({ "exec_info": { "queue_remaining": state.remaining() } })),
        "/queue" => {
            let running: Vec<_> = state.running.iter().map(Job::item).collect();
            let pending: Vec<_> = state.pending.iter().map(Job::item).collect();
            ok(&json!({ "queue_running": running, "queue_pending": pending }))
        }
        "/system_stats" => ok(&json!({ "system": { "comfyui_version": "0.24.0" }, "devices": [] })),
        "/object_info/SaveImage" => {
            let inputs = json!({ "required": { "images": ["IMAGE"], "filename_prefix": ["STRING"] } });
            ok(&json!({ "SaveImage": { "input": inputs, "output": [], "output_node": true } }))
        }
        "/object_info/EmptyImage" => {
            let inputs =
                json!({ "required": { "width": ["INT", { "default": 512, "min": 1, "max": 16384 }] } });
            ok(&json!({ "EmptyImage": { "input": inputs, "output": ["IMAGE"] } }))
        }
        // A real one says so for a node that it does not have.
        path if path.starts_with("/object_info/") => ok(&json!({})),
        "/view" => view(query, &state),
        path if path.starts_with("/history/") => {
            let id = path.trim_start_matches("/history/");
            let entry = state.history.get(id);
            ok(&entry.map_or_else(|| json!({}), |entry| json!({ id: entry })))
        }
        _ => plain(StatusCode::NOT_FOUND, "404: Not Found"),
    }
}

/// Does what it is told.
fn act(path: &str, kind: Option<&str>, body: &Bytes, shared: &Shared) -> Answer {
    let text = String::from_utf8_lossy(body);
    match path {
        "/prompt" => {
            shared.change(|state| state.submissions.push(text.clone().into_owned()));
            let (status, answer) = shared.submit(&serde_json::from_str(&text).unwrap());
            json_answer(status, &answer)
        }
        "/queue" => {
            shared.change_queue(&text);
            plain(StatusCode::OK, "")
        }
        "/interrupt" => {
            let heard = shared.interrupt(&text);
            plain(
                if heard {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                },
                "",
            )
        }
        "/history" => {
            let asked: Value = serde_json::from_str(&text).unwrap();
            let deleted = asked["delete"].as_array().cloned().unwrap_or_default();
            shared.change(|state| state.history.retain(|id, _| !deleted.contains(&json!(id))));
            plain(StatusCode::OK, "")
        }
        "/free" => plain(StatusCode::OK, ""),
        "/upload/image" | "/upload/mask" => upload(kind.unwrap(), body, shared),
        path if path.ends_with("/cancel") && shared.state.lock().unwrap().modern => {
            let id = path.trim_start_matches("/api/jobs/").trim_end_matches("/cancel");
            shared.change(|state| state.cancel(id));
            ok(&json!({ "cancelled": true }))
        }
        path if path.ends_with("/cancel") => plain(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
        _ => plain(StatusCode::NOT_FOUND, "404: Not Found"),
    }
}

fn ok(json: &Value) -> Answer {
    json_answer(StatusCode::OK, json)
}

fn json_answer(status: StatusCode, json: &Value) -> Answer {
    let body = Full::new(Bytes::from(python(json)));
    let answer = Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=utf-8");
    answer.body(body).unwrap()
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    Response::builder()
        .status(status)
        .body(Full::new(Bytes::from_static(text.as_bytes())))
        .unwrap()
}

pub fn parameters(query: &str) -> HashMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .collect()
}

fn view(query: &str, state: &State) -> Answer {
    let asked = parameters(query);
    let part = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let found = state
        .files
        .get(&(part("type"), part("subfolder"), part("filename")))
        .cloned();
    match found {
        Some(bytes) => Response::builder()
            .header("content-type", "image/png")
            .body(Full::new(bytes))
            .unwrap(),
        None => plain(StatusCode::NOT_FOUND, ""),
    }
}

/// Keeps a form's file, unless it is there already; another of the same name gets another name, unless it is to be
/// replaced.
fn upload(kind: &str, body: &Bytes, shared: &Shared) -> Answer {
    let boundary = format!("--{}", kind.split("boundary=").nth(1).unwrap());
    let (mut fields, mut file) = (HashMap::new(), None);
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let mut rest = body.clone();
    while let Some(at) = find(&rest, boundary.as_bytes()) {
        let part = rest.split_to(at);
        drop(rest.split_to(boundary.len()));
        let Some(head) = find(&part, b"\r\n\r\n") else {
            continue;
        };
        let (about, value) = (
            String::from_utf8_lossy(&part[..head]).into_owned(),
            part.slice(head + 4..part.len() - 2),
        );
        let quoted = |name: &str| {
            about
                .split(&format!(" {name}=\""))
                .nth(1)
                .map(|rest| rest.split('"').next().unwrap().to_owned())
        };
        match quoted("filename") {
            Some(name) => file = Some((name, value)),
            None => drop(fields.insert(
                quoted("name").unwrap(),
                String::from_utf8(value.to_vec()).unwrap(),
            )),
        }
    }
    let (name, bytes) = file.unwrap();
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let (folder, subfolder) = (field("type"), field("subfolder"));
    let stored = shared.change(|state| {
        let (mut stored, mut count) = (name.clone(), 0);
        let key = |name: &str| (folder.clone(), subfolder.clone(), name.to_owned());
        while field("overwrite") != "true" && state.files.contains_key(&key(&stored)) {
            if state.files[&key(&stored)] == bytes {
                return stored;
            }
            count += 1;
            let (stem, end) = name.rsplit_once('.').unwrap();
            stored = format!("{stem} ({count}).{end}");
        }
        state.written += 1;
        state.files.insert(key(&stored), bytes);
        stored
    });
    ok(&json!({ "name": stored, "subfolder": subfolder, "type": folder }))
}

fn upgrade(mut request: Request<Incoming>, query: &str, shared: &Arc<Shared>) -> Answer {
    let key = request
        .headers()
        .get("sec-websocket-key")
        .unwrap()
        .as_bytes()
        .to_vec();
    let sid = parameters(query).remove("clientId").unwrap();
    let shared = Arc::clone(shared);
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = TokioIo::new(upgrading.await.unwrap());
        let stream = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        let (mut out, mut inward) = stream.split();
        let (say, mut said) = mpsc::unbounded_channel();
        let remaining = shared.change(|state| {
            state.sockets.push((sid.clone(), say.clone()));
            state.client_ids.push(sid.clone());
            state.remaining()
        });
        let status = json!({ "status": { "exec_info": { "queue_remaining": remaining } }, "sid": sid });
        say.send(Message::text(
            json!({ "type": "status", "data": status }).to_string(),
        ))
        .unwrap();
        // Whoever is on the list has the only way to speak.
        let answers = say.downgrade();
        drop(say);
        let reading = tokio::spawn(async move {
            while let Some(Ok(message)) = inward.next().await {
                if message.is_text() {
                    let flags = json!({ "supports_preview_metadata": true, "max_upload_size": 104_857_600 });
                    let answer = json!({ "type": "feature_flags", "data": flags }).to_string();
                    answers.upgrade().map(|say| say.send(Message::text(answer)));
                }
            }
        });
        while let Some(message) = said.recv().await {
            if out.send(message).await.is_err() {
                break;
            }
        }
        reading.abort();
        shared.change(|state| state.sockets.retain(|(other, _)| *other != sid));
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", derive_accept_key(&key))
        .body(Full::default())
        .unwrap()
}
