//! Each DHCP server in each situation that it can be in.
//!
//! The cases mostly wait, so many run at a time, each in namespaces of its own.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netproto::dhcp::wire::Kind;

use crate::clients::{Asking, Client};
use crate::lab::{Background, Lab, addresses, apart, be_lenient, case, json, wait_for, wait_for_address};
use crate::servers::{Note, Running, SERVERS, Server, Terms};
use crate::wire::{Seen, Wire};

/// How many cases run at a time.
const AT_ONCE: usize = 8;
pub(crate) const LONG: [u32; 3] = [60, 100, 120];

/// A scenario of a client and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    Lease,
    Renew,
    Rebind,
    Nak,
    Expire,
    Reboot,
    Decline,
    Relay,
    Two,
    Late,
    Release,
}

const SCENARIOS: [Scenario; 11] = [
    Scenario::Lease,
    Scenario::Renew,
    Scenario::Rebind,
    Scenario::Nak,
    Scenario::Expire,
    Scenario::Reboot,
    Scenario::Decline,
    Scenario::Relay,
    Scenario::Two,
    Scenario::Late,
    Scenario::Release,
];

impl Scenario {
    const fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Renew => "renew",
            Self::Rebind => "rebind",
            Self::Nak => "NAK",
            Self::Expire => "expire",
            Self::Reboot => "reboot",
            Self::Decline => "decline",
            Self::Relay => "relay",
            Self::Two => "two",
            Self::Late => "late",
            Self::Release => "release",
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Lease => "an address, its route and its time",
            Self::Renew => "more time from the same server at T1, twice",
            Self::Rebind => "the server dies; what takes its place gives more time at T2",
            Self::Nak => "the network gets other numbers; at T2 the server says no and gives another address",
            Self::Expire => "the same, but the server says nothing; another address comes when the lease has ended",
            Self::Reboot => "the same, and the server says no when the cable is plugged in again",
            Self::Decline => "the address is another host's: it is declined and never used, and the next one is taken",
            Self::Relay => "the server is behind dhcrelay, and more time is asked for through the router",
            Self::Two => "dnsmasq is there, too: one address; its server dies, the other gives one",
            Self::Late => "169.254 at first, and a lease once a server starts",
            Self::Release => "the server hears that the address is free",
        }
    }
}

/// Why a server can't go through it, or a client.
fn obstacle(client: Client, server: Server, scenario: Scenario) -> Option<&'static str> {
    match (client, scenario) {
        (
            Client::Udhcpc,
            Scenario::Renew | Scenario::Rebind | Scenario::Nak | Scenario::Expire | Scenario::Relay | Scenario::Two,
        ) => return Some("it takes two minutes for any lease that is shorter"),
        (Client::Udhcpc, Scenario::Reboot) => return Some("it does not look at the cable"),
        (Client::Udhcpc | Client::Dhcpcd, Scenario::Decline) if server.forgets_declines() => {
            return Some("it tries the declined address on, without any other");
        }
        (Client::Udhcpc, Scenario::Late) => return Some("it takes no 169.254"),
        _ => {}
    }
    match (server, scenario) {
        (Server::Dnsmasq, Scenario::Expire) => Some("it says no before"),
        (_, Scenario::Nak) if server != Server::Dnsmasq => {
            Some("it says nothing to a client of another network that rebinds")
        }
        (Server::Networkd, Scenario::Relay) => Some("its pool is of its own link's network"),
        _ => None,
    }
}

/// The remark on a scenario, where a server differs.
fn remark(server: Server, scenario: Scenario) -> Option<&'static str> {
    (scenario == Scenario::Decline && server.forgets_declines()).then_some(
        "it forgets what was declined: 169.254 serves until the other host is gone, and the address is then taken",
    )
}

/// The network that all begin with.
pub(crate) fn terms(times: [u32; 3]) -> Terms {
    Terms { own: Ipv4Addr::new(192, 0, 2, 1), network: [192, 0, 2], pool: (50, 99), times, delay: 0 }
}

/// The one that it is afterwards.
fn moved() -> Terms {
    Terms { own: Ipv4Addr::new(198, 51, 100, 1), network: [198, 51, 100], ..terms(LONG) }
}

