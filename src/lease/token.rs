//! Lease tokens: `sl1.<replica>.<boot>.<lease id>.<secret>`. The secret is an HMAC of the id under a key of this boot,
//! so that a repeated request can be given the same token and nothing secret is stored anywhere.

use std::fmt;

use ring::{hmac, rand::SystemRandom};

/// Bytes of the HMAC that a token carries: 192 bits.
const SECRET_BYTES: usize = 24;

/// Makes and checks this boot's tokens.
pub struct Tokens {
    key: hmac::Key,
    replica: String,
    boot: u32,
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is a lease of this boot, and the secret is right.
    Ours(u64),
    /// It has the form of a token of another boot of this broker: its session is gone.
    OtherBoot,
    /// It is nothing of ours.
    Foreign,
}

impl Tokens {
    /// Tokens of a boot, under a fresh random key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(replica: &str, boot: u32) -> Result<Self, ring::error::Unspecified> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        Ok(Self {
            key,
            replica: replica.to_owned(),
            boot,
        })
    }

    /// The public id of lease `id`.
    #[must_use]
    pub fn public_id(&self, id: u64) -> String {
        format!("{}.{}.{id}", self.replica, self.boot)
    }

    /// The number of the lease with this public id, if it is of this boot.
    #[must_use]
    pub fn parse_public(&self, public: &str) -> Option<u64> {
        let mut parts = public.split('.');
        let (replica, boot, id) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = replica == self.replica && boot.parse() == Ok(self.boot) && parts.next().is_none();
        ours.then(|| id.parse().ok()).flatten()
    }

    /// The token of lease `id`.
    #[must_use]
    pub fn token(&self, id: u64) -> String {
        let mut token = format!("sl1.{}.", self.public_id(id));
        token.extend(self.secret(id).map(char::from));
        token
    }

    /// What a token says. The secret is compared in constant time.
    #[must_use]
    pub fn check(&self, token: &str) -> Claim {
        let Some((public, secret)) = token.strip_prefix("sl1.").and_then(|rest| rest.rsplit_once('.')) else {
            return Claim::Foreign;
        };
        let Some(id) = self.parse_public(public) else {
            return self.other_boot(public);
        };
        if same(&self.secret(id), secret.as_bytes()) {
            Claim::Ours(id)
        } else {
            Claim::Foreign
        }
    }

    /// Whether it looks like a token that an earlier boot of this replica gave out. Its secret cannot be checked any
    /// more; what such a caller learns is only that the broker was restarted.
    fn other_boot(&self, public: &str) -> Claim {
        let mut parts = public.split('.');
        let replica = parts.next();
        let boot = parts.next().and_then(|boot| boot.parse::<u32>().ok());
        let id = parts.next().and_then(|id| id.parse::<u64>().ok());
        match (boot, id) {
            (Some(boot), Some(_)) if boot < self.boot && replica == Some(&self.replica) => Claim::OtherBoot,
            _ => Claim::Foreign,
        }
    }

    /// The secret of lease `id`, in hex.
    fn secret(&self, id: u64) -> [u8; SECRET_BYTES * 2] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let tag = hmac::sign(&self.key, &id.to_be_bytes());
        let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or_default();
        let mut text = [0; SECRET_BYTES * 2];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(tag.as_ref()) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        text
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("replica", &self.replica)
            .field("boot", &self.boot)
            .finish_non_exhaustive()
    }
}

/// Compares without a data-dependent branch: the differences are collected, and looked at once.
fn same(left: &[u8], right: &[u8]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0_u8, |found, (left, right)| found | (left ^ right));
    std::hint::black_box(difference) == 0 && left.len() == right.len()
}
