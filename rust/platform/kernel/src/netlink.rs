//! Links, addresses and routes, over rtnetlink(7).
//!
//! The `rtnetlink` crate is asynchronous; here it is a few functions that wait
//! for the kernel's answer, which comes at once. [`Monitor`] is a socket for
//! mio that only says that something changed: whoever hears it lists again,
//! so that a lost message costs nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::FutureExt;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, event};

pub use rtnetlink::IpVersion;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, Inet6IfaceFlags, LinkAttribute, LinkFlags, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RoutePreference, RouteProtocol, RouteScope, RouteType,
    RouteVia,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{LinkUnspec, MulticastGroup, RouteMessageBuilder};
use tokio::runtime::Runtime;

use netproto::net::{Mac, Prefix4};

/// `RT_TABLE_MAIN` of `linux/rtnetlink.h`.
const MAIN_TABLE: u32 = 254;
/// Before the main table's, whose priority is 32766.
const RULE_PRIORITY: u32 = 1000;
/// Tables of our own begin here, in steps that leave room for every link.
const FIRST_TABLE: u32 = 1 << 24;
/// `INFINITY_LIFE_TIME` of the kernel's `net/addrconf.h`.
const FOR_EVER: u32 = u32::MAX;

/// A request to the kernel, and its error.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what}")]
pub struct NetlinkError {
    what: String,
    source: io::Error,
}

impl NetlinkError {
    fn new(what: impl Into<String>, error: rtnetlink::Error) -> Self {
        let source = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other),
        };
        Self { what: what.into(), source }
    }

    /// The kernel's error.
    pub fn io(&self) -> &io::Error {
        &self.source
    }

    /// What was to be removed is not there, nor is perhaps its link.
    pub fn is_gone(&self) -> bool {
        let gone = [nix::Error::EADDRNOTAVAIL, nix::Error::ESRCH, nix::Error::ENODEV, nix::Error::ENOENT];
        self.source.raw_os_error().is_some_and(|code| gone.iter().any(|errno| *errno as i32 == code))
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it, never used again.
    pub index: u32,
    /// Its name now.
    pub name: String,
    /// Its hardware address; `None` if it is not like Ethernet, or is part of
    /// something else such as a bond, or speaks no ARP.
    pub ethernet: Option<Mac>,
    /// Its hardware address in any case.
    pub mac: Option<Mac>,
    /// It is the loopback interface.
    pub is_loopback: bool,
    /// It was brought up.
    pub is_up: bool,
    /// It is up and the other end is there.
    pub has_carrier: bool,
    /// How often the carrier went away, so that a short loss is seen too.
    pub carrier_losses: u32,
    /// In bytes.
    pub mtu: u32,
    /// Its routers say that addresses come by DHCPv6: the M flag of their last
    /// advertisement (RFC 4861 section 4.2), `IF_RA_MANAGED` of the kernel's
    /// `net/if_inet6.h`.
    pub is_managed: bool,
}

impl Link {
    /// What a message of the kernel's says of a link.
    pub fn from_message(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            ethernet: None,
            mac: None,
            is_loopback: flags.contains(LinkFlags::Loopback),
            is_up: flags.contains(LinkFlags::Up),
            has_carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            carrier_losses: 0,
            mtu: 0,
            is_managed: false,
        };
        let mut is_part = false;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::CarrierDownCount(count) => link.carrier_losses = *count,
                LinkAttribute::Controller(_) => is_part = true,
                LinkAttribute::AfSpecUnspec(families) => link.is_managed = families.iter().any(is_managed),
                LinkAttribute::Address(bytes) => {
                    link.mac = bytes.as_slice().try_into().ok().map(Mac).filter(|mac| mac.is_station());
                    link.ethernet = link.mac;
                }
                _ => {}
            }
        }
        let is_ethernet = message.header.link_layer_type == LinkLayerType::Ether;
        if !is_ethernet || is_part || flags.intersects(LinkFlags::Loopback | LinkFlags::Noarp) {
            link.ethernet = None;
        }
        link
    }
}

fn is_managed(family: &AfSpecUnspec) -> bool {
    let AfSpecUnspec::Inet6(attributes) = family else { return false };
    let is_set = |attribute: &AfSpecInet6| matches!(attribute, AfSpecInet6::Flags(flags) if flags.contains(Inet6IfaceFlags::RaManaged));
    attributes.iter().any(is_set)
}

