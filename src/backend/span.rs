//! Spans of time as definitions and operations write them.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Deserializer, de};

use crate::error::Faults;

/// A day: the longest span that any setting takes.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A definition's span of time: `default` if it is left out, and a fault at `field` if it is out of `range`.
pub(super) fn defined(
    faults: &mut Faults,
    field: &str,
    given: Option<prost_types::Duration>,
    range: RangeInclusive<Duration>,
    default: Duration,
) -> Duration {
    let Some(given) = given else { return default };
    match Duration::try_from(given) {
        Ok(span) if range.contains(&span) => span,
        Ok(_) | Err(_) => {
            faults.add(field, format!("must be {:?} to {:?}", range.start(), range.end()));
            default
        }
    }
}

/// A span of time in an operation's params: text such as `250ms`, or a number of seconds; at most a day.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Seconds(f64),
            Text(String),
        }
        let found = match Written::deserialize(deserializer)? {
            Written::Seconds(seconds) => from_seconds(seconds),
            Written::Text(text) => from_text(&text),
        };
        found.map(Self).ok_or_else(|| {
            de::Error::custom(
                "a span of time is text such as \"250ms\", \"1.5s\", \"2m\", or seconds; at most 24 h",
            )
        })
    }
}

fn from_text(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    from_seconds(number.parse::<f64>().ok()? * scale)
}

fn from_seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|span| *span <= DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Duration> {
        serde_json::from_str::<Span>(json).ok().map(|span| span.0)
    }

    #[test]
    fn spans_are_text_with_a_unit_or_seconds() {
        assert_eq!(read("\"250ms\""), Some(Duration::from_millis(250)));
        assert_eq!(read("\"1.5s\""), Some(Duration::from_millis(1500)));
        assert_eq!(read("\"2m\""), Some(Duration::from_secs(120)));
        assert_eq!(read("0.25"), Some(Duration::from_millis(250)));
        assert_eq!(read("3"), Some(Duration::from_secs(3)));
    }

    #[test]
    fn nonsense_is_no_span() {
        for text in [
            "\"\"", "\"5\"", "\"ms\"", "\"-1s\"", "\"5d\"", "-1", "\"25h\"", "\"infs\"", "null",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_defined_span_out_of_range_is_a_fault_and_an_absent_one_the_default() {
        let mut faults = Faults::below("http");
        let (range, default) = (Duration::from_secs(1)..=DAY, Duration::from_secs(5));
        let second = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        assert_eq!(defined(&mut faults, "a", None, range.clone(), default), default);
        assert_eq!(
            defined(&mut faults, "a", second(7), range.clone(), default),
            Duration::from_secs(7)
        );
        assert!(faults.is_empty());
        defined(&mut faults, "b", second(-1), range.clone(), default);
        defined(&mut faults, "c", second(0), range, default);
        let fields: Vec<_> = faults.list().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["http.b", "http.c"]);
    }
}
