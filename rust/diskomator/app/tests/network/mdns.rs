//! Multicast DNS against avahi, which has a message bus and a `/run` of its own.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use netproto::mdns::wire::{INTERNET, Message, Name, Question, kind};

use crate::lab::{Background, Lab, in_namespaces, put, run, wait_for};

const BUS: &str = "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus";
const BUS_SETTINGS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow own="*"/> <allow send_destination="*"/> <allow receive_sender="*"/>
  </policy>
</busconfig>
"#;

/// Avahi among the servers.
struct Avahi<'a> {
    lab: &'a Lab,
    _bus: Background,
    _daemon: Background,
}

impl<'a> Avahi<'a> {
    /// One that goes by `name` on the servers' ends of the cables.
    fn start(lab: &'a Lab, name: &str, links: &str) -> Self {
        lab.empty_run();
        fs::create_dir("/run/avahi-daemon").unwrap();
        let settings = format!(
            "[server]\nhost-name={name}\nallow-interfaces={links}\nuse-ipv4=yes\nuse-ipv6=yes\n\
             [wide-area]\nenable-wide-area=no\n[publish]\npublish-workstation=no\npublish-hinfo=no\n"
        );
        put("/run/avahi.conf", &settings);
        put("/run/bus.conf", BUS_SETTINGS);
        let bus = lab.server("dbus-daemon", &["--config-file=/run/bus.conf", "--nofork", "--nopidfile"]);
        wait_for("the message bus", || fs::exists("/run/bus").unwrap().then_some(()));
        let no = ["--no-drop-root", "--no-chroot", "--no-rlimits", "--file=/run/avahi.conf"];
        let daemon = lab.server("env", &[&[BUS, "avahi-daemon"], &no[..]].concat());
        wait_for("avahi", || lab.text("server").contains("Server startup complete").then_some(()));
        Self { lab, _bus: bus, _daemon: daemon }
    }

    fn say(&self, args: &[&str]) -> String {
        self.lab.said_on_servers("env", &[&[BUS], args].concat())
    }

    /// The services that it finds: link, family, name, host and port of each.
    fn browse(&self) -> Vec<[String; 5]> {
        let said = self.say(&["avahi-browse", "--resolve", "--terminate", "--parsable", "_nvme-disc._tcp"]);
        let found = said.lines().filter(|line| line.starts_with('=')).map(|line| {
            let fields: Vec<&str> = line.split(';').collect();
            assert!(fields[9].contains("\"p=tcp\""), "{line}");
            assert!(fields[9].contains("\"nqn=nqn.2014-08.org.nvmexpress.discovery\""), "{line}");
            assert!(fields[9].contains("\"access="), "{line}");
            [1, 2, 3, 6, 8].map(|field| fields[field].to_owned())
        });
        let mut found: Vec<_> = found.collect();
        found.sort();
        found
    }

    /// Waits until it finds `label` by both families on each link, once.
    fn wait_for(&self, label: &str, links: &[&str]) {
        let entry = |link: &str, family: &str| {
            let host = format!("{label}.local");
            [link, family, label, &host, "8009"].map(str::to_owned)
        };
        let wanted: Vec<_> = links.iter().flat_map(|link| [entry(link, "IPv4"), entry(link, "IPv6")]).collect();
        let mut found = Vec::new();
        wait_for(&format!("{label} in avahi on {links:?}"), || {
            found = self.browse();
            (found == wanted).then_some(())
        });
    }

    fn resolve(&self, family: &str, name: &str) -> Option<String> {
        let said = self.say(&["avahi-resolve", family, "--name", name]);
        said.split_whitespace().nth(1).map(str::to_owned)
    }
}

fn plug_in(lab: &Lab, here: &str, there: &str, network: u8) {
    lab.cable(here, there, &format!("192.0.{network}.1/24"));
    run("ip", &["link", "set", here, "up"]);
    run("ip", &["address", "add", &format!("192.0.{network}.9/24"), "dev", here]);
}

