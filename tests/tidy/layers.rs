//! Who may use whom. An arrow that is missing here keeps a rule in one place: the store off the request path, I/O out
//! of the cores, the wire out of everything but `grpc`.

use crate::source::{Source, files};

/// Each module and the modules it may use. All that wait may use the clock, because nothing else may tell the time.
const LAYERS: [(&str, &[&str]); 15] = [
    ("clock", &[]),
    ("error", &[]),
    ("proto", &[]),
    ("telemetry", &[]),
    ("backend", &["error", "proto", "clock"]),
    ("pool", &["backend", "clock", "error"]),
    ("lease", &["clock", "error"]),
    ("broker", &["lease", "pool", "backend", "clock", "error", "proto"]),
    (
        "catalog",
        &[
            "store", "pool", "lease", "backend", "broker", "clock", "error", "proto",
        ],
    ),
    ("store", &["clock", "error", "pool"]),
    ("history", &["pool", "store", "clock"]),
    (
        "grpc",
        &["broker", "catalog", "history", "clock", "error", "proto"],
    ),
    ("config", &[]),
    ("app", &["*"]),
    ("lib", &["*"]),
];

/// `pool`, `lease` and `broker` know sessions by backend's traits only, so that a new kind touches none of them.
const KINDS: [&str; 10] = [
    "comfyui", "echo", "http", "llm", "plugin", "postgres", "redis", "registry", "secrets", "tcp",
];

/// `grpc` puts these modules' values on the wire, and `catalog` makes leases' bounds of definitions; what acts on
/// sessions and leases is reached through a use case only.
const ACTORS: [(&str, &[&str]); 3] = [
    ("backend", &["Backend", "Session", "Fence", "FencedIo"]),
    ("lease", &["Leases", "Table", "Tokens"]),
    ("pool", &["Pool", "Held", "Acquire", "GiveBack", "Request"]),
];

/// A module that `code` uses and the name it takes from it: `pool` and `Settings` for `crate::pool::Settings`.
#[derive(Debug, PartialEq, Eq)]
struct Use<'a> {
    module: &'a str,
    item: &'a str,
}

/// Every `crate::…` path in `code`, groups in braces taken apart.
fn uses(code: &str) -> Vec<Use<'_>> {
    let mut found = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        for branch in branches(rest) {
            let module = name(branch);
            let item = branch[module.len()..].strip_prefix("::").unwrap_or("");
            found.extend(branches(item).into_iter().map(|item| Use {
                module,
                item: name(item),
            }));
        }
    }
    found
}

/// The parts of a `{a, b::{c, d}}` group, or the path itself.
fn branches(path: &str) -> Vec<&str> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![path];
    };
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                parts.push(group[start..at].trim());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// For a module that is imported itself, what is taken from it by its name: `grpc::Settings` after `use crate::grpc`.
fn through_import<'a>(code: &'a str, found: &Use<'a>) -> Vec<Use<'a>> {
    let module = found.module;
    let mut uses = vec![Use {
        module,
        item: found.item,
    }];
    if ["", "self"].contains(&found.item) {
        let path = format!("{module}::");
        let own = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || "_:{".contains(c));
        let items = code.match_indices(&path).filter(|(at, _)| own(*at));
        uses.extend(items.map(|(at, path)| Use {
            module,
            item: name(&code[at + path.len()..]),
        }));
    }
    uses
}

/// The identifier at the beginning of `path`.
fn name(path: &str) -> &str {
    let end = path
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(path.len());
    &path[..end]
}

/// What is wrong with the layers of one file.
fn faults(source: &Source) -> Vec<String> {
    let Some(module) = source.module().filter(|module| *module != "main") else {
        return Vec::new();
    };
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == module) else {
        return vec![format!(
            "{}: module {module} has no row in tests/tidy/layers.rs: say what it may use",
            source.path
        )];
    };
    let code = source.shipped();
    let mut faults: Vec<String> = uses(code)
        .iter()
        .flat_map(|found| through_import(code, found))
        .filter_map(|found| objection(module, allowed, &found))
        .map(|why| format!("{}: {why}", source.path))
        .collect();
    faults.extend(escape(source));
    faults
}

