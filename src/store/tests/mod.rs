//! What both stores promise, on real ones: a SQLite folder and a Postgres database of its own for each test.

mod conformance;
#[path = "../../../tests/it/support/postgres.rs"]
mod postgres;
mod postgres_faults;
#[path = "../../../tests/it/support/proxy.rs"]
mod proxy;
mod sqlite_faults;
#[path = "../../../tests/it/support/throwaway.rs"]
mod throwaway;

use super::Draft;

fn draft(name: &str) -> Draft {
    Draft {
        name: name.into(),
        spec: r#"{"echo":{},"sizing":{"maxSessions":3}}"#.into(),
        time_us: 1_700_000_000_123_456,
    }
}
