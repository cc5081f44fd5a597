//! Definitions and operations, read without a server; and servers that break the protocol.

mod peer;
mod subscribe;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::{
    backend::{Body, Cleanliness, Params, registry, secrets::Secrets},
    proto::{self, Endpoint, SecretRef, Tls, pool_spec},
};

fn spec(address: &str, own: RedisBackend) -> PoolSpec {
    PoolSpec {
        endpoints: vec![Endpoint {
            address: address.to_owned(),
            ..Endpoint::default()
        }],
        backend: Some(pool_spec::Backend::Redis(own)),
        ..PoolSpec::default()
    }
}

fn surroundings() -> Surroundings {
    Surroundings {
        secrets: Secrets::with_variables("/nowhere", [].into()),
        clock: Clock::tokio(),
    }
}

fn build(spec: &PoolSpec) -> Result<Arc<dyn Backend>, Faults> {
    registry::build(spec, &surroundings())
}

fn fields(faults: &Faults) -> Vec<&str> {
    faults.list().iter().map(|fault| fault.field.as_str()).collect()
}

fn operation(name: &str, params: &Value) -> Operation {
    Operation {
        name: name.to_owned(),
        params: Params::Text(params.to_string()),
        args: Vec::new(),
        body: Body::Whole(Bytes::new()),
        alone: true,
        inspected: crate::backend::Inspected::default(),
    }
}

fn inspect(operation: &Operation) -> Result<Needs, Faults> {
    let backend = build(&spec("localhost", RedisBackend::default())).unwrap();
    backend.inspect(operation)
}

#[test]
fn a_definition_is_told_all_its_faults_at_once() {
    let own = RedisBackend {
        user: "two words".to_owned(),
        password: Some(SecretRef::default()),
        database: u32::MAX,
        tls: Some(Tls {
            ca_file: "ca.pem".to_owned(),
            ..Tls::default()
        }),
        client_name: "a b".to_owned(),
    };
    let faults = build(&spec("redis://host", own)).unwrap_err();
    assert_eq!(
        fields(&faults),
        [
            "endpoints[0].address",
            "redis.password",
            "redis.tls.ca_file",
            "redis.user",
            "redis.client_name",
            "redis.database",
        ]
    );
    let mut two = spec("a", RedisBackend::default());
    two.endpoints.extend(two.endpoints.clone());
    assert_eq!(fields(&build(&two).unwrap_err()), ["endpoints"]);
    assert_eq!(
        build(&spec("[::1]", RedisBackend::default())).unwrap().kind(),
        "redis"
    );
}

#[test]
fn operations_are_told_all_their_faults_at_once() {
    for (name, params, expected) in [
        ("get", json!({}), vec!["name"]),
        ("command", json!({}), vec!["params.args"]),
        (
            "command",
            json!({ "args": ["GET", null, true, ["x"], { "base64": "AA==" }, { "hex": "0" }, { "$base64": "?" }] }),
            vec![
                "params.args[1]",
                "params.args[2]",
                "params.args[3]",
                "params.args[4]",
                "params.args[5]",
                "params.args[6]",
            ],
        ),
        ("command", json!({ "args": ["monitor"] }), vec!["params.args[0]"]),
        ("command", json!({ "arg": [] }), vec!["params"]),
        ("pipeline", json!({ "commands": [] }), vec!["params.commands"]),
        (
            "pipeline",
            json!({ "commands": [[], ["MULTI"], ["GET", null]], "atomic": true }),
            vec![
                "params.commands[0]",
                "params.commands[1][0]",
                "params.commands[2][1]",
            ],
        ),
        ("subscribe", json!({}), vec!["params"]),
    ] {
        let faults = inspect(&operation(name, &params)).unwrap_err();
        assert_eq!(fields(&faults), expected, "{name} {params}");
    }
}

#[test]
fn arguments_come_once_and_a_body_only_where_it_belongs() {
    let text = |text: &str| proto::Value {
        kind: Some(proto::value::Kind::Text(text.to_owned())),
        ..proto::Value::default()
    };
    let mut twice = operation("command", &json!({ "args": ["GET"] }));
    twice.args = vec![text("k")];
    assert_eq!(fields(&inspect(&twice).unwrap_err()), ["args"]);
    let mut misplaced = operation("pipeline", &json!({ "commands": [["PING"]] }));
    misplaced.args = vec![text("k")];
    misplaced.body = Body::Whole(Bytes::from_static(b"x"));
    assert_eq!(fields(&inspect(&misplaced).unwrap_err()), ["args", "body"]);
    let mut truth = operation("command", &json!({}));
    truth.args = vec![
        text("SET"),
        proto::Value {
            kind: Some(proto::value::Kind::Bool(true)),
            ..proto::Value::default()
        },
    ];
    assert_eq!(fields(&inspect(&truth).unwrap_err()), ["args[1]"]);
}

#[test]
fn what_only_a_lease_could_use_says_so() {
    let needs = |name, params| inspect(&operation(name, &params)).unwrap().lease;
    assert!(needs("command", json!({ "args": ["watch", "k"] })));
    assert!(needs(
        "pipeline",
        json!({ "commands": [["GET", "k"], ["SELECT", 1]] })
    ));
    assert!(!needs(
        "pipeline",
        json!({ "commands": [["SET", "k", 1]], "atomic": true })
    ));
    assert!(!needs("command", json!({ "args": ["JSON.GET", "k"] })));
    assert!(!needs("subscribe", json!({ "channels": ["c"] })));
}
