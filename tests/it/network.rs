//! Real hosts: network namespaces joined by a bridge, made and removed by each test. Where
//! namespaces can't be made, the tests say so and check nothing.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::fixtures::{self, Dialect};
use crate::nodes::*;

pub fn ip(arguments: &str) -> bool {
    Command::new("ip")
        .args(arguments.split_whitespace())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

pub fn must(arguments: &str) {
    assert!(ip(arguments), "ip {arguments}");
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A local network: hosts in namespaces of their own, and a switch in another.
pub struct TestLan {
    name: String,
    number: u8,
    hosts: Vec<String>,
}

impl TestLan {
    /// `None`, and a printed reason, where namespaces can't be made.
    pub fn new(number: u8) -> Option<Self> {
        let name =
            format!("ss{}x{}", std::process::id() % 100_000, COUNT.fetch_add(1, Ordering::Relaxed));
        if !ip(&format!("netns add {name}s")) {
            println!(
                "skipped: network namespaces can't be made here (this needs Linux, root and \
                    iproute2)"
            );
            return None;
        }
        must(&format!("-n {name}s link add br0 type bridge"));
        must(&format!("-n {name}s link set br0 up"));
        Some(Self { name, number, hosts: Vec::new() })
    }

    pub fn address(&self, host: u8) -> String {
        format!("10.77.{}.{host}", self.number)
    }

    /// A new host on this network.
    pub fn host(&mut self, host: u8) -> String {
        let namespace = format!("{}h{host}", self.name);
        must(&format!("netns add {namespace}"));
        must(&format!("-n {namespace} link set lo up"));
        self.hosts.push(namespace.clone());
        self.plug(&namespace, host);
        namespace
    }

    /// Plugs a host into this network, by an interface `eth` and the number of the network.
    fn plug(&self, namespace: &str, host: u8) {
        let (switch, interface) = (format!("{}s", self.name), self.interface());
        must(&format!(
            "-n {switch} link add p{host} type veth peer name {interface} netns {namespace}"
        ));
        must(&format!("-n {switch} link set p{host} master br0 up"));
        must(&format!("-n {namespace} link set {interface} up"));
        must(&format!("-n {namespace} addr add {}/24 dev {interface}", self.address(host)));
    }

    pub fn interface(&self) -> String {
        format!("eth{}", self.number)
    }

    pub fn move_to(&self, namespace: &str, from: u8, to: u8) {
        self.leave(namespace, from);
        self.arrive(namespace, to);
    }

    fn leave(&self, namespace: &str, from: u8) {
        must(&format!(
            "-n {namespace} addr del {}/24 dev {}",
            self.address(from),
            self.interface()
        ));
    }

    fn arrive(&self, namespace: &str, to: u8) {
        must(&format!("-n {namespace} addr add {}/24 dev {}", self.address(to), self.interface()));
    }

    /// The switch drops multicast on its way to a host.
    fn drop_multicast(&self, host: u8) {
        let done = Command::new("bridge")
            .args([
                "-n",
                &format!("{}s", self.name),
                "link",
                "set",
                "dev",
                &format!("p{host}"),
                "mcast_flood",
                "off",
            ])
            .status();
        assert!(done.is_ok_and(|done| done.success()));
    }
}

impl Drop for TestLan {
    fn drop(&mut self) {
        for namespace in self.hosts.iter().chain([&format!("{}s", self.name)]) {
            ip(&format!("netns del {namespace}"));
        }
    }
}

pub fn desktop_on(namespace: String) -> TestNode {
    let mut node = TestNode::with_fixture(Dialect::Newer);
    node.namespace = Some(namespace);
    node
}

pub fn empty_on(namespace: String) -> TestNode {
    let mut node = TestNode::without_database();
    node.namespace = Some(namespace);
    node.run_json(&["init"]);
    node
}

pub fn nearby(node: &TestNode) -> Vec<Value> {
    node.run_json(&["status"])["nearby"].as_array().cloned().unwrap_or_default()
}

pub fn finds(node: &TestNode, device: &str, address: &str) -> bool {
    nearby(node).iter().any(|found| {
        found["device_id"] == device
            && found["addresses"]
                .as_array()
                .unwrap()
                .iter()
                .any(|found| found.as_str().unwrap().starts_with(&format!("{address}:")))
    })
}

const FIRST_NAME: &str = "SELECT first_name FROM actor ORDER BY sync_uuid LIMIT 1";

pub fn write_name(node: &TestNode, name: &str) {
    node.app(&format!(
        "UPDATE actor SET first_name = '{name}' WHERE sync_uuid = (SELECT \
        min(sync_uuid) FROM actor)"
    ));
}

pub fn name_arrives(node: &TestNode, name: &str, within: Duration) -> Duration {
    eventually(within, &format!("{name} arrives"), || node.value::<String>(FIRST_NAME) == name)
}

/// Two hosts that serve, are paired, and have everything.
pub fn two_in_step(lan: &mut TestLan) -> (TestNode, TestNode) {
    let (mut desktop, mut laptop) = (desktop_on(lan.host(1)), empty_on(lan.host(2)));
    desktop.serve_live();
    laptop.serve_live();
    laptop.run_json(&["pair", "join", &desktop.qr()]);
    in_step(&desktop, &laptop);
    (desktop, laptop)
}

pub fn in_step(one: &TestNode, other: &TestNode) {
    eventually(Duration::from_secs(20), "both have everything", || {
        other.value::<i64>("SELECT count(*) FROM actor")
            == one.value::<i64>("SELECT count(*) FROM actor")
            && {
                let states = [one.standing(&other.id()), other.standing(&one.id())];
                states.contains(&"connected".to_owned())
            }
    });
}

#[test]
fn strangers_say_their_names_only_while_they_show_a_code_and_paired_hosts_find_each_other() {
    let Some(mut lan) = TestLan::new(1) else { return };
    let (mut desktop, mut laptop) = (desktop_on(lan.host(1)), empty_on(lan.host(2)));
    desktop.serve_live();
    laptop.serve_live();
    let ids = [desktop.id(), laptop.id()];
    std::thread::sleep(Duration::from_secs(4));
    assert!(nearby(&desktop).is_empty() && nearby(&laptop).is_empty(), "nobody says who it is");
    let qr = desktop.qr();
    let took = eventually(Duration::from_secs(5), "the one that shows a code is listed", || {
        nearby(&laptop).first().is_some_and(|found| found["device_name"].is_string())
    });
    println!("a host that shows a code was listed {} ms later", took.as_millis());
    let found = &nearby(&laptop)[0];
    assert_eq!(found["is_paired"], false);
    assert_ne!(found["device_id"], ids[0].as_str(), "under an id of no meaning");
    assert!(nearby(&desktop).is_empty());
    // Not paired: not called.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        (desktop.standing(&ids[1]), laptop.standing(&ids[0])),
        ("unknown".to_owned(), "unknown".to_owned())
    );

    laptop.run_json(&["pair", "join", &qr]);
    eventually(Duration::from_secs(5), "they find each other", || {
        finds(&laptop, &ids[0], &lan.address(1)) && finds(&desktop, &ids[1], &lan.address(2))
    });
    in_step(&desktop, &laptop);
    assert_eq!(laptop.rows_shown(), fixtures::ROWS_IN_ALL);
    write_name(&desktop, "Ann");
    name_arrives(&laptop, "Ann", Duration::from_secs(5));
    write_name(&laptop, "Bea");
    name_arrives(&desktop, "Bea", Duration::from_secs(5));
}

#[test]
fn a_host_whose_address_changes_is_found_again_and_syncing_goes_on() {
    let Some(mut lan) = TestLan::new(2) else { return };
    let (desktop, laptop) = two_in_step(&mut lan);
    for (round, (from, to)) in [(2, 22), (22, 23)].into_iter().enumerate() {
        lan.move_to(laptop.namespace.as_ref().unwrap(), from, to);
        write_name(&desktop, &format!("After move {round}"));
        let took = name_arrives(&laptop, &format!("After move {round}"), Duration::from_secs(20));
        println!("an edit arrived {} ms after the laptop moved", took.as_millis());
        write_name(&laptop, &format!("Back {round}"));
        name_arrives(&desktop, &format!("Back {round}"), Duration::from_secs(20));
    }
    // The desktop moves, too.
    lan.move_to(desktop.namespace.as_ref().unwrap(), 1, 11);
    write_name(&laptop, "Desk moved");
    name_arrives(&desktop, "Desk moved", Duration::from_secs(20));
}

#[test]
fn an_edit_on_its_way_while_a_host_moves_does_not_wait_for_tcp_to_give_up() {
    let Some(mut lan) = TestLan::new(3) else { return };
    let (desktop, laptop) = two_in_step(&mut lan);
    // Whichever of the two calls: once it is the other one that moves.
    for (mover, writer, from, to, name) in
        [(&laptop, &desktop, 2, 22, "To the laptop"), (&desktop, &laptop, 1, 11, "To the desktop")]
    {
        let namespace = mover.namespace.as_ref().unwrap();
        lan.leave(namespace, from);
        write_name(writer, name);
        // It is sent to where nobody is any more.
        std::thread::sleep(Duration::from_millis(1_500));
        lan.arrive(namespace, to);
        let took = name_arrives(mover, name, Duration::from_secs(20));
        println!("an edit under way arrived {} ms after the move", took.as_millis());
    }
}

#[test]
fn a_host_that_leaves_the_network_comes_back_with_what_was_written_meanwhile() {
    let Some(mut lan) = TestLan::new(3) else { return };
    let (mut desktop, mut laptop) = two_in_step(&mut lan);
    let (namespace, interface) = (laptop.namespace.clone().unwrap(), lan.interface());
    must(&format!("-n {namespace} link set {interface} down"));
    write_name(&desktop, "While away");
    laptop.app(
        "UPDATE setting SET name = 'Written away' WHERE sync_uuid = (SELECT min(sync_uuid) \
        FROM setting)",
    );
    std::thread::sleep(Duration::from_secs(3));
    must(&format!("-n {namespace} link set {interface} up"));
    name_arrives(&laptop, "While away", Duration::from_secs(45));
    eventually(Duration::from_secs(20), "the laptop's edit arrives", || {
        desktop.value::<String>("SELECT name FROM setting ORDER BY sync_uuid LIMIT 1")
            == "Written away"
    });
    // One that is stopped and started is back, too; a device that serves no more is soon told as
    // away.
    laptop.stop();
    let laptop_id = laptop.id();
    eventually(Duration::from_secs(10), "the laptop is away", || {
        desktop.standing(&laptop_id) == "away"
    });
    write_name(&desktop, "While stopped");
    laptop.serve_live();
    name_arrives(&laptop, "While stopped", Duration::from_secs(20));
    desktop.stop();
    desktop.serve_live();
    write_name(&desktop, "Started anew");
    name_arrives(&laptop, "Started anew", Duration::from_secs(20));
}

#[test]
fn where_multicast_is_dropped_a_configured_address_works() {
    let Some(mut lan) = TestLan::new(4) else { return };
    let (mut desktop, mut laptop) = (desktop_on(lan.host(1)), empty_on(lan.host(2)));
    for host in [1, 2] {
        lan.drop_multicast(host);
    }
    desktop.serve_live();
    laptop.serve_live();
    laptop.run_json(&["pair", "join", &desktop.qr()]);
    in_step(&desktop, &laptop);
    std::thread::sleep(Duration::from_secs(3));
    assert!(nearby(&desktop).is_empty() && nearby(&laptop).is_empty(), "multicast is dropped");
    let findings = laptop.run_json(&["doctor"]);
    assert!(
        findings["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|finding| finding["code"] == "multicast_blocked")
            || laptop.standing(&desktop.id()) == "listening"
    );

    // Both move while they are off: no address that either knew is right any more.
    desktop.stop();
    laptop.stop();
    lan.move_to(desktop.namespace.as_ref().unwrap(), 1, 11);
    lan.move_to(laptop.namespace.as_ref().unwrap(), 2, 12);
    let config = format!(
        "peers = [{{ address = \"{}:{}\", device = \"{}\" }}]\n",
        lan.address(11),
        desktop.port,
        desktop.id()
    );
    std::fs::write(laptop.data_dir().join("config.toml"), config).unwrap();
    desktop.serve_live();
    laptop.serve_live();
    write_name(&desktop, "By address");
    name_arrives(&laptop, "By address", Duration::from_secs(30));
    write_name(&laptop, "And back");
    name_arrives(&desktop, "And back", Duration::from_secs(30));
}

#[test]
fn doctor_tells_silence_in_the_same_network_from_another_network() {
    let Some(mut lan) = TestLan::new(8) else { return };
    let (desktop, mut laptop) = two_in_step(&mut lan);
    laptop.stop();
    let codes = || -> Vec<String> {
        let report = laptop.run_json(&["doctor"]);
        report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["code"].as_str().unwrap().to_owned())
            .collect()
    };
    // The desktop is there and keeps still, as behind a firewall.
    let (namespace, interface) = (desktop.namespace.clone().unwrap(), lan.interface());
    must(&format!("-n {namespace} link set {interface} down"));
    let found = codes();
    assert!(found.contains(&"firewall_or_isolation".to_owned()), "{found:?}");
    // It is known at an address of another network only.
    let trust = rusqlite::Connection::open(laptop.data_dir().join("trust.db")).unwrap();
    trust.execute("UPDATE trust_device SET addresses = '[\"10.99.9.9:8765\"]'", []).unwrap();
    let found = codes();
    assert!(found.contains(&"different_subnets".to_owned()), "{found:?}");
}

#[test]
fn hosts_that_speak_only_ipv6_find_each_other_and_sync() {
    let Some(mut lan) = TestLan::new(7) else { return };
    let (mut desktop, mut laptop) = (desktop_on(lan.host(1)), empty_on(lan.host(2)));
    for (node, host) in [(&mut desktop, 1), (&mut laptop, 2)] {
        let (namespace, interface) = (node.namespace.clone().unwrap(), lan.interface());
        must(&format!("-n {namespace} addr del {}/24 dev {interface}", lan.address(host)));
        must(&format!("-n {namespace} addr add fd77::{host}/64 dev {interface} nodad"));
        node.serve_on("::");
    }
    laptop.run_json(&["pair", "join", &desktop.qr()]);
    let desktop_id = desktop.id();
    eventually(Duration::from_secs(5), "the desktop is found", || {
        finds(&laptop, &desktop_id, "[fd77::1]")
    });
    in_step(&desktop, &laptop);
    write_name(&desktop, "Six");
    name_arrives(&laptop, "Six", Duration::from_secs(5));
}

#[test]
fn a_host_in_two_networks_is_found_in_both() {
    let (Some(mut home), Some(mut work)) = (TestLan::new(5), TestLan::new(6)) else { return };
    let (mut desktop, mut laptop) = two_in_step(&mut home);
    let mut other = empty_on(work.host(3));
    other.serve_live();
    // The second network comes while the node runs, as a VPN does.
    work.plug(desktop.namespace.as_ref().unwrap(), 1);
    let ids = [desktop.id(), other.id()];
    other.run_json(&["pair", "join", &desktop.qr()]);
    in_step(&desktop, &other);
    eventually(Duration::from_secs(5), "they find each other on the second network", || {
        finds(&other, &ids[0], &work.address(1)) && finds(&desktop, &ids[1], &work.address(3))
    });
    // From one network to the other, through the host that is in both.
    write_name(&laptop, "Across");
    name_arrives(&other, "Across", Duration::from_secs(10));
    write_name(&other, "And over");
    name_arrives(&laptop, "And over", Duration::from_secs(10));
    for node in [&mut desktop, &mut laptop, &mut other] {
        node.stop();
    }
}
