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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, Full};
    use tokio::runtime::Handle;

    use super::*;
    use crate::{
        backend::{
            registry::{self, Surroundings},
            secrets::Secrets,
        },
        broker::{AcquireLease, Plan, Policy, Waiting},
        clock::Clock,
        pool::Settings,
        proto::{EchoBackend, PoolSpec, pool_spec},
    };

    /// A service that has just granted a lease.
    #[derive(Clone)]
    struct Grants(Unseen);

    impl Service<Request<()>> for Grants {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            let mut response = Response::new(Body::new(Full::from("granted")));
            response.extensions_mut().insert(self.0.clone());
            std::future::ready(Ok(response))
        }
    }

    async fn granted() -> (Arc<Broker>, Response<Body>) {
        let clock = Clock::tokio();
        let broker = Broker::new(1, clock.clone(), Handle::current()).unwrap();
        let spec = PoolSpec {
            backend: Some(pool_spec::Backend::Echo(EchoBackend::default())),
            ..PoolSpec::default()
        };
        let secrets = Secrets::below("/nowhere");
        let plan = Plan {
            settings: Settings::default(),
            policy: Policy::default(),
            backend: registry::build(&spec, &Surroundings { secrets, clock }).unwrap(),
        };
        broker.add_pool("echo", plan);
        let ask = AcquireLease {
            pool: "echo".to_owned(),
            waiting: Waiting::default(),
            ttl: None,
            request: None,
        };
        let lease = broker.acquire_lease(ask).await.unwrap().leased.number;
        let service = Grants(Unseen::new(&broker, lease));
        let response = Delivery(service).call(Request::new(())).await.unwrap();
        (broker, response)
    }

    fn leases(broker: &Broker) -> usize {
        broker.leases_of(&broker.pools.get("echo").unwrap()).len()
    }

    #[tokio::test(start_paused = true)]
    async fn lease_whose_answer_was_not_taken_is_given_back() {
        let (broker, response) = granted().await;
        assert_eq!(leases(&broker), 1);
        drop(response);
        assert_eq!(leases(&broker), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn lease_whose_answer_was_taken_whole_lives() {
        let (broker, response) = granted().await;
        response.into_body().collect().await.unwrap();
        assert_eq!(leases(&broker), 1);
    }
}
