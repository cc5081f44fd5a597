//! Where an endpoint's address points: `host:port`, or a URL.

use http::{Uri, uri::Scheme};

use crate::backend::{Place, endpoint};

/// Where an endpoint's address points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// What every path begins with: empty, or `/…` without a slash at its end.
    pub(super) base: String,
    pub(super) https: bool,
    /// As the Host header has it: the port only where it is not the scheme's own.
    pub(super) authority: String,
}

impl Address {
    /// Reads `host:port` or a URL; `tls` says whether the definition turns TLS on.
    pub(super) fn read(text: &str, tls: bool) -> Result<Self, String> {
        let written = text.to_ascii_lowercase();
        let scheme = match written.split_once("://") {
            Some(("http", _)) if tls => {
                return Err(
                    "says http, but tls.enabled is true: write https, or leave tls.enabled out".to_owned(),
                );
            }
            Some(("http", _)) => Some(Scheme::HTTP),
            Some(("https", _)) => Some(Scheme::HTTPS),
            Some(_) => return Err("must begin with http:// or https://, or be host:port".to_owned()),
            None => None,
        };
        let uri = read_uri(text, scheme.is_none())?;
        let https = tls || scheme == Some(Scheme::HTTPS);
        let host = read_host(uri.host().unwrap_or_default())?;
        let port = read_port(&uri, scheme.as_ref())?;
        Ok(Self {
            authority: authority(&host, port, https),
            base: uri.path().trim_end_matches('/').to_owned(),
            host,
            port,
            https,
        })
    }

    /// As [`Address::read`] for what its endpoint is told apart by; `base` is the path of an address without one.
    pub(super) fn place(text: &str, tls: bool, base: &str) -> Option<Place> {
        let mut address = Self::read(text, tls).ok()?;
        if address.base.is_empty() {
            base.clone_into(&mut address.base);
        }
        Some(Place {
            address: address.one_form().into(),
            tls: address.https,
        })
    }

    /// `host:port/base`, the same for all ways to write it. Whether it is TLS that is spoken there is no part of it: a
    /// port is one place either way.
    pub(super) fn one_form(&self) -> String {
        endpoint::one_form(&self.host, self.port) + &self.base
    }
}

fn read_uri(text: &str, bare: bool) -> Result<Uri, String> {
    if text.contains('@') {
        return Err(
            "must hold no user or password: put them into http.secret_headers, for example \
                    `authorization` with a SecretRef"
                .to_owned(),
        );
    }
    if bare && text.contains('/') {
        return Err("must begin with http:// or https:// to have a path".to_owned());
    }
    if text.contains(['?', '#']) {
        return Err("must have neither query nor fragment".to_owned());
    }
    let url = if bare {
        format!("http://{text}")
    } else {
        text.to_owned()
    };
    url.parse()
        .map_err(|_| "must be host:port, [::1]:port, or a URL such as https://host:port/base".to_owned())
}

fn read_host(written: &str) -> Result<String, String> {
    let host = written.trim_start_matches('[').trim_end_matches(']');
    let name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let legal = match written.starts_with('[') {
        true => host.parse::<std::net::Ipv6Addr>().is_ok(),
        false => !host.is_empty() && host.len() <= 253 && host.chars().all(name),
    };
    if legal {
        Ok(host.to_owned())
    } else {
        Err("must have a host: a name, an IPv4 address, or an IPv6 address in brackets".to_owned())
    }
}

fn read_port(uri: &Uri, scheme: Option<&Scheme>) -> Result<u16, String> {
    let written = uri
        .authority()
        .map(http::uri::Authority::as_str)
        .unwrap_or_default();
    match (uri.port_u16(), scheme) {
        (Some(0), _) => Err("must have a port from 1 to 65535".to_owned()),
        (Some(port), _) => Ok(port),
        (None, Some(scheme)) if !written.ends_with(':') && uri.port().is_none() => {
            Ok(if *scheme == Scheme::HTTPS { 443 } else { 80 })
        }
        (None, _) => Err("must have a port from 1 to 65535: host:port".to_owned()),
    }
}

fn authority(host: &str, port: u16, https: bool) -> String {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let own = if https { 443 } else { 80 };
    if port == own {
        host
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, u16, String, bool, String), String> {
        Address::read(text, false).map(|a| (a.host, a.port, a.base, a.https, a.authority))
    }

    #[test]
    fn addresses_come_in_each_documented_form() {
        let found = |host: &str, port, base: &str, https, authority: &str| {
            Ok((
                host.to_owned(),
                port,
                base.to_owned(),
                https,
                authority.to_owned(),
            ))
        };
        assert_eq!(read("api:8080"), found("api", 8080, "", false, "api:8080"));
        assert_eq!(read("[::1]:8080"), found("::1", 8080, "", false, "[::1]:8080"));
        assert_eq!(read("http://api"), found("api", 80, "", false, "api"));
        assert_eq!(
            read("https://api.example/v1/"),
            found("api.example", 443, "/v1", true, "api.example")
        );
        assert_eq!(
            read("HTTPS://api:8443/a/b"),
            found("api", 8443, "/a/b", true, "api:8443")
        );
        assert!(Address::read("api:8080", true).unwrap().https);
    }

    #[test]
    fn addresses_that_make_no_sense_are_refused() {
        for text in [
            "",
            "api",
            "api:",
            "api:0",
            "api:99999",
            ":80",
            "::1:80",
            "[api]:80",
            "api:80/base",
            "ftp://api",
            "http://",
            "http://api?x=1",
            "http://api/#x",
            "http://a b/",
            "http://api:/x",
            "http://a\r\nb:80",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(Address::read("http://api", true).is_err());
    }

    #[test]
    fn a_password_in_an_address_is_refused_with_the_way_to_do_it() {
        let message = read("http://user:pa55@api").unwrap_err();
        assert!(message.contains("secret_headers"), "{message}");
        assert!(!message.contains("pa55"), "{message}");
    }
}
