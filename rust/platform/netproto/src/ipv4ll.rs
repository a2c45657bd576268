//! An IPv4 link-local address (RFC 3927) for a link on which no DHCP server
//! answers, without any I/O.
//!
//! Its owner tells it of carrier ([`LinkLocal::link_up`],
//! [`LinkLocal::link_down`]), of leases ([`LinkLocal::leased`],
//! [`LinkLocal::unleased`]) and of ARP packets ([`LinkLocal::hear`]), and calls
//! [`LinkLocal::poll`] after each of those, and when the time that it named has
//! come.
//!
//! ```text
//!          no lease              free             a lease
//!   Idle ───────────> Probing ─────────> Holding ────────> Leaving ──> Idle
//!                      ^   │ conflict      │ conflict        │ no lease
//!                      └───┴───────────────┘      Holding <──┘
//! ```

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::arp::Packet;
use crate::claim::{self, Holding, Probe, Probing, Verdict};
use crate::net::{Mac, Prefix4};
use crate::pace::{Moment, Pace};
use crate::rng::Rng;

/// How long DHCP is left alone with a link. With the probes the address is
/// there some 5.5 s after the carrier: three questions of the DHCP client are
/// over by then, and with them what a switch takes to open a port, mostly.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the address stays beside a lease. RFC 3927 section 1.9: it SHOULD
/// not be used for anything new, and what goes on "may continue"; a host that
/// has a disk open notices the other address meanwhile.
pub const LINGER: Duration = Duration::from_secs(60);
/// `MAX_CONFLICTS`, and how long to wait between tries after as many: the
/// `RATE_LIMIT_INTERVAL` (RFC 3927 section 2.2.1).
const MAX_CONFLICTS: u32 = 10;
const RATE_LIMIT_INTERVAL: Duration = Duration::from_secs(60);
/// RFC 3927 section 2.1: 169.254.1.0 to 169.254.254.255.
const FIRST: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 0);
const COUNT: u64 = 254 * 256;
/// The length of its prefix.
const PREFIX_LEN: u8 = 16;

/// The next step of a [`LinkLocal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this to everybody on the link, and poll again.
    Arp(Packet),
    /// Something happened; poll again.
    Event(Event),
    /// Nothing until then, unless something comes in before. `None` is for
    /// ever.
    Timeout(Option<Moment>),
}

/// A change of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The kernel should have this address, and no other link-local one.
    Held(Prefix4),
    /// The kernel should no longer have it.
    Lost {
        /// Which.
        address: Prefix4,
        /// The host that has it instead; `None` if it is only no longer needed.
        by: Option<Mac>,
    },
}

/// No address, and none before `start`, if at all.
#[derive(Debug)]
struct Idle {
    start: Option<Moment>,
}

/// In use until another address has come.
#[derive(Debug)]
struct InUse {
    claim: Holding,
}

/// Still in use, for a while.
#[derive(Debug)]
struct Leaving {
    claim: Holding,
    end: Moment,
}

#[derive(Debug)]
enum State {
    Idle(Idle),
    Probing(Probing),
    InUse(InUse),
    Leaving(Leaving),
}

/// The link-local address of one link.
#[derive(Debug)]
pub struct LinkLocal {
    mac: Mac,
    /// Where the addresses come from: the same ones in the same order on each
    /// boot (RFC 3927 section 2.1).
    addresses: Rng,
    candidate: Prefix4,
    /// Where jitter comes from.
    rng: Rng,
    pace: Pace,
    has_carrier: bool,
    is_leased: bool,
    state: State,
    /// The address that the kernel has. It stays when the cable is pulled, and
    /// while it is probed after that.
    held: Option<Prefix4>,
    conflicts: u32,
    events: VecDeque<Event>,
}

impl LinkLocal {
    /// Waits for a carrier. `seed` is for jitter.
    pub fn new(mac: Mac, seed: u64) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        let mut addresses = Rng::new(u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
        let candidate = next(&mut addresses);
        Self {
            mac,
            addresses,
            candidate,
            rng: Rng::new(seed),
            pace: claim::PACE,
            has_carrier: false,
            is_leased: false,
            state: State::Idle(Idle { start: None }),
            held: None,
            conflicts: 0,
            events: VecDeque::new(),
        }
    }

