//! Scripts and properties of the lease table, and the reaper under paused time.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Time {
    Time::ZERO + SECOND * u32::try_from(seconds).unwrap()
}

fn bounds() -> Bounds {
    Bounds {
        default_ttl: SECOND * 30,
        min_ttl: SECOND * 5,
        max_ttl: SECOND * 60,
        max_duration: SECOND * 100,
    }
}

fn terms(ttl: Option<Duration>, bound: bool) -> Terms {
    Terms {
        bounds: bounds(),
        ttl,
        bound,
    }
}

fn table_with_one(ttl: Option<Duration>) -> (Table<u64>, u64) {
    let mut table = Table::default();
    let (id, _) = table.grant(at(0), terms(ttl, false), |id| id);
    (table, id)
}

#[test]
fn ttl_is_clamped_never_refused() {
    let mut table = Table::default();
    let mut granted = |ttl| table.grant(at(0), terms(ttl, false), |id: u64| id).1.ttl;
    assert_eq!(granted(None), SECOND * 30);
    assert_eq!(granted(Some(SECOND)), SECOND * 5);
    assert_eq!(granted(Some(SECOND * 1000)), SECOND * 60);
}

#[test]
fn silent_lease_expires_and_is_remembered_for_ten_minutes() {
    let (mut table, id) = table_with_one(None);
    assert!(table.tick(at(29)).is_empty());
    let overdue = table.tick(at(30));
    assert_eq!(
        overdue,
        [Overdue {
            end: End::Expired,
            ended: Ended::Idle(id)
        }]
    );
    assert_eq!(table.renew(at(31), id, None), Err(End::Expired));
    table.tick(at(631));
    assert_eq!(table.renew(at(631), id, None), Err(End::NotFound));
}

#[test]
fn renewal_extends_but_never_past_the_hard_limit() {
    let (mut table, id) = table_with_one(Some(SECOND * 60));
    let status = table.renew(at(50), id, None).unwrap();
    assert_eq!(status.ttl, SECOND * 50);
    assert_eq!(table.next_deadline(), at(60), "its old end is looked at");
    assert!(table.tick(at(60)).is_empty(), "but is its end no more");
    assert_eq!(table.next_deadline(), at(100));
    assert_eq!(table.tick(at(100))[0].end, End::HardLimit);
}

#[test]
fn shorter_ttl_brings_the_end_forward() {
    let (mut table, id) = table_with_one(Some(SECOND * 60));
    table.renew(at(1), id, Some(SECOND * 10)).unwrap();
    assert_eq!(table.next_deadline(), at(11));
    assert_eq!(table.tick(at(11))[0].end, End::Expired);
}

#[test]
fn clock_stops_while_a_call_runs_and_restarts_in_full() {
    let (mut table, id) = table_with_one(None);
    assert_eq!(table.begin(at(20), id), Ok(true));
    assert!(table.tick(at(60)).is_empty(), "it runs, so it lives");
    let status = table.finish(at(60), id).unwrap();
    assert_eq!(status.ttl, SECOND * 30);
    assert_eq!(table.tick(at(90))[0].end, End::Expired);
}

#[test]
fn hard_limit_ends_a_running_call_which_learns_it_at_its_end() {
    let (mut table, id) = table_with_one(None);
    assert_eq!(table.begin(at(1), id), Ok(true));
    assert_eq!(table.tick(at(100))[0].ended, Ended::Running(id));
    assert_eq!(table.finish(at(101), id), Err(End::HardLimit));
}

#[test]
fn second_call_on_a_lease_is_told_that_it_is_busy() {
    let (mut table, id) = table_with_one(None);
    assert_eq!(table.begin(at(0), id), Ok(true));
    assert_eq!(table.begin(at(0), id), Ok(false));
}

#[test]
fn late_timer_does_not_prolong_a_lease() {
    let (mut table, id) = table_with_one(None);
    assert_eq!(table.begin(at(31), id), Err(End::Expired));
    assert_eq!(table.renew(at(31), id, None), Err(End::Expired));
}

#[test]
fn first_end_counts() {
    let (mut table, id) = table_with_one(None);
    assert_eq!(table.end(at(1), id, End::Released), Ended::Idle(id));
    assert_eq!(table.end(at(2), id, End::Revoked), Ended::Before(End::Released));
}

#[test]
fn bound_lease_has_no_ttl_but_a_hard_limit() {
    let mut table = Table::default();
    table.grant(at(0), terms(None, true), |id: u64| id);
    assert!(table.tick(at(99)).is_empty());
    assert_eq!(table.tick(at(100))[0].end, End::HardLimit);
}

