//! The decision on each disk: policy, identity and the target's state in one.

use std::collections::BTreeMap;

use disks::config::Config;
use disks::disk::{Answer, Disk};

use crate::admission::Admission;
use crate::identity::{self, Identity, Machine, Unnamed};
use crate::model::{NSID, Namespace, Subsystem, Target, disk_nqn, is_ours, is_read_only_nqn, read_only_nqn};
use crate::policy::{self, Access, Refusal};

/// The name and the access of an exported disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its names.
    pub identity: Identity,
    /// The access of hosts.
    pub access: Access,
}

/// A disk and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The disk.
    pub disk: Disk,
    /// Its grant, if it is exported, or why it never will be.
    pub decision: Result<Grant, Refusal>,
    /// Whether hosts can use it now. A drive with no medium in it can't be
    /// used, though it may be exported all right.
    pub enabled: bool,
    /// Another disk says that it is the same one.
    pub has_twin: bool,
}

impl Export {
    /// Its NQN, if it is to be exported.
    pub fn nqn(&self) -> Option<&str> {
        self.decision.as_ref().ok().map(|grant| grant.identity.nqn.as_str())
    }

    /// The NQNs of its subsystem and its read-only subsystem, if it is to be exported. The latter is not always there.
    pub fn nqns(&self) -> impl Iterator<Item = String> + use<> {
        let own = self.nqn().map(str::to_owned);
        let read_only = own.as_deref().map(read_only_nqn);
        own.into_iter().chain(read_only)
    }

    /// Whether there is something in the drive that hosts can be given.
    pub fn has_medium(&self) -> bool {
        self.disk.size > 0 && (self.enabled || self.disk.answer == Answer::Given)
    }
}

/// Decides on every disk of `disks`. `target` tells what is exported already.
pub fn decide(machine: &Machine, disks: Vec<Disk>, config: &Config, target: &Target) -> Vec<Export> {
    let decide = |disk: &Disk| match policy::exportable(disk, config) {
        // A person who mounts a disk here that hosts have already does so knowingly; and a
        // disk that hangs may come to itself.
        Err(Refusal::Mounted | Refusal::Awaited | Refusal::Unanswered) if exported_as(target, disk).is_some() => {
            Ok(exported_access(target, disk).unwrap_or(Access::ReadOnly))
        }
        // Another medium: what the drive is called does not depend on it.
        Err(Refusal::Awaited | Refusal::Unanswered) if disk.removable => Ok(Access::ReadOnly),
        decision => decision,
    };
    let mut decisions: Vec<Result<Access, Refusal>> = disks.iter().map(decide).collect();
    share_controllers(&disks, config, &mut decisions);
    let twins: Vec<bool> = (0..disks.len()).map(|i| has_twin(&disks, &decisions, i)).collect();
    let unnamed: Vec<Unnamed<'_>> = disks
        .iter()
        .zip(&decisions)
        .filter(|(_, decision)| is_disk(decision))
        .map(|(disk, decision)| Unnamed {
            disk,
            current: decision.is_ok().then(|| exported_as(target, disk)).flatten(),
            is_chosen: decision.is_ok(),
        })
        .collect();
    let identities = identity::assign(machine, &unnamed, |nqn, disk| is_replaced(target, nqn, disk));
    let mut identities = identities.into_iter().flatten().collect::<Vec<_>>().into_iter();
    disks
        .into_iter()
        .zip(decisions)
        .zip(twins)
        .filter_map(|((disk, decision), has_twin)| {
            let current = exported_as(target, &disk);
            let enabled = current.is_some();
            let disk = match current {
                // Hosts know the number that it does not tell now.
                Some(Identity { serial, .. }) if disk.answer != Answer::Given => {
                    Disk { serial: disk.serial.or(Some(serial)), ..disk }
                }
                _ => disk,
            };
            let decision = match decision {
                Ok(access) => {
                    let identity = identities.next()?;
                    let is_known = enabled || target.subsystems.contains_key(&identity.nqn);
                    let answered = if is_known { Ok(()) } else { policy::answered(&disk) };
                    if let Err(refusal) = answered {
                        Err(refusal)
                    } else if enabled || config.export.takes(&disk) {
                        Ok(Grant { identity, access })
                    } else {
                        Err(Refusal::ByHandOnly { identity: Box::new(identity), setting: config.export.to_string() })
                    }
                }
                Err(refusal) => Err(refusal),
            };
            Some(Export { disk, decision, enabled, has_twin })
        })
        .collect()
}

/// Whether a decision is about a disk of its own, exported or not.
fn is_disk(decision: &Result<Access, Refusal>) -> bool {
    !decision.as_ref().is_err_and(Refusal::is_no_disk)
}

