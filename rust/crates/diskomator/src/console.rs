//! `diskomator console`: addresses, disks and the line to type, on the screen
//! and on the serial console. It only looks; nothing depends on it.
//!
//! It sleeps until something changes: links and addresses are told of by
//! netlink, disks by the kernel's uevents, exports by inotify on the target's
//! directories. Only where there is no NVMe target to watch does it look again
//! every few seconds.

use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};

use diskomator_core::config::Config;
use diskomator_core::export::Export;
use diskomator_core::policy::Access;
use diskomator_core::status::{Address, Disk, DiskState, Link, MODEL_MAX, Snapshot, Ssh, render};
use diskomator_sys::netlink::{Monitor, Netlink, NetlinkError, Watch};
use diskomator_sys::root::Root;
use diskomator_sys::settings;
use diskomator_sys::signals::Termination;
use diskomator_sys::terminal::Terminal;
use diskomator_sys::uevent::UeventSocket;
use diskomator_sys::watch::Directories;

use crate::applet::{Failure, chain, print, start_daemon};
use crate::exporter::{ExportError, Exporter, Observation, State, state};
use crate::ssh;

const HELP: &str = "\
Usage: diskomator console [--once]

Shows this machine's addresses, its disks and what to type on another machine,
on the first virtual terminal and on the serial console, whenever they change,
until stopped. With the setting `debug` the serial console is left to its shell.

Options:
  --once      print it to standard output, and end
  -h, --help  this text
";

/// What every terminal has.
const WIDTH: usize = 80;
/// Changes come in bunches; the text is made once for each bunch.
const SETTLE: Duration = Duration::from_millis(100);
/// How often to look for an NVMe target that is not there yet.
const NO_TARGET: Duration = Duration::from_secs(5);
/// The target's directory in configfs.
const NVMET: &str = "sys/kernel/config/nvmet";

const TERMINATION: Token = Token(0);
const NETWORK: Token = Token(1);
const DISKS: Token = Token(2);
const EXPORTS: Token = Token(3);
const ANSWERS: Token = Token(4);
const FIRST_TERMINAL: usize = 5;

pub(crate) fn run(args: lexopt::Parser) -> Result<(), Failure> {
    let root = Root::default();
    match parse(args)? {
        Mode::Help => print(HELP),
        Mode::Once => {
            let config = settings::read(&root).0.config;
            let mut observer = Observer::new(root, config, || {}).map_err(Failure::failed)?;
            print(&render(&observer.look_at_all().map_err(Failure::failed)?, WIDTH))
        }
        Mode::Daemon => {
            let config = start_daemon("console", &root, false);
            watch(&root, config)
        }
    }
}

enum Mode {
    Help,
    Once,
    Daemon,
}

fn parse(mut args: lexopt::Parser) -> Result<Mode, lexopt::Error> {
    use lexopt::prelude::*;
    let mut mode = Mode::Daemon;
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Mode::Help),
            Long("once") => mode = Mode::Once,
            other => return Err(other.unexpected()),
        }
    }
    Ok(mode)
}

fn watch(root: &Root, config: Config) -> Result<(), Failure> {
    let mut termination = Termination::new().map_err(Failure::failed)?;
    let mut network = Monitor::new(Watch::LinksAndAddresses).map_err(Failure::failed)?;
    let mut disks = UeventSocket::open().map_err(Failure::failed)?;
    let mut exports = Directories::new().map_err(Failure::failed)?;
    let mut poll = Poll::new().map_err(Failure::failed)?;
    let registry = poll.registry();
    registry.register(&mut termination, TERMINATION, Interest::READABLE).map_err(Failure::failed)?;
    registry.register(&mut network, NETWORK, Interest::READABLE).map_err(Failure::failed)?;
    registry.register(&mut disks, DISKS, Interest::READABLE).map_err(Failure::failed)?;
    registry.register(&mut exports, EXPORTS, Interest::READABLE).map_err(Failure::failed)?;

    let mut screens: Vec<Screen> = Terminal::find(root, !config.debug).into_iter().map(Screen::new).collect();
    let waker = Waker::new(poll.registry(), ANSWERS).map_err(Failure::failed)?;
    // That fails only when the applet is ending.
    let mut observer = Observer::new(root.clone(), config, move || drop(waker.wake())).map_err(Failure::failed)?;
    let mut events = Events::with_capacity(16);
    let mut shown = String::new();
    let mut due = Some(Instant::now());
    loop {
        if due.is_some_and(|due| due <= Instant::now()) {
            // First watch, then look: nothing falls in between.
            let has_target = watch_exports(root, &exports);
            let looked = observer.look();
            let next = observer.next_look();
            due = if has_target { next } else { Some(Instant::now() + NO_TARGET) };
            match looked {
                Ok(snapshot) => {
                    let text = render(&snapshot, WIDTH);
                    if text != shown {
                        for (token, screen) in (FIRST_TERMINAL..).map(Token).zip(&mut screens) {
                            screen.show(poll.registry(), token, &text);
                        }
                        shown = text;
                    }
                }
                Err(error) => log::error!("{}", chain(&error)),
            }
        }
        let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(Failure::failed)?,
        }
        for event in &events {
            match event.token() {
                TERMINATION => return Ok(()),
                NETWORK => network.drain().map_err(Failure::failed)?,
                DISKS => disks.drain().map_err(Failure::failed)?,
                EXPORTS => exports.drain().map_err(Failure::failed)?,
                ANSWERS => {}
                Token(token) => {
                    if let Some(screen) = token.checked_sub(FIRST_TERMINAL).and_then(|index| screens.get_mut(index)) {
                        screen.go_on();
                    }
                    continue;
                }
            }
            let soon = Instant::now() + SETTLE;
            due = Some(due.map_or(soon, |due| due.min(soon)));
        }
    }
}

