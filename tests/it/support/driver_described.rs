//! What the driver to test with says of itself.

use sublet::proto::plugin::{Example, Operation, example::Purpose};

use super::driver::Fault;

/// What it can do.
pub(super) fn operations(fault: Fault) -> Vec<Operation> {
    let plain = |name: &str| Operation {
        name: name.to_owned(),
        ..Operation::default()
    };
    let stateless = |name: &str| Operation {
        stateless: true,
        ..plain(name)
    };
    let streaming = |name: &str| Operation {
        streaming: true,
        ..stateless(name)
    };
    vec![
        stateless("echo"),
        Operation {
            needs_lease: fault != Fault::HidesState,
            stateless: fault == Fault::HidesState,
            ..plain("set")
        },
        plain("get"),
        stateless("fail"),
        stateless("status"),
        plain("wait"),
        streaming("count"),
        streaming("fetch"),
        streaming("hang"),
        Operation {
            takes_input: true,
            ..streaming("collect")
        },
        Operation {
            takes_input: true,
            ..streaming("mirror")
        },
    ]
}

/// The calls to test it with.
pub(super) fn examples(fault: Fault) -> Vec<Example> {
    let example = |operation: &str, params: &str, purpose: Purpose| Example {
        operation: operation.to_owned(),
        params_json: params.to_owned(),
        purpose: purpose as i32,
        input: Vec::new(),
    };
    let mut all = vec![
        example("echo", r#"{"a":1}"#, Purpose::Run),
        example("count", r#"{"count":3}"#, Purpose::Run),
        Example {
            input: vec!["ab".into(), "cd".into()],
            ..example("collect", "{}", Purpose::Run)
        },
        example("hang", "{}", Purpose::Slow),
        example("set", r#"{"value":"left"}"#, Purpose::Dirty),
        example("get", "", Purpose::Look),
    ];
    if fault == Fault::TakesMuch {
        for (operation, params) in [("mirror", "{}"), ("collect", r#"{"count": 1, "enough": true}"#)] {
            all.push(Example {
                input: vec![vec![b'x'; 64 << 10].into(); 24],
                ..example(operation, params, Purpose::Run)
            });
        }
    }
    all
}
