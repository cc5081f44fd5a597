//! Pages of a sorted list.

use crate::error::{Error, Faults};

/// Items on a page when the caller does not say.
const DEFAULT: usize = 100;

/// Items on a page at most.
const MOST: usize = 1000;

/// One page.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Where the next page starts; empty on the last one.
    pub(super) next: String,
}

impl<T> Page<T> {
    /// The page of `all`, sorted by `key`, that comes after the item whose key `token` is.
    pub(super) fn of(all: Vec<T>, size: i32, token: &str, key: impl Fn(&T) -> String) -> Result<Self, Error> {
        let size = match usize::try_from(size) {
            Ok(0) => DEFAULT,
            Ok(size) => size.min(MOST),
            Err(_) => {
                let faults = Faults::one("page_size", "must not be negative");
                return Err(Error::Invalid { faults });
            }
        };
        let start = if token.is_empty() {
            0
        } else {
            all.iter()
                .position(|item| key(item) == token)
                .map_or(all.len(), |at| at + 1)
        };
        let mut items: Vec<T> = all.into_iter().skip(start).take(size + 1).collect();
        let mut next = String::new();
        if items.len() > size {
            items.truncate(size);
            next = items.last().map(key).unwrap_or_default();
        }
        Ok(Self { items, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(size: i32, token: &str) -> Page<u32> {
        Page::of((1..=250).collect(), size, token, u32::to_string).unwrap()
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let first = page(0, "");
        assert_eq!((first.items.len(), first.next.as_str()), (100, "100"));
        let second = page(0, &first.next);
        assert_eq!((second.items[0], second.next.as_str()), (101, "200"));
        let last = page(0, &second.next);
        assert_eq!((last.items.len(), last.next.as_str()), (50, ""));
    }

    #[test]
    fn size_too_large_is_coerced_and_negative_is_refused() {
        assert_eq!(page(100_000, "").items.len(), 250);
        assert!(Page::of(vec![1], -1, "", u32::to_string).is_err());
    }
}
