//! Can each paired device be reached, and is it itself that answers?

use super::{CLOCK_SKEW_MS_MAX, Findings, Level};
use crate::cli::commands::contact_choice;
use crate::cli::context::Context;
use crate::net::addresses;
use crate::net::addresses::Candidate;
use crate::net::client::{Caller, ClientError, Trail};
use crate::net::handle::EngineHandle;
use crate::net::node_state::now;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use storysync_crdt::Stamp;
use storysync_engine::store::key_file;
use storysync_engine::store::trust::{TrustStore, TrustedDevice};
use storysync_engine::trust::identity::Identity;
use tokio::net::TcpStream;

/// Time for one address to answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Longest health answer read, in bytes.
pub(super) const HEALTH_BYTES_MAX: usize = 4 * 1024;

/// Addresses of one device that are visited, all at once: more than are ever kept of one.
const ADDRESSES_VISITED_MAX: usize = 64;

/// What came of knocking at one address.
pub(super) enum Knock {
    Health(Value),
    /// Something answers that is no node.
    Stranger,
    /// The machine is there, and nothing listens.
    Refused,
    /// Nothing comes back.
    Silence,
}

pub(super) async fn knock(address: &str) -> Knock {
    let health = async {
        let stream = TcpStream::connect(address).await?;
        let host = stream.peer_addr()?.to_string();
        let broken = |_| std::io::Error::from(ErrorKind::InvalidData);
        let (mut requests, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .uri("/")
            .header("host", host)
            .body(Empty::<Bytes>::new())
            .map_err(|_| std::io::Error::from(ErrorKind::InvalidData))?;
        let body = requests.send_request(request).await.map_err(broken)?.into_body();
        let bytes = http_body_util::Limited::new(body, HEALTH_BYTES_MAX)
            .collect()
            .await
            .map_err(|_| std::io::Error::from(ErrorKind::InvalidData))?
            .to_bytes();
        serde_json::from_slice::<Value>(&bytes)
            .map_err(|_| std::io::Error::from(ErrorKind::InvalidData))
    };
    match tokio::time::timeout(ANSWER_WITHIN, health).await {
        Ok(Ok(health)) if health["version"].is_string() => Knock::Health(health),
        Ok(Ok(_)) => Knock::Stranger,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Knock::Refused,
        Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => Knock::Stranger,
        Ok(Err(_)) | Err(_) => Knock::Silence,
    }
}

/// Whether an address is in one of the networks this machine is in.
pub(super) fn is_near(ip: IpAddr) -> bool {
    if_addrs::get_if_addrs().unwrap_or_default().into_iter().any(|interface| {
        match (interface.addr, ip) {
            (if_addrs::IfAddr::V4(own), IpAddr::V4(ip)) => {
                u32::from(own.ip) & u32::from(own.netmask) == u32::from(ip) & u32::from(own.netmask)
            }
            (if_addrs::IfAddr::V6(own), IpAddr::V6(ip)) => {
                u128::from(own.ip) & u128::from(own.netmask)
                    == u128::from(ip) & u128::from(own.netmask)
            }
            _ => false,
        }
    })
}

/// Why nothing may come back from an address.
fn explain_silence(address: &str, device: &TrustedDevice, findings: &mut Findings) {
    let name = &device.name;
    let ip = address.parse::<SocketAddr>().ok().map(|address| address.ip());
    let (code, sentence) = if ip.is_some_and(is_near) {
        (
            "firewall_or_isolation",
            format!(
                "nothing comes back from {address}, which is in the same network: {name} is off, \
                 its firewall keeps the port closed, or the Wi-Fi keeps its devices apart \
                 (\"client isolation\", as guest networks do); allow the port there, or use \
                 another network"
            ),
        )
    } else {
        (
            "different_subnets",
            format!(
                "{address} is in another network than this machine: put both devices into one \
                 network, or connect the two (a VPN, say)"
            ),
        )
    };
    findings.of_device(Level::Problem, code, device, sentence);
}

/// What it takes to call a device.
pub(super) struct Call<'a> {
    pub(super) context: &'a Context,
    pub(super) identity: &'a Identity,
    pub(super) trust: &'a TrustStore,
    pub(super) engine: Option<&'a EngineHandle>,
    pub(super) live: Option<&'a Value>,
}

