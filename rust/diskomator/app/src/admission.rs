//! The admission of hosts, from the settings and the file of the applet `access`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use access::{HostNqn, Mode, State};
use disks::config::Config;
use kernel::error::chain;
use kernel::root::Root;
use keys::Secret;
use nvmet::admission::Admission;
use nvmet::model::ChapKeys;

use crate::access::{DIRECTORY, FILE};
use crate::secret;

/// The directory of the file. A process that finds it changed asks [`current`] again.
pub(crate) const WATCHED: &str = DIRECTORY;

/// The hosts that are admitted, and how they prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hosts {
    pub(crate) admission: Admission,
    /// By NQN. A host that has a key and none here is not admitted.
    pub(crate) keys: BTreeMap<String, ChapKeys>,
}

impl Hosts {
    /// These hosts, of whom none has a key.
    #[cfg(test)]
    pub(crate) fn by_name(admission: Admission) -> Self {
        Self { admission, keys: BTreeMap::new() }
    }
}

/// The hosts that are admitted now. A file that is missing or broken admits nobody, except in mode `open`.
pub(crate) fn current(root: &Root, config: &Config) -> Hosts {
    let (admission, error) = access::Admission::read(config.mode(), content(root).as_deref());
    if let Some(error) = error {
        log::debug!("no host is admitted by name: {}", chain(&error));
    }
    let texts = |hosts: BTreeSet<HostNqn>| hosts.iter().map(ToString::to_string).collect();
    match admission {
        access::Admission::Everyone => Hosts { admission: Admission::Everyone, keys: BTreeMap::new() },
        access::Admission::Hosts { read_write, read_only, denied, keyed } => {
            let admission =
                Admission::Hosts { read_write: texts(read_write), read_only: texts(read_only), denied: texts(denied) };
            proving(root, admission, &keyed)
        }
    }
}

/// The same hosts with the keys of those that must prove one. Without the machine's secret there are none, and a host
/// that is admitted without its key would be admitted by its name alone: it waits.
fn proving(root: &Root, mut admission: Admission, keyed: &BTreeSet<HostNqn>) -> Hosts {
    let mut keys = BTreeMap::new();
    if keyed.is_empty() {
        return Hosts { admission, keys };
    }
    let kept = secret::read(root).unwrap_or_else(|error| {
        log::debug!("no host can prove a key: {}", chain(&error));
        None
    });
    for nqn in keyed.iter().map(AsRef::as_ref) {
        match &kept {
            Some(kept) => drop(keys.insert(nqn.to_owned(), chap_keys(&kept.secret, nqn))),
            None => admission = admission.without(nqn),
        }
    }
    Hosts { admission, keys }
}

fn chap_keys(secret: &Secret, nqn: &str) -> ChapKeys {
    let keys = secret.host(nqn);
    ChapKeys { host: keys.dhchap_host.expose().into(), controller: keys.dhchap_controller.expose().into() }
}

/// The mode that counts now, and the state.
pub(crate) fn state(root: &Root, config: &Config) -> (Mode, State) {
    let state = content(root).and_then(|file| State::parse(&file).ok());
    let is_open = access::Admission::of(config.mode(), state.as_ref()) == access::Admission::Everyone;
    let mode = match config.mode() {
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

#[cfg(test)]
mod tests {
    use access::By;
    use access::{Grant, Named};
    use settings::Product as _;

    use super::*;

    #[test]
    fn a_host_that_must_prove_a_key_is_not_admitted_without_one() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path());
        root.keep_dir(DIRECTORY).unwrap();
        let grant: Grant = "nqn.named".parse().unwrap();
        let mut state = State::new(false, &[grant]);
        let nqn = Named::Nqn("nqn.keyed".parse().unwrap());
        state.allow(&nqn, None, false, By::Key, std::time::Duration::ZERO).unwrap();
        root.keep(FILE, state.to_file().unwrap()).unwrap();
        let config = |mode: &str| Config::from_cmdline(&format!("diskomator.access={mode}")).0;
        let admitted = |mode: &str| {
            let Hosts { admission, keys } = current(&root, &config(mode));
            let Admission::Hosts { read_write, .. } = admission else { panic!("{mode} admits everyone") };
            (read_write.into_iter().collect::<Vec<_>>().join(" "), keys)
        };
        assert_eq!(admitted("ask"), ("nqn.named".to_owned(), BTreeMap::new()));
        assert_eq!(admitted("paired"), (String::new(), BTreeMap::new()));
        let kept = secret::keep(&root, &config("ask")).unwrap();
        let expected = BTreeMap::from([("nqn.keyed".to_owned(), chap_keys(&kept.secret, "nqn.keyed"))]);
        assert!(expected["nqn.keyed"].host != expected["nqn.keyed"].controller);
        assert_eq!(admitted("ask"), ("nqn.keyed nqn.named".to_owned(), expected.clone()));
        assert_eq!(admitted("paired"), ("nqn.keyed".to_owned(), expected));
        // The file is lost or broken.
        root.keep(secret::FILE, "random\n").unwrap();
        assert_eq!(admitted("paired"), (String::new(), BTreeMap::new()));
    }
}
