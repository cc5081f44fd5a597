//! Pages of a sorted list.

use std::{fmt::Display, str::FromStr};

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
    /// The page of `all`, which rises by `key`, that comes after the key `token`. The item itself may have gone since.
    pub(super) fn of<K>(all: Vec<T>, size: i32, token: &str, key: impl Fn(&T) -> K) -> Result<Self, Error>
    where
        K: Ord + FromStr + Display,
    {
        let (size, after) = read(size, token)?;
        let seen = |item: &T| after.as_ref().is_some_and(|after| key(item) <= *after);
        let mut items: Vec<T> = all.into_iter().skip_while(seen).take(size + 1).collect();
        let mut next = String::new();
        if items.len() > size {
            items.truncate(size);
            next = items.last().map(|item| key(item).to_string()).unwrap_or_default();
        }
        Ok(Self { items, next })
    }
}

/// How many items, and the key that they come after.
fn read<K: FromStr>(size: i32, token: &str) -> Result<(usize, Option<K>), Error> {
    let mut faults = Faults::default();
    let size = usize::try_from(size).unwrap_or_else(|_| {
        faults.add("page_size", "must not be negative");
        DEFAULT
    });
    let after = token.parse().ok();
    if after.is_none() && !token.is_empty() {
        faults.add("page_token", "must be the next_page_token of the page before");
    }
    let size = if size == 0 { DEFAULT } else { size.min(MOST) };
    faults.into_result((size, after.filter(|_| !token.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(size: i32, token: &str) -> Page<u32> {
        Page::of((1..=250).collect(), size, token, |item| *item).unwrap()
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
        assert!(Page::of(vec![1], -1, "", |item| *item).is_err());
    }

    #[test]
    fn page_goes_on_though_the_last_item_of_the_one_before_has_gone() {
        let rest: Vec<u32> = (1..=250).filter(|item| *item != 100).collect();
        let rest = Page::of(rest, 0, "100", |item| *item).unwrap();
        assert_eq!((rest.items[0], rest.next.as_str()), (101, "200"));
    }

    #[test]
    fn token_of_something_else_is_refused() {
        assert!(Page::of(vec![1_u32], 0, "x", |item| *item).is_err());
    }
}
