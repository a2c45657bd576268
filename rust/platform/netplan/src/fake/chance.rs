//! Leases, settings and the doings of other programs, by chance: for property tests,
//! and for the test that compares the fake kernel with the real one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "the texts are constants, and this is for tests"
)]

use std::net::IpAddr;
use std::time::Duration;

use crate::desired::{Desired, Hold, Via, held, metric};
use crate::model::{Address, Family, Lifetimes, MAIN_TABLE, Net, Origin, Route, Rule, State};
use crate::plan::{Item, NetOp};

/// `RTPROT_STATIC`: routes that people add.
pub const STATIC: u8 = 4;

/// An address with its prefix, from a text that is right.
pub fn net(text: &str) -> Net {
    let (ip, len) = text.split_once('/').unwrap();
    Net { ip: ip.parse().unwrap(), len: len.parse().unwrap() }
}

/// A lease of an hour, with a default route.
pub fn lease(address: &str, router: Option<&str>) -> Hold {
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

/// Leases, settings and a link-local address by chance.
pub fn desired(links: [u32; 2], below: &mut dyn FnMut(u64) -> u64) -> Desired {
    let link = links[usize::try_from(below(2)).unwrap()];
    let origin = Origin::ALL[usize::try_from(below(3)).unwrap()];
    let mut holds = Vec::new();
    if below(3) == 0 {
        for _ in 0..below(3) {
            let router = ["fe80::1", "fe80::2"].get(usize::try_from(below(3)).unwrap());
            let address = format!("2001:db8::{}/{}", below(3) + 1, 64 + 64 * (below(5) / 4));
            holds.retain(|hold: &Hold| hold.address.ip.to_string() != address.split('/').next().unwrap());
            holds.push(lease(&address, router.copied()));
        }
        let origin = if origin == Origin::LinkLocal { Origin::Dhcp } else { origin };
        return held(link, origin, Family::V6, &holds);
    }
    for _ in 0..below(3) {
        let (network, len) =
            ([0, 1][usize::try_from(below(2)).unwrap()], [24, 25, 32][usize::try_from(below(3)).unwrap()]);
        let address = format!("192.0.{network}.{}/{len}", below(3) + 10);
        let router = [format!("192.0.{network}.1"), "198.51.100.1".to_owned()];
        let router = router.get(usize::try_from(below(3)).unwrap()).map(String::as_str);
        let mut hold = match origin {
            Origin::LinkLocal => lease(&format!("169.254.0.{}/16", below(3) + 1), None),
            Origin::Dhcp | Origin::Setting => lease(&address, router),
        };
        if below(4) == 0 {
            let destination = net(["203.0.113.0/24", "192.0.0.0/24"][usize::try_from(below(2)).unwrap()]);
            hold.routes.push(Via { destination, router: None, on_link: false });
        }
        holds.retain(|other: &Hold| other.address != hold.address);
        holds.push(hold);
    }
    held(link, origin, Family::V4, &holds)
}

/// An object that another program may add.
pub fn foreign(links: [u32; 2], gone: u32, below: &mut dyn FnMut(u64) -> u64) -> NetOp {
    let link = links[usize::try_from(below(2)).unwrap()];
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
    NetOp::Add(match below(8) {
        0 => address("192.0.0.10/24"),
        1 => address("2001:db8::1/64"),
        2 => route("0.0.0.0/0", MAIN_TABLE, metric(link)),
        3 => route("0.0.0.0/0", own_table, metric(link)),
        4 => route("2001:db8::/64", own_table, 256),
        5 => route("::/0", MAIN_TABLE, 1024),
        6 => Item::Rule(Rule { source: ip, table: MAIN_TABLE, priority: crate::RULE_PRIORITY }),
        _ => Item::Rule(Rule { source: ip, table: Origin::Dhcp.table(gone), priority: 999 }),
    })
}

/// An operation that no plan has at this moment: on an object that is there or is
/// wanted, or on an address of theirs with the other scope.
pub fn wild(state: &State, desired: &Desired, below: &mut dyn FnMut(u64) -> u64) -> Option<NetOp> {
    let addresses = state.addresses.iter().chain(&desired.addresses).cloned().map(Item::Address);
    // The kernel's own routes come and go with their addresses; no plan mends them.
    let routes = state.routes.iter().filter(|route| route.protocol != super::KERNEL).chain(&desired.routes);
    let routes = routes.copied().map(Item::Route);
    let rules = state.rules.iter().chain(&desired.rules).copied().map(Item::Rule);
    let mut items: Vec<Item> = addresses.chain(routes).chain(rules).collect();
    let at = usize::try_from(below(u64::try_from(items.len()).unwrap())).unwrap();
    let mut item = (!items.is_empty()).then(|| items.swap_remove(at))?;
    if let Item::Address(Address { ip: IpAddr::V4(_), is_link_local, prefix_len, .. }) = &mut item {
        match below(6) {
            0 => *is_link_local = !*is_link_local,
            1 => *prefix_len = 24 + 8 * u8::from(*prefix_len == 24),
            _ => {}
        }
    }
    Some(match below(5) {
        0 => NetOp::Add(item),
        1 => NetOp::Replace(item),
        _ => NetOp::Delete(item),
    })
}