    /// Takes over the address that the kernel has from an earlier run. Call
    /// this before anything else.
    pub fn adopt(&mut self, address: Prefix4) {
        self.candidate = address;
        self.held = Some(address);
    }

    /// There is a carrier. An address that is held is probed again, as the
    /// network may be another one (RFC 3927 section 2.2.1).
    pub fn link_up(&mut self, now: Moment) {
        if !self.has_carrier {
            self.has_carrier = true;
            self.conflicts = 0;
            self.begin(now);
        }
    }

    /// The carrier is gone. The address stays.
    pub fn link_down(&mut self, now: Moment) {
        self.has_carrier = false;
        match &self.state {
            // With a lease it goes all the same.
            State::Leaving(_) => {}
            State::Idle(_) | State::Probing(_) | State::InUse(_) => {
                let end = self.held.filter(|_| self.is_leased).map(|_| now + LINGER);
                self.state = State::Idle(Idle { start: end });
            }
        }
    }

    /// There is a leased address: none is needed here.
    pub fn leased(&mut self, now: Moment) {
        if self.is_leased {
            return;
        }
        self.is_leased = true;
        self.state = match self.held {
            Some(held) => {
                let claim = match std::mem::replace(&mut self.state, State::Idle(Idle { start: None })) {
                    State::InUse(InUse { claim }) | State::Leaving(Leaving { claim, .. }) => claim,
                    State::Idle(_) | State::Probing(_) => Holding::new(self.mac, held.address()),
                };
                State::Leaving(Leaving { claim, end: now + LINGER })
            }
            None => State::Idle(Idle { start: None }),
        };
    }

    /// There is a leased address no longer.
    pub fn unleased(&mut self, now: Moment) {
        if !self.is_leased {
            return;
        }
        self.is_leased = false;
        match std::mem::replace(&mut self.state, State::Idle(Idle { start: None })) {
            State::Leaving(Leaving { claim, .. }) if self.has_carrier => self.state = State::InUse(InUse { claim }),
            _ if self.has_carrier => self.begin(now),
            _ => {}
        }
    }

    /// Gives the address up at once.
    pub fn stop(&mut self) {
        self.has_carrier = false;
        self.lose(None);
        self.state = State::Idle(Idle { start: None });
    }

    /// Takes an ARP packet that came in, unless one of this machine's links
    /// sent it.
    pub fn hear(&mut self, now: Moment, packet: &Packet) {
        let is_lost = match &mut self.state {
            State::Idle(_) => false,
            State::Probing(probing) => probing.conflicts(packet),
            State::InUse(InUse { claim }) | State::Leaving(Leaving { claim, .. }) => {
                claim.hear(now, packet) == Verdict::Lost
            }
        };
        if !is_lost {
            return;
        }
        self.lose(Some(packet.sender_mac));
        self.candidate = next(&mut self.addresses);
        self.conflicts = self.conflicts.saturating_add(1);
        self.state = if self.is_leased {
            State::Idle(Idle { start: None })
        } else if self.conflicts > MAX_CONFLICTS {
            State::Idle(Idle { start: Some(now + RATE_LIMIT_INTERVAL) })
        } else {
            self.probing(now)
        };
    }

    /// The addresses that [`LinkLocal::hear`] wants to hear of.
    pub fn claims(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let is_used = !matches!(self.state, State::Idle(_));
        is_used.then(|| self.candidate.address()).into_iter()
    }

