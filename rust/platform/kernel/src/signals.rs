//! The signals that end a daemon, as a file descriptor for mio, and those that end
//! the machine.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

/// Readable once SIGTERM or SIGINT has come.
#[derive(Debug)]
pub struct Termination(SignalFd);

/// The signals could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen for signals")]
pub struct SignalError {
    source: io::Error,
}

impl Termination {
    /// Takes the signals from now on: they no longer end the process by
    /// themselves. Call it before any thread is started.
    pub fn new() -> Result<Self, SignalError> {
        take(&[Signal::SIGTERM, Signal::SIGINT]).map(Self)
    }

    /// Whether one has come since the last call, for who has no event loop.
    pub fn has_come(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }

    /// Waits until one has come, but not longer than `limit`.
    pub fn wait(&self, limit: Duration) {
        let mut files = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        // A wait that is broken off is one that ends early.
        let _ = poll(&mut files, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
    }
}

crate::source::by_descriptor!(Termination);

/// Readable once SIGUSR1 has come, with which a daemon is asked to end and
/// leave nothing behind.
#[derive(Debug)]
pub struct ReleaseSignal(SignalFd);

impl ReleaseSignal {
    /// Takes the signal from now on, as [`Termination::new`] does.
    pub fn new() -> Result<Self, SignalError> {
        take(&[Signal::SIGUSR1]).map(Self)
    }

    /// Whether it has come since the last call.
    pub fn has_come(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}

crate::source::by_descriptor!(ReleaseSignal);

/// Readable once the terminal of this process has another size, or was hung up,
/// which ends nothing here.
#[derive(Debug)]
pub struct TerminalSignals(SignalFd);

impl TerminalSignals {
    /// Takes the signals from now on, as [`Termination::new`] does.
    pub fn new() -> Result<Self, SignalError> {
        take(&[Signal::SIGWINCH, Signal::SIGHUP]).map(Self)
    }

    /// Takes what has come in.
    pub fn drain(&mut self) -> io::Result<()> {
        while self.0.read_signal()?.is_some() {}
        Ok(())
    }
}

crate::source::by_descriptor!(TerminalSignals);

fn take(signals: &[Signal]) -> Result<SignalFd, SignalError> {
    let set: SigSet = signals.iter().copied().collect();
    let open = || {
        set.thread_block()?;
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
    };
    open().map_err(|errno| SignalError { source: errno.into() })
}

/// An action of `BusyBox`'s init at a signal (`init/init.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitSignal {
    /// Shuts down and switches the machine off.
    PowerOff,
    /// Shuts down and restarts the machine.
    Reboot,
}

/// Sends it.
pub fn signal_init(signal: InitSignal) -> io::Result<()> {
    let signal = match signal {
        InitSignal::PowerOff => Signal::SIGUSR2,
        InitSignal::Reboot => Signal::SIGTERM,
    };
    kill(Pid::from_raw(1), signal).map_err(io::Error::from)
}
