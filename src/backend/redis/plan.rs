//! What an operation asks for, read from its name and parameters before anything is handed over.

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    command::{self, Nature, Step},
    resp,
};
use crate::{
    backend::{Body, Operation, hex},
    error::Faults,
    proto::{self, value::Kind},
};

/// Commands in a pipeline, at most.
const MAX_PIPELINE: usize = 1000;
/// Channels and patterns of one `subscribe`, at most.
const MAX_CHANNELS: usize = 1000;

/// What is to be known of a command that is written already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) nature: Nature,
    pub(super) step: Step,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Plan {
    /// One command.
    Command { written: Bytes, sent: Sent, typed: bool },
    /// Commands in one go.
    Pipeline {
        written: Bytes,
        sent: Vec<Sent>,
        atomic: bool,
        typed: bool,
    },
    /// Messages as they come.
    Subscribe(Channels),
}

/// What to subscribe to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Channels {
    #[serde(default)]
    pub(super) channels: Vec<String>,
    #[serde(default)]
    pub(super) patterns: Vec<String>,
    #[serde(default)]
    pub(super) sharded: Vec<String>,
    /// Messages to wait for; 0: until it is cancelled.
    #[serde(default)]
    pub(super) count: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command<'a> {
    #[serde(default, borrow)]
    args: Vec<&'a RawValue>,
    #[serde(default)]
    typed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pipeline<'a> {
    #[serde(borrow)]
    commands: Vec<Vec<&'a RawValue>>,
    #[serde(default)]
    atomic: bool,
    #[serde(default)]
    typed: bool,
}

/// An argument that JSON has no text for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
enum Binary {
    #[serde(rename = "$base64")]
    Base64(String),
    #[serde(rename = "hex")]
    Hex(String),
}

impl Plan {
    /// Reads an operation.
    ///
    /// # Errors
    /// Every fault, with paths relative to the operation.
    pub(super) fn read(operation: &Operation) -> Result<Self, Faults> {
        let name = operation.name.as_str();
        if !matches!(name, "command" | "pipeline" | "subscribe") {
            return Err(Faults::one(
                "name",
                format!("`{name}` is unknown: a redis pool knows `command`, `pipeline`, `subscribe`"),
            ));
        }
        refuse_what_is_not_taken(operation)?;
        match name {
            "command" => read_command(operation),
            "pipeline" => read_pipeline(operation),
            _ => read_subscribe(operation),
        }
    }

    /// Whether only a lease's next call could use what it leaves behind.
    pub(super) fn needs_lease(&self) -> bool {
        self.sent().iter().any(|sent| sent.nature == Nature::State)
    }

    /// What its commands do to the session's transaction, each by itself.
    pub(super) fn steps(&self) -> VecDeque<Step> {
        match self {
            Self::Pipeline { atomic: true, .. } => VecDeque::new(),
            _ => self.sent().iter().map(|sent| sent.step).collect(),
        }
    }

    /// The commands that it has by name.
    pub(super) fn sent(&self) -> &[Sent] {
        match self {
            Self::Command { sent, .. } => std::slice::from_ref(sent),
            Self::Pipeline { sent, .. } => sent,
            Self::Subscribe(_) => &[],
        }
    }
}

/// Arguments and bodies where nothing takes them would be lost in silence.
fn refuse_what_is_not_taken(operation: &Operation) -> Result<(), Faults> {
    let mut faults = Faults::default();
    let name = &operation.name;
    let is_command = name == "command";
    if !is_command && !operation.args.is_empty() {
        faults.add("args", format!("`{name}` takes none"));
    }
    match &operation.body {
        Body::Stream(_) => faults.add("body", "has to come whole, with the operation"),
        Body::Whole(bytes) if !is_command && !bytes.is_empty() => {
            faults.add("body", format!("`{name}` takes none: `command` does"));
        }
        Body::Whole(_) => {}
    }
    done(faults, ())
}

fn read_command(operation: &Operation) -> Result<Plan, Faults> {
    let text = operation.params.text();
    let found: Command<'_> = operation.params.parse_borrowed(&text)?;
    let mut faults = Faults::default();
    if !found.args.is_empty() && !operation.args.is_empty() {
        faults.add("args", "are there twice, here and in params.args: leave one out");
    }
    let mut args = json_args("params.args", &found.args, &mut faults);
    args.extend(typed_args(&operation.args, &mut faults));
    if args.is_empty() && faults.is_empty() {
        faults.add(
            "params.args",
            "must have the command's name and arguments, such as [\"GET\", \"key\"]; if there were some, the client may \
             have lost them: did it encode the Struct? params_json is safer",
        );
    }
    if let Body::Whole(body) = &operation.body
        && !body.is_empty()
    {
        args.push(body.clone());
    }
    let field = if operation.args.is_empty() {
        "params.args[0]"
    } else {
        "args[0]"
    };
    let sent = look_at(field, &args, &mut faults);
    let mut written = BytesMut::new();
    resp::encode(&args, &mut written);
    let plan = Plan::Command {
        written: written.freeze(),
        sent,
        typed: found.typed,
    };
    done(faults, plan)
}