fn go_through(lab: &Lab, client: Client, server: Server, scenario: Scenario) {
    let stage = Stage::set(lab, client, server);
    match scenario {
        Scenario::Lease => stage.lease(),
        Scenario::Renew => stage.renew(),
        Scenario::Rebind => stage.rebind(),
        Scenario::Nak => stage.nak(),
        Scenario::Expire => stage.expire(),
        Scenario::Reboot => stage.reboot(),
        Scenario::Decline => stage.decline(),
        Scenario::Relay => stage.relay(),
        Scenario::Two => stage.two(),
        Scenario::Late => stage.late(),
        Scenario::Release => stage.release(),
    }
}

/// A cable between two machines, with both ends up.
fn join((here, this): (&Background, &str), (there, that): (&Background, &str)) {
    here.run("ip", &["link", "add", this, "type", "veth", "peer", "name", that, "netns", &there.id().to_string()]);
    here.run("ip", &["link", "set", this, "up"]);
    there.run("ip", &["link", "set", that, "up"]);
}

/// A cable from the client to a switch, which is on the machine in between;
/// servers have machines of their own.
pub(crate) struct Stage<'a> {
    lab: &'a Lab,
    client: Client,
    server: Server,
    pub(crate) wire: Wire,
}

impl<'a> Stage<'a> {
    pub(crate) fn set(lab: &'a Lab, client: Client, server: Server) -> Self {
        lab.cable("eth0", "port0", "192.0.2.254/24");
        lab.on_servers("ip", &["address", "flush", "dev", "port0"]);
        lab.on_servers("ip", &["link", "add", "switch", "type", "bridge"]);
        lab.on_servers("ip", &["link", "set", "switch", "up"]);
        lab.on_servers("ip", &["link", "set", "port0", "master", "switch"]);
        Self { lab, client, server, wire: Wire::tap() }
    }

    /// One more machine with this address, whose lan0 goes to `port` of the switch.
    fn machine(&self, port: &str, own: Ipv4Addr) -> Background {
        let machine = self.lab.machine();
        join((self.lab.servers(), port), (&machine, "lan0"));
        self.lab.on_servers("ip", &["link", "set", port, "master", "switch"]);
        machine.run("ip", &["address", "add", &format!("{own}/24"), "dev", "lan0"]);
        machine
    }

    /// The server's machine, and the server on it.
    pub(crate) fn serve(&self, terms: &Terms) -> (Background, Running<'a>) {
        let machine = self.machine("port1", terms.own);
        let server = self.server.start(self.lab, &machine, "lan0", terms);
        (machine, server)
    }

    fn ask(&self, terms: &Terms) -> (Asking, Ipv4Addr) {
        let asking = self.client.start(self.lab);
        (asking, wait_for_one_of(terms))
    }

    /// The client has this address, and has had no other, nor lost it. A server on a busy machine may answer so late
    /// that there is a link-local address, too, which stays for a minute.
    fn kept(&self, address: Ipv4Addr) {
        assert!(!self.lab.log().contains("no longer ours"));
        let mut all: Vec<Ipv4Addr> = addresses("eth0").iter().map(|held| held.address).collect();
        all.retain(|held| !held.is_link_local());
        assert_eq!(all, [address]);
        let acks: Vec<Ipv4Addr> =
            self.wire.all().iter().filter(|s| s.is(Kind::Ack)).map(|s| s.message.yiaddr).collect();
        assert!(acks.iter().all(|given| *given == address), "{acks:?}");
    }

    fn lease(&self) {
        let terms = terms(LONG);
        let (_machine, server) = self.serve(&terms);
        let (_client, address) = self.ask(&terms);
        server.wait_for(Note::Given, address);
        let ack = self.wire.wait_for("the ACK", |seen| seen.is(Kind::Ack)).message;
        assert_eq!((ack.yiaddr, ack.options.server), (address, Some(terms.own)));
        assert_eq!(ack.options.lease_time, Some(terms.times[2]));
        let held = addresses("eth0")[0];
        assert_eq!(held.prefix_len, 24);
        assert!((100..=120).contains(&held.valid), "{held:?}");
        let route = wait_for("a default route", || json(&["route", "show", "default"])[0].as_object().cloned());
        assert_eq!(route["gateway"], terms.router().to_string());
    }

    /// Waits for `count` answers to a client that asks this server alone.
    fn wait_for_renewals(&self, count: usize, address: Ipv4Addr, server: Ipv4Addr) {
        let asked = |seen: &Seen| seen.extends(address) && seen.to == server;
        wait_for(&format!("{count} renewals"), || {
            let all = self.wire.all();
            let xids: Vec<u32> = all.iter().filter(|seen| asked(seen)).map(|seen| seen.message.xid).collect();
            let mut answered: Vec<u32> = all
                .iter()
                .filter(|s| s.is(Kind::Ack))
                .map(|s| s.message.xid)
                .filter(|xid| xids.contains(xid))
                .collect();
            answered.sort_unstable();
            answered.dedup();
            (answered.len() >= count).then_some(())
        });
    }

