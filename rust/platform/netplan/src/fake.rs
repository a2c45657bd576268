//! A kernel for tests: the rules by which Linux takes, refuses and drops addresses,
//! routes and rules, as far as plans meet them. A test of the network tests compares
//! it with the real one.

pub mod chance;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{Address, Family, MAIN_TABLE, Net, Route, Rule, State};
use crate::plan::{Item, NetOp};

/// `RTPROT_KERNEL` of `linux/rtnetlink.h`.
pub const KERNEL: u8 = 2;
/// The metric of an IPv6 network's route (`IP6_RT_PRIO_ADDRCONF`).
const METRIC6: u32 = 256;

/// The kernel's answer to an operation that it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errno {
    /// ENOENT
    NoEntry = 2,
    /// ESRCH
    NoProcess = 3,
    /// EEXIST
    Exists = 17,
    /// ENODEV
    NoDevice = 19,
    /// EINVAL
    Invalid = 22,
    /// EADDRNOTAVAIL
    AddressNotAvailable = 99,
    /// ENETDOWN
    NetDown = 100,
    /// ENETUNREACH
    NetUnreachable = 101,
    /// EHOSTUNREACH
    HostUnreachable = 113,
}

/// Links and their network state. An IPv4 address takes over from one that goes, as
/// `promote_secondaries` says. IPv6 looks for no duplicates.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    /// Whether they are up, by their indexes.
    links: BTreeMap<u32, bool>,
    /// With whether another IPv4 address of the network was there first. That one
    /// has the network's route.
    addresses: Vec<(Address, bool)>,
    routes: Vec<Route>,
    rules: Vec<Rule>,
    without_rules: Vec<Family>,
}

impl Fake {
    /// Links with these indexes, all up.
    pub fn new(links: &[u32]) -> Self {
        Self { links: links.iter().map(|link| (*link, true)).collect(), ..Self::default() }
    }

    /// Knows no rules of a family.
    pub fn forget_rules(&mut self, family: Family) {
        self.without_rules.push(family);
    }

    /// All that is there.
    pub fn state(&self) -> State {
        State {
            addresses: self.addresses.iter().map(|(address, _)| address.clone()).collect(),
            routes: self.routes.clone(),
            rules: self.rules.clone(),
            without_rules: self.without_rules.clone(),
        }
    }

    /// Takes a link down or brings it up. Down, it loses all routes and its IPv6
    /// addresses.
    pub fn set_up(&mut self, link: u32, up: bool) {
        let was_up = self.links.insert(link, up);
        if !up {
            self.routes.retain(|route| route.link != link);
            self.addresses.retain(|(address, _)| address.link != link || address.ip.is_ipv4());
        } else if was_up == Some(false) {
            let primary = self.addresses.iter().filter(|(address, is_second)| address.link == link && !is_second);
            let routes: Vec<Route> = primary.filter_map(|(address, _)| prefix_route(address)).collect();
            self.routes.extend(routes);
        }
    }

    /// Removes a link with its addresses and routes. Rules stay.
    pub fn remove_link(&mut self, link: u32) {
        self.links.remove(&link);
        self.routes.retain(|route| route.link != link);
        let gone: Vec<IpAddr> =
            self.addresses.iter().filter(|(address, _)| address.link == link).map(|(address, _)| address.ip).collect();
        self.addresses.retain(|(address, _)| address.link != link);
        for ip in gone {
            self.drop_routes_from(ip);
        }
    }

    /// Does it, or says why not.
    pub fn apply(&mut self, op: &NetOp) -> Result<(), Errno> {
        match op {
            NetOp::Add(Item::Address(address)) => self.set_address(address, false),
            NetOp::Replace(Item::Address(address)) => self.set_address(address, true),
            NetOp::Delete(Item::Address(address)) => self.delete_address(address),
            NetOp::Add(Item::Route(route)) => self.set_route(*route, false),
            NetOp::Replace(Item::Route(route)) => self.set_route(*route, true),
            NetOp::Delete(Item::Route(route)) => {
                let at = self.routes.iter().position(|other| other == route).ok_or(Errno::NoProcess)?;
                self.routes.remove(at);
                Ok(())
            }
            NetOp::Add(Item::Rule(rule)) if self.rules.contains(rule) => Err(Errno::Exists),
            // `fib_nl_newrule` of the kernel's `net/core/fib_rules.c` replaces nothing.
            NetOp::Add(Item::Rule(rule)) | NetOp::Replace(Item::Rule(rule)) => {
                self.rules.push(*rule);
                Ok(())
            }
            NetOp::Delete(Item::Rule(rule)) => {
                let at = self.rules.iter().position(|other| other == rule).ok_or(Errno::NoEntry)?;
                self.rules.remove(at);
                Ok(())
            }
        }
    }

    /// `inet_rtm_newaddr` of the kernel's `net/ipv4/devinet.c`, and `inet6_addr_add`
    /// and `inet6_addr_modify` of its `net/ipv6/addrconf.c`.
    fn set_address(&mut self, new: &Address, replace: bool) -> Result<(), Errno> {
        let is_up = *self.links.get(&new.link).ok_or(Errno::NoDevice)?;
        if let Some((found, is_second)) = self.addresses.iter_mut().find(|(found, _)| found.is_at(new)) {
            if !replace {
                return Err(Errno::Exists);
            }
            let old = prefix_route(found);
            let was_for_ever = found.lifetimes.valid.is_none();
            *found = Address { prefix_len: found.prefix_len, is_link_local: found.is_link_local, ..new.clone() };
            let moved = prefix_route(found);
            if new.ip.is_ipv6() {
                let old = self.prefix_route6(new.link, new.net().network());
                self.routes.retain(|route| !was_for_ever || Some(*route) != old || old == moved);
                self.add_prefix_route(moved);
            } else if is_up && !*is_second && old != moved {
                self.routes.retain(|route| Some(*route) != old);
                self.add_prefix_route(moved);
            }
            return Ok(());
        }
        let same =
            |(other, _): &&(Address, bool)| other.link == new.link && other.net().network() == new.net().network();
        let is_second = new.ip.is_ipv4() && self.addresses.iter().find(same).is_some();
        if is_second && self.addresses.iter().filter(same).any(|(other, _)| other.is_link_local != new.is_link_local) {
            return Err(Errno::Invalid);
        }
        self.addresses.push((new.clone(), is_second));
        if is_up && !is_second {
            self.add_prefix_route(prefix_route(new));
        }
        Ok(())
    }

