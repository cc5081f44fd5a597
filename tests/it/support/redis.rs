//! Throw-away Redis servers: one for all tests of a process, others for tests that stop theirs or set it up otherwise.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};

use super::throwaway::{Kind, Throwaway};

static REDIS: Kind = Kind {
    name: "redis",
    script: r#"
signal=KILL
prepare() { command -v redis-server > /dev/null || { echo "FATAL: apt-get install redis-server"; exit 1; } }
start() { redis-server --port "$PORT" --bind 127.0.0.1 --dir "$DIR" --save "" --appendonly no --databases 10000 \
    --enable-debug-command yes $SETTINGS & pid=$!; }
"#,
    ready: "Ready to accept connections",
    fails: |line| line.contains("Failed") || line.contains("FATAL"),
    port_is_taken: |said| said.contains("bind"),
};

/// A server of our own.
#[derive(Debug)]
pub struct Server(Throwaway);

impl Server {
    /// The one that all tests of this process share, a database each.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start_with("", |_| {}))
    }

    /// A number that no other test of this process has.
    pub fn database() -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        NEXT.fetch_add(1, SeqCst)
    }

    /// Starts another one, with options such as `--maxclients 3` (`{port}` is its port), after `prepare` has put files
    /// into its folder.
    pub fn start_with(settings: &str, prepare: impl Fn(&Path)) -> Self {
        Self(Throwaway::start(&REDIS, |folder, port| {
            prepare(folder);
            let mut command = Command::new("env");
            command.env("SETTINGS", settings.replace("{port}", &port.to_string()));
            command
        }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Stops it as a crash would, and returns when it is gone.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Starts it again on the same port, and returns when it answers.
    pub fn start_again(&self) {
        self.0.start_again();
    }

    /// A connection beside the broker's, to look and to meddle.
    pub async fn connect(&self) -> Admin {
        let stream = tokio::net::TcpStream::connect(self.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Admin(BufStream::new(stream))
    }
}

/// A connection of a test's own, in RESP2.
#[derive(Debug)]
pub struct Admin(BufStream<tokio::net::TcpStream>);

impl Admin {
    /// Runs a command, written with single blanks between its words.
    pub async fn run(&mut self, command: &str) -> Value {
        let words: Vec<&str> = command.split(' ').collect();
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
        self.reply().await
    }

    async fn reply(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        let (mark, rest) = line.trim_end().split_at(1);
        match mark {
            ":" => json!(rest.parse::<i64>().unwrap()),
            "$" if rest == "-1" => Value::Null,
            "$" => {
                let mut text = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut text).await.unwrap();
                text.truncate(text.len() - 2);
                json!(String::from_utf8_lossy(&text))
            }
            "*" => {
                let mut all = Vec::new();
                for _ in 0..rest.parse::<usize>().unwrap() {
                    all.push(Box::pin(self.reply()).await);
                }
                Value::Array(all)
            }
            _ => json!(rest),
        }
    }

    /// The lines of CLIENT LIST about the broker's sessions that have all of `wanted`.
    pub async fn sessions(&mut self, wanted: &[&str]) -> Vec<String> {
        let list = self.run("CLIENT LIST").await;
        let lines = list.as_str().unwrap().lines();
        lines
            .filter(|line| wanted.iter().all(|wanted| line.contains(wanted)))
            .map(str::to_owned)
            .collect()
    }

    /// Asks again and again until so many sessions have all of `wanted`.
    pub async fn until(&mut self, count: usize, wanted: &[&str]) {
        while self.sessions(wanted).await.len() != count {
            tokio::task::yield_now().await;
        }
    }
}
