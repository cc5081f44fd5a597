//! What people may write where proto-JSON is stiff: durations such as `1h30m`, enum values such as `http2`.

use prost_reflect::{EnumDescriptor, Kind};
use serde_json::Value;

const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// Ten thousand years, which proto-JSON ends at.
const LONGEST_SECONDS: u128 = 315_576_000_000;

/// The canonical form of a value of this kind; values that need no help are returned as they are.
pub(super) fn canonical(value: Value, kind: &Kind) -> Result<Value, String> {
    match (value, kind) {
        (Value::String(text), Kind::Message(message))
            if message.full_name() == "google.protobuf.Duration" =>
        {
            let nanos = duration(&text).ok_or("is not a duration: write it as `5m`, `1h30m` or `250ms`")?;
            Ok(Value::String(spelt(nanos)))
        }
        (_, Kind::Message(message)) if message.full_name() == "google.protobuf.Duration" => {
            Err("must be text with a unit, such as `5m`, `1h30m` or `250ms`".into())
        }
        (Value::String(text), Kind::Enum(values)) => enumerated(&text, values).map(Value::String),
        (value, _) => Ok(value),
    }
}

/// What a value of this kind must be.
pub(super) const fn expected(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "must be true or false",
        Kind::String => "must be text",
        Kind::Bytes => "must be base64 text",
        Kind::Double | Kind::Float => "must be a number",
        Kind::Uint32 | Kind::Fixed32 => "must be a whole number from 0 to 4294967295",
        Kind::Uint64 | Kind::Fixed64 => "must be a whole number from 0 to 18446744073709551615",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "must be a whole number of at most 32 bits",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "must be a whole number of at most 64 bits",
        Kind::Enum(_) => "must be the name of a value",
        Kind::Message(_) => "does not fit its type",
    }
}

/// Nanoseconds of a sum such as `1h30m` or `1.5s`.
fn duration(text: &str) -> Option<u128> {
    let mut rest = text;
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(number);
        let unit = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        nanos = nanos.checked_add(part(number, unit)?)?;
        rest = after;
    }
    let fits = !text.is_empty() && nanos / NANOS_PER_SECOND <= LONGEST_SECONDS;
    fits.then_some(nanos)
}

/// Exact: fractions count in whole nanoseconds, and what is finer is refused.
fn part(number: &str, unit: &str) -> Option<u128> {
    let scale: u128 = match unit {
        "h" => 3600 * NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "s" => NANOS_PER_SECOND,
        "ms" => 1_000_000,
        "us" => 1000,
        "ns" => 1,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole = whole.parse::<u128>().ok()?.checked_mul(scale)?;
    let fraction = fraction.parse::<u128>().ok()?.checked_mul(scale)?;
    let exact = fraction % divisor == 0;
    exact.then_some(whole.checked_add(fraction / divisor)?)
}

fn spelt(nanos: u128) -> String {
    let (seconds, nanos) = (nanos / NANOS_PER_SECOND, nanos % NANOS_PER_SECOND);
    if nanos == 0 {
        format!("{seconds}s")
    } else {
        format!("{seconds}.{nanos:09}s")
    }
}

/// `http2`, `HTTP2` and `PROTOCOL_HTTP2` are the same value of `Protocol`.
fn enumerated(text: &str, values: &EnumDescriptor) -> Result<String, String> {
    let prefix = format!("{}_", screaming(values.name()));
    let short = |name: &str| name.strip_prefix(&prefix).unwrap_or(name).to_ascii_lowercase();
    let wanted = text.to_ascii_uppercase();
    let wanted = short(&wanted);
    let names: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
    let found = names.iter().find(|name| short(name) == wanted);
    found.cloned().ok_or_else(|| {
        let known: Vec<_> = names.iter().map(|name| format!("`{}`", short(name))).collect();
        format!("is not known; known are {}", known.join(", "))
    })
}

/// `PoolState` as `POOL_STATE`.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}
