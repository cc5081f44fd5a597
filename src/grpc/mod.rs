//! The wire: decodes requests, calls a use case, encodes the answer.

mod accept;
mod answer_stream;
mod broker_service;
mod connection;
mod deadline;
mod decode;
mod delivery;
mod encode;
mod health;
mod health_client;
mod limits;
mod page;
mod params;
mod pool_service;
mod preface;
mod reflection;
mod routes;
mod server;
mod stats_service;
mod status;
mod trace;
mod workers;

pub use self::{
    accept::{Acceptor, Settings},
    answer_stream::AnswerStream,
    broker_service::BrokerApi,
    connection::{Connection, WaitPermit},
    deadline::{Deadline, DeadlineBody, DeadlineFuture, Deadlines},
    delivery::Delivery,
    health::{HealthService, PoolHealth},
    health_client::ask_health,
    limits::{MAX_MESSAGE_BYTES, MAX_STREAMS, MAX_WAITING},
    pool_service::PoolApi,
    reflection::add as add_reflection,
    routes::Services,
    server::{BindError, Door, Server},
    stats_service::StatsApi,
    status::{DOMAIN, message, status},
    trace::{Traced, TracedBody, TracedFuture},
    workers::{Workers, serve},
};
