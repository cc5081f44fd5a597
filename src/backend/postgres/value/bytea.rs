//! Bytes as text: `\x…`, or the older escape format, for a holder may have set `bytea_output`.

/// The bytes of a `bytea` cell; none if it is in neither format.
pub(super) fn parse(text: &str) -> Option<Vec<u8>> {
    // The escape format doubles each backslash, so that only hex begins like this.
    match text.strip_prefix("\\x") {
        Some(digits) => unhex(digits.as_bytes()),
        None => unescape(text.as_bytes()),
    }
}

/// `\x` and two digits for each byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?));
    rest.is_empty().then(|| bytes.collect())?
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn unescape(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        let (byte, rest) = match (first, rest) {
            (b'\\', [b'\\', rest @ ..]) => (b'\\', rest),
            (
                b'\\',
                [
                    high @ b'0'..=b'3',
                    middle @ b'0'..=b'7',
                    low @ b'0'..=b'7',
                    rest @ ..,
                ],
            ) => ((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'), rest),
            (b'\\', _) => return None,
            (plain, rest) => (*plain, rest),
        };
        bytes.push(byte);
        text = rest;
    }
    Some(bytes)
}
