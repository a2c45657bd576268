//! The network applets against real servers, in network namespaces.
//!
//! They need `unshare`, `nsenter` and `setpriv` (util-linux), `ip` (iproute2),
//! `sysctl` (procps), and in PATH what `scripts/servers` unpacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "these are tests")]

mod clients;
mod compared;
mod flapping;
mod ipv6;
mod lab;
mod logs;
mod matrix;
mod mdns;
mod odd;
mod planned;
mod servers;
mod wire;

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::{
    Connection, GIVEN, addresses, answer, in_namespaces, json, monitor_addresses, packet, plain_dev_and_sys, put, run,
    wait_for, wait_for_address, wait_for_no_address,
};
use netproto::arp::Packet;
use netproto::dhcp::wire::Kind;
use netproto::net::Mac;
use wire::Wire;

const POOL: &str = "192.0.2.50,192.0.2.99";

/// How often dnsmasq was asked by a client without an address. The first time
/// can be lost, as the other end of a cable needs a moment to notice it.
fn discovers(lab: &lab::Lab) -> usize {
    lab.dnsmasq_log("srv0").matches("DHCPDISCOVER").count()
}

fn in_pool(address: Ipv4Addr) -> bool {
    (50..=99).contains(&address.octets()[3]) && address.octets()[..3] == [192, 0, 2]
}

