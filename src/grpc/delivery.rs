//! Notices when the answer to an `AcquireLease` never left, so that a lease nobody knows of does not live to its ttl.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::Frame;
use tonic::{body::Body, server::NamedService};
use tower::Service;

use crate::broker::Broker;

/// A lease whose answer has not been handed to the connection yet. When the last copy goes before that, the lease is
/// given back.
#[derive(Clone)]
pub(super) struct Unseen(Arc<Guard>);

struct Guard {
    broker: Arc<Broker>,
    lease: u64,
    seen: AtomicBool,
}

impl Unseen {
    pub(super) fn new(broker: &Arc<Broker>, lease: u64) -> Self {
        Self(Arc::new(Guard {
            broker: Arc::clone(broker),
            lease,
            seen: AtomicBool::new(false),
        }))
    }

    fn seen(&self) {
        self.0.seen.store(true, Ordering::SeqCst);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.seen.load(Ordering::SeqCst) {
            self.broker.release_unseen(self.lease);
        }
    }
}

impl fmt::Debug for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unseen").field(&self.0.lease).finish()
    }
}

/// Watches over the answers of a service that carry an [`Unseen`].
#[derive(Clone, Debug)]
pub struct Delivery<S>(pub S);

impl<S: NamedService> NamedService for Delivery<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, A> Service<Request<A>> for Delivery<S>
where
    S: Service<Request<A>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            let unseen = response.extensions_mut().remove::<Unseen>();
            Ok(match unseen {
                Some(unseen) => response.map(|body| Body::new(Watched { body, unseen })),
                None => response,
            })
        })
    }
}

/// A body that notes when it was handed over whole.
struct Watched {
    body: Body,
    unseen: Unseen,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            // Trailers come last: with them the answer is complete.
            None => self.unseen.seen(),
            Some(Ok(frame)) if frame.is_trailers() => self.unseen.seen(),
            Some(_) => {}
        }
        Poll::Ready(frame)
    }
}
