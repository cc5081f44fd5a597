//! RESP, Redis's protocol, versions 2 and 3: commands to bytes, and bytes to tokens.
//!
//! A reply is taken apart as it arrives and never kept whole, so that its size does not matter: an array is its opening
//! and then its elements; only a string is one piece, unless it is too large for that.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// A string that is longer comes in parts: what one message to a caller holds, less room for the rest of it.
pub(super) const MAX_WHOLE: usize = (4 << 20) - (64 << 10);
/// A line, at most: everything of any length comes as a string with its length before it.
const MAX_LINE: usize = 64 * 1024;
/// Element counts and lengths beyond this are no reply of any server's (its own limit for strings is 512 MiB).
const MAX_COUNT: u64 = 1 << 40;

/// A part of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Null,
    Bool(bool),
    Int(i64),
    /// A double, as the server writes it: `3.14`, `inf`, `nan`.
    Double(Bytes),
    /// An integer of any size, in digits.
    Big(Bytes),
    /// A string, from either kind.
    Text(Bytes),
    /// Text with its format in front: `txt:`, `mkd:`.
    Verbatim(Bytes),
    /// An error, from either kind.
    Error(Bytes),
    /// A string that comes in parts, and its length.
    Large(u64),
    /// What follows belongs together: so many elements, of a map and of attributes so many pairs.
    Open(Kind, u64),
}

/// What a group of elements is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Array,
    Set,
    Map,
    /// What the server says unasked.
    Push,
    /// About the value that comes next.
    Attribute,
}

/// Why bytes are no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server broke the protocol: {0}")]
pub(super) struct Malformed(pub(super) String);

/// Writes a command: an array of strings.
pub(super) fn encode<T: AsRef<[u8]>>(args: &[T], out: &mut BytesMut) {
    out.put_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.put_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.put_slice(arg);
        out.put_slice(b"\r\n");
    }
}

/// Takes the next token off `incoming`; `None` if more has to come first.
pub(super) fn next(incoming: &mut BytesMut) -> Result<Option<Token>, Malformed> {
    let Some(end) = line_end(incoming)? else {
        return Ok(None);
    };
    let line = incoming.get(..end).unwrap_or_default();
    let Some((mark, rest)) = line.split_first() else {
        return Err(Malformed("an empty line".to_owned()));
    };
    match mark {
        b'$' | b'!' | b'=' => return text(*mark, length(rest)?, end + 2, incoming),
        b'*' | b'~' | b'%' | b'>' | b'|' => {
            let opened = match length(rest)? {
                None => Token::Null,
                Some(count) => Token::Open(kind(*mark), count),
            };
            incoming.advance(end + 2);
            return Ok(Some(opened));
        }
        _ => {}
    }
    let mut line = incoming.split_to(end + 2).freeze();
    line.truncate(end);
    Ok(Some(scalar(&line)?))
}

/// Where the first line ends.
fn line_end(incoming: &[u8]) -> Result<Option<usize>, Malformed> {
    let end = incoming.iter().take(MAX_LINE).position(|byte| *byte == b'\r');
    match end {
        Some(end) if incoming.len() > end + 1 => Ok(Some(end)),
        None if incoming.len() >= MAX_LINE => Err(Malformed(format!("a line of more than {MAX_LINE} bytes"))),
        Some(_) | None => Ok(None),
    }
}

const fn kind(mark: u8) -> Kind {
    match mark {
        b'~' => Kind::Set,
        b'%' => Kind::Map,
        b'>' => Kind::Push,
        b'|' => Kind::Attribute,
        _ => Kind::Array,
    }
}

/// A length or count; `None` for RESP2's null.
fn length(digits: &[u8]) -> Result<Option<u64>, Malformed> {
    if digits == b"-1" {
        return Ok(None);
    }
    let found = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok());
    match found {
        Some(count) if count <= MAX_COUNT => Ok(Some(count)),
        Some(_) | None => Err(Malformed(format!("a length of {}", shown(digits)))),
    }
}

/// A string whose length stands before it; `head` bytes are its first line.
fn text(
    mark: u8,
    length: Option<u64>,
    head: usize,
    incoming: &mut BytesMut,
) -> Result<Option<Token>, Malformed> {
    let Some(length) = length else {
        incoming.advance(head);
        return Ok(Some(Token::Null));
    };
    let whole = usize::try_from(length).ok().filter(|length| *length <= MAX_WHOLE);
    let Some(whole) = whole else {
        incoming.advance(head);
        return Ok(Some(Token::Large(length)));
    };
    let end = head + whole;
    if incoming.len() < end + 2 {
        incoming.reserve(end + 2 - incoming.len());
        return Ok(None);
    }
    if incoming.get(end..end + 2) != Some(b"\r\n") {
        return Err(Malformed("a string is longer than its length".to_owned()));
    }
    incoming.advance(head);
    let text = incoming.split_to(whole).freeze();
    incoming.advance(2);
    Ok(Some(match mark {
        b'!' => Token::Error(text),
        b'=' if text.get(3) == Some(&b':') => Token::Verbatim(text),
        _ => Token::Text(text),
    }))
}

