//! The responder as scripts in time: what comes in, what goes out, and when
//! nothing does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::responder::{Dropped, Event, Family, Output, Responder, Transmit};
use super::wire::{INTERNET, Message, Name, Question, Record, kind};
use super::zone::Service;
use crate::pace::Moment;
use crate::rng::Rng;

const BASE: &str = "diskomator-123456";
const SERVICE: Service =
    Service { kind: ["_nvme-disc", "_tcp"], port: 8009, txt: &["p=tcp", "nqn=nqn.2014-08.org.nvmexpress.discovery"] };
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9));
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));

fn s(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Moment {
    Duration::from_millis(milliseconds)
}

fn host(label: &str) -> Name {
    Name::new([label, "local"])
}

fn service() -> Name {
    Name::new(["_nvme-disc", "_tcp", "local"])
}

fn instance(label: &str) -> Name {
    Name::new([label, "_nvme-disc", "_tcp", "local"])
}

fn services() -> Name {
    Name::new(["_services", "_dns-sd", "_udp", "local"])
}

/// A host on the link, at the port of multicast DNS.
fn peer() -> SocketAddr {
    SocketAddr::new(ELSEWHERE, 5353)
}

fn record(name: Name, kind: u16, ttl: u32, data: &[u8]) -> Record {
    Record { name, kind, class: INTERNET, is_flush: false, ttl, data: data.to_vec() }
}

/// Another machine's address under our name.
fn foreign(last: u8) -> Record {
    record(host(BASE), kind::A, 120, &[192, 0, 2, last])
}

fn question(name: Name, kind: u16) -> Message {
    let question = Question { name, kind, class: INTERNET, wants_unicast: false };
    Message { questions: vec![question], ..Message::default() }
}

fn alone(mut query: Message) -> Message {
    for question in &mut query.questions {
        question.wants_unicast = true;
    }
    query
}

fn response(answers: Vec<Record>) -> Message {
    Message { is_response: true, answers, ..Message::default() }
}

/// The types of records, in their order.
fn kinds(records: &[Record]) -> Vec<u16> {
    records.iter().map(|record| record.kind).collect()
}

/// A responder and a clock.
struct Script {
    responder: Responder,
    now: Moment,
}

impl Script {
    fn new(seed: u64) -> Self {
        Self { responder: Responder::new(Family::V4, SERVICE, BASE, 1, seed), now: s(1000) }
    }

    /// With addresses, and about to probe.
    fn probing() -> Self {
        let mut script = Self::new(1);
        script.set(&[V4, V6]);
        script
    }

    /// Probed, announced, and forgotten by everybody.
    fn established() -> Self {
        let mut script = Self::probing();
        script.settle();
        script.now += s(5000);
        script
    }

    fn set(&mut self, addresses: &[IpAddr]) {
        self.responder.set_addresses(self.now, addresses, &addresses.into());
    }

    /// Goes on to where nothing is left to do.
    fn settle(&mut self) -> Vec<Message> {
        let mut said = Vec::new();
        while let Some(output) = self.wait() {
            if let Output::Transmit(transmit) = output {
                said.push(Message::parse(&transmit.payload).unwrap());
            }
        }
        said
    }

    fn hear(&mut self, message: &Message) {
        self.hear_from(message, peer()).unwrap();
    }

    fn hear_from(&mut self, message: &Message, from: SocketAddr) -> Result<(), Dropped> {
        self.responder.handle(self.now, &message.build(), from)
    }

    /// Goes on to the next thing that happens; `None` if nothing ever will.
    fn wait(&mut self) -> Option<Output> {
        loop {
            match self.responder.poll(self.now) {
                Output::Timeout(at) => {
                    let at = at?;
                    assert!(at > self.now, "a deadline in the past");
                    self.now = at;
                }
                other => return Some(other),
            }
        }
    }

    fn transmit(&mut self) -> (Option<SocketAddr>, Message) {
        loop {
            match self.wait() {
                Some(Output::Transmit(Transmit { to, payload })) => {
                    assert!(payload.len() <= 1400, "{} bytes", payload.len());
                    return (to, Message::parse(&payload).unwrap());
                }
                Some(_) => {}
                None => panic!("nothing is said"),
            }
        }
    }

    /// The next message, which is for everybody.
    fn next(&mut self) -> Message {
        let (to, message) = self.transmit();
        assert_eq!((to, message.id), (None, 0));
        message
    }

    fn next_probe(&mut self) -> Message {
        let message = self.next();
        assert!(!message.is_response && !message.authorities.is_empty(), "{message:?}");
        message
    }

    fn event(&mut self) -> Event {
        match self.wait() {
            Some(Output::Event(event)) => event,
            other => panic!("no event, but {other:?}"),
        }
    }

    /// Nothing more happens, ever.
    fn silence(&mut self) {
        assert_eq!(self.responder.poll(self.now), Output::Timeout(None));
    }
}

#[test]
fn nothing_is_said_without_an_address_to_say_it_from() {
    let mut script = Script::new(1);
    script.silence();
    script.set(&[V6]);
    script.silence();
    assert_eq!(script.hear_from(&question(host(BASE), kind::A), peer()), Err(Dropped::Off));
}

#[test]
fn three_probes_then_three_announcements_then_silence() {
    let mut delays = Vec::new();
    for seed in 0..50 {
        let mut script = Script::new(seed);
        script.set(&[V4, V6]);
        let probe = script.next_probe();
        delays.push(script.now.abs_diff(s(1000)));
        let first = script.now;
        assert_eq!(kinds(&probe.authorities), [kind::SRV, kind::TXT, kind::A, kind::AAAA]);
        let asked: Vec<_> = probe.questions.iter().map(|question| (&question.name, question.kind)).collect();
        assert_eq!(asked, [(&host(BASE), kind::ANY), (&instance(BASE), kind::ANY)]);
        assert!(probe.authorities.iter().all(|record| !record.is_flush));
        for n in 1..3 {
            script.next_probe();
            assert_eq!(script.now, first + ms(250) * n);
        }
        assert_eq!(script.event(), Event::Published { label: BASE.into() });
        assert_eq!(script.now, first + ms(750));
        for seconds in [0, 1, 3] {
            let news = script.next();
            assert_eq!(script.now, first + ms(750) + s(seconds));
            assert!(news.is_response);
            let said: Vec<_> = news.answers.iter().map(|record| (record.kind, record.ttl, record.is_flush)).collect();
            let (ptr, other) = ((kind::PTR, 4500, false), (kind::TXT, 4500, true));
            let host = [kind::SRV, kind::A, kind::AAAA].map(|kind| (kind, 120, true));
            assert_eq!(said, [ptr, ptr, host[0], other, host[1], host[2]]);
        }
        script.silence();
    }
    assert!(delays.iter().all(|delay| *delay < ms(250)));
    assert!(delays.iter().max().unwrap().abs_diff(*delays.iter().min().unwrap()) > ms(200), "they are spread");
}

#[test]
fn the_service_is_what_nvme_hosts_look_for() {
    let mut script = Script::probing();
    let said = script.settle();
    let answers = &said.last().unwrap().answers;
    assert_eq!((&answers[0].name, &answers[0].data[..]), (&services(), service().bytes()));
    assert_eq!((&answers[1].name, &answers[1].data[..]), (&service(), instance(BASE).bytes()));
    assert_eq!(answers[2].data, [&[0, 0, 0, 0, 0x1f, 0x49], host(BASE).bytes()].concat());
    assert_eq!(answers[3].data, b"\x05p=tcp\x28nqn=nqn.2014-08.org.nvmexpress.discovery");
    assert_eq!(answers[4].data, [192, 0, 2, 9]);
}

#[test]
fn a_name_that_somebody_has_is_left_to_them() {
    let mut script = Script::probing();
    script.next_probe();
    // Even if it has no address of the types that we have.
    script.hear(&response(vec![record(host(BASE), 13, 120, b"\x01x\x01y")]));
    assert_eq!(script.event(), Event::Renamed { label: format!("{BASE}-2"), number: 2 });
    let probe = script.next_probe();
    assert_eq!(probe.questions[0].name, host(&format!("{BASE}-2")));
    assert_eq!(probe.authorities.len(), 4);
    script.hear(&response(vec![record(instance(&format!("{BASE}-2")), kind::TXT, 120, b"\0")]));
    assert_eq!(script.event(), Event::Renamed { label: format!("{BASE}-3"), number: 3 });
    let said = script.settle();
    assert_eq!(said.len(), 6, "three probes, three announcements, and no goodbye to what was never said");
    assert_eq!(said[5].answers[1].data, instance(&format!("{BASE}-3")).bytes());
}

#[test]
fn what_is_no_conflict() {
    let mut script = Script::probing();
    script.next_probe();
    let ours = record(host(&BASE.to_uppercase()), kind::A, 120, &[192, 0, 2, 9]);
    let elsewhere = record(host("another"), kind::A, 120, &[192, 0, 2, 77]);
    let gone = Record { ttl: 0, ..foreign(77) };
    let other_class = Record { class: 3, ..foreign(77) };
    script.hear(&response(vec![ours, elsewhere, gone, other_class]));
    let on_the_wire = response(vec![foreign(77)]);
    script.hear_from(&on_the_wire, SocketAddr::new(V4, 5353)).unwrap();
    assert_eq!(script.hear_from(&on_the_wire, SocketAddr::new(ELSEWHERE, 53)), Err(Dropped::Port(53)));
    script.next_probe();
    // The address of another of our links, which another machine repeats.
    script.responder.set_addresses(script.now, &[V4, V6], &[V4, V6, ELSEWHERE].into());
    script.hear(&response(vec![foreign(77)]));
    script.next_probe();
    assert_eq!(script.event(), Event::Published { label: BASE.into() });
}

#[test]
fn of_two_who_probe_at_once_the_later_records_win() {
    for (theirs, yields) in [(foreign(10), true), (foreign(8), false), (foreign(9), true)] {
        let mut script = Script::probing();
        script.next_probe();
        let began = script.now;
        // The third has our only IPv4 address, but another one of IPv6.
        let second = record(host(BASE), kind::AAAA, 120, &[0xff; 16]);
        let claim = Message { authorities: vec![second, theirs], ..question(host(BASE), kind::ANY) };
        script.hear_from(&claim, SocketAddr::new(V4, 5353)).unwrap();
        script.hear(&claim);
        for n in if yields { 0..3 } else { 1..3 } {
            script.next_probe();
            let start = if yields { s(1) } else { ms(0) };
            assert_eq!(script.now, began + start + ms(250) * n, "{yields}");
        }
        assert_eq!(script.event(), Event::Published { label: BASE.into() });
    }
}

#[test]
fn a_probe_that_is_just_like_ours_is_no_rival() {
    let mut script = Script::probing();
    let probe = script.next_probe();
    let began = script.now;
    script.hear(&probe);
    script.next_probe();
    assert_eq!(script.now, began + ms(250));
}

#[test]
fn a_conflict_later_on_is_settled_by_probes() {
    let mut script = Script::established();
    script.hear(&response(vec![foreign(77)]));
    assert!(script.next_probe().questions[0].name == host(BASE), "first it insists");
    script.next_probe();
    script.next_probe();
    assert_eq!(script.next().answers.len(), 6, "nobody minded");
    script.settle();

    script.hear(&response(vec![foreign(77)]));
    script.next_probe();
    script.hear(&response(vec![foreign(77)]));
    assert_eq!(script.event(), Event::Renamed { label: format!("{BASE}-2"), number: 2 });
    let goodbye = script.next();
    assert!(goodbye.answers.iter().all(|record| record.ttl == 0 && !record.is_flush));
    assert_eq!(kinds(&goodbye.answers), [kind::PTR, kind::SRV, kind::TXT, kind::A, kind::AAAA]);
    assert_eq!(script.settle().len(), 6);
}

#[test]
fn a_machine_has_one_name_on_all_links() {
    let mut script = Script::established();
    script.responder.rename(script.now, 3);
    assert_eq!(script.next().answers[0].ttl, 0);
    assert_eq!(script.next_probe().questions[0].name, host(&format!("{BASE}-3")));
    script.responder.rename(script.now, 2);
    script.next_probe();
    script.next_probe();
    assert_eq!(script.event(), Event::Published { label: format!("{BASE}-3") });
}

#[test]
fn who_browses_gets_all_that_is_needed_after_a_moment() {
    let mut script = Script::established();
    let asked = script.now;
    script.hear(&question(service(), kind::PTR));
    let answer = script.next();
    let delay = script.now.abs_diff(asked);
    assert!(delay >= ms(20) && delay < ms(120), "{delay:?}");
    assert_eq!(kinds(&answer.answers), [kind::PTR]);
    assert_eq!(kinds(&answer.additionals), [kind::SRV, kind::TXT, kind::A, kind::AAAA]);
    assert!(answer.questions.is_empty());
    script.silence();

    script.now += s(2);
    script.hear(&question(services(), kind::PTR));
    assert_eq!(script.next().answers[0].data, service().bytes());
    script.hear(&question(Name::new(["_ipp", "_tcp", "local"]), kind::PTR));
    script.hear(&question(host("another"), kind::A));
    script.silence();
}

#[test]
fn what_only_we_can_know_is_said_at_once() {
    let mut script = Script::established();
    let asked = script.now;
    script.hear(&question(host(BASE), kind::A));
    let answer = script.next();
    assert_eq!(script.now, asked);
    assert_eq!((kinds(&answer.answers), kinds(&answer.additionals)), (vec![kind::A], vec![kind::AAAA]));
    assert!(answer.answers[0].is_flush);
    script.now += s(2);
    script.hear(&question(instance(BASE), kind::ANY));
    let answer = script.next();
    assert_eq!(kinds(&answer.answers), [kind::SRV, kind::TXT]);
    assert_eq!(kinds(&answer.additionals), [kind::A, kind::AAAA]);
    // With several questions others have something to say, too.
    script.now += s(2);
    let asked = script.now;
    let mut both = question(host(BASE), kind::A);
    both.questions.extend(question(host("another"), kind::A).questions);
    script.hear(&both);
    script.next();
    assert!(script.now >= asked + ms(20));
}

#[test]
fn what_there_is_not_is_said_as_well() {
    let mut script = Script::established();
    script.hear(&question(host(BASE), kind::TXT));
    let answer = script.next();
    assert_eq!(kinds(&answer.answers), [kind::NSEC]);
    // A is bit 1 of the first byte, AAAA bit 4 of the fourth.
    assert_eq!(answer.answers[0].data, [host(BASE).bytes(), &[0, 4, 0x40, 0, 0, 0x08]].concat());
    script.hear(&question(instance(BASE), kind::A));
    assert_eq!(script.next().answers[0].data, [instance(BASE).bytes(), &[0, 5, 0, 0, 0x80, 0, 0x40]].concat());

    // Without IPv6 nobody has to ask for it.
    script.set(&[V4]);
    script.settle();
    script.now += s(2);
    script.hear(&question(host(BASE), kind::A));
    let answer = script.next();
    assert_eq!((kinds(&answer.answers), kinds(&answer.additionals)), (vec![kind::A], vec![kind::NSEC]));
    script.hear(&question(host(BASE), kind::AAAA));
    assert_eq!(kinds(&script.next().answers), [kind::NSEC]);
}

#[test]
fn what_the_asker_knows_is_not_said_again() {
    let mut script = Script::established();
    let known = |ttl| {
        let known = record(service(), kind::PTR, ttl, instance(&BASE.to_uppercase()).bytes());
        Message { answers: vec![known], ..question(service(), kind::PTR) }
    };
    script.hear(&known(2250));
    script.silence();
    script.hear(&known(2249));
    assert_eq!(kinds(&script.next().answers), [kind::PTR]);
}

#[test]
fn addresses_of_one_type_are_told_together_or_not_at_all() {
    let second = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
    let mut script = Script::new(1);
    script.set(&[V4, second]);
    script.settle();
    script.now += s(2);
    let known = Message { answers: vec![foreign(9)], ..question(host(BASE), kind::A) };
    script.hear(&known);
    assert_eq!(kinds(&script.next().answers), [kind::A, kind::A], "the flush bit would forget the other");
    let many: Vec<IpAddr> = (0..100).map(|n| IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))).collect();
    script.set(&many);
    assert!(script.settle().iter().all(|message| message.build().len() < 1000));
}

