//! DHCP: packets, messages, and the client.

use std::net::Ipv4Addr;
use std::time::Duration;

use netproto::arp::{self, Packet};
use netproto::dhcp::client::{Client, Event, Identity, Output, Transmit, Way};
use netproto::dhcp::frame::{self, Checksum};
use netproto::dhcp::lease::Lease;
use netproto::dhcp::wire::{ClasslessRoute, Kind, Message, Op, Options, code};
use netproto::net::{Mac, Prefix4};
use netproto::pace::Moment;

use crate::input::{AT_ONCE, Input, Sent};

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SERVERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(169, 254, 169, 254)];
const GIVEN: [Ipv4Addr; 3] = [Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(192, 0, 2, 8), Ipv4Addr::new(10, 0, 0, 7)];
/// The client's pace lets twenty through; a DECLINE and a RELEASE do not wait.
const IN_A_MINUTE: usize = 22;
const ARP_IN_A_MINUTE: usize = 50;
/// RFC 2131 section 2: what a host takes without option 57, less the headers.
const LENGTH_MAX: usize = 576 - 28;

/// Where options begin.
const OPTIONS_AT: usize = 240;

/// A packet and a message; then carriers, answers and ARP packets for a client.
/// In the end, whatever has come before, a good server makes it have a lease,
/// though there is junk among its options.
pub fn dhcp(data: &[u8]) {
    read_packet(data);
    read(data);
    let mut input = Input::new(data);
    let mut link = Link::new(u64::from(input.byte()));
    if input.flag() {
        let address = Prefix4::new(GIVEN[0], 24).expect("it is one");
        let until = input.flag().then(|| link.now + Duration::from_secs(input.short().into()));
        link.client.adopt(address, until);
        link.held = Some(address);
    }
    while let Some(what) = input.next() {
        match what % 12 {
            0 | 1 => {
                link.client.link_up(link.now);
                link.has_carrier = true;
            }
            2 => {
                link.client.link_down();
                link.has_carrier = false;
            }
            3 if input.byte() == 7 => {
                link.client.release(link.now);
                link.is_released = true;
            }
            4 => link.hear_message(input.bytes()),
            5 => {
                if let Some(payload) = read_packet(input.bytes()) {
                    link.hear_message(&payload);
                }
            }
            6..=8 => link.hear_answer(&mut input),
            9 => {
                let packet = Packet {
                    op: input.pick(&[arp::Op::Request, arp::Op::Reply]),
                    ..Packet::announcement(input.pick(&[STRANGER, MAC]), input.pick(&GIVEN))
                };
                link.client.hear(link.now, &packet);
            }
            10 => {
                let claimed = link.client.claims().next().unwrap_or(GIVEN[0]);
                link.client.hear(link.now, &Packet::announcement(STRANGER, claimed));
            }
            _ => {
                if let Some(message) = link.answer_of(&mut input) {
                    link.hear_message(&with_junk(&message, &mut input));
                }
            }
        }
        let deadline = link.settle();
        link.now = input.pass(link.now, deadline);
    }
    link.meets_a_good_server(data);
}

fn read_packet(bytes: &[u8]) -> Option<Vec<u8>> {
    let datagram = frame::parse(bytes, Checksum::Present).ok()?;
    assert_eq!(frame::parse(bytes, Checksum::Offloaded), Ok(datagram));
    let again = frame::build_between(
        (datagram.source, frame::SERVER_PORT),
        (datagram.destination, frame::CLIENT_PORT),
        datagram.payload,
    );
    assert_eq!(frame::parse(&again, Checksum::Present), Ok(datagram));
    Some(datagram.payload.to_vec())
}

/// The options that are understood survive another trip.
fn read(bytes: &[u8]) -> Option<Message> {
    let message = Message::parse(bytes).ok()?;
    assert_eq!(Message::parse(&message.build()).as_ref(), Ok(&message));
    Some(message)
}

/// A message with junk among its options, which gives the same lease.
fn with_junk(message: &Message, input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = message.build();
    let end = bytes.iter().rposition(|byte| *byte == code::END).expect("it has an end");
    bytes.truncate(end);
    for _ in 0..input.byte() % 4 {
        let junk = junk(input);
        let at = if input.flag() { OPTIONS_AT } else { bytes.len() };
        bytes.splice(at..at, junk);
    }
    match input.byte() % 4 {
        // Neither options nor anything else.
        0 => bytes.extend_from_slice(&[&[code::END], input.bytes()].concat()),
        1 => bytes.extend_from_slice(&[code::PAD; 9][..usize::from(input.byte() % 10)]),
        2 => bytes.push(input.byte().max(1)),
        _ => bytes.extend_from_slice(&[input.byte().clamp(1, 254), 200, input.byte()]),
    }
    let (read, faults) = Message::read(&bytes).expect("junk spoils no message");
    assert!(!faults.to_string().contains('\n'));
    assert_eq!((read.op, read.kind, read.xid, read.chaddr), (message.op, message.kind, message.xid, message.chaddr));
    assert_eq!(Lease::from_message(&read), Lease::from_message(message), "junk changes the lease: {faults}");
    bytes
}

