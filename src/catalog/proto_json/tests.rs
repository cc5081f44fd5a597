//! Definitions as text: what is read, what is refused, and where.

use std::collections::HashMap;

use proptest::prelude::*;
use prost_types::{Duration as Span, value::Kind};
use serde_json::{Value, json};

use super::{canonical, readable, stored, strict};
use crate::{
    error::Faults,
    proto::{
        EchoBackend, Endpoint, Health, HttpBackend, LeasePolicy, PluginBackend, Pool, PoolSpec,
        PostgresBackend, Queue, RedisBackend, SecretRef, Sizing, TcpBackend, TcpBytes, TcpFraming, TcpPrefix,
        TcpReset, TcpStep, Timeouts, Tls, pool_spec::Backend, postgres_backend::Reset, secret_ref::Source,
        tcp_bytes::Written, tcp_framing::Ends, tcp_reset::How, tcp_step::Step,
    },
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
    pools[2].spec.breaker: is not known here; known are `endpoints`, `sizing`, `timeouts`, `lease`, `queue`, `health`, `echo`, `http`, `postgres`, `redis`, `tcp`, `plugin`
    pools[2].spec.echo.delay: is not known here; known are `dial_delay`
    pools[2].spec.endpoints[1].adress: is not known here; known are `name`, `address`
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

fn span() -> impl Strategy<Value = Option<Span>> {
    let some =
        (0..315_576_000_000_i64, 0..1_000_000_000_i32).prop_map(|(seconds, nanos)| Span { seconds, nanos });
    prop::option::of(some)
}

fn number() -> impl Strategy<Value = Option<u32>> {
    prop::option::of(any::<u32>())
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn sizing() -> impl Strategy<Value = Sizing> {
    (any::<u32>(), number(), number(), number()).prop_map(
        |(min_sessions, max_sessions, max_idle, max_dialing)| Sizing {
            min_sessions,
            max_sessions,
            max_idle,
            max_dialing,
        },
    )
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    ((span(), span(), span(), span()), (span(), span(), span(), span())).prop_map(|(one, two)| Timeouts {
        connect: one.0,
        acquire: one.1,
        execute: one.2,
        stall: one.3,
        idle: two.0,
        max_lifetime: two.1,
        reset: two.2,
        close: two.3,
    })
}

fn backend() -> impl Strategy<Value = Backend> {
    let echo = span().prop_map(|dial_delay| Backend::Echo(EchoBackend { dial_delay }));
    prop_oneof![echo, http(), postgres(), redis(), tcp(), plugin()]
}

fn plugin() -> impl Strategy<Value = Backend> {
    let leaf = prop_oneof![
        Just(Kind::NullValue(0)),
        any::<bool>().prop_map(Kind::BoolValue),
        (-1e15..1e15).prop_map(Kind::NumberValue),
        text().prop_map(Kind::StringValue),
    ];
    let leaf = leaf.prop_map(|kind| prost_types::Value { kind: Some(kind) });
    let list = prop::collection::vec(leaf.clone(), 0..3).prop_map(|values| prost_types::Value {
        kind: Some(Kind::ListValue(prost_types::ListValue { values })),
    });
    let fields = prop::collection::btree_map(text(), prop_oneof![leaf, list], 0..4);
    let config = prop::option::of(fields.prop_map(|fields| prost_types::Struct { fields }));
    let secrets = prop::collection::hash_map(text(), secret(), 0..4);
    (text(), prop::option::of(tls()), config, secrets).prop_map(|(address, tls, config, secrets)| {
        Backend::Plugin(PluginBackend {
            address,
            tls,
            config,
            secrets,
        })
    })
}

fn secret() -> impl Strategy<Value = SecretRef> {
    let source = prop_oneof![text().prop_map(Source::Env), text().prop_map(Source::File)];
    prop::option::of(source).prop_map(|source| SecretRef { source })
}

fn tls() -> impl Strategy<Value = Tls> {
    (any::<bool>(), text(), text(), any::<bool>()).prop_map(|(enabled, server_name, ca_file, skip_verify)| {
        Tls {
            enabled,
            server_name,
            ca_file,
            skip_verify,
        }
    })
}

fn http() -> impl Strategy<Value = Backend> {
    let headers = prop::collection::hash_map(text(), text(), 0..4);
    let secrets: BoxedStrategy<HashMap<_, _>> = prop::collection::hash_map(text(), secret(), 0..4).boxed();
    let versions = (0..3_i32, prop::option::of(any::<u32>()));
    let http = (
        versions,
        prop::option::of(tls()),
        headers,
        secrets,
        span(),
        span(),
    );
    http.prop_map(
        |((protocol, max_connections), tls, headers, secret_headers, first_byte_timeout, write_timeout)| {
            Backend::Http(HttpBackend {
                protocol,
                max_connections,
                tls,
                headers,
                secret_headers,
                first_byte_timeout,
                write_timeout,
            })
        },
    )
}

fn postgres() -> impl Strategy<Value = Backend> {
    let login = (
        text(),
        text(),
        prop::option::of(secret()),
        prop::option::of(tls()),
    );
    let reset = prop_oneof![
        Just(Reset::Unspecified),
        Just(Reset::Full),
        Just(Reset::Transaction)
    ];
    let parameters = prop::collection::hash_map(text(), text(), 0..4);
    let init_sql = prop::collection::vec(text(), 0..3);
    (login, reset, parameters, init_sql, number(), span()).prop_map(
        |((database, user, password, tls), reset, parameters, init_sql, statement_cache, idle)| {
            Backend::Postgres(PostgresBackend {
                database,
                user,
                password,
                tls,
                reset: reset.into(),
                parameters,
                init_sql,
                statement_cache,
                idle_in_transaction_timeout: idle,
            })
        },
    )
}

fn redis() -> impl Strategy<Value = Backend> {
    let login = (
        text(),
        prop::option::of(secret()),
        prop::option::of(tls()),
        text(),
    );
    (login, any::<u32>()).prop_map(|((user, password, tls, client_name), database)| {
        Backend::Redis(RedisBackend {
            user,
            password,
            database,
            tls,
            client_name,
        })
    })
}

fn typed() -> impl Strategy<Value = TcpBytes> {
    let written = prop_oneof![text().prop_map(Written::Text), text().prop_map(Written::Hex)];
    prop::option::of(written).prop_map(|written| TcpBytes { written })
}

fn tcp() -> impl Strategy<Value = Backend> {
    let prefix = (any::<u32>(), 0..3, any::<bool>()).prop_map(|(bytes, order, counts_itself)| TcpPrefix {
        bytes,
        order,
        counts_itself,
    });
    let ends = prop_oneof![
        typed().prop_map(Ends::Delimiter),
        any::<u32>().prop_map(Ends::Length),
        prefix.prop_map(Ends::Prefix)
    ];
    let framing = prop::option::of(prop::option::of(ends).prop_map(|ends| TcpFraming { ends }));
    let step = prop_oneof![typed().prop_map(Step::Send), secret().prop_map(Step::SendSecret)];
    let greeting = prop::collection::vec(step.prop_map(|step| TcpStep { step: Some(step) }), 0..3);
    let keep = prop::option::of((0..3).prop_map(|keep| TcpReset {
        how: Some(How::Keep(keep)),
    }));
    let tcp = (prop::option::of(tls()), framing, number(), greeting, keep);
    tcp.prop_map(|(tls, framing, max_message_bytes, greeting, reset)| {
        Backend::Tcp(TcpBackend {
            tls,
            framing,
            max_message_bytes,
            greeting,
            health: None,
            reset,
        })
    })
}

fn definition() -> impl Strategy<Value = PoolSpec> {
    let endpoint = (text(), text()).prop_map(|(name, address)| Endpoint { name, address });
    let lease = (span(), span(), span(), span()).prop_map(|(default_ttl, min_ttl, max_ttl, max_duration)| {
        LeasePolicy {
            default_ttl,
            min_ttl,
            max_ttl,
            max_duration,
        }
    });
    let queue = (number(), span()).prop_map(|(max_waiters, ageing)| Queue { max_waiters, ageing });
    let health = (prop::option::of(any::<bool>()), span(), span(), span()).prop_map(
        |(enabled, interval, timeout, probe_after_idle)| Health {
            enabled,
            interval,
            timeout,
            probe_after_idle,
        },
    );
    let groups = (
        prop::collection::vec(endpoint, 0..3),
        prop::option::of(sizing()),
        prop::option::of(timeouts()),
        prop::option::of(lease),
        prop::option::of(queue),
        prop::option::of(health),
        prop::option::of(backend()),
    );
    groups.prop_map(
        |(endpoints, sizing, timeouts, lease, queue, health, backend)| PoolSpec {
            endpoints,
            sizing,
            timeouts,
            lease,
            queue,
            health,
            backend,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_stored_is_read_back_as_it_was(spec in definition()) {
        prop_assert_eq!(stored(&canonical(&spec)), Ok((spec.clone(), Vec::new())));
        prop_assert_eq!(read(readable(&spec)), Ok(spec));
    }
}