fn has_twin(disks: &[Disk], decisions: &[Result<Access, Refusal>], i: usize) -> bool {
    let mut others = disks.iter().zip(decisions).enumerate().filter(|(j, (_, decision))| *j != i && is_disk(decision));
    is_disk(&decisions[i]) && others.any(|(_, (other, _))| identity::are_twins(&disks[i], other))
}

/// Whether hosts still have something else by `nqn`: they may not have noticed yet
/// that it went, and then would go on with what takes its place.
fn is_replaced(target: &Target, nqn: &str, disk: &Disk) -> bool {
    let subsystems = [nqn, &read_only_nqn(nqn)].map(|nqn| target.subsystems.get(nqn));
    let mut namespaces = subsystems.into_iter().flatten().flat_map(|subsystem| subsystem.namespaces.values());
    namespaces.any(|namespace| namespace.enabled && namespace.device_path != device_path(disk))
}

/// A host of a controller gets all of its namespaces: so each of them must be
/// one that may be passed through, and the first stands for all.
fn share_controllers(disks: &[Disk], config: &Config, decisions: &mut [Result<Access, Refusal>]) {
    let mut all: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, disk) in disks.iter().enumerate().filter(|(_, disk)| disk.partition.is_none()) {
        all.entry(disk.controller.as_deref().unwrap_or_default()).or_default().push(i);
    }
    all.remove("");
    for namespaces in all.values() {
        let may_be = |i: &usize| decisions[*i] == Ok(Access::Passthru) && config.export.takes(&disks[*i]);
        let may_all_be = namespaces.iter().all(may_be);
        for (position, i) in namespaces.iter().enumerate() {
            if decisions[*i] != Ok(Access::Passthru) {
                continue;
            }
            decisions[*i] = match (may_all_be, position) {
                (false, _) => Ok(Access::ReadWrite),
                (true, 0) => Ok(Access::Passthru),
                (true, _) => Err(Refusal::PassedThrough(disks[namespaces[0]].name.clone())),
            };
        }
    }
}

/// The subsystems that `exports` ask for, by NQN: that of each disk, and its read-only subsystem if a host is admitted
/// that may only read. `queues` says how many a disk gets.
pub fn desired(
    exports: &[Export],
    admission: &Admission,
    queues: impl Fn(&Disk) -> u16,
) -> BTreeMap<String, Subsystem> {
    exports.iter().flat_map(|export| desired_of(export, admission, queues(&export.disk))).collect()
}

fn desired_of(export: &Export, admission: &Admission, queues: u16) -> BTreeMap<String, Subsystem> {
    let mut wanted = BTreeMap::new();
    let Ok(Grant { identity, access }) = &export.decision else { return wanted };
    let device = device_path(&export.disk);
    let path = match access {
        Access::Passthru => controller_path(&export.disk),
        Access::ReadWrite | Access::ReadOnly => Some(device.clone()),
    };
    let Some(path) = path else { return wanted };
    let medium = |path, access| export.has_medium().then_some((path, access));
    wanted.insert(identity.nqn.clone(), drive(identity, admission, queues, medium(path, *access)));
    if admission.has_readers() {
        // A controller knows no such protection, but the target opens its namespace all the same.
        let identity = identity::read_only(identity, *access == Access::Passthru);
        let drive = drive(&identity, admission, queues, medium(device, Access::ReadOnly));
        wanted.insert(identity.nqn, drive);
    }
    wanted
}

/// The subsystem of a drive, for the admitted hosts: one enabled namespace if there is
/// a medium in it, by the path of its device, or its controller; else none.
fn drive(identity: &Identity, admission: &Admission, queues: u16, medium: Option<(String, Access)>) -> Subsystem {
    let (mut namespace, mut passthru) = (None, None);
    match medium {
        Some((path, Access::Passthru)) => passthru = Some(path),
        Some((device_path, access)) => {
            namespace = Some(Namespace {
                device_path,
                uuid: identity.uuid.clone(),
                nguid: identity.nguid.clone(),
                readonly: access == Access::ReadOnly,
                enabled: true,
            });
        }
        None => {}
    }
    let allowed_hosts = admission.at(&identity.nqn);
    Subsystem {
        allow_any_host: allowed_hosts.is_none(),
        allowed_hosts: allowed_hosts.unwrap_or_default(),
        serial: identity.serial.clone(),
        model: identity.model.clone(),
        firmware: identity.firmware.clone(),
        queues,
        namespaces: namespace.map(|namespace| (identity.nsid, namespace)).into_iter().collect(),
        passthru,
    }
}

