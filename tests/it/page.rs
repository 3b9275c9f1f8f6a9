//! The page: who sees it at all, what it loads, and that what people and devices write is shown as
//! text. How it is used is `tests/page/story.mjs`'s.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixtures::Dialect;
use crate::nodes::*;

/// A browser: its headers and its session.
struct Browser {
    address: String,
    cookie: String,
}

struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

impl Browser {
    /// Opens the page as `storysync open` does.
    fn open(node: &TestNode) -> Self {
        let url = node.run_json(&["open", "--no-browser"])["url"].as_str().unwrap().to_owned();
        let rest = url.strip_prefix("http://").unwrap();
        let (address, target) = rest.split_once('/').unwrap();
        let mut browser = Self { address: address.to_owned(), cookie: String::new() };
        let answer = browser.get(&format!("/{target}"));
        assert_eq!(answer.status, 303, "{}", answer.body);
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        browser.cookie = cookie.split(';').next().unwrap().to_owned();
        browser
    }

    fn ask(&self, method: &str, target: &str, headers: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\nCookie: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
             Connection: close\r\n{headers}\r\n{body}",
            self.address,
            self.cookie,
            body.len()
        );
        let answer = String::from_utf8_lossy(&raw(&self.address, request.as_bytes())).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        Answer {
            status: head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0),
            headers: head.to_owned(),
            body: body.to_owned(),
        }
    }

    fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "Sec-Fetch-Site: same-origin\r\n", "")
    }

    fn post(&self, target: &str, body: &str) -> Answer {
        let own = format!("Sec-Fetch-Site: same-origin\r\nOrigin: http://{}\r\n", self.address);
        self.ask("POST", target, &own, body)
    }
}

const VIEWS: &[&str] = &[
    "/",
    "/pair",
    "/conflicts",
    "/conflicts/ended",
    "/deleted",
    "/health",
    "/settings",
    "/embed/status",
];

#[test]
fn without_a_session_from_another_page_or_framed_nothing_of_the_page_is_seen() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve();
    let browser = Browser::open(&desktop);
    let stranger = Browser { address: browser.address.clone(), cookie: String::new() };
    let guessed =
        Browser { address: browser.address.clone(), cookie: format!("{}x", browser.cookie) };
    for view in VIEWS {
        let seen = browser.get(view);
        assert_eq!(seen.status, 200, "{view}: {}", seen.body);
        assert!(seen.body.contains("</html>"), "{view}");
        let policy = seen.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'")
                && policy.contains("frame-ancestors 'none'")
                && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(seen.header("x-frame-options"), Some("DENY"));
        assert_eq!(seen.header("cache-control"), Some("no-store"));
        for nobody in [&stranger, &guessed] {
            let refused = nobody.get(view);
            assert_eq!(refused.status, 401, "{view}");
            assert!(!refused.body.contains("story.db") && !refused.body.contains("data-device"));
        }
        // Another port of this machine is the same site for a browser, and another page all the
        // same.
        for site in ["cross-site", "same-site"] {
            let answer = browser.ask("GET", view, &format!("Sec-Fetch-Site: {site}\r\n"), "");
            let allowed = *view == "/" && site == "same-site";
            assert!(allowed || answer.status == 403, "{view} {site}: {}", answer.status);
        }
    }
    let forged = [
        "",
        "Sec-Fetch-Site: none\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: http://127.0.0.1:9\r\n",
        "Origin: null\r\n",
    ];
    for headers in forged {
        let answer = browser.ask("POST", "/pair/new", headers, "");
        assert_eq!(answer.status, 403, "{headers}: {}", answer.body);
    }
    assert_eq!(stranger.post("/pair/new", "").status, 401);
    assert_eq!(browser.post("/pair/new", "").status, 303);
    assert!(browser.get("/pair").body.contains("/pair/qr.png"));
}

