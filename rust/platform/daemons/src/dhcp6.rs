//! DHCPv6 on one link, a part of the applet `dhcp`. Whether to ask is what the
//! link's routers say, and the kernel tells.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use kernel::dhcp6::{Dhcp6Socket, solicit_routers};
use kernel::error::chain;
use kernel::netlink::Link;
use netplan::{Address, Family, Hold, Lifetimes, Net, Origin};
use netproto::dhcp::client::Identity;
use netproto::dhcp6::client::{Client, Event, Loss, Output};
use netproto::pace::Moment;
use runtime::events::{Drained, drain};

use crate::network::{Holder, Outcome};

/// How often routers are asked what they announce, and how long apart
/// (`MAX_RTR_SOLICITATIONS` and `RTR_SOLICITATION_INTERVAL`, RFC 4861 section 10).
const SOLICITATIONS: u32 = 3;
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);

/// One link's DHCPv6.
pub(crate) struct Dhcp6Link {
    client: Client,
    /// The link-local address, which messages are sent from.
    local: Option<Ipv6Addr>,
    /// At that address.
    socket: Option<(Ipv6Addr, Dhcp6Socket)>,
    /// The kernel is looking for another host with this address.
    tried: Option<Ipv6Addr>,
    /// How often the routers are still to be asked, and when next. The kernel does
    /// so when a link comes up, but not when its cable is plugged in again,
    /// perhaps elsewhere (`addrconf_notify` in its `net/ipv6/addrconf.c`).
    solicitations: (u32, Moment),
    asks: bool,
}

impl Dhcp6Link {
    /// Nothing is asked for before [`Dhcp6Link::changed`].
    pub(crate) fn new(identity: Identity, seed: u64) -> Self {
        Self {
            client: Client::new(identity, seed),
            local: None,
            socket: None,
            tried: None,
            solicitations: (0, Moment::ZERO),
            asks: true,
        }
    }

    /// Goes on with the address that an earlier run had.
    pub(crate) fn adopt(&mut self, now: Moment, link: &Link, addresses: &[Address]) {
        let ours =
            addresses.iter().filter(|address| address.link == link.index && address.origin == Some(Origin::Dhcp));
        let usable = ours.filter_map(|address| match address.ip {
            IpAddr::V6(ip) if !address.is_duplicate => Some((ip, address.lifetimes.valid)),
            _ => None,
        });
        if let Some((ip, valid)) = usable.max_by_key(|(_, valid)| valid.unwrap_or(Duration::MAX)) {
            log::info!("{}: the address {ip} is there already", link.name);
            self.client.adopt(ip, valid.map(|valid| now + valid));
            self.tried = Some(ip);
        }
    }

    /// Whether to ask if routers want it. A link that has asked already and must
    /// not any more gives back what it has.
    pub(crate) fn set_asking(&mut self, now: Moment, asks: bool) {
        if self.asks && !asks {
            self.client.release(now);
            self.asks = false;
        }
    }

    /// The kernel's view of the link and of all addresses. `is_lost`: the carrier
    /// went away, and may be back.
    pub(crate) fn changed(&mut self, now: Moment, link: &Link, addresses: &[Address], is_lost: bool) {
        let own = || addresses.iter().filter(|address| address.link == link.index);
        let local = own().find_map(|address| match address.ip {
            IpAddr::V6(ip) if address.is_link_local && address.is_usable => Some(ip),
            _ => None,
        });
        if is_lost {
            self.client.link_down();
            // The kernel's verdict on it then says nothing about other hosts.
            self.tried = None;
            self.solicitations = (SOLICITATIONS, now);
        }
        if let Some(tried) = self.tried {
            match own().find(|address| address.ip == IpAddr::V6(tried)) {
                Some(address) if address.is_usable => {
                    self.client.settled(tried);
                    self.tried = None;
                }
                Some(address) if !address.is_duplicate => {}
                // `addrconf_dad_stop` in the kernel's `net/ipv6/addrconf.c`
                // removes what has an end.
                _ => {
                    self.client.duplicate(now, tried);
                    self.tried = None;
                }
            }
        }
        self.local = local.filter(|_| link.has_carrier);
        match self.local {
            Some(_) => self.client.link_up(now),
            None => self.client.link_down(),
        }
        self.client.set_managed(now, link.is_managed && self.asks);
    }

