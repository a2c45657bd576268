//! The responder of one link and address family (RFC 6762), without any I/O.
//!
//! Its owner tells it of addresses ([`Responder::set_addresses`]), of the loss
//! of the carrier ([`Responder::link_down`]) and of messages
//! ([`Responder::handle`]), and calls [`Responder::poll`] after each of those,
//! and when the time that it named has come, until it names one.
//!
//! ```text
//!      an address         nobody minds three probes        three announcements
//!  Off ──────────> Probing ──────────────────────> Announcing ──────────> Established
//!                  │  ^ ^                            │    ^                  │  │
//!                  └──┘ └── another has our name ────┴────┼──────────────────┘  │
//!       another has our name: the next one                └─ other addresses ───┘
//!       another was first: in a second
//! ```
//!
//! Answers are given while announcing and after.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::wire::{INTERNET, Message, PORT, Question, Record, WireError, kind};
use super::zone::{Due, Entry, Names, Service, Zone};
use crate::lenient::Faults;
use crate::pace::{Moment, Pace, spread};
use crate::rng::Rng;

/// RFC 6762 section 8.1: three probes, and the pause after each of them, which
/// is also the longest one before the first.
const PROBES: u32 = 3;
const PROBE_PAUSE: Duration = Duration::from_millis(250);
/// RFC 6762 section 8.2: after another machine was first.
const YIELD: Duration = Duration::from_secs(1);
/// RFC 6762 section 8.1: after fifteen conflicts in ten seconds five seconds
/// pass before each further attempt.
const CONFLICTS: u32 = 15;
const CONFLICTS_WITHIN: Duration = Duration::from_secs(10);
const CONFLICT_PAUSE: Duration = Duration::from_secs(5);
/// RFC 6762 section 8.3: at least two, a second apart, then ever less often.
const ANNOUNCEMENTS: u32 = 3;
/// Addresses come in bunches.
const SETTLE: Duration = Duration::from_millis(100);
/// RFC 6762 section 6: a record is heard once a second, or, by who is about to
/// take its name, four times.
const REPEAT: Duration = Duration::from_secs(1);
const REPEAT_TO_PROBE: Duration = Duration::from_millis(250);
/// RFC 6762 section 6: where others may answer, too, each waits at random.
const SHARED_DELAY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));
/// RFC 6762 section 7.2: until all that is known has been said.
const TRUNCATED_DELAY: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(100));
/// RFC 6762 section 6.7, in seconds.
const LEGACY_TTL: u32 = 10;
/// Of messages to everybody, and to one host each: 140 in any minute.
const BURST: u32 = 20;
const INTERVAL: Duration = Duration::from_millis(500);

/// Which addresses messages go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// 224.0.0.251.
    V4,
    /// `ff02::fb`.
    V6,
}

