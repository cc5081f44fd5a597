use std::{convert::Infallible, future::pending};

use futures_util::{FutureExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use tokio::{sync::oneshot, time::sleep as after};
use tower::{ServiceExt as _, service_fn};

use super::*;

type Streamed = UnsyncBoxBody<Bytes, Infallible>;

fn request(timeout: Option<&str>) -> Request<()> {
    let mut request = Request::new(());
    if let Some(timeout) = timeout {
        request
            .headers_mut()
            .insert("grpc-timeout", timeout.parse().unwrap());
    }
    request
}

async fn code_after<F>(timeout: Option<&str>, handler: impl Fn(Request<()>) -> F) -> tonic::Code
where
    F: Future<Output = Result<Response<Streamed>, Infallible>>,
{
    let inner = service_fn(|request| Box::pin(handler(request)));
    let Ok(response) = Deadlines::new(inner, Clock::tokio())
        .oneshot(request(timeout))
        .await;
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status.code();
    }
    let Ok(collected) = response.into_body().collect().await;
    collected
        .trailers()
        .and_then(Status::from_header_map)
        .map_or(tonic::Code::Ok, |status| status.code())
}

#[tokio::test(start_paused = true)]
async fn a_slow_unary_answer_ends_at_the_deadline_and_its_handler_is_dropped() {
    let (alive, dropped) = oneshot::channel::<()>();
    let alive = std::cell::RefCell::new(Some(alive));
    let code = code_after(Some("250m"), |_| {
        let alive = alive.borrow_mut().take();
        async move {
            let _alive = alive;
            pending().await
        }
    })
    .await;
    assert_eq!(code, tonic::Code::DeadlineExceeded);
    assert!(dropped.await.is_err(), "the handler is gone");
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_is_untouched() {
    let code = code_after(Some("1S"), |_| async {
        after(Duration::from_millis(999)).await;
        Ok(Response::new(Streamed::default()))
    })
    .await;
    assert_eq!(code, tonic::Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_the_deadline_with_its_status_in_the_trailers() {
    let code = code_after(Some("2S"), |_| async {
        let frames = stream::unfold((), |()| async {
            after(Duration::from_millis(300)).await;
            Some((Ok(Frame::data(Bytes::from_static(b"tick"))), ()))
        });
        Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
    })
    .await;
    assert_eq!(code, tonic::Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_always_ready_ends_at_the_deadline_too() {
    let inner = service_fn(|_| {
        let frames = stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::new())));
        std::future::ready(Ok(Response::new(StreamBody::new(frames).boxed_unsync())))
    });
    let Ok(response) = Deadlines::new(inner, Clock::tokio())
        .oneshot(request(Some("1S")))
        .await;
    let mut body = response.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn handlers_see_the_deadline_and_those_without_one_see_none() {
    let clock = Clock::tokio();
    let seen = std::cell::RefCell::new(Vec::new());
    let inner = service_fn(|request: Request<()>| {
        seen.borrow_mut()
            .push(request.extensions().get::<Deadline>().copied());
        std::future::ready(Ok(Response::new(Streamed::default())))
    });
    let mut service = Deadlines::new(inner, clock.clone());
    for timeout in [None, Some("7M")] {
        let Ok(_) = (&mut service).oneshot(request(timeout)).await;
    }
    assert_eq!(
        *seen.borrow(),
        [None, Some(Deadline(clock.now() + Duration::from_secs(420)))]
    );
}

#[tokio::test(start_paused = true)]
async fn a_malformed_timeout_is_refused_before_the_handler_runs() {
    for malformed in ["", "S", "5", "5s", "-5S", "5 S", "123456789S", "1.5S", "+5S"] {
        let code = code_after(Some(malformed), |_| async { panic!("the handler ran") }).await;
        let expected = tonic::Code::InvalidArgument;
        assert_eq!(code, expected, "{malformed:?}");
    }
}

#[test]
fn every_unit_is_read() {
    let units = [
        ("1H", 3_600_000_000_000),
        ("2M", 120_000_000_000),
        ("3S", 3_000_000_000),
        ("4m", 4_000_000),
    ];
    for (text, nanos) in
        units
            .into_iter()
            .chain([("5u", 5000), ("6n", 6), ("0S", 0), ("99999999n", 99_999_999)])
    {
        assert_eq!(
            read(&HeaderValue::from_static(text)),
            Some(Duration::from_nanos(nanos)),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_run_operations_says_that_it_is_not_known_whether_one_ran() {
    for (method, expected) in [
        ("BrokerService/Execute", Some("unknown")),
        ("BrokerService/ExecuteStream", Some("unknown")),
        ("BrokerService/OpenSession", Some("unknown")),
        ("BrokerService/AcquireLease", None),
        ("PoolService/CheckPool", None),
    ] {
        let inner = service_fn(|_| pending::<Result<Response<Streamed>, Infallible>>().boxed_local());
        let mut request = request(Some("1S"));
        *request.uri_mut() = format!("/sublet.v1.{method}").parse().unwrap();
        let Ok(response) = Deadlines::new(inner, Clock::tokio()).oneshot(request).await;
        let executed = response.headers().get("sublet-executed");
        assert_eq!(
            executed.map(|value| value.to_str().unwrap()),
            expected,
            "{method}"
        );
    }
}
