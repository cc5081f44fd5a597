//! The histogram's promise: never too low, at most one sixteenth too high, and sums are exact.

use std::time::Duration;

use proptest::prelude::*;

use crate::{clock::nanos, pool::Histogram};

fn exact(sorted: &[u64], per_mille: u32) -> u64 {
    let rank = (sorted.len() * per_mille as usize).div_ceil(1000).max(1);
    sorted[rank - 1]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn percentiles_are_at_most_a_sixteenth_too_high(
        mut values in prop::collection::vec(prop_oneof![0..40_u64, 0..2_000_000_u64, any::<u64>()], 1..200),
        per_mille in 1..=1000_u32,
    ) {
        let (mut left, mut right, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
        for (index, value) in values.iter().enumerate() {
            let span = Duration::from_nanos(*value);
            if index % 2 == 0 { left.record(span) } else { right.record(span) }
            both.record(span);
        }
        left.merge(&right);
        prop_assert_eq!(&left, &both);
        values.sort_unstable();
        let (exact, found) = (exact(&values, per_mille), nanos(both.percentile(per_mille)));
        prop_assert!(found >= exact, "{} is below {}", found, exact);
        prop_assert!(found - exact <= exact / 16, "{} is too far above {}", found, exact);
    }
}

#[test]
fn an_empty_histogram_says_zero() {
    let empty = Histogram::default();
    assert_eq!(
        (empty.count(), empty.average(), empty.percentile(990), empty.max()),
        (0, Duration::ZERO, Duration::ZERO, Duration::ZERO)
    );
}