#[test]
fn a_link_opens_the_page_once_and_a_session_outlives_a_restart() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve();
    let (address, token) = admin(&desktop);
    let (status, link) = http_post(&address, "/api/page/link", &token, &json!({}));
    assert_eq!(status, 200);
    let path = link["path"].as_str().unwrap();
    let nobody = Browser { address: address.clone(), cookie: String::new() };
    assert_eq!(nobody.get(path).status, 303);
    assert_eq!(nobody.get(path).status, 401, "it let somebody in already");
    assert_eq!(http_post(&address, "/api/page/link", "wrong", &json!({})).0, 401);
    assert_eq!(nobody.get("/?token=AAAA").status, 401);
    // Where it leads is a place of this page.
    let (_, link) = http_post(&address, "/api/page/link", &token, &json!({}));
    let elsewhere = format!("{}&next=//evil.example/", link["path"].as_str().unwrap());
    assert_eq!(nobody.get(&elsewhere).header("location"), Some("/"));

    let browser = Browser::open(&desktop);
    desktop.stop();
    desktop.serve();
    let (address, _) = admin(&desktop);
    let again = Browser { address, cookie: browser.cookie };
    assert_eq!(again.get("/").status, 200);
    let trust = std::fs::read(desktop.data_dir().join("trust.db")).unwrap();
    let secret = again.cookie.split_once('=').unwrap().1.as_bytes();
    assert!(!trust.windows(secret.len()).any(|bytes| bytes == secret), "only its hash is kept");
}

#[test]
fn a_program_that_asks_for_the_first_view_gets_the_nodes_health() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve();
    let (address, _) = admin(&desktop);
    let (status, body) = http_get(&address, "/", "");
    assert_eq!(status, 200);
    let health: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(health["status"], "ok");
}

#[test]
fn the_page_is_small_and_loads_nothing_from_elsewhere() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve();
    let browser = Browser::open(&desktop);
    let view = browser.get("/").body;
    let mut bytes = view.len();
    for piece in view.split("=\"").skip(1) {
        let value = piece.split('"').next().unwrap();
        assert!(!value.contains("//"), "{value}");
        if value.starts_with("/assets/") {
            bytes += browser.get(value).body.len();
        }
    }
    assert!(view.contains("/assets/page.js") && view.contains("/assets/page.css"));
    assert!(bytes < 150_000, "{bytes} bytes");
}

#[test]
fn what_writers_and_devices_write_is_text_in_every_view() {
    let mut desktop = TestNode::empty();
    let hostile = "<img src=x onerror=alert(1)>\u{202e}\u{1b}[2J&lt; \u{1f469}\u{200d}\u{1f680}";
    let long = "wort".repeat(25_000);
    desktop.app("CREATE TABLE note (id INTEGER PRIMARY KEY, title VARCHAR(200), body TEXT)");
    desktop.app(&format!("INSERT INTO note (title, body) VALUES ('{hostile}', '{long}')"));
    desktop.serve_with(&["--name", "<b>Revoke</b>"]);
    desktop.app(&format!("UPDATE note SET title = '{hostile}!', body = '{long} Ende'"));
    let uuid: String = desktop.value("SELECT sync_uuid FROM note");
    let browser = Browser::open(&desktop);
    eventually(Duration::from_secs(10), "the edit is known", || {
        browser.get("/").body.contains("/row/note/")
    });
    let row = format!("/row/note/{uuid}");
    desktop.app("DELETE FROM note");
    eventually(Duration::from_secs(10), "the deletion is known", || {
        browser.get("/deleted").body.contains(&row)
    });
    for view in VIEWS.iter().copied().chain([row.as_str()]) {
        let seen = browser.get(view).body;
        assert!(!seen.contains("<img src=x") && !seen.contains("<b>Revoke"), "{view}");
        assert!(!seen.contains('\u{202e}') && !seen.contains('\u{1b}'), "{view}");
    }
    assert!(browser.get(&row).body.contains("&lt;img src=x onerror=alert(1)&gt;"));
    assert!(browser.get("/settings").body.contains("&lt;b&gt;Revoke&lt;/b&gt;"));
}

