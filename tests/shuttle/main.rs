//! Schedules: shuttle runs the pool's exchange, with its real core, under many thousands of interleavings. It sees
//! only its own primitives, so the exchange is compiled here once more, with shuttle's lock in place of the usual
//! one; a planted race shows that it looks.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the library uses more of the exchange than these schedules do"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a schedule that surprises must stop"
)]

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use pool::{
    core::{Core, Numbers, Release},
    exchange::{Answer, Exchange, Job, Seat, Ticket, Todo},
};
use shuttle::{future::block_on, sync::Mutex, thread};
use sublet::{
    clock::Time,
    pool::{Ending, Priority, Refusal, Request, Settings},
};

mod pool;

mod backend {
    pub(crate) use sublet::backend::{DialError, DialErrorKind, Fence, Load};
}

mod clock {
    pub(crate) use sublet::clock::{Time, nanos};
}

const NOW: Time = Time::from_nanos(1_000_000_000);

/// An exchange of sessions that are numbers, and who holds each.
struct Market {
    exchange: Exchange<u64>,
    holders: Mutex<HashMap<u64, u64>>,
}

impl Market {
    fn open(sessions: u32) -> Arc<Self> {
        let settings = Settings {
            min_sessions: sessions,
            max_sessions: sessions,
            max_idle: sessions,
            health: None,
            ..Settings::default()
        };
        let (exchange, todo) = Exchange::new(
            Core::new(NOW, Numbers::of_boot(1), 2, settings),
            "m-1-".to_owned(),
        );
        let holders = Mutex::default();
        let market = Arc::new(Self { exchange, holders });
        market.finish(todo);
        market
    }

    /// As the shell does it, but with backends that answer at once.
    fn finish(&self, todo: Todo<u64>) {
        todo.wake.into_iter().chain(todo.wake_too).for_each(Waker::wake);
        for job in todo.jobs {
            let next = match job {
                Job::Dial(new) => {
                    let session = new.face.id.rsplit('-').next().unwrap().parse().unwrap();
                    self.exchange.dialed(NOW, Seat::new(new.key, session, new.face))
                }
                Job::Probe(seat) => self.exchange.probed(NOW, seat, true),
                Job::Restore { seat, .. } => self.exchange.restored(NOW, seat, true),
                Job::Close(seat) => self.exchange.closed(NOW, seat.key()),
            };
            self.finish(next);
        }
    }

    fn ask(self: &Arc<Self>, cautious: bool) -> Asking {
        let request = Request {
            asked: NOW,
            deadline: Time::NEVER,
            wait: true,
            priority: Priority::Normal,
            client: None,
            endpoint: None,
            beside: 0,
        };
        // Its own waker comes with its first poll; asking and waiting are two steps here, so that one can go between.
        let mut todo = None;
        let answer = self.exchange.acquire(&request, Waker::noop(), &mut todo);
        todo.into_iter().for_each(|todo| self.finish(todo));
        let (answer, ticket) = match answer {
            Answer::Granted(granted) => (Some(Ok(granted)), None),
            Answer::Refused(refusal) => (Some(Err(refusal)), None),
            Answer::Waiting(ticket) => (None, Some(ticket)),
        };
        Asking {
            market: Arc::clone(self),
            answer,
            ticket,
            cautious,
        }
    }

    /// Holds a session for a while, and sees that nobody else does.
    fn use_and_give_back(&self, seat: Box<Seat<u64>>, how: Release) {
        let number = seat.grant.number;
        let before = self.holders.lock().unwrap().insert(seat.session, number);
        assert_eq!(before, None, "one holder at a time");
        assert_eq!(seat.face.fence.number(), number, "the fence is the holder's");
        thread::yield_now();
        self.holders.lock().unwrap().remove(&seat.session);
        seat.face.fence.shut();
        let todo = self.exchange.give_back(NOW, seat, how);
        todo.into_iter().for_each(|todo| self.finish(todo));
    }

