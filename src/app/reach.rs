//! The way to a running broker, for commands that are its clients.

use std::time::Duration;

use tonic::transport::Endpoint;

use super::{check::reachable, exit::Exit};

/// Time to connect to the broker.
const PATIENCE: Duration = Duration::from_secs(5);
/// A broker that answers no ping for this long is gone, although nothing was to be carried.
const PING: Duration = Duration::from_secs(15);

/// Where `broker`, a `HOST:PORT`, is connected to.
pub(super) fn endpoint(broker: &str) -> Result<Endpoint, Exit> {
    let address = reachable(broker);
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| Exit::usage(format!("`{address}` is not an address: write HOST:PORT")))?;
    Ok(endpoint
        .connect_timeout(PATIENCE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true))
}
