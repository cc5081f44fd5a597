//! What can be told of a statement by its text.

use super::plan::first_word;

/// Whether a statement may commit parts of its work before it fails.
pub(super) fn is_procedural(sql: &str) -> bool {
    match first_word(sql).as_str() {
        "CALL" | "DO" | "VACUUM" | "REINDEX" | "CLUSTER" | "ANALYZE" | "ANALYSE" => true,
        "CREATE" | "DROP" | "ALTER" => sql.to_ascii_uppercase().contains("CONCURRENTLY"),
        _ => false,
    }
}

/// Words that dates and times take for a moment, which is that of their statement's preparation.
const MOMENTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// Whether a statement may be kept prepared. The server notices when what it returns changes only for those that it
/// plans: FETCH, EXECUTE or CALL may return another's columns at each use. One whose literals mean the moment would go
/// on meaning the first one.
pub(super) fn may_be_kept(sql: &str) -> bool {
    const PLANNED: [&str; 8] = [
        "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE",
    ];
    let moment = |text: &str| {
        let mut words = text
            .trim_start()
            .split(|letter: char| !letter.is_ascii_alphabetic());
        let word = words.next().unwrap_or_default();
        MOMENTS.iter().any(|moment| word.eq_ignore_ascii_case(moment))
    };
    // A literal begins behind each second quote; what is behind the others hardly begins with such a word.
    PLANNED.contains(&first_word(sql).as_str()) && !sql.split(['\'', '$']).skip(1).any(moment)
}

/// Settings by which the server reads literals when it prepares a statement. It tells of the first four, but not of
/// what came and went between two ReadyForQuery.
const READ_BY: [&str; 10] = [
    "datestyle",
    "intervalstyle",
    "timezone",
    "standard_conforming_strings",
    "time zone",
    "transform_null_equals",
    "array_nulls",
    "lc_monetary",
    "xmloption",
    "xml option",
];

/// Whether text changes how the server reads literals, as far as it says so itself.
pub(super) fn sets_how_literals_are_read(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    let sets = lower.contains("set_config") || lower.split(';').any(|sql| first_word(sql) == "SET");
    sets && READ_BY.iter().any(|name| lower.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commits_by_itself_is_known() {
        let proves_nothing = [
            "call p()",
            "  -- one\n-- two\n DO $$ $$",
            "/* x */ vacuum t",
            "/* a /* b */ select */ DO $$ $$",
            "create index concurrently i on t(a)",
            ";; call p()",
            "--\rcall p()",
            "analyze",
        ];
        assert!(proves_nothing.iter().all(|sql| is_procedural(sql)));
        let rolled_back = [
            "select 1",
            "create index i on t(a)",
            "insert into t values (1)",
            "-- do",
            "",
        ];
        assert!(!rolled_back.iter().any(|sql| is_procedural(sql)));
    }

    #[test]
    fn only_what_means_the_same_each_time_may_be_kept() {
        let may = [
            "select 1",
            "-- all\nselect 'a' as word, now()",
            "insert into t values ('nowhere', $1, now())",
            "with a as (select 'Nowak') table a",
        ];
        assert!(may.iter().all(|sql| may_be_kept(sql)));
        let not = [
            "fetch 1 from c",
            "execute p",
            "call p()",
            "show all",
            "explain select 1",
            "select 'now'::timestamp",
            "select timestamptz ' Today 12:00'",
            "select $$yesterday$$::date",
            "",
        ];
        assert!(!not.iter().any(|sql| may_be_kept(sql)));
    }

    #[test]
    fn settings_of_literals_are_known_by_their_names() {
        let sets = [
            "set local TIME ZONE 'UTC'",
            "select 1; SET DateStyle = ISO",
            "select pg_catalog.Set_Config('TimeZone', $1, true)",
            "set xml option document",
        ];
        assert!(sets.iter().all(|sql| sets_how_literals_are_read(sql)));
        let others = [
            "update t set at = now() at time zone 'UTC'",
            "set search_path = timeline",
            "select set_config('my.tenant', $1, false)",
            "show timezone",
        ];
        assert!(!others.iter().any(|sql| sets_how_literals_are_read(sql)));
    }
}
