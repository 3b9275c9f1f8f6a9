//! The HTTP surface: who is answered at all.

use crate::fixtures::Dialect;
use crate::nodes::*;

fn status_of(address: &str, target: &str, headers: &str) -> u16 {
    exchange(address, format!("GET {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").as_bytes()).0
}

#[test]
fn requests_for_another_name_or_from_another_page_are_turned_away_on_both_listeners() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve();
    let (loopback, token) = admin(&desktop);
    let lan = format!("127.0.0.1:{}", desktop.port);
    for address in [&loopback, &lan] {
        assert_eq!(status_of(address, "/", &format!("Host: {address}\r\n")), 200);
        assert_eq!(status_of(address, "/", "Host: localhost\r\n"), 200);
        // A rebound name leads here, but it says so.
        assert_eq!(status_of(address, "/", "Host: evil.example\r\n"), 421);
        assert_eq!(status_of(address, "/", &format!("Host: {address}\r\nOrigin: http://evil.example\r\n")), 403);
        assert_eq!(status_of(address, "/", &format!("Host: {address}\r\nOrigin: null\r\n")), 403);
        assert_eq!(status_of(address, "/", &format!("Host: {address}\r\nSec-Fetch-Site: cross-site\r\n")), 403);
        assert_eq!(status_of(address, "/", &format!("Host: {address}\r\nOrigin: http://{address}\r\n")), 200);
    }
    // Even with the token: a page that stole it can't use it from its own origin.
    let with_token = |origin: &str| status_of(&loopback, "/api/devices", &format!("Host: {loopback}\r\nAuthorization: Bearer {token}\r\n{origin}"));
    assert_eq!((with_token(""), with_token("Origin: https://evil.example\r\n")), (200, 403));
    let answer = raw(
        &lan,
        format!("OPTIONS / HTTP/1.1\r\nHost: {lan}\r\nOrigin: http://{lan}\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    assert!(!String::from_utf8_lossy(&answer).to_lowercase().contains("access-control"), "no page is ever invited");
}
