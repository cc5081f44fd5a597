//! `sublet exec` as a process, before a real broker.

mod basics;
mod boxes;
mod models;
mod services;

use std::{path::Path, process::Stdio};

use sublet::proto::PoolSpec;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

use crate::support::{app::App, calls::*};

/// A broker with one pool, and a folder to work in.
struct Stage {
    app: App,
    place: TempDir,
}

/// What a run came to.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Ran {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// Its standard output, if it went well.
    fn well(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.text()
    }

    /// Its standard error, if it ended with a code.
    fn ill(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        &self.err
    }
}

impl Stage {
    async fn with(pool: &str, spec: PoolSpec) -> Self {
        let app = App::start().await;
        create(&app.address, pool, spec).await;
        let place = tempfile::tempdir().unwrap();
        Self { app, place }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(&self.app.address, self.place.path(), arguments)
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        self.fed(arguments, b"").await
    }

    /// With something on standard input.
    async fn fed(&self, arguments: &[&str], input: &[u8]) -> Ran {
        ran(self.command(arguments), input).await
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.place.path().join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.place.path().join(name)).unwrap()
    }

    /// The files in a folder, hidden ones too.
    fn list(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.place.path().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

fn command(broker: &str, place: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sublet"));
    command
        .args(["exec", "--broker", broker])
        .args(arguments)
        .env_remove("SUBLET_LEASE_TOKEN")
        .current_dir(place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn ran(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = async {
        // Whoever is refused does not read it.
        stdin.write_all(input).await.ok();
        drop(stdin);
    };
    let ((), output) = tokio::join!(feeding, child.wait_with_output());
    let output = output.unwrap();
    Ran {
        code: output.status.code(),
        out: output.stdout,
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Reads standard output up to a text.
async fn until(child: &mut Child, wanted: &str) {
    let out = child.stdout.as_mut().unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let read = out.read_buf(&mut seen).await.unwrap();
        assert!(read > 0, "it ended with {:?}", String::from_utf8_lossy(&seen));
    }
}

/// Ctrl-C; gives the exit code, and what it said.
async fn interrupt(child: Child) -> (Option<i32>, String) {
    signalled(child, "-INT").await
}

async fn signalled(child: Child, signal: &str) -> (Option<i32>, String) {
    let id = child.id().unwrap().to_string();
    let sent = std::process::Command::new("kill").args([signal, &id]).status();
    assert!(sent.unwrap().success());
    let output = child.wait_with_output().await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}
