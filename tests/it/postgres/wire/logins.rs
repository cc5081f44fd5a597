//! Passwords and TLS, against a server that asks for them.

use std::fs;

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use sublet::proto::{
    Endpoint, PoolSpec, PostgresBackend, SecretRef, Tls, pool_spec::Backend, secret_ref::Source,
};
use tempfile::TempDir;

use crate::{
    postgres::{
        definition,
        staged::{own, until},
    },
    support::{
        app::App,
        calls::*,
        postgres::{Database, Server},
        process::Process,
    },
};

const PASSWORD: &str = "p\u{e4}ss' \"word";

const RULES: &str = "host all sublet 127.0.0.1/32 trust
host all scram 127.0.0.1/32 scram-sha-256
host all hashed 127.0.0.1/32 md5
host all clear 127.0.0.1/32 password
hostssl all secure 127.0.0.1/32 scram-sha-256
";

/// A server that asks for passwords and has TLS, and what it takes to log in there.
struct Guarded {
    server: Server,
    database: Database,
    secrets: TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let (ca, chain, key) = certificates();
        let server = Server::start();
        let database = Database::fresh_on(&server).await;
        let mut admin = database.connect().await;
        let password = PASSWORD.replace('\'', "''");
        for (user, encryption) in [
            ("scram", "scram-sha-256"),
            ("hashed", "md5"),
            ("clear", "md5"),
            ("secure", "scram-sha-256"),
        ] {
            let sql =
                format!("set password_encryption = '{encryption}'; create user {user} password '{password}'");
            admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
        }
        for (file, text) in [
            ("server.crt", &chain),
            ("server.key", &key),
            ("pg_hba.conf", &RULES.to_owned()),
        ] {
            write(&mut admin, file, text).await;
        }
        admin.execute("alter system set ssl = on").await.unwrap();
        drop(admin);
        server.stop();
        server.start_again();
        let secrets = tempfile::tempdir().unwrap();
        let other = certificates().0;
        for (file, text) in [
            ("ca.pem", ca.as_str()),
            ("other.pem", &other),
            ("password", PASSWORD),
            ("wrong", "wrong"),
        ] {
            fs::write(secrets.path().join(file), text).unwrap();
        }
        Self {
            server,
            database,
            secrets,
        }
    }

    async fn app(&self) -> App {
        let root = self.secrets.path().to_owned();
        App::start_with(|config| config.secrets_dir = root).await
    }

    fn spec(&self, user: &str, change: impl FnOnce(&mut PostgresBackend)) -> PoolSpec {
        let mut spec = definition(&self.database, 1);
        own(&mut spec).user = user.to_owned();
        own(&mut spec).password = Some(file("password"));
        change(own(&mut spec));
        spec
    }
}

fn file(name: &str) -> SecretRef {
    SecretRef {
        source: Some(Source::File(name.to_owned())),
    }
}

