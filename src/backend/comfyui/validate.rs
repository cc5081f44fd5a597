//! `validate`: what a box would say to a workflow, as far as that can be told without queueing it, from what the box tells
//! of its nodes. Checks of a node's own, such as whether an image is there, the box makes only when it takes a prompt.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    desk::{self, Desk},
    workflow::ATTACHED,
};
use crate::backend::CallError;

/// Faults that are told, at most.
const MOST_FAULTS: usize = 100;

/// What a box tells of a class of nodes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Class {
    input: Inputs,
    output: Option<Vec<Value>>,
    output_node: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Inputs {
    required: Option<BTreeMap<String, Value>>,
    optional: Option<BTreeMap<String, Value>>,
}

/// A node of a workflow.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    class_type: String,
    inputs: BTreeMap<String, Value>,
}

/// What is wrong, in the box's words.
#[derive(Debug)]
struct Fault {
    field: String,
    kind: &'static str,
    message: String,
}

/// Classes that the box has; nothing of one whose description is not understood.
type Classes = HashMap<String, Option<Class>>;

struct Check<'a> {
    nodes: &'a BTreeMap<String, Node>,
    classes: &'a Classes,
    faults: Vec<Fault>,
}

/// Checks a workflow; gives its faults.
pub(super) async fn faults(desk: &mut Desk, workflow: &RawValue) -> Result<Vec<Value>, CallError> {
    let nodes: BTreeMap<String, Node> = match serde_json::from_str(workflow.get()) {
        Ok(nodes) => nodes,
        Err(error) => {
            let message = format!("a node is not what it should be: {error}");
            return Ok(vec![
                json!({ "field": "params.workflow", "type": "invalid_prompt", "message": message }),
            ]);
        }
    };
    let wanted: BTreeSet<&str> = nodes.values().map(|node| node.class_type.as_str()).collect();
    let mut classes = HashMap::new();
    for name in wanted.into_iter().filter(|name| !name.is_empty()) {
        if let Some(class) = class(desk, name).await? {
            classes.insert(name.to_owned(), class);
        }
    }
    let mut check = Check {
        nodes: &nodes,
        classes: &classes,
        faults: Vec::new(),
    };
    check.whole();
    let told = check.faults.into_iter().take(MOST_FAULTS);
    Ok(told
        .map(|fault| json!({ "field": fault.field, "type": fault.kind, "message": fault.message }))
        .collect())
}

/// What the box tells of one class; nothing if it does not have it.
async fn class(desk: &mut Desk, name: &str) -> Result<Option<Option<Class>>, CallError> {
    let mut path = "/object_info/".to_owned();
    desk::encode(name, &mut path);
    let answer = desk.get(&path).await?;
    if answer.status.as_u16() == 404 {
        return Ok(None);
    }
    if !answer.status.is_success() {
        return Err(super::fault::of_answer(&answer));
    }
    let mut found: HashMap<String, Value> = answer.json()?;
    let described = found.remove(name);
    Ok(described.map(|class| serde_json::from_value(class).ok()))
}

impl<'a> Check<'a> {
    fn whole(&mut self) {
        let needed = self.needed();
        let has_output = !needed.is_empty();
        for (id, node) in self.nodes {
            match self.classes.get(&node.class_type) {
                Some(Some(class)) if needed.contains(id.as_str()) => self.node(id, node, class),
                Some(_) => {}
                None => self.add(
                    format!("{id}.class_type"),
                    "missing_node_type",
                    format!("the box has no node `{}`", node.class_type),
                ),
            }
        }
        if !has_output && self.faults.is_empty() {
            let message = "no node puts anything out".to_owned();
            self.faults.push(Fault {
                field: "params.workflow".to_owned(),
                kind: "prompt_no_outputs",
                message,
            });
        }
    }

