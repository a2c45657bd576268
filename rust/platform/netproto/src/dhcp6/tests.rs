//! The client as scripts in time: what comes in, what goes out, and when
//! nothing does.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::client::{Client, Dropped, Event, Loss, Output};
use super::lease::LeaseError;
use super::wire::{FOR_EVER, IaAddress, IaNa, Kind, Message, Options, Status};
use crate::dhcp::client::Identity;
use crate::net::Mac;
use crate::pace::Moment;
use crate::rng::Rng;

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const IAID: u32 = 0x0012_3456;
const DUID: [u8; 10] = [0, 3, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56];
const SERVER: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const OTHER: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 2];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const ANOTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 8);

fn s(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Moment {
    Duration::from_millis(milliseconds)
}

fn status(code: u16) -> Status {
    Status { code, text: b"why".to_vec() }
}

/// A client, a clock, and what the client last asked.
struct Script {
    client: Client,
    now: Moment,
    asked: Option<Message>,
}

impl Script {
    fn new() -> Self {
        Self { client: Client::new(Identity::of("diskomator", MAC), 1), now: s(1000), asked: None }
    }

    /// With a link that routers manage, and the first SOLICIT sent.
    fn soliciting() -> Self {
        let mut script = Self::new();
        script.client.set_managed(script.now, true);
        script.client.link_up(script.now);
        script.next(Kind::Solicit);
        script
    }

    /// With a REQUEST sent.
    fn requesting() -> Self {
        let mut script = Self::soliciting();
        script.answer(Kind::Advertise).unwrap();
        script.next(Kind::Request);
        script
    }

    /// With a lease of an hour, to be renewed after a half and rebound after
    /// 48 minutes, that the kernel has found good.
    fn bound() -> Self {
        let mut script = Self::requesting();
        script.answer(Kind::Reply).unwrap();
        assert!(matches!(script.event(), Event::Bound { address: ADDRESS, renewed: false, .. }));
        script.client.settled(ADDRESS);
        script
    }

    /// Bound, and its T1 has come.
    fn renewing() -> Self {
        let mut script = Self::bound();
        script.next(Kind::Renew);
        script
    }

    fn output(&mut self) -> Output {
        self.client.poll(self.now)
    }

    fn event(&mut self) -> Event {
        match self.output() {
            Output::Event(event) => event,
            other => panic!("no event at {:?}, but {other:?}", self.now),
        }
    }

    /// Goes on to the next event, with nothing before it.
    fn comes(&mut self) -> Event {
        match self.wait() {
            Output::Event(event) => event,
            other => panic!("no event comes, but {other:?}"),
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

    /// Goes on to the next message, which is of this kind.
    fn next(&mut self, kind: Kind) -> Message {
        match self.wait() {
            Output::Transmit(payload) => {
                let message = Message::parse(&payload).unwrap();
                assert_eq!(message.kind, kind);
                assert_eq!(message.options.client, DUID, "each message says whose it is");
                self.asked = Some(message.clone());
                message
            }
            other => panic!("no message comes, but {other:?}"),
        }
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
        let ia = IaNa {
            iaid: IAID,
            t1: 0,
            t2: 0,
            addresses: vec![IaAddress { ip: ADDRESS, preferred: 3600, valid: 3600, status: None }],
            status: None,
        };
        let options = Options { client: DUID.to_vec(), server: SERVER.to_vec(), ias: vec![ia], ..Options::default() };
        Message { kind, xid: asked.xid, options }
    }

    fn answer(&mut self, kind: Kind) -> Result<(), Dropped> {
        self.answer_with(kind, |_| {})
    }

    fn answer_with(&mut self, kind: Kind, change: impl FnOnce(&mut Options)) -> Result<(), Dropped> {
        let mut message = self.reply(kind);
        change(&mut message.options);
        self.client.handle(self.now, &message.build())
    }

    /// The times of the next `count` messages, which are all of this kind.
    fn times(&mut self, kind: Kind, count: usize) -> Vec<Moment> {
        (0..count)
            .map(|_| {
                self.next(kind);
                self.now
            })
            .collect()
    }
}

/// The pauses between times, in tenths of a second.
fn pauses(times: &[Moment]) -> Vec<u128> {
    times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]).as_millis() / 100).collect()
}

