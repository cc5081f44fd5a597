//! Whether calls stop when they have to, and only then, and the driver lives on.

use super::{
    checks::{fine, must_be_unknown},
    report::{Checked, Took, Verdict},
    session::{End, Sending, Session},
    subject::Subject,
};
use crate::proto::plugin::{
    ConnectRequest, DescribeRequest, DescribeResponse, Example, ExecuteStreamResponse, example::Purpose,
    execute_stream_response::Event,
};

const NO_SLOW: &str = "Describe has no example that is SLOW: add one, or give --slow NAME=JSON";

fn slow(subject: &Subject) -> Option<Example> {
    subject.example(Purpose::Slow)
}

fn answered(took: &Took) -> Verdict {
    Verdict::Ok(format!("Cancel took {took}"))
}

fn skipped() -> Checked {
    Ok(Verdict::Skip(NO_SLOW.to_owned()))
}

/// Watches a call for a moment: how it ended, if it did. Its first event ends the watch, if that is enough.
async fn ended(subject: &Subject, sending: &mut Sending, first_is_enough: bool) -> Option<String> {
    let watch = async {
        loop {
            let next = sending.next::<ExecuteStreamResponse>();
            match next.await {
                Ok(Some(ExecuteStreamResponse { event: Some(event) }))
                    if sending.streaming && !matches!(event, Event::End(_)) =>
                {
                    if first_is_enough {
                        return None;
                    }
                }
                Ok(_) => return Some("it was answered".to_owned()),
                Err(fault) => return Some(fault.to_string()),
            }
        }
    };
    tokio::time::timeout(subject.moment(), watch)
        .await
        .unwrap_or_default()
}

/// Begins the slow call; its first event, or a while, shows that it runs.
async fn begin(subject: &Subject, session: &mut Session<'_>, example: &Example) -> Result<Sending, String> {
    let mut sending = session.send(example).await?;
    match ended(subject, &mut sending, true).await {
        None => Ok(sending),
        Some(how) => Err(format!(
            "the SLOW call of `{}` ended by itself ({how}): it has to run for a minute or longer",
            example.operation
        )),
    }
}

/// The session's next call is carried out.
async fn goes_on(subject: &Subject, session: &mut Session<'_>) -> Result<(), String> {
    session.check().await?;
    if let Some(run) = subject.runs().first() {
        let ran = session.run(run).await;
        ran.map_err(|why| format!("the call after a cancelled one: {why}"))?;
    }
    Ok(())
}

/// Cancel is not answered before the call has ended. Whether it stops the call itself, or waits for the end of its RPC,
/// is the driver's choice.
pub(super) async fn is_waited_for(subject: &Subject) -> Checked {
    let Some(example) = slow(subject) else {
        return skipped();
    };
    let check = async |session: &mut Session<'_>| {
        let sending = begin(subject, session, &example).await?;
        let call_id = sending.call_id;
        match tokio::time::timeout(subject.moment(), session.cancel(call_id)).await {
            // Its end may still be on its way.
            Ok(answer) => {
                answer?;
                let end = session.end_within(subject.moment(), sending).await;
                end.map(|_| ()).map_err(|why| {
                    format!(
                        "Cancel was answered, and the call goes on: {why}; the protocol has it answer once the call \
                         has stopped"
                    )
                })?;
            }
            Err(_) => drop(sending),
        }
        session.cancel(call_id).await?;
        goes_on(subject, session).await
    };
    subject.with_session(check).await?;
    fine()
}

/// The broker's own way: the call's RPC is dropped, Cancel waits for its end, and the session goes on.
pub(super) async fn leaves_the_session(subject: &Subject) -> Checked {
    let Some(example) = slow(subject) else {
        return skipped();
    };
    let check = async |session: &mut Session<'_>| {
        let sending = begin(subject, session, &example).await?;
        let call_id = sending.call_id;
        drop(sending);
        let took = session.cancel(call_id).await?;
        goes_on(subject, session).await?;
        Ok(took)
    };
    subject.with_session(check).await.map(|took| answered(&took))
}

