//! Sockets to backends: opened, kept alive, and looked at without disturbing whoever reads them.

use std::{io, mem::MaybeUninit, os::fd::AsFd, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

use super::DialError;

/// A peer that acknowledges nothing for this long is gone. With the keepalive below, a connection whose other end
/// vanished is noticed within 15 s, busy or idle.
pub(super) const UNACKNOWLEDGED: Duration = Duration::from_secs(12);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);
const KEEPALIVE_TRIES: u32 = 3;

/// What an idle connection's receive buffer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// Nothing came: it lives, as far as anyone can tell.
    Nothing,
    /// Bytes that nobody asked for.
    Bytes,
    /// The peer has closed, or the connection broke.
    End,
}

/// Connects to the first address of a name that answers; the last one's fault is told. If the future is dropped, so is
/// the socket.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let found = lookup_host((host, port))
        .await
        .map_err(|error| unknown_name(host, &error))?;
    let mut fault = None;
    for address in found {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => fault = Some(DialError::transient(format!("{address}: {error}"))),
        }
    }
    Err(fault.unwrap_or_else(|| DialError::transient(format!("{host} has no address"))))
}

/// A name that does not exist is permanent; a resolver that does not answer now is not.
fn unknown_name(host: &str, error: &io::Error) -> DialError {
    let text = error.to_string().to_ascii_lowercase();
    let again = text.contains("temporary failure") || text.contains("try again");
    let message = format!("{host}: {error}");
    if again {
        DialError::transient(message)
    } else {
        DialError::permanent(message)
    }
}

/// Sets what every connection to a backend has: no delay, and an end when its peer has vanished.
///
/// # Errors
/// When the socket refuses its options: it broke already.
pub(super) fn tune(socket: &TcpStream) -> io::Result<SockRef<'_>> {
    socket.set_nodelay(true)?;
    let options = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY);
    options.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_TRIES))?;
    options.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(options)
}

/// Looks at what an idle connection has received, without taking it.
pub(super) fn pending(socket: &impl AsFd) -> Pending {
    let mut one = [MaybeUninit::<u8>::uninit(); 1];
    match SockRef::from(socket).peek(&mut one) {
        Ok(0) => Pending::End,
        Ok(_) => Pending::Bytes,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pending::Nothing,
        Err(_) => Pending::End,
    }
}
