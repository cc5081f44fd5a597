//! Definitions for property tests: every group and kind, with values that need not make sense together.

use std::collections::HashMap;

use proptest::prelude::*;
use prost_types::{Duration as Span, value::Kind};

use crate::proto::{
    EchoBackend, Endpoint, Health, HttpBackend, LeasePolicy, LlmBackend, LlmDefaults, PluginBackend,
    PoolSpec, PostgresBackend, Queue, RedisBackend, SecretRef, Sizing, TcpBackend, TcpBytes, TcpFraming,
    TcpPrefix, TcpReset, TcpStep, Timeouts, Tls, pool_spec::Backend, postgres_backend::Reset,
    secret_ref::Source, tcp_bytes::Written, tcp_framing::Ends, tcp_reset::How, tcp_step::Step,
};

fn span() -> impl Strategy<Value = Option<Span>> {
    let some =
        (0..315_576_000_000_i64, 0..1_000_000_000_i32).prop_map(|(seconds, nanos)| Span { seconds, nanos });
    prop::option::of(some)
}

fn number() -> impl Strategy<Value = Option<u32>> {
    prop::option::of(any::<u32>())
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

fn sizing() -> impl Strategy<Value = Sizing> {
    (any::<u32>(), number(), number(), number()).prop_map(
        |(min_sessions, max_sessions, max_idle, max_dialing)| Sizing {
            min_sessions,
            max_sessions,
            max_idle,
            max_dialing,
        },
    )
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    ((span(), span(), span(), span()), (span(), span(), span(), span())).prop_map(|(one, two)| Timeouts {
        connect: one.0,
        acquire: one.1,
        execute: one.2,
        stall: one.3,
        idle: two.0,
        max_lifetime: two.1,
        reset: two.2,
        close: two.3,
    })
}

fn backend() -> impl Strategy<Value = Backend> {
    let echo = span().prop_map(|dial_delay| Backend::Echo(EchoBackend { dial_delay }));
    prop_oneof![echo, http(), postgres(), redis(), tcp(), plugin(), llm()]
}

fn plugin() -> impl Strategy<Value = Backend> {
    let leaf = prop_oneof![
        Just(Kind::NullValue(0)),
        any::<bool>().prop_map(Kind::BoolValue),
        (-1e15..1e15).prop_map(Kind::NumberValue),
        text().prop_map(Kind::StringValue),
    ];
    let leaf = leaf.prop_map(|kind| prost_types::Value { kind: Some(kind) });
    let list = prop::collection::vec(leaf.clone(), 0..3).prop_map(|values| prost_types::Value {
        kind: Some(Kind::ListValue(prost_types::ListValue { values })),
    });
    let fields = prop::collection::btree_map(text(), prop_oneof![leaf, list], 0..4);
    let config = prop::option::of(fields.prop_map(|fields| prost_types::Struct { fields }));
    let secrets = prop::collection::hash_map(text(), secret(), 0..4);
    (text(), prop::option::of(tls()), config, secrets).prop_map(|(address, tls, config, secrets)| {
        Backend::Plugin(PluginBackend {
            address,
            tls,
            config,
            secrets,
        })
    })
}

fn llm() -> impl Strategy<Value = Backend> {
    let defaults =
        (text(), number(), prop::option::of(0.0..2.0)).prop_map(|(model, max_tokens, temperature)| {
            LlmDefaults {
                model,
                max_tokens,
                temperature,
            }
        });
    let key = (prop::option::of(secret()), prop::option::of(tls()), text());
    let maps = (
        prop::collection::hash_map(text(), text(), 0..4),
        prop::collection::hash_map(text(), text(), 0..4),
        prop::collection::hash_map(text(), secret(), 0..4),
    );
    let limits = (span(), span(), prop::option::of(any::<bool>()));
    (0..5_i32, key, prop::option::of(defaults), maps, limits).prop_map(
        |(dialect, key, defaults, maps, limits)| {
            Backend::Llm(LlmBackend {
                dialect,
                api_key: key.0,
                tls: key.1,
                defaults,
                model_aliases: maps.0,
                first_token_timeout: limits.0,
                idle_timeout: limits.1,
                ask_for_usage: limits.2,
                api_version: key.2,
                headers: maps.1,
                secret_headers: maps.2,
            })
        },
    )
}

fn secret() -> impl Strategy<Value = SecretRef> {
    let source = prop_oneof![text().prop_map(Source::Env), text().prop_map(Source::File)];
    prop::option::of(source).prop_map(|source| SecretRef { source })
}

fn tls() -> impl Strategy<Value = Tls> {
    (any::<bool>(), text(), text(), any::<bool>()).prop_map(|(enabled, server_name, ca_file, skip_verify)| {
        Tls {
            enabled,
            server_name,
            ca_file,
            skip_verify,
        }
    })
}

fn http() -> impl Strategy<Value = Backend> {
    let headers = prop::collection::hash_map(text(), text(), 0..4);
    let secrets: BoxedStrategy<HashMap<_, _>> = prop::collection::hash_map(text(), secret(), 0..4).boxed();
    let versions = (0..3_i32, prop::option::of(any::<u32>()));
    let http = (
        versions,
        prop::option::of(tls()),
        headers,
        secrets,
        span(),
        span(),
    );
    http.prop_map(
        |((protocol, max_connections), tls, headers, secret_headers, first_byte_timeout, write_timeout)| {
            Backend::Http(HttpBackend {
                protocol,
                max_connections,
                tls,
                headers,
                secret_headers,
                first_byte_timeout,
                write_timeout,
            })
        },
    )
}

fn postgres() -> impl Strategy<Value = Backend> {
    let login = (
        text(),
        text(),
        prop::option::of(secret()),
        prop::option::of(tls()),
    );
    let reset = prop_oneof![
        Just(Reset::Unspecified),
        Just(Reset::Full),
        Just(Reset::Transaction)
    ];
    let parameters = prop::collection::hash_map(text(), text(), 0..4);
    let init_sql = prop::collection::vec(text(), 0..3);
    (login, reset, parameters, init_sql, number(), span()).prop_map(
        |((database, user, password, tls), reset, parameters, init_sql, statement_cache, idle)| {
            Backend::Postgres(PostgresBackend {
                database,
                user,
                password,
                tls,
                reset: reset.into(),
                parameters,
                init_sql,
                statement_cache,
                idle_in_transaction_timeout: idle,
            })
        },
    )
}

fn redis() -> impl Strategy<Value = Backend> {
    let login = (
        text(),
        prop::option::of(secret()),
        prop::option::of(tls()),
        text(),
    );
    (login, any::<u32>()).prop_map(|((user, password, tls, client_name), database)| {
        Backend::Redis(RedisBackend {
            user,
            password,
            database,
            tls,
            client_name,
        })
    })
}

fn typed() -> impl Strategy<Value = TcpBytes> {
    let written = prop_oneof![text().prop_map(Written::Text), text().prop_map(Written::Hex)];
    prop::option::of(written).prop_map(|written| TcpBytes { written })
}

fn tcp() -> impl Strategy<Value = Backend> {
    let prefix = (any::<u32>(), 0..3, any::<bool>()).prop_map(|(bytes, order, counts_itself)| TcpPrefix {
        bytes,
        order,
        counts_itself,
    });
    let ends = prop_oneof![
        typed().prop_map(Ends::Delimiter),
        any::<u32>().prop_map(Ends::Length),
        prefix.prop_map(Ends::Prefix)
    ];
    let framing = prop::option::of(prop::option::of(ends).prop_map(|ends| TcpFraming { ends }));
    let step = prop_oneof![typed().prop_map(Step::Send), secret().prop_map(Step::SendSecret)];
    let greeting = prop::collection::vec(step.prop_map(|step| TcpStep { step: Some(step) }), 0..3);
    let keep = prop::option::of((0..3).prop_map(|keep| TcpReset {
        how: Some(How::Keep(keep)),
    }));
    let tcp = (prop::option::of(tls()), framing, number(), greeting, keep);
    tcp.prop_map(|(tls, framing, max_message_bytes, greeting, reset)| {
        Backend::Tcp(TcpBackend {
            tls,
            framing,
            max_message_bytes,
            greeting,
            health: None,
            reset,
        })
    })
}

/// A definition with anything in it that its messages can hold, sensible or not.
pub(super) fn definition() -> impl Strategy<Value = PoolSpec> {
    let endpoint = (text(), text(), number()).prop_map(|(name, address, max_sessions)| Endpoint {
        name,
        address,
        max_sessions,
    });
    let lease = (span(), span(), span(), span()).prop_map(|(default_ttl, min_ttl, max_ttl, max_duration)| {
        LeasePolicy {
            default_ttl,
            min_ttl,
            max_ttl,
            max_duration,
        }
    });
    let queue = (number(), span()).prop_map(|(max_waiters, ageing)| Queue { max_waiters, ageing });
    let health = (prop::option::of(any::<bool>()), span(), span(), span()).prop_map(
        |(enabled, interval, timeout, probe_after_idle)| Health {
            enabled,
            interval,
            timeout,
            probe_after_idle,
        },
    );
    let groups = (
        prop::collection::vec(endpoint, 0..3),
        prop::option::of(sizing()),
        prop::option::of(timeouts()),
        prop::option::of(lease),
        prop::option::of(queue),
        prop::option::of(health),
        prop::option::of(backend()),
    );
    groups.prop_map(
        |(endpoints, sizing, timeouts, lease, queue, health, backend)| PoolSpec {
            endpoints,
            sizing,
            timeouts,
            lease,
            queue,
            health,
            backend,
        },
    )
}
