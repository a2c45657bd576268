//! The lease that a server gives, checked before anything uses it, by the rule of
//! [`crate::lenient`]: address and server decide, all else has a default.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::wire::{ClasslessRoute, Message};
use crate::net::{Prefix4, class_prefix, is_unicast};

/// A link with less carries no IPv6 (RFC 8200 section 5): the kernel would
/// switch it off.
const MIN_MTU: u16 = 1280;
/// More routes than this are a mistake.
const MAX_ROUTES: usize = 32;
/// RFC 2132 section 9.2 via RFC 2131 section 3.3.
const FOR_EVER: u32 = u32::MAX;
/// The time of a lease, in seconds, if its server does not say, as
/// in udhcpc.
const USUAL_TIME: u32 = 3600;

/// A route that the server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network; a prefix of no bits is the default route.
    pub destination: Prefix4,
    /// The router; `None` if the network is on the link itself.
    pub router: Option<Ipv4Addr>,
    /// Whether the router is outside the lease's network, and has to be
    /// believed to be on the link.
    pub on_link: bool,
}

/// An address that a server gives, and what comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address and its network.
    pub address: Prefix4,
    /// The server that gave it.
    pub server: Ipv4Addr,
    /// How long, from the request on; `None` is for ever.
    pub terms: Option<Terms>,
    /// In bytes.
    pub mtu: Option<u16>,
    /// The default route and others.
    pub routes: Vec<Route>,
    /// The parts that were passed over.
    pub oddities: Vec<Oddity>,
}

/// The times of a lease that ends, from the request on: `renew < rebind <
/// expire`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// T1: ask the server for more.
    pub renew: Duration,
    /// T2: ask any server for more.
    pub rebind: Duration,
    /// The end.
    pub expire: Duration,
}

/// Why an offer or an acknowledgement is no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Without it there is nobody to ask (RFC 2131 table 3: MUST).
    #[error("it does not say which server it is from")]
    NoServer,
    /// It is the address that is given.
    #[error("{0} cannot be a server's address")]
    BadServer(Ipv4Addr),
    /// No host can have the address.
    #[error("no host can have the address {0}")]
    BadAddress(Prefix4),
    /// The answer came after the end of what it gives.
    #[error("the lease is over before it begins")]
    NoTime,
}

/// A fault in a part of a lease that is good without the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// No mask; the address's class decided.
    NoMask,
    /// The same, as there is one that is no mask.
    BadMask(Ipv4Addr),
    /// No time, or none at all.
    NoLeaseTime,
    /// The acknowledgement is of another server than was asked, for the address
    /// that was asked for.
    OtherServer(Ipv4Addr),
    /// The server that was asked gives another address than it had offered.
    OtherAddress(Ipv4Addr),
    /// The MTU is too small for IPv6.
    SmallMtu(u16),
    /// The router cannot be one.
    BadRouter(Ipv4Addr),
    /// The destination cannot be one.
    BadDestination(Prefix4),
    /// More routes than are good for anything.
    TooManyRoutes(usize),
    /// T1 and T2 are not in order; RFC 2131's own took their place.
    BadTimes,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMask => write!(f, "there is no network mask; the address's class decides"),
            Self::BadMask(mask) => write!(f, "{mask} is no network mask; the address's class decides"),
            Self::NoLeaseTime => write!(f, "it does not say for how long; {USUAL_TIME} s are usual"),
            Self::OtherServer(asked) => write!(f, "the server {asked} was asked, and another one answers"),
            Self::OtherAddress(asked) => write!(f, "{asked} was offered, and another address is given"),
            Self::SmallMtu(mtu) => write!(f, "an MTU of {mtu} would switch IPv6 off; passed over"),
            Self::BadRouter(address) => write!(f, "{address} cannot be a router; passed over"),
            Self::BadDestination(prefix) => write!(f, "{prefix} cannot be a route's destination; passed over"),
            Self::TooManyRoutes(count) => write!(f, "of {count} routes only {MAX_ROUTES} are taken"),
            Self::BadTimes => write!(f, "the times to renew and to rebind make no sense; the usual ones are taken"),
        }
    }
}

