//! DHCPv6: messages, and the client.

use std::net::Ipv6Addr;
use std::time::Duration;

use netproto::dhcp::client::Identity;
use netproto::dhcp6::client::{Client, Event, Output};
use netproto::dhcp6::wire::{FOR_EVER, IaAddress, IaNa, Kind, Message, Options, Status, code};
use netproto::net::Mac;
use netproto::pace::Moment;

use crate::input::{AT_ONCE, Input, Sent};

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const SERVERS: [&[u8]; 2] = [&[0, 3, 0, 1, 2, 0, 0, 0, 0, 1], &[0, 3, 0, 1, 2, 0, 0, 0, 0, 2]];
const GIVEN: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 8),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7),
];
/// The client's pace lets twenty through; a RELEASE does not wait.
const IN_A_MINUTE: usize = 21;
/// RFC 8200 section 5: what passes every link unfragmented, less the headers.
const LENGTH_MAX: usize = 1280 - 48;
/// The type and the transaction id.
const OPTIONS_AT: usize = 4;

/// A message; then links, routers, duplicates and answers for a client. In the
/// end, whatever has come before, a good server makes it have a lease, though
/// there is junk among its options.
pub fn dhcp6(data: &[u8]) {
    read(data);
    let mut input = Input::new(data);
    let mut link = Link::new(u64::from(input.byte()));
    if input.flag() {
        let until = input.flag().then(|| link.now + Duration::from_secs(input.short().into()));
        link.client.adopt(GIVEN[0], until);
        (link.held, link.is_endless) = (Some(GIVEN[0]), until.is_none());
    }
    while let Some(what) = input.next() {
        match what % 12 {
            0 | 1 => {
                link.client.link_up(link.now);
                link.is_up = true;
            }
            2 => {
                link.client.link_down();
                link.is_up = false;
            }
            3 => {
                link.is_managed = input.flag();
                link.client.set_managed(link.now, link.is_managed);
            }
            4 => link.client.settled(link.held.unwrap_or(GIVEN[1])),
            5 => link.client.duplicate(link.now, link.held.unwrap_or(GIVEN[1])),
            6 => link.hear(input.bytes()),
            7 if input.byte() == 7 => {
                link.client.release(link.now);
                link.is_released = true;
            }
            8..=10 => link.hear_answer(&mut input),
            7 => {}
            _ => {
                if let Some(message) = link.answer_of(&mut input) {
                    link.hear(&with_junk(&message, &mut input));
                }
            }
        }
        let deadline = link.settle();
        link.now = input.pass(link.now, deadline);
    }
    link.meets_a_good_server(data);
}

/// The options that are understood survive another trip.
fn read(bytes: &[u8]) -> Option<Message> {
    let message = Message::parse(bytes).ok()?;
    assert_eq!(Message::parse(&message.build()).as_ref(), Ok(&message));
    Some(message)
}

/// A message with junk among its options and in its addresses, which says the
/// same.
fn with_junk(message: &Message, input: &mut Input<'_>) -> Vec<u8> {
    let whole = message.build();
    let mut bytes = whole[..OPTIONS_AT].to_vec();
    let mut rest = &whole[OPTIONS_AT..];
    while let Some(([a, b, c, d], after)) = rest.split_first_chunk::<4>() {
        let (code, len) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let (value, after) = after.split_at(len.into());
        let mut value = value.to_vec();
        if input.flag() {
            bytes.extend(junk(input));
        }
        if code == code::IA_NA {
            if input.flag() {
                value.extend(junk(input));
            }
            value.extend(tail(input));
        }
        bytes.extend(option(code, &value));
        rest = after;
    }
    if input.flag() {
        bytes.extend(junk(input));
    }
    bytes.extend(tail(input));
    let (read, faults) = Message::read(&bytes).expect("junk spoils no message");
    assert!(!faults.to_string().contains('\n'));
    assert_eq!(&read, message, "junk changes the message: {faults}");
    bytes
}

