//! Slots that share sockets, against a service that speaks HTTP/2 frame by frame.

mod blocked;
mod cut;
mod flow;
mod goodbye;
mod limits;
mod shared;

use super::{
    h2_peer::{H2Peer, Manners},
    *,
};
use crate::proto::http_backend::Protocol;

fn http2() -> HttpBackend {
    HttpBackend {
        protocol: Protocol::Http2.into(),
        ..HttpBackend::default()
    }
}

/// Sessions of one pool.
async fn benches(peer: &H2Peer, own: HttpBackend, count: usize) -> Vec<Bench> {
    let backend = backend(&spec(&peer.address(), own), Path::new("/nowhere")).unwrap();
    let mut benches = Vec::new();
    for _ in 0..count {
        benches.push(dial(&backend).await.unwrap());
    }
    benches
}

async fn dial(backend: &Arc<dyn Backend>) -> Result<Bench, DialError> {
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let session = backend.dial(Arc::clone(&fence), "").await?;
    Ok(Bench {
        backend: Arc::clone(backend),
        fence,
        session,
    })
}

fn post(body: impl Into<Bytes>) -> Operation {
    let mut operation = request(json!({"method": "POST", "path": "/x"}));
    operation.body = Body::Whole(body.into());
    operation
}

/// Silent about requests: the test answers.
fn silent() -> Manners {
    Manners {
        answers: false,
        ..Manners::default()
    }
}
