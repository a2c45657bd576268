//! Addresses, routes and rules.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// `RT_TABLE_MAIN` of `linux/rtnetlink.h`.
pub const MAIN_TABLE: u32 = 254;
/// The priority of our rules: before the main table's, whose priority is 32766.
pub const RULE_PRIORITY: u32 = 1000;
/// Tables of our own begin here, in steps that leave room for every link.
pub const FIRST_TABLE: u32 = 1 << 24;

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The length of an address in bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The destination of a default route.
    pub const fn any(self) -> Net {
        match self {
            Self::V4 => Net { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 0 },
            Self::V6 => Net { ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED), len: 0 },
        }
    }
}

/// An address with the length of its network's prefix in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    /// The address.
    pub ip: IpAddr,
    /// At most [`Family::bits`].
    pub len: u8,
}

impl Net {
    /// The network: the address without the bits of the host.
    #[must_use]
    pub fn network(self) -> Self {
        let host = u32::from(Family::of(self.ip).bits().saturating_sub(self.len));
        let ip = match self.ip {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & u32::MAX.checked_shl(host).unwrap_or(0)).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & u128::MAX.checked_shl(host).unwrap_or(0)).into(),
        };
        Self { ip, len: self.len }
    }

    /// Whether an address is in the network.
    pub fn contains(self, ip: IpAddr) -> bool {
        Family::of(self.ip) == Family::of(ip) && Self { ip, ..self }.network() == self.network()
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.len)
    }
}

/// The source of an address and of the routes that come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A DHCP server gave it.
    Dhcp,
    /// It was chosen for want of a server (RFC 3927).
    LinkLocal,
    /// A setting of this boot says so.
    Setting,
}

impl Origin {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Dhcp, Self::LinkLocal, Self::Setting];

    /// The tag: `RTPROT_DHCP` of `linux/rtnetlink.h`, and numbers that are free
    /// there, as others leave routes with `RTPROT_STATIC`. Addresses have a
    /// protocol field, too (`IFA_PROTO`, kernel 5.18), in which anything above 3
    /// is free.
    pub const fn protocol(self) -> u8 {
        match self {
            Self::Dhcp => 16,
            Self::LinkLocal => 169,
            Self::Setting => 170,
        }
    }

    /// The origin with a tag.
    pub fn from_protocol(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.protocol() == number)
    }

    /// The number of the IPv4 routing table for datagrams from such an address of
    /// a link. It is made of the link's index, which is never used again.
    pub const fn table(self, link: u32) -> u32 {
        FIRST_TABLE * (self as u32 + 1) + link
    }
}

/// The number of the IPv6 routing table for datagrams from any address of a link.
pub const fn link_table(link: u32) -> u32 {
    FIRST_TABLE + link
}

/// The remaining time of an address; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// For new connections.
    pub preferred: Option<Duration>,
    /// At all.
    pub valid: Option<Duration>,
}

impl Lifetimes {
    /// Without an end.
    pub const FOR_EVER: Self = Self { preferred: None, valid: None };

    /// Whether two of them end at the same time. The kernel counts in seconds, and
    /// some time passes between a look and a plan.
    pub fn is_near(self, other: Self) -> bool {
        let near = |one: Option<Duration>, other: Option<Duration>| match (one, other) {
            (Some(one), Some(other)) => one.abs_diff(other) <= Duration::from_secs(2),
            (one, other) => one == other,
        };
        near(self.preferred, other.preferred) && near(self.valid, other.valid)
    }
}

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// The length of its network's prefix.
    pub prefix_len: u8,
    /// It is good on its link only.
    pub is_link_local: bool,
    /// It can be used: no duplicate, and not still looking for one.
    pub is_usable: bool,
    /// Another host has it (IPv6).
    pub is_duplicate: bool,
    /// It is made of a prefix that a router announces (IPv6): by the kernel's
    /// mark, or on kernels without marks if it ends.
    pub is_announced: bool,
    /// Its remaining time.
    pub lifetimes: Lifetimes,
    /// The metric of the route to its network (`IFA_RT_PRIORITY`); 0 is the
    /// kernel's choice.
    pub metric: u32,
    /// Its source, if it is one of ours: by its tag. On kernels without tags, one
    /// of IPv4 that ends came by DHCP.
    pub origin: Option<Origin>,
}

impl Address {
    /// The address with its prefix.
    pub const fn net(&self) -> Net {
        Net { ip: self.ip, len: self.prefix_len }
    }

    /// Whether both are the same object of the kernel's. Two of IPv4 may differ in
    /// the prefix alone, two of IPv6 may not (`ipv6_get_ifaddr` in the kernel's
    /// `net/ipv6/addrconf.c`).
    pub fn is_at(&self, other: &Self) -> bool {
        (self.link, self.ip) == (other.link, other.ip) && (self.ip.is_ipv6() || self.prefix_len == other.prefix_len)
    }
}

/// A route to a network on a link or through a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The table that it is in.
    pub table: u32,
    /// The network.
    pub destination: Net,
    /// The least wins.
    pub metric: u32,
    /// The link's index.
    pub link: u32,
    /// The router; `None` if the destination is on the link.
    pub router: Option<IpAddr>,
    /// The router is on the link even if no address says so.
    pub on_link: bool,
    /// The address that datagrams leave with; `None` is the kernel's choice.
    pub source: Option<IpAddr>,
    /// The maker's number (`RTPROT_*`).
    pub protocol: u8,
}

impl Route {
    /// Its family.
    pub const fn family(&self) -> Family {
        Family::of(self.destination.ip)
    }

    /// The origin that its tag names; `None` if the route is not ours.
    pub fn origin(&self) -> Option<Origin> {
        Origin::from_protocol(self.protocol)
    }

    /// Whether the kernel keeps one in place of the other.
    pub fn replaces(&self, other: &Self) -> bool {
        let key = |route: &Self| (route.table, route.destination.network(), route.metric);
        key(self) == key(other)
    }
}

/// A rule: datagrams from an address use a table of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The address.
    pub source: IpAddr,
    /// The table: an [`Origin::table`] for IPv4, a [`link_table`] for IPv6.
    pub table: u32,
    /// Rules with a lower number come first.
    pub priority: u32,
}

impl Rule {
    /// A rule of ours.
    pub const fn new(source: IpAddr, table: u32) -> Self {
        Self { source, table, priority: RULE_PRIORITY }
    }

    /// Whether it has our tag.
    pub const fn is_ours(&self) -> bool {
        self.priority == RULE_PRIORITY && self.table >= FIRST_TABLE
    }
}

/// The kernel's state, of both families or of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The addresses of all links.
    pub addresses: Vec<Address>,
    /// The unicast routes through one link, those first that their routers prefer
    /// (RFC 4191).
    pub routes: Vec<Route>,
    /// The rules that have a source and a table.
    pub rules: Vec<Rule>,
    /// The families whose rules the kernel doesn't know. Their main table is the
    /// only one.
    pub without_rules: Vec<Family>,
}
