//! Which addresses this machine can be reached at, and where another device may be.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::Peer;
use crate::store::trust::TrustedDevice;

/// Addresses told in a QR code beside the first.
const ALTERNATIVES_MAX: usize = 3;

/// The addresses to tell others for a listener bound to `bound`: that address when it names one; else
/// every usable address of this machine, private IPv4 first; loopback only when there is nothing else.
#[must_use]
pub fn reachable(bound: IpAddr) -> Vec<IpAddr> {
    if !bound.is_unspecified() {
        return vec![bound];
    }
    let mut found: Vec<IpAddr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .map(|interface| interface.ip())
        .filter(|ip| !ip.is_loopback() && !is_link_local(*ip) && (bound.is_ipv6() || ip.is_ipv4()))
        .collect();
    found.sort_by_key(|ip| match ip {
        IpAddr::V4(ip) if ip.is_private() => 0,
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 2,
    });
    found.dedup();
    found.truncate(1 + ALTERNATIVES_MAX);
    if found.is_empty() {
        found.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    found
}

/// Where a device may be, in the order to try: `found` on the network, where it was last, where the configuration says.
#[must_use]
pub fn candidates(found: Vec<String>, device: &TrustedDevice, peers: &[Peer]) -> Vec<String> {
    let mut addresses = found;
    let configured = peers.iter().filter(|peer| peer.may_be(device.device_id.as_str(), &device.name)).map(|peer| peer.address().to_owned());
    for address in device.addresses.iter().cloned().chain(configured) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
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
