//! Devices find each other by multicast DNS (RFC 6762), as libp2p does: under their PeerId, with
//! the address and port of their LAN listener and their name. Drives `libp2p_mdns` by hand; there
//! is no libp2p swarm here.
//!
//! An announcement names a device and proves nothing: whoever is found is proven by the sealed
//! conversation, and devices that are not paired are listed and never called.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use if_watch::IfEvent;
use if_watch::tokio::IfWatcher;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::transport::ListenerId;
use libp2p_core::{Multiaddr, PeerId};
use libp2p_mdns::tokio::Behaviour;
use libp2p_mdns::{Config, Event};
use libp2p_swarm::behaviour::{ExpiredListenAddr, FromSwarm, NewListenAddr};
use libp2p_swarm::{NetworkBehaviour as _, ToSwarm};
use tokio::sync::watch;

use super::addresses;
use super::node_state::NodeState;
use super::presence::NEARBY_MAX;
use super::told_to;
use storysync_engine::trust::identity::DeviceId;
use storysync_engine::trust::pairing::clean_name;

/// How long an announcement holds.
const TTL: Duration = Duration::from_secs(60);
/// Pause between questions: an announcement is renewed before it expires.
const ASK_EVERY: Duration = Duration::from_secs(20);
/// Longest name that is announced, in bytes of UTF-8: with an address it fits into one DNS text of
/// 255.
const NAME_BYTES_MAX: usize = 48;
/// Announcements one listener remembers before it begins anew: the crate's own list has no limit.
const REMEMBERED_MAX: usize = 4 * NEARBY_MAX;

/// One address family on the network.
struct Family {
    is_v6: bool,
    me: PeerId,
    behaviour: Behaviour,
    announced: BTreeSet<IpAddr>,
}

impl Family {
    fn start(is_v6: bool, me: PeerId) -> std::io::Result<Self> {
        let config = Config { ttl: TTL, query_interval: ASK_EVERY, enable_ipv6: is_v6 };
        Ok(Self { is_v6, me, behaviour: Behaviour::new(config, me)?, announced: BTreeSet::new() })
    }

    fn announce(&mut self, ip: IpAddr, place: &Place) {
        if ip.is_ipv6() == self.is_v6 && self.announced.insert(ip) {
            let addr = place.multiaddr(ip);
            self.behaviour.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr {
                listener_id: ListenerId::next(),
                addr: &addr,
            }));
        }
    }

    fn withdraw(&mut self, ip: IpAddr, place: &Place) {
        if self.announced.remove(&ip) {
            let addr = place.multiaddr(ip);
            self.behaviour.on_swarm_event(FromSwarm::ExpiredListenAddr(ExpiredListenAddr {
                listener_id: ListenerId::next(),
                addr: &addr,
            }));
        }
    }

    /// Whoever floods the network with names fills no more than this.
    fn begin_anew_when_full(&mut self, place: &Place) {
        if self.behaviour.discovered_nodes().len() <= REMEMBERED_MAX {
            return;
        }
        tracing::warn!("the network announces very many devices; forgetting those found so far");
        if let Ok(mut fresh) = Self::start(self.is_v6, self.me) {
            for ip in &self.announced {
                fresh.announce(*ip, place);
            }
            *self = fresh;
        }
    }
}

/// What is announced beside an address.
struct Place {
    port: u16,
    name: String,
}

impl Place {
    fn of(node: &NodeState) -> Self {
        let mut name = node.name();
        while name.len() > NAME_BYTES_MAX {
            name.pop();
        }
        Self { port: node.settings.lan_port, name }
    }

    fn multiaddr(&self, ip: IpAddr) -> Multiaddr {
        let mut address = Multiaddr::from(ip);
        address.push(Protocol::Tcp(self.port));
        address.push(Protocol::Http);
        address.push(Protocol::HttpPath(self.name.as_str().into()));
        address
    }
}

/// Announces this node and looks for others until `stop`.
pub async fn run(node: Arc<NodeState>, mut stop: watch::Receiver<bool>) {
    let bound = node.settings.lan_ip;
    if bound.is_loopback() {
        return;
    }
    tokio::select! {
        result = discover(&node, bound) => {
            if let Err(error) = result {
                tracing::warn!(%error, "devices can't be looked for on this network; give their \
                    addresses under peers in config.toml");
            }
        }
        () = told_to(&mut stop) => {}
    }
}

