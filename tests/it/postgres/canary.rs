//! Every way to leave something behind in a session, and a next holder who finds nothing.
//!
//! A new way is a line in [`WAYS`]. Each is taken by a statement and by a function that runs it, in each way that a
//! holder can end. What the next holder finds is a portrait of the session, taken before as well.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use sublet::proto::{event, pool_spec::Backend, postgres_backend::Reset};
use tokio::time::timeout;

use super::{Stage, definition, opened::Opened, staged::events};
use crate::support::{app::App, calls::*, postgres::Database};

/// What every database of these tests has. `leave` runs what it is given; `evil` is a schema to be looked up in.
const SETUP: &str = r"
    create role other;
    create schema evil;
    create table evil.called (what text);
    create function evil.pg_advisory_unlock_all() returns void language sql
        as $$ insert into evil.called values ('unlock') $$;
    create function evil.pg_listening_channels() returns setof text language sql
        as $$ insert into evil.called values ('channels') returning null $$;
    create function evil.current_setting(text, boolean) returns text language sql as $$ select 'evil' $$;
    create view evil.pg_prepared_statements as select ''::text as name, false as from_sql where false;
    create view evil.pg_cursors as select ''::text as name where false;
    create schema app;
    create table app.kept (id int);
    create sequence app.numbers;
    select pg_catalog.lo_create(4242);
    create function app.leave(what text) returns void language plpgsql as $$ begin execute what; end $$;
    create function app.attempt(what text) returns text language plpgsql as $$
        declare found text;
        begin execute what into found; return found; exception when others then return 'none'; end $$;
";

/// What a session is like. It names everything by schema, so that no search path can deceive it.
const PORTRAIT: &str = r"
    select pg_catalog.json_build_object(
        'settings', (select pg_catalog.json_object_agg(name, setting order by name) from pg_catalog.pg_settings),
        'users', current_user || '/' || session_user,
        'custom', nullif(pg_catalog.current_setting('canary.custom', true), ''),
        'init', pg_catalog.current_setting('canary.init', true),
        'cursors', (select pg_catalog.json_agg(name) from pg_catalog.pg_cursors where name <> ''),
        'prepared', (select pg_catalog.json_agg(name) from pg_catalog.pg_prepared_statements where from_sql),
        'channels', (select pg_catalog.json_agg(c) from pg_catalog.pg_listening_channels() c),
        'locks', (select pg_catalog.count(*) from pg_catalog.pg_locks
            where pid = pg_catalog.pg_backend_pid() and locktype = 'advisory'),
        'temporary', (select pg_catalog.json_agg(relname order by relname) from pg_catalog.pg_class
            where relnamespace = pg_catalog.pg_my_temp_schema()),
        'functions', (select pg_catalog.count(*) from pg_catalog.pg_proc
            where pronamespace = pg_catalog.pg_my_temp_schema()),
        'last', app.attempt('select pg_catalog.lastval()'),
        'current', app.attempt($$ select pg_catalog.currval('app.numbers') $$),
        'object', app.attempt('select pg_catalog.loread(0, 1)'),
        'transaction', pg_catalog.pg_current_xact_id_if_assigned(),
        'fooled', (select pg_catalog.count(*) from evil.called),
        'kept', (select pg_catalog.count(*) from app.kept)
    )::text as portrait, pg_catalog.pg_backend_pid() as pid
";

/// How a way can be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// A statement, and a function that runs it.
    Anything,
    /// A function cannot.
    Statement,
    /// A statement that is not for transaction blocks.
    Alone,
}
use By::{Alone, Anything, Statement};

