//! The running call of an open session: a future that has the session, and the ends of its channels.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{OpenSession, Outbox, SessionOutput, backlog::Backlog, input, invalid, messages::Unsent};
use crate::{
    backend::{Body, BodyChunk, BodyReader, Event, Fence, Sink},
    broker::{
        Broker, CallRequest, LeasedSession,
        call::{self, After, Limits, Outcome, UNARY_LIMIT, Watched},
        stream::EVENTS,
    },
    clock::Clock,
    error::{Error, Executed, Failure},
    lease::End,
    pool::Held,
};

/// How long a message may wait for a caller that does not read.
const READER: Duration = Duration::from_secs(30);

/// The shape of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) id: u64,
    pub(super) stream: bool,
    pub(super) more_input: bool,
}

/// A running call.
pub(super) struct Running {
    pub(super) id: u64,
    pub(super) cancel: CancellationToken,
    /// Credit that the caller has left.
    pub(super) credit: u32,
    /// Credit that was used up and not given back yet.
    pub(super) owed: u32,
    /// Bytes of the call's own body, which cost no credit and so earn none.
    pub(super) free: usize,
    backlog: Backlog,
    body: Option<mpsc::Sender<BodyChunk>>,
    taken: mpsc::UnboundedReceiver<usize>,
    fault: Arc<Mutex<Option<Error>>>,
    future: BoxFuture<'static, Ended>,
}

/// News of a running call.
pub(super) enum Ran {
    /// The backend took so many bytes of its body.
    Took(usize),
    /// It has ended.
    Ended(Ended),
}

/// A call that has ended and was answered.
pub(super) struct Ended {
    pub(super) held: Option<Held>,
    pub(super) after: After,
    pub(super) shut: bool,
    /// The caller did not take the answer, or something before it.
    pub(super) unread: Option<Unread>,
    pub(super) failure: Option<Failure>,
}

impl Running {
    pub(super) fn start(session: &OpenSession, held: Held, mut request: CallRequest, shape: Shape) -> Self {
        let (credit, taken) = mpsc::unbounded_channel();
        let mut free = 0;
        let body = shape.more_input.then(|| {
            let (parts, received) = mpsc::channel(input::PARTS);
            let first = std::mem::replace(
                &mut request.operation.body,
                Body::Stream(BodyReader::new(received, credit)),
            );
            if let Body::Whole(first) = first
                && !first.is_empty()
            {
                free = first.len();
                // The channel is empty, so there is room.
                parts.try_send(BodyChunk::Data(first)).ok();
            }
            parts
        });
        let cancel = CancellationToken::new();
        let fault = Arc::default();
        let call = Call {
            broker: Arc::clone(&session.broker),
            leased: Arc::clone(&session.leased),
            out: session.out.clone(),
            cancel: cancel.clone(),
            fault: Arc::clone(&fault),
            shape,
        };
        Self {
            id: shape.id,
            cancel,
            credit: input::WINDOW,
            owed: 0,
            free,
            backlog: Backlog::default(),
            body,
            taken,
            fault,
            future: call.run(held, request).boxed(),
        }
    }

    /// The next news of the running call, if there is one.
    pub(super) async fn next(running: &mut Option<Self>) -> Ran {
        let Some(running) = running else {
            return std::future::pending().await;
        };
        tokio::select! {
            biased;
            ended = &mut running.future => Ran::Ended(ended),
            Some(bytes) = running.taken.recv() => Ran::Took(bytes),
        }
    }

    /// Waits for a cancelled call to stop.
    pub(super) async fn stopped(self) -> Ended {
        self.future.await
    }

    /// Hands on a part of the body. While the channel is full, parts are joined; the credit bounds them.
    pub(super) fn feed(&mut self, part: BodyChunk) {
        match part {
            BodyChunk::Data(data) => self.backlog.data.push(data),
            BodyChunk::Last => self.backlog.last = true,
        }
        self.flush();
    }