async fn discover(node: &NodeState, bound: IpAddr) -> std::io::Result<()> {
    let me = peer_id(&node.identity.public_key())
        .ok_or_else(|| std::io::Error::other("this device's id is unusable"))?;
    let mut place = Place::of(node);
    let mut names = node.names();
    let is_everywhere = bound.is_unspecified();
    // A socket bound to `::` takes IPv4, too.
    let wanted = [(false, bound.is_ipv4() || is_everywhere), (true, bound.is_ipv6())];
    let mut families = Vec::new();
    for (is_v6, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
        families.push(Family::start(is_v6, me)?);
    }
    let mut interfaces = IfWatcher::new()?;
    loop {
        let step = tokio::select! {
            biased;
            changed = interfaces.select_next_some() => Step::Interface(changed?),
            found = next_event(&mut families) => Step::Found(found),
            Ok(()) = names.changed() => Step::Renamed,
        };
        match step {
            Step::Interface(event) => {
                let (ip, is_up) = match event {
                    IfEvent::Up(net) => (net.addr(), true),
                    IfEvent::Down(net) => (net.addr(), false),
                };
                if !addresses::is_usable(ip) || (!is_everywhere && ip != bound) {
                    continue;
                }
                for family in &mut families {
                    if is_up { family.announce(ip, &place) } else { family.withdraw(ip, &place) }
                }
                node.presence.network_changed();
            }
            Step::Renamed => {
                let former = std::mem::replace(&mut place, Place::of(node));
                for family in &mut families {
                    for ip in family.announced.clone() {
                        family.withdraw(ip, &former);
                        family.announce(ip, &place);
                    }
                }
            }
            Step::Found(Event::Discovered(found)) => {
                for (peer, address) in found {
                    note(node, &peer, &address);
                }
                for family in &mut families {
                    family.begin_anew_when_full(&place);
                }
            }
            Step::Found(Event::Expired(gone)) => {
                for (peer, address) in gone {
                    if let (Some(device), Some((address, _))) = (device_id(&peer), parse(&address))
                    {
                        node.presence.lost(&device, address);
                    }
                }
            }
        }
    }
}

enum Step {
    Renamed,
    Interface(IfEvent),
    Found(Event),
}

async fn next_event(families: &mut [Family]) -> Event {
    poll_fn(|context| {
        for family in families.iter_mut() {
            while let Poll::Ready(event) = family.behaviour.poll(context) {
                if let ToSwarm::GenerateEvent(event) = event {
                    return Poll::Ready(event);
                }
            }
        }
        Poll::Pending
    })
    .await
}

fn note(node: &NodeState, peer: &PeerId, address: &Multiaddr) {
    let (Some(device), Some((address, name))) = (device_id(peer), parse(address)) else { return };
    if device == node.identity.device_id() {
        return;
    }
    let is_paired =
        node.trust.find(&device).ok().flatten().is_some_and(|device| device.is_active());
    tracing::debug!(%device, %address, is_paired, "a device was found on the network");
    node.presence.found(&device, address, name.map(|name| clean_name(&name)), is_paired);
}

/// The PeerId of an Ed25519 key (libp2p specification "Peer Ids and Keys").
fn peer_id(key: &[u8; 32]) -> Option<PeerId> {
    PeerId::from_bytes(&[&[0, 0x24, 8, 1, 0x12, 0x20], key.as_slice()].concat()).ok()
}

fn device_id(peer: &PeerId) -> Option<DeviceId> {
    DeviceId::parse(&peer.to_base58())
}

/// The address and name an announcement tells; `None` for addresses nobody can be reached at.
fn parse(address: &Multiaddr) -> Option<(SocketAddr, Option<String>)> {
    let (mut ip, mut port, mut name) = (None, None, None);
    for part in address {
        match part {
            Protocol::Ip4(address) => ip = Some(IpAddr::V4(address)),
            Protocol::Ip6(address) => ip = Some(IpAddr::V6(address)),
            Protocol::Tcp(number) => port = Some(number),
            Protocol::HttpPath(path) => name = Some(path.into_owned()),
            _ => {}
        }
    }
    let ip = ip.filter(|ip| addresses::is_usable(*ip))?;
    Some((SocketAddr::new(ip, port?), name))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_tells_the_device_its_address_and_its_name() {
        let place = Place { port: 8765, name: "Anna's desk ☕".to_owned() };
        let told = place.multiaddr([192, 168, 1, 20].into());
        assert!(
            told.to_string().starts_with("/ip4/192.168.1.20/tcp/8765/http/http-path/"),
            "{told}"
        );
        assert_eq!(
            parse(&told).unwrap(),
            ("192.168.1.20:8765".parse().unwrap(), Some("Anna's desk ☕".to_owned()))
        );
        for useless in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/224.0.0.251/tcp/1",
            "/ip4/192.168.1.20/udp/1",
            "/dns4/x.example/tcp/1",
        ] {
            assert_eq!(parse(&useless.parse().unwrap()), None, "{useless}");
        }
        let key = [7; 32];
        assert_eq!(device_id(&peer_id(&key).unwrap()), Some(DeviceId::of_key(&key)));
    }
}
