//! Large answers: streamed, bounded, and left in the middle.

use serde_json::json;
use sublet::proto::event::Event;

use super::{Stage, begin_stream, items, next};
use crate::support::calls::*;

/// A string of so many bytes, and a list of so many elements of 1 KiB.
const LARGE: u64 = 32 << 20;
const LONG: usize = 10_000;
/// What lies between a server that sends and a caller who does not read, at most: sockets' buffers, gRPC's windows and
/// the broker's own.
const ON_THE_WAY: u64 = 16 << 20;

async fn fill(stage: &mut Stage) {
    let fill = "for i = 1, 10000 do redis.call('RPUSH', 'long', string.rep('x', 1024)) end \
                redis.call('SETRANGE', 'large', 33554431, 'x')";
    let params = json!({ "args": ["EVAL", fill, 0] });
    stage.one("command", params).await.unwrap();
}

#[tokio::test]
async fn an_answer_too_large_for_one_message_says_so_and_can_be_streamed() {
    let mut stage = Stage::with(1).await;
    fill(&mut stage).await;
    for command in ["GET large", "LRANGE long 0 -1"] {
        let refused = stage.run(command).await.unwrap_err();
        assert_eq!(reason(&refused), "RESPONSE_TOO_LARGE", "{command}");
        assert_eq!(stage.run("ECHO mine").await.unwrap(), "mine", "after {command}");
    }
    let list = one_shot("cache", "command", r#"{"args":["LRANGE","long",0,-1]}"#);
    let all = items(&mut stage.broker, list).await.unwrap();
    assert_eq!(all.len(), LONG);
    assert!(all.iter().all(|item| item.as_str().unwrap().len() == 1024));
}

#[tokio::test]
async fn a_slow_reader_pauses_the_server() {
    let mut stage = Stage::with(1).await;
    fill(&mut stage).await;
    let get = one_shot("cache", "command", r#"{"args":["GET","large"]}"#);
    let mut stream = begin_stream(&mut stage.broker, get).await;
    let Event::Data(first) = next(&mut stream).await.unwrap() else {
        panic!("bytes come first");
    };
    let mut read = first.len() as u64;
    // Were it read on, the server would have got rid of it all long before this ends.
    for _ in 0..5000 {
        let own = stage.own.clone();
        let held = stage.admin.sessions(&[&own]).await;
        assert!(waiting(&held[0]) > LARGE - ON_THE_WAY, "{held:?}");
    }
    let end = loop {
        match next(&mut stream).await.unwrap() {
            Event::Data(part) => {
                assert!(part.len() <= 64 * 1024);
                read += part.len() as u64;
            }
            Event::End(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((read, end.attributes["type"].as_str()), (LARGE, "string"));
}

/// Bytes that the server has not sent yet.
fn waiting(line: &str) -> u64 {
    let field = line.split(' ').find_map(|field| field.strip_prefix("omem="));
    field.unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_answer_left_in_its_middle_reaches_no_next_holder() {
    let mut stage = Stage::with(1).await;
    fill(&mut stage).await;
    for command in [
        r#"{"args":["GET","large"]}"#,
        r#"{"args":["LRANGE","long",0,-1]}"#,
    ] {
        let mut stream = begin_stream(&mut stage.broker, one_shot("cache", "command", command)).await;
        next(&mut stream).await.unwrap();
        drop(stream);
        // The server has nothing left to send, at once.
        let own = stage.own.clone();
        while stage
            .admin
            .sessions(&[&own])
            .await
            .iter()
            .any(|line| waiting(line) > 0)
        {}
        assert_eq!(stage.run("ECHO mine").await.unwrap(), "mine", "after {command}");
    }
}

#[tokio::test]
async fn a_map_is_streamed_pair_by_pair() {
    let mut stage = Stage::with(1).await;
    stage.run("HSET h a 1 b 2").await.unwrap();
    let all = one_shot("cache", "command", r#"{"args":["HGETALL","h"]}"#);
    assert_eq!(
        items(&mut stage.broker, all).await.unwrap(),
        [json!(["a", "1"]), json!(["b", "2"])]
    );
    let number = one_shot("cache", "command", r#"{"args":["INCR","n"]}"#);
    assert_eq!(items(&mut stage.broker, number).await.unwrap(), [json!(1)]);
    let failed = one_shot("cache", "command", r#"{"args":["INCR","h"]}"#);
    let failed = items(&mut stage.broker, failed).await.unwrap_err();
    assert_eq!(failed.code(), tonic::Code::FailedPrecondition);
}
