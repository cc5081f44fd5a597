//! Pages of pools.

use prost::Message as _;

use super::{Inner, validate};
use crate::{
    error::{Error, Failure, Faults},
    proto::Pool,
};

const USUAL: usize = 100;
const MOST: usize = 1000;
/// gRPC clients refuse answers of more than 4 MiB by default.
const LARGEST: usize = 3 * 1024 * 1024;

/// The token is the last name of the page before, which may have gone meanwhile.
pub(super) fn list(inner: &Inner, page_size: i32, token: &str) -> Result<(Vec<Pool>, String), Failure> {
    let mut faults = Faults::default();
    let size = usize::try_from(page_size).unwrap_or_else(|_| {
        faults.add("page_size", "must not be negative");
        USUAL
    });
    if !token.is_empty() && !validate::is_name(token) {
        faults.add("page_token", "must be the next_page_token of the page before");
    }
    if !faults.is_empty() {
        return Err(Error::Invalid { faults }.into());
    }
    let size = if size == 0 { USUAL } else { size.min(MOST) };
    // One more tells whether there is another page.
    let found = inner.shelf.after(token, size + 1);
    let mut pools = Vec::new();
    let mut length = 0;
    for (name, entry) in &found {
        let pool = entry.pool(name, inner.pools.is_paused(name));
        length += pool.encoded_len();
        if pools.len() == size || (length > LARGEST && !pools.is_empty()) {
            let next = pools
                .last()
                .map(|last: &Pool| last.name.clone())
                .unwrap_or_default();
            return Ok((pools, next));
        }
        pools.push(pool);
    }
    Ok((pools, String::new()))
}
