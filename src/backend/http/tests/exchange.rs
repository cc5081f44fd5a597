//! What goes over the wire, and what comes back.

use super::*;

#[tokio::test]
async fn json_passes_byte_for_byte_both_ways() {
    let sent = r#"{ "z":18446744073709551615, "a":1.0,"n":{"é":"\u00e9"} }"#;
    let peer = Peer::start(vec![vec![Step::Echo]]);
    let mut bench = Bench::with(&peer).await;
    let mut operation = request(json!({}));
    operation.params = Params::Text(format!(r#"{{"method":"post","path":"/x","json":{sent}}}"#));
    let answer = bench.run(operation).await.unwrap();
    assert_eq!(answer.text(), sent);
    let seen = &peer.requests()[0];
    assert_eq!(seen.body, sent.as_bytes());
    assert!(seen.head.starts_with("POST /x HTTP/1.1\r\n"), "{}", seen.head);
    assert!(
        seen.head.contains("content-type: application/json\r\n"),
        "{}",
        seen.head
    );
    assert!(
        seen.head.contains(&format!("host: {}\r\n", peer.address())),
        "{}",
        seen.head
    );
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let peer = Peer::start(vec![vec![Step::Serve]]);
    let mut bench = Bench::with(&peer).await;
    for _ in 0..20 {
        let answer = bench.ask(json!({})).await.unwrap();
        assert_eq!((answer.text(), answer.retries), ("{}", 0));
        assert_eq!(answer.attributes["status"], "200");
        assert_eq!(bench.session.cleanliness(), Cleanliness::Clean);
        bench.session.probe().await.unwrap();
    }
    assert_eq!((peer.lines().len(), peer.requests().len()), (1, 20));
}

#[tokio::test]
async fn path_query_and_headers_arrive_as_given() {
    let peer = Peer::start(vec![vec![Step::Serve]]);
    let own = HttpBackend {
        headers: [("x-pool", "pool"), ("x-both", "pool"), ("host", "virtual")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..HttpBackend::default()
    };
    let address = format!("http://{}/base/", peer.address());
    let mut bench = Bench::made(&spec(&address, own)).await;
    let headers = json!({"X-Both": "call", "accept": ["a/b", "c/d"]});
    bench
        .ask(json!({"path": "/p?x=1", "query": {"q": "ü"}, "headers": headers}))
        .await
        .unwrap();
    bench.ask(json!({})).await.unwrap();
    let seen = peer.requests();
    let mut lines: Vec<_> = seen[0].head.trim_end().split("\r\n").collect();
    lines[1..].sort_unstable();
    let expected = [
        "GET /base/p?x=1&q=%C3%BC HTTP/1.1",
        "accept: a/b",
        "accept: c/d",
        "host: virtual",
        "x-both: call",
        "x-pool: pool",
    ];
    assert_eq!(lines, expected);
    assert!(
        seen[1].head.starts_with("GET /base HTTP/1.1\r\n"),
        "{}",
        seen[1].head
    );
}

#[tokio::test]
async fn each_kind_of_body_is_sent_as_it_is() {
    let peer = Peer::start(vec![vec![Step::Serve]]);
    let mut bench = Bench::with(&peer).await;
    bench
        .ask(json!({"method": "PUT", "text": "grüße"}))
        .await
        .unwrap();
    bench.ask(json!({"method": "PUT", "hex": "00ff"})).await.unwrap();
    bench.ask(json!({"method": "PUT"})).await.unwrap();
    let mut with_body = request(json!({"method": "PUT", "headers": {"content-type": "a/b"}}));
    with_body.body = Body::Whole(Bytes::from_static(b"raw"));
    bench.run(with_body).await.unwrap();
    let seen = peer.requests();
    let bodies: Vec<_> = seen.iter().map(|seen| seen.body.as_slice()).collect();
    assert_eq!(bodies, ["grüße".as_bytes(), &[0, 255], b"", b"raw"]);
    assert!(
        seen[0]
            .head
            .contains("content-type: text/plain; charset=utf-8\r\n")
    );
    assert!(seen[2].head.contains("content-length: 0\r\n"));
    assert!(seen[3].head.contains("content-type: a/b\r\n"));
}

#[tokio::test]
async fn an_error_status_is_an_answer_and_repeated_headers_are_kept() {
    let head = "HTTP/1.1 503 Busy\ncontent-length: 2\nset-cookie: a=1\nset-cookie: b=2\nx: y\n\n";
    let peer = Peer::start(vec![vec![
        Step::Request,
        answer(&format!("{head}no")),
        Step::Serve,
    ]]);
    let mut bench = Bench::with(&peer).await;
    let answer = bench.ask(json!({})).await.unwrap();
    assert_eq!(
        (answer.attributes["status"].as_str(), answer.body()),
        ("503", &b"no"[..])
    );
    assert_eq!(answer.attributes["header.set-cookie"], "a=1, b=2");
    assert_eq!(bench.ask(json!({})).await.unwrap().retries, 0);
}

#[tokio::test]
async fn what_announces_json_and_is_none_comes_as_bytes() {
    let head = "HTTP/1.1 200 OK\ncontent-type: application/problem+json\ncontent-length: 2\n\n";
    let peer = Peer::start(vec![vec![
        Step::Request,
        answer(&format!("{head}{{]")),
        Step::Request,
        answer(&format!("{head}{{}}")),
        Step::ToEnd,
    ]]);
    let mut bench = Bench::with(&peer).await;
    assert_eq!(bench.ask(json!({})).await.unwrap().body(), b"{]");
    assert_eq!(bench.ask(json!({})).await.unwrap().text(), "{}");
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_usable() {
    let peer = Peer::start(vec![vec![
        Step::Request,
        answer("HTTP/1.1 200 OK\ncontent-length: 500\n\n"),
        Step::Request,
        answer("HTTP/1.1 204 No Content\n\n"),
        Step::Request,
        answer("HTTP/1.1 304 Not Modified\ncontent-length: 500\n\n"),
        Step::Request,
        answer(
            "HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nlink: x\n\nHTTP/1.1 200 OK\ncontent-length: 2\n\nok",
        ),
        Step::Request,
        answer("HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n2\nab\n1\nc\n0\n\n"),
        Step::ToEnd,
    ]]);
    let mut bench = Bench::with(&peer).await;
    let mut bodies = Vec::new();
    for method in ["HEAD", "GET", "GET", "GET", "GET"] {
        let answer = bench.ask(json!({"method": method})).await.unwrap();
        assert_eq!(answer.retries, 0);
        bodies.push((answer.attributes["status"].clone(), answer.body().to_vec()));
    }
    let expected = [
        ("200", ""),
        ("204", ""),
        ("304", ""),
        ("200", "ok"),
        ("200", "abc"),
    ];
    assert_eq!(
        bodies,
        expected.map(|(status, body)| (status.to_owned(), body.as_bytes().to_vec()))
    );
    assert_eq!(peer.lines().len(), 1);
}

#[tokio::test]
async fn a_connection_announced_to_close_is_dialed_anew_without_a_retry() {
    for last in [
        "HTTP/1.1 200 OK\nconnection: close\ncontent-length: 2\n\nok",
        "HTTP/1.1 200 OK\nconnection: close\n\nok",
        "HTTP/1.0 200 OK\n\nok",
    ] {
        let peer = Peer::start(vec![vec![Step::Request, answer(last)]]);
        let mut bench = Bench::with(&peer).await;
        for _ in 0..3 {
            let answer = bench.ask(json!({})).await.unwrap();
            assert_eq!((answer.body(), answer.retries), (&b"ok"[..], 0));
            bench.session.probe().await.unwrap();
        }
        assert_eq!((peer.lines().len(), peer.requests().len()), (3, 3), "{last}");
    }
}

#[tokio::test]
async fn redirects_are_followed_within_the_origin_as_often_as_asked() {
    let peer = Peer::start(vec![vec![
        Step::Request,
        answer("HTTP/1.1 303 See Other\nlocation: /b\ncontent-length: 3\n\nbye"),
        Step::Request,
        answer("HTTP/1.1 308 Moved\nlocation: c?x=1\ncontent-length: 0\n\n"),
        Step::Serve,
    ]]);
    let mut bench = Bench::with(&peer).await;
    let params = json!({"method": "POST", "path": "/a", "json": {}, "follow_redirects": 2});
    let answer = bench.ask(params).await.unwrap();
    assert_eq!(answer.text(), "{}");
    let seen = peer.requests();
    let firsts: Vec<_> = seen
        .iter()
        .map(|seen| seen.head.split("\r\n").next().unwrap())
        .collect();
    assert_eq!(
        firsts,
        ["POST /a HTTP/1.1", "GET /b HTTP/1.1", "GET /c?x=1 HTTP/1.1"]
    );
    assert_eq!((seen[1].body.len(), peer.lines().len()), (0, 1));
    assert!(!seen[1].head.contains("content-type"), "{}", seen[1].head);
}

#[tokio::test]
async fn a_redirect_that_keeps_the_method_keeps_the_body() {
    let redirect = answer("HTTP/1.1 307 Over There\nlocation: /b\ncontent-length: 0\n\n");
    let peer = Peer::start(vec![vec![Step::Request, redirect, Step::Serve]]);
    let mut bench = Bench::with(&peer).await;
    bench
        .ask(json!({"method": "POST", "json": [1], "follow_redirects": 1}))
        .await
        .unwrap();
    let seen = peer.requests();
    assert!(
        seen[1].head.starts_with("POST /b HTTP/1.1\r\n"),
        "{}",
        seen[1].head
    );
    assert_eq!(seen[1].body, b"[1]");
}

#[tokio::test]
async fn a_redirect_elsewhere_or_once_too_often_is_the_answer() {
    for (location, times) in [("http://other.example/", 3), ("/again", 0), ("/again", 1)] {
        let moved = answer(&format!(
            "HTTP/1.1 302 Found\nlocation: {location}\ncontent-length: 0\n\n"
        ));
        let script = vec![vec![Step::Request, moved]; 3].concat();
        let peer = Peer::start(vec![script]);
        let mut bench = Bench::with(&peer).await;
        let answer = bench.ask(json!({"follow_redirects": times})).await.unwrap();
        assert_eq!(answer.attributes["status"], "302");
        assert_eq!(answer.attributes["header.location"], location);
        let followed = if location == "/again" { times } else { 0 };
        assert_eq!(peer.requests().len(), 1 + followed);
    }
}

/// Params that make no sense, and the path of their fault.
const NONSENSE: [(&str, &str); 24] = [
    (r#"{"method": "A B"}"#, "params.method"),
    (r#"{"method": "connect"}"#, "params.method"),
    (r#"{"path": "x"}"#, "params.path"),
    (r#"{"path": "http://evil.example/"}"#, "params.path"),
    (r#"{"path": "/a b"}"#, "params.path"),
    (r#"{"path": "/a\r\nx: y"}"#, "params.path"),
    (r#"{"path": "/é"}"#, "params.path"),
    (r#"{"path": "/a#b"}"#, "params.path"),
    (r#"{"path": "/../admin"}"#, "params.path"),
    (r#"{"path": "/%2E%2e/admin"}"#, "params.path"),
    (r#"{"query": "a b"}"#, "params.path"),
    (r#"{"headers": {"a b": "x"}}"#, "params.headers.a b"),
    (r#"{"headers": {"x": "1\r\ny: 2"}}"#, "params.headers.x"),
    (r#"{"headers": {"x": ["0", "1\n"]}}"#, "params.headers.x"),
    (r#"{"headers": {"Host": "other"}}"#, "params.headers.Host"),
    (
        r#"{"headers": {"connection": "close"}}"#,
        "params.headers.connection",
    ),
    (r#"{"headers": {"te": "trailers"}}"#, "params.headers.te"),
    (
        r#"{"headers": {"transfer-encoding": "chunked"}}"#,
        "params.headers.transfer-encoding",
    ),
    (
        r#"{"headers": {"content-length": "7"}}"#,
        "params.headers.content-length",
    ),
    (r#"{"headers": {"x": 1}}"#, "params"),
    (r#"{"hex": "0"}"#, "params.hex"),
    (r#"{"follow_redirects": 21}"#, "params.follow_redirects"),
    (r#"{"paht": "/"}"#, "params"),
    (r#"{"json": 1, "text": "x"}"#, "params"),
];

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_with_their_paths() {
    let peer = Peer::start(vec![vec![Step::Serve]]);
    let mut bench = Bench::with(&peer).await;
    for (params, field) in NONSENSE {
        let mut operation = request(json!({}));
        operation.params = Params::Text(params.to_owned());
        let Err(CallError::Invalid(faults)) = bench.session.execute(operation, &mut Sink::collect(9)).await
        else {
            panic!("it was not refused: {params}");
        };
        assert_eq!(faults.list()[0].field, field, "{params}");
    }
    let mut other = request(json!({"path": "x"}));
    other.name = "get".to_owned();
    other.args = vec![crate::proto::Value::default()];
    let faults = bench.backend.inspect(&other).unwrap_err();
    let fields: Vec<_> = faults.list().iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["name", "args", "params.path"]);
    assert_eq!(
        (bench.fence.sent(), bench.session.cleanliness()),
        (0, Cleanliness::Clean)
    );
}

#[test]
fn a_definition_is_refused_with_all_its_faults() {
    let one = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let reference = crate::proto::SecretRef::default();
    let own = HttpBackend {
        tls: Some(crate::proto::Tls {
            server_name: "x".to_owned(),
            ca_file: "/etc/ca.pem".to_owned(),
            skip_verify: true,
            ..Default::default()
        }),
        headers: [
            one("a b", "x"),
            one("connection", "x"),
            one("x", "1\n"),
            one("X-Key", "1"),
        ]
        .into(),
        secret_headers: [
            ("x-key".to_owned(), reference.clone()),
            ("y".to_owned(), reference),
        ]
        .into(),
        first_byte_timeout: span(0),
        write_timeout: Some(prost_types::Duration {
            seconds: 90_000,
            nanos: 0,
        }),
        ..HttpBackend::default()
    };
    let faults = backend(&spec("http://api", own), Path::new("/")).unwrap_err();
    let fields: Vec<_> = faults.list().iter().map(|fault| fault.field.as_str()).collect();
    let expected = [
        "http.tls.ca_file",
        "http.tls.skip_verify",
        "http.tls.server_name",
        "http.tls.ca_file",
        "http.tls.skip_verify",
        "http.headers.a b",
        "http.headers.connection",
        "http.headers.x",
        "http.secret_headers.x-key",
        "http.secret_headers.x-key",
        "http.secret_headers.y",
        "http.write_timeout",
        "http.first_byte_timeout",
    ];
    assert_eq!(fields, expected);
    let mut none = spec("api:80", HttpBackend::default());
    none.endpoints.clear();
    assert_eq!(
        backend(&none, Path::new("/")).unwrap_err().list()[0].field,
        "endpoints"
    );
    let mut bad = spec("user:pw@api", HttpBackend::default());
    assert_eq!(
        backend(&bad, Path::new("/")).unwrap_err().list()[0].field,
        "endpoints[0].address"
    );
    bad.endpoints.push(Endpoint::default());
    assert_eq!(
        backend(&bad, Path::new("/")).unwrap_err().list()[0].field,
        "endpoints"
    );
}
