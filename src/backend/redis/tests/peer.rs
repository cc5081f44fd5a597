//! A server that says what it is told to, for what a real one never does.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    backend::{CallError, Cleanliness, Completion, Output, Sink},
    error::Executed,
};

const HELLO: &str = "%1\r\n+proto\r\n:3\r\n";

/// A session, the peer's end of its connection, and the fence between.
async fn session() -> (Box<dyn Session>, TcpStream, Arc<Fence>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let backend = build(&spec(&address, RedisBackend::default())).unwrap();
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let dialing = backend.dial(Arc::clone(&fence));
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
