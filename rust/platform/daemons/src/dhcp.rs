//! `dhcp`: brings every Ethernet link up and keeps a DHCP lease on
//! each, or a link-local address where there is no server, or the addresses that
//! settings give it. Of IPv6 the kernel does what it does by itself; here it is
//! switched on, addresses are asked for where routers want that, and each is
//! answered for by its own link.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use kernel::error::chain;
use kernel::netlink::{Link, Monitor, Netlink, NetlinkError, Watch};
use kernel::packet::{ArpSocket, LeasedSocket, PacketSocket};
use kernel::root::Root;
use netplan::{self, Family, Hold, Lifetimes, Net, Origin, Via};
use netproto::addressing::{Address, Addressing};
use netproto::arp::Packet;
use netproto::dhcp::client::{self, Client, Identity, Loss, Moment, Output, Transmit, Way};
use netproto::dhcp::frame;
use netproto::dhcp::lease::{self, Lease};
use netproto::ipv4ll::{self, LinkLocal};
use netproto::net::{Mac, Prefix4};
use runtime::events::{Drained, Event, EventLoop, EventLoopError, drain};
use runtime::{AppletError, Failure, chosen_links, print_help, start_daemon};
use settings::Product;
use settings::system::System;

use crate::dhcp6::Dhcp6Link;
use crate::network::{Holder, forget_source_routes, keep_source_routes, prefix4, set_up_ipv4, set_up_ipv6};

const HELP: &str = "\
Usage: {product} dhcp [--interface NAME]...

Brings every Ethernet link up, now and when it appears, and keeps an IPv4
address on each by DHCP, until stopped. Where no server answers for some seconds
a link has a link-local address (169.254/16) until one does. IPv6 addresses are
made of the prefixes that routers announce, and come by DHCPv6 where routers say
so. Links that have an address of a family by the setting `ip` ask nobody for
another one (`{product} help config`). The addresses stay when it stops, and
the next run goes on with them. SIGUSR1 gives them back to their servers and ends
it.

Options:
  -i, --interface NAME  only this link; can be given more than once
  -h, --help            this text
";

/// The sources of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Links, addresses and routes that change.
    Network,
    /// The sockets of the link with this index.
    Link(u32),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "changes of the network",
            Self::Link(_) => "packets",
        })
    }
}

/// The kernel refuses what every link needs.
#[derive(Debug, thiserror::Error)]
enum DhcpError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Events(#[from] EventLoopError),
}

impl AppletError for DhcpError {}

/// How long to leave a link alone that did not come up.
const BRING_UP_AGAIN: Duration = Duration::from_secs(5);
/// No link that DHCP runs on has longer packets without fragments.
const PACKET_MAX: usize = 2048;

/// Runs the applet.
pub fn run<C: Product>(args: lexopt::Parser) -> Result<(), Failure> {
    let Some(only) = chosen_links(args)? else { return print_help::<C>(HELP) };
    let root = Root::default();
    let config = start_daemon::<C>("dhcp", &root, false).config;
    let System { ip, name, .. } = config.as_ref().clone();
    Ok(Daemon::new(C::NAME, root, only, ip, name)?.run()?)
}

/// All links.
struct Daemon {
    /// The product's name.
    product: &'static str,
    root: Root,
    only: Vec<String>,
    addressing: Addressing,
    /// The name that servers are told, if it is not made of the link's hardware address.
    name: Option<String>,
    /// The link that has the addresses which name none.
    chosen: Option<u32>,
    started: Instant,
    seeds: RandomState,
    netlink: Netlink,
    monitor: Monitor,
    events: EventLoop<Source>,
    ports: BTreeMap<u32, ManagedLink>,
    /// The hardware addresses of all links. A packet from one of them is no
    /// other host's.
    own: Vec<Mac>,
    /// Addresses are given back; then this ends.
    is_leaving: bool,
}

