//! An operation's params: JSON text that is checked and passed on byte for byte, with files put in where they are asked
//! for.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::de::IgnoredAny;
use serde_json::{Value, value::RawValue};

use super::{super::exit::Exit, asked::ExecFlags, call::too_large, told};
use crate::{backend::object::Object, grpc::MAX_MESSAGE_BYTES};

const IN_A_STREAM: &str = "the files of a prompt come in a stream only: leave --whole out, or --save";

/// Reads the params.
pub(super) fn read(flags: &ExecFlags) -> Result<String, Exit> {
    let given = given(flags)?;
    let files = flags.attach.iter().map(|attached| attachment(attached));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let workflow = flags.workflow.as_deref().map(json_file).transpose()?;
    let bytes = flags.save.is_some() && wants_bytes(&flags.operation, &given);
    if bytes && flags.whole {
        return Err(Exit::usage(IN_A_STREAM));
    }
    spliced(&given, workflow.as_deref(), &files, bytes).map_err(Exit::usage)
}

/// Whether the bytes of a prompt's files are to be asked for. Another kind's `wait` or `fetch` names no prompt, and one
/// that is left to run has no files yet.
fn wants_bytes(operation: &str, params: &str) -> bool {
    let has = |object: &Object<'_>, name: &str| object.get(name).is_some();
    let detached = |object: &Object<'_>| object.get("detach") == Some("true");
    match Object::read(params) {
        Some(params) if told::begins(operation) => !has(&params, "outputs") && !detached(&params),
        Some(params) => told::tells(operation) && has(&params, "prompt_id") && !has(&params, "outputs"),
        None => told::begins(operation),
    }
}

fn given(flags: &ExecFlags) -> Result<String, Exit> {
    match flags.params.as_str() {
        "-" if flags.body.as_deref() == Some(Path::new("-")) => Err(Exit::usage(
            "standard input cannot be both the params and the body",
        )),
        "-" => {
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.map_err(|error| {
                Exit::usage(format!("cannot read the params from standard input: {error}"))
            })?;
            json("standard input", text)
        }
        text => match text.strip_prefix('@') {
            Some(file) => json_file(Path::new(file)),
            None => json("PARAMS", text.to_owned()).map_err(|exit| hinted(exit, text)),
        },
    }
}

/// Who forgets the `@` is told.
fn hinted(exit: Exit, text: &str) -> Exit {
    if Path::new(text).is_file() {
        return Exit::usage(format!(
            "{exit}; write @{text} for what is in that file, or --workflow {text} for a workflow of ComfyUI"
        ));
    }
    exit
}

fn json_file(path: &Path) -> Result<String, Exit> {
    let read = fs::read_to_string(path);
    let text = read.map_err(|error| Exit::usage(format!("cannot read {}: {error}", path.display())))?;
    json(&path.display().to_string(), text)
}

/// A text that is JSON.
fn json(from: &str, text: String) -> Result<String, Exit> {
    match serde_json::from_str::<IgnoredAny>(&text) {
        Ok(_) => Ok(text),
        Err(_) if text.starts_with('\u{feff}') => Err(Exit::usage(format!(
            "{from} is no JSON: it begins with a byte order mark, which has to go"
        ))),
        // With its line and column.
        Err(error) => Err(Exit::usage(format!("{from} is no JSON: {error}"))),
    }
}