    fn renew(&self) {
        let terms = terms(self.server.shortest());
        let (_machine, _server) = self.serve(&terms);
        let (_client, address) = self.ask(&terms);
        let discovers = || self.wire.count(|seen| seen.is(Kind::Discover));
        let before = discovers();
        self.wait_for_renewals(2, address, terms.own);
        assert_eq!(discovers(), before, "it never begins again");
        self.kept(address);
    }

    fn rebind(&self) {
        let terms = terms(self.server.shortest());
        let (machine, mut server) = self.serve(&terms);
        let (_client, address) = self.ask(&terms);
        server.kill();
        let other = Terms { own: terms.host(2), ..terms };
        readdress(&machine, other.own);
        let _other = self.server.start(self.lab, &machine, "lan0", &other);
        let to_all = |seen: &Seen| seen.extends(address) && seen.to == Ipv4Addr::BROADCAST;
        self.wire.wait_for_answer("more time from the other server", Kind::Ack, other.own, to_all);
        self.wait_for_renewals(1, address, other.own);
        self.kept(address);
    }

    /// Another network is at the end of the cable.
    fn renumber(&self, machine: &Background, server: &Running<'a>) -> (Running<'a>, Terms) {
        server.forget();
        let moved = moved();
        readdress(machine, moved.own);
        (self.server.start(self.lab, machine, "lan0", &moved), moved)
    }

    fn nak(&self) {
        let terms = terms(self.server.shortest());
        let (machine, mut server) = self.serve(&terms);
        let (_client, address) = self.ask(&terms);
        server.kill();
        let (_server, moved) = self.renumber(&machine, &server);
        let to_all = |seen: &Seen| seen.extends(address) && seen.to == Ipv4Addr::BROADCAST;
        self.wire.wait_for_answer("the no", Kind::Nak, moved.own, to_all);
        wait_for_one_of(&moved);
        assert!(!addresses("eth0").iter().any(|held| held.address == address), "the old one is gone");
    }

    fn expire(&self) {
        let terms = terms([2, 3, 6]);
        let (machine, mut server) = self.serve(&terms);
        let (_client, address) = self.ask(&terms);
        server.kill();
        let (server, moved) = self.renumber(&machine, &server);
        let to_all = |seen: &Seen| seen.extends(address) && seen.to == Ipv4Addr::BROADCAST;
        self.wire.wait_for("the question", to_all);
        let other = wait_for_one_of(&moved);
        server.wait_for(Note::Given, other);
        assert_eq!(self.wire.count(|seen| seen.is(Kind::Nak)), 0);
        assert!(!addresses("eth0").iter().any(|held| held.address == address), "the old one is gone");
    }

    fn reboot(&self) {
        let terms = terms(LONG);
        let (machine, mut server) = self.serve(&terms);
        let (_client, address) = self.ask(&terms);
        self.lab.on_servers("ip", &["link", "set", "port0", "down"]);
        server.kill();
        // Longer than the kernel takes to tell of it.
        thread::sleep(Duration::from_millis(1500));
        self.lab.on_servers("ip", &["link", "set", "port0", "up"]);
        let (_server, moved) = self.renumber(&machine, &server);
        let asks = |seen: &Seen| seen.is(Kind::Request) && seen.message.options.requested == Some(address);
        self.wire.wait_for_answer("the no", Kind::Nak, moved.own, asks);
        wait_for_one_of(&moved);
    }

    fn decline(&self) {
        let terms = Terms { pool: (50, 51), ..terms(LONG) };
        let (machine, server) = self.serve(&terms);
        // On the loopback interface the server does not look for them, but the kernel answers for them.
        let own = |verb, host| {
            machine.run("ip", &["address", verb, &format!("{}/32", terms.host(host)), "dev", "lo"]);
        };
        own("add", 50);
        own("add", 51);
        let _client = self.client.probing().start(self.lab);
        let decline = self.wire.wait_for("the DECLINE", |seen| seen.is(Kind::Decline)).message;
        let taken = decline.options.requested.unwrap();
        assert!(terms.gives(taken));
        assert_eq!(decline.options.server, Some(terms.own));
        server.wait_for(Note::Declined, taken);
        let next = if self.server.forgets_declines() {
            wait_for("another try", || (self.wire.count(|seen| seen.is(Kind::Decline)) > 1).then_some(()));
            wait_for_address("eth0", |address| address.is_link_local());
            own("del", 50);
            own("del", 51);
            taken
        } else {
            let other = if taken == terms.host(50) { 51 } else { 50 };
            own("del", other);
            terms.host(other)
        };
        let given = wait_for_one_of(&terms);
        assert_eq!(given, next, "what another host has is not used");
    }