#[test]
fn wave_of_expiries_is_ended_in_bounded_steps() {
    let mut table = Table::default();
    for _ in 0..1000 {
        table.grant(at(0), terms(None, false), |id: u64| id);
    }
    let mut steps = Vec::new();
    while table.next_deadline() <= at(30) {
        steps.push(table.tick(at(30)).len());
    }
    assert_eq!(steps, [256, 256, 256, 232]);
}

#[test]
fn token_proves_its_lease_and_nothing_else() {
    let tokens = Tokens::new("0", 7).unwrap();
    let token = tokens.token(42);
    assert_eq!(tokens.check(&token), Claim::Ours(42));
    assert_eq!(tokens.check(&tokens.token(43)), Claim::Ours(43));
    let forged = token.replace(".42.", ".43.");
    assert_eq!(tokens.check(&forged), Claim::Foreign);
    let cut = token.get(..token.len() - 2).unwrap();
    assert_eq!(tokens.check(cut), Claim::Foreign);
    assert_eq!(tokens.check("sl1.0.6.42.00"), Claim::OtherBoot);
    assert_eq!(tokens.check("sl1.0.8.42.00"), Claim::Foreign);
    assert_eq!(tokens.check(""), Claim::Foreign);
    assert!(!format!("{tokens:?}").contains("key"));
}

#[tokio::test(start_paused = true)]
async fn reaper_wakes_for_a_lease_that_is_due_sooner() {
    let leases = Arc::new(Leases::new(Clock::tokio()));
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let reaper = tokio::spawn({
        let leases = Arc::clone(&leases);
        async move { leases.reap(|overdue| ended.send(overdue.end).unwrap()).await }
    });
    leases.grant(terms(Some(SECOND * 60), false), |id| id);
    tokio::task::yield_now().await;
    leases.grant(terms(Some(SECOND * 10), false), |id| id);
    assert_eq!(ends.recv().await, Some(End::Expired));
    assert_eq!(leases.list(|_| true).len(), 1, "the longer one lives");
    leases.when_empty_after(End::Released).await;
    reaper.abort();
}

impl Leases<u64> {
    async fn when_empty_after(&self, end: End) {
        for lease in self.list(|_| true) {
            self.end(lease.id, end);
        }
        self.when_empty().await;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Grant(bool),
    Begin(u64),
    Finish(u64),
    Renew(u64, u32),
    End(u64),
    Tick,
    Pass(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        any::<bool>().prop_map(Step::Grant),
        (1..8_u64).prop_map(Step::Begin),
        (1..8_u64).prop_map(Step::Finish),
        (1..8_u64, 0..100_u32).prop_map(|(id, ttl)| Step::Renew(id, ttl)),
        (1..8_u64).prop_map(Step::End),
        Just(Step::Tick),
        (0..40_u32).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever happens: the deadlines are exactly those of live leases, nothing outlives its hard limit past a
    /// tick, and each lease is handed to exactly one side to be taken care of.
    #[test]
    fn each_end_has_exactly_one_owner(steps in steps()) {
        let mut table = Table::default();
        let mut now = Time::ZERO;
        let mut running = std::collections::HashSet::new();
        let mut owned = std::collections::HashMap::<u64, u32>::new();
        for step in steps {
            match step {
                Step::Grant(bound) => { table.grant(now, terms(None, bound), |id: u64| id); }
                Step::Begin(id) => if table.begin(now, id) == Ok(true) {
                    prop_assert!(running.insert(id), "two calls ran on one lease");
                },
                Step::Finish(id) => if running.remove(&id) && table.finish(now, id).is_err() {
                    *owned.entry(id).or_default() += 1;
                },
                Step::Renew(id, ttl) => { table.renew(now, id, Some(SECOND * ttl)).ok(); }
                Step::End(id) => if let Ended::Idle(id) = table.end(now, id, End::Revoked) {
                    *owned.entry(id).or_default() += 1;
                },
                Step::Tick => for overdue in table.tick(now) {
                    if let Ended::Idle(id) = overdue.ended { *owned.entry(id).or_default() += 1; }
                },
                Step::Pass(seconds) => now = now + SECOND * seconds,
            }
            prop_assert!(owned.values().all(|times| *times == 1));
            let listed = table.list(now, |_| true);
            prop_assert_eq!(listed.iter().filter(|lease| lease.running).count(),
                running.iter().filter(|id| table.find(**id).is_ok()).count());
        }
    }
}
