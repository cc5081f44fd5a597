//! A driver to test the broker and the conformance kit with: it keeps to the protocol, or breaks it in one way.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use sublet::proto::plugin::{
    Answer, Call, CancelRequest, CancelResponse, CheckRequest, CheckResponse, ConnectRequest,
    ConnectResponse, DescribeRequest, DescribeResponse, DisconnectRequest, DisconnectResponse, Error,
    ExecuteRequest, ExecuteResponse, ExecuteStreamRequest, ExecuteStreamResponse, ResetRequest,
    ResetResponse, answer::Output, driver_service_server::DriverService, execute_response::Outcome,
    execute_stream_request::Message, execute_stream_response::Event, reset_response,
};
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    driver_described::{examples, operations},
    driver_server::Serving,
    http_peer::Identity,
};

/// How a driver keeps to the protocol, or breaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// None: a call is stopped by the end of its RPC only, and Cancel waits for that.
    StopsByRpc,
    /// None: a call is stopped by Cancel or Disconnect only, whatever becomes of its RPC.
    StopsByCancel,
    /// Cancel is not answered, and the call goes on.
    BlocksOnCancel,
    /// Cancel is answered at once, and the call goes on.
    LiesAboutCancel,
    /// Cancel stops whatever runs, its number compared with nothing.
    StopsLaterCalls,
    /// A Disconnect finds nothing of a Connect that was given up, which goes on behind its back.
    LeavesADroppedConnect,
    /// The first Connect makes a session and is never answered.
    HoldsTheFirstConnect,
    /// What leaves something is described as stateless.
    HidesState,
    /// A stream ends with an output.
    OutputInEnd,
    /// Sessions share what they should have each.
    LeaksState,
    /// Reset says CLEAN and leaves everything.
    LiesAboutReset,
    /// Its process ends in a cancelled call.
    DiesInACall,
    /// Its Checks name another instance.
    OtherInstance,
    /// Describe is not answered.
    NeverDescribes,
    /// A stream has no `end`.
    NoEnd,
    /// A session that it does not know is as good as any.
    TakesAnySession,
    /// None: it has examples with more input than it takes at once, one that sends all of it back, and one that is
    /// answered before any of it is taken.
    TakesMuch,
}

/// What a driver was asked, for tests to wait for.
#[derive(Debug, Default)]
pub struct Record(watch::Sender<Vec<String>>);

impl Record {
    pub fn note(&self, what: impl Into<String>) {
        self.0.send_modify(|all| all.push(what.into()));
    }

    /// Returns once something was noted so many times.
    pub async fn wait_for(&self, what: &str, times: usize) {
        let mut all = self.0.subscribe();
        all.wait_for(|all| count(all, what) >= times).await.unwrap();
    }

    pub fn count(&self, what: &str) -> usize {
        count(&self.0.borrow(), what)
    }

    /// What was noted of these, in its order.
    pub fn order(&self, what: &[&str]) -> Vec<String> {
        let all = self.0.borrow();
        all.iter()
            .filter(|noted| what.contains(&noted.as_str()))
            .cloned()
            .collect()
    }
}

fn count(all: &[String], what: &str) -> usize {
    all.iter().filter(|noted| *noted == what).count()
}

/// One session: what a holder left, and whether a call runs.
#[derive(Debug, Default)]
struct Slot {
    value: Mutex<String>,
    running: watch::Sender<u64>,
    cancelled: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    fault: Fault,
    instance: String,
    sessions: Mutex<HashMap<String, Arc<Slot>>>,
    shared: Arc<Slot>,
    record: Arc<Record>,
    death: Arc<watch::Sender<bool>>,
    /// A session that nobody knows was disconnected a moment ago.
    odd: AtomicBool,
}

/// The driver's service.
#[derive(Clone, Debug)]
pub struct Driver(Arc<Inner>);

/// A driver that runs. Dropped, it is cut off.
pub struct Running {
    pub address: String,
    pub record: Arc<Record>,
    driver: Driver,
    serving: Serving,
}

impl Running {
    /// One on a free port.
    pub async fn start(fault: Fault) -> Self {
        Self::new(fault, |driver, death| Serving::tcp(driver, death, None))
    }

    /// One at a Unix socket.
    pub fn at(path: &Path) -> Self {
        let path = PathBuf::from(path);
        Self::new(Fault::None, move |driver, death| {
            Serving::unix(driver, death, &path)
        })
    }

    /// One behind TLS on a free port, with a certificate for `localhost`.
    pub fn secure(identity: &Identity) -> Self {
        Self::new(Fault::None, |driver, death| {
            Serving::tcp(driver, death, Some(identity))
        })
    }

