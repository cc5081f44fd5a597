//! The kind against scripted providers on real sockets.
