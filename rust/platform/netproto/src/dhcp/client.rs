//! The DHCP client of one link (RFC 2131 section 4.4), without any I/O.
//!
//! Its owner tells it of carrier ([`Client::link_up`], [`Client::link_down`])
//! and of messages ([`Client::handle`]) and ARP packets ([`Client::hear`]), and
//! calls [`Client::poll`] after each of those, and when the time that it named
//! has come, until it names one.
//!
//! ```text
//!            link_up                    OFFER                ACK         free
//!   Down ───────────────> Init ─> Selecting ─> Requesting ─────> Probing ───> Bound
//!    │ an address is held          ^   ^            │ NAK, silence  │ conflict │ T1
//!    └──────────> Rebooting ───────┘   └────────────┴───────────────┘          v
//!                     │ ACK       NAK, expiry, conflict           T2        Renewing
//!                     └──> Bound     <───────────── Rebinding <────────────────┘
//! ```
//!
//! The address that the kernel holds is kept apart from the states: it stays
//! when the cable is pulled and while the client asks whether it may go on
//! using it, and it goes when its time is over or when a server says no.

use std::collections::VecDeque;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::arp::Packet;
use crate::claim::{self, Holding, Probe, Probing as Probes, Verdict};
use crate::lenient::Faults;
use crate::net::{Mac, Prefix4};

pub use crate::pace::Moment;
use crate::pace::{Pace, spread};

use super::lease::{Lease, LeaseError, Oddity};
use super::wire::{Kind, Message, Op, Options, WireError, code};
use crate::rng::Rng;

/// RFC 2131 section 4.4.1 says to wait one to ten seconds so that a building
/// whose power returns does not ask all at once. A machine takes longer than
/// that to boot, and differs more from its neighbour: a twentieth of a second
/// parts those that remain.
const START_SPREAD: Duration = Duration::from_millis(50);
/// RFC 2131 section 4.1 suggests 4 s, doubled up to 64 s. The first packet
/// after the carrier comes up is the one that a switch drops, as its port
/// learns and spans trees, so it is repeated after one second; doubling keeps
/// the load that the RFC cares for where it wants it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(64);
/// RFC 2131 section 4.4.5: while an address is in use, ask no more than once
/// a minute, with less time left accordingly.
const RENEW_RETRY: Duration = Duration::from_secs(60);
/// How often a server is asked for what it offered, 15 s in all.
const REQUESTS: u32 = 4;
/// How often a held address is asked for before others are welcome, 3 s in all.
const REBOOTS: u32 = 2;
/// The number of DISCOVERs without an offer after which the log says so.
const SILENCE: u32 = 3;
/// How many DISCOVERs long a server that let us down is passed over.
const AVOIDED: u32 = 3;
/// RFC 2131 section 3.1.5: "a minimum of ten seconds before restarting", after
/// an address was declined.
const DECLINED: Duration = Duration::from_secs(10);
/// How long a released address stays, so that the kernel can still ask where
/// the server is, and the word reaches it.
const PARTING: Duration = Duration::from_millis(200);
/// At most eight messages at once, and one for each five seconds: 20 in any
/// minute, whatever a server does.
const PACE: Pace = Pace::new(8, Duration::from_secs(5));

/// The client's identifiers, the same on every boot, for DHCPv4 and for DHCPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The link's hardware address.
    pub mac: Mac,
    /// Option 12.
    pub hostname: String,
    /// Option 61: the next two in one.
    pub client_id: Vec<u8>,
    /// The client.
    pub duid: Vec<u8>,
    /// Its link.
    pub iaid: u32,
}

impl Identity {
    /// Everything from the hardware address: as the name, that of the product and its
    /// last three bytes; the id as RFC 4361 has it, with a DUID made of the
    /// link-layer address (RFC 8415 section 11.4) and, as IAID, its last four
    /// bytes. No link's id depends on which other links there are: RFC 8415 has
    /// one DUID for a machine (SHOULD), but a card that can be unplugged would
    /// take the names of the others with it, and who reserves an address knows
    /// the card's number.
    pub fn of(product: &str, mac: Mac) -> Self {
        const RFC_4361: u8 = 255;
        const DUID_LL: [u8; 2] = [0, 3];
        const ETHERNET: [u8; 2] = [0, 1];
        let [_, _, iaid @ ..] = mac.0;
        let [_, a, b, c] = iaid;
        let duid = [&DUID_LL, &ETHERNET, &mac.0[..]].concat();
        let client_id = [&[RFC_4361], &iaid[..], &duid].concat();
        let hostname = format!("{product}-{a:02x}{b:02x}{c:02x}");
        Self { mac, hostname, client_id, duid, iaid: u32::from_be_bytes(iaid) }
    }

