//! Values within ranges.

use std::{fmt::Write, ops::RangeInclusive, time::Duration};

use crate::error::Faults;

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The duration that was given, or `None` if it was left out or is out of range, which is a fault.
pub(in crate::catalog) fn duration(
    given: Option<prost_types::Duration>,
    field: &str,
    range: RangeInclusive<Duration>,
    faults: &mut Faults,
) -> Option<Duration> {
    let given = given?;
    let span = Duration::try_from(given).ok().filter(|span| range.contains(span));
    if span.is_none() {
        faults.add(
            field,
            format!(
                "must be from {} to {}",
                spelt(*range.start()),
                spelt(*range.end())
            ),
        );
    }
    span
}

/// The number that was given, or `None` if it was left out or is out of range, which is a fault.
pub(super) fn number(
    given: Option<u32>,
    field: &str,
    range: RangeInclusive<u32>,
    faults: &mut Faults,
) -> Option<u32> {
    let given = given?;
    if range.contains(&given) {
        return Some(given);
    }
    faults.add(
        field,
        format!("must be from {} to {}", range.start(), range.end()),
    );
    None
}

/// A duration as a person would write it: `1h30m`, `250ms`, `0s`.
pub(super) fn spelt(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (span.subsec_millis().into(), "ms"),
        (u64::from(span.subsec_micros() % 1000), "us"),
        (u64::from(span.subsec_nanos() % 1000), "ns"),
    ];
    let mut text = String::new();
    for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
        // Writing to a string cannot fail.
        let _: std::fmt::Result = write!(text, "{count}{unit}");
    }
    if text.is_empty() { "0s".into() } else { text }
}
