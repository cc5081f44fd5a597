//! Keeps definitions: SQLite embedded by default, Postgres by URL.
