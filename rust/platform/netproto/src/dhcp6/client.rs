//! The DHCPv6 client of one link (RFC 8415 section 18.2), without any I/O.
//!
//! Its owner tells it when the link can carry a message ([`Client::link_up`],
//! [`Client::link_down`]), whether routers want addresses asked for
//! ([`Client::set_managed`]), what became of an address in the kernel
//! ([`Client::settled`], [`Client::duplicate`]) and of messages
//! ([`Client::handle`]), and calls [`Client::poll`] after each of those, and when
//! the time that it named has come, until it names one.
//!
//! ```text
//!         link_up            ADVERTISE              REPLY
//!   Down ─────────> Init ─> Soliciting ─> Requesting ───> Bound ──> Declining
//!    │ an address    ^                    ^    │ no       │ T1  duplicate │
//!    │ is held       └────────────────────┼────┴──────────┼───────────────┘
//!    │                        NO BINDING  │               v
//!    └─────────> Confirming               └────────── Renewing
//!                  │  │ REPLY, silence                    │ T2
//!                  │  └───> Bound, or, of an earlier      v
//!                  │ NOT ON LINK   run, Rebinding     Rebinding
//!                  └───> Init
//! ```
//!
//! The address that the kernel holds is kept apart from the states: it stays
//! when the cable is pulled and when routers want no DHCPv6 any more, and it goes
//! when its time is over or when a server says no.

use std::collections::VecDeque;
use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use super::lease::{Lease, LeaseError};
use super::wire::{IaAddress, IaNa, Kind, Message, Options, Status, WireError, XID_MASK, code};
use crate::dhcp::client::Identity;
use crate::lenient::Faults;
use crate::pace::{Moment, Pace, spread};
use crate::rng::Rng;

/// How often and for how long a question is repeated (RFC 8415 section 15; the
/// figures: section 7.6).
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// IRT.
    first: Duration,
    /// MRT.
    most: Duration,
    /// MRC; 0 is for ever.
    count: u32,
}

const fn patience(first: u64, most: u64, count: u32) -> Patience {
    Patience { first: Duration::from_secs(first), most: Duration::from_secs(most), count }
}

/// Its MRT, `SOL_MAX_RT`, is what servers say.
const SOLICIT: Patience = patience(1, 3600, 0);
const REQUEST: Patience = patience(1, 30, 10);
const CONFIRM: Patience = patience(1, 4, 0);
const RENEW: Patience = patience(10, 600, 0);
const REBIND: Patience = patience(10, 600, 0);
/// No MRT: after four there is none.
const DECLINE: Patience = patience(1, 3600, 4);
/// `CNF_MAX_RD`.
const CONFIRM_FOR: Duration = Duration::from_secs(10);
/// `SOL_MAX_DELAY` and `CNF_MAX_DELAY`: what routers say reaches every machine
/// at once.
const START_SPREAD: Duration = Duration::from_secs(1);
/// The range of `SOL_MAX_RT` (RFC 8415 section 21.24), in seconds.
const SOL_MAX_RT: std::ops::RangeInclusive<u32> = 60..=86_400;
/// RFC 8415 section 18.2.1: an ADVERTISE with it need not be compared.
const BEST_PREFERENCE: u8 = 255;
/// The number of SOLICITs without an offer, some seven seconds, after which the log
/// says so.
const SILENCE: u32 = 3;
/// The longest pause after servers broke their word.
const LAST_PAUSE: Duration = Duration::from_secs(64);
/// At most eight messages at once, and one for each five seconds, whatever a
/// server does (RFC 8415 section 14.1).
const PACE: Pace = Pace::new(8, Duration::from_secs(5));

/// The next step of a [`Client`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this from port 546 of the link-local address to all servers on the
    /// link, and poll again. If it cannot be sent it counts as lost.
    Transmit(Vec<u8>),
    /// Something happened; poll again.
    Event(Event),
    /// Nothing until then, unless something comes in before. `None` is for ever.
    Timeout(Option<Moment>),
}

