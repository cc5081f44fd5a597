//! Where a message ends.

use std::time::Duration;

use thiserror::Error;

/// How a message ends. It is given whole, its delimiter or prefix included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// With these bytes; never empty.
    Delimiter(Vec<u8>),
    /// After so many bytes; never 0.
    Length(usize),
    /// As a number at its beginning says.
    Prefix(Prefix),
    /// When nothing more has come for so long.
    Quiet(Duration),
}

/// A length at a message's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) width: Width,
    pub(super) little_endian: bool,
    pub(super) counts_itself: bool,
}

/// Bytes of a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    One,
    Two,
    Four,
    Eight,
}

/// What came is no message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum Misframed {
    #[error("the message is longer than {0} bytes, the most that may be received")]
    TooLong(usize),
    #[error("the message's length of {0} bytes does not even count its own prefix")]
    TooShort(u64),
}

/// Looks for a message's end in what has come, and looks at no byte twice.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    framing: &'a Framing,
    limit: usize,
    /// No delimiter begins before this.
    seen: usize,
}

impl Width {
    pub(super) const fn of(bytes: u64) -> Option<Self> {
        Some(match bytes {
            1 => Self::One,
            2 => Self::Two,
            4 => Self::Four,
            8 => Self::Eight,
            _ => return None,
        })
    }

    const fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

impl Prefix {
    /// The whole message's length, once its prefix is there.
    fn length(self, received: &[u8]) -> Result<Option<usize>, Misframed> {
        let width = self.width.bytes();
        let Some(digits) = received.get(..width) else {
            return Ok(None);
        };
        let value = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        let number = if self.little_endian {
            digits.iter().rev().fold(0, value)
        } else {
            digits.iter().fold(0, value)
        };
        // What does not fit is too long for any limit.
        let counted = usize::try_from(number).unwrap_or(usize::MAX);
        if !self.counts_itself {
            return Ok(Some(counted.saturating_add(width)));
        }
        if counted < width {
            return Err(Misframed::TooShort(number));
        }
        Ok(Some(counted))
    }
}

impl Framing {
    /// Looks for the end of a message of at most `limit` bytes.
    pub(super) const fn scan(&self, limit: usize) -> Scan<'_> {
        Scan {
            framing: self,
            limit,
            seen: 0,
        }
    }

    /// How long the silence lasts that ends a message.
    pub(super) const fn quiet(&self) -> Option<Duration> {
        match self {
            Self::Quiet(quiet) => Some(*quiet),
            Self::Delimiter(_) | Self::Length(_) | Self::Prefix(_) => None,
        }
    }
}

impl Scan<'_> {
    /// The message's length, if its end has come; never from a silence, which nobody sees here.
    pub(super) fn end(&mut self, received: &[u8]) -> Result<Option<usize>, Misframed> {
        let (wanted, least) = match self.framing {
            Framing::Length(length) => (Some(*length), *length),
            Framing::Prefix(prefix) => {
                let length = prefix.length(received)?;
                (length, length.unwrap_or_default())
            }
            Framing::Delimiter(delimiter) => {
                let end = self.delimited(delimiter, received);
                // Without one, the message is longer than what has come.
                (end, end.unwrap_or(received.len() + 1))
            }
            Framing::Quiet(_) => (None, received.len()),
        };
        if least > self.limit {
            return Err(Misframed::TooLong(self.limit));
        }
        Ok(wanted.filter(|length| *length <= received.len()))
    }

    fn delimited(&mut self, delimiter: &[u8], received: &[u8]) -> Option<usize> {
        let unseen = received.get(self.seen..).unwrap_or_default();
        let found = unseen.windows(delimiter.len()).position(|part| part == delimiter);
        match found {
            Some(at) => Some(self.seen + at + delimiter.len()),
            None => {
                self.seen = (received.len() + 1)
                    .saturating_sub(delimiter.len())
                    .max(self.seen);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(bytes: u64, little_endian: bool, counts_itself: bool) -> Framing {
        Framing::Prefix(Prefix {
            width: Width::of(bytes).unwrap(),
            little_endian,
            counts_itself,
        })
    }

    /// The message's length, found in one look and found byte by byte.
    fn end(framing: &Framing, received: &[u8]) -> Result<Option<usize>, Misframed> {
        let whole = framing.scan(100).end(received);
        let mut scan = framing.scan(100);
        let parts = (0..=received.len()).map(|so_far| scan.end(&received[..so_far]));
        let first = parts
            .into_iter()
            .find(|found| !matches!(found, Ok(None)))
            .unwrap_or(Ok(None));
        assert_eq!(whole, first, "{framing:?}");
        whole
    }

    #[test]
    fn a_message_ends_with_its_delimiter_even_when_that_comes_in_parts() {
        let lines = Framing::Delimiter(b"\r\n".to_vec());
        assert_eq!(end(&lines, b"PING\r\nrest"), Ok(Some(6)));
        assert_eq!(end(&lines, b"\r\r\n"), Ok(Some(3)));
        assert_eq!(end(&lines, b"PING\r"), Ok(None));
        let long = Framing::Delimiter(b"aab".to_vec());
        assert_eq!(end(&long, b"aaaab"), Ok(Some(5)));
    }

    #[test]
    fn a_message_ends_after_its_length() {
        assert_eq!(end(&Framing::Length(3), b"ab"), Ok(None));
        assert_eq!(end(&Framing::Length(3), b"abcd"), Ok(Some(3)));
    }

    #[test]
    fn a_prefix_is_read_in_its_width_and_order_and_counts_itself_if_it_says_so() {
        assert_eq!(end(&prefix(1, false, false), b"\x02ab"), Ok(Some(3)));
        assert_eq!(end(&prefix(2, false, false), b"\0\x02ab"), Ok(Some(4)));
        assert_eq!(end(&prefix(2, true, false), b"\x02\0abc"), Ok(Some(4)));
        assert_eq!(end(&prefix(4, false, true), b"\0\0\0\x06ab"), Ok(Some(6)));
        assert_eq!(end(&prefix(8, true, true), b"\x09\0\0\0\0\0\0\0a"), Ok(Some(9)));
        assert_eq!(end(&prefix(4, false, false), b"\0\0\0"), Ok(None));
        assert_eq!(
            end(&prefix(2, false, true), b"\0\x01ab"),
            Err(Misframed::TooShort(1))
        );
    }

    #[test]
    fn a_message_longer_than_the_limit_is_known_as_early_as_can_be() {
        let too_long = Err(Misframed::TooLong(100));
        let lines = Framing::Delimiter(b"\n".to_vec());
        assert_eq!(end(&lines, &[b'x'; 99]), Ok(None));
        assert_eq!(end(&lines, &[b'x'; 100]), too_long);
        assert_eq!(end(&prefix(1, false, false), b"\x63"), Ok(None));
        assert_eq!(end(&prefix(1, false, false), b"\x64"), too_long);
        assert_eq!(end(&prefix(8, false, false), &[0xff; 8]), too_long);
        assert_eq!(
            end(&Framing::Quiet(Duration::from_secs(1)), &[b'x'; 101]),
            too_long
        );
    }
}
