//! The params of `queue_prompt`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{How, Wanted, check_id, check_name, parse};
use crate::{
    backend::{
        Operation,
        comfyui::workflow::{self, Classes},
    },
    error::Faults,
};

/// Attached files of one prompt: they come in one message of 4 MiB anyway.
const MOST_FILES: usize = 64;
/// More frames a second than anyone looks at.
const FASTEST: f64 = 30.0;

/// Nodes of this class put their images out on the socket, and nowhere else.
const ON_THE_SOCKET: &str = "SaveImageWebsocket";

/// `queue_prompt`, checked.
#[derive(Debug)]
pub(in crate::backend::comfyui) struct Prompt {
    pub(in crate::backend::comfyui) workflow: Box<RawValue>,
    pub(in crate::backend::comfyui) classes: Classes,
    pub(in crate::backend::comfyui) id: String,
    /// The caller has chosen the id.
    pub(in crate::backend::comfyui) id_given: bool,
    pub(in crate::backend::comfyui) files: Vec<Attached>,
    pub(in crate::backend::comfyui) number: Option<Box<RawValue>>,
    pub(in crate::backend::comfyui) front: bool,
    pub(in crate::backend::comfyui) extra_data: Option<Box<RawValue>>,
    pub(in crate::backend::comfyui) targets: Option<Vec<String>>,
    /// Frames a second at most; 0 is none.
    pub(in crate::backend::comfyui) preview_fps: f64,
    pub(in crate::backend::comfyui) wanted: Wanted,
    pub(in crate::backend::comfyui) detach: bool,
    pub(in crate::backend::comfyui) delete_history: bool,
}

/// A file that comes with a prompt.
#[derive(Debug)]
pub(in crate::backend::comfyui) struct Attached {
    pub(in crate::backend::comfyui) name: String,
    pub(in crate::backend::comfyui) bytes: Bytes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptParams {
    workflow: Box<RawValue>,
    prompt_id: Option<String>,
    #[serde(default)]
    files: Vec<FileParams>,
    number: Option<Box<RawValue>>,
    #[serde(default)]
    front: bool,
    extra_data: Option<Box<RawValue>>,
    targets: Option<Vec<String>>,
    #[serde(default)]
    preview_fps: f64,
    #[serde(default)]
    outputs: How,
    output_nodes: Option<Vec<String>>,
    #[serde(default)]
    detach: bool,
    #[serde(default)]
    delete_history: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileParams {
    name: String,
    base64: String,
}

impl Prompt {
    pub(super) fn read(operation: &Operation, faults: &mut Faults) -> Option<Self> {
        let params: PromptParams = parse(operation, faults)?;
        if params.detach {
            check_detached(&params, faults);
        }
        let classes = workflow::classes(&params.workflow)
            .map_err(|message| faults.add("params.workflow", message))
            .unwrap_or_default();
        let id_given = params.prompt_id.is_some();
        let id = match params.prompt_id {
            Some(id) => {
                check_id(&id, faults);
                id
            }
            None => Uuid::new_v4().to_string(),
        };
        if let Some(number) = &params.number
            && serde_json::from_str::<f64>(number.get()).is_err()
        {
            faults.add("params.number", "must be a number: lower ones run first");
        }
        if params
            .extra_data
            .as_ref()
            .is_some_and(|extra| !extra.get().starts_with('{'))
        {
            faults.add("params.extra_data", "must be an object");
        }
        if !(0.0..=FASTEST).contains(&params.preview_fps) {
            faults.add("params.preview_fps", format!("must be 0, for none, to {FASTEST}"));
        }
        let files = read_files(params.files, params.workflow.get(), faults);
        Some(Self {
            files,
            classes,
            id,
            id_given,
            workflow: params.workflow,
            number: params.number,
            front: params.front,
            extra_data: params.extra_data,
            targets: params.targets,
            preview_fps: params.preview_fps,
            wanted: Wanted {
                how: params.outputs,
                nodes: params.output_nodes,
            },
            detach: params.detach,
            delete_history: params.delete_history,
        })
    }
}

impl Prompt {
    /// The nodes that put their images out on the socket, and are asked for.
    pub(in crate::backend::comfyui) fn on_the_socket(&self) -> impl Iterator<Item = &str> {
        let wanted = |id: &&String| self.targets.as_ref().is_none_or(|targets| targets.contains(id));
        let nodes = self.classes.iter().filter(|(_, class)| *class == ON_THE_SOCKET);
        nodes.map(|(id, _)| id).filter(wanted).map(String::as_str)
    }
}

/// What becomes of a detached prompt is nothing that this call could tell.
fn check_detached(params: &PromptParams, faults: &mut Faults) {
    let given = [
        ("preview_fps", params.preview_fps > 0.0),
        ("outputs", params.outputs != How::default()),
        ("output_nodes", params.output_nodes.is_some()),
        ("delete_history", params.delete_history),
    ];
    for (name, _) in given.into_iter().filter(|(_, given)| *given) {
        let message =
            "means nothing with `detach`: leave it out, and say so with `wait` or `fetch` if that has it";
        faults.add(&format!("params.{name}"), message);
    }
}

fn read_files(given: Vec<FileParams>, workflow: &str, faults: &mut Faults) -> Vec<Attached> {
    if given.len() > MOST_FILES {
        faults.add("params.files", format!("must be at most {MOST_FILES}"));
    }
    let mut read: Vec<Attached> = Vec::new();
    for (index, file) in given.into_iter().enumerate() {
        faults.within(&format!("params.files[{index}]"), |faults| {
            check_name("name", &file.name, faults);
            if read.iter().any(|other| other.name == file.name) {
                faults.add("name", "is there twice");
            }
            if !workflow::refers_to(workflow, &file.name) {
                let message = format!(
                    "is not in the workflow: write \"attachment:{}\" where it belongs",
                    file.name
                );
                faults.add("name", message);
            }
            match BASE64_STANDARD.decode(&file.base64) {
                Ok(bytes) => read.push(Attached {
                    name: file.name,
                    bytes: bytes.into(),
                }),
                Err(error) => faults.add("base64", format!("is not base64: {error}")),
            }
        });
    }
    read
}