/// A change of the link's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The kernel should hold this address, and no other of DHCPv6.
    Bound {
        /// Which.
        address: Ipv6Addr,
        /// Until when it is good for something new; `None` is for ever.
        preferred: Option<Moment>,
        /// Its end; `None` is never.
        until: Option<Moment>,
        /// Whether the address was ours before.
        renewed: bool,
    },
    /// The kernel should no longer hold this address.
    Lost {
        /// Which.
        address: Ipv6Addr,
        /// Why.
        why: Loss,
    },
    /// The address that a server gave is another host's, so the kernel should
    /// not hold it. There will be another one.
    Declined(Ipv6Addr),
    /// A server has no address for us. Said once until there is one.
    Refused(LeaseError),
    /// Some seconds have passed and no server has answered. Said once until
    /// there is an address.
    Silence,
    /// Parts of a message to us were passed over.
    Odd(Faults),
}

/// Why an address went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Nobody renewed it.
    Expired,
    /// A server took it back, with these words, of any bytes.
    Refused(Vec<u8>),
    /// It was given back.
    Released,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => write!(f, "the lease has expired"),
            Self::Refused(text) if text.is_empty() => write!(f, "the server took it back"),
            Self::Refused(text) => write!(f, "the server took it back: \"{}\"", text.escape_ascii()),
            Self::Released => write!(f, "it was given back"),
        }
    }
}

/// Why a message had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// It is no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// RFC 8415 section 16.3 and 16.10: MUST be discarded.
    #[error("it is not for this client")]
    NotOurs,
    /// The same.
    #[error("it does not say which server it is from")]
    NoServer,
    /// It answers another question.
    #[error("it answers transaction {0:06x}, not ours")]
    WrongXid(u32),
    /// Nothing was asked that this could answer.
    #[error("{0:?} is not what was asked for")]
    Unexpected(Kind),
    /// It is from another server than was asked.
    #[error("it is from a server that was not asked")]
    WrongServer,
    /// It gives nothing.
    #[error(transparent)]
    Refused(#[from] LeaseError),
}

/// The address that the kernel holds.
#[derive(Debug)]
struct Held {
    address: Ipv6Addr,
    preferred: Option<Moment>,
    until: Option<Moment>,
    /// The kernel has found no other host that has it.
    is_settled: bool,
}

/// The server that gave the address, and the times to renew and rebind; `None` is never.
#[derive(Debug, Clone)]
struct Binding {
    address: Ipv6Addr,
    server: Vec<u8>,
    renew: Option<Moment>,
    rebind: Option<Moment>,
}

/// A question that is repeated until it is answered.
#[derive(Debug, Clone)]
struct Question {
    xid: u32,
    patience: Patience,
    sent: u32,
    /// When it went out first.
    began: Moment,
    /// RT: how long after the last time the next one is due.
    wait: Duration,
    next: Moment,
}

impl Question {
    fn new(start: Moment, patience: Patience, rng: &mut Rng) -> Self {
        let xid = rng.next_u32() & XID_MASK;
        Self { xid, patience, sent: 0, began: start, wait: Duration::ZERO, next: start }
    }

    /// It was sent as often as it may be, and nobody answered.
    fn is_over(&self) -> bool {
        self.patience.count > 0 && self.sent >= self.patience.count
    }

    /// It goes out: its transaction, and option 8. RFC 8415 section 15, with RAND
    /// between -0.1 and 0.1: `RT = IRT + RAND*IRT`, then
    /// `RT = 2*RTprev + RAND*RTprev`, and `if (RT > MRT) RT = MRT + RAND*MRT`.
    fn ask(&mut self, now: Moment, rng: &mut Rng) -> (u32, u16) {
        let Patience { first, most, .. } = self.patience;
        if self.sent == 0 {
            self.began = now;
            // RFC 8415 section 18.2.1: for SOLICIT "strictly greater than" IRT, so
            // that no ADVERTISE is missed. It harms none of the others.
            self.wait = first + first / 100 + spread(first / 100 * 9, rng);
        } else {
            let last = self.wait;
            self.wait = vary(last * 2, last, rng);
            if self.wait > most {
                self.wait = vary(most, most, rng);
            }
        }
        self.sent = self.sent.saturating_add(1);
        self.next = now + self.wait;
        (self.xid, self.elapsed(now))
    }

    /// Option 8 (RFC 8415 section 21.9): hundredths of a second since the first.
    fn elapsed(&self, now: Moment) -> u16 {
        if self.sent <= 1 {
            return 0;
        }
        u16::try_from(now.saturating_sub(self.began).as_millis() / 10).unwrap_or(u16::MAX)
    }
}