#[test]
fn an_asker_can_wait_for_the_rest_of_what_it_knows() {
    let query = Message { is_truncated: true, ..question(service(), kind::PTR) };
    let rest = response(vec![record(service(), kind::PTR, 4500, instance(BASE).bytes())]);
    let rest = Message { is_response: false, ..rest };
    let stranger = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 78)), 5353);

    let mut script = Script::established();
    let asked = script.now;
    script.hear(&query);
    script.hear_from(&rest, stranger).unwrap();
    script.next();
    assert!(script.now >= asked + ms(400) && script.now < asked + ms(500));

    script.now += s(2);
    script.hear(&query);
    script.now += ms(100);
    script.hear(&rest);
    script.silence();

    // Another machine asks in between, and knows nothing.
    script.hear(&query);
    script.hear_from(&question(service(), kind::PTR), stranger).unwrap();
    script.hear(&rest);
    assert_eq!(kinds(&script.next().answers), [kind::PTR]);
    script.silence();
}

#[test]
fn who_wants_it_alone_gets_it_alone_if_the_others_remember() {
    let mut script = Script::established();
    let query = Message { id: 77, ..alone(question(host(BASE), kind::A)) };
    script.hear(&query);
    assert_eq!(kinds(&script.next().answers), [kind::A], "the others have forgotten");
    script.now += s(29);
    script.hear(&query);
    let now = script.now;
    let (to, answer) = script.transmit();
    assert_eq!((to, answer.id, script.now), (Some(peer()), 77, now));
    assert!(answer.answers[0].is_flush && answer.questions.is_empty());
    assert_eq!(kinds(&answer.additionals), [kind::AAAA]);
    script.silence();
    script.now += s(1);
    script.hear(&query);
    script.next();
    script.silence();
}

