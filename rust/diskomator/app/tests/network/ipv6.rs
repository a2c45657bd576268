//! IPv6: what routers announce, what DHCPv6 servers give, and by which link
//! answers leave.

use std::io::IoSlice;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kernel::netlink::Netlink;
use netproto::dhcp6::wire::{FOR_EVER, IaAddress, IaNa, Kind, Message, Options, SERVER_PORT, SERVERS, Status};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::Value;

use crate::lab::{Background, Connection, Lab, in_namespaces, json, monitor_addresses, run, wait_for};

/// The server's own address, and where its pool begins.
const ROUTER: &str = "2001:db8::1/64";
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
/// The kernel's address of that prefix and of the first cable's hardware address.
const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0x5054, 0x00ff, 0xfe00, 1);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe00, 1);
const SERVER: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

fn pool(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

/// A cable whose other end has IPv6 addresses at once, as nobody is there who
/// could have them, too.
fn cable(lab: &Lab, here: &str, there: &str) {
    lab.on_servers("sh", &["-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad"]);
    lab.cable(here, there, "192.0.2.1/24");
}

fn routed_cable(lab: &Lab) {
    cable(lab, "eth0", "srv0");
    lab.on_servers("ip", &["address", "add", ROUTER, "dev", "srv0", "nodad"]);
}

/// dnsmasq as router and DHCPv6 server.
fn dnsmasq(lab: &Lab, more: &[&str]) -> Background {
    let range = "--dhcp-range=2001:db8::100,2001:db8::1ff,64,2m";
    lab.dnsmasq_with("srv0", "router advertisement", &[&["--enable-ra", range], more].concat())
}

/// The IPv6 addresses of a link, as `ip` shows them.
fn addresses(link: &str) -> Vec<Value> {
    let all = json(&["-6", "address", "show", "dev", link]);
    all.as_array().into_iter().flatten().filter_map(|link| link["addr_info"].as_array().cloned()).flatten().collect()
}

/// Those of any scope but the link's that can be used.
fn global(link: &str) -> Vec<Ipv6Addr> {
    let good = |info: &Value| info["scope"] == "global" && info["tentative"].is_null() && info["dadfailed"].is_null();
    addresses(link).iter().filter(|info| good(info)).filter_map(|info| info["local"].as_str()?.parse().ok()).collect()
}

/// Waits until a link has one global address and no other.
fn wait_for_address(link: &str, wanted: impl Fn(Ipv6Addr) -> bool) -> Ipv6Addr {
    wait_for(&format!("an IPv6 address on {link}"), || match global(link).as_slice() {
        [address] if wanted(*address) => Some(*address),
        _ => None,
    })
}

fn in_pool(address: Ipv6Addr) -> bool {
    (pool(0x100)..=pool(0x1ff)).contains(&address)
}

/// How many seconds an address is left.
fn left(link: &str, address: Ipv6Addr) -> u64 {
    let own = addresses(link).into_iter().find(|info| info["local"] == address.to_string());
    own.and_then(|info| info["valid_life_time"].as_u64()).unwrap_or(0)
}

/// The rules of ours, as text.
fn rules() -> String {
    json(&["-6", "rule", "show", "priority", "1000"]).to_string()
}

/// A router that announces what it is told to, when it is told to.
struct Router {
    socket: OwnedFd,
    everybody: SockaddrIn6,
    /// Member of the group that is asked, for as long as it is open.
    _routers: UdpSocket,
}

/// A router's advertisement of the prefix: that it is on the link, and perhaps that
/// addresses can be made of it.
#[derive(Clone, Copy, PartialEq)]
enum Prefix {
    Autonomous,
    OnLink,
}

impl Router {
    fn new(lab: &Lab, link: &str) -> Self {
        lab.among_servers(|| {
            let index =
                Netlink::new().unwrap().links().unwrap().into_iter().find(|found| found.name == link).unwrap().index;
            let socket =
                socket::socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6)
                    .unwrap();
            // RFC 4861 section 6.1.2: or else it came through another router.
            socket::setsockopt(&socket, sockopt::Ipv6MulticastHops, &255).unwrap();
            let routers = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
            routers.join_multicast_v6(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2), index).unwrap();
            let everybody = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, index).into();
            Self { socket, everybody, _routers: routers }
        })
    }

    /// How often the appliance asked it for one since the last look (RFC 4861
    /// section 4.1). The namespace that it is in asks, too.
    fn solicitations(&self) -> usize {
        let mut packet = [0; 2048];
        socket::setsockopt(&self.socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(1)).unwrap();
        let received = std::iter::from_fn(|| {
            let (_, from) = socket::recvfrom::<SockaddrIn6>(self.socket.as_raw_fd(), &mut packet).ok()?;
            Some((packet[0], from?.ip()))
        });
        received.filter(|question| *question == (133, LINK_LOCAL)).count()
    }

    /// Advertises once it is asked. An earlier advertisement may have come too early.
    fn answer(&self, lifetime: u16, is_managed: bool, prefix: Prefix) {
        wait_for("a question to the routers", || (self.solicitations() > 0).then_some(()));
        self.announce(lifetime, is_managed, prefix);
    }

    /// A router advertisement (RFC 4861 section 4.2): for how many seconds it is a
    /// router, whether addresses come by DHCPv6, and a prefix (section 4.6.2).
    fn announce(&self, lifetime: u16, is_managed: bool, prefix: Prefix) {
        let mut packet = vec![134, 0, 0, 0, 64, if is_managed { 0x80 } else { 0 }];
        packet.extend_from_slice(&lifetime.to_be_bytes());
        packet.extend_from_slice(&[0; 8]);
        let flags = if prefix == Prefix::Autonomous { 0xc0 } else { 0x80 };
        packet.extend_from_slice(&[3, 4, 64, flags]);
        packet.extend_from_slice(&[3600_u32.to_be_bytes(), 3600_u32.to_be_bytes(), [0; 4]].concat());
        packet.extend_from_slice(&PREFIX.octets());
        let parts = [IoSlice::new(&packet)];
        socket::sendmsg(self.socket.as_raw_fd(), &parts, &[], MsgFlags::empty(), Some(&self.everybody)).unwrap();
    }
}

