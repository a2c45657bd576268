//! What the kernel has because of `diskomator dhcp`: addresses, the routes that
//! come with them, and rules by which an answer leaves where the question came
//! in.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use kernel::error::chain;
use kernel::netlink::{IpVersion, Lifetimes, Netlink, NetlinkError, Origin, Route, Rule};
use kernel::root::Root;
use netproto::dhcp::lease;
use netproto::net::Prefix4;

/// Of two links to one network the older one is taken, as it has the lower
/// index. 100 leaves room for what somebody sets by hand.
const METRIC_BASE: u32 = 100;

/// An IPv4 address and what comes with it.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) address: Prefix4,
    /// `None` is for ever.
    pub(crate) left: Option<Duration>,
    pub(crate) routes: Vec<lease::Route>,
}

/// One link, as far as the kernel is told about it. Each step is tried whatever
/// became of those before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub(crate) netlink: &'a Netlink,
    pub(crate) index: u32,
    pub(crate) name: &'a str,
}

impl Holder<'_> {
    /// The preference of this link's routes.
    pub(crate) fn metric(self) -> u32 {
        METRIC_BASE + self.index
    }

    /// Makes the kernel have these addresses and no other of this origin.
    pub(crate) fn hold(self, origin: Origin, wishes: &[Wish]) {
        // First the new ones, so that there is never none.
        for wish in wishes {
            self.warn(self.netlink.set_address(self.index, wish.address, wish.left, self.metric(), origin));
        }
        self.keep_addresses(origin, wishes);
        let has_rules = self.keep_rules(origin, wishes);
        self.keep_routes(origin, wishes, has_rules);
    }

    /// Makes the kernel have this IPv6 address, which says nothing about what else
    /// is on its link, and no other of this origin. Returns whether it has it.
    pub(crate) fn hold6(self, origin: Origin, wish: Option<(Ipv6Addr, Lifetimes)>) -> bool {
        const ALONE: u8 = 128;
        let set = wish.is_none_or(|(ip, lifetimes)| {
            let outcome = self.netlink.set_address6(self.index, (ip, ALONE), lifetimes, self.metric(), origin);
            let is_set = outcome.is_ok();
            self.warn(outcome);
            is_set
        });
        let addresses = self.netlink.addresses();
        let ours = addresses.as_ref().map_or(&[][..], Vec::as_slice).iter();
        for address in ours.filter(|address| address.link == self.index && address.origin == Some(origin)) {
            if let IpAddr::V6(ip) = address.ip {
                if wish.is_none_or(|(wanted, _)| wanted != ip) {
                    self.warn_unless_gone(self.netlink.remove_address6(self.index, (ip, address.prefix_len)));
                }
            }
        }
        self.warn(addresses.map(drop));
        set
    }

    /// Removes the other addresses. Routes of the main table go with them.
    fn keep_addresses(self, origin: Origin, wishes: &[Wish]) {
        let addresses = match self.netlink.addresses() {
            Ok(addresses) => addresses,
            Err(error) => {
                log::warn!("{}: {}", self.name, chain(&error));
                return;
            }
        };
        let ours = addresses.iter().filter(|address| address.link == self.index && address.origin == Some(origin));
        for prefix in ours.filter_map(kernel::netlink::Address::prefix4) {
            if !wishes.iter().any(|wish| wish.address == prefix) {
                self.warn_unless_gone(self.netlink.remove_address(self.index, prefix));
            }
        }
    }

    /// One rule for each address. False on a kernel that knows no rules, whose
    /// only table must then have no routes of another one.
    fn keep_rules(self, origin: Origin, wishes: &[Wish]) -> bool {
        let table = origin.table(self.index);
        let rules: Vec<Rule> =
            wishes.iter().map(|wish| Rule { source: wish.address.address().into(), table }).collect();
        for rule in &rules {
            if let Err(error) = self.netlink.set_rule(*rule) {
                log::debug!("{}: answers may leave by another link: {}", self.name, chain(&error));
                return false;
            }
        }
        // Whoever knows no rules has none to remove.
        for rule in self.netlink.rules(IpVersion::V4).unwrap_or_default() {
            if rule.table == table && !rules.contains(&rule) {
                self.warn_unless_gone(self.netlink.remove_rule(rule));
            }
        }
        true
    }

    fn keep_routes(self, origin: Origin, wishes: &[Wish], has_rules: bool) {
        let mut routes = Vec::new();
        for wish in wishes {
            let given = wish.routes.iter().copied();
            routes.extend(given.clone().map(|route| self.route(origin, wish, route, None)));
            if has_rules {
                let table = Some(origin.table(self.index));
                let own = local_routes(origin, wish.address).chain(given);
                routes.extend(own.map(|route| self.route(origin, wish, route, table)));
            }
        }
        for route in &routes {
            self.warn(self.netlink.set_route(*route));
        }
        match self.netlink.routes(self.index, origin) {
            Ok(found) => {
                for route in found.into_iter().filter(|route| !routes.iter().any(|own| own.replaces(route))) {
                    self.warn_unless_gone(self.netlink.remove_route(route));
                }
            }
            Err(error) => log::warn!("{}: {}", self.name, chain(&error)),
        }
    }

    fn route(self, origin: Origin, wish: &Wish, route: lease::Route, table: Option<u32>) -> Route {
        Route {
            link: self.index,
            destination: route.destination,
            router: route.router,
            on_link: route.on_link,
            source: wish.address.address(),
            metric: self.metric(),
            origin,
            table,
        }
    }

    pub(crate) fn warn(self, outcome: Result<(), NetlinkError>) {
        if let Err(error) = outcome {
            log::warn!("{}: {}", self.name, chain(&error));
        }
    }

    fn warn_unless_gone(self, outcome: Result<(), NetlinkError>) {
        self.warn(outcome.or_else(|error| if error.is_gone() { Ok(()) } else { Err(error) }));
    }
}

