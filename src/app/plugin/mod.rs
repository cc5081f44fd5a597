//! `sublet plugin test`: speaks to a driver as the broker would, and says what it does that the protocol does not
//! allow.

mod asked;
mod cancels;
mod checks;
mod remains;
mod report;
mod session;
mod subject;

use std::io::{self, Write as _};

use futures_util::{FutureExt as _, future::LocalBoxFuture};

pub(super) use self::asked::Asked;
use self::{
    report::{Checked, Report, Verdict},
    subject::Subject,
};
use super::exit::Exit;
use crate::clock::Clock;

/// Tests a driver, and prints a line for each check.
pub(super) fn test(asked: &Asked) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit::internal("cannot start", error))?;
    let clock = Clock::real();
    let mut subject = Subject::new(asked, &clock)?;
    let mut report = Report::new(clock, print);
    runtime.block_on(async {
        conform(&mut subject, &mut report).await;
        report.verdict()
    })
}

/// A check of a driver.
type Check = for<'a> fn(&'a Subject) -> LocalBoxFuture<'a, Checked>;

/// What comes before the calls of the driver's own.
const BEFORE: [(&str, Check); 4] = [
    ("connect", |subject| checks::connects(subject).boxed_local()),
    ("check", |subject| checks::checks(subject).boxed_local()),
    ("unknown session", |subject| {
        checks::knows_its_sessions(subject).boxed_local()
    }),
    ("unknown operation", |subject| {
        checks::knows_its_operations(subject).boxed_local()
    }),
];

/// What comes after them.
const AFTER: [(&str, Check); 10] = [
    ("stateless", |subject| {
        remains::are_described(subject).boxed_local()
    }),
    ("cancel", |subject| cancels::is_waited_for(subject).boxed_local()),
    ("cancel, call dropped", |subject| {
        cancels::leaves_the_session(subject).boxed_local()
    }),
    ("late cancel", |subject| {
        cancels::spares_later_calls(subject).boxed_local()
    }),
    ("call after its cancel", |subject| {
        cancels::refuses_a_late_call(subject).boxed_local()
    }),
    ("connection killed", |subject| {
        cancels::survives_a_kill(subject).boxed_local()
    }),
    ("connect dropped", |subject| {
        cancels::leaves_nothing_of_a_dropped_connect(subject).boxed_local()
    }),
    ("sessions apart", |subject| {
        remains::stay_apart(subject).boxed_local()
    }),
    ("reset", |subject| remains::are_reset(subject).boxed_local()),
    ("disconnect", |subject| checks::disconnects(subject).boxed_local()),
];

/// Every check, in an order in which each can rely on those before it; to the end of the driver, if it dies.
async fn conform(subject: &mut Subject, report: &mut Report) {
    if !report.step("describe", checks::describes(subject)).await {
        return;
    }
    for (name, check) in BEFORE {
        if !report.step(name, check(subject)).await
            && (name == "connect" || is_dead(subject, report, name).await)
        {
            return;
        }
    }
    let runs = subject.runs();
    if runs.is_empty() {
        let why = "Describe has no example that is RUN: add one, or give --run NAME=JSON";
        report
            .step("run", async { Ok(Verdict::Skip(why.to_owned())) })
            .await;
    }
    for example in runs {
        let name = format!("run {}", example.operation);
        if !report.step(&name, checks::runs(subject, &example)).await && is_dead(subject, report, &name).await
        {
            return;
        }
    }
    for (name, check) in AFTER {
        if !report.step(name, check(subject)).await && is_dead(subject, report, name).await {
            return;
        }
    }
    report
        .step("lives on", checks::lives_on(subject, "all this"))
        .await;
}

/// Whether the driver has not outlived a check that failed, which is told then.
async fn is_dead(subject: &Subject, report: &mut Report, check: &str) -> bool {
    checks::lives_on(subject, check).await.is_err()
        && !report.step("lives on", checks::lives_on(subject, check)).await
}

fn print(line: &str) {
    // `sublet plugin test | head` is no fault.
    writeln!(io::stdout(), "{line}").ok();
}
