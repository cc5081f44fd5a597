//! Rules about single files: names, sizes, words, and where the wire's library may appear.

use crate::source::{Source, files};

/// A rule: what a file breaks it by, if it does.
type Rule = fn(&Source) -> Option<String>;

const RULES: [Rule; 5] = [vague_name, too_long, left_behind, server_side, real_sleep];

/// Names that say nothing about what is inside, so that anything ends up there.
const VAGUE: [&str; 12] = [
    "util", "utils", "helper", "helpers", "common", "manager", "impl", "misc", "types", "data", "ext", "base",
];

/// Longer files have more than one subject. Tests beside the code do not count.
const MOST_LINES: usize = 400;

/// A file of tests may be longer: a table of cases has one subject and many rows.
const MOST_TEST_LINES: usize = 600;

fn vague_name(source: &Source) -> Option<String> {
    let vague = source
        .path
        .split('/')
        .map(|part| part.split('.').next().unwrap_or(part))
        .find(|p| VAGUE.contains(p))?;
    Some(format!(
        "\"{vague}\" says nothing about what is inside, so anything ends up there: name it for its subject"
    ))
}

fn too_long(source: &Source) -> Option<String> {
    let shipped = if source.path.starts_with("tests/") {
        ""
    } else {
        source.shipped()
    };
    let (text, most) = if shipped.is_empty() {
        (source.code.as_str(), MOST_TEST_LINES)
    } else {
        (shipped, MOST_LINES)
    };
    let lines = text.lines().count();
    (lines > most).then(|| format!("{lines} lines, more than {most}: it has more than one subject, split it"))
}

/// What someone meant to come back to. These are the marks that are looked for: some in shipped and test code but not in
/// strings, some in any text. They are split in two here, or they, and whoever searches the tree for them, would find
/// this list.
fn left_behind(source: &Source) -> Option<String> {
    let in_code = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("#[ign", "ore"),
        "#[should_panic]",
    ];
    let in_text = [concat!("FIX", "ME"), concat!("XX", "X:"), concat!("TO", "DO")];
    let word = in_code.iter().find(|word| source.code.contains(*word));
    let word = word.or_else(|| in_text.iter().find(|word| source.text.contains(*word)))?;
    Some(format!(
        "{word}: what is not done belongs in an issue; a test that cannot run or fail proves nothing"
    ))
}

/// The wire's server side stays in `grpc/`, so that every use case can be called, and tested, without it.
fn server_side(source: &Source) -> Option<String> {
    let module = source
        .module()
        .filter(|module| !["grpc", "proto"].contains(module))?;
    let code = source.shipped();
    let server = [
        "tonic::transport::Server",
        "tonic::server",
        "tonic::service",
        "tonic_health::server",
        "tonic_reflection",
        "_server::",
    ];
    if let Some(found) = server.iter().find(|path| code.contains(*path)) {
        return Some(format!(
            "{found} belongs in src/grpc: a use case that knows the wire can only be tested over it"
        ));
    }
    // `app` has clients of its own (demo, health); every other module gets by with the list of codes.
    let stray = code
        .match_indices("tonic::")
        .any(|(at, path)| !code[at + path.len()..].starts_with("Code"));
    let stray = stray || code.contains("tonic_health::");
    (stray && module != "app").then(|| {
        "only tonic::Code is used outside src/grpc: statuses are made there, from src/error.rs's types"
            .to_owned()
    })
}

/// A real sleep makes a test slow when it is long enough and flaky when it is not.
fn real_sleep(source: &Source) -> Option<String> {
    let tests = tests_of(source);
    let called =
        |(at, _): (usize, &str)| !tests[..at].ends_with(|c: char| c.is_alphanumeric() || "._".contains(c));
    let sleeps = tests.match_indices("sleep(").any(called) && !source.code.contains("start_paused");
    let blocks = source.code.contains("thread::sleep") || source.text.contains(concat!("time.sl", "eep("));
    (blocks || sleeps)
        .then(|| "sleeps in real time: wait for an event, or pause tokio's clock (start_paused)".to_owned())
}

/// The part of a file that is tests. A stand-in that unit tests share has none: its users' clock is paused.
fn tests_of(source: &Source) -> &str {
    if source.path.starts_with("tests/") {
        return &source.code;
    }
    let tests = &source.code[source.shipped().len()..];
    let has_test = tests.contains("test]") || tests.contains("test(");
    if has_test { tests } else { "" }
}

fn faults(source: &Source) -> Vec<String> {
    let found = RULES.iter().filter_map(|rule| rule(source));
    found.map(|why| format!("{}: {why}", source.path)).collect()
}

#[test]
fn every_source_file_keeps_the_house_rules() {
    let mut sources = files(&["src", "tests", "benches"], "rs");
    sources.extend(files(&["examples", "scripts"], "py"));
    sources.extend(files(&["proto/sublet"], "proto"));
    let faults: Vec<String> = sources.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_rule_can_fail() {
    let long = "fn a() {}\n".repeat(MOST_LINES + 1);
    let longer = "fn a() {}\n".repeat(MOST_TEST_LINES + 1);
    let bad: [(&str, &str, Rule); 15] = [
        ("src/pool/util.rs", "", vague_name),
        ("src/helpers/mod.rs", "", vague_name),
        ("src/pool/core.rs", &long, too_long),
        ("src/pool/tests/core.rs", &longer, too_long),
        ("src/pool/core.rs", concat!("fn a() { to", "do!() }"), left_behind),
        ("src/pool/core.rs", concat!("#[ign", "ore]"), left_behind),
        ("src/pool/core.rs", concat!("// FIX", "ME later"), left_behind),
        ("examples/python/a.py", concat!("time.sl", "eep(1)"), real_sleep),
        ("src/broker/acquire.rs", "use tonic::Status;", server_side),
        ("src/broker/acquire.rs", "use tonic_health::pb;", server_side),
        ("src/app/serve.rs", "use tonic::transport::Server;", server_side),
        (
            "src/app/serve.rs",
            "use crate::proto::stats_service_server::StatsService;",
            server_side,
        ),
        ("src/app/serve.rs", "fn a() { std::thread::sleep(b) }", real_sleep),
        (
            "tests/it/drain.rs",
            "async fn a() { tokio::time::sleep(b).await }",
            real_sleep,
        ),
        (
            "src/pool/shell.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    #[tokio::test]\n    async fn b() { tokio::time::sleep(c).await }\n}",
            real_sleep,
        ),
    ];
    for (path, text, rule) in bad {
        assert!(
            rule(&Source::new(path, text)).is_some(),
            "{path} with {text:?} was let through"
        );
    }
}

#[test]
fn what_the_rules_allow_is_let_through() {
    let good = [
        ("src/broker/acquire.rs", "use tonic::Code; // not tonic::Status"),
        ("src/grpc/status.rs", "use tonic::Status;"),
        ("src/app/demo.rs", "use tonic::transport::Channel;"),
        (
            "src/app/check.rs",
            "use tonic_health::pb::health_client::HealthClient;",
        ),
        (
            "src/pool/reaper.rs",
            "async fn a() { tokio::time::sleep(b).await }",
        ),
        (
            "src/pool/tests.rs",
            "#[tokio::test(start_paused = true)]\nasync fn a() { tokio::time::sleep(b).await }",
        ),
    ];
    for (path, text) in good {
        assert_eq!(
            faults(&Source::new(path, text)),
            Vec::<String>::new(),
            "{path} with {text:?}"
        );
    }
}
