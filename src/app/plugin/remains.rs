//! What a holder leaves behind, and who finds it.

use super::{
    checks::fine,
    report::{Checked, Verdict},
    session::{Said, Session},
    subject::Subject,
};
use crate::proto::plugin::{Example, example::Purpose, reset_response::Outcome};

const NONE: &str = "Describe has no examples that are DIRTY and LOOK: add them, or give --dirty NAME=JSON and --look NAME=JSON";
const NO_LOOK: &str = "Describe has no example that is LOOK: add one, or give --look NAME=JSON";

struct Pair {
    dirty: Example,
    look: Example,
}

fn pair(subject: &Subject) -> Option<Pair> {
    let (dirty, look) = (subject.example(Purpose::Dirty)?, subject.example(Purpose::Look)?);
    Some(Pair { dirty, look })
}

impl Pair {
    /// What a fresh session says, after which something is left on it that shows.
    async fn leave(&self, session: &mut Session<'_>) -> Result<Said, String> {
        let fresh = session.run(&self.look).await?;
        session.run(&self.dirty).await?;
        if session.run(&self.look).await? == fresh {
            return Err(format!(
                "`{}` (LOOK) answers the same before and after `{}` (DIRTY): with these examples nothing can be shown",
                self.look.operation, self.dirty.operation
            ));
        }
        Ok(fresh)
    }
}

/// What is described as stateless leaves nothing, since no Reset follows it.
pub(super) async fn are_described(subject: &Subject) -> Checked {
    let Some(look) = subject.example(Purpose::Look) else {
        return Ok(Verdict::Skip(NO_LOOK.to_owned()));
    };
    let mut examples = subject.runs();
    examples.extend(subject.example(Purpose::Dirty));
    let stateless = |example: &Example| {
        let described = subject.operation(&example.operation);
        described.is_some_and(|operation| operation.stateless)
    };
    for example in examples.into_iter().filter(stateless) {
        let check = async |session: &mut Session<'_>| {
            let fresh = session.run(&look).await?;
            // Whether it ends well has been checked; it may leave something either way.
            let _ran = session.run(&example).await;
            Ok(session.run(&look).await? == fresh)
        };
        if !subject.with_session(check).await? {
            return Err(format!(
                "`{}` is described as `stateless`, and `{}` (LOOK) shows what it left; the protocol has no Reset behind \
                 such an operation, so that the next holder would find it",
                example.operation, look.operation
            ));
        }
    }
    fine()
}

/// What is left on one session is not found on another.
pub(super) async fn stay_apart(subject: &Subject) -> Checked {
    let Some(pair) = pair(subject) else {
        return Ok(Verdict::Skip(NONE.to_owned()));
    };
    // One after the other: there may be room for one only.
    let leave = async |session: &mut Session<'_>| pair.leave(session).await;
    let fresh = subject.with_session(leave).await?;
    let look = async |session: &mut Session<'_>| session.run(&pair.look).await;
    if subject.with_session(look).await? != fresh {
        return Err(
            "a new session shows what was left on another one: state leaks between sessions".to_owned(),
        );
    }
    fine()
}

/// What is left on a session is gone after a Reset that says CLEAN.
pub(super) async fn are_reset(subject: &Subject) -> Checked {
    let Some(pair) = pair(subject) else {
        return Ok(Verdict::Skip(NONE.to_owned()));
    };
    let check = async |session: &mut Session<'_>| {
        let fresh = pair.leave(session).await?;
        if session.reset().await?.outcome() != Outcome::Clean {
            return Ok("the driver has sessions closed instead");
        }
        if session.run(&pair.look).await? != fresh {
            return Err(
                "Reset answered CLEAN, and the session still shows what was left on it; the protocol has CLEAN for what \
                 is proven clean, else CLOSE"
                    .to_owned(),
            );
        }
        Ok("")
    };
    let more = subject.with_session(check).await?;
    Ok(Verdict::Ok(more.to_owned()))
}