/// Whether the subsystem `nqn`, a disk's own or its read-only one, belongs to a person who exports disks by command:
/// it has the name of a disk that is not exported otherwise, so it is just
/// being made or taken down. `exports` has no claim to it, yet it is no
/// leftover, unless its device is one that is gone.
pub fn is_made_by_hand(nqn: &str, exports: &[Export], target: &Target) -> bool {
    let is_of_nqn = |export: &&Export| match &export.decision {
        Err(Refusal::ByHandOnly { identity, .. }) => identity.nqn == disk_nqn(nqn),
        _ => false,
    };
    let Some(export) = exports.iter().find(is_of_nqn) else { return false };
    let Some(subsystem) = target.subsystems.get(nqn) else { return true };
    let path = device_path(&export.disk);
    let mut namespaces = subsystem.namespaces.values();
    namespaces.all(|namespace| namespace.device_path.is_empty() || namespace.device_path == path)
        && (subsystem.passthru.is_none() || subsystem.passthru == controller_path(&export.disk))
}

/// The path by which the target opens a disk. The name by `diskseq` means
/// this disk only: the kernel gives a name such as `sda` to the next disk
/// while the target may still hold the one that was pulled.
pub fn device_path(disk: &Disk) -> String {
    match disk.diskseq {
        0 => format!("/dev/{}", disk.name),
        _ => format!("/dev/disk/by-diskseq/{}", by_diskseq(disk)),
    }
}

/// The name of its link in `/dev/disk/by-diskseq`, as udev makes it.
pub fn by_diskseq(disk: &Disk) -> String {
    match &disk.partition {
        Some((number, _)) => format!("{}-part{number}", disk.diskseq),
        None => disk.diskseq.to_string(),
    }
}

/// The path by which the target opens the disk's controller, with the same
/// meaning: of this disk only.
pub fn controller_path(disk: &Disk) -> Option<String> {
    match (by_diskseq_controller(disk), &disk.controller) {
        (Some(link), _) => Some(format!("/dev/disk/by-diskseq/{link}")),
        (None, Some(controller)) => Some(format!("/dev/{controller}")),
        (None, None) => None,
    }
}

/// The name of the link to its controller in `/dev/disk/by-diskseq`; udev makes
/// none.
pub fn by_diskseq_controller(disk: &Disk) -> Option<String> {
    (disk.controller.is_some() && disk.diskseq != 0 && disk.partition.is_none())
        .then(|| format!("{}-controller", disk.diskseq))
}

/// The identity by which hosts know the disk now, if it is exported. It goes on under that
/// name even if another one would be found for it today: its twin may have been
/// pulled, or a part of sysfs not be readable this time.
pub fn exported_as(target: &Target, disk: &Disk) -> Option<Identity> {
    let (nqn, subsystem, _) = export_of(target, disk)?;
    let (nsid, namespace) = namespace_of(subsystem, disk).unzip();
    Some(Identity {
        nqn: nqn.clone(),
        nsid: nsid.unwrap_or(NSID),
        uuid: namespace.map(|namespace| namespace.uuid.clone()).unwrap_or_default(),
        nguid: namespace.map(|namespace| namespace.nguid.clone()).unwrap_or_default(),
        serial: subsystem.serial.clone(),
        model: subsystem.model.clone(),
        firmware: subsystem.firmware.clone(),
    })
}

/// The access of hosts to the disk now, if it is exported.
pub fn exported_access(target: &Target, disk: &Disk) -> Option<Access> {
    export_of(target, disk).map(|(_, _, access)| access)
}

/// Its own subsystem: the read-only one tells neither its name nor the access of hosts.
fn export_of<'a>(target: &'a Target, disk: &Disk) -> Option<(&'a String, &'a Subsystem, Access)> {
    let controller = controller_path(disk);
    target.subsystems.iter().filter(|(nqn, _)| is_ours(nqn) && !is_read_only_nqn(nqn)).find_map(|(nqn, subsystem)| {
        if controller.is_some() && subsystem.passthru == controller {
            return Some((nqn, subsystem, Access::Passthru));
        }
        let (_, namespace) = namespace_of(subsystem, disk)?;
        Some((nqn, subsystem, if namespace.readonly { Access::ReadOnly } else { Access::ReadWrite }))
    })
}

