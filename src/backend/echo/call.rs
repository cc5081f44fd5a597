//! The operations of `echo`, and their params.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use tonic::Code;

use super::super::{Body, Operation, Params, span::Span};
use crate::error::{Executed, Faults};

/// Items of one `stream`, at most.
const MAX_ITEMS: u64 = 1_000_000;
/// Bytes of one item of a `stream`: a frame's limit.
const MAX_ITEM_BYTES: usize = 64 * 1024;
/// Bytes of a call's own name in the record.
const MAX_ID_BYTES: usize = 128;

/// One operation, read.
#[derive(Debug)]
pub(super) enum Call {
    Echo,
    Sleep(Sleep),
    Fail(Fail),
    Stream(Stream),
    Set(Set),
    Get,
    Count(Count),
    Drop(Drop),
}

/// Answers after a while.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sleep {
    pub(super) duration: Span,
    #[serde(default)]
    pub(super) id: Option<String>,
}

/// Answers with an error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fail {
    #[serde(default = "unknown_code", deserialize_with = "code")]
    pub(super) code: Code,
    #[serde(default)]
    pub(super) message: Option<String>,
    #[serde(default = "yes", deserialize_with = "executed")]
    pub(super) executed: Executed,
    #[serde(default)]
    pub(super) retry_after: Option<Span>,
    #[serde(default)]
    pub(super) id: Option<String>,
}

/// Answers with many items.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    pub(super) count: u64,
    #[serde(default)]
    pub(super) interval: Span,
    #[serde(default)]
    pub(super) size: Option<usize>,
    #[serde(default)]
    pub(super) id: Option<String>,
}

/// Sets the session's variable.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    #[serde(deserialize_with = "present")]
    pub(super) value: Box<RawValue>,
    #[serde(default)]
    pub(super) id: Option<String>,
}

/// Tells what arrived.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Count {
    #[serde(default)]
    pub(super) scope: Scope,
}

/// Whose record to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    #[default]
    Session,
    Pool,
}

/// Breaks the connection.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drop {
    #[serde(default)]
    pub(super) when: When,
    #[serde(default, deserialize_with = "some_executed")]
    pub(super) executed: Option<Executed>,
    #[serde(default)]
    pub(super) id: Option<String>,
}

/// When the connection breaks: before anything is handed over, or after it was carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum When {
    Before,
    #[default]
    After,
}

