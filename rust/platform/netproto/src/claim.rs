//! The claim to an IPv4 address (RFC 5227): is it free, and does it stay ours?
//! [`Probing`] asks before an address is used, [`Holding`] tells everybody
//! about it and defends it while it is. The owner of one of them sends its
//! packets, and hands it the packets that come in.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::arp::Packet;
use crate::net::Mac;
use crate::pace::{Moment, Pace, spread};
use crate::rng::Rng;

/// When to ask, and for how long to wait for an answer.
///
/// RFC 5227 section 1.1 takes 5 to 7 s: `PROBE_WAIT` 0 to 1 s, `PROBE_NUM` 3,
/// one or two seconds apart, and `ANNOUNCE_WAIT` 2 s. A person looks at the
/// screen meanwhile. The waits are for ports that do not forward yet, which
/// have just carried a DHCP exchange or seconds of questions, and for stations
/// that are slow to answer, which on a cable means milliseconds. The number of
/// probes, which is what makes up for lost packets, is the RFC's.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Until the first probe, at least, and what there may be more of it.
    wait: Duration,
    wait_spread: Duration,
    probes: u32,
    /// From one to the next.
    interval: Duration,
    interval_spread: Duration,
    /// From the last one to the end.
    silence: Duration,
}

/// For an address that nobody has given.
pub const BY_CHANCE: Schedule = Schedule {
    wait: Duration::ZERO,
    wait_spread: Duration::from_millis(20),
    probes: 3,
    interval: Duration::from_millis(90),
    interval_spread: Duration::from_millis(40),
    silence: Duration::from_millis(150),
};
/// Before the first use of an address that a server gave: nobody else should
/// have it. The rest of the probes are sent [while it is used](WHILE_USED), so
/// that only a station that is slow to answer is met by a user of its address,
/// who then makes off before he has told anybody about it.
pub const BEFORE_USE: Schedule = Schedule {
    wait: Duration::ZERO,
    wait_spread: Duration::ZERO,
    probes: 2,
    interval: Duration::from_millis(20),
    interval_spread: Duration::ZERO,
    silence: Duration::from_millis(20),
};
/// The schedule after that.
const WHILE_USED: Schedule = Schedule {
    wait: Duration::from_millis(120),
    wait_spread: Duration::from_millis(40),
    probes: 1,
    interval: Duration::ZERO,
    interval_spread: Duration::ZERO,
    silence: Duration::from_millis(300),
};
/// `ANNOUNCE_NUM` and `ANNOUNCE_INTERVAL`, as they are in the RFC.
const ANNOUNCEMENTS: u32 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// `DEFEND_INTERVAL`, the RFC's.
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// Twenty ARP packets at once, and one for each two seconds: 50 in any minute.
pub(crate) const PACE: Pace = Pace::new(20, Duration::from_secs(2));

/// Asks whether an address is free.
#[derive(Debug)]
pub struct Probing {
    schedule: Schedule,
    mac: Mac,
    address: Ipv4Addr,
    sent: u32,
    next: Moment,
}

/// The next step of a [`Probing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Nothing yet.
    Wait,
    /// Send this.
    Send(Packet),
    /// Nobody has the address.
    Free,
}

impl Probing {
    /// Begins.
    pub fn new(schedule: Schedule, mac: Mac, address: Ipv4Addr, now: Moment, rng: &mut Rng) -> Self {
        let next = now + schedule.wait + spread(schedule.wait_spread, rng);
        Self { schedule, mac, address, sent: 0, next }
    }

    /// The address in question.
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// When there is something to do.
    pub const fn deadline(&self) -> Moment {
        self.next
    }

    /// The next thing to do.
    pub fn poll(&mut self, now: Moment, rng: &mut Rng) -> Probe {
        if now < self.next {
            return Probe::Wait;
        }
        let Schedule { probes, interval, interval_spread, silence, .. } = self.schedule;
        if self.sent == probes {
            return Probe::Free;
        }
        self.sent += 1;
        self.next = now + if self.sent == probes { silence } else { interval + spread(interval_spread, rng) };
        Probe::Send(Packet::probe(self.mac, self.address))
    }

    /// RFC 5227 section 2.1.1: another host sends from the address, or probes for it
    /// at the same time.
    pub fn conflicts(&self, packet: &Packet) -> bool {
        let has_it = packet.sender == self.address;
        let wants_it = packet.sender == Ipv4Addr::UNSPECIFIED && packet.target == self.address;
        packet.sender_mac != self.mac && (has_it || wants_it)
    }
}