/// A DHCPv6 server that does what `script` says: for each message the answers.
/// It ends with the test.
fn scripted<F>(lab: &Lab, link: &'static str, mut script: F) -> Scripted
where
    F: FnMut(&Message) -> Vec<Message> + Send + 'static,
{
    scripted_bytes(lab, link, move |asked| script(asked).iter().map(Message::build).collect())
}

/// The same, with whatever it likes for answers.
fn scripted_bytes<F>(lab: &Lab, link: &'static str, mut script: F) -> Scripted
where
    F: FnMut(&Message) -> Vec<Vec<u8>> + Send + 'static,
{
    let socket = lab.among_servers(|| {
        let index =
            Netlink::new().unwrap().links().unwrap().into_iter().find(|found| found.name == link).unwrap().index;
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, SERVER_PORT)).unwrap();
        socket.join_multicast_v6(&SERVERS, index).unwrap();
        socket
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let message = Message::parse(&buffer[..len]).expect("the client's messages are good");
            log.lock().unwrap().push(message.clone());
            for answer in script(&message) {
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    Scripted(seen)
}

/// The questions to a scripted server.
struct Scripted(Arc<Mutex<Vec<Message>>>);

impl Scripted {
    fn seen(&self) -> Vec<Message> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, kind: Kind) -> usize {
        self.seen().iter().filter(|message| message.kind == kind).count()
    }

    fn wait(&self, kind: Kind, count: usize) {
        wait_for(&format!("{kind:?}"), || (self.count(kind) >= count).then_some(()));
    }
}

/// A good answer to `asked`: this address for `valid` seconds, with T1 and T2.
fn answer(asked: &Message, ip: Ipv6Addr, [t1, t2, valid]: [u32; 3]) -> Message {
    let ias = asked.options.ias.iter().map(|ia| IaNa {
        t1,
        t2,
        addresses: vec![IaAddress { ip, preferred: valid, valid, status: None }],
        ..ia.clone()
    });
    Message {
        kind: if asked.kind == Kind::Solicit { Kind::Advertise } else { Kind::Reply },
        xid: asked.xid,
        options: Options {
            client: asked.options.client.clone(),
            server: SERVER.to_vec(),
            ias: ias.collect(),
            ..Options::default()
        },
    }
}

/// An address of a server that has so many zero bytes at the ends of its ADVERTISE
/// and its REPLY.
pub(crate) fn leases_with_stray_bytes(lab: &Lab, [advertise, reply]: [usize; 2]) {
    routed_cable(lab);
    let _server = scripted_bytes(lab, "srv0", move |asked| {
        let mut bytes = answer(asked, pool(0x150), [60, 90, 120]).build();
        bytes.resize(bytes.len() + if asked.kind == Kind::Solicit { advertise } else { reply }, 0);
        vec![bytes]
    });
    let router = Router::new(lab, "srv0");
    let _client = lab.diskomator(&["dhcp"]);
    router.answer(1800, true, Prefix::OnLink);
    wait_for_address("eth0", |address| address == pool(0x150));
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn where_routers_want_it_an_address_comes_by_dhcpv6() {
    in_namespaces("ipv6::where_routers_want_it_an_address_comes_by_dhcpv6", |lab| {
        routed_cable(lab);
        let _server = dnsmasq(lab, &[]);
        let start = Instant::now();
        let mut client = lab.diskomator(&["dhcp"]);
        let address = wait_for_address("eth0", in_pool);
        println!("from start to address: {} ms", start.elapsed().as_millis());
        let own = addresses("eth0").into_iter().find(|info| info["local"] == address.to_string()).unwrap();
        assert_eq!(own["prefixlen"], 128);
        assert!((90..=120).contains(&left("eth0", address)), "{own}");
        assert!(
            lab.dnsmasq_log("srv0").contains("client provides name: diskomator-000001"),
            "{}",
            lab.dnsmasq_log("srv0")
        );
        wait_for("the log", || lab.log().contains(&format!("eth0: leased {address} for 120 s\n")).then_some(()));
        // The holder of the lease, and its time.
        let shown: Value = serde_json::from_str(&Lab::said(&["net", "--json"])).unwrap();
        let rows = shown["links"][0]["addresses"].as_array().unwrap().clone();
        let row = rows.iter().find(|row| row["address"] == address.to_string()).unwrap();
        assert_eq!((&row["from"], &row["usable"]), (&"dhcp".into(), &true.into()));
        assert!(row["seconds_left"].as_u64().is_some_and(|left| left <= 120));
        // The rest of the network is behind the router's word alone.
        Connection::open(lab, address).check();

        assert_eq!(client.signal("USR1"), Some(0));
        wait_for("the release", || lab.dnsmasq_log("srv0").contains("DHCPRELEASE").then_some(()));
        assert_eq!(global("eth0"), Vec::<Ipv6Addr>::new());
        assert_eq!(rules(), "[]");
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn where_routers_say_nothing_of_dhcpv6_nobody_is_asked() {
    in_namespaces("ipv6::where_routers_say_nothing_of_dhcpv6_nobody_is_asked", |lab| {
        routed_cable(lab);
        let server = scripted(lab, "srv0", |asked| vec![answer(asked, pool(0x150), [60, 90, 120])]);
        let router = Router::new(lab, "srv0");
        // As other systems set it up, which this one does not leave so.
        run(
            "sh",
            &[
                "-c",
                "echo 2 >/proc/sys/net/ipv6/conf/eth0/use_tempaddr; echo 1 >/proc/sys/net/ipv6/conf/eth0/addr_gen_mode",
            ],
        );
        let _client = lab.diskomator(&["dhcp"]);
        router.answer(1800, false, Prefix::Autonomous);
        // The same address on each boot, and no other.
        wait_for_address("eth0", |address| address == OWN);
        let shown: Value = serde_json::from_str(&Lab::said(&["net", "--json"])).unwrap();
        let rows = shown["links"][0]["addresses"].as_array().unwrap().clone();
        let row = rows.iter().find(|row| row["address"] == OWN.to_string()).unwrap();
        assert_eq!(row["from"], "router");
        thread::sleep(Duration::from_secs(4));
        assert_eq!(global("eth0"), [OWN]);
        assert_eq!(server.seen(), []);

        // The network's administrator thinks again, and once more.
        router.announce(1800, true, Prefix::Autonomous);
        wait_for("both addresses", || {
            (global("eth0").contains(&pool(0x150)) && global("eth0").len() == 2).then_some(())
        });
        assert!(server.count(Kind::Solicit) >= 1 && server.count(Kind::Request) >= 1);
        router.announce(1800, false, Prefix::Autonomous);
        thread::sleep(Duration::from_secs(2));
        assert_eq!(global("eth0").len(), 2, "a lease lasts as long as it was given for");
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn without_routers_that_want_it_a_lease_runs_out() {
    in_namespaces("ipv6::without_routers_that_want_it_a_lease_runs_out", |lab| {
        routed_cable(lab);
        let server = scripted(lab, "srv0", |asked| vec![answer(asked, pool(0x150), [2, 4, 8])]);
        let router = Router::new(lab, "srv0");
        let _client = lab.diskomator(&["dhcp"]);
        router.answer(1800, true, Prefix::OnLink);
        wait_for_address("eth0", |address| address == pool(0x150));
        server.wait(Kind::Renew, 1);
        router.announce(1800, false, Prefix::OnLink);
        let renewed = server.count(Kind::Renew);
        wait_for("no address", || global("eth0").is_empty().then_some(()));
        assert!(server.count(Kind::Renew) <= renewed + 1, "nobody is asked any more");
        wait_for("the log", || {
            lab.log().contains("2001:db8::150 is no longer ours: the lease has expired").then_some(())
        });
        // Renewing is refused in the same way as asking.
        let asked = server.seen().len();
        thread::sleep(Duration::from_secs(3));
        assert_eq!(server.seen().len(), asked);
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_lease_is_renewed_at_t1_and_by_another_server_after_t2() {
    in_namespaces("ipv6::a_lease_is_renewed_at_t1_and_by_another_server_after_t2", |lab| {
        routed_cable(lab);
        let is_there = Arc::new(AtomicBool::new(true));
        let answers = Arc::clone(&is_there);
        let server = scripted(lab, "srv0", move |asked| {
            let mut good = answer(asked, pool(0x150), [3, 6, 20]);
            match asked.kind {
                // This one has gone; the other one knows of its leases.
                Kind::Renew if !answers.load(Ordering::Relaxed) => vec![],
                Kind::Rebind => {
                    *good.options.server.last_mut().unwrap() = 2;
                    vec![good]
                }
                _ => vec![good],
            }
        });
        let router = Router::new(lab, "srv0");
        let _client = lab.diskomator(&["dhcp"]);
        router.answer(1800, true, Prefix::OnLink);
        let address = wait_for_address("eth0", |address| address == pool(0x150));
        let mut connection = Connection::open(lab, address);
        server.wait(Kind::Renew, 2);
        wait_for("a full lease", || (left("eth0", address) >= 19).then_some(()));
        is_there.store(false, Ordering::Relaxed);
        server.wait(Kind::Rebind, 1);
        is_there.store(true, Ordering::Relaxed);
        let renewed = server.count(Kind::Renew);
        server.wait(Kind::Renew, renewed + 1);
        let last = server.seen().into_iter().rfind(|message| message.kind == Kind::Renew).unwrap();
        assert_eq!(last.options.server.last(), Some(&2), "the other server is asked from now on");
        connection.check();
        assert_eq!(server.count(Kind::Request), 1, "it never begins again");
        assert!(!lab.log().contains("no longer ours"));
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_dhcpv6_server_that_comes_late_is_found() {
    in_namespaces("ipv6::a_dhcpv6_server_that_comes_late_is_found", |lab| {
        routed_cable(lab);
        let router = Router::new(lab, "srv0");
        let _client = lab.diskomator(&["dhcp"]);
        router.answer(1800, true, Prefix::OnLink);
        wait_for("the log", || lab.log().contains("eth0: no DHCPv6 server has answered yet").then_some(()));
        let server = scripted(lab, "srv0", |asked| vec![answer(asked, pool(0x150), [60, 90, 120])]);
        wait_for_address("eth0", |address| address == pool(0x150));
        assert_eq!((server.count(Kind::Solicit), server.count(Kind::Request)), (1, 1));
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_server_without_an_address_is_asked_on() {
    in_namespaces("ipv6::a_server_without_an_address_is_asked_on", |lab| {
        routed_cable(lab);
        let server = scripted(lab, "srv0", {
            let mut count = 0;
            move |asked| {
                let mut good = answer(asked, pool(0x150), [60, 90, 120]);
                count += 1;
                if count <= 2 {
                    good.options.ias[0].addresses.clear();
                    good.options.ias[0].status = Some(Status { code: Status::NO_ADDRS_AVAIL, text: b"full".to_vec() });
                }
                vec![good]
            }
        });
        let router = Router::new(lab, "srv0");
        let _client = lab.diskomator(&["dhcp"]);
        router.answer(1800, true, Prefix::OnLink);
        wait_for_address("eth0", |address| address == pool(0x150));
        let why = "eth0: no IPv6 address by DHCP: the server says no, with status 2 (\"full\"); asking on";
        assert_eq!(lab.log().matches(why).count(), 1, "{}", lab.log());
        assert_eq!(server.count(Kind::Solicit), 3);
    });
}

/// A server gives for `valid` seconds what another host has.
fn gives_what_another_host_has(lab: &Lab, valid: u32) {
    routed_cable(lab);
    lab.on_servers("ip", &["address", "add", "2001:db8::150/64", "dev", "srv0", "nodad"]);
    let server = scripted(lab, "srv0", {
        let mut declined = false;
        move |asked| {
            declined |= asked.kind == Kind::Decline;
            vec![answer(asked, pool(if declined { 0x151 } else { 0x150 }), [60, 90, valid])]
        }
    });
    let router = Router::new(lab, "srv0");
    let mut client = lab.diskomator(&["dhcp"]);
    router.answer(1800, true, Prefix::OnLink);
    wait_for_address("eth0", |address| address == pool(0x151));
    assert_eq!(server.count(Kind::Decline), 1);
    assert!(lab.log().contains("eth0: another host has 2001:db8::150, which was given to us; declined"));
    assert!(addresses("eth0").iter().all(|info| info["local"] != "2001:db8::150"), "nothing is left of it");
    assert_eq!(client.signal("USR1"), Some(0));
    server.wait(Kind::Release, 1);
    assert_eq!(global("eth0"), Vec::<Ipv6Addr>::new());
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn an_ipv6_address_that_another_host_has_is_declined() {
    in_namespaces("ipv6::an_ipv6_address_that_another_host_has_is_declined", |lab| {
        gives_what_another_host_has(lab, 120);
    });
}

/// The kernel does otherwise with an address that does not end.
#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn an_ipv6_address_for_ever_that_another_host_has_is_declined() {
    in_namespaces("ipv6::an_ipv6_address_for_ever_that_another_host_has_is_declined", |lab| {
        gives_what_another_host_has(lab, FOR_EVER);
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_killed_daemon_keeps_its_ipv6_address() {
    in_namespaces("ipv6::a_killed_daemon_keeps_its_ipv6_address", |lab| {
        routed_cable(lab);
        let _server = dnsmasq(lab, &[]);
        let mut client = lab.diskomator(&["dhcp"]);
        let address = wait_for_address("eth0", in_pool);
        let mut connection = Connection::open(lab, address);
        let solicits = || lab.dnsmasq_log("srv0").matches("DHCPSOLICIT").count();
        let before = solicits();
        let rules_before = rules();
        let monitor_log = lab.file("monitor", "");
        let mut monitor = monitor_addresses("-6", &monitor_log);
        for round in 1..=2 {
            client.kill();
            lab.file("log", "");
            client = lab.diskomator(&["dhcp"]);
            let text = format!("the address {address} is there already");
            wait_for("the adoption", || lab.log().contains(&text).then_some(()));
            wait_for("the confirmation", || {
                (lab.dnsmasq_log("srv0").matches("DHCPCONFIRM").count() >= round).then_some(())
            });
            wait_for("the lease", || lab.log().contains(&format!("leased {address} for 120 s, again")).then_some(()));
            connection.check();
        }
        assert!(monitor.is_running());
        monitor.kill();
        let changes = std::fs::read_to_string(&monitor_log).unwrap();
        assert!(!changes.contains("Deleted"), "{changes}");
        assert_eq!(solicits(), before, "it never begins again");
        assert_eq!(global("eth0"), [address]);
        assert_eq!(rules(), rules_before);
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_cable_that_is_plugged_in_elsewhere_brings_another_ipv6_address() {
    in_namespaces("ipv6::a_cable_that_is_plugged_in_elsewhere_brings_another_ipv6_address", |lab| {
        routed_cable(lab);
        let moved = Arc::new(AtomicBool::new(false));
        let elsewhere = Arc::clone(&moved);
        let server = scripted(lab, "srv0", move |asked| {
            let is_elsewhere = elsewhere.load(Ordering::Relaxed);
            let mut good = answer(asked, pool(if is_elsewhere { 0x160 } else { 0x150 }), [60, 90, 120]);
            if asked.kind == Kind::Confirm {
                good.options.ias.clear();
                let code = if is_elsewhere { Status::NOT_ON_LINK } else { Status::SUCCESS };
                good.options.status = Some(Status { code, text: Vec::new() });
            }
            vec![good]
        });
        let router = Router::new(lab, "srv0");
        let _client = lab.diskomator(&["dhcp"]);
        router.answer(1800, true, Prefix::OnLink);
        let address = wait_for_address("eth0", |address| address == pool(0x150));
        let mut connection = Connection::open(lab, address);
        let replug = || {
            let losses = lab.log().matches("eth0: no carrier").count();
            lab.on_servers("ip", &["link", "set", "srv0", "down"]);
            wait_for("the loss", || (lab.log().matches("eth0: no carrier").count() > losses).then_some(()));
            lab.on_servers("ip", &["link", "set", "srv0", "up"]);
            // The server's addresses went with the link.
            lab.on_servers("ip", &["address", "replace", ROUTER, "dev", "srv0", "nodad"]);
        };
        // The kernel is content, as it has an answer to its question.
        router.solicitations();
        replug();
        wait_for("a question to the routers", || (router.solicitations() > 0).then_some(()));
        server.wait(Kind::Confirm, 1);
        connection.check();
        assert_eq!(global("eth0"), [address]);
        moved.store(true, Ordering::Relaxed);
        replug();
        wait_for_address("eth0", |address| address == pool(0x160));
        assert!(lab.log().contains("2001:db8::150 is no longer ours: the server took it back"), "{}", lab.log());
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn two_links_to_one_ipv6_network_each_answer_for_themselves() {
    in_namespaces("ipv6::two_links_to_one_ipv6_network_each_answer_for_themselves", |lab| {
        cable(lab, "eth0", "srv0");
        cable(lab, "eth1", "srv1");
        lab.on_servers("ip", &["link", "add", "br0", "type", "bridge"]);
        for port in ["srv0", "srv1"] {
            lab.on_servers("ip", &["address", "flush", "dev", port]);
            lab.on_servers("ip", &["link", "set", port, "master", "br0"]);
        }
        lab.on_servers("ip", &["link", "set", "br0", "up"]);
        lab.on_servers("ip", &["address", "add", ROUTER, "dev", "br0", "nodad"]);
        // A host behind the router.
        lab.on_servers("ip", &["address", "add", "2001:db8:9::9/128", "dev", "lo", "nodad"]);
        let range = "--dhcp-range=2001:db8::100,2001:db8::1ff,slaac,64,2m";
        let _server = lab.dnsmasq_with("br0", "router advertisement", &["--enable-ra", range]);
        let mut client = lab.diskomator(&["dhcp"]);
        let held = ["eth0", "eth1"].map(|link| {
            wait_for("an address made of the prefix and a lease", || Some(global(link)).filter(|all| all.len() == 2))
        });
        wait_for("four rules", || (rules().matches("\"src\"").count() == 4).then_some(()));
        wait_for("default routes", || {
            let routes = json(&["-6", "route", "show", "table", "all", "default"]).to_string();
            (routes.matches("\"gateway\"").count() == 4).then_some(())
        });
        // Announcements, duplicate address detection and the like are over.
        thread::sleep(Duration::from_secs(4));
        let sent = |link: &str| {
            json(&["-statistics", "link", "show", "dev", link])[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
        };
        for (own, other, all) in [("eth0", "eth1", &held[0]), ("eth1", "eth0", &held[1])] {
            for (address, from) in
                all.iter().flat_map(|address| ["2001:db8::1", "2001:db8:9::9"].map(|from| (*address, from)))
            {
                let mut connection = Connection::from(lab, from.parse().unwrap(), address);
                let before = (sent(own), sent(other));
                for _ in 0..100 {
                    connection.check();
                }
                let (by_own, by_other) = (sent(own) - before.0, sent(other) - before.1);
                assert!(
                    by_own >= 100 && by_other < 10,
                    "{address} of {own} to {from}: {by_own} packets, and {by_other} by {other}"
                );
            }
        }
        run("ip", &["link", "del", "eth1"]);
        wait_for("two rules", || (rules().matches("\"src\"").count() == 2).then_some(()));
        // An address that is set by hand is answered for, too.
        run("ip", &["address", "add", "2001:db8:7::7/64", "dev", "eth0", "nodad"]);
        wait_for("its rule", || rules().contains("2001:db8:7::7").then_some(()));
        run("ip", &["address", "del", "2001:db8:7::7/64", "dev", "eth0"]);
        wait_for("no rule", || (!rules().contains("2001:db8:7::7")).then_some(()));
        assert_eq!(client.signal("USR1"), Some(0));
        assert_eq!(rules(), "[]");
        let tables = json(&["-6", "route", "show", "table", "all", "proto", "170"]);
        assert_eq!(tables, serde_json::json!([]));
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_link_with_an_ipv6_address_by_a_setting_asks_no_dhcpv6_server() {
    in_namespaces("ipv6::a_link_with_an_ipv6_address_by_a_setting_asks_no_dhcpv6_server", |lab| {
        routed_cable(lab);
        let server = scripted(lab, "srv0", |asked| vec![answer(asked, pool(0x150), [60, 90, 120])]);
        let router = Router::new(lab, "srv0");
        lab.set_cmdline("diskomator.log=debug diskomator.ip=eth0:[2001:db8::77]/64,fe80::1\n");
        let _client = lab.diskomator(&["dhcp"]);
        let address = wait_for_address("eth0", |address| address == pool(0x77));
        router.answer(1800, true, Prefix::OnLink);
        Connection::open(lab, address).check();
        wait_for("its rule", || rules().contains("2001:db8::77").then_some(()));
        let own = json(&["-6", "route", "show", "table", "all", "default"]).to_string();
        assert!(own.matches("fe80::1\"").count() >= 2, "in both tables: {own}");
        thread::sleep(Duration::from_secs(3));
        assert_eq!(server.seen(), []);
        assert_eq!(global("eth0"), [address]);
    });
}

/// Another server that gives addresses from the pool, with a T1 of three seconds.
#[derive(Clone, Copy, PartialEq)]
enum Server {
    Kea,
    Dhcpd,
}

impl Server {
    fn start(self, lab: &Lab) -> Background {
        let leases = lab.file("leases6", "");
        let path = |name: &str| leases.replace("leases6", name);
        let (server, ready) = match self {
            Self::Kea => {
                // It looks for a carrier once.
                run("ip", &["link", "set", "eth0", "up"]);
                wait_for("a carrier", || {
                    lab.said_on_servers("ip", &["link", "show", "dev", "srv0"]).contains("state UP").then_some(())
                });
                let settings = serde_json::json!({ "Dhcp6": {
                    "interfaces-config": { "interfaces": ["srv0"] },
                    "lease-database": { "type": "memfile", "name": leases, "lfc-interval": 0 },
                    "server-id": { "type": "LL", "htype": 1, "identifier": "020000000001", "persist": false },
                    "renew-timer": 3, "rebind-timer": 12, "preferred-lifetime": 20, "valid-lifetime": 24,
                    "subnet6": [{
                        "id": 1, "subnet": "2001:db8::/64", "interface": "srv0",
                        "pools": [{ "pool": "2001:db8::100-2001:db8::1ff" }],
                    }],
                    "loggers": [{
                        "name": "kea-dhcp6", "severity": "DEBUG", "debuglevel": 55,
                        "output_options": [{ "output": "stdout" }],
                    }],
                }});
                let settings = lab.file("settings6", &settings.to_string());
                let pid = format!("KEA_PIDFILE_DIR={}", path(""));
                (lab.server("env", &[&pid, "KEA_LOCKFILE_DIR=none", "kea-dhcp6", "-c", &settings]), "DHCP6_STARTED")
            }
            Self::Dhcpd => {
                let settings = lab.file(
                    "settings6",
                    "authoritative;\nddns-update-style none;\ndefault-lease-time 24;\npreferred-lifetime 20;\n\
                     option dhcp-renewal-time 3;\noption dhcp-rebinding-time 12;\n\
                     subnet6 2001:db8::/64 { range6 2001:db8::100 2001:db8::1ff; }\n",
                );
                let args = ["-6", "-f", "-d", "-cf", &settings, "-lf", &leases, "-pf", &path("pid6"), "srv0"];
                (lab.server("dhcpd", &args), "Server starting service")
            }
        };
        wait_for("the server", || lab.text("server").contains(ready).then_some(()));
        server
    }

    /// How often it was asked.
    fn count(self, lab: &Lab, kind: Kind) -> usize {
        let word = match self {
            Self::Kea => format!("{} (type {})", format!("{kind:?}").to_uppercase(), kind as u8),
            Self::Dhcpd => format!("{kind:?} message from"),
        };
        lab.text("server").matches(&word).count()
    }

    /// It knows its client from beginning to end.
    fn goes_along(self, lab: &Lab) {
        routed_cable(lab);
        let _server = self.start(lab);
        let wait = |kind, count| wait_for(&format!("{kind:?}"), || (self.count(lab, kind) >= count).then_some(()));
        let router = Router::new(lab, "srv0");
        let mut client = lab.diskomator(&["dhcp"]);
        router.answer(1800, true, Prefix::OnLink);
        let first = wait_for_address("eth0", in_pool);
        let mut connection = Connection::open(lab, first);
        wait(Kind::Renew, 2);
        wait_for("a full lease", || (left("eth0", first) >= 23).then_some(()));
        let solicits = self.count(lab, Kind::Solicit);
        client.kill();
        client = lab.diskomator(&["dhcp"]);
        wait(Kind::Confirm, 1);
        wait(Kind::Rebind, 1);
        wait_for("a full lease", || (left("eth0", first) >= 23).then_some(()));
        connection.check();
        assert_eq!(self.count(lab, Kind::Solicit), solicits, "it never begins again");
        // Meanwhile another host takes the address.
        client.kill();
        run("ip", &["address", "del", &format!("{first}/128"), "dev", "eth0"]);
        lab.on_servers("ip", &["address", "add", &format!("{first}/64"), "dev", "srv0", "nodad"]);
        client = lab.diskomator(&["dhcp"]);
        let second = wait_for_address("eth0", |address| in_pool(address) && address != first);
        assert_eq!(self.count(lab, Kind::Decline), 1);
        Connection::open(lab, second).check();
        assert_eq!(client.signal("USR1"), Some(0));
        wait(Kind::Release, 1);
        assert_eq!(global("eth0"), Vec::<Ipv6Addr>::new());
    }
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn kea_goes_along_with_the_client() {
    in_namespaces("ipv6::kea_goes_along_with_the_client", |lab| Server::Kea.goes_along(lab));
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn iscs_dhcpd_goes_along_with_the_client() {
    in_namespaces("ipv6::iscs_dhcpd_goes_along_with_the_client", |lab| Server::Dhcpd.goes_along(lab));
}