#[test]
#[ignore = "needs network namespaces and avahi; run by make test"]
fn avahi_finds_the_machine_on_each_link_until_it_stops() {
    in_namespaces("mdns::avahi_finds_the_machine_on_each_link_until_it_stops", |lab| {
        plug_in(lab, "eth0", "srv0", 2);
        plug_in(lab, "eth1", "srv1", 3);
        let avahi = Avahi::start(lab, "observer", "srv0,srv1");
        assert_eq!(avahi.browse(), Vec::<[String; 5]>::new());
        let start = Instant::now();
        let mut daemon = lab.diskomator(&["mdns"]);
        // The name is that of the lowest address, on both links.
        avahi.wait_for("diskomator-000001", &["srv0", "srv1"]);
        println!("found after {} ms", start.elapsed().as_millis());
        let name = "diskomator-000001.local";
        assert!(["192.0.2.9", "192.0.3.9"].map(|ip| Some(ip.to_owned())).contains(&avahi.resolve("-4", name)));
        assert!(avahi.resolve("-6", name).unwrap().starts_with("fe80::5054:ff:fe00:"));

        // A card that is pulled, an address that comes, and one that goes.
        run("ip", &["link", "del", "eth1"]);
        avahi.wait_for("diskomator-000001", &["srv0"]);
        run("ip", &["address", "add", "198.51.100.9/24", "dev", "eth0"]);
        run("ip", &["address", "del", "192.0.2.9/24", "dev", "eth0"]);
        wait_for("the new address", || (avahi.resolve("-4", name)? == "198.51.100.9").then_some(()));

        assert_eq!(daemon.terminate(), Some(0));
        assert!(!Path::new("/run/machine-name").exists());
        wait_for("nothing", || avahi.browse().is_empty().then_some(()));
    });
}

#[test]
#[ignore = "needs network namespaces and avahi; run by make test"]
fn a_name_that_is_taken_gets_a_number_on_all_links() {
    in_namespaces("mdns::a_name_that_is_taken_gets_a_number_on_all_links", |lab| {
        plug_in(lab, "eth0", "srv0", 2);
        plug_in(lab, "eth1", "srv1", 3);
        let avahi = Avahi::start(lab, "diskomator-000001", "srv0,srv1");
        let _daemon = lab.diskomator(&["mdns"]);
        avahi.wait_for("diskomator-000001-2", &["srv0", "srv1"]);
        assert_eq!(avahi.resolve("-4", "diskomator-000001.local").as_deref().map(|ip| ip.ends_with(".1")), Some(true));
        assert!(lab.log().contains("the name is taken; from now on diskomator-000001-2.local"), "{}", lab.log());
        assert!(!lab.log().contains("-3"), "{}", lab.log());
        wait_for("the name for other applets", || {
            (fs::read_to_string("/run/machine-name").ok()? == "diskomator-000001-2\n").then_some(())
        });
    });
}

#[test]
#[ignore = "needs network namespaces and avahi; run by make test"]
fn two_cards_on_one_network_are_no_rivals() {
    in_namespaces("mdns::two_cards_on_one_network_are_no_rivals", |lab| {
        plug_in(lab, "eth0", "srv0", 2);
        plug_in(lab, "eth1", "srv1", 2);
        lab.on_servers("ip", &["link", "add", "br0", "type", "bridge"]);
        for port in ["srv0", "srv1"] {
            lab.on_servers("ip", &["address", "flush", "dev", port]);
            lab.on_servers("ip", &["link", "set", port, "master", "br0"]);
        }
        lab.on_servers("ip", &["link", "set", "br0", "up"]);
        lab.on_servers("ip", &["address", "add", "192.0.2.1/24", "dev", "br0"]);
        run("ip", &["address", "del", "192.0.2.9/24", "dev", "eth1"]);
        run("ip", &["address", "add", "192.0.2.10/24", "dev", "eth1"]);
        let avahi = Avahi::start(lab, "observer", "br0");
        let _daemon = lab.diskomator(&["mdns"]);
        wait_for("the name", || (lab.log().matches("known as").count() == 4).then_some(()));
        avahi.wait_for("diskomator-000001", &["br0"]);
        thread::sleep(Duration::from_secs(5));
        avahi.wait_for("diskomator-000001", &["br0"]);
        assert_eq!(lab.log().matches("known as").count(), 4, "{}", lab.log());
        assert!(!lab.log().contains("taken"), "{}", lab.log());
    });
}

#[test]
#[ignore = "needs network namespaces and avahi; run by make test"]
fn an_avahi_on_the_same_machine_finds_it_too() {
    in_namespaces("mdns::an_avahi_on_the_same_machine_finds_it_too", |lab| {
        plug_in(lab, "eth0", "srv0", 2);
        let avahi = Avahi::start(lab, "observer", "srv0");
        let mut daemon = lab.server(env!("CARGO_BIN_EXE_diskomator"), &["mdns"]);
        let links = lab.said_on_servers("ip", &["-brief", "link", "show", "srv0"]);
        let mac = links.split_whitespace().nth(2).unwrap().replace(':', "");
        avahi.wait_for(&format!("diskomator-{}", &mac[6..]), &["srv0"]);
        assert_eq!(daemon.terminate(), Some(0));
        wait_for("nothing", || avahi.browse().is_empty().then_some(()));
    });
}

