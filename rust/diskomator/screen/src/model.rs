//! Everything that a screen tells of, at one moment.

use std::net::IpAddr;
use std::time::Duration;

use access::Mode;
use netproto::net::Mac;
use nvmet::hosts::Controller;
use nvmet::model::Host;
use tui::screen::Screen;

use crate::log::Log;
use crate::traffic::Traffic;

/// Everything the screen tells of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The machine itself.
    pub machine: Machine,
    /// Since the kernel started.
    pub uptime: Duration,
    /// No disk is exported by itself.
    pub is_by_hand: bool,
    /// The network interfaces, but not the loopback.
    pub links: Vec<Link>,
    /// The disks, exported or not.
    pub disks: Vec<Disk>,
    /// Why there are no disks to show, if they could not be listed.
    pub problem: Option<String>,
    /// What the firmware starts when nothing is asked of it; `None` if it keeps no variables that say so.
    pub after: Option<efi::After>,
    /// Warnings before anything goes wrong, the gravest first.
    pub warnings: Vec<String>,
    /// How to log in over the network, if that is possible.
    pub ssh: Option<Ssh>,
    /// The hosts that may use the disks, and those that ask for them.
    pub access: Access,
    /// The end of the kernel's log.
    pub log: Log,
}

/// So long after the start disks and network cards may still be on their way.
pub const STARTING: Duration = Duration::from_secs(20);
/// The first line where a setting keeps disks from being exported without a command.
pub(crate) const BY_HAND: &str = "No disk is exported by itself: the setting diskomator.export says so.";

/// The machine itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its name on every network: `diskomator-123456.local`.
    pub name: Option<String>,
    /// The version of this program.
    pub version: &'static str,
    /// Its vendor and model.
    pub model: Option<String>,
    /// The processor's name.
    pub processor: Option<String>,
    /// How many of them the kernel sees.
    pub processors: usize,
    /// In bytes.
    pub memory: u64,
    /// In bytes, what programs can still have of it.
    pub memory_free: u64,
    /// The kind of console that its virtual terminals are drawn on.
    pub screen: Screen,
}

/// A message about the screen. If there is none, it names other places to look.
pub fn screen_text(screen: Screen) -> &'static str {
    match screen {
        Screen::FrameBuffer => "the screen is up",
        Screen::Text => "the screen is up, in text mode",
        Screen::None => NO_SCREEN,
    }
}

/// Where the same is to be seen.
pub(crate) const NO_SCREEN: &str = "no screen: there is no frame buffer and no text mode to draw on; look at the \
                                    serial line, or type on another machine: avahi-browse -rt _nvme-disc._tcp";

/// How to log in over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The password, which is good once; `None` where keys let in.
    pub password: Option<String>,
    /// The fingerprint of the machine's key.
    pub fingerprint: String,
    /// How many keys let in.
    pub keys: usize,
}

/// The access of hosts to all disks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Whose decision it is.
    pub mode: Mode,
    /// The undecided hosts, in the order of their numbers.
    pub requests: Vec<Request>,
    /// The hosts that were admitted. In [`Mode::Open`] that is every host.
    pub admitted: Vec<Admitted>,
}

/// A host that asks for the disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Counts all requests of this boot.
    pub number: u64,
    /// Its NQN and address.
    pub host: Host,
}

/// A host that may use the disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its NQN.
    pub nqn: String,
    /// It may only read them.
    pub is_read_only: bool,
}

/// A row of the page of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRow<'a> {
    /// An undecided host.
    Request(&'a Request),
    /// A connected host with its disks.
    Connected(&'a Host, Vec<&'a Disk>),
    /// A host that was admitted and is not connected.
    Admitted(&'a Admitted),
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's name for it.
    pub name: String,
    /// Its hardware address, if it is like Ethernet.
    pub mac: Option<Mac>,
    /// Whether the other end is there.
    pub has_carrier: bool,
    /// In megabits a second, if the driver knows.
    pub speed: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Whether it is good on its link only.
    pub is_link_local: bool,
    /// The address; IPv4 sorts before IPv6.
    pub ip: IpAddr,
    /// The length of its network's prefix.
    pub prefix_len: u8,
    /// Where it comes from, in a word.
    pub origin: &'static str,
}

impl Address {
    /// IPv6 cannot tell from a link-local address which link it is on.
    pub fn needs_zone(&self) -> bool {
        self.is_link_local && self.ip.is_ipv6()
    }
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name for it, which another one may have after it.
    pub name: String,
    /// The kernel's number for it, which no other disk of this boot has (`/sys/block/*/diskseq`).
    pub diskseq: u64,
    /// In bytes.
    pub size: u64,
    /// The maker's name for it, and whether this machine was started from it.
    pub model: Option<String>,
    /// The maker's number.
    pub serial: Option<String>,
    /// The maker's number for what runs in it.
    pub firmware: Option<String>,
    /// How it is attached: `nvme`, `ata`, …
    pub bus: String,
    /// Its name on other machines.
    pub nqn: Option<String>,
    /// Whether its bay has a light that can be switched.
    pub has_light: bool,
    /// Its state.
    pub state: DiskState,
    /// The hosts that are connected to it,
    pub hosts: Vec<Host>,
    /// and their controllers.
    pub controllers: Vec<Controller>,
    /// The I/O of hosts, while some are connected.
    pub traffic: Option<Traffic>,
}

/// The state of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskState {
    /// Other machines can use it.
    Exported,
    /// Other machines can read it.
    ReadOnly,
    /// Other machines have its controller.
    Passthru,
    /// A drive with nothing in it, which other machines will see once there is.
    NoMedium,
    /// It is about to be exported.
    Waiting,
    /// It is not, and why.
    NotExported(String),
}

