//! JSON as Python writes it: a box is Python, whose floats need not be finite, and `NaN` is no JSON. One such number in what
//! a node was given must not make everything unreadable that is told with it.

use std::borrow::Cow;

const WORDS: [&str; 2] = ["NaN", "Infinity"];

/// The text with `null` for every number that JSON does not have.
pub(super) fn cured(text: &str) -> Cow<'_, str> {
    if !WORDS.iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut cured = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', 'N', 'I']) {
        let (before, found) = rest.split_at(at);
        cured.push_str(before);
        let word = WORDS.iter().find(|word| found.starts_with(**word));
        let length = match word {
            Some(word) => {
                if cured.ends_with('-') {
                    cured.pop();
                }
                cured.push_str("null");
                word.len()
            }
            None => {
                let length = if found.starts_with('"') { string(found) } else { 1 };
                cured.push_str(found.get(..length).unwrap_or(found));
                length
            }
        };
        rest = found.get(length..).unwrap_or_default();
    }
    cured.push_str(rest);
    Cow::Owned(cured)
}

/// How long the string is that the text begins with, its quotes included.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_does_not_have_are_null_and_texts_stay() {
        let cases = [
            (
                r#"{"a":NaN,"b":[Infinity, -Infinity,1]}"#,
                r#"{"a":null,"b":[null, null,1]}"#,
            ),
            (
                r#"{"NaN":"-Infinity","é":"\" NaN \\"}"#,
                r#"{"NaN":"-Infinity","é":"\" NaN \\"}"#,
            ),
            (r#"["NaN\\",NaN,"N"]"#, r#"["NaN\\",null,"N"]"#),
            (r#"[1,"I"]"#, r#"[1,"I"]"#),
            (r#"["NaN"#, r#"["NaN"#),
        ];
        for (said, meant) in cases {
            assert_eq!(cured(said), meant);
        }
    }
}
