//! What LLM providers say, as steps of a scripted HTTP service: a conversation recorded from a real llama.cpp server,
//! streams that are cut anywhere, and refusals in every spelling.

use serde_json::Value;

use super::http_peer::Step;

const RECORDED: &str = include_str!("recorded/llama-cpp.jsonl");

/// One exchange of the recorded conversation.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// The chapter that it belongs to.
    pub(crate) chapter: String,
    /// The request line without its version.
    pub(crate) asked: String,
    /// The request's body; null for none.
    pub(crate) request: Value,
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// The answer as it came off the wire, in parts if it was streamed.
    pub(crate) parts: Vec<String>,
    streamed: bool,
}

/// The whole conversation, in order.
pub(crate) fn conversation() -> Vec<Recorded> {
    let mut found: Vec<Recorded> = Vec::new();
    let mut chapter = String::new();
    for line in RECORDED.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        if let Some(note) = record["note"].as_str() {
            note.clone_into(&mut chapter);
        } else if let Some(asked) = record["http"].as_str() {
            let headers = record["headers"].as_object().unwrap().iter();
            found.push(Recorded {
                chapter: chapter.clone(),
                asked: asked.to_owned(),
                request: record["request"].clone(),
                status: u16::try_from(record["status"].as_u64().unwrap()).unwrap(),
                headers: headers
                    .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                    .collect(),
                parts: Vec::new(),
                streamed: false,
            });
        } else {
            let last = found.last_mut().unwrap();
            last.streamed |= record["chunk"].is_string();
            let part = record["chunk"].as_str().or(record["body"].as_str());
            last.parts.extend(part.map(str::to_owned));
        }
    }
    found
}

impl Recorded {
    /// The answer as it went over the wire.
    pub(crate) fn answer(&self) -> Vec<Step> {
        let chunked = self
            .headers
            .iter()
            .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let mut head = format!("HTTP/1.1 {} Recorded\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut steps = vec![Step::Send(format!("{head}\r\n").into_bytes())];
        for part in &self.parts {
            let bytes = part.as_bytes();
            steps.push(Step::Send(if chunked { chunk(bytes) } else { bytes.to_vec() }));
        }
        if chunked {
            steps.push(Step::Send(END.to_vec()));
        }
        steps
    }

    /// A script that waits for the request and answers it.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Request];
        steps.extend(self.answer());
        steps
    }
}

/// The end of a chunked body.
pub(crate) const END: &[u8] = b"0\r\n\r\n";

/// One chunk of a chunked body.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// The head of a streamed answer.
pub(crate) fn head(kind: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nx-request-id: req_1\r\nx-ratelimit-remaining-requests: 59\r\n\
         transfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes()
}

/// A request, and the beginning of a stream of events that has come so far.
pub(crate) fn begun(text: &str) -> Vec<Step> {
    let mut steps = vec![Step::Request, Step::Send(head("text/event-stream"))];
    if !text.is_empty() {
        steps.push(Step::Send(chunk(text.as_bytes())));
    }
    steps
}

/// A request, and a stream of events in chunks of `size` bytes.
pub(crate) fn events(text: &str, size: usize) -> Vec<Step> {
    parts("text/event-stream", text, size)
}

/// A request, and a stream of lines in chunks of `size` bytes.
pub(crate) fn lines(text: &str, size: usize) -> Vec<Step> {
    parts("application/x-ndjson", text, size)
}

fn parts(kind: &str, text: &str, size: usize) -> Vec<Step> {
    let mut bytes = head(kind);
    for part in text.as_bytes().chunks(size) {
        bytes.extend(chunk(part));
    }
    bytes.extend_from_slice(END);
    vec![Step::Request, Step::Send(bytes)]
}

/// One of OpenAI's events with text.
pub(crate) fn token(text: &str) -> String {
    let text = Value::from(text);
    format!("data: {{\"model\":\"m-1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}}}}]}}\n\n")
}

/// OpenAI's last events: why the model stopped, and the end marker.
pub(crate) fn stop() -> String {
    format!("{}data: [DONE]\n\n", finish("stop"))
}

/// OpenAI's event that says why the model stopped.
pub(crate) fn finish(why: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{why}\"}}]}}\n\n")
}

/// A request, and an answer of that status with these header lines and this body.
pub(crate) fn answered(status: u16, headers: &str, body: &str) -> Vec<Step> {
    let kind = if body.starts_with('{') {
        "application/json"
    } else {
        "text/plain"
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    vec![Step::Request, Step::Send(answer.into_bytes())]
}

/// The same so many times.
pub(crate) fn times(count: usize, steps: &[Step]) -> Vec<Step> {
    (0..count).flat_map(|_| steps.to_vec()).collect()
}
