//! The event loop of a daemon: it waits for sources, signals and a deadline.
//!
//! The daemon keeps its own state and its own `loop`. In each turn it does all that is due, says as data when the
//! next thing is, and takes the events that came:
//!
//! ```no_run
//! # use runtime::events::{Event, EventLoop, EventLoopError};
//! # #[derive(Clone, Copy, PartialEq, Eq)] enum Source { Links }
//! # impl std::fmt::Display for Source {
//! #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("links") }
//! # }
//! # fn act() -> Option<std::time::Instant> { None }
//! # fn run() -> Result<(), EventLoopError> {
//! let mut events = EventLoop::new()?;
//! events.end_by_signal()?;
//! loop {
//!     let deadline = act();
//!     for event in events.wait(deadline)? {
//!         match event {
//!             Event::End => return Ok(()),
//!             Event::Ready { source: Source::Links, .. } => { /* read until there is no more */ }
//!             Event::Release => {}
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! The kernel reports a source once for each time that it becomes readable. So a daemon reads it until there is no
//! more ([`drain`]), or has it reported [again](EventLoop::again).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::signals::{ReleaseSignal, SignalError, Termination};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry, Token};

/// Events that the kernel reports at one go; those beyond come with the next turn.
const EVENTS_AT_ONCE: usize = 64;
/// Turns in a row that may begin with a deadline that has passed, as a slow turn makes one pass,
const OVERDUE_TURNS: u32 = 16;
/// and the pause before each further one: a deadline that nobody acts on must not take a whole processor.
const OVERDUE_PAUSE: Duration = Duration::from_millis(10);

/// Why a daemon cannot wait.
#[derive(Debug, thiserror::Error)]
pub enum EventLoopError {
    /// The kernel gives no epoll descriptor.
    #[error("cannot set up the event loop")]
    Open(#[source] io::Error),
    /// A signal can't be taken.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// A source can't be waited for.
    #[error("cannot wait for {source_name}")]
    Register {
        /// The source, as its `Display` has it.
        source_name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The wait itself failed.
    #[error("cannot wait for events")]
    Wait(#[source] io::Error),
}

/// An event of a daemon, whose sources are `S`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<S> {
    /// SIGTERM or SIGINT has come: the daemon ends. It is the first event of its turn.
    End,
    /// SIGUSR1 has come: the daemon gives back all that it holds, and ends then.
    Release,
    /// Something has come from a source, or a terminal takes more text.
    Ready {
        /// The source.
        source: S,
        /// There may be something to read.
        is_readable: bool,
    },
}

/// Wakes an event loop from another thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Makes the loop report the waker's source.
    pub fn wake(&self) {
        // That fails only when the daemon is ending.
        drop(self.0.wake());
    }
}

/// The place of one source in an event loop, for a file that registers itself whenever it is opened.
#[derive(Debug)]
pub struct Slot {
    registry: Registry,
    token: Token,
}

impl Slot {
    /// Where the file registers,
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// and under which token.
    pub fn token(&self) -> Token {
        self.token
    }
}

/// The tokens of the signals. All others are places among the sources.
const END: Token = Token(usize::MAX);
const RELEASE: Token = Token(usize::MAX - 1);

/// An event loop with the sources `S`, of which each has a name for messages.
#[derive(Debug)]
pub struct EventLoop<S> {
    core: Core,
    /// Tokens are places in it. A source keeps its token when its file goes, as it may come back.
    sources: Vec<S>,
}

impl<S: Copy + Eq + Display> EventLoop<S> {
    /// A loop without any source. Signals end the process, as they do by default.
    pub fn new() -> Result<Self, EventLoopError> {
        Ok(Self { core: Core::new()?, sources: Vec::new() })
    }

    /// From now on SIGTERM and SIGINT are [`Event::End`]. Call it before any thread is started.
    pub fn end_by_signal(&mut self) -> Result<(), EventLoopError> {
        self.core.end_by_signal()
    }

