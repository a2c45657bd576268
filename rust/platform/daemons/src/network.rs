//! The state of the machine's network as the applet `dhcp` wants it, put to the
//! kernel.

use std::net::IpAddr;

use kernel::netlink::{Netlink, NetlinkError};
use kernel::root::Root;
use netplan::{self, Address, Desired, Family, Hold, Item, NetOp, Origin, Scope, State};
use netproto::net::Prefix4;

use kernel::error::chain;

/// One link, as far as the kernel is told about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub(crate) netlink: &'a Netlink,
    pub(crate) index: u32,
    pub(crate) name: &'a str,
}

/// The outcome of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There was nothing to change.
    Unchanged,
    /// All that was to be there is there.
    Changed,
    /// The kernel refused something.
    Failed,
}

impl Holder<'_> {
    /// Makes the kernel have these addresses and no other of this origin and family.
    pub(crate) fn hold(self, origin: Origin, family: Family, holds: &[Hold]) -> Outcome {
        let desired = netplan::held(self.index, origin, family, holds);
        let look = || look(self.netlink, family, self.netlink.addresses()?);
        settle(self.netlink, self.name, look, |_| desired)
    }

    pub(crate) fn warn(self, outcome: Result<(), NetlinkError>) {
        if let Err(error) = outcome {
            log::warn!("{}: {}", self.name, chain(&error));
        }
    }
}

/// Source routes: makes answers from the IPv6 addresses of the links `own` leave by these links,
/// and removes the rules and tables of links that are not `present`.
pub(crate) fn keep_source_routes(netlink: &Netlink, own: &[u32], present: &[u32], addresses: &[Address]) {
    let look = || {
        let mut state = look(netlink, Family::V6, addresses.to_vec())?;
        // A kernel that knows no rules has none to remove.
        state.rules.extend(netlink.rules(Family::V4).unwrap_or_default());
        Ok(state)
    };
    settle(netlink, "source routes", look, |state| {
        let mut desired = netplan::source_routes(state, own, present);
        desired.scopes.push(Scope::Gone { family: Family::V4, present: present.to_vec() });
        desired
    });
}

/// Removes all IPv6 rules and tables.
pub(crate) fn forget_source_routes(netlink: &Netlink) {
    let none = netplan::source_routes(&State::default(), &[], &[]);
    settle(netlink, "source routes", || look(netlink, Family::V6, Vec::new()), |_| none);
}

/// The kernel's state of one family, with addresses that were listed already.
fn look(netlink: &Netlink, family: Family, addresses: Vec<Address>) -> Result<State, NetlinkError> {
    let (rules, without_rules) = match netlink.rules(family) {
        Ok(rules) => (rules, Vec::new()),
        Err(error) => {
            log::debug!("answers may leave by another link: {}", chain(&error));
            (Vec::new(), vec![family])
        }
    };
    Ok(State { addresses, routes: netlink.routes(family)?, rules, without_rules })
}

/// Plans and applies. Each operation is tried even if those before it failed.
fn settle(
    netlink: &Netlink,
    subject: &str,
    look: impl FnOnce() -> Result<State, NetlinkError>,
    want: impl FnOnce(&State) -> Desired,
) -> Outcome {
    let state = match look() {
        Ok(state) => state,
        Err(error) => {
            log::warn!("{subject}: {}", chain(&error));
            return Outcome::Failed;
        }
    };
    let mut outcome = Outcome::Unchanged;
    for op in netplan::plan(&want(&state), &state) {
        log::debug!("{subject}: {op}");
        match netlink.apply(&op) {
            Ok(()) if outcome == Outcome::Unchanged => outcome = Outcome::Changed,
            Ok(()) => {}
            // An object may have gone since the look, and its routes with it. The
            // kernel tells of that, too.
            Err(error) if error.is_gone() && !matches!(op, NetOp::Add(Item::Address(_))) => {
                log::debug!("{subject}: {}", chain(&error));
            }
            Err(error) => {
                log::warn!("{subject}: {}", chain(&error));
                outcome = Outcome::Failed;
            }
        }
    }
    outcome
}

/// An IPv4 address with its prefix.
pub(crate) fn prefix4(address: &Address) -> Option<Prefix4> {
    match address.ip {
        IpAddr::V4(ip) => Prefix4::new(ip, address.prefix_len),
        IpAddr::V6(_) => None,
    }
}

/// The kernel's treatment of the addresses of a link.
pub(crate) fn set_up_ipv4(root: &Root, link: &str) {
    let values = [
        // Two addresses of one subnet, an old lease's and a new one's: the kernel
        // would remove the new one together with the old (`__inet_del_ifa` in its
        // `net/ipv4/devinet.c`).
        ("promote_secondaries", "1"),
        // Two links to one network: each answers for its own addresses only, and
        // asks from its own, and a packet that comes in by one link need not be
        // one that the main table would answer by it.
        ("arp_ignore", "1"),
        ("arp_announce", "2"),
        ("rp_filter", "2"),
        // One packet of anybody's on the link would take over the way to a host.
        ("accept_redirects", "0"),
    ];
    set_up(root, "ipv4", link, &values);
}

/// The kernel does the rest: link-local addresses, and the announcements of routers.
pub(crate) fn set_up_ipv6(root: &Root, link: &str) {
    let values = [
        // Each address has the card's number in it, so it is the same on each
        // boot, and no other one comes and goes beside it.
        ("addr_gen_mode", "0"),
        ("use_tempaddr", "0"),
        ("accept_ra", "1"),
        // One packet of anybody's on the link would take over the way to a host.
        ("accept_redirects", "0"),
        ("disable_ipv6", "0"),
    ];
    set_up(root, "ipv6", link, &values);
}

/// Writes only values that differ: a write has the kernel begin anew, and says so to
/// every listener.
fn set_up(root: &Root, family: &str, link: &str, values: &[(&str, &str)]) {
    for (name, value) in values {
        let path = format!("proc/sys/net/{family}/conf/{link}/{name}");
        let outcome = root.read(&path).and_then(|now| if now == *value { Ok(()) } else { root.write(&path, value) });
        if let Err(error) = outcome {
            log::warn!("{link}: {}", chain(&error));
        }
    }
}