/// One link.
struct ManagedLink {
    index: u32,
    name: String,
    mac: Mac,
    has_carrier: bool,
    carrier_losses: u32,
    /// It is up, and was told the addresses of the settings.
    is_set: bool,
    /// It asks for an address, or chooses one.
    asks: bool,
    mtu: u32,
    /// The MTU before a lease changed it.
    own_mtu: Option<u32>,
    /// The time of the next attempt to bring it up; `None` once it came up. If an
    /// administrator takes the link down afterwards, it stays down.
    bring_up: Option<Moment>,
    /// It has refused to come up, which was said once.
    is_stubborn: bool,
    client: Client,
    link_local: LinkLocal,
    six: Dhcp6Link,
    socket: Option<PacketSocket>,
    arp_socket: Option<ArpSocket>,
    /// The addresses that the ARP socket hears of.
    heard: Vec<Ipv4Addr>,
    leased_socket: Option<(Ipv4Addr, LeasedSocket)>,
}

impl Daemon {
    fn new(
        product: &'static str,
        root: Root,
        only: Vec<String>,
        addressing: Addressing,
        name: Option<String>,
    ) -> Result<Self, DhcpError> {
        let mut events = EventLoop::new()?;
        events.end_by_signal()?;
        events.release_by_signal()?;
        let mut monitor = Monitor::new(Watch::LinksAndIpv6)?;
        events.register(Source::Network, &mut monitor)?;
        Ok(Self {
            product,
            root,
            only,
            addressing,
            name,
            chosen: None,
            started: Instant::now(),
            seeds: RandomState::new(),
            netlink: Netlink::new()?,
            monitor,
            events,
            ports: BTreeMap::new(),
            own: Vec::new(),
            is_leaving: false,
        })
    }

    fn run(mut self) -> Result<(), DhcpError> {
        let mut buffer = vec![0; PACKET_MAX];
        self.look_at_links();
        loop {
            let next = self.act();
            if self.is_leaving && self.ports.values().all(|port| port.client.is_gone() && port.six.is_gone()) {
                forget_source_routes(&self.netlink);
                log::info!("stopped; the addresses were given back");
                return Ok(());
            }
            for event in self.events.wait(next.and_then(|next| self.started.checked_add(next)))? {
                match event {
                    Event::End => {
                        log::info!("stopped; the addresses stay");
                        return Ok(());
                    }
                    Event::Release => self.leave(),
                    Event::Ready { source: Source::Network, .. } => {
                        self.monitor.drain()?;
                        if !self.is_leaving {
                            self.look_at_links();
                        }
                    }
                    Event::Ready { source: Source::Link(index), .. } => {
                        let now = self.now();
                        let Some(port) = self.ports.get_mut(&index) else { continue };
                        if port.receive(now, &self.own, &mut buffer) == Drained::More {
                            self.events.again(Source::Link(index));
                        }
                    }
                }
            }
        }
    }

    fn leave(&mut self) {
        self.is_leaving = true;
        let now = self.now();
        for port in self.ports.values_mut() {
            port.client.release(now);
            port.link_local.stop();
            port.six.release(now);
        }
    }

    fn now(&self) -> Moment {
        self.started.elapsed()
    }

