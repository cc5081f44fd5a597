//! Postgres values, to and from the contract's: cells and arguments travel in text format, byte arguments in binary.
//! Nothing is lost and no cell ever fails: what has no kind of its own, or is not what its type promises, stays the
//! text that the server wrote.

mod array;
mod builtin;
mod bytea;
mod decode;
mod encode;
mod json;
#[cfg(test)]
mod tests;

pub(super) use self::{
    builtin::{Type, column},
    decode::decode,
    encode::{Argument, Format, arguments},
    json::{JsonRows, all_from_json},
};