    /// From now on SIGUSR1 is [`Event::Release`]. Call it before any thread is started.
    pub fn release_by_signal(&mut self) -> Result<(), EventLoopError> {
        self.core.release_by_signal()
    }

    /// Reports `source` when `file` becomes readable. More than one file may be one source.
    pub fn register(&mut self, source: S, file: &mut impl mio::event::Source) -> Result<(), EventLoopError> {
        let token = self.token(source);
        self.core.add(token, file, &source)
    }

    /// The same for anything with a descriptor. Closing that ends it.
    pub fn register_descriptor(&mut self, source: S, file: &impl AsFd) -> Result<(), EventLoopError> {
        self.register(source, &mut SourceFd(&file.as_fd().as_raw_fd()))
    }

    /// The place of a source whose file registers itself.
    pub fn slot(&mut self, source: S) -> Result<Slot, EventLoopError> {
        let token = self.token(source);
        let registry = self.core.poll.registry().try_clone().map_err(EventLoopError::Open)?;
        Ok(Slot { registry, token })
    }

    /// A waker for other threads, which is reported as `source`. A loop has only one; clone it.
    pub fn waker(&mut self, source: S) -> Result<Waker, EventLoopError> {
        let token = self.token(source);
        let waker = mio::Waker::new(self.core.poll.registry(), token).map_err(|error| refused(&source, error))?;
        Ok(Waker(Arc::new(waker)))
    }

    /// Reports `source` in the next turn, which comes at once: it has more than was read.
    pub fn again(&mut self, source: S) {
        let Token(place) = self.token(source);
        self.core.unread.insert(place);
    }

    /// Waits for events, until `deadline` at most; `None` waits as long as it takes. Each source is reported once, in
    /// the order of first registration.
    pub fn wait(&mut self, deadline: Option<Instant>) -> Result<Vec<Event<S>>, EventLoopError> {
        let turn = self.core.wait(deadline)?;
        let signals = [(turn.ends, Event::End), (turn.releases, Event::Release)];
        let signals = signals.into_iter().filter_map(|(has_come, event)| has_come.then_some(event));
        let ready = turn.ready.into_iter().filter_map(|(place, is_readable)| {
            let source = *self.sources.get(place)?;
            Some(Event::Ready { source, is_readable })
        });
        Ok(signals.chain(ready).collect())
    }

    fn token(&mut self, source: S) -> Token {
        let place = self.sources.iter().position(|other| *other == source);
        Token(place.unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        }))
    }
}

/// The part of an event loop that knows sources by their tokens, once in a program for all its loops.
#[derive(Debug)]
struct Core {
    poll: Poll,
    events: mio::Events,
    /// Places of the sources that have more than was read of them.
    unread: BTreeSet<usize>,
    pacer: Pacer,
    end: Option<Termination>,
    release: Option<ReleaseSignal>,
}

/// The events of one turn.
struct Turn {
    ends: bool,
    releases: bool,
    /// Places of sources, and whether there may be something to read.
    ready: BTreeMap<usize, bool>,
}

impl Core {
    fn new() -> Result<Self, EventLoopError> {
        Ok(Self {
            poll: Poll::new().map_err(EventLoopError::Open)?,
            events: mio::Events::with_capacity(EVENTS_AT_ONCE),
            unread: BTreeSet::new(),
            pacer: Pacer::default(),
            end: None,
            release: None,
        })
    }

    fn end_by_signal(&mut self) -> Result<(), EventLoopError> {
        let mut signals = Termination::new()?;
        self.add(END, &mut signals, &"signals")?;
        self.end = Some(signals);
        Ok(())
    }

    fn release_by_signal(&mut self) -> Result<(), EventLoopError> {
        let mut signal = ReleaseSignal::new()?;
        self.add(RELEASE, &mut signal, &"signals")?;
        self.release = Some(signal);
        Ok(())
    }