/// An option that nobody reads, or one that cannot be read.
fn junk(input: &mut Input<'_>) -> Vec<u8> {
    let code = input.byte();
    let bytes = input.bytes();
    let mut value = bytes[..bytes.len().min(250)].to_vec();
    let is_good = match code {
        code::PAD | code::END => return vec![code::PAD],
        code::MASK | code::REQUESTED | code::LEASE_TIME | code::SERVER | code::T1 | code::T2 => value.len() == 4,
        code::MTU => value.len() == 2,
        code::OVERLOAD | code::KIND => value.len() == 1,
        code::ROUTERS => value.len() % 4 == 0,
        code::ROUTES => {
            // No prefix is so long.
            value.insert(0, 33);
            false
        }
        // The client identifier that a server returns is read (RFC 6842): with a foreign one, the message is refused.
        code::CLIENT_ID => return vec![],
        _ => false,
    };
    if is_good {
        value.push(0);
    }
    [&[code, u8::try_from(value.len()).expect("it is short")], &value[..]].concat()
}

/// A link, and what is known of its address.
struct Link {
    client: Client,
    now: Moment,
    has_carrier: bool,
    is_released: bool,
    held: Option<Prefix4>,
    /// The lease has no end.
    is_endless: bool,
    /// A server has said so since this was last set to false.
    is_bound: bool,
    asked: Option<Message>,
    sent: Sent,
    arp: Sent,
}

impl Link {
    fn new(seed: u64) -> Self {
        Self {
            client: Client::new(Identity::of("diskomator", MAC), seed),
            now: Duration::from_secs(1000),
            has_carrier: false,
            is_released: false,
            held: None,
            is_endless: false,
            is_bound: false,
            asked: None,
            sent: Sent::new("DHCP messages", IN_A_MINUTE),
            arp: Sent::new("ARP packets", ARP_IN_A_MINUTE),
        }
    }

    fn hear_message(&mut self, payload: &[u8]) {
        read(payload);
        if let Err(why) = self.client.handle(self.now, payload) {
            assert!(!why.to_string().is_empty());
        }
    }

    fn hear_answer(&mut self, input: &mut Input<'_>) {
        if let Some(message) = self.answer_of(input) {
            assert_eq!(read(&message.build()).as_ref(), Some(&message));
            self.hear_message(&message.build());
        }
    }

    /// An answer to the last question that is good but for what the input changes.
    fn answer_of(&self, input: &mut Input<'_>) -> Option<Message> {
        let asked = self.asked.as_ref()?;
        let kind = input.pick(&[Kind::Offer, Kind::Ack, Kind::Ack, Kind::Nak]);
        let mut message = answer(asked, kind, SERVERS[0]);
        let change = input.byte();
        let options = &mut message.options;
        if change & 1 != 0 {
            options.server = input.pick(&[None, Some(SERVERS[1]), Some(SERVERS[2]), Some(GIVEN[0])]);
        }
        if change & 2 != 0 {
            options.lease_time = input.pick(&[None, Some(0), Some(1), Some(9), Some(60), Some(u32::MAX)]);
        }
        if change & 4 != 0 {
            (options.t1, options.t2) = (Some(input.number()), Some(input.number()));
        }
        if change & 8 != 0 {
            message.yiaddr = if input.flag() { input.address() } else { input.pick(&GIVEN) };
        }
        if change & 16 != 0 {
            options.mask = input.pick(&[None, Some(Ipv4Addr::BROADCAST), Some(Ipv4Addr::new(255, 0, 0, 0))]);
            options.mtu = Some(input.short());
        }
        if change & 32 != 0 {
            let count = input.byte() % 40;
            let route = |_| {
                let destination = Prefix4::new(input.address(), input.byte() % 33).unwrap_or(Prefix4::ANY);
                let destination = Prefix4::new(destination.network(), destination.len()).unwrap_or(Prefix4::ANY);
                ClasslessRoute { destination, router: input.address() }
            };
            message.options.routes = Some((0..count).map(route).collect());
        }
        if change & 64 != 0 {
            message.options.text = input.bytes().to_vec();
        }
        if change & 128 != 0 {
            message.xid ^= u32::from(input.byte());
        }
        Some(message)
    }

