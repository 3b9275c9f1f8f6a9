//! Devices find each other by multicast DNS (RFC 6762), as libp2p does: with the address and port
//! of their LAN listener, under an id that says nothing and with marks that say something to paired
//! devices only. Drives `libp2p_mdns` by hand; there is no libp2p swarm here.
//!
//! An announcement proves nothing: whoever is found is proven by the sealed conversation, and
//! devices that are not paired are listed and never called. What is said is `voice`'s affair.

use std::collections::{BTreeMap, BTreeSet};
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
use super::node_state::{NodeState, system_rng};
use super::presence::NEARBY_MAX;
use super::told_to;
use super::voice::{Voice, short};
use rand_core::Rng as _;
use storysync_engine::store::trust::TrustedDevice;
use storysync_engine::trust::identity::DeviceId;
use storysync_engine::trust::pairing::clean_name;

/// How long an announcement holds.
const TTL: Duration = Duration::from_secs(60);
/// Pause between questions: an announcement is renewed before it expires.
const ASK_EVERY: Duration = Duration::from_secs(20);
/// Pause between looks at what is to be said: another period, another pairing, a code shown.
const LOOK_WHAT_TO_SAY_EVERY: Duration = Duration::from_secs(1);
/// Announcements one listener remembers before it begins anew: the crate's own list has no limit.
const REMEMBERED_MAX: usize = 4 * NEARBY_MAX;

/// One address family on the network, under one id.
struct Family {
    is_v6: bool,
    /// Whether the id is this device's own, and its name is said: for versions that know no marks.
    is_loud: bool,
    me: PeerId,
    behaviour: Behaviour,
    announced: BTreeMap<IpAddr, Vec<Multiaddr>>,
}

impl Family {
    fn start(is_v6: bool, is_loud: bool, me: PeerId) -> std::io::Result<Self> {
        let config = Config { ttl: TTL, query_interval: ASK_EVERY, enable_ipv6: is_v6 };
        let behaviour = Behaviour::new(config, me)?;
        Ok(Self { is_v6, is_loud, me, behaviour, announced: BTreeMap::new() })
    }

    fn announce(&mut self, ip: IpAddr, said: &Said) {
        if ip.is_ipv6() != self.is_v6 || self.announced.contains_key(&ip) {
            return;
        }
        let addresses = said.multiaddrs(ip, self.is_loud);
        for addr in &addresses {
            self.behaviour.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr {
                listener_id: ListenerId::next(),
                addr,
            }));
        }
        self.announced.insert(ip, addresses);
    }

    /// Whoever floods the network with names fills no more than this.
    fn is_full(&self) -> bool {
        self.behaviour.discovered_nodes().len() > REMEMBERED_MAX
    }
}

/// The crate's tasks outlive what drives them, until they hear somebody: they shall say nothing any
/// more meanwhile.
impl Drop for Family {
    fn drop(&mut self) {
        for addr in std::mem::take(&mut self.announced).values().flatten() {
            self.behaviour.on_swarm_event(FromSwarm::ExpiredListenAddr(ExpiredListenAddr {
                listener_id: ListenerId::next(),
                addr,
            }));
        }
    }
}

/// What is said with each address.
struct Said {
    port: u16,
    own_name: String,
    voice: Voice,
}

impl Said {
    fn of(node: &NodeState) -> Self {
        let own_name = short(node.name());
        Self { port: node.settings.lan_port, own_name, voice: Voice::of(node) }
    }

    fn multiaddrs(&self, ip: IpAddr, is_loud: bool) -> Vec<Multiaddr> {
        let texts = if is_loud {
            vec![self.own_name.clone()]
        } else {
            self.voice.texts(SocketAddr::new(ip, self.port))
        };
        texts.iter().map(|text| multiaddr(ip, self.port, text)).collect()
    }
}

