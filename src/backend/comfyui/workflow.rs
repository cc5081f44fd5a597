//! A workflow's text. It goes to the box as it came: seeds are unsigned 64-bit, links hold integers, and the order of
//! keys can matter, so nothing is read and written again. What has to change changes in its place.

use std::collections::HashMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};

/// What a string of the workflow begins with that stands for an attached file.
pub(super) const ATTACHED: &str = "attachment:";

/// The class of each node.
pub(super) type Classes = HashMap<String, String>;

/// Reads the classes of a workflow's nodes; says what is wrong if it is none.
pub(super) fn classes(workflow: &RawValue) -> Result<Classes, String> {
    #[derive(Deserialize)]
    struct Node {
        class_type: Option<String>,
    }
    if !workflow.get().starts_with('{') {
        return Err("must be an object: the workflow in the box's API format".to_owned());
    }
    let nodes: HashMap<String, Box<RawValue>> =
        serde_json::from_str(workflow.get()).map_err(|error| error.to_string())?;
    if nodes.contains_key("nodes") && nodes.contains_key("links") {
        return Err("is in the format of the editor: export it in the API format".to_owned());
    }
    let class = |(id, node): (String, Box<RawValue>)| {
        // What is no node is for the box to refuse.
        let class = serde_json::from_str::<Node>(node.get())
            .ok()
            .and_then(|node| node.class_type);
        (id, class.unwrap_or_default())
    };
    Ok(nodes.into_iter().map(class).collect())
}

/// Puts what a file is called at the box in the place of every string that is exactly `attachment:NAME`, however it is
/// written.
pub(super) fn attach(workflow: &str, name: &str, called: &str) -> String {
    let called = Value::from(called).to_string();
    let mut spliced = String::with_capacity(workflow.len());
    let mut rest = 0;
    for (begin, string) in strings(workflow) {
        if attached(string).as_deref() == Some(name) {
            spliced.push_str(workflow.get(rest..begin).unwrap_or_default());
            spliced.push_str(&called);
            rest = begin + string.len();
        }
    }
    spliced.push_str(workflow.get(rest..).unwrap_or_default());
    spliced
}

/// Whether a workflow refers to an attached file.
pub(super) fn refers_to(workflow: &str, name: &str) -> bool {
    strings(workflow).any(|(_, string)| attached(string).as_deref() == Some(name))
}

/// The strings of a JSON text as they are written, quotes included, and where they begin.
fn strings(json: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let begin = at + json.get(at..)?.find('"')?;
        let mut escaped = false;
        let ends = |byte: u8| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        };
        let length = json.get(begin + 1..)?.bytes().position(ends)?;
        at = begin + length + 2;
        Some((begin, json.get(begin..at)?))
    })
}

/// The name of the attached file that a string stands for, if it is one. JSON has many ways to write it: Python, for one,
/// escapes what is not ASCII.
fn attached(string: &str) -> Option<String> {
    let inner = string.strip_prefix('"')?;
    // Most do not even begin like one.
    if !inner.starts_with(['a', '\\']) {
        return None;
    }
    let read: String = serde_json::from_str(string).ok()?;
    read.strip_prefix(ATTACHED).map(str::to_owned)
}

/// What is sent beside the workflow.
#[derive(Debug, Default)]
pub(super) struct Beside<'a> {
    pub(super) client_id: &'a str,
    pub(super) prompt_id: &'a str,
    pub(super) number: Option<&'a RawValue>,
    pub(super) front: bool,
    pub(super) extra_data: Option<&'a RawValue>,
    pub(super) previews: bool,
    pub(super) targets: Option<&'a [String]>,
}

