//! Opening a session: the socket, TLS, and what the definition wants said first.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

use super::{
    definition::{Expect, Peer, Step},
    link::{Link, LinkError},
};
use crate::backend::{DialError, Fence, FencedIo, carrier::Carrier, home::Socket, socket, tls::blocking};

/// A step, ready to be done.
enum Ready<'a> {
    Send(Bytes),
    Expect(&'a Expect),
}

/// Opens a connection and says what is to be said first. If the future is dropped, so is the socket.
pub(super) async fn connect(peer: &Arc<Peer>, fence: &Arc<Fence>) -> Result<Link, DialError> {
    let greeting = greeting(peer).await?;
    let stream = socket::connect(&peer.host, peer.port).await?;
    tune(&stream).map_err(DialError::transient)?;
    let fenced = FencedIo::dialing(Socket::new(stream), Arc::clone(fence));
    let line = fenced.line();
    let carrier = Carrier::secured(fenced, peer.tls.as_ref(), &peer.secrets).await?;
    let mut link = Link::new(carrier);
    greet(peer, &mut link, greeting).await?;
    line.count();
    Ok(link)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    let options = socket::tune(stream)?;
    // A peer may take its time to read: the kernel would count a closed window as a missing acknowledgement. An idle
    // connection's keepalive stays.
    options.set_tcp_user_timeout(None)?;
    // Whatever drops the socket in the middle also drops what the kernel still holds, and the peer sees a reset instead
    // of an end that looks wanted. A close at a boundary says goodbye first.
    options.set_linger(Some(Duration::ZERO))
}

/// The greeting's steps; those that send and follow one another are one.
async fn greeting(peer: &Arc<Peer>) -> Result<Vec<Ready<'_>>, DialError> {
    let mut secrets = read_secrets(peer).await?.into_iter();
    let mut ready = Vec::new();
    let mut sending = BytesMut::new();
    for step in &peer.greeting {
        match step {
            Step::Send(bytes) => sending.extend_from_slice(bytes),
            Step::Secret(_) => sending.extend_from_slice(&secrets.next().unwrap_or_default()),
            Step::Expect(expected) => {
                ready.push(Ready::Send(sending.split().freeze()));
                ready.push(Ready::Expect(expected));
            }
        }
    }
    ready.push(Ready::Send(sending.freeze()));
    Ok(ready)
}

/// The greeting's secrets as they are now, in their order.
async fn read_secrets(peer: &Arc<Peer>) -> Result<Vec<Bytes>, DialError> {
    if !peer.has_secrets() {
        return Ok(Vec::new());
    }
    let peer = Arc::clone(peer);
    blocking(move || {
        let references = peer.greeting.iter().filter_map(|step| match step {
            Step::Secret(reference) => Some(reference),
            Step::Send(_) | Step::Expect(_) => None,
        });
        references
            .map(|reference| Ok(Bytes::copy_from_slice(peer.secrets.read(reference)?.reveal())))
            .collect()
    })
    .await
}

async fn greet(peer: &Peer, link: &mut Link, steps: Vec<Ready<'_>>) -> Result<(), DialError> {
    for step in steps {
        let done = match step {
            Ready::Send(bytes) => link.send(bytes, peer.limit).await,
            Ready::Expect(expected) => link.expect(expected, peer.limit, &peer.clock).await,
        };
        done.map_err(|error| ungreeted(peer, &error))?;
    }
    Ok(())
}

/// What the definition does not expect will not be otherwise next time; a connection that breaks may not.
fn ungreeted(peer: &Peer, error: &LinkError) -> DialError {
    match error {
        // The peer may have sent the secret back.
        LinkError::Unexpected(_) if peer.has_secrets() => {
            DialError::permanent("greeting: the peer's answer is not what the definition expects")
        }
        LinkError::Unexpected(_) | LinkError::Misframed(_) => {
            DialError::permanent(format!("greeting: {error}"))
        }
        LinkError::Closed
        | LinkError::Unasked
        | LinkError::UsedUp
        | LinkError::TakenAway
        | LinkError::Io(_) => DialError::transient(format!("greeting: {error}")),
    }
}