    /// Whether an answer to us may have this for option 61 (RFC 6842 section 3):
    /// our id or nothing. Servers cut it to the length that they have room for,
    /// pad it, and make one of type and hardware address (RFC 2132 section 9.14)
    /// for those that they take to have sent none.
    fn is_echo(&self, echo: &[u8]) -> bool {
        const ETHERNET: [u8; 1] = [1];
        let is_ours = |own: &[u8]| own.starts_with(echo) || echo.starts_with(own);
        is_ours(&self.client_id) || is_ours(&[&ETHERNET, &self.mac.0[..]].concat())
    }
}

/// The next step of a [`Client`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this, and poll again.
    Transmit(Transmit),
    /// Send this to everybody on the link, and poll again.
    Arp(Packet),
    /// Something happened; poll again.
    Event(Event),
    /// Nothing until then, unless something comes in before. `None` is for
    /// ever: there is no carrier, or the lease has no end.
    Timeout(Option<Moment>),
}

/// A message to send from port 68 to port 67. If it cannot be sent it counts
/// as lost, which happens to packets anyway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// By which way.
    pub way: Way,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To everybody on the link, from this address; 0.0.0.0 is for a host
    /// that has none, so the kernel cannot send it.
    Broadcast {
        /// The sender.
        from: Ipv4Addr,
    },
    /// To the server, from the leased address.
    Unicast {
        /// The sender.
        from: Ipv4Addr,
        /// The address that is probed for.
        to: Ipv4Addr,
    },
}

/// A change of the link's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The kernel should hold this lease, and no other, until then.
    Bound {
        /// The lease.
        lease: Lease,
        /// The lease's end; `None` is never.
        until: Option<Moment>,
        /// Whether the address was ours before.
        renewed: bool,
    },
    /// The kernel should no longer hold this address.
    Lost {
        /// Which.
        address: Prefix4,
        /// Why.
        why: Loss,
    },
    /// Another host uses the address, too; it was told to stop.
    Disputed {
        /// Which.
        address: Prefix4,
        /// Whose.
        by: Mac,
    },
    /// The address that a server gave is another host's. There will be another
    /// one, later.
    Declined {
        /// Which.
        address: Prefix4,
        /// Whose.
        by: Mac,
    },
    /// Some seconds have passed and no server has made a good offer. Said once
    /// until there is a lease.
    Silence,
    /// Parts of a message to us were passed over.
    Odd(Faults),
}

/// Why an address went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Nobody renewed it.
    Expired,
    /// A server said no, and why (option 56, any bytes).
    Refused(Vec<u8>),
    /// It was given back.
    Released,
    /// Another host uses it and does not stop.
    Conflict(Mac),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => write!(f, "the lease has expired"),
            Self::Refused(text) if text.is_empty() => write!(f, "the server refused it"),
            Self::Refused(text) => write!(f, "the server refused it: \"{}\"", text.escape_ascii()),
            Self::Released => write!(f, "it was given back"),
            Self::Conflict(mac) => write!(f, "{mac} uses it, too"),
        }
    }
}

/// Why a message had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// It is no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It is from a client.
    #[error("it is not from a server")]
    NotReply,
    /// It is for another station.
    #[error("it is for {0}")]
    NotOurs(Mac),
    /// It answers another question.
    #[error("it answers transaction {0:08x}, not ours")]
    WrongXid(u32),
    /// It echoes an id that we did not send (RFC 6842 section 3).
    #[error("it is for another client id")]
    WrongClientId,
    /// Nothing was asked that this could answer.
    #[error("{0:?} is not what was asked for")]
    Unexpected(Kind),
    /// It is from another server than was asked.
    #[error("it is from the server {0:?}, which was not asked")]
    WrongServer(Option<Ipv4Addr>),
    /// It is for another address than was asked for.
    #[error("it gives {0}, which was not asked for")]
    WrongAddress(Ipv4Addr),
    /// It gives something that cannot be used.
    #[error(transparent)]
    Refused(#[from] LeaseError),
    /// The server made an offer before and did not keep it.
    #[error("the server {0} let us down before; others come first")]
    Avoided(Ipv4Addr),
}

