//! One session at the driver under test, and calls on it.

use std::time::Duration;

use bytes::BytesMut;
use prost::Message;

use super::{report::Took, subject::Subject};
use crate::{
    backend::plugin::{Connection, Course, Exchange, Fault, MAX_MESSAGE, frame},
    proto::plugin::{
        Answer, Call, CancelRequest, CancelResponse, CheckRequest, CheckResponse, Error, Example,
        ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, ExecuteStreamResponse, ResetRequest,
        ResetResponse, answer::Output, execute_response::Outcome, execute_stream_request::Message as Sent,
        execute_stream_response::Event,
    },
};

/// A session, over a connection of its own.
pub(super) struct Session<'a> {
    subject: &'a Subject,
    pub(super) connection: Connection,
    pub(super) id: String,
    calls: u64,
}

/// A call, which is sent while its answer is awaited.
pub(super) struct Sending {
    exchange: Exchange,
    /// What is still to be sent, as gRPC frames it.
    left: BytesMut,
    pub(super) call_id: u64,
    pub(super) streaming: bool,
}

impl Sending {
    /// The driver's next message; None when the call has ended with OK. What is left of the call and its input is sent
    /// meanwhile: a driver may answer before it has taken all, or take no more before its answer is read. The future may
    /// be dropped and called again.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Fault> {
        let Exchange { sending, receiving } = &mut self.exchange;
        if sending.has_ended() {
            return receiving.next().await;
        }
        let sent = tokio::select! {
            biased;
            next = receiving.next() => return next,
            sent = sending.pour(&mut self.left, true) => sent,
        };
        // What the driver says tells more than the break.
        match (receiving.next().await, sent) {
            (Err(Fault::Broken { .. }), Err(fault)) => Err(fault),
            (next, _) => next,
        }
    }
}

/// How a call ended, and what it said.
pub(super) enum End {
    Answer(Said),
    Error(Error),
}

/// What a call said: its beginning, since a stream may say more than anyone wants to keep, and its length.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    beginning: Vec<u8>,
    pub(super) bytes: usize,
}

impl Said {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        let room = MAX_MESSAGE.saturating_sub(self.beginning.len()).min(bytes.len());
        self.beginning
            .extend_from_slice(bytes.get(..room).unwrap_or_default());
    }
}

impl<'a> Session<'a> {
    pub(super) const fn new(subject: &'a Subject, connection: Connection, id: String) -> Self {
        Self {
            subject,
            connection,
            id,
            calls: 0,
        }
    }

    pub(super) async fn check(&mut self) -> Result<(), String> {
        let request = CheckRequest {
            session_id: self.id.clone(),
        };
        let asked = self.subject.ask(&mut self.connection, "Check", &request);
        let answer: CheckResponse = asked.await?;
        self.subject.recognize("Check", &answer.instance_id)
    }

    /// Asks whether a call has stopped, and says how long that took.
    pub(super) async fn cancel(&mut self, call_id: u64) -> Result<Took, String> {
        let started = self.subject.now();
        let request = CancelRequest {
            session_id: self.id.clone(),
            call_id,
        };
        let asked = self.subject.ask(&mut self.connection, "Cancel", &request);
        let answer: Result<CancelResponse, String> = asked.await;
        answer
            .map(|_| Took(self.subject.now().since(started)))
            .map_err(|why| format!("{why}; the protocol has it answer OK once the call has stopped"))
    }

    pub(super) async fn reset(&mut self) -> Result<ResetResponse, String> {
        let request = ResetRequest {
            session_id: self.id.clone(),
        };
        let asked = self.subject.ask(&mut self.connection, "Reset", &request);
        let answer: ResetResponse = asked.await?;
        self.subject.recognize("Reset", &answer.instance_id)?;
        Ok(answer)
    }

    /// Begins a call, with the example's input.
    pub(super) async fn send(&mut self, example: &Example) -> Result<Sending, String> {
        self.send_numbered(example, self.calls + 1).await
    }

