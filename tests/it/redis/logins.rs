//! Users, databases, TLS, and what a server refuses.

use std::{fs, path::Path};

use serde_json::Value;
use sublet::proto::{RedisBackend, SecretRef, Tls, secret_ref::Source};
use tempfile::TempDir;

use super::{definition, words};
use crate::support::{app::App, calls::*, redis::Server};

fn file(name: &str) -> Option<SecretRef> {
    let source = Some(Source::File(name.to_owned()));
    Some(SecretRef { source })
}

/// A broker whose secrets folder has these files.
async fn app(files: &[(&str, &str)]) -> (App, TempDir) {
    let secrets = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(secrets.path().join(name), text).unwrap();
    }
    let root = secrets.path().to_owned();
    (App::start_with(|config| config.secrets_dir = root).await, secrets)
}

/// What a one-shot on a pool of its own is answered; of a refusal, its message.
async fn ask(app: &App, server: &Server, name: &str, own: RedisBackend) -> Result<Value, String> {
    create(&app.address, name, definition(server, 1, own)).await;
    let request = one_shot(name, "command", &words("CLIENT INFO").to_string());
    match execute(&mut broker(&app.address), request).await {
        Ok(text) => Ok(serde_json::from_str(&text).unwrap()),
        Err(refused) => {
            assert_eq!(
                (reason(&refused).as_str(), executed(&refused).as_str()),
                ("BACKEND_UNREACHABLE", "no")
            );
            Err(refused.message().to_owned())
        }
    }
}

#[tokio::test]
async fn users_log_in_with_their_passwords_and_nobody_else_does() {
    let server = Server::start_with("", |_| {});
    let mut admin = server.connect().await;
    let password = "p\u{e4}ss\"word";
    for user in [
        &format!("app on >{password} ~* &* +@all"),
        "open on nopass ~* +@all",
    ] {
        assert_eq!(admin.run(&format!("ACL SETUSER {user}")).await, "OK");
    }
    let (app, _secrets) = app(&[("right", password), ("wrong", "wrong")]).await;
    let user = |user: &str, password: Option<&str>| RedisBackend {
        user: user.to_owned(),
        password: password.and_then(file),
        database: 3,
        client_name: "caller".to_owned(),
        ..RedisBackend::default()
    };
    let info = ask(&app, &server, "right", user("app", Some("right")))
        .await
        .unwrap();
    let info = info.as_str().unwrap();
    for shown in ["user=app ", "db=3 ", "name=caller ", "resp=3"] {
        assert!(info.contains(shown), "{info}");
    }
    let open = ask(&app, &server, "open", user("open", None)).await.unwrap();
    assert!(open.as_str().unwrap().contains("user=open "));
    for (name, own) in [
        ("wrong", user("app", Some("wrong"))),
        ("none", user("app", None)),
        ("nobody", user("nobody", Some("right"))),
    ] {
        // At once, not at the end of a wait.
        let said = ask(&app, &server, name, own).await.unwrap_err();
        assert!(said.contains("WRONGPASS"), "{name}: {said}");
        assert!(!said.contains(password), "{said}");
    }
    let missing = ask(&app, &server, "missing", user("app", Some("gone")))
        .await
        .unwrap_err();
    assert!(missing.contains("`gone`"), "{missing}");
}

#[tokio::test]
async fn an_old_style_password_is_the_default_user_s() {
    let server = Server::start_with("--requirepass secret", |_| {});
    let (app, _secrets) = app(&[("right", "secret")]).await;
    let own = RedisBackend {
        password: file("right"),
        ..RedisBackend::default()
    };
    let info = ask(&app, &server, "right", own).await.unwrap();
    assert!(info.as_str().unwrap().contains("name=sublet "), "{info}");
    let none = ask(&app, &server, "none", RedisBackend::default())
        .await
        .unwrap_err();
    assert!(none.contains("NOAUTH"), "{none}");
}

