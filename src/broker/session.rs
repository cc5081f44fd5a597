//! `OpenSession`: a lease that lives with its stream. Calls run one after another in the order they came; input is read
//! always and bounded by credit, never by not reading, which would stall the connection's other streams.
//!
//! Loop: [`OpenSession::drive`], one task per stream.

mod backlog;
mod input;
mod messages;
mod queue;
mod running;

use std::sync::Arc;

use futures_util::{FutureExt, Stream, StreamExt};

pub use self::{
    messages::{Opened, Outbound, Outbox, SessionCall, SessionInput, SessionOutput, outbox},
    queue::QUEUED_CALLS,
};
use self::{
    queue::Queue,
    running::{Ended, Ran, Running, Unread},
};
use super::{
    Broker, LeasedSession, Waiting, call::After, end_error, execute::inspect, leased::Holder,
    on_lease::cut_failure,
};
use crate::{
    error::{Error, Executed, Failure, Faults},
    lease::{End, Terms},
    pool::{GiveBack, Held},
};

/// An open session. Drive it; dropped, its session is closed.
#[derive(Debug)]
pub struct OpenSession {
    broker: Arc<Broker>,
    leased: Arc<LeasedSession>,
    held: Option<Held>,
    out: Outbox,
    queue: Queue,
    running: Option<Running>,
    last_id: u64,
    /// The stream's half-close has come: finish what is queued, then release.
    half_closed: bool,
    /// The last call was cut in the middle, and its session has not been settled since.
    unsettled: bool,
    /// Answers that came to wait for room when the session ended.
    unsent: Vec<(u64, SessionOutput)>,
}

/// Why a session's stream is over.
enum Over {
    /// The caller half-closed, and everything is done.
    Finished,
    /// The caller reset the stream, or has gone.
    Reset,
    /// The caller does not read.
    Unread,
    /// The lease ended.
    Cut,
    /// The session broke.
    Lost(Failure),
    /// The caller broke the protocol.
    Broken(Failure),
}

impl Broker {
    /// Waits for a session and leases it to a stream.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn open_session(
        self: &Arc<Self>,
        pool: &str,
        waiting: &Waiting,
        out: Outbox,
    ) -> Result<(Opened, OpenSession), Failure> {
        let entry = self.pools.get(pool)?;
        let held = self.take_session(&entry, waiting).await?;
        let terms = Terms {
            bounds: entry.policy().lease,
            ttl: None,
            bound: true,
        };
        let holder = Holder {
            entry,
            client: waiting.client.clone(),
            granted: self.clock.now(),
        };
        let (leased, status) = self.leases.grant(terms, |number| {
            let id = self.tokens.public_id(number);
            Arc::new(LeasedSession::new(number, id, &held, holder))
        });
        if !leased.is_open() {
            // The session was closed between its grant and now: whoever closed it found no lease to end.
            self.leases.end(leased.number, End::Revoked);
            held.give_back(GiveBack::Discard);
            return Err(leased.failure(end_error(End::Revoked)).executed(Executed::No));
        }
        // For the table a call runs for as long as the stream lives: whoever ends the lease only shuts the fence, and
        // the stream's task gives the session back.
        if let Err(end) = self.leases.begin(leased.number) {
            held.give_back(GiveBack::Used);
            return Err(leased.failure(end_error(end)).executed(Executed::No));
        }
        let opened = Opened {
            leased: Arc::clone(&leased),
            status,
            input_credit: input::WINDOW,
        };
        let session = OpenSession {
            broker: Arc::clone(self),
            leased,
            held: Some(held),
            out,
            queue: Queue::default(),
            running: None,
            last_id: 0,
            half_closed: false,
            unsettled: false,
            unsent: Vec::new(),
        };
        Ok((opened, session))
    }
}

impl OpenSession {
    /// Runs the session to its end. `inbound` yields `None` in place of a message when the stream was reset, and ends
    /// at the half-close.
    pub async fn drive(mut self, mut inbound: impl Stream<Item = Option<SessionInput>> + Send + Unpin) {
        let over = self.turn_over(&mut inbound).await;
        let left = self.left(&mut inbound);
        self.end(over, left).await;
    }