    /// `addrconf_get_prefix_route` of the kernel's `net/ipv6/addrconf.c`: of several
    /// routes to the network the one with the least metric, whatever address made it.
    fn prefix_route6(&self, link: u32, network: Net) -> Option<Route> {
        let is_one = |route: &&Route| {
            (route.table, route.link, route.router, route.destination) == (MAIN_TABLE, link, None, network)
        };
        self.routes.iter().filter(is_one).min_by_key(|route| route.metric).copied()
    }

    fn add_prefix_route(&mut self, route: Option<Route>) {
        let Some(route) = route else { return };
        let is_same = |other: &Route| other.replaces(&route) && other.link == route.link && other.router.is_none();
        if route.family() == Family::V4 || !self.routes.iter().any(is_same) {
            self.routes.push(route);
        }
    }

    /// `__inet_del_ifa` and `fib_del_ifaddr`, and `ipv6_del_addr`.
    fn delete_address(&mut self, old: &Address) -> Result<(), Errno> {
        if !self.links.contains_key(&old.link) {
            return Err(Errno::NoDevice);
        }
        let is_it = |(found, _): &(Address, bool)| found.is_at(old) && found.prefix_len == old.prefix_len;
        let at = self.addresses.iter().position(is_it).ok_or(Errno::AddressNotAvailable)?;
        let (gone, is_second) = self.addresses.remove(at);
        let net = |address: &Address| (address.link, address.net().network());
        if gone.ip.is_ipv4() {
            if !is_second {
                self.routes.retain(|route| Some(*route) != prefix_route(&gone));
            }
            let is_there = self.addresses.iter().any(|(other, _)| other.ip == gone.ip);
            if !is_there {
                self.drop_routes_from(gone.ip);
            }
            // `fib_inetaddr_event` of the kernel's `net/ipv4/fib_frontend.c`: a link
            // without an address has no IPv4.
            if !self.addresses.iter().any(|(other, _)| other.link == gone.link && other.ip.is_ipv4()) {
                self.routes.retain(|route| route.link != gone.link || route.family() == Family::V6);
            }
            let next = self.addresses.iter_mut().find(|(other, _)| !is_second && net(other) == net(&gone));
            if let Some((next, is_second)) = next {
                *is_second = false;
                let route = prefix_route(next);
                if self.links.get(&old.link) == Some(&true) {
                    self.add_prefix_route(route);
                }
            }
        } else if gone.lifetimes.valid.is_none() {
            let is_shared = self.addresses.iter().any(|(other, _)| net(other) == net(&gone));
            let found = self.prefix_route6(gone.link, gone.net().network());
            if let Some(found) = found.filter(|_| !is_shared) {
                self.routes.retain(|route| *route != found);
            }
        }
        Ok(())
    }

    /// `fib_sync_down_addr` of the kernel's `net/ipv4/fib_semantics.c`: of the main
    /// table alone.
    fn drop_routes_from(&mut self, ip: IpAddr) {
        self.routes.retain(|route| ip.is_ipv6() || route.table != MAIN_TABLE || route.source != Some(ip));
    }

    /// `fib_table_insert` and `fib_create_info`, and `ip6_route_add`.
    fn set_route(&mut self, new: Route, replace: bool) -> Result<(), Errno> {
        if !*self.links.get(&new.link).ok_or(Errno::NoDevice)? {
            return Err(Errno::NetDown);
        }
        if let Some(router) = new.router.filter(|_| !new.on_link) {
            let is_way = |route: &Route| {
                [MAIN_TABLE, new.table].contains(&route.table)
                    && (route.link, route.router) == (new.link, None)
                    && route.destination.contains(router)
            };
            let is_on_link = matches!(router, IpAddr::V6(router) if router.is_unicast_link_local());
            if !is_on_link && !self.routes.iter().any(is_way) {
                return Err(if router.is_ipv4() { Errno::NetUnreachable } else { Errno::HostUnreachable });
            }
        }
        if new.source.is_some_and(|source| !self.addresses.iter().any(|(address, _)| address.ip == source)) {
            return Err(Errno::Invalid);
        }
        match self.routes.iter().position(|route| route.replaces(&new)) {
            Some(_) if !replace => Err(Errno::Exists),
            Some(at) => {
                self.routes[at] = new;
                Ok(())
            }
            None => {
                self.routes.push(new);
                Ok(())
            }
        }
    }
}

/// The route that the kernel makes for an address's network.
fn prefix_route(address: &Address) -> Option<Route> {
    let family = Family::of(address.ip);
    let Net { ip, len } = address.net();
    let metric = if family == Family::V6 && address.metric == 0 { METRIC6 } else { address.metric };
    let route = Route {
        table: MAIN_TABLE,
        destination: Net { ip, len }.network(),
        metric,
        link: address.link,
        router: None,
        on_link: false,
        source: Some(ip).filter(IpAddr::is_ipv4),
        protocol: KERNEL,
    };
    Some(route).filter(|_| family == Family::V6 || len < family.bits())
}
