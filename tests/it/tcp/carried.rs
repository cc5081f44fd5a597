//! Tunnels through OpenSession, as a client of the contract drives them.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use bytes::Bytes;
use sublet::proto::{
    Call, Input, Open, OpenSessionRequest, OpenSessionResponse, event, open_session_request::Message as Sent,
    open_session_response::Message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;

/// The caller's side of a tunnel, which keeps to its credit.
struct Tunnel {
    out: mpsc::UnboundedSender<OpenSessionRequest>,
    answers: tonic::Streaming<OpenSessionResponse>,
    credit: usize,
    parts: VecDeque<Bytes>,
    ended: bool,
}

impl Stage {
    /// A tunnel, and the peer's end of its connection.
    async fn tunnel(&mut self, params: &str) -> (Tunnel, TcpStream) {
        let (out, messages) = mpsc::unbounded_channel();
        let mut operation = operation("tunnel", params);
        operation.timeout = Some(span(Duration::from_secs(3600)));
        let open = Open {
            pool: "device".to_owned(),
            options: None,
        };
        let call = Call {
            id: 1,
            operation: Some(operation),
            stream: true,
            more_input: true,
        };
        for message in [Sent::Open(open), Sent::Call(call)] {
            let message = Some(message);
            out.send(OpenSessionRequest { message }).unwrap();
        }
        let answers = self
            .broker
            .open_session(UnboundedReceiverStream::new(messages))
            .await;
        let tunnel = Tunnel {
            out,
            answers: answers.unwrap().into_inner(),
            credit: 0,
            parts: VecDeque::new(),
            ended: false,
        };
        (tunnel, self.accept().await)
    }
}

impl Tunnel {
    async fn step(&mut self) {
        let answer = self.answers.message().await.unwrap().expect("the stream goes on");
        match answer.message.unwrap() {
            Message::Opened(_) => {}
            Message::InputCredit(bytes) => self.credit += bytes as usize,
            Message::Event(event) => match event.event.unwrap() {
                event::Event::Accepted(_) => {}
                event::Event::Data(data) => self.parts.push_back(data),
                event::Event::End(_) => self.ended = true,
                other => panic!("no part: {other:?}"),
            },
            other => panic!("no event: {other:?}"),
        }
    }

    async fn send(&mut self, mut data: Bytes) {
        while !data.is_empty() {
            while self.credit == 0 {
                self.step().await;
            }
            let data = data.split_to(data.len().min(self.credit).min(64 << 10));
            self.credit -= data.len();
            self.input(data, false);
        }
    }

    fn last(&self) {
        self.input(Bytes::new(), true);
    }

    fn input(&self, data: Bytes, last: bool) {
        let call_id = 1;
        let message = Some(Sent::Input(Input { call_id, data, last }));
        self.out.send(OpenSessionRequest { message }).unwrap();
    }

    /// The next part; none at the end.
    async fn part(&mut self) -> Option<Bytes> {
        while self.parts.is_empty() && !self.ended {
            self.step().await;
        }
        self.parts.pop_front()
    }
}

/// Has the broker itself let some time pass.
async fn pass(broker: &mut Broker, time: &str) {
    let params = format!(r#"{{"duration":"{time}"}}"#);
    execute(broker, one_shot("time", "sleep", &params)).await.unwrap();
}

#[tokio::test]
async fn both_sides_end_one_after_the_other_and_the_session_with_them() {
    let mut stage = Stage::with(|address| kept(address, 1)).await;
    let (mut tunnel, mut peer) = stage.tunnel("{}").await;
    tunnel.send(Bytes::from_static(b"question")).await;
    tunnel.last();
    assert_eq!(end_of(&mut peer).await, (b"question".to_vec(), true));
    says(&mut peer, "answer").await;
    peer.shutdown().await.unwrap();
    assert_eq!(tunnel.part().await.unwrap(), "answer");
    assert_eq!(tunnel.part().await, None);
    let call = Call {
        id: 2,
        operation: Some(operation("send", r#"{"text":"late"}"#)),
        ..Call::default()
    };
    let message = Some(Sent::Call(call));
    tunnel.out.send(OpenSessionRequest { message }).unwrap();
    let answer = tunnel.answers.message().await.unwrap().unwrap();
    match answer.message.unwrap() {
        Message::Error(status) => assert!(status.message.contains("used the session up"), "{status:?}"),
        other => panic!("it was answered: {other:?}"),
    }
}

#[tokio::test]
async fn a_large_transfer_each_way_at_once_arrives_whole() {
    let mut stage = Stage::with(|address| definition(address, 1)).await;
    let (mut tunnel, peer) = stage.tunnel(r#"{"half_open":true}"#).await;
    let (mut reader, mut writer) = peer.into_split();
    let echo = tokio::spawn(async move {
        let echoed = tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
        echoed
    });
    let whole: Bytes = (0..4 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    let mut back = Vec::new();
    let mut left = whole.clone();
    while !left.is_empty() {
        // Half of what the session holds on the way: the rest comes back meanwhile.
        tunnel.send(left.split_to(left.len().min(128 << 10))).await;
        while let Some(part) = tunnel.parts.pop_front() {
            back.extend_from_slice(&part);
        }
    }
    while back.len() < whole.len() {
        back.extend_from_slice(&tunnel.part().await.unwrap());
    }
    tunnel.last();
    assert_eq!(tunnel.part().await, None);
    assert!(back == whole);
    assert_eq!(echo.await.unwrap(), 4 << 20);
}

#[tokio::test]
async fn an_idle_tunnel_outlives_the_stall_and_a_call_does_not() {
    let mut stage = Stage::with(|address| PoolSpec {
        timeouts: Some(Timeouts {
            stall: Some(span(Duration::from_millis(40))),
            ..Timeouts::default()
        }),
        ..definition(address, 2)
    })
    .await;
    create(&stage.app.address, "time", echo(1)).await;
    let (mut tunnel, mut peer) = stage.tunnel("{}").await;
    tunnel.send(Bytes::from_static(b"before")).await;
    hears(&mut peer, "before").await;
    let asking = execute(
        &mut stage.broker,
        one_shot("device", "request", r#"{"text":"GET\r\n"}"#),
    );
    let error = asking.await.unwrap_err();
    assert!(error.message().contains("stall"), "{}", error.message());
    // Several of the stalls.
    pass(&mut stage.broker, "400ms").await;
    tunnel.send(Bytes::from_static(b"after")).await;
    hears(&mut peer, "after").await;
    says(&mut peer, "still here").await;
    assert_eq!(tunnel.part().await.unwrap(), "still here");
}

/// The most that may be on its way to a caller who reads none: the buffers of two sockets, 33 parts in the broker, and
/// HTTP/2's window of the client.
const ON_ITS_WAY: usize = 32 << 20;

/// What the peer can send until nothing moves any more.
async fn flood(peer: &mut TcpStream, broker: &mut Broker) -> usize {
    let part = vec![b'x'; 64 << 10];
    let sent = AtomicUsize::new(0);
    let writing = async {
        loop {
            sent.fetch_add(peer.write(&part).await.unwrap(), SeqCst);
        }
    };
    let resting = async {
        let mut before = usize::MAX;
        while sent.load(SeqCst) != before {
            before = sent.load(SeqCst);
            assert!(
                before < ON_ITS_WAY,
                "{before} bytes went out to a caller who reads none"
            );
            pass(broker, "100ms").await;
        }
    };
    tokio::select! {
        () = writing => {}
        () = resting => {}
    }
    sent.into_inner()
}

#[tokio::test]
async fn a_caller_who_does_not_read_pauses_the_peers_sends() {
    let mut stage = Stage::with(|address| definition(address, 1)).await;
    create(&stage.app.address, "time", echo(1)).await;
    let (mut tunnel, mut peer) = stage.tunnel("{}").await;
    let sent = flood(&mut peer, &mut stage.broker).await;
    let mut received = 0;
    while received < sent {
        received += tunnel.part().await.unwrap().len();
    }
    says(&mut peer, "on").await;
    while received < sent + 2 {
        received += tunnel.part().await.unwrap().len();
    }
    assert_eq!(received, sent + 2, "nothing was lost, and it goes on");
}

#[tokio::test]
async fn a_client_that_goes_without_a_word_costs_its_session_at_once() {
    let mut stage = Stage::with(|address| kept(address, 1)).await;
    let (mut tunnel, mut peer) = stage.tunnel("{}").await;
    tunnel.send(Bytes::from_static(b"half a mess")).await;
    hears(&mut peer, "half a mess").await;
    drop(tunnel);
    assert_eq!(end_of(&mut peer).await, (Vec::new(), false), "a reset");
}
