//! What an operation asks for, read from its name and parameters before any session is taken.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    definition::Peer,
    framing::{Framing, Prefix, Width},
    typed::{MAX_DELIMITER, MAX_QUIET, MIN_QUIET},
};
use crate::{
    backend::{Body, Needs, Operation, hex, span::Span},
    error::Faults,
};

/// An answer as text or hex stands in JSON, where a byte may take six, and has to fit into a message.
const MAX_READABLE: usize = 512 << 10;

/// What to do.
#[derive(Debug)]
pub(super) enum Plan {
    /// Send, without waiting for anything.
    Send(Payload),
    /// Take one message.
    Receive(Wanted),
    /// Send, and take one message.
    Request(Payload, Wanted),
    /// Carry bytes both ways, until the peer's end.
    Tunnel {
        /// The caller's input goes on after the peer's end.
        half_open: bool,
    },
}

/// What to send.
#[derive(Debug)]
pub(super) enum Payload {
    /// This, from the params.
    Typed(Bytes),
    /// The operation's body.
    Body,
}

/// One message, and how to give it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) framing: Framing,
    pub(super) limit: usize,
    pub(super) shape: Shape,
}

/// How a message is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Shape {
    /// As the bytes that it is.
    #[default]
    Bytes,
    /// As JSON: `{"text": …}`, or `{"hex": …}` if it is no UTF-8.
    Text,
    /// As JSON: `{"hex": …}`.
    Hex,
}

/// Every parameter there is; each operation refuses those that are not its own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    text: Option<String>,
    hex: Option<String>,
    delimiter: Option<Typed>,
    length: Option<u64>,
    prefix: Option<GivenPrefix>,
    quiet: Option<Span>,
    max_bytes: Option<u64>,
    #[serde(rename = "as")]
    shape: Option<Shape>,
    half_open: Option<bool>,
}