/// The body of a submission: the workflow byte for byte, and the rest behind it.
pub(super) fn submission(workflow: &str, beside: &Beside<'_>) -> String {
    let (client, prompt) = (Value::from(beside.client_id), Value::from(beside.prompt_id));
    let mut body = format!(r#"{{"prompt":{workflow},"client_id":{client},"prompt_id":{prompt}"#);
    if let Some(number) = beside.number {
        body.push_str(&format!(r#","number":{number}"#));
    }
    if beside.front {
        body.push_str(r#","front":true"#);
    }
    if let Some(extra) = extra_data(beside) {
        body.push_str(&format!(r#","extra_data":{extra}"#));
    }
    if let Some(targets) = beside.targets {
        let targets = Value::from(targets);
        body.push_str(&format!(r#","partial_execution_targets":{targets}"#));
    }
    body.push('}');
    body
}

/// The caller's extra data as it came; with the wish for previews in front, unless it says itself what it wants.
fn extra_data(beside: &Beside<'_>) -> Option<String> {
    const PREVIEWS: &str = r#""preview_method":"auto""#;
    let given = beside.extra_data.map(RawValue::get);
    if !beside.previews || given.is_some_and(says_how) {
        return given.map(str::to_owned);
    }
    let inner = given.and_then(|given| given.strip_prefix('{')).unwrap_or("}");
    let comma = if inner.trim_start().starts_with('}') {
        ""
    } else {
        ","
    };
    Some(format!("{{{PREVIEWS}{comma}{inner}"))
}

/// Whether extra data says itself which previews it wants; what is embedded in it, such as another workflow, does not.
fn says_how(extra_data: &str) -> bool {
    let members = serde_json::from_str::<HashMap<String, IgnoredAny>>(extra_data);
    members.is_ok_and(|members| members.contains_key("preview_method"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_submission_holds_the_workflow_byte_for_byte() {
        let workflow =
            r#"{"9": {"class_type":"K", "inputs":{"seed":18446744073709551615,"z":["1",0],"a":1.0}}}"#;
        let beside = Beside {
            client_id: "c",
            prompt_id: "p",
            ..Beside::default()
        };
        assert_eq!(
            submission(workflow, &beside),
            format!(r#"{{"prompt":{workflow},"client_id":"c","prompt_id":"p"}}"#)
        );
        let (number, extra) = (raw("-1.50"), raw(r#"{"b":18446744073709551615}"#));
        let targets = ["9".to_owned()];
        let all = Beside {
            number: Some(&number),
            front: true,
            extra_data: Some(&extra),
            previews: true,
            targets: Some(&targets),
            ..beside
        };
        assert!(submission(workflow, &all).ends_with(
            r#","number":-1.50,"front":true,"extra_data":{"preview_method":"auto","b":18446744073709551615},"partial_execution_targets":["9"]}"#
        ));
    }

    #[test]
    fn previews_are_asked_for_unless_the_caller_says_how() {
        let asked = |given: Option<&str>| {
            let given = given.map(raw);
            extra_data(&Beside {
                previews: true,
                extra_data: given.as_deref(),
                ..Beside::default()
            })
        };
        assert_eq!(asked(None).unwrap(), r#"{"preview_method":"auto"}"#);
        assert_eq!(asked(Some("{ }")).unwrap(), r#"{"preview_method":"auto" }"#);
        let own = r#"{"preview_method":"taesd"}"#;
        assert_eq!(asked(Some(own)).unwrap(), own);
        let within = r#"{"extra_pnginfo":{"preview_method":1}}"#;
        assert_eq!(
            asked(Some(within)).unwrap(),
            r#"{"preview_method":"auto","extra_pnginfo":{"preview_method":1}}"#
        );
    }

    #[test]
    fn an_attached_file_is_put_in_where_a_whole_string_names_it() {
        let workflow =
            r#"{"1":{"inputs":{"image":"attachment:a b.png","text":"say \"attachment:a b.png\" twice"}}}"#;
        assert!(refers_to(workflow, "a b.png"));
        assert!(!refers_to(workflow, "a"));
        assert_eq!(
            attach(workflow, "a b.png", "sublet/x.png"),
            r#"{"1":{"inputs":{"image":"sublet/x.png","text":"say \"attachment:a b.png\" twice"}}}"#
        );
    }

    #[test]
    fn an_attached_file_is_found_however_its_name_is_written() {
        for (name, written) in [
            ("f\u{fc}r.png", r"attachment:f\u00fcr.png"),
            ("\u{1f4f7}.png", r"attachment:\ud83d\udcf7.png"),
            ("a/b.png", r"\u0061ttachment:a\/b.png"),
            ("f\u{fc}r.png", "attachment:f\u{fc}r.png"),
            ("q\".png", r#"attachment:q\".png"#),
        ] {
            let workflow =
                format!(r#"{{"1":{{"text":"a \\","image":"{written}","seed":18446744073709551615}}}}"#);
            assert!(refers_to(&workflow, name), "{written}");
            assert_eq!(
                attach(&workflow, name, "sublet/x.png"),
                r#"{"1":{"text":"a \\","image":"sublet/x.png","seed":18446744073709551615}}"#,
                "{written}"
            );
        }
        let cut = r#"{"1":{"text":"attachment:\ud83d"}}"#;
        assert_eq!(attach(cut, "\u{1f4f7}", "x"), cut);
    }

    #[test]
    fn a_workflow_of_the_editor_is_refused_with_what_to_do() {
        assert!(
            classes(&raw(r#"{"nodes":[],"links":[]}"#))
                .unwrap_err()
                .contains("API format")
        );
        assert!(classes(&raw("[1]")).is_err());
        let found = classes(&raw(r#"{"1":{"class_type":"A"},"2":3}"#)).unwrap();
        assert_eq!((found["1"].as_str(), found["2"].as_str()), ("A", ""));
    }
}
