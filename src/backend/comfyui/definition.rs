//! A definition, checked: where the boxes are, and what is sent with every request.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use tokio::sync::Semaphore;

use super::{
    leftovers::Leftovers,
    looks::Looks,
    place::{PATIENT_CANCELS, Place},
};
use crate::{
    backend::{
        Load, endpoint,
        http::{SecretHeader, Service, Wanted, headers},
        registry::Surroundings,
        secrets,
    },
    clock::Clock,
    error::Faults,
    proto::{ComfyUiBackend, Endpoint, PoolSpec},
};

const DEFAULT_CONNECT: Duration = Duration::from_secs(5);
const MISSING: &str = "must have the address of each box: `host:port`, or a URL";

/// The boxes of a pool.
#[derive(Debug)]
pub(super) struct Boxes {
    pub(super) places: Vec<Arc<Place>>,
    /// How long opening a session may take.
    pub(super) connect: Duration,
    pub(super) clock: Clock,
}

impl Boxes {
    /// Reads a definition.
    pub(super) fn read(
        spec: &PoolSpec,
        own: &ComfyUiBackend,
        surroundings: &Surroundings,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        if spec.endpoints.is_empty() {
            faults.add("endpoints", MISSING);
        }
        let connect = spec.timeouts.as_ref().and_then(|timeouts| timeouts.connect);
        let connect = connect.and_then(|given| Duration::try_from(given).ok());
        let sent = Sent::read(own, &mut faults);
        let mut boxes = Self {
            places: Vec::new(),
            connect: connect.unwrap_or(DEFAULT_CONNECT),
            clock: surroundings.clock.clone(),
        };
        for (index, endpoint) in spec.endpoints.iter().enumerate() {
            let mut found = Faults::default();
            boxes.add(endpoint, (own, &sent), surroundings, &mut found);
            merge(&found, index, &mut faults);
        }
        if faults.is_empty() { Ok(boxes) } else { Err(faults) }
    }

    fn add(
        &mut self,
        endpoint: &Endpoint,
        (own, sent): (&ComfyUiBackend, &Sent),
        surroundings: &Surroundings,
        faults: &mut Faults,
    ) {
        if endpoint.max_sessions.is_none() {
            faults.add(
                "max_sessions",
                "must be set: 1, so that a box works for one caller at a time; with more, prompts wait at the box",
            );
        }
        let name = endpoint::name(endpoint);
        let wanted = Wanted {
            endpoint,
            name: Arc::clone(&name),
            tls: &own.tls.clone().unwrap_or_default(),
            base: "",
            headers: sent.headers.clone(),
            secret_headers: sent.secret.clone(),
            connect: self.connect,
            // Nothing is shared.
            pong: Duration::ZERO,
        };
        let service = Service::read_http1(wanted, surroundings, faults);
        self.places.extend(service.map(|service| {
            Arc::new(Place {
                left: Leftovers::at(&service.place()),
                looks: Looks::default(),
                patience: Semaphore::new(PATIENT_CANCELS),
                name,
                service,
                load: Load::default(),
                connect: self.connect,
                clock: self.clock.clone(),
            })
        }));
    }

    /// The endpoint of that name; the first one if there is none.
    pub(super) fn place(&self, name: &str) -> Option<&Arc<Place>> {
        let named = self.places.iter().find(|place| &*place.name == name);
        named.or(self.places.first())
    }
}

/// What is sent with every request.
struct Sent {
    headers: HeaderMap,
    secret: Vec<SecretHeader>,
}

impl Sent {
    fn read(own: &ComfyUiBackend, faults: &mut Faults) -> Self {
        let mut sent = Self {
            headers: HeaderMap::new(),
            secret: Vec::new(),
        };
        for (name, value) in sorted(&own.headers) {
            let field = format!("comfyui.headers.{name}");
            let value = headers::value(&field, value, faults);
            if let (Some(name), Some(value)) = (sent.free(&field, name, faults), value) {
                sent.headers.insert(name, value);
            }
        }
        for (name, reference) in sorted(&own.secret_headers) {
            let field = format!("comfyui.secret_headers.{name}");
            faults.within(&field, |faults| secrets::check(reference, faults));
            if let Some(name) = sent.free(&field, name, faults) {
                sent.secret.push(SecretHeader {
                    name,
                    prefix: "",
                    reference: reference.clone(),
                });
            }
        }
        let named = HeaderValue::from_static(concat!("sublet/", env!("CARGO_PKG_VERSION")));
        sent.headers.entry(header::USER_AGENT).or_insert(named);
        sent
    }

    /// A header's name, if nothing else has it. A box refuses requests that say they come from another page.
    fn free(&self, field: &str, name: &str, faults: &mut Faults) -> Option<HeaderName> {
        let name = headers::name(field, name, headers::Whose::Pool, faults)?;
        let of_pages = name == header::ORIGIN || name.as_str().starts_with("sec-");
        if of_pages {
            faults.add(
                field,
                "is a browser's, and makes a box refuse requests: leave it out",
            );
        }
        let taken = self.headers.contains_key(&name) || self.secret.iter().any(|other| other.name == name);
        if taken {
            faults.add(field, "is there twice; case does not count");
        }
        (!taken && !of_pages).then_some(name)
    }
}

/// Adds an endpoint's faults: those of TLS are the definition's, and told once.
fn merge(found: &Faults, index: usize, faults: &mut Faults) {
    for fault in found.list() {
        let field = if fault.field.starts_with("tls") {
            format!("comfyui.{}", fault.field)
        } else {
            format!("endpoints[{index}].{}", fault.field)
        };
        if !faults.list().iter().any(|other| other.field == field) {
            faults.add(&field, fault.message.clone());
        }
    }
}

/// In the order of names, so that faults come in the same order each time.
fn sorted<T>(map: &HashMap<String, T>) -> Vec<(&String, &T)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, _)| *name);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::secrets::Secrets;

    #[tokio::test]
    async fn what_is_left_on_a_box_is_known_however_its_address_is_written() {
        let surroundings = Surroundings {
            secrets: Secrets::below("/nowhere"),
            clock: Clock::tokio(),
        };
        let left = |address: &str| {
            let endpoint = Endpoint {
                address: address.to_owned(),
                max_sessions: Some(1),
                ..Endpoint::default()
            };
            let spec = PoolSpec {
                endpoints: vec![endpoint],
                ..PoolSpec::default()
            };
            let boxes = Boxes::read(&spec, &ComfyUiBackend::default(), &surroundings).unwrap();
            Arc::clone(&boxes.places[0].left)
        };
        let one = left("left.example:8188");
        assert!(Arc::ptr_eq(&one, &left("http://LEFT.example:8188/")));
        assert!(!Arc::ptr_eq(&one, &left("left.example:8189")));
    }
}