impl Call<'_> {
    /// Where the serving node found a device on the network.
    fn found_addresses(&self, device: &TrustedDevice) -> Vec<String> {
        let nearby = self.live.into_iter().flat_map(|live| live["nearby"].as_array());
        nearby
            .flatten()
            .filter(|nearby| nearby["device_id"] == device.device_id.as_str())
            .flat_map(|nearby| texts(&nearby["addresses"]))
            .collect()
    }

    /// Where it met somebody who did not prove to be a device.
    fn unproven_addresses(&self, device: &TrustedDevice) -> Vec<String> {
        let told = self.live.map(|live| &live["devices"][device.device_id.as_str()]["unproven"]);
        told.map(texts).unwrap_or_default()
    }

    pub(super) async fn reach(&self, device: &TrustedDevice, findings: &mut Findings) {
        let name = &device.name;
        let found = self.found_addresses(device);
        let mut anywhere = found.clone();
        anywhere.extend(
            self.unproven_addresses(device).into_iter().filter(|address| !found.contains(address)),
        );
        let candidates = addresses::candidates(anywhere, &[], device, &self.context.config.peers);
        let is_listening = self
            .live
            .is_some_and(|live| live["devices"][device.device_id.as_str()]["state"] == "listening");
        if candidates.is_empty() && !is_listening {
            let sentence = format!(
                "no address of {name} is known, and it is not found on the network: start \
                    storysync there, or give its address under peers in config.toml"
            );
            findings.of_device(Level::Problem, "no_address", device, sentence);
            return;
        }
        let visits = candidates.iter().take(ADDRESSES_VISITED_MAX);
        let visits: Vec<Visit> =
            join_all(visits.map(|candidate| self.visit(device, candidate))).await;
        let proven = visits.iter().find(|visit| visit.is_proven());
        tell_others(device, &visits, proven.is_some() || is_listening, findings);
        if is_listening {
            let sentence = format!("{name} is connected to this device");
            findings.of_device(Level::Fine, "device", device, sentence);
        } else if let Some(visit) = proven {
            self.tell_health(device, visit, &found, findings);
            let sentence = format!("{name} answers at {} and accepts this device", visit.address);
            findings.of_device(Level::Fine, "device", device, sentence);
        } else if let Some(visit) =
            visits.iter().find(|visit| matches!(visit.knock, Knock::Health(_)))
        {
            self.tell_health(device, visit, &found, findings);
            tell_refusal(device, visit, findings);
        }
    }

    /// Knocks at an address, and has a node that answers prove that it is the device.
    async fn visit(&self, device: &TrustedDevice, candidate: &Candidate) -> Visit {
        let address = candidate.address.clone();
        let knock = knock(&address).await;
        let (Knock::Health(_), Some(engine)) = (&knock, self.engine) else {
            return Visit { address, knock, proof: None };
        };
        let installation = key_file::installation(&self.context.data_dir);
        let caller = Caller {
            identity: self.identity,
            trust: self.trust,
            engine,
            own_port: None,
            name: "doctor",
            installation: &installation,
            static_addresses: &[],
            contact: contact_choice(self.context.config.first_contact),
        };
        let mut trail = Trail::default();
        let opened = caller.open(device, std::slice::from_ref(candidate), &mut trail).await;
        Visit { address, knock, proof: Some(opened.map(|_| ())) }
    }

    /// What a node says of itself to everybody.
    fn tell_health(
        &self,
        device: &TrustedDevice,
        visit: &Visit,
        found: &[String],
        findings: &mut Findings,
    ) {
        let (name, address) = (&device.name, &visit.address);
        let Knock::Health(health) = &visit.knock else { return };
        let version = health["version"].as_str().unwrap_or_default();
        if version != env!("CARGO_PKG_VERSION") {
            let sentence = format!(
                "{name} runs storysync {version}, this device {}; use the same version on both",
                env!("CARGO_PKG_VERSION")
            );
            findings.of_device(Level::Note, "version_mismatch", device, sentence);
        }
        if health["database_connected"] == false {
            findings.of_device(
                Level::Problem,
                "peer_database",
                device,
                format!("{name} can't read its database; run `storysync doctor` there"),
            );
        }
        if let Some(there) = health["timestamp"].as_str().and_then(Stamp::parse) {
            let skew = there.unix_ms().saturating_sub(now().unix_ms());
            if skew.abs() > CLOCK_SKEW_MS_MAX {
                let sentence = format!(
                    "the clocks of {name} and this device are {} minutes apart; set both by the \
                        internet, or edits get wrong times",
                    skew.abs() / 60_000
                );
                findings.of_device(Level::Problem, "clock", device, sentence);
            }
        }
        if self.live.is_some() && found.is_empty() {
            let sentence = format!(
                "{name} answers at {address}, but is not found by multicast: the network blocks \
                    it, or discovery is off there; syncing works as long as the address stays, or \
                    give it \
             under peers in config.toml"
            );
            findings.of_device(Level::Note, "multicast_blocked", device, sentence);
        }
    }
}

