//! What holds for every kind: params, bodies, output for pipes, errors and exit codes.

use super::*;
use crate::{postgres::definition, support::postgres::Database};

const PARAMS: &str = "{\"z\": 18446744073709551615, \"a\":1.10, \"é\":\"\\u00e9\"}";

#[tokio::test]
async fn params_pass_byte_for_byte_wherever_they_come_from() {
    let stage = Stage::with("demo", echo(1)).await;
    stage.write("params.json", PARAMS);
    let line = format!("{PARAMS}\n");
    let exec = ["--pool", "demo", "echo"];
    let given = |params| [exec.as_slice(), &[params]].concat();
    assert_eq!(stage.run(&given(PARAMS)).await.well(), line);
    assert_eq!(stage.run(&given("@params.json")).await.well(), line);
    assert_eq!(stage.fed(&given("-"), PARAMS.as_bytes()).await.well(), line);
    assert_eq!(
        stage
            .run(&[&given(PARAMS)[..], &["--whole"]].concat())
            .await
            .well(),
        line
    );
    assert_eq!(stage.run(&exec).await.well(), "{}\n");
    let broken = stage.fed(&given("-"), b"{\n \"a\": 1,\r\n \"b\":\t2\n}\n").await;
    assert_eq!(broken.well(), "{  \"a\": 1,   \"b\":\t2 } \n", "one line");
}

#[tokio::test]
async fn what_is_wrong_here_is_told_before_anybody_is_asked() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("flow.json"), "{\"1\": [}").unwrap();
    let run = async |arguments: &[&str]| ran(command("127.0.0.1:9", place.path(), arguments), b"").await;
    let cases: [(&[&str], &str); 11] = [
        (
            &["--pool", "a", "echo", "{\n\"a\"}"],
            "PARAMS is no JSON: expected `:` at line 2 column 4",
        ),
        (
            &["--pool", "a", "echo", "flow.json"],
            "write @flow.json for what is in that file",
        ),
        (
            &["--pool", "a", "echo", "@flow.json"],
            "flow.json is no JSON: expected value at line 1 column 8",
        ),
        (&["--pool", "a", "echo", "@none.json"], "cannot read none.json"),
        (
            &["--pool", "a", "queue_prompt", "--workflow", "flow.json"],
            "flow.json is no JSON",
        ),
        (
            &["--pool", "a", "queue_prompt", "--attach", "a.png"],
            "write NAME=FILE",
        ),
        (
            &["--pool", "a", "echo", "-", "--body", "-"],
            "both the params and the body",
        ),
        (
            &["--pool", "a", "echo", "--body", "none"],
            "cannot read the body from none",
        ),
        (&["--pool", "a", "echo", "--timeout", "5"], "not a duration"),
        (&["--pool", "a", "echo", "--timeout", "0s"], "at least 1ms"),
        (&["echo", "{}"], "--pool"),
    ];
    for (arguments, wanted) in cases {
        let refused = run(arguments).await;
        assert!(refused.ill(64).contains(wanted), "{arguments:?}: {refused:?}");
    }
    let away = run(&["--pool", "a", "echo", "--save", "out"]).await;
    assert!(
        away.ill(69).contains("no broker answers at 127.0.0.1:9"),
        "{away:?}"
    );
    assert!(
        !place.path().join("out").exists(),
        "there was nothing to put into it"
    );
}

