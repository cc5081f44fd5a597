//! The client that is killed: this program in another role, which makes one call and takes what comes until it dies.

use std::{
    io::Write as _,
    process::{ExitCode, Stdio},
};

use sublet::proto::{ExecuteStreamRequest, event::Event};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    support::calls::{broker, one_shot},
    tunnel::Tunnel,
};

/// It says so when its call has a session, and when the first part of the answer has come.
pub const ACCEPTED: &str = "accepted";
pub const PART: &str = "part";

/// What it does: a streamed call, or a tunnel.
pub struct Call {
    pub pool: &'static str,
    pub operation: &'static str,
    pub params: String,
}

/// The process. Killed when dropped.
pub struct Client {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Client {
    pub fn start(broker: &str, call: &Call) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program's path"))
            .args(["client", broker, call.pool, call.operation, &call.params])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a client");
        let said = BufReader::new(child.stdout.take().expect("a piped stdout")).lines();
        Self { child, said }
    }

    /// Returns when it has said this.
    pub async fn says(&mut self, wanted: &str) {
        while self.said.next_line().await.expect("a line").expect("it lives") != wanted {}
    }

    /// SIGKILL; returns at once.
    pub fn kill(&mut self) {
        self.child.start_kill().expect("it lives");
    }

    pub async fn ended(mut self) {
        self.child.wait().await.expect("an end");
    }
}

/// The role: broker, pool, operation and params are its arguments.
pub fn run(arguments: &[String]) -> ExitCode {
    let [address, pool, operation, params] = arguments else {
        panic!("a broker, a pool, an operation and its params");
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        match operation.as_str() {
            "tunnel" => carry(address, pool).await,
            _ => stream(address, pool, operation, params).await,
        }
    });
    ExitCode::SUCCESS
}

async fn stream(address: &str, pool: &str, operation: &str, params: &str) {
    let request = ExecuteStreamRequest {
        request: Some(one_shot(pool, operation, params)),
    };
    let events = broker(address).execute_stream(request).await;
    let mut events = events.expect("a stream").into_inner();
    let mut begun = false;
    while let Some(answer) = events.message().await.expect("an event") {
        match answer.event.and_then(|event| event.event) {
            Some(Event::Accepted(_)) => say(ACCEPTED),
            _ if begun => {}
            _ => {
                begun = true;
                say(PART);
            }
        }
    }
}

async fn carry(address: &str, pool: &str) {
    let mut tunnel = Tunnel::open(address, pool).await;
    say(ACCEPTED);
    tunnel.part().await.expect("a part");
    say(PART);
    while tunnel.part().await.is_some() {}
}

fn say(word: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{word}").expect("it is read");
    out.flush().expect("it is read");
}
