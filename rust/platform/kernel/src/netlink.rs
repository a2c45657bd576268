//! Links, addresses, routes and rules, over rtnetlink(7).
//!
//! The `rtnetlink` crate is asynchronous; here it is a few functions that wait
//! for the kernel's answer, which comes at once. [`Monitor`] is a socket for
//! mio that only says that something changed. Its reader lists again, so a lost
//! message costs nothing.

pub mod message;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use futures_util::FutureExt;
use futures_util::stream::StreamExt;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, event};
use netplan::{Address, Family, Item, NetOp, Route, Rule};
use netproto::net::Mac;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{LinkUnspec, MulticastGroup, RouteMessageBuilder};
use tokio::runtime::Runtime;

/// A request to the kernel, and its answer.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what}")]
pub struct NetlinkError {
    what: String,
    source: io::Error,
}

impl NetlinkError {
    /// The kernel's answer, with its errno.
    pub fn io(&self) -> &io::Error {
        &self.source
    }

    /// The object is not there, nor is perhaps its link.
    pub fn is_gone(&self) -> bool {
        let gone = [libc::EADDRNOTAVAIL, libc::ESRCH, libc::ENODEV, libc::ENOENT];
        self.source.raw_os_error().is_some_and(|code| gone.contains(&code))
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
    /// It is up, by an administrator or a program.
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

/// How datagrams reach an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The index of the link that they leave through.
    pub link: u32,
    /// The address that they are sent from.
    pub source: IpAddr,
    /// The receiver on this link: the host itself, or a router.
    pub next: IpAddr,
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
        self.list("list the links", RouteNetlinkMessage::GetLink(LinkMessage::default()), |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(Link::from_message(&link)),
            _ => None,
        })
    }

    /// Every address of every link.
    pub fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.list("list the addresses", question, |answer| match answer {
            RouteNetlinkMessage::NewAddress(address) => message::address(&address),
            _ => None,
        })
    }

    /// The routes of a family to a network or a router through one link, in the
    /// main table and in tables of ours, those first that their routers prefer.
    pub fn routes(&self, family: Family) -> Result<Vec<Route>, NetlinkError> {
        let mut question = RouteMessage::default();
        question.header.address_family = message::family(family);
        let question = RouteNetlinkMessage::GetRoute(question);
        let mut routes = self.list("list the routes", question, |answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => message::route(&route),
            _ => None,
        })?;
        routes.sort_by_key(|(_, rank)| -rank);
        Ok(routes.into_iter().map(|(route, _)| route).collect())
    }

    /// The rules of a family for one source each.
    pub fn rules(&self, family: Family) -> Result<Vec<Rule>, NetlinkError> {
        let mut question = RuleMessage::default();
        question.header.family = message::family(family);
        self.list("list the rules", RouteNetlinkMessage::GetRule(question), |answer| match answer {
            RouteNetlinkMessage::NewRule(rule) => message::rule(&rule),
            _ => None,
        })
    }

    /// Changes an address, a route or a rule. A new IPv6 address is unusable until
    /// the kernel has asked whether another host has it. If so, one that ends is
    /// gone at once, and one for ever stays as [`Address::is_duplicate`].
    pub fn apply(&self, op: &NetOp) -> Result<(), NetlinkError> {
        use RouteNetlinkMessage as M;
        let (item, flags) = match op {
            NetOp::Add(item) => (item, NLM_F_CREATE | NLM_F_EXCL),
            NetOp::Replace(item) => (item, NLM_F_CREATE | NLM_F_REPLACE),
            NetOp::Delete(item) => (item, 0),
        };
        let is_new = flags != 0;
        let request = match item {
            Item::Address(address) if is_new => M::NewAddress(message::to_address(address, true)),
            Item::Address(address) => M::DelAddress(message::to_address(address, false)),
            Item::Route(route) if is_new => M::NewRoute(message::to_route(route)),
            Item::Route(route) => M::DelRoute(message::to_route(route)),
            Item::Rule(rule) if is_new => M::NewRule(message::to_rule(rule)),
            Item::Rule(rule) => M::DelRule(message::to_rule(rule)),
        };
        self.change(|| format!("do \"{op}\""), request, flags)
    }

    /// Brings a link up.
    pub fn set_up(&self, link: u32) -> Result<(), NetlinkError> {
        let request = LinkUnspec::new_with_index(link).up().build();
        self.change(|| "bring the link up".to_owned(), RouteNetlinkMessage::SetLink(request), 0)
    }

    /// Sets a link's MTU, in bytes.
    pub fn set_mtu(&self, link: u32, mtu: u32) -> Result<(), NetlinkError> {
        let request = LinkUnspec::new_with_index(link).mtu(mtu).build();
        self.change(|| format!("set the MTU to {mtu}"), RouteNetlinkMessage::SetLink(request), 0)
    }

    /// The way to an address, through one link if it names one; `None` if there is no way.
    pub fn way_to(&self, ip: IpAddr, through: Option<u32>) -> Result<Option<Way>, NetlinkError> {
        let mut question = match ip {
            IpAddr::V4(ip) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, 32).build(),
            IpAddr::V6(ip) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, 128).build(),
        };
        question.attributes.extend(through.map(RouteAttribute::Oif));
        match self.ask(RouteNetlinkMessage::GetRoute(question), 0) {
            Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => message::way(route, ip),
                _ => None,
            })),
            Err(source) => {
                let none = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENODEV, libc::EACCES, libc::EINVAL];
                let is_none = source.raw_os_error().is_some_and(|code| none.contains(&code));
                if is_none { Ok(None) } else { Err(NetlinkError { what: format!("look for a way to {ip}"), source }) }
            }
        }
    }

    /// The hardware address of a host on a link, if the kernel knows it.
    pub fn neighbour(&self, link: u32, ip: IpAddr) -> Result<Option<Mac>, NetlinkError> {
        let question = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let found = self.list("list the neighbours", question, |answer| match answer {
            RouteNetlinkMessage::NewNeighbour(host) if host.header.ifindex == link => message::neighbour_mac(&host, ip),
            _ => None,
        })?;
        Ok(found.first().copied())
    }

    fn list<T>(
        &self,
        what: &str,
        question: RouteNetlinkMessage,
        read: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let answers = self.ask(question, NLM_F_DUMP).map_err(|source| NetlinkError { what: what.into(), source })?;
        Ok(answers.into_iter().filter_map(read).collect())
    }

    fn change(&self, what: impl Fn() -> String, request: RouteNetlinkMessage, flags: u16) -> Result<(), NetlinkError> {
        self.ask(request, NLM_F_ACK | flags).map(drop).map_err(|source| NetlinkError { what: what(), source })
    }

    /// Sends a message, and returns the kernel's answers.
    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut handle = self.handle.clone();
        let mut stream = handle.request(request).map_err(io::Error::other)?;
        self.runtime.block_on(async {
            let mut answers = Vec::new();
            while let Some(answer) = stream.next().await {
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    // An acknowledgement is an error with the number 0.
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    _ => {}
                }
            }
            Ok(answers)
        })
    }
}

/// The changes that a [`Monitor`] tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Links that come, go and change.
    Links,
    /// Those, and addresses.
    LinksAndAddresses,
    /// Links, and all of IPv6: addresses, routes, and the announcements of routers.
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