impl Snapshot {
    /// Every address that another machine can try, with its link: those that
    /// are good everywhere first.
    pub fn addresses(&self) -> Vec<(Address, &str)> {
        let reachable = self.links.iter().filter(|link| link.has_carrier);
        let mut addresses: Vec<(Address, &str)> =
            reachable.flat_map(|link| link.addresses.iter().map(|address| (*address, link.name.as_str()))).collect();
        addresses.sort_unstable();
        addresses
    }

    /// Every host with its disks, each host once.
    pub fn hosts(&self) -> Vec<(&Host, Vec<&Disk>)> {
        let mut hosts: Vec<(&Host, Vec<&Disk>)> = Vec::new();
        for disk in &self.disks {
            for host in &disk.hosts {
                match hosts.iter_mut().find(|(other, _)| *other == host) {
                    Some((_, disks)) => disks.push(disk),
                    None => hosts.push((host, vec![disk])),
                }
            }
        }
        hosts.sort_by(|(a, _), (b, _)| (&a.address, &a.nqn).cmp(&(&b.address, &b.nqn)));
        hosts
    }

    /// The rows of the page of hosts: those that ask come first.
    pub fn host_rows(&self) -> Vec<HostRow<'_>> {
        let connected = self.hosts();
        let absent = self.access.admitted.iter();
        let absent = absent.filter(|admitted| !connected.iter().any(|(host, _)| host.nqn == admitted.nqn));
        let absent: Vec<HostRow<'_>> = absent.map(HostRow::Admitted).collect();
        let requests = self.access.requests.iter().map(HostRow::Request);
        requests
            .chain(connected.into_iter().map(|(host, disks)| HostRow::Connected(host, disks)))
            .chain(absent)
            .collect()
    }

    /// The admission of a host, if a person or a setting has admitted it.
    pub fn admission(&self, nqn: &str) -> Option<&Admitted> {
        self.access.admitted.iter().find(|admitted| admitted.nqn == nqn)
    }
}

impl HostRow<'_> {
    /// The NQN of the row's host.
    pub fn nqn(&self) -> &str {
        match self {
            Self::Request(request) => &request.host.nqn,
            Self::Connected(host, _) => &host.nqn,
            Self::Admitted(admitted) => &admitted.nqn,
        }
    }

    /// The address of the row's host, if it is known.
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Request(request) => request.host.address.as_deref(),
            Self::Connected(host, _) => host.address.as_deref(),
            Self::Admitted(_) => None,
        }
    }
}

/// The command for the other machine to get all disks, through one address.
pub fn connect_line(address: &Address) -> String {
    // A zone behind the address, as in fe80::1%eth0, is lost on the way from the
    // discovery log to the disks.
    let link = if address.needs_zone() { " -f <interface>" } else { "" };
    format!("nvme connect-all -t tcp -a {}{link}", address.ip)
}

/// The command for the other machine to log in, through one address.
pub fn login_line(address: &Address) -> String {
    let zone = if address.needs_zone() { "%<interface>" } else { "" };
    format!("ssh root@{}{zone}", address.ip)
}

/// Since when the machine runs, and when that text will be another.
pub fn uptime_text(uptime: Duration) -> (String, Duration) {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = uptime.as_secs();
    let (text, unit) = match seconds {
        0..MINUTE => ("just started".to_owned(), MINUTE),
        MINUTE..HOUR => (format!("up {} min", seconds / MINUTE), MINUTE),
        HOUR..172_800 => (format!("up {} h", seconds / HOUR), HOUR),
        _ => (format!("up {} days", seconds / DAY), DAY),
    };
    (text, Duration::from_secs((seconds / unit + 1) * unit).saturating_sub(uptime))
}

/// Bytes from a disk or a network must not be able to steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// The first `max` characters, with a mark where something is missing.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max.saturating_sub(1)).collect();
    if max > 0 {
        short.push('~');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_units_that_do_not_change_often() {
        for (seconds, text, left) in [
            (0, "just started", 60),
            (59, "just started", 1),
            (60, "up 1 min", 60),
            (3599, "up 59 min", 1),
            (3600, "up 1 h", 3600),
            (172_799, "up 47 h", 1),
            (172_800, "up 2 days", 86_400),
        ] {
            assert_eq!(uptime_text(Duration::from_secs(seconds)), (text.to_owned(), Duration::from_secs(left)));
        }
    }

    #[test]
    fn where_there_is_no_screen_a_person_is_told_where_to_look() {
        let text = screen_text(Screen::None);
        assert!(text.starts_with("no screen: ") && !text.contains("is up"), "{text}");
        assert!(text.contains("serial line") && text.contains("avahi-browse -rt _nvme-disc._tcp"), "{text}");
        assert!(screen_text(Screen::FrameBuffer).contains("the screen is up"));
        assert!(screen_text(Screen::Text).contains("the screen is up"));
    }
}