    /// The next thing to do.
    pub fn poll(&mut self, now: Moment) -> Output {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Output::Event(event);
            }
            let earliest = self.pace.earliest();
            let (arp, end) = match &self.state {
                State::Idle(state) => (None, state.start),
                State::Probing(state) => (Some(state.deadline().max(earliest)), None),
                State::InUse(state) => (state.claim.deadline().map(|at| at.max(earliest)), None),
                State::Leaving(state) => {
                    let announce = state.claim.deadline().filter(|_| self.has_carrier);
                    (announce.map(|at| at.max(earliest)), Some(state.end))
                }
            };
            if end.is_some_and(|end| end <= now) {
                self.end(now);
            } else if arp.is_some_and(|at| at <= now) {
                if let Some(packet) = self.act(now) {
                    self.pace.count(now);
                    return Output::Arp(packet);
                }
            } else {
                return Output::Timeout([arp, end].into_iter().flatten().min());
            }
        }
    }

    /// A wait is over.
    fn end(&mut self, now: Moment) {
        if self.is_leased {
            self.lose(None);
            self.state = State::Idle(Idle { start: None });
        } else {
            self.state = self.probing(now);
        }
    }

    fn act(&mut self, now: Moment) -> Option<Packet> {
        match &mut self.state {
            State::Idle(_) => None,
            State::Probing(probing) => match probing.poll(now, &mut self.rng) {
                Probe::Wait => None,
                Probe::Send(packet) => Some(packet),
                Probe::Free => {
                    let mut claim = Holding::new(self.mac, self.candidate.address());
                    claim.announce(now);
                    self.state = State::InUse(InUse { claim });
                    self.held = Some(self.candidate);
                    self.events.push_back(Event::Held(self.candidate));
                    None
                }
            },
            State::InUse(InUse { claim }) | State::Leaving(Leaving { claim, .. }) => claim.poll(now, &mut self.rng),
        }
    }

    /// The start with a new carrier, or after a lease has gone.
    fn begin(&mut self, now: Moment) {
        match (&self.state, self.is_leased, self.held) {
            (State::Leaving(_), true, _) => {}
            (_, true, Some(held)) => {
                let claim = Holding::new(self.mac, held.address());
                self.state = State::Leaving(Leaving { claim, end: now + LINGER });
            }
            (_, true, None) => self.state = State::Idle(Idle { start: None }),
            (_, false, Some(_)) => self.state = self.probing(now),
            (_, false, None) => self.state = State::Idle(Idle { start: Some(now + PATIENCE) }),
        }
    }

    fn probing(&mut self, now: Moment) -> State {
        State::Probing(Probing::new(claim::BY_CHANCE, self.mac, self.candidate.address(), now, &mut self.rng))
    }

    fn lose(&mut self, by: Option<Mac>) {
        if let Some(address) = self.held.take() {
            self.events.push_back(Event::Lost { address, by });
        }
    }
}