#[test]
fn a_plain_resolver_gets_a_plain_answer() {
    let mut script = Script::established();
    let resolver = SocketAddr::new(ELSEWHERE, 40000);
    for (query, wanted) in [
        (question(host(BASE), kind::A), vec![kind::A]),
        (question(service(), kind::PTR), vec![kind::PTR]),
        (question(instance(BASE), kind::ANY), vec![kind::SRV, kind::TXT]),
    ] {
        let query = Message { id: 4711, ..query };
        script.hear_from(&query, resolver).unwrap();
        let now = script.now;
        let (to, answer) = script.transmit();
        assert_eq!((to, answer.id, script.now), (Some(resolver), 4711, now));
        assert_eq!(answer.questions, query.questions);
        assert_eq!(kinds(&answer.answers), wanted);
        assert!(answer.answers.iter().all(|record| record.ttl <= 10 && !record.is_flush));
        assert_eq!((answer.authorities, answer.additionals), (vec![], vec![]));
    }
    script.hear_from(&question(host(BASE), kind::TXT), resolver).unwrap();
    script.silence();
    let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 40000);
    assert_eq!(script.hear_from(&question(host(BASE), kind::A), nobody), Err(Dropped::TooMany));
}

#[test]
fn a_record_is_told_once_a_second_but_defended_at_once() {
    let mut script = Script::established();
    script.hear(&question(host(BASE), kind::A));
    script.next();
    let first = script.now;
    for _ in 0..5 {
        script.now += ms(10);
        script.hear(&question(host(BASE), kind::A));
    }
    script.next();
    assert_eq!(script.now, first + s(1));
    script.silence();

    script.now += ms(10);
    script.hear(&Message { authorities: vec![foreign(77)], ..alone(question(host(BASE), kind::ANY)) });
    let defence = script.next();
    assert_eq!(script.now, first + s(1) + ms(250));
    assert_eq!(kinds(&defence.answers), [kind::A, kind::AAAA]);
    script.now += ms(300);
    let now = script.now;
    script.hear(&Message { authorities: vec![foreign(77)], ..alone(question(host(BASE), kind::ANY)) });
    script.next();
    assert_eq!(script.now, now);
}

