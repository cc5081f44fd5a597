//! The driver under test: sessions at it, and calls on them, each answer within the limit.

use std::{sync::Arc, time::Duration};

use prost::Message;

use super::{super::exit::Exit, asked::Asked, report::Took};
use crate::{
    backend::{
        Fence,
        plugin::{Access, Connection, Exchange, Fault},
    },
    clock::Clock,
    proto::plugin::{
        Answer, Call, CancelRequest, CancelResponse, CheckRequest, CheckResponse, ConnectRequest,
        ConnectResponse, DescribeRequest, DescribeResponse, DisconnectRequest, DisconnectResponse, Error,
        Example, ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, ExecuteStreamResponse, Operation,
        ResetRequest, ResetResponse, answer::Output, example::Purpose, execute_response::Outcome,
        execute_stream_request::Message as Sent, execute_stream_response::Event,
    },
};

/// A driver, and what it has said of itself.
pub(super) struct Subject {
    access: Access,
    connect: ConnectRequest,
    given: Vec<Example>,
    clock: Clock,
    pub(super) limit: Duration,
    pub(super) described: DescribeResponse,
}

/// A session at it, over a connection of its own, as the broker has them.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) id: String,
    calls: u64,
}

/// A call that was sent.
pub(super) struct Sending {
    pub(super) exchange: Exchange,
    pub(super) call_id: u64,
    pub(super) streaming: bool,
}

/// How a call ended, and everything it said.
pub(super) enum End {
    Answer(Vec<u8>),
    Error(Error),
}

impl Subject {
    pub(super) fn new(asked: &Asked, clock: &Clock) -> Result<Self, Exit> {
        Ok(Self {
            access: asked.access()?,
            connect: asked.connect()?,
            given: asked.examples(),
            clock: clock.clone(),
            limit: asked.limit(),
            described: DescribeResponse::default(),
        })
    }

    /// Examples for a purpose: those given, else those that the driver names.
    fn examples(&self, purpose: Purpose) -> Vec<Example> {
        let own = |example: &&Example| {
            let told = example.purpose();
            told == purpose || (purpose == Purpose::Run && told == Purpose::Unspecified)
        };
        let given: Vec<_> = self.given.iter().filter(own).cloned().collect();
        if given.is_empty() {
            self.described.examples.iter().filter(own).cloned().collect()
        } else {
            given
        }
    }

    pub(super) fn runs(&self) -> Vec<Example> {
        self.examples(Purpose::Run)
    }

    pub(super) fn example(&self, purpose: Purpose) -> Option<Example> {
        self.examples(purpose).into_iter().next()
    }

    fn operation(&self, name: &str) -> Option<&Operation> {
        self.described
            .operations
            .iter()
            .find(|operation| operation.name == name)
    }

    /// Waits for an answer, so long as the limit is.
    pub(super) async fn within<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Fault>, String> {
        tokio::time::timeout(self.limit, work)
            .await
            .map_err(|_| format!("{what} was not answered within {:?}", self.limit))
    }

    /// As [`Subject::within`], where only OK will do.
    pub(super) async fn ask<Q: Message, A: Message + Default>(
        &self,
        connection: &mut Connection,
        method: &str,
        question: &Q,
    ) -> Result<A, String> {
        let answer = self.within(method, connection.ask(method, question)).await?;
        answer.map_err(|fault| format!("{method}: {fault}"))
    }

    /// A connection of its own.
    pub(super) async fn reach(&self) -> Result<Connection, String> {
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let reached = tokio::time::timeout(self.limit, self.access.connect(fence)).await;
        let reached = reached.map_err(|_| format!("no connection within {:?}", self.limit))?;
        reached.map_err(|error| format!("no connection: {error}"))
    }

    pub(super) async fn describe(&self) -> Result<DescribeResponse, String> {
        let mut connection = self.reach().await?;
        self.ask(&mut connection, "Describe", &DescribeRequest {}).await
    }

    /// Connect's plain answer.
    pub(super) async fn try_connect(&self) -> Result<(Connection, Result<ConnectResponse, Fault>), String> {
        let mut connection = self.reach().await?;
        let answer = self
            .within("Connect", connection.ask("Connect", &self.connect))
            .await?;
        Ok((connection, answer))
    }

    /// A session.
    pub(super) async fn session(&self) -> Result<Session, String> {
        let (connection, answer) = self.try_connect().await?;
        let answer = answer.map_err(|fault| format!("Connect: {fault}"))?;
        self.recognize("Connect", &answer.instance_id)?;
        Ok(Session {
            connection,
            id: answer.session_id,
            calls: 0,
        })
    }

    /// Every answer names the instance that Describe named.
    pub(super) fn recognize(&self, method: &str, instance: &str) -> Result<(), String> {
        if instance == self.described.instance_id {
            return Ok(());
        }
        Err(format!(
            "{method} answered with the instance_id `{instance}`, Describe with `{}`: one run of a driver has one, or \
             its sessions count as lost",
            self.described.instance_id
        ))
    }

    pub(super) async fn check(&self, session: &mut Session) -> Result<(), String> {
        let request = CheckRequest {
            session_id: session.id.clone(),
        };
        let answer: CheckResponse = self.ask(&mut session.connection, "Check", &request).await?;
        self.recognize("Check", &answer.instance_id)
    }

