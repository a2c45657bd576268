//! The admission of hosts, from the settings and the file of the applet `access`.

use std::collections::BTreeSet;
use std::io;

use access::{HostNqn, Mode, State};
use disks::config::Config;
use kernel::error::chain;
use kernel::root::Root;
use nvmet::admission::Admission;

use crate::access::{DIRECTORY, FILE};

/// The directory of the file. A process that finds it changed asks [`current`] again.
pub(crate) const WATCHED: &str = DIRECTORY;

/// The hosts that are admitted now. A file that is missing or broken admits nobody, except in mode `open`.
pub(crate) fn current(root: &Root, config: &Config) -> Admission {
    let (admission, error) = access::Admission::read(config.access, content(root).as_deref());
    if let Some(error) = error {
        log::debug!("no host is admitted by name: {}", chain(&error));
    }
    let texts = |hosts: BTreeSet<HostNqn>| hosts.iter().map(ToString::to_string).collect();
    match admission {
        access::Admission::Everyone => Admission::Everyone,
        access::Admission::Hosts { read_write, read_only, denied } => {
            Admission::Hosts { read_write: texts(read_write), read_only: texts(read_only), denied: texts(denied) }
        }
    }
}

/// The mode that counts now, and the state.
pub(crate) fn state(root: &Root, config: &Config) -> (Mode, State) {
    let state = content(root).and_then(|file| State::parse(&file).ok());
    let is_open = access::Admission::of(config.access, state.as_ref()) == access::Admission::Everyone;
    let mode = match config.access {
        _ if is_open => Mode::Open,
        Mode::Open | Mode::Ask => Mode::Ask,
        Mode::Paired => Mode::Paired,
    };
    (mode, state.unwrap_or_default())
}

/// The file; `None` if there is none yet. One that cannot be read has nothing in it.
fn content(root: &Root) -> Option<Vec<u8>> {
    match root.read_bytes(FILE) {
        Ok(content) => Some(content),
        Err(error) if error.io().kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(Vec::new()),
    }
}