/// Bytes as a person types them: text, or an object with either.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "must be text, {\"text\": …} or {\"hex\": …}")]
enum Typed {
    Plain(String),
    Text(InText),
    Hex(InHex),
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InText {
    text: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InHex {
    hex: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenPrefix {
    bytes: u64,
    #[serde(default)]
    order: GivenOrder,
    #[serde(default)]
    counts_itself: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum GivenOrder {
    #[default]
    Big,
    Little,
}

impl Plan {
    /// Reads an operation.
    ///
    /// # Errors
    /// Every fault, with paths relative to the operation.
    pub(super) fn read(operation: &Operation, peer: &Peer) -> Result<Self, Faults> {
        let name = operation.name.as_str();
        let (sends, receives) = match name {
            "send" => (true, false),
            "receive" => (false, true),
            "request" => (true, true),
            "tunnel" => (false, false),
            _ => {
                let known = "a tcp pool knows `send`, `receive`, `request`, `tunnel`";
                return Err(Faults::one("name", format!("`{name}` is unknown: {known}")));
            }
        };
        let given: Given = operation.params.parse()?;
        let mut faults = Faults::default();
        refuse(operation, &given, (sends, receives), &mut faults);
        let payload = sends.then(|| payload(operation, &given, &mut faults));
        let half_open = given.half_open.unwrap_or_default();
        let wanted = receives.then(|| wanted(given, peer, &mut faults)).flatten();
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(match (payload, wanted) {
            (Some(payload), Some(wanted)) => Self::Request(payload, wanted),
            (Some(payload), None) => Self::Send(payload),
            (None, Some(wanted)) => Self::Receive(wanted),
            (None, None) => Self::Tunnel { half_open },
        })
    }

    /// What the operation needs: nobody could know whose answer a lone `receive` took, and a tunnel ends its session.
    pub(super) const fn needs(&self) -> Needs {
        Needs {
            lease: matches!(self, Self::Receive(_) | Self::Tunnel { .. }),
            beside: 0,
        }
    }
}

/// What nothing takes would be lost in silence.
fn refuse(operation: &Operation, given: &Given, (sends, receives): (bool, bool), faults: &mut Faults) {
    let name = &operation.name;
    let there = [
        ("text", given.text.is_some(), sends),
        ("hex", given.hex.is_some(), sends),
        ("delimiter", given.delimiter.is_some(), receives),
        ("length", given.length.is_some(), receives),
        ("prefix", given.prefix.is_some(), receives),
        ("quiet", given.quiet.is_some(), receives),
        ("max_bytes", given.max_bytes.is_some(), receives),
        ("as", given.shape.is_some(), receives),
        ("half_open", given.half_open.is_some(), name == "tunnel"),
    ];
    for (param, _, _) in there.iter().filter(|(_, there, taken)| *there && !taken) {
        faults.add(&format!("params.{param}"), format!("`{name}` takes none"));
    }
    if name == "receive" && !is_empty(&operation.body) {
        faults.add("body", "`receive` takes none: `request` does");
    }
    if !operation.args.is_empty() {
        faults.add("args", "a tcp pool takes none");
    }
}

const fn is_empty(body: &Body) -> bool {
    matches!(body, Body::Whole(bytes) if bytes.is_empty())
}

fn payload(operation: &Operation, given: &Given, faults: &mut Faults) -> Payload {
    let typed = match (&given.text, &given.hex) {
        (Some(text), None) => Bytes::from(text.clone()),
        (None, Some(digits)) => hex::decode(digits).map(Bytes::from).unwrap_or_else(|| {
            faults.add("params.hex", "must be pairs of hexadecimal digits, such as 0d0a");
            Bytes::from_static(b"?")
        }),
        (Some(_), Some(_)) => {
            faults.add("params.hex", "is there beside `text`: leave one out");
            return Payload::Body;
        }
        // Whether there is one is seen when it runs: its parts may be still to come.
        (None, None) => return Payload::Body,
    };
    if typed.is_empty() {
        faults.add("params", "must have something to send");
    }
    if !is_empty(&operation.body) {
        faults.add("body", "is there beside `text` or `hex`: leave one out");
    }
    Payload::Typed(typed)
}

fn wanted(given: Given, peer: &Peer, faults: &mut Faults) -> Option<Wanted> {
    let shape = given.shape.unwrap_or_default();
    let most = if shape == Shape::Bytes {
        peer.limit
    } else {
        peer.limit.min(MAX_READABLE)
    };
    let limit = match given.max_bytes {
        None => most,
        Some(asked) => match usize::try_from(asked) {
            Ok(asked) if (1..=most).contains(&asked) => asked,
            Ok(_) | Err(_) => {
                let message = format!("must be 1 to {most}, by the pool's max_message_bytes and `as`");
                faults.add("params.max_bytes", message);
                most
            }
        },
    };
    let framing = match framing(given, limit, faults) {
        Some(framing) => framing,
        None => peer.framing.clone().or_else(|| {
            let message = "must say how the message ends, for the pool does not: one of `delimiter`, `length`, \
                           `prefix`, `quiet`";
            faults.add("params", message);
            None
        })?,
    };
    Some(Wanted {
        framing,
        limit,
        shape,
    })
}

/// The call's own framing. With a fault it is something; then the call comes to nothing.
fn framing(given: Given, limit: usize, faults: &mut Faults) -> Option<Framing> {
    let ways = [
        given.delimiter.is_some(),
        given.length.is_some(),
        given.prefix.is_some(),
        given.quiet.is_some(),
    ];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        let message = "must have at most one of `delimiter`, `length`, `prefix`, `quiet`";
        faults.add("params", message);
    }
    if let Some(typed) = given.delimiter {
        return Some(Framing::Delimiter(delimiter(typed, faults)));
    }
    if let Some(length) = given.length {
        let fits = usize::try_from(length)
            .ok()
            .filter(|length| (1..=limit).contains(length));
        if fits.is_none() {
            faults.add("params.length", format!("must be 1 to {limit}"));
        }
        return Some(Framing::Length(fits.unwrap_or(1)));
    }
    if let Some(prefix) = given.prefix {
        let width = Width::of(prefix.bytes).unwrap_or_else(|| {
            faults.add("params.prefix.bytes", "must be 1, 2, 4 or 8");
            Width::One
        });
        return Some(Framing::Prefix(Prefix {
            width,
            little_endian: matches!(prefix.order, GivenOrder::Little),
            counts_itself: prefix.counts_itself,
        }));
    }
    let Span(quiet) = given.quiet?;
    if !(MIN_QUIET..=MAX_QUIET).contains(&quiet) {
        let message = format!("must be {MIN_QUIET:?} to {MAX_QUIET:?}");
        faults.add("params.quiet", message);
    }
    Some(Framing::Quiet(quiet))
}

fn delimiter(typed: Typed, faults: &mut Faults) -> Vec<u8> {
    let bytes = match typed {
        Typed::Plain(text) | Typed::Text(InText { text }) => Some(text.into_bytes()),
        Typed::Hex(InHex { hex }) => hex::decode(&hex),
        Typed::Other(_) => None,
    };
    match bytes.filter(|bytes| (1..=MAX_DELIMITER).contains(&bytes.len())) {
        Some(bytes) => bytes,
        None => {
            let message = format!("must be 1 to {MAX_DELIMITER} bytes, as text or as {{\"hex\": \"0d0a\"}}");
            faults.add("params.delimiter", message);
            Vec::new()
        }
    }
}
