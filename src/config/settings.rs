//! The settings, a row each. The row is the setting's documentation, its default as the annotated file shows it, and
//! its check.

use super::{Config, values};
use crate::telemetry;

/// One setting.
pub(super) struct Setting {
    /// Its key in the file. The environment variable is `SUBLET_` and the key in capitals; the flag, where there is
    /// one, has dashes.
    pub(super) key: &'static str,
    /// What it does: for the annotated file, and for whoever reads this.
    pub(super) doc: &'static [&'static str],
    /// Its default as TOML; for one that has none, an example.
    pub(super) shown: Shown,
    /// Checks a value and sets it, or says what would be right.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

/// How the annotated file shows a setting.
pub(super) enum Shown {
    /// With its default.
    Default(&'static str),
    /// Commented out, with an example: it is unset by default.
    Example(&'static str),
}

/// Every setting, in the order of the annotated file.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        key: "listen",
        doc: &[
            "Where clients connect. Port 0 takes a free one. An address beyond loopback is refused without",
            "`insecure = true`, because there is no TLS and no authentication yet.",
        ],
        shown: Shown::Default("\"127.0.0.1:50051\""),
        set: |config, text| values::address(text).map(|value| config.grpc.listen = value),
    },
    Setting {
        key: "insecure",
        doc: &["Allows a listener that other machines can reach: true or false."],
        shown: Shown::Default("false"),
        set: |config, text| values::truth(text).map(|value| config.insecure = value),
    },
    Setting {
        key: "data_dir",
        doc: &[
            "The folder of the embedded store (SQLite), made if it is missing; relative to where the broker is started.",
            "Not used with a database_url.",
        ],
        shown: Shown::Default("\"sublet-data\""),
        set: |config, text| values::path(text).map(|value| config.store.data_dir = value),
    },
    Setting {
        key: "database_url",
        doc: &[
            "Keeps definitions in Postgres instead. As it may have a password in it, SUBLET_DATABASE_URL is the better",
            "place; there is no flag, because other users can read those.",
        ],
        shown: Shown::Example("\"postgres://sublet@db.example/sublet\""),
        set: |config, text| values::database_url(text).map(|value| config.store.url = Some(value.to_owned())),
    },
    Setting {
        key: "secrets_dir",
        doc: &["The folder that secrets named by `file` in pools' definitions are read from, at each dial."],
        shown: Shown::Default("\"sublet-secrets\""),
        set: |config, text| values::path(text).map(|value| config.secrets_dir = value),
    },
    Setting {
        key: "grace_period",
        doc: &[
            "Time for leases and streams to end by themselves after SIGTERM, 0s to 1h. New requests are refused",
            "meanwhile; the broker stops earlier when no lease is left. Keep it below Kubernetes' own.",
        ],
        shown: Shown::Default("\"30s\""),
        set: |config, text| values::duration(text, values::HOUR).map(|value| config.grace = value),
    },
    Setting {
        key: "workers",
        doc: &["Threads that serve connections, 0 to 1024. 0 means one for each processor."],
        shown: Shown::Default("0"),
        set: |config, text| values::count(text, 0..=1024).map(|value| config.grpc.workers = value),
    },
    Setting {
        key: "max_connections",
        doc: &["Connections at the same time, 1 to 1000000; one more is closed at once."],
        shown: Shown::Default("10000"),
        set: |config, text| {
            values::count(text, 1..=1_000_000).map(|value| config.grpc.max_connections = value)
        },
    },
    Setting {
        key: "log_format",
        doc: &["`pretty` for people, `json` for machines, `auto`: pretty on a terminal, else json."],
        shown: Shown::Default("\"auto\""),
        set: |config, text| {
            let wrong = |()| format!("`{text}` is not a log format: write auto, pretty or json");
            config.telemetry.format = text.parse().map_err(wrong)?;
            Ok(())
        },
    },
    Setting {
        key: "log_filter",
        doc: &[
            "What is logged: error, warn, info, debug, trace or off, also by module: \"info,sublet::pool=debug\".",
            "Each request's span (rpc, peer, id) is of level debug.",
        ],
        shown: Shown::Default("\"info\""),
        set: |config, text| {
            if !telemetry::Settings::is_filter(text) {
                return Err(format!(
                    "`{text}` is not a log filter: write info, debug or info,sublet::pool=debug"
                ));
            }
            text.clone_into(&mut config.telemetry.filter);
            Ok(())
        },
    },
];

/// The setting `key`.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// What to say of `key`, which is none: the one that was meant, or all.
pub(super) fn unknown(key: &str) -> String {
    let keys: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
    match keys.iter().map(|known| (distance(key, known), known)).min() {
        Some((0..=2, near)) => format!("there is no such setting; `{near}` is near"),
        _ => format!("there is no such setting; there are {}", keys.join(", ")),
    }
}

/// Letters to insert, remove or change to make one word the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, a) in one.bytes().enumerate() {
        let (mut above_left, mut left) = (line, line + 1);
        for (cell, b) in row.iter_mut().skip(1).zip(other.bytes()) {
            let changed = above_left + usize::from(a != b);
            above_left = *cell;
            *cell = changed.min(left + 1).min(above_left + 1);
            left = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}
