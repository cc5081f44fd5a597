//! One slot to the service: at most one connection at a time, dialed anew within the slot when the service has closed
//! it or a call was cut off.

use std::{error::Error, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1::SendRequest};

use super::{
    answer,
    connection::Connection,
    definition::Target,
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
    error::Executed,
};

#[derive(Debug)]
pub(super) struct HttpSession {
    target: Arc<Target>,
    fence: Arc<Fence>,
    connection: Option<Connection>,
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
}

/// Why an exchange came to nothing.
enum Failed {
    /// It is certain that nothing of it was handed over, and it was the first on a kept connection.
    Unsent(Sending),
    /// For good.
    For(CallError),
}

impl HttpSession {
    /// Opens a session with its first connection.
    pub(super) async fn dial(target: Arc<Target>, fence: Arc<Fence>) -> Result<Self, DialError> {
        let connection = Connection::dial(Arc::clone(&target), Arc::clone(&fence)).await?;
        Ok(Self {
            target,
            fence,
            connection: Some(connection),
            in_call: false,
        })
    }

    async fn run(&mut self, operation: Operation, sink: &mut Sink) -> Result<Completion, CallError> {
        let plan = Plan::read(&operation, &self.target).map_err(CallError::Invalid)?;
        let mut call = Call::begin(self, Sending::of(operation.body));
        let completion = call.carry_out(plan, sink).await?;
        call.session.in_call = false;
        Ok(completion)
    }

    /// Removes the connection, and returns when its socket is gone: a slot never has two.
    async fn hang_up(&mut self) {
        // It stays in its place until it is gone, so that dropping this future forgets nothing.
        if let Some(connection) = &mut self.connection {
            connection.hang_up().await;
        }
        self.connection = None;
    }

    async fn settled(&mut self) -> Result<(), SessionLost> {
        if self.in_call {
            self.hang_up().await;
            self.in_call = false;
        }
        Ok(())
    }

