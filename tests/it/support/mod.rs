//! What the tests share.

pub mod app;
pub mod calls;
pub mod comfy_http;
pub mod comfy_peer;
pub mod comfy_run;
#[allow(dead_code, reason = "shared with the benches, which roll none")]
pub mod dice;
pub mod driver;
mod driver_described;
pub mod driver_server;
#[allow(dead_code, reason = "shared with the backend's own tests, which use the rest")]
pub mod h2_peer;
#[allow(dead_code, reason = "shared with the backend's own tests, which use the rest")]
pub mod http_peer;
#[allow(dead_code, reason = "shared with the backend's own tests, which use the rest")]
pub mod llm_peer;
pub mod postgres;
pub mod process;
pub mod proxy;
#[allow(dead_code, reason = "each kind's tests use some of it")]
pub mod redis;
mod throwaway;
