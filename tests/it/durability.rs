//! What was acknowledged is there after kill -9; a store that goes away costs writes, never leases.

use std::path::Path;

use sublet::proto::{DeletePoolRequest, ListPoolsRequest};

use crate::support::{
    app::App,
    calls::*,
    postgres::{Database, Server},
    process::Process,
};

/// Kills in a row. `SUBLET_SOAK_KILLS` asks for more.
fn kills() -> usize {
    std::env::var("SUBLET_SOAK_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(10)
}

async fn names(address: &str) -> Vec<String> {
    let request = ListPoolsRequest {
        page_size: 1000,
        ..ListPoolsRequest::default()
    };
    let listed = pools(address).list_pools(request).await.unwrap().into_inner();
    listed.pools.into_iter().map(|pool| pool.name).collect()
}

async fn kill_after_each_create(data_dir: &Path, url: Option<&str>) {
    let mut acknowledged = Vec::new();
    for turn in 0..kills() {
        let process = Process::serve(data_dir, url).await;
        assert_eq!(names(&process.address).await, acknowledged, "before turn {turn}");
        let name = format!("pool-{turn:04}");
        create(&process.address, &name, echo(1)).await;
        process.kill().await;
        acknowledged.push(name);
    }
    let process = Process::serve(data_dir, url).await;
    assert_eq!(names(&process.address).await, acknowledged);
    let mut broker = broker(&process.address);
    assert_eq!(
        execute(&mut broker, one_shot("pool-0000", "echo", "1"))
            .await
            .unwrap(),
        "1"
    );
}

#[tokio::test]
async fn kill_9_right_after_create_pool_loses_nothing_on_sqlite() {
    let data = tempfile::tempdir().unwrap();
    kill_after_each_create(data.path(), None).await;
}

#[tokio::test]
async fn kill_9_right_after_create_pool_loses_nothing_on_postgres() {
    let data = tempfile::tempdir().unwrap();
    let database = Database::fresh().await;
    kill_after_each_create(data.path(), Some(&database.url())).await;
}

#[tokio::test]
async fn restart_brings_everything_back_but_what_was_deleted() {
    let data = tempfile::tempdir().unwrap();
    let app = App::over(data.path().to_owned(), |_| {}).await;
    let kept = create(&app.address, "kept", echo(3)).await;
    create(&app.address, "gone", echo(1)).await;
    let delete = DeletePoolRequest {
        name: "gone".to_owned(),
        ..DeletePoolRequest::default()
    };
    pools(&app.address).delete_pool(delete).await.unwrap();
    app.stop().await;
    let app = App::over(data.path().to_owned(), |_| {}).await;
    assert_eq!(names(&app.address).await, ["kept"]);
    let request = sublet::proto::GetPoolRequest {
        name: "kept".to_owned(),
    };
    let found = pools(&app.address)
        .get_pool(request)
        .await
        .unwrap()
        .into_inner()
        .pool
        .unwrap();
    assert_eq!(
        (found.spec, found.etag, found.create_time),
        (kept.spec, kept.etag, kept.create_time)
    );
}

#[tokio::test]
async fn store_that_goes_away_costs_writes_but_never_leases() {
    let server = Server::start();
    let database = Database::fresh_on(&server).await;
    let url = database.url();
    let app = App::start_with(|config| config.store.url = Some(url)).await;
    create(&app.address, "echo", echo(2)).await;
    let mut broker = broker(&app.address);
    let held = lease(&mut broker, "echo").await;
    server.stop();
    let refused = pools(&app.address)
        .create_pool(named("other", echo(1)))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "STORE_UNAVAILABLE");
    execute(&mut broker, on_lease(&held.lease_token, "echo", "1"))
        .await
        .unwrap();
    release(&mut broker, &held.lease_token).await;
    let again = lease(&mut broker, "echo").await;
    release(&mut broker, &again.lease_token).await;
    server.start_again();
    loop {
        match pools(&app.address).create_pool(named("other", echo(1))).await {
            Ok(_) => break,
            Err(status) => assert_eq!(reason(&status), "STORE_UNAVAILABLE", "{status:?}"),
        }
    }
    assert_eq!(names(&app.address).await, ["echo", "other"]);
}
