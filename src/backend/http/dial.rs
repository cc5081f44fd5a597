//! Opening a socket to the service: what comes before it is known which version of HTTP is spoken on it.

use std::sync::Arc;

use http::HeaderMap;
use tokio::net::TcpStream;

use super::{
    definition::{Speaks, Target},
    headers,
    pace::Pace,
    wire::Wire,
};
use crate::backend::{DialError, Fence, FencedIo, carrier::Carrier, secrets, socket, tls::blocking};

/// A socket that is connected, TLS included, and has not been spoken on.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) carrier: Carrier<Wire>,
    /// To look at.
    pub(super) socket: Arc<TcpStream>,
    pub(super) pace: Arc<Pace>,
    /// The secret headers as they are now.
    pub(super) secret_headers: HeaderMap,
    /// Whether HTTP/2 is to be spoken.
    pub(super) http2: bool,
}

/// Opens one behind `fence`. If the future is dropped, so is the socket.
pub(super) async fn dial(target: &Arc<Target>, fence: &Arc<Fence>) -> Result<Dialed, DialError> {
    let secret_headers = read_secrets(target).await?;
    let pace = Arc::new(Pace::new(target.clock.clone()));
    let socket = socket::connect(&target.address.host, target.address.port).await?;
    let wire = Wire::new(socket, Arc::clone(&pace)).map_err(DialError::transient)?;
    let socket = wire.socket();
    let fenced = FencedIo::dialing(wire, Arc::clone(fence));
    let carrier = Carrier::secured(fenced, target.tls.as_ref(), &target.secrets).await?;
    let http2 = speaks_http2(target, &carrier)?;
    Ok(Dialed {
        carrier,
        socket,
        pace,
        secret_headers,
        http2,
    })
}

fn speaks_http2(target: &Target, carrier: &Carrier<Wire>) -> Result<bool, DialError> {
    let agreed = carrier.agreed() == Some(b"h2");
    match (target.speaks, &target.tls) {
        (Speaks::Http1, _) => Ok(false),
        (Speaks::Http2, Some(_)) if !agreed => Err(DialError::permanent(
            "the service speaks no HTTP/2: it did not agree to h2 in ALPN. Leave http.protocol out to take what it has",
        )),
        (Speaks::Http2, _) => Ok(true),
        (Speaks::Either, _) => Ok(agreed),
    }
}

async fn read_secrets(target: &Arc<Target>) -> Result<HeaderMap, DialError> {
    if target.secret_headers.is_empty() {
        return Ok(HeaderMap::new());
    }
    let target = Arc::clone(target);
    blocking(move || {
        let mut found = HeaderMap::new();
        for header in &target.secret_headers {
            let secret = target.secrets.read(&header.reference)?;
            let value = headers::secret_value(header.prefix, &secret).ok_or_else(|| {
                let reference = secrets::name_of(&header.reference);
                DialError::permanent(format!(
                    "the secret of {reference} is no header value: it holds a control character"
                ))
            })?;
            found.insert(header.name.clone(), value);
        }
        Ok(found)
    })
    .await
}