/// Where an address, and what belongs to it, comes from. The mark that tells is
/// in the kernel, so that a restarted program knows its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

    /// The mark: `RTPROT_DHCP` of `linux/rtnetlink.h`, and numbers that are free
    /// there, as others leave routes with `RTPROT_STATIC`. Addresses have a
    /// protocol field, too (`IFA_PROTO`, kernel 5.18), in which anything above 3
    /// is free.
    const fn protocol(self) -> u8 {
        match self {
            Self::Dhcp => 16,
            Self::LinkLocal => 169,
            Self::Setting => 170,
        }
    }

    fn from_protocol(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.protocol() == number)
    }

    /// The number of the routing table for what is sent from such an address
    /// of a link. It is made of the link's index, which is never used again.
    pub const fn table(self, link: u32) -> u32 {
        FIRST_TABLE * (self as u32 + 1) + link
    }
}

/// The number of the IPv6 routing table for what is sent from any address of a
/// link.
pub const fn link_table(link: u32) -> u32 {
    FIRST_TABLE + link
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
    /// Its remaining time; `None` is for ever.
    pub valid: Option<Duration>,
    /// Where it comes from, if it is one of ours: by its mark. On kernels
    /// without marks, one of IPv4 that ends came by DHCP.
    pub origin: Option<Origin>,
}

impl Address {
    /// What a message of the kernel's says of an address; `None` if there is none
    /// in it.
    pub fn from_message(message: &AddressMessage) -> Option<Self> {
        let header = &message.header;
        let (mut address, mut local, mut valid, mut protocol) = (None, None, FOR_EVER, None);
        let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Flags(all) => flags = *all,
                AddressAttribute::CacheInfo(info) => valid = info.ifa_valid,
                AddressAttribute::Protocol(number) => protocol = Some(u8::from(*number)),
                _ => {}
            }
        }
        // On a point-to-point link the other attribute is the other end's.
        let ip = local.or(address)?;
        let origin = match protocol {
            Some(number) if number != 0 => Origin::from_protocol(number),
            _ => (ip.is_ipv4() && valid != FOR_EVER).then_some(Origin::Dhcp),
        };
        Some(Self {
            link: header.index,
            ip,
            prefix_len: header.prefix_len,
            is_link_local: header.scope == AddressScope::Link,
            is_usable: !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
            is_duplicate: flags.contains(AddressFlags::Dadfailed),
            is_announced: match protocol {
                Some(number) if number != 0 => AddressProtocol::from(number) == AddressProtocol::RouterAnnouncement,
                _ => ip.is_ipv6() && valid != FOR_EVER,
            },
            valid: Some(valid).filter(|valid| *valid != FOR_EVER).map(|valid| Duration::from_secs(valid.into())),
            origin,
        })
    }

    /// The address with its prefix, if it is of IPv4.
    pub fn prefix4(&self) -> Option<Prefix4> {
        match self.ip {
            IpAddr::V4(ip) => Prefix4::new(ip, self.prefix_len),
            IpAddr::V6(_) => None,
        }
    }
}

/// An IPv4 route of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The link's index.
    pub link: u32,
    /// Where to.
    pub destination: Prefix4,
    /// Through whom; `None` if the destination is on the link.
    pub router: Option<Ipv4Addr>,
    /// Take it that the router is on the link, whatever the addresses say.
    pub on_link: bool,
    /// Which address to send from.
    pub source: Ipv4Addr,
    /// The least wins.
    pub metric: u32,
    /// What it comes with.
    pub origin: Origin,
    /// The table that it is in: [`Origin::table`], or `None` for the main one.
    pub table: Option<u32>,
}

impl Route {
    /// Whether the kernel sees one in place of the other.
    pub fn replaces(&self, other: &Self) -> bool {
        let key = |route: &Self| (route.table, route.destination.network(), route.destination.len(), route.metric);
        key(self) == key(other)
    }

    /// For the kernel.
    pub fn to_message(self) -> RouteMessage {
        let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .protocol(RouteProtocol::from(self.origin.protocol()))
            .table_id(self.table.unwrap_or(MAIN_TABLE))
            .destination_prefix(self.destination.network(), self.destination.len())
            .output_interface(self.link)
            .pref_source(self.source)
            .priority(self.metric);
        builder = match self.router {
            Some(router) => builder.gateway(router),
            None => builder.scope(RouteScope::Link),
        };
        if self.on_link {
            builder = builder.onlink();
        }
        builder.build()
    }

