//! Long answers and long bodies, in bounded memory: what a slow end makes wait, and what is told when it breaks.
//!
//! `SUBLET_SOAK_ROWS`, `SUBLET_SOAK_COPY_MIB` and `SUBLET_SOAK_PROBES_APART` make them longer (`make soak`).

mod copies;
mod large;

use std::env;

use serde_json::json;
use sublet::proto::{Event as Streamed, event::Event, open_session_response::Message, value::Kind};

use super::{
    Stage,
    opened::Opened,
    staged::{next, settled, stream},
};
use crate::support::calls::*;

/// What all buffers between the server and a caller who does not read may hold together: the kernel's, the proxy's,
/// the broker's, and HTTP/2's windows. Both kernels' buffers, at up to 6 MiB each, are most of it.
pub(super) const BUFFERS: u64 = 24 << 20;

pub(super) fn soak(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn rows() -> u64 {
    soak("SUBLET_SOAK_ROWS", 50_000)
}

/// Each row its number and a kilobyte.
fn many() -> String {
    let sql = format!(
        "select n, repeat('x', 1000) from generate_series(1, {}) n",
        rows()
    );
    json!({ "sql": sql }).to_string()
}

/// Counts rows that must come in order, in frames that are not too large.
#[derive(Default)]
pub(super) struct InOrder {
    pub(super) seen: i64,
    columns: usize,
    ended: bool,
}

impl InOrder {
    pub(super) fn take(&mut self, event: Event) {
        use prost::Message as _;
        assert!(!self.ended, "nothing comes after the end");
        match event {
            Event::Accepted(_) => {}
            Event::Rows(part) => {
                assert!(part.rows.len() <= 256, "{} rows", part.rows.len());
                assert!(part.encoded_len() <= 80 << 10, "{} bytes", part.encoded_len());
                assert_eq!(
                    part.columns.is_empty(),
                    self.columns > 0,
                    "columns come once, first"
                );
                self.columns += part.columns.len();
                for row in part.rows {
                    self.seen += 1;
                    assert_eq!(row.values[0].kind, Some(Kind::Int(self.seen)));
                }
            }
            Event::End(_) => self.ended = true,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn all(&self, rows: u64) {
        assert_eq!(
            (self.seen, self.columns, self.ended),
            (i64::try_from(rows).unwrap(), 2, true)
        );
    }
}

#[tokio::test]
async fn reader_who_pauses_stops_the_server_and_then_gets_every_row_once() {
    let (mut stage, proxy) = Stage::behind_a_proxy(1, |_| {}).await;
    let mut admin = stage.database.connect().await;
    let mut events = stream(&mut stage.broker, one_shot("db", "query", &many()))
        .await
        .unwrap();
    let mut order = InOrder::default();
    while order.seen == 0 {
        order.take(next(&mut events).await.unwrap().unwrap());
    }
    let passed = settled(&mut admin, || proxy.answered()).await;
    assert!(passed < BUFFERS, "{passed} bytes came while nobody read");
    while let Some(event) = next(&mut events).await.unwrap() {
        order.take(event);
    }
    order.all(rows());
    assert!(proxy.answered() > rows() * 1000);
    assert_eq!(stage.rows("select 1 as one").await, json!([{ "one": 1 }]));
    assert_eq!(stats(&stage.app.address, "db").await.sessions_created, 1);
}

#[tokio::test]
async fn reader_of_an_open_session_who_pauses_stops_the_server_too() {
    let (mut stage, proxy) = Stage::behind_a_proxy(1, |_| {}).await;
    let mut admin = stage.database.connect().await;
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let id = opened.call(operation("query", &many()), true, false);
    let behind = opened.call(operation("query", r#"{"sql":"select 7::int2"}"#), false, false);
    let mut order = InOrder::default();
    while order.seen == 0 {
        order.take(event_of(&mut opened, id).await);
    }
    let passed = settled(&mut admin, || proxy.answered()).await;
    assert!(passed < BUFFERS, "{passed} bytes came while nobody read");
    while !order.ended {
        order.take(event_of(&mut opened, id).await);
    }
    order.all(rows());
    let (id, answer) = opened.next().await.unwrap();
    assert_eq!(id, behind);
    assert!(matches!(answer, Message::Result(_)), "{answer:?}");
}

/// The next event of a call.
pub(super) async fn event_of(opened: &mut Opened, call: u64) -> Event {
    match opened.next().await {
        Some((id, Message::Event(Streamed { event: Some(event) }))) if id == call => event,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn reader_who_goes_in_the_middle_leaves_a_session_that_can_be_used() {
    let (mut stage, proxy) = Stage::behind_a_proxy(1, |_| {}).await;
    let mut events = stream(&mut stage.broker, one_shot("db", "query", &many()))
        .await
        .unwrap();
    let mut order = InOrder::default();
    while order.seen == 0 {
        order.take(next(&mut events).await.unwrap().unwrap());
    }
    drop(events);
    assert_eq!(stage.rows("select 1 as one").await, json!([{ "one": 1 }]));
    assert!(proxy.answered() < rows() * 1000, "the rest was cancelled");
}

#[tokio::test]
async fn frames_hold_at_most_64_kib_unless_one_row_is_larger() {
    use prost::Message as _;
    let mut stage = Stage::with(1).await;
    for size in [1, 300, 40_000, 65_000, 100_000] {
        let sql = format!("select n, repeat('x', {size}) from generate_series(1, 600) n");
        let request = one_shot("db", "query", &json!({ "sql": sql }).to_string());
        let mut events = stream(&mut stage.broker, request).await.unwrap();
        let (mut frames, mut all) = (0, 0);
        while let Some(event) = next(&mut events).await.unwrap() {
            if let Event::Rows(part) = event {
                let small = part.rows.len() <= 256 && part.encoded_len() <= 64 << 10;
                assert!(
                    small || part.rows.len() == 1,
                    "{size}: {} rows, {}",
                    part.rows.len(),
                    part.encoded_len()
                );
                (frames, all) = (frames + 1, all + part.rows.len());
            }
        }
        assert_eq!(all, 600);
        assert!(size < 40_000 || frames >= 600, "{frames}");
    }
}

#[tokio::test]
async fn empty_answers_keep_their_columns() {
    let mut stage = Stage::with(1).await;
    // The second time from a statement that is kept.
    for _ in 0..2 {
        let none = "select 1::int4 as a, ''::text as b where false";
        let rows = stage.typed(none, vec![]).await.unwrap();
        let named: Vec<_> = rows
            .columns
            .iter()
            .map(|c| (c.name.as_str(), c.r#type.as_str()))
            .collect();
        assert_eq!((named, rows.rows.len()), (vec![("a", "int4"), ("b", "text")], 0));
        let request = one_shot("db", "query", &json!({ "sql": none }).to_string());
        let mut events = stream(&mut stage.broker, request).await.unwrap();
        let mut order = InOrder::default();
        while let Some(event) = next(&mut events).await.unwrap() {
            order.take(event);
        }
        order.all(0);
        assert_eq!(stage.rows(none).await, json!([]));
    }
}