#[tokio::test]
async fn an_error_is_told_whole_and_has_a_code() {
    let stage = Stage::with("demo", echo(1)).await;
    let failed = stage.run(&["--pool", "none", "echo"]).await;
    for part in [
        "sublet: NOT_FOUND POOL_NOT_FOUND: ",
        "\n  executed: no\n  pool: none\n",
    ] {
        assert!(failed.ill(1).contains(part), "{failed:?}");
    }
    assert_eq!(failed.text(), "");
    let faulty = stage
        .run(&["--pool", "demo", "sleep", "{\"duration\": \"soon\"}"])
        .await;
    for part in [
        "sublet: INVALID_ARGUMENT: invalid argument\n  operation.params: ",
        "\n  executed: no\n",
    ] {
        assert!(faulty.ill(1).contains(part), "{faulty:?}");
    }
    let told = stage.run(&["--pool", "none", "echo", "--json"]).await;
    told.ill(1);
    let told: serde_json::Value = serde_json::from_str(told.text()).unwrap();
    assert_eq!(told["error"]["details"][0]["reason"], "POOL_NOT_FOUND");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_error_is_told_although_its_json_cannot_be_written() {
    let stage = Stage::with("demo", echo(1)).await;
    let mut command = stage.command(&["--pool", "none", "echo", "--json"]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    command.stdout(full);
    let failed = ran(command, b"").await;
    for part in ["sublet: cannot write: ", "sublet: NOT_FOUND POOL_NOT_FOUND: "] {
        assert!(failed.ill(1).contains(part), "{failed:?}");
    }
}

#[tokio::test]
async fn a_pool_on_the_command_line_goes_before_a_lease_of_the_environment() {
    let stage = Stage::with("demo", echo(1)).await;
    let mut command = stage.command(&["--pool", "demo", "echo"]);
    command.env("SUBLET_LEASE_TOKEN", "some.token");
    assert_eq!(ran(command, b"").await.well(), "{}\n");
}

#[tokio::test]
async fn programs_get_every_event_as_a_line_of_json() {
    let stage = Stage::with("demo", echo(1)).await;
    let ran = stage
        .run(&["--pool", "demo", "stream", "{\"count\": 2}", "--json"])
        .await;
    let lines = ran.well().lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    assert_eq!(lines[0]["accepted"]["endpoint"], "echo");
    assert_eq!(lines[1]["jsonText"], "{\"item\":1}");
    assert!(lines[3]["end"]["info"]["elapsed"].is_string(), "{lines:?}");
    assert_eq!(ran.err, "");
}

#[tokio::test]
async fn a_body_of_any_size_goes_and_comes_back() {
    let stage = Stage::with("demo", echo(1)).await;
    let small = b"\x89PNG\r\n\0 and so on";
    stage.write("small", small);
    let ran = stage.run(&["--pool", "demo", "echo", "--body", "small"]).await;
    assert_eq!((ran.code, ran.out.as_slice()), (Some(0), &small[..]), "{ran:?}");
    let large: Vec<u8> = (0..9_000_000_u32)
        .map(|at| at.to_le_bytes()[at as usize % 3])
        .collect();
    stage.write("large", &large);
    let echo = ["--pool", "demo", "echo", "--body"];
    let ran = stage.run(&[&echo[..], &["large"]].concat()).await;
    assert!(ran.code == Some(0) && ran.out == large, "{}", ran.err);
    let ran = stage.fed(&[&echo[..], &["-"]].concat(), &large).await;
    assert!(ran.code == Some(0) && ran.out == large, "{}", ran.err);
    let ran = stage
        .run(&[&echo[..], &["large", "--save", "out"]].concat())
        .await;
    assert_eq!(ran.well(), "out/echo\n");
    assert!(stage.read("out/echo") == large);
    let on_a_lease = stage.run(&["--lease", "a.b", "echo", "--body", "large"]).await;
    assert!(on_a_lease.ill(64).contains("leave --lease out"), "{on_a_lease:?}");
}

#[tokio::test]
async fn a_lease_keeps_its_session_over_calls() {
    let stage = Stage::with("demo", echo(1)).await;
    let mut broker = broker(&stage.app.address);
    let lease = lease(&mut broker, "demo").await;
    let token = lease.lease_token.as_str();
    stage
        .run(&["--lease", token, "set", "{\"value\": \"mine\"}"])
        .await
        .well();
    let mut get = stage.command(&["get", "-v"]);
    get.env("SUBLET_LEASE_TOKEN", token);
    let got = ran(get, b"").await;
    assert_eq!(got.well(), "\"mine\"\n");
    let session = lease.lease.unwrap().session_id;
    assert!(
        got.err.contains(&format!("echo, session {session}: waited ")),
        "{got:?}"
    );
    release(&mut broker, token).await;
}

#[tokio::test]
async fn who_does_not_read_on_ends_the_call_without_a_word() {
    let stage = Stage::with("demo", echo(1)).await;
    let mut child = stage
        .command(&["--pool", "demo", "stream", "{\"count\": 1000000}"])
        .spawn()
        .unwrap();
    until(&mut child, "{\"item\":1}\n").await;
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

#[tokio::test]
async fn what_comes_without_a_name_is_saved_under_the_operations() {
    let stage = Stage::with("demo", echo(1)).await;
    let stream = [
        "--pool",
        "demo",
        "stream",
        "{\"count\": 3, \"size\": 10}",
        "--save",
        "out",
    ];
    assert_eq!(stage.run(&stream).await.well(), "out/stream\n");
    assert_eq!(stage.run(&stream).await.well(), "out/stream (1)\n");
    let replaced = stage.run(&[&stream[..], &["--overwrite"]].concat()).await;
    assert_eq!(replaced.well(), "out/stream\n");
    assert_eq!(stage.list("out"), ["stream", "stream (1)"]);
    assert_eq!(stage.read("out/stream").len(), 30);
}

#[tokio::test]
async fn rows_are_objects_a_line_each() {
    let database = Database::fresh().await;
    let stage = Stage::with("db", definition(&database, 1)).await;
    let sql = "select n::int8 as n, 'row ' || n as text, null as none from generate_series(1, 1000) n";
    let params = serde_json::json!({ "sql": sql }).to_string();
    let ran = stage.run(&["--pool", "db", "query", &params]).await;
    let lines: Vec<_> = ran.well().lines().collect();
    assert_eq!(lines.len(), 1000);
    assert_eq!(lines[999], r#"{"n":1000,"text":"row 1000","none":null}"#);
    let whole = stage.run(&["--pool", "db", "query", &params, "--whole"]).await;
    assert_eq!(whole.well(), ran.well());
}
