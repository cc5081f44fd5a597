//! Structured logs and spans.
