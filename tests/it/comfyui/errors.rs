//! Each row of the table of errors.

use serde_json::json;
use tonic::Code;

use super::*;

fn violations(status: &Status) -> Vec<(String, String)> {
    use tonic_types::StatusExt as _;
    let details = status.get_error_details();
    let faults = details.bad_request().unwrap().field_violations.clone();
    faults
        .into_iter()
        .map(|fault| (fault.field, fault.description))
        .collect()
}

#[tokio::test]
async fn a_workflow_that_the_box_refuses_is_told_by_its_fields() {
    let mut stage = Stage::with(1).await;
    let mut too_small = saves();
    too_small["1"]["inputs"]["width"] = json!(-5);
    let cases = [
        (
            json!({ "1": { "class_type": "Nope", "inputs": {} } }),
            "1.class_type",
            "missing_node_type",
        ),
        (json!({}), "", "prompt_no_outputs"),
        (
            json!({ "2": { "class_type": "SaveImage", "inputs": {} } }),
            "2.inputs.images",
            "required_input_missing",
        ),
        (too_small, "1.inputs.width", "value_smaller_than_min"),
        (
            only("LoadImage", json!({ "image": "absent.png" })),
            "",
            "prompt_no_outputs",
        ),
    ];
    for (workflow, field, kind) in cases {
        let status = stage.prompt(workflow).await.unwrap_err();
        assert_eq!(
            (status.code(), executed(&status)),
            (Code::InvalidArgument, "no".to_owned()),
            "{status:?}"
        );
        let dot = if field.is_empty() { "" } else { "." };
        let found = violations(&status);
        assert_eq!(found[0].0, format!("operation.params.workflow{dot}{field}"));
        assert!(found[0].1.starts_with(kind), "{found:?}");
    }
    // The session is as good as before.
    stage.prompt(saves()).await.unwrap();
    assert_eq!(stage.peer().look(|state| state.client_ids.len()), 1);
}

#[tokio::test]
async fn a_node_that_fails_is_told_with_its_exception() {
    let mut stage = Stage::with(1).await;
    let fails = |exception: &str, message: &str| {
        only("Explode", json!({ "exception": exception, "message": message }))
    };
    let cases = [
        ("ValueError", "no", Code::Internal, "node_failed"),
        (
            "torch.OutOfMemoryError",
            "Allocation failed",
            Code::ResourceExhausted,
            "out_of_memory",
        ),
        (
            "torch.cuda.OutOfMemoryError",
            "x",
            Code::ResourceExhausted,
            "out_of_memory",
        ),
        (
            "RuntimeError",
            "CUDA error: out of memory",
            Code::ResourceExhausted,
            "out_of_memory",
        ),
    ];
    for (exception, message, code, kind) in cases {
        let status = stage.prompt(fails(exception, message)).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status)),
            (code, "BACKEND_ERROR".to_owned()),
            "{status:?}"
        );
        assert_eq!(executed(&status), "yes");
        assert_eq!(fact(&status, "kind"), kind);
        assert_eq!(
            (fact(&status, "node"), fact(&status, "class")),
            ("1".to_owned(), "Explode".to_owned())
        );
        assert_eq!(fact(&status, "exception"), exception);
        assert!(status.message().contains(message), "{status:?}");
    }
    let mut stream = stage
        .stream(&json!({ "workflow": fails("ValueError", "no") }))
        .await;
    let error = stream.until("error").await;
    assert_eq!(error["error"]["traceback"], json!(["frame 1\n"]));
    assert_eq!(stream.next().await.unwrap_err().code(), Code::Internal);
    stage.prompt(saves()).await.unwrap();
}

#[tokio::test]
async fn a_prompt_that_somebody_else_interrupts_is_cancelled() {
    let mut stage = Stage::with(1).await;
    let mut stream = stage
        .stream(&json!({ "workflow": only("Gate", json!({})) }))
        .await;
    stream.until("started").await;
    stage.peer().change(|state| state.interrupted = true);
    stream.until("cancelled").await;
    let status = stream.failure().await;
    assert_eq!(
        (status.code(), executed(&status)),
        (Code::Cancelled, "yes".to_owned())
    );
    assert_eq!(fact(&status, "kind"), "interrupted");
}

