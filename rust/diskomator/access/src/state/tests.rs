use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn nqn(text: &str) -> HostNqn {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn number(number: u64) -> Named {
    Named::Number(number)
}

fn by_nqn(text: &str) -> Named {
    Named::Nqn(nqn(text))
}

fn closed() -> State {
    State::new(false, &[])
}

/// Deterministic noise (a linear congruential generator).
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn sizes(state: &State) -> BTreeMap<IpAddr, usize> {
    let mut sizes = BTreeMap::new();
    for request in state.requests() {
        *sizes.entry(group(request.address)).or_default() += 1;
    }
    sizes
}

#[test]
fn a_request_is_one_question_however_often_its_host_tries() {
    let mut state = closed();
    assert_eq!(state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(5)), Heard::New(1));
    assert_eq!(state.heard(&nqn("nqn.a"), ip("::ffff:192.0.2.1"), at(15)), Heard::Known(1));
    assert_eq!(state.heard(&nqn("nqn.a"), ip("192.0.2.2"), at(16)), Heard::New(2));
    let first = &state.requests()[0];
    assert_eq!((first.first, first.last, first.tries), (5, 15, 2));
    assert_eq!(state.expire(at(16)), Some(at(615)));
    // Ten minutes after the last attempt, and not earlier.
    assert_eq!((state.expire(at(614)), state.requests().len()), (Some(at(615)), 2));
    assert_eq!((state.expire(at(615)), state.requests().len()), (Some(at(616)), 1));
    assert_eq!((state.expire(at(616)), state.requests().len()), (None, 0));
    assert_eq!(state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(620)), Heard::New(3));
}

#[test]
fn ten_thousand_hosts_push_out_no_request_from_elsewhere() {
    for (seed, places) in [(1, 1), (2, 7), (3, 9), (4, 50), (5, 63), (6, 64), (7, 500), (8, 10_000)] {
        let (mut state, mut noise) = (closed(), Noise(seed));
        assert_eq!(state.heard(&nqn("nqn.victim"), ip("192.0.2.1"), at(0)), Heard::New(1));
        let mut last = 1;
        let hosts = if places == 50 { 10_000 } else { 1_500 };
        for host in 0..hosts {
            let place = noise.below(places);
            let address = match place % 2 {
                0 => IpAddr::from([198, 18, u8::try_from(place >> 8).unwrap(), u8::try_from(place & 255).unwrap()]),
                // Many addresses of one network.
                _ => ip(&format!("2001:db8:0:{place:x}::{:x}", noise.below(60_000))),
            };
            match state.heard(&nqn(&format!("nqn.{}:{host}", "x".repeat(noise.below(200)))), address, at(host / 100)) {
                Heard::New(number) => {
                    assert_eq!(number, last + 1, "numbers count up");
                    last = number;
                }
                Heard::Full => assert!(places > 60, "only hosts of many places find no room"),
                other => panic!("{other:?}"),
            }
            assert!(state.requests().len() <= REQUESTS_MAX);
            assert!(host % 16 != 0 || sizes(&state).values().all(|size| *size <= GROUP_MAX));
            assert_eq!(state.requests()[0].number, 1, "the victim's request is there");
            assert!(state.requests().is_sorted_by_key(|request| request.number));
        }
        // A host that comes during the flood finds room, unless the places are as many as requests can be.
        let late = state.heard(&nqn("nqn.late"), ip("203.0.113.9"), at(101));
        assert_eq!(matches!(late, Heard::New(_)), places < 60, "{places} places: {late:?}");
        assert!(state.to_file().unwrap().len() < 64 << 10);
        assert_eq!(State::parse(state.to_file().unwrap().as_bytes()).unwrap(), state);
    }
}

