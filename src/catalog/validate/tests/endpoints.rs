//! What a definition's endpoints may be, alone and together with the sizes.

use serde_json::{Value, json};

use super::{proto_json, surroundings, validate};
use crate::{broker::Plan, error::Faults};

/// Validates a pool of this kind.
fn check(kind: &str, own: Value, endpoints: Value, sizing: Value) -> Result<Plan, Faults> {
    let spec = json!({ kind: own, "endpoints": endpoints, "sizing": sizing });
    let pool = proto_json::strict(json!({ "name": "orders", "spec": spec }), "").unwrap();
    validate(&pool, &surroundings())
}

fn told(found: Result<Plan, Faults>) -> String {
    let faults = found.map(|plan| format!("{plan:?}")).unwrap_err();
    let told: Vec<_> = faults
        .list()
        .iter()
        .map(|fault| format!("{}: {}", fault.field, fault.message))
        .collect();
    told.join("\n")
}

/// Endpoints at these addresses, each with a name of its own.
fn at(addresses: &[&str]) -> Value {
    let named = |(index, address): (usize, &&str)| json!({ "name": format!("e{index}"), "address": address });
    addresses.iter().enumerate().map(named).collect()
}

fn are_one_place(kind: &str, own: Value, addresses: &[&str]) -> bool {
    match check(kind, own, at(addresses), json!({})) {
        Ok(_) => false,
        Err(faults) => {
            let fields: Vec<_> = faults.list().iter().map(|fault| fault.field.as_str()).collect();
            assert_eq!(
                fields,
                ["pool.spec.endpoints[1].address"],
                "{addresses:?}: {faults}"
            );
            assert!(
                faults.list()[0].message.contains("endpoints[0].address"),
                "{faults}"
            );
            true
        }
    }
}