    /// `None` if the route has no mark of ours, or is of a kind that is not ours.
    pub fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let origin = Origin::from_protocol(u8::from(header.protocol))?;
        let mut table = u32::from(header.table);
        let (mut link, mut destination, mut router, mut source, mut metric) =
            (None, Ipv4Addr::UNSPECIFIED, None, Ipv4Addr::UNSPECIFIED, 0);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => link = Some(*index),
                RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = *ip,
                RouteAttribute::Gateway(RouteAddress::Inet(ip)) => router = Some(*ip),
                RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => source = *ip,
                RouteAttribute::Priority(number) => metric = *number,
                RouteAttribute::Table(number) => table = *number,
                _ => {}
            }
        }
        let destination = Prefix4::new(destination, header.destination_prefix_length)?;
        let table = Some(table).filter(|table| *table != MAIN_TABLE);
        Some(Self { link: link?, destination, router, on_link: false, source, metric, origin, table })
    }
}

/// A rule: what is sent from an address goes by a table of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The address.
    pub source: IpAddr,
    /// The table: an [`Origin::table`] for IPv4, a [`link_table`] for IPv6.
    pub table: u32,
}

impl Rule {
    /// For the kernel.
    pub fn to_message(self) -> RuleMessage {
        let mut message = RuleMessage::default();
        (message.header.family, message.header.src_len) = match self.source {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Source(self.source),
            RuleAttribute::Priority(RULE_PRIORITY),
            RuleAttribute::Table(self.table),
        ];
        message
    }

    /// `None` if the rule is of a kind that is not ours.
    pub fn from_message(message: &RuleMessage) -> Option<Self> {
        let (mut source, mut priority, mut table) = (None, 0, 0);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Source(ip) => source = Some(*ip),
                RuleAttribute::Priority(number) => priority = *number,
                RuleAttribute::Table(number) => table = *number,
                _ => {}
            }
        }
        let is_ours = priority == RULE_PRIORITY && table >= FIRST_TABLE;
        source.filter(|_| is_ours).map(|source| Self { source, table })
    }
}

/// How datagrams reach an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The index of the link that they leave through.
    pub link: u32,
    /// The address that they are sent from.
    pub source: IpAddr,
    /// Who takes them on this link: the host itself, or a router.
    pub next: IpAddr,
}

impl Way {
    fn from_message(message: &RouteMessage, to: IpAddr) -> Option<Self> {
        let (mut link, mut source, mut next) = (None, None, to);
        let address = |address: &RouteAddress| match address {
            RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
            RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
            _ => None,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => link = Some(*index),
                RouteAttribute::PrefSource(ip) => source = address(ip),
                RouteAttribute::Gateway(ip) => next = address(ip)?,
                RouteAttribute::Via(RouteVia::Inet6(ip)) => next = IpAddr::V6(*ip),
                _ => {}
            }
        }
        Some(Self { link: link?, source: source?, next })
    }
}

fn neighbour_mac(message: &NeighbourMessage, ip: IpAddr) -> Option<Mac> {
    if matches!(message.header.state, NeighbourState::Failed | NeighbourState::Incomplete | NeighbourState::None) {
        return None;
    }
    let (mut of, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => of = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => of = Some(IpAddr::V6(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    mac.filter(|_| of == Some(ip))
}

/// An IPv6 route to a network or through a router, whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route6 {
    /// The link's index.
    pub link: u32,
    /// Where to: a network's first address, and the length of its prefix.
    pub destination: (Ipv6Addr, u8),
    /// Through whom; `None` if the destination is on the link.
    pub router: Option<Ipv6Addr>,
    /// The least wins.
    pub metric: u32,
    /// The table that it is in: a [`link_table`], or `None` for the main one.
    pub table: Option<u32>,
}

impl Route6 {
    /// For the kernel.
    pub fn to_message(self) -> RouteMessage {
        let mut builder = RouteMessageBuilder::<Ipv6Addr>::new()
            .protocol(RouteProtocol::from(Origin::Setting.protocol()))
            .table_id(self.table.unwrap_or(MAIN_TABLE))
            .destination_prefix(self.destination.0, self.destination.1)
            .output_interface(self.link)
            .priority(self.metric);
        if let Some(router) = self.router {
            // Whatever the addresses say.
            builder = builder.gateway(router).onlink();
        }
        builder.build()
    }

    /// With how much its router wants to be preferred (RFC 4191). `None` if it is
    /// of another kind, or of a table of others.
    pub fn from_message(message: &RouteMessage) -> Option<(Self, i8)> {
        let header = &message.header;
        if header.kind != RouteType::Unicast || header.flags.contains(RouteFlags::Cloned) {
            return None;
        }
        let mut table = u32::from(header.table);
        let (mut link, mut destination, mut router, mut metric, mut rank) = (None, Ipv6Addr::UNSPECIFIED, None, 0, 0);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => link = Some(*index),
                RouteAttribute::Destination(RouteAddress::Inet6(ip)) => destination = *ip,
                RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => router = Some(*ip),
                RouteAttribute::Priority(number) => metric = *number,
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Preference(RoutePreference::High) => rank = 1,
                RouteAttribute::Preference(RoutePreference::Low) => rank = -1,
                _ => {}
            }
        }
        if table != MAIN_TABLE && table < FIRST_TABLE {
            return None;
        }
        let table = Some(table).filter(|table| *table != MAIN_TABLE);
        let destination = (destination, header.destination_prefix_length);
        Some((Self { link: link?, destination, router, metric, table }, rank))
    }
}

