//! Two hundred links whose cables are pulled, plugged in, taken out of the
//! machine and put back, at random.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use netproto::rng::Rng;

use crate::lab::{Background, Lab, in_namespaces, json, wait_for};

const LINKS: u8 = 200;
/// How long they do, in seconds: for `make test`, and the variable for more.
const FLAPPING: u64 = 20;
const FLAPPING_VARIABLE: &str = "DISKOMATOR_FLAPPING";
/// The seed of the random numbers, to repeat a run.
const SEED_VARIABLE: &str = "DISKOMATOR_SEED";
/// How long it may take until every link has an address, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The memory that an allocator may keep after its peak, in KiB.
const MORE_MEMORY: u64 = 1024;

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn two_hundred_links_that_flap_leave_nothing_behind() {
    in_namespaces("flapping::two_hundred_links_that_flap_leave_nothing_behind", |lab| {
        let seed = variable(SEED_VARIABLE).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos())
        });
        println!("{SEED_VARIABLE}={seed}");
        let net = Net::new(lab);
        let _server = lab.server(
            "dnsmasq",
            &[
                "--no-daemon",
                "--conf-file=/dev/null",
                "--port=0",
                "--no-ping",
                "--dhcp-authoritative",
                "--pid-file=",
                "--interface=br0",
                &format!("--dhcp-leasefile={}", lab.file("leases", "")),
                // Nobody renews during the test.
                "--dhcp-range=10.9.1.0,10.9.8.255,255.255.0.0,1h",
            ],
        );
        let dhcp = lab.diskomator(&["dhcp"]);
        wait_for("the first link", || lab.log().contains("Ethernet link").then_some(()));
        // Both would write to the same places of one file.
        lab.set_cmdline("diskomator.log=error\n");
        let daemons = [dhcp, lab.diskomator(&["mdns"])];
        net.settled();
        let before = daemons.each_ref().map(at_rest);
        let ticks = |daemon: &Background| daemon.effort().0;
        let started = daemons.each_ref().map(ticks);

        let mut rng = Rng::new(seed);
        let end = Instant::now() + Duration::from_secs(variable(FLAPPING_VARIABLE).unwrap_or(FLAPPING));
        let mut changes = 0;
        while Instant::now() < end {
            changes += net.flap(&mut rng);
            thread::sleep(Duration::from_millis(rng.below(200)));
        }
        let ended = daemons.each_ref().map(ticks);
        println!("{changes} changes; what the kernel had to say and could not: {}", messages_lost());
        net.repair();
        net.settled();
        for (n, daemon) in daemons.iter().enumerate() {
            let (before, after) = (&before[n], at_rest(daemon));
            println!("{before:?} and then {after:?}, with {} ticks of work between", ended[n] - started[n]);
            assert!(after.descriptors <= before.descriptors);
            assert!(after.memory <= before.memory + MORE_MEMORY);
        }
    });
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Of all netlink sockets of this namespace.
fn messages_lost() -> u64 {
    let sockets = fs::read_to_string("/proc/net/netlink").unwrap();
    let lost = sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(8)?.parse::<u64>().ok());
    lost.sum()
}

/// The resources of a daemon.
#[derive(Debug)]
struct Rest {
    descriptors: usize,
    /// Its private memory, in KiB.
    memory: u64,
}

/// Waits until a daemon does nothing for three seconds.
fn at_rest(daemon: &Background) -> Rest {
    wait_for("the daemon to sleep", || {
        let before = daemon.effort();
        thread::sleep(Duration::from_secs(3));
        (daemon.effort() == before).then_some(())
    });
    let id = daemon.id();
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap();
    let kib = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    Rest { descriptors: fs::read_dir(format!("/proc/{id}/fd")).unwrap().count(), memory: kib("Private_Dirty:") }
}

/// Cables, whose far ends are ports of one switch that lets them reach the
/// server only: two hundred cards hear much, but not from themselves.
struct Net<'a> {
    lab: &'a Lab,
}

impl<'a> Net<'a> {
    fn new(lab: &'a Lab) -> Self {
        lab.on_servers("ip", &["link", "add", "br0", "type", "bridge"]);
        lab.on_servers("ip", &["address", "add", "10.9.0.1/16", "dev", "br0"]);
        lab.on_servers("ip", &["link", "set", "br0", "up"]);
        let net = Self { lab };
        let all: Vec<u8> = (0..LINKS).collect();
        net.plug_in(&all);
        net
    }

    /// Cards that were not there, with the hardware addresses that they have had.
    fn plug_in(&self, links: &[u8]) {
        let pid = self.lab.servers().id();
        self.here(
            links.iter().map(|n| {
                format!("link add eth{n} address 52:54:00:00:01:{n:02x} type veth peer name srv{n} netns {pid}")
            }),
        );
        self.there(links.iter().flat_map(|n| {
            [format!("link set srv{n} master br0 up"), format!("link set srv{n} type bridge_slave isolated on")]
        }));
    }

