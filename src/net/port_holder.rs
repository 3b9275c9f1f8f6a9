//! Who holds a port of this machine, as far as the system lets us see, and as far as it says by its
//! health answer.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a node of ours calls itself in its health answer, which has the documented shape of
/// Storymaster's own server otherwise.
pub const SERVER: &str = "storysync";
/// How long whoever holds a port may take to say who it is.
const HEALTH_WITHIN: Duration = Duration::from_secs(1);
/// Longest health answer read, head and all, in bytes.
const HEALTH_BYTES_MAX: usize = 16 * 1024;

/// State of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`, include/net/tcp_states.h).
const LISTENING: &str = "0A";

/// The documented health answer.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "that the fields are there says who it is")]
struct Health {
    status: String,
    timestamp: String,
    database_connected: bool,
    version: String,
    /// Only nodes of ours say it.
    #[serde(default)]
    server: Option<String>,
}

/// Who listens at an address, in words; `None` where neither the system nor the program says.
pub async fn who_holds(address: SocketAddr) -> Option<String> {
    let process = holder(address.port());
    let kind =
        tokio::time::timeout(HEALTH_WITHIN, health(address)).await.ok().flatten().map(|health| {
            // Earlier nodes of ours did not say who they are, but their process does.
            let is_ours = health.server.as_deref() == Some(SERVER)
                || process.as_ref().is_some_and(|process| process.starts_with("storysync ("));
            if is_ours { "another storysync node" } else { "Storymaster's own sync server" }
        });
    match (kind, process) {
        (Some(kind), Some(process)) => Some(format!("{kind}, {process}")),
        (kind, process) => kind.map(str::to_owned).or(process),
    }
}

/// What answers `GET /` there, when it has the documented shape.
async fn health(address: SocketAddr) -> Option<Health> {
    let ip =
        if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    let address = SocketAddr::new(ip, address.port());
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream
        .write_all(
            format!(
                "GET / HTTP/1.1\r\nHost: {address}\r\nAccept: \
        application/json\r\nConnection: close\r\n\r\n"
            )
            .as_bytes(),
        )
        .await
        .ok()?;
    let mut answer = Vec::new();
    loop {
        let read = stream.read_buf(&mut answer).await.ok()?;
        // Some servers keep the connection open whatever they are asked.
        if let Some(health) = std::str::from_utf8(&answer).ok().and_then(health_in) {
            return Some(health);
        }
        if read == 0 || answer.len() > HEALTH_BYTES_MAX {
            return None;
        }
    }
}

/// What stands between the braces of the body, whether it came in chunks or whole.
fn health_in(answer: &str) -> Option<Health> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body.get(body.find('{')?..=body.rfind('}')?)?).ok()
}

/// The program that listens on `port`, as “name (process 123)”; `None` where that can't be seen:
/// another user's, or no Linux.
#[must_use]
pub fn holder(port: u16) -> Option<String> {
    let sockets: HashSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| {
            table.lines().filter_map(|line| listening_socket(line, port)).collect::<Vec<_>>()
        })
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = files
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|target| target.to_str().is_some_and(|target| sockets.contains(target)));
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let name: String =
                name.trim().chars().filter(|character| !character.is_control()).collect();
            return Some(format!("{name} (process {pid})"));
        }
    }
    None
}

/// The inode of the socket a line of the table is about, when it listens on `port`. Columns:
/// number, local address, remote address, state, queues, timer, retransmissions, user, timeout,
/// inode (proc(5)).
fn listening_socket(line: &str, port: u16) -> Option<String> {
    let mut columns = line.split_whitespace().skip(1);
    let local = columns.next()?;
    let state = columns.nth(1)?;
    let inode = columns.nth(5)?;
    let found = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    (found == port && state == LISTENING).then(|| inode.to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_this_very_process_is_told_by_its_id() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(holder(port).unwrap().contains(&format!("(process {})", std::process::id())));
        drop(listener);
        assert_eq!(holder(port), None);
    }

    /// Answers everything with one body, as a server does that closes, or keeps open, its
    /// connections.
    fn answering(body: &'static str, closes: bool) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let _ = std::io::Read::read(&mut stream, &mut request);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: \
                        application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = std::io::Write::write_all(
                    &mut stream,
                    [head.as_bytes(), body.as_bytes()].concat().as_slice(),
                );
                if !closes {
                    kept.push(stream);
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn the_apps_server_and_nodes_are_known_by_their_health_and_others_by_their_process() {
        const APP: &str = concat!(
            r#"{"status":"ok","timestamp":"2026-11-27T12:00:00.123456","#,
            r#""database_connected":true,"version":"1.0.0"}"#
        );
        const OURS: &str = concat!(
            r#"{"status":"ok","timestamp":"2026-11-27T12:00:00Z","database_connected":true,"#,
            r#""version":"0.1.0","server":"storysync"}"#
        );
        let own_process = format!("(process {})", std::process::id());
        for (body, kind) in [
            (APP, "Storymaster's own sync server, "),
            (OURS, "another storysync node, "),
            (r#"{"status":"ok"}"#, ""),
            ("hello", ""),
        ] {
            for closes in [true, false] {
                let words = who_holds(answering(body, closes)).await.unwrap();
                assert!(words.starts_with(kind) && words.ends_with(&own_process), "{words}");
                assert_eq!(
                    kind.is_empty(),
                    !words.contains(" sync server") && !words.contains(" node,"),
                    "{words}"
                );
            }
        }
        assert_eq!(who_holds(SocketAddr::from(([127, 0, 0, 1], 1))).await, None);
    }
}
