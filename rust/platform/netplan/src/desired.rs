//! The state that should be: by leases and settings, and by the kernel's own IPv6
//! addresses.

use std::net::IpAddr;

use crate::model::{Address, Family, Lifetimes, MAIN_TABLE, Net, Origin, Route, Rule, State, link_table};

/// If two links are in one network, the older link is used, as it has the lower
/// index. Metrics below 100 are for routes that people add by hand.
const METRIC_BASE: u32 = 100;

/// The metric of a link's routes.
pub const fn metric(link: u32) -> u32 {
    METRIC_BASE + link
}

/// An address that a link should have, and its routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The address with its prefix.
    pub address: Net,
    /// The remaining time.
    pub lifetimes: Lifetimes,
    /// The routes of the main table that come with it.
    pub routes: Vec<Via>,
}

/// A way to a network through a link that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// The network.
    pub destination: Net,
    /// The router; `None` if the network is on the link.
    pub router: Option<IpAddr>,
    /// The router is on the link even if no address says so.
    pub on_link: bool,
}

/// A part of the state in which no object of ours stays unless it is wanted.
/// Objects without our tag are in none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The addresses of a link with one origin and family, and their routes and rules.
    Held {
        /// The link's index.
        link: u32,
        /// The source of the addresses.
        origin: Origin,
        /// Their family.
        family: Family,
    },
    /// The IPv6 table of a link and its rules.
    SourceRoutes(u32),
    /// The rules of one family, and the IPv6 tables, of all links but those present.
    /// The kernel removes only the addresses and routes of a link that is gone.
    Gone {
        /// The family of the rules and tables.
        family: Family,
        /// The indexes of links.
        present: Vec<u32>,
    },
}

impl Scope {
    /// Whether the address is one of ours in it.
    pub fn has_address(&self, address: &Address) -> bool {
        let Self::Held { link, origin, family } = self else { return false };
        address.origin == Some(*origin) && address.link == *link && Family::of(address.ip) == *family
    }

    /// Whether the route is one of ours in it.
    pub fn has_route(&self, route: &Route) -> bool {
        let Some(origin) = route.origin() else { return false };
        match (self, route.family()) {
            (Self::Held { link, origin: own, family: Family::V4 }, Family::V4) => origin == *own && route.link == *link,
            // Its other tables belong to the source routes.
            (Self::Held { link, origin: own, family: Family::V6 }, Family::V6) => {
                origin == *own && route.link == *link && route.table == MAIN_TABLE
            }
            (Self::SourceRoutes(link), Family::V6) => route.table == link_table(*link),
            (Self::Gone { family: Family::V6, present }, Family::V6) => {
                route.table >= crate::FIRST_TABLE && !present.iter().any(|link| route.table == link_table(*link))
            }
            _ => false,
        }
    }

    /// Whether the rule is one of ours in it.
    pub fn has_rule(&self, rule: &Rule) -> bool {
        rule.is_ours()
            && match (self, Family::of(rule.source)) {
                (Self::Held { link, origin, family: Family::V4 }, Family::V4) => rule.table == origin.table(*link),
                (Self::SourceRoutes(link), Family::V6) => rule.table == link_table(*link),
                (Self::Gone { family: own, present }, family) if *own == family => {
                    !present.iter().any(|link| has_table(family, *link, rule.table))
                }
                _ => false,
            }
    }
}

/// Whether a link has that table.
fn has_table(family: Family, link: u32, table: u32) -> bool {
    match family {
        Family::V4 => Origin::ALL.iter().any(|origin| origin.table(link) == table),
        Family::V6 => link_table(link) == table,
    }
}

/// The state that should be in some scopes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The parts that it speaks of.
    pub scopes: Vec<Scope>,
    /// All addresses of ours there.
    pub addresses: Vec<Address>,
    /// All routes of ours there.
    pub routes: Vec<Route>,
    /// All rules of ours there.
    pub rules: Vec<Rule>,
}

impl Desired {
    /// Of several routes that replace each other the last one counts.
    fn want(&mut self, route: Route) {
        self.routes.retain(|other| !route.replaces(other));
        self.routes.push(route);
    }

    /// One address with two prefixes has one rule.
    fn follow(&mut self, rule: Rule) {
        if !self.rules.contains(&rule) {
            self.rules.push(rule);
        }
    }
}

/// A link should have these addresses and no other one of this origin and family.
///
/// An IPv4 address has a rule and is the source of its routes, which are in the
/// main table and in a table of their own: answers from the address then leave by
/// its link, though another link may be in the same network. [`source_routes`] does so
/// for IPv6.
pub fn held(link: u32, origin: Origin, family: Family, holds: &[Hold]) -> Desired {
    let mut desired = Desired { scopes: vec![Scope::Held { link, origin, family }], ..Desired::default() };
    for hold in holds.iter().filter(|hold| Family::of(hold.address.ip) == family) {
        let Hold { address, lifetimes, routes } = hold;
        desired.addresses.push(Address {
            link,
            ip: address.ip,
            prefix_len: address.len,
            is_link_local: origin == Origin::LinkLocal,
            is_usable: true,
            is_duplicate: false,
            is_announced: false,
            lifetimes: *lifetimes,
            metric: metric(link),
            origin: Some(origin),
        });
        let route = |via: Via, table: u32| Route {
            table,
            destination: via.destination.network(),
            metric: metric(link),
            link,
            router: via.router,
            on_link: via.on_link,
            source: Some(address.ip).filter(|_| family == Family::V4),
            protocol: origin.protocol(),
        };
        for via in routes {
            desired.want(route(*via, MAIN_TABLE));
        }
        if family == Family::V4 {
            let table = origin.table(link);
            desired.follow(Rule::new(address.ip, table));
            for via in local_route(origin, *address).iter().chain(routes) {
                desired.want(route(*via, table));
            }
        }
    }
    desired
}

