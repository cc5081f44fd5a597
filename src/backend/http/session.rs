//! One slot to the service: at most one connection, or one place on a shared one, at a time, taken anew within the slot
//! when the service has closed it or a call was cut off.

pub(in crate::backend) mod lend;

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use http::Response;

use super::{
    answer,
    definition::Target,
    h2::{Need, Table},
    link::{Fault, Inbound, Link},
    pace::{Overdue, Pace, Upload},
    payload::Payload,
    plan::{Plan, Sending},
    redirect,
};
use crate::{
    backend::{
        CallError, Cleanliness, Completion, DialError, DialErrorKind, Fence, Operation, Session, SessionLost,
        Sink,
    },
    error::{Executed, Faults},
};

#[derive(Debug)]
pub(super) struct HttpSession {
    target: Arc<Target>,
    table: Arc<Table>,
    fence: Arc<Fence>,
    link: Option<Link>,
    /// A call has begun and not come to its end.
    in_call: bool,
}

/// A call under way. Dropped before its end, it cuts the connection at once, so that nothing more of the call reaches
/// the service whatever the fence says later.
struct Call<'a> {
    session: &'a mut HttpSession,
    /// What had been handed over when it began.
    sent_before: u64,
    sending: Sending,
    retries: u32,
    /// How far the exchange under way has come.
    pace: Option<Arc<Pace>>,
    /// An exchange of it was answered, which redirects to the next one.
    answered: bool,
}

/// Times that a request is sent anew of which the service is known to have done nothing, at most.
const MAX_RESENT: u32 = 3;

/// Why an exchange came to nothing.
enum Failed {
    /// It is certain that the service did nothing of it, so it can be sent anew.
    Unsent(Sending),
    /// For good.
    For(CallError),
}

impl HttpSession {
    /// Opens a session with its first connection, or a place on one.
    pub(super) async fn dial(
        table: Arc<Table>,
        target: Arc<Target>,
        fence: Arc<Fence>,
    ) -> Result<Self, DialError> {
        let link = table.link(&fence, Need::Session).await?;
        Ok(Self {
            target,
            table,
            fence,
            link: Some(link),
            in_call: false,
        })
    }

    async fn run(&mut self, operation: Operation, sink: &mut Sink) -> Result<Completion, CallError> {
        let plan = Plan::read(&operation, &self.target).map_err(CallError::Invalid)?;
        let mut call = Call::begin(self, Sending::of(operation.body));
        let outcome = call.carry_out(plan, sink).await;
        if matches!(outcome, Ok(_) | Err(CallError::Invalid(_))) {
            call.session.rest();
        }
        outcome
    }

    /// Stops what is under way, and returns when it is over: a slot never has two.
    async fn hang_up(&mut self) {
        // It stays in its place until it is over, so that dropping this future forgets nothing.
        let kept = match &mut self.link {
            Some(link) => link.hang_up().await,
            None => false,
        };
        if !kept {
            self.link = None;
        }
    }

    /// No call is under way any more.
    fn rest(&mut self) {
        self.in_call = false;
        if !self.link.as_ref().is_some_and(Link::rest) {
            self.link = None;
        }
    }

    async fn settled(&mut self) -> Result<(), SessionLost> {
        if self.in_call {
            self.hang_up().await;
            self.rest();
        }
        Ok(())
    }

    /// Whether the connection ended as the service had announced, which is no loss.
    fn is_over(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_over)
    }

    async fn is_dead(&mut self) -> bool {
        let tls = self.target.tls.is_some();
        match &mut self.link {
            Some(link) => link.is_dead(tls).await,
            None => false,
        }
    }
}

impl<'a> Call<'a> {
    fn begin(session: &'a mut HttpSession, sending: Sending) -> Self {
        session.in_call = true;
        let sent_before = session.fence.sent();
        Self {
            session,
            sent_before,
            sending,
            retries: 0,
            pace: None,
            answered: false,
        }
    }

    /// One exchange, and one more for each redirect that is followed.
    async fn carry_out(&mut self, mut plan: Plan, sink: &mut Sink) -> Result<Completion, CallError> {
        let streamed = matches!(self.sending, Sending::Stream(_));
        loop {
            let answer = self.ask(&plan).await?;
            self.answered = true;
            let last = answer::is_last(answer.version(), answer.headers());
            let next = redirect::next(&plan, streamed, &answer, &self.session.target.address);
            let whole = match &next {
                Some(_) => self.paced(answer::skip(answer)).await?,
                None => self.paced(answer::deliver(answer, sink)).await.map(|()| true)?,
            };
            self.keep_if(whole, last).await;
            match next {
                Some(next) => plan = next,
                None => break,
            }
        }
        Ok(Completion {
            retries: self.retries,
            ..Completion::default()
        })
    }

    /// Keeps the connection for the next exchange, if that is sound. One whose request is not all written when
    /// its answer has ended is not: the rest would go out in the time of whoever comes next. One that the service has
    /// announced to close may say its goodbye.
    async fn keep_if(&mut self, sound: bool, last: bool) {
        let written = self.pace.as_ref().is_none_or(|pace| pace.is_written());
        match &mut self.session.link {
            Some(link) if sound && written => link.keep(last),
            Some(_) | None => self.session.hang_up().await,
        }
    }