/// Ways to leave something behind.
const WAYS: &[(By, &str)] = &[
    (Anything, "set work_mem = '77kB'"),
    (Anything, "set local work_mem = '77kB'"),
    (Anything, "select set_config('work_mem', '77kB', false)"),
    (Anything, "set canary.custom = 'secret'"),
    (Anything, "select set_config('canary.custom', 'secret', false)"),
    (Anything, "set canary.init = 'changed'"),
    (Anything, "set role other"),
    (Anything, "select set_config('role', 'other', false)"),
    (Anything, "set session authorization other"),
    (Anything, "set search_path = evil, pg_catalog"),
    (
        Anything,
        "select set_config('search_path', 'evil, pg_catalog', false), pg_advisory_lock(7)",
    ),
    (Anything, "create temp table secret (a int)"),
    (Anything, "create temp table secret (a int) on commit delete rows"),
    (
        Anything,
        "create temp table secret on commit preserve rows as select 1 as a",
    ),
    (Anything, "create temp view secret as select 1 as a"),
    (Anything, "create temp sequence secret"),
    (
        Anything,
        "create function pg_temp.secret() returns int language sql as 'select 1'",
    ),
    (Anything, "drop table if exists pg_temp.begun"),
    (Anything, "prepare secret as select 1"),
    (Anything, "prepare \"se\"\"cret; select\" as select 1"),
    (Anything, "deallocate all"),
    (Alone, "discard all"),
    (Anything, "discard plans"),
    (Anything, "declare secret cursor with hold for select 1"),
    (Anything, "listen canary"),
    (Anything, "select pg_advisory_lock(7)"),
    (
        Anything,
        "select pg_advisory_lock(7), pg_advisory_lock(7), pg_advisory_lock_shared(8)",
    ),
    (Anything, "select pg_advisory_xact_lock(7)"),
    (Anything, "select nextval('app.numbers')"),
    (Anything, "set default_transaction_isolation = 'serializable'"),
    (
        Anything,
        "set session characteristics as transaction read only, isolation level serializable, deferrable",
    ),
    (Anything, "set statement_timeout = '2s'"),
    (Anything, "set lock_timeout = '1ms'"),
    (Anything, "set idle_in_transaction_session_timeout = '77s'"),
    (Anything, "set bytea_output = 'escape'"),
    (Anything, "set datestyle = 'german'"),
    (Anything, "set intervalstyle = 'iso_8601'"),
    (Anything, "set extra_float_digits = -3"),
    (Anything, "set timezone = 'Asia/Tokyo'"),
    (Anything, "set client_encoding = 'latin1'"),
    (Anything, "set client_encoding = 'sjis'"),
    (Anything, "set standard_conforming_strings = off"),
    (Anything, "set array_nulls = off"),
    (Anything, "set quote_all_identifiers = on"),
    (Anything, "set session_replication_role = 'replica'"),
    (Anything, "set application_name = 'another'"),
    (Anything, "set client_min_messages = 'debug1'"),
    (Anything, "set check_function_bodies = off"),
    (Anything, "set zero_damaged_pages = on"),
    (Anything, "load 'plpgsql'"),
    (Anything, "select lo_open(4242, 262144)"),
    (Statement, "copy app.kept from stdin"),
    (Statement, "begin"),
    (Statement, "savepoint secret"),
    (Statement, "select 1 / 0"),
    (Statement, "lock table app.kept in access exclusive mode"),
];

/// How a holder ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Plain,
    Committed,
    RolledBack,
    LeftOpen,
    Failed,
    /// The session is taken away while a statement runs.
    Cancelled,
    CancelledOpen,
}
use End::{Cancelled, CancelledOpen, Committed, Failed, LeftOpen, Plain, RolledBack};

impl End {
    fn script(self, sql: &str) -> Vec<String> {
        let sql = sql.to_owned();
        let also = |before: &str, after: &[&str]| {
            let after = after.iter().map(|&sql| sql.to_owned());
            [before.to_owned(), sql.clone()]
                .into_iter()
                .chain(after)
                .collect()
        };
        match self {
            Plain | Cancelled => vec![sql],
            Committed => also("begin", &["commit"]),
            RolledBack => also("begin", &["rollback"]),
            LeftOpen | CancelledOpen => also("begin", &[]),
            Failed => also("begin", &["select 1 / 0"]),
        }
    }
}

/// Who holds the session first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    OneShot,
    Lease,
    Opened,
}

/// A stage with everything that canaries need, and the portrait of an untouched session.
struct Cage {
    stage: Stage,
    beside: PgConnection,
    untouched: Value,
    pid: Value,
    /// What next holders found.
    faults: Vec<String>,
}

