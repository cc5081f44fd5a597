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
        use fmt::Write as _;
        let mut token = format!("sl1.{}.", self.public_id(id));
        for byte in self.secret(id).as_ref().iter().take(SECRET_BYTES) {
            // Writing to a String cannot fail.
            write!(token, "{byte:02x}").ok();
        }
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
        let tag = self.secret(id);
        let right = tag.as_ref().get(..SECRET_BYTES).unwrap_or_default();
        let matches =
            decode_hex(secret).is_some_and(|given| given.len() == SECRET_BYTES && same(right, &given));
        if matches { Claim::Ours(id) } else { Claim::Foreign }
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

    fn secret(&self, id: u64) -> hmac::Tag {
        hmac::sign(&self.key, &id.to_be_bytes())
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

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}