fn assert_pauses(times: &[Moment], seconds: &[(u128, u128)]) {
    let pauses = pauses(times);
    assert_eq!(pauses.len(), seconds.len());
    for (pause, (least, most)) in pauses.iter().zip(seconds) {
        assert!((least * 10..=most * 10).contains(pause), "{pauses:?}");
    }
}

#[test]
fn nothing_is_sent_unless_routers_ask_for_it_and_the_link_is_there() {
    let mut script = Script::new();
    assert_eq!(script.output(), Output::Timeout(None));
    script.client.link_up(script.now);
    script.now += s(3600);
    assert_eq!(script.output(), Output::Timeout(None), "addresses are the routers' own affair");
    script.client.link_down();
    script.client.set_managed(script.now, true);
    assert_eq!(script.output(), Output::Timeout(None));
    script.client.link_up(script.now);
    script.next(Kind::Solicit);
    script.client.link_down();
    assert_eq!(script.output(), Output::Timeout(None));
}

#[test]
fn from_solicit_to_an_address() {
    let mut script = Script::new();
    script.client.link_up(script.now);
    script.now += s(60);
    let asked_for = script.now;
    script.client.set_managed(script.now, true);
    let solicit = script.next(Kind::Solicit);
    assert!(script.now < asked_for + s(1), "SOL_MAX_DELAY");
    assert_eq!(solicit.options.ias, [IaNa { iaid: IAID, t1: 0, t2: 0, addresses: vec![], status: None }]);
    assert_eq!(solicit.options.elapsed, Some(0));
    assert_eq!(solicit.options.requested, [82], "MUST ask for SOL_MAX_RT");
    assert_eq!(solicit.options.hostname, "diskomator-123456");
    assert!(solicit.options.rapid_commit && solicit.options.server.is_empty());
    let sent = script.now;
    script.answer(Kind::Advertise).unwrap();
    let request = script.next(Kind::Request);
    assert!((s(1)..=ms(1100)).contains(&script.now.saturating_sub(sent)), "others have the time of one RT to answer");
    assert_ne!(request.xid, solicit.xid);
    assert_eq!(request.options.server, SERVER);
    assert_eq!(request.options.ias[0].addresses[0].ip, ADDRESS);
    let start = script.now;
    script.answer(Kind::Reply).unwrap();
    let end = Some(start + s(3600));
    assert_eq!(script.event(), Event::Bound { address: ADDRESS, preferred: end, until: end, renewed: false });
    script.client.settled(ADDRESS);
    script.quiet(start + s(1800));
}

#[test]
fn a_server_that_commits_at_once_saves_a_second() {
    let mut script = Script::soliciting();
    assert_eq!(script.answer(Kind::Reply), Err(Dropped::Unexpected(Kind::Reply)), "not unless it says so");
    let sent = script.now;
    script.answer_with(Kind::Reply, |options| options.rapid_commit = true).unwrap();
    assert!(matches!(script.event(), Event::Bound { address: ADDRESS, .. }));
    assert_eq!(script.now, sent);
}

#[test]
fn the_server_with_the_highest_preference_is_asked() {
    let mut script = Script::soliciting();
    script.answer_with(Kind::Advertise, |options| options.preference = Some(3)).unwrap();
    script
        .answer_with(Kind::Advertise, |options| {
            options.server = OTHER.to_vec();
            options.preference = Some(7);
        })
        .unwrap();
    script.answer_with(Kind::Advertise, |options| options.server = vec![0, 2, 3]).unwrap();
    assert_eq!(script.next(Kind::Request).options.server, OTHER);
}

