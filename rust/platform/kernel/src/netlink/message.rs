//! The kernel's messages about links, addresses, routes and rules, and those for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use netplan::{Address, FIRST_TABLE, Family, Lifetimes, MAIN_TABLE, Net, Origin, Route, Rule};
use netproto::net::Mac;
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
use rtnetlink::{AddressMessageBuilder, RouteMessageBuilder};

use super::{Link, Way};

/// `INFINITY_LIFE_TIME` of the kernel's `net/addrconf.h`.
const FOR_EVER: u32 = u32::MAX;

/// The number of a family.
pub const fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

impl Link {
    /// The link of a message.
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

/// The address of a message; `None` if there is none in it.
pub fn address(message: &AddressMessage) -> Option<Address> {
    let header = &message.header;
    let (mut address, mut local, mut times, mut protocol, mut metric) = (None, None, (FOR_EVER, FOR_EVER), 0, 0);
    let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::CacheInfo(info) => times = (info.ifa_preferred, info.ifa_valid),
            AddressAttribute::Protocol(number) => protocol = u8::from(*number),
            AddressAttribute::RoutePriority(number) => metric = *number,
            _ => {}
        }
    }
    // On a point-to-point link the other attribute is the other end's.
    let ip = local.or(address)?;
    let has_end = times.1 != FOR_EVER;
    let time =
        |seconds: u32| Some(seconds).filter(|time| *time != FOR_EVER).map(|time| Duration::from_secs(time.into()));
    Some(Address {
        link: header.index,
        ip,
        prefix_len: header.prefix_len,
        is_link_local: header.scope == AddressScope::Link,
        is_usable: !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
        is_duplicate: flags.contains(AddressFlags::Dadfailed),
        is_announced: match protocol {
            0 => ip.is_ipv6() && has_end,
            number => AddressProtocol::from(number) == AddressProtocol::RouterAnnouncement,
        },
        lifetimes: Lifetimes { preferred: time(times.0), valid: time(times.1) },
        metric,
        origin: match protocol {
            0 => (ip.is_ipv4() && has_end).then_some(Origin::Dhcp),
            number => Origin::from_protocol(number),
        },
    })
}

/// An address for the kernel. Without `all`, only as much as names it.
pub fn to_address(address: &Address, all: bool) -> AddressMessage {
    let (link, len) = (address.link, address.prefix_len);
    let mut message = match address.ip {
        IpAddr::V4(ip) => AddressMessageBuilder::<Ipv4Addr>::new().index(link).address(ip, len).build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<Ipv6Addr>::new().index(link).address(ip, len).build(),
    };
    if !all {
        return message;
    }
    if address.is_link_local {
        message.header.scope = AddressScope::Link;
    }
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(FOR_EVER).min(FOR_EVER - 1);
    // For ever is not what a lease of 136 years asks for.
    let valid = address.lifetimes.valid.map_or(FOR_EVER, |valid| seconds(valid).max(1));
    let mut times = CacheInfo::default();
    times.ifa_preferred = address.lifetimes.preferred.map_or(FOR_EVER, seconds).min(valid);
    times.ifa_valid = valid;
    message.attributes.extend([
        AddressAttribute::CacheInfo(times),
        AddressAttribute::RoutePriority(address.metric),
        AddressAttribute::Protocol(AddressProtocol::from(address.origin.map_or(0, Origin::protocol))),
    ]);
    message
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

/// The route of a message, with its router's preference (RFC 4191): more is better.
/// `None` if it doesn't lead to a network through one link, or is in a table that
/// is neither the main one nor ours.
pub fn route(message: &RouteMessage) -> Option<(Route, i8)> {
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let any = match header.address_family {
        AddressFamily::Inet => Family::V4.any(),
        AddressFamily::Inet6 => Family::V6.any(),
        _ => return None,
    };
    let (mut table, mut destination, mut rank) = (u32::from(header.table), any.ip, 0);
    let (mut link, mut router, mut source, mut metric) = (None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Destination(address) => destination = ip(address)?,
            // A router of the other family is nothing for a plan.
            RouteAttribute::Via(_) => return None,
            RouteAttribute::Gateway(address) => router = Some(ip(address)?),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Preference(RoutePreference::High) => rank = 1,
            RouteAttribute::Preference(RoutePreference::Low) => rank = -1,
            _ => {}
        }
    }
    let is_known = table == MAIN_TABLE || table >= FIRST_TABLE;
    let len = header.destination_prefix_length;
    let is_whole = |other: &IpAddr| Family::of(*other) == Family::of(any.ip);
    if !is_known
        || len > Family::of(any.ip).bits()
        || ![Some(destination), router, source].iter().flatten().all(is_whole)
    {
        return None;
    }
    let route = Route {
        table,
        destination: Net { ip: destination, len },
        metric,
        link: link?,
        router,
        on_link: header.flags.contains(RouteFlags::Onlink),
        source,
        protocol: u8::from(header.protocol),
    };
    Some((route, rank))
}

/// A route for the kernel.
pub fn to_route(route: &Route) -> RouteMessage {
    let Net { ip, len } = route.destination;
    let message = match ip {
        IpAddr::V4(ip) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, len).build(),
        IpAddr::V6(ip) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, len).build(),
    };
    let mut builder = RouteMessageBuilder::<IpAddr>::new();
    *builder.get_mut() = message;
    let mut message = builder
        .protocol(RouteProtocol::from(route.protocol))
        .table_id(route.table)
        .output_interface(route.link)
        .priority(route.metric)
        .build();
    message.attributes.extend(route.router.map(|router| RouteAttribute::Gateway(router.into())));
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    if route.router.is_none() && ip.is_ipv4() {
        message.header.scope = RouteScope::Link;
    }
    if route.on_link {
        message.header.flags |= RouteFlags::Onlink;
    }
    message
}

/// The rule of a message; `None` if it is about more than a source, or names no table.
pub fn rule(message: &RuleMessage) -> Option<Rule> {
    let (mut source, mut priority, mut table) = (None, 0, 0);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(ip) => source = Some(*ip),
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let is_one = |ip: &IpAddr| message.header.src_len == Family::of(*ip).bits() && message.header.dst_len == 0;
    source.filter(is_one).map(|source| Rule { source, table, priority })
}

/// A rule for the kernel.
pub fn to_rule(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(Family::of(rule.source));
    message.header.src_len = Family::of(rule.source).bits();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(rule.source),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
    ];
    message
}

/// The way to an address, from the kernel's answer.
pub(super) fn way(message: &RouteMessage, to: IpAddr) -> Option<Way> {
    let (mut link, mut source, mut next) = (None, None, to);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Gateway(address) => next = ip(address)?,
            RouteAttribute::Via(RouteVia::Inet6(ip)) => next = IpAddr::V6(*ip),
            _ => {}
        }
    }
    Some(Way { link: link?, source: source?, next })
}

/// The hardware address of a host, if the message knows it.
pub(super) fn neighbour_mac(message: &NeighbourMessage, ip: IpAddr) -> Option<Mac> {
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
