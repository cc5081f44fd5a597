//! Throw-away Redis servers: one for all tests of a process, others for tests that stop theirs or set it up otherwise.
//!
//! A shell between the tests and the server reads a pipe that closes when the test process ends, however it ends, and
//! then kills the server and removes its folder.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc::{Receiver, channel},
    },
    thread,
};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};

const READY: &str = "Ready to accept connections";
const STOPPED: &str = "sublet test: stopped";

/// Obeys `stop` and `start`; at the end of its input it cleans up.
const SCRIPT: &str = r#"
serve() { redis-server --port "$PORT" --bind 127.0.0.1 --dir "$DIR" --save "" --appendonly no --databases 10000 \
    --enable-debug-command yes $SETTINGS & pid=$!; }
end() { kill -KILL $pid; wait $pid; }
trap 'end; rm -rf "$DIR"; exit' TERM INT
serve
while read -r command; do
    case $command in
        stop) end; echo "sublet test: stopped" ;;
        start) serve ;;
    esac
done
end
rm -rf "$DIR"
"#;

/// A server of our own.
#[derive(Debug)]
pub struct Server {
    port: u16,
    control: Mutex<Control>,
}

#[derive(Debug)]
struct Control {
    _shell: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
}

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
        // The port is free when it is chosen, and may be taken a moment later.
        for _ in 0..3 {
            match Self::try_start(settings, &prepare) {
                Ok(server) => return server,
                Err(said) if said.contains("bind") => {}
                Err(said) => panic!("Redis did not start (apt-get install redis-server):\n{said}"),
            }
        }
        panic!("Redis found no free port");
    }

    fn try_start(settings: &str, prepare: impl Fn(&Path)) -> Result<Self, String> {
        let folder = env::temp_dir().join(format!("sublet-redis-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&folder).expect("the temporary folder can be written");
        prepare(&folder);
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .env("DIR", &folder)
            .env("PORT", port.to_string())
            .env("SETTINGS", settings.replace("{port}", &port.to_string()))
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let commands = shell.stdin.take().unwrap();
        let lines = read_lines(shell.stdout.take().unwrap());
        let control = Control {
            _shell: shell,
            commands,
            lines,
        };
        control.wait_for(READY)?;
        Ok(Self {
            port,
            control: Mutex::new(control),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Stops it as a crash would, and returns when it is gone.
    pub fn stop(&self) {
        self.command("stop", STOPPED);
    }

    /// Starts it again on the same port, and returns when it answers.
    pub fn start_again(&self) {
        self.command("start", READY);
    }

    fn command(&self, command: &str, answer: &str) {
        let mut control = self.control.lock().unwrap();
        writeln!(control.commands, "{command}").unwrap();
        if let Err(said) = control.wait_for(answer) {
            panic!("Redis did not {command}:\n{said}");
        }
    }

    /// A connection beside the broker's, to look and to meddle.
    pub async fn connect(&self) -> Admin {
        let stream = tokio::net::TcpStream::connect(self.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Admin(BufStream::new(stream))
    }
}

impl Control {
    /// Waits for a line. What was said so far is the error if it cannot come any more.
    fn wait_for(&self, wanted: &str) -> Result<(), String> {
        let mut said = Vec::new();
        for line in &self.lines {
            if line.contains(wanted) {
                return Ok(());
            }
            let failed = line.contains("Failed") || line.contains("FATAL");
            said.push(line);
            if failed {
                break;
            }
        }
        Err(said.join("\n"))
    }
}

fn read_lines(from: ChildStdout) -> Receiver<String> {
    let (lines, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // The server must never wait for a full pipe, even when nobody wants the lines any more.
            if lines.send(line).is_err() {
                continue;
            }
        }
    });
    receiver
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
