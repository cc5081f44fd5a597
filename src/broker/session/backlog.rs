//! Parts of a body that came faster than the backend took them.

use bytes::{Bytes, BytesMut};

/// What waits for room in the body's channel.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) data: Joined,
    /// Whether the body's last part has come.
    pub(super) last: bool,
}

/// Parts of a body, joined if there is more than one.
#[derive(Debug, Default)]
pub(super) enum Joined {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Joined {
    pub(super) fn push(&mut self, data: Bytes) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(data),
            Self::One(first) => {
                let mut many = BytesMut::from(first.as_ref());
                many.extend_from_slice(&data);
                Self::Many(many)
            }
            Self::Many(mut many) => {
                many.extend_from_slice(&data);
                Self::Many(many)
            }
        };
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        match std::mem::take(self) {
            Self::None => None,
            Self::One(data) => Some(data),
            Self::Many(many) => Some(many.freeze()),
        }
    }
}