/// How long an address is good for; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// For something new.
    pub preferred: Option<Duration>,
    /// At all.
    pub valid: Option<Duration>,
}

impl Lifetimes {
    /// Without an end.
    pub const FOR_EVER: Self = Self { preferred: None, valid: None };
}

/// A way to ask the kernel.
#[derive(Debug)]
pub struct Netlink {
    runtime: Runtime,
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Opens the socket.
    pub fn new() -> Result<Self, NetlinkError> {
        let failed = |source| NetlinkError { what: "open a netlink socket".into(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let guard = runtime.enter();
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        drop(guard);
        runtime.spawn(connection.map(drop));
        Ok(Self { runtime, handle })
    }

    /// Every link of this network namespace.
    pub fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let request = self.handle.link().get().execute().map_ok(|message| Link::from_message(&message)).try_collect();
        self.runtime.block_on(request).map_err(|error| NetlinkError::new("list the links", error))
    }

    /// Every address of every link.
    pub fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let request = self.handle.address().get().execute().try_collect::<Vec<_>>();
        let messages =
            self.runtime.block_on(request).map_err(|error| NetlinkError::new("list the addresses", error))?;
        Ok(messages.iter().filter_map(Address::from_message).collect())
    }

    /// The IPv4 routes through one link that came with addresses of one origin.
    pub fn routes(&self, link: u32, origin: Origin) -> Result<Vec<Route>, NetlinkError> {
        let request = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        let messages = self
            .runtime
            .block_on(request.try_collect::<Vec<_>>())
            .map_err(|error| NetlinkError::new("list the routes", error))?;
        let ours = messages.iter().filter_map(Route::from_message);
        Ok(ours.filter(|route| route.link == link && route.origin == origin).collect())
    }

