//! What each command does to the session that it runs on.
//!
//! A command that is not known here, such as a module's or a renamed one, is taken to leave something behind: its
//! session is cleaned before it goes on.

use bytes::Bytes;

/// What a command is to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// It leaves nothing, and is answered as soon as the server comes to it.
    Brief,
    /// It leaves nothing, and its answer may wait for others.
    Waits,
    /// It runs a script, which cannot change the session, may take long, and may fail in any words.
    Script,
    /// It leaves something, or needs what was left.
    State,
    /// It may do anything.
    Unknown,
    /// It would leave the session with answers that nobody can tell apart, or none.
    Refused(&'static str),
}

const SUBSCRIBES: &str = "is answered without end: use the operation `subscribe`";
const ENDLESS: &str = "is answered without end: connect to the server itself for it";
const QUITS: &str = "closes the connection: release the lease instead";
const DEBUGS: &str = "would leave the session in the debugger, which nothing undoes";
const LASTS: &str = "would outlive every reset of the session: connect to the server itself for it";
const SILENT: &str = "has the server say nothing any more: no answer would ever come";

/// Sorted by name. What is not [`Nature::Brief`] stands in the other lists.
#[rustfmt::skip]
const BRIEF: &[&str] = &[
    "ACL", "APPEND", "BGREWRITEAOF", "BGSAVE", "BITCOUNT", "BITFIELD", "BITFIELD_RO", "BITOP", "BITPOS", "CLUSTER",
    "COMMAND", "CONFIG", "COPY", "DBSIZE", "DECR", "DECRBY", "DEL", "DUMP", "ECHO", "EXISTS", "EXPIRE", "EXPIREAT",
    "EXPIRETIME", "FLUSHALL", "FLUSHDB", "FUNCTION", "GEOADD", "GEODIST", "GEOHASH", "GEOPOS", "GEORADIUS",
    "GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO", "GEORADIUS_RO", "GEOSEARCH", "GEOSEARCHSTORE", "GET", "GETBIT",
    "GETDEL", "GETEX", "GETRANGE", "GETSET", "HDEL", "HEXISTS", "HEXPIRE", "HEXPIREAT", "HEXPIRETIME", "HGET",
    "HGETALL", "HGETDEL", "HGETEX", "HINCRBY", "HINCRBYFLOAT", "HKEYS", "HLEN", "HMGET", "HMSET", "HPERSIST",
    "HPEXPIRE", "HPEXPIREAT", "HPEXPIRETIME", "HPTTL", "HRANDFIELD", "HSCAN", "HSET", "HSETEX", "HSETNX", "HSTRLEN",
    "HTTL", "HVALS", "INCR", "INCRBY", "INCRBYFLOAT", "INFO", "KEYS", "LASTSAVE", "LATENCY", "LCS", "LINDEX",
    "LINSERT", "LLEN", "LMOVE", "LMPOP", "LOLWUT", "LPOP", "LPOS", "LPUSH", "LPUSHX", "LRANGE", "LREM", "LSET",
    "LTRIM", "MEMORY", "MGET", "MOVE", "MSET", "MSETNX", "OBJECT", "PERSIST", "PEXPIRE", "PEXPIREAT", "PEXPIRETIME",
    "PFADD", "PFCOUNT", "PFMERGE", "PING", "PSETEX", "PTTL", "PUBLISH", "PUBSUB", "RANDOMKEY", "RENAME", "RENAMENX",
    "RESTORE", "ROLE", "RPOP", "RPOPLPUSH", "RPUSH", "RPUSHX", "SADD", "SCAN", "SCARD", "SCRIPT", "SDIFF",
    "SDIFFSTORE", "SET", "SETBIT", "SETEX", "SETNX", "SETRANGE", "SINTER", "SINTERCARD", "SINTERSTORE", "SISMEMBER",
    "SLOWLOG", "SMEMBERS", "SMISMEMBER", "SMOVE", "SORT", "SORT_RO", "SPOP", "SPUBLISH", "SRANDMEMBER", "SREM",
    "SSCAN", "STRLEN", "SUBSTR", "SUNION", "SUNIONSTORE", "SWAPDB", "TIME", "TOUCH", "TTL", "TYPE", "UNLINK", "XACK",
    "XADD", "XAUTOCLAIM", "XCLAIM", "XDEL", "XGROUP", "XINFO", "XLEN", "XPENDING", "XRANGE", "XREVRANGE", "XSETID",
    "XTRIM", "ZADD", "ZCARD", "ZCOUNT", "ZDIFF", "ZDIFFSTORE", "ZINCRBY", "ZINTER", "ZINTERCARD", "ZINTERSTORE",
    "ZLEXCOUNT", "ZMPOP", "ZMSCORE", "ZPOPMAX", "ZPOPMIN", "ZRANDMEMBER", "ZRANGE", "ZRANGEBYLEX", "ZRANGEBYSCORE",
    "ZRANGESTORE", "ZRANK", "ZREM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "ZREVRANGE",
    "ZREVRANGEBYLEX", "ZREVRANGEBYSCORE", "ZREVRANK", "ZSCAN", "ZSCORE", "ZUNION", "ZUNIONSTORE",
];