    fn add(
        &mut self,
        token: Token,
        file: &mut dyn mio::event::Source,
        name: &dyn Display,
    ) -> Result<(), EventLoopError> {
        self.poll.registry().register(file, token, Interest::READABLE).map_err(|error| refused(name, error))
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Turn, EventLoopError> {
        let now = Instant::now();
        let until = if self.unread.is_empty() { self.pacer.until(now, deadline) } else { Some(now) };
        uninterrupted(until, &mut |left| self.poll.poll(&mut self.events, left)).map_err(EventLoopError::Wait)?;
        let unread = std::mem::take(&mut self.unread).into_iter();
        let mut turn = Turn { ends: false, releases: false, ready: unread.map(|place| (place, true)).collect() };
        for event in &self.events {
            match event.token() {
                END => turn.ends |= self.end.as_ref().is_some_and(Termination::has_come),
                RELEASE => turn.releases |= self.release.as_ref().is_some_and(ReleaseSignal::has_come),
                Token(place) => *turn.ready.entry(place).or_default() |= event.is_readable(),
            }
        }
        Ok(turn)
    }
}

/// Polls for the time that is left, and once more after each signal that interrupts that.
fn uninterrupted(until: Option<Instant>, poll: &mut dyn FnMut(Option<Duration>) -> io::Result<()>) -> io::Result<()> {
    loop {
        match poll(until.map(|until| until.saturating_duration_since(Instant::now()))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn refused(source: &dyn Display, error: io::Error) -> EventLoopError {
    EventLoopError::Register { source_name: source.to_string(), source: error }
}

/// Keeps a deadline that has passed, and that nobody acts on, from making a loop spin.
#[derive(Debug, Default)]
struct Pacer {
    /// Turns in a row that began with such a deadline.
    overdue: u32,
}

impl Pacer {
    /// The time until which to wait, for a deadline.
    fn until(&mut self, now: Instant, deadline: Option<Instant>) -> Option<Instant> {
        if deadline.is_none_or(|deadline| deadline > now) {
            self.overdue = 0;
            return deadline;
        }
        self.overdue = self.overdue.saturating_add(1);
        if self.overdue <= OVERDUE_TURNS {
            return Some(now);
        }
        if self.overdue == OVERDUE_TURNS + 1 {
            log::debug!("a deadline has passed, and nothing is done about it");
        }
        Some(now + OVERDUE_PAUSE)
    }
}

/// The time that is `left` from now, for daemons that count time otherwise. A time that no clock reaches is none.
pub fn after(left: Duration) -> Option<Instant> {
    Instant::now().checked_add(left)
}

/// Whether a source was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// There is no more for now.
    Empty,
    /// There may be more: have it reported [again](EventLoop::again), after the others had their turn.
    More,
}

/// Messages to read of one source before the others have their turn.
const MESSAGES_AT_ONCE: usize = 32;

/// Calls `receive` until it would block, or many times. A call that was interrupted is made again.
///
/// Other errors go to the log, with their `subject`. An error of a socket can be about an earlier packet, so messages
/// can be behind it; a second one in a row ends the reading, as a socket that only fails must not keep the loop busy.
pub fn drain(subject: impl Display, mut receive: impl FnMut() -> io::Result<()>) -> Drained {
    drain_all(&subject, &mut receive)
}

fn drain_all(subject: &dyn Display, receive: &mut dyn FnMut() -> io::Result<()>) -> Drained {
    let mut has_failed = false;
    for _ in 0..MESSAGES_AT_ONCE {
        match receive() {
            Ok(()) => has_failed = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Drained::Empty,
            Err(error) => {
                log::debug!("{subject}: cannot receive: {error}");
                if has_failed {
                    return Drained::Empty;
                }
                has_failed = true;
            }
        }
    }
    Drained::More
}

#[cfg(test)]
mod tests;
