//! Whether calls end when they are told to, and the driver lives on.

use super::{
    checks::{end, fine, must_be_unknown},
    report::{Checked, Took, Verdict},
    subject::{End, Sending, Session, Subject},
};
use crate::proto::plugin::{
    Example, ExecuteStreamResponse, example::Purpose, execute_stream_response::Event,
};

const NO_SLOW: &str = "Describe has no example that is SLOW: add one, or give --slow NAME=JSON";
/// The share of the limit that a call has to begin, before it is cancelled.
const BEGIN: u32 = 10;

fn slow(subject: &Subject) -> Option<Example> {
    subject.example(Purpose::Slow)
}

fn answered(took: &Took) -> Verdict {
    Verdict::Ok(format!("Cancel took {took}"))
}

fn skipped() -> Checked {
    Ok(Verdict::Skip(NO_SLOW.to_owned()))
}

/// Begins the slow call; its first event, or a while, shows that it runs.
async fn begin(subject: &Subject, session: &mut Session, example: &Example) -> Result<Sending, String> {
    let mut sending = subject.send(session, example).await?;
    let first = sending.exchange.receiving.next::<ExecuteStreamResponse>();
    let ended = match tokio::time::timeout(subject.limit / BEGIN, first).await {
        Err(_) => return Ok(sending),
        Ok(Ok(Some(first))) => !sending.streaming || matches!(first.event, Some(Event::End(_))),
        Ok(Ok(None)) => true,
        Ok(Err(fault)) => return Err(format!("the SLOW call of `{}`: {fault}", example.operation)),
    };
    if ended {
        return Err(format!(
            "the SLOW call of `{}` ended by itself: it has to run for a minute or longer",
            example.operation
        ));
    }
    Ok(sending)
}

/// Cancel alone ends a call, and is answered when that has happened.
pub(super) async fn ends_the_call(subject: &Subject) -> Checked {
    let Some(example) = slow(subject) else {
        return skipped();
    };
    let mut session = subject.session().await?;
    let sending = begin(subject, &mut session, &example).await?;
    let took = subject.cancel(&mut session, sending.call_id).await?;
    // Its end may still be on its way.
    if subject.end(sending).await.is_err() {
        return Err(
            "Cancel was answered, and the call goes on; the protocol has it answer once the call has ended"
                .to_owned(),
        );
    }
    end(subject, &mut session).await?;
    Ok(answered(&took))
}

/// The broker's own way: the call's RPC is dropped, Cancel waits for its end, and the session goes on.
pub(super) async fn leaves_the_session(subject: &Subject) -> Checked {
    let Some(example) = slow(subject) else {
        return skipped();
    };
    let mut session = subject.session().await?;
    let sending = begin(subject, &mut session, &example).await?;
    let call_id = sending.call_id;
    drop(sending);
    let took = subject.cancel(&mut session, call_id).await?;
    subject.check(&mut session).await?;
    if let Some(run) = subject.runs().first() {
        subject
            .run(&mut session, run)
            .await
            .map_err(|why| format!("after a Cancel, {why}"))?;
    }
    end(subject, &mut session).await?;
    Ok(answered(&took))
}

/// A Cancel may overtake its call on the way through a driver's threads.
pub(super) async fn refuses_a_late_call(subject: &Subject) -> Checked {
    let Some(example) = subject.runs().into_iter().next() else {
        return Ok(Verdict::Skip("no example is RUN".to_owned()));
    };
    let mut session = subject.session().await?;
    subject.cancel(&mut session, 7).await?;
    let sending = subject.send_numbered(&mut session, &example, 7).await?;
    if let Ok(End::Answer(_)) = subject.end(sending).await? {
        return Err("a call came after its Cancel and was carried out; the protocol has calls refused whose number is \
                    not above the last cancelled one"
            .to_owned());
    }
    end(subject, &mut session).await?;
    fine()
}

/// The connection breaks in mid-call, as when the broker is killed.
pub(super) async fn survives_a_kill(subject: &Subject) -> Checked {
    let Some(example) = slow(subject) else {
        return skipped();
    };
    let mut session = subject.session().await?;
    let sending = begin(subject, &mut session, &example).await?;
    session.connection.cut();
    drop(sending);
    let died = |why: String| format!("the driver died when a connection broke in mid-call: {why}");
    let described = subject.describe().await.map_err(died)?;
    subject
        .recognize("Describe", &described.instance_id)
        .map_err(died)?;
    session.connection = subject.reach().await.map_err(died)?;
    end(subject, &mut session).await?;
    must_be_unknown(subject, &mut session).await?;
    fine()
}