#[test]
fn the_best_server_and_one_that_comes_late_are_asked_at_once() {
    let mut script = Script::soliciting();
    let sent = script.now;
    script.answer_with(Kind::Advertise, |options| options.preference = Some(255)).unwrap();
    script.next(Kind::Request);
    assert_eq!(script.now, sent);

    let mut script = Script::soliciting();
    let again = script.next(Kind::Solicit);
    assert!(again.options.elapsed.unwrap() >= 100, "{:?}", again.options.elapsed);
    let sent = script.now;
    script.answer(Kind::Advertise).unwrap();
    script.next(Kind::Request);
    assert_eq!(script.now, sent);
}

#[test]
fn without_a_server_the_questions_become_rare_and_that_is_said_once() {
    let mut script = Script::soliciting();
    let first = script.asked.clone().unwrap();
    let mut times = vec![script.now];
    times.extend(script.times(Kind::Solicit, 3));
    assert_eq!(script.event(), Event::Silence);
    times.extend(script.times(Kind::Solicit, 12));
    // 1, 2, 4, ... up to an hour, each a tenth more or less than twice the last.
    let mut least = 1.0_f64;
    let mut most = 1.1_f64;
    for pair in times.windows(2) {
        let pause = pair[1].saturating_sub(pair[0]).as_secs_f64();
        assert!((least..=most).contains(&pause), "{pause} is not in {least}..={most}");
        least = (least * 1.9).min(3240.0);
        most = (most * 2.1).min(3960.0);
    }
    assert!(times[15].saturating_sub(times[14]) >= s(3240), "{:?}", pauses(&times));
    let last = script.asked.clone().unwrap();
    assert_eq!(last.xid, first.xid, "a repeated question is the same");
    assert_eq!(last.options.elapsed, Some(0xffff));
}

#[test]
fn servers_say_how_rare() {
    let mut script = Script::soliciting();
    // RFC 8415 section 18.2.9: even if it gives nothing else.
    let refused = script.answer_with(Kind::Advertise, |options| {
        options.sol_max_rt = Some(60);
        options.ias.clear();
        options.status = Some(status(Status::NO_ADDRS_AVAIL));
    });
    assert!(matches!(refused, Err(Dropped::Refused(LeaseError::Status(_)))), "{refused:?}");
    assert!(matches!(script.event(), Event::Refused(LeaseError::Status(Status { code: 2, .. }))));
    let _ = script.answer_with(Kind::Advertise, |options| options.sol_max_rt = Some(59));
    let mut script = Script::soliciting();
    let _ = script.answer_with(Kind::Advertise, |options| {
        options.sol_max_rt = Some(60);
        options.ias.clear();
    });
    script.event();
    let times = script.times(Kind::Solicit, 12);
    let last = times[11].saturating_sub(times[10]);
    assert!((s(54)..=s(66)).contains(&last), "{last:?}");
}

#[test]
fn what_is_not_for_us_or_not_asked_for_is_dropped() {
    let mut script = Script::soliciting();
    let mut wrong = script.reply(Kind::Advertise);
    wrong.xid ^= 1;
    assert_eq!(script.client.handle(script.now, &wrong.build()), Err(Dropped::WrongXid(wrong.xid)));
    assert_eq!(script.answer_with(Kind::Advertise, |options| options.client = OTHER.to_vec()), Err(Dropped::NotOurs));
    assert_eq!(script.answer_with(Kind::Advertise, |options| options.client.clear()), Err(Dropped::NotOurs));
    assert_eq!(script.answer_with(Kind::Advertise, |options| options.server.clear()), Err(Dropped::NoServer));
    assert_eq!(script.answer(Kind::Solicit), Err(Dropped::Unexpected(Kind::Solicit)));
    assert!(matches!(script.client.handle(script.now, &[7]), Err(Dropped::Wire(_))));
    let other_ia = script.answer_with(Kind::Advertise, |options| options.ias[0].iaid = 1);
    assert_eq!(other_ia, Err(Dropped::Refused(LeaseError::NoIa)));

    let mut script = Script::requesting();
    let wrong = script.answer_with(Kind::Reply, |options| options.server = OTHER.to_vec());
    assert_eq!(wrong, Err(Dropped::WrongServer));
    script.answer(Kind::Reply).unwrap();
    assert_eq!(script.answer(Kind::Reply), Err(Dropped::Unexpected(Kind::Reply)), "a duplicate");
    script.event();
    assert_eq!(script.answer(Kind::Advertise), Err(Dropped::Unexpected(Kind::Advertise)));
}

