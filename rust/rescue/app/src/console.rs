//! `rescue console`: the addresses of the machine and its SSH login, as one page on
//! the screen and as lines on the serial console.

use std::io;
use std::time::{Duration, Instant};

use daemons::name::current_name;
use daemons::net::origin_name;
use daemons::{name_in_use, ssh};
use kernel::given;
use kernel::netlink::{Monitor, Netlink, NetlinkError, Watch};
use kernel::root::{FileError, Root};
use kernel::signals::{SignalError, Termination};
use kernel::terminal::{Kind, Terminal};
use kernel::watch::{Directories, WatchError};
use mio::{Events, Interest, Poll, Token};
use runtime::{Failure, print, start_daemon};

use crate::config::Config;

const HELP: &str = "\
Usage: rescue console [--once]

Shows the machine's name, its addresses and how to log in over SSH, until stopped:
as a page on the first virtual terminal, and as lines on the serial console. With
the setting `debug` the serial console is left to its shell.

Options:
  --once      print the lines to standard output, and end
  -h, --help  this text
";

/// Changes come in bunches; the page is drawn once for each bunch.
const SETTLE: Duration = Duration::from_millis(200);

const TERMINATION: Token = Token(0);
const NETWORK: Token = Token(1);
const FILES: Token = Token(2);
const FIRST_TERMINAL: usize = 3;

/// The reason why the console can't go on.
#[derive(Debug, thiserror::Error)]
enum ConsoleError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Signal(#[from] SignalError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("failed to wait for events")]
    Poll(#[from] io::Error),
}

pub(crate) fn run(mut args: lexopt::Parser) -> Result<(), Failure> {
    use lexopt::prelude::*;
    let root = Root::default();
    let mut once = false;
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return print(HELP),
            Long("once") => once = true,
            other => return Err(other.unexpected().into()),
        }
    }
    if once {
        let config = given::read(&root).0.config;
        let netlink = Netlink::new().map_err(Failure::failed)?;
        return print(&page(&root, &config, &netlink).map_err(Failure::failed)?);
    }
    let config = start_daemon::<Config>("console", &root, true).config;
    watch(&root, &config).map_err(Failure::failed)
}

fn watch(root: &Root, config: &Config) -> Result<(), ConsoleError> {
    let mut termination = Termination::new()?;
    let mut network = Monitor::new(Watch::LinksAndAddresses)?;
    let mut files = Directories::new()?;
    let netlink = Netlink::new()?;
    let mut poll = Poll::new()?;
    let registry = poll.registry().try_clone()?;
    registry.register(&mut termination, TERMINATION, Interest::READABLE)?;
    registry.register(&mut network, NETWORK, Interest::READABLE)?;
    registry.register(&mut files, FILES, Interest::READABLE)?;
    let mut terminals = Terminal::find(root, !AsRef::<settings::system::System>::as_ref(config).debug);
    let mut shown = String::new();
    let mut due = Some(Instant::now());
    let mut events = Events::with_capacity(16);
    loop {
        if due.is_some_and(|due| due <= Instant::now()) {
            due = None;
            // The directory of SSH comes after this applet.
            for directory in ssh::WATCHED.into_iter().chain([name_in_use::DIRECTORY]) {
                if root.exists(directory) {
                    files.add(root.path(directory))?;
                }
            }
            let page = page(root, config, &netlink)?;
            if page != shown {
                for (terminal, token) in terminals.iter_mut().zip(FIRST_TERMINAL..) {
                    if let Err(error) = show(terminal, &registry, Token(token), &page) {
                        log::debug!("{}: {error}", terminal.path().display());
                    }
                }
                shown = page;
            }
        }
        let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            match event.token() {
                TERMINATION => return Ok(()),
                NETWORK => network.drain()?,
                FILES => files.drain()?,
                Token(token) => {
                    if let Some(terminal) = terminals.get_mut(token - FIRST_TERMINAL) {
                        // The page has no keys; what is typed is taken, so that it wakes nobody again.
                        if let Err(error) = terminal.read().and_then(|_| terminal.go_on()) {
                            log::debug!("{}: {error}", terminal.path().display());
                        }
                    }
                    continue;
                }
            }
            due.get_or_insert_with(|| Instant::now() + SETTLE);
        }
    }
}

fn show(terminal: &mut Terminal, registry: &mio::Registry, token: Token, page: &str) -> io::Result<()> {
    terminal.open(registry, token)?;
    terminal.forget();
    // Clears the screen and puts the cursor into its first column (ECMA-48 ED and CUP).
    let start = if terminal.kind() == Kind::Screen { "\x1b[2J\x1b[H" } else { "\n" };
    terminal.send(&format!("{start}{page}"))
}

/// The whole page, of lines of up to 80 characters.
fn page(root: &Root, config: &Config, netlink: &Netlink) -> Result<String, NetlinkError> {
    let mut links = netlink.links()?;
    links.retain(|link| link.ethernet.is_some());
    let addresses = netlink.addresses()?;
    let name = current_name(config, root, &links).map_or_else(String::new, |name| format!("   {name}.local"));
    let mut text = format!("RESCUE {}{name}\n\n", env!("CARGO_PKG_VERSION"));
    let mut login = None;
    if links.is_empty() {
        text.push_str("  no network card\n");
    }
    for link in &links {
        let own = addresses.iter().filter(|address| address.link == link.index && address.is_usable);
        let mut rows: Vec<String> = Vec::new();
        for address in own {
            if !address.is_link_local || login.is_none() && address.ip.is_ipv4() {
                login.get_or_insert(address.ip);
            }
            rows.push(format!("{}  {}", address.net(), origin_name(address)));
        }
        if rows.is_empty() {
            rows.push(if link.has_carrier { "no address yet" } else { "no cable" }.to_owned());
        }
        for (row, title) in rows.iter().zip([link.name.as_str()].into_iter().chain(std::iter::repeat(""))) {
            text.push_str(&format!("  {title:<12} {row}\n"));
        }
    }
    text.push_str(&match (ssh::status(root), login) {
        (None, _) => "\nNobody can log in over SSH yet.\n".to_owned(),
        (Some(status), None) => format!("\nfingerprint  {}\n", status.fingerprint),
        (Some(status), Some(ip)) => {
            let with = match &status.password {
                Some(password) => format!("password     {password} (good once)"),
                None => format!("keys         {}", status.keys),
            };
            format!("\nOn another machine:\n  ssh root@{ip}\n{with}\nfingerprint  {}\n", status.fingerprint)
        }
    });
    for line in ssh::refused(root) {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str("\nAlt-F9 is a shell; `rescue --help` lists commands.\n");
    Ok(text)
}
