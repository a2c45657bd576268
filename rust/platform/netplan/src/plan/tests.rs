use netproto::rng::Rng;

use super::*;
use crate::fake::Fake;
use crate::{Hold, Lifetimes, Net, Origin, Scope, Via, answers, held, metric};

const LINKS: [u32; 2] = [2, 3];
const GONE: u32 = 9;
/// `RTPROT_STATIC`: routes that people add.
const STATIC: u8 = 4;

fn net(text: &str) -> Net {
    let (ip, len) = text.split_once('/').unwrap();
    Net { ip: ip.parse().unwrap(), len: len.parse().unwrap() }
}

fn lease(address: &str, router: Option<&str>) -> Hold {
    let address = net(address);
    let route = |router: &str| {
        let router = router.parse().unwrap();
        let on_link = !address.contains(router) || Family::of(router) == Family::V6;
        Via { destination: Family::of(router).any(), router: Some(router), on_link }
    };
    let hour = Some(Duration::from_secs(3600));
    let lifetimes = Lifetimes { preferred: hour, valid: hour };
    Hold { address, lifetimes, routes: router.into_iter().map(route).collect() }
}

fn dhcp(link: u32, holds: &[Hold]) -> Desired {
    held(link, Origin::Dhcp, Family::V4, holds)
}

fn apply(fake: &mut Fake, ops: &[NetOp]) {
    for op in ops {
        fake.apply(op).unwrap_or_else(|errno| panic!("{errno:?} from: {op}"));
    }
}

fn sync(fake: &mut Fake, desired: &Desired) {
    apply(fake, &plan(desired, &fake.state()));
    assert_eq!(plan(desired, &fake.state()), [], "planning after applying must give nothing");
}

fn sync_answers(fake: &mut Fake) {
    let desired = answers(&fake.state(), &LINKS, &LINKS);
    sync(fake, &desired);
}

fn texts(ops: &[NetOp]) -> Vec<String> {
    ops.iter().map(ToString::to_string).collect()
}

#[test]
fn a_first_lease_adds_each_object_after_those_that_it_needs() {
    let ops = plan(&dhcp(2, &[lease("192.0.2.7/24", Some("192.0.2.1"))]), &Fake::new(&LINKS).state());
    assert_eq!(
        texts(&ops),
        [
            "ip address add 192.0.2.7/24 dev if2 metric 102 proto 16 valid_lft 3600 preferred_lft 3600",
            "ip -4 route add 192.0.2.0/24 dev if2 metric 102 proto 16 src 192.0.2.7 table 16777218",
            "ip -4 route add 0.0.0.0/0 via 192.0.2.1 dev if2 metric 102 proto 16 src 192.0.2.7",
            "ip -4 route add 0.0.0.0/0 via 192.0.2.1 dev if2 metric 102 proto 16 src 192.0.2.7 table 16777218",
            "ip -4 rule add from 192.0.2.7 lookup 16777218 priority 1000",
        ]
    );
}

#[test]
fn another_lease_moves_the_routes_before_the_old_address_goes() {
    let mut fake = Fake::new(&LINKS);
    sync(&mut fake, &dhcp(2, &[lease("192.0.2.7/24", Some("192.0.2.1"))]));
    let ops = plan(&dhcp(2, &[lease("198.51.100.7/25", Some("198.51.100.1"))]), &fake.state());
    assert_eq!(
        texts(&ops),
        [
            "ip address add 198.51.100.7/25 dev if2 metric 102 proto 16 valid_lft 3600 preferred_lft 3600",
            "ip -4 route add 198.51.100.0/25 dev if2 metric 102 proto 16 src 198.51.100.7 table 16777218",
            "ip -4 route replace 0.0.0.0/0 via 198.51.100.1 dev if2 metric 102 proto 16 src 198.51.100.7",
            "ip -4 route replace 0.0.0.0/0 via 198.51.100.1 dev if2 metric 102 proto 16 src 198.51.100.7 table 16777218",
            "ip -4 rule add from 198.51.100.7 lookup 16777218 priority 1000",
            "ip -4 rule del from 192.0.2.7 lookup 16777218 priority 1000",
            "ip -4 route del 192.0.2.0/24 dev if2 metric 102 proto 16 src 192.0.2.7 table 16777218",
            "ip address del 192.0.2.7/24 dev if2",
        ]
    );
    for op in &ops {
        fake.apply(op).unwrap();
        let state = fake.state();
        let default = state.routes.iter().find(|route| route.destination.len == 0 && route.table == MAIN_TABLE);
        assert!(default.is_some(), "no default route after {op}");
    }
}

#[test]
fn a_renewed_lease_changes_the_time_alone() {
    let mut fake = Fake::new(&LINKS);
    let mut hold = lease("192.0.2.7/24", Some("192.0.2.1"));
    sync(&mut fake, &dhcp(2, &[hold.clone()]));
    let later = Some(Duration::from_secs(7200));
    hold.lifetimes = Lifetimes { preferred: later, valid: later };
    let ops = plan(&dhcp(2, &[hold]), &fake.state());
    assert_eq!(
        texts(&ops),
        ["ip address replace 192.0.2.7/24 dev if2 metric 102 proto 16 valid_lft 7200 preferred_lft 7200"]
    );
}

