//! Values both ways: every type of RESP3, bytes, and numbers of any size.

use serde_json::{Value, json};
use sublet::proto::{self, value::Kind};

use super::{Stage, items};
use crate::support::calls::*;

#[tokio::test]
async fn every_type_of_resp3_has_its_form() {
    let mut stage = Stage::with(1).await;
    let popularity = json!({ "key-popularity": ["key:123", 90] });
    let following = "Some real reply following the attribute";
    for (kind, plain) in [
        ("string", json!("Hello World")),
        ("integer", json!(12345)),
        ("double", serde_json::from_str("3.141").unwrap()),
        ("null", json!(null)),
        ("array", json!([0, 1, 2])),
        ("set", json!([0, 1, 2])),
        ("map", json!({ "$map": [[0, false], [1, true], [2, false]] })),
        ("attrib", json!({ "$attributes": popularity, "value": following })),
        ("verbatim", json!("This is a verbatim\nstring")),
        ("true", json!(true)),
        ("false", json!(false)),
    ] {
        let answer = stage.run(&format!("DEBUG PROTOCOL {kind}")).await.unwrap();
        assert_eq!(answer, plain, "{kind}");
    }
    for (kind, typed) in [
        ("set", json!({ "$set": [0, 1, 2] })),
        (
            "verbatim",
            json!({ "$verbatim": "txt", "text": "This is a verbatim\nstring" }),
        ),
        (
            "bignum",
            json!({ "$big_number": "1234567999999999999999999999999999999" }),
        ),
    ] {
        let params = json!({ "args": ["DEBUG", "PROTOCOL", kind], "typed": true });
        assert_eq!(stage.one("command", params).await.unwrap(), typed, "{kind}");
    }
}

