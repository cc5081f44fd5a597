//! COPY through an open session: both ways, with slow ends and broken ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use serde_json::json;
use sublet::proto::{
    Result as Answer, Timeouts, event::Event, open_session_response::Message, result::Output,
};

use super::{BUFFERS, event_of, soak};
use crate::{
    postgres::{
        Stage, definition,
        opened::Opened,
        staged::{count, settled, until},
    },
    support::{calls::*, postgres::Database, process::Process},
};

/// Bytes to copy each way.
fn size() -> u64 {
    soak("SUBLET_SOAK_COPY_MIB", 64) << 20
}

/// Lines of 1 KiB, each with its number first; so many of them make one part.
const LINES: u64 = 256;

fn line(number: u64) -> String {
    format!("{number:010}\t{}\n", "x".repeat(1012))
}

fn part(first: u64) -> Bytes {
    let mut part = BytesMut::new();
    for number in first..first + LINES {
        part.extend_from_slice(line(number).as_bytes());
    }
    part.freeze()
}

fn copy_in() -> sublet::proto::Operation {
    operation("copy_in", r#"{"sql":"copy t from stdin"}"#)
}

const TABLE: &str = "create unlogged table t (n int8, pad text)";

fn changed(answer: Message) -> i64 {
    match answer {
        Message::Result(Answer {
            output: Some(Output::Rows(rows)),
            ..
        }) => rows.affected,
        other => panic!("{other:?}"),
    }
}

fn code(answer: Option<Message>) -> i32 {
    match answer {
        Some(Message::Error(status)) => status.code,
        other => panic!("{other:?}"),
    }
}

/// Copies so many lines in.
async fn send_all(opened: &mut Opened, lines: u64) {
    let id = opened.call(copy_in(), false, true);
    for first in (0..lines).step_by(usize::try_from(LINES).unwrap()) {
        assert_eq!(opened.feed(id, part(first)).await, None);
    }
    opened.last(id);
    let (_, answer) = opened.next().await.unwrap();
    assert_eq!(changed(answer), i64::try_from(lines).unwrap());
}

/// Copies them out again, and waits for `pause` in the middle.
async fn receive_all(opened: &mut Opened, lines: u64, mut pause: impl AsyncFnMut()) {
    let sql = "copy (select lpad(n::text, 10, '0'), pad from t) to stdout";
    let id = opened.call(
        operation("copy_out", &json!({ "sql": sql }).to_string()),
        true,
        false,
    );
    let (mut rest, mut seen) = (BytesMut::new(), 0);
    loop {
        match event_of(opened, id).await {
            Event::Accepted(_) => {}
            Event::Data(bytes) => {
                assert!(bytes.len() <= 64 << 10, "{}", bytes.len());
                if seen == 0 {
                    pause().await;
                }
                rest.extend_from_slice(&bytes);
                while rest.len() >= 1024 {
                    assert_eq!(rest.split_to(1024), line(seen).as_bytes());
                    seen += 1;
                }
            }
            Event::End(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((seen, rest.len()), (lines, 0));
}

#[tokio::test]
async fn copy_goes_both_ways_in_bounded_memory() {
    let (mut stage, proxy) = Stage::behind_a_proxy(1, |_| {}).await;
    stage.run(TABLE).await;
    let mut admin = stage.database.connect().await;
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let lines = (64 << 20) / 1024;
    send_all(&mut opened, lines).await;
    let before = proxy.answered();
    let pause = async || {
        let passed = settled(&mut admin, || proxy.answered()).await - before;
        assert!(passed < BUFFERS, "{passed} bytes came while nobody read");
    };
    receive_all(&mut opened, lines, pause).await;
}

#[tokio::test]
async fn copies_do_not_grow_the_program() {
    let database = Database::fresh().await;
    let data = tempfile::tempdir().unwrap();
    let program = Process::serve(data.path(), None).await;
    create(&program.address, "db", definition(&database, 1)).await;
    let mut broker = broker(&program.address);
    let table = json!({ "sql": TABLE }).to_string();
    execute(&mut broker, one_shot("db", "simple", &table))
        .await
        .unwrap();
    let mut opened = Opened::on(&mut broker, "db").await;
    let started = program.peak_memory();
    send_all(&mut opened, size() / 1024).await;
    let sent = program.peak_memory();
    receive_all(&mut opened, size() / 1024, async || {}).await;
    let received = program.peak_memory();
    println!(
        "VmHWM of the broker: {started} KiB, {sent} KiB after {} bytes in, {received} KiB after them out",
        size()
    );
    // Far less than what passed, and the same however much it was.
    assert!(received < started + (32 << 10), "{started} KiB to {received} KiB");
}

/// Feeds a COPY so many lines, tells of each part that there was credit for, and returns how many the server took.
async fn feed_all(mut opened: Opened, id: u64, lines: u64, fed: Arc<AtomicU64>) -> i64 {
    for first in (0..lines).step_by(usize::try_from(LINES).unwrap()) {
        assert_eq!(opened.feed(id, part(first)).await, None);
        fed.fetch_add(LINES * 1024, SeqCst);
    }
    opened.last(id);
    changed(opened.next().await.unwrap().1)
}

/// Seconds until the kernel asks a peer again whether its window is still shut: twice as long each time, so that they
/// tell how long it has been shut. 0 while it is not.
fn probes_apart(local_port: i64) -> u64 {
    /// The timer that a shut window starts; it counts hundredths of a second.
    const SHUT: &str = "04:";
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let own = format!(":{local_port:04X}");
    let timers = connections.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields[1].ends_with(&own)).then(|| fields[5].strip_prefix(SHUT))?
    });
    let hundredths = timers.map(|left| u64::from_str_radix(left, 16).unwrap());
    hundredths.max().unwrap_or_default() / 100
}

#[tokio::test]
async fn server_that_does_not_take_stops_the_caller_by_missing_credit() {
    let mut stage = Stage::with(1).await;
    stage.run(TABLE).await;
    // The server takes the first row, and waits there.
    stage
        .run(
            "create function wait() returns trigger language plpgsql as \
             'begin perform pg_advisory_xact_lock(7); return new; end'; \
             create trigger wait before insert on t for each row when (new.n = 0) execute function wait()",
        )
        .await;
    let mut admin = stage.database.connect().await;
    count(&mut admin, "select 1::int8 from pg_advisory_lock(7)").await;
    let mut watcher = stage.database.connect().await;
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let id = opened.call(copy_in(), false, true);
    let lines = (64 << 20) / 1024;
    let fed = Arc::new(AtomicU64::new(0));
    let feeding = tokio::spawn(feed_all(opened, id, lines, Arc::clone(&fed)));
    let waiting = "select count(*) from pg_stat_activity where wait_event = 'advisory'";
    until(&mut watcher, waiting, 1).await;
    let sent = settled(&mut watcher, || fed.load(SeqCst)).await;
    assert!(
        sent < BUFFERS,
        "{sent} bytes were taken while the server took none"
    );
    // The kernel takes a peer whose window stays shut for one that has vanished, unless it is told otherwise.
    let apart = soak("SUBLET_SOAK_PROBES_APART", 0);
    let port = "select client_port::int8 from pg_stat_activity where wait_event = 'advisory' and datname = \
                current_database()";
    let port = count(&mut watcher, port).await;
    while apart > 0 && probes_apart(port) < apart {
        count(&mut watcher, "select 1::int8").await;
        assert!(
            !feeding.is_finished(),
            "the server lives, and the copy was given up"
        );
        assert!(fed.load(SeqCst) < BUFFERS, "taken while the server took none");
    }
    assert!(!feeding.is_finished());
    count(&mut admin, "select pg_advisory_unlock(7)::int::int8").await;
    assert_eq!(feeding.await.unwrap(), i64::try_from(lines).unwrap());
}

#[tokio::test]
async fn table_that_is_locked_leaves_the_caller_with_his_first_credit() {
    let mut stage = Stage::with(1).await;
    stage.run(TABLE).await;
    let mut admin = stage.database.connect().await;
    count(&mut admin, "begin; lock table t; select 1::int8").await;
    let mut watcher = stage.database.connect().await;
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let id = opened.call(copy_in(), false, true);
    let fed = Arc::new(AtomicU64::new(0));
    let feeding = tokio::spawn(feed_all(opened, id, 3 * LINES, Arc::clone(&fed)));
    until(&mut watcher, "select count(*) from pg_locks where not granted", 1).await;
    let sent = settled(&mut watcher, || fed.load(SeqCst)).await;
    assert_eq!(sent, 256 << 10, "of three times the credit");
    count(&mut admin, "commit; select 1::int8").await;
    assert_eq!(feeding.await.unwrap(), 768);
}

#[tokio::test]
async fn bad_row_is_told_at_once_and_the_session_goes_on() {
    let mut stage = Stage::with(1).await;
    stage.run(TABLE).await;
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let id = opened.call(copy_in(), false, true);
    assert_eq!(opened.feed(id, part(0)).await, None);
    opened.feed(id, Bytes::from_static(b"no number\tx\n")).await;
    // The server reads on when more comes; the body never says that it is complete.
    let mut answer = opened.feed(id, part(LINES)).await;
    if answer.is_none() {
        answer = opened.next().await.map(|(_, message)| message);
    }
    assert_eq!(code(answer), 3);
    let count = operation("query", r#"{"sql":"select count(*) from t"}"#);
    let id = opened.call(count, false, false);
    let (answered, Message::Result(answer)) = opened.next().await.unwrap() else {
        panic!("the session goes on");
    };
    assert_eq!(answered, id);
    assert!(format!("{answer:?}").contains("Int(0)"), "{answer:?}");
}

#[tokio::test]
async fn caller_who_goes_in_the_middle_of_a_copy_leaves_no_row_and_no_session_behind() {
    let mut stage = Stage::with(1).await;
    stage.run(TABLE).await;
    let mut admin = stage.database.connect().await;
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let id = opened.call(copy_in(), false, true);
    for first in 0..8 {
        opened.feed(id, part(first * LINES)).await;
    }
    let copying = "select count(*) from pg_stat_activity where datname = current_database() and query ~ '^copy' \
                   and state = 'active'";
    until(&mut admin, copying, 1).await;
    drop(opened);
    assert_eq!(
        stage.rows("select count(*)::int as n from t").await,
        json!([{ "n": 0 }])
    );
    until(&mut admin, copying, 0).await;
}

#[tokio::test]
async fn body_that_never_ends_is_a_stall_and_the_session_goes_on() {
    let database = Database::fresh().await;
    let mut stage = Stage::over(database, 1, |spec| {
        spec.timeouts = Some(Timeouts {
            stall: Some(span(Duration::from_millis(200))),
            ..Timeouts::default()
        });
    })
    .await;
    stage.run(TABLE).await;
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let id = opened.call(copy_in(), false, true);
    assert_eq!(opened.feed(id, part(0)).await, None);
    let answer = opened.next().await.map(|(_, message)| message);
    assert_eq!(code(answer), 4);
    let id = opened.call(copy_in(), false, true);
    assert_eq!(opened.feed(id, part(0)).await, None);
    opened.last(id);
    assert_eq!(changed(opened.next().await.unwrap().1), 256);
    assert_eq!(stats(&stage.app.address, "db").await.sessions_created, 1);
}

#[tokio::test]
async fn half_close_before_the_last_input_ends_the_copy_and_the_rest_is_finished() {
    let mut stage = Stage::with(1).await;
    stage.run(TABLE).await;
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let id = opened.call(copy_in(), false, true);
    let count = operation("query", r#"{"sql":"select count(*) from t"}"#);
    let next = opened.call(count, false, false);
    assert_eq!(opened.feed(id, part(0)).await, None);
    opened.half_close();
    let (failed, answer) = opened.next().await.unwrap();
    let told = format!("{answer:?}");
    assert_eq!((failed, code(Some(answer))), (id, 3));
    assert!(told.contains("before Input with `last`"), "{told}");
    let (answered, answer) = opened.next().await.unwrap();
    assert_eq!(answered, next);
    assert!(format!("{answer:?}").contains("Int(0)"), "{answer:?}");
    assert_eq!(opened.next().await, None);
    assert_eq!(stage.rows("select 1 as one").await, json!([{ "one": 1 }]));
    assert_eq!(stats(&stage.app.address, "db").await.sessions_created, 1);
}

#[tokio::test]
async fn half_close_ends_a_copy_whose_table_is_locked() {
    let mut stage = Stage::with(1).await;
    stage.run(TABLE).await;
    let mut admin = stage.database.connect().await;
    count(&mut admin, "begin; lock table t; select 1::int8").await;
    let mut watcher = stage.database.connect().await;
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let id = opened.call(copy_in(), false, true);
    let waiting = "select count(*) from pg_locks where not granted";
    until(&mut watcher, waiting, 1).await;
    opened.half_close();
    let (failed, answer) = opened.next().await.unwrap();
    assert_eq!((failed, code(Some(answer))), (id, 3));
    assert_eq!(opened.next().await, None);
    until(&mut watcher, waiting, 0).await;
}

#[tokio::test]
async fn server_that_talks_while_it_is_fed_does_not_block_the_copy() {
    let mut stage = Stage::with(1).await;
    stage.run(TABLE).await;
    // Far more comes back than any buffer holds, while far more is on its way than any buffer holds.
    stage
        .run(
            "create function talk() returns trigger language plpgsql as \
             'begin raise notice ''%'', repeat(''y'', 8000); return null; end'; \
             create trigger talk before insert on t for each row execute function talk()",
        )
        .await;
    let mut opened = Opened::on(&mut stage.broker, "db").await;
    let id = opened.call(copy_in(), false, true);
    for first in (0..16 << 10).step_by(usize::try_from(LINES).unwrap()) {
        assert_eq!(opened.feed(id, part(first)).await, None);
    }
    opened.last(id);
    assert_eq!(changed(opened.next().await.unwrap().1), 0);
}

#[tokio::test]
async fn copy_in_the_wrong_place_is_refused_and_costs_no_session() {
    let mut stage = Stage::with(1).await;
    stage.run(TABLE).await;
    for (name, sql) in [
        ("query", "copy t from stdin"),
        ("query", "copy t to stdout"),
        ("simple", "copy t from stdin"),
        ("simple", "copy t from stdin; select 1"),
        ("query", "/* /* */ */ copy t from stdin"),
        ("copy_in", "copy t to stdout"),
        ("copy_out", "copy t from stdin"),
    ] {
        let refused = stage.one(name, json!({ "sql": sql })).await.unwrap_err();
        assert_eq!(
            refused.code(),
            tonic::Code::InvalidArgument,
            "{name} {sql}: {refused:?}"
        );
        assert_eq!(stage.rows("select 1 as one").await, json!([{ "one": 1 }]));
    }
    assert_eq!(stats(&stage.app.address, "db").await.sessions_created, 1);
}
