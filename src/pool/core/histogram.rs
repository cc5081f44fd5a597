//! A distribution of durations in log-linear buckets: every power of two is cut into 16, so that a percentile is at
//! most one sixteenth (6.25 %) too high, and two histograms add up bucket by bucket.

use std::time::Duration;

use crate::clock::nanos;

/// Buckets for each power of two, as a power of two.
const SUB_BITS: u32 = 4;
const SUB: u64 = 1 << SUB_BITS;
/// Enough for every `u64` of nanoseconds: 16 exact ones, then 16 for each power of two from 2^4 to 2^63.
const BUCKETS: usize = 61 * 16;

/// Measured durations, kept as counts. About 8 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            count: 0,
            sum: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Adds one measurement.
    pub fn record(&mut self, span: Duration) {
        self.record_nanos(nanos(span));
    }

    /// As [`Histogram::record`], for spans that are nanoseconds already: twice in every grant and return.
    pub(crate) fn record_nanos(&mut self, value: u64) {
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count += 1;
        }
        self.count += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
    }

    /// Adds all of another histogram's measurements.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// Measurements so far.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their exact average; zero if there are none.
    #[must_use]
    pub fn average(&self) -> Duration {
        let average = self.sum.checked_div(u128::from(self.count)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(average).unwrap_or(u64::MAX))
    }

    /// The longest, exactly; zero if there are none.
    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The duration that `per_mille` thousandths of the measurements do not exceed (500 for the median, 990 for
    /// p99), at most 6.25 % too high and never above [`Histogram::max`]; zero if there are none.
    #[must_use]
    pub fn percentile(&self, per_mille: u32) -> Duration {
        let wanted = (u128::from(self.count) * u128::from(per_mille))
            .div_ceil(1000)
            .max(1);
        let mut seen: u128 = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= wanted {
                return Duration::from_nanos(upper_bound(index).min(self.max));
            }
        }
        self.max()
    }
}

/// The bucket of a value: the value itself below 16; above, the place of its leading bit and the four bits after it.
fn bucket(value: u64) -> usize {
    if value < SUB {
        return usize::try_from(value).unwrap_or(0);
    }
    let exponent = value.ilog2();
    let sub = (value >> (exponent - SUB_BITS)) & (SUB - 1);
    let index = u64::from(exponent - SUB_BITS + 1) * SUB + sub;
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The largest value that falls into a bucket.
fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    if index < SUB {
        return index;
    }
    let shift = index / SUB - 1;
    let above = u128::from(SUB + index % SUB + 1) << shift;
    u64::try_from(above - 1).unwrap_or(u64::MAX)
}
