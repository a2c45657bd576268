//! The terminals that a person may look at and type on: the first virtual
//! terminal and the serial consoles.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::termios::{ControlFlags, InputFlags, LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tui::canvas::Size;

use crate::font;
use crate::root::Root;

/// The kind of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A screen of its own.
    Screen,
    /// A line to somewhere, perhaps with a log at its end.
    Serial,
}

/// The virtual terminal of the shell.
const SHELL: libc::c_int = 9;

/// A terminal that is written to and read from without ever waiting for it. It
/// may go away and come back.
#[derive(Debug)]
pub struct Terminal {
    path: PathBuf,
    kind: Kind,
    file: Option<File>,
    /// As it was found, if it is a terminal at all.
    found: Option<Termios>,
    unsent: Vec<u8>,
}

nix::ioctl_read_bad!(
    /// `TIOCGWINSZ` (`ioctl_tty(2)`).
    get_window_size,
    libc::TIOCGWINSZ,
    libc::winsize
);
nix::ioctl_write_int_bad!(
    /// `TIOCSCTTY` (`ioctl_tty(2)`).
    set_controlling,
    libc::TIOCSCTTY
);
nix::ioctl_write_int_bad!(
    /// `VT_ACTIVATE` (`linux/vt.h`): shows another virtual terminal.
    vt_activate,
    0x5606
);

impl Terminal {
    /// The terminal at `path`, which is opened when it is first used.
    pub fn new(path: PathBuf, kind: Kind) -> Self {
        Self { path, kind, file: None, found: None, unsent: Vec::new() }
    }

    /// The first virtual terminal.
    pub fn screen(root: &Root) -> Self {
        Self::new(root.path("dev/tty1"), Kind::Screen)
    }

    /// The first virtual terminal, and every console of the kernel's that is
    /// not a virtual terminal (`/sys/class/tty/console/active`).
    pub fn find(root: &Root, serial: bool) -> Vec<Self> {
        let mut terminals = vec![Self::screen(root)];
        if serial {
            let active = root.read("sys/class/tty/console/active").unwrap_or_default();
            let names = active.split_whitespace().filter(|name| !is_virtual(name));
            terminals.extend(names.map(|name| Self::new(root.path(format!("dev/{name}")), Kind::Serial)));
        }
        terminals
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Opens it if it is not open; `true` if it was not. Each key then comes at
    /// once and is not written back; `token` says when there are any, and when
    /// more can be written.
    pub fn open(&mut self, registry: &Registry, token: Token) -> io::Result<bool> {
        if self.file.is_some() {
            return Ok(false);
        }
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&self.path)?;
        self.unsent.clear();
        self.found =
            match registry.register(&mut SourceFd(&file.as_raw_fd()), token, Interest::READABLE | Interest::WRITABLE) {
                Ok(()) => tcgetattr(&file).ok(),
                // A file that cannot be waited for never blocks, and has no keys.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
                Err(error) => return Err(error),
            };
        if let Some(found) = &self.found {
            let mut raw = found.clone();
            raw.local_flags &=
                !(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ISIG | LocalFlags::IEXTEN);
            // No byte stops the output, and a break is no byte.
            raw.input_flags &= !(InputFlags::ICRNL
                | InputFlags::INLCR
                | InputFlags::IGNCR
                | InputFlags::IXON
                | InputFlags::IXOFF
                | InputFlags::ISTRIP
                | InputFlags::PARMRK
                | InputFlags::BRKINT);
            raw.input_flags |= InputFlags::IGNBRK | InputFlags::IGNPAR;
            // A plug that is pulled is no end of the line.
            raw.control_flags |= ControlFlags::CLOCAL;
            tcsetattr(&file, SetArg::TCSANOW, &raw)?;
            if self.kind == Kind::Screen {
                // Of its own terminal a process is told when it gets another size. It may belong to another one.
                // SAFETY: the call has no argument in memory.
                let _ = unsafe { set_controlling(file.as_raw_fd(), 0) };
            }
        }
        self.file = Some(file);
        Ok(true)
    }

    /// Leaves it as it was found.
    pub fn close(&mut self) {
        if let (Some(file), Some(found)) = (self.file.take(), self.found.take()) {
            // One that is gone needs no care.
            let _ = tcsetattr(&file, SetArg::TCSANOW, &found);
        }
        self.unsent.clear();
    }

    /// How large it is, if it knows.
    pub fn size(&self) -> Option<Size> {
        let file = self.file.as_ref()?;
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open, and the kernel writes one `winsize`.
        unsafe { get_window_size(file.as_raw_fd(), &raw mut size) }.ok()?;
        (size.ws_col > 0 && size.ws_row > 0)
            .then_some(Size { width: usize::from(size.ws_col), height: usize::from(size.ws_row) })
    }

    /// Gives a screen letters that are read from some steps away, where it has
    /// the pixels, and the characters for columns; whether it has those now.
    pub fn set_font(&self) -> bool {
        let (Some(file), Some(size)) = (&self.file, self.size()) else { return false };
        font::enlarge(file.as_fd(), size);
        font::add_blocks(file.as_fd()).is_ok()
    }

    /// Shows the shell's virtual terminal in place of this one.
    pub fn show_shell(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        // SAFETY: the call takes a number.
        unsafe { vt_activate(file.as_raw_fd(), SHELL) }?;
        Ok(())
    }

    /// Whether everything sent so far has left.
    pub fn is_idle(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Sends a text after all others. The part that the terminal does not take now
    /// follows with [`Terminal::go_on`].
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.unsent.extend_from_slice(text.as_bytes());
        self.go_on()
    }

    /// Forgets what has not been sent.
    pub fn forget(&mut self) {
        self.unsent.clear();
    }

    /// Writes as much as the terminal takes. One that fails is closed.
    pub fn go_on(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        while !self.unsent.is_empty() {
            match file.write(&self.unsent) {
                Ok(0) => break,
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.file = None;
                    self.unsent.clear();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The bytes that were typed. A terminal that was hung up is closed.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut typed = Vec::new();
        if self.found.is_none() {
            return Ok(typed);
        }
        let mut buffer = [0; 256];
        while let Some(file) = &mut self.file {
            match file.read(&mut buffer) {
                Ok(0) => {
                    self.file = None;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(length) => typed.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.file = None;
                    return Err(error);
                }
            }
        }
        Ok(typed)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.close();
    }
}

/// `tty0`, `tty1`, …: not `ttyS0`.
fn is_virtual(name: &str) -> bool {
    name.strip_prefix("tty").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_consoles_are_those_that_are_no_virtual_terminals() {
        for (name, virtually) in
            [("tty0", true), ("tty1", true), ("ttyS0", false), ("ttyAMA0", false), ("hvc0", false), ("tty", true)]
        {
            assert_eq!(is_virtual(name), virtually, "{name}");
        }
    }

    #[test]
    fn a_terminal_that_is_gone_is_an_error_and_one_that_returns_is_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tty1");
        let poll = mio::Poll::new().unwrap();
        let mut terminal = Terminal::new(path.clone(), Kind::Screen);
        let lost = terminal.open(poll.registry(), Token(0)).unwrap_err();
        assert_eq!(lost.kind(), io::ErrorKind::NotFound);
        File::create(&path).unwrap();
        assert!(terminal.open(poll.registry(), Token(0)).unwrap());
        assert!(!terminal.open(poll.registry(), Token(0)).unwrap());
        terminal.send("two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        // A file that is no terminal has no keys and no size.
        assert_eq!((terminal.read().unwrap(), terminal.size(), terminal.set_font()), (Vec::new(), None, false));
    }
}
