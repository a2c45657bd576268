//! `log`: sends this machine's log to another one, for machines that
//! have no screen: as syslog, and by the kernel itself when it crashes.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use kernel::clock::{self, time_of_day, uptime};
use kernel::datagram::DatagramSocket;
use kernel::error::chain;
use kernel::kmsg::{Kmsg, KmsgError};
use kernel::netconsole::{self, Target};
use kernel::netlink::{Monitor, Netlink, NetlinkError, Watch};
use kernel::root::{FileError, Root};
use netproto::destination::Destination;
use netproto::net::Mac;
use netproto::pace::Moment;
use netproto::syslog::{self, Clock, KmsgRecord, Progress};
use runtime::events::{Event, EventLoop, EventLoopError};
use runtime::{AppletError, Failure, print_help, start_daemon};
use settings::Product;

use crate::name::machine_name;
use crate::name_in_use;

const HELP: &str = "\
Usage: {product} log [--syslog ADDRESS[:PORT]] [--netconsole ADDRESS[:PORT]]

Sends this machine's log to another one, until stopped. Without options it does
what the settings of the same names say.

An address of IPv6 with a port is written in brackets; one that is link-local
names the link, too: [fe80::1%eth0]:514. It may be that of a multicast group.

Options:
  --syslog      sends each record of the kernel's log, which is also that of the
                daemons, from its start, as RFC 5424 has it over UDP, to port 514
                if none is named. Nothing is sent before there is a way to the
                other machine, and nothing lost that the kernel still has. A
                record is sent again if the other machine does not answer for
                its address, or says that nobody listens there
  --netconsole  has the kernel send its console, over UDP, to port 6666 if none
                is named. Once the status screen is there, that is what it says
                when it crashes. First comes one line with this machine's name
  -h, --help    this text

Exit status: 0 when stopped by a signal, 1 if the kernel refuses, 2 wrong usage.

On another machine: rsyslogd with imudp, or socat -u UDP-RECV:6666 -
";

/// The sources of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Links and addresses that change.
    Network,
    /// Records of the kernel's log.
    Kmsg,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "changes of the network",
            Self::Kmsg => "the kernel's log",
        })
    }
}

/// The applet can't go on.
#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Kmsg(#[from] KmsgError),
    #[error(transparent)]
    Events(#[from] EventLoopError),
}

impl AppletError for LogError {}

/// Netconsole is not set up.
#[derive(Debug, thiserror::Error)]
enum NetconsoleError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Netconsole's usual port.
const NETCONSOLE_PORT: u16 = 6666;
/// After so many records there is a pause, as receivers have buffers.
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_millis(10);
/// When to try again what failed.
const RETRY: Duration = Duration::from_secs(2);
/// Changes of the network come in bunches.
const SETTLE: Duration = Duration::from_millis(200);
/// How often to look whether the other machine has another hardware address.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How often to ask for it, a second apart, before it is done without.
const QUESTIONS: u32 = 3;
const ANSWER: Duration = Duration::from_secs(1);

/// Runs the applet.
pub fn run<C: Product>(args: lexopt::Parser) -> Result<(), Failure> {
    let root = Root::default();
    let Some(chosen) = parse(args)? else { return print_help::<C>(HELP) };
    let mut config = start_daemon::<C>("log", &root, false).config;
    if chosen != Chosen::default() {
        let system = config.as_mut();
        (system.syslog, system.netconsole) = (chosen.syslog, chosen.netconsole);
    }
    if config.as_ref().syslog.is_none() && config.as_ref().netconsole.is_none() {
        return Err(Failure::Usage(
            format!("no setting says where to send the log; `{} log --help` says how", C::NAME).into(),
        ));
    }
    Ok(Daemon::new(root, config)?.run()?)
}

#[derive(Default, PartialEq, Eq)]
struct Chosen {
    syslog: Option<Destination>,
    netconsole: Option<Destination>,
}

fn parse(mut args: lexopt::Parser) -> Result<Option<Chosen>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut chosen = Chosen::default();
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Long("syslog") => chosen.syslog = Some(args.value()?.parse()?),
            Long("netconsole") => chosen.netconsole = Some(args.value()?.parse()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(chosen))
}

struct Daemon<C> {
    root: Root,
    config: C,
    started: Instant,
    netlink: Netlink,
    monitor: Monitor,
    events: EventLoop<Source>,
    /// The name that the machine tries first, once there was a link.
    name: Option<String>,
    syslog: Option<Sender>,
    console: Option<Console>,
}

