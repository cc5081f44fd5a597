//! What the tests share.

pub mod app;
pub mod calls;
pub mod http_peer;
pub mod postgres;
pub mod process;