#[tokio::test]
async fn a_prompt_that_somebody_else_takes_out_of_the_queue_was_not_executed() {
    let mut stage = Stage::with(1).await;
    stage
        .peer()
        .put("00000000-0000-4000-8000-000000000001", only("Gate", json!({})));
    stage.peer().runs().await;
    let mut stream = stage.stream(&json!({ "workflow": saves() })).await;
    stream.until("queued").await;
    stage.peer().change(|state| state.pending.clear());
    let status = stream.failure().await;
    assert_eq!(
        (status.code(), executed(&status)),
        (Code::Cancelled, "no".to_owned()),
        "{status:?}"
    );
    assert_eq!(fact(&status, "kind"), "interrupted");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let mut stage = Stage::with(1).await;
    let absent = json!({ "prompt_id": "00000000-0000-4000-8000-000000000009" });
    let cases = [
        ("view", json!({ "filename": "absent.png" }), "not_found"),
        ("fetch", absent.clone(), "no_such_prompt"),
        ("wait", absent.clone(), "no_such_prompt"),
        ("raw", json!({ "path": "/nothing" }), "not_found"),
    ];
    for (name, params, kind) in cases {
        let status = stage.run(name, &params).await.unwrap_err();
        assert_eq!(
            (status.code(), fact(&status, "kind")),
            (Code::NotFound, kind.to_owned()),
            "{name}"
        );
    }
    let status = stage.run("status", &absent).await.unwrap();
    assert_eq!(status["state"], "unknown");
}

#[tokio::test]
async fn an_id_that_the_box_has_is_refused_before_anything_is_sent() {
    let mut stage = Stage::with(1).await;
    let params = json!({ "workflow": saves(), "prompt_id": "00000000-0000-4000-8000-000000000007" });
    stage.run("queue_prompt", &params).await.unwrap();
    let status = stage.run("queue_prompt", &params).await.unwrap_err();
    assert_eq!(
        (status.code(), executed(&status)),
        (Code::AlreadyExists, "no".to_owned())
    );
    assert_eq!(stage.peer().look(|state| state.submissions.len()), 1);
}

#[tokio::test]
async fn what_makes_no_sense_never_reaches_a_box() {
    let mut stage = Stage::with(1).await;
    let prompts = [
        (r#""prompt_id":"X""#, "params.prompt_id"),
        (r#""number":"x""#, "params.number"),
        (r#""extra_data":1"#, "params.extra_data"),
        (r#""preview_fps":31"#, "params.preview_fps"),
        (r#""seeed":1"#, "params"),
        (r#""outputs":"bytes""#, "params.outputs"),
        (r#""detach":true,"outputs":"history""#, "params.outputs"),
        (r#""detach":true,"output_nodes":["2"]"#, "params.output_nodes"),
        (r#""detach":true,"preview_fps":1"#, "params.preview_fps"),
        (r#""detach":true,"delete_history":true"#, "params.delete_history"),
        (r#""files":[{"name":"a","base64":""}]"#, "params.files[0].name"),
    ];
    let workflow = saves();
    let prompt = |(more, field)| {
        (
            "queue_prompt",
            format!(r#"{{"workflow":{workflow},{more}}}"#),
            field,
        )
    };
    let others = [
        ("queue_prompt", r#"{"workflow":[1]}"#, "params.workflow"),
        (
            "queue_prompt",
            r#"{"workflow":{"nodes":[],"links":[]}}"#,
            "params.workflow",
        ),
        ("upload", r#"{"name":"../x.png"}"#, "params.name"),
        ("raw", r#"{"method":"POST","path":"/interrupt"}"#, "params.path"),
        ("raw", r#"{"method":"POST","path":"/api/queue"}"#, "params.path"),
        ("paint", "{}", "name"),
    ];
    let others = others.map(|(name, params, field)| (name, params.to_owned(), field));
    for (name, params, field) in prompts.map(prompt).into_iter().chain(others) {
        let call = one_shot("art", name, &params);
        let status = execute(&mut stage.broker, call).await.unwrap_err();
        assert_eq!(
            (status.code(), executed(&status)),
            (Code::InvalidArgument, "no".to_owned()),
            "{params}"
        );
        assert_eq!(violations(&status)[0].0, format!("operation.{field}"), "{params}");
    }
    stage.peer().look(|state| {
        let written = state.requests.iter().filter(|line| line.starts_with("POST"));
        assert_eq!(written.count(), 0, "{:?}", state.requests);
    });
}
