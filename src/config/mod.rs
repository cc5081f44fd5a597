//! The program's configuration: defaults, then a file, then `SUBLET_*`, then flags; every fault at once.
//!
//! Every setting is one row in [`settings`], which is its documentation, its default and its check.

mod annotated;
mod faults;
mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod values;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

pub(crate) use self::values::duration;
pub use self::{
    annotated::annotated,
    faults::{Fault, Faults},
    sources::Layer,
};
use crate::{grpc, store, telemetry};

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The listener.
    pub grpc: grpc::Settings,
    /// Whether a listener beyond loopback is wanted although there is no TLS and no authentication.
    pub insecure: bool,
    /// Where definitions are kept.
    pub store: store::Settings,
    /// The folder that `file` secrets of definitions are read from.
    pub secrets_dir: PathBuf,
    /// Time for leases and streams to end by themselves when the broker stops.
    pub grace: Duration,
    /// Logs.
    pub telemetry: telemetry::Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grpc: grpc::Settings {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)),
                max_connections: 10_000,
                workers: 0,
            },
            insecure: false,
            store: store::Settings {
                url: None,
                data_dir: PathBuf::from("sublet-data"),
            },
            secrets_dir: PathBuf::from("sublet-secrets"),
            grace: Duration::from_secs(30),
            telemetry: telemetry::Settings::default(),
        }
    }
}

impl Config {
    /// Puts `layers` onto the defaults, later ones over earlier ones.
    ///
    /// # Errors
    /// Every fault of every layer: unknown keys, bad values (overridden ones too), and what does not fit together.
    pub fn from_layers(layers: impl IntoIterator<Item = Layer>) -> Result<Self, Faults> {
        let mut config = Self::default();
        let mut faults = Faults::default();
        let mut listen_source = String::new();
        for layer in layers {
            faults.extend(layer.faults);
            for entry in layer.entries {
                match entry.check(&mut config) {
                    Err(message) => faults.add(&entry.key, entry.source, message),
                    Ok(()) if entry.key == "listen" => listen_source = entry.source,
                    Ok(()) => {}
                }
            }
        }
        if !config.grpc.listen.ip().is_loopback() && !config.insecure {
            faults.add("listen", listen_source, exposed(config.grpc.listen));
        }
        faults.into_result(config)
    }
}

fn exposed(listen: SocketAddr) -> String {
    format!(
        "{listen} can be reached from other machines, and there is no TLS and no authentication yet: whoever reaches \
         the broker can use every pool and delete it. Listen on 127.0.0.1:{}, or set insecure = true (--insecure) if \
         the network itself keeps strangers out",
        listen.port()
    )
}
