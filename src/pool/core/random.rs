//! A small generator of pseudo-random numbers (`SplitMix64`, Steele et al. 2014), so that a core's every decision can
//! be replayed from its seed. Nothing secret is drawn from it.

/// A stream of numbers that follows from its seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` up to `high`, or `low` if that is not below `high`. The remainder's bias is of no account
    /// for spans far below 2^64.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let drawn = self.next();
        low + drawn % high.saturating_sub(low).saturating_add(1)
    }
}