    /// The way to an address, through one link if it names one; `None` if there is no way.
    pub fn way_to(&self, ip: IpAddr, through: Option<u32>) -> Result<Option<Way>, NetlinkError> {
        let mut message = match ip {
            IpAddr::V4(ip) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, 32).build(),
            IpAddr::V6(ip) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, 128).build(),
        };
        message.attributes.extend(through.map(RouteAttribute::Oif));
        let request = self.handle.route().get(message).execute().try_collect::<Vec<_>>();
        match self.runtime.block_on(request) {
            Ok(routes) => Ok(routes.first().and_then(|route| Way::from_message(route, ip))),
            Err(error) => {
                let error = NetlinkError::new(format!("look for a way to {ip}"), error);
                let none = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENODEV, libc::EACCES, libc::EINVAL];
                let is_none = error.source.raw_os_error().is_some_and(|code| none.contains(&code));
                if is_none { Ok(None) } else { Err(error) }
            }
        }
    }

    /// The hardware address of a host on a link, if the kernel knows it.
    pub fn neighbour(&self, link: u32, ip: IpAddr) -> Result<Option<Mac>, NetlinkError> {
        let request = self.handle.neighbours().get().execute().try_collect::<Vec<_>>();
        let messages =
            self.runtime.block_on(request).map_err(|error| NetlinkError::new("list the neighbours", error))?;
        let mut own = messages.iter().filter(|message| message.header.ifindex == link);
        Ok(own.find_map(|message| neighbour_mac(message, ip)))
    }

    /// Brings a link up.
    pub fn set_up(&self, link: u32) -> Result<(), NetlinkError> {
        let request = self.handle.link().set(LinkUnspec::new_with_index(link).up().build()).execute();
        self.runtime.block_on(request).map_err(|error| NetlinkError::new("bring the link up", error))
    }

    /// Sets a link's MTU, in bytes.
    pub fn set_mtu(&self, link: u32, mtu: u32) -> Result<(), NetlinkError> {
        let request = self.handle.link().set(LinkUnspec::new_with_index(link).mtu(mtu).build()).execute();
        self.runtime.block_on(request).map_err(|error| NetlinkError::new(format!("set the MTU to {mtu}"), error))
    }

    /// Adds an IPv4 address, or sets the time of one that is there; `valid` is
    /// `None` for ever. The route to its network gets `metric`, so that two links
    /// on one network do not take each other's.
    pub fn set_address(
        &self,
        link: u32,
        address: Prefix4,
        valid: Option<Duration>,
        metric: u32,
        origin: Origin,
    ) -> Result<(), NetlinkError> {
        let lifetimes = Lifetimes { preferred: valid, valid };
        self.set_any_address(link, (IpAddr::V4(address.address()), address.len()), lifetimes, metric, origin)
    }

    /// Adds an IPv6 address, as [`Netlink::set_address`] does. The kernel then
    /// asks whether another host has it; if so, one that ends is gone at once,
    /// and one for ever stays as [`Address::is_duplicate`].
    pub fn set_address6(
        &self,
        link: u32,
        address: (Ipv6Addr, u8),
        lifetimes: Lifetimes,
        metric: u32,
        origin: Origin,
    ) -> Result<(), NetlinkError> {
        self.set_any_address(link, (IpAddr::V6(address.0), address.1), lifetimes, metric, origin)
    }

    fn set_any_address(
        &self,
        link: u32,
        (ip, len): (IpAddr, u8),
        lifetimes: Lifetimes,
        metric: u32,
        origin: Origin,
    ) -> Result<(), NetlinkError> {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(FOR_EVER).min(FOR_EVER - 1);
        // For ever is not what a lease of 136 years asks for.
        let valid = lifetimes.valid.map_or(FOR_EVER, |valid| seconds(valid).max(1));
        let preferred = lifetimes.preferred.map_or(FOR_EVER, seconds).min(valid);
        let mut request = self.handle.address().add(link, ip, len).replace();
        if origin == Origin::LinkLocal {
            request.message_mut().header.scope = AddressScope::Link;
        }
        let mut times = CacheInfo::default();
        times.ifa_preferred = preferred;
        times.ifa_valid = valid;
        request.message_mut().attributes.extend([
            AddressAttribute::CacheInfo(times),
            AddressAttribute::RoutePriority(metric),
            AddressAttribute::Protocol(AddressProtocol::from(origin.protocol())),
        ]);
        self.runtime
            .block_on(request.execute())
            .map_err(|error| NetlinkError::new(format!("set the address {ip}/{len}"), error))
    }

    /// Removes an address.
    pub fn remove_address(&self, link: u32, address: Prefix4) -> Result<(), NetlinkError> {
        let message = rtnetlink::AddressMessageBuilder::<Ipv4Addr>::new()
            .index(link)
            .address(address.address(), address.len())
            .build();
        self.runtime
            .block_on(self.handle.address().del(message).execute())
            .map_err(|error| NetlinkError::new(format!("remove the address {address}"), error))
    }

    /// Removes an IPv6 address.
    pub fn remove_address6(&self, link: u32, (ip, len): (Ipv6Addr, u8)) -> Result<(), NetlinkError> {
        let message = rtnetlink::AddressMessageBuilder::<Ipv6Addr>::new().index(link).address(ip, len).build();
        self.runtime
            .block_on(self.handle.address().del(message).execute())
            .map_err(|error| NetlinkError::new(format!("remove the address {ip}/{len}"), error))
    }

    /// Adds a route, in place of one with the same destination and metric.
    pub fn set_route(&self, route: Route) -> Result<(), NetlinkError> {
        let request = self.handle.route().add(route.to_message()).replace().execute();
        self.runtime
            .block_on(request)
            .map_err(|error| NetlinkError::new(format!("set the route to {}", route.destination), error))
    }

    /// The IPv6 routes of the main table and of [`link_table`]s that go through one
    /// link to a network or a router, those first that their routers prefer.
    pub fn routes6(&self) -> Result<Vec<Route6>, NetlinkError> {
        let request = self.handle.route().get(RouteMessageBuilder::<Ipv6Addr>::new().build()).execute();
        let messages = self
            .runtime
            .block_on(request.try_collect::<Vec<_>>())
            .map_err(|error| NetlinkError::new("list the IPv6 routes", error))?;
        let mut routes: Vec<_> = messages.iter().filter_map(Route6::from_message).collect();
        routes.sort_by_key(|(_, rank)| -rank);
        Ok(routes.into_iter().map(|(route, _)| route).collect())
    }

    /// Adds an IPv6 route, in place of one with the same destination and metric.
    pub fn set_route6(&self, route: Route6) -> Result<(), NetlinkError> {
        let (ip, len) = route.destination;
        self.runtime
            .block_on(self.handle.route().add(route.to_message()).replace().execute())
            .map_err(|error| NetlinkError::new(format!("set the route to {ip}/{len}"), error))
    }

    /// Removes an IPv6 route.
    pub fn remove_route6(&self, route: Route6) -> Result<(), NetlinkError> {
        let (ip, len) = route.destination;
        self.runtime
            .block_on(self.handle.route().del(route.to_message()).execute())
            .map_err(|error| NetlinkError::new(format!("remove the route to {ip}/{len}"), error))
    }

    /// Every rule of ours for one family.
    pub fn rules(&self, family: IpVersion) -> Result<Vec<Rule>, NetlinkError> {
        let request = self.handle.rule().get(family).execute().try_collect::<Vec<_>>();
        let messages = self.runtime.block_on(request).map_err(|error| NetlinkError::new("list the rules", error))?;
        Ok(messages.iter().filter_map(Rule::from_message).collect())
    }

    /// Adds a rule, which may be there already.
    pub fn set_rule(&self, rule: Rule) -> Result<(), NetlinkError> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule.to_message();
        let outcome = self
            .runtime
            .block_on(request.execute())
            .map_err(|error| NetlinkError::new(format!("set the rule for {}", rule.source), error));
        match outcome {
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        }
    }

    /// Removes a rule.
    pub fn remove_rule(&self, rule: Rule) -> Result<(), NetlinkError> {
        self.runtime
            .block_on(self.handle.rule().del(rule.to_message()).execute())
            .map_err(|error| NetlinkError::new(format!("remove the rule for {}", rule.source), error))
    }

    /// Removes a route.
    pub fn remove_route(&self, route: Route) -> Result<(), NetlinkError> {
        let request = self.handle.route().del(route.to_message()).execute();
        self.runtime
            .block_on(request)
            .map_err(|error| NetlinkError::new(format!("remove the route to {}", route.destination), error))
    }
}

