//! A definition, checked: where the driver is, and what it is told of the device.

use std::sync::Arc;

use prost::Message as _;
use prost_types::{Struct, Value, value::Kind};

use super::access::Access;
use crate::{
    backend::{
        DialError, endpoint,
        registry::Surroundings,
        secrets::{self, Secrets},
        tls::blocking,
    },
    error::Faults,
    proto::{PluginBackend, PoolSpec, SecretRef, plugin::ConnectRequest},
};

/// It is sent at each dial, and stored with the definition.
const MAX_CONFIG_BYTES: usize = 64 * 1024;
/// The largest integer that a double holds without doubt.
const SAFE_INTEGER: f64 = 9_007_199_254_740_992.0;
const MAX_SECRETS: usize = 100;
const MAX_DEVICE_BYTES: usize = 1024;
const MAX_SECRET_NAME_BYTES: usize = 256;

/// A driver, and the device that it is to connect to.
#[derive(Debug)]
pub(super) struct Target {
    /// The endpoint's name.
    pub(super) name: Arc<str>,
    pub(super) access: Access,
    device: String,
    config: Option<Struct>,
    secrets: Vec<(String, SecretRef)>,
    store: Secrets,
}

impl Target {
    /// Reads a definition.
    pub(super) fn read(
        spec: &PoolSpec,
        own: &PluginBackend,
        surroundings: &Surroundings,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut access = None;
        faults.within("plugin", |faults| {
            let tls = own.tls.clone().unwrap_or_default();
            access = Access::read(&own.address, &tls, surroundings.secrets.clone(), faults);
            if own.config.as_ref().map_or(0, Struct::encoded_len) > MAX_CONFIG_BYTES {
                faults.add("config", format!("must be at most {MAX_CONFIG_BYTES} bytes"));
            }
            faults.within("config", |faults| check_fields(own.config.as_ref(), faults));
        });
        let secrets = read_secrets(own, &mut faults);
        let (name, device) = read_device(spec, own, &mut faults);
        match access {
            Some(access) if faults.is_empty() => Ok(Self {
                name,
                access,
                device,
                config: own.config.clone(),
                secrets,
                store: surroundings.secrets.clone(),
            }),
            _ => Err(faults),
        }
    }

    /// What a driver needs to know to open a session, secrets included: not to be shown to anybody else.
    pub(super) async fn introduction(self: &Arc<Self>, session: &str) -> Result<ConnectRequest, DialError> {
        let mut request = ConnectRequest {
            session_id: session.to_owned(),
            endpoint: self.device.clone(),
            config: self.config.clone(),
            ..ConnectRequest::default()
        };
        if !self.secrets.is_empty() {
            let target = Arc::clone(self);
            request.secrets = blocking(move || target.read_values()).await?;
        }
        Ok(request)
    }

    fn read_values(&self) -> Result<std::collections::HashMap<String, String>, DialError> {
        let read = |(name, reference): &(String, SecretRef)| {
            let secret = self.store.read(reference)?;
            let value = std::str::from_utf8(secret.reveal()).map_err(|_| {
                let reference = secrets::name_of(reference);
                DialError::permanent(format!("the secret of {reference} is no text"))
            })?;
            Ok((name.clone(), value.to_owned()))
        };
        self.secrets.iter().map(read).collect()
    }
}

/// What a Struct can hold and JSON cannot, or what has lost digits on its way here.
fn check_fields(fields: Option<&Struct>, faults: &mut Faults) {
    for (name, value) in fields.iter().flat_map(|found| &found.fields) {
        faults.within(name, |faults| check_value(value, faults));
    }
}

fn check_value(value: &Value, faults: &mut Faults) {
    match &value.kind {
        None => faults.add("", "must have a value: write null for none"),
        Some(Kind::NumberValue(number)) if !number.is_finite() => {
            faults.add("", "must be a number that JSON has");
        }
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() > SAFE_INTEGER => {
            faults.add("", "is beyond 2^53 and may have lost digits: write it as text");
        }
        Some(Kind::StructValue(fields)) => check_fields(Some(fields), faults),
        Some(Kind::ListValue(list)) => {
            for (index, value) in list.values.iter().enumerate() {
                faults.within(&format!("[{index}]"), |faults| check_value(value, faults));
            }
        }
        Some(Kind::NullValue(_) | Kind::NumberValue(_) | Kind::StringValue(_) | Kind::BoolValue(_)) => {}
    }
}

fn read_secrets(own: &PluginBackend, faults: &mut Faults) -> Vec<(String, SecretRef)> {
    let mut all: Vec<_> = own.secrets.clone().into_iter().collect();
    // So that faults come in the same order each time.
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    if all.len() > MAX_SECRETS {
        faults.add("plugin.secrets", format!("must be at most {MAX_SECRETS}"));
    }
    for (name, reference) in &all {
        let field = format!("plugin.secrets.{name}");
        if name.is_empty() || name.len() > MAX_SECRET_NAME_BYTES {
            faults.add(
                &field,
                format!("must have a name of 1 to {MAX_SECRET_NAME_BYTES} bytes"),
            );
        }
        faults.within(&field, |faults| secrets::check(reference, faults));
    }
    all
}