    /// Does all that is due; returns when the next thing is.
    fn settle(&mut self) -> Option<Moment> {
        for _ in 0..AT_ONCE {
            match self.client.poll(self.now) {
                Output::Transmit(transmit) => self.takes(&transmit),
                Output::Arp(packet) => {
                    assert!(self.has_carrier, "ARP without a carrier");
                    assert_eq!(packet.sender_mac, MAC);
                    self.arp.count(self.now);
                }
                Output::Event(event) => self.learns(&event),
                Output::Timeout(at) => {
                    assert!(at.is_none_or(|at| at > self.now), "a deadline in the past");
                    let is_idle = !self.has_carrier || self.is_released || self.is_endless;
                    assert!(at.is_some() || is_idle, "stuck");
                    assert!(self.client.claims().count() <= 2);
                    return at;
                }
            }
        }
        panic!("it does not come to rest");
    }

    fn takes(&mut self, Transmit { way, payload }: &Transmit) {
        assert!(self.has_carrier, "a message without a carrier");
        assert!(payload.len() <= LENGTH_MAX, "{} bytes", payload.len());
        let message = read(payload).expect("ours are good");
        assert_eq!((message.op, message.chaddr), (Op::Request, MAC));
        if let Way::Unicast { from, .. } = way {
            assert_eq!(self.held.map(Prefix4::address), Some(*from), "it sends from what it has not");
        }
        assert!(!self.is_released || message.kind == Kind::Release || message.kind == Kind::Decline);
        self.sent.count(self.now);
        self.asked = Some(message);
    }

    fn learns(&mut self, event: &Event) {
        match event {
            Event::Bound { lease, until, renewed } => {
                assert!(until.is_none_or(|until| until > self.now), "a lease that is over");
                assert!(lease.address.is_host());
                assert_eq!(*renewed, self.held == Some(lease.address));
                self.held = Some(lease.address);
                self.is_endless = until.is_none();
                self.is_bound = true;
            }
            Event::Lost { address, why } => {
                assert_eq!(self.held.take(), Some(*address));
                assert!(!why.to_string().is_empty());
                self.is_endless = false;
            }
            Event::Disputed { address, .. } => assert_eq!(self.held, Some(*address)),
            Event::Odd(faults) => assert!(!faults.is_empty() && !faults.to_string().is_empty()),
            Event::Declined { .. } | Event::Silence => {}
        }
    }

    fn meets_a_good_server(&mut self, junk: &[u8]) {
        /// Among them are some 30 for each half of a lease of 136 years.
        const STEPS: usize = 200;
        if self.is_released {
            for _ in 0..AT_ONCE {
                match self.settle() {
                    Some(at) => self.now = at,
                    None => return assert!(self.client.is_gone() && self.held.is_none()),
                }
            }
            panic!("it does not go");
        }
        self.client.link_up(self.now);
        self.has_carrier = true;
        self.is_bound = false;
        for _ in 0..STEPS {
            self.asked = None;
            let mut deadline = self.settle();
            if let Some(answer) = self.asked.as_ref().and_then(good_answer) {
                self.hear_message(&with_junk(&answer, &mut Input::new(junk)));
                deadline = self.settle();
            }
            match deadline {
                _ if self.is_bound => return,
                None => return assert!(self.held.is_some(), "no lease"),
                Some(at) => self.now = at,
            }
        }
        panic!("a good server does not help");
    }
}

/// The answer of a good server, if it is the one that is asked.
fn good_answer(asked: &Message) -> Option<Message> {
    let [server, ..] = SERVERS;
    if asked.options.server.is_some_and(|wanted| wanted != server) {
        return None;
    }
    let wanted = asked.options.requested.unwrap_or(asked.ciaddr);
    let kind = match asked.kind {
        Kind::Discover => Kind::Offer,
        Kind::Request if GIVEN[..2].contains(&wanted) => Kind::Ack,
        Kind::Request => Kind::Nak,
        _ => return None,
    };
    let mut message = answer(asked, kind, server);
    if kind == Kind::Offer && !GIVEN[..2].contains(&wanted) {
        message.yiaddr = GIVEN[0];
    }
    Some(message)
}

/// An answer that gives what was asked for.
fn answer(asked: &Message, kind: Kind, server: Ipv4Addr) -> Message {
    let wanted = asked.options.requested.unwrap_or(asked.ciaddr);
    let given = if wanted.is_unspecified() { GIVEN[0] } else { wanted };
    Message {
        op: Op::Reply,
        kind,
        xid: asked.xid,
        secs: 0,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: if kind == Kind::Nak { Ipv4Addr::UNSPECIFIED } else { given },
        chaddr: MAC,
        options: Options {
            server: Some(server),
            mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            lease_time: Some(3600),
            routers: vec![server],
            client_id: asked.options.client_id.clone(),
            ..Options::default()
        },
    }
}