impl<C: Product> Daemon<C> {
    fn new(root: Root, config: C) -> Result<Self, LogError> {
        let mut events = EventLoop::new()?;
        events.end_by_signal()?;
        let mut monitor = Monitor::new(Watch::LinksAndAddresses)?;
        events.register(Source::Network, &mut monitor)?;
        let mut syslog = config.as_ref().syslog.clone().map(|to| Sender::new(&root, to)).transpose()?;
        if let Some(syslog) = &mut syslog {
            events.register(Source::Kmsg, &mut syslog.kmsg)?;
        }
        let mut console = config.as_ref().netconsole.clone().map(Console::new);
        if console.is_some() && !netconsole::is_supported(&root) {
            log::error!("this kernel has no netconsole");
            console = None;
        }
        let netlink = Netlink::new()?;
        Ok(Self { root, config, started: Instant::now(), netlink, monitor, events, name: None, syslog, console })
    }

    fn run(mut self) -> Result<(), LogError> {
        loop {
            let next = self.act()?;
            for event in self.events.wait(next.and_then(|next| self.started.checked_add(next)))? {
                match event {
                    Event::End | Event::Release => {
                        // The records until now.
                        self.act()?;
                        return Ok(());
                    }
                    Event::Ready { source: Source::Network, .. } => {
                        self.monitor.drain()?;
                        let now = self.started.elapsed();
                        if let Some(syslog) = &mut self.syslog {
                            syslog.network_changed();
                        }
                        if let Some(console) = &mut self.console {
                            console.due = now + SETTLE;
                        }
                    }
                    // The next turn reads it.
                    Event::Ready { source: Source::Kmsg, .. } => {}
                }
            }
        }
    }

    /// Does what is due, and says when the next is.
    fn act(&mut self) -> Result<Option<Moment>, LogError> {
        if self.name.is_none() {
            let links = self.netlink.links().unwrap_or_default();
            self.name = machine_name(&self.config, &self.root, &links);
        }
        let name = name_in_use::read(&self.root);
        let name = name.as_deref().or(self.name.as_deref()).unwrap_or("-");
        let now = self.started.elapsed();
        let console = self.console.as_mut().map(|console| console.act(now, &self.root, &self.netlink, name));
        let syslog = match &mut self.syslog {
            Some(syslog) => syslog.act(now, name)?,
            None => None,
        };
        Ok([console, syslog].into_iter().flatten().min())
    }
}

/// Sends the log as syslog.
struct Sender {
    to: Destination,
    kmsg: Kmsg,
    socket: Option<DatagramSocket>,
    /// The record that is next.
    waiting: Option<KmsgRecord>,
    progress: Progress,
    retry: Option<Moment>,
    /// The last report of it: whether messages arrive there.
    said: Option<bool>,
    /// No clock that goes is before this.
    earliest: Duration,
}

impl Sender {
    fn new(root: &Root, to: Destination) -> Result<Self, KmsgError> {
        Ok(Self {
            to,
            kmsg: Kmsg::open(root)?,
            socket: None,
            waiting: None,
            progress: Progress::default(),
            retry: None,
            said: None,
            earliest: clock::earliest(root),
        })
    }

    /// The next datagram takes the way that there is then.
    fn network_changed(&mut self) {
        self.retry = None;
    }

    /// Sends what can be sent, and says when to go on, without a new record.
    fn act(&mut self, now: Moment, host: &str) -> Result<Option<Moment>, KmsgError> {
        if let Some(retry) = self.retry.filter(|retry| now < *retry) {
            return Ok(Some(retry));
        }
        self.retry = None;
        let mut more = false;
        if let Err(error) = self.send(now, host, &mut more)? {
            self.socket = None;
            if self.progress.failed(now) {
                self.kmsg.rewind()?;
                self.waiting = None;
            }
            self.say(false, &format!("the log can't be sent to {} yet: {error}", self.to));
            self.retry = Some(now + RETRY);
            return Ok(self.retry);
        }
        if self.progress.settle(now) {
            self.say(true, &format!("the log is sent to {}", self.to));
        }
        Ok(if more { Some(now + PAUSE) } else { self.progress.settled_at() })
    }