    fn relay(&self) {
        let terms = Terms { own: Ipv4Addr::new(203, 0, 113, 2), ..terms(self.server.shortest()) };
        let router = self.machine("port1", terms.router());
        let far = self.lab.machine();
        join((&router, "up0"), (&far, "lan0"));
        router.run("ip", &["address", "add", "203.0.113.1/24", "dev", "up0"]);
        router.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
        far.run("ip", &["address", "add", "203.0.113.2/24", "dev", "lan0"]);
        far.run("ip", &["route", "add", "192.0.2.0/24", "via", "203.0.113.1"]);
        let server = self.server.start(self.lab, &far, "lan0", &terms);
        let words = ["-4", "-d", "-pf", "/dev/null", "-id", "lan0", "-iu", "up0", "203.0.113.2"];
        let (_relay, log) = self.lab.start_on(Some(&router), "dhcrelay", &words);
        wait_for("the relay", || self.lab.text(&log).contains("Socket/fallback").then_some(()));
        let (_client, address) = self.ask(&terms);
        server.wait_for(Note::Given, address);
        self.wait_for_renewals(2, address, terms.own);
        self.kept(address);
    }

    fn two(&self) {
        // The other server refuses the address of this one, once it is asked at T2.
        let here = terms(self.server.unhurried());
        // Its offers come last.
        let there = Terms { own: here.host(2), pool: (150, 199), delay: 3, ..terms(Server::Dnsmasq.shortest()) };
        let (_machine, mut chosen) = self.serve(&here);
        let second = self.machine("port2", there.own);
        let other = Server::Dnsmasq.start(self.lab, &second, "lan0", &there);
        let (_client, address) = self.ask(&here);
        let is_other = |seen: &Seen| seen.is(Kind::Offer) && seen.message.options.server == Some(there.own);
        self.wire.wait_for("the other offer", is_other);
        self.kept(address);
        chosen.kill();
        let address = wait_for_one_of(&there);
        assert!(!addresses("eth0").iter().any(|held| here.gives(held.address)), "the old one is gone");
        other.wait_for(Note::Given, address);
    }

    fn late(&self) {
        let terms = terms(LONG);
        let _client = self.client.start(self.lab);
        let own = wait_for_address("eth0", |address| address.is_link_local()).address;
        let (_machine, server) = self.serve(&terms);
        let address = wait_for_one_of(&terms);
        server.wait_for(Note::Given, address);
        if self.client == Client::Diskomator {
            assert!(addresses("eth0").iter().any(|held| held.address == own), "its users may move");
        }
    }

    fn release(&self) {
        let terms = terms(LONG);
        let (_machine, server) = self.serve(&terms);
        let (mut client, address) = self.ask(&terms);
        client.release();
        let word = self.wire.wait_for("the word", |seen| seen.is(Kind::Release));
        assert_eq!((word.message.ciaddr, word.to), (address, terms.own));
        server.wait_for(Note::Released, address);
        wait_for("no address", || addresses("eth0").is_empty().then_some(()));
    }
}

/// Waits until the client has an address of this server's.
fn wait_for_one_of(terms: &Terms) -> Ipv4Addr {
    wait_for("a leased address", || addresses("eth0").iter().map(|held| held.address).find(|own| terms.gives(*own)))
}

/// The machine has this address instead.
fn readdress(machine: &Background, own: Ipv4Addr) {
    machine.run("ip", &["address", "flush", "dev", "lan0"]);
    machine.run("ip", &["address", "add", &format!("{own}/24"), "dev", "lan0"]);
}

/// One case as a word, for a child.
fn word(client: Client, server: Server, scenario: Scenario) -> String {
    format!("{client:?} {server:?} {scenario:?}")
}

