//! An open session, driven by the generated stubs.

use sublet::proto::{
    Call, Open, OpenSessionRequest, OpenSessionResponse, Operation, open_session_request::Message,
    open_session_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use crate::support::calls::Broker;

pub struct Session {
    pub out: mpsc::UnboundedSender<OpenSessionRequest>,
    pub answers: Streaming<OpenSessionResponse>,
    next_id: u64,
}

impl Session {
    pub async fn open(mut broker: Broker, pool: &str) -> Self {
        let (out, messages) = mpsc::unbounded_channel();
        let open = Message::Open(Open {
            pool: pool.to_owned(),
            options: None,
        });
        out.send(message(open)).expect("it is read");
        let answers = broker.open_session(UnboundedReceiverStream::new(messages)).await;
        let mut answers = answers.expect("a session").into_inner();
        answers.message().await.expect("opened").expect("opened");
        Self {
            out,
            answers,
            next_id: 1,
        }
    }

    pub fn begin(&mut self, call: Call) {
        self.send(Message::Call(Call {
            id: self.next_id,
            ..call
        }));
        self.next_id += 1;
    }

    pub fn send(&self, sent: Message) {
        self.out.send(message(sent)).expect("it is read");
    }

    /// Makes a call, and waits for its result.
    pub async fn call(&mut self, operation: Operation) {
        self.begin(Call {
            operation: Some(operation),
            ..Call::default()
        });
        let answer = self.answers.message().await.expect("an answer");
        let answer = answer.and_then(|answer| answer.message).expect("an answer");
        let result = matches!(answer, open_session_response::Message::Result(_));
        assert!(result, "{answer:?}");
    }
}

const fn message(message: Message) -> OpenSessionRequest {
    OpenSessionRequest {
        message: Some(message),
    }
}