/// An address in use.
#[derive(Debug)]
pub struct Holding {
    mac: Mac,
    address: Ipv4Addr,
    /// It is in use, but still asked about.
    probing: Option<Probing>,
    announce: Option<Announcing>,
    /// When another host was last heard to use the address.
    conflict: Option<Moment>,
}

/// Announcements to come.
#[derive(Debug, Clone, Copy)]
struct Announcing {
    left: u32,
    next: Moment,
}

/// The meaning of a packet for an address in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ours,
    /// Another host uses it: it is told, with the next announcement, that this
    /// one will not give in.
    Disputed,
    /// It is another host's, or another host goes on using it.
    Lost,
}

impl Holding {
    /// An address that nobody need be told about.
    pub const fn new(mac: Mac, address: Ipv4Addr) -> Self {
        Self { mac, address, probing: None, announce: None, conflict: None }
    }

    /// An address about which nobody has answered [`BEFORE_USE`]. It is asked
    /// about once more before it is announced, and belongs to a host that answers.
    pub fn unsure(mac: Mac, address: Ipv4Addr, now: Moment, rng: &mut Rng) -> Self {
        let probing = Some(Probing::new(WHILE_USED, mac, address, now, rng));
        Self { probing, ..Self::new(mac, address) }
    }

    /// Whether it is asked about no more.
    pub const fn is_sure(&self) -> bool {
        self.probing.is_none()
    }

    /// Tells everybody, from now on; or when it is sure that there is something to tell.
    pub fn announce(&mut self, now: Moment) {
        if self.probing.is_none() {
            self.announce = Some(Announcing { left: ANNOUNCEMENTS, next: now });
        }
    }

