//! How many bytes of input the broker takes now.

use tokio::sync::Semaphore;

/// Bytes of one message, at most.
const MOST: usize = 64 << 10;

/// The credit that was given and not used yet.
#[derive(Debug)]
pub(super) struct Credit(Semaphore);

impl Credit {
    pub(super) const fn none() -> Self {
        Self(Semaphore::const_new(0))
    }

    pub(super) fn add(&self, bytes: u32) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        // No broker gives so much; one that did would get less.
        self.0
            .add_permits(bytes.min(Semaphore::MAX_PERMITS - self.0.available_permits()));
    }

    /// Waits for credit, and says for how many bytes at once there is some. For one caller only.
    pub(super) async fn some(&self) -> usize {
        match self.0.acquire().await {
            // Given back at once: it is used by `used`.
            Ok(_there) => {}
            // It is never closed.
            Err(_) => return 0,
        }
        self.0.available_permits().min(MOST)
    }

    pub(super) fn used(&self, bytes: usize) {
        self.0.forget_permits(bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn credit_is_what_was_given_less_what_was_used() {
        let credit = Credit::none();
        assert_eq!(credit.some().now_or_never(), None);
        credit.add(100_000);
        assert_eq!(credit.some().now_or_never(), Some(MOST));
        credit.used(MOST);
        assert_eq!(credit.some().now_or_never(), Some(100_000 - MOST));
        credit.used(100_000 - MOST);
        assert_eq!(credit.some().now_or_never(), None);
    }
}