#[tokio::test]
async fn every_fault_of_every_endpoint_is_told_at_once() {
    let found = check(
        "llm",
        json!({}),
        json!([
            { "name": "a", "address": "one:80", "max_sessions": 0 },
            { "name": "a", "address": "two:80", "max_sessions": 10_001 },
            { "name": "c\u{0007}", "address": "ONE:80" },
            { "name": "x".repeat(257), "address": "ftp://three" },
            { "address": "five:80" },
            { "name": "five:80", "address": "six:80" },
        ]),
        json!({}),
    );
    insta::assert_snapshot!(told(found), @r"
    pool.spec.endpoints[0].max_sessions: must be from 1 to 10000
    pool.spec.endpoints[1].name: is that of endpoints[0] too: no two may be the same
    pool.spec.endpoints[1].max_sessions: must be from 1 to 10000
    pool.spec.endpoints[2].address: is the place of endpoints[0].address too: no two may be the same
    pool.spec.endpoints[2].name: must be at most 256 bytes, without control characters
    pool.spec.endpoints[3].name: must be at most 256 bytes, without control characters
    pool.spec.endpoints[5].name: is that of endpoints[4] too: no two may be the same
    pool.spec.endpoints[3].address: must begin with http:// or https://, or be host:port
    ");
}

#[tokio::test]
async fn one_place_may_be_written_once_only_however_that_is_done() {
    for (one, other) in [
        ("box:8188", "box:8188"),
        ("box:8188", "BOX:8188"),
        ("box:8188", "http://box:8188"),
        ("http://box:8188", "HTTP://Box:8188/"),
        ("http://box", "box:80"),
        ("https://box", "https://box:443/"),
        ("http://box/a", "http://box:80/a/"),
        ("[::1]:80", "http://[0:0:0:0:0:0:0:1]"),
    ] {
        assert!(are_one_place("llm", json!({}), &[one, other]), "{one} {other}");
    }
    for (one, other) in [
        ("box:8188", "box:8189"),
        ("box:8188", "box2:8188"),
        ("http://box", "https://box"),
        ("http://box/a", "http://box/b"),
        ("http://box/a", "http://box/A"),
        ("[::1]:80", "[::2]:80"),
    ] {
        assert!(!are_one_place("llm", json!({}), &[one, other]), "{one} {other}");
    }
    let tls = json!({ "tls": { "enabled": true } });
    assert!(are_one_place("llm", tls, &["box:443", "https://box"]));
}

#[tokio::test]
async fn a_name_that_is_only_the_address_is_told_as_the_address() {
    for (endpoints, fields) in [
        (
            json!([{ "address": "box:80" }, { "address": "box:80" }]),
            vec!["address"],
        ),
        (
            json!([{ "name": "box:80", "address": "one:80" }, { "address": "box:80" }]),
            vec!["name"],
        ),
        (
            json!([{ "name": "a", "address": "box:80" }, { "name": "a", "address": "BOX:80" }]),
            vec!["address", "name"],
        ),
    ] {
        let faults = check("llm", json!({}), endpoints, json!({}))
            .map(|_| ())
            .unwrap_err();
        let told: Vec<_> = faults.list().iter().map(|fault| fault.field.clone()).collect();
        let fields: Vec<_> = fields
            .iter()
            .map(|field| format!("pool.spec.endpoints[1].{field}"))
            .collect();
        assert_eq!(told, fields);
    }
}

#[tokio::test]
async fn one_place_is_what_its_kind_makes_of_an_address() {
    assert!(are_one_place(
        "llm",
        json!({ "dialect": "DIALECT_OPENAI" }),
        &["https://api.example", "https://api.example/v1"]
    ));
    let boxes = |one: &str, other: &str| {
        json!([
            { "name": "a", "address": one, "max_sessions": 1 },
            { "name": "b", "address": other, "max_sessions": 1 },
        ])
    };
    let found = check(
        "comfyui",
        json!({}),
        boxes("box:8188", "http://BOX:8188/"),
        json!({}),
    );
    assert!(told(found).starts_with("pool.spec.endpoints[1].address: "));
    assert!(
        check(
            "comfyui",
            json!({}),
            boxes("http://box/a", "http://box/b"),
            json!({})
        )
        .is_ok()
    );
}

#[tokio::test]
async fn what_was_written_is_what_is_shown() {
    let plan = check("llm", json!({}), json!([{ "address": "HTTP://Box/" }]), json!({})).unwrap();
    assert_eq!(&*plan.settings.endpoints[0].name, "HTTP://Box/");
}

#[tokio::test]
async fn more_sessions_cannot_be_kept_than_the_endpoints_may_have() {
    let two = |limits: [u32; 2]| {
        json!([
            { "name": "a", "address": "one:80", "max_sessions": limits[0] },
            { "name": "b", "address": "two:80", "max_sessions": limits[1] },
        ])
    };
    let sizes = |min: u32| json!({ "min_sessions": min, "max_sessions": 10 });
    assert!(check("llm", json!({}), two([2, 3]), sizes(5)).is_ok());
    insta::assert_snapshot!(told(check("llm", json!({}), two([2, 3]), sizes(6))), @"pool.spec.sizing.min_sessions: must be at most 5, which is what the endpoints may have together: lower it, or raise endpoints[].max_sessions");
    let unlimited = json!([
        { "name": "a", "address": "one:80", "max_sessions": 1 },
        { "name": "b", "address": "two:80" },
    ]);
    assert!(
        check("llm", json!({}), unlimited, sizes(6)).is_ok(),
        "one of them has no limit of its own"
    );
    // A limit that makes no sense itself says nothing of the others.
    let found = told(check("llm", json!({}), two([0, 3]), sizes(6)));
    assert!(found.starts_with("pool.spec.endpoints[0].max_sessions: ") && !found.contains("min_sessions"));
}

#[tokio::test]
async fn limits_of_all_endpoints_together_are_the_pools_unless_it_has_its_own() {
    let limited = |limits: [Value; 2]| {
        json!([
            { "name": "a", "address": "one:80", "max_sessions": limits[0] },
            { "name": "b", "address": "two:80", "max_sessions": limits[1] },
        ])
    };
    let most = |limits, sizing| {
        let plan = check("llm", json!({}), limited(limits), sizing).unwrap();
        (plan.settings.max_sessions, plan.settings.max_idle)
    };
    assert_eq!(most([json!(2), json!(3)], json!({})), (5, 5));
    assert_eq!(most([json!(9_000), json!(9_000)], json!({})), (10_000, 10_000));
    assert_eq!(most([json!(2), Value::Null], json!({})), (10, 10));
    assert_eq!(most([json!(2), json!(3)], json!({ "max_sessions": 4 })), (4, 4));
}

#[tokio::test]
async fn there_are_a_hundred_endpoints_at_most() {
    let many = |count: u32| -> Value {
        let one = |number| json!({ "address": format!("box-{number}:80") });
        (0..count).map(one).collect()
    };
    assert!(check("llm", json!({}), many(100), json!({})).is_ok());
    let found = check("llm", json!({}), many(101), json!({}));
    assert!(told(found).starts_with("pool.spec.endpoints: must be at most 100"));
}