#[test]
fn a_form_without_a_side_or_of_something_unknown_is_answered_with_a_sentence() {
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve();
    let browser = Browser::open(&desktop);
    for (target, body) in [
        ("/conflict/0000", "take=mine"),
        ("/conflicts/preview", "take=mine"),
        ("/conflicts/take-back", "id=0000"),
        ("/notice/n1", "take=theirs"),
        ("/hold/7", "decision=approve"),
        ("/pair/code", "code=1234"),
        ("/pair/name", "name=+"),
        ("/device/nobody/keep", ""),
        ("/device/nobody/undo", "hours=1"),
        ("/row/nothing/nothing/take-back", "change=00&back=/deleted"),
    ] {
        let answer = browser.post(target, body);
        assert_eq!(answer.status, 303, "{target}: {}", answer.body);
        let to = answer.header("location").unwrap().to_owned();
        let told = browser.get(&to);
        assert!(told.body.contains("role=\"alert\""), "{target} leads to {to}: {}", told.status);
        assert!(!browser.get("/pair").body.contains("role=\"alert\""), "it is told once");
    }
    for view in ["/conflict/0000", "/row/nothing/nothing", "/device/nobody"] {
        let answer = browser.get(view);
        assert_eq!(answer.status, 404, "{view}");
        assert!(answer.body.contains("role=\"alert\""), "{view}");
    }
}

#[test]
fn open_starts_a_node_that_asks_before_it_prepares_anything() {
    let desktop = TestNode::without_database();
    desktop.app("CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT)");
    std::fs::create_dir_all(desktop.data_dir()).unwrap();
    let refused = desktop.fails(&["open", "--no-browser"]);
    assert!(refused.contains("can be read by other users"), "the reason is told: {refused}");
    let owner_only = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(desktop.data_dir(), owner_only).unwrap();
    std::fs::write(
        desktop.data_dir().join("config.toml"),
        "host = \"127.0.0.1\"\nport = 0\nadmin_port = 0\ndiscovery = false\n",
    )
    .unwrap();
    let browser = Browser::open(&desktop);
    let first = browser.get("/").body;
    assert!(first.contains("Prepare it"), "{first}");
    let columns = "SELECT count(*) FROM pragma_table_info('note')";
    assert_eq!(desktop.value::<i64>(columns), 2, "nothing is done before somebody said so");
    assert_eq!(browser.ask("POST", "/start", "", "what=prepare").status, 401, "of another page");
    assert_eq!(browser.post("/start", "what=prepare").status, 200);
    eventually(Duration::from_secs(20), "the node serves", || {
        std::fs::exists(desktop.data_dir().join("admin.json")).unwrap()
    });
    assert!(desktop.value::<i64>(columns) > 2);
    assert!(browser.get("/").body.contains("data-overall"), "the session goes on");
    let ended = browser.post("/settings/end", "");
    assert!(ended.body.contains("has ended"), "{}", ended.body);
    let begun = Instant::now();
    while std::fs::exists(desktop.data_dir().join("admin.json")).unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the node did not stop");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_program_that_listens_is_told_how_the_node_stands_and_whenever_that_changes() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut desktop = TestNode::with_fixture(Dialect::Presync);
    desktop.serve();
    let (address, token) = admin(&desktop);
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    write!(
        stream,
        "GET /api/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut next = || loop {
        let line = lines.next().unwrap().unwrap();
        if let Some(data) = line.strip_prefix("data: ") {
            break serde_json::from_str::<serde_json::Value>(data).unwrap();
        }
    };
    let first = next();
    assert_eq!(first["overall"], "alone");
    assert!(first["conflicts"].is_i64() && first["devices"].is_array());
    let (status, _) = http_post(&address, "/api/name", &token, &json!({ "name": "Attic" }));
    assert_eq!(status, 200);
    assert_eq!(next()["name"], "Attic");
    assert_eq!(http_get(&address, "/api/events", "wrong").0, 401);
}
