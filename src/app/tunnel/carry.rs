//! One connection, carried: a session is opened for it, and its bytes go both ways with the broker's credit and with
//! back-pressure, until both sides have ended.

use std::{io, net::SocketAddr, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use super::{super::credit::Credit, Way};
use crate::proto::{
    Call, Input, Open, OpenSessionRequest, OpenSessionResponse, Operation,
    broker_service_client::BrokerServiceClient, event, open_session_request::Message as Sent,
    open_session_response::Message, operation::Input as Params,
};

/// Messages to the broker that wait for HTTP/2 to take them: credit bounds their bytes.
const MESSAGES: usize = 4;
/// Parts from the broker, of 64 KiB at most, that wait for the local side: 1 MiB. While there is room, credit that
/// comes behind them is seen.
const PARTS: usize = 16;
/// Read at once, at most.
const READ: usize = 64 << 10;
/// The call that is the tunnel.
const CALL: u64 = 1;
/// The longest time that a call may take: the lease's own limit comes first in most pools.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Why a connection was not carried to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The local side broke off while it waited for a session.
    Gone,
    /// The local side broke.
    Local(io::Error),
    /// The broker refused, or the session ended.
    Broker(String),
}

/// A part for the local side.
enum Part {
    Data(Bytes),
    /// The backend has ended its side.
    End,
}

/// Carries a connection. If the future is dropped, the session is discarded and the connection reset.
pub(super) async fn carry(way: &Way, mut local: TcpStream, from: SocketAddr) -> Result<(), Broken> {
    // What ends otherwise than well ends with a reset: an end that looks wanted would be a lie.
    let set = socket2::SockRef::from(&local).set_linger(Some(Duration::ZERO));
    set.and_then(|()| local.set_nodelay(true))
        .map_err(Broken::Local)?;
    let (out, messages) = mpsc::channel(MESSAGES);
    let opening = open(way, from, messages, &out);
    let mut answers = tokio::select! {
        opened = opening => opened?,
        () = gone(&local) => return Err(Broken::Gone),
    };
    let (reader, mut writer) = local.split();
    let credit = Credit::none();
    let (parts, waiting) = mpsc::channel(PARTS);
    {
        let feeding = std::pin::pin!(feed(reader, &credit, &out));
        let carrying = std::pin::pin!(async {
            tokio::try_join!(
                listen(&mut answers, &credit, parts),
                deliver(waiting, &mut writer)
            )
        });
        tokio::select! {
            carried = carrying => drop(carried?),
            Err(broken) = feeding => return Err(broken),
        }
    }
    // The session goes back in order, which ends the stream.
    drop(out);
    while let Ok(Some(_)) = answers.message().await {}
    socket2::SockRef::from(&local)
        .set_linger(None)
        .map_err(Broken::Local)
}

/// Waits for a session and begins the tunnel on it.
async fn open(
    way: &Way,
    from: SocketAddr,
    messages: mpsc::Receiver<OpenSessionRequest>,
    out: &mpsc::Sender<OpenSessionRequest>,
) -> Result<Streaming<OpenSessionResponse>, Broken> {
    let open = Open {
        pool: way.pool.to_string(),
        options: None,
    };
    send(out, Sent::Open(open)).await;
    // A connection of its own: one that is not read must not hold up the others.
    let channel = way.broker.connect().await;
    let channel =
        channel.map_err(|error| Broken::Broker(format!("no broker answers: {}", super::chain(&error))))?;
    let mut request = Request::new(ReceiverStream::new(messages));
    if let Ok(name) = format!("sublet tunnel for {from}").parse() {
        request.metadata_mut().insert("sublet-client", name);
    }
    let mut answers = BrokerServiceClient::new(channel)
        .open_session(request)
        .await?
        .into_inner();
    match answers.message().await?.and_then(|answer| answer.message) {
        Some(Message::Opened(_)) => {}
        Some(Message::Error(status)) => return Err(Broken::Broker(status.message)),
        _ => return Err(Broken::Broker("the broker opened no session".to_owned())),
    }
    send(out, Sent::Call(call())).await;
    Ok(answers)
}

