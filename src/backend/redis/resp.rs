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
