//! From an operation to what is to be done: checked whole before any session is taken.

mod prompt;

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

pub(super) use self::prompt::Prompt;
use super::{
    raw::{self, Raw},
    workflow,
};
use crate::{
    backend::{Body, Operation},
    error::Faults,
};

/// Operations, for whoever asks for another.
const NAMES: &str = "queue_prompt, validate, upload, view, status, queue, wait, fetch, cancel, object_info, system_stats, free, raw";
/// File systems take 255 bytes, and a file that comes with a prompt gets a mark before its name.
const LONGEST_NAME: usize = 200;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Plan {
    Prompt(Box<Prompt>),
    Control(Control),
}

/// Anything but a prompt.
#[derive(Debug)]
pub(super) enum Control {
    Validate(Validate),
    Upload(Upload),
    View(View),
    Status(Named),
    Queue,
    Wait(Fetch),
    Fetch(Fetch),
    Cancel(Named),
    ObjectInfo(ObjectInfo),
    SystemStats,
    Free(Free),
    Raw(Raw),
}

/// What is wanted of a finished prompt.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) how: How,
    /// Of these nodes only.
    pub(super) nodes: Option<Vec<String>>,
}

impl Wanted {
    /// Whether a node's outputs are.
    pub(super) fn takes(&self, node: &str) -> bool {
        let nodes = self.nodes.as_ref();
        nodes.is_none_or(|nodes| nodes.iter().any(|wanted| wanted == node))
    }
}

/// How outputs are wanted.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum How {
    /// What the files are called.
    #[default]
    References,
    /// The files themselves, in a stream.
    Bytes,
    /// What they are called, and all that the box says of the prompt.
    History,
}

/// `validate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Validate {
    pub(super) workflow: Box<RawValue>,
}

/// `upload`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upload {
    pub(super) name: String,
    #[serde(default)]
    pub(super) subfolder: String,
    #[serde(default)]
    pub(super) r#type: Folder,
    #[serde(default)]
    pub(super) overwrite: bool,
    /// Makes it the mask of this image, which is at the box.
    pub(super) mask_of: Option<File>,
}

/// A file at a box.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) filename: String,
    #[serde(default)]
    pub(super) subfolder: String,
    #[serde(default = "output")]
    pub(super) r#type: Folder,
}

const fn output() -> Folder {
    Folder::Output
}

/// A box's folders.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Folder {
    #[default]
    Input,
    Output,
    Temp,
}

impl Folder {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Temp => "temp",
        }
    }
}

/// `view`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct View {
    pub(super) filename: String,
    #[serde(default)]
    pub(super) subfolder: String,
    #[serde(default = "output")]
    pub(super) r#type: Folder,
    pub(super) preview: Option<String>,
    pub(super) channel: Option<String>,
}

/// What names a prompt.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) prompt_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FetchParams {
    prompt_id: String,
    #[serde(default)]
    outputs: How,
    output_nodes: Option<Vec<String>>,
}

/// `wait` and `fetch`.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) prompt_id: String,
    pub(super) wanted: Wanted,
}

/// `object_info`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ObjectInfo {
    pub(super) class: Option<String>,
}

/// `free`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Free {
    pub(super) unload_models: bool,
    pub(super) free_memory: bool,
}

impl Default for Free {
    fn default() -> Self {
        Self {
            unload_models: true,
            free_memory: true,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Plan {
    /// Reads an operation.
    pub(super) fn read(operation: &Operation) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        if !operation.args.is_empty() {
            faults.add("args", "`comfyui` takes none");
        }
        let empty = matches!(&operation.body, Body::Whole(bytes) if bytes.is_empty());
        if operation.name != "upload" && !empty {
            faults.add("body", "only `upload` takes one");
        }
        let plan = Self::of(operation, &mut faults);
        match plan {
            Some(plan) if faults.is_empty() => Ok(plan),
            _ => Err(faults),
        }
    }

    fn of(operation: &Operation, faults: &mut Faults) -> Option<Self> {
        if operation.name == "queue_prompt" {
            return Prompt::read(operation, faults).map(|prompt| Self::Prompt(Box::new(prompt)));
        }
        Control::read(operation, faults).map(Self::Control)
    }
}

impl Control {
    fn read(operation: &Operation, faults: &mut Faults) -> Option<Self> {
        match operation.name.as_str() {
            "validate" => Validate::read(operation, faults).map(Self::Validate),
            "upload" => parse::<Upload>(operation, faults)
                .map(|upload| upload.checked(faults))
                .map(Self::Upload),
            "view" => parse(operation, faults).map(Self::View),
            "status" => named(operation, faults).map(Self::Status),
            "cancel" => named(operation, faults).map(Self::Cancel),
            "wait" => Fetch::read(operation, faults).map(Self::Wait),
            "fetch" => Fetch::read(operation, faults).map(Self::Fetch),
            "queue" => parse::<Nothing>(operation, faults).map(|_| Self::Queue),
            "system_stats" => parse::<Nothing>(operation, faults).map(|_| Self::SystemStats),
            "object_info" => parse(operation, faults).map(Self::ObjectInfo),
            "free" => parse(operation, faults).map(Self::Free),
            "raw" => raw::read(operation, faults).map(Self::Raw),
            other => {
                let message = format!("`{other}` is not an operation of `comfyui`: it has {NAMES}");
                faults.add("name", message);
                None
            }
        }
    }
}

impl Validate {
    fn read(operation: &Operation, faults: &mut Faults) -> Option<Self> {
        let validate: Self = parse(operation, faults)?;
        if let Err(message) = workflow::classes(&validate.workflow) {
            faults.add("params.workflow", message);
        }
        Some(validate)
    }
}

impl Fetch {
    fn read(operation: &Operation, faults: &mut Faults) -> Option<Self> {
        let params: FetchParams = parse(operation, faults)?;
        check_id(&params.prompt_id, faults);
        Some(Self {
            prompt_id: params.prompt_id,
            wanted: Wanted {
                how: params.outputs,
                nodes: params.output_nodes,
            },
        })
    }
}

impl Upload {
    fn checked(self, faults: &mut Faults) -> Self {
        check_name("params.name", &self.name, faults);
        self
    }
}

fn named(operation: &Operation, faults: &mut Faults) -> Option<Named> {
    let named: Named = parse(operation, faults)?;
    check_id(&named.prompt_id, faults);
    Some(named)
}

fn parse<T: serde::de::DeserializeOwned>(operation: &Operation, faults: &mut Faults) -> Option<T> {
    let parsed = operation.params.parse();
    parsed
        .map_err(|found| {
            for fault in found.list() {
                faults.add(&fault.field, fault.message.clone());
            }
        })
        .ok()
}

/// Newer boxes take no other spelling of an id, and an id goes into paths.
fn check_id(id: &str, faults: &mut Faults) {
    let canonical = Uuid::try_parse(id).is_ok_and(|read| read.to_string() == id);
    if !canonical {
        faults.add("params.prompt_id", "must be a UUID in lower case with hyphens");
    }
}

/// A name that is one part of a path, and can be written into a form.
fn check_name(field: &str, name: &str, faults: &mut Faults) {
    let legal = |c: char| !c.is_control() && !"/\\\"".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || name.starts_with('.') || !name.chars().all(legal) {
        faults.add(
            field,
            format!("must be 1 to {LONGEST_NAME} bytes, no slash, no quote, no dot in front"),
        );
    }
}
