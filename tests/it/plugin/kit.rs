//! `sublet plugin test`: a driver that keeps to the protocol passes, and each broken one is named for what it does.

use std::process::Stdio;

use tokio::process::Command;

use super::*;

/// What the kit prints of a driver, and its exit code.
async fn kit(address: &str, more: &[&str]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sublet"));
    command
        .args(["plugin", "test", "--address", address])
        .args(more)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let done = command.output().await.unwrap();
    let text = String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap();
    (text, done.status.code().unwrap())
}

/// The names of the checks that failed, and the text of them all.
async fn failed(fault: Fault) -> (Vec<String>, String) {
    let driver = Running::start(fault).await;
    let (text, code) = kit(&driver.address, &["--limit", "1000"]).await;
    assert_eq!(code, 1, "{text}");
    let lines = text.lines().filter_map(|line| line.strip_prefix("FAIL "));
    let name = |line: &str| line.split("  ").next().unwrap().trim().to_owned();
    (lines.map(name).collect(), text)
}

#[tokio::test]
async fn driver_that_keeps_to_the_protocol_passes_every_check() {
    for style in [Fault::None, Fault::StopsByRpc, Fault::StopsByCancel] {
        let driver = Running::start(style).await;
        let (text, code) = kit(&driver.address, &[]).await;
        assert_eq!(code, 0, "{style:?}: {text}");
        assert!(text.contains("19 ok, 0 failed, 0 skipped"), "{style:?}: {text}");
        assert!(text.contains("ok    run collect"), "{style:?}: {text}");
        assert_eq!(driver.sessions(), 0, "{style:?}: the kit leaves nothing");
    }
}

#[tokio::test]
async fn driver_that_answers_or_sends_before_it_has_taken_all_input_passes() {
    let driver = Running::start(Fault::TakesMuch).await;
    let (text, code) = kit(&driver.address, &[]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("ok    run mirror"), "{text}");
    assert!(text.contains("21 ok, 0 failed, 0 skipped"), "{text}");
}

#[tokio::test]
async fn calls_given_on_the_command_line_go_before_the_drivers_own_examples() {
    let driver = Running::start(Fault::None).await;
    let (text, code) = kit(
        &driver.address,
        &["--run", r#"fail={"executed": 1}"#, "--config", "{}"],
    )
    .await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("FAIL  run fail"), "{text}");
    assert!(text.contains("PAPER_JAM tray 2"), "{text}");
    let (text, code) = kit(&driver.address, &["--config", "[1]"]).await;
    assert_eq!(code, 64, "{text}");
    let (text, code) = kit(&driver.address, &["--config", r#"{"broken": true}"#]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("config.broken: leave it out"), "{text}");
}

#[tokio::test]
async fn nobody_at_the_address_is_told() {
    // Port 9 of loopback (discard) is served by nobody.
    let (text, code) = kit("127.0.0.1:9", &[]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("no connection"), "{text}");
}

#[tokio::test]
async fn driver_that_blocks_on_cancel_is_named() {
    let (names, text) = failed(Fault::BlocksOnCancel).await;
    assert_eq!(
        names,
        [
            "cancel",
            "cancel, call dropped",
            "late cancel",
            "connection killed"
        ],
        "{text}"
    );
    assert!(text.contains("Cancel was not answered within 1s"), "{text}");
}

#[tokio::test]
async fn driver_that_answers_cancel_while_the_call_goes_on_is_named() {
    let (names, text) = failed(Fault::LiesAboutCancel).await;
    assert!(names.contains(&"cancel".to_owned()), "{text}");
    assert!(
        text.contains("Cancel was answered, and the call goes on: the call did not end within 100ms"),
        "{text}"
    );
}

#[tokio::test]
async fn driver_that_stops_a_later_call_is_named() {
    let (names, text) = failed(Fault::StopsLaterCalls).await;
    assert_eq!(names, ["late cancel"], "{text}");
    assert!(text.contains("a late Cancel of call 1 stopped call 2"), "{text}");
}

#[tokio::test]
async fn driver_that_leaves_a_dropped_connects_session_is_named() {
    let (names, text) = failed(Fault::LeavesADroppedConnect).await;
    assert_eq!(names, ["connect dropped"], "{text}");
    assert!(
        text.contains("after a Connect that was dropped, and its Disconnect: Check of a session"),
        "{text}"
    );
}

#[tokio::test]
async fn driver_that_describes_as_stateless_what_leaves_something_is_named() {
    let (names, text) = failed(Fault::HidesState).await;
    assert_eq!(names, ["stateless"], "{text}");
    assert!(text.contains("`set` is described as `stateless`"), "{text}");
}

#[tokio::test]
async fn driver_whose_stream_ends_with_an_output_is_named() {
    let (names, text) = failed(Fault::OutputInEnd).await;
    assert_eq!(names, ["run count"], "{text}");
    assert!(text.contains("put an output into `end`"), "{text}");
}

#[tokio::test]
async fn failed_check_leaves_no_session_for_the_next() {
    let driver = Running::start(Fault::LiesAboutReset).await;
    let (text, code) = kit(&driver.address, &["--limit", "1000"]).await;
    assert_eq!((code, driver.sessions()), (1, 0), "{text}");
}

#[tokio::test]
async fn driver_that_leaks_state_is_named() {
    let (names, text) = failed(Fault::LeaksState).await;
    assert!(names.contains(&"sessions apart".to_owned()), "{text}");
    assert!(text.contains("state leaks between sessions"), "{text}");
}

#[tokio::test]
async fn driver_that_lies_about_reset_is_named() {
    let (names, text) = failed(Fault::LiesAboutReset).await;
    assert_eq!(names, ["reset"], "{text}");
    assert!(
        text.contains("Reset answered CLEAN, and the session still shows"),
        "{text}"
    );
}

#[tokio::test]
async fn driver_that_dies_in_a_call_is_named() {
    let (names, text) = failed(Fault::DiesInACall).await;
    assert_eq!(names, ["cancel", "lives on"], "{text}");
    assert!(text.contains("the driver died in `cancel`"), "{text}");
}

#[tokio::test]
async fn driver_that_answers_as_another_instance_is_named() {
    let (names, text) = failed(Fault::OtherInstance).await;
    assert!(names.contains(&"check".to_owned()), "{text}");
    assert!(
        text.contains("Check answered with the instance_id `somebody else`"),
        "{text}"
    );
}

#[tokio::test]
async fn driver_that_never_answers_describe_is_named() {
    let (names, text) = failed(Fault::NeverDescribes).await;
    assert_eq!(names, ["describe"], "{text}");
    assert!(text.contains("Describe was not answered within 1s"), "{text}");
}

#[tokio::test]
async fn driver_whose_streams_do_not_end_is_named() {
    let (names, text) = failed(Fault::NoEnd).await;
    assert_eq!(names, ["run count"], "{text}");
    assert!(text.contains("without its end"), "{text}");
}

#[tokio::test]
async fn driver_that_takes_any_session_is_named() {
    let (names, text) = failed(Fault::TakesAnySession).await;
    assert!(names.contains(&"unknown session".to_owned()), "{text}");
    assert!(text.contains("came to: OK; the protocol has NOT_FOUND"), "{text}");
}