    /// Compares the kernel's links with ours.
    fn look_at_links(&mut self) {
        // The addresses first: one that went with its link's carrier is then not
        // missed before that is known.
        let listed = self.netlink.addresses().and_then(|addresses| Ok((addresses, self.netlink.links()?)));
        let (addresses, links) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                log::error!("{}", chain(&error));
                return;
            }
        };
        self.ports.retain(|index, port| {
            let stays = links.iter().any(|link| link.index == *index && link.ethernet == Some(port.mac));
            if !stays {
                log::info!("{}: gone", port.name);
            }
            stays
        });
        let present: Vec<u32> = links.iter().map(|link| link.index).collect();
        self.choose(&links, &addresses);
        self.own = links.iter().filter_map(|link| link.mac).collect();
        for link in links {
            let Some(mac) = link.ethernet else { continue };
            if !self.only.is_empty() && !self.only.contains(&link.name) {
                continue;
            }
            if !self.ports.contains_key(&link.index) {
                let port = self.appeared(&link, mac, &addresses);
                self.ports.insert(link.index, port);
            }
            let now = self.now();
            if let Some(port) = self.ports.get_mut(&link.index) {
                let is_chosen = self.chosen == Some(link.index);
                port.set_asking(now, self.addressing.asks(&link.name, mac, is_chosen));
                port.six.set_asking(now, self.addressing.asks_for_ipv6(&link.name, mac, is_chosen));
                port.changed(now, &link, &addresses);
                if !link.is_up {
                    port.is_set = false;
                } else if !port.is_set {
                    port.is_set = true;
                    let settings: Vec<_> = self.addressing.addresses(&link.name, mac, is_chosen).collect();
                    port.set_addresses(&self.netlink, &settings);
                }
            }
        }
        let own: Vec<u32> = self.ports.keys().copied().collect();
        keep_source_routes(&self.netlink, &own, &present, &addresses);
    }

    /// Chooses the link for the addresses that name none: the one that has them
    /// from an earlier run, else the first with a carrier, for as long as it is
    /// there.
    fn choose(&mut self, links: &[Link], addresses: &[netplan::Address]) {
        if !self.addressing.needs_choice() {
            return;
        }
        let is_ours =
            |link: &&Link| link.ethernet.is_some() && (self.only.is_empty() || self.only.contains(&link.name));
        if self.chosen.is_some_and(|chosen| links.iter().filter(is_ours).any(|link| link.index == chosen)) {
            return;
        }
        let has_them = |link: &&Link| {
            let mut own = addresses.iter().filter(|address| address.link == link.index);
            own.any(|address| address.origin == Some(Origin::Setting) && self.addressing.is_for_chosen(address.ip))
        };
        let earlier = links.iter().filter(is_ours).find(has_them);
        let chosen = earlier.or_else(|| links.iter().filter(is_ours).find(|link| link.has_carrier));
        self.chosen = chosen.map(|link| link.index);
        if let Some(link) = chosen {
            log::info!("{}: chosen for the addresses that name no link", link.name);
            // It may have been set up without them.
            if let Some(port) = self.ports.get_mut(&link.index) {
                port.is_set = false;
            }
        }
    }

    /// A link that was not there before: up with it, and on with the address
    /// that an earlier run gave it.
    fn appeared(&self, link: &Link, mac: Mac, addresses: &[netplan::Address]) -> ManagedLink {
        log::info!("{}: Ethernet link {mac}", link.name);
        set_up_ipv6(&self.root, &link.name);
        set_up_ipv4(&self.root, &link.name);
        let seed = self.seeds.hash_one((link.index, self.started));
        let mut identity = Identity::of(self.product, mac);
        if let Some(name) = &self.name {
            identity.hostname.clone_from(name);
        }
        let mut client = Client::new(identity.clone(), seed);
        let mut link_local = LinkLocal::new(mac, seed);
        let mut six = Dhcp6Link::new(identity, seed);
        let from = |origin| {
            let ours = addresses.iter().filter(move |address| {
                address.link == link.index && address.origin == Some(origin) && address.ip.is_ipv4()
            });
            let longest = ours.max_by_key(|address| address.lifetimes.valid.unwrap_or(Duration::MAX))?;
            let prefix = prefix4(longest)?;
            log::info!("{}: the address {prefix} is there already", link.name);
            Some((prefix, longest.lifetimes.valid))
        };
        if let Some((prefix, _)) = from(Origin::LinkLocal) {
            link_local.adopt(prefix);
        }
        if let Some((prefix, valid)) = from(Origin::Dhcp) {
            client.adopt(prefix, valid.map(|valid| self.now() + valid));
            link_local.leased(self.now());
        }
        six.adopt(self.now(), link, addresses);
        ManagedLink {
            index: link.index,
            name: link.name.clone(),
            mac,
            has_carrier: false,
            carrier_losses: link.carrier_losses,
            is_set: false,
            asks: true,
            mtu: link.mtu,
            own_mtu: None,
            bring_up: if link.is_up { None } else { Some(self.now()) },
            is_stubborn: false,
            client,
            link_local,
            six,
            socket: None,
            arp_socket: None,
            heard: Vec::new(),
            leased_socket: None,
        }
    }

    /// Lets every client do what is due, and returns when the next one is.
    fn act(&mut self) -> Option<Moment> {
        let mut next: Option<Moment> = None;
        for port in self.ports.values_mut() {
            next = next.into_iter().chain(port.come_up(&self.netlink, self.started.elapsed())).min();
            loop {
                match port.client.poll(self.started.elapsed()) {
                    Output::Transmit(transmit) => port.send(&mut self.events, &transmit),
                    Output::Arp(packet) => port.send_arp(&mut self.events, &packet),
                    Output::Event(event) => port.apply(&self.netlink, self.started.elapsed(), event),
                    Output::Timeout(at) => {
                        next = next.into_iter().chain(at).min();
                        break;
                    }
                }
            }
            // After the leases, which decide.
            loop {
                match port.link_local.poll(self.started.elapsed()) {
                    ipv4ll::Output::Arp(packet) => port.send_arp(&mut self.events, &packet),
                    ipv4ll::Output::Event(event) => port.apply_link_local(&self.netlink, event),
                    ipv4ll::Output::Timeout(at) => {
                        next = next.into_iter().chain(at).min();
                        break;
                    }
                }
            }
            port.listen(&mut self.events);
            let holder = Holder { netlink: &self.netlink, index: port.index, name: &port.name };
            let register = |socket: &_| register(&mut self.events, holder.index, holder.name, socket);
            next = next.into_iter().chain(port.six.act(holder, || self.started.elapsed(), register)).min();
        }
        next
    }
}

