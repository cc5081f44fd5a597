//! Services over HTTP, and drivers of one's own.

use sublet::proto::{Endpoint, HttpBackend, PluginBackend, Sizing, pool_spec::Backend};

use super::*;
use crate::support::{
    driver::{Fault, Running},
    http_peer::Peer,
    llm_peer::answered,
};

#[tokio::test]
async fn an_operations_name_alone_does_not_make_it_a_prompts() {
    let driver = Running::start(Fault::None).await;
    let spec = PoolSpec {
        backend: Some(Backend::Plugin(PluginBackend {
            address: driver.address.clone(),
            ..PluginBackend::default()
        })),
        ..PoolSpec::default()
    };
    let stage = Stage::with("press", spec).await;
    let fetch = ["--pool", "press", "fetch", "{\"count\": 3}"];
    let ran = stage.run(&fetch).await;
    assert_eq!((ran.code, ran.text(), ran.err.as_str()), (Some(0), "xxx", ""));
    let saved = stage.run(&[&fetch[..], &["--save", "out"]].concat()).await;
    assert_eq!(saved.well(), "out/fetch\n");
    assert_eq!(stage.read("out/fetch"), b"xxx");
}

#[tokio::test]
async fn a_status_that_is_not_well_is_told_beside_the_answer() {
    let script = [
        answered(503, "", "not now"),
        answered(200, "", ""),
        answered(404, "", "gone"),
    ];
    let peer = Peer::start(vec![script.concat()]);
    let spec = PoolSpec {
        endpoints: vec![Endpoint {
            address: peer.address(),
            ..Endpoint::default()
        }],
        sizing: Some(Sizing {
            max_sessions: Some(1),
            ..Sizing::default()
        }),
        backend: Some(Backend::Http(HttpBackend::default())),
        ..PoolSpec::default()
    };
    let stage = Stage::with("api", spec).await;
    let request = ["--pool", "api", "request", "{\"path\": \"/\"}"];
    let ill = stage.run(&request).await;
    assert_eq!((ill.well(), ill.err.as_str()), ("not now", "status 503\n"));
    let well = stage.run(&request).await;
    assert_eq!((well.well(), well.err.as_str()), ("", ""));
    let whole = stage
        .run(&[&request[..], &["--whole", "--save", "out"]].concat())
        .await;
    assert_eq!(
        (whole.well(), whole.err.as_str()),
        ("out/request.txt\n", "status 404\n")
    );
}