/// `time`, a tenth of `by` more or less.
fn vary(time: Duration, by: Duration, rng: &mut Rng) -> Duration {
    time.saturating_sub(by / 10) + spread(by / 5, rng)
}

/// Nothing can be sent.
#[derive(Debug)]
struct Down {
    /// The binding of the address that is held.
    binding: Option<Binding>,
}

/// The address was given back, and none is wanted any more.
#[derive(Debug)]
struct Gone;

/// About to begin.
#[derive(Debug)]
struct Init {
    start: Moment,
    avoid: Option<Vec<u8>>,
}

/// Asking who has an address.
#[derive(Debug)]
struct Soliciting {
    question: Question,
    best: Option<Offer>,
    avoid: Option<Vec<u8>>,
}

/// A server's advertisement.
#[derive(Debug)]
struct Offer {
    server: Vec<u8>,
    address: Ipv6Addr,
    /// The server let us down before, so that any other one is better.
    rank: (bool, u8),
}

/// Asking one server for what it advertised, or had given before.
#[derive(Debug)]
struct Requesting {
    question: Question,
    server: Vec<u8>,
    address: Ipv6Addr,
}

/// Asking whether the held address is right on this link.
#[derive(Debug)]
struct Confirming {
    question: Question,
    address: Ipv6Addr,
    /// `None` if the address is of an earlier run.
    binding: Option<Binding>,
}

/// All is well until T1.
#[derive(Debug)]
struct Bound {
    binding: Binding,
}

/// Asking the lease's server for more time, since T1.
#[derive(Debug)]
struct Renewing {
    question: Question,
    binding: Binding,
}

/// Asking any server for more time, since T2.
#[derive(Debug)]
struct Rebinding {
    question: Question,
    address: Ipv6Addr,
    binding: Option<Binding>,
}

/// Telling the server that another host has the address.
#[derive(Debug)]
struct Declining {
    question: Question,
    server: Vec<u8>,
    address: Ipv6Addr,
}

#[derive(Debug)]
enum State {
    Down(Down),
    Gone(Gone),
    Init(Init),
    Soliciting(Soliciting),
    Requesting(Requesting),
    Confirming(Confirming),
    Bound(Bound),
    Renewing(Renewing),
    Rebinding(Rebinding),
    Declining(Declining),
}

impl State {
    /// When it wants to do something of its own accord.
    fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Down(_) | Self::Gone(Gone) => None,
            Self::Init(state) => Some(state.start),
            Self::Soliciting(Soliciting { question, .. })
            | Self::Requesting(Requesting { question, .. })
            | Self::Rebinding(Rebinding { question, .. })
            | Self::Declining(Declining { question, .. }) => Some(question.next),
            Self::Confirming(state) => Some(state.question.next.min(state.question.began + CONFIRM_FOR)),
            Self::Bound(state) => state.binding.renew,
            Self::Renewing(state) => {
                Some(state.binding.rebind.map_or(state.question.next, |t2| t2.min(state.question.next)))
            }
        }
    }

    /// The question that is open, once it was asked.
    fn xid(&self) -> Option<u32> {
        let question = match self {
            Self::Down(_) | Self::Gone(Gone) | Self::Init(_) | Self::Bound(_) => return None,
            Self::Soliciting(state) => &state.question,
            Self::Requesting(state) => &state.question,
            Self::Confirming(state) => &state.question,
            Self::Renewing(state) => &state.question,
            Self::Rebinding(state) => &state.question,
            Self::Declining(state) => &state.question,
        };
        (question.sent > 0).then_some(question.xid)
    }

    /// The binding of the address that is held.
    fn binding(&self) -> Option<&Binding> {
        match self {
            Self::Gone(Gone) | Self::Init(_) | Self::Soliciting(_) | Self::Requesting(_) | Self::Declining(_) => None,
            Self::Down(Down { binding })
            | Self::Confirming(Confirming { binding, .. })
            | Self::Rebinding(Rebinding { binding, .. }) => binding.as_ref(),
            Self::Bound(Bound { binding }) | Self::Renewing(Renewing { binding, .. }) => Some(binding),
        }
    }
}

