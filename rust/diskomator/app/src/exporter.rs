//! The parts that `hotplug` and `export` share: look at the machine, decide, act.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use disks::config::Config;
use kernel::error::chain;
use kernel::root::{FileError, Root};
use local::configfs::{self, NvmetError};
use local::probe::Prober;
use local::sysfs;
use nvmet::admission::Admission;
use nvmet::export::{self, Export};
use nvmet::identity::Machine;
use nvmet::model::{PortAddress, PortId, Subsystem, Target, listen_addresses, queues};
use nvmet::plan::{Op, PortPlan, READONLY, plan_hosts, plan_keys, plan_ports, plan_undo};
use nvmet::policy::{Access, Refusal};
use runtime::AppletError;

use crate::admission::Hosts;

/// Why nothing could be exported at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error("cannot use the NVMe target")]
    Target(#[from] NvmetError),
    #[error("cannot look for disks")]
    Disks(#[source] FileError),
    #[error("cannot listen")]
    Listen(#[source] FileError),
}

impl AppletError for ExportError {}

/// Why a failed export stays half-made.
#[derive(Debug, thiserror::Error)]
enum UndoError {
    #[error("cannot look at the NVMe target")]
    Target(#[from] NvmetError),
    #[error("cannot remove it again")]
    Remove(#[from] FileError),
}

/// The machine's settings and where it listens.
pub(crate) struct Exporter {
    pub(crate) root: Root,
    pub(crate) config: Config,
    pub(crate) addresses: Vec<PortAddress>,
    pub(crate) prober: Prober,
    /// The machine's processors, and its memory in bytes.
    pub(crate) capacity: (usize, u64),
}

/// The state of things at one moment.
pub(crate) struct Observation {
    pub(crate) machine: Machine,
    pub(crate) exports: Vec<Export>,
    pub(crate) target: Target,
    /// Disks that can't be read, which is no reason to leave out the others.
    pub(crate) unreadable: Vec<FileError>,
}

/// How long a command waits for disks that do not answer at once.
const PATIENCE: Duration = Duration::from_secs(6);

impl Exporter {
    /// Looks at the machine, and changes nothing. `wake` is called when a disk
    /// has answered that had not when it was last looked at.
    pub(crate) fn new(root: Root, config: Config, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let ipv6 = configfs::has_ipv6(&root);
        let prober = Prober::new(&root, wake);
        Self { addresses: listen_addresses(ipv6), root, config, prober, capacity: sysfs::capacity() }
    }

    /// The same, after making the kernel's IPv6 sockets fit for us.
    pub(crate) fn prepare(root: Root, config: Config, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let ipv6 = configfs::prepare_ipv6(&root).unwrap_or_else(|error| {
            log::warn!("listening on IPv4 alone: {}", chain(&error));
            false
        });
        Self { addresses: listen_addresses(ipv6), ..Self::new(root, config, wake) }
    }

    /// Asks each disk that has not been asked yet; the answers come later.
    pub(crate) fn ask_disks(&mut self) -> Result<(), ExportError> {
        sysfs::ask_disks(&self.root, &mut self.prober).map_err(ExportError::Disks)
    }

    /// Asks the disks, and waits up to `PATIENCE` for their answers.
    pub(crate) fn ask_all(&mut self) -> Result<(), ExportError> {
        self.ask_disks()?;
        self.prober.wait(PATIENCE);
        Ok(())
    }

    /// Every disk, with the answers that have come, and what has become of it. Changes nothing.
    pub(crate) fn observe(&self) -> Result<Observation, ExportError> {
        let target = configfs::read(&self.root)?;
        // Cards come and go, some of them after this program was started.
        let machine = sysfs::machine(&self.root).known_by(&target);
        let (disks, unreadable) =
            sysfs::disks(&self.root, &self.prober, &self.config.partitions).map_err(ExportError::Disks)?;
        let exports = export::decide(&machine, disks, &self.config, &target);
        Ok(Observation { machine, exports, target, unreadable })
    }

    /// The subsystems that `exports` ask for.
    pub(crate) fn desired(&self, exports: &[Export], admission: &Admission) -> BTreeMap<String, Subsystem> {
        let (processors, memory) = self.capacity;
        export::desired(exports, admission, |disk| queues(disk, processors, memory))
    }

    /// Makes every port listen that can, and returns those that do. One that
    /// can't, say because another program has its TCP port, is reported and
    /// does not keep the others from it.
    pub(crate) fn listen(&self, target: &Target) -> Result<(Vec<PortId>, Vec<FileError>), ExportError> {
        let PortPlan { listener, ports } = plan_ports(&self.addresses, target);
        for op in &listener {
            configfs::apply(&self.root, op).map_err(ExportError::Listen)?;
        }
        let (mut listening, mut errors) = (Vec::new(), Vec::new());
        for (id, ops) in ports {
            match carry_out(&self.root, &ops) {
                Ok(()) => listening.push(id),
                Err(error) => errors.push(error),
            }
        }
        Ok((listening, errors))
    }

    /// Makes the directories of the hosts on which somebody has decided, also in `target`, and gives them their keys. What
    /// can't be made is reported, and its host is left out of the admission, so that it keeps no other host from the
    /// disks, and is not admitted without the key that it must prove.
    pub(crate) fn prepare_hosts(&self, hosts: Hosts, target: &mut Target) -> (Admission, Vec<FileError>) {
        let Hosts { mut admission, keys } = hosts;
        let mut errors = Vec::new();
        for (nqn, op) in plan_hosts(&admission, target).make {
            match carry_out(&self.root, &[op]) {
                Ok(()) => drop(target.hosts.insert(nqn)),
                Err(error) => {
                    errors.push(error);
                    admission = admission.without(&nqn);
                }
            }
        }
        for (nqn, ops) in plan_keys(&keys, target) {
            // One without a directory has been reported.
            if !target.hosts.contains(&nqn) {
                continue;
            }
            match carry_out(&self.root, &ops) {
                Ok(()) => target.keys.extend(keys.get_key_value(&nqn).map(|(nqn, keys)| (nqn.clone(), keys.clone()))),
                Err(error) => {
                    errors.push(error);
                    admission = admission.without(&nqn);
                }
            }
        }
        (admission, errors)
    }
}

/// The state of a disk, to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody wants to hear of it.
    Hidden,
    /// Hosts can use it.
    Exported(Access),
    /// A drive with nothing in it, at which hosts can wait.
    Empty,
    /// It is about to be exported.
    Waiting,
    /// It should be, and why it is not.
    Failed(String),
    /// It is not to be, and why.
    Refused(String),
}

pub(crate) fn state(export: &Export) -> State {
    match &export.decision {
        Err(refusal) if !refusal.worth_showing() => State::Hidden,
        Err(Refusal::Awaited) => State::Waiting,
        Err(refusal @ Refusal::Unanswered) => State::Failed(refusal.to_string()),
        Err(refusal) => State::Refused(refusal.to_string()),
        Ok(grant) if export.enabled => State::Exported(grant.access),
        Ok(_) if !export.has_medium() => State::Empty,
        // Why the target did not take it, the disk itself may tell.
        Ok(_) => match &export.disk.open_error {
            Some(why) => State::Failed(why.clone()),
            None => State::Waiting,
        },
    }
}

/// Carries out operations in their order, up to the first that fails.
pub(crate) fn carry_out(root: &Root, ops: &[Op]) -> Result<(), FileError> {
    for op in ops {
        log::debug!("{op}");
        configfs::apply(root, op)?;
    }
    Ok(())
}

/// The same for the export of a disk: what a failure left half-made is removed
/// again.
pub(crate) fn carry_out_or_undo(root: &Root, nqn: &str, ops: &[Op]) -> Result<(), FileError> {
    carry_out(root, ops).inspect_err(|_| {
        if let Err(error) = undo(root, nqn, ops) {
            log::warn!("{nqn} stays half-made: {}", chain(&error));
        }
    })
}

fn undo(root: &Root, nqn: &str, ops: &[Op]) -> Result<(), UndoError> {
    let target = configfs::read(root)?;
    Ok(carry_out(root, &plan_undo(nqn, ops, &target))?)
}

/// The reason of a failed export, in words for people who look at a disk.
pub(crate) fn reason(error: &FileError) -> String {
    const ENOMEDIUM: i32 = 123;
    if let FileError::Write { path, source, .. } = error {
        if path.ends_with(READONLY) && source.kind() == io::ErrorKind::NotFound {
            return "read-only, and this kernel's target exports only what can be written to".to_owned();
        }
    }
    let error = error.io();
    match error.raw_os_error() {
        Some(ENOMEDIUM) => "no medium".to_owned(),
        _ if error.kind() == io::ErrorKind::PermissionDenied => "refuses to open for writing".to_owned(),
        _ if error.kind() == io::ErrorKind::ReadOnlyFilesystem => "read-only".to_owned(),
        _ if error.kind() == io::ErrorKind::InvalidInput => "not a kind that the kernel's target can export".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use disks::disk::{Attributes, Disk};
    use nvmet::export::Grant;
    use nvmet::identity::Identity;
    use nvmet::model::ChapKeys;

    use super::*;

    fn export(decision: Result<Access, Refusal>) -> Export {
        let disk = Disk::new(Attributes { name: "sda".into(), sectors: 8, ..Attributes::default() });
        let text = String::new;
        let identity = Identity {
            nqn: text(),
            nsid: 1,
            uuid: text(),
            nguid: text(),
            serial: text(),
            model: text(),
            firmware: text(),
        };
        let decision = decision.map(|access| Grant { identity, access });
        Export { disk, decision, enabled: false, has_twin: false }
    }

    #[test]
    fn a_host_without_a_directory_keeps_no_other_one_out() {
        let tree = tempfile::tempdir().unwrap();
        let hosts = tree.path().join("sys/kernel/config/nvmet/hosts");
        fs::create_dir_all(&hosts).unwrap();
        let exporter = Exporter::new(Root::at(tree.path()), Config::default(), || {});
        let long = "x".repeat(300);
        let admission = Admission::Hosts {
            read_write: BTreeSet::from([long.clone(), "nqn.a".to_owned()]),
            read_only: BTreeSet::new(),
            denied: BTreeSet::from(["nqn.b".to_owned()]),
        };
        let mut target = Target::default();
        let (left, errors) = exporter.prepare_hosts(Hosts::by_name(admission.clone()), &mut target);
        assert_eq!((left, errors.len()), (admission.without(&long), 1));
        assert_eq!(target.hosts, BTreeSet::from(["nqn.a".to_owned(), "nqn.b".to_owned()]));
        assert!(target.hosts.iter().all(|nqn| hosts.join(nqn).is_dir()));
        let (_, errors) = exporter.prepare_hosts(Hosts::by_name(Admission::Everyone), &mut target);
        assert_eq!(errors.len(), 0);

        // One to which the kernel gives no key is not admitted by its name alone.
        let text = |text: &str| zeroize::Zeroizing::new(text.to_owned()).into();
        let pair = || ChapKeys { host: text("DHHC-1:01:AAAA:"), controller: text("DHHC-1:01:AAAB:") };
        for attribute in ["dhchap_key", "dhchap_ctrl_key"] {
            fs::write(hosts.join("nqn.a").join(attribute), "").unwrap();
        }
        let admission = Admission::Hosts {
            read_write: BTreeSet::from(["nqn.a".to_owned()]),
            read_only: BTreeSet::from(["nqn.b".to_owned()]),
            denied: BTreeSet::new(),
        };
        let keys = BTreeMap::from(["nqn.a", "nqn.b"].map(|nqn| (nqn.to_owned(), pair())));
        let both = Hosts { admission: admission.clone(), keys };
        let (left, errors) = exporter.prepare_hosts(both, &mut target);
        assert_eq!((left, errors.len()), (admission.without("nqn.b"), 1));
        assert_eq!(fs::read_to_string(hosts.join("nqn.a/dhchap_key")).unwrap(), "DHHC-1:01:AAAA:");
    }

    #[test]
    fn each_disk_has_the_state_that_people_are_shown() {
        let granted = export(Ok(Access::ReadOnly));
        let of = |disk: Disk| Export { disk, ..granted.clone() };
        let unopened = Disk { open_error: Some("No such device".into()), ..granted.disk.clone() };
        for (export, expected) in [
            (granted.clone(), State::Waiting),
            (Export { enabled: true, ..granted.clone() }, State::Exported(Access::ReadOnly)),
            (of(Disk { size: 0, ..granted.disk.clone() }), State::Empty),
            (of(unopened), State::Failed("No such device".into())),
            (export(Err(Refusal::Virtual)), State::Hidden),
            (export(Err(Refusal::Awaited)), State::Waiting),
            (export(Err(Refusal::Unanswered)), State::Failed("does not answer".into())),
            (export(Err(Refusal::Mounted)), State::Refused("mounted on this machine".into())),
        ] {
            assert_eq!(state(&export), expected, "{export:?}");
        }
    }

    #[test]
    fn the_errors_of_the_kernel_s_target_are_explained() {
        let error = |attribute: &str, errno| FileError::Write {
            path: attribute.into(),
            value: "1".into(),
            source: io::Error::from_raw_os_error(errno),
        };
        for (attribute, errno, expected) in [
            ("enable", 123, "no medium"),
            ("enable", 13, "refuses to open for writing"),
            ("enable", 30, "read-only"),
            ("enable", 22, "not a kind that the kernel's target can export"),
            ("readonly", 2, "read-only, and this kernel's target exports only what can be written to"),
            ("enable", 2, "No such file or directory (os error 2)"),
        ] {
            assert_eq!(reason(&error(attribute, errno)), expected, "{attribute} {errno}");
        }
    }
}
