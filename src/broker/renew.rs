//! `RenewLease`, `KeepAlive` and `ReleaseLease`. An ended lease is an answer here, not an error.

use std::{sync::Arc, time::Duration};

use super::Broker;
use crate::lease::{Claim, End, Status};

/// A lease's life after a renewal.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// The lease's public id; empty for what is not a token of ours.
    pub id: String,
    /// Its life, or how it ended.
    pub status: Result<Status, End>,
}

impl Broker {
    /// Extends a lease by its ttl, or by a new one.
    #[must_use]
    pub fn renew(&self, token: &str, ttl: Option<Duration>) -> Renewed {
        match self.tokens.check(token) {
            Claim::Ours(number) => Renewed {
                id: self.tokens.public_id(number),
                status: self.leases.renew(number, ttl),
            },
            Claim::OtherBoot => Renewed {
                id: String::new(),
                status: Err(End::SessionLost),
            },
            Claim::Foreign => Renewed {
                id: String::new(),
                status: Err(End::NotFound),
            },
        }
    }

    /// Gives a lease back; a running call is cut. Returns what ended it: this, or whatever came first.
    pub fn release(self: &Arc<Self>, token: &str, discard: bool) -> End {
        match self.tokens.check(token) {
            Claim::Ours(number) => self.end_lease(number, End::Released, discard),
            Claim::OtherBoot => End::SessionLost,
            Claim::Foreign => End::NotFound,
        }
    }

    /// Takes a lease away by its public id. Returns what ended it: this, or whatever came first.
    pub fn revoke(self: &Arc<Self>, public_id: &str) -> End {
        match self.tokens.parse_public(public_id) {
            Some(number) => self.end_lease(number, End::Revoked, false),
            None => End::NotFound,
        }
    }

    /// Gives back a lease whose grant never reached its caller.
    pub fn release_unseen(&self, number: u64) {
        self.end_lease(number, End::Released, false);
    }

    /// The token of a lease.
    #[must_use]
    pub fn token(&self, number: u64) -> String {
        self.tokens.token(number)
    }
}