#[test]
fn a_server_that_falls_silent_is_asked_ten_times_and_then_comes_last() {
    let mut script = Script::requesting();
    let mut times = vec![script.now];
    times.extend(script.times(Kind::Request, 9));
    assert_pauses(&times, &[(1, 2), (1, 3), (3, 5), (6, 10), (13, 20), (26, 34), (26, 34), (26, 34), (26, 34)]);
    script.next(Kind::Solicit);
    // It may advertise as it likes.
    script.answer_with(Kind::Advertise, |options| options.preference = Some(255)).unwrap();
    script.answer_with(Kind::Advertise, |options| options.server = OTHER.to_vec()).unwrap();
    assert_eq!(script.next(Kind::Request).options.server, OTHER);
    // If it is the only one, it is the best.
    let mut script = Script::requesting();
    script.times(Kind::Request, 9);
    script.next(Kind::Solicit);
    script.answer(Kind::Advertise).unwrap();
    assert_eq!(script.next(Kind::Request).options.server, SERVER);
}

#[test]
fn a_server_that_has_nothing_after_all_is_left_alone_for_longer_and_longer() {
    let mut script = Script::soliciting();
    let mut starts = Vec::new();
    for _ in 0..6 {
        starts.push(script.now);
        script.answer_with(Kind::Advertise, |options| options.preference = Some(255)).unwrap();
        script.next(Kind::Request);
        let code = Status::NO_ADDRS_AVAIL;
        assert!(script.answer_with(Kind::Reply, |options| options.ias[0].status = Some(status(code))).is_err());
        if starts.len() == 1 {
            assert!(matches!(script.event(), Event::Refused(LeaseError::Status(Status { code: 2, .. }))));
        }
        script.next(Kind::Solicit);
    }
    assert_pauses(&starts, &[(0, 2), (4, 6), (8, 10), (16, 18), (32, 34)]);
}

#[test]
fn an_overloaded_server_is_asked_on() {
    let mut script = Script::requesting();
    let answer = script.answer_with(Kind::Reply, |options| options.status = Some(status(Status::UNSPEC_FAIL)));
    assert!(answer.is_err());
    let sent = script.now;
    script.next(Kind::Request);
    assert!(script.now >= sent + s(1));
    script.answer(Kind::Reply).unwrap();
    assert!(matches!(script.event(), Event::Bound { .. }));
}

#[test]
fn an_address_is_renewed_at_t1_by_its_server() {
    let mut script = Script::bound();
    let start = script.now;
    let renew = script.next(Kind::Renew);
    assert_eq!(script.now, start + s(1800));
    assert_eq!(renew.options.server, SERVER);
    assert_eq!(renew.options.ias[0].addresses[0].ip, ADDRESS);
    let wrong = script.answer_with(Kind::Reply, |options| options.server = OTHER.to_vec());
    assert_eq!(wrong, Err(Dropped::WrongServer));
    script.answer(Kind::Reply).unwrap();
    let end = Some(script.now + s(3600));
    assert_eq!(script.event(), Event::Bound { address: ADDRESS, preferred: end, until: end, renewed: true });
    script.quiet(start + s(3600));
}

#[test]
fn a_lost_answer_costs_ten_seconds() {
    let mut script = Script::renewing();
    let mut times = vec![script.now];
    let first = script.asked.clone().unwrap().xid;
    times.extend(script.times(Kind::Renew, 6));
    assert_pauses(&times, &[(10, 11), (19, 24), (36, 49), (70, 102), (130, 214), (250, 450)]);
    assert_eq!(script.asked.clone().unwrap().xid, first);
    script.answer(Kind::Reply).unwrap();
    assert!(matches!(script.event(), Event::Bound { renewed: true, .. }));
}

