//! The wire: decodes requests, calls a use case, encodes the answer.