    /// Does what is due, and returns when the next thing is. `register` has a new
    /// socket waited for, and says whether that is possible.
    pub(crate) fn act(
        &mut self,
        holder: Holder<'_>,
        now: impl Fn() -> Moment,
        mut register: impl FnMut(&Dhcp6Socket) -> bool,
    ) -> Option<Moment> {
        let solicit = self.solicit(holder, now());
        loop {
            match self.client.poll(now()) {
                Output::Transmit(payload) => self.send(holder, &mut register, &payload),
                Output::Event(event) => self.apply(holder, now(), event),
                Output::Timeout(at) => return at.into_iter().chain(solicit).min(),
            }
        }
    }

    /// Asks the routers if that is due, and returns when it is due next.
    fn solicit(&mut self, holder: Holder<'_>, now: Moment) -> Option<Moment> {
        let (left, at) = self.solicitations;
        let local = self.local.filter(|_| left > 0)?;
        if at > now {
            return Some(at);
        }
        match solicit_routers(holder.index, holder.name, local) {
            Ok(()) => log::debug!("{}: asked the routers", holder.name),
            Err(error) => log::debug!("{}", chain(&error)),
        }
        self.solicitations = (left - 1, now + SOLICITATION_INTERVAL);
        (left > 1).then_some(self.solicitations.1)
    }

    /// Sends a message. A message that cannot be sent is sent again later, as lost
    /// packets are.
    fn send(&mut self, holder: Holder<'_>, register: impl FnOnce(&Dhcp6Socket) -> bool, payload: &[u8]) {
        let Some(local) = self.local else { return };
        if self.socket.as_ref().is_none_or(|(bound, _)| *bound != local) {
            self.socket = match Dhcp6Socket::open(holder.index, holder.name, local) {
                Ok(socket) => register(&socket).then_some((local, socket)),
                Err(error) => {
                    log::warn!("{}", chain(&error));
                    None
                }
            };
        }
        let Some((_, socket)) = &self.socket else { return };
        match socket.send(payload) {
            Ok(()) => log::debug!("{}: sent {} bytes of DHCPv6", holder.name, payload.len()),
            Err(error) => log::debug!("{}: failed to send DHCPv6: {error}", holder.name),
        }
    }

    /// Reads messages.
    pub(crate) fn receive(&mut self, now: Moment, name: &str, buffer: &mut [u8]) -> Drained {
        let Some((_, socket)) = &self.socket else { return Drained::Empty };
        drain(format_args!("{name}: DHCPv6"), || {
            let (len, from) = socket.receive(buffer)?;
            if let Err(error) = self.client.handle(now, &buffer[..len]) {
                log::debug!("{name}: message from {from} dropped: {error}");
            }
            Ok(())
        })
    }

    fn apply(&mut self, holder: Holder<'_>, now: Moment, event: Event) {
        let name = holder.name;
        match event {
            Event::Bound { address, preferred, until, renewed } => {
                let left = |end: Option<Moment>| end.map(|end| end.saturating_sub(now));
                let lifetimes = Lifetimes { preferred: left(preferred), valid: left(until) };
                // A lease says nothing about other addresses of its link.
                let address_alone = Net { ip: address.into(), len: Family::V6.bits() };
                let hold = Hold { address: address_alone, lifetimes, routes: Vec::new() };
                if holder.hold(Origin::Dhcp, Family::V6, &[hold]) == Outcome::Changed {
                    self.tried = Some(address);
                }
                let term = lifetimes
                    .valid
                    .map_or_else(|| "for ever".to_owned(), |valid| format!("for {:.0} s", valid.as_secs_f64()));
                let level = if renewed { log::Level::Debug } else { log::Level::Info };
                log::log!(level, "{name}: leased {address} {term}{}", if renewed { ", again" } else { "" });
            }
            Event::Lost { address, why } => {
                let level = if why == Loss::Released { log::Level::Info } else { log::Level::Warn };
                log::log!(level, "{name}: {address} is no longer ours: {why}");
                self.tried = None;
                holder.hold(Origin::Dhcp, Family::V6, &[]);
            }
            Event::Declined(address) => {
                log::warn!("{name}: another host has {address}, which was given to us; declined");
                holder.hold(Origin::Dhcp, Family::V6, &[]);
            }
            Event::Refused(why) => log::warn!("{name}: no IPv6 address by DHCP: {why}; asking on"),
            Event::Silence => log::warn!("{name}: no DHCPv6 server has answered yet; asking on"),
            Event::Odd(faults) => log::debug!("{name}: a DHCPv6 server's message is odd: {faults}"),
        }
    }

    /// Gives the address back.
    pub(crate) fn release(&mut self, now: Moment) {
        self.client.release(now);
    }

    /// Whether nothing is left to do after that.
    pub(crate) fn is_gone(&self) -> bool {
        self.client.is_gone()
    }
}
