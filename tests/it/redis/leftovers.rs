//! Every way to leave something behind in a session, and a next holder who finds nothing.
//!
//! A new way is a line in [`WAYS`]. What the next holder finds is a portrait of the session, taken before as well.

use serde_json::{Value, json};

use super::Stage;
use crate::support::{calls::*, redis::Server};

/// Ways to leave something behind, as commands of a lease.
const WAYS: &[&[&str]] = &[
    &["MULTI"],
    &["MULTI", "SET k left"],
    &["MULTI", "NOSUCH"],
    &["MULTI", "SELECT 9999"],
    &["MULTI", "SELECT 9999", "EXEC"],
    &["WATCH k"],
    &["WATCH k", "UNWATCH", "WATCH k"],
    &["SELECT 9999"],
    &["CLIENT SETNAME other"],
    &["CLIENT NO-EVICT on"],
    &["CLIENT TRACKING on"],
    &["CLIENT TRACKING on NOLOOP", "GET k"],
    &["CLIENT TRACKING on BCAST PREFIX k"],
    &["CLIENT TRACKING on OPTIN", "CLIENT CACHING yes"],
    &["CLIENT SETINFO lib-name other"],
    &["CLIENT NO-TOUCH on"],
    &["HELLO 2"],
    &["HELLO 2", "MULTI", "GET k"],
    &["HELLO 3 SETNAME other"],
    &["AUTH other pass"],
    &["HELLO 3 AUTH other pass SETNAME other"],
    &["RESET"],
    &["RESET", "SELECT 9999"],
    &["READONLY"],
    &["ASKING"],
    &["EVAL redis.call('SELECT','9999') 0"],
    &["EVAL redis.setresp(2) 0"],
];

/// What CLIENT INFO says of a session's state, and not of its life.
const SHOWN: &[&str] = &[
    "name", "db", "flags", "sub", "psub", "ssub", "multi", "user", "redir", "resp", "lib-name", "lib-ver",
];

/// What the next holder finds.
async fn portrait(stage: &mut Stage) -> Value {
    let info = stage.run("CLIENT INFO").await.unwrap();
    let fields = info.as_str().unwrap().trim_end().split(' ');
    let shown = fields.filter_map(|field| field.split_once('='));
    let shown: Vec<_> = shown.filter(|(name, _)| SHOWN.contains(name)).collect();
    let tracking = stage.run("CLIENT TRACKINGINFO").await.unwrap();
    // A watched key that has changed would stop this.
    stage.admin.run("SET k mine").await;
    let commands = json!({ "atomic": true, "commands": [["GET", "k"]] });
    let transaction = stage.one("pipeline", commands).await.unwrap();
    json!([shown, tracking, transaction])
}

#[tokio::test]
async fn what_a_holder_leaves_is_gone_for_the_next_one() {
    let mut stage = Stage::with(1).await;
    stage.admin.run("ACL SETUSER other on >pass ~* &* +@all").await;
    let before = portrait(&mut stage).await;
    for way in WAYS {
        let token = lease(&mut stage.broker, "cache").await.lease_token;
        for command in *way {
            // Not every server has all of them.
            drop(stage.run_on(&token, command).await);
        }
        stage.admin.run("SET k changed").await;
        release(&mut stage.broker, &token).await;
        assert_eq!(portrait(&mut stage).await, before, "after {way:?}");
    }
}

#[tokio::test]
async fn a_session_is_kept_where_a_reset_undoes_what_was_left() {
    let mut stage = Stage::with(1).await;
    let id = stage.run("CLIENT ID").await.unwrap();
    for left in [
        "MULTI",
        "WATCH k",
        "SELECT 9999",
        "CLIENT SETNAME other",
        "HELLO 2",
    ] {
        let token = lease(&mut stage.broker, "cache").await.lease_token;
        stage.run_on(&token, left).await.unwrap();
        release(&mut stage.broker, &token).await;
        assert_eq!(stage.run("CLIENT ID").await.unwrap(), id, "after {left}");
    }
}

#[tokio::test]
async fn what_only_a_lease_could_use_is_refused_on_a_pool() {
    let mut stage = Stage::with(1).await;
    for command in [
        "MULTI",
        "WATCH k",
        "SELECT 1",
        "CLIENT SETNAME x",
        "HELLO 2",
        "AUTH a b",
        "RESET",
    ] {
        let refused = stage.run(command).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{command}");
        assert!(refused.message().contains("needs a lease"), "{refused:?}");
    }
    let pipeline = json!({ "commands": [["GET", "k"], ["SELECT", 1]] });
    let refused = stage.one("pipeline", pipeline).await.unwrap_err();
    assert!(refused.message().contains("needs a lease"), "{refused:?}");
}

#[tokio::test]
async fn what_has_no_answer_or_no_end_is_refused_by_name() {
    let mut stage = Stage::with(1).await;
    let token = lease(&mut stage.broker, "cache").await.lease_token;
    for command in [
        "SUBSCRIBE c",
        "MONITOR",
        "CLIENT REPLY OFF",
        "client reply skip",
        "CLIENT CAPA redirect",
        "QUIT",
    ] {
        let refused = stage.run_on(&token, command).await.unwrap_err();
        assert!(refused.message().contains("params.args[0]"), "{refused:?}");
        assert_eq!(executed(&refused), "no");
    }
}

/// Names do not tell what a renamed command does.
#[tokio::test]
async fn what_goes_by_another_name_reaches_no_next_holder_either() {
    let renamed =
        "--rename-command MONITOR m0nitor --rename-command SUBSCRIBE sub --rename-command MULTI mult";
    let server = Server::start_with(renamed, |_| {});
    let mut stage = Stage::on_server(&server, 1).await;
    for left in ["m0nitor", "mult"] {
        let token = lease(&mut stage.broker, "cache").await.lease_token;
        stage.run_on(&token, left).await.unwrap();
        stage.admin.run("SET k seen").await;
        release(&mut stage.broker, &token).await;
        assert_eq!(stage.run("ECHO mine").await.unwrap(), "mine", "after {left}");
        assert_eq!(stage.run("GET k").await.unwrap(), "seen", "after {left}");
    }
    // Its only answer is a push, so the call never ends by itself.
    let mut broker = stage.broker.clone();
    let request = one_shot("cache", "command", r#"{"args":["sub","c"]}"#);
    let call = tokio::spawn(async move { execute(&mut broker, request).await });
    stage.until(1, &["sub=1"]).await;
    call.abort();
    stage.until(0, &["sub=1"]).await;
    stage.admin.run("PUBLISH c lost").await;
    assert_eq!(stage.run("ECHO mine").await.unwrap(), "mine");
}

#[tokio::test]
async fn a_user_who_may_not_prove_a_reset_has_its_sessions_closed() {
    // Others share the usual server, and its user.
    let server = Server::start_with("", |_| {});
    let mut stage = Stage::on_server(&server, 1).await;
    let id = stage.run("CLIENT ID").await.unwrap();
    stage.admin.run("ACL SETUSER default -client|info").await;
    let token = lease(&mut stage.broker, "cache").await.lease_token;
    stage.run_on(&token, "SELECT 9999").await.unwrap();
    release(&mut stage.broker, &token).await;
    let next = stage.run("CLIENT ID").await.unwrap();
    assert_ne!(next, id);
}
