//! What passes a fence, and what does not.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

fn pair() -> (
    Arc<Fence>,
    FencedIo<tokio::io::DuplexStream>,
    tokio::io::DuplexStream,
) {
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let (ours, peer) = tokio::io::duplex(1024);
    (Arc::clone(&fence), FencedIo::new(ours, fence), peer)
}

#[tokio::test]
async fn nothing_passes_a_shut_fence() {
    let (fence, mut io, mut peer) = pair();
    io.write_all(b"before").await.unwrap();
    fence.shut();
    io.write_all(b"after").await.unwrap_err();
    assert!(fence.hand_over(1).is_err());
    assert_eq!((fence.sent(), fence.number()), (6, 0));
    drop(io);
    let mut seen = Vec::new();
    peer.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, b"before");
}

#[tokio::test]
async fn a_line_that_was_cut_stays_cut_when_the_fence_opens_again() {
    let (fence, mut io, _peer) = pair();
    io.line().cut();
    fence.shut();
    fence.open(2);
    io.write_all(b"late").await.unwrap_err();
    assert_eq!(fence.sent(), 0);
    assert!(
        fence.hand_over(1).is_ok(),
        "another connection of the session goes on"
    );
}

#[tokio::test]
async fn a_handshake_is_progress_but_nothing_of_a_call() {
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let (ours, _peer) = tokio::io::duplex(1024);
    let mut io = FencedIo::dialing(ours, Arc::clone(&fence));
    io.write_all(b"hello").await.unwrap();
    assert_eq!((fence.sent(), fence.progress()), (0, 5));
    io.line().count();
    io.write_all(b"call").await.unwrap();
    assert_eq!((fence.sent(), fence.progress()), (4, 9));
}

#[tokio::test]
async fn shutting_wakes_who_waits_for_it() {
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let waiting = tokio::spawn({
        let fence = Arc::clone(&fence);
        async move { fence.when_shut().await }
    });
    tokio::task::yield_now().await;
    fence.shut();
    waiting.await.unwrap();
}

#[test]
fn silence_is_progress_while_it_is_as_it_should_be() {
    let fence = Fence::default();
    let before = fence.progress();
    assert_eq!(fence.progress(), before);
    fence.set_at_rest(true);
    assert_ne!(fence.progress(), fence.progress());
    assert_eq!(fence.sent(), 0);
    fence.set_at_rest(false);
    assert_eq!(fence.progress(), fence.progress());
}
