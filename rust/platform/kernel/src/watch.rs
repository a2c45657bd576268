//! Directories whose changes are told of, by inotify(7).

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Readable once something in a watched directory was made, written or
/// removed. The event does not name the change: look at all of it.
#[derive(Debug)]
pub struct Directories(Inotify);

/// A directory that could not be watched.
#[derive(Debug, thiserror::Error)]
#[error("failed to watch {path}")]
pub struct WatchError {
    path: PathBuf,
    source: io::Error,
}

impl Directories {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?))
    }

    /// Watches one more directory, or the same one again, which costs nothing.
    /// A directory that is removed is forgotten.
    pub fn add(&self, path: PathBuf) -> Result<(), WatchError> {
        let what = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ONLYDIR;
        match self.0.add_watch(&path, what) {
            Ok(_) => Ok(()),
            Err(errno) => Err(WatchError { path, source: errno.into() }),
        }
    }

    /// Takes what has come in, unread.
    pub fn drain(&self) -> io::Result<()> {
        loop {
            match self.0.read_events() {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

crate::source::by_descriptor!(Directories);
