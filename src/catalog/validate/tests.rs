//! Every rule of a definition, and what its breach says.

mod endpoints;

use prost_types::Duration as Span;
use serde_json::{Value, json};

use super::{is_name, range::spelt, validate};
use crate::{
    backend::{registry::Surroundings, secrets::Secrets},
    broker::{Plan, Policy},
    catalog::proto_json,
    clock::Clock,
    error::Faults,
    pool::Settings,
    proto::{Pool, Sizing},
};

fn surroundings() -> Surroundings {
    Surroundings {
        secrets: Secrets::below("/nowhere"),
        clock: Clock::tokio(),
    }
}

/// Validates an echo pool with these members.
fn check(spec: Value) -> Result<Plan, Faults> {
    let mut spec = spec;
    spec["echo"] = json!({});
    let pool = proto_json::strict(json!({ "name": "orders", "spec": spec }), "").unwrap();
    validate(&pool, &surroundings())
}

fn fields(spec: Value) -> Vec<String> {
    let faults = check(spec).map(|plan| format!("{plan:?}")).unwrap_err();
    faults.list().iter().map(|fault| fault.field.clone()).collect()
}

#[tokio::test]
async fn what_is_left_out_has_the_documented_default() {
    let plan = check(json!({})).unwrap();
    assert_eq!(plan.settings, Settings::default());
    assert_eq!(plan.policy, Policy::default());
    assert_eq!(plan.backend.kind(), "echo");
}

/// Path, the least and the most that are taken, and what is just below (`-`: nothing is) and above.
const LIMITS: &str = "
    sizing.max_sessions     1      10000   0       10001
    sizing.max_idle         0      10      -       11
    sizing.min_sessions     0      10      -       11
    sizing.max_dialing      1      100     0       101
    timeouts.connect        1ms    24h     999us   24h1ns
    timeouts.acquire        1ms    1h      0s      1h1ns
    timeouts.execute        1ms    24h     0s      25h
    timeouts.stall          1ms    24h     0s      25h
    timeouts.idle           1ms    24h     0s      25h
    timeouts.max_lifetime   1s     24h     999ms   25h
    timeouts.reset          1ms    24h     0s      25h
    timeouts.close          1ms    24h     0s      25h
    lease.default_ttl       5s     600s    4999ms  601s
    lease.min_ttl           100ms  600s    99ms    601s
    lease.max_ttl           100ms  3600s   99ms    3601s
    lease.max_duration      100ms  168h    99ms    168h1s
    queue.max_waiters       0      100000  -       100001
    queue.ageing            100ms  1h      99ms    3601s
    health.interval         1s     24h     999ms   25h
    health.timeout          1ms    1m      0s      61s
    health.probe_after_idle 0s     24h     -       25h
";

#[tokio::test]
async fn every_limit_holds_on_both_sides() {
    let lines = LIMITS
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows: Vec<_> = lines.filter(|row| !row.is_empty()).collect();
    assert_eq!(rows.len(), 21);
    for row in rows {
        let [path, least, most, below, above] = row[..] else {
            panic!("{row:?}")
        };
        let (group, field) = path.split_once('.').unwrap();
        let spec = |text: &str| {
            let value = text
                .parse::<u32>()
                .map_or_else(|_| json!(text), |number| json!(number));
            json!({ group: { field: value } })
        };
        for good in [least, most] {
            assert!(check(spec(good)).is_ok(), "{path} {good}");
        }
        for bad in [below, above].into_iter().filter(|bad| *bad != "-") {
            assert_eq!(fields(spec(bad)), [format!("pool.spec.{path}")], "{bad}");
        }
    }
}

#[tokio::test]
async fn limits_that_cross_are_told_where_they_were_given() {
    for (spec, field) in [
        (
            json!({ "sizing": { "max_sessions": 5, "min_sessions": 6 } }),
            "sizing.min_sessions",
        ),
        (
            json!({ "sizing": { "max_sessions": 5, "max_idle": 6 } }),
            "sizing.max_idle",
        ),
        (
            json!({ "sizing": { "min_sessions": 3, "max_idle": 2 } }),
            "sizing.max_idle",
        ),
        (
            json!({ "lease": { "max_ttl": "10s", "max_duration": "9s" } }),
            "lease.max_ttl",
        ),
        (
            json!({ "lease": { "max_ttl": "10s", "min_ttl": "11s" } }),
            "lease.min_ttl",
        ),
        (
            json!({ "lease": { "max_ttl": "10s", "default_ttl": "11s" } }),
            "lease.default_ttl",
        ),
        (
            json!({ "lease": { "min_ttl": "10s", "default_ttl": "9s" } }),
            "lease.default_ttl",
        ),
    ] {
        assert_eq!(fields(spec), [format!("pool.spec.{field}")]);
    }
}

