//! Tests of the pool: a scripted backend, and a file for each group.

mod admission;
mod basics;
mod beside;
mod control;
mod endpoints;
mod endpoints_down;
mod endpoints_model;
mod endpoints_quiet;
mod endpoints_shell;
mod failures_core;
mod failures_shell;
mod histogram;
mod model;
mod nearness;
mod occupied;
mod scene;
mod scripted;