/// Params of operations that have none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Call {
    /// Reads an operation. `echo` takes anything, so that nothing of it is parsed here.
    pub(super) fn read(operation: &Operation) -> Result<Self, Faults> {
        let params = &operation.params;
        let call = match operation.name.as_str() {
            "echo" => return Ok(Self::Echo),
            "sleep" => Self::Sleep(params.parse()?),
            "fail" => Self::Fail(params.parse()?),
            "stream" => Self::Stream(params.parse()?),
            "set" => Self::Set(params.parse()?),
            "get" => params.parse::<Nothing>().map(|_| Self::Get)?,
            "count" => Self::Count(params.parse()?),
            "drop" => Self::Drop(params.parse()?),
            other => {
                let message = format!(
                    "`{other}` is not an operation of `echo`: it has echo, sleep, fail, stream, set, get, count, drop"
                );
                return Err(Faults::one("name", message));
            }
        };
        call.check(operation).map(|()| call)
    }

    /// Whether only a later call of the same holder could use what it leaves behind.
    pub(super) const fn is_stateful(&self) -> bool {
        matches!(self, Self::Set(_) | Self::Get)
    }

    /// The caller's own name for the call, for the record.
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::Sleep(Sleep { id, .. })
            | Self::Fail(Fail { id, .. })
            | Self::Stream(Stream { id, .. })
            | Self::Set(Set { id, .. })
            | Self::Drop(Drop { id, .. }) => id.as_deref(),
            Self::Echo | Self::Get | Self::Count(_) => None,
        }
    }

    fn check(&self, operation: &Operation) -> Result<(), Faults> {
        let mut faults = Faults::default();
        if !operation.args.is_empty() {
            faults.add("args", "only `echo` takes args");
        }
        if !matches!(&operation.body, Body::Whole(bytes) if bytes.is_empty()) {
            faults.add("body", "only `echo` takes a body");
        }
        if self.id().is_some_and(|id| id.len() > MAX_ID_BYTES) {
            faults.add("params.id", format!("must be at most {MAX_ID_BYTES} bytes"));
        }
        match self {
            Self::Stream(stream) => stream.check(&mut faults),
            Self::Drop(drop) => drop.check(&mut faults),
            Self::Echo | Self::Sleep(_) | Self::Fail(_) | Self::Set(_) | Self::Get | Self::Count(_) => {}
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

impl Stream {
    fn check(&self, faults: &mut Faults) {
        if self.count > MAX_ITEMS {
            faults.add("params.count", format!("must be at most {MAX_ITEMS}"));
        }
        if self.size.is_some_and(|size| size > MAX_ITEM_BYTES) {
            faults.add("params.size", format!("must be at most {MAX_ITEM_BYTES}"));
        }
    }
}

impl Drop {
    fn check(&self, faults: &mut Faults) {
        let claims_more = self.executed.is_some_and(|executed| executed != Executed::No);
        if self.when == When::Before && claims_more {
            faults.add(
                "params.executed",
                "must be `no`, or left out: before the call nothing is handed over",
            );
        }
    }
}

/// The bytes that a call is: what counts as handed over, at least one.
pub(super) fn size_of(operation: &Operation) -> u64 {
    let params = match &operation.params {
        Params::Empty => 0,
        Params::Object(_) => 1,
        Params::Text(text) => text.len(),
    };
    let body = match &operation.body {
        Body::Whole(bytes) => bytes.len(),
        Body::Stream(_) => 0,
    };
    (params + body).max(1) as u64
}

/// A member that is there even when it is null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<RawValue>, D::Error> {
    Box::<RawValue>::deserialize(deserializer)
}

const fn unknown_code() -> Code {
    Code::Unknown
}

const fn yes() -> Executed {
    Executed::Yes
}

fn executed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Executed, D::Error> {
    let word = String::deserialize(deserializer)?;
    match word.as_str() {
        "no" => Ok(Executed::No),
        "yes" => Ok(Executed::Yes),
        "unknown" => Ok(Executed::Unknown),
        _ => Err(de::Error::unknown_variant(&word, &["no", "yes", "unknown"])),
    }
}

fn some_executed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Executed>, D::Error> {
    executed(deserializer).map(Some)
}

/// The codes that an error can have, by the names that gRPC gives them.
const CODES: [(&str, Code); 16] = [
    ("CANCELLED", Code::Cancelled),
    ("UNKNOWN", Code::Unknown),
    ("INVALID_ARGUMENT", Code::InvalidArgument),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
    ("NOT_FOUND", Code::NotFound),
    ("ALREADY_EXISTS", Code::AlreadyExists),
    ("PERMISSION_DENIED", Code::PermissionDenied),
    ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
    ("FAILED_PRECONDITION", Code::FailedPrecondition),
    ("ABORTED", Code::Aborted),
    ("OUT_OF_RANGE", Code::OutOfRange),
    ("UNIMPLEMENTED", Code::Unimplemented),
    ("INTERNAL", Code::Internal),
    ("UNAVAILABLE", Code::Unavailable),
    ("DATA_LOSS", Code::DataLoss),
    ("UNAUTHENTICATED", Code::Unauthenticated),
];

fn code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
    let name = String::deserialize(deserializer)?;
    CODES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(&name))
        .map(|(_, code)| *code)
        .ok_or_else(|| {
            de::Error::custom(format!(
                "`{name}` is not the name of a gRPC error code, such as NOT_FOUND"
            ))
        })
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}
