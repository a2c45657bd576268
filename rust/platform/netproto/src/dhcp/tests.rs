//! The client as scripts in time: what comes in, what goes out, and when
//! nothing does.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::client::{Client, Dropped, Event, Identity, Loss, Moment, Output, Transmit, Way};
use super::lease::LeaseError;
use super::wire::{Kind, Message, Op, Options};
use crate::arp::{self, Packet};
use crate::net::{Mac, Prefix4};
use crate::rng::Rng;

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 1]);
const EVERYBODY: Way = Way::Broadcast { from: Ipv4Addr::UNSPECIFIED };

fn s(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Moment {
    Duration::from_millis(milliseconds)
}

fn prefix() -> Prefix4 {
    Prefix4::new(ADDRESS, 24).unwrap()
}

/// A client, a clock, what the client last asked, and its ARP packets.
struct Script {
    client: Client,
    now: Moment,
    asked: Option<Message>,
    arp: Vec<(Moment, Packet)>,
}

impl Script {
    fn new() -> Self {
        Self { client: Client::new(Identity::of("diskomator", MAC), 1), now: s(1000), asked: None, arp: Vec::new() }
    }

    /// With a carrier, and the first DISCOVER sent.
    fn discovering() -> Self {
        let mut script = Self::new();
        script.client.link_up(script.now);
        script.next(Kind::Discover);
        script
    }

    /// With a lease of an hour.
    fn bound() -> Self {
        let mut script = Self::probing();
        assert!(matches!(script.comes(), Event::Bound { renewed: false, .. }));
        script
    }

    /// With an acknowledged lease of an hour, and no probe sent.
    fn probing() -> Self {
        Self::seeded(1)
    }

    /// The same, of a client with this seed.
    fn seeded(seed: u64) -> Self {
        let mut script = Self { client: Client::new(Identity::of("diskomator", MAC), seed), ..Self::new() };
        script.client.link_up(script.now);
        script.next(Kind::Discover);
        script.answer(Kind::Offer).unwrap();
        script.next(Kind::Request);
        script.answer(Kind::Ack).unwrap();
        script
    }

    fn output(&mut self) -> Output {
        loop {
            match self.client.poll(self.now) {
                Output::Arp(packet) => self.arp.push((self.now, packet)),
                other => return other,
            }
        }
    }

    /// Goes on to the next event, with nothing but ARP before it.
    fn comes(&mut self) -> Event {
        match self.wait() {
            Output::Event(event) => event,
            other => panic!("no event comes, but {other:?}"),
        }
    }

    /// Lets the last probe and the announcements pass.
    fn announced(&mut self) {
        let end = self.now + s(3);
        while let Some(at) = self.deadline().filter(|at| *at < end) {
            self.now = at;
        }
    }

    /// Another host says that it has `address`.
    fn stranger_has(&mut self, address: Ipv4Addr) {
        let packet = Packet { op: arp::Op::Reply, ..Packet::announcement(STRANGER, address) };
        self.client.hear(self.now, &packet);
    }

    fn event(&mut self) -> Event {
        match self.output() {
            Output::Event(event) => event,
            other => panic!("no event at {:?}, but {other:?}", self.now),
        }
    }

    fn deadline(&mut self) -> Option<Moment> {
        match self.output() {
            Output::Timeout(at) => at,
            other => panic!("at {:?} there is {other:?}", self.now),
        }
    }

    /// Nothing is sent and nothing happens before `until`.
    fn quiet(&mut self, until: Moment) {
        assert!(self.deadline().is_none_or(|at| at >= until), "something happens before {until:?}");
        self.now = until.saturating_sub(ms(1));
        assert!(self.deadline().is_none_or(|at| at >= until));
        self.now = until;
    }

    /// Goes on to the next packet, which is of this kind.
    fn next(&mut self, kind: Kind) -> (Way, Message) {
        if let Output::Transmit(transmit) = self.wait() {
            let message = Message::parse(&transmit.payload).unwrap();
            assert_eq!(message.kind, kind);
            self.asked = Some(message.clone());
            return (transmit.way, message);
        }
        panic!("no packet comes");
    }

    /// Goes on to the next thing that happens.
    fn wait(&mut self) -> Output {
        loop {
            match self.output() {
                Output::Timeout(Some(at)) => {
                    assert!(at > self.now, "a deadline in the past");
                    self.now = at;
                }
                other => return other,
            }
        }
    }

    /// A good server's answer to the last question.
    fn reply(&self, kind: Kind) -> Message {
        let asked = self.asked.as_ref().unwrap();
        Message {
            op: Op::Reply,
            kind,
            xid: asked.xid,
            secs: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: if kind == Kind::Nak { Ipv4Addr::UNSPECIFIED } else { ADDRESS },
            chaddr: MAC,
            options: Options {
                server: Some(SERVER),
                mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
                lease_time: Some(3600),
                routers: vec![SERVER],
                client_id: asked.options.client_id.clone(),
                ..Options::default()
            },
        }
    }

    fn answer(&mut self, kind: Kind) -> Result<(), Dropped> {
        self.answer_with(kind, |_| {})
    }

    fn answer_with(&mut self, kind: Kind, change: impl FnOnce(&mut Message)) -> Result<(), Dropped> {
        let mut message = self.reply(kind);
        change(&mut message);
        self.client.handle(self.now, &message.build())
    }
}

#[test]
fn nothing_is_sent_without_a_carrier() {
    let mut script = Script::new();
    assert_eq!(script.output(), Output::Timeout(None));
    script.now += s(3600);
    assert_eq!(script.output(), Output::Timeout(None));
}

#[test]
fn from_discover_to_a_lease() {
    let mut script = Script::new();
    script.client.link_up(script.now);
    let (way, discover) = script.next(Kind::Discover);
    assert!(script.now < s(1000) + ms(100), "the start is prompt");
    assert_eq!(way, EVERYBODY);
    assert_eq!(discover.chaddr, MAC);
    assert_eq!(discover.ciaddr, Ipv4Addr::UNSPECIFIED);
    assert_eq!(discover.options.hostname, "diskomator-123456");
    assert_eq!(discover.options.client_id, [255, 0, 0x12, 0x34, 0x56, 0, 3, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    assert_eq!(discover.options.requested, None);
    assert_eq!(discover.options.parameters[..3], [1, 121, 3], "RFC 3442 wants 121 before 3");

    script.answer(Kind::Offer).unwrap();
    let now = script.now;
    let (way, request) = script.next(Kind::Request);
    assert_eq!(script.now, now, "the request follows at once");
    assert_eq!(way, EVERYBODY);
    assert_eq!(request.xid, discover.xid);
    assert_eq!((request.options.requested, request.options.server), (Some(ADDRESS), Some(SERVER)));
    assert_eq!(request.ciaddr, Ipv4Addr::UNSPECIFIED);

    script.answer(Kind::Ack).unwrap();
    assert!(script.deadline().is_some_and(|at| at >= now), "it looks first whether the address is free");
    let Event::Bound { lease, until, renewed } = script.comes() else { panic!("not bound") };
    assert_eq!(lease.address, prefix());
    assert_eq!(until, Some(now + s(3600)));
    assert!(!renewed);
    assert!(script.now < now + ms(50), "the look is short");
    script.announced();
    // T1 is half an hour, less a fuzz of up to a sixty-fourth.
    assert!(script.deadline().unwrap() > now + s(1800 - 29));
    assert!(script.deadline().unwrap() <= now + s(1800));
}

#[test]
fn a_lost_discover_is_sent_again_after_one_second_then_ever_more_slowly() {
    let mut script = Script::discovering();
    let mut last = script.now;
    for base in [1, 2, 4, 8, 16, 32, 64, 64] {
        let mut silence = false;
        loop {
            match script.wait() {
                Output::Event(Event::Silence) => silence = true,
                Output::Transmit(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(silence, base == 8, "silence is reported once, with the fourth packet");
        let gap = script.now.abs_diff(last);
        let jitter = (s(base) / 4).min(s(1));
        assert!(gap.abs_diff(s(base)) <= jitter, "{gap:?} is not about {base} s");
        last = script.now;
    }
}

#[test]
fn the_first_acceptable_offer_is_taken_and_nonsense_is_passed_over() {
    let mut script = Script::discovering();
    for (what, refusal) in [
        (script.answer_with(Kind::Offer, |m| m.yiaddr = Ipv4Addr::LOCALHOST), None),
        (script.answer_with(Kind::Offer, |m| m.yiaddr = Ipv4Addr::new(192, 0, 2, 255)), None),
        (script.answer_with(Kind::Offer, |m| m.yiaddr = Ipv4Addr::new(224, 0, 0, 7)), None),
        (script.answer_with(Kind::Offer, |m| m.yiaddr = Ipv4Addr::UNSPECIFIED), None),
        (script.answer_with(Kind::Offer, |m| m.options.server = None), Some(LeaseError::NoServer)),
        (script.answer_with(Kind::Offer, |m| m.options.server = Some(ADDRESS)), Some(LeaseError::BadServer(ADDRESS))),
    ] {
        let Err(Dropped::Refused(why)) = what else { panic!("{what:?}") };
        assert!(refusal.is_none_or(|refusal| refusal == why), "{why}");
    }
    assert!(script.deadline().is_some_and(|at| at > script.now), "nothing is sent");

    script.answer_with(Kind::Offer, |m| m.options.server = Some(OTHER)).unwrap();
    assert_eq!(script.answer(Kind::Offer), Err(Dropped::Unexpected(Kind::Offer)), "the first one counts");
    assert_eq!(script.next(Kind::Request).1.options.server, Some(OTHER));
}

#[test]
fn answers_to_others_are_dropped() {
    let mut script = Script::discovering();
    let asked = script.asked.clone().unwrap();
    assert_eq!(script.client.handle(script.now, &asked.build()), Err(Dropped::NotReply));
    assert_eq!(script.answer_with(Kind::Offer, |m| m.xid ^= 1), Err(Dropped::WrongXid(asked.xid ^ 1)),);
    assert_eq!(script.answer_with(Kind::Offer, |m| m.chaddr = STRANGER), Err(Dropped::NotOurs(STRANGER)));
    assert_eq!(script.answer_with(Kind::Offer, |m| m.options.client_id[3] ^= 1), Err(Dropped::WrongClientId));
    assert_eq!(script.answer(Kind::Ack), Err(Dropped::Unexpected(Kind::Ack)), "nothing was requested");
    script.answer_with(Kind::Offer, |m| m.options.client_id.clear()).unwrap();
    script.next(Kind::Request);
    let of_another = |message: &mut Message| {
        message.options.server = Some(OTHER);
        message.yiaddr = Ipv4Addr::new(192, 0, 2, 8);
    };
    assert_eq!(script.answer_with(Kind::Ack, of_another), Err(Dropped::WrongServer(Some(OTHER))));
    assert_eq!(
        script.answer_with(Kind::Nak, |m| m.options.server = Some(OTHER)),
        Err(Dropped::WrongServer(Some(OTHER)))
    );
    assert_eq!(script.answer_with(Kind::Nak, |m| m.options.server = None), Err(Dropped::WrongServer(None)));
    script.answer(Kind::Ack).unwrap();
    assert_eq!(script.answer(Kind::Ack), Err(Dropped::Unexpected(Kind::Ack)), "a duplicate");
}

#[test]
fn a_server_that_does_not_keep_its_offer_is_passed_over_for_another() {
    let mut script = Script::discovering();
    script.answer(Kind::Offer).unwrap();
    let began = script.now;
    for _ in 0..4 {
        script.next(Kind::Request);
    }
    script.next(Kind::Discover);
    assert!(script.now < began + s(20));
    assert_eq!(script.answer(Kind::Offer), Err(Dropped::Avoided(SERVER)));
    script.answer_with(Kind::Offer, |m| m.options.server = Some(OTHER)).unwrap();
    assert_eq!(script.next(Kind::Request).1.options.server, Some(OTHER));
}

#[test]
fn a_server_that_is_the_only_one_gets_another_chance() {
    let mut script = Script::discovering();
    script.answer(Kind::Offer).unwrap();
    script.next(Kind::Request);
    script.answer(Kind::Nak).unwrap();
    script.next(Kind::Discover);
    script.next(Kind::Discover);
    script.next(Kind::Discover);
    script.answer(Kind::Offer).unwrap();
    script.next(Kind::Request);
    script.answer(Kind::Ack).unwrap();
    assert!(matches!(script.comes(), Event::Bound { .. }));
}

#[test]
fn the_lease_is_renewed_at_t1_from_its_server() {
    let mut script = Script::bound();
    let (way, request) = script.next(Kind::Request);
    assert!(script.now > s(1000 + 1770) && script.now < s(1001 + 1800));
    assert_eq!(way, Way::Unicast { from: ADDRESS, to: SERVER });
    assert_eq!(request.ciaddr, ADDRESS);
    // RFC 2131 table 5: MUST NOT.
    assert_eq!((request.options.requested, request.options.server), (None, None));
    let asked = script.now;
    script.answer(Kind::Ack).unwrap();
    let Event::Bound { until, renewed, .. } = script.event() else { panic!("not bound") };
    assert!(renewed);
    assert_eq!(until, Some(asked + s(3600)));
    script.quiet(asked + s(1770));
}

#[test]
fn no_answer_until_t2_makes_it_ask_everybody_and_then_expire() {
    let mut script = Script::probing();
    let start = script.now;
    script.comes();
    let mut unicast = 0;
    let mut rebinding = 0;
    let mut last = None;
    loop {
        match script.wait() {
            Output::Transmit(Transmit { way: Way::Unicast { .. }, .. }) => {
                assert!(script.now < start + s(3150), "after T2 nobody is asked alone");
                unicast += 1;
            }
            Output::Transmit(Transmit { way, payload }) => {
                assert_eq!(way, Way::Broadcast { from: ADDRESS });
                assert_eq!(Message::parse(&payload).unwrap().ciaddr, ADDRESS);
                assert!(script.now >= start + s(3150) && script.now < start + s(3600));
                rebinding += 1;
            }
            Output::Event(event) => {
                assert_eq!(event, Event::Lost { address: prefix(), why: Loss::Expired });
                break;
            }
            other => panic!("{other:?}"),
        }
        assert!(last.is_none_or(|last| script.now >= last + s(59)), "once a minute at most");
        last = Some(script.now);
    }
    assert_eq!(script.now, start + s(3600));
    assert!((4..=7).contains(&unicast), "{unicast}");
    assert!((2..=5).contains(&rebinding), "{rebinding}");
    script.next(Kind::Discover);
}

#[test]
fn another_server_may_answer_while_rebinding() {
    let mut script = Script::bound();
    loop {
        if let (Way::Broadcast { .. }, _) = script.next(Kind::Request) {
            break;
        }
    }
    script.answer_with(Kind::Ack, |m| m.options.server = Some(OTHER)).unwrap();
    let Event::Bound { lease, renewed: true, .. } = script.event() else { panic!("not renewed") };
    assert_eq!(lease.server, OTHER);
    assert_eq!(script.next(Kind::Request).0, Way::Unicast { from: ADDRESS, to: OTHER });
}

#[test]
fn a_nak_takes_the_address_away() {
    let mut script = Script::bound();
    script.next(Kind::Request);
    script.answer_with(Kind::Nak, |m| m.options.text = b"moved \x1b[2J".to_vec()).unwrap();
    let Event::Lost { why, .. } = script.event() else { panic!("not lost") };
    assert_eq!(why.to_string(), r#"the server refused it: "moved \x1b[2J""#);
    let refused = script.now;
    let (_, discover) = script.next(Kind::Discover);
    assert!(script.now < refused + ms(100));
    assert_eq!(discover.options.requested, None);
}

#[test]
fn after_a_short_loss_of_carrier_it_asks_for_the_same_address() {
    let mut script = Script::bound();
    script.now += s(60);
    script.client.link_down();
    script.quiet(script.now + s(5));
    script.client.link_up(script.now);
    let (way, request) = script.next(Kind::Request);
    // RFC 2131 table 5, INIT-REBOOT.
    assert_eq!(way, EVERYBODY);
    assert_eq!(request.ciaddr, Ipv4Addr::UNSPECIFIED);
    assert_eq!((request.options.requested, request.options.server), (Some(ADDRESS), None));
    script.answer(Kind::Ack).unwrap();
    assert!(matches!(script.event(), Event::Bound { renewed: true, .. }));
}

#[test]
fn on_another_network_the_address_goes_when_a_server_says_so() {
    let mut script = Script::bound();
    script.client.link_down();
    script.client.link_up(script.now);
    script.next(Kind::Request);
    script.answer(Kind::Nak).unwrap();
    assert!(matches!(script.event(), Event::Lost { why: Loss::Refused(_), .. }));
    script.next(Kind::Discover);
}

#[test]
fn on_another_network_with_a_shy_server_a_new_lease_takes_over() {
    let mut script = Script::bound();
    script.client.link_down();
    script.client.link_up(script.now);
    let start = script.now;
    script.next(Kind::Request);
    script.next(Kind::Request);
    let (_, discover) = script.next(Kind::Discover);
    assert!(script.now < start + s(5));
    assert_eq!(discover.options.requested, Some(ADDRESS), "as a wish");
    let elsewhere = Ipv4Addr::new(198, 51, 100, 9);
    script.answer_with(Kind::Offer, |m| m.yiaddr = elsewhere).unwrap();
    script.next(Kind::Request);
    script.answer_with(Kind::Ack, |m| m.yiaddr = elsewhere).unwrap();
    let Event::Bound { lease, renewed: false, .. } = script.comes() else { panic!("not bound anew") };
    assert_eq!(lease.address.address(), elsewhere);
}

#[test]
fn an_address_expires_without_a_carrier_too() {
    let mut script = Script::bound();
    let start = script.now;
    script.client.link_down();
    script.quiet(start + s(3599));
    script.now = start + s(3600);
    assert_eq!(script.event(), Event::Lost { address: prefix(), why: Loss::Expired });
    assert_eq!(script.deadline(), None);
    script.client.link_up(script.now);
    script.next(Kind::Discover);
}

#[test]
fn an_address_of_an_earlier_run_is_kept_and_confirmed() {
    let mut script = Script::new();
    script.client.adopt(prefix(), Some(script.now + s(100)));
    script.client.link_up(script.now);
    let (_, request) = script.next(Kind::Request);
    assert_eq!(script.now, s(1000), "at once");
    assert_eq!(request.options.requested, Some(ADDRESS));
    script.answer(Kind::Ack).unwrap();
    assert!(matches!(script.event(), Event::Bound { renewed: true, .. }));
}

#[test]
fn an_address_of_an_earlier_run_that_nobody_confirms_stays_to_its_end() {
    let mut script = Script::new();
    script.client.adopt(prefix(), Some(script.now + s(100)));
    script.client.link_up(script.now);
    loop {
        match script.wait() {
            Output::Event(Event::Lost { why, .. }) => {
                assert_eq!(why, Loss::Expired);
                break;
            }
            Output::Event(Event::Silence) | Output::Transmit(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(script.now, s(1100));
}

#[test]
fn a_lease_for_ever_has_no_deadline() {
    let mut script = Script::discovering();
    script.answer(Kind::Offer).unwrap();
    script.next(Kind::Request);
    script.answer_with(Kind::Ack, |m| m.options.lease_time = Some(u32::MAX)).unwrap();
    assert!(matches!(script.comes(), Event::Bound { until: None, .. }));
    script.announced();
    assert_eq!(script.deadline(), None);
    script.client.link_down();
    script.client.link_up(script.now);
    script.next(Kind::Request);
}

#[test]
fn the_servers_own_times_are_taken_if_they_are_in_order() {
    for (t1, t2, renew) in [(100, 200, 100), (200, 100, 1800), (0, 200, 1800), (100, 4000, 1800)] {
        let mut script = Script::discovering();
        script.answer(Kind::Offer).unwrap();
        script.next(Kind::Request);
        let asked = script.now;
        script.answer_with(Kind::Ack, |m| (m.options.t1, m.options.t2) = (Some(t1), Some(t2))).unwrap();
        script.comes();
        script.announced();
        let at = script.deadline().unwrap().abs_diff(asked);
        assert!(at <= s(renew) && at + s(renew) / 32 >= s(renew), "{t1} {t2}: {at:?}");
    }
}

#[test]
fn a_server_that_only_ever_refuses_is_not_flooded() {
    let mut script = Script::discovering();
    let start = script.now;
    let mut packets = 1;
    while script.now < start + s(600) {
        if let Output::Transmit(transmit) = script.wait() {
            packets += 1;
            let message = Message::parse(&transmit.payload).unwrap();
            let answer = if message.kind == Kind::Discover { Kind::Offer } else { Kind::Nak };
            script.asked = Some(message);
            let _ = script.answer(answer);
        }
    }
    assert!(packets < 60, "{packets} in ten minutes");
}

#[test]
fn a_leased_address_is_used_after_two_probes_and_announced_after_a_third() {
    for seed in 0..20 {
        let mut script = Script::seeded(seed);
        let acknowledged = script.now;
        assert!(matches!(script.comes(), Event::Bound { renewed: false, .. }));
        let bound = script.now;
        assert!(bound <= acknowledged + ms(40), "{:?}", bound.abs_diff(acknowledged));
        script.announced();
        let before: Vec<Packet> = script.arp.iter().filter(|(at, _)| *at < bound).map(|(_, packet)| *packet).collect();
        assert_eq!(before, [Packet::probe(MAC, ADDRESS); 2]);
        let [(third, probe), (sure, first), (_, second)] = script.arp[2..] else { panic!("{:?}", script.arp) };
        assert_eq!(probe, Packet::probe(MAC, ADDRESS));
        assert_eq!([first, second], [Packet::announcement(MAC, ADDRESS); 2]);
        assert!(third >= bound + ms(100) && sure >= third + ms(300) && sure <= bound + ms(500));
    }
}

#[test]
fn a_host_that_is_slow_to_answer_gets_its_address_back_and_nobody_was_told_otherwise() {
    for probes in 2..=3 {
        let mut script = Script::bound();
        while let Some(next) = script.deadline().filter(|_| script.arp.len() < probes) {
            script.now = next;
        }
        script.stranger_has(ADDRESS);
        assert_eq!(script.event(), Event::Lost { address: prefix(), why: Loss::Conflict(STRANGER) });
        let lost = script.now;
        let (way, decline) = script.next(Kind::Decline);
        assert_eq!((script.now, way), (lost, EVERYBODY));
        assert_eq!((decline.options.requested, decline.options.server), (Some(ADDRESS), Some(SERVER)));
        script.quiet(lost + s(10));
        script.next(Kind::Discover);
        assert!(script.arp.iter().all(|(_, packet)| *packet == Packet::probe(MAC, ADDRESS)), "{:?}", script.arp);
    }
}

#[test]
fn a_host_that_is_always_slow_to_answer_is_met_ever_more_rarely() {
    let mut script = Script::bound();
    let mut pauses = Vec::new();
    for _ in 0..5 {
        script.deadline();
        script.stranger_has(ADDRESS);
        assert!(matches!(script.event(), Event::Lost { .. }));
        let lost = script.now;
        script.next(Kind::Decline);
        script.next(Kind::Discover);
        pauses.push(script.now.abs_diff(lost));
        script.answer(Kind::Offer).unwrap();
        script.next(Kind::Request);
        script.answer(Kind::Ack).unwrap();
        assert!(matches!(script.comes(), Event::Bound { .. }));
    }
    assert!(pauses.iter().all(|pause| *pause >= s(10)) && pauses[4] > s(30), "{pauses:?}");
}

#[test]
fn a_cable_pulled_while_the_address_is_still_asked_about_cuts_that_no_shorter() {
    let mut script = Script::bound();
    script.client.link_down();
    script.client.link_up(script.now);
    script.next(Kind::Request);
    script.answer(Kind::Ack).unwrap();
    assert!(matches!(script.event(), Event::Bound { renewed: true, .. }));
    script.announced();
    let sent: Vec<Packet> = script.arp.iter().map(|(_, packet)| *packet).collect();
    let (probe, announcement) = (Packet::probe(MAC, ADDRESS), Packet::announcement(MAC, ADDRESS));
    assert_eq!(sent, [probe, probe, probe, announcement, announcement]);
}

#[test]
fn an_address_that_another_host_has_is_declined_and_another_one_asked_for_ten_seconds_later() {
    for probes in 0..=2 {
        let mut script = Script::probing();
        while let Some(next) = script.deadline().filter(|_| script.arp.len() < probes) {
            script.now = next;
        }
        script.stranger_has(OTHER);
        assert!(matches!(script.output(), Output::Timeout(_)), "that is another address");
        script.stranger_has(ADDRESS);
        assert_eq!(script.event(), Event::Declined { address: prefix(), by: STRANGER });
        let declined = script.now;
        let (way, decline) = script.next(Kind::Decline);
        assert_eq!((script.now, way), (declined, EVERYBODY));
        // RFC 2131 table 5.
        assert_eq!((decline.options.requested, decline.options.server), (Some(ADDRESS), Some(SERVER)));
        assert_eq!((decline.ciaddr, decline.secs), (Ipv4Addr::UNSPECIFIED, 0));
        assert!(decline.options.parameters.is_empty() && decline.options.hostname.is_empty());
        script.stranger_has(ADDRESS);
        script.quiet(declined + s(10));
        let (_, discover) = script.next(Kind::Discover);
        assert!(script.now < declined + s(11));
        assert_eq!(discover.options.requested, None, "it is forgotten");
        script.answer_with(Kind::Offer, |m| m.yiaddr = OTHER).unwrap();
        script.next(Kind::Request);
        script.answer_with(Kind::Ack, |m| m.yiaddr = OTHER).unwrap();
        assert!(matches!(script.comes(), Event::Bound { .. }));
    }
}

#[test]
fn an_acknowledgement_twice_or_a_refusal_after_it_disturbs_no_probe() {
    let mut script = Script::probing();
    for kind in [Kind::Ack, Kind::Nak, Kind::Offer] {
        assert_eq!(script.answer(kind), Err(Dropped::Unexpected(kind)));
    }
    assert!(matches!(script.comes(), Event::Bound { .. }));
    assert_eq!(script.arp.iter().filter(|(_, packet)| *packet == Packet::probe(MAC, ADDRESS)).count(), 2);
}

#[test]
fn a_cable_pulled_while_probing_begins_again() {
    let mut script = Script::probing();
    script.now = script.deadline().unwrap();
    script.client.link_down();
    assert_eq!(script.deadline(), None);
    script.client.link_up(script.now);
    script.next(Kind::Discover);
}

#[test]
fn an_address_that_is_held_is_not_probed_again() {
    for plugged in [false, true] {
        let mut script = Script::bound();
        script.announced();
        script.arp.clear();
        if plugged {
            script.client.link_down();
            script.client.link_up(script.now);
        }
        script.next(Kind::Request);
        script.answer(Kind::Ack).unwrap();
        let Event::Bound { renewed: true, .. } = script.event() else { panic!("not at once") };
        script.announced();
        let expected = if plugged { vec![Packet::announcement(MAC, ADDRESS); 2] } else { vec![] };
        assert_eq!(script.arp.iter().map(|(_, packet)| *packet).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_lease_that_ends_while_it_is_probed_is_none() {
    let mut script = Script::discovering();
    script.answer(Kind::Offer).unwrap();
    script.next(Kind::Request);
    script.answer_with(Kind::Ack, |m| m.options.lease_time = Some(1)).unwrap();
    script.now += s(2);
    script.next(Kind::Discover);
}

#[test]
fn a_held_address_is_defended_once_and_given_up_the_second_time() {
    let mut script = Script::bound();
    script.announced();
    script.arp.clear();
    script.stranger_has(ADDRESS);
    assert_eq!(script.event(), Event::Disputed { address: prefix(), by: STRANGER });
    assert!(matches!(script.output(), Output::Timeout(_)));
    assert_eq!(script.arp, [(script.now, Packet::announcement(MAC, ADDRESS))]);

    // More than ten seconds later it is the first one again.
    script.now += s(11);
    script.stranger_has(ADDRESS);
    assert!(matches!(script.event(), Event::Disputed { .. }));
    script.now += s(1);
    script.stranger_has(ADDRESS);
    assert_eq!(script.event(), Event::Lost { address: prefix(), why: Loss::Conflict(STRANGER) });
    let lost = script.now;
    assert_eq!(script.next(Kind::Decline).1.options.requested, Some(ADDRESS));
    script.quiet(lost + s(10));
    script.next(Kind::Discover);
}

#[test]
fn an_adopted_address_is_defended_too_but_nobody_knows_whom_to_tell_of_its_loss() {
    let mut script = Script::new();
    script.client.adopt(prefix(), Some(script.now + s(100)));
    script.client.link_up(script.now);
    script.next(Kind::Request);
    script.stranger_has(ADDRESS);
    assert!(matches!(script.event(), Event::Disputed { .. }));
    script.stranger_has(ADDRESS);
    assert!(matches!(script.event(), Event::Lost { why: Loss::Conflict(_), .. }));
    let lost = script.now;
    script.quiet(lost + s(10));
    script.next(Kind::Discover);
}

#[test]
fn a_conflict_while_it_asks_for_any_address_takes_the_old_one_and_disturbs_no_question() {
    let mut script = Script::bound();
    script.client.link_down();
    script.client.link_up(script.now);
    script.next(Kind::Request);
    script.next(Kind::Request);
    let (_, discover) = script.next(Kind::Discover);
    script.stranger_has(ADDRESS);
    assert!(matches!(script.event(), Event::Disputed { .. }));
    script.stranger_has(ADDRESS);
    assert!(matches!(script.event(), Event::Lost { why: Loss::Conflict(_), .. }));
    assert_eq!(script.answer_with(Kind::Offer, |m| m.yiaddr = OTHER), Ok(()));
    let (_, request) = script.next(Kind::Request);
    assert_eq!(request.xid, discover.xid);
}

#[test]
fn a_declined_address_that_is_offered_again_is_looked_at_again() {
    // The server may not have heard the DECLINE, and the other host may be gone.
    let mut script = Script::probing();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        script.stranger_has(ADDRESS);
        assert!(matches!(script.event(), Event::Declined { .. }));
        let declined = script.now;
        script.next(Kind::Decline);
        script.next(Kind::Discover);
        pauses.push(script.now.abs_diff(declined));
        script.answer(Kind::Offer).unwrap();
        script.next(Kind::Request);
        script.answer(Kind::Ack).unwrap();
    }
    assert!(matches!(script.comes(), Event::Bound { .. }));
    assert!(pauses.iter().all(|pause| *pause >= s(10)), "{pauses:?}");
    assert!(pauses[3] > pauses[0], "ever more slowly: {pauses:?}");
}

#[test]
fn a_lease_is_given_back_to_its_server_and_nothing_follows() {
    let mut script = Script::bound();
    script.announced();
    let start = script.now;
    script.client.release(start);
    let (way, release) = script.next(Kind::Release);
    assert_eq!((script.now, way), (start, Way::Unicast { from: ADDRESS, to: SERVER }));
    // RFC 2131 table 5.
    assert_eq!((release.ciaddr, release.options.server), (ADDRESS, Some(SERVER)));
    assert_eq!((release.options.requested, release.secs), (None, 0));
    assert!(release.options.parameters.is_empty());
    assert!(!script.client.is_gone(), "the word may still be on its way");
    assert_eq!(script.comes(), Event::Lost { address: prefix(), why: Loss::Released });
    assert!(script.now <= start + ms(500) && script.client.is_gone());
    script.client.link_down();
    script.client.link_up(script.now);
    script.client.release(script.now);
    assert_eq!(script.output(), Output::Timeout(None));
    assert!(script.client.is_gone());
}

#[test]
fn without_a_lease_or_a_carrier_nothing_is_given_back() {
    let mut script = Script::discovering();
    script.client.release(script.now);
    assert!(script.client.is_gone());
    assert_eq!(script.output(), Output::Timeout(None));

    let mut script = Script::bound();
    script.client.link_down();
    script.client.release(script.now);
    assert_eq!(script.comes(), Event::Lost { address: prefix(), why: Loss::Released });

    let mut script = Script::new();
    script.client.adopt(prefix(), None);
    script.client.link_up(script.now);
    script.next(Kind::Request);
    script.client.release(script.now);
    assert_eq!(script.comes(), Event::Lost { address: prefix(), why: Loss::Released });
}

/// Replies that are nearly right, in any order, at any time, with a carrier
/// that comes and goes: never a panic, never more than twenty packets in any
/// minute, always a deadline unless there is nothing to wait for.
#[test]
fn whatever_comes_in_there_is_no_storm_and_always_a_next_step() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut script = Script::new();
        let mut sent: Vec<Moment> = Vec::new();
        let mut heard = 0;
        let mut carrier = false;
        let mut endless = false;
        for _ in 0..400 {
            match rng.below(10) {
                0 if carrier => {
                    script.client.link_down();
                    carrier = false;
                }
                0 | 1 => {
                    script.client.link_up(script.now);
                    carrier = true;
                }
                2..=6 if script.asked.is_some() => {
                    let kind = [Kind::Offer, Kind::Ack, Kind::Ack, Kind::Nak][usize::try_from(rng.below(4)).unwrap()];
                    let mut message = script.reply(kind);
                    match rng.below(12) {
                        0 => message.options.lease_time = Some(rng.next_u32()),
                        1 => message.options.lease_time = Some(1 + u32::try_from(rng.below(9)).unwrap()),
                        2 => message.yiaddr = Ipv4Addr::from_bits(rng.next_u32()),
                        3 => message.options.mask = Some(Ipv4Addr::from_bits(rng.next_u32())),
                        4 => (message.options.t1, message.options.t2) = (Some(rng.next_u32() % 10), Some(10)),
                        5 => message.options.server = Some(OTHER),
                        6 => message.options.lease_time = Some(u32::MAX),
                        _ => {}
                    }
                    let mut bytes = message.build();
                    if rng.below(4) == 0 {
                        let at = usize::try_from(rng.below(bytes.len().try_into().unwrap())).unwrap();
                        bytes[at] = rng.next_u32().to_le_bytes()[0];
                    }
                    let _ = script.client.handle(script.now, &bytes);
                }
                7 => script.stranger_has(ADDRESS),
                _ => {}
            }
            let mut rounds = 0;
            let deadline = loop {
                rounds += 1;
                assert!(rounds < 50, "seed {seed}: it does not come to rest");
                match script.output() {
                    Output::Timeout(at) => break at,
                    Output::Event(Event::Bound { until, .. }) => endless = until.is_none(),
                    Output::Event(_) | Output::Arp(_) => {}
                    Output::Transmit(transmit) => {
                        assert!(carrier, "seed {seed}: a packet without a carrier");
                        script.asked = Some(Message::parse(&transmit.payload).unwrap());
                        sent.push(script.now);
                        let minute = script.now.saturating_sub(s(60));
                        // One more, as a DECLINE does not wait.
                        assert!(sent.iter().filter(|at| **at > minute).count() <= 21, "seed {seed}: a storm");
                    }
                }
            };
            assert!(carrier || heard == script.arp.len(), "seed {seed}: ARP without a carrier");
            heard = script.arp.len();
            let minute = script.now.saturating_sub(s(60));
            let asked = script.arp.iter().rev().take_while(|(at, _)| *at > minute).count();
            assert!(asked <= 50, "seed {seed}: a storm of {asked} ARP packets");
            assert!(deadline.is_some() || !carrier || endless, "seed {seed}: stuck");
            assert!(deadline.is_none_or(|at| at > script.now), "seed {seed}: a deadline in the past");
            script.now = match rng.below(3) {
                0 => deadline.unwrap_or(script.now),
                1 => script.now + ms(rng.below(3_000)),
                _ => script.now + s(rng.below(200)),
            };
        }
    }
}
