//! What one connection and one message may cost the broker. Every number here is a bound on memory or time.

use std::time::Duration;

/// The largest message taken or sent: what gRPC libraries themselves refuse to exceed by default.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Streams one connection may have open. Without a limit 20,000 unread ones cost 109 MB.
pub const MAX_STREAMS: u32 = 1024;

/// Requests of one connection that may wait for a session: half of its streams, so that waiting ones can never keep
/// out the very Release they wait for.
pub const MAX_WAITING: u32 = MAX_STREAMS / 2;

/// Bytes a peer may send on one stream before the handler has read them.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes a peer may send on all streams of a connection. Much more than one stream's, so that a body which nobody
/// reads does not stall the streams beside it.
pub(super) const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Bytes kept for one stream while its peer does not read; beyond it the handler's body is not polled.
pub(super) const SEND_BUFFER: usize = 64 * 1024;

/// Bytes of headers in one request, as HTTP/2 counts them.
pub(super) const MAX_HEADER_LIST: u32 = 16 * 1024;

/// Time for a new socket to send the HTTP/2 preface. TLS will count in here too.
pub(super) const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a connection is pinged. With [`PING_TIMEOUT`] it is below the 15 s in which a dead peer must be noticed.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Time for the answer to a ping.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(4);

/// Time that what was sent may stay unacknowledged by the peer's kernel, for a peer that vanishes in mid-answer.
pub(super) const UNACKNOWLEDGED: Duration = Duration::from_secs(14);

/// Time for a connection to finish its streams once the broker has closed its listener.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