#[tokio::test]
async fn what_is_left_out_yields_to_what_is_given() {
    let plan = check(json!({ "lease": { "max_duration": "3s" }, "sizing": { "max_sessions": 4 } })).unwrap();
    let (lease, three) = (plan.policy.lease, std::time::Duration::from_secs(3));
    assert_eq!(
        [
            lease.max_ttl,
            lease.min_ttl,
            lease.default_ttl,
            lease.max_duration
        ],
        [three; 4]
    );
    assert_eq!(plan.settings.max_idle, 4);
    let plan = check(json!({ "lease": { "min_ttl": "60s" } })).unwrap();
    assert_eq!(plan.policy.lease.default_ttl, std::time::Duration::from_secs(60));
}

#[tokio::test]
async fn every_given_value_reaches_the_plan() {
    let plan = check(json!({
        "sizing": { "min_sessions": 1, "max_sessions": 4, "max_idle": 3, "max_dialing": 2 },
        "timeouts": { "connect": "1s", "acquire": "2s", "execute": "3s", "stall": "4s", "idle": "5s",
            "max_lifetime": "6s", "reset": "7s", "close": "8s" },
        "lease": { "default_ttl": "12s", "min_ttl": "11s", "max_ttl": "13s", "max_duration": "14s" },
        "queue": { "max_waiters": 9, "ageing": "10s" },
        "health": { "interval": "15s", "timeout": "16s", "probe_after_idle": "17s" },
    }));
    let plan = plan.unwrap();
    insta::assert_snapshot!(format!("{:#?}\n{:#?}", plan.settings, plan.policy), @r"
    Settings {
        endpoints: [],
        min_sessions: 1,
        max_sessions: 4,
        max_idle: 3,
        max_dialing: 2,
        connect: 1s,
        idle: 5s,
        max_lifetime: 6s,
        reset: 7s,
        close: 8s,
        max_waiters: 9,
        ageing: 10s,
        health: Some(
            HealthSettings {
                interval: 15s,
                timeout: 16s,
                probe_after_idle: 17s,
            },
        ),
    }
    Policy {
        acquire: 2s,
        execute: 3s,
        stall: 4s,
        lease: Bounds {
            default_ttl: 12s,
            min_ttl: 11s,
            max_ttl: 13s,
            max_duration: 14s,
        },
    }
    ");
}

#[tokio::test]
async fn checks_can_be_switched_off_but_must_make_sense() {
    assert_eq!(
        check(json!({ "health": { "enabled": false } }))
            .unwrap()
            .settings
            .health,
        None
    );
    let bad = json!({ "health": { "enabled": false, "timeout": "2m" } });
    assert_eq!(fields(bad), ["pool.spec.health.timeout"]);
}

#[tokio::test]
async fn a_thoroughly_bad_definition_is_told_every_fault_at_once() {
    let pool = json!({
        "name": "-Orders-",
        "spec": {
            "echo": { "dial_delay": "2m" },
            "endpoints": [{ "address": "localhost:80" }],
            "sizing": { "min_sessions": 20_000, "max_sessions": 0, "max_idle": 30_000, "max_dialing": 0 },
            "timeouts": { "connect": "0s", "acquire": "2h", "execute": "48h", "stall": "0s", "idle": "0s",
                "max_lifetime": "10ms", "reset": "0s", "close": "0s" },
            "lease": { "default_ttl": "8h", "min_ttl": "4h", "max_ttl": "3h", "max_duration": "2h" },
            "queue": { "max_waiters": 1_000_000, "ageing": "1ms" },
            "health": { "interval": "1ms", "timeout": "2m", "probe_after_idle": "48h" },
        },
    });
    let pool = proto_json::strict(pool, "").unwrap();
    let faults = validate(&pool, &surroundings()).map(|_| ()).unwrap_err();
    let told: Vec<_> = faults
        .list()
        .iter()
        .map(|fault| format!("{}: {}", fault.field, fault.message))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    pool.name: must be a lower-case letter, then up to 62 lower-case letters, digits or dashes, not ending in a dash
    pool.spec.sizing.max_sessions: must be from 1 to 10000
    pool.spec.sizing.min_sessions: must be at most max_sessions, which is 10000
    pool.spec.sizing.max_idle: must be from min_sessions to max_sessions, which are 0 and 10000
    pool.spec.sizing.max_dialing: must be from 1 to 100
    pool.spec.timeouts.connect: must be from 1ms to 24h
    pool.spec.timeouts.acquire: must be from 1ms to 1h
    pool.spec.timeouts.execute: must be from 1ms to 24h
    pool.spec.timeouts.stall: must be from 1ms to 24h
    pool.spec.timeouts.idle: must be from 1ms to 24h
    pool.spec.timeouts.max_lifetime: must be from 1s to 24h
    pool.spec.timeouts.reset: must be from 1ms to 24h
    pool.spec.timeouts.close: must be from 1ms to 24h
    pool.spec.lease.max_ttl: must be at most max_duration, which is 2h
    pool.spec.lease.min_ttl: must be at most max_ttl, which is 3h
    pool.spec.lease.default_ttl: must be at most max_ttl, which is 3h
    pool.spec.queue.max_waiters: must be from 0 to 100000
    pool.spec.queue.ageing: must be from 100ms to 1h
    pool.spec.health.interval: must be from 1s to 24h
    pool.spec.health.timeout: must be from 1ms to 1m
    pool.spec.health.probe_after_idle: must be from 0s to 24h
    pool.spec.endpoints: must be left out: `echo` is inside the broker
    pool.spec.echo.dial_delay: must be 0ns to 60s
    ");
}

#[tokio::test]
async fn negative_and_overlong_durations_are_out_of_range() {
    for span in [
        Span {
            seconds: -1,
            nanos: 0,
        },
        Span {
            seconds: 0,
            nanos: -1,
        },
        Span {
            seconds: i64::MAX,
            nanos: 0,
        },
    ] {
        let mut pool = proto_json::strict(
            json!({ "name": "orders", "spec": { "echo": {}, "timeouts": {} } }),
            "",
        )
        .unwrap();
        pool.spec.as_mut().unwrap().timeouts.as_mut().unwrap().connect = Some(span);
        let faults = validate(&pool, &surroundings()).map(|_| ()).unwrap_err();
        assert!(
            faults
                .list()
                .iter()
                .any(|fault| fault.field == "pool.spec.timeouts.connect"),
            "{faults}"
        );
    }
}

#[tokio::test]
async fn text_that_a_store_cannot_hold_is_refused() {
    let http = |name: &str| {
        json!({ "name": "orders", "spec": { "http": { "headers": { "x-note": name } },
            "endpoints": [{ "address": "localhost:80" }] } })
    };
    for (note, field) in [
        ("a\u{0}b".to_owned(), "pool.spec.http.headers.x-note"),
        ("x".repeat(65 * 1024), "pool.spec"),
    ] {
        let pool = proto_json::strict(http(&note), "").unwrap();
        let faults = validate(&pool, &surroundings()).map(|_| ()).unwrap_err();
        assert!(faults.list().iter().any(|fault| fault.field == field), "{faults}");
    }
}

#[tokio::test]
async fn a_pool_without_a_definition_or_a_backend_is_told_so() {
    let named = |spec| Pool {
        name: "orders".into(),
        spec,
        ..Pool::default()
    };
    let faults = validate(&named(None), &surroundings()).map(|_| ()).unwrap_err();
    assert_eq!(faults.list()[0].field, "pool.spec");
    let spec = crate::proto::PoolSpec {
        sizing: Some(Sizing {
            max_dialing: Some(0),
            ..Sizing::default()
        }),
        ..Default::default()
    };
    let faults = validate(&named(Some(spec)), &surroundings())
        .map(|_| ())
        .unwrap_err();
    let fields: Vec<_> = faults.list().iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["pool.spec.sizing.max_dialing", "pool.spec.backend"]);
}

#[test]
fn names_are_short_lower_case_words() {
    let longest = "a".repeat(63);
    for good in ["a", "a1", "a-b", "orders-2026", "a--b", &longest] {
        assert!(is_name(good), "{good}");
    }
    let too_long = "a".repeat(64);
    for bad in [
        "", "1a", "-a", "a-", "A", "aB", "a_b", "a.b", "a b", "ä", "a\n", &too_long,
    ] {
        assert!(!is_name(bad), "{bad:?}");
    }
}

#[test]
fn durations_are_spelt_as_people_write_them() {
    use std::time::Duration;
    for (span, text) in [
        (Duration::ZERO, "0s"),
        (Duration::from_millis(1), "1ms"),
        (Duration::from_secs(90), "1m30s"),
        (Duration::from_secs(24 * 3600), "24h"),
        (Duration::new(3661, 1_002_003), "1h1m1s1ms2us3ns"),
    ] {
        assert_eq!(spelt(span), text);
    }
}