    /// The calls that were not begun. Those that have arrived unread are among them: they too are told that they were
    /// not executed.
    fn left(&mut self, inbound: &mut (impl Stream<Item = Option<SessionInput>> + Unpin)) -> Vec<u64> {
        let mut left = self.queue.drain();
        while left.len() < QUEUED_CALLS {
            match inbound.next().now_or_never() {
                Some(Some(Some(SessionInput::Call(call)))) => left.push(call.id),
                Some(Some(Some(_))) => {}
                Some(Some(None) | None) | None => break,
            }
        }
        left
    }

    async fn turn_over(&mut self, inbound: &mut (impl Stream<Item = Option<SessionInput>> + Unpin)) -> Over {
        let fence = Arc::clone(self.leased.fence());
        loop {
            let step = tokio::select! {
                biased;
                ran = Running::next(&mut self.running) => self.ran(ran).await,
                message = inbound.next(), if !self.half_closed => match message {
                    Some(Some(message)) => self.receive(message).await,
                    Some(None) => Err(Over::Reset),
                    None => {
                        self.half_close();
                        Ok(())
                    }
                },
                () = fence.when_shut(), if self.running.is_none() => Err(Over::Cut),
                () = self.out.closed() => Err(Over::Reset),
            };
            let step = match step {
                Ok(()) => self.start_next().await,
                Err(over) => Err(over),
            };
            match step {
                Ok(()) if self.half_closed && self.running.is_none() => return Over::Finished,
                Ok(()) => {}
                Err(over) => return over,
            }
        }
    }

    async fn receive(&mut self, message: SessionInput) -> Result<(), Over> {
        match message {
            SessionInput::Call(call) => self.enqueue(call).await,
            SessionInput::Input { call_id, data, last } => self.input(call_id, data, last).await,
            SessionInput::Cancel { call_id } => self.cancel(call_id).await,
            SessionInput::Broken(failure) => Err(Over::Broken(failure)),
        }
    }

    async fn enqueue(&mut self, call: SessionCall) -> Result<(), Over> {
        let next = self.last_id + 1;
        if call.id != next {
            let message = format!("call ids go up by one: the next one is {next}");
            return Err(Over::Broken(invalid("call.id", message)));
        }
        self.last_id = call.id;
        match self.queue.push(call) {
            Ok(()) => Ok(()),
            Err(full) => self.refuse(next, full).await,
        }
    }

    async fn cancel(&mut self, id: u64) -> Result<(), Over> {
        if let Some(running) = self.running.as_ref().filter(|running| running.id == id) {
            running.cancel.cancel();
            return Ok(());
        }
        if self.queue.remove(id) {
            return self.refuse(id, Error::Cancelled).await;
        }
        Ok(())
    }

    /// Starts the next call if none runs. Calls that cannot run are answered on the way.
    async fn start_next(&mut self) -> Result<(), Over> {
        while self.running.is_none() {
            let Some(call) = self.queue.pop() else {
                return Ok(());
            };
            let id = call.id;
            let checked = call.request.and_then(|request| {
                inspect(&self.leased.entry, &request.operation).map_err(|failure| failure.below("call"))?;
                if call.more_input && self.half_closed {
                    return Err(invalid("input", input::CUT_SHORT));
                }
                Ok(request)
            });
            match (checked, self.held.take()) {
                (Ok(request), Some(held)) => {
                    let shape = running::Shape {
                        id,
                        stream: call.stream,
                        more_input: call.more_input,
                    };
                    self.running = Some(Running::start(self, held, request, shape));
                    if call.more_input {
                        self.emit(id, SessionOutput::InputCredit(input::WINDOW)).await?;
                    }
                }
                (Err(failure), held) => {
                    self.held = held;
                    let failure = failure.executed(Executed::No);
                    self.emit(id, SessionOutput::Error(failure)).await?;
                }
                (Ok(_), None) => return Err(Over::Cut),
            }
        }
        Ok(())
    }

    /// A call has ended, or its body was read further.
    async fn ran(&mut self, ran: Ran) -> Result<(), Over> {
        match ran {
            Ran::Took(bytes) => self.credit(bytes).await,
            Ran::Ended(mut ended) => {
                let unread = ended.unread.is_some();
                if let Some(running) = self.running.take() {
                    self.take_back(running.id, &mut ended);
                }
                self.unsettled = ended.after == After::Settle && (ended.shut || unread);
                if ended.shut {
                    return Err(Over::Cut);
                }
                if let (After::Lost, Some(failure)) = (ended.after, ended.failure) {
                    return Err(Over::Lost(failure));
                }
                if unread { Err(self.unheard()) } else { Ok(()) }
            }
        }
    }

