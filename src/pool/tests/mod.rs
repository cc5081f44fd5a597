//! Tests of the pool: a scripted backend, and a file for each group.

mod basics;
mod scripted;
