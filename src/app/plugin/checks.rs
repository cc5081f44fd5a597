//! What a driver says, and what it knows.

use tonic::Code;

use super::{
    report::{Checked, Verdict},
    session::{End, Session},
    subject::Subject,
};
use crate::{
    backend::plugin::{Fault, code_name, description_faults},
    proto::plugin::{CheckRequest, CheckResponse, Example},
};

pub(super) fn fine() -> Checked {
    Ok(Verdict::Ok(String::new()))
}

pub(super) async fn describes(subject: &mut Subject) -> Checked {
    let described = subject.describe().await?;
    let mut faults = description_faults(&described);
    let schema = &described.config_schema;
    let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(schema);
    if let (false, Err(error)) = (schema.is_empty(), object) {
        faults.push(format!("has a config_schema that is no JSON object: {error}"));
    }
    for example in &described.examples {
        let known = described
            .operations
            .iter()
            .any(|operation| operation.name == example.operation);
        if !known {
            faults.push(format!(
                "has an example for `{}`, which it does not describe",
                example.operation
            ));
        }
    }
    if !faults.is_empty() {
        return Err(format!("the driver {}", faults.join("; it ")));
    }
    subject.described = described;
    let again = subject.describe().await?;
    subject.recognize("a second Describe", &again.instance_id)?;
    let told = &subject.described;
    Ok(Verdict::Ok(format!(
        "{} {}, {} operations",
        told.driver,
        told.version,
        told.operations.len()
    )))
}

pub(super) async fn connects(subject: &Subject) -> Checked {
    let check = async |_: &mut Session<'_>| match subject.try_session().await? {
        Ok(other) => subject.part(&other.id).await.map(|()| ""),
        Err(Fault::Status {
            code: Code::ResourceExhausted,
            ..
        }) => Ok("one session at a time"),
        Err(fault) => Err(format!("a second Connect: {fault}")),
    };
    let more = subject.with_session(check).await?;
    Ok(Verdict::Ok(more.to_owned()))
}

pub(super) async fn checks(subject: &Subject) -> Checked {
    subject
        .with_session(async |session| session.check().await)
        .await?;
    fine()
}

/// A session that is not known is `NOT_FOUND`, so that nothing is carried out on another one.
pub(super) async fn knows_its_sessions(subject: &Subject) -> Checked {
    let unknown = || subject.introduction().session_id;
    must_be_unknown(subject, &unknown()).await?;
    let Some(example) = subject.runs().into_iter().next() else {
        return fine();
    };
    let mut session = Session::new(subject, subject.reach().await?, unknown());
    let sending = session.send(&example).await?;
    let told = match session.end(sending).await? {
        Err(Fault::Status {
            code: Code::NotFound, ..
        }) => return fine(),
        Err(fault) => fault.to_string(),
        Ok(End::Answer(_)) => "an answer".to_owned(),
        Ok(End::Error(error)) => format!("the error {} {}", error.code, error.message),
    };
    Err(format!(
        "a call on a session that does not exist came to: {told}; the protocol has NOT_FOUND"
    ))
}

/// Check of a session that is gone says `NOT_FOUND`.
pub(super) async fn must_be_unknown(subject: &Subject, id: &str) -> Result<(), String> {
    let mut connection = subject.reach().await?;
    let request = CheckRequest {
        session_id: id.to_owned(),
    };
    let asked = connection.ask("Check", &request);
    let answer: Result<CheckResponse, Fault> = subject.within("Check", asked).await?;
    let told = match answer {
        Err(Fault::Status {
            code: Code::NotFound, ..
        }) => return Ok(()),
        Err(Fault::Status { code, .. }) => code_name(code).to_owned(),
        Err(fault) => fault.to_string(),
        Ok(_) => "OK".to_owned(),
    };
    Err(format!(
        "Check of a session that does not exist came to: {told}; the protocol has NOT_FOUND"
    ))
}

/// The broker asks for what is described only; should another one come all the same, it costs nothing.
pub(super) async fn knows_its_operations(subject: &Subject) -> Checked {
    let example = Example {
        operation: "sublet-no-such-operation".to_owned(),
        ..Example::default()
    };
    let check = async |session: &mut Session<'_>| {
        let sending = session.send(&example).await?;
        match session.end(sending).await? {
            Ok(End::Answer(_)) => Err("an operation that is not in Describe was answered".to_owned()),
            Ok(End::Error(error)) if error.session_lost => {
                Err("an operation that is not in Describe cost the session".to_owned())
            }
            Ok(End::Error(_))
            | Err(Fault::Status {
                code: Code::InvalidArgument | Code::Unimplemented | Code::FailedPrecondition,
                ..
            }) => session.check().await,
            Err(fault) => Err(format!(
                "an operation that is not in Describe: {fault}; the protocol has an Error, INVALID_ARGUMENT, \
                 FAILED_PRECONDITION or UNIMPLEMENTED, and the session goes on"
            )),
        }
    };
    subject.with_session(check).await?;
    fine()
}

pub(super) async fn runs(subject: &Subject, example: &Example) -> Checked {
    let said = subject
        .with_session(async |session| session.run(example).await)
        .await?;
    Ok(Verdict::Ok(format!("{} bytes", said.bytes)))
}

pub(super) async fn disconnects(subject: &Subject) -> Checked {
    let id = subject
        .with_session(async |session| Ok(session.id.clone()))
        .await?;
    must_be_unknown(subject, &id).await?;
    // What is gone already is fine.
    subject.part(&id).await?;
    must_be_unknown(subject, &id).await?;
    let mut session = subject.session().await?;
    let id = session.id.clone();
    subject.disconnect(&mut session.connection, &id).await?;
    must_be_unknown(subject, &id).await?;
    fine()
}

/// The driver has not died, nor been started again.
pub(super) async fn lives_on(subject: &Subject, after: &str) -> Checked {
    let died = |why: String| format!("the driver died in `{after}`: {why}");
    drop(subject.reach().await.map_err(died)?);
    let described = subject.describe().await?;
    subject
        .recognize("Describe", &described.instance_id)
        .map_err(died)?;
    fine()
}