#[test]
fn an_answer_for_a_number_means_the_host_that_was_shown_with_it() {
    let mut state = closed();
    state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(0));
    let shown = state.requests()[0].clone();
    // The host goes, and a flood from its own address comes.
    for host in 0..100 {
        state.heard(&nqn(&format!("nqn.flood{host}")), ip("192.0.2.1"), at(1));
    }
    assert_eq!(
        state.allow(&number(shown.number), None, false, By::Screen, at(2)),
        Err(AnswerError::NoRequest(number(1)))
    );
    assert!(state.admitted().is_empty());
    // The host comes back, with another number.
    let Heard::New(again) = state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(3)) else { panic!("no question") };
    assert!(again > 100);
    let elsewhere = ip("192.0.2.2");
    assert_eq!(
        state.allow(&number(again), Some(elsewhere), false, By::Screen, at(3)),
        Err(AnswerError::Elsewhere { named: number(again), address: elsewhere })
    );
    let admitted = state.allow(&number(again), Some(ip("192.0.2.1")), true, By::Screen, at(3)).unwrap();
    let expected = Admitted { nqn: nqn("nqn.a"), read_only: true, by: By::Screen, address: Some(ip("192.0.2.1")) };
    assert_eq!((&admitted, state.admitted()), (&expected, &[expected.clone()][..]));
    // The number is used up.
    for used in [1, again] {
        assert_eq!(state.deny(&number(used), None, at(4)), Err(AnswerError::NoRequest(number(used))));
    }
    assert_eq!(state.admitted().len(), 1);
}

#[test]
fn numbers_are_never_reused_not_even_after_a_restart() {
    let (mut state, mut noise, mut seen) = (closed(), Noise(9), BTreeSet::new());
    let mut now = 0;
    for _ in 0..3_000 {
        now += noise.below(100) as u64;
        let host = nqn(&format!("nqn.{}", noise.below(30)));
        let address = IpAddr::from([192, 0, 2, u8::try_from(noise.below(5)).unwrap()]);
        match noise.below(8) {
            0 => drop(state.deny(&Named::Nqn(host), None, at(now))),
            1 => drop(state.allow(&Named::Nqn(host), None, noise.below(2) == 0, By::Command, at(now))),
            2 => drop(state.forget(&Named::Nqn(host), at(now))),
            3 => state = State::parse(state.to_file().unwrap().as_bytes()).unwrap(),
            4 if noise.below(10) == 0 => {
                state.set_everyone(true);
                state.set_everyone(false);
            }
            _ => {
                if let Heard::New(number) = state.heard(&host, address, at(now)) {
                    assert!(seen.insert(number), "{number} is reused");
                }
            }
        }
        let deadline = state.expire(at(now));
        assert!(deadline.is_none_or(|deadline| deadline > at(now)));
        let admitted: BTreeSet<_> = state.admitted().iter().map(|host| &host.nqn).collect();
        let denied: BTreeSet<_> = state.denied().iter().map(|host| &host.nqn).collect();
        let asking: BTreeSet<_> = state.requests().iter().map(|request| &request.nqn).collect();
        assert_eq!((admitted.len(), denied.len()), (state.admitted().len(), state.denied().len()), "each host once");
        assert!(admitted.is_disjoint(&denied) && asking.is_disjoint(&admitted) && asking.is_disjoint(&denied));
    }
    assert!(seen.len() > 500);
    // Where the file is lost, numbers go on beyond those that were probably given.
    assert_eq!(closed().after_loss(at(77)).heard(&nqn("nqn.a"), ip("::1"), at(77)), Heard::New(78));
}

#[test]
fn a_denied_host_raises_no_question_for_a_minute() {
    let mut state = closed();
    state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(0));
    let now = Duration::from_millis(10_900);
    assert_eq!(state.deny(&number(1), None, now).unwrap(), Denied { nqn: nqn("nqn.a"), until: 71 });
    assert_eq!((state.requests().len(), state.expire(now)), (0, Some(at(71))));
    for second in [11, 20, 70] {
        assert_eq!(state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(second)), Heard::Denied);
        assert_eq!(state.heard(&nqn("nqn.a"), ip("192.0.2.9"), at(second)), Heard::Denied);
    }
    assert_eq!(state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(71)), Heard::New(2));
    assert!(state.denied().is_empty());
    // Denials are bounded, too: the oldest goes.
    for host in 0..200 {
        state.deny(&by_nqn(&format!("nqn.{host}")), None, at(100)).unwrap();
    }
    assert_eq!((state.denied().len(), state.denied()[0].nqn.as_ref()), (DENIED_MAX, "nqn.136"));
}