/// The client of one link.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    rng: Rng,
    pace: Pace,
    state: State,
    /// Routers say that addresses are to be asked for. While they do not, nobody
    /// is asked.
    is_managed: bool,
    held: Option<Held>,
    /// The outputs that come before anything else.
    outbox: VecDeque<Output>,
    /// How often in a row a server did not keep its word.
    failures: u32,
    sol_max_rt: Duration,
    is_silence_said: bool,
    is_refusal_said: bool,
}

impl Client {
    /// A client that waits for the link. `seed` should differ from that of any
    /// other client.
    pub fn new(identity: Identity, seed: u64) -> Self {
        Self {
            identity,
            rng: Rng::new(seed),
            pace: PACE,
            state: State::Down(Down { binding: None }),
            is_managed: false,
            held: None,
            outbox: VecDeque::new(),
            failures: 0,
            sol_max_rt: SOLICIT.most,
            is_silence_said: false,
            is_refusal_said: false,
        }
    }

    /// Takes over an address that the kernel has from an earlier client, until
    /// its end (`None`: for ever). Call this before [`Client::link_up`]. The kernel
    /// may still be looking for duplicates.
    pub fn adopt(&mut self, address: Ipv6Addr, until: Option<Moment>) {
        self.held = Some(Held { address, preferred: None, until, is_settled: false });
    }

    /// There is a carrier and a link-local address that can be used: asks whether
    /// the address that is held is right here, or for any. RFC 8415 section
    /// 18.2.12: whenever "the client may have moved to a new link".
    pub fn link_up(&mut self, now: Moment) {
        self.expire(now);
        let State::Down(down) = &mut self.state else { return };
        let binding = down.binding.take();
        self.failures = 0;
        self.forget_complaints();
        self.sol_max_rt = SOLICIT.most;
        let start = now + spread(START_SPREAD, &mut self.rng);
        self.state = match &self.held {
            Some(held) => State::Confirming(Confirming {
                question: Question::new(start, CONFIRM, &mut self.rng),
                address: held.address,
                binding,
            }),
            None => Self::init(start, None),
        };
    }

    /// Nothing can be sent. The address stays: a cable that is plugged in again a
    /// moment later should not have cut any connection.
    pub fn link_down(&mut self) {
        if !matches!(self.state, State::Gone(_)) {
            self.state = State::Down(Down { binding: self.state.binding().cloned() });
        }
    }

    /// Whether routers say that addresses come by DHCPv6 (the M flag, RFC 4861
    /// section 4.2). The address stays without them until its end.
    pub fn set_managed(&mut self, now: Moment, is_managed: bool) {
        if is_managed == self.is_managed {
            return;
        }
        self.is_managed = is_managed;
        let start = now + spread(START_SPREAD, &mut self.rng);
        match &mut self.state {
            // No server on the new link knows the question that was under way.
            State::Init(_) | State::Soliciting(_) | State::Requesting(_) => self.state = Self::init(start, None),
            State::Confirming(state) if state.question.sent == 0 => {
                state.question = Question::new(start, CONFIRM, &mut self.rng);
            }
            _ => {}
        }
    }

    /// The kernel has found nobody else with this address (RFC 4862 section 5.4).
    pub fn settled(&mut self, address: Ipv6Addr) {
        if let Some(held) = self.held.as_mut().filter(|held| held.address == address) {
            held.is_settled = true;
            self.failures = 0;
        }
    }

    /// The kernel has found another host with this address: tells the server, and
    /// begins again (RFC 8415 section 18.2.8).
    pub fn duplicate(&mut self, now: Moment, address: Ipv6Addr) {
        if self.held.take_if(|held| held.address == address && !held.is_settled).is_none() {
            return;
        }
        self.say(Event::Declined(address));
        match self.state.binding().map(|binding| binding.server.clone()) {
            _ if matches!(self.state, State::Down(_) | State::Gone(_)) => {}
            Some(server) => {
                let question = Question::new(now, DECLINE, &mut self.rng);
                self.state = State::Declining(Declining { question, server, address });
            }
            None => self.start_over(now, None),
        }
    }

