//! What the tests share.

pub mod app;
pub mod calls;
pub mod postgres;
pub mod process;
