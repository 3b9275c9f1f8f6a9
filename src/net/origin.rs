//! Who may be talking: requests for another host, or on behalf of another web page, are turned away before
//! anything looks at them. A page that rebinds its own name to this machine still says that name.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::reply::Refusal;

/// Header in which browsers tell how a request relates to the page that made it (W3C Fetch Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Lets a request through that names this machine by an address (or `localhost`) and comes from no other page.
pub async fn own_host_only(request: Request, next: Next) -> Response {
    match check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let misdirected = || Refusal::new(StatusCode::MISDIRECTED_REQUEST, "address this node by its IP address or as localhost");
    if headers.get_all(header::HOST).iter().count() != 1 {
        return Err(misdirected());
    }
    let host = text("host").filter(|host| is_own(host)).ok_or_else(misdirected)?;
    let foreign = || Refusal::new(StatusCode::FORBIDDEN, "web pages of others may not talk to this node");
    if text("origin").is_some_and(|origin| origin != format!("http://{host}")) {
        return Err(foreign());
    }
    if text(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site") {
        return Err(foreign());
    }
    Ok(())
}

/// Whether a Host header names a machine by address: names can be made to lead here by anybody.
fn is_own(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address, port.strip_prefix(':').or(port.is_empty().then_some(""))),
            None => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("")),
        },
    };
    let Some(port) = port else { return false };
    let port_is_plain = port.is_empty() || port.parse::<u16>().is_ok();
    port_is_plain && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_own_names_are_not() {
        for own in ["127.0.0.1:8766", "192.168.1.20", "[::1]:8766", "[fe80::1]", "localhost", "LOCALHOST:80"] {
            assert!(is_own(own), "{own}");
        }
        for foreign in ["evil.example", "evil.example:8766", "", "127.0.0.1.evil.example", "[::1", "localhost:x", "127.0.0.1:1:2", "[::1]x"] {
            assert!(!is_own(foreign), "{foreign}");
        }
    }
}
