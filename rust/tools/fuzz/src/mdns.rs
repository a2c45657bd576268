//! Multicast DNS: messages, and the responder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use netproto::mdns::responder::{Event, Family, Output, Responder, Transmit};
use netproto::mdns::wire::{INTERNET, MESSAGE_MAX, Message, Name, PORT, Question, Record, kind};
use netproto::pace::Moment;

use crate::input::{AT_ONCE, Input, Sent};

const BASE: &str = "diskomator-123456";
const ADDRESSES: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 7, 9)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)),
];
const STRANGERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77))];
const KINDS: [u16; 8] = [kind::A, kind::AAAA, kind::PTR, kind::SRV, kind::TXT, kind::NSEC, kind::ANY, 13];
/// To everybody, and to one host each.
const IN_A_MINUTE: usize = 140;
/// How many messages are kept to be said again.
const HEARD: usize = 16;

/// A message; then addresses, carriers and messages for a responder. In the end,
/// whatever has come before, who asks for the service is answered.
pub fn mdns(data: &[u8]) {
    read(data);
    let mut input = Input::new(data);
    let family = input.pick(&[Family::V4, Family::V6]);
    let mut link = Link::new(family, u64::from(input.byte()));
    while let Some(what) = input.next() {
        match what % 16 {
            0 => {
                link.responder.link_down();
                link.is_on = false;
                link.may_part = false;
            }
            1 => {
                link.responder.close(link.now);
                link.is_on = false;
            }
            2 | 3 => link.set_addresses(input.byte()),
            4 => link.responder.rename(link.now, u32::from(input.byte())),
            5 => {
                let message = input.bytes();
                link.hear(message, sender(&mut input));
            }
            6 if !link.heard.is_empty() => {
                let message = input.pick(&link.heard);
                link.hear(&message, sender(&mut input));
            }
            7 => {
                let message = with_junk(&link.message(&mut input), &mut input);
                link.hear(&message, sender(&mut input));
            }
            _ => {
                let message = link.message(&mut input).build();
                link.hear(&message, sender(&mut input));
            }
        }
        let deadline = link.settle();
        link.now = input.pass(link.now, deadline);
    }
    link.is_found();
}

/// A message that could be read once can be read again.
fn read(bytes: &[u8]) -> Option<Message> {
    let message = Message::parse(bytes).ok()?;
    assert_eq!(Message::parse(&message.build()).as_ref(), Ok(&message));
    for record in [&message.answers, &message.authorities, &message.additionals].into_iter().flatten() {
        assert!(record.is_same(record));
        assert!(record.name.to_string().is_ascii());
    }
    Some(message)
}

/// A message with junk after it that its counts say is a part of it, which says
/// the same.
fn with_junk(message: &Message, input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = message.build();
    let (whole, _) = Message::read(&bytes).expect("ours are good");
    bytes[11] = bytes[11].saturating_add(input.byte() % 4);
    match input.byte() % 4 {
        0 => {}
        // A name that points to itself, with a length that tells where it ends.
        1 => bytes.extend_from_slice(&[0, 0, 12, 0, 1, 0, 0, 0, 0, 0, 2, 0xc0, 0xff]),
        2 => bytes.extend_from_slice(&[0xc0, 0xff, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]),
        _ => bytes.extend_from_slice(input.bytes()),
    }
    let (read, faults) = Message::read(&bytes).expect("junk spoils no message");
    assert!(!faults.to_string().contains('\n'));
    assert_eq!(
        (&read.questions, &read.answers, &read.authorities),
        (&whole.questions, &whole.answers, &whole.authorities)
    );
    assert!(read.additionals.starts_with(&whole.additionals), "junk takes records away: {faults}");
    bytes
}

fn sender(input: &mut Input<'_>) -> SocketAddr {
    let ip = input.pick(&[STRANGERS[0], STRANGERS[1], ADDRESSES[0], IpAddr::V4(Ipv4Addr::UNSPECIFIED)]);
    SocketAddr::new(ip, input.pick(&[PORT, PORT, 40_000, 0]))
}

/// A link, and what is known of its responder.
struct Link {
    responder: Responder,
    family: Family,
    now: Moment,
    /// There is an address to send from.
    is_on: bool,
    /// A goodbye may be sent.
    may_part: bool,
    /// The name, and whether it is published.
    label: String,
    heard: Vec<Vec<u8>>,
    to_all: Sent,
    to_one: Sent,
}

impl Link {
    fn new(family: Family, seed: u64) -> Self {
        Self {
            responder: Responder::new(family, nvmet::discovery::service(access::Mode::Ask), BASE, 1, seed),
            family,
            now: Duration::from_secs(1000),
            is_on: false,
            may_part: false,
            label: BASE.to_owned(),
            heard: Vec::new(),
            to_all: Sent::new("messages to everybody", IN_A_MINUTE),
            to_one: Sent::new("messages to one host", IN_A_MINUTE),
        }
    }

