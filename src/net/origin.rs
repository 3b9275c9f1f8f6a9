//! Who may be talking: requests for another host, or on behalf of another web page, are turned away
//! before anything looks at them. A page that rebinds its own name to this machine still says that
//! name.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::node_state::NodeState;
use super::reply::Refusal;

/// Header in which browsers tell how a request relates to the page that made it (W3C Fetch
/// Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Names this machine may be addressed by, besides its addresses and `localhost`.
#[derive(Debug, Clone, Default)]
pub struct HostNames(Arc<[String]>);

impl HostNames {
    /// Those of a node.
    #[must_use]
    pub fn of(node: &NodeState) -> Self {
        Self(node.settings.host_names.as_slice().into())
    }
}

/// Lets a request through that names this machine by an address, `localhost` or a configured name,
/// and comes from no other page.
pub async fn own_host_only(
    State(names): State<HostNames>,
    request: Request,
    next: Next,
) -> Response {
    let elsewhere =
        request.uri().authority().is_some_and(|authority| !is_own(authority.as_str(), &names.0));
    let checked = if elsewhere { Err(misdirected()) } else { check(request.headers(), &names.0) };
    match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn misdirected() -> Refusal {
    Refusal::new(
        StatusCode::MISDIRECTED_REQUEST,
        "address this node by its IP address or as localhost",
    )
}

fn check(headers: &HeaderMap, names: &[String]) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if headers.get_all(header::HOST).iter().count() != 1 {
        return Err(misdirected());
    }
    let host = text("host").filter(|host| is_own(host, names)).ok_or_else(misdirected)?;
    let foreign =
        || Refusal::new(StatusCode::FORBIDDEN, "web pages of others may not talk to this node");
    // Several of one kind contradict each other: no browser sends them.
    if [header::ORIGIN.as_str(), SEC_FETCH_SITE]
        .iter()
        .any(|name| headers.get_all(*name).iter().count() > 1)
    {
        return Err(foreign());
    }
    if text("origin").is_some_and(|origin| origin != format!("http://{host}")) {
        return Err(foreign());
    }
    if text(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site") {
        return Err(foreign());
    }
    Ok(())
}

/// Whether a Host header names this machine: by any address, or by one of `names`. Other names can
/// be made to lead here by anybody.
fn is_own(host: &str, names: &[String]) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                (address, port.strip_prefix(':').or(port.is_empty().then_some("")))
            }
            None => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("")),
        },
    };
    let Some(port) = port else { return false };
    let port_is_plain = port.is_empty()
        || (port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let is_named = name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| name.eq_ignore_ascii_case(known));
    port_is_plain && (is_named || name.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_own_names_are_not() {
        for own in [
            "127.0.0.1:8766",
            "192.168.1.20",
            "[::1]:8766",
            "[fe80::1]",
            "localhost",
            "LOCALHOST:80",
        ] {
            assert!(is_own(own, &[]), "{own}");
        }
        let names = ["desk.local".to_owned()];
        assert!(is_own("desk.local:8765", &names) && is_own("DESK.local", &names));
        for foreign in [
            "evil.example",
            "evil.example:8766",
            "",
            "127.0.0.1.evil.example",
            "[::1",
            "localhost:x",
            "127.0.0.1:1:2",
            "[::1]x",
            "127.0.0.1:+80",
        ] {
            assert!(!is_own(foreign, &names), "{foreign}");
        }
    }
}
