//! Which headers definitions and calls may set. Names and values are checked by the types that carry them, so that
//! nothing can add a line of its own to a request.

use http::{HeaderName, HeaderValue, header};

use crate::{backend::secrets::Secret, error::Faults};

/// Who sets a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Whose {
    /// A definition, for every request.
    Pool,
    /// A call.
    Call,
}

/// Headers that speak of one connection, which is the broker's own.
const OF_THE_CONNECTION: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Checks a header's name.
pub(in crate::backend) fn name(
    field: &str,
    text: &str,
    whose: Whose,
    faults: &mut Faults,
) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        faults.add(
            field,
            "is no header name: letters, digits and any of !#$%&'*+-.^_`|~",
        );
        return None;
    };
    if OF_THE_CONNECTION.contains(&name.as_str()) {
        faults.add(
            field,
            "speaks of the connection, which the broker keeps: leave it out",
        );
        None
    } else if whose == Whose::Call && name == header::HOST {
        faults.add(field, "is the pool's: set it in http.headers of its definition");
        None
    } else if whose == Whose::Pool && name == header::CONTENT_LENGTH {
        faults.add(field, "differs from call to call: leave it out");
        None
    } else {
        Some(name)
    }
}

/// Checks a header's value.
pub(in crate::backend) fn value(field: &str, text: &str, faults: &mut Faults) -> Option<HeaderValue> {
    let value = HeaderValue::from_bytes(text.as_bytes()).ok();
    if value.is_none() {
        faults.add(
            field,
            "is no header value: it holds a line break or another control character",
        );
    }
    value
}

/// A secret as a header's value, which stays out of everything that is printed.
pub(super) fn secret_value(prefix: &str, secret: &Secret) -> Option<HeaderValue> {
    let written = [prefix.as_bytes(), secret.reveal()].concat();
    let mut value = HeaderValue::from_bytes(&written).ok()?;
    value.set_sensitive(true);
    Some(value)
}