#[tokio::test]
async fn a_big_number_keeps_its_digits() {
    let mut stage = Stage::with(1).await;
    let request = one_shot("cache", "command", r#"{"args":["DEBUG","PROTOCOL","bignum"]}"#);
    let text = execute(&mut stage.broker, request).await.unwrap();
    assert_eq!(text, "1234567999999999999999999999999999999");
    let beyond = stage.run("INCRBY n 9007199254740993").await.unwrap();
    assert_eq!(beyond, json!(9_007_199_254_740_993_u64));
}

#[tokio::test]
async fn bytes_travel_in_arguments_and_answers() {
    let mut stage = Stage::with(1).await;
    for binary in [json!({ "$base64": "AP8N" }), json!({ "hex": "00fF0d" })] {
        let params = json!({ "args": ["SET", "bytes", binary] });
        assert_eq!(stage.one("command", params).await.unwrap(), "OK");
        assert_eq!(stage.run("STRLEN bytes").await.unwrap(), 3);
        assert_eq!(
            stage.run("GET bytes").await.unwrap(),
            json!({ "$base64": "AP8N" })
        );
    }
    let value = |kind| proto::Value {
        kind: Some(kind),
        ..proto::Value::default()
    };
    let mut typed = one_shot("cache", "command", "{}");
    let operation = typed.operation.as_mut().unwrap();
    operation.args = vec![
        value(Kind::Text("APPEND".to_owned())),
        value(Kind::Bytes(b"bytes".as_slice().into())),
        value(Kind::Int(-7)),
    ];
    assert_eq!(stage.call(typed).await.unwrap(), 5);
    let mut body = one_shot("cache", "command", r#"{"args":["SET","bytes"]}"#);
    body.operation.as_mut().unwrap().body = b"\0whole\xff".as_slice().into();
    assert_eq!(stage.call(body).await.unwrap(), "OK");
    let gone = stage
        .one("command", json!({ "args": ["GETRANGE", "bytes", 1, 5] }))
        .await;
    assert_eq!(gone.unwrap(), "whole");
}

#[tokio::test]
async fn hashes_are_objects_unless_that_would_lose_something() {
    let mut stage = Stage::with(1).await;
    stage.run("HSET plain a 1 b 2").await.unwrap();
    stage.run("HSET marked $a 1 b 2").await.unwrap();
    let binary = json!({ "args": ["HSET", "binary", { "hex": "ff" }, "1"] });
    stage.one("command", binary).await.unwrap();
    assert_eq!(
        stage.run("HGETALL plain").await.unwrap(),
        json!({ "a": "1", "b": "2" })
    );
    assert_eq!(
        stage.run("HGETALL marked").await.unwrap(),
        json!({ "$map": [["$a", "1"], ["b", "2"]] })
    );
    assert_eq!(
        stage.run("HGETALL binary").await.unwrap(),
        json!({ "$map": [[{ "$base64": "/w==" }, "1"]] })
    );
}

#[tokio::test]
async fn scripts_answer_with_what_they_like() {
    let mut stage = Stage::with(1).await;
    let script = "redis.setresp(3) return {{double=0.5}, {set={x=true}}, {map={m={double=2}}}, \
                  {big_number='-12345678901234567890'}, {verbatim_string={format='mkd',string='*'}}, false, \
                  redis.error_reply('MINE own'), {err='no word'}}";
    let params = json!({ "args": ["EVAL", script, 0], "typed": true });
    assert_eq!(
        stage.one("command", params).await.unwrap(),
        json!([
            0.5,
            { "$set": ["x"] },
            { "m": 2.0 },
            { "$big_number": "-12345678901234567890" },
            { "$verbatim": "mkd", "text": "*" },
            false,
            { "$error": { "code": "MINE", "message": "MINE own" } },
            { "$error": { "code": "", "message": "no word" } },
        ])
    );
    let params = json!({ "args": ["EVAL", "redis.setresp(3) return {double=1/0}", 0] });
    assert_eq!(
        stage.one("command", params).await.unwrap(),
        json!({ "$double": "inf" })
    );
}

#[tokio::test]
async fn pipelines_answer_in_order_and_an_error_is_a_value() {
    let mut stage = Stage::with(1).await;
    let commands = json!({ "commands": [["SET", "k", 1], ["LPUSH", "k", "x"], ["INCR", "k"]] });
    let answer = stage.one("pipeline", commands.clone()).await.unwrap();
    assert_eq!(answer[0], "OK");
    assert_eq!(answer[1]["$error"]["code"], "WRONGTYPE");
    assert_eq!(answer[2], 2);
    let request = one_shot("cache", "pipeline", &commands.to_string());
    assert_eq!(
        items(&mut stage.broker, request).await.unwrap(),
        *answer.as_array().unwrap()
    );
}

#[tokio::test]
async fn an_atomic_pipeline_is_all_or_nothing() {
    let mut stage = Stage::with(1).await;
    let commands =
        |second: Value| json!({ "atomic": true, "commands": [["INCR", "k"], second, ["GET", "k"]] });
    let done = stage
        .one("pipeline", commands(json!(["LPUSH", "k", 1])))
        .await
        .unwrap();
    assert_eq!((&done[0], &done[2]), (&json!(1), &json!("1")));
    assert_eq!(done[1]["$error"]["code"], "WRONGTYPE");
    let refused = stage
        .one("pipeline", commands(json!(["NOSUCH"])))
        .await
        .unwrap_err();
    assert!(
        refused.message().contains("commands[1]: ERR unknown command"),
        "{refused:?}"
    );
    assert_eq!(
        (reason(&refused).as_str(), executed(&refused).as_str()),
        ("BACKEND_ERROR", "no")
    );
    assert_eq!(stage.run("GET k").await.unwrap(), "1");
    let own = stage
        .one("pipeline", commands(json!(["EXEC"])))
        .await
        .unwrap_err();
    assert!(own.message().contains("params.commands[1][0]"), "{own:?}");
}

#[tokio::test]
async fn a_watched_key_that_changed_stops_a_transaction() {
    let mut stage = Stage::with(2).await;
    let token = lease(&mut stage.broker, "cache").await.lease_token;
    let add = json!({ "atomic": true, "commands": [["INCR", "k"]] });
    stage.run_on(&token, "WATCH k").await.unwrap();
    stage.admin.run("SET k 5").await;
    let changed = stage.on(&token, "pipeline", add.clone()).await.unwrap_err();
    assert_eq!(
        (changed.code(), executed(&changed).as_str()),
        (tonic::Code::Aborted, "no")
    );
    stage.run_on(&token, "WATCH k").await.unwrap();
    assert_eq!(
        stage.on(&token, "pipeline", add.clone()).await.unwrap(),
        json!([6])
    );
    // The plain commands, in steps.
    assert_eq!(stage.run_on(&token, "MULTI").await.unwrap(), "OK");
    assert_eq!(stage.run_on(&token, "INCR k").await.unwrap(), "QUEUED");
    let nested = stage.on(&token, "pipeline", add).await.unwrap_err();
    assert!(nested.message().contains("params.atomic"), "{nested:?}");
    assert_eq!(stage.run_on(&token, "EXEC").await.unwrap(), json!([7]));
}

#[tokio::test]
async fn errors_have_codes_and_say_what_was_executed() {
    let mut stage = Stage::with(1).await;
    stage.run("SET text x").await.unwrap();
    for (command, code, word, done) in [
        (
            "LPUSH text 1",
            tonic::Code::FailedPrecondition,
            "WRONGTYPE",
            "yes",
        ),
        ("EVALSHA ffff 0", tonic::Code::NotFound, "NOSCRIPT", "yes"),
        ("NOSUCH", tonic::Code::InvalidArgument, "ERR", "yes"),
        (
            "XGROUP CREATE none g $",
            tonic::Code::InvalidArgument,
            "ERR",
            "yes",
        ),
    ] {
        let refused = stage.run(command).await.unwrap_err();
        assert_eq!(
            (refused.code(), executed(&refused).as_str()),
            (code, done),
            "{command}: {refused:?}"
        );
        let details = tonic_types::StatusExt::get_error_details(&refused);
        assert_eq!(
            details.error_info().unwrap().metadata["redis_code"],
            word,
            "{command}"
        );
    }
}