/// An option that nobody reads, or one that cannot be read.
fn junk(input: &mut Input<'_>) -> Vec<u8> {
    let code = u16::from(input.byte());
    let bytes = input.bytes();
    let mut value = bytes[..bytes.len().min(250)].to_vec();
    match code {
        code::CLIENT_ID | code::SERVER_ID | code::FQDN => value.clear(),
        code::IA_NA => value.truncate(11),
        code::IA_ADDRESS => value.truncate(23),
        code::STATUS => value.truncate(1),
        code::REQUESTED if value.len() % 2 == 0 => value.push(0),
        code::PREFERENCE if value.len() == 1 => value.push(0),
        code::ELAPSED if value.len() == 2 => value.push(0),
        code::SOL_MAX_RT if value.len() == 4 => value.push(0),
        // Its presence says all.
        code::RAPID_COMMIT => return vec![],
        _ => {}
    }
    option(code, &value)
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).expect("it is short");
    [&code.to_be_bytes(), &len.to_be_bytes(), value].concat()
}

/// Bytes that are no option.
fn tail(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() % 4 {
        0 => Vec::new(),
        1 => vec![0; usize::from(input.byte() % 4)],
        2 => vec![input.byte(); 3],
        _ => vec![0, input.byte(), 1, 0, input.byte()],
    }
}

/// A link, and what is known of its address.
struct Link {
    client: Client,
    now: Moment,
    is_up: bool,
    is_managed: bool,
    is_released: bool,
    held: Option<Ipv6Addr>,
    /// The lease has no end.
    is_endless: bool,
    /// A server has said so since this was last set to false.
    is_bound: bool,
    asked: Option<Message>,
    sent: Sent,
}

impl Link {
    fn new(seed: u64) -> Self {
        Self {
            client: Client::new(Identity::of("diskomator", MAC), seed),
            now: Duration::from_secs(1000),
            is_up: false,
            is_managed: false,
            is_released: false,
            held: None,
            is_endless: false,
            is_bound: false,
            asked: None,
            sent: Sent::new("DHCPv6 messages", IN_A_MINUTE),
        }
    }

    fn hear(&mut self, payload: &[u8]) {
        read(payload);
        if let Err(why) = self.client.handle(self.now, payload) {
            assert!(!why.to_string().is_empty());
        }
    }

    fn hear_answer(&mut self, input: &mut Input<'_>) {
        if let Some(message) = self.answer_of(input) {
            assert_eq!(read(&message.build()).as_ref(), Some(&message));
            self.hear(&message.build());
        }
    }

    /// An answer to the last question that is good but for what the input changes.
    fn answer_of(&self, input: &mut Input<'_>) -> Option<Message> {
        let asked = self.asked.as_ref()?;
        let mut message = answer(asked, SERVERS[0]);
        let change = input.byte();
        let options = &mut message.options;
        if change & 1 != 0 {
            message.kind = input.pick(&[Kind::Advertise, Kind::Reply]);
        }
        if change & 2 != 0 {
            options.server = input.pick(&[SERVERS[1], &[]]).to_vec();
            options.preference = input.pick(&[None, Some(1), Some(255)]);
        }
        if change & 4 != 0 {
            options.rapid_commit = true;
            options.sol_max_rt = Some(input.number());
        }
        if change & 8 != 0 {
            options.status = Some(status(input));
        }
        for ia in &mut options.ias {
            if change & 16 != 0 {
                (ia.t1, ia.t2) = (time(input), time(input));
            }
            if change & 32 != 0 {
                ia.status = Some(status(input));
            }
            if change & 64 != 0 {
                let address = |_| IaAddress {
                    ip: if input.flag() {
                        Ipv6Addr::from_bits(u128::from(input.number()) << 96 | 7)
                    } else {
                        input.pick(&GIVEN)
                    },
                    preferred: time(input),
                    valid: time(input),
                    status: input.flag().then(|| status(input)),
                };
                ia.addresses = (0..change & 3).map(address).collect();
            }
        }
        if change & 128 != 0 {
            options.ias.clear();
        }
        Some(message)
    }

    /// Does all that is due; returns when the next thing is.
    fn settle(&mut self) -> Option<Moment> {
        for _ in 0..AT_ONCE {
            match self.client.poll(self.now) {
                Output::Transmit(payload) => self.takes(&payload),
                Output::Event(event) => self.learns(&event),
                Output::Timeout(at) => {
                    assert!(at.is_none_or(|at| at > self.now), "a deadline in the past");
                    let is_idle = !self.is_up || !self.is_managed || self.is_released;
                    assert!(at.is_some() || is_idle || self.held.is_some() && self.is_endless, "stuck");
                    return at;
                }
            }
        }
        panic!("it does not come to rest");
    }

