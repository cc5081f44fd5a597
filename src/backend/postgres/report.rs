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

/// Reads what a prepared statement was answered. Only one that was not `taken` can have become stale: what it does
/// itself may fail with the same codes.
pub(super) fn read_of(body: &ErrorResponseBody, taken: bool) -> Report {
    let mut report = read(body);
    report.stale = !taken && is_outdated(&report);
    report
}

/// The server says that it does not have the statement any more, or that its columns have changed.
fn is_outdated(report: &Report) -> bool {
    let changed = report.sqlstate == "0A000" && report.message.contains("cached plan");
    changed || report.sqlstate == "26000"
}