    /// The nodes that put something out, and those that they need: a box looks at no other's inputs. What is not
    /// understood may put something out.
    fn needed(&self) -> BTreeSet<&'a str> {
        let (nodes, classes) = (self.nodes, self.classes);
        let mut needed = BTreeSet::new();
        let puts_out = |node: &Node| {
            let class = classes.get(&node.class_type);
            class.is_some_and(|class| class.as_ref().is_none_or(|class| class.output_node))
        };
        let ends = nodes.iter().filter(|(_, node)| puts_out(node));
        let mut open: Vec<&str> = ends.map(|(id, _)| id.as_str()).collect();
        while let Some(id) = open.pop() {
            if !needed.insert(id) {
                continue;
            }
            let inputs = nodes.get(id).into_iter().flat_map(|node| node.inputs.values());
            let links = inputs.filter_map(|given| given.get(0)?.as_str());
            open.extend(links.filter(|from| nodes.contains_key(*from)));
        }
        needed
    }

    fn node(&mut self, id: &str, node: &Node, class: &Class) {
        for (name, wanted) in class.input.required.iter().flatten() {
            match node.inputs.get(name) {
                Some(given) => self.input(format!("{id}.inputs.{name}"), wanted, given),
                // What is given goes by names of its own then.
                None if is_dynamic(wanted.get(0)) => {}
                None => self.add(
                    format!("{id}.inputs.{name}"),
                    "required_input_missing",
                    "is required".to_owned(),
                ),
            }
        }
        for (name, wanted) in class.input.optional.iter().flatten() {
            if let Some(given) = node.inputs.get(name) {
                self.input(format!("{id}.inputs.{name}"), wanted, given);
            }
        }
    }

    fn input(&mut self, field: String, wanted: &Value, given: &Value) {
        let (kind, about) = (wanted.get(0), wanted.get(1));
        let (kind, about) = (kind.unwrap_or(&Value::Null), about.unwrap_or(&Value::Null));
        match given.as_array() {
            Some(link) => self.link(field, kind, link),
            None => self.value(field, kind, about, given),
        }
    }

    /// `[node, number of its output]`
    fn link(&mut self, field: String, wanted: &Value, link: &[Value]) {
        let from = link.first().and_then(Value::as_str);
        let number = link.get(1).and_then(Value::as_u64).filter(|_| link.len() == 2);
        let (Some(from), Some(number)) = (from, number) else {
            let message = "a link is [node, number of its output]".to_owned();
            return self.add(field, "bad_linked_input", message);
        };
        let Some(node) = self.nodes.get(from) else {
            return self.add(field, "bad_linked_input", format!("there is no node {from}"));
        };
        let Some(Some(class)) = self.classes.get(&node.class_type) else {
            // It is told already, or nothing is known of it.
            return;
        };
        let outputs = class.output.as_deref().unwrap_or_default();
        let output = usize::try_from(number)
            .ok()
            .and_then(|number| outputs.get(number));
        match output {
            None => self.add(
                field,
                "bad_linked_input",
                format!("node {from} has no output {number}"),
            ),
            Some(output) if !fits(output, wanted) => self.add(
                field,
                "return_type_mismatch",
                format!("must be {wanted}, and output {number} of node {from} is {output}"),
            ),
            Some(_) => {}
        }
    }

    fn value(&mut self, field: String, kind: &Value, about: &Value, given: &Value) {
        let options = kind.as_array().or_else(|| about.get("options")?.as_array());
        if let Some(options) = options {
            if !options.contains(given) && !is_file(about, given) {
                self.add(
                    field,
                    "value_not_in_list",
                    format!("{given} is none of the choices"),
                );
            }
            return;
        }
        let right = match kind.as_str() {
            Some("INT" | "FLOAT") => given.is_number() || is_number(given),
            Some("STRING") => given.is_string() || given.is_number() || given.is_boolean(),
            // Boxes turn anything else into what they need.
            _ => true,
        };
        if !right {
            return self.add(field, "invalid_input_type", format!("{given} is no {kind}"));
        }
        let (Some("INT" | "FLOAT"), Some(number)) = (kind.as_str(), given.as_f64()) else {
            return;
        };
        let bound = |name: &str| about.get(name).and_then(Value::as_f64);
        if let Some(least) = bound("min").filter(|least| number < *least) {
            self.add(
                field,
                "value_smaller_than_min",
                format!("{given} is less than {least}"),
            );
        } else if let Some(most) = bound("max").filter(|most| number > *most) {
            self.add(
                field,
                "value_bigger_than_max",
                format!("{given} is more than {most}"),
            );
        }
    }

    fn add(&mut self, field: String, kind: &'static str, message: String) {
        let field = format!("params.workflow.{field}");
        self.faults.push(Fault { field, kind, message });
    }
}

/// Types of nodes that say themselves what fits, and of how much.
const DYNAMIC: &str = "COMFY_";

fn is_dynamic(kind: Option<&Value>) -> bool {
    let kind = kind.and_then(Value::as_str);
    kind.is_some_and(|kind| kind.starts_with(DYNAMIC))
}

/// Whether an output can go into an input; some take several types, some any.
fn fits(output: &Value, input: &Value) -> bool {
    let (Some(output), Some(input)) = (output.as_str(), input.as_str()) else {
        return true;
    };
    let any = |types: &str| {
        let mut names = types.split(',').map(str::trim);
        names.any(|name| name == "*" || name.starts_with(DYNAMIC))
    };
    let takes = |name: &str| input.split(',').any(|other| other.trim() == name.trim());
    any(output) || any(input) || output.split(',').all(takes)
}

/// Whether an input names a file, which its node looks for itself: the choices are only those that were there before.
fn is_file(about: &Value, given: &Value) -> bool {
    let is_upload =
        |(name, value): (&String, &Value)| name.ends_with("_upload") && *value == Value::Bool(true);
    let is_attached = given.as_str().is_some_and(|text| text.starts_with(ATTACHED));
    is_attached || about.as_object().into_iter().flatten().any(is_upload)
}

fn is_number(given: &Value) -> bool {
    given.is_boolean()
        || given
            .as_str()
            .is_some_and(|text| text.trim().parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests;
