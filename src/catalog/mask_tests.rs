//! Merging, with masks and without.

use prost_types::FieldMask;
use serde_json::{Value, json};

use super::{mask::merge, proto_json};
use crate::{
    error::Faults,
    proto::{Pool, PoolSpec},
};

fn spec(value: Value) -> PoolSpec {
    proto_json::strict(json!({ "spec": value }), "")
        .unwrap()
        .spec
        .unwrap()
}

fn merged(current: Value, change: Value, paths: Option<&[&str]>) -> Result<Value, Faults> {
    let pool = Pool {
        spec: Some(spec(change)),
        ..Pool::default()
    };
    let mask = paths.map(|paths| FieldMask {
        paths: paths.iter().map(ToString::to_string).collect(),
    });
    let merged = merge(&spec(current), &pool, mask.as_ref())?;
    Ok(proto_json::readable(&merged))
}

fn current() -> Value {
    json!({
        "endpoints": [{ "address": "a:1" }],
        "sizing": { "max_sessions": 3, "max_idle": 2 },
        "timeouts": { "connect": "1.500s" },
        "http": { "headers": { "a": "1" }, "tls": { "enabled": true } },
    })
}

#[test]
fn masks_and_merges_change_what_they_name_and_nothing_else() {
    let nothing: fn(&mut Value) = |_| {};
    let table: [(&str, Value, Option<&[&str]>, fn(&mut Value)); 17] = [
        ("nothing populated", json!({}), None, nothing),
        (
            "messages are merged",
            json!({ "sizing": { "max_sessions": 9 } }),
            None,
            |spec| {
                spec["sizing"]["max_sessions"] = json!(9);
            },
        ),
        (
            "durations are not",
            json!({ "timeouts": { "connect": "2s" } }),
            None,
            |spec| {
                spec["timeouts"]["connect"] = json!("2s");
            },
        ),
        (
            "maps are replaced",
            json!({ "http": { "headers": { "b": "2" } } }),
            None,
            |spec| {
                spec["http"]["headers"] = json!({ "b": "2" });
            },
        ),
        (
            "lists are replaced",
            json!({ "endpoints": [{ "address": "b:1" }] }),
            None,
            |spec| {
                spec["endpoints"] = json!([{ "address": "b:1" }]);
            },
        ),
        (
            "an empty mask is none",
            json!({ "sizing": { "max_sessions": 9 } }),
            Some(&[]),
            |spec| {
                spec["sizing"]["max_sessions"] = json!(9);
            },
        ),
        (
            "another kind takes the place",
            json!({ "echo": {} }),
            None,
            |spec| {
                spec.as_object_mut().unwrap().remove("http");
                spec["echo"] = json!({});
            },
        ),
        (
            "only what is masked",
            json!({ "sizing": { "max_sessions": 9, "max_idle": 1 } }),
            Some(&["spec.sizing.max_idle"]),
            |spec| {
                spec["sizing"]["max_idle"] = json!(1);
            },
        ),
        (
            "masked and not populated",
            json!({}),
            Some(&["spec.sizing.max_idle"]),
            |spec| {
                spec["sizing"].as_object_mut().unwrap().remove("max_idle");
            },
        ),
        (
            "a masked message as a whole",
            json!({ "sizing": { "max_idle": 1 } }),
            Some(&["spec.sizing"]),
            |spec| {
                spec["sizing"] = json!({ "max_idle": 1 });
            },
        ),
        (
            "a masked message gone",
            json!({}),
            Some(&["spec.http.tls"]),
            |spec| {
                spec["http"].as_object_mut().unwrap().remove("tls");
            },
        ),
        (
            "below what is not there",
            json!({}),
            Some(&["spec.queue.ageing", "spec.echo.dial_delay"]),
            nothing,
        ),
        (
            "below what was not there",
            json!({ "queue": { "max_waiters": 7, "ageing": "1s" } }),
            Some(&["spec.queue.max_waiters"]),
            |spec| {
                spec["queue"] = json!({ "max_waiters": 7 });
            },
        ),
        (
            "the whole definition",
            json!({ "echo": {} }),
            Some(&["spec"]),
            |spec| *spec = json!({ "echo": {} }),
        ),
        ("everything", json!({ "echo": {} }), Some(&["*"]), |spec| {
            *spec = json!({ "echo": {} })
        }),
        (
            "what says which pool",
            json!({ "echo": {} }),
            Some(&["name", "etag"]),
            nothing,
        ),
        (
            "one path after the other",
            json!({ "sizing": { "max_idle": 1 } }),
            Some(&["spec.sizing", "spec.endpoints"]),
            |spec| {
                spec["sizing"] = json!({ "max_idle": 1 });
                spec.as_object_mut().unwrap().remove("endpoints");
            },
        ),
    ];
    for (what, change, paths, expect) in table {
        let mut expected = current();
        expect(&mut expected);
        assert_eq!(merged(current(), change, paths), Ok(expected), "{what}");
    }
}

#[test]
fn bad_paths_are_told_with_what_would_be_right() {
    let paths = [
        "state",
        "create_time",
        "sizing",
        "spec.sizing.maxSessions",
        "spec.endpoints.address",
        "spec.http.headers.a",
        "spec.timeouts.connect.seconds",
        "spec.",
        "",
    ];
    let faults = merged(current(), json!({}), Some(&paths)).unwrap_err();
    let told: Vec<_> = faults
        .list()
        .iter()
        .map(|fault| format!("{}: {}", fault.field, fault.message))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    update_mask: `state` is output only
    update_mask: `create_time` is output only
    update_mask: `sizing` is not a field of a pool; paths look like `spec.sizing.max_sessions`
    update_mask: `spec.sizing.maxSessions` is not known: `Sizing` has `min_sessions`, `max_sessions`, `max_idle`, `max_dialing`
    update_mask: `spec.endpoints.address` goes into a value that changes only as a whole: name the field above
    update_mask: `spec.http.headers.a` goes into a value that changes only as a whole: name the field above
    update_mask: `spec.timeouts.connect.seconds` goes into a value that changes only as a whole: name the field above
    update_mask: `spec.` is not known: `PoolSpec` has `endpoints`, `sizing`, `timeouts`, `lease`, `queue`, `health`, `echo`, `http`
    update_mask: `` is not a field of a pool; paths look like `spec.sizing.max_sessions`
    ");
}
