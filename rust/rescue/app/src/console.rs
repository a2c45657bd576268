//! `rescue console`: the addresses of the machine and its SSH login, as one page on
//! the screen and as lines on the serial console.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use daemons::name::current_name;
use daemons::net::origin_name;
use daemons::{name_in_use, ssh};
use kernel::given;
use kernel::netlink::{Monitor, Netlink, NetlinkError, Watch};
use kernel::root::Root;
use kernel::terminal::{Kind, Terminal};
use kernel::watch::{Directories, WatchError};
use runtime::events::{Event, EventLoop, EventLoopError, Slot};
use runtime::{AppletError, Failure, print, start_daemon};

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

/// The sources of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Network,
    Files,
    /// The terminal with this number.
    Terminal(usize),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "changes of the network",
            Self::Files => "changes of name and login",
            Self::Terminal(_) => "a terminal",
        })
    }
}

/// The reason why the console can't go on.
#[derive(Debug, thiserror::Error)]
enum ConsoleError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("cannot watch the files of name and login")]
    Files(#[source] io::Error),
    #[error(transparent)]
    Events(#[from] EventLoopError),
}

impl AppletError for ConsoleError {}

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
        return print(&page_now(&root)?);
    }
    let config = start_daemon::<Config>("console", &root, true).config;
    Ok(watch(&root, &config)?)
}

fn page_now(root: &Root) -> Result<String, ConsoleError> {
    Ok(page(root, &given::read(root).0.config, &Netlink::new()?)?)
}

fn watch(root: &Root, config: &Config) -> Result<(), ConsoleError> {
    let mut events = EventLoop::new()?;
    events.end_by_signal()?;
    let mut network = Monitor::new(Watch::LinksAndAddresses)?;
    events.register(Source::Network, &mut network)?;
    let mut files = Directories::new().map_err(ConsoleError::Files)?;
    events.register(Source::Files, &mut files)?;
    let netlink = Netlink::new()?;
    let terminals = Terminal::find(root, !AsRef::<settings::system::System>::as_ref(config).debug);
    let with_slot = |(number, terminal)| Ok((terminal, events.slot(Source::Terminal(number))?));
    let mut terminals: Vec<(Terminal, Slot)> =
        terminals.into_iter().enumerate().map(with_slot).collect::<Result<_, EventLoopError>>()?;
    let mut shown = String::new();
    let mut due = Some(Instant::now());
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
                for (terminal, slot) in &mut terminals {
                    if let Err(error) = show(terminal, slot, &page) {
                        log::debug!("{}: {error}", terminal.path().display());
                    }
                }
                shown = page;
            }
        }
        for event in events.wait(due)? {
            match event {
                Event::End | Event::Release => return Ok(()),
                Event::Ready { source: Source::Network, .. } => network.drain()?,
                Event::Ready { source: Source::Files, .. } => files.drain().map_err(ConsoleError::Files)?,
                Event::Ready { source: Source::Terminal(number), .. } => {
                    if let Some((terminal, _)) = terminals.get_mut(number) {
                        // The page has no keys: input is read and ignored.
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

fn show(terminal: &mut Terminal, slot: &Slot, page: &str) -> io::Result<()> {
    terminal.open(slot.registry(), slot.token())?;
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
        (Some(status), Some(ip)) => format!("\nOn another machine:\n  ssh root@{ip}\n{}", status.lines()),
    });
    for line in ssh::refused(root) {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str("\nAlt-F9 is a shell; `rescue --help` lists commands.\n");
    Ok(text)
}