fn tls(ca: &str) -> Option<Tls> {
    Some(Tls {
        enabled: true,
        server_name: "localhost".to_owned(),
        ca_file: ca.to_owned(),
        skip_verify: false,
    })
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

/// Writes a file into the server's folder, readable by nobody else, as a key has to be.
async fn write(admin: &mut PgConnection, file: &str, text: &str) {
    let encoded = format!("translate(encode(convert_to($text${text}$text$, 'UTF8'), 'base64'), e'\\n', '')");
    let sql = format!("copy (select {encoded}) to program 'umask 077; base64 -d > {file}'");
    admin.execute(AssertSqlSafe(sql)).await.unwrap();
}

async fn say(app: &App, spec: PoolSpec, name: &str) -> Result<serde_json::Value, String> {
    create(&app.address, name, spec).await;
    let sql = "select current_user::text as u, ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let request = one_shot("%", "query", &json!({ "sql": sql, "rows": "json" }).to_string());
    let request = sublet::proto::ExecuteRequest {
        target: Some(sublet::proto::execute_request::Target::Pool(name.to_owned())),
        ..request
    };
    let answer = execute(&mut broker(&app.address), request).await;
    answer
        .map(|text| serde_json::from_str(&text).unwrap())
        .map_err(|refused| {
            assert_eq!(
                (reason(&refused).as_str(), executed(&refused).as_str()),
                ("BACKEND_UNREACHABLE", "no")
            );
            assert!(!refused.message().contains(PASSWORD));
            refused.message().to_owned()
        })
}

fn as_user(user: &str, ssl: bool) -> Result<serde_json::Value, String> {
    Ok(json!([{ "u": user, "ssl": ssl }]))
}

#[tokio::test]
async fn passwords_and_certificates_are_checked_on_both_sides() {
    let guarded = Guarded::start().await;
    let app = guarded.app().await;
    for (user, ssl) in [
        ("scram", false),
        ("hashed", false),
        ("scram", true),
        ("hashed", true),
        ("clear", true),
        ("secure", true),
    ] {
        let spec = guarded.spec(user, |own| own.tls = tls("ca.pem").filter(|_| ssl));
        let name = format!("{user}-{}", if ssl { "tls" } else { "plain" });
        assert_eq!(say(&app, spec, &name).await, as_user(user, ssl), "{name}");
        let spec = guarded.spec(user, |own| {
            own.tls = tls("ca.pem").filter(|_| ssl);
            own.password = Some(file("wrong"));
        });
        let refused = say(&app, spec, &format!("{name}-wrong")).await.unwrap_err();
        assert!(
            refused.contains("password authentication failed") && refused.contains("28P01"),
            "{refused}"
        );
        let spec = guarded.spec(user, |own| {
            own.tls = tls("ca.pem").filter(|_| ssl);
            own.password = None;
        });
        let refused = say(&app, spec, &format!("{name}-none")).await.unwrap_err();
        assert!(refused.contains("set postgres.password"), "{refused}");
    }
    let refused = say(&app, guarded.spec("clear", |_| {}), "clear")
        .await
        .unwrap_err();
    assert!(refused.contains("in clear"), "{refused}");
    let refused = say(&app, guarded.spec("secure", |_| {}), "secure")
        .await
        .unwrap_err();
    assert!(refused.contains("28000"), "{refused}");
    let wrong = guarded.spec("scram", |own| own.tls = tls("other.pem"));
    let refused = say(&app, wrong, "other-ca").await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    let wrong = guarded.spec("scram", |own| {
        own.tls = tls("ca.pem").map(|tls| Tls {
            server_name: "db.example.com".to_owned(),
            ..tls
        });
    });
    let refused = say(&app, wrong, "other-name").await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    let missing = guarded.spec("scram", |own| own.password = Some(file("no-such-file")));
    let refused = say(&app, missing, "missing").await.unwrap_err();
    assert!(refused.contains("no-such-file"), "{refused}");
}

#[tokio::test]
async fn server_without_tls_is_refused_where_tls_is_asked_for() {
    let database = Database::fresh().await;
    let app = App::start().await;
    let mut spec = definition(&database, 1);
    own(&mut spec).tls = Some(Tls {
        enabled: true,
        skip_verify: true,
        ..Tls::default()
    });
    let refused = say(&app, spec, "plain").await.unwrap_err();
    assert!(refused.contains("the server has no TLS"), "{refused}");
}

#[tokio::test]
async fn cancelling_works_over_tls() {
    let guarded = Guarded::start().await;
    let app = guarded.app().await;
    let spec = guarded.spec("secure", |own| own.tls = tls("ca.pem"));
    assert_eq!(say(&app, spec, "db").await, as_user("secure", true));
    let mut admin = guarded.database.connect().await;
    let sleep = tokio::spawn({
        let mut broker = broker(&app.address);
        async move {
            execute(
                &mut broker,
                one_shot("db", "query", r#"{"sql":"select pg_sleep(3600)"}"#),
            )
            .await
        }
    });
    let sleeping =
        "select count(*) from pg_stat_activity where query = 'select pg_sleep(3600)' and state = 'active'";
    until(&mut admin, sleeping, 1).await;
    sleep.abort();
    until(&mut admin, sleeping, 0).await;
    let mut broker = broker(&app.address);
    let rows = execute(
        &mut broker,
        one_shot("db", "query", r#"{"sql":"select 1 as n","rows":"json"}"#),
    )
    .await;
    assert_eq!(rows.unwrap(), r#"[{"n":1}]"#);
    assert_eq!(stats(&app.address, "db").await.sessions_created, 1);
}

#[tokio::test]
async fn password_comes_from_the_environment_at_each_dial() {
    let guarded = Guarded::start().await;
    let data = tempfile::tempdir().unwrap();
    let variables = [("SUBLET_SECRET_DB", PASSWORD)];
    let process = Process::serve_with(data.path(), None, &variables).await;
    let env = |name: &str| SecretRef {
        source: Some(Source::Env(name.to_owned())),
    };
    for (variable, works) in [("SUBLET_SECRET_DB", true), ("SUBLET_SECRET_NO", false)] {
        let spec = PoolSpec {
            endpoints: vec![Endpoint {
                address: guarded.server.address().to_string(),
                ..Endpoint::default()
            }],
            backend: Some(Backend::Postgres(PostgresBackend {
                user: "scram".to_owned(),
                database: guarded.database.name().to_owned(),
                password: Some(env(variable)),
                ..PostgresBackend::default()
            })),
            ..PoolSpec::default()
        };
        let name = if works { "good" } else { "bad" };
        create(&process.address, name, spec).await;
        let mut broker = broker(&process.address);
        let answer = execute(
            &mut broker,
            one_shot(name, "query", r#"{"sql":"select 1 as n","rows":"json"}"#),
        )
        .await;
        match answer {
            Ok(rows) => assert!(works && rows == r#"[{"n":1}]"#, "{rows}"),
            Err(refused) => assert!(!works && refused.message().contains(variable), "{refused:?}"),
        }
    }
}