#[test]
fn a_kernel_without_rules_has_the_main_table_only() {
    let mut fake = Fake::new(&LINKS);
    fake.forget_rules(Family::V4);
    sync(&mut fake, &dhcp(2, &[lease("192.0.2.7/24", Some("192.0.2.1"))]));
    let state = fake.state();
    assert_eq!(state.rules, []);
    assert!(state.routes.iter().all(|route| route.table == MAIN_TABLE));
}

#[test]
fn a_router_outside_the_network_is_taken_to_be_on_the_link() {
    let mut fake = Fake::new(&LINKS);
    sync(&mut fake, &dhcp(2, &[lease("192.0.2.7/32", Some("198.51.100.1"))]));
    assert!(fake.state().routes.iter().all(|route| route.on_link && route.destination.len == 0));
}

#[test]
fn an_ipv6_address_with_another_prefix_is_made_anew() {
    let mut fake = Fake::new(&LINKS);
    let setting = |address| held(2, Origin::Setting, Family::V6, &[lease(address, Some("fe80::1"))]);
    sync(&mut fake, &setting("2001:db8::7/64"));
    sync(&mut fake, &setting("2001:db8::7/48"));
    assert_eq!(fake.state().addresses[0].prefix_len, 48);
    // The kernel made the route to the network of the address that had an end.
    let default = fake.state().routes.into_iter().find(|route| route.destination.len == 0).unwrap();
    assert_eq!((default.table, default.metric, default.protocol), (MAIN_TABLE, metric(2), 170));
    sync(&mut fake, &held(2, Origin::Setting, Family::V6, &[]));
    assert_eq!(fake.state().addresses, []);
}

#[test]
fn a_link_that_is_gone_leaves_no_rules_and_no_tables() {
    let mut fake = Fake::new(&LINKS);
    sync(&mut fake, &dhcp(2, &[lease("192.0.2.7/24", None)]));
    sync(&mut fake, &held(2, Origin::Dhcp, Family::V6, &[lease("2001:db8::7/128", None)]));
    sync_answers(&mut fake);
    assert_eq!(fake.state().rules.len(), 2);
    fake.remove_link(2);
    let mut desired = answers(&fake.state(), &[3], &[3]);
    desired.scopes.push(Scope::Gone { family: Family::V4, present: vec![3] });
    sync(&mut fake, &desired);
    assert_eq!(fake.state(), crate::State::default());
}

#[test]
fn without_answers_the_rules_of_ipv4_stay() {
    let mut fake = Fake::new(&LINKS);
    sync(&mut fake, &dhcp(2, &[lease("192.0.2.7/24", None)]));
    sync(&mut fake, &held(2, Origin::Dhcp, Family::V6, &[lease("2001:db8::7/128", None)]));
    sync_answers(&mut fake);
    let none = answers(&crate::State::default(), &[], &[]);
    sync(&mut fake, &none);
    let state = fake.state();
    assert!(state.rules.len() == 1 && state.rules[0].source.is_ipv4());
    assert!(state.routes.iter().all(|route| route.family() == Family::V4 || route.table == MAIN_TABLE));
}

/// Leases, settings and a link-local address by chance.
fn random_desired(rng: &mut Rng) -> Desired {
    let link = LINKS[usize::try_from(rng.below(2)).unwrap()];
    let origin = Origin::ALL[usize::try_from(rng.below(3)).unwrap()];
    let mut holds = Vec::new();
    if rng.below(3) == 0 {
        for _ in 0..rng.below(3) {
            let router = ["fe80::1", "fe80::2"].get(usize::try_from(rng.below(3)).unwrap());
            let address = format!("2001:db8::{}/{}", rng.below(3) + 1, 64 + 64 * (rng.below(5) / 4));
            holds.retain(|hold: &Hold| hold.address.ip.to_string() != address.split('/').next().unwrap());
            holds.push(lease(&address, router.copied()));
        }
        let origin = if origin == Origin::LinkLocal { Origin::Dhcp } else { origin };
        return held(link, origin, Family::V6, &holds);
    }
    for _ in 0..rng.below(3) {
        let (network, len) =
            ([0, 1][usize::try_from(rng.below(2)).unwrap()], [24, 25, 32][usize::try_from(rng.below(3)).unwrap()]);
        let address = format!("192.0.{network}.{}/{len}", rng.below(3) + 10);
        let router = [format!("192.0.{network}.1"), "198.51.100.1".to_owned()];
        let router = router.get(usize::try_from(rng.below(3)).unwrap()).map(String::as_str);
        let mut hold = match origin {
            Origin::LinkLocal => lease(&format!("169.254.0.{}/16", rng.below(3) + 1), None),
            Origin::Dhcp | Origin::Setting => lease(&address, router),
        };
        if rng.below(4) == 0 {
            let destination = net(["203.0.113.0/24", "192.0.0.0/24"][usize::try_from(rng.below(2)).unwrap()]);
            hold.routes.push(Via { destination, router: None, on_link: false });
        }
        holds.retain(|other: &Hold| other.address != hold.address);
        holds.push(hold);
    }
    held(link, origin, Family::V4, &holds)
}

