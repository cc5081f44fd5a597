//! Names of pools.

use crate::error::Faults;

const LONGEST: usize = 63;

pub(super) fn check(name: &str, faults: &mut Faults) {
    if !is_name(name) {
        let message = "must be a lower-case letter, then up to 62 lower-case letters, digits or dashes, not ending in a dash";
        faults.add("name", message);
    }
}

/// Whether a pool can have this name: `^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`.
pub(in crate::catalog) fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= LONGEST
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(inner)
        && !name.ends_with('-')
}
