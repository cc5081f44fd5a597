//! The wire: decodes requests, calls a use case, encodes the answer.

mod accept;
mod connection;
mod deadline;
mod health;
mod limits;
mod preface;
mod reflection;
mod routes;
mod trace;
mod workers;

pub use self::{
    accept::{Acceptor, Settings},
    connection::{Connection, WaitPermit},
    deadline::{Deadline, DeadlineBody, DeadlineFuture, Deadlines},
    health::{HealthService, PoolHealth},
    limits::{MAX_MESSAGE_BYTES, MAX_STREAMS, MAX_WAITING},
    reflection::add as add_reflection,
    routes::Services,
    trace::{Traced, TracedBody, TracedFuture},
    workers::{Workers, serve},
};