/// An object that another program may add.
fn foreign(rng: &mut Rng) -> NetOp {
    let link = LINKS[usize::try_from(rng.below(2)).unwrap()];
    let address = |text: &str| {
        let mut address =
            held(link, Origin::Setting, Family::of(net(text).ip), &[lease(text, None)]).addresses.remove(0);
        (address.origin, address.metric, address.lifetimes) = (None, 0, Lifetimes::FOR_EVER);
        Item::Address(address)
    };
    let route = |destination: &str, table: u32, metric: u32| {
        let destination = net(destination);
        let (router, on_link, source) = (None, false, None);
        Item::Route(Route { table, destination, metric, link, router, on_link, source, protocol: STATIC })
    };
    let own_table = crate::link_table(link);
    let ip: std::net::IpAddr = "192.0.0.10".parse().unwrap();
    NetOp::Add(match rng.below(8) {
        0 => address("192.0.0.10/24"),
        1 => address("2001:db8::1/64"),
        2 => route("0.0.0.0/0", MAIN_TABLE, metric(link)),
        3 => route("0.0.0.0/0", own_table, metric(link)),
        4 => route("2001:db8::/64", own_table, 256),
        5 => route("::/0", MAIN_TABLE, 1024),
        6 => Item::Rule(Rule { source: ip, table: MAIN_TABLE, priority: crate::RULE_PRIORITY }),
        _ => Item::Rule(Rule { source: ip, table: Origin::Dhcp.table(GONE), priority: 999 }),
    })
}

/// Objects without a tag that are of no kernel's making.
fn foreigners(state: &State) -> Vec<Item> {
    let addresses = state.addresses.iter().filter(|address| address.origin.is_none()).cloned().map(Item::Address);
    let routes = state.routes.iter().filter(|route| route.protocol == STATIC).copied().map(Item::Route);
    let rules = state.rules.iter().filter(|rule| !rule.is_ours()).copied().map(Item::Rule);
    addresses.chain(routes).chain(rules).collect()
}

/// Links flap, and others add what they want.
fn disturb(fake: &mut Fake, rng: &mut Rng) {
    if rng.below(4) == 0 {
        let link = LINKS[usize::try_from(rng.below(2)).unwrap()];
        fake.set_up(link, false);
        fake.set_up(link, true);
    }
    for _ in 0..rng.below(3) {
        // Fails where it is there already.
        let _ = fake.apply(&foreign(rng));
    }
}

#[test]
fn from_any_state_to_any_other_one_plan_does_even_after_a_kill_anywhere() {
    let mut longest = 0;
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let mut fake = Fake::new(&LINKS);
        for _ in 0..8 {
            let is_answers = rng.below(3) == 0;
            let held = random_desired(&mut rng);
            // As the daemon does: from the state of the moment.
            let wanted = |state: &State| if is_answers { answers(state, &LINKS, &LINKS) } else { held.clone() };
            let ops = plan(&wanted(&fake.state()), &fake.state());
            longest = longest.max(ops.len());
            for killed_after in 0..=ops.len() {
                let mut half = fake.clone();
                let before = foreigners(&half.state());
                for op in &ops[..killed_after] {
                    half.apply(op).unwrap_or_else(|errno| panic!("seed {seed}: {errno:?} from {op}\n{ops:#?}"));
                }
                assert_eq!(foreigners(&half.state()), before, "seed {seed}: {:?}", texts(&ops));
                disturb(&mut half, &mut rng);
                let before = foreigners(&half.state());
                let now = wanted(&half.state());
                for op in plan(&now, &half.state()) {
                    half.apply(&op).unwrap_or_else(|errno| panic!("seed {seed}: {errno:?} from {op}"));
                }
                assert_eq!(plan(&now, &half.state()), [], "seed {seed}, killed after {killed_after}");
                let state = half.state();
                assert_eq!(foreigners(&state), before, "seed {seed}: {:?}", texts(&ops));
                for address in &now.addresses {
                    assert!(state.addresses.iter().any(|found| address.is_at(found)), "seed {seed}");
                }
                for rule in &now.rules {
                    assert!(state.rules.contains(rule), "seed {seed}");
                }
                // The kernel's own route to a network may have another metric.
                let key = |route: &Route| (route.table, route.destination);
                for route in &now.routes {
                    assert!(state.routes.iter().any(|found| key(found) == key(route)), "seed {seed}: {route:?}");
                }
            }
            apply(&mut fake, &ops);
            disturb(&mut fake, &mut rng);
        }
    }
    assert!(longest > 10, "{longest} operations are no test");
}
