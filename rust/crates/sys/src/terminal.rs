//! The screens that a person may look at: the first virtual terminal and the
//! serial consoles.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::root::Root;

/// Cursor to the top left, and erase all (ECMA-48 CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// What kind of screen it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A screen of its own: each text replaces the one before.
    Screen,
    /// A line to somewhere, perhaps with a log at its end: each text follows.
    Serial,
}

/// A terminal that is written to without ever waiting for it. It may go away
/// and come back.
#[derive(Debug)]
pub struct Terminal {
    path: PathBuf,
    kind: Kind,
    file: Option<File>,
    unsent: Vec<u8>,
}

impl Terminal {
    /// The terminal at `path`, which is opened when there is something to show.
    pub fn new(path: PathBuf, kind: Kind) -> Self {
        Self { path, kind, file: None, unsent: Vec::new() }
    }

    /// The first virtual terminal, and every console of the kernel's that is
    /// not a virtual terminal (`/sys/class/tty/console/active`).
    pub fn find(root: &Root, serial: bool) -> Vec<Self> {
        let mut terminals = vec![Self::new(root.path("dev/tty1"), Kind::Screen)];
        if serial {
            let active = root.read("sys/class/tty/console/active").unwrap_or_default();
            let names = active.split_whitespace().filter(|name| !is_virtual(name));
            terminals.extend(names.map(|name| Self::new(root.path(format!("dev/{name}")), Kind::Serial)));
        }
        terminals
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Shows a text in place of what was shown or was still to be shown. What
    /// the terminal does not take now it gets from [`Terminal::go_on`], when
    /// `token` says so.
    pub fn show(&mut self, registry: &Registry, token: Token, text: &str) -> io::Result<()> {
        self.unsent = match self.kind {
            Kind::Screen => format!("{CLEAR}{text}"),
            Kind::Serial => format!("\n{text}"),
        }
        .into_bytes();
        if self.file.is_none() {
            let file =
                OpenOptions::new().write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(&self.path)?;
            match registry.register(&mut SourceFd(&file.as_raw_fd()), token, Interest::WRITABLE) {
                Ok(()) => {}
                // What cannot be waited for never makes one wait.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
            self.file = Some(file);
        }
        self.go_on()
    }

    /// Writes as much as the terminal takes. One that fails is closed, and
    /// opened again for the next text.
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
        let directory = std::env::temp_dir().join(format!("diskomator-terminal-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("tty1");
        let poll = mio::Poll::new().unwrap();
        let mut terminal = Terminal::new(path.clone(), Kind::Screen);
        let lost = terminal.show(poll.registry(), Token(0), "one\n").unwrap_err();
        assert_eq!(lost.kind(), io::ErrorKind::NotFound);
        File::create(&path).unwrap();
        terminal.show(poll.registry(), Token(0), "two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\x1b[H\x1b[2Jtwo\n");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
