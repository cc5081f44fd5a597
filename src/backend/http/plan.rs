//! From an operation to what is sent: checked whole before any session is taken.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, uri::PathAndQuery};
use http_body::Body as _;

use super::{
    definition::Target,
    headers::{self, Whose},
    params::Envelope,
    payload::Payload,
};
use crate::{
    backend::{Body, BodyReader, Operation, hex},
    error::Faults,
};

/// Redirects that one call may follow.
const MAX_REDIRECTS: u8 = 20;

/// A request, checked. It can be made as often as its body allows.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    /// The call's own headers.
    pub(super) headers: HeaderMap,
    /// The body, unless it is streamed.
    pub(super) body: Bytes,
    /// Redirects still to be followed.
    pub(super) redirects: u8,
}

impl Plan {
    /// Reads an operation.
    pub(super) fn read(operation: &Operation, target: &Target) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        if operation.name != "request" {
            faults.add(
                "name",
                format!(
                    "`{}` is not an operation of `http`: it has request",
                    operation.name
                ),
            );
        }
        if !operation.args.is_empty() {
            faults.add("args", "`http` takes none");
        }
        let envelope: Envelope = match operation.params.parse() {
            Ok(envelope) => envelope,
            Err(found) => {
                for fault in found.list() {
                    faults.add(&fault.field, fault.message.clone());
                }
                return Err(faults);
            }
        };
        let plan = Self::assemble(&envelope, operation, target, &mut faults);
        match plan {
            Some(plan) if faults.is_empty() => Ok(plan),
            _ => Err(faults),
        }
    }

    fn assemble(
        envelope: &Envelope,
        operation: &Operation,
        target: &Target,
        faults: &mut Faults,
    ) -> Option<Self> {
        let method = read_method(envelope, faults);
        let path = read_path(envelope, target, faults);
        let mut headers = read_headers(envelope, faults);
        let body = read_body(envelope, operation, faults);
        complete(&mut headers, envelope, target);
        check_length(&mut headers, operation, body.as_ref(), faults);
        if envelope.follow_redirects > MAX_REDIRECTS {
            faults.add(
                "params.follow_redirects",
                format!("must be at most {MAX_REDIRECTS}"),
            );
        }
        Some(Self {
            method: method?,
            path: path?,
            headers,
            body: body?,
            redirects: envelope.follow_redirects,
        })
    }

    /// The length that the call promised for its body.
    pub(super) fn promised_length(&self) -> Option<u64> {
        length_in(&self.headers)
    }

    /// The request, with `payload` instead of its own body if that is streamed.
    pub(super) fn request(&self, target: &Target, secret: &HeaderMap, payload: Payload) -> Request<Payload> {
        let empty = payload.is_end_stream();
        let mut request = Request::new(payload);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.path.clone());
        let headers = request.headers_mut();
        if let Some(host) = target.host() {
            headers.insert(header::HOST, host);
        }
        for (name, value) in target.headers.iter().chain(secret) {
            headers.insert(name, value.clone());
        }
        for name in self.headers.keys() {
            headers.remove(name);
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if empty && matches!(self.method, Method::POST | Method::PUT | Method::PATCH) {
            // These have a body by their nature, so its absence is said.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        request
    }
}

/// The standard methods in any case, others as they are: methods know upper from lower.
fn read_method(envelope: &Envelope, faults: &mut Faults) -> Option<Method> {
    const STANDARD: [&str; 9] = [
        "CONNECT", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
    ];
    let text = envelope.method.as_deref().unwrap_or("GET");
    let upper = text.to_ascii_uppercase();
    let text = if STANDARD.contains(&upper.as_str()) {
        upper.as_str()
    } else {
        text
    };
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) => faults.add(
            "params.method",
            "must not be CONNECT: the connection is the pool's",
        ),
        Ok(method) => return Some(method),
        Err(_) => faults.add("params.method", "is no method: a word such as GET"),
    }
    None
}

fn read_path(envelope: &Envelope, target: &Target, faults: &mut Faults) -> Option<PathAndQuery> {
    let path = envelope.path.as_deref().unwrap_or_default();
    if !path.is_empty() && !path.starts_with('/') {
        faults.add(
            "params.path",
            "must begin with a slash; the address is the pool's",
        );
        return None;
    }
    if path.contains('#') {
        faults.add("params.path", "must have no fragment: write %23 for a #");
        return None;
    }
    if path.split('?').next().unwrap_or_default().split('/').any(is_dots) {
        faults.add(
            "params.path",
            "must have no `.` and `..`: they could lead out of the pool's base path",
        );
        return None;
    }
    let mut full = format!("{}{path}", target.address.base);
    if full.is_empty() || full.starts_with('?') {
        full.insert(0, '/');
    }
    if let Some(query) = envelope.query.as_ref().filter(|query| !query.0.is_empty()) {
        full.push(if full.contains('?') { '&' } else { '?' });
        full.push_str(&query.0);
    }
    parse_path(&full, faults)
}

