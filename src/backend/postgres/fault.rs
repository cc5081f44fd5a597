//! Why a connection cannot go on.

use std::io;

use postgres_protocol::message::backend::Message;

use super::report;
use crate::backend::fence;

/// One message from the server, at most: larger values do not fit an answer either.
pub(super) const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The holder's time has ended: nothing more of it is handed over.
    #[error("the holder's time has ended")]
    Fenced,
    /// The connection broke.
    #[error("{0}")]
    Io(io::Error),
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// The server ended the session, and said why.
    #[error("the server ended the session: {0}")]
    Ended(String),
    /// The server sends a message that is larger than any answer may be.
    #[error("the server sent a message of more than {MAX_MESSAGE} bytes")]
    TooLarge,
    /// The server says what it may not.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        if fence::is_refusal(&error) {
            Self::Fenced
        } else {
            Self::Io(error)
        }
    }
}

impl WireError {
    /// What came where nothing was asked: between calls the server may say only why it is about to close.
    pub(super) fn unasked(message: &Message) -> Self {
        match message {
            Message::ErrorResponse(body) => Self::Ended(report::read(body).message),
            _ => Self::Protocol("an answer to nothing".to_owned()),
        }
    }
}