#[test]
#[ignore = "needs network namespaces and avahi; run by make test"]
fn killed_or_unplugged_it_is_found_again() {
    in_namespaces("mdns::killed_or_unplugged_it_is_found_again", |lab| {
        plug_in(lab, "eth0", "srv0", 2);
        let avahi = Avahi::start(lab, "observer", "srv0");
        let mut daemon = lab.diskomator(&["mdns", "--interface", "eth0"]);
        avahi.wait_for("diskomator-000001", &["srv0"]);
        daemon.kill();
        // The next run writes from its beginning.
        lab.file("log", "");
        let mut daemon = lab.diskomator(&["mdns", "--interface", "eth0"]);
        let published = || lab.log().matches("known as diskomator-000001.local by").count();
        wait_for("the second run", || (published() == 2).then_some(()));
        avahi.wait_for("diskomator-000001", &["srv0"]);

        run("ip", &["link", "set", "eth0", "down"]);
        thread::sleep(Duration::from_millis(300));
        run("ip", &["link", "set", "eth0", "up"]);
        wait_for("new probes", || (published() == 4).then_some(()));
        avahi.wait_for("diskomator-000001", &["srv0"]);
        assert_eq!(daemon.terminate(), Some(0));
        wait_for("silence", || avahi.browse().is_empty().then_some(()));
        assert!(!lab.log().contains("taken"), "{}", lab.log());
    });
}

#[test]
#[ignore = "needs network namespaces and avahi; run by make test"]
fn a_plain_resolver_is_answered_and_a_query_from_another_link_is_not() {
    in_namespaces("mdns::a_plain_resolver_is_answered_and_a_query_from_another_link_is_not", |lab| {
        plug_in(lab, "eth0", "srv0", 2);
        plug_in(lab, "eth1", "srv1", 3);
        let _daemon = lab.diskomator(&["mdns", "--interface", "eth0"]);
        wait_for("the name", || lab.log().contains("eth0: known as diskomator-000001.local by IPv4").then_some(()));
        let question = Question {
            name: Name::new(["diskomator-000001", "local"]),
            kind: kind::A,
            class: INTERNET,
            wants_unicast: false,
        };
        let query = Message { id: 99, questions: vec![question], ..Message::default() };
        let ask = |from: Ipv4Addr| {
            let socket = lab.among_servers(|| UdpSocket::bind((from, 0)).unwrap());
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.send_to(&query.build(), (Ipv4Addr::new(224, 0, 0, 251), 5353)).unwrap();
            let mut buffer = [0; 512];
            let (len, answerer) = socket.recv_from(&mut buffer).map_err(|error| error.kind())?;
            assert_eq!(answerer, SocketAddr::from(([192, 0, 2, 9], 5353)));
            Ok(Message::parse(&buffer[..len]).unwrap())
        };
        lab.on_servers("ip", &["route", "add", "224.0.0.0/4", "dev", "srv0"]);
        let answer = ask(Ipv4Addr::new(192, 0, 2, 1)).unwrap();
        assert_eq!((answer.id, answer.answers.len()), (99, 1));
        assert_eq!((&answer.answers[0].data[..], answer.answers[0].ttl), (&[192, 0, 2, 9][..], 10));
        lab.on_servers("ip", &["route", "replace", "224.0.0.0/4", "dev", "srv1"]);
        assert_eq!(ask(Ipv4Addr::new(192, 0, 3, 1)), Err(ErrorKind::WouldBlock));
    });
}

#[test]
#[ignore = "needs network namespaces and avahi; run by make test"]
fn with_nobody_asking_it_sleeps() {
    in_namespaces("mdns::with_nobody_asking_it_sleeps", |lab| {
        plug_in(lab, "eth0", "srv0", 2);
        let daemon = lab.diskomator(&["mdns"]);
        wait_for("the name", || (lab.log().matches("known as").count() == 2).then_some(()));
        // Announcements, and the kernel's look for duplicates of its addresses.
        thread::sleep(Duration::from_secs(6));
        let before = daemon.effort();
        thread::sleep(Duration::from_secs(3));
        assert_eq!(daemon.effort(), before);
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
        println!("{}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap());
    });
}
