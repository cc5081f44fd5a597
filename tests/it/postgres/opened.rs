//! A caller with an open session. He keeps to the credit that he is given, unless he is told to push; most name their
//! calls by number, and those who make one at a time mean the latest.

use std::collections::BTreeMap;

use bytes::Bytes;
use sublet::proto::{
    Call, CancelCall, Input, Lease, Open, OpenSessionRequest, OpenSessionResponse, Operation,
    open_session_request::Message as Sent, open_session_response::Message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::staged::PATIENCE;
use crate::support::calls::*;

/// The caller's end. Dropped, the session is reset; see [`Opened::finish`].
pub struct Opened {
    pub lease: Lease,
    out: mpsc::UnboundedSender<OpenSessionRequest>,
    answers: tonic::Streaming<OpenSessionResponse>,
    credit: BTreeMap<u64, usize>,
    last_id: u64,
}

impl Opened {
    pub async fn on(broker: &mut Broker, pool: &str) -> Self {
        let (out, messages) = mpsc::unbounded_channel();
        let open = Open {
            pool: pool.to_owned(),
            options: None,
        };
        let first = OpenSessionRequest {
            message: Some(Sent::Open(open)),
        };
        out.send(first).unwrap();
        let answers = broker.open_session(UnboundedReceiverStream::new(messages)).await;
        let mut answers = answers.unwrap().into_inner();
        let opened = answers.message().await.unwrap().unwrap();
        let Some(Message::Opened(opened)) = opened.message else {
            panic!("not opened: {opened:?}")
        };
        Self {
            lease: opened.lease.unwrap(),
            out,
            answers,
            credit: BTreeMap::new(),
            last_id: 0,
        }
    }

    fn send(&self, message: Sent) {
        let message = Some(message);
        self.out.send(OpenSessionRequest { message }).unwrap();
    }

    /// Begins a call, and returns its number.
    pub fn call(&mut self, operation: Operation, stream: bool, more_input: bool) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.send(Sent::Call(Call {
            id,
            operation: Some(operation),
            stream,
            more_input,
        }));
        id
    }

    pub fn cancel(&self, call_id: u64) {
        self.send(Sent::Cancel(CancelCall { call_id }));
    }

    /// The next message that is no credit; none at the end of the stream. Credit is noted.
    pub async fn next(&mut self) -> Option<(u64, Message)> {
        loop {
            match self.any().await? {
                (_, Message::InputCredit(_)) => {}
                other => return Some(other),
            }
        }
    }

    /// The next message of any kind.
    async fn any(&mut self) -> Option<(u64, Message)> {
        let message = tokio::time::timeout(PATIENCE, self.answers.message());
        let message = message.await.expect("the broker says something").unwrap()?;
        let id = message.call_id;
        let message = message.message.unwrap();
        if let Message::InputCredit(bytes) = message {
            *self.credit.entry(id).or_default() += bytes as usize;
        }
        Some((id, message))
    }

    /// Sends input, waiting for credit; the call's answer if one came before all was sent.
    pub async fn feed(&mut self, call_id: u64, mut data: Bytes) -> Option<Message> {
        while !data.is_empty() {
            let credit = self.credit.get(&call_id).copied().unwrap_or_default();
            if credit == 0 {
                match self.any().await {
                    Some((_, Message::InputCredit(_))) => continue,
                    Some((id, message)) => {
                        assert_eq!(id, call_id);
                        return Some(message);
                    }
                    None => panic!("the stream ended"),
                }
            }
            let part = data.split_to(data.len().min(credit).min(64 << 10));
            self.credit.insert(call_id, credit - part.len());
            self.input(call_id, part, false);
        }
        None
    }

    /// Says that no more calls come.
    pub fn half_close(&mut self) {
        self.out = mpsc::unbounded_channel().0;
    }

    /// Says that no more calls come, and waits for the end.
    pub async fn finish(mut self) {
        self.half_close();
        while self.answers.message().await.unwrap().is_some() {}
    }

    /// Says that the body is complete.
    pub fn last(&self, call_id: u64) {
        self.input(call_id, Bytes::new(), true);
    }

    fn input(&self, call_id: u64, data: Bytes, last: bool) {
        self.send(Sent::Input(Input { call_id, data, last }));
    }

    /// Begins a call, which input may follow.
    pub fn begin(&mut self, name: &str, params: &str, more_input: bool) {
        self.call(operation(name, params), false, more_input);
    }

    /// A part of the latest call's input, credit or not.
    pub fn push(&self, data: impl Into<Bytes>) {
        self.input(self.last_id, data.into(), false);
    }

    pub fn cancel_latest(&self) {
        self.cancel(self.last_id);
    }

    /// What the latest call was answered, as text: its result, or its error.
    pub async fn answer(&mut self) -> Result<String, String> {
        loop {
            let (id, answer) = self.next().await.unwrap();
            assert!(id <= self.last_id, "{id}: {answer:?}");
            match answer {
                _ if id > 0 && id < self.last_id => {}
                Message::Error(error) => return Err(format!("{} {}", error.code, error.message)),
                other => return Ok(format!("{other:?}")),
            }
        }
    }

    /// Waits until the latest call may send input: it runs then.
    pub async fn credit(&mut self) {
        while !self.credit.contains_key(&self.last_id) {
            if let Some((_, Message::Error(error))) = self.any().await {
                panic!("{error:?}");
            }
        }
    }
}
