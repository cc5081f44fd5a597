//! Chance that is the same in every run.

use std::env;

/// How often calls are dropped: as often as usual, unless `SUBLET_SOAK_CANCELS` says otherwise.
pub fn loops(usual: u64) -> u64 {
    env::var("SUBLET_SOAK_CANCELS").map_or(usual, |loops| loops.parse().unwrap())
}

pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides`.
    pub const fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// Lets others go on for a while that is different each time: from not at all to some milliseconds.
    pub async fn a_while(&mut self) {
        let scale = self.roll(11);
        for _ in 0..self.roll(1 << scale) {
            tokio::task::yield_now().await;
        }
    }
}
