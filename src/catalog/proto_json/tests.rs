//! Definitions as text: what is read, what is refused, and where.

mod definitions;

use proptest::prelude::*;
use prost_types::Duration as Span;
use serde_json::{Value, json};

use self::definitions::definition;
use super::{canonical, readable, stored, strict};
use crate::{
    error::Faults,
    proto::{EchoBackend, Pool, PoolSpec, pool_spec::Backend},
};

fn read(spec: Value) -> Result<PoolSpec, Faults> {
    let pool: Pool = strict(json!({ "name": "orders", "spec": spec }), "pools[2]")?;
    Ok(pool.spec.unwrap())
}

fn told(spec: Value) -> Vec<String> {
    let faults = read(spec).unwrap_err();
    faults
        .list()
        .iter()
        .map(|fault| format!("{}: {}", fault.field, fault.message))
        .collect()
}

#[test]
fn the_stored_text_is_canonical() {
    let spec = read(json!({ "echo": { "dial_delay": "250ms" }, "sizing": { "max_sessions": 3 } })).unwrap();
    assert_eq!(
        canonical(&spec),
        r#"{"echo":{"dialDelay":"0.250s"},"sizing":{"maxSessions":3}}"#
    );
    assert_eq!(readable(&spec)["sizing"], json!({ "max_sessions": 3 }));
}

#[test]
fn people_write_durations_as_sums_with_units() {
    for (text, seconds, nanos) in [
        ("5m", 300, 0),
        ("1h30m", 5400, 0),
        ("250ms", 0, 250_000_000),
        ("1.5s", 1, 500_000_000),
        ("300s", 300, 0),
        ("0s", 0, 0),
        ("1m0.000000001s", 60, 1),
        ("7us", 0, 7000),
        ("3ns", 0, 3),
    ] {
        let spec = read(json!({ "echo": { "dial_delay": text } })).unwrap();
        let expected = Some(Backend::Echo(EchoBackend {
            dial_delay: Some(Span { seconds, nanos }),
        }));
        assert_eq!(spec.backend, expected, "{text}");
    }
}

#[test]
fn what_is_no_duration_is_told_with_its_path() {
    let words = [
        "",
        "5",
        "m",
        "5 m",
        "-5s",
        "5d",
        "1e3s",
        "0.1ns",
        "1.s.",
        "99999999999999999999h",
        "5M",
    ];
    for bad in words
        .map(Value::from)
        .into_iter()
        .chain([json!(5), json!({}), json!(true)])
    {
        let told = told(json!({ "echo": { "dial_delay": bad } }));
        assert_eq!(told.len(), 1, "{bad} {told:?}");
        assert!(
            told[0].starts_with("pools[2].spec.echo.dial_delay: "),
            "{bad} {told:?}"
        );
    }
}

#[test]
fn every_unknown_key_and_every_misfit_is_told_with_its_path() {
    let told = told(json!({
        "echo": { "delay": "1s" },
        "sizing": { "max_sesions": 3, "max_idle": "many", "maxDialing": -1, "min_sessions": 1.5 },
        "endpoints": [{ "address": "a:1" }, { "adress": "b:1", "name": 7 }, "c:1"],
        "health": { "enabled": "yes" },
        "queue": [],
        "timeouts": null,
        "breaker": {},
    }));
    insta::assert_snapshot!(told.join("\n"), @r"
    pools[2].spec.breaker: is not known here; known are `endpoints`, `sizing`, `timeouts`, `lease`, `queue`, `health`, `echo`, `http`, `postgres`, `redis`, `tcp`, `plugin`, `llm`, `comfyui`
    pools[2].spec.echo.delay: is not known here; known are `dial_delay`
    pools[2].spec.endpoints[1].adress: is not known here; known are `name`, `address`, `max_sessions`
    pools[2].spec.endpoints[1].name: must be text
    pools[2].spec.endpoints[2]: must be an object
    pools[2].spec.health.enabled: must be true or false
    pools[2].spec.queue: must be an object
    pools[2].spec.sizing.max_dialing: must be a whole number from 0 to 4294967295
    pools[2].spec.sizing.max_idle: must be a whole number from 0 to 4294967295
    pools[2].spec.sizing.max_sesions: is not known here; known are `min_sessions`, `max_sessions`, `max_idle`, `max_dialing`
    pools[2].spec.sizing.min_sessions: must be a whole number from 0 to 4294967295
    ");
}

#[test]
fn misfits_inside_maps_have_their_path() {
    let told = told(json!({ "http": {
        "headers": { "x-a": 5, "x-b": "fine" },
        "secret_headers": { "x-key": { "envy": "A" }, "x-other": "plain" },
    } }));
    insta::assert_snapshot!(told.join("\n"), @r"
    pools[2].spec.http.headers.x-a: must be text
    pools[2].spec.http.secret_headers.x-key.envy: is not known here; known are `env`, `file`
    pools[2].spec.http.secret_headers.x-other: must be an object
    ");
}

#[test]
fn a_key_in_both_spellings_is_a_fault_and_two_kinds_are_too() {
    let twice = told(json!({ "echo": {}, "sizing": { "max_idle": 1, "maxIdle": 2 } }));
    assert_eq!(
        twice,
        ["pools[2].spec.sizing.max_idle: is there twice, in two spellings"]
    );
    assert_eq!(told(json!({ "echo": {}, "http": {} })).len(), 1);
}

#[test]
fn enum_values_may_be_lower_case_and_without_their_prefix() {
    for state in ["POOL_STATE_PAUSED", "pool_state_paused", "PAUSED", "paused"] {
        let pool = strict(json!({ "name": "orders", "state": state }), "").unwrap();
        assert_eq!(pool.state(), crate::proto::PoolState::Paused);
    }
    let faults = strict(json!({ "state": "asleep" }), "").unwrap_err();
    assert_eq!(faults.list()[0].field, "state");
    assert!(faults.list()[0].message.contains("`paused`"), "{faults}");
}

#[test]
fn the_store_s_unknown_keys_are_left_out_and_named() {
    let text = r#"{"echo": {"colour": "red"}, "sizing": {"maxSessions": 3, "burst": 9}, "endpoints": [{"zone": "a"}]}"#;
    let (spec, mut ignored) = stored(text).unwrap();
    ignored.sort_unstable();
    assert_eq!(ignored, ["echo.colour", "endpoints[0].zone", "sizing.burst"]);
    assert_eq!(spec.sizing.unwrap().max_sessions, Some(3));
    for broken in [
        "",
        "{",
        "[]",
        "7",
        r#"{"sizing": 5}"#,
        r#"{"sizing": {"maxSessions": "x"}}"#,
    ] {
        assert!(stored(broken).is_err(), "{broken}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_stored_is_read_back_as_it_was(spec in definition()) {
        prop_assert_eq!(stored(&canonical(&spec)), Ok((spec.clone(), Vec::new())));
        prop_assert_eq!(read(readable(&spec)), Ok(spec));
    }
}
