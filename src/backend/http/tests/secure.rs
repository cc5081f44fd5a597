//! TLS, and secrets in headers.

use super::*;
use crate::proto::{SecretRef, Tls, secret_ref::Source};

fn own(tls: Tls) -> HttpBackend {
    HttpBackend {
        tls: Some(tls),
        ..HttpBackend::default()
    }
}

fn trusting(file: &str) -> Tls {
    Tls {
        ca_file: file.to_owned(),
        ..Tls::default()
    }
}

/// Dials with `tls`; the secrets folder holds `identity` as `ca.pem`, and a stranger's as `other.pem`.
async fn dial(
    address: &str,
    tls: Tls,
    identity: &Identity,
) -> Result<(Arc<Fence>, Box<dyn Session>), DialError> {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("ca.pem"), &identity.pem).unwrap();
    std::fs::write(root.path().join("other.pem"), Identity::new().pem).unwrap();
    std::fs::write(root.path().join("none.pem"), "nothing").unwrap();
    let backend = backend(&spec(address, own(tls)), root.path()).unwrap();
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let session = backend.dial(Arc::clone(&fence), "").await?;
    Ok((fence, session))
}

#[tokio::test]
async fn requests_pass_through_tls_and_its_handshake_is_nothing_of_them() {
    let identity = Identity::new();
    let peer = Peer::start_tls(vec![vec![Step::Echo]], &identity);
    let address = format!("https://localhost:{}/", peer.port());
    let (fence, mut session) = dial(&address, trusting("ca.pem"), &identity).await.unwrap();
    assert_eq!(fence.sent(), 0);
    for _ in 0..3 {
        let mut sink = Sink::collect(1000);
        session
            .execute(request(json!({"method": "POST", "json": [1]})), &mut sink)
            .await
            .unwrap();
        session.probe().await.unwrap();
    }
    assert_eq!((peer.lines().len(), peer.requests().len()), (1, 3));
    assert!(fence.sent() > 0);
    session.close().await;
    peer.until(|lines| lines[0].end == Some(End::Closed)).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_permanent() {
    let identity = Identity::new();
    let peer = Peer::start_tls(vec![vec![Step::Serve]], &identity);
    let by_name = format!("https://localhost:{}", peer.port());
    let by_address = format!("https://{}", peer.address());
    for (address, tls) in [
        (&by_name, trusting("other.pem")),
        (&by_address, trusting("ca.pem")),
        (
            &by_name,
            Tls {
                server_name: "other.example".to_owned(),
                ..trusting("ca.pem")
            },
        ),
        (&by_name, trusting("none.pem")),
        (&by_name, trusting("missing.pem")),
    ] {
        let error = dial(address, tls.clone(), &identity).await.unwrap_err();
        assert_eq!(error.kind, DialErrorKind::Permanent, "{tls:?}: {error}");
    }
    assert_eq!(peer.requests().len(), 0);
}

#[tokio::test]
async fn the_name_to_verify_can_be_given_and_verifying_be_left_out() {
    let identity = Identity::new();
    let peer = Peer::start_tls(vec![vec![Step::Serve]], &identity);
    let by_address = format!("https://{}", peer.address());
    let named = Tls {
        server_name: "localhost".to_owned(),
        ..trusting("ca.pem")
    };
    dial(&by_address, named, &identity).await.unwrap();
    let anyone = Tls {
        skip_verify: true,
        enabled: true,
        ..Tls::default()
    };
    dial(&peer.address(), anyone, &identity).await.unwrap();
}

#[tokio::test]
async fn a_service_that_speaks_no_tls_is_permanent_and_one_that_hangs_up_is_not() {
    let identity = Identity::new();
    let plain = Peer::start(vec![vec![answer("HTTP/1.1 400 Bad Request\n\n"), Step::ToEnd]]);
    let address = format!("https://localhost:{}", plain.port());
    let error = dial(&address, trusting("ca.pem"), &identity).await.unwrap_err();
    assert_eq!(error.kind, DialErrorKind::Permanent, "{error}");
    let closing = Peer::start(vec![vec![Step::Bytes(1)]]);
    let address = format!("https://localhost:{}", closing.port());
    let error = dial(&address, trusting("ca.pem"), &identity).await.unwrap_err();
    assert_eq!(error.kind, DialErrorKind::Transient, "{error}");
}

#[tokio::test]
async fn a_tls_connection_closed_while_idle_is_dialed_anew() {
    let identity = Identity::new();
    let closes = vec![Step::Request, Step::Json("{}"), Step::Wait];
    let peer = Peer::start_tls(vec![closes, vec![Step::Serve]], &identity);
    let address = format!("https://localhost:{}/", peer.port());
    let (_, mut session) = dial(
        &address,
        Tls {
            skip_verify: true,
            ..Tls::default()
        },
        &identity,
    )
    .await
    .unwrap();
    session
        .execute(request(json!({})), &mut Sink::collect(1000))
        .await
        .unwrap();
    peer.go_on();
    peer.until(|lines| lines[0].end.is_some()).await;
    let completion = session
        .execute(request(json!({})), &mut Sink::collect(1000))
        .await
        .unwrap();
    assert_eq!((completion.retries, peer.requests().len()), (1, 2));
}

fn keyed(name: &str) -> HttpBackend {
    let reference = SecretRef {
        source: Some(Source::Env(name.to_owned())),
    };
    HttpBackend {
        secret_headers: [("authorization".to_owned(), reference)].into(),
        ..HttpBackend::default()
    }
}

#[tokio::test]
async fn secret_headers_are_sent_and_shown_nowhere() {
    let peer = Peer::start(vec![vec![Step::Serve]]);
    let mut bench = Bench::made(&spec(&peer.address(), keyed("SUBLET_SECRET_KEY"))).await;
    bench.ask(json!({})).await.unwrap();
    bench
        .ask(json!({"headers": {"authorization": "own"}}))
        .await
        .unwrap();
    let heads: Vec<_> = peer.requests().into_iter().map(|seen| seen.head).collect();
    assert!(
        heads[0].contains("authorization: Bearer canary\r\n"),
        "{}",
        heads[0]
    );
    assert!(
        heads[1].contains("authorization: own\r\n") && !heads[1].contains("canary"),
        "{}",
        heads[1]
    );
    let shown = format!("{:?} {:?}", bench.backend, bench.session);
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn a_missing_secret_fails_the_dial_for_good_and_is_named() {
    let peer = Peer::start(vec![vec![Step::Serve]]);
    let backend = backend(
        &spec(&peer.address(), keyed("SUBLET_SECRET_GONE")),
        Path::new("/"),
    )
    .unwrap();
    let error = backend.dial(Arc::default(), "").await.unwrap_err();
    assert_eq!(error.kind, DialErrorKind::Permanent);
    assert!(error.message.contains("SUBLET_SECRET_GONE"), "{error}");
}