/// The events that a [`Monitor`] listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Links that come, go and change.
    Links,
    /// Those, and addresses.
    LinksAndAddresses,
    /// Links, and all of IPv6: addresses, routes, and what routers say.
    LinksAndIpv6,
}

/// A socket that becomes readable when something changed.
#[derive(Debug)]
pub struct Monitor(Socket);

impl Monitor {
    /// Listens from now on.
    pub fn new(watch: Watch) -> Result<Self, NetlinkError> {
        let groups: &[MulticastGroup] = match watch {
            Watch::Links => &[MulticastGroup::Link],
            Watch::LinksAndAddresses => &[MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr],
            Watch::LinksAndIpv6 => &[
                MulticastGroup::Link,
                MulticastGroup::Ipv6Ifaddr,
                MulticastGroup::Ipv6Route,
                MulticastGroup::Ipv6Ifinfo,
            ],
        };
        // RTMGRP_* of linux/rtnetlink.h: the groups as bits, from the first.
        let mask = groups.iter().fold(0, |mask, group| mask | 1 << (*group as u32 - 1));
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_non_blocking(true)?;
            socket.bind(&SocketAddr::new(0, mask))?;
            Ok(socket)
        };
        open().map(Self).map_err(|source| NetlinkError { what: "listen to netlink".into(), source })
    }

    /// Takes what has come in, unread.
    pub fn drain(&self) -> Result<(), NetlinkError> {
        loop {
            match self.0.recv(&mut &mut [0; 64][..], libc::MSG_TRUNC) {
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    // Messages were lost. That something changed is known.
                    _ if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(NetlinkError { what: "listen to netlink".into(), source: error }),
                },
            }
        }
    }
}

impl event::Source for Monitor {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}