/// The address that the kernel holds.
#[derive(Debug)]
struct Held {
    address: Prefix4,
    until: Option<Moment>,
    /// The server that gave it, if that was in this run.
    server: Option<Ipv4Addr>,
    claim: Holding,
}

/// How often a question went out and when it goes out next.
#[derive(Debug, Clone, Copy)]
struct Retry {
    sent: u32,
    next: Moment,
}

impl Retry {
    const fn from(now: Moment) -> Self {
        Self { sent: 0, next: now }
    }

    /// Counts one packet. The next is due in 1, 2, 4, … 64 s, give or take a
    /// second or a quarter, whichever is less (RFC 2131 section 4.1).
    fn count(&mut self, now: Moment, rng: &mut Rng) {
        let base = FIRST_RETRY.saturating_mul(1u32.checked_shl(self.sent).unwrap_or(u32::MAX)).min(LAST_RETRY);
        let jitter = (base / 4).min(Duration::from_secs(1));
        self.sent = self.sent.saturating_add(1);
        self.next = now + base.saturating_sub(jitter) + spread(jitter * 2, rng);
    }
}

/// No carrier.
#[derive(Debug)]
struct Down;

/// The address was given back, and none is wanted any more.
#[derive(Debug)]
struct Gone;

/// About to begin.
#[derive(Debug)]
struct Init {
    start: Moment,
    avoid: Option<Ipv4Addr>,
}

/// Asking who has an address.
#[derive(Debug)]
struct Selecting {
    xid: u32,
    began: Moment,
    retry: Retry,
    avoid: Option<Ipv4Addr>,
}

/// Asking one server for what it offered.
#[derive(Debug)]
struct Requesting {
    xid: u32,
    began: Moment,
    asked: Moment,
    retry: Retry,
    address: Ipv4Addr,
    server: Ipv4Addr,
}

/// Asking the other hosts whether the leased address is free.
#[derive(Debug)]
struct Probing {
    probes: Probes,
    lease: Lease,
    times: Option<Times>,
}

/// Asking whether the held address is still right: INIT-REBOOT and REBOOTING.
#[derive(Debug)]
struct Rebooting {
    xid: u32,
    asked: Moment,
    retry: Retry,
    address: Ipv4Addr,
}

/// All is well until T1.
#[derive(Debug)]
struct Bound {
    server: Ipv4Addr,
    address: Ipv4Addr,
    times: Option<Times>,
}

/// When to do what, if the lease ends at all.
#[derive(Debug, Clone, Copy)]
struct Times {
    renew: Moment,
    rebind: Moment,
    expire: Moment,
}

/// Asking the lease's server for more time, since T1.
#[derive(Debug)]
struct Renewing {
    xid: u32,
    asked: Moment,
    next: Moment,
    server: Ipv4Addr,
    address: Ipv4Addr,
    times: Times,
}

/// Asking any server for more time, since T2.
#[derive(Debug)]
struct Rebinding {
    xid: u32,
    asked: Moment,
    next: Moment,
    address: Ipv4Addr,
    times: Times,
}

#[derive(Debug)]
enum State {
    Down(Down),
    Gone(Gone),
    Init(Init),
    Selecting(Selecting),
    Requesting(Requesting),
    Probing(Probing),
    Rebooting(Rebooting),
    Bound(Bound),
    Renewing(Renewing),
    Rebinding(Rebinding),
}