    /// Cancels a call, and says how long that took.
    pub(super) async fn cancel(&self, session: &mut Session, call_id: u64) -> Result<Took, String> {
        let started = self.clock.now();
        let request = CancelRequest {
            session_id: session.id.clone(),
            call_id,
        };
        let answer: Result<CancelResponse, String> =
            self.ask(&mut session.connection, "Cancel", &request).await;
        answer
            .map(|_| Took(self.clock.now().since(started)))
            .map_err(|why| format!("{why}; the protocol has it answer OK once the call has ended"))
    }

    pub(super) async fn reset(&self, session: &mut Session) -> Result<ResetResponse, String> {
        let request = ResetRequest {
            session_id: session.id.clone(),
        };
        let answer: ResetResponse = self.ask(&mut session.connection, "Reset", &request).await?;
        self.recognize("Reset", &answer.instance_id)?;
        Ok(answer)
    }

    pub(super) async fn disconnect(&self, connection: &mut Connection, id: &str) -> Result<(), String> {
        let request = DisconnectRequest {
            session_id: id.to_owned(),
        };
        let answer: Result<DisconnectResponse, String> = self.ask(connection, "Disconnect", &request).await;
        answer
            .map(|_| ())
            .map_err(|why| format!("{why}; the protocol has it end the session's call and answer OK"))
    }

    /// Sends a call, with the example's input.
    pub(super) async fn send(&self, session: &mut Session, example: &Example) -> Result<Sending, String> {
        session.calls += 1;
        self.send_numbered(session, example, session.calls).await
    }

    /// Sends a call with a number of its own.
    pub(super) async fn send_numbered(
        &self,
        session: &mut Session,
        example: &Example,
        call_id: u64,
    ) -> Result<Sending, String> {
        let streaming = self
            .operation(&example.operation)
            .is_some_and(|operation| operation.streaming);
        let params = example.params_json.as_str();
        let call = Call {
            session_id: session.id.clone(),
            call_id,
            operation: example.operation.clone(),
            params_json: if params.is_empty() { "{}" } else { params }.to_owned(),
            ..Call::default()
        };
        let method = if streaming { "ExecuteStream" } else { "Execute" };
        let sent = async {
            let mut exchange = session.connection.begin(method).await?;
            if streaming {
                let messages =
                    std::iter::once(Sent::Call(call)).chain(example.input.iter().cloned().map(Sent::Input));
                for message in messages {
                    let message = Some(message);
                    exchange
                        .sending
                        .send(&ExecuteStreamRequest { message }, false)
                        .await?;
                }
                exchange.sending.end()?;
            } else {
                exchange
                    .sending
                    .send(&ExecuteRequest { call: Some(call) }, true)
                    .await?;
            }
            Ok(exchange)
        };
        let exchange = self
            .within(method, sent)
            .await?
            .map_err(|fault| format!("{method}: {fault}"))?;
        Ok(Sending {
            exchange,
            call_id,
            streaming,
        })
    }

    /// Waits for a call's end.
    pub(super) async fn end(&self, sending: Sending) -> Result<Result<End, Fault>, String> {
        let mut sending = sending;
        let ended = self.within("the call", collect(&mut sending)).await?;
        let (said, response) = match ended {
            Ok(ended) => ended,
            Err(fault) => return Ok(Err(fault)),
        };
        self.recognize("a call", &response.instance_id)?;
        match response.outcome {
            Some(Outcome::Answer(answer)) => Ok(Ok(End::Answer([said, output(answer)].concat()))),
            Some(Outcome::Error(error)) => Ok(Ok(End::Error(error))),
            None => Err("a call was answered with neither `answer` nor `error`".to_owned()),
        }
    }

    /// Makes a call that has to end well, and gives what it said.
    pub(super) async fn run(&self, session: &mut Session, example: &Example) -> Result<Vec<u8>, String> {
        let name = &example.operation;
        let sending = self.send(session, example).await?;
        match self.end(sending).await? {
            Ok(End::Answer(said)) => Ok(said),
            Ok(End::Error(error)) => Err(format!("{name}: the error {} {}", error.code, error.message)),
            Err(fault) => Err(format!("{name}: {fault}")),
        }
    }
}

/// Everything that a call says, to its end.
async fn collect(sending: &mut Sending) -> Result<(Vec<u8>, ExecuteResponse), Fault> {
    let receiving = &mut sending.exchange.receiving;
    let mut said = Vec::new();
    let mut end = None;
    if sending.streaming {
        while let Some(ExecuteStreamResponse { event }) = receiving.next().await? {
            if end.is_some() {
                return Err(Fault::Protocol("sent an event after `end`".to_owned()));
            }
            match event {
                Some(Event::End(response)) => end = Some(response),
                Some(Event::Data(bytes)) => said.extend_from_slice(&bytes),
                Some(Event::Text(text) | Event::Json(text)) => said.extend_from_slice(text.as_bytes()),
                Some(Event::Progress(_) | Event::Usage(_)) => {}
                None => return Err(Fault::Protocol("sent an event without its kind".to_owned())),
            }
        }
    } else {
        end = receiving.next().await?;
        if end.is_some() && receiving.next::<ExecuteResponse>().await?.is_some() {
            return Err(Fault::Protocol("answered a call twice".to_owned()));
        }
    }
    let missing =
        || Fault::Protocol("ended a call with OK and without its end: `end` comes last, and once".to_owned());
    Ok((said, end.ok_or_else(missing)?))
}

fn output(answer: Answer) -> Vec<u8> {
    match answer.output {
        Some(Output::Json(text)) => text.into_bytes(),
        Some(Output::Body(bytes)) => bytes.to_vec(),
        None => Vec::new(),
    }
}
