//! A server that says what it is told to, for what a real one never does.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    backend::{CallError, Completion, Output, Sink},
    error::Executed,
};

const HELLO: &str = "%1\r\n+proto\r\n:3\r\n";

/// A session, the peer's end of its connection, and the fence between.
pub(super) async fn session() -> (Box<dyn Session>, TcpStream, Arc<Fence>) {
    let (session, peer, fence) = dialed().await;
    (Box::new(session), peer, fence)
}

async fn dialed() -> (RedisSession, TcpStream, Arc<Fence>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = RedisBackend::default();
    let server = Server::read(&spec(&address, own.clone()), &own, &surroundings()).unwrap();
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let dialing = RedisSession::dial(Arc::new(server), Clock::tokio(), Arc::clone(&fence));
    let answering = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        until(&mut peer, "sublet\r\n").await;
        peer.write_all(HELLO.as_bytes()).await.unwrap();
        peer
    };
    let (session, peer) = tokio::join!(dialing, answering);
    (session.unwrap(), peer, fence)
}

/// Reads until what was sent ends so.
async fn until(peer: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        assert!(peer.read_buf(&mut seen).await.unwrap() > 0, "{seen:?}");
    }
    String::from_utf8(seen).unwrap()
}

fn get() -> Operation {
    operation("command", &json!({ "args": ["GET", "k"] }))
}

/// Begins a command, and drops the call when the server has it.
async fn dropped(session: &mut dyn Session, peer: &mut TcpStream, command: &str) {
    let mut sink = Sink::collect(1000);
    let begun = operation("command", &json!({ "args": [command] }));
    let end = format!("{command}\r\n");
    tokio::select! {
        _ = session.execute(begun, &mut sink) => panic!("nobody has answered"),
        _ = until(peer, &end) => {}
    }
}

/// Runs GET, which the peer answers so.
async fn answered(
    session: &mut dyn Session,
    peer: &mut TcpStream,
    answer: &str,
) -> Result<Completion, CallError> {
    let mut sink = Sink::collect(1000);
    let answering = async {
        until(peer, "k\r\n").await;
        peer.write_all(answer.as_bytes()).await.unwrap();
    };
    tokio::join!(session.execute(get(), &mut sink), answering).0
}