impl State {
    /// When it wants to do something of its own accord. Probes have their own
    /// pace.
    fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Down(Down) | Self::Gone(Gone) | Self::Probing(_) => None,
            Self::Init(state) => Some(state.start),
            Self::Selecting(state) => Some(state.retry.next),
            Self::Requesting(state) => Some(state.retry.next),
            Self::Rebooting(state) => Some(state.retry.next),
            Self::Bound(state) => state.times.map(|times| times.renew),
            Self::Renewing(state) => Some(state.next),
            // At its end the address expires, which is not this state's doing.
            Self::Rebinding(state) => Some(state.next).filter(|next| *next < state.times.expire),
        }
    }

    /// The question that is open.
    fn xid(&self) -> Option<u32> {
        match self {
            Self::Down(Down) | Self::Gone(Gone) | Self::Init(_) | Self::Probing(_) | Self::Bound(_) => None,
            Self::Selecting(state) => Some(state.xid),
            Self::Requesting(state) => Some(state.xid),
            Self::Rebooting(state) => Some(state.xid),
            Self::Renewing(state) => Some(state.xid),
            Self::Rebinding(state) => Some(state.xid),
        }
    }
}

/// The client of one link.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    rng: Rng,
    pace: Pace,
    arp_pace: Pace,
    state: State,
    held: Option<Held>,
    /// The outputs that come before anything else.
    outbox: VecDeque<Output>,
    /// How often in a row a server made an offer and did not keep it.
    failures: u32,
    silence_reported: bool,
}

impl Client {
    /// A client that waits for the carrier. `seed` should differ from that of
    /// any other client.
    pub fn new(identity: Identity, seed: u64) -> Self {
        Self {
            identity,
            rng: Rng::new(seed),
            pace: PACE,
            arp_pace: claim::PACE,
            state: State::Down(Down),
            held: None,
            outbox: VecDeque::new(),
            failures: 0,
            silence_reported: false,
        }
    }

    /// Takes over an address that the kernel has from an earlier client, until
    /// its end (`None`: for ever). Call this before [`Client::link_up`].
    pub fn adopt(&mut self, address: Prefix4, until: Option<Moment>) {
        let claim = Holding::new(self.identity.mac, address.address());
        self.held = Some(Held { address, until, server: None, claim });
    }

    /// There is a carrier: asks for the address that is held, or for any.
    pub fn link_up(&mut self, now: Moment) {
        if matches!(self.state, State::Down(_)) {
            self.failures = 0;
            self.silence_reported = false;
            self.state = match &self.held {
                Some(held) => State::Rebooting(Rebooting {
                    xid: self.rng.next_u32(),
                    asked: now,
                    retry: Retry::from(now),
                    address: held.address.address(),
                }),
                None => Self::init(now + spread(START_SPREAD, &mut self.rng), None),
            };
        }
    }

    /// The carrier is gone. The address stays: a cable that is plugged in
    /// again a moment later should not have cut any connection.
    pub fn link_down(&mut self) {
        if !matches!(self.state, State::Gone(_)) {
            self.state = State::Down(Down);
        }
    }

    /// Gives the address back (RFC 2131 section 4.4.6), and asks for no other.
    pub fn release(&mut self, now: Moment) {
        let has_carrier = !matches!(self.state, State::Down(_) | State::Gone(_));
        self.state = State::Gone(Gone);
        let Some(held) = &mut self.held else { return };
        held.until = Some(now + PARTING);
        // An address of an earlier run that nobody has confirmed yet is
        // nobody's to give back to; it ends by itself.
        let (from, server) = (held.address.address(), held.server);
        if let Some(to) = server.filter(|_| has_carrier) {
            self.part(now, Way::Unicast { from, to }, Kind::Release, from, to, Options::default());
        }
    }

