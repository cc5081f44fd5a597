//! Servers that live in a folder of their own, on a free port, and no longer than the process that started them.
//!
//! A shell between the tests and the server reads a pipe that closes when the test process ends, however it ends, and
//! then kills the server and removes its folder.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test support"
)]

use std::{
    collections::VecDeque,
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
};

const STOPPED: &str = "sublet test: stopped";

/// Lines that are told of a server that does not come up.
const LAST_LINES: usize = 40;

/// Obeys `stop` and every other function of the kind's own script; at the end of its input it cleans up. What the shell
/// itself says of a killed server goes nowhere: nobody reads it then, and saying it would be the shell's end.
const OBEY: &str = r#"
end() { kill -"$signal" "$pid"; wait "$pid"; }
trap 'end; rm -rf "$DIR"; exit' TERM INT
prepare 2>&1 || exit 1
start 2>&1
while read -r command; do
    case $command in
        stop) end; echo "sublet test: stopped" ;;
        *) "$command" 2>&1 ;;
    esac
done
end
rm -rf "$DIR"
"#;

/// How a server of a kind is run, and what it says.
#[derive(Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// For a shell: functions `prepare`, and `start` that sets `pid`, further ones to be told, and the `signal` that
    /// ends it as a crash would. Its folder is `$DIR`, its port `$PORT`.
    pub script: &'static str,
    /// What it says when it answers.
    pub ready: &'static str,
    /// Whether a line means that it will not answer.
    pub fails: fn(&str) -> bool,
    /// Whether what it said means that somebody else has its port.
    pub port_is_taken: fn(&str) -> bool,
}

/// A server that runs, or was stopped.
#[derive(Debug)]
pub struct Throwaway {
    kind: &'static Kind,
    port: u16,
    control: Mutex<Control>,
}

#[derive(Debug)]
struct Control {
    _shell: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
}

impl Throwaway {
    /// Starts one. `command` makes its folder ready for its port, and says by which program the shell is run and what
    /// is in its environment.
    pub fn start(kind: &'static Kind, command: impl Fn(&Path, u16) -> Command) -> Self {
        // The port is free when it is chosen, and may be taken a moment later.
        for _ in 0..3 {
            match Self::try_start(kind, &command) {
                Ok(server) => return server,
                Err(said) if (kind.port_is_taken)(&said) => {}
                Err(said) => panic!("{} did not start:\n{said}", kind.name),
            }
        }
        panic!("{} found no free port", kind.name);
    }

    fn try_start(kind: &'static Kind, command: impl Fn(&Path, u16) -> Command) -> Result<Self, String> {
        let name = format!("sublet-{}-{}", kind.name, uuid::Uuid::new_v4().simple());
        let folder = env::temp_dir().join(name);
        fs::create_dir(&folder).expect("the temporary folder can be written");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut shell = command(&folder, port)
            .args(["sh", "-c", &format!("{}{OBEY}", kind.script)])
            .env("DIR", &folder)
            .env("PORT", port.to_string())
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let control = Control {
            commands: shell.stdin.take().unwrap(),
            lines: read_lines(shell.stdout.take().unwrap()),
            _shell: shell,
        };
        control.wait_for(kind.ready, kind)?;
        let control = Mutex::new(control);
        Ok(Self { kind, port, control })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Stops it as a crash would, and returns when it is gone.
    pub fn stop(&self) {
        self.tell("stop", STOPPED);
    }

    /// Starts it again on the same port, and returns when it answers.
    pub fn start_again(&self) {
        self.tell("start", self.kind.ready);
    }

    /// Runs a function of the script, and returns when the server says `answer`.
    pub fn tell(&self, command: &str, answer: &str) {
        let mut control = self.control.lock().unwrap();
        writeln!(control.commands, "{command}").unwrap();
        if let Err(said) = control.wait_for(answer, self.kind) {
            panic!("{} did not {command}:\n{said}", self.kind.name);
        }
    }
}

impl Control {
    /// Waits for a line. What was said so far is the error if it cannot come any more.
    fn wait_for(&self, wanted: &str, kind: &Kind) -> Result<(), String> {
        let mut said = VecDeque::new();
        for line in &self.lines {
            if line.contains(wanted) {
                return Ok(());
            }
            let failed = (kind.fails)(&line);
            said.push_back(line);
            if said.len() > LAST_LINES {
                said.pop_front();
            }
            if failed {
                break;
            }
        }
        Err(Vec::from(said).join("\n"))
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