#[test]
fn an_answer_that_somebody_else_gives_is_not_repeated() {
    let mut script = Script::established();
    script.hear(&question(services(), kind::PTR));
    script.hear(&response(vec![record(services(), kind::PTR, 4500, service().bytes())]));
    script.silence();
}

#[test]
fn a_goodbye_to_what_is_ours_is_corrected() {
    let mut script = Script::established();
    let now = script.now;
    script.hear(&response(vec![record(service(), kind::PTR, 0, instance(BASE).bytes())]));
    assert_eq!(kinds(&script.next().answers), [kind::PTR]);
    assert!(script.now < now + ms(120));
}

#[test]
fn at_the_end_everything_that_was_said_is_taken_back() {
    let mut script = Script::established();
    script.responder.close(script.now);
    let now = script.now;
    let goodbye = script.next();
    assert_eq!(script.now, now, "at once");
    assert_eq!(kinds(&goodbye.answers), [kind::PTR, kind::SRV, kind::TXT, kind::A, kind::AAAA]);
    assert!(goodbye.answers.iter().all(|record| record.ttl == 0));
    assert_eq!(goodbye.answers[0].name, service(), "others may serve the same");
    script.silence();

    let mut script = Script::probing();
    script.next_probe();
    script.responder.close(script.now);
    script.silence();
}

