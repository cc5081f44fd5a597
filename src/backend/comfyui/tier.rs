//! Which sessions an operation runs on. Nothing waits for what may take longer than itself: who wants to cancel a prompt
//! neither for the slot it runs on, nor for those who wait for its end, nor for a slow download.

use super::plan::{Control, Plan};

/// Waits for prompts at one box. They share their questions, so many cost it little ([`super::looks::Looks`]); beyond
/// it they take turns.
const WAITS: u32 = 64;
/// Files and documents on their way at one box, as fast as their callers take them: each costs it a connection and the
/// work of sending.
const TRANSFERS: u32 = 4;
/// Short questions and requests at one box at a time.
const WORDS: u32 = 4;

/// The sessions at each box, from those that work longest to those that work shortest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// Prompts run on them.
    Slots,
    /// `wait`.
    Waits,
    /// What moves files, or documents of any length.
    Transfers,
    /// What a box answers at once.
    Words,
}

impl Tier {
    /// Those on which an operation runs.
    pub(super) const fn of(plan: &Plan) -> Self {
        match plan {
            Plan::Prompt(_) => Self::Slots,
            Plan::Control(Control::Wait(_)) => Self::Waits,
            Plan::Control(
                Control::Validate(_)
                | Control::Upload(_)
                | Control::View(_)
                | Control::Fetch(_)
                | Control::ObjectInfo(_)
                | Control::Raw(_),
            ) => Self::Transfers,
            Plan::Control(
                Control::Status(_)
                | Control::Queue
                | Control::Cancel(_)
                | Control::SystemStats
                | Control::Free(_),
            ) => Self::Words,
        }
    }

    /// How far beside the slots they are.
    pub(super) const fn distance(self) -> u8 {
        match self {
            Self::Slots => 0,
            Self::Waits => 1,
            Self::Transfers => 2,
            Self::Words => 3,
        }
    }

    /// Those beside these, and how many there are.
    pub(super) const fn beside(self) -> Option<(Self, u32)> {
        match self {
            Self::Slots => Some((Self::Waits, WAITS)),
            Self::Waits => Some((Self::Transfers, TRANSFERS)),
            Self::Transfers => Some((Self::Words, WORDS)),
            Self::Words => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tier_is_as_far_beside_the_slots_as_it_says() {
        let (mut tier, mut steps) = (Tier::Slots, 0);
        while let Some((next, _)) = tier.beside() {
            (tier, steps) = (next, steps + 1);
            assert_eq!(tier.distance(), steps);
        }
        assert_eq!(tier, Tier::Words);
    }
}
