//! What an ErrorResponse says, taken off the wire.

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorResponseBody;

use super::sqlstate::Report;

/// Reads it; a field that breaks off is left out.
pub(super) fn read(body: &ErrorResponseBody) -> Report {
    let mut fields = body.fields();
    Report::read(std::iter::from_fn(|| {
        let field = fields.next().ok().flatten()?;
        Some((field.type_(), field.value_bytes()))
    }))
}
