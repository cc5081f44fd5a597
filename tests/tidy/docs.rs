//! Links between the project's documents lead somewhere.

use std::path::{Component, Path, PathBuf};

use crate::source::{Source, files};

/// The targets of `[…](…)` links that stay inside the project.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// A heading's anchor, as the usual viewers make it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// `path` with its `..` carried out.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

fn faults(document: &Source, documents: &[Source]) -> Vec<String> {
    let broken = |link: &&str| !resolves(document, link, documents);
    let broken = links(&document.text).into_iter().filter(broken);
    broken
        .map(|link| {
            format!(
                "{}: the link to {link} leads nowhere, and a reader is lost there",
                document.path
            )
        })
        .collect()
}

fn resolves(document: &Source, link: &str, documents: &[Source]) -> bool {
    let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
    let folder = Path::new(&document.path).parent().unwrap();
    let target = if file.is_empty() {
        PathBuf::from(&document.path)
    } else {
        plain(&folder.join(file))
    };
    let known = documents.iter().find(|other| Path::new(&other.path) == target);
    match known {
        Some(other) => fragment.is_empty() || anchors(&other.text).iter().any(|anchor| anchor == fragment),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(target).exists(),
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let documents = files(&[""], "md");
    let faults: Vec<String> = documents
        .iter()
        .flat_map(|document| faults(document, &documents))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_broken_link_is_found() {
    let other = Source::new("docs/OTHER.md", "# The pool's core\n");
    let check = |text: &str| faults(&Source::new("docs/ONE.md", text), std::slice::from_ref(&other)).len();
    assert_eq!(
        check("[a](NOWHERE.md) [b](OTHER.md#no-such-heading) [c](../absent/)"),
        3
    );
    assert_eq!(
        check("[a](OTHER.md#the-pools-core) [b](../Cargo.toml) [c](https://example.com)"),
        0
    );
}
