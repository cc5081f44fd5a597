//! Sublet, a gRPC connection broker: programs lease warm sessions to scarce backends, run operations on them, and
//! give them back.
//!
//! Read in this order: [`backend`] says what a session can do, [`pool`] keeps sessions, [`lease`] decides who may use
//! one, [`broker`] has one file for each use case, [`grpc`] puts them on the wire. [`catalog`] and [`store`] keep the
//! definitions, and [`app`] puts everything together. docs/ARCHITECTURE.md has the invariants.

pub mod app;
pub mod backend;
pub mod broker;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod error;
pub mod grpc;
pub mod lease;
pub mod pool;
pub mod proto;
pub mod store;
pub mod telemetry;
