//! Reads values, and says what would be right.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// `127.0.0.1:50051`, `[::1]:50051` or `localhost:50051`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    local
        .map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .or_else(|| text.parse().ok())
        .ok_or_else(|| {
            format!(
                "`{text}` is not an address: write an IP and a port, such as 127.0.0.1:50051 or [::1]:50051"
            )
        })
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is neither true nor false"))
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("this is not a path: name a folder".to_owned());
    }
    Ok(PathBuf::from(text))
}

pub(super) fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| range.contains(count))
        .ok_or_else(|| {
            format!(
                "`{text}` is not a whole number from {} to {}",
                range.start(),
                range.end()
            )
        })
}

/// The URL is never repeated: it may have a password in it.
pub(super) fn database_url(text: &str) -> Result<&str, String> {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(text);
    }
    Err("this is not a Postgres URL: write postgres://USER:PASSWORD@HOST:PORT/DATABASE, or leave it out for the \
         embedded store"
        .to_owned())
}

/// A duration such as `500ms`, `30s`, `5m` or `1h30m`, at most `limit`.
pub(crate) fn duration(text: &str, limit: Duration) -> Result<Duration, String> {
    match spelled(text) {
        Some(duration) if duration <= limit => Ok(duration),
        Some(_) => Err(format!("`{text}` is too long: at most {}s", limit.as_secs())),
        None => Err(format!(
            "`{text}` is not a duration: write numbers with their units, such as 500ms, 30s, 5m, 1h30m"
        )),
    }
}

/// Numbers with units ms, s, m, h, in this order from the largest down.
fn spelled(text: &str) -> Option<Duration> {
    let (mut total, mut rest, mut last) = (Duration::ZERO, text, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        if millis >= last {
            return None;
        }
        let count: u64 = number.parse().ok()?;
        total = total.checked_add(Duration::from_millis(count.checked_mul(millis)?))?;
        (rest, last) = (next, millis);
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let good = [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("0s", 0),
        ];
        for (text, millis) in good {
            assert_eq!(duration(text, HOUR), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "",
            "30",
            "s",
            "-5s",
            "1.5s",
            "5 m",
            "1s1s",
            "30s1m",
            "5d",
            "61m",
            "99999999999999999999s",
        ] {
            assert!(duration(bad, HOUR).is_err(), "{bad}");
        }
    }

    #[test]
    fn localhost_is_the_loopback_address() {
        assert_eq!(
            address("localhost:7"),
            Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 7)))
        );
        assert!(address(":50051").is_err());
        assert!(address("localhost").is_err());
    }
}
