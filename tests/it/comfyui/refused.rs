//! What a box, or a proxy before it, answers instead of an answer: the table of errors.

use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;
use crate::support::comfy_peer::Instead;

/// Each row: statuses, the code, the kind.
const ROWS: [(&[u16], Code, &str); 9] = [
    (&[400, 422], Code::InvalidArgument, "invalid"),
    (&[401, 403], Code::FailedPrecondition, "refused"),
    (&[404], Code::NotFound, "not_found"),
    (&[405, 501], Code::Unimplemented, "unimplemented"),
    (&[413], Code::OutOfRange, "too_large"),
    (&[429], Code::ResourceExhausted, "rate_limited"),
    // UNAVAILABLE is said only where nothing was executed.
    (&[502, 503, 504], Code::Unknown, "unavailable"),
    (&[500, 507], Code::Internal, "box_failed"),
    (&[418], Code::Unknown, "unexpected"),
];

fn instead(to: &str, status: u16, retry_after: Option<&'static str>) -> Instead {
    Instead {
        to: to.to_owned(),
        status,
        retry_after,
        done: false,
        body: "a proxy says no".to_owned(),
    }
}

#[tokio::test]
async fn each_status_has_its_code_and_kind() {
    let mut stage = Stage::with(1).await;
    for (statuses, code, kind) in ROWS {
        for status in statuses {
            let answers = ["GET /system_stats", "POST /free", "GET /queue", "POST /prompt"]
                .map(|to| instead(to, *status, None));
            stage.peer().change(|state| state.instead = answers.to_vec());
            for (name, params, known) in [
                ("system_stats", json!({}), "yes"),
                ("free", json!({}), "yes"),
                ("queue", json!({}), "yes"),
            ] {
                let failed = stage.run(name, &params).await.unwrap_err();
                assert_eq!(
                    (
                        failed.code(),
                        fact(&failed, "kind").as_str(),
                        executed(&failed).as_str()
                    ),
                    (code, kind, known),
                    "{name} {status}"
                );
                assert_eq!(fact(&failed, "status"), status.to_string());
                assert!(failed.message().contains("a proxy says no"), "{failed:?}");
            }
            stage.peer().change(|state| drop(state.instead.remove(2)));
            let failed = stage.prompt(saves()).await.unwrap_err();
            let known = if *status < 500 { "no" } else { "unknown" };
            assert_eq!(
                (
                    failed.code(),
                    fact(&failed, "kind").as_str(),
                    executed(&failed).as_str()
                ),
                (code, kind, known),
                "queue_prompt {status}"
            );
            assert!(!fact(&failed, "prompt_id").is_empty(), "{failed:?}");
        }
    }
    stage.peer().change(|state| state.instead.clear());
    stage.prompt(saves()).await.unwrap();
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back_if_the_proxy_does() {
    let mut stage = Stage::with(1).await;
    for (told, known) in [(Some("7"), Some(Duration::from_secs(7))), (None, None)] {
        let answers = ["GET /system_stats", "POST /prompt"].map(|to| instead(to, 429, told));
        stage.peer().change(|state| state.instead = answers.to_vec());
        for (name, params) in [
            ("system_stats", json!({})),
            ("queue_prompt", json!({ "workflow": saves() })),
        ] {
            let failed = stage.run(name, &params).await.unwrap_err();
            assert_eq!(failed.code(), Code::ResourceExhausted);
            let details = failed.get_error_details();
            let wait = details.retry_info().and_then(|info| info.retry_delay);
            assert_eq!(wait, known, "{name}");
        }
    }
}

#[tokio::test]
async fn a_prompt_that_the_box_has_taken_all_the_same_is_cancelled() {
    let mut stage = Stage::with(1).await;
    let leased = lease(&mut stage.broker, "art").await;
    let params = json!({ "workflow": only("Gate", json!({})) }).to_string();
    for number in 0..2 {
        stage.peer().answer_instead("POST /prompt", 502, true);
        let call = match number {
            0 => on_lease(&leased.lease_token, "queue_prompt", &params),
            _ => one_shot("art", "queue_prompt", &params),
        };
        let failed = execute(&mut stage.broker, call).await.unwrap_err();
        assert_eq!(
            (fact(&failed, "kind"), executed(&failed)),
            ("unavailable".to_owned(), "unknown".to_owned()),
            "{failed:?}"
        );
        // Nothing else is asked of the lease.
        let id = fact(&failed, "prompt_id");
        stage.peer().until(|state| state.remaining() == 0).await;
        stage
            .peer()
            .look(|state| assert!(state.submissions.last().unwrap().contains(&id), "{id}"));
        stage.peer().change(|state| state.instead.clear());
        if number == 0 {
            let again = on_lease(
                &leased.lease_token,
                "queue_prompt",
                &json!({ "workflow": saves() }).to_string(),
            );
            execute(&mut stage.broker, again).await.unwrap();
            release(&mut stage.broker, &leased.lease_token).await;
        }
    }
}

#[tokio::test]
async fn what_fails_before_a_prompt_is_submitted_was_not_executed() {
    let mut stage = Stage::with(1).await;
    let file = json!({ "name": "dot.png", "base64": "iVBORw0KGgo=" });
    let with_file =
        json!({ "workflow": only("LoadImage", json!({ "image": "attachment:dot.png" })), "files": [file] });
    let with_id = json!({ "workflow": saves(), "prompt_id": "00000000-0000-4000-8000-000000000007" });
    for (to, params) in [("POST /upload/image", &with_file), ("GET /queue", &with_id)] {
        for status in [413, 503] {
            stage
                .peer()
                .change(|state| state.instead = vec![instead(to, status, None)]);
            let failed = stage.run("queue_prompt", params).await.unwrap_err();
            assert_eq!(
                (executed(&failed), fact(&failed, "status")),
                ("no".to_owned(), status.to_string()),
                "{failed:?}"
            );
        }
        // It is no JSON: the box gave no answer to go by.
        stage
            .peer()
            .change(|state| state.instead = vec![instead(to, 200, None)]);
        let failed = stage.run("queue_prompt", params).await.unwrap_err();
        assert_eq!(executed(&failed), "no", "{failed:?}");
    }
    stage.peer().look(|state| assert!(state.submissions.is_empty()));
}

#[tokio::test]
async fn what_a_box_finds_wrong_may_have_any_shape() {
    let mut stage = Stage::with(1).await;
    for odd in [
        json!([]),
        json!("none"),
        json!({ "1": null }),
        json!({ "1": { "errors": [{ "type": 7 }, "bare"], "class_type": null } }),
    ] {
        stage.peer().change(|state| state.node_errors = odd.clone());
        let answer = stage.prompt(saves()).await.unwrap();
        assert_eq!(answer["status"], "success", "{odd}");
    }
    let told = [
        (
            r#"{"error":{"type":"invalid_prompt","message":"m"},"node_errors":[]}"#,
            "params.workflow",
        ),
        (
            r#"{"error":"no","node_errors":{"7":{"errors":[{"message":"bad","extra_info":null}]}}}"#,
            "params.workflow.7",
        ),
    ];
    for (body, field) in told {
        let answer = Instead {
            body: body.to_owned(),
            ..instead("POST /prompt", 400, None)
        };
        stage.peer().change(|state| state.instead = vec![answer]);
        let failed = stage.prompt(saves()).await.unwrap_err();
        let details = failed.get_error_details();
        let fault = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(fault.field, format!("operation.{field}"), "{fault:?}");
        assert_eq!(executed(&failed), "no");
    }
}