#[test]
fn other_addresses_are_announced_and_those_gone_taken_back() {
    let mut script = Script::established();
    script.set(&[V4, V6]);
    script.silence();
    let began = script.now;
    script.set(&[ELSEWHERE, V6]);
    let goodbye = script.next();
    assert_eq!(
        (goodbye.answers.len(), goodbye.answers[0].ttl, &goodbye.answers[0].data[..]),
        (1, 0, &[192, 0, 2, 9][..])
    );
    let times = [ms(100), ms(1100), ms(3100)];
    for time in times {
        let news = script.next();
        assert_eq!(script.now, began + time);
        assert_eq!(news.answers[4].data, [192, 0, 2, 77]);
        assert_eq!(news.answers.len(), 6);
    }
    script.silence();
    // No record is told twice in a second, not even so.
    let last = script.now;
    script.now += ms(200);
    script.set(&[ELSEWHERE]);
    assert_eq!(script.next().answers[0].ttl, 0);
    assert_eq!(script.next().answers.len(), 5);
    assert_eq!(script.now, last + s(1));
    script.settle();
    // The last address of the family.
    script.set(&[V6]);
    assert_eq!(kinds(&script.next().answers), [kind::PTR, kind::SRV, kind::TXT, kind::A]);
    script.silence();
}

#[test]
fn addresses_that_change_while_probing_are_part_of_the_next_probe() {
    let mut script = Script::probing();
    script.next_probe();
    script.set(&[V4]);
    assert_eq!(kinds(&script.next_probe().authorities), [kind::SRV, kind::TXT, kind::A]);
}

#[test]
fn after_a_loss_of_carrier_it_probes_again() {
    let mut script = Script::established();
    script.hear(&question(service(), kind::PTR));
    script.responder.link_down();
    script.silence();
    script.set(&[V4, V6]);
    assert_eq!(script.settle().len(), 6);
}

#[test]
fn who_takes_every_name_is_given_time() {
    let mut script = Script::probing();
    let start = script.now;
    let mut names = Vec::new();
    while script.now < start + s(120) {
        let probe = script.next_probe();
        let taken = record(probe.questions[0].name.clone(), kind::A, 120, &[192, 0, 2, 77]);
        script.hear(&response(vec![taken]));
        names.push(script.now);
    }
    let early = names.iter().filter(|at| **at < start + s(10)).count();
    assert!((10..=20).contains(&early), "{early}");
    let late = names.iter().filter(|at| **at > start + s(60)).count();
    assert!(late <= 13, "{late} in a minute");
}

