//! A whole disk, for the one program that writes to it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

nix::ioctl_none!(
    /// `BLKRRPART` (`include/uapi/linux/fs.h`): read the partition table again.
    blkrrpart,
    0x12,
    95
);

/// How often, and how long after each other, what others may hold for a moment is tried.
const TRIES: (u32, Duration) = (50, Duration::from_millis(100));

/// A disk that nobody else writes to, mounts or puts into another device while this is open.
#[derive(Debug)]
pub struct Exclusive(Flock<File>);

impl Exclusive {
    /// Opens it past the page cache: reads and writes are of whole logical blocks, from memory that is aligned to
    /// them. `EBUSY` if the kernel uses the disk or a partition of it. The lock keeps udev from looking at a disk
    /// that is half written (systemd's "Locking Block Device Access").
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_EXCL | libc::O_DIRECT;
        let mut file = File::options().read(true).write(true).custom_flags(flags).open(path)?;
        for _ in 1..TRIES.0 {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Ok(Self(locked)),
                Err((unlocked, Errno::EWOULDBLOCK | Errno::EINTR)) => file = unlocked,
                Err((_, errno)) => return Err(errno.into()),
            }
            thread::sleep(TRIES.1);
        }
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map(Self).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => Errno::EBUSY.into(),
            errno => errno.into(),
        })
    }

    /// The device, to read, write and seek in.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }

    /// Has the kernel read the partition table again.
    pub fn reread_partitions(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        for _ in 0..TRIES.0 {
            // SAFETY: the descriptor is open, and the request has no argument.
            outcome = unsafe { blkrrpart(self.0.as_raw_fd()) }.map(drop);
            if outcome != Err(Errno::EBUSY) {
                break;
            }
            thread::sleep(TRIES.1);
        }
        Ok(outcome?)
    }
}
