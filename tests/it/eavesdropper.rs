//! A stranger on the network between two nodes: forwards, records, spoils and replays what they
//! say.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A stranger on the network between two nodes: forwards and records every byte of each direction.
pub struct Recorder {
    pub port: u16,
    recorded: Arc<Mutex<Recorded>>,
}

#[derive(Default)]
struct Recorded {
    /// Everything clients sent, by connection.
    requests: Vec<Vec<u8>>,
    /// Everything the server answered.
    answers: Vec<Vec<u8>>,
}

impl Recorder {
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let recorded = Arc::new(Mutex::new(Recorded::default()));
        let shared = Arc::clone(&recorded);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let index = {
                    let mut recorded = shared.lock().unwrap();
                    recorded.requests.push(Vec::new());
                    recorded.answers.push(Vec::new());
                    recorded.requests.len() - 1
                };
                let (shared_up, shared_down) = (Arc::clone(&shared), Arc::clone(&shared));
                let (client_up, server_up) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    forward(client_up, server_up, |bytes| {
                        shared_up.lock().unwrap().requests[index].extend_from_slice(bytes)
                    })
                });
                std::thread::spawn(move || {
                    forward(server, client, |bytes| {
                        shared_down.lock().unwrap().answers[index].extend_from_slice(bytes)
                    })
                });
            }
        });
        Self { port, recorded }
    }

    /// Every byte of both directions.
    pub fn wire(&self) -> Vec<u8> {
        let recorded = self.recorded.lock().unwrap();
        recorded.requests.iter().chain(&recorded.answers).flatten().copied().collect()
    }

    /// The HTTP requests clients sent, in the order of their connections.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        self.recorded
            .lock()
            .unwrap()
            .requests
            .iter()
            .flat_map(|stream| requests_in(stream))
            .collect()
    }
}

pub fn forward(mut from: TcpStream, mut to: TcpStream, mut note: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 {
            break;
        }
        note(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(std::net::Shutdown::Write));
}

/// The HTTP requests in a recorded stream.
fn requests_in(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    let mut rest = stream;
    while let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.trim().parse().unwrap());
        let all = (end + 4 + length).min(rest.len());
        requests.push(rest[..all].to_vec());
        rest = &rest[all..];
    }
    requests
}

/// The request, asking the server to close the connection after it.
pub fn closing(request: &[u8]) -> Vec<u8> {
    let line = request.windows(2).position(|window| window == b"\r\n").unwrap() + 2;
    [&request[..line], b"connection: close\r\n", &request[line..]].concat()
}

/// Forwards answers with the last byte of each flipped.
pub fn spoil(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 256 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 {
            break;
        }
        buffer[read - 1] ^= 1;
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
}

/// Stands before a server and closes the first connection once it has been silent after an answer,
/// as a server does with a client that takes its time.
pub fn close_first_when_silent(server: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let closed = Arc::new(AtomicBool::new(false));
    let noting = Arc::clone(&closed);
    std::thread::spawn(move || {
        for (index, client) in listener.incoming().enumerate() {
            let Ok(mut client) = client else { return };
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            let (client_up, server_up) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || forward(client_up, server_up, |_| {}));
            if index > 0 {
                std::thread::spawn(move || forward(server, client, |_| {}));
                continue;
            }
            let closed = Arc::clone(&noting);
            std::thread::spawn(move || {
                server.set_read_timeout(Some(std::time::Duration::from_millis(150))).unwrap();
                let (mut buffer, mut answered) = ([0; 64 * 1024], 0);
                loop {
                    match server.read(&mut buffer) {
                        Ok(0) => return,
                        Ok(read) => {
                            answered += read;
                            if client.write_all(&buffer[..read]).is_err() {
                                return;
                            }
                        }
                        // A page has come, and the client is busy with it.
                        Err(_) if answered > 20_000 => {
                            closed.store(true, Ordering::Relaxed);
                            drop(client.shutdown(std::net::Shutdown::Both));
                            drop(server.shutdown(std::net::Shutdown::Both));
                            return;
                        }
                        Err(_) => {}
                    }
                }
            });
        }
    });
    (port, closed)
}

/// A server of a version that reads no sealed token: forwards what comes, and refuses requests with
/// one as such a server does. Records what clients send.
pub fn before_sealed_tokens(server: u16) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&heard);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            let recorded = Arc::clone(&recorded);
            std::thread::spawn(move || {
                let mut first = [0; 64 * 1024];
                let read = client.read(&mut first).unwrap_or(0);
                recorded.lock().unwrap().extend_from_slice(&first[..read]);
                if String::from_utf8_lossy(&first[..read]).contains("Sealed ") {
                    let refusal = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno";
                    drop(client.write_all(refusal));
                    return;
                }
                drop(server.write_all(&first[..read]));
                let (client_up, server_up) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    forward(client_up, server_up, |bytes| {
                        recorded.lock().unwrap().extend_from_slice(bytes)
                    })
                });
                forward(server, client, |_| {});
            });
        }
    });
    (port, heard)
}