    /// Something happens to some links; returns to how many.
    fn flap(&self, rng: &mut Rng) -> usize {
        let links: BTreeSet<u8> =
            (0..=rng.below(20)).filter_map(|_| u8::try_from(rng.below(LINKS.into())).ok()).collect();
        let links: Vec<u8> = links.into_iter().collect();
        let set = |state| links.iter().map(move |n| format!("link set srv{n} {state}"));
        match rng.below(10) {
            0..=2 => self.there(set("down")),
            3..=5 => self.there(set("up")),
            // For less time than anybody needs to look.
            6 => self.there(set("down").chain(set("up"))),
            7 => {
                self.here(links.iter().flat_map(|n| [format!("link set eth{n} down"), format!("link set eth{n} up")]));
            }
            8 => self.here(links.iter().map(|n| format!("link del eth{n}"))),
            _ => self.plug_in(&links),
        }
        links.len()
    }

    /// Every card is there, with a cable in it.
    fn repair(&self) {
        let all: Vec<u8> = (0..LINKS).collect();
        self.plug_in(&all);
        self.here(all.iter().map(|n| format!("link set eth{n} up")));
    }

    /// Every link has the address that the server has given it, no two the
    /// same, and the kernel has rules for those addresses and no other.
    fn settled(&self) {
        let start = Instant::now();
        // Those without one try again, ever more slowly; the carrier was just there.
        loop {
            let (given, held) = (self.given(), held());
            let has_its_own = |n: u8| {
                let own = held.get(&format!("eth{n}"))?;
                let given = given.get(&format!("52:54:00:00:01:{n:02x}"))?;
                own.contains(given).then_some(*given)
            };
            let all: BTreeSet<Ipv4Addr> = (0..LINKS).filter_map(has_its_own).collect();
            if all.len() == usize::from(LINKS) {
                break;
            }
            let missing: Vec<u8> = (0..LINKS).filter(|n| has_its_own(*n).is_none()).collect();
            assert!(start.elapsed() < PATIENCE, "no addresses of their own: {missing:?}, but {held:?}");
            thread::sleep(Duration::from_millis(100));
        }
        println!("every link has its address {} ms after the last change", start.elapsed().as_millis());
        // A link-local address of a time without a server stays for a minute, with a rule of its own.
        wait_for("a rule for each address, and no other", || {
            let mut addresses: Vec<Ipv4Addr> = held().into_values().flatten().collect();
            let rules = json(&["-4", "rule", "show", "priority", "1000"]);
            let sources = rules.as_array().unwrap().iter().map(|rule| rule["src"].as_str().unwrap().parse().unwrap());
            let mut sources: Vec<Ipv4Addr> = sources.collect();
            sources.sort_unstable();
            addresses.sort_unstable();
            (sources == addresses).then_some(())
        });
        // The server is the router: by the main table, and by a table of the link's own with its network.
        wait_for("the routes of each lease", || {
            let routes = json(&["-4", "route", "show", "table", "all", "proto", "dhcp"]);
            (routes.as_array().unwrap().len() == 3 * usize::from(LINKS)).then_some(())
        });
    }

    /// By hardware address, as dnsmasq has written it down.
    fn given(&self) -> BTreeMap<String, Ipv4Addr> {
        let leases = self.lab.text("leases");
        let lines = leases.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.filter_map(|fields| Some(((*fields.get(1)?).to_owned(), fields.get(2)?.parse().ok()?))).collect()
    }

    /// Some of it fails, for want of what chance took away.
    fn here(&self, lines: impl Iterator<Item = String>) {
        Command::new("ip").args(["-force", "-batch", &self.batch(lines)]).output().unwrap();
    }

    fn there(&self, lines: impl Iterator<Item = String>) {
        self.lab.said_on_servers("ip", &["-force", "-batch", &self.batch(lines)]);
    }

    fn batch(&self, lines: impl Iterator<Item = String>) -> String {
        self.lab.file("batch", &lines.map(|line| line + "\n").collect::<String>())
    }
}

/// The IPv4 addresses of each link.
fn held() -> BTreeMap<String, Vec<Ipv4Addr>> {
    let all = json(&["-4", "address", "show"]);
    let links = all.as_array().unwrap().iter().filter(|link| link["ifname"].as_str().unwrap().starts_with("eth"));
    let own = |link: &serde_json::Value| {
        let list = link["addr_info"].as_array().unwrap().iter();
        list.filter_map(|info| info["local"].as_str()?.parse().ok()).collect()
    };
    links.map(|link| (link["ifname"].as_str().unwrap().to_owned(), own(link))).collect()
}