    fn new(fault: Fault, serve: impl FnOnce(Driver, watch::Receiver<bool>) -> Serving) -> Self {
        let record = Arc::new(Record::default());
        let death = Arc::new(watch::Sender::new(false));
        let dies = death.subscribe();
        let driver = Driver(Arc::new(Inner {
            fault,
            instance: uuid::Uuid::new_v4().to_string(),
            sessions: Mutex::default(),
            shared: Arc::default(),
            record: Arc::clone(&record),
            death,
            odd: AtomicBool::new(false),
        }));
        let serving = serve(driver.clone(), dies);
        Self {
            address: serving.address.clone(),
            record,
            driver,
            serving,
        }
    }

    /// Sessions that it has now.
    pub fn sessions(&self) -> usize {
        self.driver.0.sessions.lock().unwrap().len()
    }

    /// Ends it, and starts another instance at the same address.
    pub async fn restart(self) -> Self {
        let address = self.serving.stop().await;
        Self::new(Fault::None, |driver, death| Serving::at(driver, death, &address))
    }
}

/// Notes how a call ended, and that it did.
struct Turn {
    driver: Driver,
    slot: Arc<Slot>,
    name: String,
    done: bool,
}

impl Turn {
    fn begin(driver: &Driver, slot: &Arc<Slot>, call: &Call) -> Result<Self, Status> {
        if call.call_id <= *slot.cancelled.borrow() {
            return Err(Status::cancelled("before it began"));
        }
        driver.0.record.note(format!("{} began", call.operation));
        slot.running.send_replace(call.call_id);
        Ok(Self {
            driver: driver.clone(),
            slot: Arc::clone(slot),
            name: call.operation.clone(),
            done: false,
        })
    }

    /// It ended by itself.
    fn finish(mut self) {
        self.done = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let how = if self.done { "ended" } else { "cancelled" };
        self.driver.0.record.note(format!("{} {how}", self.name));
        if !self.done && self.driver.0.fault == Fault::DiesInACall {
            self.driver.0.death.send_replace(true);
        }
        self.slot.running.send_replace(0);
    }
}

impl Driver {
    fn slot(&self, id: &str) -> Result<Arc<Slot>, Status> {
        let found = self.0.sessions.lock().unwrap().get(id).cloned();
        match found {
            Some(slot) => Ok(slot),
            None if self.0.fault == Fault::TakesAnySession => Ok(Arc::clone(&self.0.shared)),
            None => Err(Status::not_found("no such session")),
        }
    }

    /// What a holder leaves on a session.
    fn left<'a>(&'a self, slot: &'a Slot) -> &'a Mutex<String> {
        match self.0.fault {
            Fault::LeaksState => &self.0.shared.value,
            _ => &slot.value,
        }
    }

    fn answer(&self, outcome: Outcome) -> ExecuteResponse {
        ExecuteResponse {
            instance_id: self.0.instance.clone(),
            outcome: Some(outcome),
        }
    }

    fn json(&self, text: impl Into<String>) -> ExecuteResponse {
        self.answer(Outcome::Answer(Answer {
            output: Some(Output::Json(text.into())),
            ..Answer::default()
        }))
    }

    fn nothing(&self) -> ExecuteResponse {
        self.answer(Outcome::Answer(Answer::default()))
    }

