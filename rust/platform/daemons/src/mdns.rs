//! `mdns`: tells each Ethernet link the machine's name and its
//! discovery service by multicast DNS. It only looks at links and addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use kernel::error::chain;
use kernel::multicast::MulticastSocket;
use kernel::netlink::{Link, Monitor, Netlink, NetlinkError, Watch};
use kernel::root::Root;
use netproto::mdns::responder::{self, Family, Output, Responder};
use netproto::mdns::wire::MESSAGE_MAX;
use netproto::mdns::zone::Service;
use netproto::pace::Moment;
use runtime::events::{Drained, Event, EventLoop, EventLoopError, drain};
use runtime::{AppletError, Failure, chosen_links, print_help, start_daemon};
use settings::Product;

use crate::name::machine_name;
use crate::name_in_use;

const HELP: &str = "\
Usage: {product} mdns [--interface NAME]...

Tells every Ethernet link, by multicast DNS (RFC 6762), the machine's name and
its service (RFC 6763), until stopped:

  {product}-XXXXXX.local
      has the link's own addresses; XXXXXX are the last three bytes of the
      lowest hardware address that is built in; the setting `{product}.name`
      gives another name
  {product}-XXXXXX.{service}.local
      is the service, at port {port}

If another machine has the name, this one is {product}-XXXXXX-2, and so on, on
all links. The file /run/machine-name has the name in use. With SIGTERM or
SIGINT it takes back what it told, removes the file, and ends.

Options:
  -i, --interface NAME  only this link; can be given more than once
  -h, --help            this text

Exit codes: 0 when stopped by a signal, 1 if the kernel refuses what every link
needs, 2 if the command line makes no sense.

On another machine: avahi-browse -rt {service}
";

/// The sources of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Links and addresses that change.
    Network,
    /// The socket of one family on the link with this index.
    End(u32, Family),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "changes of the network",
            Self::End(..) => "messages",
        })
    }
}

/// The kernel refuses what every link needs.
#[derive(Debug, thiserror::Error)]
enum MdnsError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Events(#[from] EventLoopError),
}

impl AppletError for MdnsError {}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Runs the applet, which announces the product's service; what that says may depend on the settings.
pub fn run<C: Product>(args: lexopt::Parser, service: fn(&C) -> Service) -> Result<(), Failure> {
    let Some(only) = chosen_links(args)? else {
        let Service { kind, port, .. } = service(&C::default());
        return print_help::<C>(&HELP.replace("{service}", &kind.join(".")).replace("{port}", &port.to_string()));
    };
    let root = Root::default();
    let config = start_daemon::<C>("mdns", &root, false).config;
    let service = service(&config);
    Ok(Daemon::new(root, config, service, only)?.run()?)
}

/// All links.
struct Daemon<C> {
    root: Root,
    config: C,
    service: Service,
    only: Vec<String>,
    started: Instant,
    seeds: RandomState,
    netlink: Netlink,
    monitor: Monitor,
    events: EventLoop<Source>,
    /// The machine's name, once there was a link, and how often it was taken.
    base: Option<String>,
    number: u32,
    /// The name in the file that other applets read.
    published: Option<String>,
    links: BTreeMap<u32, MdnsLink>,
}

/// One link.
struct MdnsLink {
    name: String,
    carrier_losses: u32,
    ends: [End; 2],
}

/// One family of a link.
struct End {
    family: Family,
    responder: Responder,
    socket: Option<MulticastSocket>,
}

/// The outcome of one end's turn.
#[derive(Default)]
struct Acted {
    /// The time at which the end has to act again.
    next: Option<Moment>,
    /// The number that the name has come to.
    number: u32,
    /// The first label of the name that the end has now.
    published: Option<String>,
}

