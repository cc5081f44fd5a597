//! One call: sent with its input, its events handed on as the caller takes them, its end awaited.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;

use super::{
    answer::{self, Ended},
    course::Course,
    description,
    exchange::{Exchange, Receiving, Sending},
    fault::Fault,
    session::{PluginSession, Running},
};
use crate::{
    backend::{Body, BodyReader, CallError, Completion, Event, Operation, Sink, SinkClosed},
    error::{Executed, Faults},
    proto::plugin::{
        self, Call, ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, ExecuteStreamResponse,
        execute_stream_request::Message, execute_stream_response::Event as Told,
    },
};

/// Bytes of one frame to a caller.
const FRAME: usize = 64 * 1024;

/// Bytes of one part of a call's input: any gRPC server takes a message of that size.
const INPUT: usize = 1024 * 1024;

/// Why a call came to no end of the driver's.
enum Stopped {
    /// The driver's side.
    Fault(Fault),
    /// The caller takes no more.
    Sink(SinkClosed),
    /// The caller's input ended before its last part.
    Input,
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl PluginSession {
    pub(super) async fn run(
        &mut self,
        operation: Operation,
        sink: &mut Sink,
    ) -> Result<Completion, CallError> {
        let asked = self.find(&operation).map_err(CallError::Invalid)?;
        self.ready().await.map_err(|lost| CallError::Lost {
            message: lost.message,
            executed: Some(Executed::No),
        })?;
        self.used |= !asked.stateless;
        self.calls += 1;
        let (call, input) = self.call(operation);
        let method = if asked.streaming {
            "ExecuteStream"
        } else {
            "Execute"
        };
        let mut exchange = match self.connection.begin(method).await {
            Ok(exchange) => exchange,
            Err(fault) => return Err(self.judge(Err(fault))),
        };
        // From here on the call is at the driver, until it has ended: dropping this cancels it.
        self.last = exchange.stream();
        self.running = Some(Running {
            call_id: self.calls,
            holder: self.fence.number(),
        });
        let ended = if asked.streaming {
            converse(&mut exchange, call, input, sink).await
        } else {
            let request = ExecuteRequest { call: Some(call) };
            exchange.unary(&request).await.map_err(Stopped::Fault)
        };
        if !exchange.sending.has_ended() && answers(&ended) {
            // The driver has answered before it took everything: what is left is taken back, and the session goes on.
            drop(exchange);
            self.rest().await;
        }
        match ended {
            Ok(response) => self.conclude(response),
            Err(Stopped::Fault(fault)) => Err(self.judge(Err(fault))),
            Err(Stopped::Sink(closed)) => Err(CallError::Sink(closed)),
            Err(Stopped::Input) => Err(CallError::Input),
        }
    }

    /// Waits until nothing of the last call is to be written any more, or its holder has gone.
    async fn rest(&self) {
        tokio::select! {
            () = self.connection.when_written(self.last) => {}
            () = self.fence.when_shut() => {}
        }
    }

    /// What the driver has said of the operation. It was not asked yet when the first operations were inspected.
    fn find(&self, operation: &Operation) -> Result<Arc<plugin::Operation>, Faults> {
        description::check(operation)?;
        let found = self.description.find(operation)?;
        if found.needs_lease && operation.alone {
            let message = format!(
                "`{}` needs a lease: acquire one, or use OpenSession",
                operation.name
            );
            return Err(Faults::one("name", message));
        }
        Ok(Arc::clone(found))
    }

    fn call(&self, operation: Operation) -> (Call, Option<BodyReader>) {
        let params_json = operation.params.text().into_owned();
        let (body, input) = match operation.body {
            Body::Whole(body) => (body, None),
            Body::Stream(input) => (Bytes::new(), Some(input)),
        };
        let call = Call {
            session_id: self.id.clone(),
            call_id: self.calls,
            operation: operation.name,
            params_json,
            body,
        };
        (call, input)
    }

    fn conclude(&mut self, response: ExecuteResponse) -> Result<Completion, CallError> {
        let ended = answer::read(response.outcome);
        if let Err(lost) = self.recognize(&response.instance_id) {
            self.running = None;
            return Err(CallError::Lost {
                message: lost.message,
                executed: Some(ended.executed()),
            });
        }
        match ended {
            Ended::Well(completion) => {
                self.running = None;
                Ok(completion)
            }
            other @ (Ended::Badly(..) | Ended::Lost(..)) => Err(self.judge(Ok(other))),
        }
    }

    /// What to make of a call that did not end well.
    fn judge(&mut self, ended: Result<Ended, Fault>) -> CallError {
        self.running = None;
        let ended = ended.unwrap_or_else(answer::of_fault);
        match ended {
            Ended::Well(_) => self.gave_up("the driver ended the call in a strange way", None),
            Ended::Badly(error, executed) => CallError::Backend(error, executed),
            Ended::Lost(message, executed) => self.gave_up(&message, executed),
        }
    }

    fn gave_up(&mut self, message: &str, executed: Option<Executed>) -> CallError {
        CallError::Lost {
            message: self.lose(message).message,
            executed,
        }
    }
}

/// Whether the driver has said how a call ended.
const fn answers(ended: &Result<ExecuteResponse, Stopped>) -> bool {
    matches!(ended, Ok(_) | Err(Stopped::Fault(Fault::Status { .. })))
}

/// Sends a call and its input while its events come. The input ends with the call.
async fn converse(
    exchange: &mut Exchange,
    call: Call,
    input: Option<BodyReader>,
    sink: &mut Sink,
) -> Result<ExecuteResponse, Stopped> {
    let Exchange { sending, receiving } = exchange;
    let mut upload = pin!(upload(sending, call, input));
    let mut events = pin!(deliver(receiving, sink));
    tokio::select! {
        biased;
        ended = &mut events => ended,
        sent = &mut upload => match sent {
            Err(Stopped::Input) => Err(Stopped::Input),
            // What the driver says of it tells more than the break.
            _ => events.await,
        },
    }
}

/// Sends a call and its input, which the caller is given credit for as the driver takes it.
async fn upload(sending: &mut Sending, call: Call, input: Option<BodyReader>) -> Result<(), Stopped> {
    let first = ExecuteStreamRequest {
        message: Some(Message::Call(call)),
    };
    sending.send(&first, input.is_none()).await?;
    let Some(mut input) = input else { return Ok(()) };
    while let Some(mut whole) = input.next().await.map_err(|_| Stopped::Input)? {
        while !whole.is_empty() {
            let message = Some(Message::Input(whole.split_to(whole.len().min(INPUT))));
            sending.send(&ExecuteStreamRequest { message }, false).await?;
        }
    }
    Ok(sending.end()?)
}

/// Hands a driver's events on, until its end. While the caller does not take one, the driver's next ones stay with it.
async fn deliver(receiving: &mut Receiving, sink: &mut Sink) -> Result<ExecuteResponse, Stopped> {
    let mut course = Course::default();
    while let Some(ExecuteStreamResponse { event }) = receiving.next().await? {
        if let Some(wrong) = course.fault(event.as_ref()) {
            return Err(protocol(wrong));
        }
        match event {
            Some(Told::End(end)) => {
                if let Some(ExecuteStreamResponse { event }) = receiving.next().await? {
                    let wrong = course.fault(event.as_ref());
                    return Err(protocol(wrong.unwrap_or("sent more than a stream's events")));
                }
                return Ok(end);
            }
            Some(event) => hand_on(event, sink).await?,
            None => {}
        }
    }
    Err(protocol("ended a stream without the event `end`"))
}

async fn hand_on(event: Told, sink: &mut Sink) -> Result<(), Stopped> {
    let event = match event {
        Told::Data(mut bytes) => {
            while bytes.len() > FRAME {
                let part = bytes.split_to(FRAME);
                sink.send(Event::Data(part)).await.map_err(Stopped::Sink)?;
            }
            Event::Data(bytes)
        }
        Told::Text(mut text) => {
            while text.len() > FRAME {
                let rest = text.split_off(text.floor_char_boundary(FRAME));
                sink.send(Event::Text(text)).await.map_err(Stopped::Sink)?;
                text = rest;
            }
            Event::Text(text)
        }
        Told::Json(item) if answer::is_json(&item) => Event::Json(item),
        Told::Json(_) => return Err(protocol("sent an item that is no JSON")),
        Told::Progress(progress) => Event::Progress(progress),
        Told::Usage(usage) => Event::Usage(usage),
        // The end is its caller's.
        Told::End(_) => return Ok(()),
    };
    sink.send(event).await.map_err(Stopped::Sink)
}

fn protocol(what: &str) -> Stopped {
    Stopped::Fault(Fault::Protocol(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_text_comes_in_frames_whose_characters_are_whole() {
        let text = format!("a{}", "\u{e9}".repeat(FRAME));
        let (events, mut taken) = tokio::sync::mpsc::channel(10);
        let mut sink = Sink::Stream(events);
        assert!(hand_on(Told::Text(text.clone()), &mut sink).await.is_ok());
        drop(sink);
        let mut whole = String::new();
        while let Some(Event::Text(part)) = taken.recv().await {
            assert!(part.len() <= FRAME, "{}", part.len());
            whole += &part;
        }
        assert_eq!(whole, text);
    }
}