    fn run(&self, slot: &Slot, call: &Call) -> Result<ExecuteResponse, Status> {
        let params: serde_json::Value = serde_json::from_str(&call.params_json).unwrap();
        Ok(match call.operation.as_str() {
            "echo" => self.json(call.params_json.clone()),
            "set" => {
                *self.left(slot).lock().unwrap() = params["value"].to_string();
                self.nothing()
            }
            "get" => self.json(format!("{:?}", self.left(slot).lock().unwrap())),
            "fail" => self.answer(Outcome::Error(Error {
                code: "PAPER_JAM".to_owned(),
                message: "tray 2".to_owned(),
                metadata: [("tray".to_owned(), "2".to_owned())].into(),
                grpc_code: Code::FailedPrecondition as i32,
                executed: i32::try_from(params["executed"].as_i64().unwrap_or(0)).unwrap(),
                session_lost: params["session_lost"].as_bool().unwrap_or(false),
                retry_after: None,
            })),
            "status" => {
                let code = i32::try_from(params["code"].as_i64().unwrap()).unwrap();
                return Err(Status::with_details(
                    Code::from_i32(code),
                    "as it was told",
                    bytes::Bytes::new(),
                ));
            }
            name => self.answer(Outcome::Error(Error {
                message: format!("there is no operation {name}"),
                grpc_code: Code::InvalidArgument as i32,
                executed: 1,
                ..Error::default()
            })),
        })
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<ExecuteStreamResponse, Status>> + Send>>;

fn event(event: Event) -> Result<ExecuteStreamResponse, Status> {
    Ok(ExecuteStreamResponse { event: Some(event) })
}

#[tonic::async_trait]
impl DriverService for Driver {
    type ExecuteStreamStream = Events;

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        if self.0.fault == Fault::NeverDescribes {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(DescribeResponse {
            protocol_version: 1,
            instance_id: self.0.instance.clone(),
            driver: "test".to_owned(),
            operations: operations(self.0.fault),
            examples: examples(self.0.fault),
            ..DescribeResponse::default()
        }))
    }

    async fn connect(&self, request: Request<ConnectRequest>) -> Result<Response<ConnectResponse>, Status> {
        let request = request.into_inner();
        if let Some(config) = request.config
            && config.fields.contains_key("broken")
        {
            return Err(Status::invalid_argument("config.broken: leave it out"));
        }
        if let Some(pin) = request.secrets.get("pin") {
            self.0.record.note(format!("pin {pin}"));
        }
        self.0.record.note(format!("connect {}", request.endpoint));
        self.make(request.session_id).await;
        Ok(Response::new(ConnectResponse {
            instance_id: self.0.instance.clone(),
        }))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        self.0.odd.store(false, Ordering::Relaxed);
        self.slot(&request.into_inner().session_id)?;
        let instance_id = match self.0.fault {
            Fault::OtherInstance => "somebody else".to_owned(),
            _ => self.0.instance.clone(),
        };
        Ok(Response::new(CheckResponse { instance_id }))
    }

    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteResponse>, Status> {
        let call = request.into_inner().call.unwrap();
        let slot = self.slot(&call.session_id)?;
        let turn = Turn::begin(self, &slot, &call)?;
        if call.operation == "wait" {
            std::future::pending::<()>().await;
        }
        let answer = self.run(&slot, &call)?;
        turn.finish();
        Ok(Response::new(answer))
    }

    async fn execute_stream(
        &self,
        request: Request<Streaming<ExecuteStreamRequest>>,
    ) -> Result<Response<Events>, Status> {
        let mut messages = request.into_inner();
        let Some(Message::Call(call)) = messages.message().await?.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("the call comes first"));
        };
        let slot = self.slot(&call.session_id)?;
        let turn = Turn::begin(self, &slot, &call)?;
        Ok(Response::new(match call.operation.as_str() {
            "count" | "fetch" => self.count(&call, turn),
            "collect" if call.params_json.contains("refuse") => {
                return Err(Status::invalid_argument("no input today"));
            }
            "collect" if call.params_json.contains("enough") => self.count(&call, turn),
            "collect" => self.collect(messages, turn),
            "mirror" => self.mirror(messages, turn),
            _ => hang(self.0.fault, turn),
        }))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        let request = request.into_inner();
        let slot = self.slot(&request.session_id)?;
        self.0.record.note("cancel");
        let last = match self.0.fault {
            Fault::StopsLaterCalls => request.call_id.max(*slot.running.borrow()),
            _ => request.call_id,
        };
        slot.cancelled
            .send_modify(|cancelled| *cancelled = last.max(*cancelled));
        if self.0.fault != Fault::LiesAboutCancel {
            let ended = |running: &u64| *running != request.call_id;
            slot.running.subscribe().wait_for(ended).await.unwrap();
        }
        self.0.record.note("cancel answered");
        Ok(Response::new(CancelResponse {}))
    }

    async fn reset(&self, request: Request<ResetRequest>) -> Result<Response<ResetResponse>, Status> {
        let slot = self.slot(&request.into_inner().session_id)?;
        self.0.record.note("reset");
        if self.0.fault != Fault::LiesAboutReset {
            self.left(&slot).lock().unwrap().clear();
        }
        Ok(Response::new(ResetResponse {
            instance_id: self.0.instance.clone(),
            outcome: reset_response::Outcome::Clean as i32,
        }))
    }

    async fn disconnect(
        &self,
        request: Request<DisconnectRequest>,
    ) -> Result<Response<DisconnectResponse>, Status> {
        let found = self
            .0
            .sessions
            .lock()
            .unwrap()
            .remove(&request.into_inner().session_id);
        if let Some(slot) = found {
            slot.cancelled.send_replace(u64::MAX);
            slot.running
                .subscribe()
                .wait_for(|running| *running == 0)
                .await
                .unwrap();
        } else {
            self.0.odd.store(true, Ordering::Relaxed);
        }
        self.0.record.note("disconnect");
        Ok(Response::new(DisconnectResponse {}))
    }
}

