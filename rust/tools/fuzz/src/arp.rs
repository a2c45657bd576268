//! ARP packets, and what they do to the claim to an address.

use std::net::Ipv4Addr;
use std::time::Duration;

use netproto::arp::{LEN, Op, Packet};
use netproto::claim::{DEFEND_INTERVAL, Holding, Verdict};
use netproto::ipv4ll::{Event, LinkLocal, Output};
use netproto::net::{Mac, Prefix4};
use netproto::pace::Moment;
use netproto::rng::Rng;

use crate::input::{AT_ONCE, Input, Sent};

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const STRANGERS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
/// The number of packets that [`LinkLocal`] may send in a minute.
const IN_A_MINUTE: usize = 50;

/// A packet; then packets, carriers and leases for the link-local address of a
/// link, and the same packets for an address in use.
pub fn arp(data: &[u8]) {
    read(data);
    let mut input = Input::new(data);
    let mut link = Link::new(u64::from(input.byte()));
    let mut claim = Claim::new(Ipv4Addr::new(192, 0, 2, 7));
    if input.flag() {
        let address = Prefix4::new(Ipv4Addr::new(169, 254, 7, input.byte()), 16).expect("it is one");
        link.machine.adopt(address);
        link.held = Some(address);
    }
    while let Some(what) = input.next() {
        match what % 10 {
            0 => {
                link.machine.link_up(link.now);
                link.has_carrier = true;
            }
            1 => {
                link.machine.link_down(link.now);
                link.has_carrier = false;
            }
            2 => {
                link.machine.leased(link.now);
                link.is_leased = true;
            }
            3 => {
                link.machine.unleased(link.now);
                link.is_leased = false;
            }
            4 => {
                link.machine.stop();
                link.has_carrier = false;
            }
            5 => {
                if let Some(packet) = read(input.bytes()) {
                    link.machine.hear(link.now, &packet);
                    claim.hear(link.now, &packet);
                }
            }
            6 | 7 => {
                let wanted = link.machine.claims().next().unwrap_or(claim.address);
                let packet = packet(&mut input, &[wanted, claim.address, Ipv4Addr::UNSPECIFIED]);
                assert_eq!(read(&packet.build()), Some(packet));
                link.machine.hear(link.now, &packet);
                claim.hear(link.now, &packet);
            }
            8 => claim.holding.announce(link.now),
            _ => {}
        }
        let deadline = link.settle();
        claim.settle(link.now);
        link.now = input.pass(link.now, deadline);
    }
    link.comes_to_an_end();
}

fn read(bytes: &[u8]) -> Option<Packet> {
    let packet = Packet::parse(bytes).ok()?;
    assert_eq!(packet.build(), bytes[..LEN]);
    Some(packet)
}

fn packet(input: &mut Input<'_>, addresses: &[Ipv4Addr]) -> Packet {
    Packet {
        op: input.pick(&[Op::Request, Op::Reply]),
        sender_mac: input.pick(&[STRANGERS[0], STRANGERS[1], MAC]),
        sender: input.pick(addresses),
        target_mac: input.pick(&[Mac([0; 6]), MAC]),
        target: input.pick(addresses),
    }
}

/// A link, and what is known of its address.
struct Link {
    machine: LinkLocal,
    now: Moment,
    has_carrier: bool,
    is_leased: bool,
    held: Option<Prefix4>,
    sent: Sent,
}

impl Link {
    fn new(seed: u64) -> Self {
        Self {
            machine: LinkLocal::new(MAC, seed),
            now: Duration::from_secs(1000),
            has_carrier: false,
            is_leased: false,
            held: None,
            sent: Sent::new("ARP packets", IN_A_MINUTE),
        }
    }

    /// Does all that is due; returns when the next thing is.
    fn settle(&mut self) -> Option<Moment> {
        for _ in 0..AT_ONCE {
            match self.machine.poll(self.now) {
                Output::Arp(packet) => {
                    assert!(self.has_carrier, "ARP without a carrier");
                    assert_eq!(packet.sender_mac, MAC);
                    assert!(packet.target.is_link_local());
                    self.sent.count(self.now);
                }
                Output::Event(Event::Held(address)) => {
                    assert!(!self.is_leased, "there is a lease");
                    self.held = Some(address);
                }
                Output::Event(Event::Lost { address, .. }) => assert_eq!(self.held.take(), Some(address)),
                Output::Timeout(at) => {
                    assert!(at.is_none_or(|at| at > self.now), "a deadline in the past");
                    let is_missing = self.has_carrier && !self.is_leased && self.held.is_none();
                    let is_too_many = self.is_leased && self.held.is_some();
                    assert!(at.is_some() || !is_missing && !is_too_many, "stuck");
                    return at;
                }
            }
        }
        panic!("it does not come to rest");
    }

    /// Left alone, it has an address if it needs one, and then does nothing.
    fn comes_to_an_end(&mut self) {
        for _ in 0..AT_ONCE {
            match self.settle() {
                Some(at) => self.now = at,
                None => {
                    assert!(self.held.is_some() || !self.has_carrier || self.is_leased, "no address");
                    assert!(self.held.is_none() || !self.is_leased, "an address that nobody needs");
                    return;
                }
            }
        }
        panic!("it goes on for ever");
    }
}

/// An address in use.
struct Claim {
    rng: Rng,
    address: Ipv4Addr,
    holding: Holding,
    disputed: Option<Moment>,
    sent: Sent,
}

impl Claim {
    fn new(address: Ipv4Addr) -> Self {
        let holding = Holding::new(MAC, address);
        Self { rng: Rng::new(7), address, holding, disputed: None, sent: Sent::new("defences", 6) }
    }

    /// Has the address again, as one that is still asked about.
    fn again(&mut self, now: Moment) {
        self.holding = Holding::unsure(MAC, self.address, now, &mut self.rng);
        self.disputed = None;
    }

    fn hear(&mut self, now: Moment, packet: &Packet) {
        let (before, was_sure) = (self.disputed, self.holding.is_sure());
        match self.holding.hear(now, packet) {
            Verdict::Ours => assert!(packet.sender != self.address || packet.sender_mac == MAC),
            Verdict::Disputed => {
                assert!(was_sure, "it defends what may be another host's");
                assert!(before.is_none_or(|before| now >= before + DEFEND_INTERVAL), "it defends too often");
                self.sent.count(now);
                assert_eq!(self.holding.deadline(), Some(now), "nobody is told");
                self.disputed = Some(now);
            }
            Verdict::Lost => {
                let again = before.is_some_and(|before| now < before + DEFEND_INTERVAL);
                assert!(again || !was_sure, "it gives in at once");
                self.again(now);
            }
        }
    }

    fn settle(&mut self, now: Moment) {
        for _ in 0..AT_ONCE {
            match self.holding.poll(now, &mut self.rng) {
                Some(packet) if self.holding.is_sure() => assert_eq!(packet, Packet::announcement(MAC, self.address)),
                Some(packet) => assert_eq!(packet, Packet::probe(MAC, self.address)),
                None => return assert!(self.holding.deadline().is_none_or(|at| at > now)),
            }
        }
        panic!("it does not come to rest");
    }
}
