//! pgbench, run as its users run it.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{ROUND, Work, table::Found};

fn pgbench(port: u16, database: &str) -> Command {
    let mut command = Command::new("pgbench");
    let port = port.to_string();
    command.args(["-h", "127.0.0.1", "-p", &port, "-U", "sublet", database]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn done(command: &mut Command) {
    let output = command.output().expect("pgbench runs");
    assert!(
        output.status.success(),
        "pgbench failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Makes the database `bench` and its accounts.
pub fn fill(port: u16, scale: u32) {
    let created = Command::new("createdb")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "sublet",
            "bench",
        ])
        .status();
    assert!(created.expect("createdb runs").success(), "no database");
    done(pgbench(port, "bench").args(["-i", "-q", "-s", &scale.to_string()]));
}

/// One round.
pub fn run(port: u16, database: &str, work: Work, clients: u32, cpu: impl Fn() -> Duration) -> Found {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = pgbench(port, database);
    if work == Work::Select {
        command.arg("-S");
    }
    let (clients, seconds) = (clients.to_string(), ROUND.as_secs().to_string());
    command.args([
        "-n",
        "-c",
        &clients,
        "-j",
        "1",
        "-T",
        &seconds,
        "-l",
        "--log-prefix",
    ]);
    command.arg(folder.path().join("log"));
    let before = cpu();
    done(&mut command);
    let cpu = cpu() - before;
    let mut latencies = latencies(folder.path());
    latencies.sort_unstable();
    let at = |hundredth: usize| latencies[(latencies.len() - 1) * hundredth / 100] as f64;
    Found {
        done: latencies.len() as u64,
        lasted: ROUND,
        p50: at(50),
        p99: at(99),
        cpu,
    }
}

/// The third field of each line: the transaction's microseconds.
fn latencies(folder: &Path) -> Vec<u64> {
    let files = std::fs::read_dir(folder).expect("pgbench's logs");
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file.expect("a log").path()).expect("a log");
        found.extend(
            text.lines()
                .filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok()),
        );
    }
    found
}