    fn set_addresses(&mut self, which: u8) {
        let chosen = ADDRESSES.iter().enumerate().filter(|(bit, _)| which >> bit & 1 != 0);
        let addresses: Vec<IpAddr> = chosen.map(|(_, address)| *address).collect();
        self.responder.set_addresses(self.now, &addresses, &ADDRESSES.into());
        self.is_on = addresses.iter().any(|ip| self.family.has(*ip));
        self.may_part |= self.is_on;
    }

    /// A message that is about our names, or nearly.
    fn message(&self, input: &mut Input<'_>) -> Message {
        let host = Name::new([self.label.as_str(), "local"]);
        let instance = Name::new([self.label.as_str(), "_nvme-disc", "_tcp", "local"]);
        let names = [
            host,
            instance,
            service(),
            Name::new(["_services", "_dns-sd", "_udp", "local"]),
            Name::new([format!("{BASE}-2").as_str(), "local"]),
            Name::new(["DISKOMATOR-123456", "LOCAL"]),
        ];
        let shape = input.byte();
        let mut message = Message {
            id: u16::from(input.byte()),
            is_response: shape & 1 != 0,
            is_truncated: shape & 2 != 0,
            ..Message::default()
        };
        for _ in 0..shape >> 2 & 3 {
            let wants_unicast = input.flag();
            message.questions.push(Question {
                name: input.pick(&names),
                kind: input.pick(&KINDS),
                class: input.pick(&[INTERNET, INTERNET, kind::ANY, 3]),
                wants_unicast,
            });
        }
        for (bit, list) in
            [&mut message.answers, &mut message.authorities, &mut message.additionals].into_iter().enumerate()
        {
            for _ in 0..if shape >> (4 + bit) & 1 != 0 { input.byte() % 4 } else { 0 } {
                let data = match input.byte() % 4 {
                    0 => {
                        ADDRESSES[0].to_string().parse::<Ipv4Addr>().map(|ip| ip.octets().to_vec()).unwrap_or_default()
                    }
                    1 => vec![192, 0, 2, input.byte()],
                    2 => input.pick(&names).bytes().to_vec(),
                    _ => input.bytes().to_vec(),
                };
                list.push(Record {
                    name: input.pick(&names),
                    kind: input.pick(&KINDS),
                    class: input.pick(&[INTERNET, INTERNET, 3]),
                    is_flush: input.flag(),
                    ttl: input.pick(&[0, 1, 60, 120, 4500]),
                    data,
                });
            }
        }
        message
    }

    fn hear(&mut self, message: &[u8], from: SocketAddr) {
        read(message);
        if let Err(why) = self.responder.handle(self.now, message, from) {
            assert!(!why.to_string().is_empty());
        }
    }

    /// Does all that is due; returns when the next thing is.
    fn settle(&mut self) -> Option<Moment> {
        for _ in 0..AT_ONCE {
            match self.responder.poll(self.now) {
                Output::Transmit(transmit) => self.takes(transmit),
                Output::Event(Event::Published { label } | Event::Renamed { label, .. }) => {
                    assert!(label.starts_with(BASE), "{label}");
                    self.label = label;
                }
                Output::Event(Event::Odd { faults, .. }) => assert!(!faults.is_empty()),
                Output::Timeout(at) => {
                    assert!(at.is_none_or(|at| at > self.now), "a deadline in the past");
                    assert!(at.is_none() || self.is_on, "it waits for nothing");
                    return at;
                }
            }
        }
        panic!("it does not come to rest");
    }

    fn takes(&mut self, Transmit { to, payload }: Transmit) {
        assert!(payload.len() <= MESSAGE_MAX, "{} bytes", payload.len());
        let message = read(&payload).expect("ours are good");
        if message.is_response && message.answers.iter().all(|record| record.ttl == 0) {
            assert!(self.may_part, "goodbye without a carrier");
        } else {
            assert!(self.is_on, "a message without a carrier");
            let sent = if to.is_none() { &mut self.to_all } else { &mut self.to_one };
            sent.count(self.now);
        }
        self.heard.truncate(HEARD - 1);
        self.heard.insert(0, payload);
    }

    /// With addresses, and left alone, it comes to rest, and answers.
    fn is_found(&mut self) {
        if !self.is_on {
            self.set_addresses(0xf);
        }
        self.rest();
        let question = Question { name: service(), kind: kind::PTR, class: INTERNET, wants_unicast: false };
        let query = Message { questions: vec![question], ..Message::default() };
        let heard = std::mem::take(&mut self.heard);
        self.hear(&query.build(), SocketAddr::new(STRANGERS[0], PORT));
        self.rest();
        let instance = Name::new([self.label.as_str(), "_nvme-disc", "_tcp", "local"]);
        let answers = self.heard.iter().filter_map(|message| read(message)).flat_map(|message| message.answers);
        let is_ours = |record: Record| record.name == service() && record.data == instance.bytes();
        assert!(answers.into_iter().any(is_ours), "no answer after {} messages", heard.len());
    }

    fn rest(&mut self) {
        for _ in 0..AT_ONCE {
            match self.settle() {
                Some(at) => self.now = at,
                None => return,
            }
        }
        panic!("it goes on for ever");
    }
}

fn service() -> Name {
    Name::new(["_nvme-disc", "_tcp", "local"])
}