#[test]
fn after_t2_any_server_may_renew_and_without_one_the_address_goes() {
    let mut script = Script::renewing();
    let t1 = script.now;
    let rebind = loop {
        if let Output::Transmit(payload) = script.wait() {
            let message = Message::parse(&payload).unwrap();
            if message.kind == Kind::Rebind {
                break message;
            }
            assert_eq!(message.kind, Kind::Renew);
        }
    };
    assert_eq!(script.now, t1 + s(1080));
    assert!(rebind.options.server.is_empty());
    script.asked = Some(rebind);
    script.answer_with(Kind::Reply, |options| options.server = OTHER.to_vec()).unwrap();
    assert!(matches!(script.event(), Event::Bound { renewed: true, .. }));
    assert_eq!(script.next(Kind::Renew).options.server, OTHER);
    let end = t1 + s(1080) + s(3600);
    loop {
        match script.wait() {
            Output::Event(event) => {
                assert_eq!(event, Event::Lost { address: ADDRESS, why: Loss::Expired });
                break;
            }
            Output::Transmit(_) => {}
            Output::Timeout(at) => panic!("nothing until {at:?}"),
        }
    }
    assert_eq!(script.now, end);
    script.next(Kind::Solicit);
}

#[test]
fn a_server_that_forgot_the_lease_is_asked_for_it_again() {
    let mut script = Script::renewing();
    script.answer_with(Kind::Reply, |options| options.ias[0].status = Some(status(Status::NO_BINDING))).unwrap();
    let request = script.next(Kind::Request);
    assert_eq!(request.options.ias[0].addresses[0].ip, ADDRESS);
    script.answer(Kind::Reply).unwrap();
    assert!(matches!(script.event(), Event::Bound { address: ADDRESS, renewed: true, .. }), "nothing broke");
}

#[test]
fn an_address_that_is_taken_back_goes_and_another_one_comes_in_its_place() {
    let mut script = Script::renewing();
    script
        .answer_with(Kind::Reply, |options| {
            let ia = &mut options.ias[0];
            ia.addresses.push(IaAddress { ip: ANOTHER, ..ia.addresses[0].clone() });
            (ia.addresses[0].preferred, ia.addresses[0].valid) = (0, 0);
        })
        .unwrap();
    assert!(matches!(script.event(), Event::Bound { address: ANOTHER, renewed: false, .. }));

    let mut script = Script::renewing();
    script
        .answer_with(Kind::Reply, |options| {
            let address = &mut options.ias[0].addresses[0];
            (address.preferred, address.valid) = (0, 0);
        })
        .unwrap();
    assert_eq!(script.event(), Event::Lost { address: ADDRESS, why: Loss::Refused(Vec::new()) });
    script.next(Kind::Solicit);
}

#[test]
fn an_answer_that_says_nothing_about_the_address_changes_nothing() {
    let mut script = Script::renewing();
    assert!(script.answer_with(Kind::Reply, |options| options.ias.clear()).is_err());
    assert!(script.answer_with(Kind::Reply, |options| options.status = Some(status(5))).is_err(), "UseMulticast");
    script.next(Kind::Renew);
}

#[test]
fn a_cable_plugged_in_again_asks_whether_the_address_is_right_there() {
    let mut script = Script::bound();
    let start = script.now;
    script.client.link_down();
    script.quiet(start + s(100));
    script.client.link_up(script.now);
    let confirm = script.next(Kind::Confirm);
    assert!(script.now <= start + s(101));
    assert_eq!(confirm.options.ias[0].addresses[0].ip, ADDRESS);
    assert!(confirm.options.server.is_empty() && confirm.options.requested.is_empty());
    script.answer_with(Kind::Reply, |options| options.status = Some(status(Status::SUCCESS))).unwrap();
    // Said again, as the kernel may have lost it.
    let end = Some(start + s(3600));
    assert_eq!(script.event(), Event::Bound { address: ADDRESS, preferred: end, until: end, renewed: true });
    script.quiet(start + s(1800));
    script.next(Kind::Renew);
}