    fn at_rest(&self, sessions: u32) {
        let stats = self.exchange.look(Core::stats);
        assert_eq!(
            (stats.waiters, stats.active, stats.total, stats.idle),
            (0, 0, sessions, sessions)
        );
        assert_eq!(stats.acquires, stats.granted + stats.refused + stats.cancelled);
    }
}

/// A waiting caller, as `Acquire` is one. One that is not cautious has the planted race.
struct Asking {
    market: Arc<Market>,
    answer: Option<Result<Box<Seat<u64>>, Refusal>>,
    ticket: Option<Ticket>,
    cautious: bool,
}

impl Future for Asking {
    type Output = Result<Box<Seat<u64>>, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(answer) = self.answer.take() {
            return Poll::Ready(answer);
        }
        let Some(ticket) = self.ticket else {
            return Poll::Pending;
        };
        if !self.cautious && self.market.exchange.poll(ticket, Waker::noop()).is_none() {
            // The planted race: it has looked, and now it registers, without a look at what came in between.
            drop(self.market.exchange.poll(ticket, cx.waker()));
            return Poll::Pending;
        }
        let Some(outcome) = self.market.exchange.poll(ticket, cx.waker()) else {
            return Poll::Pending;
        };
        self.ticket = None;
        Poll::Ready(outcome)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let todo = self.market.exchange.cancel(NOW, ticket);
            self.market.finish(todo);
        }
    }
}

fn patient(market: &Arc<Market>, how: Release, cautious: bool) -> thread::JoinHandle<()> {
    let market = Arc::clone(market);
    thread::spawn(move || {
        for _ in 0..2 {
            let granted = block_on(market.ask(cautious)).expect("nobody refuses");
            market.use_and_give_back(granted, how);
        }
    })
}

/// Asks, looks once, and goes away: with its session if it has one by then.
fn fickle(market: &Arc<Market>) -> thread::JoinHandle<()> {
    let market = Arc::clone(market);
    thread::spawn(move || {
        for _ in 0..2 {
            let mut asking = market.ask(true);
            thread::yield_now();
            if let Poll::Ready(Ok(granted)) =
                Pin::new(&mut asking).poll(&mut Context::from_waker(Waker::noop()))
            {
                market.use_and_give_back(granted, Release::Clean);
            }
            drop(asking);
        }
    })
}

fn hand_off(cautious: bool) {
    let market = Market::open(1);
    let threads = [
        patient(&market, Release::Clean, cautious),
        patient(&market, Release::Broken, cautious),
        patient(&market, Release::Dirty, cautious),
        fickle(&market),
    ];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    market.at_rest(1);
}

#[test]
fn no_schedule_loses_a_session_or_a_waiter() {
    shuttle::check_random(|| hand_off(true), 800);
    shuttle::check_pct(|| hand_off(true), 400, 3);
}

#[test]
fn no_schedule_leaves_anything_behind_when_the_pool_ends() {
    let run = || {
        let market = Market::open(2);
        let users: Vec<_> = (0..3)
            .map(|_| {
                let market = Arc::clone(&market);
                thread::spawn(move || {
                    if let Ok(granted) = block_on(market.ask(true)) {
                        market.use_and_give_back(granted, Release::Clean);
                    }
                })
            })
            .collect();
        let fickle = fickle(&market);
        let ((), todo) = market
            .exchange
            .order(|core| core.refuse_new(NOW, Ending::Deleted));
        market.finish(todo);
        users
            .into_iter()
            .chain([fickle])
            .for_each(|thread| thread.join().unwrap());
        market.at_rest(0);
    };
    shuttle::check_random(run, 800);
}

/// If this passes without a panic, shuttle explores nothing.
#[test]
#[should_panic = "deadlock"]
fn a_planted_race_is_found() {
    shuttle::check_random(|| hand_off(false), 800);
}
