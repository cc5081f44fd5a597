//! What a definition may say.

use std::{collections::HashMap, time::Duration};

use sublet::proto::{
    EchoBackend, Endpoint, Pool, PoolSpec, PostgresBackend, SecretRef, Tls, UpdatePoolRequest,
    pool_spec::Backend, postgres_backend::Reset, secret_ref::Source,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Stage, definition, staged::own};
use crate::support::{app::App, calls::*, postgres::Database};

/// The faults of a definition, each `field: what is wrong`.
async fn faults(app: &App, spec: PoolSpec) -> Vec<String> {
    let refused = pools(&app.address)
        .create_pool(named("db", spec))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    told(&refused)
}

fn told(refused: &Status) -> Vec<String> {
    let details = refused.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    let mut told: Vec<_> = violations
        .iter()
        .map(|fault| format!("{}: {}", fault.field, fault.description))
        .collect();
    told.sort();
    told
}

fn at(address: &str) -> Endpoint {
    Endpoint {
        address: address.to_owned(),
        ..Endpoint::default()
    }
}

fn spec(endpoints: Vec<Endpoint>, own: PostgresBackend) -> PoolSpec {
    PoolSpec {
        endpoints,
        backend: Some(Backend::Postgres(own)),
        ..PoolSpec::default()
    }
}