    fn takes(&mut self, payload: &[u8]) {
        assert!(self.is_up, "a message without a link");
        assert!(payload.len() <= LENGTH_MAX, "{} bytes", payload.len());
        let message = read(payload).expect("ours are good");
        assert_eq!(message.options.client, Identity::of("diskomator", MAC).duid);
        assert!(self.is_managed || message.kind == Kind::Release, "nobody wants it");
        assert!(!self.is_released || message.kind == Kind::Release);
        self.sent.count(self.now);
        self.asked = Some(message);
    }

    fn learns(&mut self, event: &Event) {
        match event {
            Event::Bound { address, preferred, until, renewed } => {
                assert!(until.is_none_or(|until| until > self.now), "a lease that is over");
                assert!(until.is_none_or(|until| preferred.is_some_and(|preferred| preferred <= until)));
                assert_eq!(*renewed, self.held == Some(*address));
                (self.held, self.is_endless, self.is_bound) = (Some(*address), until.is_none(), true);
            }
            Event::Lost { address, why } => {
                assert_eq!(self.held.take(), Some(*address));
                assert!(!why.to_string().is_empty());
            }
            Event::Declined(address) => assert_eq!(self.held.take(), Some(*address)),
            Event::Refused(why) => assert!(!why.to_string().is_empty()),
            Event::Odd(faults) => assert!(!faults.is_empty() && !faults.to_string().is_empty()),
            Event::Silence => {}
        }
    }

    fn meets_a_good_server(&mut self, junk: &[u8]) {
        /// Some hours at least, of a question every few minutes.
        const STEPS: usize = 400;
        if self.is_released {
            self.settle();
            return assert!(self.client.is_gone() && self.held.is_none());
        }
        self.client.link_up(self.now);
        self.client.set_managed(self.now, true);
        (self.is_up, self.is_managed, self.is_bound) = (true, true, false);
        for _ in 0..STEPS {
            self.asked = None;
            let mut deadline = self.settle();
            let [server, ..] = SERVERS;
            let is_for_it = |asked: &&Message| asked.options.server.is_empty() || asked.options.server == server;
            if let Some(asked) = self.asked.as_ref().filter(is_for_it) {
                let payload = with_junk(&answer(asked, server), &mut Input::new(junk));
                self.hear(&payload);
                deadline = self.settle();
            }
            match deadline {
                _ if self.is_bound => return,
                None => return assert!(self.held.is_some(), "no lease"),
                Some(at) => self.now = at,
            }
        }
        // A lease of a server that is gone, for years: it is asked for more every ten minutes.
        assert!(self.held.is_some(), "a good server does not help");
    }
}

fn time(input: &mut Input<'_>) -> u32 {
    input.pick(&[0, 1, 60, 3600, FOR_EVER - 1, FOR_EVER])
}

fn status(input: &mut Input<'_>) -> Status {
    Status { code: u16::from(input.byte() % 7), text: input.bytes().to_vec() }
}

/// An answer that gives what was asked for.
fn answer(asked: &Message, server: &[u8]) -> Message {
    let wanted = asked.options.ias.iter().flat_map(|ia| &ia.addresses).map(|address| address.ip).next();
    let kind = if asked.kind == Kind::Solicit { Kind::Advertise } else { Kind::Reply };
    let address = IaAddress { ip: wanted.unwrap_or(GIVEN[0]), preferred: 1800, valid: 3600, status: None };
    let iaid = Identity::of("diskomator", MAC).iaid;
    let ia = IaNa { iaid, t1: 900, t2: 1500, addresses: vec![address], status: None };
    let gives = !matches!(asked.kind, Kind::Confirm | Kind::Decline | Kind::Release);
    Message {
        kind,
        xid: asked.xid,
        options: Options {
            client: asked.options.client.clone(),
            server: server.to_vec(),
            ias: if gives { vec![ia] } else { Vec::new() },
            status: (!gives).then(|| Status { code: Status::SUCCESS, text: Vec::new() }),
            ..Options::default()
        },
    }
}
