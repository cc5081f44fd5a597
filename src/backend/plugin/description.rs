//! What a driver says of itself, and what a pool knows of its driver.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::de::IgnoredAny;

use super::exchange::MAX_MESSAGE;
use crate::{
    backend::{Body, Needs, Operation},
    error::Faults,
    proto::plugin,
};

/// The version of the protocol.
pub(crate) const PROTOCOL: u32 = 1;
const MAX_OPERATIONS: usize = 1000;
const MAX_NAME_BYTES: usize = 256;
/// Names of operations that a fault lists.
const LISTED: usize = 20;

/// One run of a driver.
#[derive(Debug, PartialEq)]
pub(super) struct Description {
    pub(super) instance: String,
    driver: String,
    operations: BTreeMap<String, Arc<plugin::Operation>>,
}

/// What the sessions of a pool know of their driver together: who found out last tells the others.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<Arc<Description>>>);

impl Known {
    /// Notes the latest; sessions that were told the same share it.
    pub(super) fn note(&self, description: Description) -> Arc<Description> {
        let mut latest = self.0.lock();
        match &*latest {
            Some(same) if **same == description => Arc::clone(same),
            _ => Arc::clone(latest.insert(Arc::new(description))),
        }
    }

    pub(super) fn latest(&self) -> Option<Arc<Description>> {
        self.0.lock().clone()
    }

    /// Whether another run of the driver has answered since.
    pub(super) fn is_past(&self, instance: &str) -> bool {
        self.0
            .lock()
            .as_ref()
            .is_some_and(|latest| latest.instance != instance)
    }
}

/// What is wrong with a driver's word of itself; empty if nothing is.
pub(crate) fn faults(described: &plugin::DescribeResponse) -> Vec<String> {
    let mut found = Vec::new();
    let version = described.protocol_version;
    if version != PROTOCOL {
        found.push(format!(
            "speaks version {version} of the protocol; this broker speaks {PROTOCOL}"
        ));
    }
    let sound = |name: &str| !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    if !sound(&described.instance_id) {
        found.push("names no instance_id of 1 to 256 bytes".to_owned());
    }
    if !sound(&described.driver) {
        found.push("gives no name of 1 to 256 bytes as `driver`".to_owned());
    }
    if described.version.len() > MAX_NAME_BYTES {
        found.push("has a `version` of more than 256 bytes".to_owned());
    }
    let count = described.operations.len();
    if count == 0 || count > MAX_OPERATIONS {
        found.push(format!(
            "describes {count} operations: 1 to {MAX_OPERATIONS} are allowed"
        ));
    }
    let mut names = HashMap::new();
    for operation in &described.operations {
        let name = &operation.name;
        if !sound(name) {
            found.push("has an operation without a name of 1 to 256 bytes".to_owned());
        } else if names.insert(name, ()).is_some() {
            found.push(format!("describes the operation `{name}` twice"));
        }
        if operation.takes_input && !operation.streaming {
            found.push(format!("has the operation `{name}` take input, but not stream"));
        }
        if operation.needs_lease && operation.stateless {
            found.push(format!(
                "says that `{name}` is stateless, and needs a lease for its state"
            ));
        }
    }
    found
}

impl Description {
    /// Reads a driver's answer.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn read(described: plugin::DescribeResponse) -> Result<Self, String> {
        let faults = faults(&described);
        if !faults.is_empty() {
            return Err(faults.join("; it "));
        }
        let operations = described.operations.into_iter();
        Ok(Self {
            instance: described.instance_id,
            driver: described.driver,
            operations: operations
                .map(|operation| (operation.name.clone(), Arc::new(operation)))
                .collect(),
        })
    }

    /// Looks at an operation; what is wrong with it is told with paths relative to it.
    pub(super) fn find(&self, asked: &Operation) -> Result<&Arc<plugin::Operation>, Faults> {
        let Some(found) = self.operations.get(&asked.name) else {
            return Err(Faults::one("name", self.unknown(&asked.name)));
        };
        let mut faults = Faults::default();
        if matches!(asked.body, Body::Stream(_)) && !found.takes_input {
            faults.add("body", format!("`{}` takes no input in parts", asked.name));
        }
        if faults.is_empty() { Ok(found) } else { Err(faults) }
    }

    fn unknown(&self, name: &str) -> String {
        let mut names: Vec<_> = self.operations.keys().map(String::as_str).take(LISTED).collect();
        if self.operations.len() > LISTED {
            names.push("and more");
        }
        format!(
            "`{name}` is not an operation of the driver `{}`: it has {}",
            self.driver,
            names.join(", ")
        )
    }
}

/// What has to be right of any operation, whatever its driver.
pub(super) fn check(asked: &Operation) -> Result<(), Faults> {
    if !asked.args.is_empty() {
        return Err(Faults::one("args", "a driver's operations take params, no args"));
    }
    if let Body::Whole(body) = &asked.body
        && body.len() + asked.params.text().len() > MAX_MESSAGE
    {
        let message =
            format!("must be, with the params, at most {MAX_MESSAGE} bytes: stream it through OpenSession");
        return Err(Faults::one("body", message));
    }
    // The driver reads them; only that they are an object is the broker's business.
    asked.params.parse::<HashMap<String, IgnoredAny>>().map(|_| ())
}

/// What an operation needs, as far as the pool knows its driver.
pub(super) fn inspect(known: &Known, asked: &Operation) -> Result<Needs, Faults> {
    check(asked)?;
    match known.latest() {
        Some(latest) => latest.find(asked).map(|found| Needs {
            lease: found.needs_lease,
            ..Needs::default()
        }),
        // Nobody has asked the driver yet: the session that is dialed for this looks again.
        None => Ok(Needs::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(name: &str) -> plugin::Operation {
        plugin::Operation {
            name: name.to_owned(),
            ..plugin::Operation::default()
        }
    }

    fn described() -> plugin::DescribeResponse {
        plugin::DescribeResponse {
            protocol_version: 1,
            instance_id: "one".to_owned(),
            driver: "press".to_owned(),
            operations: vec![operation("print")],
            ..plugin::DescribeResponse::default()
        }
    }

    #[test]
    fn everything_that_is_wrong_with_a_description_is_told_at_once() {
        assert_eq!(faults(&described()), Vec::<String>::new());
        let bad = plugin::DescribeResponse {
            protocol_version: 2,
            operations: vec![
                operation("print"),
                operation("print"),
                operation(""),
                plugin::Operation {
                    takes_input: true,
                    needs_lease: true,
                    stateless: true,
                    ..operation("load")
                },
            ],
            version: "v".repeat(257),
            ..plugin::DescribeResponse::default()
        };
        let told = Description::read(bad).unwrap_err();
        for part in [
            "version 2",
            "instance_id",
            "`driver`",
            "`version`",
            "twice",
            "without a name",
            "not stream",
            "stateless",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let none = plugin::DescribeResponse {
            operations: Vec::new(),
            ..described()
        };
        assert!(faults(&none)[0].contains("0 operations"));
    }

    #[test]
    fn another_instance_makes_the_one_before_it_past() {
        let known = Known::default();
        assert!(!known.is_past("one"), "nothing is known yet");
        let one = known.note(Description::read(described()).unwrap());
        let again = known.note(Description::read(described()).unwrap());
        assert!(Arc::ptr_eq(&one, &again), "what is the same is kept once");
        assert!(!known.is_past("one"));
        assert!(known.is_past("two"));
    }
}
