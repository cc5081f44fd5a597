//! One echo session: a variable, two counters, and a connection that can be broken.

use std::{future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    call::{Call, Count, Drop, Fail, Scope, Stream, When, size_of},
    record::Record,
};
use crate::{
    backend::{
        Body, BodyReader, CallError, Cleanliness, Completion, Event, Fence, Operation, Output, Params,
        Session, SessionLost, Sink,
    },
    error::{BackendError, Executed},
    proto,
};

/// A frame of a streamed answer, at most.
const MAX_FRAME: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct EchoSession {
    endpoint: Arc<str>,
    record: Arc<Record>,
    fence: Arc<Fence>,
    /// What `set` left behind, as JSON text.
    variable: Option<String>,
    calls: u64,
    bytes: u64,
    /// A call has begun and has not come to its end: it was dropped, or runs.
    in_call: bool,
    broken: bool,
}

impl EchoSession {
    pub(super) const fn new(endpoint: Arc<str>, record: Arc<Record>, fence: Arc<Fence>) -> Self {
        Self {
            endpoint,
            record,
            fence,
            variable: None,
            calls: 0,
            bytes: 0,
            in_call: false,
            broken: false,
        }
    }

    /// The hot path: no parsing, and nothing to wait for.
    fn echo_at_once(&mut self, operation: Operation) -> Result<Completion, CallError> {
        self.hand_over(&Call::Echo, size_of(&operation))?;
        let output = match operation.body {
            Body::Whole(body) if !body.is_empty() => Output::Body(body),
            Body::Whole(_) | Body::Stream(_) if !operation.args.is_empty() => {
                Output::Rows(one_row(operation.args))
            }
            Body::Whole(_) | Body::Stream(_) => Output::Json(into_text(operation.params)),
        };
        self.fence.note_received(1);
        Ok(completed(output))
    }

    async fn run(&mut self, operation: Operation, sink: &mut Sink) -> Result<Completion, CallError> {
        let call = Call::read(&operation).map_err(CallError::Invalid)?;
        if let Call::Drop(drop) = &call {
            return Err(self.break_off(drop, &call));
        }
        self.hand_over(&call, size_of(&operation))?;
        self.in_call = true;
        let result = self.carry_out(&call, operation, sink).await;
        self.in_call = false;
        result
    }

    async fn carry_out(
        &mut self,
        call: &Call,
        operation: Operation,
        sink: &mut Sink,
    ) -> Result<Completion, CallError> {
        match call {
            Call::Echo => return self.echo_stream(operation.body, sink).await,
            Call::Sleep(sleep) => self.wait(sleep.duration.into()).await?,
            Call::Fail(fail) => return Err(self.fail(fail)),
            Call::Stream(stream) => self.stream(stream, sink).await?,
            Call::Set(set) => self.variable = Some(set.value.get().to_owned()),
            Call::Get => {
                return Ok(completed(Output::Json(
                    self.variable.clone().unwrap_or_else(null),
                )));
            }
            Call::Count(count) => return Ok(completed(Output::Json(self.count(count)))),
            Call::Drop(_) => {}
        }
        self.record.executed(call.id());
        Ok(Completion::default())
    }

    /// Gives the chunks of a body back as they come.
    async fn echo_stream(&mut self, body: Body, sink: &mut Sink) -> Result<Completion, CallError> {
        let mut reader = match body {
            Body::Stream(reader) => reader,
            Body::Whole(body) => return Ok(completed(Output::Body(body))),
        };
        while let Some(chunk) = next_chunk(&mut reader).await? {
            let bytes = chunk.len() as u64;
            self.pass(bytes)?;
            self.bytes += bytes;
            self.record.more(bytes);
            for part in frames(chunk) {
                self.answer(sink, Event::Data(part)).await?;
            }
        }
        Ok(Completion::default())
    }

    async fn stream(&mut self, stream: &Stream, sink: &mut Sink) -> Result<(), CallError> {
        for number in 1..=stream.count {
            self.wait(stream.interval.into()).await?;
            let item = match stream.size {
                Some(size) => Event::Data(Bytes::from(vec![b'x'; size])),
                None => Event::Json(format!("{{\"item\":{number}}}")),
            };
            self.answer(sink, item).await?;
        }
        Ok(())
    }