impl Family {
    /// Whether an address is of this family.
    pub const fn has(self, ip: IpAddr) -> bool {
        matches!((self, ip), (Self::V4, IpAddr::V4(_)) | (Self::V6, IpAddr::V6(_)))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The next step of a [`Responder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this, and poll again. A message that cannot be sent counts as lost.
    Transmit(Transmit),
    /// Something happened; poll again.
    Event(Event),
    /// Nothing until then, unless something comes in before. `None` is for
    /// ever.
    Timeout(Option<Moment>),
}

/// A message to send from port 5353.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// To whom; `None` is everybody.
    pub to: Option<SocketAddr>,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// A change of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is ours on this link: `LABEL.local`.
    Published {
        /// Its first label.
        label: String,
    },
    /// Another machine has it. The next one is tried, which the machine's other
    /// responders should be told of ([`Responder::rename`]).
    Renamed {
        /// The first label of the new name.
        label: String,
        /// How many have wanted the name before, and this one.
        number: u32,
    },
    /// Parts of a message were passed over.
    Odd {
        /// The sender.
        from: IpAddr,
        /// Which.
        faults: Faults,
    },
}

/// Why a message had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// It is no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// RFC 6762 section 6: then it is no response of multicast DNS.
    #[error("it is a response from port {0}")]
    Port(u16),
    /// The link has no address.
    #[error("nothing is said on this link")]
    Off,
    /// Too many hosts want answers of their own.
    #[error("too much is asked")]
    TooMany,
}

/// The question whether another machine has the name.
#[derive(Debug, Clone, Copy)]
struct Probing {
    sent: u32,
    next: Moment,
}

/// Telling everybody.
#[derive(Debug, Clone, Copy)]
struct Announcing {
    sent: u32,
    next: Moment,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Off,
    Probing(Probing),
    Announcing(Announcing),
    Established,
}

impl State {
    fn deadline(self) -> Option<Moment> {
        match self {
            Self::Probing(Probing { next, .. }) | Self::Announcing(Announcing { next, .. }) => Some(next),
            Self::Off | Self::Established => None,
        }
    }
}

/// The responder of one link and family.
#[derive(Debug)]
pub struct Responder {
    family: Family,
    service: Service,
    base: String,
    number: u32,
    rng: Rng,
    state: State,
    zone: Zone,
    addresses: Vec<IpAddr>,
    own: Rc<[IpAddr]>,
    /// Other machines may have heard the records, and are told when they go.
    is_announced: bool,
    conflicts: u32,
    last_conflict: Moment,
    to_all: Pace,
    to_one: Pace,
    out: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Responder {
    /// A responder for `service` of the machine `base`, if it is the `number`th of that
    /// name, that waits for an address. `seed` should differ from any other's.
    pub fn new(family: Family, service: Service, base: &str, number: u32, seed: u64) -> Self {
        Self {
            family,
            service,
            base: base.to_owned(),
            number,
            rng: Rng::new(seed),
            state: State::Off,
            zone: Zone::new(Names::new(base, number, &service), &service, &[]),
            addresses: Vec::new(),
            own: Rc::default(),
            is_announced: false,
            conflicts: 0,
            last_conflict: Moment::ZERO,
            to_all: Pace::new(BURST, INTERVAL),
            to_one: Pace::new(BURST, INTERVAL),
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The link has a carrier and these addresses, of both families; `own` are
    /// those of all links of the machine. Without one to send from, goodbye is
    /// said all the same: the kernel may find one on another link.
    pub fn set_addresses(&mut self, now: Moment, addresses: &[IpAddr], own: &Rc<[IpAddr]>) {
        self.own = Rc::clone(own);
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses.dedup();
        if !addresses.iter().any(|ip| self.family.has(*ip)) {
            self.close(now);
            return;
        }
        let is_off = matches!(self.state, State::Off);
        if !is_off && addresses == self.addresses {
            return;
        }
        let old = std::mem::replace(
            &mut self.zone,
            Zone::new(Names::new(&self.base, self.number, &self.service), &self.service, &addresses),
        );
        self.addresses = addresses;
        if is_off {
            self.probe(now, Duration::ZERO);
            return;
        }
        for entry in &mut self.zone.entries {
            if let Some(before) = old.entries.iter().find(|before| before.record.is_same(&entry.record)) {
                (entry.last, entry.due) = (before.last, before.due);
            }
        }
        if !matches!(self.state, State::Probing(_)) {
            let is_gone = |old: &&Entry| !self.zone.entries.iter().any(|entry| entry.record.is_same(&old.record));
            let gone = old.entries.iter().filter(is_gone).map(|entry| entry.record.clone()).collect();
            self.say_goodbye(now, gone);
            let last = self.zone.entries.iter().filter_map(|entry| entry.last).max();
            let next = last.map_or(now, |last| last + REPEAT).max(now + SETTLE);
            self.state = State::Announcing(Announcing { sent: 0, next });
        }
    }

    /// The carrier is gone, and with it the machines that heard us. With the next one
    /// everything begins anew (RFC 6762 section 8).
    pub fn link_down(&mut self) {
        self.state = State::Off;
        self.forget();
        self.out.clear();
    }

    /// Says goodbye and nothing more until there is another address (RFC 6762
    /// section 10.1).
    pub fn close(&mut self, now: Moment) {
        self.withdraw(now);
        self.state = State::Off;
    }

    /// Goes by another name, unless this one is as late already.
    pub fn rename(&mut self, now: Moment, number: u32) {
        if number <= self.number {
            return;
        }
        self.withdraw(now);
        self.number = number;
        self.zone = Zone::new(Names::new(&self.base, number, &self.service), &self.service, &self.addresses);
        if !matches!(self.state, State::Off) {
            self.probe(now, Duration::ZERO);
        }
    }

    /// Takes a UDP payload that was sent to everybody.
    pub fn handle(&mut self, now: Moment, packet: &[u8], from: SocketAddr) -> Result<(), Dropped> {
        let (message, faults) = Message::read(packet)?;
        if message.is_response && from.port() != PORT {
            return Err(Dropped::Port(from.port()));
        }
        if matches!(self.state, State::Off) {
            return Err(Dropped::Off);
        }
        if !faults.is_empty() {
            self.events.push_back(Event::Odd { from: from.ip(), faults });
        }
        // Our own message, perhaps on another link to the same network.
        let is_own = self.own.contains(&from.ip());
        if message.is_response {
            if !is_own {
                self.hear(now, &message);
            }
            return Ok(());
        }
        let is_probe = !message.authorities.is_empty();
        match self.state {
            _ if is_own && is_probe => Ok(()),
            State::Probing(_) => {
                if self.zone.yields_to(&message.authorities) {
                    self.state = State::Probing(Probing { sent: 0, next: now + YIELD });
                }
                Ok(())
            }
            _ if message.questions.is_empty() => {
                self.learn(&message.answers, from.ip());
                Ok(())
            }
            _ => self.answer(now, &message, from, is_probe),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self, now: Moment) -> Output {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Output::Event(event);
            }
            if let Some(transmit) = self.out.pop_front() {
                return Output::Transmit(transmit);
            }
            let due = self.zone.entries.iter().filter_map(|entry| entry.due).map(|due| due.at).min();
            let Some(next) = due.into_iter().chain(self.state.deadline()).min() else { return Output::Timeout(None) };
            let next = next.max(self.to_all.earliest());
            if now < next {
                return Output::Timeout(Some(next));
            }
            self.act(now);
        }
    }

    /// Does what the deadline was for.
    fn act(&mut self, now: Moment) {
        match self.state {
            State::Probing(Probing { sent: PROBES, next }) if next <= now => {
                self.state = State::Announcing(Announcing { sent: 0, next: now });
            }
            State::Probing(Probing { sent, next }) if next <= now => {
                self.state = State::Probing(Probing { sent: sent + 1, next: now + PROBE_PAUSE });
                // Not QU, though RFC 6762 section 8.1 would have it: what is
                // sent to us alone would go to another program at this port.
                let question = |name: &_| Question {
                    name: Clone::clone(name),
                    kind: kind::ANY,
                    class: INTERNET,
                    wants_unicast: false,
                };
                let names = &self.zone.names;
                let questions = vec![question(&names.host), question(&names.instance)];
                let authorities = self.zone.claims();
                self.tell_all(now, &Message { questions, authorities, ..Message::default() });
            }
            State::Announcing(Announcing { sent, next }) if next <= now => {
                let sent = sent + 1;
                let next = now + REPEAT * (1 << (sent - 1));
                self.state = if sent < ANNOUNCEMENTS {
                    State::Announcing(Announcing { sent, next })
                } else {
                    State::Established
                };
                if !self.is_announced {
                    self.is_announced = true;
                    self.events.push_back(Event::Published { label: self.zone.names.label.clone() });
                }
                let entries = &self.zone.entries;
                // Records that were heard just now count as announced.
                let news = (0..entries.len()).filter(|index| !entries[*index].is_denial());
                let news: Vec<usize> = news.filter(|index| !entries[*index].is_recent(now, REPEAT)).collect();
                self.tell(now, news, false);
            }
            _ => {
                let is_due = |entry: &Entry| entry.due.is_some_and(|due| due.at <= now);
                let due = (0..self.zone.entries.len()).filter(|index| is_due(&self.zone.entries[*index]));
                self.tell(now, due.collect(), true);
            }
        }
    }

    fn probe(&mut self, now: Moment, pause: Duration) {
        let next = now + pause + spread(PROBE_PAUSE, &mut self.rng);
        self.state = State::Probing(Probing { sent: 0, next });
        for entry in &mut self.zone.entries {
            entry.due = None;
        }
    }

    /// Another machine goes by our name. Our records are probed for again, and
    /// the records held against a probe are theirs (RFC 6762 section 9).
    fn conflict(&mut self, now: Moment) {
        if now > self.last_conflict + CONFLICTS_WITHIN {
            self.conflicts = 0;
        }
        self.conflicts = self.conflicts.saturating_add(1);
        self.last_conflict = now;
        if matches!(self.state, State::Probing(_)) {
            self.rename(now, self.number.saturating_add(1));
            self.events.push_back(Event::Renamed { label: self.zone.names.label.clone(), number: self.number });
        }
        self.probe(now, if self.conflicts >= CONFLICTS { CONFLICT_PAUSE } else { Duration::ZERO });
    }

    /// Takes the records that another machine multicasts.
    fn hear(&mut self, now: Moment, message: &Message) {
        let are_ours = !matches!(self.state, State::Probing(_));
        for record in message.answers.iter().chain(&message.additionals) {
            if self.zone.conflicts(record, &self.own, are_ours) {
                self.conflict(now);
                return;
            }
            let (from, up_to) = SHARED_DELAY;
            let delay = from + spread(up_to, &mut self.rng);
            for entry in self.zone.entries.iter_mut().filter(|entry| are_ours && entry.record.is_same(record)) {
                if record.ttl < entry.record.ttl / 2 {
                    // RFC 6762 sections 6.6 and 10.1: it is not to be forgotten.
                    schedule(entry, now + delay, REPEAT, None);
                } else if entry.is_shared() {
                    // RFC 6762 section 7.4: it has just been said.
                    entry.due = None;
                }
            }
        }
    }

    /// Takes what an asker knows in addition (RFC 6762 section 7.2).
    fn learn(&mut self, known: &[Record], from: IpAddr) {
        for entry in &mut self.zone.entries {
            if entry.due.is_some_and(|due| due.asker == Some(from)) && is_known(entry, known) {
                entry.due = None;
            }
        }
    }

    fn answer(&mut self, now: Moment, query: &Message, from: SocketAddr, is_probe: bool) -> Result<(), Dropped> {
        let is_legacy = from.port() != PORT;
        let indices = |chosen: Vec<(usize, bool)>| chosen.into_iter().map(|(index, _)| index).collect::<Vec<_>>();
        let mut chosen = Vec::new();
        for (index, entry) in self.zone.entries.iter().enumerate() {
            let mut asked = query.questions.iter().filter(|question| self.zone.answers(entry, question)).peekable();
            if asked.peek().is_some() && !is_known(entry, &query.answers) {
                chosen.push((index, asked.all(|question| question.wants_unicast)));
            }
        }
        let is_denial = |index: usize| self.zone.entries[index].is_denial();
        if is_legacy {
            // RFC 6762 section 6.7: as a server of plain DNS would.
            chosen.retain(|(index, _)| !is_denial(*index));
            return self.tell_one(now, query, from, &indices(chosen));
        }
        // RFC 6762 section 5.4: as long as all others remember it. A machine that
        // is about to take the name must hear it, even behind a port that is shared.
        let (alone, all): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|(index, wants_unicast)| {
            let entry = &self.zone.entries[*index];
            *wants_unicast && !is_probe && entry.is_recent(now, Duration::from_secs(entry.record.ttl.into()) / 4)
        });
        // RFC 6762 section 6.3: with several questions others have answers, too.
        let is_shared = query.questions.len() > 1 || all.iter().any(|(index, _)| self.zone.entries[*index].is_shared());
        let delay = match (is_probe, query.is_truncated, is_shared) {
            (true, ..) | (_, false, false) => (Duration::ZERO, Duration::ZERO),
            (_, true, _) => TRUNCATED_DELAY,
            (_, _, true) => SHARED_DELAY,
        };
        let at = now + delay.0 + spread(delay.1, &mut self.rng);
        for (index, _) in all {
            let gap = if is_probe { REPEAT_TO_PROBE } else { REPEAT };
            schedule(&mut self.zone.entries[index], at, gap, query.is_truncated.then_some(from.ip()));
        }
        self.tell_one(now, query, from, &indices(alone))
    }

    /// Answers one host alone.
    fn tell_one(&mut self, now: Moment, query: &Message, to: SocketAddr, chosen: &[usize]) -> Result<(), Dropped> {
        if chosen.is_empty() {
            return Ok(());
        }
        if now < self.to_one.earliest() || to.ip().is_unspecified() || to.port() == 0 {
            return Err(Dropped::TooMany);
        }
        let is_legacy = to.port() != PORT;
        let additionals = if is_legacy { Vec::new() } else { self.zone.additionals(chosen) };
        let mut message = self.response(chosen, &additionals);
        // RFC 6762 section 18.1.
        message.id = query.id;
        if is_legacy {
            message.questions.clone_from(&query.questions);
            for record in &mut message.answers {
                record.ttl = record.ttl.min(LEGACY_TTL);
                record.is_flush = false;
            }
        }
        self.to_one.count(now);
        self.out.push_back(Transmit { to: Some(to), payload: message.build() });
        Ok(())
    }

    /// Tells everybody these entries and those that belong to them, and what
    /// goes with them, if that was not heard just now.
    fn tell(&mut self, now: Moment, mut chosen: Vec<usize>, with_additionals: bool) {
        let entries = &self.zone.entries;
        let complete = |chosen: &mut Vec<usize>| {
            let more =
                (0..entries.len()).filter(|index| chosen.iter().any(|one| entries[*one].belongs_to(&entries[*index])));
            let more: Vec<usize> = more.filter(|index| !chosen.contains(index)).collect();
            chosen.extend(more);
        };
        complete(&mut chosen);
        let mut additionals = if with_additionals { self.zone.additionals(&chosen) } else { Vec::new() };
        additionals.retain(|index| !entries[*index].is_recent(now, REPEAT));
        if chosen.is_empty() {
            return;
        }
        let message = self.response(&chosen, &additionals);
        for index in chosen.into_iter().chain(additionals) {
            let entry = &mut self.zone.entries[index];
            (entry.last, entry.due) = (Some(now), None);
        }
        self.tell_all(now, &message);
    }

    fn response(&self, answers: &[usize], additionals: &[usize]) -> Message {
        let records = |chosen: &[usize]| chosen.iter().map(|index| self.zone.entries[*index].record.clone()).collect();
        let (answers, additionals) = (records(answers), records(additionals));
        Message { is_response: true, answers, additionals, ..Message::default() }
    }

    fn tell_all(&mut self, now: Moment, message: &Message) {
        self.to_all.count(now);
        self.out.push_back(Transmit { to: None, payload: message.build() });
    }

    /// Takes back whatever was announced.
    fn withdraw(&mut self, now: Moment) {
        if self.is_announced {
            // But for the first: others may have services of this type, too.
            let gone = self.zone.entries.iter().skip(1).map(|entry| entry.record.clone()).collect();
            self.say_goodbye(now, gone);
        }
        self.forget();
    }

    /// Nobody is to hear of the records, nor has.
    fn forget(&mut self) {
        self.is_announced = false;
        for entry in &mut self.zone.entries {
            entry.due = None;
        }
    }

    /// Without the flush bit: what has the same name, here or elsewhere, stays.
    fn say_goodbye(&mut self, now: Moment, gone: Vec<Record>) {
        let gone = gone.into_iter().filter(|record| record.kind != kind::NSEC);
        let answers: Vec<Record> = gone.map(|record| Record { ttl: 0, is_flush: false, ..record }).collect();
        if !answers.is_empty() {
            self.tell_all(now, &Message { is_response: true, answers, ..Message::default() });
        }
    }
}

/// RFC 6762 section 7.1: known, for at least half of its time.
fn is_known(entry: &Entry, known: &[Record]) -> bool {
    known.iter().any(|record| record.ttl >= entry.record.ttl / 2 && record.is_same(&entry.record))
}

/// Has an entry told at `at`, or as soon as it was not heard for `gap`.
fn schedule(entry: &mut Entry, at: Moment, gap: Duration, asker: Option<IpAddr>) {
    let at = entry.last.map_or(at, |last| at.max(last + gap));
    entry.due = Some(match entry.due {
        None => Due { at, asker },
        Some(due) => Due { at: due.at.min(at), asker: due.asker.filter(|before| asker == Some(*before)) },
    });
}
