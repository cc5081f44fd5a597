//! `BrokerService` on the wire.

#[cfg(test)]
mod tests;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::{
    answer_stream::AnswerStream,
    connection::WaitPermit,
    decode::{self, Caller, Target},
    delivery::Unseen,
    encode,
    limits::MAX_WAITING,
    status::status,
};
use crate::{
    broker::{self, AcquireLease, Broker, CallStream, Place, QUEUED_CALLS, RequestId},
    clock::Clock,
    error::{Error, Executed, Failure, Faults},
    proto::{self, broker_service_server::BrokerService},
};

/// Tokens in one keepalive message at most.
const TOKENS: usize = 500;

/// Time for the message that opens a session: a caller that sends none must not keep a stream for ever.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

/// The data plane on the wire.
#[derive(Clone, Debug)]
pub struct BrokerApi {
    broker: Arc<Broker>,
}

impl BrokerApi {
    /// The data plane of a broker.
    #[must_use]
    pub const fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }

    async fn acquire(
        &self,
        request: proto::AcquireLeaseRequest,
        caller: &Caller,
    ) -> Result<Response<proto::AcquireLeaseResponse>, Failure> {
        let mut faults = Faults::default();
        decode::required(&request.pool, "pool", &mut faults);
        let waiting = caller.waiting(request.options.as_ref(), "options", &mut faults);
        let range = Duration::ZERO..=Duration::MAX;
        let ttl = decode::duration(request.ttl.as_ref(), "ttl", range, &mut faults);
        let id = decode::request_id(&request.request_id, &mut faults);
        faults.into_result(())?;
        let repeatable = id.map(|id| RequestId {
            id,
            fingerprint: decode::acquire_fingerprint(&request),
        });
        let _permit = permit(caller)?;
        let granted = self
            .broker
            .acquire_lease(AcquireLease {
                pool: request.pool,
                waiting,
                ttl,
                request: repeatable,
            })
            .await?;
        let clock = self.broker.clock();
        let mut response = Response::new(proto::AcquireLeaseResponse {
            lease: Some(encode::lease(&granted.leased, granted.status, false, clock)),
            lease_token: self.broker.token(granted.leased.number),
        });
        if id.is_none() {
            // Nobody could ask for this lease again: if the answer is lost, the lease must not be.
            let unseen = Unseen::new(&self.broker, granted.leased.number);
            response.extensions_mut().insert(unseen);
        }
        Ok(response)
    }

    async fn run(&self, request: proto::ExecuteRequest, caller: &Caller) -> Result<proto::Result, Failure> {
        let answer = match decode::execute(request, caller)? {
            Target::Pool(mut call) => {
                call.place = place(caller)?;
                self.broker.execute_on_pool(call).await?
            }
            Target::Lease(call) => self.broker.execute_on_lease(call).await?,
        };
        Ok(encode::result(answer))
    }

    async fn stream(
        &self,
        request: proto::ExecuteStreamRequest,
        caller: &Caller,
    ) -> Result<AnswerStream, Failure> {
        let Some(request) = request.request else {
            let faults = Faults::one("request", "is required");
            return Err(Failure::from(Error::Invalid { faults }).executed(Executed::No));
        };
        let started = self.start(request, caller).await;
        let stream = started.map_err(|failure| failure.below("request"))?;
        Ok(AnswerStream::new(stream))
    }

    async fn start(&self, request: proto::ExecuteRequest, caller: &Caller) -> Result<CallStream, Failure> {
        match decode::execute(request, caller)? {
            Target::Pool(mut call) => {
                call.place = place(caller)?;
                self.broker.stream_on_pool(call).await
            }
            Target::Lease(call) => self.broker.stream_on_lease(call).await,
        }
    }

    async fn open(&self, open: proto::Open, caller: &Caller, inbound: Inbound) -> Result<Outbound, Failure> {
        let mut faults = Faults::default();
        decode::required(&open.pool, "open.pool", &mut faults);
        let waiting = caller.waiting(open.options.as_ref(), "open.options", &mut faults);
        faults.into_result(())?;
        let (out, outbound) = broker::outbox();
        let (opened, session) = {
            let _permit = permit(caller)?;
            let opened = self.broker.open_session(&open.pool, &waiting, out).await;
            opened.map_err(|failure| failure.below("open"))?
        };
        let lease = encode::lease(&opened.leased, opened.status, true, self.broker.clock());
        let first = proto::OpenSessionResponse {
            call_id: 0,
            message: Some(proto::open_session_response::Message::Opened(proto::Opened {
                lease: Some(lease),
                max_queued_calls: u32::try_from(QUEUED_CALLS).unwrap_or(u32::MAX),
                input_credit: opened.input_credit,
            })),
        };
        let inbound = inbound.map(decode::session_message);
        tokio::spawn(session.drive(inbound));
        let rest = outbound.map(|(id, output)| Ok(encode::session_output(id, output)));
        let first = futures_util::stream::once(std::future::ready(Ok(first)));
        Ok(Box::pin(first.chain(rest)))
    }
}

type Inbound = Streaming<proto::OpenSessionRequest>;
type Outbound = Pin<Box<dyn Stream<Item = Result<proto::OpenSessionResponse, Status>> + Send>>;

