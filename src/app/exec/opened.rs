//! A call on an open session: its body goes in parts, as the broker gives credit, while its answer comes.

use std::io;

use bytes::BytesMut;
use tokio::{
    io::AsyncReadExt as _,
    sync::mpsc,
    task::{JoinError, JoinHandle},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    super::{credit::Credit, exit::Exit},
    call::{Broker, Rest, named},
    ended::Ended,
};
use crate::proto::{
    Call, ExecuteRequest, Input, Open, OpenSessionRequest, OpenSessionResponse, event::Event,
    execute_request::Target, open_session_request::Message as Sent, open_session_response::Message,
};

/// Messages to the broker that wait for HTTP/2 to take them: credit bounds their bytes.
const MESSAGES: usize = 4;
/// The only call.
const CALL: u64 = 1;

/// The call. Dropped, it is cancelled and its session discarded.
#[derive(Debug)]
pub(super) struct Opened {
    answers: Streaming<OpenSessionResponse>,
    credit: std::sync::Arc<Credit>,
    /// Sends the body; none when that is done.
    feeding: Option<Feeding>,
    /// The call has ended.
    ended: bool,
}

#[derive(Debug)]
struct Feeding(JoinHandle<io::Result<()>>);

impl Drop for Feeding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Opened {
    /// Opens a session and begins the call, of whose body `rest` is still to come.
    pub(super) async fn begin(
        mut broker: Broker,
        request: ExecuteRequest,
        rest: Rest,
        stream: bool,
    ) -> Result<Self, Ended> {
        let pool = match request.target {
            Some(Target::Pool(pool)) => pool,
            Some(Target::LeaseToken(_)) | None => String::new(),
        };
        let (out, messages) = mpsc::channel(MESSAGES);
        let open = Open {
            pool,
            options: request.options,
        };
        let call = Call {
            id: CALL,
            operation: request.operation,
            stream,
            more_input: true,
        };
        send(&out, Sent::Open(open)).await;
        send(&out, Sent::Call(call)).await;
        let answers = broker.open_session(named(ReceiverStream::new(messages))).await?;
        let credit = std::sync::Arc::new(Credit::none());
        let feeding = tokio::spawn(feed(rest, std::sync::Arc::clone(&credit), out));
        Ok(Self {
            answers: answers.into_inner(),
            credit,
            feeding: Some(Feeding(feeding)),
            ended: false,
        })
    }

    /// The next event; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Ended> {
        loop {
            let answer = tokio::select! {
                answer = self.answers.message() => answer?,
                fed = fed(&mut self.feeding) => {
                    fed?;
                    continue;
                }
            };
            match answer.and_then(|answer| answer.message) {
                Some(Message::Event(event)) => match event.event {
                    Some(Event::End(answer)) => return Ok(Some(self.end(Event::End(answer)))),
                    Some(event) => return Ok(Some(event)),
                    None => {}
                },
                Some(Message::Result(answer)) => return Ok(Some(self.end(Event::End(answer)))),
                Some(Message::InputCredit(bytes)) => self.credit.add(bytes),
                Some(Message::Error(status)) => return Err(Ended::Failed(Box::new(status))),
                Some(Message::Opened(_)) => {}
                None if self.ended => return Ok(None),
                None => {
                    let why = "it ended the session";
                    return Err(Exit::unavailable("no answer of the broker's", why).into());
                }
            }
        }
    }

    /// What is left of the body is not wanted any more; with it the session is given back, which ends the stream.
    fn end(&mut self, last: Event) -> Event {
        self.feeding = None;
        self.ended = true;
        last
    }
}

/// Returns when the body has been sent, or cannot be read.
async fn fed(feeding: &mut Option<Feeding>) -> Result<(), Exit> {
    let Some(Feeding(task)) = feeding else {
        return std::future::pending().await;
    };
    let ended = task.await;
    *feeding = None;
    let cannot = |error: io::Error| Exit::unavailable("cannot read the body to its end", error);
    ended
        .unwrap_or_else(|stopped: JoinError| Err(stopped.into()))
        .map_err(cannot)
}

/// Sends a body, no more than there is credit for.
async fn feed(
    mut body: Rest,
    credit: std::sync::Arc<Credit>,
    out: mpsc::Sender<OpenSessionRequest>,
) -> io::Result<()> {
    loop {
        let most = credit.some().await;
        let mut data = BytesMut::with_capacity(most);
        let limit = most.try_into().unwrap_or(u64::MAX);
        let read = (&mut body).take(limit).read_buf(&mut data).await?;
        credit.used(read);
        let input = Input {
            call_id: CALL,
            data: data.freeze(),
            last: read == 0,
        };
        // Why the broker takes no more is said by its answers.
        if !send(&out, Sent::Input(input)).await || read == 0 {
            return Ok(());
        }
    }
}

async fn send(out: &mpsc::Sender<OpenSessionRequest>, message: Sent) -> bool {
    let message = OpenSessionRequest {
        message: Some(message),
    };
    out.send(message).await.is_ok()
}
