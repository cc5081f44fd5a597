//! What an error response says, taken off the wire.

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorResponseBody;

use super::sqlstate::Report;

/// Reads it; a field that breaks off is left out.
pub(super) fn read(body: &ErrorResponseBody) -> Report {
    let mut fields = body.fields();
    let mut found = Vec::new();
    while let Ok(Some(field)) = fields.next() {
        found.push((field.type_(), field.value_bytes().to_vec()));
    }
    Report::read(found.iter().map(|(letter, text)| (*letter, text.as_slice())))
}
