//! `validate`: what a box would say to a workflow, as far as that can be told without queueing it, from what the box tells
//! of its nodes. Checks of a node's own, such as whether an image is there, the box makes only when it takes a prompt.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::desk::{self, Desk};
use crate::backend::CallError;

/// Faults that are told, at most.
const MOST_FAULTS: usize = 100;

/// What a box tells of a class of nodes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Class {
    input: Inputs,
    output: Vec<Value>,
    output_node: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Inputs {
    required: BTreeMap<String, Vec<Value>>,
    optional: BTreeMap<String, Vec<Value>>,
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

struct Check<'a> {
    nodes: &'a BTreeMap<String, Node>,
    classes: &'a HashMap<String, Class>,
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
async fn class(desk: &mut Desk, name: &str) -> Result<Option<Class>, CallError> {
    let mut path = "/object_info/".to_owned();
    desk::encode(name, &mut path);
    let answer = desk.get(&path).await?;
    if answer.status.as_u16() == 404 {
        return Ok(None);
    }
    if !answer.status.is_success() {
        return Err(super::fault::of_answer(&answer));
    }
    let mut found: HashMap<String, Class> = answer.json()?;
    Ok(found.remove(name))
}

impl Check<'_> {
    fn whole(&mut self) {
        let mut has_output = false;
        for (id, node) in self.nodes {
            match self.classes.get(&node.class_type) {
                Some(class) => {
                    has_output |= class.output_node;
                    self.node(id, node, class);
                }
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

    fn node(&mut self, id: &str, node: &Node, class: &Class) {
        for (name, wanted) in &class.input.required {
            match node.inputs.get(name) {
                Some(given) => self.input(format!("{id}.inputs.{name}"), wanted, given),
                None => self.add(
                    format!("{id}.inputs.{name}"),
                    "required_input_missing",
                    "is required".to_owned(),
                ),
            }
        }
        for (name, wanted) in &class.input.optional {
            if let Some(given) = node.inputs.get(name) {
                self.input(format!("{id}.inputs.{name}"), wanted, given);
            }
        }
    }

    fn input(&mut self, field: String, wanted: &[Value], given: &Value) {
        let (kind, about) = (wanted.first().unwrap_or(&Value::Null), wanted.get(1));
        match given.as_array() {
            Some(link) => self.link(field, kind, link),
            None => self.value(field, kind, about.unwrap_or(&Value::Null), given),
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
        let Some(class) = self.classes.get(&node.class_type) else {
            // It is told already.
            return;
        };
        let output = usize::try_from(number)
            .ok()
            .and_then(|number| class.output.get(number));
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
            if !options.contains(given) {
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

/// Whether an output can go into an input; some take several types, some any.
fn fits(output: &Value, input: &Value) -> bool {
    let (Some(output), Some(input)) = (output.as_str(), input.as_str()) else {
        return true;
    };
    let any = |types: &str| types.split(',').any(|name| name.trim() == "*");
    let takes = |name: &str| input.split(',').any(|other| other.trim() == name.trim());
    any(output) || any(input) || output.split(',').all(takes)
}

fn is_number(given: &Value) -> bool {
    given.is_boolean()
        || given
            .as_str()
            .is_some_and(|text| text.trim().parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(workflow: &Value) -> Vec<(String, &'static str)> {
        let info = json!({
            "Make": {
                "input": {
                    "required": { "width": ["INT", { "min": 1, "max": 64 }], "how": [["fast", "slow"]] },
                    "optional": { "text": ["STRING"], "mode": ["COMBO", { "options": ["a"] }], "by": ["IMAGE,MASK"] },
                },
                "output": ["IMAGE", "LATENT"],
            },
            "Save": { "input": { "required": { "images": ["IMAGE"] } }, "output": [], "output_node": true },
        });
        let classes: HashMap<String, Class> = serde_json::from_value(info).unwrap();
        let nodes: BTreeMap<String, Node> = serde_json::from_value(workflow.clone()).unwrap();
        let mut check = Check {
            nodes: &nodes,
            classes: &classes,
            faults: Vec::new(),
        };
        check.whole();
        let faults = check.faults.into_iter();
        faults.map(|fault| (fault.field, fault.kind)).collect()
    }

    fn right() -> Value {
        json!({
            "1": { "class_type": "Make", "inputs": { "width": 64, "how": "fast", "text": "x", "mode": "a" } },
            "2": { "class_type": "Save", "inputs": { "images": ["1", 0] } },
        })
    }

    #[test]
    fn what_a_box_would_take_has_no_faults() {
        assert_eq!(told(&right()), []);
    }

    #[test]
    fn each_fault_is_told_with_its_field_and_the_boxes_word_for_it() {
        let cases = [
            (
                "/1/class_type",
                json!("Nope"),
                "1.class_type",
                "missing_node_type",
            ),
            (
                "/1/inputs/width",
                json!(0),
                "1.inputs.width",
                "value_smaller_than_min",
            ),
            (
                "/1/inputs/width",
                json!(65),
                "1.inputs.width",
                "value_bigger_than_max",
            ),
            (
                "/1/inputs/width",
                json!("x"),
                "1.inputs.width",
                "invalid_input_type",
            ),
            (
                "/1/inputs/how",
                json!("soon"),
                "1.inputs.how",
                "value_not_in_list",
            ),
            ("/1/inputs/mode", json!("b"), "1.inputs.mode", "value_not_in_list"),
            (
                "/1/inputs",
                json!({ "width": 1 }),
                "1.inputs.how",
                "required_input_missing",
            ),
            (
                "/2/inputs/images",
                json!(["1"]),
                "2.inputs.images",
                "bad_linked_input",
            ),
            (
                "/2/inputs/images",
                json!(["7", 0]),
                "2.inputs.images",
                "bad_linked_input",
            ),
            (
                "/2/inputs/images",
                json!(["1", 2]),
                "2.inputs.images",
                "bad_linked_input",
            ),
            (
                "/2/inputs/images",
                json!(["1", 1]),
                "2.inputs.images",
                "return_type_mismatch",
            ),
        ];
        for (at, value, field, kind) in cases {
            let mut workflow = right();
            *workflow.pointer_mut(at).unwrap() = value;
            let found = told(&workflow);
            assert_eq!(found[0], (format!("params.workflow.{field}"), kind), "{at}");
        }
    }

    #[test]
    fn workflow_without_outputs_is_told_as_a_whole() {
        let mut silent = right();
        silent.as_object_mut().unwrap().remove("2");
        assert_eq!(
            told(&silent),
            [("params.workflow".to_owned(), "prompt_no_outputs")]
        );
    }
}