#[test]
fn a_denial_ends_an_admission_and_an_admission_a_denial() {
    let mut state = State::new(false, &["nqn.a".parse().unwrap(), "nqn.b:ro".parse().unwrap()]);
    assert_eq!(state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(0)), Heard::Admitted);
    state.deny(&by_nqn("nqn.a"), None, at(0)).unwrap();
    assert_eq!((state.admitted().len(), state.denied().len()), (1, 1));
    state.allow(&by_nqn("nqn.a"), None, false, By::Command, at(1)).unwrap();
    assert_eq!((state.admitted().len(), state.denied().len()), (2, 0));
    assert_eq!(state.forget(&by_nqn("nqn.a"), at(2)), Ok(nqn("nqn.a")));
    assert_eq!(state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(2)), Heard::New(1));
    let unknown = by_nqn("nqn.x");
    assert_eq!(state.forget(&unknown, at(2)), Err(AnswerError::Unknown(unknown)));
}

#[test]
fn an_address_means_the_one_host_that_asks_from_there() {
    let mut state = closed();
    let here = Named::Address(ip("192.0.2.1"));
    assert_eq!(state.allow(&here, None, false, By::Command, at(0)), Err(AnswerError::Nobody(ip("192.0.2.1"))));
    state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(0));
    state.heard(&nqn("nqn.b"), ip("192.0.2.2"), at(0));
    state.allow(&here, None, false, By::Command, at(1)).unwrap();
    assert_eq!(state.admitted()[0].nqn, nqn("nqn.a"));
    // Another one asks from there now: it is meant, and the admitted one is not.
    state.heard(&nqn("nqn.c"), ip("192.0.2.1"), at(1));
    state.deny(&here, None, at(2)).unwrap();
    assert_eq!((state.admitted().len(), &state.denied()[0].nqn), (1, &nqn("nqn.c")));
    state.heard(&nqn("nqn.d"), ip("192.0.2.2"), at(2));
    let both = ["2 192.0.2.2 nqn.b", "4 192.0.2.2 nqn.d"].map(str::to_owned).to_vec();
    let error = state.allow(&Named::Address(ip("192.0.2.2")), None, false, By::Command, at(2)).unwrap_err();
    assert_eq!(error, AnswerError::Ambiguous(both));
    // Nobody asks from the first address any more: so the admitted host is meant.
    assert_eq!(state.deny(&here, None, at(3)).unwrap().nqn, nqn("nqn.a"));
}

#[test]
fn with_everyone_admitted_nobody_asks() {
    let mut state = closed();
    state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(0));
    state.set_everyone(true);
    assert!(state.requests().is_empty());
    assert_eq!(state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(0)), Heard::Admitted);
    state.set_everyone(false);
    assert_eq!(state.heard(&nqn("nqn.a"), ip("192.0.2.1"), at(0)), Heard::New(2));
}

#[test]
fn admissions_are_bounded() {
    let grants: Vec<Grant> = (0..200).map(|host| format!("nqn.{host}").parse().unwrap()).collect();
    let mut state = State::new(false, &grants);
    assert_eq!(state.admitted().len(), ADMITTED_MAX);
    assert_eq!(state.allow(&by_nqn("nqn.x"), None, false, By::Command, at(0)), Err(AnswerError::TooMany));
    assert!(state.allow(&by_nqn("nqn.0"), None, true, By::Command, at(0)).unwrap().read_only);
    let twice = State::new(false, &["nqn.a".parse().unwrap(), "nqn.a:ro".parse().unwrap()]);
    assert_eq!((twice.admitted().len(), twice.admitted()[0].read_only), (1, true));
}

#[test]
fn a_file_that_says_two_things_of_one_host_keeps_it_out() {
    let file = r#"{"everyone":false,"admitted":[{"nqn":"nqn.a","read_only":false,"by":"setting"}],
        "denied":[{"nqn":"nqn.a","until":9}],
        "requests":[{"number":7,"nqn":"nqn.b","address":"192.0.2.1","first":1,"last":1,"tries":1}]}"#;
    let mut state = State::parse(file.as_bytes()).unwrap();
    assert!(state.admitted().is_empty());
    assert_eq!(state.heard(&nqn("nqn.c"), ip("192.0.2.1"), at(2)), Heard::New(8));
    for end in 0..file.len() {
        assert!(State::parse(&file.as_bytes()[..end]).is_err());
    }
}
