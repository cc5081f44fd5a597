//! What a holder leaves behind, and who finds it.

use super::{
    checks::{end, fine},
    report::{Checked, Verdict},
    subject::{Session, Subject},
};
use crate::proto::plugin::{Example, example::Purpose, reset_response::Outcome};

const NONE: &str = "Describe has no examples that are DIRTY and LOOK: add them, or give --dirty NAME=JSON and --look NAME=JSON";

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
    async fn leave(&self, subject: &Subject, session: &mut Session) -> Result<Vec<u8>, String> {
        let fresh = subject.run(session, &self.look).await?;
        subject.run(session, &self.dirty).await?;
        if subject.run(session, &self.look).await? == fresh {
            return Err(format!(
                "`{}` (LOOK) answers the same before and after `{}` (DIRTY): with these examples nothing can be shown",
                self.look.operation, self.dirty.operation
            ));
        }
        Ok(fresh)
    }
}

/// What is left on one session is not found on another.
pub(super) async fn stay_apart(subject: &Subject) -> Checked {
    let Some(pair) = pair(subject) else {
        return Ok(Verdict::Skip(NONE.to_owned()));
    };
    let mut session = subject.session().await?;
    let fresh = pair.leave(subject, &mut session).await?;
    // It may be the only one that there is room for.
    end(subject, &mut session).await?;
    let mut other = subject.session().await?;
    let found = subject.run(&mut other, &pair.look).await?;
    end(subject, &mut other).await?;
    if found != fresh {
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
    let mut session = subject.session().await?;
    let fresh = pair.leave(subject, &mut session).await?;
    let answer = subject.reset(&mut session).await?;
    if answer.outcome() != Outcome::Clean {
        end(subject, &mut session).await?;
        return Ok(Verdict::Ok("the driver has sessions closed instead".to_owned()));
    }
    if subject.run(&mut session, &pair.look).await? != fresh {
        return Err(
            "Reset answered CLEAN, and the session still shows what was left on it; the protocol has CLEAN for what is \
             proven clean, else CLOSE"
                .to_owned(),
        );
    }
    end(subject, &mut session).await?;
    fine()
}
