//! Definitions: every fault at once, with its field.

use super::*;
use crate::proto::Tls;

fn fields(spec: &PoolSpec) -> Vec<String> {
    let faults = backend(spec).unwrap_err();
    let mut fields: Vec<_> = faults.list().iter().map(|fault| fault.field.clone()).collect();
    fields.sort_unstable();
    fields
}

#[test]
fn every_fault_is_told_at_once() {
    let own = LlmBackend {
        dialect: 99,
        api_key: Some(env("PATH")),
        tls: Some(Tls {
            ca_file: "../x".to_owned(),
            ..Tls::default()
        }),
        defaults: Some(LlmDefaults {
            model: "a\n".to_owned(),
            max_tokens: Some(0),
            temperature: Some(2.5),
        }),
        model_aliases: [("a".to_owned(), String::new())].into(),
        first_token_timeout: span(0),
        idle_timeout: span(0),
        api_version: "x".to_owned(),
        headers: [
            ("bad name".to_owned(), "v".to_owned()),
            ("Authorization".to_owned(), "v".to_owned()),
        ]
        .into(),
        ..LlmBackend::default()
    };
    let mut bad = spec("http://u@h", own);
    bad.endpoints.push(Endpoint {
        address: "https://h".to_owned(),
        ..Endpoint::default()
    });
    let found = fields(&bad);
    for field in [
        "endpoints[0].address",
        "llm.api_key.env",
        "llm.api_version",
        "llm.defaults.max_tokens",
        "llm.defaults.model",
        "llm.defaults.temperature",
        "llm.dialect",
        "llm.first_token_timeout",
        "llm.headers.Authorization",
        "llm.headers.bad name",
        "llm.idle_timeout",
        "llm.model_aliases.a",
        "llm.tls.ca_file",
    ] {
        let times = found.iter().filter(|found| *found == field).count();
        assert_eq!(times, 1, "{field} in {found:?}");
    }
    assert_eq!(fields(&spec("h:1", own_of(Wire::Azure, ""))), ["llm.api_version"]);
    assert_eq!(
        fields(&PoolSpec {
            endpoints: Vec::new(),
            ..spec("", own_of(Wire::Ollama, ""))
        }),
        ["endpoints"]
    );
}

fn own_of(dialect: Wire, version: &str) -> LlmBackend {
    LlmBackend {
        dialect: dialect.into(),
        api_version: version.to_owned(),
        ..LlmBackend::default()
    }
}

#[tokio::test]
async fn each_endpoint_is_dialed_by_its_name() {
    let (one, two) = (
        Peer::start(vec![vec![Step::ToEnd]]),
        Peer::start(vec![vec![Step::ToEnd]]),
    );
    let mut both = spec(&one.address(), own(Wire::Openai));
    both.endpoints.push(Endpoint {
        name: "second".to_owned(),
        address: two.address(),
        ..Endpoint::default()
    });
    let backend = backend(&both).unwrap();
    for (name, known) in [
        ("second", true),
        (&*one.address(), true),
        (&*two.address(), false),
    ] {
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let dialed = backend.dial(fence, name).await;
        assert_eq!(
            dialed.as_ref().ok().map(|session| &**session.endpoint()),
            known.then_some(name)
        );
        if let Ok(session) = dialed {
            session.close().await;
        }
    }
    for peer in [one, two] {
        peer.until(|lines| lines.len() == 1).await;
    }
}

#[test]
fn no_secret_is_in_what_is_printed() {
    let backend = backend(&spec("h:1", own(Wire::Openai))).unwrap();
    assert!(!format!("{backend:?}").contains(KEY));
}