/// The right to wait on this connection. Without the limit, waiting requests could use up the streams that the
/// release they wait for would need.
fn permit(caller: &Caller) -> Result<Option<WaitPermit>, Failure> {
    let Some(connection) = &caller.connection else {
        return Ok(None);
    };
    let permit = connection.try_wait();
    permit.map(Some).ok_or_else(|| {
        let limit = MAX_WAITING;
        Failure::from(Error::QueueFull { limit }).executed(Executed::No)
    })
}

/// The same for a one-shot, which waits for its session only.
fn place(caller: &Caller) -> Result<Option<Place>, Failure> {
    Ok(permit(caller)?.map(|permit| Box::new(permit) as Place))
}

/// The message that opens a session.
async fn first_message<S>(inbound: &mut S, clock: &Clock) -> Result<proto::Open, Failure>
where
    S: Stream<Item = Result<proto::OpenSessionRequest, Status>> + Unpin,
{
    let message = tokio::select! {
        biased;
        message = inbound.next() => message,
        () = clock.sleep_until(clock.now() + FIRST_MESSAGE) => {
            let message = format!("must come within {FIRST_MESSAGE:?} of the call");
            return Err(decode::not_sent("open", message));
        }
    };
    match message {
        Some(Ok(proto::OpenSessionRequest {
            message: Some(proto::open_session_request::Message::Open(open)),
        })) => Ok(open),
        Some(Err(status)) if decode::is_unreadable(&status) => Err(decode::unreadable(&status)),
        Some(Err(_)) => Err(Failure::from(Error::Cancelled).executed(Executed::No)),
        Some(Ok(_)) | None => Err(decode::not_sent("open", "must be the first message")),
    }
}

fn wire(failure: Failure) -> Status {
    status(&failure)
}

#[tonic::async_trait]
impl BrokerService for BrokerApi {
    type KeepAliveStream = Pin<Box<dyn Stream<Item = Result<proto::KeepAliveResponse, Status>> + Send>>;
    type ExecuteStreamStream = AnswerStream;
    type OpenSessionStream = Outbound;

    async fn acquire_lease(
        &self,
        request: Request<proto::AcquireLeaseRequest>,
    ) -> Result<Response<proto::AcquireLeaseResponse>, Status> {
        let caller = Caller::of(&request);
        self.acquire(request.into_inner(), &caller).await.map_err(wire)
    }

    async fn renew_lease(
        &self,
        request: Request<proto::RenewLeaseRequest>,
    ) -> Result<Response<proto::RenewLeaseResponse>, Status> {
        let request = request.into_inner();
        let mut faults = Faults::default();
        decode::required(&request.lease_token, "lease_token", &mut faults);
        let range = Duration::ZERO..=Duration::MAX;
        let ttl = decode::duration(request.ttl.as_ref(), "ttl", range, &mut faults);
        faults.into_result(()).map_err(|error| wire(error.into()))?;
        let renewed = self.broker.renew(&request.lease_token, ttl);
        Ok(Response::new(proto::RenewLeaseResponse {
            status: Some(encode::lease_status(renewed)),
        }))
    }

    async fn keep_alive(
        &self,
        request: Request<Streaming<proto::KeepAliveRequest>>,
    ) -> Result<Response<Self::KeepAliveStream>, Status> {
        let broker = Arc::clone(&self.broker);
        let statuses = request.into_inner().map(move |message| {
            let tokens = message?.lease_tokens;
            if tokens.len() > TOKENS {
                let faults = Faults::one("lease_tokens", format!("at most {TOKENS} in one message"));
                return Err(wire(Error::Invalid { faults }.into()));
            }
            let statuses = tokens
                .iter()
                .map(|token| encode::lease_status(broker.renew(token, None)));
            Ok(proto::KeepAliveResponse {
                statuses: statuses.collect(),
            })
        });
        Ok(Response::new(Box::pin(statuses)))
    }

    async fn release_lease(
        &self,
        request: Request<proto::ReleaseLeaseRequest>,
    ) -> Result<Response<proto::ReleaseLeaseResponse>, Status> {
        let request = request.into_inner();
        let mut faults = Faults::default();
        decode::required(&request.lease_token, "lease_token", &mut faults);
        faults.into_result(()).map_err(|error| wire(error.into()))?;
        let end = self.broker.release(&request.lease_token, request.discard);
        let mut response = proto::ReleaseLeaseResponse::default();
        response.set_ended(encode::lease_end(end));
        Ok(Response::new(response))
    }

    async fn execute(
        &self,
        request: Request<proto::ExecuteRequest>,
    ) -> Result<Response<proto::ExecuteResponse>, Status> {
        let caller = Caller::of(&request);
        let result = self.run(request.into_inner(), &caller).await.map_err(wire)?;
        Ok(Response::new(proto::ExecuteResponse { result: Some(result) }))
    }

    async fn execute_stream(
        &self,
        request: Request<proto::ExecuteStreamRequest>,
    ) -> Result<Response<Self::ExecuteStreamStream>, Status> {
        let caller = Caller::of(&request);
        let stream = self.stream(request.into_inner(), &caller).await.map_err(wire)?;
        Ok(Response::new(stream))
    }

    async fn open_session(
        &self,
        request: Request<Streaming<proto::OpenSessionRequest>>,
    ) -> Result<Response<Self::OpenSessionStream>, Status> {
        let caller = Caller::of(&request);
        let mut inbound = request.into_inner();
        let open = first_message(&mut inbound, self.broker.clock())
            .await
            .map_err(wire)?;
        let outbound = self.open(open, &caller, inbound).await.map_err(wire)?;
        Ok(Response::new(outbound))
    }
}
