//! Puts a broker together: config, store, catalog, broker, gRPC, and their end.
