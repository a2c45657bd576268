//! The meaning of the state for the target.

use std::collections::BTreeSet;

use crate::mode::Mode;
use crate::nqn::HostNqn;
use crate::state::{State, StateError};

/// Whom the target has to admit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Every host.
    Everyone,
    /// These hosts and no other. No host is in two of the sets; a host that is in none is undecided.
    Hosts {
        /// Hosts that read and write.
        read_write: BTreeSet<HostNqn>,
        /// Hosts that only read.
        read_only: BTreeSet<HostNqn>,
        /// Hosts that are told not to try again.
        denied: BTreeSet<HostNqn>,
        /// Hosts of the first two sets that must prove a key.
        keyed: BTreeSet<HostNqn>,
    },
}

impl Admission {
    /// What `file` says in this mode; the error says why it counts for nothing. A file that is missing or broken admits
    /// nobody, except in mode `open`.
    pub fn read(mode: Mode, file: Option<&[u8]>) -> (Self, Option<StateError>) {
        match file.map(State::parse).transpose() {
            Ok(state) => (Self::of(mode, state.as_ref()), None),
            Err(error) => (Self::of(mode, None), Some(error)),
        }
    }

    /// What the state says in this mode. In mode `paired` only a key admits.
    pub fn of(mode: Mode, state: Option<&State>) -> Self {
        let is_open = match mode {
            Mode::Open => state.is_none_or(State::everyone),
            Mode::Ask => state.is_some_and(State::everyone),
            Mode::Paired => false,
        };
        if is_open {
            return Self::Everyone;
        }
        let keyed: BTreeSet<HostNqn> = state.map(State::keyed).unwrap_or_default().iter().cloned().collect();
        let (mut read_write, mut read_only) = (BTreeSet::new(), BTreeSet::new());
        let admitted = state.map(State::admitted).unwrap_or_default();
        for host in admitted.iter().filter(|host| mode != Mode::Paired || keyed.contains(&host.nqn)) {
            let set = if host.read_only { &mut read_only } else { &mut read_write };
            set.insert(host.nqn.clone());
        }
        let keyed = keyed.into_iter().filter(|nqn| read_write.contains(nqn) || read_only.contains(nqn)).collect();
        let denied = state.map(State::denied).unwrap_or_default().iter().map(|host| host.nqn.clone()).collect();
        Self::Hosts { read_write, read_only, denied, keyed }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::Named;
    use crate::state::By;

    fn nobody() -> Admission {
        let none = BTreeSet::new;
        Admission::Hosts { read_write: none(), read_only: none(), denied: none(), keyed: none() }
    }

    fn nqn(text: &str) -> HostNqn {
        text.parse().unwrap()
    }

    #[test]
    fn a_file_that_is_missing_or_broken_admits_nobody_unless_all_are_admitted_anyway() {
        for broken in ["", "{", "[]", "null", "{\"everyone\":true,\"admitted\":[{\"nqn\":\"a b\"}]}"] {
            for (mode, admission) in
                [(Mode::Open, Admission::Everyone), (Mode::Ask, nobody()), (Mode::Paired, nobody())]
            {
                let (read, error) = Admission::read(mode, Some(broken.as_bytes()));
                assert_eq!((read, error.is_some()), (admission.clone(), true), "{mode} {broken}");
                let (read, error) = Admission::read(mode, None);
                assert_eq!((read, error.is_some()), (admission, false), "{mode}");
            }
        }
    }

    #[test]
    fn each_host_is_in_the_set_of_its_decision() {
        let mut state = State::new(false, &["nqn.a".parse().unwrap(), "nqn.b:ro".parse().unwrap()]);
        let now = Duration::from_secs(10);
        state.deny(&Named::Nqn(nqn("nqn.c")), None, now).unwrap();
        state.allow(&Named::Nqn(nqn("nqn.k")), None, false, By::Key, now).unwrap();
        let hosts = |read_write: &[&str], read_only: &[&str]| Admission::Hosts {
            read_write: read_write.iter().map(|host| nqn(host)).collect(),
            read_only: read_only.iter().map(|host| nqn(host)).collect(),
            denied: [nqn("nqn.c")].into(),
            keyed: [nqn("nqn.k")].into(),
        };
        assert_eq!(Admission::of(Mode::Ask, Some(&state)), hosts(&["nqn.a", "nqn.k"], &["nqn.b"]));
        // In mode open somebody has closed the machine again.
        assert_eq!(Admission::of(Mode::Open, Some(&state)), hosts(&["nqn.a", "nqn.k"], &["nqn.b"]));
        assert_eq!(Admission::of(Mode::Paired, Some(&state)), hosts(&["nqn.k"], &[]));
        // One that was named by the setting must prove the key that it has, too.
        state.must_prove(&nqn("nqn.b"));
        let Admission::Hosts { read_only, keyed, .. } = Admission::of(Mode::Paired, Some(&state)) else { panic!() };
        assert_eq!((read_only, keyed.len()), ([nqn("nqn.b")].into(), 2));
        state.forget(&Named::Nqn(nqn("nqn.b")), now).unwrap();
        state.set_everyone(true);
        assert_eq!(Admission::of(Mode::Ask, Some(&state)), Admission::Everyone);
        assert_eq!(Admission::of(Mode::Paired, Some(&state)), hosts(&["nqn.k"], &[]));
    }
}
