//! What is on its way when a call ends, or when the server does not read.

use super::{peer::nothing, *};
use crate::backend::{Cleanliness, socket::UNACKNOWLEDGED};

/// More than the sockets' buffers take.
fn large() -> Value {
    sql(&format!("select '{}'", "x".repeat(16 << 20)))
}

#[tokio::test]
async fn half_a_statement_is_finished_for_its_own_holder_only() {
    for same in [true, false] {
        let mut bench = Bench::new().await;
        bench.drop_call(large(), b"", 0).await;
        if !same {
            bench.fence.shut();
            bench.fence.open(2);
        }
        let Bench {
            mut peer,
            mut line,
            mut session,
            fence: _fence,
        } = bench;
        let settled = async {
            let settled = session.settle().await;
            assert_eq!(session.cleanliness() == Cleanliness::Broken, !same);
            drop(session);
            settled
        };
        let server = async {
            let whole = line.message().await;
            assert_eq!(whole.is_some(), same, "a whole statement came");
            if same {
                line.say(&nothing()).await;
                peer.cancel().await;
                line.message().await.unwrap();
                line.say(&nothing()).await;
            }
        };
        let settled = both(settled, server).await;
        assert_eq!(settled.is_ok(), same, "{settled:?}");
    }
}

#[tokio::test]
async fn server_may_take_its_time_to_read_what_does_not_fit_its_buffers() {
    let mut bench = Bench::new().await;
    for (params, limit) in [
        (sql("select 1"), Some(UNACKNOWLEDGED)),
        (large(), None),
        (sql("select 2"), Some(UNACKNOWLEDGED)),
    ] {
        let mut sink = Sink::collect(1000);
        let mut call = bench.session.execute(simple(&params), &mut sink);
        assert!(poll(&mut call).is_pending());
        drop(call);
        assert_eq!(bench.session.wire.unacknowledged(), limit);
        let (line, peer) = (&mut bench.line, &mut bench.peer);
        let server = async {
            line.message().await.unwrap();
            line.say(&nothing()).await;
            peer.cancel().await;
            line.message().await.unwrap();
            line.say(&nothing()).await;
        };
        let settled = both(bench.session.settle(), server).await;
        settled.unwrap();
        assert_eq!(bench.session.wire.unacknowledged(), Some(UNACKNOWLEDGED));
    }
}

#[tokio::test]
async fn server_that_breaks_the_protocol_while_the_fence_is_shut_loses_its_session() {
    let mut bench = Bench::new().await;
    let mut sink = Sink::collect(1000);
    let params = sql("select 1");
    let mut call = bench.session.execute(simple(&params), &mut sink);
    assert!(poll(&mut call).is_pending());
    bench.fence.shut();
    bench.line.message().await.unwrap();
    bench.line.say(b"Z\0\0\0\0").await;
    call.await.unwrap_err();
    assert!(
        bench.session.wire.is_broken(),
        "whatever settles it reads nothing of that"
    );
}