impl<C: Product> Daemon<C> {
    fn new(root: Root, config: C, service: Service, only: Vec<String>) -> Result<Self, MdnsError> {
        let mut events = EventLoop::new()?;
        events.end_by_signal()?;
        let mut monitor = Monitor::new(Watch::LinksAndAddresses)?;
        events.register(Source::Network, &mut monitor)?;
        Ok(Self {
            root,
            config,
            service,
            only,
            started: Instant::now(),
            seeds: RandomState::new(),
            netlink: Netlink::new()?,
            monitor,
            events,
            base: None,
            number: 1,
            published: None,
            links: BTreeMap::new(),
        })
    }

    fn run(mut self) -> Result<(), MdnsError> {
        // A daemon that was killed leaves its name behind.
        self.withdraw();
        let ended = self.serve();
        self.withdraw();
        ended
    }

    fn serve(&mut self) -> Result<(), MdnsError> {
        let mut buffer = vec![0; MESSAGE_MAX];
        self.look();
        loop {
            let next = self.act();
            for event in self.events.wait(next.and_then(|next| self.started.checked_add(next)))? {
                match event {
                    Event::End | Event::Release => {
                        self.close();
                        return Ok(());
                    }
                    Event::Ready { source: Source::Network, .. } => {
                        self.monitor.drain()?;
                        self.look();
                    }
                    Event::Ready { source: source @ Source::End(link, family), .. } => {
                        if self.receive(link, family, &mut buffer) == Drained::More {
                            self.events.again(source);
                        }
                    }
                }
            }
        }
    }

    fn now(&self) -> Moment {
        self.started.elapsed()
    }

    fn close(&mut self) {
        let now = self.now();
        for end in self.links.values_mut().flat_map(|port| &mut port.ends) {
            end.responder.close(now);
        }
        self.act();
        log::info!("stopped; the network was told");
    }

    fn look(&mut self) {
        if let Err(error) = self.look_at_links() {
            log::error!("{}", chain(&error));
        }
    }

    /// Compares the kernel's links and addresses with ours.
    fn look_at_links(&mut self) -> Result<(), NetlinkError> {
        let (links, addresses) = (self.netlink.links()?, self.netlink.addresses()?);
        let own: Rc<[IpAddr]> = addresses.iter().map(|address| address.ip).collect();
        let is_wanted = |link: &&Link| self.only.is_empty() || self.only.contains(&link.name);
        let ours: Vec<&Link> = links.iter().filter(|link| link.ethernet.is_some()).filter(is_wanted).collect();
        self.links.retain(|index, _| ours.iter().any(|link| link.index == *index));
        // Once said, a name stays, whatever is plugged in later.
        if self.base.is_none() {
            self.base = machine_name(&self.config, &self.root, &links);
        }
        let Some(base) = self.base.clone() else { return Ok(()) };
        let now = self.now();
        for link in ours {
            let usable = addresses.iter().filter(|address| address.link == link.index && address.is_usable);
            let addresses: Vec<IpAddr> = usable.map(|address| address.ip).collect();
            let (number, seeds) = (self.number, &self.seeds);
            let port = self.links.entry(link.index).or_insert_with(|| MdnsLink {
                name: link.name.clone(),
                carrier_losses: link.carrier_losses,
                ends: FAMILIES.map(|family| {
                    let seed = seeds.hash_one((link.index, family == Family::V6));
                    End { family, responder: Responder::new(family, self.service, &base, number, seed), socket: None }
                }),
            });
            port.name.clone_from(&link.name);
            let was_lost = link.carrier_losses != port.carrier_losses;
            port.carrier_losses = link.carrier_losses;
            for end in &mut port.ends {
                if was_lost || !link.has_carrier {
                    end.responder.link_down();
                    // A new one joins the group anew, which switches may have forgotten.
                    end.socket = None;
                }
                if link.has_carrier && end.open(&mut self.events, link, &addresses) {
                    end.responder.set_addresses(now, &addresses, &own);
                }
            }
        }
        Ok(())
    }