/// Two responders of one name on one network.
struct Pair {
    ends: [Responder; 2],
    labels: [String; 2],
    rng: Rng,
    /// Of a hundred messages, how many are lost, and how many come twice.
    lost: u64,
    doubled: u64,
    in_flight: Vec<(Moment, usize, Vec<u8>)>,
    sent: usize,
}

impl Pair {
    const ADDRESSES: [IpAddr; 2] = [V4, ELSEWHERE];

    fn run(&mut self, mut now: Moment, until: Moment) {
        while now < until {
            let mut next = until;
            for index in 0..2 {
                loop {
                    match self.ends[index].poll(now) {
                        Output::Transmit(transmit) => self.send(now, index, &transmit.payload),
                        Output::Event(Event::Published { label } | Event::Renamed { label, .. }) => {
                            self.labels[index] = label;
                        }
                        Output::Event(Event::Odd { .. }) => panic!("ours are good"),
                        Output::Timeout(at) => {
                            assert!(at.is_none_or(|at| at > now));
                            next = next.min(at.unwrap_or(until));
                            break;
                        }
                    }
                }
            }
            next = self.in_flight.iter().map(|(at, ..)| *at).fold(next, Ord::min);
            now = next;
            let (arrived, rest) = std::mem::take(&mut self.in_flight).into_iter().partition(|(at, ..)| *at <= now);
            self.in_flight = rest;
            let arrived: Vec<(Moment, usize, Vec<u8>)> = arrived;
            for (_, to, payload) in arrived {
                let heard = self.ends[to].handle(now, &payload, SocketAddr::new(Self::ADDRESSES[1 - to], 5353));
                assert!(matches!(heard, Ok(()) | Err(Dropped::Off)), "{heard:?}");
            }
        }
    }

    fn send(&mut self, now: Moment, from: usize, payload: &[u8]) {
        self.sent += 1;
        let copies = match self.rng.below(100) {
            roll if roll < self.lost => 0,
            roll if roll < self.lost + self.doubled => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let at = now + ms(1) + Duration::from_micros(self.rng.below(5000));
            self.in_flight.push((at, 1 - from, payload.to_vec()));
        }
    }
}

#[test]
fn two_of_one_name_come_to_two_names_on_any_network() {
    for (seed, start, lost, doubled) in (0..80).flat_map(|seed| {
        let start = [0, 100, 600, 5000][usize::try_from(seed % 4).unwrap()];
        [(seed, start, 0, 0), (seed, start, 25, 25)]
    }) {
        let mut pair = Pair {
            ends: [1, 2].map(|n| Responder::new(Family::V4, SERVICE, BASE, 1, seed * 2 + n)),
            labels: [String::new(), String::new()],
            rng: Rng::new(seed),
            lost,
            doubled,
            in_flight: Vec::new(),
            sent: 0,
        };
        pair.ends[0].set_addresses(s(10), &[Pair::ADDRESSES[0]], &[Pair::ADDRESSES[0]].into());
        pair.run(s(10), s(10) + ms(start));
        pair.ends[1].set_addresses(s(10) + ms(start), &[Pair::ADDRESSES[1]], &[Pair::ADDRESSES[1]].into());
        pair.run(s(10) + ms(start), s(60));
        let mut labels = pair.labels.clone();
        labels.sort_unstable();
        assert_ne!(labels[0], labels[1], "seed {seed}, {lost} of 100 lost");
        if lost == 0 {
            assert_eq!(labels, [BASE.to_owned(), format!("{BASE}-2")], "seed {seed}");
        }
        assert!(pair.sent < 60, "seed {seed}: {} messages", pair.sent);
        if start == 5000 && lost == 0 {
            assert_eq!(pair.labels[0], BASE, "who was there first keeps the name");
        }
    }
}

fn pick<T: Clone>(rng: &mut Rng, from: &[T]) -> T {
    from[usize::try_from(rng.below(from.len().try_into().unwrap())).unwrap()].clone()
}