impl ManagedLink {
    /// Brings the link up. Drivers that miss their firmware, or are not done
    /// yet, refuse it. Returns when to try again.
    fn come_up(&mut self, netlink: &Netlink, now: Moment) -> Option<Moment> {
        if self.bring_up.is_some_and(|at| at <= now) {
            self.bring_up = match netlink.set_up(self.index) {
                Ok(()) => None,
                Err(error) => {
                    if !self.is_stubborn {
                        log::warn!("{}: {}; trying on", self.name, chain(&error));
                    }
                    self.is_stubborn = true;
                    Some(now + BRING_UP_AGAIN)
                }
            };
        }
        self.bring_up
    }

    /// Whether to ask for an address. A link that has asked already and must not
    /// any more gives back what it has.
    fn set_asking(&mut self, now: Moment, asks: bool) {
        if self.asks && !asks {
            self.client.release(now);
            self.link_local.stop();
            self.asks = false;
        }
    }

    /// Makes the kernel have the addresses of the settings.
    fn set_addresses(&self, netlink: &Netlink, addresses: &[Address]) {
        let holds: Vec<Hold> = addresses.iter().map(hold).collect();
        for address in addresses {
            log::info!("{}: the address is {}/{} by a setting", self.name, address.ip, address.prefix_len);
        }
        for family in [Family::V4, Family::V6] {
            self.holder(netlink).hold(Origin::Setting, family, &holds);
        }
    }

    fn changed(&mut self, now: Moment, link: &Link, addresses: &[netplan::Address]) {
        if self.name != link.name {
            log::info!("{}: now called {}", self.name, link.name);
            self.name.clone_from(&link.name);
            self.is_set = false;
        }
        self.mtu = link.mtu;
        let lost = !link.has_carrier || link.carrier_losses != self.carrier_losses;
        if self.has_carrier && lost {
            log::info!("{}: no carrier", self.name);
            self.client.link_down();
            self.link_local.link_down(now);
        }
        if link.has_carrier && (lost || !self.has_carrier) {
            log::info!("{}: carrier", self.name);
            if self.asks {
                self.client.link_up(now);
                self.link_local.link_up(now);
            }
        }
        self.six.changed(now, link, addresses, self.has_carrier && lost);
        self.has_carrier = link.has_carrier;
        self.carrier_losses = link.carrier_losses;
    }

    /// Sends a message. A message that cannot be sent is sent again later, as
    /// lost packets are.
    fn send(&mut self, events: &mut EventLoop<Source>, transmit: &Transmit) {
        self.open(events);
        let sent = match transmit.way {
            Way::Broadcast { from } => self
                .socket
                .as_ref()
                .map_or(Ok(()), |socket| socket.broadcast(&frame::build(from, Ipv4Addr::BROADCAST, &transmit.payload))),
            Way::Unicast { from, to } => match self.open_leased(from) {
                Some(socket) => socket.send(to, &transmit.payload),
                None => Err(io::ErrorKind::AddrNotAvailable.into()),
            },
        };
        match sent {
            Ok(()) => log::debug!("{}: sent {} bytes by {:?}", self.name, transmit.payload.len(), transmit.way),
            Err(error) => log::debug!("{}: failed to send by {:?}: {error}", self.name, transmit.way),
        }
    }

    /// Sends an ARP packet, once it is sure that the answer will be heard.
    fn send_arp(&mut self, events: &mut EventLoop<Source>, packet: &Packet) {
        self.listen(events);
        let Some(socket) = &self.arp_socket else { return };
        match socket.broadcast(&packet.build()) {
            Ok(()) => log::debug!("{}: sent ARP, {} to {}", self.name, packet.sender, packet.target),
            Err(error) => log::debug!("{}: failed to send ARP: {error}", self.name),
        }
    }

