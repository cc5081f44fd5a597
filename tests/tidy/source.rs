//! Reads the tree and takes Rust sources apart just far enough for the rules.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One file of the tree.
pub(crate) struct Source {
    /// The path below the project's folder, with `/`.
    pub(crate) path: String,
    /// The text as it is.
    pub(crate) text: String,
    /// The text with comments and the insides of literals blanked, lines kept.
    pub(crate) code: String,
}

impl Source {
    /// A file from a test.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code: blank(text),
        }
    }

    /// The code without `#[cfg(test)]` modules; empty for a file of tests.
    pub(crate) fn shipped(&self) -> &str {
        let in_tests = self
            .path
            .split('/')
            .any(|part| part == "tests" || part == "tests.rs");
        if in_tests {
            return "";
        }
        // A test module inside a file is the last thing in it, by house style.
        let inline = |at: &usize| {
            let rest = self.code[*at..].lines().nth(1).unwrap_or("");
            rest.starts_with("mod ") && rest.ends_with('{')
        };
        let mut attributes = self.code.match_indices("#[cfg(test)]\n").map(|(at, _)| at);
        let end = attributes.find(inline).unwrap_or(self.code.len());
        &self.code[..end]
    }

    /// The module below `src/` that the file belongs to: `pool` for `src/pool/core.rs` and for `src/pool.rs`.
    pub(crate) fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }
}

/// Every file below `folders` whose name ends with `.extension`.
pub(crate) fn files(folders: &[&str], extension: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in folders {
        walk(&root.join(folder), extension, &mut found);
    }
    found.sort();
    assert!(
        !found.is_empty(),
        "no .{extension} file below {folders:?}: the rules would check nothing"
    );
    found
        .iter()
        .map(|path| {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            Source::new(name, &fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let hidden = path.file_name().unwrap().to_str().unwrap().starts_with('.');
        if path.is_dir() && !hidden && !path.ends_with("target") {
            walk(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

/// `text` with comments, strings and characters replaced by spaces; line breaks stay.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` if none begins there.
fn literal_or_comment(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match rest {
        ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(chars, at),
        ['"', ..] => quoted(chars, at + 1),
        ['r', '"' | '#', ..] if !word_before => raw_string(chars, at),
        ['\'', '\\', ..] => at + 2 + rest[3..].iter().position(|c| *c == '\'').unwrap_or(0) + 2,
        ['\'', _, '\'', ..] => at + 3,
        _ => at,
    }
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut end = at;
    while end + 1 < chars.len() {
        match (chars[end], chars[end + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                end += 1;
                continue;
            }
        }
        end += 2;
        if depth == 0 {
            return end;
        }
    }
    chars.len()
}

fn quoted(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_string(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let closing: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let body = at + 2 + hashes;
    let length = chars[body..]
        .windows(closing.len())
        .position(|window| window == closing);
    length.map_or(chars.len(), |length| body + length + closing.len())
}

#[test]
fn comments_and_literals_are_blanked_and_code_is_kept() {
    let text =
        "use a; // use b;\n/* use /* c */ d */ let x = \"use e\\\"\"; 'f' r#\"use \"g\"# '\\'' for<'h> raw_i";
    let code = blank(text);
    assert_eq!(code.lines().count(), text.lines().count());
    for kept in ["use a;", "let x =", "for<'h>", "raw_i"] {
        assert!(code.contains(kept), "{kept} was lost: {code}");
    }
    for gone in ["use b", "c", "use e", "f'", "use \"g"] {
        assert!(!code.contains(gone), "{gone} is still there: {code}");
    }
}

#[test]
fn test_modules_are_not_shipped() {
    let source = Source::new(
        "src/pool/core.rs",
        "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n",
    );
    assert!(source.shipped().contains("fn a"));
    assert!(!source.shipped().contains("fn b"));
    assert_eq!(Source::new("src/pool/tests.rs", "fn a() {}").shipped(), "");
    let declared = Source::new("src/pool/mod.rs", "#[cfg(test)]\nmod tests;\n\nfn a() {}\n");
    assert!(declared.shipped().contains("fn a"));
}