fn objection(module: &str, allowed: &[&str], found: &Use<'_>) -> Option<String> {
    let target = found.module;
    if module == "config" {
        let settings = ["", "self"].contains(&found.item)
            || found.item.ends_with("Settings")
            || ["clock", "error", "telemetry"].contains(&target);
        return (!settings).then(|| {
            format!(
                "config may use the modules' own Settings, not {target}::{}",
                found.item
            )
        });
    }
    let by_traits = ["pool", "lease", "broker"].contains(&module);
    if by_traits && target == "backend" && KINDS.contains(&found.item) {
        return Some(format!(
            "{module} may not use backend::{}, only the traits beside it",
            found.item
        ));
    }
    let only_values = module == "grpc" || (module == "catalog" && target == "lease");
    if let Some((_, actors)) = ACTORS.iter().find(|(acting, _)| only_values && *acting == target) {
        let acts = actors.contains(&found.item);
        return acts.then(|| {
            format!(
                "{module} may not use {target}::{}, only values: call a use case",
                found.item
            )
        });
    }
    let known = LAYERS.iter().any(|(layer, _)| *layer == target);
    let fine = !known || target == module || allowed.contains(&"*") || allowed.contains(&target);
    (!fine).then(|| {
        format!("{module} may not use {target} (only {allowed:?}): see \"Layers\" in docs/ARCHITECTURE.md")
    })
}

/// `super::` that leaves a layer would hide an arrow from this test.
fn escape(source: &Source) -> Option<String> {
    let depth = source.path.matches('/').count() - usize::from(source.path.ends_with("/mod.rs"));
    let steps = "super::".repeat(depth);
    let leaves = source.shipped().contains(&steps);
    leaves.then(|| {
        format!(
            "{}: write crate:: instead of {steps}, so that the layering test can see it",
            source.path
        )
    })
}

#[test]
fn no_module_uses_what_is_not_below_it() {
    let faults: Vec<String> = files(&["src"], "rs").iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn paths_are_found_in_groups_and_in_code() {
    let code = "use crate::{error::{Error, Faults}, pool::Settings};\nfn a() { crate::lease::b() }\npub(crate) fn c() {}";
    let found: Vec<String> = uses(code)
        .iter()
        .map(|u| format!("{}::{}", u.module, u.item))
        .collect();
    assert_eq!(
        found,
        ["error::Error", "error::Faults", "pool::Settings", "lease::b"]
    );
}

#[test]
fn each_layering_rule_can_fail() {
    let bad = [
        ("src/pool/shell.rs", "use crate::store::Store;"),
        ("src/pool/shell.rs", "use crate::backend::{Backend, echo::Echo};"),
        ("src/broker/call.rs", "use crate::backend::tcp::TcpSession;"),
        ("src/lease/table.rs", "fn a() { crate::pool::Pool::start() }"),
        ("src/lease/table.rs", "use super::super::pool::Pool;"),
        ("src/lease/mod.rs", "use super::pool::Pool;"),
        ("src/pool/shell.rs", "use crate::store;"),
        (
            "src/pool/shell.rs",
            "use crate::backend;\nfn a(b: backend::http::Http) {}",
        ),
        ("src/grpc/decode.rs", "use crate::pool::{Pool, Priority};"),
        ("src/grpc/decode.rs", "use crate::store::Store;"),
        ("src/catalog/apply.rs", "use crate::lease::{Bounds, Leases};"),
        ("src/clock.rs", "use crate::error::Error;"),
        (
            "src/broker/acquire.rs",
            "use crate::{\n    error::Error,\n    store::Store,\n};",
        ),
        ("src/config.rs", "use crate::pool::Pool;"),
        (
            "src/config/mod.rs",
            "use crate::{grpc, pool};\nfn a(b: grpc::Settings, c: pool::Pool) {}",
        ),
        ("src/backend/http/dial.rs", "use super::super::super::pool::Pool;"),
        ("src/novelty/mod.rs", "fn a() {}"),
    ];
    for (path, text) in bad {
        assert!(
            !faults(&Source::new(path, text)).is_empty(),
            "{path} with {text:?} was let through"
        );
    }
}

#[test]
fn what_the_layers_allow_is_let_through() {
    let good = [
        (
            "src/pool/shell.rs",
            "use crate::backend::{Backend, Session};\nuse crate::pool::core::Core;",
        ),
        (
            "src/lease/table.rs",
            "/// As [`crate::pool::Pool`].\nuse crate::clock::Clock;",
        ),
        ("src/lease/tests.rs", "use crate::pool::Pool;"),
        ("src/config.rs", "use crate::pool::Settings;"),
        ("src/catalog/apply.rs", "use crate::lease::Bounds;"),
        (
            "src/grpc/decode.rs",
            "use crate::{backend::Operation, lease::End, pool::Priority};",
        ),
        (
            "src/config/mod.rs",
            "use crate::{grpc, telemetry::{self, Redacted}};\nfn a(b: grpc::Settings) {}",
        ),
        ("src/backend/echo/call.rs", "use super::super::Operation;"),
        ("src/app/mod.rs", "use crate::{broker::Broker, store::Store};"),
    ];
    for (path, text) in good {
        assert_eq!(
            faults(&Source::new(path, text)),
            Vec::<String>::new(),
            "{path} with {text:?}"
        );
    }
}