    /// When there is something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let probing = self.probing.as_ref().map(Probing::deadline);
        probing.or(self.announce.map(|announce| announce.next))
    }

    /// The next packet to send.
    pub fn poll(&mut self, now: Moment, rng: &mut Rng) -> Option<Packet> {
        match self.probing.as_mut().map(|probing| probing.poll(now, rng)) {
            None => {}
            Some(Probe::Wait) => return None,
            Some(Probe::Send(packet)) => return Some(packet),
            Some(Probe::Free) => {
                self.probing = None;
                self.announce(now);
            }
        }
        let announce = self.announce.filter(|announce| announce.next <= now)?;
        let left = announce.left.saturating_sub(1);
        self.announce = (left > 0).then(|| Announcing { left, next: now + ANNOUNCE_INTERVAL });
        Some(Packet::announcement(self.mac, self.address))
    }

    /// Takes a packet. RFC 5227 section 2.4 (b): one announcement answers the
    /// first conflict, a second one within ten seconds is the end, lest two
    /// hosts go on for ever. One that was still asked about is not defended: the
    /// other host had it first.
    pub fn hear(&mut self, now: Moment, packet: &Packet) -> Verdict {
        if packet.sender != self.address || packet.sender_mac == self.mac {
            return Verdict::Ours;
        }
        if self.probing.is_some() || self.conflict.is_some_and(|last| now < last + DEFEND_INTERVAL) {
            return Verdict::Lost;
        }
        self.conflict = Some(now);
        let left = self.announce.map_or(1, |announce| announce.left.max(1));
        self.announce = Some(Announcing { left, next: now });
        Verdict::Disputed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arp::Op;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
    const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);

    fn s(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    /// `mac` says that it has `address`.
    fn heard(mac: Mac, address: Ipv4Addr) -> Packet {
        Packet { op: Op::Reply, target_mac: MAC, ..Packet::announcement(mac, address) }
    }

    #[test]
    fn three_probes_within_half_a_second_and_the_address_is_free() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut probing = Probing::new(BY_CHANCE, MAC, ADDRESS, s(10), &mut rng);
            let mut probes = 0;
            let end = loop {
                let now = probing.deadline();
                match probing.poll(now, &mut rng) {
                    Probe::Send(packet) => {
                        assert_eq!(packet, Packet::probe(MAC, ADDRESS));
                        assert_eq!(probing.poll(now, &mut rng), Probe::Wait);
                        probes += 1;
                    }
                    Probe::Free => break now,
                    Probe::Wait => panic!("a deadline for nothing"),
                }
            };
            assert_eq!(probes, 3);
            assert!(end <= s(10) + Duration::from_millis(450), "{end:?}");
        }
    }

    #[test]
    fn who_uses_an_address_or_probes_for_it_conflicts_with_a_probe() {
        let probing = Probing::new(BEFORE_USE, MAC, ADDRESS, s(0), &mut Rng::new(1));
        assert!(probing.conflicts(&heard(OTHER, ADDRESS)));
        assert!(probing.conflicts(&Packet::announcement(OTHER, ADDRESS)));
        assert!(probing.conflicts(&Packet::probe(OTHER, ADDRESS)));
        // Our own, as a bridge may send it back.
        assert!(!probing.conflicts(&Packet::probe(MAC, ADDRESS)));
        assert!(!probing.conflicts(&heard(OTHER, ELSEWHERE)));
        // A host wants to talk to the owner of the address.
        assert!(!probing.conflicts(&Packet { target: ADDRESS, ..Packet::announcement(OTHER, ELSEWHERE) }));
    }

    #[test]
    fn an_address_is_announced_twice_two_seconds_apart() {
        let rng = &mut Rng::new(1);
        let mut holding = Holding::new(MAC, ADDRESS);
        assert_eq!((holding.deadline(), holding.poll(s(1), rng)), (None, None));
        holding.announce(s(1));
        assert_eq!(holding.poll(s(1), rng), Some(Packet::announcement(MAC, ADDRESS)));
        assert_eq!((holding.deadline(), holding.poll(s(2), rng)), (Some(s(3)), None));
        assert_eq!(holding.poll(s(3), rng), Some(Packet::announcement(MAC, ADDRESS)));
        assert_eq!(holding.deadline(), None);
    }

    #[test]
    fn one_conflict_is_answered_and_a_second_within_ten_seconds_is_lost() {
        let rng = &mut Rng::new(1);
        let mut holding = Holding::new(MAC, ADDRESS);
        assert_eq!(holding.hear(s(1), &heard(OTHER, ELSEWHERE)), Verdict::Ours);
        assert_eq!(holding.hear(s(1), &heard(MAC, ADDRESS)), Verdict::Ours);
        assert_eq!(holding.hear(s(1), &Packet::probe(OTHER, ADDRESS)), Verdict::Ours, "the kernel answers it");
        assert_eq!(holding.deadline(), None);

        assert_eq!(holding.hear(s(1), &heard(OTHER, ADDRESS)), Verdict::Disputed);
        assert_eq!(holding.poll(s(1), rng), Some(Packet::announcement(MAC, ADDRESS)));
        assert_eq!(holding.deadline(), None, "one is enough");
        assert_eq!(holding.hear(s(11), &heard(OTHER, ADDRESS)), Verdict::Disputed);
        assert_eq!(holding.poll(s(11), rng), Some(Packet::announcement(MAC, ADDRESS)));
        assert_eq!(holding.hear(s(20), &heard(OTHER, ADDRESS)), Verdict::Lost);
    }

    #[test]
    fn an_address_in_use_that_is_still_asked_about_is_told_of_when_nobody_has_answered() {
        for seed in 0..50 {
            let rng = &mut Rng::new(seed);
            let mut holding = Holding::unsure(MAC, ADDRESS, s(1), rng);
            holding.announce(s(1));
            let probed = holding.deadline().unwrap();
            assert!(probed >= s(1) + Duration::from_millis(120) && holding.poll(s(1), rng).is_none());
            assert_eq!(holding.poll(probed, rng), Some(Packet::probe(MAC, ADDRESS)));
            let sure = holding.deadline().unwrap();
            assert_eq!(sure, probed + Duration::from_millis(300));
            assert_eq!(holding.poll(sure, rng), Some(Packet::announcement(MAC, ADDRESS)));
            assert_eq!(holding.deadline(), Some(sure + s(2)));
            assert_eq!(holding.hear(sure, &heard(OTHER, ADDRESS)), Verdict::Disputed);
        }
    }

    #[test]
    fn an_address_that_is_still_asked_about_is_left_to_whoever_answers() {
        let mut holding = Holding::unsure(MAC, ADDRESS, s(1), &mut Rng::new(1));
        assert_eq!(holding.hear(s(1), &heard(OTHER, ELSEWHERE)), Verdict::Ours);
        assert_eq!(holding.hear(s(1), &Packet::probe(OTHER, ADDRESS)), Verdict::Ours, "the kernel answers it");
        assert_eq!(holding.hear(s(1), &heard(OTHER, ADDRESS)), Verdict::Lost);
    }
}