fn read_pipeline(operation: &Operation) -> Result<Plan, Faults> {
    let text = operation.params.text();
    let found: Pipeline<'_> = operation.params.parse_borrowed(&text)?;
    let mut faults = Faults::default();
    if found.commands.is_empty() || found.commands.len() > MAX_PIPELINE {
        faults.add("params.commands", format!("must be 1 to {MAX_PIPELINE}"));
    }
    let mut written = BytesMut::new();
    let mut sent = Vec::with_capacity(found.commands.len());
    for (index, args) in found.commands.iter().enumerate() {
        let field = format!("params.commands[{index}]");
        let args = json_args(&field, args, &mut faults);
        if args.is_empty() {
            faults.add(&field, "must have the command's name and arguments");
        }
        let one = look_at(&format!("{field}[0]"), &args, &mut faults);
        if found.atomic && one.step != Step::None {
            let message = "does not belong into an atomic pipeline, which is a transaction itself";
            faults.add(&format!("{field}[0]"), message);
        }
        resp::encode(&args, &mut written);
        sent.push(one);
    }
    let plan = Plan::Pipeline {
        written: written.freeze(),
        sent,
        atomic: found.atomic,
        typed: found.typed,
    };
    done(faults, plan)
}

fn look_at(field: &str, args: &[Bytes], faults: &mut Faults) -> Sent {
    let (nature, step) = (command::nature(args), command::step(args));
    if let (Nature::Refused(why), Some(name)) = (nature, args.first()) {
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        faults.add(field, format!("{name} {why}"));
    }
    Sent { nature, step }
}

fn read_subscribe(operation: &Operation) -> Result<Plan, Faults> {
    let channels: Channels = operation.params.parse()?;
    let all = channels.channels.len() + channels.patterns.len() + channels.sharded.len();
    if !(1..=MAX_CHANNELS).contains(&all) {
        let message = format!("`channels`, `patterns` and `sharded` together must be 1 to {MAX_CHANNELS}");
        return Err(Faults::one("params", message));
    }
    Ok(Plan::Subscribe(channels))
}

fn json_args(field: &str, args: &[&RawValue], faults: &mut Faults) -> Vec<Bytes> {
    let mut found = Vec::with_capacity(args.len());
    for (index, json) in args.iter().enumerate() {
        match from_json(json.get()) {
            Ok(arg) => found.push(arg),
            Err(message) => faults.add(&format!("{field}[{index}]"), message),
        }
    }
    found
}

/// Text is its UTF-8, a number its own digits, and bytes come in an object.
fn from_json(text: &str) -> Result<Bytes, String> {
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(text)
            .map(Bytes::from)
            .map_err(|error| error.to_string()),
        Some(b'{') => from_binary(text),
        Some(b'-' | b'0'..=b'9') => Ok(Bytes::copy_from_slice(text.as_bytes())),
        _ => Err(
            "must be text, a number, or bytes as {\"$base64\": \"…\"} or {\"hex\": \"…\"}: Redis has no other arguments"
                .to_owned(),
        ),
    }
}

fn from_binary(text: &str) -> Result<Bytes, String> {
    let found: Binary = serde_json::from_str(text).map_err(|_| {
        "an object must be bytes, as {\"$base64\": \"…\"} or {\"hex\": \"…\"}; send JSON as text".to_owned()
    })?;
    match found {
        Binary::Base64(text) => BASE64.decode(&text).map(Bytes::from).ok(),
        Binary::Hex(text) => hex::decode(&text).map(Bytes::from),
    }
    .ok_or_else(|| "is not what it says: standard base64 with padding, or pairs of hex digits".to_owned())
}

fn typed_args(args: &[proto::Value], faults: &mut Faults) -> Vec<Bytes> {
    let mut found = Vec::with_capacity(args.len());
    for (index, value) in args.iter().enumerate() {
        match &value.kind {
            Some(Kind::Text(text)) => found.push(Bytes::from(text.clone())),
            Some(Kind::Bytes(bytes)) => found.push(bytes.clone()),
            Some(Kind::Int(int)) => found.push(Bytes::from(int.to_string())),
            Some(Kind::Float(float)) => found.push(Bytes::from(float.to_string())),
            Some(Kind::Null(_) | Kind::Bool(_) | Kind::List(_)) | None => {
                let message = "must be text, bytes, int or float: Redis has no other arguments";
                faults.add(&format!("args[{index}]"), message);
            }
        }
    }
    found
}

fn done<T>(faults: Faults, value: T) -> Result<T, Faults> {
    if faults.is_empty() { Ok(value) } else { Err(faults) }
}