    /// Whether the connection ended as the service had announced, which is no loss.
    fn is_over(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.last)
    }

    async fn is_dead(&mut self) -> bool {
        let tls = self.target.tls.is_some();
        match &mut self.connection {
            Some(connection) => connection.is_dead(tls).await,
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
        }
    }

    /// One exchange, and one more for each redirect that is followed.
    async fn carry_out(&mut self, mut plan: Plan, sink: &mut Sink) -> Result<Completion, CallError> {
        let streamed = matches!(self.sending, Sending::Stream(_));
        loop {
            let answer = self.ask(&plan).await?;
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
    /// its answer has ended is not: the rest would go out in the time of whoever comes next. One that the service has announced to close may say its goodbye.
    async fn keep_if(&mut self, sound: bool, last: bool) {
        match &mut self.session.connection {
            Some(connection) if sound && connection.pace.is_written() => connection.last = last,
            Some(_) | None => self.session.hang_up().await,
        }
    }

    /// Sends a request and waits for the answer's head, on a new connection if the kept one is dead.
    async fn ask(&mut self, plan: &Plan) -> Result<Response<Incoming>, CallError> {
        if self.session.is_over() {
            self.session.hang_up().await;
        } else if self.session.is_dead().await {
            self.session.hang_up().await;
            self.retries += 1;
        }
        if self.session.connection.is_none() {
            self.redial().await?;
        }
        match self.exchange(plan).await {
            Ok(answer) => Ok(answer),
            Err(Failed::For(error)) => Err(error),
            Err(Failed::Unsent(sending)) => {
                self.sending = sending;
                self.retries += 1;
                self.session.hang_up().await;
                self.redial().await?;
                self.exchange(plan).await.map_err(|failed| match failed {
                    Failed::For(error) => error,
                    Failed::Unsent(_) => self.broken("the service closed the connection at once"),
                })
            }
        }
    }

    async fn redial(&mut self) -> Result<(), CallError> {
        let session = &mut *self.session;
        let limit = session.target.limits.connect;
        let dial = Connection::dial(Arc::clone(&session.target), Arc::clone(&session.fence));
        let dialed = tokio::time::timeout(limit, dial).await.unwrap_or_else(|_| {
            Err(DialError {
                kind: DialErrorKind::Transient,
                message: format!("no connection within {limit:?}"),
            })
        });
        match dialed {
            Ok(connection) => session.connection = Some(connection),
            // A redirect's first half was carried out before.
            Err(error) if self.handed_over() => return Err(self.broken(&error.message)),
            Err(error) => return Err(CallError::Dial(error)),
        }
        Ok(())
    }

    async fn exchange(&mut self, plan: &Plan) -> Result<Response<Incoming>, Failed> {
        let sent_before = self.session.fence.sent();
        let payload = self.payload(plan);
        let Some(connection) = &mut self.session.connection else {
            return Err(Failed::For(self.broken("there is no connection")));
        };
        let pace = Arc::clone(&connection.pace);
        let kept = std::mem::replace(&mut connection.used, true);
        pace.begin();
        let mut request = plan.request(&self.session.target, &connection.secret_headers, payload);
        request.body_mut().attach(&pace);
        let limits = &self.session.target.limits;
        let outcome = tokio::select! {
            biased;
            outcome = send(&mut connection.sender, request) => outcome,
            overdue = pace.overdue(limits) => return Err(Failed::For(timeout(overdue))),
        };
        match outcome {
            Ok(answer) => {
                pace.answered();
                Ok(answer)
            }
            Err(fault) => Err(self.failed(fault, &pace, kept && self.session.fence.sent() == sent_before)),
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

    /// What to make of a request that got no answer. It may be sent again only if it came first on a kept connection
    /// and not one byte of it was handed over: then the service had closed the connection before.
    fn failed(&mut self, fault: Fault, pace: &Pace, unsent: bool) -> Failed {
        let sending = match (&self.sending, fault.request) {
            (Sending::Whole, _) => Some(Sending::Whole),
            (_, Some(request)) => request.into_body().into_reader().map(Sending::Stream),
            (_, None) => None,
        };
        match (pace.upload(), sending) {
            (Upload::Cut, _) => Failed::For(CallError::Input),
            (Upload::WrongLength, _) => {
                Failed::For(self.broken("the body has not the length that its header promised"))
            }
            (_, Some(sending)) if unsent && self.session.fence.is_open() => Failed::Unsent(sending),
            _ => Failed::For(self.broken(&fault.message)),
        }
    }

    /// Bounds what comes after the head: a body still being written must go on.
    async fn paced<T>(&self, work: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        let Some(connection) = &self.session.connection else {
            return work.await;
        };
        tokio::select! {
            biased;
            done = work => done,
            overdue = connection.pace.overdue(&self.session.target.limits) => Err(timeout(overdue)),
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
        if let (true, Some(connection)) = (self.session.in_call, &self.session.connection) {
            connection.cut();
        }
    }
}

/// A request without an answer.
struct Fault {
    message: String,
    /// The request, if hyper had not begun with it.
    request: Option<Request<Payload>>,
}

async fn send(
    sender: &mut SendRequest<Payload>,
    request: Request<Payload>,
) -> Result<Response<Incoming>, Fault> {
    if let Err(error) = sender.ready().await {
        return Err(Fault {
            message: causes(&error),
            request: Some(request),
        });
    }
    sender.try_send_request(request).await.map_err(|mut fault| Fault {
        request: fault.take_message(),
        message: causes(fault.error()),
    })
}

const fn timeout(overdue: Overdue) -> CallError {
    CallError::Timeout {
        what: overdue.what,
        limit: overdue.limit,
    }
}

/// An error with what lies beneath it, for people.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
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
            if !self.is_over() && self.is_dead().await {
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
            } else if let Some(connection) = self.connection.take() {
                connection.close().await;
            }
        }
        .boxed()
    }
}