    /// Begins a call with a number of its own.
    pub(super) async fn send_numbered(&mut self, example: &Example, call_id: u64) -> Result<Sending, String> {
        self.calls = call_id;
        let described = self.subject.operation(&example.operation);
        let streaming = described.is_some_and(|operation| operation.streaming);
        let params = example.params_json.as_str();
        let call = Call {
            session_id: self.id.clone(),
            call_id,
            operation: example.operation.clone(),
            params_json: if params.is_empty() { "{}" } else { params }.to_owned(),
            ..Call::default()
        };
        let method = if streaming { "ExecuteStream" } else { "Execute" };
        let left = if streaming {
            frames(call, &example.input)
        } else {
            frame(&ExecuteRequest { call: Some(call) })
        };
        let begun = async {
            let left = left?;
            Ok((self.connection.begin(method).await?, left))
        };
        let begun = self.subject.within(method, begun).await?;
        let (exchange, left) = begun.map_err(|fault: Fault| format!("{method}: {fault}"))?;
        Ok(Sending {
            exchange,
            left,
            call_id,
            streaming,
        })
    }

    /// Waits for a call's end.
    pub(super) async fn end(&self, sending: Sending) -> Result<Result<End, Fault>, String> {
        self.end_within(self.subject.limit, sending).await
    }

    /// Waits so long for a call's end.
    pub(super) async fn end_within(
        &self,
        limit: Duration,
        mut sending: Sending,
    ) -> Result<Result<End, Fault>, String> {
        let ended = tokio::time::timeout(limit, collect(&mut sending)).await;
        let ended = ended.map_err(|_| format!("the call did not end within {limit:?}"))?;
        let (mut said, response) = match ended {
            Ok(ended) => ended,
            Err(fault) => return Ok(Err(fault)),
        };
        self.subject.recognize("a call", &response.instance_id)?;
        match response.outcome {
            Some(Outcome::Answer(answer)) => {
                said.add(&output(answer));
                Ok(Ok(End::Answer(said)))
            }
            Some(Outcome::Error(error)) => Ok(Ok(End::Error(error))),
            None => Err("a call was answered with neither `answer` nor `error`".to_owned()),
        }
    }

    /// Makes a call that has to end well, and gives what it said.
    pub(super) async fn run(&mut self, example: &Example) -> Result<Said, String> {
        let name = &example.operation;
        let sending = self.send(example).await?;
        match self.end(sending).await? {
            Ok(End::Answer(said)) => Ok(said),
            Ok(End::Error(error)) => Err(format!("{name}: the error {} {}", error.code, error.message)),
            Err(fault) => Err(format!("{name}: {fault}")),
        }
    }
}

/// A call that streams, and its input.
fn frames(call: Call, input: &[bytes::Bytes]) -> Result<BytesMut, Fault> {
    let first = std::iter::once(Sent::Call(call));
    let mut all = BytesMut::new();
    for message in first.chain(input.iter().cloned().map(Sent::Input)) {
        let message = Some(message);
        all.unsplit(frame(&ExecuteStreamRequest { message })?);
    }
    Ok(all)
}

/// Everything that a call says, to its end.
async fn collect(sending: &mut Sending) -> Result<(Said, ExecuteResponse), Fault> {
    let mut said = Said::default();
    let mut end = None;
    if sending.streaming {
        let mut course = Course::default();
        while let Some(ExecuteStreamResponse { event }) = sending.next().await? {
            if let Some(wrong) = course.fault(event.as_ref()) {
                return Err(Fault::Protocol(wrong.to_owned()));
            }
            match event {
                Some(Event::End(response)) => end = Some(response),
                Some(Event::Data(bytes)) => said.add(&bytes),
                Some(Event::Text(text) | Event::Json(text)) => said.add(text.as_bytes()),
                Some(Event::Progress(_) | Event::Usage(_)) | None => {}
            }
        }
    } else {
        end = sending.next().await?;
        if end.is_some() && sending.next::<ExecuteResponse>().await?.is_some() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_says_is_kept_up_to_a_limit_and_compared_with_its_length() {
        let part = vec![7; MAX_MESSAGE];
        let (mut one, mut other) = (Said::default(), Said::default());
        one.add(&part);
        other.add(&part);
        assert_eq!(one, other);
        other.add(b"more");
        assert_eq!(other.beginning.len(), MAX_MESSAGE);
        assert_ne!(one, other);
    }
}
