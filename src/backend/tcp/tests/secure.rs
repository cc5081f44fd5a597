//! TLS.

use super::{
    peer::{End, Identity, Peer, Step},
    *,
};
use crate::proto::{Tls, tcp_reset::Keep};

fn secured(keep: Keep) -> TcpBackend {
    TcpBackend {
        tls: Some(Tls {
            enabled: true,
            ca_file: "ca.pem".to_owned(),
            ..Tls::default()
        }),
        ..lines_reset_by(How::Keep(keep.into()))
    }
}

async fn dial(peer: &Peer, identity: &Identity, keep: Keep) -> (Arc<Fence>, Box<dyn Session>) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("ca.pem"), &identity.pem).unwrap();
    let address = format!("localhost:{}", peer.port());
    let backend = backend(&address, secured(keep), root.path()).unwrap();
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let session = backend.dial(Arc::clone(&fence), "").await.unwrap();
    (fence, session)
}

#[tokio::test]
async fn messages_pass_through_tls_and_its_own_are_nobodys_leftovers() {
    let identity = Identity::new();
    let script = vec![
        Step::Bytes(6),
        Step::Send(b"+PONG\r\n".to_vec()),
        Step::Bytes(12),
        Step::Send(b"+PONG\r\n".to_vec()),
        Step::ToEnd,
    ];
    let peer = Peer::start_tls(vec![script], &identity);
    let (fence, mut session) = dial(&peer, &identity, Keep::Answered).await;
    assert_eq!(fence.sent(), 0, "the handshake is nothing of a call");
    for _ in 0..2 {
        session.probe().await.unwrap();
        let mut sink = Sink::collect(100);
        let request = operation("request", json!({"text": "PING\r\n"}));
        session.execute(request, &mut sink).await.unwrap();
        let Sink::Collect(collected) = sink else {
            unreachable!()
        };
        assert_eq!(body(Ok(collected.into_parts().0)), "+PONG\r\n");
        if session.cleanliness() == Cleanliness::Dirty {
            session.reset().await.unwrap();
        }
        assert_eq!(session.cleanliness(), Cleanliness::Clean);
        fence.open(fence.number() + 1);
    }
    session.close().await;
    peer.until(|lines| lines[0].end == Some(End::Closed)).await;
    assert_eq!(peer.lines()[0].bytes, b"PING\r\nPING\r\n");
}

#[tokio::test]
async fn a_word_that_nobody_asked_for_is_found_behind_tls_too() {
    let identity = Identity::new();
    let script = vec![Step::Bytes(1), Step::Send(b"unasked".to_vec()), Step::ToEnd];
    let peer = Peer::start_tls(vec![script], &identity);
    let (_, mut session) = dial(&peer, &identity, Keep::Silent).await;
    let send = operation("send", json!({"text": "x"}));
    session.execute(send, &mut Sink::collect(0)).await.unwrap();
    // It is there at the latest when this probe, which finds tickets first, has found it.
    while session.probe().await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
}
