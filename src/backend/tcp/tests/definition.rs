//! Definitions, with all their faults at once.

use super::*;
use crate::proto::{SecretRef, TcpPrefix, TcpStep, Tls, tcp_step::Step};

fn refused(address: &str, own: TcpBackend) -> Vec<String> {
    fields(&backend(address, own, Path::new("/")).unwrap_err())
}

fn framed(ends: Option<Ends>) -> TcpBackend {
    TcpBackend {
        framing: Some(TcpFraming { ends }),
        ..TcpBackend::default()
    }
}

fn hex(digits: &str) -> TcpBytes {
    TcpBytes {
        written: Some(Written::Hex(digits.to_owned())),
    }
}

#[test]
fn every_fault_of_a_definition_is_told_at_once() {
    let own = TcpBackend {
        tls: Some(Tls {
            server_name: "x".to_owned(),
            ..Tls::default()
        }),
        framing: None,
        max_message_bytes: Some(0),
        greeting: vec![
            TcpStep::default(),
            TcpStep {
                step: Some(Step::Send(hex("0"))),
            },
            TcpStep {
                step: Some(Step::SendSecret(SecretRef::default())),
            },
        ],
        health: Some(TcpExchange::default()),
        reset: Some(TcpReset {
            how: Some(How::Exchange(exchange("RESET", begins_with("OK")))),
        }),
    };
    let wanted = [
        "endpoints[0].address",
        "tcp.tls.server_name",
        "tcp.max_message_bytes",
        "tcp.greeting[0]",
        "tcp.greeting[1].send.hex",
        "tcp.greeting[2].send_secret",
        "tcp.health.send",
        "tcp.health.expect",
        "tcp.reset.exchange.expect.begins_with",
    ];
    assert_eq!(refused("nowhere", own), wanted);
}

#[test]
fn framings_that_make_no_sense_are_refused() {
    let long = "x".repeat(65);
    let cases = [
        (framed(None), "tcp.framing"),
        (framed(Some(Ends::Delimiter(typed("")))), "tcp.framing.delimiter"),
        (
            framed(Some(Ends::Delimiter(typed(&long)))),
            "tcp.framing.delimiter",
        ),
        (framed(Some(Ends::Length(0))), "tcp.framing.length"),
        (framed(Some(Ends::Length(2_000_000))), "tcp.framing.length"),
        (
            framed(Some(Ends::Prefix(TcpPrefix {
                bytes: 3,
                ..TcpPrefix::default()
            }))),
            "tcp.framing.prefix.bytes",
        ),
        (
            framed(Some(Ends::Prefix(TcpPrefix {
                bytes: 4,
                order: 7,
                ..TcpPrefix::default()
            }))),
            "tcp.framing.prefix.order",
        ),
        (
            framed(Some(Ends::Quiet(prost_types::Duration::default()))),
            "tcp.framing.quiet",
        ),
    ];
    for (own, field) in cases {
        assert_eq!(refused("device:1", own.clone()), [field], "{own:?}");
    }
}

#[test]
fn resets_that_make_no_sense_are_refused() {
    let reset = |how| TcpBackend {
        reset: Some(TcpReset { how }),
        ..lines()
    };
    assert_eq!(refused("device:1", reset(None)), ["tcp.reset"]);
    for keep in [0, 9] {
        assert_eq!(
            refused("device:1", reset(Some(How::Keep(keep)))),
            ["tcp.reset.keep"]
        );
    }
    let steps = TcpBackend {
        greeting: vec![
            TcpStep {
                step: Some(Step::Send(typed("x"))),
            };
            33
        ],
        ..lines()
    };
    assert_eq!(refused("device:1", steps), ["tcp.greeting"]);
}

#[test]
fn an_address_is_a_host_and_a_port() {
    for address in ["device:4001", "10.0.0.1:1", "[::1]:65535"] {
        backend(address, lines(), Path::new("/")).unwrap();
    }
    for address in [
        "device",
        "device:0",
        "device:+1",
        ":1",
        "[::1]",
        "::1:1",
        "[x]:1",
        "a b:1",
        "tcp://a:1",
    ] {
        assert_eq!(refused(address, lines()), ["endpoints[0].address"], "{address}");
    }
}

#[test]
fn a_silent_device_is_not_stalled_for_long() {
    let spec = PoolSpec {
        backend: Some(pool_spec::Backend::Tcp(lines())),
        ..PoolSpec::default()
    };
    assert_eq!(registry::defaults(&spec).stall, Duration::from_secs(600));
}
