//! Who holds a port of this machine, as far as the system lets us see.

use std::collections::HashSet;

/// State of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`, include/net/tcp_states.h).
const LISTENING: &str = "0A";

/// The program that listens on `port`, as “name (process 123)”; `None` where that can't be seen: another user's, or no Linux.
#[must_use]
pub fn holder(port: u16) -> Option<String> {
    let sockets: HashSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| table.lines().filter_map(|line| listening_socket(line, port)).collect::<Vec<_>>())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = files
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|target| target.to_str().is_some_and(|target| sockets.contains(target)));
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let name: String = name.trim().chars().filter(|character| !character.is_control()).collect();
            return Some(format!("{name} (process {pid})"));
        }
    }
    None
}

/// The inode of the socket a line of the table is about, when it listens on `port`. Columns: number, local address, remote address,
/// state, queues, timer, retransmissions, user, timeout, inode (proc(5)).
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
}