    /// Hears of the addresses that the client looks after.
    fn listen(&mut self, events: &mut EventLoop<Source>) {
        let wanted: Vec<Ipv4Addr> = self.client.claims().chain(self.link_local.claims()).collect();
        if self.heard == wanted {
            return;
        }
        if self.arp_socket.is_none() {
            self.arp_socket = match ArpSocket::open(self.index, &self.name) {
                Ok(socket) => register(events, self.index, &self.name, &socket).then_some(socket),
                Err(error) => {
                    log::warn!("{}", chain(&error));
                    None
                }
            };
        }
        match self.arp_socket.as_ref().map(|socket| socket.listen_for(&wanted)) {
            Some(Err(error)) => log::warn!("{}: failed to set an ARP filter: {error}", self.name),
            Some(Ok(())) => self.heard = wanted,
            None => {}
        }
    }

    fn open(&mut self, events: &mut EventLoop<Source>) {
        if self.socket.is_some() {
            return;
        }
        let socket = match PacketSocket::open(self.index, &self.name) {
            Ok(socket) => socket,
            Err(error) => {
                log::warn!("{}", chain(&error));
                return;
            }
        };
        if register(events, self.index, &self.name, &socket) {
            self.socket = Some(socket);
        }
    }

    /// The socket that sends from the leased address, if the kernel has that.
    fn open_leased(&mut self, address: Ipv4Addr) -> Option<&LeasedSocket> {
        if self.leased_socket.as_ref().is_none_or(|(bound, _)| *bound != address) {
            self.leased_socket = match LeasedSocket::open(&self.name, address) {
                Ok(socket) => Some((address, socket)),
                Err(error) => {
                    log::warn!("{}", chain(&error));
                    None
                }
            };
        }
        self.leased_socket.as_ref().map(|(_, socket)| socket)
    }

    fn receive(&mut self, now: Moment, own: &[Mac], buffer: &mut [u8]) -> Drained {
        let more = [
            self.receive_arp(now, own, buffer),
            self.receive_messages(now, buffer),
            self.six.receive(now, &self.name, buffer),
        ];
        if more.contains(&Drained::More) { Drained::More } else { Drained::Empty }
    }

    fn receive_arp(&mut self, now: Moment, own: &[Mac], buffer: &mut [u8]) -> Drained {
        let Some(socket) = &self.arp_socket else { return Drained::Empty };
        drain(format_args!("{}: ARP", self.name), || {
            let len = socket.receive(buffer)?;
            match Packet::parse(&buffer[..len]) {
                Err(error) => log::debug!("{}: packet dropped: {error}", self.name),
                Ok(packet) if own.contains(&packet.sender_mac) => {}
                Ok(packet) => {
                    self.client.hear(now, &packet);
                    self.link_local.hear(now, &packet);
                }
            }
            Ok(())
        })
    }

    /// An error says that the link went down, which netlink says too.
    fn receive_messages(&mut self, now: Moment, buffer: &mut [u8]) -> Drained {
        let Some(socket) = &self.socket else { return Drained::Empty };
        drain(format_args!("{}: DHCP", self.name), || {
            let (len, checksum) = socket.receive(buffer)?;
            match frame::parse(&buffer[..len], checksum) {
                Err(error) => log::debug!("{}: packet dropped: {error}", self.name),
                Ok(datagram) => {
                    if let Err(error) = self.client.handle(now, datagram.payload) {
                        log::debug!("{}: message from {} dropped: {error}", self.name, datagram.source);
                    }
                }
            }
            Ok(())
        })
    }

