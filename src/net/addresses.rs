//! Which addresses this machine can be reached at, and where another device may be.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use crate::config::Peer;
use storysync_engine::store::trust::TrustedDevice;

/// Addresses told in a QR code: more than a machine has networks others are in, and few enough for
/// a small picture.
const ADDRESSES_TOLD_MAX: usize = 8;

/// The addresses to tell others for a listener bound to `bound`: that address when it names one;
/// else every usable address of this machine, the one its default route leaves by first, then
/// private IPv4, what leads to virtual machines, containers and tunnels last; loopback only when
/// there is nothing else.
#[must_use]
pub fn reachable(bound: IpAddr) -> Vec<IpAddr> {
    if !bound.is_unspecified() {
        return vec![bound];
    }
    let routed = default_route();
    let mut found: Vec<(String, IpAddr)> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .map(|interface| (interface.name.clone(), interface.ip()))
        .filter(|(_, ip)| {
            !ip.is_loopback() && !is_link_local(*ip) && (bound.is_ipv6() || ip.is_ipv4())
        })
        .collect();
    found.sort_by_key(|(name, ip)| {
        let kind = match ip {
            IpAddr::V4(ip) if ip.is_private() => 0,
            IpAddr::V4(_) => 1,
            IpAddr::V6(_) => 2,
        };
        (routed != Some(*ip), is_virtual(name), kind)
    });
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (_, ip) in found {
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses.truncate(ADDRESSES_TOLD_MAX);
    if addresses.is_empty() {
        addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    addresses
}

/// The address by which this machine leaves for the rest of the world, as its routes say.
/// Connecting a UDP socket sends nothing; the address asked about is one of those set aside for
/// documentation (RFC 5737).
fn default_route() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

/// Whether an interface leads to virtual machines, containers or a tunnel, as their software names
/// it: nobody on the Wi-Fi is there.
fn is_virtual(name: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
        "docker",
        "br-",
        "veth",
        "virbr",
        "vmnet",
        "vboxnet",
        "lxc",
        "lxd",
        "podman",
        "cni",
        "flannel",
        "tun",
        "tap",
        "wg",
        "utun",
        "tailscale",
        "zt",
        "vEthernet",
    ];
    BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// Where a device may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Host and port.
    pub address: String,
    /// Whether the device proved itself there before, or the person here says that it is there;
    /// otherwise somebody on the network does.
    pub is_known: bool,
}

impl Candidate {
    /// Where the device was, or is configured to be.
    #[must_use]
    pub fn known(address: impl AsRef<str>) -> Self {
        Self { address: address.as_ref().to_owned(), is_known: true }
    }

    /// Where somebody on the network says that it is.
    #[must_use]
    pub fn found(address: impl AsRef<str>) -> Self {
        Self { address: address.as_ref().to_owned(), is_known: false }
    }
}

/// Where a device may be, in the order to try: where it proved itself last, then in turn where it
/// was `found` and where else it was or is configured to be. Those of `unproven`, where somebody
/// failed to prove to be it lately, come last.
#[must_use]
pub fn candidates(
    found: Vec<String>,
    unproven: &[String],
    device: &TrustedDevice,
    peers: &[Peer],
) -> Vec<Candidate> {
    let configured = peers
        .iter()
        .filter(|peer| peer.may_be(device.device_id.as_str(), &device.name))
        .map(|peer| peer.address().to_owned());
    let known: Vec<String> = device.addresses.iter().cloned().chain(configured).collect();
    let found = found.into_iter().filter(|address| !known.contains(address));
    let mut found: VecDeque<Candidate> = found.map(Candidate::found).collect();
    let mut all: Vec<Candidate> = Vec::new();
    for address in &known {
        if all.iter().all(|before| before.address != *address) {
            all.push(Candidate::known(address));
            all.extend(found.pop_front());
        }
    }
    all.extend(found);
    let (last, mut first): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|candidate| unproven.contains(&candidate.address));
    first.extend(last);
    first
}

/// Whether others on the network may reach an address.
#[must_use]
pub fn is_usable(ip: IpAddr) -> bool {
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_link_local(ip))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => (ip.segments().first().copied().unwrap_or(0) & 0xffc0) == 0xfe80,
    }
}