fn multiaddr(ip: IpAddr, port: u16, text: &str) -> Multiaddr {
    let mut address = Multiaddr::from(ip);
    address.push(Protocol::Tcp(port));
    address.push(Protocol::Http);
    address.push(Protocol::HttpPath(text.into()));
    address
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

/// Everything that speaks and listens, until what is said changes.
struct Mouths {
    families: Vec<Family>,
    said: Said,
    /// Where paired devices were heard to be: an announcement that ends means nothing while another
    /// says the same.
    heard: Vec<(Multiaddr, DeviceId, SocketAddr)>,
}

impl Mouths {
    fn open(node: &NodeState, bound: IpAddr, ips: &BTreeSet<IpAddr>) -> std::io::Result<Self> {
        let said = Said::of(node);
        let own = peer_id(&node.identity.public_key())
            .ok_or_else(|| std::io::Error::other("this device's id is unusable"))?;
        let mut random = [0; 32];
        system_rng().fill_bytes(&mut random);
        let of_this_period = peer_id(&random).unwrap_or(own);
        let mut ids = vec![(false, of_this_period)];
        if said.voice.is_loud() {
            ids.push((true, own));
        }
        // A socket bound to `::` takes IPv4, too.
        let wanted = [(false, bound.is_ipv4() || bound.is_unspecified()), (true, bound.is_ipv6())];
        let mut families = Vec::new();
        for (is_v6, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
            for (is_loud, me) in &ids {
                families.push(Family::start(is_v6, *is_loud, *me)?);
            }
        }
        let mut mouths = Self { families, said, heard: Vec::new() };
        for ip in ips {
            mouths.announce(*ip);
        }
        Ok(mouths)
    }

    fn announce(&mut self, ip: IpAddr) {
        for family in &mut self.families {
            family.announce(ip, &self.said);
        }
    }

    /// Somebody says that a device is somewhere.
    fn found(&mut self, node: &NodeState, peer: &PeerId, told: &Multiaddr) {
        let Some((place, text)) = parse(told) else { return };
        if self.families.iter().any(|family| family.me == *peer) {
            return;
        }
        let text = text.unwrap_or_default();
        if Voice::is_marks(&text) {
            let Some(device) = self.said.voice.recognize(&text, place) else { return };
            tracing::debug!(%device, %place, "a paired device was found on the network");
            node.presence.found(&device, place, None, true);
            self.heard.push((told.clone(), device, place));
            return;
        }
        let Some(device) = device_id(peer) else { return };
        let paired = node.trust.find(&device).ok().flatten().filter(TrustedDevice::is_active);
        // One that knows marks does not say its id: somebody else does.
        if paired.as_ref().is_some_and(|paired| paired.reads_sealed_token)
            || device == node.identity.device_id()
        {
            return;
        }
        let name = (!text.is_empty()).then(|| clean_name(&text));
        node.presence.found(&device, place, name, paired.is_some());
        self.heard.push((told.clone(), device, place));
    }

    fn lost(&mut self, node: &NodeState, told: &Multiaddr) {
        let Some(at) = self.heard.iter().position(|(heard, ..)| heard == told) else { return };
        let (_, device, place) = self.heard.swap_remove(at);
        if !self.heard.iter().any(|(_, other, there)| *other == device && *there == place) {
            node.presence.lost(&device, place);
        }
    }
}

async fn discover(node: &NodeState, bound: IpAddr) -> std::io::Result<()> {
    let is_everywhere = bound.is_unspecified();
    let mut ips = BTreeSet::new();
    let mut mouths = Mouths::open(node, bound, &ips)?;
    let (mut names, mut pairings) = (node.names(), node.presence.pairings());
    let mut interfaces = IfWatcher::new()?;
    loop {
        let step = tokio::select! {
            biased;
            changed = interfaces.select_next_some() => Step::Interface(changed?),
            found = next_event(&mut mouths.families) => Step::Found(found),
            Ok(()) = names.changed() => Step::MaySayOtherwise,
            Ok(()) = pairings.changed() => Step::MaySayOtherwise,
            () = tokio::time::sleep(LOOK_WHAT_TO_SAY_EVERY) => Step::MaySayOtherwise,
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
                if is_up {
                    ips.insert(ip);
                    mouths.announce(ip);
                } else {
                    ips.remove(&ip);
                    mouths = Mouths::open(node, bound, &ips)?;
                }
                node.presence.network_changed();
            }
            Step::MaySayOtherwise if mouths.said.voice.has_changed(node) => {
                mouths = Mouths::open(node, bound, &ips)?;
            }
            Step::MaySayOtherwise => {}
            Step::Found(Event::Discovered(found)) => {
                for (peer, told) in found {
                    mouths.found(node, &peer, &told);
                }
                if mouths.families.iter().any(Family::is_full) {
                    tracing::warn!(
                        "the network announces very many devices; forgetting those \
                        found so far"
                    );
                    mouths = Mouths::open(node, bound, &ips)?;
                }
            }
            Step::Found(Event::Expired(gone)) => {
                for (_, told) in gone {
                    mouths.lost(node, &told);
                }
            }
        }
    }
}

enum Step {
    MaySayOtherwise,
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
        let told = multiaddr([192, 168, 1, 20].into(), 8765, "Anna's desk ☕");
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