/// The endpoint's name, and the device's address: empty if the definition has none.
fn read_device(spec: &PoolSpec, own: &PluginBackend, faults: &mut Faults) -> (Arc<str>, String) {
    if spec.endpoints.len() > 1 {
        faults.add("endpoints", "must be at most one for `plugin`: the device's");
        return ("".into(), String::new());
    }
    if spec.endpoints.is_empty() {
        return (own.address.as_str().into(), String::new());
    }
    let Some(one) = endpoint::only(spec, "plugin", "", faults) else {
        return ("".into(), String::new());
    };
    let address = one.address.as_str();
    if address.is_empty() || address.len() > MAX_DEVICE_BYTES || address.chars().any(char::is_control) {
        faults.add(
            "endpoints[0].address",
            format!(
                "must be the device's address, 1 to {MAX_DEVICE_BYTES} bytes without control characters; the \
                 driver's is plugin.address"
            ),
        );
    }
    (endpoint::name(one), one.address.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        clock::Clock,
        proto::{Endpoint, Tls, pool_spec::Backend, secret_ref::Source},
    };

    fn surroundings() -> Surroundings {
        let variables = BTreeMap::from([("SUBLET_SECRET_PIN".to_owned(), "1234".to_owned())]);
        Surroundings {
            secrets: Secrets::with_variables("/nowhere", variables),
            clock: Clock::tokio(),
        }
    }

    fn env(name: &str) -> SecretRef {
        SecretRef {
            source: Some(Source::Env(name.to_owned())),
        }
    }

    fn own() -> PluginBackend {
        PluginBackend {
            address: "driver:7000".to_owned(),
            secrets: [("pin".to_owned(), env("SUBLET_SECRET_PIN"))].into(),
            config: Some(Struct::default()),
            ..PluginBackend::default()
        }
    }

    fn spec(own: &PluginBackend, devices: &[&str]) -> PoolSpec {
        let endpoint = |address: &&str| Endpoint {
            address: (*address).to_owned(),
            ..Endpoint::default()
        };
        PoolSpec {
            endpoints: devices.iter().map(endpoint).collect(),
            backend: Some(Backend::Plugin(own.clone())),
            ..PoolSpec::default()
        }
    }

    #[tokio::test]
    async fn a_driver_is_told_of_the_device_with_its_secrets() {
        let own = own();
        let target = Arc::new(Target::read(&spec(&own, &["usb:3"]), &own, &surroundings()).unwrap());
        assert_eq!(&*target.name, "usb:3");
        assert!(!format!("{target:?}").contains("1234"));
        let told = target.introduction("one").await.unwrap();
        assert_eq!(
            (told.endpoint.as_str(), told.secrets["pin"].as_str()),
            ("usb:3", "1234")
        );
        let target = Target::read(&spec(&own, &[]), &own, &surroundings()).unwrap();
        assert_eq!(&*target.name, "driver:7000", "a driver may have no device");
    }

    #[tokio::test]
    async fn a_secret_that_is_not_there_is_a_permanent_fault() {
        let mut own = own();
        own.secrets.insert("more".to_owned(), env("SUBLET_SECRET_MORE"));
        let target = Arc::new(Target::read(&spec(&own, &[]), &own, &surroundings()).unwrap());
        let fault = target.introduction("one").await.unwrap_err();
        assert_eq!(fault.kind, crate::backend::DialErrorKind::Permanent);
        assert!(fault.message.contains("SUBLET_SECRET_MORE"), "{}", fault.message);
    }

    #[test]
    fn config_that_json_does_not_have_is_refused_with_its_path() {
        let number = |number| Value {
            kind: Some(Kind::NumberValue(number)),
        };
        let list = prost_types::ListValue {
            values: vec![number(1.5), number(1e300)],
        };
        let list = Value {
            kind: Some(Kind::ListValue(list)),
        };
        let bad = [
            ("a", number(f64::NAN)),
            ("b", list),
            ("c", Value::default()),
            ("d", number(7.0)),
        ];
        let fields = bad.map(|(name, value)| (name.to_owned(), value)).into();
        let bad = PluginBackend {
            config: Some(Struct { fields }),
            ..own()
        };
        let faults = Target::read(&spec(&bad, &[]), &bad, &surroundings()).unwrap_err();
        let fields: Vec<_> = faults.list().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(
            fields,
            ["plugin.config.a", "plugin.config.b.[1]", "plugin.config.c"]
        );
    }

    #[test]
    fn every_fault_of_a_definition_is_told_with_its_path() {
        let bad = PluginBackend {
            address: "driver".to_owned(),
            secrets: [("pin".to_owned(), env("HOME"))].into(),
            ..own()
        };
        let faults = Target::read(&spec(&bad, &["a", "b"]), &bad, &surroundings()).unwrap_err();
        let fields: Vec<_> = faults.list().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["plugin.address", "plugin.secrets.pin.env", "endpoints"]);
        let bad = PluginBackend {
            tls: Some(Tls {
                ca_file: "ca.pem".to_owned(),
                ..Tls::default()
            }),
            ..own()
        };
        let faults = Target::read(&spec(&bad, &[""]), &bad, &surroundings()).unwrap_err();
        let fields: Vec<_> = faults.list().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["plugin.tls.ca_file", "endpoints[0].address"]);
    }
}
