//! A provider's words in an error, short and on one line.

/// Enough to see what a page or a message is about.
const LONGEST: usize = 512;

/// The first words of what a provider sent, which may be anything.
pub(super) fn of(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > LONGEST {
            line.truncate(line.floor_char_boundary(LONGEST));
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(super::of(" a\r\n\tb \u{1b}[31mc\n"), "a b [31mc");
        let long = super::of(&"é".repeat(1000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (257, true));
        assert_eq!(super::of(""), "");
    }
}