/// A Connect that goes on when it has been given up, and is done once its Disconnect has been.
struct GoesOn(Driver, String, usize);

impl Drop for GoesOn {
    fn drop(&mut self) {
        let (driver, id, before) = (self.0.clone(), self.1.clone(), self.2);
        tokio::spawn(async move {
            driver.0.record.wait_for("disconnect", before + 1).await;
            driver.0.sessions.lock().unwrap().insert(id, Arc::default());
        });
    }
}

impl Driver {
    /// Makes a session.
    async fn make(&self, id: String) {
        let fault = self.0.fault;
        if fault == Fault::LeavesADroppedConnect && self.0.odd.load(Ordering::Relaxed) {
            let _goes_on = GoesOn(self.clone(), id, self.0.record.count("disconnect"));
            return std::future::pending().await;
        }
        let first = {
            let mut all = self.0.sessions.lock().unwrap();
            assert!(all.insert(id, Arc::default()).is_none(), "no two have one name");
            all.len() == 1
        };
        if fault == Fault::HoldsTheFirstConnect && first && self.0.record.count("disconnect") == 0 {
            std::future::pending::<()>().await;
        }
    }

    /// Many items; how many were taken is noted.
    fn count(&self, call: &Call, turn: Turn) -> Events {
        let params: serde_json::Value = serde_json::from_str(&call.params_json).unwrap();
        let (count, size) = (
            params["count"].as_u64().unwrap(),
            params["size"].as_u64().unwrap_or(1),
        );
        let size = usize::try_from(size).unwrap();
        let end = match self.0.fault {
            Fault::OutputInEnd => self.json("null"),
            _ => self.nothing(),
        };
        let record = Arc::clone(&self.0.record);
        let without_end = self.0.fault == Fault::NoEnd;
        let items = (0..count).map(move |_| {
            record.note("item");
            event(Event::Data(vec![b'x'; size].into()))
        });
        let end = std::iter::once_with(move || {
            turn.finish();
            event(Event::End(end))
        });
        Box::pin(tokio_stream::iter(items.chain(end.filter(move |_| !without_end))))
    }

    /// Takes input, and tells how much it was.
    fn collect(&self, messages: Streaming<ExecuteStreamRequest>, turn: Turn) -> Events {
        let driver = self.clone();
        let (events, taken) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let mut messages = messages;
            let mut size = 0;
            while let Some(Ok(message)) = messages.next().await {
                if let Some(Message::Input(part)) = message.message {
                    size += part.len();
                    turn.driver.0.record.note("input");
                }
            }
            events.send(event(Event::Json(size.to_string()))).await.ok();
            turn.finish();
            events.send(event(Event::End(driver.nothing()))).await.ok();
        });
        Box::pin(tokio_stream::wrappers::ReceiverStream::new(taken))
    }
}

impl Driver {
    /// Sends its input back, and takes no more while nobody reads it.
    fn mirror(&self, messages: Streaming<ExecuteStreamRequest>, turn: Turn) -> Events {
        let end = self.nothing();
        let parts = messages.filter_map(|message| match message.ok()?.message? {
            Message::Input(part) => Some(event(Event::Data(part))),
            Message::Call(_) => None,
        });
        let end = std::iter::once_with(move || {
            turn.finish();
            event(Event::End(end))
        });
        Box::pin(parts.chain(tokio_stream::iter(end)))
    }
}

/// Says that it began, and then nothing until it is stopped: by its RPC's end, or by Cancel.
fn hang(fault: Fault, turn: Turn) -> Events {
    let mut cancelled = turn.slot.cancelled.subscribe();
    let running = *turn.slot.running.borrow();
    let stubborn = matches!(fault, Fault::BlocksOnCancel | Fault::LiesAboutCancel);
    let stopped = async move {
        if stubborn || fault == Fault::StopsByRpc {
            std::future::pending::<()>().await;
        }
        cancelled.wait_for(|call| *call >= running).await.ok();
        Err(Status::cancelled("as it was told"))
    };
    let begun = event(Event::Text("begun".to_owned()));
    if stubborn || fault == Fault::StopsByCancel {
        // On its own, whatever happens to its RPC.
        let (events, taken) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let _turn = turn;
            events.send(begun).await.ok();
            let stopped = stopped.await;
            events.send(stopped).await.ok();
        });
        return Box::pin(tokio_stream::wrappers::ReceiverStream::new(taken));
    }
    let rest = futures_util::stream::once(async move {
        let _turn = turn;
        stopped.await
    });
    Box::pin(tokio_stream::once(begun).chain(rest))
}
