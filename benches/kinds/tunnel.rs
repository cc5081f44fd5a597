//! A tunnel through OpenSession, for a caller who keeps to his credit; and the `sublet tunnel` program.

use std::{
    collections::VecDeque,
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use sublet::proto::{Call, Input, event, open_session_request, open_session_response::Message};

use crate::{
    cpu::Server,
    session::Session,
    support::calls::{broker, operation, span},
};

/// The session's only call.
const CALL: u64 = 1;
/// Bytes of one message.
pub const PART: usize = 64 << 10;

pub struct Tunnel {
    session: Session,
    credit: usize,
    parts: VecDeque<Bytes>,
    ended: bool,
}

impl Tunnel {
    pub async fn open(address: &str, pool: &str) -> Self {
        let mut session = Session::open(broker(address), pool).await;
        let mut operation = operation("tunnel", r#"{"half_open":true}"#);
        operation.timeout = Some(span(Duration::from_secs(3600)));
        session.begin(Call {
            operation: Some(operation),
            stream: true,
            more_input: true,
            ..Call::default()
        });
        Self {
            session,
            credit: 0,
            parts: VecDeque::new(),
            ended: false,
        }
    }

    /// Sends bytes, waiting for credit.
    pub async fn send(&mut self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            while self.credit == 0 {
                self.step().await;
            }
            let part = bytes.split_to(bytes.len().min(self.credit).min(PART));
            self.credit -= part.len();
            self.input(part, false);
        }
    }

    /// Says that no more comes.
    pub fn finish(&self) {
        self.input(Bytes::new(), true);
    }

    /// The next bytes; none at the end.
    pub async fn part(&mut self) -> Option<Bytes> {
        while self.parts.is_empty() && !self.ended {
            self.step().await;
        }
        self.parts.pop_front()
    }

    fn input(&self, data: Bytes, last: bool) {
        let input = Input {
            call_id: CALL,
            data,
            last,
        };
        self.session.send(open_session_request::Message::Input(input));
    }

    async fn step(&mut self) {
        let answer = self.session.answers.message().await.expect("the stream goes on");
        let answer = answer.and_then(|answer| answer.message);
        match answer.expect("the stream goes on") {
            Message::InputCredit(bytes) => self.credit += bytes as usize,
            Message::Event(event) => match event.event.expect("an event") {
                event::Event::Accepted(_) => {}
                event::Event::Data(data) if data.is_empty() => self.ended = true,
                event::Event::Data(data) => self.parts.push_back(data),
                event::Event::End(_) => self.ended = true,
                other => panic!("no part: {other:?}"),
            },
            other => panic!("no event: {other:?}"),
        }
    }
}

/// `sublet tunnel`, which listens at its address.
pub fn program(broker: &str, pool: &str) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sublet"));
    command
        .args([
            "tunnel",
            "--pool",
            pool,
            "--listen",
            "127.0.0.1:0",
            "--broker",
            broker,
        ])
        .stderr(Stdio::null());
    let mut server = Server::start(&mut command);
    let (_, address) = server.address.rsplit_once(' ').expect("it says where");
    server.address = address.to_owned();
    server
}