#[tokio::test]
async fn every_fault_is_told_at_once_with_its_path() {
    let app = App::start().await;
    let bad = PostgresBackend {
        database: "a\0b".to_owned(),
        password: Some(SecretRef {
            source: Some(Source::Env("HOME".to_owned())),
        }),
        tls: Some(Tls {
            server_name: "db".to_owned(),
            ca_file: "../ca.pem".to_owned(),
            ..Tls::default()
        }),
        parameters: HashMap::from([
            ("Client_Encoding".to_owned(), "LATIN1".to_owned()),
            ("options".to_owned(), "-c a=b".to_owned()),
            ("work_mem".to_owned(), "64MB".to_owned()),
        ]),
        init_sql: vec!["select 1".to_owned(), " ".to_owned()],
        statement_cache: Some(10_001),
        idle_in_transaction_timeout: Some(span(Duration::from_secs(86_401))),
        ..PostgresBackend::default()
    };
    let found = faults(&app, spec(vec![at("db:70000")], bad)).await;
    insta::assert_snapshot!(found.join("\n"), @r"
    pool.spec.endpoints[0].address: must be host:port, such as db.example.com:5432 or [::1]:5432; user, password and database have fields of their own below `postgres`
    pool.spec.postgres.database: holds a NUL character
    pool.spec.postgres.idle_in_transaction_timeout: must be 0ns to 86400s
    pool.spec.postgres.init_sql[1]: must be a statement, without a zero byte
    pool.spec.postgres.parameters.Client_Encoding: is the broker's own: use the field for it, if there is one
    pool.spec.postgres.parameters.options: is the broker's own: use the field for it, if there is one
    pool.spec.postgres.password.env: must be SUBLET_SECRET_ followed by letters, digits and underscores: no other variable is read
    pool.spec.postgres.statement_cache: must be 0 to 10000
    pool.spec.postgres.tls.ca_file: means nothing without TLS: set tls.enabled, or an https:// address
    pool.spec.postgres.tls.ca_file: must be relative to the secrets folder, without `.` and `..`
    pool.spec.postgres.tls.server_name: means nothing without TLS: set tls.enabled, or an https:// address
    pool.spec.postgres.user: is missing: the user to log in as
    ");
}

#[tokio::test]
async fn server_is_exactly_one_and_its_address_a_host_and_port() {
    let app = App::start().await;
    let good = PostgresBackend {
        user: "u".to_owned(),
        ..PostgresBackend::default()
    };
    let mut found = faults(&app, spec(vec![], good.clone())).await;
    found.extend(faults(&app, spec(vec![at("a"), at("b")], good.clone())).await);
    for address in [
        "",
        "db:0",
        "db:",
        "a b:1",
        "postgres://u@db/x",
        "[::1",
        "[db]:5432",
        "/var/run",
    ] {
        let told = faults(&app, spec(vec![at(address)], good.clone())).await;
        assert_eq!(told.len(), 1, "{address}: {told:?}");
        assert!(
            told[0].starts_with("pool.spec.endpoints[0].address: must be host:port"),
            "{told:?}"
        );
    }
    insta::assert_snapshot!(found.join("\n"), @r"
    pool.spec.endpoints: must have the address of the server: `host:port`
    pool.spec.endpoints: must be exactly one for `postgres`
    ");
    for (index, address) in ["db", "db:5433", "[::1]", "[::1]:5433", "10.0.0.1"]
        .iter()
        .enumerate()
    {
        let name = format!("db-{index}");
        create(&app.address, &name, spec(vec![at(address)], good.clone())).await;
    }
}

#[tokio::test]
async fn kind_never_changes() {
    let stage = Stage::with(1).await;
    let other = Pool {
        name: "db".to_owned(),
        spec: Some(PoolSpec {
            backend: Some(Backend::Echo(EchoBackend::default())),
            ..PoolSpec::default()
        }),
        ..Pool::default()
    };
    let request = UpdatePoolRequest {
        pool: Some(other),
        ..UpdatePoolRequest::default()
    };
    let refused = pools(&stage.app.address).update_pool(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    insta::assert_snapshot!(told(&refused).join("\n"), @r"
    pool.spec.echo: a pool's backend kind never changes: this one is `postgres`; create another pool
    pool.spec.endpoints: must be left out: `echo` is inside the broker
    ");
}

#[tokio::test]
async fn changed_server_recycles_the_sessions_and_the_definition_comes_back_as_it_was_given() {
    let mut stage = Stage::with(1).await;
    assert_eq!(
        stage.rows("select current_database() as d").await[0]["d"],
        stage.database.name()
    );
    let other = Database::fresh().await;
    let mut changed = definition(&other, 1);
    own(&mut changed)
        .parameters
        .insert("search_path".to_owned(), "pg_catalog".to_owned());
    let request = UpdatePoolRequest {
        pool: Some(Pool {
            name: "db".to_owned(),
            spec: Some(changed.clone()),
            ..Pool::default()
        }),
        ..UpdatePoolRequest::default()
    };
    pools(&stage.app.address).update_pool(request).await.unwrap();
    assert_eq!(
        stage.rows("select current_database() as d").await[0]["d"],
        other.name()
    );
    assert_eq!(
        stage.rows("show search_path").await[0]["search_path"],
        "pg_catalog"
    );
    let listed = pools(&stage.app.address)
        .list_pools(sublet::proto::ListPoolsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let kept = listed.pools[0].spec.clone().unwrap();
    own(&mut changed).set_reset(Reset::Full);
    assert_eq!(
        (kept.endpoints, kept.backend),
        (changed.endpoints, changed.backend)
    );
}

#[tokio::test]
async fn stored_definition_is_its_proto_json() {
    let database = Database::fresh().await;
    let app = App::start_with(|config| config.store.url = Some(database.url())).await;
    let whole = PostgresBackend {
        database: "orders".to_owned(),
        user: "app".to_owned(),
        password: Some(SecretRef {
            source: Some(Source::Env("SUBLET_SECRET_ORDERS".to_owned())),
        }),
        tls: Some(Tls {
            enabled: true,
            server_name: "db.example.com".to_owned(),
            ca_file: "ca.pem".to_owned(),
            skip_verify: false,
        }),
        reset: Reset::Transaction.into(),
        parameters: HashMap::from([("search_path".to_owned(), "app".to_owned())]),
        init_sql: vec!["set lock_timeout = '5s'".to_owned()],
        statement_cache: Some(0),
        idle_in_transaction_timeout: Some(span(Duration::from_millis(1500))),
    };
    create(&app.address, "db", spec(vec![at("db.example.com:5432")], whole)).await;
    let mut admin = database.connect().await;
    let stored: (String,) = sqlx::query_as("select spec::text from pools")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    insta::assert_snapshot!(stored.0, @r#"{"postgres": {"tls": {"caFile": "ca.pem", "enabled": true, "serverName": "db.example.com"}, "user": "app", "reset": "RESET_TRANSACTION", "initSql": ["set lock_timeout = '5s'"], "database": "orders", "password": {"env": "SUBLET_SECRET_ORDERS"}, "parameters": {"search_path": "app"}, "statementCache": 0, "idleInTransactionTimeout": "1.500s"}, "endpoints": [{"address": "db.example.com:5432"}]}"#);
}