    /// Hands on what has been waiting for room.
    pub(super) fn flush(&mut self) {
        let Some(body) = self.body.take() else {
            return;
        };
        while let Ok(place) = body.try_reserve() {
            if let Some(data) = self.backlog.data.take() {
                place.send(BodyChunk::Data(data));
            } else if self.backlog.last {
                place.send(BodyChunk::Last);
                return;
            } else {
                break;
            }
        }
        self.body = Some(body);
    }

    /// Whether the backend still reads the body, whose end has not come. One that has stopped reading has its answer,
    /// or is about to.
    pub(super) fn wants_input(&self) -> bool {
        !self.backlog.last && self.body.as_ref().is_some_and(|body| !body.is_closed())
    }

    /// Ends the call because its caller broke the rules.
    pub(super) fn fault(&mut self, message: &str) {
        *self.fault.lock() = Some(invalid("input", message).error);
        self.cancel.cancel();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

struct Call {
    broker: Arc<Broker>,
    leased: Arc<LeasedSession>,
    out: Outbox,
    cancel: CancellationToken,
    fault: Arc<Mutex<Option<Error>>>,
    shape: Shape,
}

impl Call {
    async fn run(self, mut held: Held, request: CallRequest) -> Ended {
        let started = self.broker.clock.now();
        let mut info = call::info(&held);
        let want_text = request.operation.params.want_text();
        let policy = self.leased.entry.policy();
        let limits = Limits::new(&policy, &request, started);
        if self.shape.stream
            && let Err(Unread(_)) = self.send(SessionOutput::Accepted(info.clone())).await
        {
            let unheard = SessionOutput::Error(self.unheard(Executed::No));
            return Ended {
                unread: Some(Unread(Some(unheard))),
                ..Ended::new(held, After::Nothing, false)
            };
        }
        let (outcome, sink) = self.execute(&mut held, request, self.sink(), limits).await;
        info.elapsed = self.broker.clock.now().since(started);
        self.leased
            .pool()
            .record_call(outcome.result.is_ok(), info.elapsed);
        let mut ended = Ended::new(held, outcome.after, outcome.shut);
        let heard = sink.is_some();
        let output = match (outcome.result, sink) {
            (Ok(completion), Some(sink)) => {
                let answer = Arc::new(call::answer(completion, sink, info, want_text));
                if self.shape.stream {
                    SessionOutput::End(answer)
                } else {
                    SessionOutput::Result(answer)
                }
            }
            (Ok(_), None) => SessionOutput::Error(self.unheard(Executed::Yes)),
            (Err(failure), sink) => {
                let failure = self.failed(failure.below("call"), outcome.shut, sink.is_some());
                ended.failure = Some(failure.clone());
                SessionOutput::Error(failure)
            }
        };
        ended.unread = if heard {
            self.send(output).await.err()
        } else {
            Some(Unread(Some(output)))
        };
        self.settle(ended).await
    }

    fn sink(&self) -> (Sink, Option<mpsc::Receiver<Event>>) {
        if self.shape.stream {
            let (events, received) = mpsc::channel(EVENTS);
            (Sink::Stream(events), Some(received))
        } else {
            (Sink::collect(UNARY_LIMIT), None)
        }
    }

    /// Runs the call, and hands its events on meanwhile. No sink comes back if the caller did not take them all.
    async fn execute(
        &self,
        held: &mut Held,
        request: CallRequest,
        (mut sink, events): (Sink, Option<mpsc::Receiver<Event>>),
        limits: Limits,
    ) -> (Outcome, Option<Sink>) {
        let watched = Watched {
            clock: self.broker.clock(),
            cancel: Some(&self.cancel),
        };
        let Some(mut events) = events else {
            let outcome = call::run(held, request.operation, &mut sink, limits, watched).await;
            return (outcome, Some(sink));
        };
        let running = async {
            let outcome = call::run(held, request.operation, &mut sink, limits, watched).await;
            drop(sink);
            outcome
        };
        let forwarding = async {
            while let Some(event) = events.recv().await {
                if self.send(SessionOutput::Event(event)).await.is_err() {
                    // The call learns that nobody reads.
                    events.close();
                    return None;
                }
            }
            // What was streamed is not repeated: an empty collection stands for it.
            Some(Sink::collect(0))
        };
        futures_util::future::join(running, forwarding).await
    }

    /// The failure as the caller learns it: his own fault, the lease's end, or what the call met.
    fn failed(&self, failure: Failure, shut: bool, heard: bool) -> Failure {
        let executed = failure.executed.unwrap_or(Executed::Unknown);
        match (failure.error, heard) {
            (Error::Cancelled, false) => self.unheard(executed),
            (error, _) => self.judged(error, executed, shut),
        }
    }

    /// The failure of a call whose caller did not take what comes before its answer.
    fn unheard(&self, executed: Executed) -> Failure {
        self.judged(not_read(), executed, !self.leased.is_open())
    }

    fn judged(&self, error: Error, executed: Executed, shut: bool) -> Failure {
        let fault = self.fault.lock().take();
        let end = self.broker.leases.find(self.leased.number).err();
        let error = match (error, fault, end) {
            // Only the stream itself releases the lease: its caller has gone, or does not read.
            (_, _, Some(End::Released)) if shut => Error::Cancelled,
            (_, _, Some(end)) if shut => super::end_error(end),
            // What came before the fault stopped the call is what became of it.
            (Error::Cancelled, Some(fault), _) => fault,
            (error, ..) => error,
        };
        let cut = super::cut_failure(error, executed);
        Failure {
            place: self.leased.failure(cut.error.clone()).place,
            ..cut
        }
    }

    /// Settles the session if the call was dropped in the middle and the lease lives.
    async fn settle(&self, mut ended: Ended) -> Ended {
        if ended.after != After::Settle || ended.shut || ended.unread.is_some() {
            return ended;
        }
        let limit = self.leased.entry.reset_timeout();
        let deadline = self.broker.clock.now() + limit;
        let settled = match ended.held.as_mut() {
            Some(held) => tokio::select! {
                biased;
                settled = call::unpanicked(held.session().settle()) => settled.is_ok(),
                () = self.broker.clock.sleep_until(deadline) => false,
            },
            None => false,
        };
        if !settled {
            ended.after = After::Lost;
            let error = Error::SessionLost {
                message: "the session could not be settled after its last call".to_owned(),
            };
            ended.failure = Some(self.leased.failure(error));
        }
        ended
    }

    /// Sends a message, for as long as the lease lives; once it has ended, only if there is room.
    async fn send(&self, output: SessionOutput) -> Result<(), Unread> {
        let fence = Some(&**self.leased.fence());
        emit(&self.out, self.broker.clock(), fence, self.shape.id, output).await
    }
}

impl Ended {
    const fn new(held: Held, after: After, shut: bool) -> Self {
        Self {
            held: Some(held),
            after,
            shut,
            unread: None,
            failure: None,
        }
    }
}

/// The caller does not read, or has gone. With what the call came to, if it is still to be told.
#[derive(Debug)]
pub(super) struct Unread(pub(super) Option<SessionOutput>);

/// What a caller who does not read is told.
pub(super) const fn not_read() -> Error {
    Error::ExecuteTimeout {
        limit: READER,
        what: "the caller did not read the stream",
    }
}

/// Sends a message, for as long as a caller may leave it unread, and until the fence, if there is one, is shut.
pub(super) async fn emit(
    out: &Outbox,
    clock: &Clock,
    fence: Option<&Fence>,
    id: u64,
    output: SessionOutput,
) -> Result<(), Unread> {
    let output = match out.try_send(id, output) {
        Ok(()) => return Ok(()),
        Err(Unsent::Closed) => return Err(Unread(None)),
        Err(Unsent::Full(output)) => output,
    };
    let unread = Unread(output.answer());
    let deadline = clock.now() + READER;
    let shut = async {
        match fence {
            Some(fence) => fence.when_shut().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        sent = out.send(id, output) => sent.map_err(|_| Unread(None)),
        () = shut => Err(unread),
        () = clock.sleep_until(deadline) => Err(unread),
    }
}