impl Lease {
    /// Reads the lease in an OFFER or an ACK.
    pub fn from_message(message: &Message) -> Result<Self, LeaseError> {
        let options = &message.options;
        let mut oddities = Vec::new();
        let server = options.server.ok_or(LeaseError::NoServer)?;
        let address = network(message.yiaddr, options.mask, &mut oddities);
        if !address.is_host() {
            return Err(LeaseError::BadAddress(address));
        }
        if server == address.address() {
            return Err(LeaseError::BadServer(server));
        }
        let seconds = options.lease_time.filter(|seconds| *seconds > 0).unwrap_or_else(|| {
            oddities.push(Oddity::NoLeaseTime);
            USUAL_TIME
        });
        let terms = match seconds {
            FOR_EVER => None,
            seconds => Some(terms(seconds, options.t1, options.t2, &mut oddities)),
        };
        let mtu = options.mtu.filter(|mtu| {
            let good = *mtu >= MIN_MTU;
            if !good {
                oddities.push(Oddity::SmallMtu(*mtu));
            }
            good
        });
        let routes = match &options.routes {
            // RFC 3442: then the router option MUST be ignored.
            Some(routes) => classless(address, routes, &mut oddities),
            None => default_route(address, &options.routers, &mut oddities),
        };
        Ok(Self { address, server, terms, mtu, routes, oddities })
    }
}

/// The address with its network, of its class if there is no mask that is one.
fn network(address: Ipv4Addr, mask: Option<Ipv4Addr>, oddities: &mut Vec<Oddity>) -> Prefix4 {
    let given = mask.and_then(|mask| Prefix4::from_mask(address, mask)).filter(|prefix| prefix.len() > 0);
    given.unwrap_or_else(|| {
        oddities.push(mask.map_or(Oddity::NoMask, Oddity::BadMask));
        class_prefix(address)
    })
}

/// RFC 2131 section 4.4.5: T1 is half, T2 seven eighths of the time, unless
/// the server says otherwise and makes sense.
fn terms(seconds: u32, t1: Option<u32>, t2: Option<u32>, oddities: &mut Vec<Oddity>) -> Terms {
    let expire = Duration::from_secs(seconds.into());
    let usual = Terms { renew: expire / 2, rebind: expire / 8 * 7, expire };
    let given = Terms {
        renew: t1.map_or(usual.renew, |t| Duration::from_secs(t.into())),
        rebind: t2.map_or(usual.rebind, |t| Duration::from_secs(t.into())),
        expire,
    };
    if !given.renew.is_zero() && given.renew < given.rebind && given.rebind < given.expire {
        given
    } else {
        oddities.push(Oddity::BadTimes);
        usual
    }
}

fn default_route(own: Prefix4, routers: &[Ipv4Addr], oddities: &mut Vec<Oddity>) -> Vec<Route> {
    let mut bad = routers.iter().copied().take_while(|router| !is_router(own, *router));
    oddities.extend(bad.by_ref().map(Oddity::BadRouter));
    let router = routers.iter().copied().find(|router| is_router(own, *router));
    router.map(|router| via(own, Prefix4::ANY, router)).into_iter().collect()
}

fn classless(own: Prefix4, routes: &[ClasslessRoute], oddities: &mut Vec<Oddity>) -> Vec<Route> {
    if routes.len() > MAX_ROUTES {
        oddities.push(Oddity::TooManyRoutes(routes.len()));
    }
    let mut good: Vec<Route> = Vec::new();
    for ClasslessRoute { destination, router } in routes.iter().copied().take(MAX_ROUTES) {
        let first = destination.network().octets()[0];
        if first == 127 || first >= 224 || (first == 0 && destination.len() > 0) {
            oddities.push(Oddity::BadDestination(destination));
        } else if !router.is_unspecified() && !is_router(own, router) {
            oddities.push(Oddity::BadRouter(router));
        } else if !good.iter().any(|route| route.destination == destination) {
            good.push(via(own, destination, router));
        }
    }
    // A router is reached by a route that must be there before it.
    good.sort_by_key(|route| route.router.is_some());
    good
}

fn via(own: Prefix4, destination: Prefix4, router: Ipv4Addr) -> Route {
    let router = Some(router).filter(|router| !router.is_unspecified());
    let on_link = router.is_some_and(|router| !own.contains(router));
    Route { destination, router, on_link }
}

