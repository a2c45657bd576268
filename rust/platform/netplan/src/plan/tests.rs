use netproto::rng::Rng;

use super::*;
use crate::fake::Fake;
use crate::fake::chance::{self, STATIC, lease};
use crate::{Hold, Lifetimes, Origin, Scope, held, metric, source_routes};

const LINKS: [u32; 2] = [2, 3];
const GONE: u32 = 9;

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

fn sync_source_routes(fake: &mut Fake) {
    let desired = source_routes(&fake.state(), &LINKS, &LINKS);
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
    sync_source_routes(&mut fake);
    assert_eq!(fake.state().rules.len(), 2);
    fake.remove_link(2);
    let mut desired = source_routes(&fake.state(), &[3], &[3]);
    desired.scopes.push(Scope::Gone { family: Family::V4, present: vec![3] });
    sync(&mut fake, &desired);
    assert_eq!(fake.state(), crate::State::default());
}

#[test]
fn without_source_routes_the_rules_of_ipv4_stay() {
    let mut fake = Fake::new(&LINKS);
    sync(&mut fake, &dhcp(2, &[lease("192.0.2.7/24", None)]));
    sync(&mut fake, &held(2, Origin::Dhcp, Family::V6, &[lease("2001:db8::7/128", None)]));
    sync_source_routes(&mut fake);
    let none = source_routes(&crate::State::default(), &[], &[]);
    sync(&mut fake, &none);
    let state = fake.state();
    assert!(state.rules.len() == 1 && state.rules[0].source.is_ipv4());
    assert!(state.routes.iter().all(|route| route.family() == Family::V4 || route.table == MAIN_TABLE));
}

/// Objects without a tag that are of no kernel's making. The kernel removes all IPv4
/// routes of a link with its last IPv4 address: those of links without one in the
/// state `after` don't count.
fn foreigners_left(state: &State, after: &State) -> Vec<Item> {
    let has_ipv4 = |link| after.addresses.iter().any(|address| address.link == link && address.ip.is_ipv4());
    let addresses = state.addresses.iter().filter(|address| address.origin.is_none()).cloned().map(Item::Address);
    let routes = state.routes.iter().filter(|route| route.protocol == STATIC);
    let routes = routes.filter(|route| route.family() == Family::V6 || has_ipv4(route.link)).copied().map(Item::Route);
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
        let _ = fake.apply(&chance::foreign(LINKS, GONE, &mut |bound| rng.below(bound)));
    }
}

#[test]
fn from_any_state_to_any_other_one_plan_does_even_after_a_kill_anywhere() {
    let mut longest = 0;
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let mut fake = Fake::new(&LINKS);
        for _ in 0..8 {
            let is_source_routes = rng.below(3) == 0;
            let held = chance::desired(LINKS, &mut |bound| rng.below(bound));
            // As the daemon does: from the state of the moment.
            let wanted =
                |state: &State| if is_source_routes { source_routes(state, &LINKS, &LINKS) } else { held.clone() };
            let ops = plan(&wanted(&fake.state()), &fake.state());
            longest = longest.max(ops.len());
            for killed_after in 0..=ops.len() {
                let mut half = fake.clone();
                let before = half.state();
                for op in &ops[..killed_after] {
                    half.apply(op).unwrap_or_else(|errno| panic!("seed {seed}: {errno:?} from {op}\n{ops:#?}"));
                }
                let state = half.state();
                assert_eq!(
                    foreigners_left(&state, &state),
                    foreigners_left(&before, &state),
                    "seed {seed}: {:?}",
                    texts(&ops)
                );
                disturb(&mut half, &mut rng);
                let before = half.state();
                let now = wanted(&half.state());
                for op in plan(&now, &half.state()) {
                    half.apply(&op).unwrap_or_else(|errno| panic!("seed {seed}: {errno:?} from {op}"));
                }
                assert_eq!(plan(&now, &half.state()), [], "seed {seed}, killed after {killed_after}");
                let state = half.state();
                assert_eq!(
                    foreigners_left(&state, &state),
                    foreigners_left(&before, &state),
                    "seed {seed}: {:?}",
                    texts(&ops)
                );
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