#[test]
fn a_lease_that_ends_as_it_is_confirmed_is_over() {
    let mut script = Script::bound();
    script.now += s(3595);
    script.client.link_down();
    script.client.link_up(script.now);
    script.next(Kind::Confirm);
    script.now += s(5);
    let answer = script.answer_with(Kind::Reply, |options| options.status = Some(status(Status::SUCCESS)));
    assert_eq!(answer, Err(Dropped::Unexpected(Kind::Reply)));
    assert_eq!(script.event(), Event::Lost { address: ADDRESS, why: Loss::Expired });
}

#[test]
fn on_another_link_the_address_goes_at_once() {
    let mut script = Script::bound();
    script.client.link_down();
    script.client.link_up(script.now);
    script.next(Kind::Confirm);
    script.answer_with(Kind::Reply, |options| options.status = Some(status(Status::NOT_ON_LINK))).unwrap();
    assert_eq!(script.event(), Event::Lost { address: ADDRESS, why: Loss::Refused(b"why".to_vec()) });
    assert!(script.next(Kind::Solicit).options.ias[0].addresses.is_empty());
}

#[test]
fn where_nobody_can_tell_the_address_stays_until_its_end() {
    let mut script = Script::bound();
    let start = script.now;
    script.client.link_down();
    script.client.link_up(script.now);
    script.next(Kind::Confirm);
    let asked = script.now;
    script.times(Kind::Confirm, 3);
    assert!(matches!(script.comes(), Event::Bound { renewed: true, .. }));
    assert_eq!(script.now, asked + s(10), "CNF_MAX_RD");
    script.quiet(start + s(1800));
}

#[test]
fn time_passes_while_the_cable_is_out() {
    let mut script = Script::bound();
    let start = script.now;
    script.client.link_down();
    script.now = start + s(3000);
    script.client.link_up(script.now);
    script.next(Kind::Confirm);
    script.answer(Kind::Reply).unwrap();
    script.event();
    script.next(Kind::Rebind);
    script.client.link_down();
    assert_eq!(script.deadline(), Some(start + s(3600)));
    script.now = start + s(3600);
    assert_eq!(script.event(), Event::Lost { address: ADDRESS, why: Loss::Expired });
    script.client.link_up(script.now);
    script.next(Kind::Solicit);
}

#[test]
fn an_address_of_an_earlier_run_is_confirmed_and_then_extended() {
    let mut script = Script::new();
    let end = script.now + s(500);
    script.client.adopt(ADDRESS, Some(end));
    script.client.set_managed(script.now, true);
    script.client.link_up(script.now);
    script.next(Kind::Confirm);
    script.answer_with(Kind::Reply, |options| options.ias.clear()).unwrap();
    let rebind = script.next(Kind::Rebind);
    assert_eq!(rebind.options.ias[0].addresses[0].ip, ADDRESS);
    script.answer(Kind::Reply).unwrap();
    assert!(matches!(script.event(), Event::Bound { address: ADDRESS, renewed: true, .. }));
    assert_eq!(script.next(Kind::Renew).options.server, SERVER);

    // And where nobody answers, it ends when the kernel ends it.
    let mut script = Script::new();
    script.client.adopt(ADDRESS, Some(end));
    script.client.set_managed(script.now, true);
    script.client.link_up(script.now);
    while let Output::Transmit(_) = script.wait() {}
    assert_eq!(script.now, end);
}