    /// Takes a call's session back, and its answer if that was not sent.
    fn take_back(&mut self, id: u64, ended: &mut Ended) {
        self.held = ended.held.take();
        self.keep(id, ended.unread.take());
    }

    fn keep(&mut self, id: u64, unread: Option<Unread>) {
        let answer = unread.and_then(|unread| unread.0);
        self.unsent.extend(answer.map(|answer| (id, answer)));
    }

    /// Why a message could not be sent.
    fn unheard(&self) -> Over {
        if self.leased.is_open() {
            Over::Unread
        } else {
            Over::Cut
        }
    }

    async fn refuse(&mut self, id: u64, error: Error) -> Result<(), Over> {
        let failure = self.leased.failure(error).executed(Executed::No);
        self.emit(id, SessionOutput::Error(failure)).await
    }

    /// Sends a message, unless the caller does not read or the lease ends first.
    async fn emit(&mut self, id: u64, output: SessionOutput) -> Result<(), Over> {
        let fence = Some(&**self.leased.fence());
        let sent = running::emit(&self.out, self.broker.clock(), fence, id, output).await;
        let Err(unread) = sent else {
            return Ok(());
        };
        self.keep(id, Some(unread));
        Err(self.unheard())
    }

    /// Gives the session back, and tells the caller why unless it knows.
    async fn end(mut self, over: Over, left: Vec<u64>) {
        if matches!(over, Over::Reset | Over::Unread | Over::Broken(_)) {
            // First of all: then the running call does not hold the session until its caller reads.
            self.broker.end_lease(self.leased.number, End::Released, false);
        }
        let interrupted = self.stop_running().await || self.unsettled;
        let (end, how) = match &over {
            Over::Finished => (End::Released, GiveBack::Used),
            Over::Reset | Over::Unread => (End::Released, GiveBack::Discard),
            Over::Cut | Over::Broken(_) if interrupted => (End::Released, GiveBack::Interrupted),
            Over::Cut | Over::Broken(_) => (End::Released, GiveBack::Used),
            Over::Lost(_) => (End::SessionLost, GiveBack::Discard),
        };
        // The end that was recorded first counts; this one is only news after a finish, a reset or a loss.
        let end = self.broker.end_lease(self.leased.number, end, false);
        if let Some(held) = self.held.take() {
            self.leased.give_back(held, how);
        }
        let last_word = match over {
            Over::Finished | Over::Reset => return,
            Over::Cut => self.leased.failure(Error::Cancelled),
            Over::Unread => self.leased.failure(running::not_read()),
            Over::Lost(failure) | Over::Broken(failure) => failure,
        };
        let news = matches!(end, End::Released | End::SessionLost);
        let last_word = if news {
            last_word
        } else {
            self.leased.failure(end_error(end))
        };
        self.say_goodbye(last_word, left).await;
    }

    /// Sends what still waits, fails the calls that were not begun, and then the stream itself. The session is back
    /// by now: however long this takes, it holds nobody up.
    async fn say_goodbye(mut self, failure: Failure, left: Vec<u64>) {
        let refused = Failure {
            place: failure.place.clone(),
            ..cut_failure(failure.error.clone(), Executed::No)
        };
        let left = left
            .into_iter()
            .map(|id| (id, SessionOutput::Error(refused.clone())));
        let last = (0, SessionOutput::Error(failure.executed(Executed::No)));
        let unsent = std::mem::take(&mut self.unsent).into_iter();
        for (id, output) in unsent.chain(left).chain([last]) {
            let sent = running::emit(&self.out, self.broker.clock(), None, id, output).await;
            if sent.is_err() {
                // Whoever does not read any more need not know.
                return;
            }
        }
    }

    /// Cancels the running call and takes its session back. True if there was one.
    async fn stop_running(&mut self) -> bool {
        let Some(running) = self.running.take() else {
            return false;
        };
        running.cancel.cancel();
        let id = running.id;
        let mut ended = running.stopped().await;
        self.take_back(id, &mut ended);
        true
    }
}

impl Drop for OpenSession {
    /// Whatever became of its task, no lease lives without its session.
    fn drop(&mut self) {
        if self.broker.leases.find(self.leased.number).is_ok() {
            self.broker.end_lease(self.leased.number, End::SessionLost, true);
        }
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Failure {
    let faults = Faults::one(field, message);
    Failure::from(Error::Invalid { faults }).executed(Executed::No)
}
