//! Servers and askers with odd habits, and what is said of them in the log.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use netproto::dhcp::wire::{Kind, Options};
use netproto::mdns::wire::{INTERNET, Message, Name, Question, kind};

use crate::lab::{GIVEN, Lab, addresses, answer, in_namespaces, packet, wait_for, wait_for_address};
use crate::{POOL, in_pool, ipv6};

/// A lease of dnsmasq with `options`, of which the log says `said`. None of it
/// takes longer than with any other server.
fn leases_from_dnsmasq(lab: &Lab, options: &[&str], said: &str) {
    lab.cable("eth0", "srv0", "192.0.2.1/24");
    let _server = lab.dnsmasq("srv0", POOL, 60, 100, options);
    let _client = lab.diskomator(&["dhcp"]);
    let held = wait_for_address("eth0", in_pool);
    assert_eq!(held.prefix_len, 24);
    assert!((90..=120).contains(&held.valid), "{held:?}");
    let said = format!("eth0: a server's message is odd: {said}");
    wait_for("the line of the log", || lab.log().contains(&said).then_some(()));
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_server_that_says_twice_who_it_is_gives_a_lease() {
    in_namespaces("odd::a_server_that_says_twice_who_it_is_gives_a_lease", |lab| {
        leases_from_dnsmasq(lab, &["--dhcp-option=54,192.0.2.1"], "option 54 cannot have 8 bytes");
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_server_that_calls_us_front_desk_gives_a_lease() {
    in_namespaces("odd::a_server_that_calls_us_front_desk_gives_a_lease", |lab| {
        leases_from_dnsmasq(lab, &["--dhcp-option-force=12,front desk"], "option 12 has a value that makes no sense");
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_server_with_an_empty_mtu_gives_a_lease() {
    in_namespaces("odd::a_server_with_an_empty_mtu_gives_a_lease", |lab| {
        leases_from_dnsmasq(lab, &["--dhcp-option-force=26"], "option 26 cannot have 0 bytes");
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_server_with_empty_options_and_half_a_route_gives_a_lease() {
    in_namespaces("odd::a_server_with_empty_options_and_half_a_route_gives_a_lease", |lab| {
        let odd = ["1", "6", "33", "51", "61", "66", "67", "121,18:0a", "249,63:01"];
        let options = odd.map(|option| format!("--dhcp-option-force={option}"));
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        leases_from_dnsmasq(lab, &options, "option ");
        for said in ["option 61 cannot have 0 bytes", "option 121 cannot have 2 bytes", "there is no network mask"] {
            wait_for(said, || lab.log().contains(said).then_some(()));
        }
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn an_acknowledgement_without_a_time_is_for_an_hour() {
    in_namespaces("odd::an_acknowledgement_without_a_time_is_for_an_hour", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        let _server = lab.scripted("srv0", |asked| {
            let mut message = answer(asked, 600);
            if message.kind == Kind::Ack {
                message.options = Options { lease_time: None, ..message.options };
            }
            vec![packet(&message.build())]
        });
        let _client = lab.diskomator(&["dhcp"]);
        let held = wait_for_address("eth0", |address| address == GIVEN);
        assert!((3570..=3600).contains(&held.valid), "{held:?}");
        wait_for("the log", || {
            lab.log().contains("eth0: it does not say for how long; 3600 s are usual").then_some(())
        });
        assert_eq!(addresses("eth0").len(), 1);
    });
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn a_dhcpv6_server_with_stray_bytes_at_its_end_gives_an_address() {
    in_namespaces("odd::a_dhcpv6_server_with_stray_bytes_at_its_end_gives_an_address", |lab| {
        // One in the ADVERTISE, and three in the REPLY.
        ipv6::leases_with_stray_bytes(lab, [1, 3]);
        for said in ["1 bytes after its options are no option", "3 bytes after its options are no option"] {
            let line = format!("eth0: a DHCPv6 server's message is odd: {said}");
            wait_for(said, || lab.log().contains(&line).then_some(()));
        }
    });
}

#[test]
#[ignore = "needs network namespaces; run by make test"]
fn a_query_beside_a_bad_record_is_answered() {
    in_namespaces("odd::a_query_beside_a_bad_record_is_answered", |lab| {
        lab.cable("eth0", "srv0", "192.0.2.1/24");
        crate::lab::run("ip", &["link", "set", "eth0", "up"]);
        crate::lab::run("ip", &["address", "add", "192.0.2.9/24", "dev", "eth0"]);
        let _daemon = lab.diskomator(&["mdns", "--interface", "eth0"]);
        wait_for("the name", || lab.log().contains("eth0: known as diskomator-000001.local by IPv4").then_some(()));
        lab.on_servers("ip", &["route", "add", "224.0.0.0/4", "dev", "srv0"]);
        let name = Name::new(["diskomator-000001", "local"]);
        let question = Question { name, kind: kind::A, class: INTERNET, wants_unicast: false };
        let mut query = Message { id: 99, questions: vec![question], ..Message::default() }.build();
        // A known answer, the data of which points to itself.
        query[7] = 1;
        let at = u8::try_from(query.len() + 12).unwrap();
        query.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, at]);
        let socket = lab.among_servers(|| UdpSocket::bind((Ipv4Addr::new(192, 0, 2, 1), 0)).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send_to(&query, (Ipv4Addr::new(224, 0, 0, 251), 5353)).unwrap();
        let mut buffer = [0; 512];
        let len = socket.recv(&mut buffer).expect("an answer");
        assert_eq!(Message::parse(&buffer[..len]).unwrap().answers[0].data, [192, 0, 2, 9]);
        wait_for("the log", || lab.log().contains("a message from 192.0.2.1 is odd: the record at byte").then_some(()));
    });
}