    fn send(&mut self, now: Moment, host: &str, more: &mut bool) -> Result<io::Result<()>, KmsgError> {
        let socket = match self.socket.take().map_or_else(|| DatagramSocket::connect(&self.to, syslog::PORT), Ok) {
            Ok(socket) => socket,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = socket.check() {
            return Ok(Err(error));
        }
        let clock = Clock::new(time_of_day(), uptime(), self.earliest);
        for _ in 0..AT_ONCE {
            let Some(record) = self.next()? else {
                self.socket = Some(socket);
                return Ok(Ok(()));
            };
            match socket.send(&syslog::message(&record, host, clock)) {
                Ok(()) => self.progress.sent(now, record.sequence),
                Err(error) => {
                    self.waiting = Some(record);
                    if error.kind() == io::ErrorKind::WouldBlock {
                        break;
                    }
                    return Ok(Err(error));
                }
            }
        }
        *more = true;
        self.socket = Some(socket);
        Ok(Ok(()))
    }

    fn next(&mut self) -> Result<Option<KmsgRecord>, KmsgError> {
        if let Some(record) = self.waiting.take() {
            return Ok(Some(record));
        }
        while let Some(raw) = self.kmsg.read()? {
            if let Some(record) = KmsgRecord::parse(&raw).filter(|record| self.progress.wants(record.sequence)) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn say(&mut self, arrives: bool, what: &str) {
        if self.said != Some(arrives) {
            log::info!("{what}");
        }
        self.said = Some(arrives);
    }
}

/// Keeps the kernel's console set up.
struct Console {
    to: Destination,
    due: Moment,
    questions: u32,
    /// The last failure, which is logged once.
    failure: Option<String>,
}

impl Console {
    fn new(to: Destination) -> Self {
        Self { to, due: Moment::ZERO, questions: 0, failure: None }
    }

    /// Sets it up when that is due, and says when to look again.
    fn act(&mut self, now: Moment, root: &Root, netlink: &Netlink, name: &str) -> Moment {
        if now >= self.due {
            let outcome = self.set_up(root, netlink, name);
            self.due = now + if matches!(outcome, Ok(false)) { ANSWER } else { LOOK_AGAIN };
            let failure = outcome.err().map(|error| chain(&error));
            if let Some(failure) = failure.as_ref().filter(|failure| self.failure.as_ref() != Some(failure)) {
                log::error!("netconsole: {failure}");
            }
            self.failure = failure;
        }
        self.due
    }

    /// `false` as long as something is missing for it.
    fn set_up(&mut self, root: &Root, netlink: &Netlink, name: &str) -> Result<bool, NetconsoleError> {
        let links = netlink.links()?;
        let through = match &self.to.link {
            Some(name) => match links.iter().find(|link| link.name == *name) {
                Some(link) => Some(link.index),
                None => return Ok(false),
            },
            None => None,
        };
        let Some(way) = netlink.way_to(self.to.ip, through)? else { return Ok(false) };
        let Some(link) = links.iter().find(|link| link.index == way.link && link.has_carrier) else {
            return Ok(false);
        };
        let mac = match group_mac(self.to.ip) {
            Some(mac) => mac,
            None => match netlink.neighbour(link.index, way.next)? {
                Some(mac) => mac,
                None if self.questions < QUESTIONS => {
                    self.questions += 1;
                    self.greet(name);
                    return Ok(false);
                }
                None => Mac([0xff; 6]),
            },
        };
        let port = self.to.port.unwrap_or(NETCONSOLE_PORT);
        let target = Target { link: link.name.clone(), local: way.source, remote: self.to.ip, port, mac };
        if !netconsole::is_set(root, &target) {
            if self.questions == 0 {
                self.greet(name);
            }
            netconsole::set(root, &target)?;
            log::info!("the kernel's last words go to {} through {}, {mac}", self.to, target.link);
        }
        self.questions = 0;
        Ok(true)
    }

    /// Says who will be heard of there; the kernel looks for the hardware address on that occasion.
    fn greet(&self, name: &str) {
        let text = format!("{name}: the kernel's last words will come here\n");
        let sent = DatagramSocket::connect(&self.to, NETCONSOLE_PORT).and_then(|socket| socket.send(text.as_bytes()));
        if let Err(error) = sent {
            log::debug!("netconsole: {}: {error}", self.to);
        }
    }
}

/// The hardware address of a multicast group (RFC 1112 section 6.4, RFC 2464 section 7).
fn group_mac(ip: IpAddr) -> Option<Mac> {
    match ip {
        IpAddr::V4(ip) if ip.is_multicast() => {
            let [_, b, c, d] = ip.octets();
            Some(Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
        }
        IpAddr::V6(ip) if ip.is_multicast() => {
            let [.., a, b, c, d] = ip.octets();
            Some(Mac([0x33, 0x33, a, b, c, d]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_hardware_addresses_of_their_own() {
        let mac = |ip: &str| group_mac(ip.parse().unwrap()).map(|mac| mac.to_string());
        assert_eq!(mac("224.129.2.3").as_deref(), Some("01:00:5e:01:02:03"));
        assert_eq!(mac("ff02::1:ff00:7").as_deref(), Some("33:33:ff:00:00:07"));
        assert_eq!((mac("192.0.2.1"), mac("2001:db8::1")), (None, None));
    }
}
