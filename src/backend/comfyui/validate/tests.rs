//! What is told of workflows, by a box with a few nodes.

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
        "Load": {
            "input": { "required": { "image": [["a.png"], { "image_upload": true }] }, "optional": null },
            "output": ["IMAGE"],
        },
        "Match": { "input": { "required": { "any": ["COMFY_MATCHTYPE_V3", {}] } }, "output": ["COMFY_MATCHTYPE_V3"] },
        "Odd": { "input": 7 },
        "Save": { "input": { "required": { "images": ["IMAGE"] } }, "output": [], "output_node": true },
    });
    let info: HashMap<String, Value> = serde_json::from_value(info).unwrap();
    let read = |(name, class): (String, Value)| (name, serde_json::from_value(class).ok());
    let classes: Classes = info.into_iter().map(read).collect();
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
fn what_only_the_box_can_tell_is_no_fault() {
    let cases = [
        ("Load", json!({ "image": "sublet/x.png" })),
        ("Load", json!({ "image": "attachment:x.png" })),
        ("Make", json!({ "width": 1, "how": "attachment:x.png" })),
        ("Match", json!({ "any": ["3", 1] })),
        ("Odd", json!({ "x": [1, 2, 3] })),
    ];
    for (class, inputs) in cases {
        let mut workflow = right();
        workflow["3"] = right()["1"].clone();
        workflow["1"] = json!({ "class_type": class, "inputs": inputs });
        assert_eq!(told(&workflow), [], "{class} {inputs}");
    }
    // No output needs it.
    let mut workflow = right();
    workflow["9"] = json!({ "class_type": "Make", "inputs": {} });
    assert_eq!(told(&workflow), []);
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