#[test]
fn another_hosts_address_is_declined_and_another_one_asked_for() {
    let mut script = Script::requesting();
    script.answer(Kind::Reply).unwrap();
    script.event();
    script.client.duplicate(script.now, ANOTHER);
    script.quiet(script.now + s(1));
    script.client.duplicate(script.now, ADDRESS);
    assert_eq!(script.event(), Event::Declined(ADDRESS));
    let decline = script.next(Kind::Decline);
    assert_eq!(decline.options.server, SERVER);
    assert_eq!(decline.options.ias[0].addresses[0].ip, ADDRESS);
    let sent = script.now;
    // The answer is lost.
    assert_eq!(script.next(Kind::Decline).xid, decline.xid);
    script.answer_with(Kind::Reply, |options| options.ias.clear()).unwrap();
    script.next(Kind::Solicit);
    assert!(script.now < sent + s(4));
    script.answer_with(Kind::Advertise, |options| options.ias[0].addresses[0].ip = ANOTHER).unwrap();
    script.next(Kind::Request);
    script.answer_with(Kind::Reply, |options| options.ias[0].addresses[0].ip = ANOTHER).unwrap();
    assert!(matches!(script.event(), Event::Bound { address: ANOTHER, renewed: false, .. }));
}

#[test]
fn a_server_that_hears_no_decline_is_told_four_times() {
    let mut script = Script::requesting();
    script.answer(Kind::Reply).unwrap();
    script.event();
    script.client.duplicate(script.now, ADDRESS);
    script.event();
    let times = script.times(Kind::Decline, 4);
    assert_pauses(&times, &[(1, 2), (1, 3), (3, 5)]);
    script.next(Kind::Solicit);
}

#[test]
fn the_kernel_looks_for_duplicates_once() {
    let mut script = Script::bound();
    script.client.duplicate(script.now, ADDRESS);
    script.quiet(script.now + s(100));
}

#[test]
fn a_server_that_gives_what_others_have_does_not_make_us_hurry() {
    let mut script = Script::soliciting();
    let mut starts = Vec::new();
    for _ in 0..6 {
        starts.push(script.now);
        script.answer_with(Kind::Reply, |options| options.rapid_commit = true).unwrap();
        script.event();
        script.client.duplicate(script.now, ADDRESS);
        script.event();
        script.next(Kind::Decline);
        script.answer(Kind::Reply).unwrap();
        script.next(Kind::Solicit);
    }
    assert_pauses(&starts, &[(0, 1), (4, 5), (8, 9), (16, 17), (32, 33)]);
}

#[test]
fn when_routers_want_no_dhcp_any_more_the_lease_runs_out() {
    let mut script = Script::bound();
    let start = script.now;
    script.client.set_managed(script.now, false);
    script.quiet(start + s(3600));
    assert_eq!(script.event(), Event::Lost { address: ADDRESS, why: Loss::Expired });
    script.now += s(100_000);
    assert_eq!(script.output(), Output::Timeout(None));
}

#[test]
fn two_routers_that_do_not_agree_cause_no_traffic() {
    let mut script = Script::bound();
    let start = script.now;
    for _ in 0..100 {
        script.client.set_managed(script.now, false);
        script.quiet(script.now + s(5));
        script.client.set_managed(script.now, true);
        script.quiet(script.now + s(5));
    }
    script.quiet(start + s(1800));
    script.next(Kind::Renew);
    script.client.set_managed(script.now, false);
    assert_eq!(script.answer(Kind::Reply), Err(Dropped::Unexpected(Kind::Reply)));
    script.client.set_managed(script.now, true);
    script.answer(Kind::Reply).unwrap();
}

#[test]
fn an_address_is_given_back() {
    let mut script = Script::bound();
    script.client.release(script.now);
    let release = script.next(Kind::Release);
    assert_eq!(release.options.server, SERVER);
    assert_eq!(release.options.ias[0].addresses[0].ip, ADDRESS);
    assert!(!script.client.is_gone());
    assert_eq!(script.event(), Event::Lost { address: ADDRESS, why: Loss::Released });
    assert!(script.client.is_gone());
    script.client.link_up(script.now);
    script.now += s(3600);
    assert_eq!(script.output(), Output::Timeout(None));

    // Without a cable nobody is told.
    let mut script = Script::bound();
    script.client.link_down();
    script.client.release(script.now);
    assert_eq!(script.event(), Event::Lost { address: ADDRESS, why: Loss::Released });
    assert!(script.client.is_gone());

    // An address that never was needs no release.
    let mut script = Script::soliciting();
    script.client.release(script.now);
    assert!(script.client.is_gone());
}

