//! From the state that is to the state that should be.
//!
//! An operation is one request to the kernel. Planning again after a plan was
//! applied gives nothing; after a part of it was applied, it gives the rest.

use std::fmt;
use std::time::Duration;

use crate::desired::Desired;
use crate::model::{Address, Family, MAIN_TABLE, Route, Rule, State};

/// An object of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An address.
    Address(Address),
    /// A route.
    Route(Route),
    /// A rule.
    Rule(Rule),
}

/// One change. `Display` gives it as a command for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetOp {
    /// Fails with EEXIST if the object, or a route in its place, is there.
    Add(Item),
    /// Changes an object in place. The kernel adds it if it is not there.
    Replace(Item),
    /// Fails if the object is not there.
    Delete(Item),
}

impl fmt::Display for NetOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, item) = match self {
            Self::Add(item) => ("add", item),
            Self::Replace(item) => ("replace", item),
            Self::Delete(item) => ("del", item),
        };
        match item {
            Item::Address(address) => write_address(f, verb, address),
            Item::Route(route) => write_route(f, verb, route),
            Item::Rule(rule) => write!(
                f,
                "ip {} rule {verb} from {} lookup {} priority {}",
                flag(Family::of(rule.source)),
                rule.source,
                rule.table,
                rule.priority
            ),
        }
    }
}

const fn flag(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

/// Links are named by their indexes, as `ip` takes `if2` for link 2.
fn write_address(f: &mut fmt::Formatter<'_>, verb: &str, address: &Address) -> fmt::Result {
    write!(f, "ip address {verb} {} dev if{}", address.net(), address.link)?;
    if verb == "del" {
        return Ok(());
    }
    if address.is_link_local {
        write!(f, " scope link")?;
    }
    write!(f, " metric {}", address.metric)?;
    if let Some(origin) = address.origin {
        write!(f, " proto {}", origin.protocol())?;
    }
    let seconds = |time: Option<Duration>| time.map_or_else(|| "forever".to_owned(), |time| time.as_secs().to_string());
    let lifetimes = address.lifetimes;
    write!(f, " valid_lft {} preferred_lft {}", seconds(lifetimes.valid), seconds(lifetimes.preferred))
}

fn write_route(f: &mut fmt::Formatter<'_>, verb: &str, route: &Route) -> fmt::Result {
    write!(f, "ip {} route {verb} {}", flag(route.family()), route.destination)?;
    if let Some(router) = route.router {
        write!(f, " via {router}")?;
    }
    write!(f, " dev if{} metric {} proto {}", route.link, route.metric, route.protocol)?;
    if let Some(source) = route.source {
        write!(f, " src {source}")?;
    }
    if route.on_link {
        write!(f, " onlink")?;
    }
    if route.table == MAIN_TABLE { Ok(()) } else { write!(f, " table {}", route.table) }
}

/// The changes that make the actual state the desired one, in an order in which
/// each of them succeeds: an address comes before the routes that leave with it, a
/// network before the router in it, a table before the rule that uses it. Old
/// objects go last, in the reverse order, so that a link is never without an
/// address or a route.
///
/// Objects without our tag stay as they are. If one of them is in the place of a
/// wanted object, it serves instead. The kernel's route to the network of an old
/// address goes with that address, so the wanted route in its place comes after.
pub fn plan(desired: &Desired, actual: &State) -> Vec<NetOp> {
    let scopes = &desired.scopes;
    let has_rules = |family: Family| !actual.without_rules.contains(&family);
    let (leaving, staying): (Vec<&Address>, Vec<&Address>) = actual.addresses.iter().partition(|address| {
        let is_wanted = desired.addresses.iter().any(|wanted| wanted.is_at(address));
        !is_wanted && scopes.iter().any(|scope| scope.has_address(address))
    });
    let mut routes: Vec<&Route> = desired
        .routes
        .iter()
        .filter(|route| route.table == MAIN_TABLE || has_rules(route.family()))
        .filter(|route| !desired.addresses.iter().chain(staying.iter().copied()).any(|address| makes(address, route)))
        .collect();
    routes.sort_by_key(|route| route.router.is_some());

    let mut ops = Vec::new();
    let mut after = Vec::new();
    for wanted in &desired.addresses {
        plan_address(wanted, actual, &mut ops);
    }
    for wanted in &routes {
        let places: Vec<&Route> = actual.routes.iter().filter(|route| wanted.replaces(route)).collect();
        let leaves = |route: &Route| route.origin().is_none() && leaving.iter().any(|address| makes(address, route));
        if places.is_empty() {
            ops.push(NetOp::Add(Item::Route(**wanted)));
        } else if places.iter().all(|route| leaves(route)) {
            after.push(NetOp::Add(Item::Route(**wanted)));
        } else if places.iter().all(|route| route.origin().is_some() && route != wanted) {
            ops.push(NetOp::Replace(Item::Route(**wanted)));
        }
    }
    let rules = desired.rules.iter().filter(|rule| has_rules(Family::of(rule.source)));
    for wanted in rules.filter(|rule| !actual.rules.contains(rule)) {
        ops.push(NetOp::Add(Item::Rule(*wanted)));
    }

    for rule in actual.rules.iter().filter(|rule| scopes.iter().any(|scope| scope.has_rule(rule))) {
        if !desired.rules.contains(rule) {
            ops.push(NetOp::Delete(Item::Rule(*rule)));
        }
    }
    for route in actual.routes.iter().filter(|route| scopes.iter().any(|scope| scope.has_route(route))) {
        if !routes.iter().any(|wanted| wanted.replaces(route)) {
            ops.push(NetOp::Delete(Item::Route(*route)));
        }
    }
    ops.extend(leaving.into_iter().map(|address| NetOp::Delete(Item::Address(address.clone()))));
    ops.extend(after);
    ops
}

fn plan_address(wanted: &Address, actual: &State, ops: &mut Vec<NetOp>) {
    let found = actual.addresses.iter().find(|address| wanted.is_at(address));
    match found {
        None => ops.push(NetOp::Add(Item::Address(wanted.clone()))),
        Some(found) if found.origin.is_none() => {}
        // The kernel changes all but the prefix of an IPv6 address.
        Some(found) if found.prefix_len != wanted.prefix_len => {
            ops.push(NetOp::Delete(Item::Address(found.clone())));
            ops.push(NetOp::Add(Item::Address(wanted.clone())));
        }
        Some(found) => {
            let key = |address: &Address| (address.metric, address.origin);
            if key(found) != key(wanted) || !found.lifetimes.is_near(wanted.lifetimes) {
                ops.push(NetOp::Replace(Item::Address(wanted.clone())));
            }
        }
    }
}

/// Whether the kernel makes that route when it has the address.
fn makes(address: &Address, route: &Route) -> bool {
    let on_main = |route: &Route| (route.table, route.metric, route.link, route.router);
    on_main(route) == (MAIN_TABLE, address.metric, address.link, None)
        && route.destination == address.net().network()
        && (address.ip.is_ipv6() || address.prefix_len < Family::V4.bits())
}

#[cfg(test)]
mod tests;