    fn apply(&mut self, netlink: &Netlink, now: Moment, event: client::Event) {
        match event {
            client::Event::Bound { lease, until, renewed } => {
                let left = until.map(|until| until.saturating_sub(now));
                self.hold(netlink, &lease, left);
                self.link_local.leased(now);
                let term = match lease.terms {
                    Some(terms) => format!("for {} s", terms.expire.as_secs()),
                    None => "for ever".to_owned(),
                };
                let text = format!("{}: leased {} from {} {term}", self.name, lease.address, lease.server);
                if renewed {
                    log::debug!("{text}, again");
                } else {
                    log::info!("{text}");
                }
                for oddity in &lease.oddities {
                    log::debug!("{}: {oddity}", self.name);
                }
            }
            client::Event::Lost { address, why } => {
                let level = if why == Loss::Released { log::Level::Info } else { log::Level::Warn };
                log::log!(level, "{}: {address} is no longer ours: {why}", self.name);
                self.leased_socket = None;
                self.holder(netlink).hold(Origin::Dhcp, Family::V4, &[]);
                self.link_local.unleased(now);
            }
            client::Event::Disputed { address, by } => {
                log::warn!("{}: {by} uses {address}, too; it was told that it is ours", self.name);
            }
            client::Event::Declined { address, by } => {
                log::warn!("{}: {by} has {address}, which was given to us; declined", self.name);
            }
            client::Event::Silence => log::warn!("{}: no DHCP server has answered yet; asking on", self.name),
            client::Event::Odd(faults) => log::debug!("{}: a server's message is odd: {faults}", self.name),
        }
    }

    fn apply_link_local(&mut self, netlink: &Netlink, event: ipv4ll::Event) {
        match event {
            ipv4ll::Event::Held(address) => {
                log::info!("{}: no DHCP server; the link-local address is {address}", self.name);
                self.holder(netlink).hold(Origin::LinkLocal, Family::V4, &[leased(address, None, &[])]);
            }
            ipv4ll::Event::Lost { address, by } => {
                match by {
                    Some(mac) => log::warn!("{}: {mac} has {address}, too; another one will do", self.name),
                    None => log::info!("{}: {address} is not needed any more", self.name),
                }
                self.holder(netlink).hold(Origin::LinkLocal, Family::V4, &[]);
            }
        }
    }

    fn holder<'a>(&'a self, netlink: &'a Netlink) -> Holder<'a> {
        Holder { netlink, index: self.index, name: &self.name }
    }

    /// Makes the kernel hold this lease and no other.
    fn hold(&mut self, netlink: &Netlink, lease: &Lease, left: Option<Duration>) {
        let address = lease.address;
        self.set_mtu(netlink, lease.mtu);
        let wanted = leased(address, left, &lease.routes);
        self.holder(netlink).hold(Origin::Dhcp, Family::V4, &[wanted]);
        self.open_leased(address.address());
    }

    fn set_mtu(&mut self, netlink: &Netlink, offered: Option<u16>) {
        let wanted = match offered {
            Some(mtu) => u32::from(mtu),
            None => self.own_mtu.unwrap_or(self.mtu),
        };
        if wanted != self.mtu {
            let own = *self.own_mtu.get_or_insert(self.mtu);
            self.holder(netlink).warn(netlink.set_mtu(self.index, wanted));
            self.mtu = wanted;
            if wanted == own {
                self.own_mtu = None;
            }
        }
    }
}

/// Waits for packets from a link's `socket`; false if that is impossible.
fn register(events: &mut EventLoop<Source>, index: u32, name: &str, socket: &impl AsFd) -> bool {
    let outcome = events.register_descriptor(Source::Link(index), socket);
    if let Err(error) = &outcome {
        log::warn!("{name}: {}", chain(error));
    }
    outcome.is_ok()
}

/// An address of the settings, for the kernel.
fn hold(address: &Address) -> Hold {
    let net = Net { ip: address.ip, len: address.prefix_len };
    // An IPv6 router's address is mostly one of its link.
    let is_outside = |router| address.ip.is_ipv6() || !net.contains(router);
    let default =
        |router| Via { destination: Family::of(address.ip).any(), router: Some(router), on_link: is_outside(router) };
    Hold { address: net, lifetimes: Lifetimes::FOR_EVER, routes: address.gateway.into_iter().map(default).collect() }
}

/// An address of a lease, for the kernel; `left` is `None` for ever.
fn leased(address: Prefix4, left: Option<Duration>, routes: &[lease::Route]) -> Hold {
    let net = |prefix: Prefix4| Net { ip: prefix.address().into(), len: prefix.len() };
    let via = |route: &lease::Route| Via {
        destination: net(route.destination),
        router: route.router.map(IpAddr::V4),
        on_link: route.on_link,
    };
    let lifetimes = Lifetimes { preferred: left, valid: left };
    Hold { address: net(address), lifetimes, routes: routes.iter().map(via).collect() }
}