/// A Cancel that was under way for long, such as in a thread that waits for its turn, stops no other call.
pub(super) async fn spares_later_calls(subject: &Subject) -> Checked {
    let Some(example) = slow(subject) else {
        return skipped();
    };
    let check = async |session: &mut Session<'_>| {
        let sending = begin(subject, session, &example).await?;
        let first = sending.call_id;
        drop(sending);
        session.cancel(first).await?;
        let mut sending = begin(subject, session, &example).await?;
        // It may wait for the running call, or not.
        let late = tokio::time::timeout(subject.moment(), session.cancel(first)).await;
        late.unwrap_or(Ok(Took::default()))?;
        if let Some(how) = ended(subject, &mut sending, false).await {
            return Err(format!(
                "a late Cancel of call {first} stopped call {}: {how}; the protocol has it stop no call with a higher \
                 number",
                sending.call_id
            ));
        }
        let call_id = sending.call_id;
        drop(sending);
        session.cancel(call_id).await
    };
    subject.with_session(check).await?;
    fine()
}

/// A Cancel may overtake its call on the way through a driver's threads.
pub(super) async fn refuses_a_late_call(subject: &Subject) -> Checked {
    let Some(example) = subject.runs().into_iter().next() else {
        return Ok(Verdict::Skip("no example is RUN".to_owned()));
    };
    let check = async |session: &mut Session<'_>| {
        session.cancel(7).await?;
        let sending = session.send_numbered(&example, 7).await?;
        if let Ok(End::Answer(_)) = session.end(sending).await? {
            return Err(
                "a call came after its Cancel and was carried out; the protocol has calls refused whose number is not \
                 above the last cancelled one"
                    .to_owned(),
            );
        }
        let ran = session.run(&example).await;
        ran.map(|_| ())
            .map_err(|why| format!("the call behind one that came after its Cancel: {why}"))
    };
    subject.with_session(check).await?;
    fine()
}

/// The connection breaks in mid-call, as when the broker is killed.
pub(super) async fn survives_a_kill(subject: &Subject) -> Checked {
    let Some(example) = slow(subject) else {
        return skipped();
    };
    let check = async |session: &mut Session<'_>| {
        let sending = begin(subject, session, &example).await?;
        session.connection.cut();
        drop(sending);
        let died = |why: String| format!("the driver died when a connection broke in mid-call: {why}");
        let described = subject.describe().await.map_err(died)?;
        subject
            .recognize("Describe", &described.instance_id)
            .map_err(died)?;
        Ok(session.id.clone())
    };
    let id = subject.with_session(check).await?;
    must_be_unknown(subject, &id).await?;
    fine()
}

/// A Connect is given up, and nobody will ever use what it made.
pub(super) async fn leaves_nothing_of_a_dropped_connect(subject: &Subject) -> Checked {
    let mut connection = subject.reach().await?;
    // Of a session that was never there.
    let unknown = subject.introduction().session_id;
    subject.disconnect(&mut connection, &unknown).await?;
    let request: ConnectRequest = subject.introduction();
    let started = subject.now();
    let sent = async {
        let mut exchange = connection.begin("Connect").await?;
        exchange.sending.send(&request, true).await?;
        Ok(exchange)
    };
    let connecting = subject.within("Connect", sent).await?;
    let connecting = connecting.map_err(|fault| format!("Connect: {fault}"))?;
    // Its answer shows that the driver has been told of the Connect.
    let _told: DescribeResponse = subject
        .ask(&mut connection, "Describe", &DescribeRequest {})
        .await?;
    drop(connecting);
    subject.disconnect(&mut connection, &request.session_id).await?;
    let left = |why: String| format!("after a Connect that was dropped, and its Disconnect: {why}");
    // A Connect that went on behind the Disconnect's back has ended by then, mostly.
    let took = subject.now().since(started);
    tokio::time::sleep(took.max(subject.moment())).await;
    must_be_unknown(subject, &request.session_id)
        .await
        .map_err(left)?;
    // The device is free again.
    subject
        .with_session(async |session| session.check().await)
        .await?;
    fine()
}