fn call() -> Call {
    Call {
        id: CALL,
        operation: Some(Operation {
            name: "tunnel".to_owned(),
            input: Some(Params::ParamsJson(r#"{"half_open":true}"#.to_owned())),
            timeout: LONGEST.try_into().ok(),
            ..Operation::default()
        }),
        stream: true,
        more_input: true,
    }
}

/// False if the stream has ended: why is said by its answers, and by nobody else.
async fn send(out: &mpsc::Sender<OpenSessionRequest>, message: Sent) -> bool {
    let message = OpenSessionRequest {
        message: Some(message),
    };
    out.send(message).await.is_ok()
}

/// Returns when the local side's connection has broken. Its end alone says nothing: who has nothing to say may well
/// want to listen.
async fn gone(local: &TcpStream) {
    // Readiness that cannot be had will be met by whoever reads.
    if local.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// From the local side to the broker, no more than it gives credit for; ends with the local side's end.
async fn feed(
    mut local: ReadHalf<'_>,
    credit: &Credit,
    out: &mpsc::Sender<OpenSessionRequest>,
) -> Result<(), Broken> {
    let mut buffer = BytesMut::new();
    loop {
        let most = credit.some().await;
        // Left to itself, a buffer has room for 64 bytes: a message to the broker for each 64 bytes of a transfer.
        if buffer.capacity() < READ / 4 {
            buffer.reserve(READ);
        }
        let mut limited = (&mut buffer).limit(most);
        let read = local.read_buf(&mut limited).await.map_err(Broken::Local)?;
        credit.used(read);
        let input = Input {
            call_id: CALL,
            data: buffer.split().freeze(),
            last: read == 0,
        };
        if !send(out, Sent::Input(input)).await || read == 0 {
            return Ok(());
        }
    }
}

/// Takes what the broker says, until the tunnel's end.
async fn listen(
    answers: &mut Streaming<OpenSessionResponse>,
    credit: &Credit,
    parts: mpsc::Sender<Part>,
) -> Result<(), Broken> {
    loop {
        let answer = answers.message().await?;
        let part = match answer.and_then(|answer| answer.message) {
            Some(Message::InputCredit(bytes)) => {
                credit.add(bytes);
                continue;
            }
            Some(Message::Event(event)) => match event.event {
                Some(event::Event::Data(data)) if data.is_empty() => Part::End,
                Some(event::Event::Data(data)) => Part::Data(data),
                Some(event::Event::End(_)) => return Ok(()),
                _ => continue,
            },
            Some(Message::Error(status)) => return Err(Broken::Broker(status.message)),
            Some(Message::Opened(_) | Message::Result(_)) => continue,
            None => return Err(Broken::Broker("the broker ended the session".to_owned())),
        };
        if parts.send(part).await.is_err() {
            // Why is said by who takes them.
            return Ok(());
        }
    }
}

/// Writes to the local side what comes for it.
async fn deliver(mut parts: mpsc::Receiver<Part>, local: &mut WriteHalf<'_>) -> Result<(), Broken> {
    while let Some(part) = parts.recv().await {
        match part {
            Part::Data(data) => local.write_all(&data).await.map_err(Broken::Local)?,
            Part::End => break,
        }
    }
    local.shutdown().await.map_err(Broken::Local)?;
    // Whoever sends them must not wait for room.
    parts.close();
    while parts.recv().await.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_transfer_goes_in_large_messages() {
        const SENT: usize = 32 << 10;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut sender = TcpStream::connect(address).await.unwrap();
        let (mut local, _) = listener.accept().await.unwrap();
        // The kernel holds all of it before the first look.
        sender.write_all(&[b'x'; SENT]).await.unwrap();
        drop(sender);
        let credit = Credit::none();
        credit.add(u32::MAX);
        let (out, mut messages) = mpsc::channel(SENT);
        feed(local.split().0, &credit, &out).await.unwrap();
        drop(out);
        let mut sizes = Vec::new();
        while let Some(message) = messages.recv().await {
            match message.message {
                Some(Sent::Input(input)) => sizes.push(input.data.len()),
                other => panic!("no input: {other:?}"),
            }
        }
        assert_eq!(sizes.iter().sum::<usize>(), SENT);
        assert!(sizes.len() < 32, "{sizes:?}");
    }

    #[tokio::test]
    async fn a_stream_that_takes_no_more_says_itself_why() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut program = TcpStream::connect(address).await.unwrap();
        let (mut local, _) = listener.accept().await.unwrap();
        program.write_all(b"late").await.unwrap();
        let credit = Credit::none();
        credit.add(1 << 20);
        let (out, sent) = mpsc::channel(1);
        drop(sent);
        feed(local.split().0, &credit, &out).await.unwrap();
    }
}