/// The namespace by which hosts have the disk.
fn namespace_of<'a>(subsystem: &'a Subsystem, disk: &Disk) -> Option<(u32, &'a Namespace)> {
    let path = device_path(disk);
    let mut namespaces = subsystem.namespaces.iter();
    let (nsid, namespace) = namespaces.find(|(_, namespace)| namespace.enabled && namespace.device_path == path)?;
    Some((*nsid, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use crate::model::{LISTENER_NQN, PortId, listen_addresses};
    use crate::plan::{Op, plan_disk, plan_disks, plan_hosts, plan_ports};
    use disks::disk::Attributes;
    use disks::selection::Selection;

    fn disk(name: &str, diskseq: u64, sectors: u64) -> Disk {
        Disk::new(Attributes {
            name: name.into(),
            devpath: format!("devices/pci0000:00/0000:00:05.0/{name}"),
            diskseq: Some(diskseq),
            sectors,
            wwid: Some(format!("wwid-{name}")),
            ..Attributes::default()
        })
    }

    #[test]
    fn every_disk_is_decided_on_in_its_order() {
        let machine = Machine::new(None, &[], "");
        let disks = vec![disk("sda", 3, 8), disk("sdb", 4, 0), disk("sdc", 5, 8)];
        let before = decide(&machine, disks.clone(), &Config::default(), &Target::default());
        assert_eq!(before.iter().map(|export| export.enabled).collect::<Vec<_>>(), [false; 3]);

        let wanted = desired(&before, &Admission::Everyone, |_| 2);
        assert_eq!(wanted.len(), 3);
        // An empty drive is one that hosts can wait at.
        assert_eq!(wanted[before[1].nqn().unwrap()].namespaces, BTreeMap::new());
        let target = Target { subsystems: wanted, ..Target::default() };
        let after = decide(&machine, disks, &Config::default(), &target);
        assert_eq!(after.iter().map(|export| export.enabled).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn the_name_in_use_outlives_its_reasons() {
        let before =
            decide(&Machine::new(None, &[], ""), vec![disk("sda", 3, 8)], &Config::default(), &Target::default());
        let target = Target { subsystems: desired(&before, &Admission::Everyone, |_| 2), ..Target::default() };
        let changed = Disk { wwid: None, serial: None, mounted: true, ..disk("sda", 3, 8) };
        let machine = Machine::new(None, &[[0, 1, 2, 3, 4, 5]], "");
        let after = decide(&machine, vec![changed], &Config::default(), &target);
        assert_eq!(after[0].decision, before[0].decision);
        assert!(after[0].enabled);
    }

    #[test]
    fn a_disk_that_took_the_name_of_a_pulled_one_is_not_taken_for_it() {
        let machine = Machine::new(None, &[], "");
        let before = decide(&machine, vec![disk("sda", 3, 8)], &Config::default(), &Target::default());
        let target = Target { subsystems: desired(&before, &Admission::Everyone, |_| 2), ..Target::default() };
        let after = decide(&machine, vec![disk("sda", 9, 8)], &Config::default(), &target);
        assert!(!after[0].enabled);
        assert_ne!(desired(&after, &Admission::Everyone, |_| 2), target.subsystems);
    }

    #[test]
    fn a_medium_comes_and_goes_and_the_drive_stays() {
        let (mut fake, ports) = listening();
        let drive = |diskseq, sectors, answer| [Disk { removable: true, answer, ..disk("sda", diskseq, sectors) }];
        let mut paths = Vec::new();
        for (diskseq, sectors, answer) in [
            (3, 0, Answer::Given),
            (4, 8, Answer::Awaited),
            (4, 8, Answer::Given),
            (5, 8, Answer::Awaited),
            (5, 0, Answer::Given),
            (6, 16, Answer::Overdue),
            (6, 16, Answer::Given),
        ] {
            let drive = |diskseq, sectors| drive(diskseq, sectors, answer);
            for op in sync_plan(&drive(diskseq, sectors), &fake.target(), &ports) {
                assert!(!op.to_string().starts_with("rm "), "no link is cut: {op}");
                fake.apply(&op).unwrap();
            }
            let target = fake.target();
            let drives: Vec<_> = target.subsystems.iter().filter(|(nqn, _)| *nqn != LISTENER_NQN).collect();
            let [(_, drive)] = drives[..] else { panic!("{drives:?}") };
            paths.push(drive.namespaces.values().next().map(|namespace| namespace.device_path.clone()));
        }
        let path = |diskseq| Some(format!("/dev/disk/by-diskseq/{diskseq}"));
        assert_eq!(paths, [None, None, path(4), None, None, None, path(6)]);
        // One that was never exported has to answer first.
        let new = Disk { removable: true, answer: Answer::Awaited, ..disk("sda", 3, 8) };
        let exports = decide(&Machine::new(None, &[], ""), vec![new], &Config::default(), &Target::default());
        assert_eq!(exports[0].decision, Err(Refusal::Awaited));
    }

    /// The one namespace there is, and the NQN of its subsystem.
    fn only_namespace(fake: &Fake) -> (String, u32, Namespace) {
        let mut all = Vec::new();
        for (nqn, drive) in fake.target().subsystems {
            all.extend(drive.namespaces.into_iter().map(|(nsid, namespace)| (nqn.clone(), nsid, namespace)));
        }
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn what_takes_the_place_of_a_disk_at_once_is_another_namespace_of_the_same_size() {
        let nothing = |diskseq| Disk { wwid: None, ..disk("sda", diskseq, 8) };
        let stick = |diskseq| Disk { bus: disks::disk::Bus::Usb, serial: Some("4C53".into()), ..nothing(diskseq) };
        let cd =
            |diskseq| Disk { name: "sr0".into(), removable: true, serial: Some("CD-1".into()), ..nothing(diskseq) };
        let sata = |diskseq| Disk { serial: Some("S3Z8".into()), ..nothing(diskseq) };
        for (before, after, is_same) in [
            (nothing(3), nothing(4), false),
            (stick(3), stick(4), false),
            (cd(3), cd(4), false),
            // With a serial number of its own it is that one again, which was gone for a moment.
            (sata(3), sata(4), true),
            (cd(3), cd(3), true),
        ] {
            let (mut fake, ports) = listening();
            let mut seen = Vec::new();
            for disk in [before, after] {
                let disks = [disk];
                for op in sync_plan(&disks, &fake.target(), &ports) {
                    fake.apply(&op).unwrap();
                }
                assert_eq!(sync_plan(&disks, &fake.target(), &ports), []);
                seen.push(only_namespace(&fake));
            }
            let [(nqn, nsid, before), (other_nqn, other_nsid, after)] = &seen[..] else { panic!("{seen:?}") };
            assert_eq!(nqn, other_nqn);
            assert_eq!((before.uuid == after.uuid, before.nguid == after.nguid), (is_same, is_same), "{seen:?}");
            // Commands that hosts still have under way for one namespace must not reach the other.
            assert_eq!(nsid == other_nsid, is_same, "{seen:?}");
        }
    }

    #[test]
    fn a_disk_that_grows_while_it_is_exported_keeps_its_names_until_it_is_exported_anew() {
        for wwid in [Some("naa.5002538e40a1b2c3".to_owned()), None] {
            let (mut fake, ports) = listening();
            let of_size = |sectors| [Disk { wwid: wwid.clone(), ..disk("sda", 3, sectors) }];
            for op in sync_plan(&of_size(8), &fake.target(), &ports) {
                fake.apply(&op).unwrap();
            }
            let before = only_namespace(&fake);
            // Nothing is remembered but what the kernel has, as after a kill.
            assert_eq!(sync_plan(&of_size(16), &fake.target(), &ports), []);
            assert_eq!(own_plan(&of_size(16), &fake.target(), &ports), []);
            let known =
                &decide(&Machine::new(None, &[], ""), of_size(16).to_vec(), &Config::default(), &fake.target())[0];
            assert_eq!(known.decision.as_ref().unwrap().identity.uuid, before.2.uuid);
            for op in plan_disks(&BTreeMap::new(), &fake.target(), &ports).into_values().flatten() {
                fake.apply(&op).unwrap();
            }
            for op in sync_plan(&of_size(16), &fake.target(), &ports) {
                fake.apply(&op).unwrap();
            }
            let after = only_namespace(&fake);
            assert_eq!(after.0, before.0);
            assert!(after.2.uuid != before.2.uuid && after.2.nguid != before.2.nguid);
        }
    }

    #[test]
    fn disks_that_say_the_same_are_told_apart_also_from_those_that_are_not_exported() {
        let twin = |name: &str, place: &str| Disk {
            serial: Some("A1B2".into()),
            wwid: Some("naa.5002538e40a1b2c3".into()),
            bus_path: place.into(),
            ..disk(name, 3, 8)
        };
        let (a, b) = (twin("sda", "here"), Disk { mounted: true, ..twin("sdb", "there") });
        let exports = decide(&Machine::new(None, &[], ""), vec![a.clone(), b], &Config::default(), &Target::default());
        assert!(exports[0].nqn().unwrap().ends_with(":at:here"), "{exports:?}");
        assert!(exports[0].has_twin && exports[1].has_twin);
        // Device mapper's and other things that are no disks are no twins.
        let mapped = Disk { bus: disks::disk::Bus::Virtual, ..twin("dm-0", "there") };
        let exports = decide(&Machine::new(None, &[], ""), vec![a, mapped], &Config::default(), &Target::default());
        assert!(!exports[0].has_twin && !exports[0].nqn().unwrap().contains(":at:"), "{exports:?}");
    }

    fn hosts(read_write: &[&str], read_only: &[&str]) -> Admission {
        let set = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect();
        Admission::Hosts { read_write: set(read_write), read_only: set(read_only), denied: set(&[]) }
    }

    /// Plans and carries out all for `admission`, in one go.
    fn sync_for(admission: &Admission, disks: &[Disk], config: &Config, fake: &mut Fake, ports: &[PortId]) {
        let plan = |fake: &Fake| {
            let target = fake.target();
            let exports = decide(&Machine::new(None, &[], ""), disks.to_vec(), config, &target);
            let hosts = plan_hosts(admission, &target);
            let mut ops: Vec<Op> = hosts.make.into_iter().map(|(_, op)| op).collect();
            let disks = plan_disks(&desired(&exports, admission, |_| 2), &target, ports);
            ops.extend(disks.into_values().flatten().chain(hosts.remove));
            ops
        };
        for op in plan(fake) {
            fake.apply(&op).unwrap_or_else(|errno| panic!("{errno:?} from {op}"));
        }
        assert_eq!(plan(fake), []);
    }

    #[test]
    fn a_disk_has_a_read_only_subsystem_while_a_host_is_admitted_that_only_reads() {
        let (mut fake, ports) = listening();
        let disks = [disk("sda", 3, 8)];
        let machine = Machine::new(None, &[], "");
        let nqn = decide(&machine, disks.to_vec(), &Config::default(), &Target::default())[0].nqn().unwrap().to_owned();
        let readers = read_only_nqn(&nqn);
        let mut seen = Vec::new();
        for admission in [
            hosts(&["x"], &[]),
            hosts(&["x"], &["y"]),
            hosts(&[], &["x", "y"]),
            hosts(&["x"], &[]),
            Admission::Everyone,
        ] {
            sync_for(&admission, &disks, &Config::default(), &mut fake, &ports);
            let target = fake.target();
            let found = |nqn: &str| {
                target.subsystems.get(nqn).map(|found| {
                    let hosts = found.allowed_hosts.iter().map(String::as_str).collect::<String>();
                    let namespace = found.namespaces.values().next().unwrap();
                    assert!(namespace.enabled && target.ports.values().all(|port| port.subsystems.contains(nqn)));
                    (hosts, found.allow_any_host, namespace.readonly)
                })
            };
            // The disk's own subsystem is never mistaken.
            let export = &decide(&machine, disks.to_vec(), &Config::default(), &target)[0];
            assert_eq!((export.nqn(), export.enabled), (Some(nqn.as_str()), true));
            assert_eq!(exported_access(&target, &disks[0]), Some(Access::ReadWrite));
            seen.push([found(&nqn), found(&readers)]);
        }
        let own = |hosts: &str| Some((hosts.to_owned(), false, false));
        let read = |hosts: &str| Some((hosts.to_owned(), false, true));
        assert_eq!(
            seen,
            [
                [own("x"), None],
                [own("x"), read("y")],
                [own(""), read("xy")],
                [own("x"), None],
                [Some((String::new(), true, false)), None]
            ]
        );
    }

    #[test]
    fn a_read_only_subsystem_alone_is_no_export() {
        let (mut fake, ports) = listening();
        let disks = [disk("sda", 3, 8)];
        let admission = hosts(&["x"], &["y"]);
        sync_for(&admission, &disks, &Config::default(), &mut fake, &ports);
        let nqn = only_export(&disks, &fake).nqn().unwrap().to_owned();
        for op in plan_disk(&nqn, None, &fake.target(), &[]) {
            fake.apply(&op).unwrap();
        }
        let export = only_export(&disks, &fake);
        assert_eq!((exported_as(&fake.target(), &disks[0]), export.enabled), (None, false));
        assert_eq!(export.nqn(), Some(nqn.as_str()));
        // Where disks are exported by hand, it is left to that hand while the disk is there.
        let by_hand = decide(&Machine::new(None, &[], ""), disks.to_vec(), &by_hand(), &fake.target());
        assert!(is_made_by_hand(&read_only_nqn(&nqn), &by_hand, &fake.target()));
        assert!(!is_made_by_hand(&read_only_nqn(&nqn), &[], &fake.target()));
        // Hosts have it still, so a disk in its place is another namespace.
        let other = [Disk { wwid: None, ..disk("sda", 4, 8) }];
        let here = [Disk { wwid: None, ..disk("sda", 3, 8) }];
        let (mut fake, ports) = listening();
        sync_for(&admission, &here, &Config::default(), &mut fake, &ports);
        let before = only_export(&here, &fake).decision.clone().unwrap().identity;
        for op in plan_disk(&before.nqn, None, &fake.target(), &[]) {
            fake.apply(&op).unwrap();
        }
        let after = only_export(&other, &fake).decision.clone().unwrap().identity;
        assert!(after.nqn == before.nqn && after.nsid != before.nsid && after.uuid != before.uuid);
    }

    fn only_export(disks: &[Disk], fake: &Fake) -> Export {
        decide(&Machine::new(None, &[], ""), disks.to_vec(), &Config::default(), &fake.target()).remove(0)
    }

    #[test]
    fn hosts_that_only_read_get_a_namespace_of_a_controller_that_is_passed_through() {
        let (mut fake, ports) = listening();
        let disks = [Disk { controller: Some("nvme0".to_owned()), ..disk("nvme0n1", 3, 8) }];
        let config = Config { passthru: Selection::all(), ..Config::default() };
        sync_for(&hosts(&["x"], &["y"]), &disks, &config, &mut fake, &ports);
        let target = fake.target();
        let [own, readers] = decide(&Machine::new(None, &[], ""), disks.to_vec(), &config, &target)[0]
            .nqns()
            .map(|nqn| target.subsystems[&nqn].clone())
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        assert!(own.passthru.is_some() && own.namespaces.is_empty());
        let namespace = readers.namespaces.values().next().unwrap();
        assert!(readers.passthru.is_none() && namespace.readonly && namespace.enabled);
        assert_eq!(namespace.device_path, device_path(&disks[0]));
    }

    #[test]
    fn a_disk_becomes_read_only_and_writable_again_under_its_name() {
        let (mut fake, ports) = listening();
        for read_only in [false, true, true, false] {
            let disks = [Disk { read_only, ..disk("sda", 3, 8) }];
            for op in sync_plan(&disks, &fake.target(), &ports) {
                fake.apply(&op).unwrap();
            }
            let target = fake.target();
            let namespaces = target.subsystems.values().flat_map(|subsystem| subsystem.namespaces.values());
            assert_eq!(
                namespaces.map(|namespace| (namespace.enabled, namespace.readonly)).collect::<Vec<_>>(),
                [(true, read_only)]
            );
        }
    }

    #[test]
    fn a_disk_that_hangs_keeps_its_export_and_gets_none_while_it_does() {
        let machine = Machine::new(None, &[], "");
        let config = Config { readonly: Selection::all(), ..Config::default() };
        let hanging = Disk { answer: Answer::Overdue, ..disk("sda", 3, 8) };
        let before = decide(&machine, vec![hanging.clone()], &config, &Target::default());
        assert_eq!(before[0].decision, Err(Refusal::Unanswered));
        let exported = decide(&machine, vec![disk("sda", 3, 8)], &config, &Target::default());
        let target = Target { subsystems: desired(&exported, &Admission::Everyone, |_| 2), ..Target::default() };
        let after = decide(&machine, vec![hanging], &config, &target);
        assert_eq!(desired(&after, &Admission::Everyone, |_| 2), target.subsystems);
    }

    #[test]
    fn a_controller_is_passed_through_if_all_of_its_namespaces_may_be() {
        let namespace = |name: &str, diskseq, controller: &str| Disk {
            controller: Some(controller.to_owned()),
            wwid: Some(format!("wwid-{name}")),
            ..disk(name, diskseq, 8)
        };
        let disks = vec![
            namespace("nvme0n1", 3, "nvme0"),
            namespace("nvme0n2", 4, "nvme0"),
            namespace("nvme1n1", 5, "nvme1"),
            namespace("nvme1n2", 6, "nvme1"),
            disk("sda", 7, 8),
        ];
        let config = Config { passthru: Selection::all(), readonly: "nvme1n2".parse().unwrap(), ..Config::default() };
        let machine = Machine::new(None, &[], "");
        let exports = decide(&machine, disks.clone(), &config, &Target::default());
        let decisions: Vec<_> =
            exports.iter().map(|export| export.decision.clone().map(|grant| grant.access)).collect();
        assert_eq!(
            decisions,
            [
                Ok(Access::Passthru),
                Err(Refusal::PassedThrough("nvme0n1".to_owned())),
                Ok(Access::ReadWrite),
                Ok(Access::ReadOnly),
                Ok(Access::ReadWrite),
            ]
        );
        let (mut fake, ports) = listening();
        let wanted = desired(&exports, &Admission::Everyone, |_| 2);
        let controller = wanted[exports[0].nqn().unwrap()].passthru.as_deref();
        assert_eq!(controller, Some("/dev/disk/by-diskseq/3-controller"));
        for op in plan_disks(&wanted, &fake.target(), &ports).into_values().flatten() {
            fake.apply(&op).unwrap();
        }
        let after = decide(&machine, disks, &config, &fake.target());
        assert_eq!(desired(&after, &Admission::Everyone, |_| 2), wanted);
        assert_eq!(after.iter().map(|export| export.enabled).collect::<Vec<_>>(), [true, false, true, true, true]);
    }

    fn by_hand() -> Config {
        Config { export: Selection::none(), ..Config::default() }
    }

    /// A target that listens.
    fn listening() -> (Fake, Vec<PortId>) {
        let mut fake = Fake::default();
        let plan = plan_ports(&listen_addresses(true), &fake.target());
        let ports = plan.ports.iter().map(|(id, _)| *id).collect();
        for op in plan.listener.iter().chain(plan.ports.iter().flat_map(|(_, ops)| ops)) {
            fake.apply(op).unwrap();
        }
        (fake, ports)
    }

    /// The operations of a sync by command.
    fn sync_plan(disks: &[Disk], target: &Target, ports: &[PortId]) -> Vec<Op> {
        let exports = decide(&Machine::new(None, &[], ""), disks.to_vec(), &Config::default(), target);
        plan_disks(&desired(&exports, &Admission::Everyone, |_| 2), target, ports).into_values().flatten().collect()
    }

    /// The operations without any command.
    fn own_plan(disks: &[Disk], target: &Target, ports: &[PortId]) -> Vec<Op> {
        let exports = decide(&Machine::new(None, &[], ""), disks.to_vec(), &by_hand(), target);
        let plan = plan_disks(&desired(&exports, &Admission::Everyone, |_| 2), target, ports);
        plan.into_iter().filter(|(nqn, _)| !is_made_by_hand(nqn, &exports, target)).flat_map(|(_, ops)| ops).collect()
    }

    #[test]
    fn what_is_exported_by_hand_stays_and_no_other_disk_joins_it() {
        let (mut fake, ports) = listening();
        let disks = [disk("sda", 3, 8), disk("sdb", 4, 8)];
        assert_eq!(own_plan(&disks, &fake.target(), &ports), []);
        // Not even the parts of an export that is being made are touched.
        for op in sync_plan(&disks, &fake.target(), &ports) {
            fake.apply(&op).unwrap();
            let own = own_plan(&disks, &fake.target(), &ports);
            assert!(own.iter().all(|op| matches!(op, Op::Link { .. })), "after {op}: {own:?}");
        }
        let [sda, sdb] = disks;
        let late = disk("sdc", 5, 8);
        assert_eq!(own_plan(&[sda.clone(), sdb.clone(), late.clone()], &fake.target(), &ports), []);
        let after = decide(&Machine::new(None, &[], ""), vec![sda, sdb, late], &by_hand(), &fake.target());
        assert_eq!(after.iter().map(|export| export.enabled).collect::<Vec<_>>(), [true, true, false]);
        assert!(matches!(after[2].decision, Err(Refusal::ByHandOnly { .. })));
    }

    #[test]
    fn where_nothing_is_exported_by_itself_the_setting_is_the_reason_unless_the_disk_has_one() {
        let disks = vec![disk("sda", 3, 8), Disk { mounted: true, ..disk("sdb", 4, 8) }];
        let machine = Machine::new(None, &[], "");
        let all = decide(&machine, disks.clone(), &Config::default(), &Target::default());
        let none = decide(&machine, disks, &by_hand(), &Target::default());
        let Err(refusal) = &none[0].decision else { panic!("{none:?}") };
        assert_eq!(refusal.to_string(), "diskomator.export=none");
        assert!(refusal.worth_showing());
        // By hand it gets the name that it would have got by itself.
        let identity = Box::new(all[0].decision.clone().unwrap().identity);
        assert_eq!(refusal, &Refusal::ByHandOnly { identity, setting: "none".into() });
        assert_eq!(none[1].decision, Err(Refusal::Mounted));
    }

    #[test]
    fn what_is_withdrawn_by_hand_is_left_to_that_hand() {
        let (mut fake, ports) = listening();
        let disks = [disk("sda", 3, 8)];
        for op in sync_plan(&disks, &fake.target(), &ports) {
            fake.apply(&op).unwrap();
        }
        let withdrawal = plan_disks(&BTreeMap::new(), &fake.target(), &[]).into_values().flatten();
        for op in withdrawal {
            fake.apply(&op).unwrap();
            assert_eq!(own_plan(&disks, &fake.target(), &ports), [], "after {op}");
        }
    }

    #[test]
    fn a_disk_that_was_exported_by_hand_is_withdrawn_when_pulled_and_stays_so_when_it_is_back() {
        let (mut fake, ports) = listening();
        let empty = fake.target();
        for op in sync_plan(&[disk("sda", 3, 8)], &empty, &ports) {
            fake.apply(&op).unwrap();
        }
        for back in [&[][..], &[disk("sda", 9, 8)]] {
            let mut fake = fake.clone();
            for op in own_plan(back, &fake.target(), &ports) {
                fake.apply(&op).unwrap();
            }
            assert_eq!(fake.target(), empty);
        }
    }

    #[test]
    fn what_is_half_made_for_a_disk_that_is_gone_is_a_leftover() {
        let (mut fake, ports) = listening();
        let empty = fake.target();
        let plan = sync_plan(&[disk("sda", 3, 8)], &empty, &ports);
        let unlinked = plan.iter().take_while(|op| !matches!(op, Op::Link { .. }));
        unlinked.for_each(|op| fake.apply(op).unwrap());
        for op in own_plan(&[disk("sdb", 4, 8)], &fake.target(), &ports) {
            fake.apply(&op).unwrap();
        }
        assert_eq!(fake.target(), empty);
    }
}