/// Watches each directory of the target in which something can change;
/// `false` if there is no target yet.
fn watch_exports(root: &Root, exports: &Directories) -> bool {
    let mut directories = vec![NVMET.to_owned()];
    for group in ["subsystems", "ports"] {
        let group = format!("{NVMET}/{group}");
        let items = root.list(&group).unwrap_or_default();
        directories.push(group.clone());
        directories.extend(items.iter().map(|item| format!("{group}/{item}/namespaces")));
        directories.extend(items.iter().map(|item| format!("{group}/{item}/namespaces/1")));
    }
    let mut watched = directories.into_iter().filter(|directory| root.exists(directory)).peekable();
    let found = watched.peek().is_some();
    let watched = watched.chain(ssh::WATCHED.into_iter().filter(|directory| root.exists(directory)).map(str::to_owned));
    for directory in watched {
        if let Err(error) = exports.add(root.path(directory)) {
            // It may just have been removed, which its parent tells.
            log::debug!("{}", chain(&error));
        }
    }
    found
}

/// A terminal, and whether it is known to be lost.
struct Screen {
    terminal: Terminal,
    is_lost: bool,
}

impl Screen {
    fn new(terminal: Terminal) -> Self {
        Self { terminal, is_lost: false }
    }

    fn show(&mut self, registry: &mio::Registry, token: Token, text: &str) {
        let outcome = self.terminal.show(registry, token, text);
        self.note(outcome);
    }

    fn go_on(&mut self) {
        let outcome = self.terminal.go_on();
        self.note(outcome);
    }

    /// Says once that a terminal is lost. It is tried again with each text.
    fn note(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.is_lost = false,
            Err(error) => {
                if !self.is_lost {
                    log::warn!("nothing can be shown on {}: {error}", self.terminal.path().display());
                }
                self.is_lost = true;
            }
        }
    }
}

/// What looks at the kernel.
struct Observer {
    netlink: Netlink,
    exporter: Exporter,
}

impl Observer {
    fn new(root: Root, config: Config, wake: impl Fn() + Send + Sync + 'static) -> Result<Self, NetlinkError> {
        Ok(Self { netlink: Netlink::new()?, exporter: Exporter::new(root, config, wake) })
    }

    fn look(&mut self) -> Result<Snapshot, NetlinkError> {
        let observed = self.exporter.observe();
        self.snapshot(observed)
    }

    /// The same, once every disk has answered that will.
    fn look_at_all(&mut self) -> Result<Snapshot, NetlinkError> {
        let observed = self.exporter.observe_all();
        self.snapshot(observed)
    }

    /// When a disk will be found not to answer.
    fn next_look(&self) -> Option<Instant> {
        self.exporter.prober.next_look()
    }

    fn snapshot(&self, observed: Result<Observation, ExportError>) -> Result<Snapshot, NetlinkError> {
        let links = self.links()?;
        let (disks, problem) = match observed {
            Ok(observation) => (disks(&observation.exports), None),
            Err(error) => (Vec::new(), Some(chain(&error))),
        };
        let ssh = ssh::status(&self.exporter.root).map(|status| Ssh {
            password: status.password,
            fingerprint: status.fingerprint,
            keys: status.keys,
        });
        Ok(Snapshot { is_by_hand: self.exporter.config.export.is_none(), links, disks, problem, ssh })
    }

    fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let addresses = self.netlink.addresses()?;
        let links = self.netlink.links()?.into_iter().filter(|link| !link.is_loopback);
        let links = links.map(|link| {
            let own = addresses.iter().filter(|address| address.link == link.index && address.is_usable);
            let addresses: Vec<Address> = own
                .map(|address| Address {
                    is_link_local: address.is_link_local,
                    ip: address.ip,
                    prefix_len: address.prefix_len,
                })
                .collect();
            Link { name: link.name, mac: link.ethernet, has_carrier: link.has_carrier, addresses }
        });
        // Tunnels and the like, which are nobody's to plug in, only with an address.
        Ok(links.filter(|link| link.mac.is_some() || !link.addresses.is_empty()).collect())
    }
}

fn disks(exports: &[Export]) -> Vec<Disk> {
    let shown = exports.iter().filter_map(|export| {
        let state = match state(export) {
            State::Hidden => return None,
            State::Exported(Access::ReadWrite) => DiskState::Exported,
            State::Exported(Access::ReadOnly) => DiskState::ReadOnly,
            State::Exported(Access::Passthru) => DiskState::Passthru,
            State::Empty => DiskState::NoMedium,
            State::Waiting => DiskState::Waiting,
            State::Failed(why) | State::Refused(why) => DiskState::NotExported(why),
        };
        let disk = &export.disk;
        Some(Disk {
            name: disk.name.clone(),
            size: disk.size,
            model: disk.marked_model(MODEL_MAX),
            serial: disk.serial.clone(),
            state,
        })
    });
    shown.collect()
}
