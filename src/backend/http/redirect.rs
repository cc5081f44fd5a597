//! Redirects within the service: followed if the call asks for it, never to another origin, which another pool's
//! limits and secrets would be right for.

use http::{Method, Response, StatusCode, Uri, header, uri::PathAndQuery};

use super::{address::Address, plan::Plan};

/// The request that an answer asks for instead, if the call wants it followed and it can be.
pub(super) fn next<B>(plan: &Plan, streamed: bool, answer: &Response<B>, address: &Address) -> Option<Plan> {
    if plan.redirects == 0 {
        return None;
    }
    let status = answer.status();
    let method = method_after(status, &plan.method)?;
    let keeps_body = method == plan.method && method != Method::GET && method != Method::HEAD
        || matches!(
            status,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
    if keeps_body && streamed {
        return None;
    }
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let mut next = Plan {
        path: resolve(location, &plan.path, address)?,
        redirects: plan.redirects - 1,
        method,
        ..plan.clone()
    };
    if !keeps_body {
        drop_body(&mut next);
    }
    Some(next)
}

/// 303 asks for the result with GET; 301 and 302 turn POST into GET, as every client does; 307 and 308 keep it.
fn method_after(status: StatusCode, method: &Method) -> Option<Method> {
    match status.as_u16() {
        303 if *method != Method::HEAD => Some(Method::GET),
        301 | 302 if *method == Method::POST => Some(Method::GET),
        301 | 302 | 303 | 307 | 308 => Some(method.clone()),
        _ => None,
    }
}

fn drop_body(plan: &mut Plan) {
    plan.body.clear();
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_LOCATION,
    ] {
        plan.headers.remove(name);
    }
}

/// A Location's path at this origin, as RFC 3986 resolves references; nothing for another origin.
fn resolve(location: &str, from: &PathAndQuery, address: &Address) -> Option<PathAndQuery> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = if address.https { "https" } else { "http" };
    let path = if let Some(rest) = location.strip_prefix("//") {
        at_origin(&format!("{scheme}://{rest}"), address)?
    } else if location.starts_with('/') {
        location.to_owned()
    } else if has_scheme(location) {
        at_origin(location, address)?
    } else if location.is_empty() {
        from.as_str().to_owned()
    } else if location.starts_with('?') {
        format!("{}{location}", from.path())
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{location}")
    };
    PathAndQuery::try_from(without_dots(&path)).ok()
}

fn has_scheme(location: &str) -> bool {
    let end = location.find([':', '/', '?']);
    end.is_some_and(|end| location.as_bytes().get(end) == Some(&b':'))
}

fn at_origin(url: &str, address: &Address) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    let https = match url.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
    let same = https == address.https && port == address.port && host.eq_ignore_ascii_case(&address.host);
    let anonymous = !url.authority()?.as_str().contains('@');
    (same && anonymous).then(|| {
        url.path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string)
    })
}

/// Removes `.` and `..` from a path, never above its root.
fn without_dots(path: &str) -> String {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    if matches!(path.rsplit('/').next(), Some("." | "..")) {
        kept.push("");
    }
    let path = format!("/{}", kept.join("/"));
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(location: &str) -> Option<String> {
        let address = Address {
            host: "api.example".to_owned(),
            port: 443,
            base: String::new(),
            https: true,
            authority: "api.example".to_owned(),
        };
        let from = PathAndQuery::from_static("/a/b?q=1");
        resolve(location, &from, &address).map(|path| path.to_string())
    }

    #[test]
    fn locations_of_this_origin_are_resolved() {
        for (location, path) in [
            ("/x?y=1#z", "/x?y=1"),
            ("c", "/a/c"),
            ("../c/./d", "/c/d"),
            ("../../..", "/"),
            ("?q=2", "/a/b?q=2"),
            ("https://api.example/x", "/x"),
            ("https://API.example:443", "/"),
            ("//api.example/x", "/x"),
            ("c/d:e", "/a/c/d:e"),
        ] {
            assert_eq!(resolved(location).as_deref(), Some(path), "{location}");
        }
    }

    #[test]
    fn locations_of_another_origin_are_not_followed() {
        for location in [
            "http://api.example/x",
            "https://api.example:8443/x",
            "https://evil.example/x",
            "//evil.example/x",
            "https://api.example@evil.example/",
            "https://u@api.example/",
            "ftp://api.example/",
            "javascript:alert(1)",
        ] {
            assert_eq!(resolved(location), None, "{location}");
        }
    }
}
