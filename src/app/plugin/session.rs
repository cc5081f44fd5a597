//! One session at the driver under test, and calls on it.

use std::time::Duration;

use super::{report::Took, subject::Subject};
use crate::{
    backend::plugin::{Connection, Course, Exchange, Fault, MAX_MESSAGE},
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

/// A call that was sent.
pub(super) struct Sending {
    pub(super) exchange: Exchange,
    pub(super) call_id: u64,
    pub(super) streaming: bool,
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

    /// Sends a call, with the example's input.
    pub(super) async fn send(&mut self, example: &Example) -> Result<Sending, String> {
        self.send_numbered(example, self.calls + 1).await
    }

    /// Sends a call with a number of its own.
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
        let sent = async {
            let mut exchange = self.connection.begin(method).await?;
            if streaming {
                upload(&mut exchange, call, &example.input).await?;
            } else {
                let request = ExecuteRequest { call: Some(call) };
                exchange.sending.send(&request, true).await?;
            }
            Ok(exchange)
        };
        let sent = self.subject.within(method, sent).await?;
        let exchange = sent.map_err(|fault| format!("{method}: {fault}"))?;
        Ok(Sending {
            exchange,
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

async fn upload(exchange: &mut Exchange, call: Call, input: &[bytes::Bytes]) -> Result<(), Fault> {
    let first = std::iter::once(Sent::Call(call));
    for message in first.chain(input.iter().cloned().map(Sent::Input)) {
        let message = Some(message);
        let request = ExecuteStreamRequest { message };
        exchange.sending.send(&request, false).await?;
    }
    exchange.sending.end()
}

/// Everything that a call says, to its end.
async fn collect(sending: &mut Sending) -> Result<(Said, ExecuteResponse), Fault> {
    let receiving = &mut sending.exchange.receiving;
    let mut said = Said::default();
    let mut end = None;
    if sending.streaming {
        let mut course = Course::default();
        while let Some(ExecuteStreamResponse { event }) = receiving.next().await? {
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