fn parse_path(full: &str, faults: &mut Faults) -> Option<PathAndQuery> {
    let visible = full.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let parsed = PathAndQuery::try_from(full).ok().filter(|_| visible);
    if parsed.is_none() {
        let advice = "holds a character that must be percent-encoded, such as %20 for a space";
        faults.add(
            "params.path",
            format!("{advice} (`query` as an object does that)"),
        );
    }
    parsed
}

fn is_dots(segment: &str) -> bool {
    matches!(
        segment.to_ascii_lowercase().replace("%2e", ".").as_str(),
        "." | ".."
    )
}

fn read_headers(envelope: &Envelope, faults: &mut Faults) -> HeaderMap {
    let mut read = HeaderMap::new();
    for (text, values) in &envelope.headers.0 {
        let field = format!("params.headers.{text}");
        let Some(name) = headers::name(&field, text, Whose::Call, faults) else {
            continue;
        };
        for value in values.list() {
            if let Some(value) = headers::value(&field, value, faults) {
                read.append(&name, value);
            }
        }
    }
    read
}

/// The whole body; empty where it is streamed.
fn read_body(envelope: &Envelope, operation: &Operation, faults: &mut Faults) -> Option<Bytes> {
    let from_operation = match &operation.body {
        Body::Whole(bytes) => (!bytes.is_empty()).then(|| bytes.clone()),
        Body::Stream(_) => Some(Bytes::new()),
    };
    let hex = envelope.hex.as_deref().map(|text| {
        hex::decode(text).unwrap_or_else(|| {
            faults.add("params.hex", "must be pairs of hexadecimal digits");
            Vec::new()
        })
    });
    let json = envelope
        .json
        .as_ref()
        .map(|json| Bytes::copy_from_slice(json.get().as_bytes()));
    let text = envelope
        .text
        .as_ref()
        .map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let mut given = [json, text, hex.map(Bytes::from), from_operation]
        .into_iter()
        .flatten();
    let body = given.next().unwrap_or_default();
    if given.next().is_some() {
        faults.add(
            "params",
            "must have one body at most: json, text, hex, or the operation's body",
        );
    }
    Some(body)
}

/// Adds the content type that goes with the body, unless the call or the pool gives one.
fn complete(headers: &mut HeaderMap, envelope: &Envelope, target: &Target) {
    let kind = match (&envelope.json, &envelope.text) {
        (Some(_), _) => "application/json",
        (None, Some(_)) => "text/plain; charset=utf-8",
        (None, None) => return,
    };
    if !target.headers.contains_key(header::CONTENT_TYPE) {
        headers
            .entry(header::CONTENT_TYPE)
            .or_insert(HeaderValue::from_static(kind));
    }
}

/// A length is useful with a streamed body, which is sent in chunks without one. A whole body has its own.
fn check_length(headers: &mut HeaderMap, operation: &Operation, body: Option<&Bytes>, faults: &mut Faults) {
    let given = headers.get_all(header::CONTENT_LENGTH).iter().count();
    if given == 0 {
        return;
    }
    let length = length_in(headers);
    if given > 1 || length.is_none() {
        faults.add("params.headers.content-length", "must be one number of bytes");
    }
    if let (Body::Whole(_), Some(body)) = (&operation.body, body) {
        if length != Some(body.len() as u64) {
            faults.add(
                "params.headers.content-length",
                format!("must be {}: leave it out", body.len()),
            );
        }
        headers.remove(header::CONTENT_LENGTH);
    }
}

fn length_in(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// A call's body while it is being sent, perhaps again.
#[derive(Debug)]
pub(super) enum Sending {
    /// It can be sent as often as needed.
    Whole,
    /// It can be sent once.
    Stream(BodyReader),
    /// It was sent.
    Spent,
}

impl Sending {
    pub(super) fn of(body: Body) -> Self {
        match body {
            Body::Whole(_) => Self::Whole,
            Body::Stream(reader) => Self::Stream(reader),
        }
    }
}
