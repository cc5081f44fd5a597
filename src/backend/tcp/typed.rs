//! What a person types in a definition: bytes, how a message ends, what is said and what has to come back.

use std::time::Duration;

use bytes::Bytes;

use super::{
    definition::{Exchange, Expect, Reset, Step},
    framing::{Framing, Prefix, Width},
};
use crate::{
    backend::{hex, secrets, span},
    error::Faults,
    proto::{
        TcpBytes, TcpExchange, TcpExpect, TcpFraming, TcpPrefix, TcpReset, TcpStep,
        tcp_bytes::Written,
        tcp_expect::Answer,
        tcp_framing::Ends,
        tcp_prefix::Order,
        tcp_reset::{How, Keep},
        tcp_step,
    },
};

/// Longer ones are data rather than what a person types, and a definition has 64 KiB.
const MAX_TYPED: usize = 32 << 10;
/// It is looked for at every byte.
pub(super) const MAX_DELIMITER: usize = 64;
/// Longer silences are better a protocol's own business.
pub(super) const MAX_QUIET: Duration = Duration::from_secs(60);
pub(super) const MIN_QUIET: Duration = Duration::from_millis(1);

/// What `read` makes of `field`, with its faults' paths below it.
pub(super) fn at<T>(field: &str, faults: &mut Faults, read: impl FnOnce(&mut Faults) -> T) -> T {
    let mut below = Faults::below(field);
    let value = read(&mut below);
    for fault in below.list() {
        faults.add(&fault.field, fault.message.clone());
    }
    value
}

/// How messages end. With a fault it is something; then the definition comes to nothing.
pub(super) fn framing(own: &TcpFraming, limit: u32, faults: &mut Faults) -> Framing {
    match &own.ends {
        Some(Ends::Delimiter(typed)) => {
            let delimiter = at("delimiter", faults, |faults| bytes(typed, faults)).unwrap_or_default();
            if delimiter.len() > MAX_DELIMITER {
                faults.add("delimiter", format!("must be 1 to {MAX_DELIMITER} bytes"));
            }
            Framing::Delimiter(delimiter.into())
        }
        Some(Ends::Length(length)) => {
            if *length == 0 || *length > limit {
                faults.add("length", format!("must be 1 to max_message_bytes, {limit}"));
            }
            Framing::Length(usize::try_from(*length).unwrap_or(usize::MAX))
        }
        Some(Ends::Prefix(own)) => Framing::Prefix(at("prefix", faults, |faults| prefix(own, faults))),
        Some(Ends::Quiet(quiet)) => {
            let range = MIN_QUIET..=MAX_QUIET;
            Framing::Quiet(span::defined(faults, "quiet", Some(*quiet), range, MIN_QUIET))
        }
        None => {
            faults.add("", "must be one of `delimiter`, `length`, `prefix`, `quiet`");
            Framing::Length(1)
        }
    }
}

fn prefix(own: &TcpPrefix, faults: &mut Faults) -> Prefix {
    let width = Width::of(own.bytes.into()).unwrap_or_else(|| {
        faults.add("bytes", "must be 1, 2, 4 or 8");
        Width::One
    });
    let order = Order::try_from(own.order);
    if order.is_err() {
        faults.add("order", "must be ORDER_BIG or ORDER_LITTLE");
    }
    Prefix {
        width,
        little_endian: order == Ok(Order::Little),
        counts_itself: own.counts_itself,
    }
}

fn bytes(own: &TcpBytes, faults: &mut Faults) -> Option<Bytes> {
    let bytes = match &own.written {
        Some(Written::Text(text)) => Bytes::from(text.clone()),
        Some(Written::Hex(digits)) => {
            let Some(bytes) = hex::decode(digits) else {
                faults.add("hex", "must be pairs of hexadecimal digits, such as 0d0a");
                return None;
            };
            bytes.into()
        }
        None => Bytes::new(),
    };
    if bytes.is_empty() || bytes.len() > MAX_TYPED {
        let message = format!("must be `text` or `hex`, of 1 to {MAX_TYPED} bytes");
        faults.add("", message);
        return None;
    }
    Some(bytes)
}

fn expect(own: &TcpExpect, framing: Option<&Framing>, faults: &mut Faults) -> Option<Expect> {
    match &own.answer {
        Some(Answer::Exactly(typed)) => {
            at("exactly", faults, |faults| bytes(typed, faults)).map(Expect::Exactly)
        }
        Some(Answer::BeginsWith(typed)) => {
            let begin = at("begins_with", faults, |faults| bytes(typed, faults));
            if framing.is_none() {
                faults.add(
                    "begins_with",
                    "needs the pool's `tcp.framing`, to know where the message ends; `exactly` does not",
                );
            }
            Some(Expect::BeginsWith(framing?.clone(), begin?))
        }
        None => {
            faults.add("", "must be one of `begins_with`, `exactly`");
            None
        }
    }
}

pub(super) fn step(own: &TcpStep, framing: Option<&Framing>, faults: &mut Faults) -> Option<Step> {
    match &own.step {
        Some(tcp_step::Step::Send(typed)) => {
            at("send", faults, |faults| bytes(typed, faults)).map(Step::Send)
        }
        Some(tcp_step::Step::SendSecret(reference)) => {
            faults.within("send_secret", |faults| secrets::check(reference, faults));
            Some(Step::Secret(reference.clone()))
        }
        Some(tcp_step::Step::Expect(own)) => {
            at("expect", faults, |faults| expect(own, framing, faults)).map(Step::Expect)
        }
        None => {
            faults.add("", "must be one of `send`, `send_secret`, `expect`");
            None
        }
    }
}

pub(super) fn exchange(
    own: &TcpExchange,
    framing: Option<&Framing>,
    faults: &mut Faults,
) -> Option<Exchange> {
    let sent = own.send.clone().unwrap_or_default();
    let expected = own.expect.clone().unwrap_or_default();
    let send = at("send", faults, |faults| bytes(&sent, faults));
    let expect = at("expect", faults, |faults| expect(&expected, framing, faults));
    Some(Exchange {
        send: send?,
        expect: expect?,
    })
}

pub(super) fn reset(own: &TcpReset, framing: Option<&Framing>, faults: &mut Faults) -> Option<Reset> {
    match &own.how {
        Some(How::Exchange(own)) => {
            at("exchange", faults, |faults| exchange(own, framing, faults)).map(Reset::Exchange)
        }
        Some(How::Keep(keep)) => match Keep::try_from(*keep) {
            Ok(Keep::Answered) => Some(Reset::Answered),
            Ok(Keep::Silent) => Some(Reset::Silent),
            Ok(Keep::Unspecified) | Err(_) => {
                faults.add("keep", "must be KEEP_ANSWERED or KEEP_SILENT");
                None
            }
        },
        None => {
            faults.add(
                "",
                "must be one of `exchange`, `keep`; without a reset, sessions are closed",
            );
            None
        }
    }
}
