//! The ways to a driver, and what it is told: Unix sockets, TLS, config and secrets.

use sublet::proto::{Endpoint, SecretRef, Tls, secret_ref::Source};
use tonic::Code;

use super::*;
use crate::support::http_peer::Identity;

/// A broker whose secrets folder holds these files.
async fn app(files: &[(&str, &str)]) -> (App, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let root = folder.path().to_owned();
    let app = App::start_with(|config| config.secrets_dir = root).await;
    (app, folder)
}

fn own(spec: &mut PoolSpec) -> &mut PluginBackend {
    match &mut spec.backend {
        Some(Backend::Plugin(own)) => own,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn driver_at_a_unix_socket_is_told_of_its_device_and_its_secrets() {
    let (app, folder) = app(&[("pin", "1234\n")]).await;
    let driver = Running::at(&folder.path().join("driver.sock"));
    let mut spec = definition(&driver.address, 1);
    spec.endpoints = vec![Endpoint {
        name: "press".to_owned(),
        address: "usb:3".to_owned(),
        max_sessions: None,
    }];
    let pin = SecretRef {
        source: Some(Source::File("pin".to_owned())),
    };
    own(&mut spec).secrets = [("pin".to_owned(), pin)].into();
    create(&app.address, "dev", spec).await;
    let mut broker = broker(&app.address);
    let result = broker
        .execute(one_shot("dev", "echo", "{}"))
        .await
        .unwrap()
        .into_inner()
        .result;
    assert_eq!(result.unwrap().info.unwrap().endpoint, "press");
    assert_eq!(driver.record.count("connect usb:3"), 1);
    assert_eq!(driver.record.count("pin 1234"), 1);
}

#[tokio::test]
async fn driver_behind_tls_is_reached_if_its_certificate_is_trusted() {
    let identity = Identity::new();
    let (app, _folder) = app(&[("ca.pem", &identity.pem), ("other.pem", &Identity::new().pem)]).await;
    let driver = Running::secure(&identity);
    let mut broker = broker(&app.address);
    for (pool, file) in [("good", "ca.pem"), ("bad", "other.pem")] {
        let mut spec = definition(&driver.address, 1);
        own(&mut spec).tls = Some(Tls {
            ca_file: file.to_owned(),
            ..Tls::default()
        });
        create(&app.address, pool, spec).await;
    }
    for _ in 0..3 {
        let text = execute(&mut broker, one_shot("good", "count", r#"{"count": 2}"#)).await;
        assert!(text.is_ok(), "{text:?}");
    }
    assert_eq!(stats(&app.address, "good").await.sessions_created, 1);
    let refused = execute(&mut broker, one_shot("bad", "echo", "{}"))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "BACKEND_UNREACHABLE");
}

#[tokio::test]
async fn config_that_the_driver_refuses_is_told_at_once_in_its_words() {
    let mut stage = Stage::with(1).await;
    let mut spec = definition(&stage.driver.address, 1);
    let fields = [("broken".to_owned(), prost_types::Value::from(true))].into();
    own(&mut spec).config = Some(prost_types::Struct { fields });
    create(&stage.app.address, "broken", spec.clone()).await;
    let refused = execute(&mut stage.broker, one_shot("broken", "echo", "{}"))
        .await
        .unwrap_err();
    assert_eq!(
        (reason(&refused).as_str(), executed(&refused).as_str()),
        ("BACKEND_UNREACHABLE", "no")
    );
    assert!(
        refused.message().contains("config.broken: leave it out"),
        "{refused:?}"
    );
    own(&mut spec).config = Some(prost_types::Struct::default());
    create(&stage.app.address, "whole", spec).await;
    assert_eq!(
        execute(&mut stage.broker, one_shot("whole", "echo", "{}"))
            .await
            .unwrap(),
        "{}"
    );
}

#[tokio::test]
async fn definition_that_makes_no_sense_is_refused_with_every_fault() {
    let app = App::start().await;
    let mut spec = definition("driver", 1);
    spec.endpoints = vec![Endpoint::default()];
    let refused = pools(&app.address)
        .create_pool(named("dev", spec))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let text = format!("{refused:?}");
    for field in ["pool.spec.plugin.address", "pool.spec.endpoints[0].address"] {
        assert!(text.contains(field), "{field}: {text}");
    }
}
