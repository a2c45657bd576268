//! Which hosts may use the disks, and what that means for each subsystem.
//!
//! A host is told apart by its NQN alone. The NQNs are names of directories in configfs: whoever makes an [`Admission`]
//! has checked that each of them can be one.

use std::collections::BTreeSet;

use crate::hosts::Controller;
use crate::model::{LISTENER_NQN, is_ours, is_read_only_nqn};

/// The hosts that may use the disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Every host may read and write.
    Everyone,
    /// Only these, by NQN. One that is in more than one set has the least of the rights.
    Hosts {
        /// They may read and write.
        read_write: BTreeSet<String>,
        /// They may read.
        read_only: BTreeSet<String>,
        /// They may do nothing, and are told not to try again. All others may do nothing, and may try again.
        denied: BTreeSet<String>,
    },
}

impl Admission {
    /// Admits no host, and denies none.
    pub fn nobody() -> Self {
        Self::Hosts { read_write: BTreeSet::new(), read_only: BTreeSet::new(), denied: BTreeSet::new() }
    }

    /// The hosts that may use the subsystem `nqn` of ours; `None` if it is open to everyone.
    pub fn at(&self, nqn: &str) -> Option<BTreeSet<String>> {
        match self {
            _ if nqn == LISTENER_NQN => Some(BTreeSet::new()),
            Self::Everyone if is_read_only_nqn(nqn) => Some(BTreeSet::new()),
            Self::Everyone => None,
            Self::Hosts { read_only, denied, .. } if is_read_only_nqn(nqn) => Some(read_only - denied),
            Self::Hosts { read_write, read_only, denied } => Some(&(read_write - read_only) - denied),
        }
    }

    /// Whether some host may read and not write.
    pub fn has_readers(&self) -> bool {
        match self {
            Self::Everyone => false,
            Self::Hosts { read_only, denied, .. } => !read_only.is_subset(denied),
        }
    }

    /// The hosts on which somebody has decided: those that have a directory in configfs.
    pub fn decided(&self) -> BTreeSet<String> {
        match self {
            Self::Everyone => BTreeSet::new(),
            Self::Hosts { read_write, read_only, denied } => &(read_write | read_only) | denied,
        }
    }

    /// The same without the host `nqn`.
    #[must_use]
    pub fn without(mut self, nqn: &str) -> Self {
        if let Self::Hosts { read_write, read_only, denied } = &mut self {
            for hosts in [read_write, read_only, denied] {
                hosts.remove(nqn);
            }
        }
        self
    }
}

/// The controllers, of those at the subsystem `subsystem`, of hosts that may not use it (any more). The subsystems of
/// other people are none of our business.
pub fn to_end<'a>(controllers: &'a [Controller], admission: &Admission, subsystem: &str) -> Vec<&'a Controller> {
    if *admission == Admission::Everyone || !is_ours(subsystem) {
        return Vec::new();
    }
    let Some(allowed) = admission.at(subsystem) else { return Vec::new() };
    controllers.iter().filter(|controller| !allowed.contains(&controller.host.nqn)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::ControllerId;
    use crate::model::{DISCOVERY_NQN, Host, read_only_nqn};

    const DISK: &str = "nqn.2026-11.io.github.diskomator:m:a";

    fn set(hosts: &[&str]) -> BTreeSet<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    fn hosts(read_write: &[&str], read_only: &[&str], denied: &[&str]) -> Admission {
        Admission::Hosts { read_write: set(read_write), read_only: set(read_only), denied: set(denied) }
    }

    #[test]
    fn a_host_in_more_than_one_set_has_the_least_of_the_rights() {
        let readers = read_only_nqn(DISK);
        let admission = hosts(&["a", "b", "c"], &["b", "d", "e"], &["c", "e"]);
        assert_eq!(admission.at(DISK), Some(set(&["a"])));
        assert_eq!(admission.at(&readers), Some(set(&["b", "d"])));
        assert_eq!(admission.at(LISTENER_NQN), Some(set(&[])));
        assert_eq!(admission.decided(), set(&["a", "b", "c", "d", "e"]));
        assert!(admission.has_readers() && !hosts(&["a"], &["b"], &["b"]).has_readers());
        assert_eq!(admission.without("b").at(&readers), Some(set(&["d"])));
        // Open to everyone is only what everyone may write to.
        assert_eq!(
            [DISK, &readers, LISTENER_NQN].map(|nqn| Admission::Everyone.at(nqn).is_none()),
            [true, false, false]
        );
        assert_eq!(Admission::nobody().at(DISK), Some(set(&[])));
    }

    #[test]
    fn only_controllers_at_our_subsystems_end_and_only_of_hosts_that_may_not_use_them() {
        let controllers: Vec<Controller> = ["writer", "reader", "denied", "unknown", "writer "]
            .iter()
            .zip(1..)
            .map(|(nqn, number)| Controller {
                id: ControllerId { number, inode: u64::from(number) },
                host: Host { nqn: (*nqn).to_owned(), address: None },
            })
            .collect();
        let admission = hosts(&["writer"], &["reader"], &["denied"]);
        let ended = |admission: &Admission, subsystem: &str| -> Vec<u16> {
            to_end(&controllers, admission, subsystem).iter().map(|controller| controller.id.number).collect()
        };
        assert_eq!(ended(&admission, DISK), [2, 3, 4, 5]);
        assert_eq!(ended(&admission, &read_only_nqn(DISK)), [1, 3, 4, 5]);
        assert_eq!(ended(&Admission::nobody(), DISK), [1, 2, 3, 4, 5]);
        for subsystem in [DISCOVERY_NQN, "nqn.2014-08.com.example:theirs", "nqn.2014-08.com.example:theirs:read-only"] {
            assert_eq!(ended(&admission, subsystem), [0_u16; 0]);
        }
        assert_eq!(ended(&Admission::Everyone, DISK), [0_u16; 0]);
        assert_eq!(ended(&Admission::Everyone, &read_only_nqn(DISK)), [0_u16; 0]);
    }
}
