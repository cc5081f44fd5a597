//! What a driver says, and what it knows.

use tonic::Code;
use uuid::Uuid;

use super::{
    report::{Checked, Verdict},
    subject::{End, Session, Subject},
};
use crate::{
    backend::plugin::{Fault, code_name, description_faults},
    proto::plugin::{CheckRequest, CheckResponse, Example},
};

/// How long a session's name is.
const ID_BYTES: std::ops::RangeInclusive<usize> = 16..=256;

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
    let mut one = subject.session().await?;
    if !ID_BYTES.contains(&one.id.len()) {
        return Err(format!(
            "Connect gave the session_id `{}`: the protocol has 16 to 256 bytes, like no other, over restarts too",
            one.id
        ));
    }
    let (mut connection, other) = subject.try_connect().await?;
    let more = match other {
        Ok(other) if other.session_id == one.id => {
            return Err("Connect gave two sessions the same session_id".to_owned());
        }
        Ok(other) => {
            subject.disconnect(&mut connection, &other.session_id).await?;
            ""
        }
        Err(Fault::Status {
            code: Code::ResourceExhausted,
            ..
        }) => "one session at a time",
        Err(fault) => return Err(format!("a second Connect: {fault}")),
    };
    end(subject, &mut one).await?;
    Ok(Verdict::Ok(more.to_owned()))
}

/// Ends a session, as the broker does.
pub(super) async fn end(subject: &Subject, session: &mut Session) -> Result<(), String> {
    let id = session.id.clone();
    subject.disconnect(&mut session.connection, &id).await
}

pub(super) async fn checks(subject: &Subject) -> Checked {
    let mut session = subject.session().await?;
    subject.check(&mut session).await?;
    end(subject, &mut session).await?;
    fine()
}

/// A session that is not known is `NOT_FOUND`, so that nothing is carried out on another one.
pub(super) async fn knows_its_sessions(subject: &Subject) -> Checked {
    let mut session = subject.session().await?;
    let known = std::mem::replace(&mut session.id, Uuid::new_v4().to_string());
    must_be_unknown(subject, &mut session).await?;
    if let Some(example) = subject.runs().first() {
        let sending = subject.send(&mut session, example).await?;
        let told = match subject.end(sending).await? {
            Err(Fault::Status {
                code: Code::NotFound, ..
            }) => None,
            Err(fault) => Some(fault.to_string()),
            Ok(End::Answer(_)) => Some("an answer".to_owned()),
            Ok(End::Error(error)) => Some(format!("the error {} {}", error.code, error.message)),
        };
        if let Some(told) = told {
            return Err(format!(
                "a call on a session that does not exist came to: {told}; the protocol has NOT_FOUND"
            ));
        }
    }
    session.id = known;
    end(subject, &mut session).await?;
    fine()
}

/// Check of a session that is gone says `NOT_FOUND`.
pub(super) async fn must_be_unknown(subject: &Subject, session: &mut Session) -> Result<(), String> {
    let request = CheckRequest {
        session_id: session.id.clone(),
    };
    let asked = session.connection.ask("Check", &request);
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

pub(super) async fn knows_its_operations(subject: &Subject) -> Checked {
    let mut session = subject.session().await?;
    let example = Example {
        operation: "sublet-no-such-operation".to_owned(),
        ..Example::default()
    };
    let sending = subject.send(&mut session, &example).await?;
    match subject.end(sending).await? {
        Ok(End::Answer(_)) => Err("an operation that is not in Describe was answered".to_owned()),
        Ok(End::Error(error)) if error.session_lost => {
            Err("an operation that is not in Describe cost the session".to_owned())
        }
        Ok(End::Error(_))
        | Err(Fault::Status {
            code: Code::InvalidArgument | Code::Unimplemented | Code::FailedPrecondition,
            ..
        }) => {
            subject.check(&mut session).await?;
            end(subject, &mut session).await?;
            fine()
        }
        Err(fault) => Err(format!(
            "an operation that is not in Describe: {fault}; the protocol has an Error or INVALID_ARGUMENT, and the \
             session goes on"
        )),
    }
}

pub(super) async fn runs(subject: &Subject, example: &Example) -> Checked {
    let mut session = subject.session().await?;
    let said = subject.run(&mut session, example).await?;
    end(subject, &mut session).await?;
    Ok(Verdict::Ok(format!("{} bytes", said.len())))
}

pub(super) async fn disconnects(subject: &Subject) -> Checked {
    let mut session = subject.session().await?;
    for _ in 0..2 {
        end(subject, &mut session).await?;
    }
    must_be_unknown(subject, &mut session).await?;
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
