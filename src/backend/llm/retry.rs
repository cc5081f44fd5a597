//! When to try again, as a provider says it: in each of the spellings that there are.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

/// Nobody is told to wait longer: what a provider says beyond is in the error's metadata, and may have changed by then.
const LONGEST: Duration = Duration::from_secs(120);
/// Where a retry is due and the provider does not say when.
const USUAL: Duration = Duration::from_secs(1);

/// When to try again. `helps` says whether a retry does by the error's own nature, unless the provider says otherwise.
/// `now` is the wall time, for providers that name a date and not the one that they go by.
pub(super) fn advice(headers: &HeaderMap, helps: bool, now: SystemTime) -> Option<Duration> {
    let helps = match text(headers, "x-should-retry") {
        Some("true") => true,
        Some("false") => false,
        _ => helps,
    };
    helps.then(|| told(headers, now).unwrap_or(USUAL).min(LONGEST))
}

/// The provider's own words about it.
pub(super) fn wording(headers: &HeaderMap) -> Option<String> {
    let (name, value) = ["retry-after-ms", "x-ms-retry-after-ms", "retry-after"]
        .iter()
        .find_map(|name| Some((*name, text(headers, name)?)))?;
    let unit = if name == "retry-after" { "" } else { "ms" };
    Some(format!("{value}{unit}"))
}

fn told(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let millis = |name| number(text(headers, name)?, 1e-3);
    millis("retry-after-ms")
        .or_else(|| millis("x-ms-retry-after-ms"))
        .or_else(|| {
            let written = text(headers, "retry-after")?;
            number(written, 1.0).or_else(|| until(written, headers, now))
        })
}

fn number(written: &str, scale: f64) -> Option<Duration> {
    let number: f64 = written.parse().ok().filter(|number: &f64| !number.is_nan())?;
    // More than a year is as good as for ever, and would not fit.
    Duration::try_from_secs_f64((number * scale).min(3.2e7)).ok()
}

/// A date, by the provider's own clock if it says what that shows.
fn until(written: &str, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(written).ok()?;
    let theirs = text(headers, header::DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok());
    Some(date.duration_since(theirs.unwrap_or(now)).unwrap_or_default())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn advised(headers: &[(&'static str, &str)], helps: bool) -> Option<Duration> {
        let entry = |(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        advice(
            &headers.iter().map(entry).collect(),
            helps,
            SystemTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn every_spelling_is_read() {
        let ms = |millis| Some(Duration::from_millis(millis));
        assert_eq!(
            advised(&[("retry-after-ms", "250.5"), ("retry-after", "9")], true),
            Some(Duration::from_micros(250_500))
        );
        assert_eq!(advised(&[("x-ms-retry-after-ms", "700")], true), ms(700));
        assert_eq!(advised(&[("retry-after", "2")], true), ms(2000));
        assert_eq!(advised(&[("retry-after", "0.5")], true), ms(500));
        let later = ("retry-after", "Sun, 06 Nov 1994 08:50:00 GMT");
        assert_eq!(advised(&[("date", DATE), later], true), ms(23_000));
        assert_eq!(
            advised(&[("date", "Sun, 06 Nov 1994 09:00:00 GMT"), later], true),
            ms(0),
            "it has passed"
        );
        assert_eq!(
            advised(&[later], true),
            Some(LONGEST),
            "by our clock it is far away"
        );
        assert_eq!(advised(&[("retry-after", "3600")], true), Some(LONGEST));
        for nonsense in ["soon", "-1", "nan", "inf", ""] {
            let wanted = if nonsense == "inf" { LONGEST } else { USUAL };
            assert_eq!(
                advised(&[("retry-after", nonsense)], true),
                Some(wanted),
                "{nonsense}"
            );
        }
    }

    #[test]
    fn the_provider_has_the_last_word_on_whether() {
        let after = ("retry-after", "3");
        assert_eq!(advised(&[after, ("x-should-retry", "false")], true), None);
        assert_eq!(
            advised(&[after, ("x-should-retry", "true")], false),
            Some(Duration::from_secs(3))
        );
        assert_eq!(advised(&[after], false), None);
        assert_eq!(advised(&[], true), Some(USUAL));
    }
}