/// A link's address from the pool, whatever others it has.
fn leased(link: &str) -> Option<Ipv4Addr> {
    addresses(link).iter().map(|held| held.address).find(|address| in_pool(*address))
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_lease_brings_an_address_a_route_and_an_mtu() {
    in_namespaces("a_lease_brings_an_address_a_route_and_an_mtu", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let _server = lab.dnsmasq("srv0", POOL, 60, 100, &["--dhcp-option=26,1400", "--dhcp-option=3,192.0.2.1"]);
        let start = Instant::now();
        let _client = lab.diskomator(&["dhcp"]);
        let held = wait_for_address("eth0", in_pool);
        println!("from start to address: {} ms", start.elapsed().as_millis());
        assert_eq!(held.prefix_len, 24);
        assert!((100..=120).contains(&held.valid), "{held:?}");
        let route = wait_for("a default route", || json(&["route", "show", "default"])[0].as_object().cloned());
        assert_eq!(route["gateway"], "192.0.2.1");
        assert_eq!(route["protocol"], "dhcp");
        assert_eq!(route["prefsrc"], held.address.to_string());
        wait_for("the MTU", || (json(&["link", "show", "eth0"])[0]["mtu"] == 1400).then_some(()));
        assert!(lab.dnsmasq_log("srv0").contains("client provides name: diskomator-000001"));
        wait_for("the log", || lab.log().contains("eth0: leased 192.0.2.").then_some(()));
        assert!(lab.log().contains("/24 from 192.0.2.1 for 120 s\n"), "{}", lab.log());
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").unwrap().trim(), "0");
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn classless_routes_and_a_router_elsewhere_work() {
    in_namespaces("classless_routes_and_a_router_elsewhere_work", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        // The option that overrides the router, with a router outside the net.
        let routes = "--dhcp-option=121,10.9.0.0/16,192.0.2.1,0.0.0.0/0,203.0.113.1";
        let _server = lab.dnsmasq("srv0", POOL, 60, 100, &["--dhcp-option=3,192.0.2.9", routes]);
        let _client = lab.diskomator(&["dhcp", "--interface", "eth0"]);
        wait_for_address("eth0", in_pool);
        wait_for("two routes", || {
            let all = json(&["route", "show", "proto", "dhcp"]);
            let all = all.as_array().unwrap();
            let through = |dst, gateway| all.iter().any(|route| route["dst"] == dst && route["gateway"] == gateway);
            (through("default", "203.0.113.1") && through("10.9.0.0/16", "192.0.2.1") && all.len() == 2).then_some(())
        });
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_lease_is_renewed_at_t1() {
    in_namespaces("a_lease_is_renewed_at_t1", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let _server = lab.dnsmasq("srv0", POOL, 3, 100, &[]);
        let _client = lab.diskomator(&["dhcp"]);
        let held = wait_for_address("eth0", in_pool);
        let before = discovers(lab);
        let acks = || lab.dnsmasq_log("srv0").matches("DHCPACK").count();
        wait_for("two renewals", || (acks() >= 3).then_some(()));
        wait_for("a full lease", || addresses("eth0").iter().any(|now| now.valid >= 119).then_some(()));
        assert_eq!(addresses("eth0")[0].address, held.address);
        assert_eq!(discovers(lab), before, "it never begins again");
        assert_eq!(lab.log().matches("eth0: leased").count(), acks(), "each is logged");
        assert!(lab.log().contains("by Unicast"), "the server alone is asked");
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_lease_that_nobody_renews_ends_and_a_server_that_returns_gives_another() {
    in_namespaces("a_lease_that_nobody_renews_ends_and_a_server_that_returns_gives_another", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let is_there = Arc::new(AtomicBool::new(true));
        let answers = Arc::clone(&is_there);
        let server = lab.scripted("srv0", move |asked| {
            if answers.load(Ordering::Relaxed) { vec![packet(&answer(asked, 6).build())] } else { vec![] }
        });
        let _client = lab.diskomator(&["dhcp"]);
        wait_for_address("eth0", |address| address == GIVEN);
        is_there.store(false, Ordering::Relaxed);
        let start = Instant::now();
        wait_for_no_address("eth0");
        assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
        wait_for("the log", || {
            lab.log().contains("192.0.2.50/24 is no longer ours: the lease has expired").then_some(())
        });
        let asked = server.count(Kind::Discover);
        wait_for("a new start", || (server.count(Kind::Discover) > asked).then_some(()));
        is_there.store(true, Ordering::Relaxed);
        wait_for_address("eth0", |address| address == GIVEN);
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn after_the_pool_moved_the_old_address_goes_and_a_new_one_comes() {
    in_namespaces("after_the_pool_moved_the_old_address_goes_and_a_new_one_comes", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let mut server = lab.dnsmasq("srv0", POOL, 4, 100, &[]);
        let _client = lab.diskomator(&["dhcp"]);
        wait_for_address("eth0", in_pool);
        server.kill();
        let _server = lab.dnsmasq("srv0", "192.0.2.150,192.0.2.199", 60, 100, &[]);
        wait_for_address("eth0", |address| address.octets()[3] >= 150);
        assert!(lab.dnsmasq_log("srv0").contains("DHCPNAK"), "it was refused, not just replaced");
        assert!(lab.log().contains("is no longer ours: the server refused it"), "{}", lab.log());
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_cable_pulled_and_plugged_in_again_breaks_no_connection() {
    in_namespaces("a_cable_pulled_and_plugged_in_again_breaks_no_connection", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let _server = lab.dnsmasq("srv0", POOL, 60, 100, &[]);
        let _client = lab.diskomator(&["dhcp"]);
        let held = wait_for_address("eth0", in_pool);
        let before = discovers(lab);
        let mut connection = Connection::open(lab, held.address);
        connection.check();
        lab.on_servers("ip", &["link", "set", "srv0", "down"]);
        wait_for("the loss", || lab.log().contains("eth0: no carrier").then_some(()));
        thread::sleep(Duration::from_secs(1));
        assert_eq!(addresses("eth0").len(), 1, "the address stays");
        let requests = lab.dnsmasq_log("srv0").matches("DHCPREQUEST").count();
        lab.on_servers("ip", &["link", "set", "srv0", "up"]);
        wait_for("a request", || (lab.dnsmasq_log("srv0").matches("DHCPREQUEST").count() > requests).then_some(()));
        assert_eq!(discovers(lab), before, "the known address is asked for");
        connection.check();
        assert_eq!(addresses("eth0")[0].address, held.address);
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn plugged_into_another_network_it_takes_an_address_there() {
    in_namespaces("plugged_into_another_network_it_takes_an_address_there", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let mut server = lab.dnsmasq("srv0", POOL, 60, 100, &["--dhcp-option=26,1400"]);
        let _client = lab.diskomator(&["dhcp"]);
        wait_for_address("eth0", in_pool);
        lab.on_servers("ip", &["link", "set", "srv0", "down"]);
        server.kill();
        lab.on_servers("ip", &["address", "flush", "dev", "srv0"]);
        lab.on_servers("ip", &["address", "add", "198.51.100.1/24", "dev", "srv0"]);
        wait_for("the loss", || lab.log().contains("eth0: no carrier").then_some(()));
        lab.on_servers("ip", &["link", "set", "srv0", "up"]);
        let _server = lab.dnsmasq("srv0", "198.51.100.50,198.51.100.99", 60, 100, &[]);
        wait_for_address("eth0", |address| address.octets()[..3] == [198, 51, 100]);
        wait_for("the link's own MTU", || (json(&["link", "show", "eth0"])[0]["mtu"] == 1500).then_some(()));
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_killed_daemon_is_replaced_and_no_connection_breaks() {
    in_namespaces("a_killed_daemon_is_replaced_and_no_connection_breaks", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let _server = lab.dnsmasq("srv0", POOL, 60, 100, &["--dhcp-option=3,192.0.2.1"]);
        let mut client = lab.diskomator(&["dhcp"]);
        let held = wait_for_address("eth0", in_pool);
        let before = discovers(lab);
        let mut connection = Connection::open(lab, held.address);
        let monitor_log = lab.file("monitor", "");
        let mut monitor = monitor_addresses("-4", &monitor_log);
        for end in ["kill", "terminate"] {
            if end == "kill" {
                client.kill();
            } else {
                assert_eq!(client.terminate(), Some(0), "SIGTERM is an orderly end");
            }
            assert_eq!(addresses("eth0").len(), 1, "the address stays");
            connection.check();
            let requests = lab.dnsmasq_log("srv0").matches("DHCPREQUEST").count();
            client = lab.diskomator(&["dhcp"]);
            wait_for("a request", || (lab.dnsmasq_log("srv0").matches("DHCPREQUEST").count() > requests).then_some(()));
            connection.check();
        }
        thread::sleep(Duration::from_millis(300));
        assert!(monitor.is_running());
        monitor.kill();
        let changes = fs::read_to_string(&monitor_log).unwrap();
        assert!(!changes.contains("Deleted"), "{changes}");
        assert_eq!(addresses("eth0")[0].address, held.address);
        assert_eq!(discovers(lab), before, "the known address is asked for");
        assert_eq!(json(&["route", "show", "default"]).as_array().unwrap().len(), 1);
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn every_link_has_a_life_of_its_own() {
    in_namespaces("every_link_has_a_life_of_its_own", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        // Nobody answers on this one.
        lab.cable("eth1", "srv1", "198.51.100.1/24");
        lab.cable("eth2", "srv2", "203.0.113.1/24");
        let _zero = lab.dnsmasq("srv0", POOL, 60, 100, &["--dhcp-option=3,192.0.2.1"]);
        let _two = lab.dnsmasq("srv2", "203.0.113.50,203.0.113.99", 60, 100, &["--dhcp-option=3,203.0.113.1"]);
        let mut client = lab.diskomator(&["dhcp"]);
        wait_for_address("eth0", in_pool);
        wait_for_address("eth2", |address| address.octets()[0] == 203);
        assert!(addresses("eth1").iter().all(|held| held.address.is_link_local()));
        wait_for("the word that one is silent", || {
            lab.log().contains("eth1: no DHCP server has answered yet").then_some(())
        });
        let routes = json(&["route", "show", "default"]);
        let metrics: Vec<_> = routes.as_array().unwrap().iter().map(|route| route["metric"].as_u64()).collect();
        assert_eq!(metrics.len(), 2);
        assert_ne!(metrics[0], metrics[1]);

        // One that is pulled out, and one that is plugged in later.
        run("ip", &["link", "del", "eth0"]);
        lab.cable("usb0", "srv3", "192.0.2.1/24");
        let _three = lab.dnsmasq("srv3", POOL, 60, 100, &[]);
        wait_for_address("usb0", in_pool);
        wait_for("the word that one is gone", || lab.log().contains("eth0: gone").then_some(()));
        assert!(client.is_running());
        assert_eq!(addresses("eth2").len(), 1);
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn hostile_packets_are_dropped_and_said_why_and_a_good_offer_wins() {
    in_namespaces("hostile_packets_are_dropped_and_said_why_and_a_good_offer_wins", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let _server = lab.scripted("srv0", |asked| {
            let good = answer(asked, 3600);
            let with = |options: &[u8]| {
                let mut bytes = good.build();
                let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
                bytes.truncate(end);
                bytes.extend_from_slice(options);
                packet(&bytes)
            };
            let mut wrong_xid = good.clone();
            wrong_xid.xid ^= 1;
            let mut wrong_mac = good.clone();
            wrong_mac.chaddr.0[5] ^= 1;
            let mut no_server = good.clone();
            no_server.options.server = None;
            let mut bad_address = good.clone();
            bad_address.yiaddr = Ipv4Addr::LOCALHOST;
            let mut bad_sum = packet(&good.build());
            bad_sum[40] ^= 1;
            let mut cut = packet(&good.build());
            cut.truncate(200);
            let mut bad = vec![
                bad_sum,
                cut,
                packet(&good.build()[..243]),
                packet(b""),
                packet(&[0xff; 1200]),
                packet(&wrong_xid.build()),
                packet(&wrong_mac.build()),
                packet(&no_server.build()),
                packet(&bad_address.build()),
                with(&[51, 3, 0, 0, 1, 255]),
                with(&[12, 8, b'\n', b'r', b'm', b' ', b'-', b'r', 0x1b, b'[', 255]),
                with(&[52, 1, 3, 255]),
                with(&[121, 2, 24, 10, 255]),
                with(&[55, 200]),
            ];
            bad.push(packet(&good.build()));
            bad
        });
        let mut client = lab.diskomator(&["dhcp"]);
        wait_for_address("eth0", |address| address == GIVEN);
        for why in [
            "the UDP checksum is wrong",
            "the packet is truncated at 200 bytes",
            "it is truncated at 0 bytes",
            "255 is no operation",
            "not ours",
            "it is for 52:54:00:00:00:00",
            "it does not say which server it is from",
            "no host can have the address 127.0.0.1/24",
            "option 51 cannot have 7 bytes",
            "option 12 has a value that makes no sense",
            "option 121 cannot have 2 bytes",
            "option 55 is longer than the message",
            "its options do not end",
        ] {
            wait_for(why, || lab.log().contains(why).then_some(()));
        }
        assert!(lab.log().bytes().all(|byte| byte == b'\n' || (32..127).contains(&byte)), "the log is clean");
        assert!(client.is_running());
        assert_eq!(addresses("eth0")[0].address, GIVEN);
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_server_of_a_virtual_network_on_the_same_cable_is_none_of_ours() {
    in_namespaces("a_server_of_a_virtual_network_on_the_same_cable_is_none_of_ours", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        // The question comes without a tag, the first answers with one.
        let socket = lab.packet_socket("srv0");
        let server = lab.scripted("srv0", move |asked| {
            let mut elsewhere = answer(asked, 3600);
            elsewhere.yiaddr = Ipv4Addr::new(198, 51, 100, 9);
            // IEEE 802.1Q: the number 5 with the priority 1, then IPv4.
            let tagged = [&[0x20, 5, 8, 0][..], &packet(&elsewhere.build())].concat();
            socket.broadcast_as(0x8100, &tagged).unwrap();
            vec![packet(&answer(asked, 3600).build())]
        });
        let _client = lab.diskomator(&["dhcp"]);
        wait_for_address("eth0", |address| address == GIVEN);
        assert!(server.count(Kind::Request) >= 1);
        assert!(!lab.log().contains("198.51.100"), "{}", lab.log());
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn an_address_that_another_host_has_is_declined_for_another_one() {
    in_namespaces("an_address_that_another_host_has_is_declined_for_another_one", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        // On the loopback interface the server does not see it, but the kernel answers for it.
        lab.on_servers("ip", &["address", "add", "192.0.2.60/32", "dev", "lo"]);
        let _server = lab.dnsmasq("srv0", POOL, 60, 100, &["--dhcp-host=52:54:00:00:00:01,192.0.2.60"]);
        let _client = lab.diskomator(&["dhcp"]);
        let monitor_log = lab.file("monitor", "");
        let _monitor = monitor_addresses("-4", &monitor_log);
        wait_for("the decline", || lab.dnsmasq_log("srv0").contains("DHCPDECLINE(srv0) 192.0.2.60").then_some(()));
        assert!(lab.log().contains("has 192.0.2.60/24, which was given to us; declined"), "{}", lab.log());
        wait_for("another address", || leased("eth0").filter(|address| address.octets()[3] != 60));
        let changes = fs::read_to_string(&monitor_log).unwrap();
        assert!(!changes.contains("192.0.2.60"), "it was never used: {changes}");
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn an_address_is_defended_and_given_up_to_a_host_that_insists() {
    in_namespaces("an_address_is_defended_and_given_up_to_a_host_that_insists", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let _server = lab.dnsmasq("srv0", POOL, 60, 100, &[]);
        let _client = lab.diskomator(&["dhcp"]);
        let held = wait_for_address("eth0", in_pool);
        let told = format!("sent ARP, {0} to {0}", held.address);
        wait_for("the announcement", || lab.log().contains(&told).then_some(()));
        let socket = lab.packet_socket("srv0");
        let claim = Packet::announcement(Mac([2, 0, 0, 0, 0, 1]), held.address).build();
        // Bytes that are no ARP, or not whole, are passed over.
        for noise in [&claim[..20], &[0xff; 60], &[]] {
            let _ = socket.broadcast_as(0x0806, noise);
        }
        socket.broadcast_as(0x0806, &claim).unwrap();
        wait_for("the defence", || lab.log().contains("it was told that it is ours").then_some(()));
        assert_eq!(addresses("eth0").len(), 1);
        socket.broadcast_as(0x0806, &claim).unwrap();
        wait_for("the loss", || lab.log().contains("is no longer ours: 02:00:00:00:00:01 uses it, too").then_some(()));
        wait_for("the decline", || lab.dnsmasq_log("srv0").contains("DHCPDECLINE").then_some(()));
        wait_for("another address", || leased("eth0").filter(|address| *address != held.address));
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_host_that_is_slow_to_answer_gets_its_address_back_at_once() {
    in_namespaces("a_host_that_is_slow_to_answer_gets_its_address_back_at_once", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let wire = Wire::tap();
        let _server = lab.scripted("srv0", |asked| vec![packet(&answer(asked, 3600).build())]);
        let socket = lab.packet_socket("srv0");
        let monitor_log = lab.file("monitor", "");
        let _monitor = monitor_addresses("-4", &monitor_log);
        let _client = lab.diskomator(&["dhcp"]);
        // By then the address is in use.
        wait_for("the third probe", || (wire.probes(GIVEN) == 3).then_some(()));
        socket.broadcast_as(0x0806, &Packet::announcement(Mac([2, 0, 0, 0, 0, 1]), GIVEN).build()).unwrap();
        wire.wait_for("the DECLINE", |seen| seen.is(Kind::Decline));
        assert!(lab.log().contains("is no longer ours: 02:00:00:00:00:01 uses it, too"), "{}", lab.log());
        assert!(!lab.log().contains("sent ARP, 192.0.2.50"), "nobody was told otherwise: {}", lab.log());
        wait_for("the removal", || {
            fs::read_to_string(&monitor_log).unwrap().lines().any(|line| line.starts_with("Deleted")).then_some(())
        });
        assert!(!addresses("eth0").iter().any(|held| held.address == GIVEN));
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn at_shutdown_the_addresses_are_given_back_within_a_second() {
    in_namespaces("at_shutdown_the_addresses_are_given_back_within_a_second", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        // Nobody answers on this one.
        lab.cable("eth1", "srv1", "198.51.100.1/24");
        let _server = lab.dnsmasq("srv0", POOL, 60, 100, &[]);
        let mut client = lab.diskomator(&["dhcp"]);
        let held = wait_for_address("eth0", in_pool);
        // As if the machine had not talked to the server for long.
        run("ip", &["neighbour", "flush", "dev", "eth0"]);
        let start = Instant::now();
        assert_eq!(client.signal("USR1"), Some(0));
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        let word = format!("DHCPRELEASE(srv0) {} ", held.address);
        wait_for("the word", || lab.dnsmasq_log("srv0").contains(&word).then_some(()));
        assert_eq!(addresses("eth0"), []);
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn without_a_server_there_is_a_link_local_address_and_a_lease_once_there_is_one() {
    in_namespaces("without_a_server_there_is_a_link_local_address_and_a_lease_once_there_is_one", |lab| {
        lab.cable("eth0", "srv0", "169.254.77.1/16");
        lab.on_servers("ip", &["address", "add", "192.0.2.1/24", "dev", "srv0"]);
        let start = Instant::now();
        let mut client = lab.diskomator(&["dhcp"]);
        let own = wait_for_address("eth0", |address| address.is_link_local());
        println!("from start to link-local address: {} ms", start.elapsed().as_millis());
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(own.prefix_len, 16);
        assert_eq!(json(&["address", "show", "dev", "eth0"])[0]["addr_info"][0]["scope"], "link");
        assert_eq!(json(&["route", "show", "default"]), serde_json::json!([]));
        let mut connection = Connection::open(lab, own.address);
        connection.check();

        // Another run goes on with it.
        client.kill();
        lab.file("log", "");
        client = lab.diskomator(&["dhcp"]);
        let text = format!("the address {}/16 is there already", own.address);
        wait_for("the adoption", || lab.log().contains(&text).then_some(()));
        thread::sleep(Duration::from_secs(1));
        assert_eq!(addresses("eth0"), [own]);

        let _server = lab.dnsmasq("srv0", POOL, 60, 100, &["--dhcp-option=3,192.0.2.1"]);
        let both = || {
            let all: Vec<Ipv4Addr> = addresses("eth0").iter().map(|held| held.address).collect();
            (all.len() == 2 && all.contains(&own.address) && leased("eth0").is_some()).then_some(all)
        };
        let before = wait_for("a lease beside the address", both);
        connection.check();

        // A run that finds both knows which is which.
        client.terminate();
        lab.file("log", "");
        client = lab.diskomator(&["dhcp"]);
        wait_for("both", || (lab.log().matches("is there already").count() == 2).then_some(()));
        wait_for("the lease", || lab.log().contains("again").then_some(()));
        assert_eq!(both(), Some(before));
        connection.check();
        assert_eq!(client.signal("USR1"), Some(0));
        assert_eq!(addresses("eth0"), []);
        assert!(!rules().contains("from"), "{}", rules());
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_link_local_address_that_another_host_has_is_passed_over() {
    in_namespaces("a_link_local_address_that_another_host_has_is_passed_over", |lab| {
        // The one that this hardware address has first, on every boot.
        lab.cable("eth0", "srv0", "169.254.184.45/16");
        let _client = lab.diskomator(&["dhcp"]);
        let own = wait_for_address("eth0", |address| address.is_link_local());
        assert_ne!(own.address, Ipv4Addr::new(169, 254, 184, 45));
        Connection::open(lab, own.address).check();
    });
}

/// The rules of ours, as text.
fn rules() -> String {
    json(&["rule", "show", "priority", "1000"]).to_string().replace("\"src\"", "from")
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn two_links_to_one_network_each_answer_for_themselves() {
    in_namespaces("two_links_to_one_network_each_answer_for_themselves", |lab| {
        lab.cable("eth0", "srv0", "198.51.100.1/24");
        lab.cable("eth1", "srv1", "198.51.100.2/24");
        lab.on_servers("ip", &["link", "add", "br0", "type", "bridge"]);
        for port in ["srv0", "srv1"] {
            lab.on_servers("ip", &["address", "flush", "dev", port]);
            lab.on_servers("ip", &["link", "set", port, "master", "br0"]);
        }
        lab.on_servers("ip", &["address", "add", "192.0.2.1/24", "dev", "br0"]);
        lab.on_servers("ip", &["link", "set", "br0", "up"]);
        let _server = lab.dnsmasq("br0", POOL, 60, 100, &["--dhcp-option=3,192.0.2.1"]);
        let mut client = lab.diskomator(&["dhcp"]);
        let held = ["eth0", "eth1"].map(|link| wait_for_address(link, in_pool).address);
        assert_ne!(held[0], held[1]);
        wait_for("two rules", || (rules().matches("from").count() == 2).then_some(()));

        // Announcements, duplicate address detection and the like are over.
        thread::sleep(Duration::from_secs(4));
        let sent = |link: &str| {
            json(&["-statistics", "link", "show", "dev", link])[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
        };
        for (own, other, address) in [("eth0", "eth1", held[0]), ("eth1", "eth0", held[1])] {
            let mut connection = Connection::open(lab, address);
            let before = (sent(own), sent(other));
            for _ in 0..100 {
                connection.check();
            }
            let (by_own, by_other) = (sent(own) - before.0, sent(other) - before.1);
            assert!(by_own >= 100 && by_other < 10, "{own}: {by_own} packets, and {by_other} by {other}");
        }
        // The bridge learned one hardware address for each, neither that of both.
        let neighbours = lab.among_servers(|| json(&["neighbour", "show", "dev", "br0"]));
        for (address, mac) in [(held[0], "52:54:00:00:00:01"), (held[1], "52:54:00:00:00:02")] {
            let found =
                neighbours.as_array().unwrap().iter().find(|entry| entry["dst"] == address.to_string()).unwrap();
            assert_eq!(found["lladdr"], mac);
        }
        assert!(!lab.log().contains("uses"), "no link takes the other for a stranger: {}", lab.log());

        run("ip", &["link", "del", "eth1"]);
        wait_for("one rule", || (rules().matches("from").count() == 1).then_some(()));
        assert_eq!(client.signal("USR1"), Some(0));
        assert_eq!(rules().matches("from").count(), 0);
        assert_eq!(json(&["route", "show", "table", "all", "proto", "dhcp"]), serde_json::json!([]));
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_link_with_an_address_by_a_setting_asks_nobody() {
    in_namespaces("a_link_with_an_address_by_a_setting_asks_nobody", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        lab.cable("eth1", "srv1", "198.51.100.1/24");
        lab.cable("eth2", "srv2", "203.0.113.1/24");
        lab.set_cmdline(
            "diskomator.log=debug diskomator.ip=eth0:192.0.2.7/24,192.0.2.1 \
             diskomator.ip=52:54:00:00:00:01:2001:db8::7/64,2001:db8::1 diskomator.ip=eth2:off\n",
        );
        let _zero = lab.dnsmasq("srv0", POOL, 60, 100, &[]);
        let _one = lab.dnsmasq("srv1", "198.51.100.50,198.51.100.99", 60, 100, &[]);
        let _two = lab.dnsmasq("srv2", "203.0.113.50,203.0.113.99", 60, 100, &[]);
        let mut client = lab.diskomator(&["dhcp"]);
        let own = wait_for_address("eth0", |address| address == Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!((own.prefix_len, own.valid), (24, u64::from(u32::MAX)), "for ever");
        wait_for_address("eth1", |address| address.octets()[..3] == [198, 51, 100]);
        let route = wait_for("a default route", || json(&["route", "show", "default"])[0].as_object().cloned());
        assert_eq!((&route["gateway"], &route["prefsrc"]), (&"192.0.2.1".into(), &"192.0.2.7".into()));
        let has6 = || json(&["-6", "address", "show", "dev", "eth0"]).to_string().contains("2001:db8::7");
        wait_for("the IPv6 address", || has6().then_some(()));
        let route = json(&["-6", "route", "show", "default"]);
        assert_eq!(route[0]["gateway"], "2001:db8::1");
        Connection::open(lab, own.address).check();

        // Longer than a link-local address takes, with a run that is replaced.
        client.kill();
        client = lab.diskomator(&["dhcp"]);
        thread::sleep(Duration::from_secs(8));
        assert_eq!(addresses("eth0"), [own]);
        assert_eq!(addresses("eth2"), []);
        for server in ["srv0", "srv2"] {
            assert!(!lab.dnsmasq_log(server).contains("DHCPDISCOVER"), "{server} was asked");
        }
        // Down and up again, which makes the kernel forget routes and IPv6 addresses.
        run("ip", &["link", "set", "eth0", "down"]);
        wait_for("the loss", || lab.log().contains("eth0: no carrier").then_some(()));
        run("ip", &["link", "set", "eth0", "up"]);
        wait_for("a default route", || json(&["route", "show", "default"])[0].as_object().cloned());
        wait_for("the IPv6 address", || has6().then_some(()));
        // There is nobody to give it back to.
        assert_eq!(client.signal("USR1"), Some(0));
        assert_eq!(addresses("eth0"), [own]);
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn an_address_for_no_link_in_particular_goes_to_the_first_with_a_cable_and_stays_there() {
    in_namespaces("an_address_for_no_link_in_particular_goes_to_the_first_with_a_cable_and_stays_there", |lab| {
        // Only the kernel's own form, as a boot loader may give it.
        lab.set_cmdline("diskomator.log=debug ip=192.0.2.7::192.0.2.1:255.255.255.0:::none\n");
        lab.cable("eth0", "srv0", "198.51.100.1/24");
        lab.cable("eth1", "srv1", "192.0.2.1/24");
        lab.on_servers("ip", &["link", "set", "srv0", "down"]);
        let _zero = lab.dnsmasq("srv0", "198.51.100.50,198.51.100.99", 60, 100, &[]);
        let mut client = lab.diskomator(&["dhcp"]);
        let ours = |address| address == Ipv4Addr::new(192, 0, 2, 7);
        wait_for_address("eth1", ours);
        lab.on_servers("ip", &["link", "set", "srv0", "up"]);
        wait_for_address("eth0", |address| address.octets()[..3] == [198, 51, 100]);
        client.terminate();
        lab.file("log", "");
        client = lab.diskomator(&["dhcp"]);
        wait_for("the choice", || lab.log().contains("eth1: chosen for the addresses").then_some(()));

        // The other one takes it over, in place of its lease.
        run("ip", &["link", "del", "eth1"]);
        wait_for_address("eth0", ours);
        assert!(client.is_running());
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn with_nothing_to_do_it_does_nothing() {
    in_namespaces("with_nothing_to_do_it_does_nothing", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let _server = lab.dnsmasq("srv0", POOL, 60, 100, &[]);
        let client = lab.diskomator(&["dhcp"]);
        wait_for_address("eth0", in_pool);
        // IPv6 looks for duplicates and routers for a while, which is no link event.
        thread::sleep(Duration::from_secs(3));
        let before = client.effort();
        thread::sleep(Duration::from_secs(3));
        assert_eq!(client.effort(), before);
        let status = fs::read_to_string(format!("/proc/{}/status", client.id())).unwrap();
        println!("{}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap());
    });
}

/// One disk in `/sys`, an NVMe target without subsystems, and two consoles.
const MACHINE: [(&str, &str); 12] = [
    ("/dev/null", ""),
    ("/dev/kmsg", ""),
    ("/dev/tty1", ""),
    ("/dev/ttyS0", ""),
    ("/dev/sda", ""),
    ("/sys/class/tty/console/active", "tty0 ttyS0\n"),
    ("/sys/class/dmi/id/product_uuid", "01234567-89ab-cdef-0123-456789abcdef\n"),
    ("/sys/devices/pci0000:00/block/sda/size", "131072\n"),
    ("/sys/devices/pci0000:00/block/sda/device/model", "A DISK\n"),
    ("/sys/devices/pci0000:00/block/sda/device/serial", "S1\n"),
    ("/sys/kernel/config/nvmet/subsystems/.keep", ""),
    ("/sys/kernel/config/nvmet/ports/.keep", ""),
];

fn lay_out_machine() {
    plain_dev_and_sys(&MACHINE);
    for group in ["subsystems", "ports"] {
        fs::remove_file(format!("/sys/kernel/config/nvmet/{group}/.keep")).unwrap();
    }
    fs::create_dir("/sys/block").unwrap();
    std::os::unix::fs::symlink("../devices/pci0000:00/block/sda", "/sys/block/sda").unwrap();
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn the_console_shows_each_change_at_once_and_sleeps_otherwise() {
    in_namespaces("the_console_shows_each_change_at_once_and_sleeps_otherwise", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        run("ip", &["link", "set", "eth0", "up"]);
        lay_out_machine();
        let mut console = lab.diskomator(&["console"]);
        let lines = || fs::read_to_string("/dev/ttyS0").unwrap();
        let both = || (lines(), fs::read_to_string("/dev/tty1").unwrap());
        let shows = |text: &str| {
            let start = Instant::now();
            wait_for(text, || lines().rsplit("\n\nDisko").next().unwrap().contains(text).then_some(()));
            println!("{text:?} is told after {} ms", start.elapsed().as_millis());
        };
        shows("eth0  52:54:00:00:00:01");
        shows("sda  64 MiB  A DISK  S1  waiting\n");
        run("ip", &["address", "add", "192.0.2.9/24", "dev", "eth0"]);
        shows("nvme connect-all -t tcp -a 192.0.2.9\n");

        // Once IPv6 is done looking for duplicates.
        shows("fe80::");
        // The screen shows minutes, so one window of the two may have a change of the minute in it.
        let rests = || {
            let before = (console.effort(), both());
            thread::sleep(Duration::from_secs(6));
            let after = (console.effort(), both());
            if after == before { Ok(()) } else { Err(format!("{before:?}\n{after:?}")) }
        };
        let rest = rests().or_else(|first| rests().map_err(|second| format!("{first}\n{second}")));
        assert_eq!(rest, Ok(()));
        // The screen is drawn once, and after that only what is different.
        let screen = both().1;
        assert_eq!(screen.matches("\x1b[2J").count(), 1, "{screen}");
        assert!(screen.contains("DISKOMATOR") && screen.contains("192.0.2.9"), "{screen}");

        // The target as hotplug makes it. No uevent and no address tells of it.
        let list = Command::new(env!("CARGO_BIN_EXE_diskomator")).args(["export", "list", "--json"]).output().unwrap();
        let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
        let subsystem = format!("/sys/kernel/config/nvmet/subsystems/{}", list["disks"][0]["nqn"].as_str().unwrap());
        // With a subsystem the kernel makes what is in it.
        fs::create_dir_all(format!("{subsystem}/namespaces")).unwrap();
        for file in ["attr_allow_any_host", "attr_serial", "attr_model", "attr_firmware"] {
            put(&format!("{subsystem}/{file}"), "1\n");
        }
        thread::sleep(Duration::from_millis(300));
        for (file, value) in [("device_path", "/dev/sda"), ("device_uuid", ""), ("device_nguid", ""), ("enable", "0")] {
            put(&format!("{subsystem}/namespaces/1/{file}"), value);
        }
        thread::sleep(Duration::from_millis(300));
        put(&format!("{subsystem}/namespaces/1/enable"), "1");
        shows("sda  64 MiB  A DISK  S1  exported\n");
        let serial = fs::read_to_string("/dev/ttyS0").unwrap();
        assert!(serial.ends_with("exported\n") && !serial.contains('\x1b'), "{serial}");
        // And in a line of its own, as in a log.
        assert!(serial.lines().any(|line| line.starts_with('[') && line.ends_with("] sda: exported")), "{serial}");
        // A change that is not on the screen writes nothing.
        fs::create_dir("/sys/kernel/config/nvmet/ports/9").unwrap();
        thread::sleep(Duration::from_millis(500));
        assert_eq!(fs::read_to_string("/dev/ttyS0").unwrap(), serial);
        assert_eq!(console.terminate(), Some(0));
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn the_console_leaves_serial_to_a_shell_and_lives_without_any_terminal() {
    in_namespaces("the_console_leaves_serial_to_a_shell_and_lives_without_any_terminal", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        lab.set_cmdline("console=tty0 console=ttyS0 diskomator.debug\n");
        lay_out_machine();
        fs::remove_file("/dev/tty1").unwrap();
        let mut console = lab.diskomator(&["console"]);
        wait_for("a word of the loss", || {
            fs::read_to_string("/dev/kmsg").unwrap().contains("nothing can be shown on /dev/tty1").then_some(())
        });
        put("/dev/tty1", "");
        run("ip", &["link", "set", "eth0", "up"]);
        run("ip", &["address", "add", "192.0.2.9/24", "dev", "eth0"]);
        wait_for("the text", || fs::read_to_string("/dev/tty1").unwrap().contains("-a 192.0.2.9").then_some(()));
        assert!(console.is_running());
        assert_eq!(fs::read_to_string("/dev/ttyS0").unwrap(), "");
    });
}