#[test]
fn an_address_for_ever_is_never_renewed() {
    let mut script = Script::requesting();
    script
        .answer_with(Kind::Reply, |options| {
            let address = &mut options.ias[0].addresses[0];
            (address.preferred, address.valid) = (FOR_EVER, FOR_EVER);
        })
        .unwrap();
    assert_eq!(script.event(), Event::Bound { address: ADDRESS, preferred: None, until: None, renewed: false });
    assert_eq!(script.output(), Output::Timeout(None));
}

/// Any packets, in any order: time goes on, there is always a next
/// time or a reason to rest, and nobody is flooded.
#[test]
fn no_server_and_no_link_can_make_it_stop_or_hurry() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut script =
            Script { client: Client::new(Identity::of("diskomator", MAC), seed), now: s(1000), asked: None };
        let mut sent = Vec::new();
        let mut held = None;
        let mut is_up = false;
        let mut is_managed = false;
        for _ in 0..400 {
            match script.output() {
                Output::Timeout(at) => {
                    assert!(at.is_none_or(|at| at > script.now), "a deadline in the past, with seed {seed}");
                    if is_up && is_managed {
                        let rests = held.is_some_and(|(_, until): (Ipv6Addr, Option<Moment>)| until.is_none());
                        assert!(at.is_some() || rests, "nothing to wait for, with seed {seed}");
                    }
                    let jump = ms(rng.below(20_000));
                    script.now = match at {
                        Some(at) if rng.below(3) > 0 => at.min(script.now + s(7200)),
                        _ => script.now + jump,
                    };
                }
                Output::Transmit(payload) => {
                    sent.push(script.now);
                    script.asked = Some(Message::parse(&payload).unwrap());
                }
                Output::Event(Event::Bound { address, until, .. }) => held = Some((address, until)),
                Output::Event(Event::Lost { .. } | Event::Declined(_)) => held = None,
                Output::Event(Event::Refused(_) | Event::Silence | Event::Odd(_)) => {}
            }
            match rng.below(12) {
                0 if rng.below(4) == 0 => {
                    is_up = false;
                    script.client.link_down();
                }
                1 | 2 => {
                    is_up = true;
                    script.client.link_up(script.now);
                }
                3 => {
                    is_managed = rng.below(8) > 0;
                    script.client.set_managed(script.now, is_managed);
                }
                4 => {
                    if let Some((address, _)) = held {
                        script.client.settled(address);
                    }
                }
                5 => {
                    let now = script.now;
                    if let Some((address, _)) = held {
                        script.client.duplicate(now, address);
                    }
                }
                6..=10 if script.asked.is_some() => {
                    let kind = if rng.below(2) == 0 { Kind::Advertise } else { Kind::Reply };
                    let _ = script.answer_with(kind, |options| {
                        options.rapid_commit = rng.below(2) == 0;
                        options.preference = (rng.below(3) == 0).then_some(255);
                        options.status = (rng.below(5) == 0).then(|| status(u16::try_from(rng.below(7)).unwrap()));
                        let ia = &mut options.ias[0];
                        ia.status = (rng.below(5) == 0).then(|| status(u16::try_from(rng.below(7)).unwrap()));
                        let mut seconds = || [0, 1, 2, 60, 3600, FOR_EVER][usize::try_from(rng.below(6)).unwrap()];
                        (ia.t1, ia.t2) = (seconds(), seconds());
                        let address = &mut ia.addresses[0];
                        (address.preferred, address.valid) = (seconds(), seconds());
                        address.ip = [ADDRESS, ANOTHER][usize::try_from(rng.below(2)).unwrap()];
                    });
                }
                _ => {}
            }
        }
        for window in sent.windows(22) {
            assert!(window[21].saturating_sub(window[0]) >= s(60), "22 messages within a minute, with seed {seed}");
        }
    }
}