/// A message that is nearly right for who is called `label`, or bytes that are
/// nothing, or nearly what was `heard` before; and from whom it is.
fn noise(rng: &mut Rng, label: &str, heard: &[Vec<u8>]) -> (Vec<u8>, SocketAddr) {
    let names = [host(label), instance(label), service(), services(), host(&format!("{BASE}-2")), host("another")];
    let types = [kind::A, kind::AAAA, kind::PTR, kind::SRV, kind::TXT, kind::NSEC, kind::ANY, 13];
    let mut message =
        Message { id: 1, is_response: rng.below(3) == 0, is_truncated: rng.below(6) == 0, ..Message::default() };
    for _ in 0..rng.below(3) {
        let (name, kind, wants_unicast) = (pick(rng, &names), pick(rng, &types), rng.below(2) == 0);
        message.questions.push(Question { name, kind, class: INTERNET, wants_unicast });
    }
    for list in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
        for _ in 0..rng.below(8).saturating_sub(5) {
            let data = match rng.below(4) {
                0 => vec![192, 0, 2, u8::try_from(rng.below(256)).unwrap()],
                1 => pick(rng, &names).bytes().to_vec(),
                2 => vec![],
                _ => rng.next_u64().to_be_bytes().to_vec(),
            };
            list.push(record(pick(rng, &names), pick(rng, &types), pick(rng, &[0, 1, 120, 4500]), &data));
        }
    }
    let mut bytes = message.build();
    match rng.below(8) {
        0 => bytes = (0..rng.below(80)).map(|_| rng.next_u32().to_le_bytes()[0]).collect(),
        1 if !heard.is_empty() => bytes = pick(rng, heard),
        _ => {}
    }
    let changes = rng.below(8).saturating_sub(4);
    damage(rng, &mut bytes, changes);
    let from = SocketAddr::new(pick(rng, &[ELSEWHERE, ELSEWHERE, V4]), pick(rng, &[5353, 5353, 40000]));
    (bytes, from)
}

/// Changes some bytes, and now and then cuts some off.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, changes: u64) {
    let at = |rng: &mut Rng, len: usize| usize::try_from(rng.below(len.try_into().unwrap())).unwrap();
    for _ in 0..if bytes.is_empty() { 0 } else { changes } {
        let place = at(rng, bytes.len());
        bytes[place] = rng.next_u32().to_le_bytes()[0];
    }
    if rng.below(10) == 0 {
        let len = at(rng, bytes.len() + 1);
        bytes.truncate(len);
    }
}

/// Noise at any time, with links and addresses that come and go: never a
/// panic, never more than 140 messages of either kind in any minute, and
/// goodbyes, and always a next deadline while there is something to do.
#[test]
fn whatever_comes_in_there_is_no_storm_and_always_a_next_step() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut script = Script::new(seed);
        let mut sent: Vec<(Moment, bool)> = Vec::new();
        let mut heard: Vec<Vec<u8>> = Vec::new();
        let mut name = BASE.to_owned();
        let mut has_carrier = false;
        for _ in 0..600 {
            match rng.below(60) {
                0 => {
                    script.responder.link_down();
                    has_carrier = false;
                }
                1 => script.set(&[V6]),
                2..=6 => {
                    script.set(if rng.below(2) == 0 { &[V4] } else { &[V4, V6] });
                    has_carrier = true;
                }
                7 => script.responder.rename(script.now, u32::try_from(rng.below(9)).unwrap()),
                _ => {
                    let (bytes, from) = noise(&mut rng, &name, &heard);
                    let _ = script.responder.handle(script.now, &bytes, from);
                }
            }
            let mut rounds = 0;
            let deadline = loop {
                rounds += 1;
                assert!(rounds < 50, "seed {seed}: it does not come to rest");
                match script.responder.poll(script.now) {
                    Output::Timeout(at) => break at,
                    Output::Event(Event::Published { label } | Event::Renamed { label, .. }) => name = label,
                    Output::Event(Event::Odd { .. }) => {}
                    Output::Transmit(transmit) => {
                        let message = Message::parse(&transmit.payload).expect("ours are good");
                        assert!(has_carrier, "seed {seed}: a message without a carrier");
                        let is_goodbye = message.answers.iter().all(|record| record.ttl == 0) && message.is_response;
                        if !is_goodbye {
                            sent.push((script.now, transmit.to.is_some()));
                        }
                        let minute = script.now.saturating_sub(s(60));
                        for way in [false, true] {
                            let count = sent.iter().filter(|(at, to)| *at > minute && *to == way).count();
                            assert!(count <= 140, "seed {seed}: a storm");
                        }
                        heard.push(transmit.payload);
                    }
                }
            };
            assert!(deadline.is_none_or(|at| at > script.now), "seed {seed}: a deadline in the past");
            script.now = match rng.below(4) {
                0 => deadline.unwrap_or(script.now),
                1 => script.now + s(rng.below(10)),
                _ => script.now + ms(rng.below(100)),
            };
        }
    }
}

#[test]
fn a_flood_of_questions_is_answered_at_a_steady_pace() {
    let mut script = Script::established();
    let start = script.now;
    let (mut to_all, mut to_one) = (0, 0);
    let questions = [
        question(service(), kind::PTR),
        alone(question(host(BASE), kind::A)),
        question(host(BASE), kind::TXT),
        Message { authorities: vec![foreign(77)], ..question(host(BASE), kind::ANY) },
    ];
    for n in 0..60_000 {
        script.now = start + ms(n);
        let port = if n % 3 == 0 { 5353 } else { 1024 + u16::try_from(n % 50_000).unwrap() };
        let query = &questions[usize::try_from(n / 3 % 4).unwrap()];
        let _ = script.hear_from(query, SocketAddr::new(ELSEWHERE, port));
        while let Output::Transmit(transmit) = script.responder.poll(script.now) {
            *if transmit.to.is_none() { &mut to_all } else { &mut to_one } += 1;
        }
    }
    assert!((100..=140).contains(&to_all) && (100..=140).contains(&to_one), "{to_all} and {to_one} in a minute");
}

