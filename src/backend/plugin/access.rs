//! Where a driver is, and how it is reached: over TCP, with TLS or without, or a Unix socket.

use std::{path::PathBuf, sync::Arc};

use tokio::net::UnixStream;

use super::{connection::Connection, wire::Wire};
use crate::{
    backend::{
        DialError, Fence,
        secrets::Secrets,
        socket,
        tls::{Asked, TlsPlan},
    },
    error::Faults,
    proto::Tls,
};

/// A socket's path, with the zero at its end, that the operating system takes.
const MAX_PATH_BYTES: usize = 107;
const WANTED: &str =
    "must be the driver's address: `host:port`, `https://host:port`, or `unix:/path/of/its/socket`";

/// The way to a driver.
#[derive(Debug)]
pub(crate) struct Access {
    place: Place,
    tls: Option<TlsPlan>,
    secrets: Secrets,
    /// What the driver is told that it was addressed as.
    authority: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Access {
    /// Reads an address and what goes with it; faults are at `address` and `tls`.
    pub(crate) fn read(address: &str, tls: &Tls, secrets: Secrets, faults: &mut Faults) -> Option<Self> {
        let read = Place::read(address);
        let (place, https) = match read {
            Ok(read) => read,
            Err(message) => {
                faults.add("address", message);
                return None;
            }
        };
        let on = https || tls.enabled;
        if on && matches!(place, Place::Unix(_)) {
            faults.add("tls.enabled", "means nothing for a Unix socket: leave it out");
            return None;
        }
        let (host, authority) = match &place {
            Place::Tcp { host, port } if host.contains(':') => (host.as_str(), format!("[{host}]:{port}")),
            Place::Tcp { host, port } => (host.as_str(), format!("{host}:{port}")),
            Place::Unix(_) => ("localhost", "localhost".to_owned()),
        };
        let mut plan = None;
        faults.within("tls", |faults| {
            let asked = Asked {
                own: tls,
                on,
                host,
                alpn: &[b"h2"],
            };
            plan = TlsPlan::read(&asked, faults);
        });
        Some(Self {
            tls: plan,
            secrets,
            authority,
            place,
        })
    }

    /// Opens a connection, whose writes pass `fence`. If the future is dropped, so is the socket.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub(crate) async fn connect(&self, fence: Arc<Fence>) -> Result<Connection, DialError> {
        let wire = match &self.place {
            Place::Tcp { host, port } => Wire::tcp(socket::connect(host, *port).await?),
            Place::Unix(path) => match UnixStream::connect(path).await {
                Ok(socket) => Ok(Wire::Unix(socket)),
                Err(error) => Err(std::io::Error::new(
                    error.kind(),
                    format!("{}: {error}", path.display()),
                )),
            },
        };
        let wire = wire.map_err(DialError::transient)?;
        Connection::open(wire, fence, self).await
    }

    pub(super) const fn tls(&self) -> Option<&TlsPlan> {
        self.tls.as_ref()
    }

    pub(super) const fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }
}

impl Place {
    /// The place, and whether the address asks for TLS.
    fn read(address: &str) -> Result<(Self, bool), String> {
        if let Some(path) = address.strip_prefix("unix:") {
            return Self::unix(path).map(|place| (place, false));
        }
        let (rest, https) = match address.split_once("://") {
            Some(("https", rest)) => (rest.trim_end_matches('/'), true),
            Some(("http", rest)) => (rest.trim_end_matches('/'), false),
            Some(_) => return Err(WANTED.to_owned()),
            None => (address, false),
        };
        let (host, port) = rest.rsplit_once(':').ok_or(WANTED)?;
        let port = port.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| "must have a port from 1 to 65535: host:port".to_owned())?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let legal = if host.starts_with('[') {
            bare.parse::<std::net::Ipv6Addr>().is_ok()
        } else {
            !host.is_empty() && host.len() <= 253 && host.chars().all(name)
        };
        if !legal {
            return Err(WANTED.to_owned());
        }
        let host = bare.to_owned();
        Ok((Self::Tcp { host, port }, https))
    }

    fn unix(path: &str) -> Result<Self, String> {
        // gRPC libraries write both `unix:/path` and `unix:///path`.
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') || path.contains('\0') {
            return Err("must be an absolute path: `unix:/path/of/its/socket`".to_owned());
        }
        if path.len() > MAX_PATH_BYTES {
            return Err(format!("must be a path of at most {MAX_PATH_BYTES} bytes"));
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, https: bool) -> Result<(Place, bool), String> {
        let host = host.to_owned();
        Ok((Place::Tcp { host, port }, https))
    }

    #[test]
    fn addresses_come_in_each_documented_form() {
        assert_eq!(Place::read("driver:7000"), tcp("driver", 7000, false));
        assert_eq!(Place::read("http://driver:7000"), tcp("driver", 7000, false));
        assert_eq!(Place::read("https://driver:7000/"), tcp("driver", 7000, true));
        assert_eq!(Place::read("[::1]:7000"), tcp("::1", 7000, false));
        let unix = Ok((Place::Unix(PathBuf::from("/run/d.sock")), false));
        assert_eq!(Place::read("unix:/run/d.sock"), unix);
        assert_eq!(Place::read("unix:///run/d.sock"), unix);
    }

    #[test]
    fn addresses_that_make_no_sense_are_refused() {
        let long = format!("unix:/{}", "x".repeat(MAX_PATH_BYTES));
        for text in [
            "",
            "driver",
            "driver:0",
            "driver:x",
            ":7000",
            "::1:7000",
            "[driver]:7000",
            "ftp://driver:1",
            "user@driver:7000",
            "driver:7000/path",
            "unix:",
            "unix:d.sock",
            &long,
        ] {
            assert!(Place::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tls_and_a_unix_socket_do_not_go_together() {
        let mut faults = Faults::default();
        let tls = Tls {
            enabled: true,
            ..Tls::default()
        };
        let read = Access::read("unix:/run/d.sock", &tls, Secrets::below("/nowhere"), &mut faults);
        assert!(read.is_none());
        assert_eq!(faults.list()[0].field, "tls.enabled");
    }
}