fn is_router(own: Prefix4, router: Ipv4Addr) -> bool {
    let plausible = is_unicast(router) || router.is_link_local();
    let takes_all = own.len() < 31 && (router == own.network() || router == own.last());
    plausible && router != own.address() && !takes_all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::wire::{Kind, Op, Options};
    use crate::net::Mac;

    const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn lease(change: impl FnOnce(&mut Options)) -> Lease {
        let mut options = Options {
            server: Some(ROUTER),
            mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            lease_time: Some(3600),
            ..Options::default()
        };
        change(&mut options);
        let message = Message {
            op: Op::Reply,
            kind: Kind::Ack,
            xid: 1,
            secs: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: OWN,
            chaddr: Mac([2; 6]),
            options,
        };
        Lease::from_message(&message).unwrap()
    }

    fn route(destination: &str, len: u8, router: &str) -> ClasslessRoute {
        ClasslessRoute {
            destination: Prefix4::new(destination.parse().unwrap(), len).unwrap(),
            router: router.parse().unwrap(),
        }
    }

    #[test]
    fn the_first_router_that_can_be_one_gets_the_default_route() {
        let lease = lease(|o| o.routers = vec![OWN, Ipv4Addr::new(192, 0, 2, 255), ROUTER]);
        assert_eq!(lease.routes, [Route { destination: Prefix4::ANY, router: Some(ROUTER), on_link: false }]);
        assert_eq!(lease.oddities, [Oddity::BadRouter(OWN), Oddity::BadRouter(Ipv4Addr::new(192, 0, 2, 255))]);
    }

    #[test]
    fn a_router_outside_the_network_is_believed_to_be_on_the_link() {
        let outside = Ipv4Addr::new(169, 254, 1, 1);
        let lease = lease(|o| {
            o.routers = vec![outside];
            o.mask = Some(Ipv4Addr::BROADCAST);
        });
        assert_eq!(lease.address.len(), 32);
        assert_eq!(lease.routes, [Route { destination: Prefix4::ANY, router: Some(outside), on_link: true }]);
    }

    #[test]
    fn classless_routes_replace_the_router_even_if_there_are_none() {
        let none = lease(|o| {
            o.routers = vec![ROUTER];
            o.routes = Some(vec![]);
        });
        assert_eq!(none.routes, []);

        let some = lease(|o| {
            o.routes = Some(vec![
                route("0.0.0.0", 0, "203.0.113.1"),
                route("203.0.113.1", 32, "0.0.0.0"),
                route("127.0.0.0", 8, "192.0.2.1"),
                route("10.0.0.0", 8, "224.0.0.1"),
                route("0.0.0.0", 0, "192.0.2.1"),
            ]);
        });
        let (link, router) = (route("203.0.113.1", 32, "0.0.0.0").destination, Ipv4Addr::new(203, 0, 113, 1));
        assert_eq!(
            some.routes,
            [
                Route { destination: link, router: None, on_link: false },
                Route { destination: Prefix4::ANY, router: Some(router), on_link: true },
            ]
        );
        assert_eq!(some.oddities.len(), 2);
    }

    #[test]
    fn a_thousand_routes_are_too_many() {
        let routes = (0..200).map(|n| route(&format!("10.{n}.0.0"), 16, "192.0.2.1")).collect();
        let lease = lease(|o| o.routes = Some(routes));
        assert_eq!((lease.routes.len(), &lease.oddities[..]), (32, &[Oddity::TooManyRoutes(200)][..]));
    }

    #[test]
    fn an_mtu_that_would_switch_ipv6_off_is_passed_over() {
        assert_eq!(lease(|o| o.mtu = Some(1280)).mtu, Some(1280));
        let small = lease(|o| o.mtu = Some(68));
        assert_eq!((small.mtu, &small.oddities[..]), (None, &[Oddity::SmallMtu(68)][..]));
    }

    #[test]
    fn without_a_mask_the_class_decides() {
        let lease = lease(|o| o.mask = None);
        assert_eq!((lease.address.len(), &lease.oddities[..]), (24, &[Oddity::NoMask][..]));
    }
}
