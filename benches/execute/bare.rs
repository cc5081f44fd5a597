//! The bare server: tonic's own, with handlers that echo the body and nothing else.

use std::{pin::Pin, process::ExitCode};

use sublet::proto::{
    self,
    broker_service_server::{BrokerService, BrokerServiceServer},
    execute_request, open_session_request, open_session_response, result,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

#[derive(Clone)]
struct Bare;

fn echo(operation: Option<proto::Operation>) -> proto::Result {
    proto::Result {
        output: operation.map(|operation| result::Output::Body(operation.body)),
        ..proto::Result::default()
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn absent<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not measured"))
}

#[tonic::async_trait]
impl BrokerService for Bare {
    type KeepAliveStream = Answers<proto::KeepAliveResponse>;
    type ExecuteStreamStream = Answers<proto::ExecuteStreamResponse>;
    type OpenSessionStream = Answers<proto::OpenSessionResponse>;

    async fn acquire_lease(
        &self,
        _: Request<proto::AcquireLeaseRequest>,
    ) -> Result<Response<proto::AcquireLeaseResponse>, Status> {
        absent()
    }

    async fn renew_lease(
        &self,
        _: Request<proto::RenewLeaseRequest>,
    ) -> Result<Response<proto::RenewLeaseResponse>, Status> {
        absent()
    }

    async fn keep_alive(
        &self,
        _: Request<Streaming<proto::KeepAliveRequest>>,
    ) -> Result<Response<Self::KeepAliveStream>, Status> {
        absent()
    }

    async fn release_lease(
        &self,
        _: Request<proto::ReleaseLeaseRequest>,
    ) -> Result<Response<proto::ReleaseLeaseResponse>, Status> {
        absent()
    }

    async fn execute(
        &self,
        request: Request<proto::ExecuteRequest>,
    ) -> Result<Response<proto::ExecuteResponse>, Status> {
        let request = request.into_inner();
        debug_assert!(matches!(request.target, Some(execute_request::Target::Pool(_))));
        Ok(Response::new(proto::ExecuteResponse {
            result: Some(echo(request.operation)),
        }))
    }

    async fn execute_stream(
        &self,
        _: Request<proto::ExecuteStreamRequest>,
    ) -> Result<Response<Self::ExecuteStreamStream>, Status> {
        absent()
    }

    async fn open_session(
        &self,
        request: Request<Streaming<proto::OpenSessionRequest>>,
    ) -> Result<Response<Self::OpenSessionStream>, Status> {
        let answers = request.into_inner().map(|message| {
            let (call_id, message) = match message?.message {
                Some(open_session_request::Message::Call(call)) => (
                    call.id,
                    Some(open_session_response::Message::Result(echo(call.operation))),
                ),
                _ => (0, None),
            };
            Ok(proto::OpenSessionResponse { call_id, message })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Serves until it is killed: one current-thread runtime per core, and one loop that hands sockets out in turn.
pub fn serve() -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers: Vec<_> = (0..cores).map(|_| worker()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        for turn in 0.. {
            let (socket, _) = listener.accept().await.expect("a client");
            socket.set_nodelay(true).expect("nodelay");
            let socket = socket.into_std().expect("a socket");
            workers[turn % cores].send(socket).await.expect("a worker");
        }
    });
    ExitCode::SUCCESS
}

fn worker() -> mpsc::Sender<std::net::TcpStream> {
    let (sockets, received) = mpsc::channel::<std::net::TcpStream>(16);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let incoming = ReceiverStream::new(received).map(tokio::net::TcpStream::from_std);
        let served = Server::builder()
            .add_service(BrokerServiceServer::new(Bare))
            .serve_with_incoming(incoming);
        runtime.block_on(served).expect("serving");
    });
    sockets
}