    /// Gives the address back (RFC 8415 section 18.2.7), and asks for no other.
    /// The machine is about to be off, so no answer is waited for: a message that
    /// is lost costs the server the rest of the lease.
    pub fn release(&mut self, now: Moment) {
        let server = match &self.state {
            State::Down(_) => None,
            other => other.binding().map(|binding| binding.server.clone()),
        };
        self.state = State::Gone(Gone);
        let Some(held) = self.held.take() else { return };
        // An address of an earlier run that nobody has confirmed yet is nobody's
        // to give back to; it ends by itself.
        if let Some(server) = server {
            let xid = self.rng.next_u32() & XID_MASK;
            let options = Options { server, ias: vec![self.ia(Some(held.address))], ..Options::default() };
            let payload = self.message(Kind::Release, xid, 0, options);
            self.pace.count(now);
            self.outbox.push_back(Output::Transmit(payload));
        }
        self.say(Event::Lost { address: held.address, why: Loss::Released });
    }

    /// Whether nothing is left to do after [`Client::release`].
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone(_)) && self.outbox.is_empty()
    }

    /// Takes a UDP payload that came to port 546.
    pub fn handle(&mut self, now: Moment, payload: &[u8]) -> Result<(), Dropped> {
        let (message, faults) = Message::read(payload)?;
        let kind = message.kind;
        // An answer that comes too late is one to no question.
        self.expire(now);
        let xid = self.state.xid().filter(|_| self.is_managed).ok_or(Dropped::Unexpected(kind))?;
        if xid != message.xid {
            return Err(Dropped::WrongXid(message.xid));
        }
        if message.options.client != self.identity.duid {
            return Err(Dropped::NotOurs);
        }
        if !faults.is_empty() {
            self.say(Event::Odd(faults));
        }
        if message.options.server.is_empty() {
            return Err(Dropped::NoServer);
        }
        match (&self.state, kind) {
            (State::Soliciting(_), Kind::Advertise) => {
                self.take_sol_max_rt(&message.options);
                self.advertised(now, &message.options)
            }
            (State::Soliciting(_), Kind::Reply) if !message.options.rapid_commit => Err(Dropped::Unexpected(kind)),
            (State::Down(_) | State::Gone(Gone) | State::Init(_) | State::Bound(_), _) => {
                Err(Dropped::Unexpected(kind))
            }
            (_, Kind::Reply) => {
                self.take_sol_max_rt(&message.options);
                self.replied(now, message.options)
            }
            _ => Err(Dropped::Unexpected(kind)),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self, now: Moment) -> Output {
        loop {
            if let Some(output) = self.outbox.pop_front() {
                return output;
            }
            if self.expire(now) {
                continue;
            }
            let deadline = self.state.deadline().filter(|_| self.is_managed);
            let due = deadline.map(|deadline| deadline.max(self.pace.earliest()));
            if due.is_some_and(|due| due <= now) {
                if let Some(payload) = self.act(now) {
                    self.pace.count(now);
                    return Output::Transmit(payload);
                }
                continue;
            }
            let end = self.held.as_ref().and_then(|held| held.until);
            return Output::Timeout(due.into_iter().chain(end).min());
        }
    }

    /// Lets the address go if its time is over.
    fn expire(&mut self, now: Moment) -> bool {
        let Some(held) = self.held.take_if(|held| held.until.is_some_and(|until| until <= now)) else { return false };
        self.say(Event::Lost { address: held.address, why: Loss::Expired });
        match &mut self.state {
            State::Down(state) => state.binding = None,
            State::Confirming(_) | State::Bound(_) | State::Renewing(_) | State::Rebinding(_) => {
                self.state = Self::init(now, None);
            }
            _ => {}
        }
        true
    }

    /// Does what the state's deadline was for.
    fn act(&mut self, now: Moment) -> Option<Vec<u8>> {
        match &mut self.state {
            State::Down(_) | State::Gone(Gone) => None,
            State::Init(state) => {
                let avoid = state.avoid.take();
                let patience = Patience { most: self.sol_max_rt, ..SOLICIT };
                let question = Question::new(now, patience, &mut self.rng);
                self.state = State::Soliciting(Soliciting { question, best: None, avoid });
                None
            }
            State::Soliciting(state) => {
                if let Some(Offer { server, address, .. }) = state.best.take() {
                    self.request(now, server, address);
                    return None;
                }
                if state.question.sent == SILENCE && !self.is_silence_said && !self.is_refusal_said {
                    self.is_silence_said = true;
                    self.outbox.push_back(Output::Event(Event::Silence));
                }
                state.question.patience.most = self.sol_max_rt;
                let (xid, elapsed) = state.question.ask(now, &mut self.rng);
                let wish = self.held.as_ref().map(|held| held.address);
                let options = Options { rapid_commit: true, ias: vec![self.ia(wish)], ..Options::default() };
                Some(self.message(Kind::Solicit, xid, elapsed, options))
            }
            State::Requesting(state) => {
                if state.question.is_over() {
                    let server = state.server.clone();
                    self.start_over(now, Some(server));
                    return None;
                }
                let (xid, elapsed) = state.question.ask(now, &mut self.rng);
                let (server, address) = (state.server.clone(), state.address);
                let options = Options { server, ias: vec![self.ia(Some(address))], ..Options::default() };
                Some(self.message(Kind::Request, xid, elapsed, options))
            }
            State::Confirming(state) => {
                if state.question.sent > 0 && now >= state.question.began + CONFIRM_FOR {
                    // RFC 8415 section 18.2.3: the client "SHOULD continue using".
                    self.confirmed(now);
                    return None;
                }
                let (xid, elapsed) = state.question.ask(now, &mut self.rng);
                let address = state.address;
                let options = Options { ias: vec![self.ia(Some(address))], ..Options::default() };
                Some(self.message(Kind::Confirm, xid, elapsed, options))
            }
            State::Bound(state) => {
                let binding = state.binding.clone();
                let question = Question::new(now, RENEW, &mut self.rng);
                self.state = State::Renewing(Renewing { question, binding });
                None
            }
            State::Renewing(state) if state.binding.rebind.is_some_and(|rebind| rebind <= now) => {
                let (address, binding) = (state.binding.address, Some(state.binding.clone()));
                let question = Question::new(now, REBIND, &mut self.rng);
                self.state = State::Rebinding(Rebinding { question, address, binding });
                None
            }
            State::Renewing(state) => {
                let (xid, elapsed) = state.question.ask(now, &mut self.rng);
                let (server, address) = (state.binding.server.clone(), state.binding.address);
                let options = Options { server, ias: vec![self.ia(Some(address))], ..Options::default() };
                Some(self.message(Kind::Renew, xid, elapsed, options))
            }
            State::Rebinding(state) => {
                let (xid, elapsed) = state.question.ask(now, &mut self.rng);
                let address = state.address;
                let options = Options { ias: vec![self.ia(Some(address))], ..Options::default() };
                Some(self.message(Kind::Rebind, xid, elapsed, options))
            }
            State::Declining(state) => {
                if state.question.is_over() {
                    self.start_over(now, None);
                    return None;
                }
                let (xid, elapsed) = state.question.ask(now, &mut self.rng);
                let (server, address) = (state.server.clone(), state.address);
                let options = Options { server, ias: vec![self.ia(Some(address))], ..Options::default() };
                Some(self.message(Kind::Decline, xid, elapsed, options))
            }
        }
    }

    /// RFC 8415 section 18.2.9: compares what servers advertise until the first
    /// RT is over; after that, or if it says that it is the best, the next one
    /// will do.
    fn advertised(&mut self, now: Moment, options: &Options) -> Result<(), Dropped> {
        let wish = self.held.as_ref().map(|held| held.address);
        let lease = match self.lease(options, wish) {
            Ok(lease) => lease,
            Err(refusal) => return Err(self.complain(refusal)),
        };
        let State::Soliciting(state) = &mut self.state else { return Err(Dropped::Unexpected(Kind::Advertise)) };
        let is_good = state.avoid.as_ref() != Some(&options.server);
        let rank = (is_good, options.preference.unwrap_or(0));
        if state.best.as_ref().is_none_or(|best| best.rank < rank) {
            state.best = Some(Offer { server: options.server.clone(), address: lease.address, rank });
        }
        if is_good && (state.question.sent > 1 || rank.1 == BEST_PREFERENCE) {
            self.request(now, options.server.clone(), lease.address);
        }
        Ok(())
    }

    fn replied(&mut self, now: Moment, options: Options) -> Result<(), Dropped> {
        match &self.state {
            State::Down(_) | State::Gone(Gone) | State::Init(_) | State::Bound(_) => {
                Err(Dropped::Unexpected(Kind::Reply))
            }
            State::Soliciting(_) => match self.lease(&options, self.held.as_ref().map(|held| held.address)) {
                Ok(lease) => {
                    self.bind(now, options.server, &lease);
                    Ok(())
                }
                Err(refusal) => Err(self.complain(refusal)),
            },
            State::Requesting(state) => {
                if state.server != options.server {
                    return Err(Dropped::WrongServer);
                }
                match self.lease(&options, Some(state.address)) {
                    Ok(lease) => {
                        self.bind(now, options.server, &lease);
                        Ok(())
                    }
                    // RFC 8415 section 18.2.10: "limit the rate", so asks on.
                    Err(refusal @ LeaseError::Status(Status { code: Status::UNSPEC_FAIL, .. })) => Err(refusal.into()),
                    Err(refusal) => {
                        self.start_over(now, Some(options.server));
                        Err(self.complain(refusal))
                    }
                }
            }
            State::Confirming(_) => match options.status {
                // Without one it is a success (RFC 8415 section 21.13).
                None | Some(Status { code: Status::SUCCESS, .. }) => {
                    self.confirmed(now);
                    Ok(())
                }
                Some(Status { code: Status::NOT_ON_LINK, text }) => {
                    self.revoked(now, text);
                    Ok(())
                }
                Some(status) => Err(LeaseError::Status(status).into()),
            },
            State::Renewing(Renewing { binding, .. }) => {
                if binding.server != options.server {
                    return Err(Dropped::WrongServer);
                }
                let address = binding.address;
                self.extended(now, options, address)
            }
            State::Rebinding(Rebinding { address, .. }) => {
                let address = *address;
                self.extended(now, options, address)
            }
            // Any reply ends it (RFC 8415 section 18.2.10.3).
            State::Declining(_) => {
                self.start_over(now, None);
                Ok(())
            }
        }
    }

    /// The answer to RENEW or REBIND (RFC 8415 section 18.2.10.1).
    fn extended(&mut self, now: Moment, options: Options, address: Ipv6Addr) -> Result<(), Dropped> {
        match self.lease(&options, Some(address)) {
            Ok(lease) => {
                self.bind(now, options.server, &lease);
                Ok(())
            }
            Err(LeaseError::Status(Status { code: Status::NO_BINDING, .. })) => {
                self.request(now, options.server, address);
                Ok(())
            }
            Err(LeaseError::Status(Status { code: Status::NOT_ON_LINK, text })) => {
                self.revoked(now, text);
                Ok(())
            }
            // Given for no more time: taken back.
            Err(_) if self.own_ias(&options).any(|ia| ia.takes_back(address)) => {
                self.revoked(now, Vec::new());
                Ok(())
            }
            // Another one may say more, or this one later.
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// The address that is held is right, as far as anybody knows.
    fn confirmed(&mut self, now: Moment) {
        let State::Confirming(state) = &mut self.state else { return };
        let address = state.address;
        match state.binding.take() {
            Some(binding) => {
                self.state = State::Bound(Bound { binding });
                // The kernel drops it when an administrator takes the link down.
                if let Some(Held { preferred, until, .. }) = self.held {
                    self.say(Event::Bound { address, preferred, until, renewed: true });
                }
            }
            // An answer names the server and the lifetimes.
            None => {
                let question = Question::new(now, REBIND, &mut self.rng);
                self.state = State::Rebinding(Rebinding { question, address, binding: None });
            }
        }
    }

    fn revoked(&mut self, now: Moment, text: Vec<u8>) {
        if let Some(held) = self.held.take() {
            self.say(Event::Lost { address: held.address, why: Loss::Refused(text) });
        }
        self.start_over(now, None);
    }

    fn bind(&mut self, now: Moment, server: Vec<u8>, lease: &Lease) {
        let Lease { address, preferred, valid, renew, rebind } = *lease;
        let at = |time: Option<Duration>| time.map(|time| now + time);
        let earlier = self.held.take().filter(|held| held.address == address);
        let (preferred, until) = (at(preferred), at(valid));
        let is_settled = earlier.as_ref().is_some_and(|held| held.is_settled);
        self.held = Some(Held { address, preferred, until, is_settled });
        if is_settled {
            self.failures = 0;
        }
        let binding = Binding { address, server, renew: at(renew), rebind: at(rebind) };
        self.state = State::Bound(Bound { binding });
        self.forget_complaints();
        self.say(Event::Bound { address, preferred, until, renewed: earlier.is_some() });
    }

    fn request(&mut self, now: Moment, server: Vec<u8>, address: Ipv6Addr) {
        let question = Question::new(now, REQUEST, &mut self.rng);
        self.state = State::Requesting(Requesting { question, server, address });
    }

    /// Begins again after a server broke its word: soon the first time, with
    /// doubling pauses if it goes on like that.
    fn start_over(&mut self, now: Moment, avoid: Option<Vec<u8>>) {
        let pause = match self.failures {
            0 => Duration::ZERO,
            failures => {
                Duration::from_secs(2).saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LAST_PAUSE)
            }
        };
        self.failures = self.failures.saturating_add(1);
        self.state = Self::init(now + pause + spread(START_SPREAD, &mut self.rng), avoid);
    }

    const fn init(start: Moment, avoid: Option<Vec<u8>>) -> State {
        State::Init(Init { start, avoid })
    }

    /// A server gives no address, which is said once.
    fn complain(&mut self, refusal: LeaseError) -> Dropped {
        if !self.is_refusal_said {
            self.is_refusal_said = true;
            self.say(Event::Refused(refusal.clone()));
        }
        refusal.into()
    }

    fn forget_complaints(&mut self) {
        self.is_silence_said = false;
        self.is_refusal_said = false;
    }

    fn say(&mut self, event: Event) {
        self.outbox.push_back(Output::Event(event));
    }

    /// RFC 8415 section 21.24: "MUST ignore" what is out of its range.
    fn take_sol_max_rt(&mut self, options: &Options) {
        if let Some(seconds) = options.sol_max_rt.filter(|seconds| SOL_MAX_RT.contains(seconds)) {
            self.sol_max_rt = Duration::from_secs(seconds.into());
        }
    }

    /// The lease that a server gives, or why there is none.
    fn lease(&self, options: &Options, wish: Option<Ipv6Addr>) -> Result<Lease, LeaseError> {
        if let Some(status) = options.status.clone().filter(|status| status.code != Status::SUCCESS) {
            return Err(LeaseError::Status(status));
        }
        // A server should have one answer; if it has several, the first that gives
        // something counts, or else the first.
        let mut leases = self.own_ias(options).map(|ia| Lease::from_ia(ia, wish));
        let first = leases.next().ok_or(LeaseError::NoIa)?;
        first.or_else(|refusal| leases.find_map(Result::ok).ok_or(refusal))
    }

    fn own_ias<'a>(&'a self, options: &'a Options) -> impl Iterator<Item = &'a IaNa> {
        options.ias.iter().filter(|ia| ia.iaid == self.identity.iaid)
    }

    /// The address that is asked for. The times are the server's to choose (RFC 8415 sections
    /// 21.4 and 21.6: clients SHOULD send 0).
    fn ia(&self, address: Option<Ipv6Addr>) -> IaNa {
        let addresses = address.map(|ip| IaAddress { ip, preferred: 0, valid: 0, status: None });
        IaNa { iaid: self.identity.iaid, t1: 0, t2: 0, addresses: addresses.into_iter().collect(), status: None }
    }

    fn message(&self, kind: Kind, xid: u32, elapsed: u16, options: Options) -> Vec<u8> {
        // RFC 8415 sections 18.2.1, 18.2.2, 18.2.4 and 18.2.5: MUST, in these; and
        // RFC 4704 section 5: the name goes along in the same.
        let asks_for_more = matches!(kind, Kind::Solicit | Kind::Request | Kind::Renew | Kind::Rebind);
        let options = Options {
            client: self.identity.duid.clone(),
            elapsed: Some(elapsed),
            requested: if asks_for_more { vec![code::SOL_MAX_RT] } else { Vec::new() },
            hostname: if asks_for_more { self.identity.hostname.clone() } else { String::new() },
            ..options
        };
        Message { kind, xid, options }.build()
    }
}