    /// Lets every responder do what is due, and returns when the next one is.
    fn act(&mut self) -> Option<Moment> {
        loop {
            let mut next: Option<Moment> = None;
            let number = self.number;
            let mut published = None;
            for port in self.links.values_mut() {
                for end in &mut port.ends {
                    let acted = end.act(&port.name, self.started);
                    next = next.into_iter().chain(acted.next).min();
                    self.number = self.number.max(acted.number);
                    published = acted.published.or(published);
                }
            }
            if let Some(label) = published {
                self.publish(label);
            }
            if self.number == number {
                return next;
            }
            // A machine has one name on all links.
            let now = self.now();
            for end in self.links.values_mut().flat_map(|port| &mut port.ends) {
                end.responder.rename(now, self.number);
            }
        }
    }

    /// Tells the other applets the name.
    fn publish(&mut self, label: String) {
        if self.published.as_ref() == Some(&label) {
            return;
        }
        match name_in_use::write(&self.root, &label) {
            Ok(()) => self.published = Some(label),
            Err(error) => log::warn!("{}", chain(&error)),
        }
    }

    /// Takes the name back from the other applets.
    fn withdraw(&mut self) {
        self.published = None;
        if let Err(error) = name_in_use::remove(&self.root) {
            log::warn!("{}", chain(&error));
        }
    }

    /// Reads from a link's socket.
    fn receive(&mut self, link: u32, family: Family, buffer: &mut [u8]) -> Drained {
        let now = self.now();
        let Some(port) = self.links.get_mut(&link) else { return Drained::Empty };
        let Some(end) = port.ends.iter_mut().find(|end| end.family == family) else { return Drained::Empty };
        let Some(socket) = &end.socket else { return Drained::Empty };
        drain(format_args!("{}: {family}", port.name), || {
            let (len, from) = socket.receive(buffer)?;
            if let Err(error) = end.responder.handle(now, &buffer[..len], from) {
                log::debug!("{}: message from {from} dropped: {error}", port.name);
            }
            Ok(())
        })
    }
}

impl End {
    /// Opens the socket once there is an address to send from; `false` if that
    /// fails, which the next change on the link tries again.
    fn open(&mut self, events: &mut EventLoop<Source>, link: &Link, addresses: &[IpAddr]) -> bool {
        if self.socket.is_some() || !addresses.iter().any(|ip| self.family.has(*ip)) {
            return true;
        }
        let socket = match MulticastSocket::open(link.index, &link.name, self.family) {
            Ok(socket) => socket,
            Err(error) => {
                log::warn!("{}", chain(&error));
                return false;
            }
        };
        match events.register_descriptor(Source::End(link.index, self.family), &socket) {
            Ok(()) => self.socket = Some(socket),
            Err(error) => log::warn!("{}: {}", link.name, chain(&error)),
        }
        self.socket.is_some()
    }

    /// Lets the responder do everything that is due.
    fn act(&mut self, link: &str, started: Instant) -> Acted {
        let mut acted = Acted::default();
        loop {
            match self.responder.poll(started.elapsed()) {
                Output::Transmit(transmit) => {
                    let sent =
                        self.socket.as_ref().map_or(Ok(()), |socket| socket.send(&transmit.payload, transmit.to));
                    if let Err(error) = sent {
                        log::debug!("{link}: failed to send by {}: {error}", self.family);
                    }
                }
                Output::Event(responder::Event::Published { label }) => {
                    log::info!("{link}: known as {label}.local by {}", self.family);
                    acted.published = Some(label);
                }
                Output::Event(responder::Event::Renamed { label, number }) => {
                    log::warn!("{link}: the name is taken; from now on {label}.local");
                    acted.number = number;
                }
                Output::Event(responder::Event::Odd { from, faults }) => {
                    log::debug!("{link}: a message from {from} is odd: {faults}");
                }
                Output::Timeout(at) => {
                    acted.next = at;
                    return acted;
                }
            }
        }
    }
}