fn scalar(line: &Bytes) -> Result<Token, Malformed> {
    let rest = line.slice(1..);
    let token = match line.first() {
        Some(b'+') => Token::Text(rest),
        Some(b'-') => Token::Error(rest),
        Some(b',') => Token::Double(rest),
        Some(b'(') => Token::Big(rest),
        Some(b'_') if rest.is_empty() => Token::Null,
        Some(b'#') if *rest == *b"t" => Token::Bool(true),
        Some(b'#') if *rest == *b"f" => Token::Bool(false),
        Some(b':') => {
            let found = std::str::from_utf8(&rest).ok().and_then(|text| text.parse().ok());
            Token::Int(found.ok_or_else(|| Malformed(format!("an integer of {}", shown(&rest))))?)
        }
        _ => return Err(Malformed(format!("a line that begins with {}", shown(line)))),
    };
    Ok(token)
}

/// The beginning of what makes no sense, for people.
fn shown(bytes: &[u8]) -> String {
    let some = bytes.get(..bytes.len().min(20)).unwrap_or_default();
    format!("`{}`", some.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every token of `bytes`, which come one by one.
    fn read(bytes: &[u8]) -> Result<Vec<Token>, Malformed> {
        let mut incoming = BytesMut::new();
        let mut found = Vec::new();
        for byte in bytes {
            incoming.put_u8(*byte);
            while let Some(token) = next(&mut incoming)? {
                found.push(token);
            }
        }
        assert!(incoming.is_empty(), "left: {incoming:?}");
        Ok(found)
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from(text)
    }

    #[test]
    fn every_form_of_the_protocol_is_read_however_it_is_cut() {
        for (text, token) in [
            ("+OK\r\n", Token::Text(bytes("OK"))),
            ("-ERR no\r\n", Token::Error(bytes("ERR no"))),
            ("!6\r\nERR no\r\n", Token::Error(bytes("ERR no"))),
            (":-12\r\n", Token::Int(-12)),
            ("$4\r\na\r\nb\r\n", Token::Text(bytes("a\r\nb"))),
            ("$0\r\n\r\n", Token::Text(Bytes::new())),
            ("$-1\r\n", Token::Null),
            ("*-1\r\n", Token::Null),
            ("_\r\n", Token::Null),
            ("#t\r\n", Token::Bool(true)),
            ("#f\r\n", Token::Bool(false)),
            (",1e5\r\n", Token::Double(bytes("1e5"))),
            (",-inf\r\n", Token::Double(bytes("-inf"))),
            ("(123\r\n", Token::Big(bytes("123"))),
            ("=5\r\ntxt:x\r\n", Token::Verbatim(bytes("txt:x"))),
            ("*2\r\n", Token::Open(Kind::Array, 2)),
            ("~0\r\n", Token::Open(Kind::Set, 0)),
            ("%1\r\n", Token::Open(Kind::Map, 1)),
            (">3\r\n", Token::Open(Kind::Push, 3)),
            ("|1\r\n", Token::Open(Kind::Attribute, 1)),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(vec![token]), "{text:?}");
        }
    }

    #[test]
    fn nonsense_is_told_from_what_is_not_complete() {
        for text in [
            "HTTP/1.1 200 OK\r\n",
            "\r\n",
            ":x\r\n",
            "$-2\r\n",
            "$x\r\n",
            "$?\r\n",
            "*99999999999999999999\r\n",
            "$1\r\nab\r\n",
            "#x\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(next(&mut BytesMut::from("$5\r\nab")), Ok(None));
        assert!(next(&mut BytesMut::from(&*"+x".repeat(MAX_LINE))).is_err());
    }

    #[test]
    fn a_string_that_is_too_large_for_one_piece_is_announced() {
        let mut incoming = BytesMut::from(&*format!("${}\r\nab", MAX_WHOLE + 1));
        let length = MAX_WHOLE as u64 + 1;
        assert_eq!(next(&mut incoming), Ok(Some(Token::Large(length))));
        assert_eq!(&incoming[..], b"ab");
    }

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut out = BytesMut::new();
        encode(&[b"SET".as_slice(), b"k", b"\0\r\n"], &mut out);
        assert_eq!(&out[..], b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\0\r\n\r\n");
    }
}
