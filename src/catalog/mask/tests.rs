//! Merging, with masks and without.

use prost_types::FieldMask;
use serde_json::{Value, json};

use super::merge;
use crate::{
    catalog::proto_json,
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

/// What is left of `current` where `at` is another value; null where it is gone.
fn with(at: &[(&str, Value)]) -> Value {
    let mut spec = current();
    for (pointer, value) in at {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = spec.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(key);
        } else {
            parent.insert(key.to_owned(), value.clone());
        }
    }
    spec
}

#[test]
fn without_a_mask_every_populated_field_changes() {
    for (change, at) in [
        (json!({}), vec![]),
        // Messages are merged; durations, maps and lists are replaced.
        (
            json!({ "sizing": { "max_sessions": 9 } }),
            vec![("/sizing/max_sessions", json!(9))],
        ),
        (
            json!({ "timeouts": { "connect": "2s" } }),
            vec![("/timeouts/connect", json!("2s"))],
        ),
        (
            json!({ "http": { "headers": { "b": "2" } } }),
            vec![("/http/headers", json!({ "b": "2" }))],
        ),
        (
            json!({ "endpoints": [{ "name": "b" }] }),
            vec![("/endpoints", json!([{ "name": "b" }]))],
        ),
        // Another kind takes the place of the one that was there.
        (
            json!({ "echo": {} }),
            vec![("/http", Value::Null), ("/echo", json!({}))],
        ),
    ] {
        assert_eq!(merged(current(), change.clone(), None), Ok(with(&at)), "{change}");
        assert_eq!(
            merged(current(), change.clone(), Some(&[])),
            Ok(with(&at)),
            "{change}"
        );
    }
}

#[test]
fn a_mask_changes_what_it_names_and_nothing_else() {
    let sizing = || json!({ "sizing": { "max_sessions": 9, "max_idle": 1 } });
    let queue = json!({ "queue": { "max_waiters": 7, "ageing": "1s" } });
    for (change, path, at) in [
        (
            sizing(),
            "spec.sizing.max_idle",
            vec![("/sizing/max_idle", json!(1))],
        ),
        (
            json!({}),
            "spec.sizing.max_idle",
            vec![("/sizing/max_idle", Value::Null)],
        ),
        (
            json!({ "sizing": { "max_idle": 1 } }),
            "spec.sizing",
            vec![("/sizing", json!({ "max_idle": 1 }))],
        ),
        (json!({}), "spec.http.tls", vec![("/http/tls", Value::Null)]),
        (json!({}), "spec.queue.ageing", vec![]),
        (json!({}), "spec.echo.dial_delay", vec![]),
        (
            queue,
            "spec.queue.max_waiters",
            vec![("/queue", json!({ "max_waiters": 7 }))],
        ),
        (sizing(), "name", vec![]),
        (sizing(), "etag", vec![]),
    ] {
        let merged = merged(current(), change.clone(), Some(&[path]));
        assert_eq!(merged, Ok(with(&at)), "{path} {change}");
    }
}

#[test]
fn the_whole_definition_can_be_masked_and_several_paths_too() {
    for path in ["spec", "*"] {
        let merged = merged(current(), json!({ "echo": {} }), Some(&[path]));
        assert_eq!(merged, Ok(json!({ "echo": {} })), "{path}");
    }
    let change = json!({ "sizing": { "max_idle": 1 }, "echo": {} });
    let merged = merged(
        current(),
        change,
        Some(&["spec.sizing.max_idle", "spec.endpoints"]),
    );
    let expected = with(&[("/sizing/max_idle", json!(1)), ("/endpoints", Value::Null)]);
    assert_eq!(merged, Ok(expected));
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
    update_mask: `spec.` is not known: `PoolSpec` has `endpoints`, `sizing`, `timeouts`, `lease`, `queue`, `health`, `echo`, `http`, `postgres`, `redis`, `tcp`, `plugin`, `llm`, `comfyui`
    update_mask: `` is not a field of a pool; paths look like `spec.sizing.max_sessions`
    ");
}