    /// Sends a request and waits for the answer's head, on a new connection if the kept one is dead.
    async fn ask(&mut self, plan: &Plan) -> Result<Response<Inbound>, CallError> {
        if self.session.is_over() {
            self.session.hang_up().await;
        } else if self.session.is_dead().await {
            self.session.hang_up().await;
            self.retries += 1;
        }
        for _ in 0..=MAX_RESENT {
            if self.session.link.is_none() {
                self.redial().await?;
            }
            match self.exchange(plan).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::Unsent(sending)) => {
                    self.sending = sending;
                    self.retries += 1;
                    self.session.hang_up().await;
                }
            }
        }
        Err(self.broken("the service takes no request"))
    }

    async fn redial(&mut self) -> Result<(), CallError> {
        let session = &mut *self.session;
        let limit = session.target.limits.connect;
        let dial = session.table.link(&session.fence, Need::Call);
        let dialed = tokio::time::timeout(limit, dial).await.unwrap_or_else(|_| {
            Err(DialError {
                kind: DialErrorKind::Transient,
                message: format!("no connection within {limit:?}"),
            })
        });
        match dialed {
            Ok(link) => session.link = Some(link),
            // A redirect's first half was carried out before.
            Err(error) if self.handed_over() => return Err(self.broken(&error.message)),
            Err(error) => return Err(CallError::Dial(error)),
        }
        Ok(())
    }

    async fn exchange(&mut self, plan: &Plan) -> Result<Response<Inbound>, Failed> {
        let sent_before = self.session.fence.sent();
        let payload = self.payload(plan);
        let session = &mut *self.session;
        let Some(link) = &mut session.link else {
            return Err(Failed::For(self.broken("there is no connection")));
        };
        let (kept, pace) = (link.was_kept(), link.pace(&session.target.clock));
        pace.begin();
        self.pace = Some(Arc::clone(&pace));
        let mut request = plan.request(&session.target, link.secret_headers(), payload);
        request.body_mut().attach(&pace);
        let limits = &session.target.limits;
        let outcome = tokio::select! {
            biased;
            outcome = link.send(request, &session.fence, &pace) => outcome,
            overdue = pace.overdue(limits) => return Err(Failed::For(timeout(overdue))),
        };
        match outcome {
            Ok(answer) => {
                pace.answered();
                Ok(answer)
            }
            Err(fault) => {
                let unsent = kept && self.session.fence.sent() == sent_before;
                Err(self.failed(fault, &pace, unsent))
            }
        }
    }

    fn payload(&mut self, plan: &Plan) -> Payload {
        match std::mem::replace(&mut self.sending, Sending::Spent) {
            Sending::Stream(reader) => Payload::stream(reader, plan.promised_length()),
            Sending::Whole => {
                self.sending = Sending::Whole;
                Payload::whole(plan.body.clone())
            }
            Sending::Spent => Payload::whole(plan.body.clone()),
        }
    }

    /// What to make of a request that got no answer. It may be sent again only if not one byte of it was handed over
    /// on a connection that was kept, which the service had closed before, or if the service proved that it did nothing
    /// of it.
    fn failed(&mut self, fault: Fault, pace: &Pace, unsent: bool) -> Failed {
        if fault.senseless && !self.handed_over() {
            return Failed::For(CallError::Invalid(Faults::one("params", fault.message)));
        }
        if fault.refused && !self.answered {
            // What was handed over of it counts for nothing.
            self.sent_before = self.session.fence.sent();
        }
        let sending = match (&self.sending, fault.payload) {
            (Sending::Whole, _) => Some(Sending::Whole),
            (_, Some(payload)) => payload.into_reader().map(Sending::Stream),
            (_, None) => None,
        };
        let again = (unsent || fault.refused) && !fault.senseless && self.session.fence.is_open();
        match (pace.upload(), sending) {
            (Upload::Cut, _) => Failed::For(CallError::Input),
            (Upload::WrongLength, _) => {
                Failed::For(self.broken("the body has not the length that its header promised"))
            }
            (_, Some(sending)) if again => Failed::Unsent(sending),
            _ => Failed::For(self.broken(&fault.message)),
        }
    }

    /// Bounds what comes after the head: a body still being written must go on.
    async fn paced<T>(&mut self, work: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        let session = &mut *self.session;
        let (Some(link), Some(pace)) = (&mut session.link, &self.pace) else {
            return work.await;
        };
        tokio::select! {
            biased;
            done = work => done,
            never = link.sending() => match never {},
            overdue = pace.overdue(&session.target.limits) => Err(timeout(overdue)),
        }
    }

    fn handed_over(&self) -> bool {
        self.session.fence.sent() != self.sent_before
    }

    fn broken(&self, message: &str) -> CallError {
        CallError::Broken {
            message: message.to_owned(),
            executed: (!self.handed_over()).then_some(Executed::No),
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let (true, Some(link)) = (self.session.in_call, &mut self.session.link) {
            link.cut();
        }
    }
}

const fn timeout(overdue: Overdue) -> CallError {
    CallError::Timeout {
        what: overdue.what,
        limit: overdue.limit,
    }
}

impl Session for HttpSession {
    fn endpoint(&self) -> &Arc<str> {
        &self.target.name
    }

    fn execute<'a>(
        &'a mut self,
        operation: Operation,
        sink: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>> {
        self.run(operation, sink).boxed()
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.settled().boxed()
    }

    /// Nothing of a holder is kept between requests. A call that was cut off leaves a connection to be closed.
    fn cleanliness(&self) -> Cleanliness {
        if self.in_call {
            Cleanliness::Dirty
        } else {
            Cleanliness::Clean
        }
    }

    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.settled().boxed()
    }

    /// Sends nothing: a request could cost the service something.
    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        async {
            let tls = self.target.tls.is_some();
            let lost = match &mut self.link {
                Some(link) => link.is_lost(tls).await,
                None => false,
            };
            if lost {
                Err(SessionLost::because("the service closed the connection"))
            } else {
                Ok(())
            }
        }
        .boxed()
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            if self.in_call {
                self.hang_up().await;
            } else if let Some(link) = self.link.take() {
                link.close().await;
            }
        }
        .boxed()
    }
}