/// A file as a member of `files`.
fn attachment(given: &str) -> Result<String, Exit> {
    let Some((name, path)) = given.split_once('=') else {
        return Err(Exit::usage(format!("--attach {given}: write NAME=FILE")));
    };
    let cannot = |error| Exit::usage(format!("cannot read {path}: {error}"));
    let file = File::open(path).map_err(cannot)?;
    let most = MAX_MESSAGE_BYTES.try_into().unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    // However large it is, no more of it is read than is needed to refuse it.
    file.take(most).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() == MAX_MESSAGE_BYTES {
        let what = format!("{path} has {MAX_MESSAGE_BYTES} bytes or more");
        return Err(Exit::usage(too_large(&what)));
    }
    let (name, base64) = (Value::from(name), BASE64_STANDARD.encode(bytes));
    Ok(format!(r#"{{"name":{name},"base64":"{base64}"}}"#))
}

/// The params with a workflow, files and the wish for their bytes put in. What is there already keeps its bytes.
fn spliced(text: &str, workflow: Option<&str>, files: &[String], bytes: bool) -> Result<String, String> {
    if workflow.is_none() && files.is_empty() && !bytes {
        return Ok(text.to_owned());
    }
    let mut object = Object::read(text).ok_or("the params must be an object for anything to be put in")?;
    if let Some(workflow) = workflow {
        if object.get("workflow").is_some() {
            return Err("the params have a workflow already: leave it or --workflow out".to_owned());
        }
        object.add("workflow", workflow.trim());
    }
    if !files.is_empty() {
        match object.get("files") {
            None => object.add("files", format!("[{}]", files.join(","))),
            Some(list) => {
                let list = appended(list, files).ok_or("`files` must be a list for --attach to add to it")?;
                object.replace("files", &list);
            }
        }
    }
    if bytes {
        object.add("outputs", r#""bytes""#);
    }
    Ok(object.written())
}

/// A list with more items at its end.
fn appended(list: &str, more: &[String]) -> Option<String> {
    let items: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    let before = list.strip_suffix(']')?;
    let comma = if items.is_empty() { "" } else { "," };
    Some(format!("{before}{comma}{}]", more.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(names: &[&str]) -> Vec<String> {
        let file = |name: &&str| format!(r#"{{"name":"{name}","base64":"eA=="}}"#);
        names.iter().map(file).collect()
    }

    #[test]
    fn params_into_which_nothing_is_put_keep_their_bytes() {
        for text in ["[1, 2]", " {\"seed\": 18446744073709551615 }\n", "1.10"] {
            assert_eq!(spliced(text, None, &[], false).unwrap(), text);
        }
    }

    #[test]
    fn a_workflow_is_put_in_byte_for_byte() {
        let workflow = "{ \"9\": {\"seed\":18446744073709551615,\"cfg\":1.10}, \"1\": [ \"4\" , 0 ] }";
        let text = spliced("{\"preview_fps\": 4}", Some(&format!("{workflow}\n")), &[], false).unwrap();
        assert_eq!(text, format!("{{\"preview_fps\": 4,\"workflow\":{workflow}}}"));
        let twice = spliced("{\"workflow\": {}}", Some("{}"), &[], false).unwrap_err();
        assert!(twice.contains("already"), "{twice}");
        assert!(
            spliced("[]", Some("{}"), &[], false)
                .unwrap_err()
                .contains("object")
        );
    }

    #[test]
    fn files_join_those_that_are_there() {
        let files = attached(&["a.png", "b.png"]);
        let both = files.join(",");
        let put = |text: &str| spliced(text, None, &files, false);
        assert_eq!(put("{}").unwrap(), format!("{{\"files\":[{both}]}}"));
        assert_eq!(
            put("{\"files\": [ ]}").unwrap(),
            format!("{{\"files\": [ {both}]}}")
        );
        assert_eq!(
            put("{\"files\":[{\"name\":\"c\"}],\"n\":1}").unwrap(),
            format!("{{\"files\":[{{\"name\":\"c\"}},{both}],\"n\":1}}")
        );
        assert!(put("{\"files\":{}}").unwrap_err().contains("list"));
    }

    #[test]
    fn bytes_are_asked_for_unless_the_params_say_how_outputs_are_wanted() {
        let put = |text: &str| spliced(text, None, &[], true).unwrap();
        assert_eq!(put("{}"), "{\"outputs\":\"bytes\"}");
        let said = "{\"prompt_id\": \"p\", \"outputs\": \"references\"}";
        for operation in ["queue_prompt", "wait", "fetch"] {
            assert!(wants_bytes(operation, "{\"prompt_id\": \"p\"}"), "{operation}");
            assert!(!wants_bytes(operation, said), "{operation}");
        }
        assert!(wants_bytes("queue_prompt", "{}"));
        // Of another kind.
        for (operation, params) in [("fetch", "{\"url\": \"/\"}"), ("wait", "[1]"), ("view", "{}")] {
            assert!(!wants_bytes(operation, params), "{operation}");
        }
    }

    #[test]
    fn no_more_of_a_file_is_read_than_a_message_takes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // Without end, if all of it were read.
        file.as_file().set_len(1 << 40).unwrap();
        let refused = attachment(&format!("a={}", file.path().display())).unwrap_err();
        assert_eq!(refused.code(), 64);
        assert!(
            refused.to_string().contains("at the same --endpoint"),
            "{refused}"
        );
    }

    #[test]
    fn a_byte_order_mark_is_told() {
        let told = json("flow.json", "\u{feff}{}".to_owned()).unwrap_err();
        assert!(told.to_string().contains("byte order mark"), "{told}");
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        let told = json("PARAMS", "{\n \"a\": }".to_owned()).unwrap_err();
        assert_eq!(told.code(), 64);
        let told = told.to_string();
        assert!(
            told.contains("PARAMS is no JSON") && told.contains("line 2 column 7"),
            "{told}"
        );
    }
}
