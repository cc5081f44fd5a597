mod vanished;

use std::time::Duration;

use http_body_util::Empty;
use hyper::client::conn::http2 as client;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    task::JoinHandle,
    time::sleep,
};
use tower::service_fn as tower_fn;

use super::*;
use crate::clock::Clock;

fn connection() -> Arc<Connection> {
    Arc::new(Connection::new(1, SocketAddr::from(([127, 0, 0, 1], 4711))))
}

/// Serves one end of a pipe with `handler`; gives the other end, and what ends the broker.
fn served<F>(handler: fn(Request<Incoming>) -> F) -> (DuplexStream, CancellationToken, JoinHandle<()>)
where
    F: Future<Output = Result<Response<Empty<Bytes>>, Infallible>> + Send + 'static,
{
    let (client, server) = duplex(1 << 16);
    let closing = CancellationToken::new();
    let serving = tokio::spawn(serve(server, connection(), tower_fn(handler), closing.clone()));
    (client, closing, serving)
}

async fn answer(_: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    Ok(Response::new(Empty::new()))
}

async fn answer_after_a_second(_: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    sleep(Duration::from_secs(1)).await;
    Ok(Response::new(Empty::new()))
}

async fn answer_never(_: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    std::future::pending().await
}

async fn connected(io: DuplexStream) -> client::SendRequest<Empty<Bytes>> {
    let (sender, driving) = client::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(driving);
    sender
}

fn request() -> Request<Empty<Bytes>> {
    Request::post("http://broker/service/Method")
        .body(Empty::new())
        .unwrap()
}

/// Reads frames until the settings, and gives them as pairs of id and value.
async fn settings(io: &mut DuplexStream) -> Vec<(u16, u32)> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
    let mut payload = vec![0; usize::from(head[2])];
    io.read_exact(&mut payload).await.unwrap();
    let pair = |six: &[u8]| {
        (
            u16::from_be_bytes([six[0], six[1]]),
            u32::from_be_bytes(six[2..6].try_into().unwrap()),
        )
    };
    payload.chunks(6).map(pair).collect()
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_a_connection_are_told_to_its_peer() {
    let (mut io, _closing, _serving) = served(answer);
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let told = settings(&mut io).await;
    for (id, value) in [(3, 1024), (4, 256 * 1024), (6, 16 * 1024)] {
        assert!(
            told.contains(&(id, value)),
            "setting {id} should be {value}: {told:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_gone_within_fifteen_seconds() {
    let clock = Clock::tokio();
    let (mut io, _closing, serving) = served(answer_never);
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    serving.await.unwrap();
    let passed = clock.now().since(crate::clock::Time::ZERO);
    assert!(
        passed > Duration::from_secs(10) && passed <= Duration::from_secs(15),
        "{passed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_runs_when_the_broker_closes_is_answered_first() {
    let (io, closing, serving) = served(answer_after_a_second);
    let mut sender = connected(io).await;
    let running = tokio::spawn(sender.send_request(request()));
    tokio::task::yield_now().await;
    sleep(Duration::from_millis(100)).await;
    closing.cancel();
    assert!(running.await.unwrap().is_ok());
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_does_not_keep_the_broker_from_closing() {
    let (io, closing, serving) = served(answer_never);
    let mut sender = connected(io).await;
    let running = tokio::spawn(sender.send_request(request()));
    sleep(Duration::from_millis(100)).await;
    closing.cancel();
    serving.await.unwrap();
    assert!(running.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn handlers_find_their_connection_in_the_request() {
    async fn look(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
        let found = request.extensions().get::<Arc<Connection>>();
        let status = if found.is_some_and(|found| found.number() == 1) {
            200
        } else {
            500
        };
        Ok(Response::builder().status(status).body(Empty::new()).unwrap())
    }
    let (io, _closing, _serving) = served(look);
    let answer = connected(io).await.send_request(request()).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[test]
fn half_of_a_connections_streams_may_wait_and_each_gives_its_place_back() {
    let connection = connection();
    let mut waiting: Vec<_> = (0..512)
        .map(|_| connection.try_wait().expect("there is room"))
        .collect();
    assert!(connection.try_wait().is_none());
    waiting.pop();
    assert!(connection.try_wait().is_some());
}