/// The texts of a JSON list.
fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What came of one address.
struct Visit {
    address: String,
    knock: Knock,
    /// Whether a node that answers proved to be the device; nothing where it was not asked.
    proof: Option<Result<(), ClientError>>,
}

impl Visit {
    fn is_proven(&self) -> bool {
        matches!(self.proof, Some(Ok(())))
    }
}

/// Says of the node that answers, and did not prove to be the device, what that means.
fn tell_refusal(device: &TrustedDevice, visit: &Visit, findings: &mut Findings) {
    let (name, address) = (&device.name, &visit.address);
    match &visit.proof {
        Some(Err(ClientError::Refused(_))) => {
            let sentence = format!(
                "{name} does not accept this device: it was revoked there, or {address} belongs \
                    to another device now; pair the two again"
            );
            findings.of_device(Level::Problem, "not_accepted", device, sentence);
        }
        Some(Err(error)) => findings.of_device(Level::Problem, "device", device, error.to_string()),
        Some(Ok(())) | None => {}
    }
}

/// Names every address where the device should be and something else is, or nothing; what keeps
/// nothing from syncing, because it `is_reached` elsewhere, only if it answers.
fn tell_others(
    device: &TrustedDevice,
    visits: &[Visit],
    is_reached: bool,
    findings: &mut Findings,
) {
    let name = &device.name;
    for Visit { address, knock, proof } in visits {
        match knock {
            Knock::Health(_) if matches!(proof, Some(Err(_))) => {
                let sentence = format!(
                    "at {address} a storysync answers that does not prove to be {name}: another \
                        device has that address now, or something pretends to be {name}. It is \
                        told nothing, and others are tried"
                );
                findings.of_device(Level::Note, "unproven", device, sentence);
            }
            Knock::Stranger => findings.of_device(
                Level::Note,
                "stranger",
                device,
                format!("at {address} something else answers, not storysync: it is told nothing"),
            ),
            Knock::Silence if !is_reached => explain_silence(address, device, findings),
            Knock::Health(_) | Knock::Silence | Knock::Refused => {}
        }
    }
    let mut refused = visits.iter().filter(|visit| matches!(visit.knock, Knock::Refused));
    if let (Some(visit), false) = (refused.next(), is_reached) {
        let sentence = format!(
            "the machine at {} is there, but storysync does not run on it, or on another port: \
                start it on {name} with `storysync serve`",
            visit.address
        );
        findings.of_device(Level::Problem, "peer_not_running", device, sentence);
    }
}