impl Cage {
    async fn of(reset: Reset) -> Self {
        let database = Database::fresh().await;
        let mut beside = database.connect().await;
        // Roles are the whole server's, which other tests share.
        let setup = SETUP.replace(
            "create role other;",
            "do $$ begin create role other; exception when duplicate_object or unique_violation then end $$;",
        );
        sqlx::raw_sql(AssertSqlSafe(setup))
            .execute(&mut beside)
            .await
            .unwrap();
        let app = App::start().await;
        let mut spec = definition(&database, 1);
        if let Some(Backend::Postgres(own)) = &mut spec.backend {
            own.set_reset(reset);
            own.parameters = [("search_path", "app, public"), ("work_mem", "1234kB")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
            own.init_sql = ["set canary.init = 'yes'", "create temp table begun (a int)"]
                .map(str::to_owned)
                .into();
        }
        create(&app.address, "db", spec).await;
        let broker = broker(&app.address);
        let stage = Stage {
            app,
            broker,
            database,
        };
        let mut cage = Self {
            stage,
            beside,
            untouched: Value::Null,
            pid: Value::Null,
            faults: Vec::new(),
        };
        let first = cage.portrait(Holder::OneShot).await;
        let settings = &first["portrait"]["settings"];
        assert_eq!(
            (&settings["work_mem"], &settings["search_path"]),
            (&json!("1234"), &json!("app, public"))
        );
        assert_eq!(
            (&first["portrait"]["init"], &first["portrait"]["temporary"]),
            (&json!("yes"), &json!(["begun"]))
        );
        (cage.untouched, cage.pid) = (first["portrait"].clone(), first["pid"].clone());
        cage
    }

    /// What the next holder finds; it must hear of nothing else.
    async fn portrait(&mut self, next: Holder) -> Value {
        let params = json!({ "sql": PORTRAIT, "rows": "json" }).to_string();
        let held = if next == Holder::OneShot {
            None
        } else {
            Some(lease(&mut self.stage.broker, "db").await.lease_token)
        };
        let request = match &held {
            None => one_shot("db", "query", &params),
            Some(token) => on_lease(token, "query", &params),
        };
        let said = events(&mut self.stage.broker, request).await.unwrap();
        let mut rows = Vec::new();
        for event in said {
            match event {
                event::Event::JsonText(text) => rows.push(text),
                event::Event::Accepted(_) | event::Event::End(_) => {}
                other => panic!("the next holder heard {other:?}"),
            }
        }
        if let Some(token) = held {
            release(&mut self.stage.broker, &token).await;
        }
        let found: Value = serde_json::from_str(&rows.join("")).unwrap();
        let portrait = found["portrait"].as_str().unwrap();
        json!({ "portrait": serde_json::from_str::<Value>(portrait).unwrap(), "pid": found["pid"] })
    }

    async fn hold(&mut self, holder: Holder, script: &[String], end: End) {
        match holder {
            Holder::OneShot => {
                let sql = script.join("; ");
                let call = self.stage.one("simple", json!({ "sql": sql }));
                drop(call.await);
            }
            Holder::Lease => {
                let token = lease(&mut self.stage.broker, "db").await.lease_token;
                for sql in script {
                    drop(self.stage.on(&token, "simple", json!({ "sql": sql })).await);
                }
                if matches!(end, Cancelled | CancelledOpen) {
                    let mut broker = self.stage.broker.clone();
                    let endless = on_lease(&token, "query", r#"{"sql":"select pg_sleep(600)"}"#);
                    let running = tokio::spawn(async move { execute(&mut broker, endless).await });
                    self.until_it_sleeps().await;
                    release(&mut self.stage.broker, &token).await;
                    running.await.unwrap().unwrap_err();
                } else {
                    release(&mut self.stage.broker, &token).await;
                }
            }
            Holder::Opened => {
                let mut opened = Opened::on(&mut self.stage.broker, "db").await;
                for sql in script {
                    opened.begin("simple", &json!({ "sql": sql }).to_string(), false);
                    drop(opened.answer().await);
                }
                if matches!(end, Cancelled | CancelledOpen) {
                    opened.begin("query", r#"{"sql":"select pg_sleep(600)"}"#, false);
                    self.until_it_sleeps().await;
                }
                match end {
                    CancelledOpen => drop(opened),
                    Cancelled => {
                        opened.cancel_latest();
                        opened.finish().await;
                    }
                    _ => opened.finish().await,
                }
            }
        }
    }

    /// A statement may have failed in between: then nothing sleeps, and nothing is waited for.
    async fn until_it_sleeps(&mut self) {
        let asleep = "select coalesce((select state = 'active' and wait_event = 'PgSleep' or state like '%aborted%' \
                      from pg_stat_activity where pid = $1), true) as asleep";
        let pid = i32::try_from(self.pid.as_i64().unwrap()).unwrap();
        loop {
            let row = sqlx::query(asleep)
                .bind(pid)
                .fetch_one(&mut self.beside)
                .await
                .unwrap();
            if row.get("asleep") {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes a way, ends, and looks at what is there: faults, if there is anything. The session must have survived it.
    async fn try_way(&mut self, holder: Holder, sql: &str, end: End) {
        let what = format!("{holder:?}, {end:?}: {sql}");
        let step = Duration::from_secs(30);
        let held = timeout(step, self.hold(holder, &end.script(sql), end)).await;
        held.unwrap_or_else(|_| panic!("{what}: nothing happens; so far {:#?}", self.faults));
        let next = if holder == Holder::OneShot {
            holder
        } else {
            Holder::Lease
        };
        let found = self.portrait(next).await;
        self.compare(&what, &found);
        let locks = "select pg_advisory_lock(7), pg_advisory_lock(8); select pg_advisory_unlock_all()";
        sqlx::raw_sql(locks).execute(&mut self.beside).await.unwrap();
        if sql.contains("listen") {
            // Whoever has come has got a washed session: a notification after that must reach nobody.
            let notify = sqlx::raw_sql("notify canary, 'secret'");
            notify.execute(&mut self.beside).await.unwrap();
            self.portrait(next).await;
        }
    }

    fn compare(&mut self, what: &str, found: &Value) {
        for (part, untouched) in self.untouched.as_object().unwrap() {
            let found = &found["portrait"][part];
            if found == untouched {
                continue;
            }
            let Some(settings) = untouched.as_object() else {
                self.faults.push(format!("{what}: {part} {found}"));
                continue;
            };
            let changed = settings.iter().filter(|(name, value)| &found[name] != *value);
            let changed = changed.map(|(name, _)| format!("{what}: {name} {}", found[name]));
            self.faults.extend(changed);
        }
        if found["pid"] != self.pid {
            // A stream that is reset discards its session.
            if !what.starts_with("Opened, CancelledOpen") {
                self.faults.push(format!("{what}: it cost the session"));
            }
            self.pid = found["pid"].clone();
        }
    }

    async fn try_all(&mut self, holder: Holder, ends: &[End]) {
        for &(by, sql) in WAYS {
            for &end in ends {
                if by == Alone && end != Plain && end != Cancelled {
                    continue;
                }
                self.try_way(holder, sql, end).await;
                if by == Anything {
                    let function = format!("select app.leave($leave${sql}$leave$)");
                    self.try_way(holder, &function, end).await;
                }
            }
        }
        assert!(self.faults.is_empty(), "{:#?}", self.faults);
    }
}

#[tokio::test]
async fn one_shot_finds_nothing_of_the_one_before() {
    let mut cage = Cage::of(Reset::Full).await;
    cage.try_all(Holder::OneShot, &[Plain, Committed, RolledBack, LeftOpen, Failed])
        .await;
}

#[tokio::test]
async fn lease_finds_nothing_of_the_one_before() {
    let mut cage = Cage::of(Reset::Full).await;
    cage.try_all(
        Holder::Lease,
        &[
            Plain,
            Committed,
            RolledBack,
            LeftOpen,
            Failed,
            Cancelled,
            CancelledOpen,
        ],
    )
    .await;
}

#[tokio::test]
async fn lease_finds_nothing_of_an_open_session_before() {
    let mut cage = Cage::of(Reset::Full).await;
    cage.try_all(Holder::Opened, &[Plain, Cancelled, CancelledOpen])
        .await;
}

#[tokio::test]
async fn weaker_reset_still_washes_after_leases() {
    let mut cage = Cage::of(Reset::Transaction).await;
    cage.try_all(Holder::Lease, &[Plain, LeftOpen]).await;
    cage.try_all(Holder::Opened, &[LeftOpen]).await;
}