/// Looks a command up by its name, in any case.
pub(super) fn nature(args: &[Bytes]) -> Nature {
    let name = word(args, 0);
    match name.as_str() {
        "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE" => {
            Nature::Refused(SUBSCRIBES)
        }
        "SCRIPT" if word(args, 1) == "DEBUG" => Nature::Refused(DEBUGS),
        "MONITOR" | "SYNC" | "PSYNC" | "REPLCONF" => Nature::Refused(ENDLESS),
        "QUIT" => Nature::Refused(QUITS),
        "CLIENT" => client(&word(args, 1)),
        "MULTI" | "EXEC" | "DISCARD" | "WATCH" | "UNWATCH" | "SELECT" | "AUTH" | "HELLO" | "RESET"
        | "READONLY" | "READWRITE" | "ASKING" => Nature::State,
        "EVAL" | "EVALSHA" | "EVAL_RO" | "EVALSHA_RO" | "FCALL" | "FCALL_RO" => Nature::Script,
        "BLPOP" | "BRPOP" | "BLMOVE" | "BRPOPLPUSH" | "BLMPOP" | "BZPOPMIN" | "BZPOPMAX" | "BZMPOP"
        | "XREAD" | "XREADGROUP" | "WAIT" | "WAITAOF" => Nature::Waits,
        name if BRIEF.binary_search(&name).is_ok() => Nature::Brief,
        _ => Nature::Unknown,
    }
}

fn client(subcommand: &str) -> Nature {
    match subcommand {
        "GETNAME" | "GETREDIR" | "HELP" | "ID" | "INFO" | "KILL" | "LIST" | "PAUSE" | "TRACKINGINFO"
        | "UNBLOCK" | "UNPAUSE" => Nature::Brief,
        "REPLY" => Nature::Refused(SILENT),
        "CAPA" => Nature::Refused(LASTS),
        _ => Nature::State,
    }
}

/// What a command does to its session's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    None,
    /// It begins one, unless it is refused.
    Begins,
    /// It ends one, even by being refused.
    Ends,
    /// It ends one, unless it is refused.
    Discards,
}

/// Whether a command begins or ends a transaction, once it has been answered.
pub(super) fn step(args: &[Bytes]) -> Step {
    match word(args, 0).as_str() {
        "MULTI" => Step::Begins,
        "EXEC" => Step::Ends,
        "DISCARD" | "RESET" => Step::Discards,
        _ => Step::None,
    }
}

/// An argument in capitals; empty if it is too long to be any command's name.
fn word(args: &[Bytes], index: usize) -> String {
    let arg = args.get(index).filter(|arg| arg.len() <= 32);
    arg.map(|arg| String::from_utf8_lossy(arg).to_ascii_uppercase())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Nature {
        let args: Vec<Bytes> = text.split(' ').map(|arg| Bytes::from(arg.to_owned())).collect();
        nature(&args)
    }

    #[test]
    fn the_list_is_sorted_so_that_it_can_be_searched() {
        assert!(BRIEF.is_sorted());
        assert!(BRIEF.iter().all(|name| of(name) == Nature::Brief));
    }

    #[test]
    fn commands_are_known_in_any_case() {
        assert_eq!(of("get k"), Nature::Brief);
        assert_eq!(of("blPop k 0"), Nature::Waits);
        assert_eq!(of("Eval x 0"), Nature::Script);
        assert_eq!(of("client setname x"), Nature::State);
        assert_eq!(of("CLIENT info"), Nature::Brief);
        assert_eq!(of("select 1"), Nature::State);
    }

    #[test]
    fn what_is_not_known_may_do_anything() {
        for command in ["FT.SEARCH i q", "m0nitor", "", "DEBUG SLEEP 1"] {
            assert_eq!(of(command), Nature::Unknown, "{command}");
        }
        // What a newer server has may change the session.
        assert_eq!(of("CLIENT SOMETHING"), Nature::State);
    }

    #[test]
    fn what_would_be_answered_without_end_or_never_is_refused() {
        for command in [
            "subscribe c",
            "MONITOR",
            "Quit",
            "client reply off",
            "client capa redirect",
            "PSYNC ? -1",
            "SCRIPT debug yes",
        ] {
            assert!(matches!(of(command), Nature::Refused(_)), "{command}");
        }
    }
}