fn json(done: Completion) -> String {
    match done.output {
        Output::Json(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_login_is_nothing_of_a_call() {
    let (mut session, mut peer, fence) = session().await;
    assert_eq!(fence.sent(), 0);
    let answer = answered(&mut *session, &mut peer, "$1\r\nv\r\n").await.unwrap();
    assert_eq!(
        (json(answer).as_str(), session.cleanliness()),
        ("\"v\"", Cleanliness::Clean)
    );
    assert!(fence.sent() > 0);
}

#[tokio::test]
async fn an_answer_too_many_ends_the_session() {
    let (mut session, mut peer, _fence) = session().await;
    let answer = answered(&mut *session, &mut peer, "+a\r\n+b\r\n").await.unwrap();
    assert_eq!(json(answer), "\"a\"");
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
    let mut sink = Sink::collect(1000);
    let next = session.execute(get(), &mut sink).await.unwrap_err();
    assert!(
        matches!(
            &next,
            CallError::Lost {
                executed: Some(Executed::No),
                ..
            }
        ),
        "{next:?}"
    );
}

#[tokio::test]
async fn commands_behind_a_refused_multi_are_told_to_be_executed() {
    let atomic = || {
        let params = json!({ "commands": [["LRANGE", "l", "0", "0"], ["INCR", "k"]], "atomic": true });
        operation("pipeline", &params)
    };
    for (answers, executed, said) in [
        ("*1\r\n$1\r\na\r\n:1\r\n", Executed::Yes, "without it"),
        ("-NOPERM lrange\r\n-NOPERM incr\r\n", Executed::No, "multi"),
    ] {
        let (mut session, mut peer, _fence) = session().await;
        let mut sink = Sink::collect(1000);
        let answering = async {
            until(&mut peer, "EXEC\r\n").await;
            let all = format!("-NOPERM multi\r\n{answers}-ERR EXEC without MULTI\r\n");
            peer.write_all(all.as_bytes()).await.unwrap();
        };
        let error = tokio::join!(session.execute(atomic(), &mut sink), answering)
            .0
            .unwrap_err();
        let CallError::Backend(error, found) = error else {
            panic!("{error:?}")
        };
        assert_eq!(found, executed, "{error:?}");
        assert!(error.message.contains(said), "{error:?}");
        let next = answered(&mut *session, &mut peer, "+own\r\n").await.unwrap();
        assert_eq!(json(next), "\"own\"", "nothing of it is left");
    }
}

#[tokio::test]
async fn what_a_server_says_unasked_is_no_answer() {
    let (mut session, mut peer, _fence) = session().await;
    let answer = answered(
        &mut *session,
        &mut peer,
        ">2\r\n+invalidate\r\n*1\r\n+k\r\n+v\r\n",
    )
    .await;
    assert_eq!(json(answer.unwrap()), "\"v\"");
    let unknown = answered(&mut *session, &mut peer, "?\r\n").await.unwrap_err();
    assert!(matches!(&unknown, CallError::Lost { .. }), "{unknown:?}");
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
}

#[tokio::test]
async fn a_dropped_call_that_was_never_sent_is_taken_back() {
    let (mut session, mut peer, fence) = session().await;
    fence.shut();
    let mut sink = Sink::collect(1000);
    let fenced = session.execute(get(), &mut sink).await.unwrap_err();
    assert!(matches!(&fenced, CallError::Lost { .. }), "{fenced:?}");
    fence.open(2);
    session.settle().await.unwrap();
    assert_eq!((session.cleanliness(), fence.sent()), (Cleanliness::Clean, 0));
    let answer = answered(&mut *session, &mut peer, ":1\r\n").await.unwrap();
    assert_eq!(json(answer), "1");
}

#[tokio::test]
async fn a_connection_that_ends_while_its_fence_is_shut_is_broken_all_the_same() {
    let (mut session, mut peer, fence) = session().await;
    fence.shut();
    peer.shutdown().await.unwrap();
    // The runtime hears of it.
    tokio::task::yield_now().await;
    let mut sink = Sink::collect(1000);
    let ended = session.execute(get(), &mut sink).await.unwrap_err();
    assert!(matches!(&ended, CallError::Lost { .. }), "{ended:?}");
    fence.open(2);
    session.settle().await.unwrap_err();
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
}

#[tokio::test]
async fn an_answer_to_what_was_not_sent_is_nobody_s() {
    let (mut session, mut peer, fence) = session().await;
    fence.shut();
    // A push may come at any time, and what stands behind it is found when it is read.
    peer.write_all(b">1\r\n+x\r\n+another's\r\n").await.unwrap();
    tokio::task::yield_now().await;
    let mut sink = Sink::collect(1000);
    let ended = session.execute(get(), &mut sink).await.unwrap_err();
    assert!(matches!(&ended, CallError::Lost { .. }), "{ended:?}");
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
}

#[tokio::test]
async fn memory_for_a_large_answer_or_command_is_given_back_after_the_call() {
    let (mut session, mut peer, _fence) = dialed().await;
    let large = format!("$3000000\r\n{}\r\n", "x".repeat(3_000_000));
    answered(&mut session, &mut peer, &large).await.unwrap();
    assert!(!session.wire.holds_much());
    let mut sink = Sink::collect(1000);
    let set = operation("command", &json!({ "args": ["SET", "x".repeat(3_000_000), "v"] }));
    let answering = async {
        until(&mut peer, "v\r\n").await;
        peer.write_all(b"+OK\r\n").await.unwrap();
    };
    tokio::join!(session.execute(set, &mut sink), answering)
        .0
        .unwrap();
    assert!(!session.wire.holds_much());
    // Of the many names of a subscription that is refused, too.
    let names: Vec<_> = (0..1000).map(|name| format!("{name:03000}")).collect();
    let subscribe = operation("subscribe", &json!({ "channels": names, "count": 1 }));
    let (mut subscriber, mut refusing, _fence) = dialed().await;
    let answering = async {
        until(&mut refusing, "0999\r\n").await;
        refusing.write_all(b"-NOPERM subscribe\r\n").await.unwrap();
        refusing.shutdown().await.unwrap();
    };
    tokio::join!(subscriber.execute(subscribe, &mut sink), answering)
        .0
        .unwrap_err();
    assert!(!subscriber.wire.holds_much());
    // Of an answer that nobody took, too.
    dropped(&mut session, &mut peer, "RANDOMKEY").await;
    let large = format!("$1000000\r\n{}\r\n", "x".repeat(1_000_000));
    let (settled, written) = tokio::join!(session.settle(), peer.write_all(large.as_bytes()));
    settled.unwrap();
    written.unwrap();
    assert!(!session.wire.holds_much());
}

#[tokio::test]
async fn a_session_with_bytes_that_were_never_written_is_not_handed_on() {
    let (mut session, _peer, fence) = dialed().await;
    session.wire.queue(b"another's", 0);
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
    let mut sink = Sink::collect(1000);
    session.execute(get(), &mut sink).await.unwrap_err();
    assert_eq!(fence.sent(), 0);
}

#[tokio::test]
async fn a_transaction_that_a_dropped_call_began_or_ended_is_remembered() {
    let atomic = || operation("pipeline", &json!({ "commands": [["GET", "k"]], "atomic": true }));
    let multi = ("MULTI", "+OK");
    for (begun, open) in [
        (vec![multi], true),
        (vec![("MULTI", "-NOPERM multi")], false),
        (vec![multi, ("EXEC", "*1\r\n*1\r\n+a")], false),
        (vec![multi, ("EXEC", "-EXECABORT refused")], false),
        (vec![multi, ("DISCARD", "+OK")], false),
        (vec![multi, ("DISCARD", "-NOPERM discard")], true),
    ] {
        let (mut session, mut peer, _fence) = session().await;
        for (command, answer) in &begun {
            dropped(&mut *session, &mut peer, command).await;
            peer.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
            session.settle().await.unwrap();
        }
        let mut sink = Sink::collect(1000);
        let answering = async {
            until(&mut peer, "EXEC\r\n").await;
            peer.write_all(b"+OK\r\n+QUEUED\r\n*1\r\n+v\r\n").await.unwrap();
        };
        let refused = tokio::select! {
            done = session.execute(atomic(), &mut sink) => matches!(done, Err(CallError::Invalid(_))),
            () = answering => false,
        };
        assert_eq!(refused, open, "{begun:?}");
    }
}

#[tokio::test]
async fn a_dropped_brief_command_is_answered_before_the_session_goes_on() {
    let (mut session, mut peer, _fence) = session().await;
    let mut sink = Sink::collect(1000);
    tokio::select! {
        _ = session.execute(get(), &mut sink) => panic!("nobody has answered"),
        _ = until(&mut peer, "k\r\n") => {}
    }
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
    peer.write_all(b"*2\r\n+an\r\n+other's\r\n").await.unwrap();
    session.settle().await.unwrap();
    assert_eq!(session.cleanliness(), Cleanliness::Clean);
    let answer = answered(&mut *session, &mut peer, "+mine\r\n").await.unwrap();
    assert_eq!(json(answer), "\"mine\"");
}

#[tokio::test]
async fn a_dropped_wait_costs_its_session() {
    let (mut session, mut peer, _fence) = session().await;
    let mut sink = Sink::collect(1000);
    let wait = operation("command", &json!({ "args": ["BLPOP", "k"] }));
    tokio::select! {
        _ = session.execute(wait, &mut sink) => panic!("nobody has answered"),
        _ = until(&mut peer, "k\r\n") => {}
    }
    session.settle().await.unwrap_err();
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
    let (_, read) = tokio::join!(session.close(), async {
        let read = peer.read_u8().await.is_err();
        drop(peer);
        read
    });
    assert!(read, "the server sees the end");
}

#[tokio::test]
async fn a_reset_that_is_not_proven_costs_the_session() {
    let clean = "db=0 name=sublet flags=N sub=0 psub=0 multi=-1 user=default redir=-1 resp=3";
    for (left, kept) in [
        ("", true),
        ("db=0|db=1", false),
        ("flags=N|flags=O", false),
        ("name=sublet|name=", false),
        ("multi=-1|multi=0", false),
        ("user=default|user=other", false),
        ("redir=-1|", false),
        ("resp=3|resp=2", false),
        ("resp=3|watch=1", false),
    ] {
        let (mut session, mut peer, _fence) = session().await;
        let mut sink = Sink::collect(1000);
        let select = operation("command", &json!({ "args": ["SELECT", "k"] }));
        let running = async {
            session.execute(select, &mut sink).await.unwrap();
            assert_eq!(session.cleanliness(), Cleanliness::Dirty);
            session.reset().await
        };
        let (from, to) = left.split_once('|').unwrap_or_default();
        let info = if from.is_empty() {
            clean.to_owned()
        } else {
            clean.replace(from, to)
        };
        let answering = async {
            until(&mut peer, "k\r\n").await;
            peer.write_all(b"+OK\r\n").await.unwrap();
            until(&mut peer, "INFO\r\n").await;
            let answers = format!("+RESET\r\n{HELLO}${}\r\n{info}\r\n", info.len());
            peer.write_all(answers.as_bytes()).await.unwrap();
        };
        let (reset, ()) = tokio::join!(running, answering);
        assert_eq!(reset.is_ok(), kept, "{left}: {reset:?}");
        assert_eq!(session.cleanliness() == Cleanliness::Clean, kept, "{left}");
    }
}
