//! grpc.health.v1, over the wire.

use sublet::proto::{DeletePoolRequest, PausePoolRequest};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{app::App, calls::*};

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn pool_s_health_follows_its_life() {
    let app = App::start().await;
    let mut health = HealthClient::new(channel(&app.address));
    let absent = health.check(about("pools/echo")).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    let mut watch = health.watch(about("pools/echo")).await.unwrap().into_inner();
    let mut next = async || watch.next().await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::ServiceUnknown);
    create(&app.address, "echo", echo(1)).await;
    assert_eq!(next().await, ServingStatus::Serving);
    let name = "echo".to_owned();
    pools(&app.address)
        .pause_pool(PausePoolRequest { name: name.clone() })
        .await
        .unwrap();
    assert_eq!(next().await, ServingStatus::NotServing);
    let delete = DeletePoolRequest {
        name,
        ..DeletePoolRequest::default()
    };
    pools(&app.address).delete_pool(delete).await.unwrap();
    assert_eq!(next().await, ServingStatus::ServiceUnknown);
}

#[tokio::test]
async fn readiness_turns_when_the_drain_begins() {
    let app = App::start().await;
    create(&app.address, "echo", echo(1)).await;
    let mut broker = broker(&app.address);
    let held = lease(&mut broker, "echo").await;
    let mut health = HealthClient::new(channel(&app.address));
    for service in ["", "sublet.v1.BrokerService"] {
        let status = health.check(about(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let mut watch = health.watch(about("")).await.unwrap().into_inner();
    assert_eq!(
        watch.next().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    app.begin_stop();
    assert_eq!(
        watch.next().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    release(&mut broker, &held.lease_token).await;
    drop(watch);
    app.stopped().await;
}