fn cases(clients: &[Client]) -> Vec<(Client, Server, Scenario)> {
    let each = clients.iter().flat_map(|client| SERVERS.map(|server| (*client, server)));
    each.flat_map(|(client, server)| SCENARIOS.map(|scenario| (client, server, scenario))).collect()
}

/// How a case ended.
enum Outcome {
    Passed(Duration),
    Failed(String),
    Impossible(&'static str),
}

/// Runs every case, and prints what became of them. Returns the failures.
pub(crate) fn run_all(test: &str, clients: &[Client]) -> Vec<String> {
    let cases = cases(clients);
    let outcomes: Vec<Mutex<Option<Outcome>>> = cases.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((at, (client, server, scenario))) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(at).map(|case| (at, *case))
                } {
                    let outcome = match obstacle(client, server, scenario) {
                        Some(why) => Outcome::Impossible(why),
                        None => {
                            let start = Instant::now();
                            match apart(test, &word(client, server, scenario)) {
                                Ok(_) => Outcome::Passed(start.elapsed()),
                                Err(said) => Outcome::Failed(said),
                            }
                        }
                    };
                    *outcomes[at].lock().unwrap() = Some(outcome);
                }
            });
        }
    });
    let outcomes: Vec<Outcome> = outcomes.into_iter().map(|outcome| outcome.into_inner().unwrap().unwrap()).collect();
    print(&cases, &outcomes);
    let failed = cases.iter().zip(outcomes).filter_map(|((client, server, scenario), outcome)| match outcome {
        Outcome::Failed(said) => {
            Some(format!("{} with {}, {}:\n{said}", client.name(), server.name(), scenario.name()))
        }
        Outcome::Passed(_) | Outcome::Impossible(_) => None,
    });
    failed.collect()
}

fn print(cases: &[(Client, Server, Scenario)], outcomes: &[Outcome]) {
    print!("\n{:<12}{:<11}", "client", "server");
    for scenario in SCENARIOS {
        print!("{:<9}", scenario.name());
    }
    let mut reasons: Vec<&str> = Vec::new();
    let mut number = |why: &'static str| {
        let known = reasons.iter().position(|known| *known == why);
        known.unwrap_or_else(|| {
            reasons.push(why);
            reasons.len() - 1
        }) + 1
    };
    for (row, outcomes) in cases.chunks(SCENARIOS.len()).zip(outcomes.chunks(SCENARIOS.len())) {
        let (client, server, _) = row[0];
        print!("\n{:<12}{:<11}", client.name(), server.name());
        for ((_, server, scenario), outcome) in row.iter().zip(outcomes) {
            let text = match (outcome, remark(*server, *scenario)) {
                (Outcome::Passed(_), None) => "PASS".to_owned(),
                (Outcome::Passed(_), Some(what)) => format!("PASS({})", number(what)),
                (Outcome::Failed(_), _) => "FAIL".to_owned(),
                (Outcome::Impossible(why), _) => format!("—({})", number(why)),
            };
            print!("{text:<9}");
        }
    }
    println!("\n");
    for (number, why) in reasons.iter().enumerate() {
        println!("({}) {why}", number + 1);
    }
    for scenario in SCENARIOS {
        println!("{:<9}{}", scenario.name(), scenario.meaning());
    }
    let mut slowest: Vec<_> = cases
        .iter()
        .zip(outcomes)
        .filter_map(|(case, outcome)| match outcome {
            Outcome::Passed(time) => Some((*time, *case)),
            _ => None,
        })
        .collect();
    slowest.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    for (time, (client, server, scenario)) in slowest.iter().take(5) {
        println!("{:>6.1} s  {} {} {}", time.as_secs_f64(), client.name(), server.name(), scenario.name());
    }
}

/// Whether this is a child, which has then run its case.
pub(crate) fn ran_case(test: &str, clients: &[Client]) -> bool {
    let Some(wanted) = case() else { return false };
    let found =
        cases(clients).into_iter().find(|(client, server, scenario)| word(*client, *server, *scenario) == wanted);
    let Some((client, server, scenario)) = found else { return false };
    if client != Client::Diskomator {
        be_lenient(40);
    }
    go_through(&Lab::new(test), client, server, scenario);
    true
}

#[test]
#[ignore = "needs network namespaces and DHCP servers; run by make test"]
fn every_server_will_do() {
    const NAME: &str = "matrix::every_server_will_do";
    if ran_case(NAME, &[Client::Diskomator]) {
        return;
    }
    let failed = run_all(NAME, &[Client::Diskomator]);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
