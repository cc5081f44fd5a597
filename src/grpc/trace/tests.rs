use std::{io, net::SocketAddr};

use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use tower::{ServiceExt as _, service_fn};
use tracing::{Instrument as _, info};
use tracing_subscriber::fmt::MakeWriter;

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What is logged at `level` on behalf of one request whose handler logs inside of a span `wait`.
async fn logged(level: tracing::Level) -> String {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(lines.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let inner = service_fn(|_: Request<()>| {
        let handler = async {
            info!("granted");
            Ok(Response::new(Full::new(Bytes::new())))
        };
        Box::pin(handler.instrument(tracing::debug_span!("wait")))
    });
    let mut request = Request::get("http://broker/sublet.v1.BrokerService/Execute")
        .body(())
        .unwrap();
    request
        .headers_mut()
        .insert("x-token", "sl1.0.1.2.canary".parse().unwrap());
    request.extensions_mut().insert(Arc::new(Connection::new(
        7,
        SocketAddr::from(([127, 0, 0, 1], 4711)),
    )));
    let Ok(response) = Traced::new(inner).oneshot(request).await;
    response.into_body().collect().await.unwrap();
    String::from_utf8(lines.0.lock().clone()).unwrap()
}

#[tokio::test]
async fn lines_of_a_request_say_its_rpc_peer_and_id_and_nest_its_phases_but_carry_no_metadata() {
    let text = logged(tracing::Level::DEBUG).await;
    let span = r#"request{rpc="sublet.v1.BrokerService/Execute" peer=127.0.0.1:4711 id=7-1}"#;
    assert!(text.contains(&format!("{span}:wait: ")), "{text}");
    assert!(text.lines().last().unwrap().contains(span), "{text}");
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test]
async fn at_the_default_level_a_request_costs_no_span() {
    let text = logged(tracing::Level::INFO).await;
    assert!(text.contains("granted") && !text.contains("request{"), "{text}");
}