/// The next address to try.
fn next(addresses: &mut Rng) -> Prefix4 {
    let offset = u32::try_from(addresses.below(COUNT)).unwrap_or(0);
    let address = Ipv4Addr::from_bits(FIRST.to_bits() + offset);
    Prefix4::new(address, PREFIX_LEN).unwrap_or(Prefix4::ANY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arp::Op;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn s(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    struct Script {
        it: LinkLocal,
        now: Moment,
        arp: Vec<(Moment, Packet)>,
    }

    impl Script {
        fn new() -> Self {
            Self { it: LinkLocal::new(MAC, 1), now: s(1000), arp: Vec::new() }
        }

        /// With an address, and the announcements over.
        fn holding() -> (Self, Prefix4) {
            let mut script = Self::new();
            script.it.link_up(script.now);
            let Some(Event::Held(address)) = script.comes() else { panic!("no address") };
            script.now += s(3);
            assert_eq!(script.comes(), None);
            script.arp.clear();
            (script, address)
        }

        /// Goes on to the next event; `None` if none will come by itself.
        fn comes(&mut self) -> Option<Event> {
            loop {
                match self.it.poll(self.now) {
                    Output::Event(event) => return Some(event),
                    Output::Arp(packet) => self.arp.push((self.now, packet)),
                    Output::Timeout(Some(at)) => {
                        assert!(at > self.now, "a deadline in the past");
                        self.now = at;
                    }
                    Output::Timeout(None) => return None,
                }
            }
        }

        fn stranger_has(&mut self, address: Prefix4) {
            let address = address.address();
            self.it.hear(self.now, &Packet { op: Op::Reply, ..Packet::announcement(STRANGER, address) });
        }
    }

    #[test]
    fn without_a_lease_an_address_is_there_six_seconds_after_the_carrier() {
        let mut script = Script::new();
        assert_eq!(script.comes(), None, "nothing without a carrier");
        script.it.link_up(script.now);
        let Some(Event::Held(address)) = script.comes() else { panic!("no address") };
        assert!(script.now > s(1005) && script.now < s(1006), "{:?}", script.now);
        assert_eq!(address.len(), 16);
        assert_eq!(script.arp.len(), 3);
        assert!(script.arp.iter().all(|(_, packet)| *packet == Packet::probe(MAC, address.address())));
        assert_eq!(script.comes(), None);
        assert_eq!(script.arp.len(), 5, "two announcements");
        assert_eq!(script.arp[4].1, Packet::announcement(MAC, address.address()));
    }

    #[test]
    fn it_is_the_same_address_each_time_and_another_one_for_another_card() {
        let first = |mac| LinkLocal::new(mac, 7).candidate;
        assert_eq!(first(MAC), Script::holding().1);
        // In every release, too.
        let golden = first(Mac([0x52, 0x54, 0, 0, 0, 1]));
        assert_eq!(golden.to_string(), "169.254.184.45/16");
        assert_ne!(first(MAC), first(STRANGER));
        let mut addresses = Rng::new(5);
        for _ in 0..10_000 {
            let address = next(&mut addresses);
            assert!((1..=254).contains(&address.address().octets()[2]) && address.address().is_link_local());
        }
    }

    #[test]
    fn a_lease_in_time_means_no_address() {
        let mut script = Script::new();
        script.it.link_up(script.now);
        script.now += s(4);
        script.it.leased(script.now);
        script.it.leased(script.now);
        assert_eq!(script.comes(), None);
        assert_eq!(script.arp, []);
        // Once it has gone, five seconds later.
        script.it.unleased(script.now);
        let start = script.now;
        assert!(matches!(script.comes(), Some(Event::Held(_))));
        assert!(script.now > start + s(5));
    }

    #[test]
    fn a_lease_while_probing_ends_that() {
        let mut script = Script::new();
        script.it.link_up(script.now);
        script.now += s(5);
        assert!(matches!(script.it.poll(script.now), Output::Timeout(Some(_))));
        script.it.leased(script.now);
        assert_eq!(script.comes(), None);
    }

    #[test]
    fn beside_a_lease_the_address_stays_for_a_minute() {
        let (mut script, address) = Script::holding();
        let start = script.now;
        script.it.leased(start);
        // A renewal does not prolong it.
        script.now += s(30);
        script.it.leased(script.now);
        assert_eq!(script.comes(), Some(Event::Lost { address, by: None }));
        assert_eq!(script.now, start + LINGER);
        assert_eq!(script.comes(), None);
    }

    #[test]
    fn a_lease_that_goes_within_the_minute_leaves_the_address() {
        let (mut script, address) = Script::holding();
        script.it.leased(script.now);
        script.now += s(30);
        script.it.unleased(script.now);
        assert_eq!(script.comes(), None);
        assert_eq!(script.it.claims().collect::<Vec<_>>(), [address.address()]);
    }

    #[test]
    fn a_cable_pulled_leaves_the_address_and_one_plugged_in_probes_it() {
        let (mut script, address) = Script::holding();
        script.it.link_down(script.now);
        assert_eq!(script.comes(), None);
        script.it.link_up(script.now);
        assert_eq!(script.comes(), Some(Event::Held(address)), "at once, as there is nothing to wait for");
        assert_eq!(script.arp.len(), 3);
        script.it.link_down(script.now);
        script.it.link_up(script.now);
        script.stranger_has(address);
        assert_eq!(script.comes(), Some(Event::Lost { address, by: Some(STRANGER) }));
        let Some(Event::Held(other)) = script.comes() else { panic!("no other address") };
        assert_ne!(other, address);
    }

    #[test]
    fn without_a_cable_a_lease_takes_the_address_away_too() {
        let (mut script, address) = Script::holding();
        script.it.leased(script.now);
        script.it.link_down(script.now);
        assert_eq!(script.comes(), Some(Event::Lost { address, by: None }));
    }

    #[test]
    fn an_address_that_is_taken_is_passed_over() {
        let mut script = Script::new();
        script.it.link_up(script.now);
        let first = script.it.candidate;
        script.now += s(5);
        script.it.poll(script.now);
        script.it.hear(script.now, &Packet::probe(STRANGER, first.address()));
        let Some(Event::Held(second)) = script.comes() else { panic!("no address") };
        assert_ne!(first, second);
        assert!(script.now < s(1006));
    }

    #[test]
    fn where_all_are_taken_it_tries_once_a_minute() {
        let mut script = Script::new();
        script.it.link_up(script.now);
        let mut tries = Vec::new();
        while script.now < s(1000 + 600) {
            match script.it.poll(script.now) {
                Output::Arp(packet) => {
                    tries.push(script.now);
                    script.it.hear(script.now, &Packet::announcement(STRANGER, packet.target));
                }
                Output::Timeout(Some(at)) => script.now = at,
                other => panic!("{other:?}"),
            }
        }
        assert!((19..=20).contains(&tries.len()), "{tries:?}");
        assert!(tries[10] <= s(1007) && tries[11] >= tries[10] + s(60));
    }

    #[test]
    fn it_is_defended_once() {
        let (mut script, address) = Script::holding();
        script.stranger_has(address);
        assert_eq!(script.comes(), None);
        assert_eq!(script.arp, [(script.now, Packet::announcement(MAC, address.address()))]);
        script.stranger_has(address);
        assert_eq!(script.comes(), Some(Event::Lost { address, by: Some(STRANGER) }));
        assert!(matches!(script.comes(), Some(Event::Held(_))), "and another one comes");
    }

    #[test]
    fn an_address_of_an_earlier_run_stays_and_one_beside_a_lease_goes() {
        let address = Prefix4::new(Ipv4Addr::new(169, 254, 7, 7), 16).unwrap();
        for leased in [false, true] {
            let mut script = Script::new();
            script.it.adopt(address);
            if leased {
                script.it.leased(script.now);
            }
            script.it.link_up(script.now);
            let event = script.comes();
            assert_eq!(event, Some(if leased { Event::Lost { address, by: None } } else { Event::Held(address) }));
            assert!(script.now == s(1060) || script.now < s(1001));
        }
    }

    #[test]
    fn at_the_end_it_goes_at_once() {
        let (mut script, address) = Script::holding();
        script.it.stop();
        assert_eq!(script.comes(), Some(Event::Lost { address, by: None }));
        assert_eq!(script.comes(), None);
    }

    /// Anything in any order: no panic, no storm, no packet without a carrier,
    /// and always a deadline while an address is missing.
    #[test]
    fn whatever_happens_there_is_no_storm_and_always_a_next_step() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut script = Script::new();
            let (mut carrier, mut leased, mut held) = (false, false, None);
            for _ in 0..300 {
                match rng.below(8) {
                    0 => {
                        script.it.link_down(script.now);
                        carrier = false;
                    }
                    1 | 2 => {
                        script.it.link_up(script.now);
                        carrier = true;
                    }
                    3 => {
                        script.it.leased(script.now);
                        leased = true;
                    }
                    4 => {
                        script.it.unleased(script.now);
                        leased = false;
                    }
                    5 | 6 => script.stranger_has(script.it.candidate),
                    _ => {}
                }
                let deadline = loop {
                    match script.it.poll(script.now) {
                        Output::Timeout(at) => break at,
                        Output::Event(Event::Held(address)) => held = Some(address),
                        Output::Event(Event::Lost { address, .. }) => {
                            assert_eq!(held.take(), Some(address), "seed {seed}");
                        }
                        Output::Arp(packet) => {
                            assert!(carrier, "seed {seed}: ARP without a carrier");
                            script.arp.push((script.now, packet));
                        }
                    }
                };
                let minute = script.now.saturating_sub(s(60));
                assert!(script.arp.iter().filter(|(at, _)| *at > minute).count() <= 50, "seed {seed}: a storm");
                assert!(deadline.is_none_or(|at| at > script.now), "seed {seed}: a deadline in the past");
                let wants = carrier && !leased && held.is_none() || leased && held.is_some();
                assert!(deadline.is_some() || !wants, "seed {seed}: stuck");
                script.now = match rng.below(3) {
                    0 => deadline.unwrap_or(script.now),
                    1 => script.now + Duration::from_millis(rng.below(3_000)),
                    _ => script.now + s(rng.below(100)),
                };
            }
        }
    }
}
