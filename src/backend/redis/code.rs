//! What a server's error means to a caller: the published table from the error's first word to gRPC code
//! (docs/backends/redis.md), and whether the error proves that nothing was done.

use std::{collections::BTreeMap, time::Duration};

use tonic::Code;

use super::command::Nature;
use crate::error::{BackendError, Executed};

/// Bytes of a message at most: a script may make one as long as it likes.
const MESSAGE: usize = 1024;

/// What the table says of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    word: &'static str,
    code: Code,
    /// When a repeat may fare better, if waiting is all it takes.
    retry_after: Option<Duration>,
    /// The server says it before it does anything: unless a script says it, it proves that nothing was done.
    refusal: bool,
    about: &'static str,
}

const fn answer(word: &'static str, code: Code, about: &'static str) -> Row {
    Row {
        word,
        code,
        retry_after: None,
        refusal: false,
        about,
    }
}

const fn refusal(word: &'static str, code: Code, about: &'static str) -> Row {
    Row {
        refusal: true,
        ..answer(word, code, about)
    }
}

const fn retry(word: &'static str, millis: u64, about: &'static str) -> Row {
    Row {
        retry_after: Some(Duration::from_millis(millis)),
        ..refusal(word, Code::Unavailable, about)
    }
}

/// A failed login of ours is never the caller's UNAUTHENTICATED.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    refusal("ASK", Code::FailedPrecondition, "the key's slot is on its way to another node: `slot`, `address`"),
    retry("BUSY", 1000, "a script runs for too long"),
    answer("BUSYGROUP", Code::AlreadyExists, "the consumer group is there already"),
    answer("BUSYKEY", Code::AlreadyExists, "the key is there already"),
    retry("CLUSTERDOWN", 1000, "the cluster lacks nodes"),
    refusal("CROSSSLOT", Code::InvalidArgument, "the keys are not in one slot"),
    answer("ERR", Code::InvalidArgument, "anything without a word of its own: unknown command, wrong arguments, not an integer"),
    refusal("EXECABORT", Code::Aborted, "the transaction was discarded because of a refused command"),
    answer("INPROG", Code::Aborted, "a failover is under way"),
    retry("LOADING", 1000, "the server reads its data into memory"),
    retry("MASTERDOWN", 1000, "the replica has lost its primary"),
    refusal("MISCONF", Code::FailedPrecondition, "the server cannot write its snapshot, and takes no writes"),
    refusal("MOVED", Code::FailedPrecondition, "the key's slot is on another node: `slot`, `address`"),
    refusal("NOAUTH", Code::FailedPrecondition, "the session is not logged in any more"),
    answer("NOGROUP", Code::NotFound, "no such consumer group, or stream"),
    refusal("NOPERM", Code::PermissionDenied, "the pool's user may not do this"),
    answer("NOPROTO", Code::InvalidArgument, "no such version of the protocol"),
    retry("NOREPLICAS", 1000, "too few replicas to take a write"),
    answer("NOSCRIPT", Code::NotFound, "no such script: send it with EVAL"),
    answer("NOTBUSY", Code::FailedPrecondition, "no script runs"),
    refusal("OOM", Code::ResourceExhausted, "the server is at its memory limit"),
    refusal("READONLY", Code::FailedPrecondition, "the server is a replica; the session is closed when it comes free"),
    retry("TRYAGAIN", 100, "the keys are on two nodes while their slot moves"),
    refusal("UNBLOCKED", Code::Cancelled, "another client ended the wait"),
    answer("UNKILLABLE", Code::FailedPrecondition, "the script has written already"),
    answer("WRONGPASS", Code::FailedPrecondition, "no such user, or another password"),
    answer("WRONGTYPE", Code::FailedPrecondition, "the key holds another type of value"),
];

/// All else: a module's or a script's own word.
const OTHER: Row = answer("", Code::Unknown, "any other, such as a script's own");

/// The first word of an error, in capitals, if it has one: `WRONGTYPE`. Nothing else tells errors apart.
pub(super) fn prefix(text: &str) -> &str {
    let word = text.split([' ', '\r', '\n']).next().unwrap_or_default();
    let is_word = !word.is_empty()
        && word.len() <= 32
        && word
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
    if is_word { word } else { "" }
}

fn lookup(word: &str) -> Row {
    ROWS.iter().find(|row| row.word == word).copied().unwrap_or(OTHER)
}