    /// Whether nothing is left to do after [`Client::release`].
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone(_)) && self.held.is_none() && self.outbox.is_empty()
    }

    /// Takes a UDP payload that came to port 68.
    pub fn handle(&mut self, now: Moment, payload: &[u8]) -> Result<(), Dropped> {
        let (message, faults) = Message::read(payload)?;
        if message.op != Op::Reply {
            return Err(Dropped::NotReply);
        }
        if message.chaddr != self.identity.mac {
            return Err(Dropped::NotOurs(message.chaddr));
        }
        if !self.identity.is_echo(&message.options.client_id) {
            return Err(Dropped::WrongClientId);
        }
        match self.state.xid() {
            None => return Err(Dropped::Unexpected(message.kind)),
            Some(xid) if xid != message.xid => return Err(Dropped::WrongXid(message.xid)),
            Some(_) => {}
        }
        if !faults.is_empty() {
            self.say(Event::Odd(faults));
        }
        match (&self.state, message.kind) {
            (State::Selecting(state), Kind::Offer) => {
                let lease = Lease::from_message(&message)?;
                if state.avoid == Some(lease.server) && state.retry.sent < AVOIDED {
                    return Err(Dropped::Avoided(lease.server));
                }
                self.state = State::Requesting(Requesting {
                    // RFC 2131 section 4.4.1: the xid of the DHCPOFFER.
                    xid: message.xid,
                    began: state.began,
                    asked: now,
                    retry: Retry::from(now),
                    address: lease.address.address(),
                    server: lease.server,
                });
                Ok(())
            }
            (State::Requesting(state), Kind::Ack) => {
                let (server, address, asked) = (state.server, state.address, state.asked);
                let mut lease = Lease::from_message(&message)?;
                // Each of them shows that this is about what was asked.
                match (lease.server == server, lease.address.address() == address) {
                    (true, true) => {}
                    (true, false) => lease.oddities.push(Oddity::OtherAddress(address)),
                    (false, true) => lease.oddities.push(Oddity::OtherServer(server)),
                    (false, false) => return Err(Dropped::WrongServer(Some(lease.server))),
                }
                self.acquire(now, asked, lease)
            }
            (
                State::Rebooting(Rebooting { address, asked, .. })
                | State::Renewing(Renewing { address, asked, .. })
                | State::Rebinding(Rebinding { address, asked, .. }),
                Kind::Ack,
            ) => {
                let (address, asked) = (*address, *asked);
                let lease = acknowledged(&message, address)?;
                self.acquire(now, asked, lease)
            }
            (State::Requesting(state), Kind::Nak) => {
                let server = state.server;
                from_server(&message, Some(server))?;
                self.start_over(now, Some(server));
                Ok(())
            }
            (State::Renewing(state), Kind::Nak) => {
                from_server(&message, Some(state.server))?;
                self.refused(now, message.options);
                Ok(())
            }
            (State::Rebooting(_) | State::Rebinding(_), Kind::Nak) => {
                from_server(&message, None)?;
                self.refused(now, message.options);
                Ok(())
            }
            (_, kind) => Err(Dropped::Unexpected(kind)),
        }
    }

    /// Takes an ARP packet that came in. Those of this machine's other links
    /// are no conflicts, which only the caller can tell.
    pub fn hear(&mut self, now: Moment, packet: &Packet) {
        if let State::Probing(state) = &self.state {
            if state.probes.conflicts(packet) {
                let (address, server) = (state.lease.address, state.lease.server);
                self.say(Event::Declined { address, by: packet.sender_mac });
                self.decline(now, address.address(), server);
            }
        }
        let Some(held) = &mut self.held else { return };
        let (address, server) = (held.address, held.server);
        match held.claim.hear(now, packet) {
            Verdict::Ours => {}
            Verdict::Disputed => self.say(Event::Disputed { address, by: packet.sender_mac }),
            Verdict::Lost => {
                self.held = None;
                self.say(Event::Lost { address, why: Loss::Conflict(packet.sender_mac) });
                match (&self.state, server) {
                    // The question under way is not about this address.
                    (
                        State::Down(Down)
                        | State::Gone(Gone)
                        | State::Init(_)
                        | State::Selecting(_)
                        | State::Requesting(_)
                        | State::Probing(_),
                        _,
                    ) => {}
                    (_, Some(server)) => self.decline(now, address.address(), server),
                    (_, None) => self.pause(now, DECLINED),
                }
            }
        }
    }

    /// The addresses that [`Client::hear`] wants to hear of.
    pub fn claims(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let probed = match &self.state {
            State::Probing(state) => Some(state.probes.address()),
            _ => None,
        };
        probed.into_iter().chain(self.held.as_ref().map(|held| held.address.address()))
    }

    /// The next thing to do.
    pub fn poll(&mut self, now: Moment) -> Output {
        loop {
            if let Some(output) = self.outbox.pop_front() {
                return output;
            }
            if let Some(held) = self.held.take_if(|held| held.until.is_some_and(|until| until <= now)) {
                self.expire(now, &held);
                continue;
            }
            let arp_due = self.arp_due();
            if arp_due.is_some_and(|due| due <= now) {
                if let Some(packet) = self.act_on_arp(now) {
                    self.arp_pace.count(now);
                    return Output::Arp(packet);
                }
                continue;
            }
            let due = self.state.deadline().map(|deadline| deadline.max(self.pace.earliest()));
            if due.is_some_and(|due| due <= now) {
                if let Some(transmit) = self.act(now) {
                    self.pace.count(now);
                    return Output::Transmit(transmit);
                }
                continue;
            }
            let end = self.held.as_ref().and_then(|held| held.until);
            return Output::Timeout([end, arp_due, due].into_iter().flatten().min());
        }
    }

    /// When the next ARP packet, or the end of the probes, is due.
    fn arp_due(&self) -> Option<Moment> {
        let due = match &self.state {
            State::Down(Down) | State::Gone(Gone) => None,
            State::Probing(state) => Some(state.probes.deadline()),
            _ => self.held.as_ref().and_then(|held| held.claim.deadline()),
        };
        due.map(|due| due.max(self.arp_pace.earliest()))
    }

    fn act_on_arp(&mut self, now: Moment) -> Option<Packet> {
        let State::Probing(state) = &mut self.state else {
            let held = self.held.as_mut()?;
            let packet = held.claim.poll(now, &mut self.rng);
            if held.claim.is_sure() {
                self.failures = 0;
            }
            return packet;
        };
        match state.probes.poll(now, &mut self.rng) {
            Probe::Wait => None,
            Probe::Send(packet) => Some(packet),
            Probe::Free => {
                let (lease, times) = (state.lease.clone(), state.times);
                if times.is_some_and(|times| times.expire <= now) {
                    self.start_over(now, None);
                } else {
                    self.bind(now, lease, times);
                }
                None
            }
        }
    }

    /// Does what the state's deadline was for.
    fn act(&mut self, now: Moment) -> Option<Transmit> {
        match &mut self.state {
            State::Down(Down) | State::Gone(Gone) | State::Probing(_) => None,
            State::Init(state) => {
                let avoid = state.avoid;
                self.state = State::Selecting(Selecting {
                    xid: self.rng.next_u32(),
                    began: now,
                    retry: Retry::from(now),
                    avoid,
                });
                None
            }
            State::Selecting(state) => {
                if state.retry.sent == SILENCE && !self.silence_reported {
                    self.silence_reported = true;
                    self.outbox.push_back(Output::Event(Event::Silence));
                }
                state.retry.count(now, &mut self.rng);
                let (xid, began) = (state.xid, state.began);
                let wish = self.held.as_ref().map(|held| held.address.address());
                let options = Options { requested: wish, ..Options::default() };
                Some(self.broadcast(Kind::Discover, xid, now.saturating_sub(began), options))
            }
            State::Requesting(state) => {
                if state.retry.sent == REQUESTS {
                    let server = state.server;
                    self.start_over(now, Some(server));
                    return None;
                }
                if state.retry.sent == 0 {
                    state.asked = now;
                }
                state.retry.count(now, &mut self.rng);
                let (xid, began) = (state.xid, state.began);
                let options =
                    Options { requested: Some(state.address), server: Some(state.server), ..Options::default() };
                Some(self.broadcast(Kind::Request, xid, now.saturating_sub(began), options))
            }
            State::Rebooting(state) => {
                if state.retry.sent == REBOOTS {
                    // RFC 2131 section 3.2: the address may be used until its
                    // end. Meanwhile another server may give another one.
                    self.state = Self::init(now, None);
                    return None;
                }
                if state.retry.sent == 0 {
                    state.asked = now;
                }
                state.retry.count(now, &mut self.rng);
                let (xid, asked) = (state.xid, state.asked);
                let options = Options { requested: Some(state.address), ..Options::default() };
                Some(self.broadcast(Kind::Request, xid, now.saturating_sub(asked), options))
            }
            State::Bound(state) => {
                let times = state.times?;
                self.state = State::Renewing(Renewing {
                    xid: self.rng.next_u32(),
                    asked: now,
                    next: now,
                    server: state.server,
                    address: state.address,
                    times,
                });
                None
            }
            State::Renewing(state) if now >= state.times.rebind => {
                self.state = State::Rebinding(Rebinding {
                    xid: self.rng.next_u32(),
                    asked: now,
                    next: now,
                    address: state.address,
                    times: state.times,
                });
                None
            }
            // A new xid each time: the answer then tells which question it is
            // for, and the lease counts from that one on.
            State::Renewing(state) => {
                state.xid = self.rng.next_u32();
                state.asked = now;
                state.next = in_use_retry(now, state.times.rebind, state.times);
                let (way, xid, times) =
                    (Way::Unicast { from: state.address, to: state.server }, state.xid, state.times);
                let from = state.address;
                Some(self.extend(way, xid, from, now.saturating_sub(times.renew)))
            }
            State::Rebinding(state) => {
                state.xid = self.rng.next_u32();
                state.asked = now;
                state.next = in_use_retry(now, state.times.expire, state.times);
                let (way, xid, times) = (Way::Broadcast { from: state.address }, state.xid, state.times);
                let from = state.address;
                Some(self.extend(way, xid, from, now.saturating_sub(times.renew)))
            }
        }
    }

    const fn init(start: Moment, avoid: Option<Ipv4Addr>) -> State {
        State::Init(Init { start, avoid })
    }

    /// Begins again after a server broke its word: at once the first time, with
    /// doubling pauses if it goes on like that.
    fn start_over(&mut self, now: Moment, avoid: Option<Ipv4Addr>) {
        let pause = match self.failures {
            0 => Duration::ZERO,
            failures => {
                Duration::from_secs(2).saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LAST_RETRY)
            }
        };
        self.failures = self.failures.saturating_add(1);
        let start = now + pause + spread(START_SPREAD, &mut self.rng);
        self.state = Self::init(start, avoid);
    }

    /// Begins again, in `pause` or later.
    fn pause(&mut self, now: Moment, pause: Duration) {
        self.start_over(now, None);
        if let State::Init(state) = &mut self.state {
            state.start = state.start.max(now + pause);
        }
    }

    /// Tells the server that the address is another host's, and begins again
    /// (RFC 2131 section 3.1.5). Each DECLINE follows an ACK that was asked
    /// for, so it need not wait.
    fn decline(&mut self, now: Moment, address: Ipv4Addr, server: Ipv4Addr) {
        let options = Options { requested: Some(address), ..Options::default() };
        let from = Ipv4Addr::UNSPECIFIED;
        self.part(now, Way::Broadcast { from }, Kind::Decline, from, server, options);
        self.pause(now, DECLINED);
    }

    fn say(&mut self, event: Event) {
        self.outbox.push_back(Output::Event(event));
    }

    fn refused(&mut self, now: Moment, options: Options) {
        if let Some(held) = self.held.take() {
            self.say(Event::Lost { address: held.address, why: Loss::Refused(options.text) });
        }
        self.start_over(now, None);
    }

    fn expire(&mut self, now: Moment, held: &Held) {
        let why = if matches!(self.state, State::Gone(_)) { Loss::Released } else { Loss::Expired };
        self.say(Event::Lost { address: held.address, why });
        if matches!(self.state, State::Rebooting(_) | State::Bound(_) | State::Renewing(_) | State::Rebinding(_)) {
            self.state = Self::init(now, None);
        }
    }

    /// Takes a lease that was asked for at `asked`: at once if the address is
    /// held, else if nobody else has it (RFC 2131 section 4.4.1: "SHOULD
    /// perform a check"), which is asked on for a while after that.
    fn acquire(&mut self, now: Moment, asked: Moment, lease: Lease) -> Result<(), Dropped> {
        let times = lease.terms.map(|terms| Times {
            renew: asked + terms.renew.saturating_sub(spread(terms.renew / 64, &mut self.rng)),
            rebind: asked + terms.rebind,
            expire: asked + terms.expire,
        });
        if times.is_some_and(|times| times.expire <= now) {
            return Err(Dropped::Refused(LeaseError::NoTime));
        }
        let address = lease.address.address();
        if self.held.as_ref().is_some_and(|held| held.address.address() == address) {
            self.bind(now, lease, times);
        } else {
            let probes = Probes::new(claim::BEFORE_USE, self.identity.mac, address, now, &mut self.rng);
            self.state = State::Probing(Probing { probes, lease, times });
        }
        Ok(())
    }

    fn bind(&mut self, now: Moment, lease: Lease, times: Option<Times>) {
        let (address, server) = (lease.address, lease.server);
        let until = times.map(|times| times.expire);
        let earlier = self.held.take();
        let renewed = earlier.as_ref().is_some_and(|held| held.address == address);
        let kept = earlier.filter(|held| held.address.address() == address.address()).map(|held| held.claim);
        let mut claim =
            kept.unwrap_or_else(|| Holding::unsure(self.identity.mac, address.address(), now, &mut self.rng));
        // When a cable was plugged in again the switches have to learn where
        // the address is.
        if !matches!(self.state, State::Renewing(_) | State::Rebinding(_)) {
            claim.announce(now);
        }
        if claim.is_sure() {
            self.failures = 0;
        }
        self.held = Some(Held { address, until, server: Some(server), claim });
        self.state = State::Bound(Bound { server, address: address.address(), times });
        self.silence_reported = false;
        self.say(Event::Bound { lease, until, renewed });
    }

    /// A question from a host without a confirmed address (RFC 2131 table 5).
    fn broadcast(&self, kind: Kind, xid: u32, since: Duration, options: Options) -> Transmit {
        let from = Ipv4Addr::UNSPECIFIED;
        self.transmit(Way::Broadcast { from }, kind, xid, from, since, options)
    }

    /// A question from a host that uses its address: in `ciaddr`, and neither
    /// in option 50 nor with option 54 (RFC 2131 table 5: MUST NOT).
    fn extend(&self, way: Way, xid: u32, address: Ipv4Addr, since: Duration) -> Transmit {
        self.transmit(way, Kind::Request, xid, address, since, Options::default())
    }

    /// A word with which an address is given back: no question, so nothing is
    /// asked for (RFC 2131 table 5: "All others MUST NOT").
    fn part(&mut self, now: Moment, way: Way, kind: Kind, ciaddr: Ipv4Addr, server: Ipv4Addr, options: Options) {
        let message = Message {
            op: Op::Request,
            kind,
            xid: self.rng.next_u32(),
            secs: 0,
            ciaddr,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: self.identity.mac,
            options: Options { server: Some(server), client_id: self.identity.client_id.clone(), ..options },
        };
        self.pace.count(now);
        self.outbox.push_back(Output::Transmit(Transmit { way, payload: message.build() }));
    }

    fn transmit(
        &self,
        way: Way,
        kind: Kind,
        xid: u32,
        ciaddr: Ipv4Addr,
        since: Duration,
        options: Options,
    ) -> Transmit {
        let message = Message {
            op: Op::Request,
            kind,
            xid,
            secs: u16::try_from(since.as_secs()).unwrap_or(u16::MAX),
            ciaddr,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: self.identity.mac,
            options: Options {
                client_id: self.identity.client_id.clone(),
                hostname: self.identity.hostname.clone(),
                // RFC 3442: 121 before 3. No option 57: the 576 bytes without
                // it are never fragmented.
                parameters: vec![
                    code::MASK,
                    code::ROUTES,
                    code::ROUTERS,
                    code::MTU,
                    code::LEASE_TIME,
                    code::SERVER,
                    code::T1,
                    code::T2,
                ],
                ..options
            },
        };
        Transmit { way, payload: message.build() }
    }
}

/// The lease in an ACK that must be for `address`.
fn acknowledged(message: &Message, address: Ipv4Addr) -> Result<Lease, Dropped> {
    let lease = Lease::from_message(message)?;
    if lease.address.address() == address { Ok(lease) } else { Err(Dropped::WrongAddress(lease.address.address())) }
}

/// A NAK must say whose it is (RFC 2131 table 3); `None` lets anybody say no.
fn from_server(message: &Message, server: Option<Ipv4Addr>) -> Result<(), Dropped> {
    match message.options.server {
        Some(sender) if server.is_none_or(|server| server == sender) => Ok(()),
        other => Err(Dropped::WrongServer(other)),
    }
}

/// RFC 2131 section 4.4.5: half of what is left, down to a minute. With a
/// lease of minutes a lost packet should not cost a sixteenth of it either.
fn in_use_retry(now: Moment, end: Moment, times: Times) -> Moment {
    let floor = RENEW_RETRY.min(times.expire.saturating_sub(times.renew) / 16);
    let floor = floor.max(Duration::from_secs(1));
    let next = now + (end.saturating_sub(now) / 2).max(floor);
    // At the end there is something to do anyway.
    if next + floor > end { end } else { next }
}
