//! What a session waits for before it goes on after a call that was dropped.

use futures_util::FutureExt as _;

use super::{
    peer::{cancelled, nothing, notice, row},
    *,
};
use crate::backend::Cleanliness;

/// A session whose call is dropped while the server works at it.
async fn interrupted() -> Bench {
    let mut bench = Bench::new().await;
    bench.drop_call(sql("select pg_sleep(60)"), &notice(), 0).await;
    bench
}

#[tokio::test]
async fn late_cancel_is_met_by_an_empty_query_and_by_nobody_else() {
    let mut bench = interrupted().await;
    let (peer, line) = (&mut bench.peer, &mut bench.line);
    let server = async {
        peer.cancel().await;
        line.say(&cancelled()).await;
        // Another request to cancel was late: the statement behind the cancelled one meets it.
        assert_eq!(line.message().await.unwrap(), (b'Q', vec![0]));
        line.say(&cancelled()).await;
        assert_eq!(line.message().await.unwrap(), (b'Q', vec![0]));
        line.say(&nothing()).await;
    };
    let settled = both(bench.session.settle(), server).await;
    settled.unwrap();
    assert_eq!(bench.session.cleanliness(), Cleanliness::Clean);
}

#[tokio::test]
async fn server_that_goes_on_cancelling_loses_the_session() {
    let mut bench = interrupted().await;
    let (peer, line) = (&mut bench.peer, &mut bench.line);
    let server = async {
        peer.cancel().await;
        line.say(&cancelled()).await;
        for _ in 0..3 {
            line.message().await.unwrap();
            line.say(&cancelled()).await;
        }
    };
    let settled = both(bench.session.settle(), server).await;
    settled.unwrap_err();
    assert_eq!(bench.session.cleanliness(), Cleanliness::Broken);
}

#[tokio::test]
async fn nothing_is_sent_before_the_cancelling_connection_has_ended() {
    let mut bench = interrupted().await;
    bench.peer.hold_cancels();
    let mut settling = bench.session.settle();
    let connection = {
        let mut asked = Box::pin(bench.peer.cancel());
        loop {
            assert!(poll(&mut settling).is_pending());
            if let Poll::Ready(connection) = poll(&mut asked) {
                break connection;
            }
            tokio::task::yield_now().await;
        }
    };
    bench.line.say(&cancelled()).await;
    for _ in 0..100 {
        assert!(poll(&mut settling).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(
        bench.line.message().now_or_never().is_none(),
        "the signal may come yet"
    );
    drop(connection);
    let server = async {
        assert_eq!(bench.line.message().await.unwrap(), (b'Q', vec![0]));
        bench.line.say(&nothing()).await;
    };
    let settled = both(settling, server).await;
    settled.unwrap();
}

#[tokio::test]
async fn settling_that_was_dropped_while_a_cancel_was_under_way_loses_the_session() {
    let mut bench = interrupted().await;
    bench.peer.hold_cancels();
    {
        let mut settling = bench.session.settle();
        let mut asked = Box::pin(bench.peer.cancel());
        while poll(&mut asked).is_pending() {
            assert!(poll(&mut settling).is_pending());
            tokio::task::yield_now().await;
        }
    }
    // The statement ends by itself, and the signal comes when it likes.
    bench.line.say(&cancelled()).await;
    let server = async {
        while bench.line.message().await.is_some() {
            bench.line.say(&nothing()).await;
        }
    };
    let settled = async {
        tokio::select! {
            settled = bench.session.settle() => settled,
            () = server => unreachable!("the session is there"),
        }
    };
    let settled = tokio::time::timeout(PATIENCE, settled).await;
    settled
        .expect("it waits for no cancel to be confirmed")
        .unwrap_err();
    assert_eq!(bench.session.cleanliness(), Cleanliness::Broken);
}

#[tokio::test]
async fn server_that_has_told_a_notice_last_is_cancelled_all_the_same() {
    let mut bench = Bench::new().await;
    // One event has room, the next one waits for the caller, and the notice behind it is not taken.
    let answer = [row(true), row(false), notice()].concat();
    bench.drop_call(sql("select f()"), &answer, 1).await;
    let (peer, line) = (&mut bench.peer, &mut bench.line);
    let server = async {
        peer.cancel().await;
        line.say(&cancelled()).await;
        line.message().await.unwrap();
        line.say(&nothing()).await;
    };
    let settled = both(bench.session.settle(), server).await;
    settled.unwrap();
}