#[test]
fn bytes_that_are_nothing_are_read_without_a_panic() {
    let mut rng = Rng::new(7);
    let real: Vec<Vec<u8>> = Script::probing().settle().iter().map(Message::build).collect();
    for round in 0..30_000 {
        let mut bytes = match round % 3 {
            0 => (0..rng.below(100)).map(|_| rng.next_u32().to_le_bytes()[0]).collect(),
            n => real[n].clone(),
        };
        let changes = rng.below(6);
        damage(&mut rng, &mut bytes, changes);
        if let Ok(message) = Message::parse(&bytes) {
            // A message that could be read once can be read again.
            assert_eq!(Message::parse(&message.build()).map(|again| again.answers), Ok(message.answers));
        }
    }
}

/// Messages with one odd habit each, made of a good query and of a record beside
/// it: how many questions, answers, authorities and additionals they say they
/// have, and what comes after the question.
const ODD_ASKERS: [(&str, [u8; 4], &[u8]); 14] = [
    ("nothing odd", [1, 0, 0, 0], &[]),
    ("EDNS", [1, 0, 0, 1], &[0, 0, 41, 0x05, 0xa0, 0, 0, 0x11, 0x94, 0, 4, 0, 4, 0, 0]),
    ("EDNS of a wrong length", [1, 0, 0, 1], &[0, 0, 41, 0x05, 0xa0, 0, 0, 0x11, 0x94, 0, 18, 0, 4, 0, 14]),
    ("EDNS among the answers", [1, 1, 0, 0], &[0, 0, 41, 0x05, 0xa0, 0, 0, 0, 0, 0, 0]),
    ("bytes after the end", [1, 0, 0, 0], &[0xff; 99]),
    ("counts of what is not there", [1, 9, 9, 9], &[]),
    ("questions that are not there", [9, 0, 0, 0], &[]),
    ("a question of a name in circles", [2, 0, 0, 0], &[0xc0, 39, 0, 1, 0, 1]),
    ("a question of a name that leads ahead", [2, 0, 0, 0], &[0xc0, 99, 0, 1, 0, 1]),
    ("a question of a reserved length", [2, 0, 0, 0], &[0x7f, 0, 0, 1, 0, 1]),
    ("a question cut short", [2, 0, 0, 0], &[1, b'a', 0, 0]),
    ("a known answer that points to itself", [1, 1, 0, 0], &[0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 51]),
    ("a known answer longer than the message", [1, 1, 0, 0], &[0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 1]),
    (
        "a type and a class of the future",
        [2, 1, 0, 0],
        &[0, 0xfe, 0xdc, 0x7f, 0xed, 0, 0xfe, 0xdc, 0x7f, 0xed, 0, 0, 0, 9, 0, 1, 7],
    ),
];

#[test]
fn an_asker_with_an_odd_habit_is_answered() {
    let good = question(service(), kind::PTR).build();
    assert_eq!(good.len(), 39);
    for (name, [a, b, c, d], rest) in ODD_ASKERS {
        let mut script = Script::established();
        let mut packet = [&good[..], rest].concat();
        packet[4..12].copy_from_slice(&[0, a, 0, b, 0, c, 0, d]);
        script.responder.handle(script.now, &packet, peer()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let answer = script.next();
        assert_eq!(answer.answers[0].data, instance(BASE).bytes(), "{name}");
    }
}

#[test]
fn a_bad_record_takes_no_name_and_hides_no_conflict_beside_it() {
    let bad = [0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 0xff];
    let long = record(host(BASE), kind::A, 120, &[192, 0, 2, 77, 0]);
    let mut script = Script::probing();
    script.next_probe();
    script.hear(&response(vec![long.clone()]));
    let odd = script.event();
    assert!(matches!(&odd, Event::Odd { from: ELSEWHERE, faults } if faults.list().len() == 1), "{odd:?}");
    script.next_probe();
    script.next_probe();
    assert_eq!(script.event(), Event::Published { label: BASE.into() });

    // The bad ones before it, and one that has no end after it.
    let mut script = Script::probing();
    script.next_probe();
    let good = response(vec![long, foreign(77)]).build();
    let mut packet = [&good[..], &bad, &[0x80]].concat();
    packet[7] += 2;
    script.responder.handle(script.now, &packet, peer()).unwrap();
    assert!(matches!(script.event(), Event::Odd { .. }));
    assert_eq!(script.event(), Event::Renamed { label: format!("{BASE}-2"), number: 2 });
}
