//! `diskomator access`: hears which hosts ask for the disks, takes the answers, and keeps both in one file.
//!
//! This is the I/O alone; the rules are the crate `access`. The daemon is the only writer of the file. After a kill, the
//! next run goes on with it.

pub(crate) mod answer;
mod clients;

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use access::control::{Answer, Command, CommandError};
use access::{Heard, HostNqn, Mode, State, StateError};
use disks::config::Config;
use kernel::clock;
use kernel::error::chain;
use kernel::root::{FileError, Root};
use kernel::uevent::{Received, UeventSocket};
use netproto::pace::Pace;
use netproto::uevent::{Action, Uevent};
use runtime::events::{Event, EventLoop, EventLoopError, after};
use runtime::{AppletError, Failure, print, start_daemon};

use clients::{Clients, SocketError};

use crate::secret::{self, Origin};

const USAGE: &str = "\
Usage: diskomator access

Notes each host that asks for the disks and is not admitted, takes the answers
of `diskomator allow` and `diskomator deny`, and ends denials after a minute.
Runs until it is stopped. `diskomator hosts` lists what it knows.

The setting `diskomator.access` says whom the machine admits:
  open    every host, so that nobody asks; `diskomator deny --everyone` makes it
          `ask` until the next start
  ask     the hosts of the setting `diskomator.allow`, and those that a person
          allows; `diskomator allow --everyone` makes it `open` until the next
          start
  paired  only hosts that prove a key: those of `diskomator key` or `allow`, and
          of the setting `diskomator.allow` if the secret is a credential
Any other word counts as `paired`.

A host names itself, and its NQN can be observed and copied: an answer about a
host without a key keeps neighbours apart, and no attacker out.

