//! The lock that the exchange is built on. It has a file of its own so that the schedule test can put one in its
//! place whose every step a scheduler explores.

pub(crate) use parking_lot::Mutex;
