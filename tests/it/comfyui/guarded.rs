//! Boxes behind a proxy, with TLS, a password and a path.

use serde_json::json;
use sublet::proto::{SecretRef, Tls, secret_ref::Source};

use tempfile::TempDir;

use super::*;
use crate::support::http_peer::Identity;

/// A broker whose secrets folder has the password, and a pool of one box that wants another, or the same.
async fn stage(wanted: &str) -> (App, Broker, Peer, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "Basic c2VjcmV0\n").unwrap();
    let identity = Identity::new();
    std::fs::write(folder.path().join("ca.pem"), &identity.pem).unwrap();
    let root = folder.path().to_owned();
    let app = App::start_with(|config| config.secrets_dir = root).await;
    let peer = Peer::guarded(&identity, wanted);
    let password = SecretRef {
        source: Some(Source::File("password".to_owned())),
    };
    let mut spec = definition(std::slice::from_ref(&peer));
    let port = peer.address().rsplit_once(':').unwrap().1.to_owned();
    spec.endpoints[0].address = format!("https://localhost:{port}/attic");
    spec.backend = Some(Backend::Comfyui(ComfyUiBackend {
        tls: Some(Tls {
            ca_file: "ca.pem".to_owned(),
            ..Tls::default()
        }),
        secret_headers: [("authorization".to_owned(), password)].into(),
        ..ComfyUiBackend::default()
    }));
    create(&app.address, "art", spec).await;
    let broker = broker(&app.address);
    (app, broker, peer, folder)
}

#[tokio::test]
async fn a_box_behind_a_proxy_is_spoken_to_as_the_proxy_wants() {
    let (_app, mut broker, peer, _folder) = stage("Basic c2VjcmV0").await;
    let params = json!({ "workflow": only("Steps", json!({ "steps": 3 })), "preview_fps": 30 }).to_string();
    let told = stream(&mut broker, one_shot("art", "queue_prompt", &params)).await;
    let told = told.all().await.unwrap();
    assert!(kinds(&told).contains(&"preview"), "the socket is there too");
    peer.look(|state| {
        let all = state.requests.iter();
        assert!(
            all.clone().all(|line| line.contains(" /attic/")),
            "{:?}",
            state.requests
        );
        assert!(all.clone().any(|line| line.contains("/attic/ws?clientId=")));
    });
}

#[tokio::test]
async fn a_proxy_that_shows_what_it_was_sent_gives_no_secret_away() {
    let (_app, mut broker, _peer, _folder) = stage("another").await;
    let status = execute(&mut broker, one_shot("art", "system_stats", "{}"))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), fact(&status, "kind")),
        (tonic::Code::FailedPrecondition, "refused".to_owned())
    );
    assert!(status.message().contains("is not welcome"), "{status:?}");
    assert!(!format!("{status:?}").contains("c2VjcmV0"), "{status:?}");
}

#[tokio::test]
async fn a_prompt_does_not_wait_for_a_login_that_is_refused() {
    let (_app, mut broker, peer, _folder) = stage("another").await;
    let params = json!({ "workflow": saves() }).to_string();
    let status = execute(&mut broker, one_shot("art", "queue_prompt", &params))
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "BACKEND_UNREACHABLE");
    assert!(status.message().contains("403"), "{status:?}");
    assert_eq!(peer.look(|state| state.requests.len()), 1, "it was tried once");
    assert!(!format!("{status:?}").contains("c2VjcmV0"), "{status:?}");
}
