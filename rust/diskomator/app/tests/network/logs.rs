//! The sender of the log: it hears of a host that does not answer, and knows the way to one that does.

use std::io::ErrorKind;
use std::net::IpAddr;

use kernel::datagram::DatagramSocket;
use kernel::netlink::{Netlink, Way};

use crate::lab::{Lab, in_namespaces, run, wait_for};

/// A cable with addresses of both families at both ends.
fn cable(lab: &Lab) -> (Netlink, u32) {
    lab.cable("eth0", "srv0", "192.0.2.1/24");
    lab.on_servers("ip", &["address", "add", "2001:db8::1/64", "dev", "srv0", "nodad"]);
    run("ip", &["address", "add", "192.0.2.50/24", "dev", "eth0"]);
    run("ip", &["address", "add", "2001:db8::50/64", "dev", "eth0", "nodad"]);
    run("ip", &["link", "set", "eth0", "up"]);
    let netlink = Netlink::new().unwrap();
    let index = wait_for("the carrier", || {
        let links = netlink.links().unwrap();
        links.iter().find(|link| link.name == "eth0" && link.has_carrier).map(|link| link.index)
    });
    (netlink, index)
}

fn connect(to: &str) -> DatagramSocket {
    DatagramSocket::connect(&to.parse().unwrap(), 514).unwrap()
}

#[test]
#[ignore = "needs network namespaces; run by make test"]
fn a_datagram_that_nobody_takes_is_noticed() {
    in_namespaces("logs::a_datagram_that_nobody_takes_is_noticed", |lab| {
        let none = DatagramSocket::connect(&"192.0.2.1".parse().unwrap(), 514).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NetworkUnreachable);
        cable(lab);
        for (to, kind) in [
            // Nobody has the address.
            ("192.0.2.99", ErrorKind::HostUnreachable),
            ("2001:db8::99", ErrorKind::HostUnreachable),
            // Nobody listens there.
            ("192.0.2.1", ErrorKind::ConnectionRefused),
            ("2001:db8::1", ErrorKind::ConnectionRefused),
        ] {
            let socket = connect(to);
            socket.send(b"x").unwrap();
            let error = wait_for(&format!("word about {to}"), || socket.check().err());
            assert_eq!(error.kind(), kind, "{to}");
        }
        let _listener = lab.among_servers(|| std::net::UdpSocket::bind("192.0.2.1:514").unwrap());
        let socket = connect("192.0.2.1");
        socket.send(b"x").unwrap();
        connect("192.0.2.1:515").send(b"x").unwrap();
        // The answer to the second is none of the first's business.
        socket.check().unwrap();
    });
}

#[test]
#[ignore = "needs network namespaces; run by make test"]
fn the_way_to_a_host_is_known_with_its_source_its_router_and_its_hardware_address() {
    in_namespaces("logs::the_way_to_a_host_is_known_with_its_source_its_router_and_its_hardware_address", |lab| {
        let netlink = Netlink::new().unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(netlink.way_to(ip("192.0.2.1"), None).unwrap(), None);
        assert_eq!(netlink.way_to(ip("2001:db8::1"), None).unwrap(), None);
        let (netlink, link) = cable(lab);
        run("ip", &["route", "add", "default", "via", "192.0.2.1"]);
        run("ip", &["route", "add", "default", "via", "2001:db8::1"]);
        let theirs: serde_json::Value =
            serde_json::from_str(&lab.said_on_servers("ip", &["-json", "link", "show", "srv0"])).unwrap();
        for (to, source, next) in [
            ("192.0.2.1", "192.0.2.50", "192.0.2.1"),
            ("198.51.100.7", "192.0.2.50", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::50", "2001:db8::1"),
            ("2001:db8:1::7", "2001:db8::50", "2001:db8::1"),
        ] {
            let way = Way { link, source: ip(source), next: ip(next) };
            assert_eq!(netlink.way_to(ip(to), None).unwrap(), Some(way), "{to}");
            connect(next).send(b"x").unwrap();
            let mac = wait_for("the hardware address", || netlink.neighbour(link, ip(next)).unwrap());
            assert_eq!(theirs[0]["address"], mac.to_string(), "{next}");
            assert_eq!(netlink.neighbour(link, ip("192.0.2.77")).unwrap(), None);
        }
        // A link-local address is on the link that is named.
        let own = wait_for("a link-local address", || {
            let addresses = netlink.addresses().unwrap();
            let usable = |address: &&netplan::Address| address.is_link_local && address.is_usable;
            addresses.iter().filter(usable).find(|address| address.ip.is_ipv6()).map(|address| address.ip)
        });
        let way = netlink.way_to(ip("fe80::1"), Some(link)).unwrap();
        assert_eq!(way, Some(Way { link, source: own, next: ip("fe80::1") }));
    });
}
