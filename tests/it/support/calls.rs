//! Short ways to say what tests ask for.

use std::time::Duration;

use prost_types::Duration as Span;
use sublet::proto::{
    self, AcquireLeaseRequest, AcquireLeaseResponse, AcquireOptions, CreatePoolRequest, EchoBackend,
    ExecuteRequest, GetPoolStatsRequest, LeasePolicy, Operation, Pool, PoolSpec, Sizing,
    broker_service_client::BrokerServiceClient, execute_request::Target, operation::Input,
    pool_service_client::PoolServiceClient, pool_spec::Backend, result::Output,
    stats_service_client::StatsServiceClient,
};
use tokio_stream::StreamExt as _;
use tonic::{Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

pub type Broker = BrokerServiceClient<Channel>;

/// A connection of its own to a broker; connects at the first call, and again after a break.
pub fn channel(address: &str) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    endpoint.tcp_nodelay(true).connect_lazy()
}

pub fn broker(address: &str) -> Broker {
    BrokerServiceClient::new(channel(address))
}

pub fn pools(address: &str) -> PoolServiceClient<Channel> {
    PoolServiceClient::new(channel(address))
}

/// Returns once a broker is ready. Whoever starts one must not go on before.
pub async fn serving(address: &str) {
    loop {
        let mut health = HealthClient::new(channel(address));
        let request = HealthCheckRequest::default();
        let Ok(watch) = health.watch(request).await else {
            // It does not listen yet: there is nothing to be told by, so ask again.
            tokio::task::yield_now().await;
            continue;
        };
        let mut statuses = watch.into_inner();
        while let Some(Ok(status)) = statuses.next().await {
            if status.status() == ServingStatus::Serving {
                return;
            }
        }
    }
}

pub fn span(duration: Duration) -> Span {
    duration.try_into().unwrap()
}

/// The definition of an echo pool with short leases.
pub fn echo(sessions: u32) -> PoolSpec {
    PoolSpec {
        sizing: Some(Sizing {
            max_sessions: Some(sessions),
            ..Sizing::default()
        }),
        lease: Some(LeasePolicy {
            min_ttl: Some(span(Duration::from_millis(100))),
            ..LeasePolicy::default()
        }),
        backend: Some(Backend::Echo(EchoBackend::default())),
        ..PoolSpec::default()
    }
}

pub fn named(name: &str, spec: PoolSpec) -> CreatePoolRequest {
    CreatePoolRequest {
        pool: Some(Pool {
            name: name.to_owned(),
            spec: Some(spec),
            ..Pool::default()
        }),
        validate_only: false,
    }
}

pub async fn create(address: &str, name: &str, spec: PoolSpec) -> Pool {
    let created = pools(address).create_pool(named(name, spec)).await.unwrap();
    created.into_inner().pool.unwrap()
}

pub fn acquire(pool: &str) -> AcquireLeaseRequest {
    AcquireLeaseRequest {
        pool: pool.to_owned(),
        options: Some(AcquireOptions {
            wait_timeout: Some(span(Duration::from_secs(30))),
            ..AcquireOptions::default()
        }),
        ..AcquireLeaseRequest::default()
    }
}

pub async fn lease(broker: &mut Broker, pool: &str) -> AcquireLeaseResponse {
    broker.acquire_lease(acquire(pool)).await.unwrap().into_inner()
}

pub async fn release(broker: &mut Broker, token: &str) -> proto::LeaseEnd {
    let request = proto::ReleaseLeaseRequest {
        lease_token: token.to_owned(),
        discard: false,
    };
    broker.release_lease(request).await.unwrap().into_inner().ended()
}

pub fn operation(name: &str, params: &str) -> Operation {
    Operation {
        name: name.to_owned(),
        input: Some(Input::ParamsJson(params.to_owned())),
        ..Operation::default()
    }
}

pub fn one_shot(pool: &str, name: &str, params: &str) -> ExecuteRequest {
    ExecuteRequest {
        target: Some(Target::Pool(pool.to_owned())),
        operation: Some(operation(name, params)),
        ..ExecuteRequest::default()
    }
}

pub fn on_lease(token: &str, name: &str, params: &str) -> ExecuteRequest {
    ExecuteRequest {
        target: Some(Target::LeaseToken(token.to_owned())),
        ..one_shot("", name, params)
    }
}

/// A call's answer as JSON text.
pub async fn execute(broker: &mut Broker, request: ExecuteRequest) -> Result<String, Status> {
    let result = broker.execute(request).await?.into_inner().result.unwrap();
    Ok(match result.output {
        Some(Output::JsonText(text)) => text,
        other => format!("{other:?}"),
    })
}

/// The calls that the backend of an echo pool received, by their ids.
pub async fn received(broker: &mut Broker, pool: &str) -> Vec<String> {
    let record = execute(broker, one_shot(pool, "count", r#"{"scope":"pool"}"#))
        .await
        .unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let ids = record["received"].as_array().unwrap();
    ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

pub async fn stats(address: &str, pool: &str) -> proto::PoolStats {
    let request = GetPoolStatsRequest {
        pool: pool.to_owned(),
    };
    let mut client = StatsServiceClient::new(channel(address));
    client
        .get_pool_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap()
}

/// An error's reason, from its details.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

/// What an error says of the call's execution.
pub fn executed(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    info.and_then(|info| info.metadata.get("executed").cloned())
        .unwrap_or_default()
}