/// What an address reaches without a router: its network. A link-local one
/// reaches everything, as nothing that it sends may go through a router (RFC
/// 3927 section 2.6.2).
fn local_routes(origin: Origin, address: Prefix4) -> impl Iterator<Item = lease::Route> {
    let destination = match origin {
        Origin::LinkLocal => Some(Prefix4::ANY),
        // An address alone is no network.
        Origin::Dhcp | Origin::Setting => Some(address).filter(|address| address.len() < 32),
    };
    destination.map(|destination| lease::Route { destination, router: None, on_link: false }).into_iter()
}

/// Removes the rules of links that are there no longer. The kernel removes only
/// their addresses and routes.
pub(crate) fn forget_links(netlink: &Netlink, present: &[u32]) {
    let is_present = |rule: &Rule| {
        present.iter().any(|link| Origin::ALL.into_iter().any(|origin| origin.table(*link) == rule.table))
    };
    for rule in netlink.rules(IpVersion::V4).unwrap_or_default().into_iter().filter(|rule| !is_present(rule)) {
        if let Err(error) = netlink.remove_rule(rule) {
            if !error.is_gone() {
                log::warn!("{}", chain(&error));
            }
        }
    }
}

/// How the kernel is to treat the addresses of a link.
pub(crate) fn set_up_ipv4(root: &Root, link: &str) {
    for (name, value) in [
        // Two addresses of one subnet, an old lease's and a new one's: the kernel
        // would remove the new one together with the old (`__inet_del_ifa` in its
        // `net/ipv4/devinet.c`).
        ("promote_secondaries", "1"),
        // Two links to one network: each answers for its own addresses only, and
        // asks from its own, and what comes in by one link need not be what the
        // main table would send by it.
        ("arp_ignore", "1"),
        ("arp_announce", "2"),
        ("rp_filter", "2"),
        // One packet of anybody's on the link would take over the way to a host.
        ("accept_redirects", "0"),
    ] {
        if let Err(error) = root.write(format!("proc/sys/net/ipv4/conf/{link}/{name}"), value) {
            log::warn!("{link}: {}", chain(&error));
        }
    }
}
