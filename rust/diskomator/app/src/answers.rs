//! Answers from an IPv6 address leave by the link that the address is on, though
//! another link may be in the same network: by a rule for each address, and for
//! each link a table with the routes through it. Addresses and routes are as
//! others made them, the kernel mostly.

use kernel::error::chain;
use kernel::netlink::{Address, IpVersion, Netlink, NetlinkError, Route6, Rule, link_table};

/// Makes the kernel have the rules and tables for the addresses of the links
/// `own`, and none for links that are not among those `present`.
pub(crate) fn keep(netlink: &Netlink, own: &[u32], present: &[u32], addresses: &[Address]) {
    let mut wanted = Vec::new();
    for address in addresses.iter().filter(|address| own.contains(&address.link)) {
        // A link-local address names its link anyway.
        if address.ip.is_ipv6() && !address.is_link_local {
            wanted.push(Rule { source: address.ip, table: link_table(address.link) });
        }
    }
    // A kernel that knows no rules has one table only, which is not to be touched.
    let rules = match netlink.rules(IpVersion::V6) {
        Ok(rules) => rules,
        Err(error) => {
            log::debug!("answers may leave by another link: {}", chain(&error));
            return;
        }
    };
    let routes = match netlink.routes6() {
        Ok(routes) => routes,
        Err(error) => {
            log::warn!("{}", chain(&error));
            return;
        }
    };
    let is_ours = |table: u32| {
        let of = |links: &[u32]| links.iter().any(|link| link_table(*link) == table);
        of(own) || !of(present)
    };
    let (main, tables): (Vec<Route6>, Vec<Route6>) = routes.into_iter().partition(|route| route.table.is_none());
    let tables: Vec<Route6> = tables.into_iter().filter(|route| route.table.is_some_and(is_ours)).collect();
    let copies = copies(&main, &wanted);
    // The routes first, or else an answer would go astray meanwhile.
    for route in copies.iter().filter(|route| !tables.contains(route)) {
        warn_unless_gone(netlink.set_route6(*route));
    }
    for rule in wanted.iter().filter(|rule| !rules.contains(rule)) {
        warn_unless_gone(netlink.set_rule(*rule));
    }
    for rule in rules.iter().filter(|rule| is_ours(rule.table) && !wanted.contains(rule)) {
        warn_unless_gone(netlink.remove_rule(*rule));
    }
    for route in tables.iter().filter(|route| !copies.iter().any(|copy| takes_place_of(copy, route))) {
        warn_unless_gone(netlink.remove_route6(*route));
    }
}

/// Removes all rules and tables.
pub(crate) fn forget_all(netlink: &Netlink) {
    keep(netlink, &[], &[], &[]);
}

/// The routes of the main table through the links that have rules, as those
/// links' tables have them. The first of several with one destination and one
/// metric is enough; two would share the packets.
fn copies(main: &[Route6], rules: &[Rule]) -> Vec<Route6> {
    let mut copies: Vec<Route6> = Vec::new();
    for route in main {
        let table = link_table(route.link);
        let copy = Route6 { table: Some(table), ..*route };
        if rules.iter().any(|rule| rule.table == table) && !copies.iter().any(|other| takes_place_of(&copy, other)) {
            copies.push(copy);
        }
    }
    // A router is reached by a route that must be there before it.
    copies.sort_by_key(|route| route.router.is_some());
    copies
}

/// Whether the kernel has one in place of the other.
fn takes_place_of(one: &Route6, other: &Route6) -> bool {
    let key = |route: &Route6| (route.table, route.destination, route.metric);
    key(one) == key(other)
}

/// What was there a moment ago may be gone, and its routes with it; then there is
/// another look.
fn warn_unless_gone(outcome: Result<(), NetlinkError>) {
    if let Err(error) = outcome {
        let level = if error.is_gone() { log::Level::Debug } else { log::Level::Warn };
        log::log!(level, "{}", chain(&error));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    fn route(link: u32, destination: &str, router: Option<&str>, metric: u32) -> Route6 {
        let (ip, len) = destination.split_once('/').unwrap();
        Route6 {
            link,
            destination: (ip.parse().unwrap(), len.parse().unwrap()),
            router: router.map(|ip| ip.parse::<Ipv6Addr>().unwrap()),
            metric,
            table: None,
        }
    }

    #[test]
    fn a_links_table_has_its_routes_and_of_two_routers_one() {
        let rule = Rule { source: IpAddr::V6("2001:db8::7".parse().unwrap()), table: link_table(2) };
        let main = [
            route(2, "::/0", Some("fe80::1"), 1024),
            route(2, "::/0", Some("fe80::2"), 1024),
            route(2, "::/0", Some("fe80::3"), 102),
            route(3, "2001:db8::/64", None, 256),
            route(2, "2001:db8::/64", None, 256),
            route(2, "fe80::/64", None, 256),
        ];
        let wanted = [4, 5, 0, 2].map(|at: usize| Route6 { table: Some(link_table(2)), ..main[at] });
        assert_eq!(copies(&main, &[rule]), wanted);
        assert_eq!(copies(&main, &[]), []);
    }
}