    fn fail(&self, fail: &Fail) -> CallError {
        if fail.executed == Executed::Yes {
            self.record.executed(fail.id.as_deref());
        }
        let error = BackendError {
            code: fail.code,
            message: fail
                .message
                .clone()
                .unwrap_or_else(|| "it was told to fail".to_owned()),
            metadata: [("operation", "fail".to_owned())].into(),
            retry_after: fail.retry_after.map(Duration::from),
        };
        CallError::Backend(error, fail.executed)
    }

    /// Breaks the connection. `executed: no` is a backend that rolls back what it loses the connection of.
    fn break_off(&mut self, drop: &Drop, call: &Call) -> CallError {
        if drop.when == When::After {
            if let Err(refused) = self.hand_over(call, 1) {
                return refused;
            }
            if drop.executed != Some(Executed::No) {
                self.record.executed(drop.id.as_deref());
            }
        }
        self.broken = true;
        CallError::Lost {
            message: "the connection was dropped, as it was told to".to_owned(),
            executed: drop.executed,
        }
    }

    fn count(&self, count: &Count) -> String {
        let told = match count.scope {
            Scope::Session => serde_json::json!({"calls": self.calls, "bytes": self.bytes}),
            Scope::Pool => serde_json::to_value(self.record.totals()).unwrap_or_default(),
        };
        told.to_string()
    }

    /// Hands a call to the backend, if the fence lets it.
    fn hand_over(&mut self, call: &Call, bytes: u64) -> Result<(), CallError> {
        if self.broken {
            return Err(CallError::Lost {
                message: "the connection is gone".to_owned(),
                executed: Some(Executed::No),
            });
        }
        self.pass(bytes)?;
        self.calls += 1;
        self.bytes += bytes;
        self.record.received(call, bytes);
        Ok(())
    }

    fn pass(&self, bytes: u64) -> Result<(), CallError> {
        self.fence.hand_over(bytes).map_err(|refused| CallError::Broken {
            message: refused.to_string(),
            executed: None,
        })
    }

    /// Waits, then asks the fence again.
    async fn wait(&self, span: Duration) -> Result<(), CallError> {
        if !span.is_zero() {
            tokio::time::sleep(span).await;
        }
        self.pass(0)
    }

    async fn answer(&self, sink: &mut Sink, event: Event) -> Result<(), CallError> {
        self.fence.note_received(1);
        sink.send(event).await.map_err(CallError::Sink)?;
        self.pass(0)
    }
}

impl Session for EchoSession {
    fn endpoint(&self) -> &Arc<str> {
        &self.endpoint
    }

    fn execute<'a>(
        &'a mut self,
        operation: Operation,
        sink: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>> {
        if operation.name == "echo" && matches!(operation.body, Body::Whole(_)) {
            return Box::pin(future::ready(self.echo_at_once(operation)));
        }
        self.run(operation, sink).boxed()
    }

    /// The backend forgets what it was doing, so there is nothing to wait for; the variable stays.
    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.in_call = false;
        Box::pin(future::ready(self.alive()))
    }

    fn cleanliness(&self) -> Cleanliness {
        if self.broken {
            Cleanliness::Broken
        } else if self.in_call || self.variable.is_some() {
            Cleanliness::Dirty
        } else {
            Cleanliness::Clean
        }
    }

    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.variable = None;
        self.settle()
    }

    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        Box::pin(future::ready(self.alive()))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(future::ready(()))
    }
}

impl EchoSession {
    fn alive(&self) -> Result<(), SessionLost> {
        if self.broken {
            Err(SessionLost::because("the connection is gone"))
        } else {
            Ok(())
        }
    }
}

fn completed(output: Output) -> Completion {
    Completion {
        output,
        ..Completion::default()
    }
}

fn into_text(params: Params) -> String {
    match params {
        Params::Empty => "{}".to_owned(),
        Params::Object(value) => value.to_string(),
        Params::Text(text) => text,
    }
}

fn null() -> String {
    "null".to_owned()
}

fn one_row(values: Vec<proto::Value>) -> proto::Rows {
    let columns = (1..=values.len()).map(|number| proto::Column {
        name: format!("arg{number}"),
        r#type: String::new(),
    });
    proto::Rows {
        columns: columns.collect(),
        rows: vec![proto::Row { values }],
        affected: 0,
    }
}

async fn next_chunk(reader: &mut BodyReader) -> Result<Option<Bytes>, CallError> {
    reader.next().await.map_err(|_| CallError::Input)
}

fn frames(mut chunk: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!chunk.is_empty()).then(|| chunk.split_to(chunk.len().min(MAX_FRAME))))
}