#[tokio::test]
async fn a_session_is_washed_as_the_user_it_is_for() {
    let server = Server::start_with("--requirepass secret", |_| {});
    let (app, _secrets) = app(&[("right", "secret")]).await;
    let own = RedisBackend {
        password: file("right"),
        database: 2,
        ..RedisBackend::default()
    };
    create(&app.address, "cache", definition(&server, 1, own)).await;
    let mut broker = broker(&app.address);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let token = lease(&mut broker, "cache").await.lease_token;
        for command in ["CLIENT ID", "SELECT 5", "MULTI"] {
            let request = on_lease(&token, "command", &words(command).to_string());
            seen.push(execute(&mut broker, request).await.unwrap());
        }
        release(&mut broker, &token).await;
    }
    assert_eq!((&seen[0], &seen[3]), (&seen[3], &seen[6]));
    let info = one_shot("cache", "command", &words("CLIENT INFO").to_string());
    let info = execute(&mut broker, info).await.unwrap();
    assert!(info.contains("db=2 ") && info.contains("multi=-1 "), "{info}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_permanent() {
    let server = Server::start_with("--databases 4", |_| {});
    let (app, _secrets) = app(&[]).await;
    let own = RedisBackend {
        database: 4,
        ..RedisBackend::default()
    };
    let said = ask(&app, &server, "cache", own).await.unwrap_err();
    assert!(said.contains("SELECT: ERR DB index is out of range"), "{said}");
}

#[tokio::test]
async fn a_server_that_knows_no_hello_is_named_as_too_old() {
    let server = Server::start_with("--rename-command HELLO hullo", |_| {});
    let (app, _secrets) = app(&[]).await;
    let said = ask(&app, &server, "cache", RedisBackend::default())
        .await
        .unwrap_err();
    assert!(said.contains("Redis 6 or newer is needed"), "{said}");
}

#[tokio::test]
async fn a_full_server_teaches_the_pool_its_limit() {
    let server = Server::start_with("--maxclients 2", |_| {});
    let (app, _secrets) = app(&[]).await;
    create(
        &app.address,
        "cache",
        definition(&server, 5, RedisBackend::default()),
    )
    .await;
    let mut broker = broker(&app.address);
    let first = lease(&mut broker, "cache").await.lease_token;
    let second = lease(&mut broker, "cache").await.lease_token;
    let mut third = acquire("cache");
    third.options.as_mut().unwrap().wait_timeout = Some(span(std::time::Duration::from_millis(50)));
    let full = broker.acquire_lease(third).await.unwrap_err();
    // It waits for the sessions that there are, and not for the server.
    assert_eq!(reason(&full), "ACQUIRE_TIMEOUT", "{full:?}");
    release(&mut broker, &first).await;
    let next = lease(&mut broker, "cache").await;
    assert!(next.lease.unwrap().reused);
    release(&mut broker, &second).await;
}

/// An authority, and a certificate and key that it signed for `localhost`: in PEM.
fn certificates() -> (String, String, String) {
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let signed = params.signed_by(&key, &issuer).unwrap();
    (ca.pem(), signed.pem(), key.serialize_pem())
}

#[tokio::test]
async fn sessions_pass_through_tls_to_whom_is_trusted() {
    let (ca, chain, key) = certificates();
    let prepare = |folder: &Path| {
        fs::write(folder.join("server.crt"), &chain).unwrap();
        fs::write(folder.join("server.key"), &key).unwrap();
    };
    let settings = "--tls-port {port} --port 0 --tls-cert-file server.crt --tls-key-file server.key \
                    --tls-auth-clients no";
    let server = Server::start_with(settings, prepare);
    let other = certificates().0;
    let (app, _secrets) = app(&[("ca.pem", &ca), ("other.pem", &other)]).await;
    let own = |ca: &str| RedisBackend {
        tls: Some(Tls {
            enabled: true,
            server_name: "localhost".to_owned(),
            ca_file: ca.to_owned(),
            skip_verify: false,
        }),
        ..RedisBackend::default()
    };
    let info = ask(&app, &server, "trusted", own("ca.pem")).await.unwrap();
    assert!(info.as_str().unwrap().contains("name=sublet "), "{info}");
    let said = ask(&app, &server, "stranger", own("other.pem"))
        .await
        .unwrap_err();
    assert!(said.contains("TLS"), "{said}");
    // A lease, a reset and a value larger than any buffer.
    let mut broker = broker(&app.address);
    let token = lease(&mut broker, "trusted").await.lease_token;
    for command in ["SELECT 1", "SETRANGE large 1000000 x", "MULTI"] {
        let request = on_lease(&token, "command", &words(command).to_string());
        execute(&mut broker, request).await.unwrap();
    }
    release(&mut broker, &token).await;
    let gone = one_shot("trusted", "command", &words("EXISTS large").to_string());
    assert_eq!(execute(&mut broker, gone).await.unwrap(), "0");
}
