//! What `sublet plugin test` is asked.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use clap::Args;
use prost_types::{ListValue, Struct, Value, value::Kind};

use super::super::exit::Exit;
use crate::{
    backend::{plugin::Access, secrets::Secrets},
    error::Faults,
    proto::{
        Tls,
        plugin::{ConnectRequest, Example, example::Purpose},
    },
};

const MORE: &str = "\
A line for each check: ok, FAIL (what the driver did, and what the protocol has it do) or skip, with the time it took.
The calls that are made are the examples that the driver names in Describe, and those given here.

Examples:
  sublet plugin test --address 127.0.0.1:7000
  sublet plugin test --address unix:/run/press.sock --endpoint usb:3 --config '{\"tray\": 2}' \\
      --run print='{\"text\": \"hello\"}' --slow wait --dirty set='{\"value\": 1}' --look get

Exit codes: 0 nothing failed, 1 something failed, 64 wrong command line.";

/// Which driver to test, and with what.
#[derive(Debug, Args)]
#[command(after_help = MORE, after_long_help = MORE)]
pub(in crate::app) struct Asked {
    /// The driver's address: `HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`.
    #[arg(long)]
    pub(super) address: String,
    /// A PEM file of certificate authorities to trust instead of the system's; turns TLS on.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The device's address, for Connect.
    #[arg(long, default_value = "")]
    endpoint: String,
    /// The config, for Connect: a JSON object.
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// A secret for Connect, whose value is in this variable of the environment; may be repeated.
    #[arg(long = "secret", value_name = "NAME=VARIABLE")]
    secrets: Vec<String>,
    /// A call that ends with an answer within seconds; may be repeated.
    #[arg(long, value_name = "NAME[=JSON]")]
    run: Vec<String>,
    /// A call that runs for a minute or longer unless it is cancelled.
    #[arg(long, value_name = "NAME[=JSON]")]
    slow: Option<String>,
    /// A call that leaves something on its session.
    #[arg(long, value_name = "NAME[=JSON]")]
    dirty: Option<String>,
    /// A call that tells what was left on its session.
    #[arg(long, value_name = "NAME[=JSON]")]
    look: Option<String>,
    /// How long the driver may take for each answer, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "5000", value_parser = clap::value_parser!(u64).range(10..=600_000))]
    limit: u64,
}

impl Asked {
    /// For each answer.
    pub(super) const fn limit(&self) -> Duration {
        Duration::from_millis(self.limit)
    }

    /// The way to the driver.
    pub(super) fn access(&self) -> Result<Access, Exit> {
        let mut tls = Tls::default();
        let mut root = PathBuf::from("/");
        if let Some(file) = &self.ca {
            let file = file
                .canonicalize()
                .map_err(|error| Exit::usage(format!("cannot read {}: {error}", file.display())))?;
            tls.enabled = true;
            tls.ca_file = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            root = file.parent().map(PathBuf::from).unwrap_or(root);
        }
        let mut faults = Faults::default();
        Access::read(&self.address, &tls, Secrets::below(root), &mut faults)
            .ok_or_else(|| Exit::usage(faults.to_string()))
    }

    /// What Connect is asked with.
    pub(super) fn connect(&self) -> Result<ConnectRequest, Exit> {
        let mut secrets = HashMap::new();
        for given in &self.secrets {
            let Some((name, variable)) = given.split_once('=') else {
                return Err(Exit::usage(format!("--secret {given}: write NAME=VARIABLE")));
            };
            let value = std::env::var(variable).map_err(|_| {
                Exit::usage(format!("--secret {name}: the environment has no text {variable}"))
            })?;
            secrets.insert(name.to_owned(), value);
        }
        let config = self.config.as_deref().map(object).transpose()?;
        Ok(ConnectRequest {
            endpoint: self.endpoint.clone(),
            config,
            secrets,
            ..ConnectRequest::default()
        })
    }

    /// The calls that were given.
    pub(super) fn examples(&self) -> Vec<Example> {
        let given = |purpose: Purpose| move |call: &String| example(call, purpose);
        let runs = self.run.iter().map(given(Purpose::Run));
        let slow = self.slow.iter().map(given(Purpose::Slow));
        let dirty = self.dirty.iter().map(given(Purpose::Dirty));
        let look = self.look.iter().map(given(Purpose::Look));
        runs.chain(slow).chain(dirty).chain(look).collect()
    }
}

fn example(call: &str, purpose: Purpose) -> Example {
    let (name, params) = call.split_once('=').unwrap_or((call, "{}"));
    Example {
        operation: name.to_owned(),
        params_json: params.to_owned(),
        purpose: purpose.into(),
        input: Vec::new(),
    }
}

fn object(text: &str) -> Result<Struct, Exit> {
    let read = serde_json::from_str(text);
    let object: serde_json::Map<String, serde_json::Value> =
        read.map_err(|error| Exit::usage(format!("--config: {error}")))?;
    Ok(fields(object))
}

fn fields(object: serde_json::Map<String, serde_json::Value>) -> Struct {
    let fields = object.into_iter();
    Struct {
        fields: fields.map(|(name, value)| (name, value_of(value))).collect(),
    }
}

fn value_of(value: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(list) => Kind::ListValue(ListValue {
            values: list.into_iter().map(value_of).collect(),
        }),
        Json::Object(object) => Kind::StructValue(fields(object)),
    };
    Value { kind: Some(kind) }
}