Files:
  /run/access/secret   the machine's secret for this boot, of the credential
                       `diskomator.secret` or random
  /run/access/hosts    the state, which this applet alone writes. After a kill,
                       the next run goes on with it; settings count only if
                       there is none, or if it cannot be read
  /run/access/control  a socket that takes one JSON object a line, at most
                       4 KiB, and answers each with one line:
    {\"command\": \"allow\", \"host\": NUMBER | NQN | ADDRESS, \"address\": ADDRESS,
     \"read_only\": BOOL, \"by\": \"command\" | \"screen\" | \"key\"}
    {\"command\": \"deny\", \"host\": ..., \"address\": ADDRESS}
    {\"command\": \"forget\", \"host\": ...}
    {\"command\": \"key\", \"host\": NQN}
    {\"command\": \"open\"}, {\"command\": \"close\"}, {\"command\": \"list\"}
                       The answer is {\"ok\": true, ...} or {\"error\": REASON}.
                       Only `command` and `host` are required.

Logs to the kernel's log (dmesg), each request, admission and denial once.

Options:
  -h, --help  this text

Exit status: 0 when stopped by a signal, 1 if the kernel refuses a socket or
another one runs, 2 wrong usage.
";

/// The directory of the file and the socket, and the file.
pub(crate) const DIRECTORY: &str = "run/access";
pub(crate) const FILE: &str = "run/access/hosts";
/// The socket.
pub(crate) const CONTROL: &str = "run/access/control";

/// Uevents to read before the clients have their turn.
const UEVENTS_AT_ONCE: usize = 32;
/// The least time between two changes of the file that change no decision. Each wakes those that watch it.
const WRITE_EACH: Duration = Duration::from_secs(1);
/// Requests that are logged at once, and the time for one more: a flood must not push the log out of its buffer.
const LOGGED_AT_ONCE: u32 = 16;
const LOG_EACH: Duration = Duration::from_secs(10);

/// The sources of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Uevents,
    /// A client that connects.
    Control,
    /// A client, by its place.
    Client(usize),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uevents => "the kernel's uevents",
            Self::Control => "connections to the control socket",
            Self::Client(_) => "lines of a client",
        })
    }
}

/// Why the applet had to end.
#[derive(Debug, thiserror::Error)]
enum DaemonError {
    #[error("cannot listen to the kernel's uevents")]
    Uevents(#[source] io::Error),
    #[error(transparent)]
    Events(#[from] EventLoopError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot keep the admitted hosts")]
    Directory(#[source] FileError),
}

impl AppletError for DaemonError {}

/// Why the file is not written.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    State(#[from] StateError),
}

/// Runs the applet.
pub(crate) fn run(mut args: lexopt::Parser) -> Result<(), Failure> {
    if let Some(arg) = args.next()? {
        return match arg {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => print(USAGE),
            other => Err(other.unexpected().into()),
        };
    }
    let root = Root::default();
    let config = start_daemon::<Config>("access", &root, false).config;
    secret::enter();
    Ok(follow(root, &config)?)
}

fn follow(root: Root, config: &Config) -> Result<(), DaemonError> {
    let mut events = EventLoop::new()?;
    events.end_by_signal()?;
    // Subscribe first, so that no host is missed whose request comes while the file is read.
    let mut uevents = UeventSocket::open().map_err(DaemonError::Uevents)?;
    events.register(Source::Uevents, &mut uevents)?;
    root.keep_dir(DIRECTORY).map_err(DaemonError::Directory)?;
    let mut clients = Clients::listen(&root)?;
    events.register_descriptor(Source::Control, clients.listener())?;
    let mut keeper = Keeper::start(root, config, clock::uptime());
    let outcome = serve(&mut events, &uevents, &mut clients, &mut keeper);
    clients.close(&keeper.root);
    outcome
}

fn serve(
    events: &mut EventLoop<Source>,
    uevents: &UeventSocket,
    clients: &mut Clients,
    keeper: &mut Keeper,
) -> Result<(), DaemonError> {
    loop {
        let deadline = keeper.act(clock::uptime());
        for event in events.wait(deadline)? {
            match event {
                Event::End | Event::Release => return Ok(()),
                Event::Ready { source: Source::Uevents, .. } => {
                    if keeper.take_uevents(uevents).map_err(DaemonError::Uevents)? {
                        events.again(Source::Uevents);
                    }
                }
                Event::Ready { source: Source::Control, .. } => take_client(events, clients)?,
                Event::Ready { source: source @ Source::Client(place), .. } => {
                    if clients.serve(place, |line| keeper.answer(line, clock::uptime())) {
                        events.again(source);
                    }
                }
            }
        }
    }
}

/// Takes one client in a turn, so that those that are there have theirs.
fn take_client(events: &mut EventLoop<Source>, clients: &mut Clients) -> Result<(), EventLoopError> {
    let Some(place) = clients.accept() else { return Ok(()) };
    if let Some(client) = clients.client(place) {
        events.register_descriptor(Source::Client(place), client)?;
    }
    events.again(Source::Control);
    Ok(())
}

/// The state and its file.
struct Keeper {
    root: Root,
    mode: Mode,
    /// There are keys.
    has_secret: bool,
    state: State,
    /// The state that the file has, and when it was written.
    written: Option<State>,
    written_at: Duration,
    /// A failure to write was logged.
    has_failed: bool,
    log_pace: Pace,
}

impl Keeper {
    fn start(root: Root, config: &Config, now: Duration) -> Self {
        let mode = config.mode();
        let origin = match secret::keep(&root, config) {
            Ok(kept) => Some(kept.origin),
            Err(error) => {
                log::error!("no host can prove a key: {}", chain(&error));
                None
            }
        };
        // Their owner has the keys that come of a secret that somebody gave, and nobody has those of a random one.
        let have_keys = origin == Some(Origin::Credential);
        let grants = if mode == Mode::Paired && !have_keys { &[][..] } else { &config.allow };
        let mut new = State::new(mode == Mode::Open, grants);
        if have_keys {
            for grant in grants {
                new.must_prove(&grant.nqn);
            }
        }
        let file = match root.read_bytes(FILE) {
            Err(error) if error.io().kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(chain(&error)),
            Ok(bytes) => State::parse(&bytes).map(Some).map_err(|error| chain(&error)),
        };
        let (state, written) = match file {
            Ok(Some(state)) => (state.clone(), Some(state)),
            Ok(None) => {
                for host in new.admitted() {
                    log::info!("{} is admitted by the setting allow{}", host.nqn, limited(host.read_only));
                }
                (new, None)
            }
            Err(error) => {
                log::error!("admissions of this boot are lost, and the settings count again: {error}");
                (new.after_loss(now), None)
            }
        };
        Self {
            root,
            mode,
            has_secret: origin.is_some(),
            state,
            written,
            written_at: Duration::ZERO,
            has_failed: false,
            log_pace: Pace::new(LOGGED_AT_ONCE, LOG_EACH),
        }
    }

    /// Does all that is due; returns when the next thing is.
    fn act(&mut self, now: Duration) -> Option<Instant> {
        let expiry = self.state.expire(now);
        let mut next = expiry;
        if self.written.as_ref() != Some(&self.state) {
            let is_decided = self.written.as_ref().is_none_or(|written| !written.decides_as(&self.state));
            let due = self.written_at + WRITE_EACH;
            if now >= due || is_decided && !self.has_failed {
                if let Err(error) = self.keep(now) {
                    if !self.has_failed {
                        log::error!("cannot keep the admitted hosts: {}", chain(&error));
                    }
                    self.has_failed = true;
                    self.written_at = now;
                    next = Some(next.map_or(now + WRITE_EACH, |next| next.min(now + WRITE_EACH)));
                }
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        next.and_then(|at| after(at.saturating_sub(now)))
    }

    fn keep(&mut self, now: Duration) -> Result<(), KeepError> {
        self.root.keep(FILE, self.state.to_file()?)?;
        self.written = Some(self.state.clone());
        self.written_at = now;
        self.has_failed = false;
        Ok(())
    }

    /// `true` if there may be more.
    fn take_uevents(&mut self, socket: &UeventSocket) -> io::Result<bool> {
        for _ in 0..UEVENTS_AT_ONCE {
            match socket.receive()? {
                Received::Uevent(uevent) => self.take_uevent(&uevent, clock::uptime()),
                Received::Ignored(why) => log::debug!("a uevent is ignored: {why}"),
                // A host that was missed tries again.
                Received::Overrun => log::debug!("uevents were lost"),
                Received::Empty => return Ok(false),
            }
        }
        Ok(true)
    }

    fn take_uevent(&mut self, uevent: &Uevent, now: Duration) {
        if uevent.subsystem != "nvmet" || uevent.action != Action::Change {
            return;
        }
        let Some(what) = uevent.property("NVMET_REQUEST") else { return };
        let nqn = uevent.property("HOSTNQN").unwrap_or_default().parse::<HostNqn>();
        // A link-local address has its link behind a %.
        let address = uevent.property("HOST_TRADDR").unwrap_or_default();
        let address = address.split_once('%').map_or(address, |(address, _)| address).parse();
        let (Ok(nqn), Ok(address)) = (nqn, address) else {
            log::debug!("a request without the name or the address of a host is ignored");
            return;
        };
        if self.mode == Mode::Paired {
            log::debug!("{nqn} at {address} proves no key");
            return;
        }
        match self.state.heard(&nqn, address, now) {
            Heard::New(number) => {
                let level = if self.log_pace.earliest() <= now {
                    self.log_pace.count(now);
                    log::Level::Info
                } else {
                    log::Level::Debug
                };
                log::log!(
                    level,
                    "request {number}: {nqn} at {} asks for the disks ({what:?})",
                    access::normal(address)
                );
            }
            heard => log::debug!("{nqn} at {address}: {heard:?}"),
        }
    }

    /// The answer to a line. A decision is in the file before it is confirmed.
    fn answer(&mut self, line: &[u8], now: Duration) -> Answer {
        let before = self.state.clone();
        let outcome = self.carry_out(line, now);
        outcome.unwrap_or_else(|error| {
            self.state = before;
            Answer::Refused { error }
        })
    }

    fn carry_out(&mut self, line: &[u8], now: Duration) -> Result<Answer, String> {
        let command = Command::parse(line).map_err(|error| refusal(&error))?;
        if matches!(command, Command::Key { .. }) && !self.has_secret {
            return Err("the machine has no secret to make keys of; `dmesg` says why".to_owned());
        }
        let former = self.state.everyone();
        let done = command.carry_out(&mut self.state, self.mode, now).map_err(|error| refusal(&error))?;
        if self.written.as_ref().is_none_or(|written| !written.decides_as(&self.state)) {
            self.keep(now).map_err(|error| chain(&error))?;
        }
        if let Some(host) = &done.admitted {
            let from = host.address.map(|address| format!(" at {address}")).unwrap_or_default();
            log::info!("{}{from} is admitted{} (by {})", host.nqn, limited(host.read_only), host.by.word());
        }
        if let Some(host) = &done.denied {
            log::info!("{} is denied", host.nqn);
        }
        if let Some(nqn) = &done.forgotten {
            log::info!("{nqn} is undecided again");
        }
        if done.everyone != former {
            let whom = if done.everyone { "every host until the next start" } else { "only hosts that are named" };
            log::warn!("the machine admits {whom}");
        }
        Ok(Answer::Done(done))
    }
}

fn refusal(error: &CommandError) -> String {
    error.to_string()
}

fn limited(is_read_only: bool) -> &'static str {
    if is_read_only { ", to read only" } else { "" }
}

#[cfg(test)]
mod tests;
