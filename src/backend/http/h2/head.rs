//! A request's head as HTTP/2 has it, and whether it is one frame: the fence lets frames pass one by one, and what is
//! begun of a head has to be finished.

use http::{HeaderValue, Request, Uri, Version, header, uri::Authority};
use http_body::Body as _;

use crate::backend::http::{definition::Target, payload::Payload};

/// A head, at most, as it goes over the wire: below the 16 KiB that a frame has at every peer.
pub(super) const LONGEST: usize = 15 * 1024;
/// What goes before and between a header's name and value, at most: its form and two lengths (RFC 7541, sections 5.1
/// and 6.2.2).
const FORM: usize = 7;

/// As HTTP/2 has it: scheme and authority with the path, the length as a header.
pub(super) fn for_http2(request: Request<Payload>, target: &Target) -> (Request<()>, Payload) {
    let (mut parts, payload) = request.into_parts();
    let own = parts.headers.remove(header::HOST);
    let own = own.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority = own.or_else(|| Authority::try_from(target.address.authority.as_str()).ok());
    let mut uri = Uri::builder().scheme(if target.address.https { "https" } else { "http" });
    if let Some(authority) = authority {
        uri = uri.authority(authority);
    }
    if let Some(path) = parts.uri.path_and_query() {
        uri = uri.path_and_query(path.clone());
    }
    // Its parts were checked one by one; h2 refuses what is not whole.
    parts.uri = uri.build().unwrap_or_default();
    parts.version = Version::HTTP_2;
    if let (Some(length @ 1..), false) = (
        payload.size_hint().exact(),
        parts.headers.contains_key(header::CONTENT_LENGTH),
    ) {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    (Request::from_parts(parts, ()), payload)
}

/// What a head takes on the wire, at most.
pub(super) fn size(request: &Request<()>) -> usize {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", Authority::as_str);
    let scheme = uri.scheme_str().unwrap_or_default();
    let own = [
        (":method", request.method().as_str()),
        (":scheme", scheme),
        (":authority", authority),
        (":path", path),
    ];
    let own = own.map(|(name, value)| field(name, value.as_bytes()));
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| field(name.as_str(), value.as_bytes()));
    own.into_iter().chain(headers).sum()
}

fn field(name: &str, value: &[u8]) -> usize {
    let bytes = name.bytes().chain(value.iter().copied());
    FORM + bytes.map(weight).sum::<usize>()
}

/// A byte's part of a text, at most, which h2 always writes in Huffman's code (RFC 7541, appendix B): from 5 bits to 30.
const fn weight(byte: u8) -> usize {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => 1,
        b' ' | b'%' | b'&' | b'*' | b',' | b'-' | b'.' | b'/' | b':' | b';' | b'=' | b'_' => 1,
        b'\\' => 3,
        b'!'..=b'~' => 2,
        _ => 4,
    }
}