/// The error as the broker's callers get it, and whether the command was carried out.
pub(super) fn judge(text: &[u8], nature: Nature) -> (BackendError, Executed) {
    let text = String::from_utf8_lossy(text);
    let word = prefix(&text);
    let row = lookup(word);
    let proven = row.refusal && !matches!(nature, Nature::Script | Nature::Unknown);
    let code = match row.code {
        // It promises that nothing was executed.
        Code::Unavailable if !proven => Code::Aborted,
        code => code,
    };
    let mut metadata: BTreeMap<&'static str, String> = BTreeMap::new();
    if !word.is_empty() {
        metadata.insert("redis_code", word.to_owned());
    }
    if let ("MOVED" | "ASK", Some((slot, address))) = (word, redirection(&text)) {
        metadata.insert("slot", slot.to_owned());
        metadata.insert("address", address.to_owned());
    }
    let message = text.get(..text.floor_char_boundary(MESSAGE)).unwrap_or_default();
    let error = BackendError {
        code,
        message: message.to_owned(),
        metadata,
        retry_after: row.retry_after,
    };
    (error, if proven { Executed::No } else { Executed::Yes })
}

/// `MOVED 3999 127.0.0.1:6381`.
fn redirection(text: &str) -> Option<(&str, &str)> {
    let mut words = text.split(' ').skip(1);
    Some((words.next()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../docs/backends/redis.md");

    /// A code's name as gRPC writes it.
    fn name(code: Code) -> String {
        let mut name = String::new();
        for c in format!("{code:?}").chars() {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        }
        name
    }

    fn line(row: &Row) -> String {
        let word = if row.word.is_empty() { "other" } else { row.word };
        let retry = row
            .retry_after
            .map_or_else(String::new, |after| format!("{} ms", after.as_millis()));
        let executed = if row.refusal { "no" } else { "yes" };
        let code = name(row.code);
        format!("| {word} | {code} | {retry} | {executed} | {} |\n", row.about)
    }

    #[test]
    fn the_page_has_the_table_that_the_code_goes_by() {
        let head = "| first word | gRPC code | retry after | executed | about |\n|---|---|---|---|---|\n";
        let rows: String = ROWS.iter().chain([&OTHER]).map(line).collect();
        assert!(
            DOCUMENT.contains(&format!("{head}{rows}")),
            "put this into docs/backends/redis.md:\n{head}{rows}"
        );
    }

    #[test]
    fn words_are_there_once_and_none_speaks_of_the_caller_s_login() {
        assert!(ROWS.is_sorted_by_key(|row| row.word));
        assert!(ROWS.iter().all(|row| row.code != Code::Unauthenticated));
        // It promises that nothing was executed.
        assert!(
            ROWS.iter()
                .all(|row| row.code != Code::Unavailable || row.refusal)
        );
    }

    #[test]
    fn an_error_begins_with_its_word_or_has_none() {
        for (text, word) in [
            ("WRONGTYPE Operation against", "WRONGTYPE"),
            ("LOADING", "LOADING"),
            ("MY-OWN_1 x", "MY-OWN_1"),
            ("wrong", ""),
            ("", ""),
            (" ERR", ""),
        ] {
            assert_eq!(prefix(text), word, "{text}");
        }
    }

    #[test]
    fn a_refusal_proves_nothing_where_a_script_may_have_spoken() {
        let of = |text: &str, nature| {
            let (error, executed) = judge(text.as_bytes(), nature);
            (error.code, executed)
        };
        let loading = "LOADING Redis is loading";
        assert_eq!(of(loading, Nature::Brief), (Code::Unavailable, Executed::No));
        assert_eq!(of(loading, Nature::Script), (Code::Aborted, Executed::Yes));
        assert_eq!(
            of("READONLY You can't", Nature::Unknown),
            (Code::FailedPrecondition, Executed::Yes)
        );
        assert_eq!(of("MINE own", Nature::Script), (Code::Unknown, Executed::Yes));
    }

    #[test]
    fn a_redirection_says_where_to() {
        let (error, executed) = judge(b"MOVED 3999 127.0.0.1:6381", Nature::Brief);
        assert_eq!(executed, Executed::No);
        let expected = [
            ("address", "127.0.0.1:6381"),
            ("redis_code", "MOVED"),
            ("slot", "3999"),
        ];
        assert_eq!(
            error.metadata,
            expected.map(|(key, value)| (key, value.to_owned())).into()
        );
    }

    #[test]
    fn a_message_has_an_end() {
        let (error, _) = judge("\u{e4}".repeat(5000).as_bytes(), Nature::Script);
        assert_eq!(error.message.len(), MESSAGE);
    }
}