/// The destinations that an address reaches without a router: its network. A
/// link-local address reaches everything, as no router may forward its datagrams
/// (RFC 3927 section 2.6.2).
fn local_route(origin: Origin, address: Net) -> Option<Via> {
    let destination = match origin {
        Origin::LinkLocal => Some(Family::V4.any()),
        // An address alone is no network.
        Origin::Dhcp | Origin::Setting => Some(address.network()).filter(|net| net.len < Family::V4.bits()),
    };
    destination.map(|destination| Via { destination, router: None, on_link: false })
}

/// Answers from an IPv6 address should leave by the link that has the address,
/// though another link may be in the same network: by a rule for each address of
/// the links `own`, and for each of these links a table with its routes. Addresses
/// and routes are as the kernel and others made them. Links that are not `present`
/// have no IPv6 rules and tables.
pub fn source_routes(actual: &State, own: &[u32], present: &[u32]) -> Desired {
    let gone = Scope::Gone { family: Family::V6, present: present.to_vec() };
    let mut desired = Desired {
        scopes: own.iter().map(|link| Scope::SourceRoutes(*link)).chain([gone]).collect(),
        ..Desired::default()
    };
    // A link-local address names its link anyway.
    let addresses = actual.addresses.iter().filter(|address| address.ip.is_ipv6() && !address.is_link_local);
    for address in addresses.filter(|address| own.contains(&address.link)) {
        desired.follow(Rule::new(address.ip, link_table(address.link)));
    }
    for route in actual.routes.iter().filter(|route| route.family() == Family::V6 && route.table == MAIN_TABLE) {
        let table = link_table(route.link);
        let copy = Route {
            table,
            on_link: route.router.is_some(),
            source: None,
            protocol: Origin::Setting.protocol(),
            ..*route
        };
        // The first of several with one destination and one metric is enough; two
        // would share the packets.
        let is_new = !desired.routes.iter().any(|other| copy.replaces(other));
        if is_new && desired.rules.iter().any(|rule| rule.table == table) {
            desired.routes.push(copy);
        }
    }
    desired
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        let (ip, len) = text.split_once('/').unwrap();
        Net { ip: ip.parse().unwrap(), len: len.parse().unwrap() }
    }

    fn route(link: u32, destination: &str, router: Option<&str>, metric: u32) -> Route {
        Route {
            table: MAIN_TABLE,
            destination: net(destination),
            metric,
            link,
            router: router.map(|ip| ip.parse().unwrap()),
            on_link: false,
            source: None,
            protocol: 9,
        }
    }

    #[test]
    fn a_links_table_has_its_routes_and_of_two_routers_one() {
        let hold = Hold { address: net("2001:db8::7/64"), lifetimes: Lifetimes::FOR_EVER, routes: Vec::new() };
        let routes = vec![
            route(2, "::/0", Some("fe80::1"), 1024),
            route(2, "::/0", Some("fe80::2"), 1024),
            route(2, "::/0", Some("fe80::3"), 102),
            route(3, "2001:db8::/64", None, 256),
            route(2, "2001:db8::/64", None, 256),
            route(2, "fe80::/64", None, 256),
        ];
        let addresses = held(2, Origin::Dhcp, Family::V6, &[hold]).addresses;
        let state = State { addresses, routes, ..State::default() };
        let desired = source_routes(&state, &[2, 3], &[2, 3]);
        assert_eq!(desired.rules, [Rule::new("2001:db8::7".parse().unwrap(), link_table(2))]);
        let wanted = [0, 2, 4, 5].map(|at: usize| Route {
            table: link_table(2),
            on_link: at < 3,
            protocol: 170,
            ..state.routes[at]
        });
        assert_eq!(desired.routes, wanted);
        assert_eq!(source_routes(&state, &[3], &[2, 3]).routes, []);
    }

    #[test]
    fn a_lease_has_its_routes_in_two_tables_and_a_rule() {
        let via = Via { destination: net("0.0.0.0/0"), router: Some("192.0.2.1".parse().unwrap()), on_link: false };
        let hold = Hold { address: net("192.0.2.7/24"), lifetimes: Lifetimes::FOR_EVER, routes: vec![via] };
        let desired = held(2, Origin::Dhcp, Family::V4, &[hold]);
        let table = Origin::Dhcp.table(2);
        let found: Vec<_> = desired.routes.iter().map(|route| (route.table, route.destination.to_string())).collect();
        let wanted = [(MAIN_TABLE, "0.0.0.0/0"), (table, "192.0.2.0/24"), (table, "0.0.0.0/0")];
        assert_eq!(found, wanted.map(|(table, to)| (table, to.to_owned())));
        assert_eq!(desired.rules, [Rule::new("192.0.2.7".parse().unwrap(), table)]);
    }

    #[test]
    fn a_link_local_address_reaches_everything_without_a_router() {
        let hold = |address| Hold { address: net(address), lifetimes: Lifetimes::FOR_EVER, routes: Vec::new() };
        let to = |origin, address| -> Vec<String> {
            let routes = held(2, origin, Family::V4, &[hold(address)]).routes;
            routes.iter().map(|route| route.destination.to_string()).collect()
        };
        assert_eq!(to(Origin::LinkLocal, "169.254.3.4/16"), ["0.0.0.0/0"]);
        assert_eq!(to(Origin::Setting, "192.0.2.7/24"), ["192.0.2.0/24"]);
        assert_eq!(to(Origin::Setting, "192.0.2.7/32"), [] as [String; 0]);
    }
}
