//! Streams: an open session from its caller's end, and a call's events.

use sublet::proto::{
    Call, CancelCall, Event, ExecuteRequest, ExecuteStreamRequest, Input, Lease, Open, OpenSessionRequest,
    OpenSessionResponse, Operation, event, open_session_request::Message,
    open_session_response::Message as Answer,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use crate::support::calls::*;

/// The caller's end of an open session. Dropped, it is reset; see [`Opened::finish`].
pub(super) struct Opened {
    pub(super) lease: Lease,
    out: mpsc::UnboundedSender<OpenSessionRequest>,
    answers: Streaming<OpenSessionResponse>,
    calls: u64,
}

impl Opened {
    pub(super) async fn of(broker: &mut Broker, pool: &str) -> Self {
        let (out, messages) = mpsc::unbounded_channel();
        let open = Open {
            pool: pool.to_owned(),
            options: None,
        };
        send(&out, Message::Open(open));
        let answers = broker.open_session(UnboundedReceiverStream::new(messages)).await;
        let mut answers = answers.unwrap().into_inner();
        let first = answers.message().await.unwrap().unwrap();
        let Some(Answer::Opened(opened)) = first.message else {
            panic!("not opened: {first:?}")
        };
        let lease = opened.lease.unwrap();
        Self {
            lease,
            out,
            answers,
            calls: 0,
        }
    }

    /// Begins a call, which input may follow.
    pub(super) fn begin(&mut self, name: &str, params: &str, more_input: bool) {
        self.call(operation(name, params), more_input);
    }

    /// Begins a call that is given whole.
    pub(super) fn begin_operation(&mut self, operation: Operation) {
        self.call(operation, false);
    }

    fn call(&mut self, operation: Operation, more_input: bool) {
        self.calls += 1;
        let call = Call {
            id: self.calls,
            operation: Some(operation),
            stream: false,
            more_input,
        };
        send(&self.out, Message::Call(call));
    }

    /// A part of the latest call's input.
    pub(super) fn feed(&self, data: impl Into<Vec<u8>>, last: bool) {
        let (call_id, data) = (self.calls, data.into().into());
        send(&self.out, Message::Input(Input { call_id, data, last }));
    }

    /// Cancels the latest call.
    pub(super) fn cancel(&self) {
        let call_id = self.calls;
        send(&self.out, Message::Cancel(CancelCall { call_id }));
    }

    /// What the latest call was answered, as text: its result, or its error.
    pub(super) async fn answer(&mut self) -> Result<String, String> {
        loop {
            let answer = self.answers.message().await.unwrap().unwrap();
            assert!(answer.call_id == 0 || answer.call_id <= self.calls);
            match answer.message.unwrap() {
                Answer::InputCredit(_) => {}
                _ if answer.call_id > 0 && answer.call_id < self.calls => {}
                Answer::Error(error) => return Err(format!("{} {}", error.code, error.message)),
                other => return Ok(format!("{other:?}")),
            }
        }
    }

    /// Waits until the latest call may send input: it runs then.
    pub(super) async fn credit(&mut self) {
        loop {
            let answer = self.answers.message().await.unwrap().unwrap();
            match answer.message.unwrap() {
                Answer::InputCredit(_) if answer.call_id == self.calls => return,
                Answer::Error(error) => panic!("{error:?}"),
                _ => {}
            }
        }
    }

    /// Half-closes, and waits for the end.
    pub(super) async fn finish(self) {
        let Self { out, mut answers, .. } = self;
        drop(out);
        while let Ok(Some(_)) = answers.message().await {}
    }
}

fn send(out: &mpsc::UnboundedSender<OpenSessionRequest>, message: Message) {
    let message = Some(message);
    out.send(OpenSessionRequest { message }).unwrap();
}

/// Everything that a streamed call says.
pub(super) async fn events(
    broker: &mut Broker,
    request: ExecuteRequest,
) -> Result<Vec<event::Event>, Status> {
    let request = ExecuteStreamRequest {
        request: Some(request),
    };
    let mut stream = broker.execute_stream(request).await?.into_inner();
    let mut all = Vec::new();
    while let Some(answer) = stream.message().await? {
        all.extend(answer.event.and_then(|Event { event }| event));
    }
    Ok(all)
}
