//! What becomes of each disk: policy, identity and the target's state in one.

use std::collections::BTreeMap;

use crate::config::{Config, ExportMode};
use crate::disk::Disk;
use crate::identity::{self, Identity, Machine};
use crate::nvmet::model::{NSID, Subsystem, Target, is_ours};
use crate::policy::{self, Refusal};

/// A disk and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The disk.
    pub disk: Disk,
    /// What it is exported as, if it is, or why it never will be.
    pub decision: Result<Identity, Refusal>,
    /// Whether hosts can use it now.
    pub enabled: bool,
}

/// Decides on every disk of `disks`. `target` tells what is exported already.
pub fn decide(machine: &Machine, disks: Vec<Disk>, config: &Config, target: &Target) -> Vec<Export> {
    let decide = |disk: &Disk| match policy::exportable(disk, config) {
        // Who mounts a disk here that hosts have already knows what they do.
        Err(Refusal::Mounted) if exported_as(target, disk).is_some() => Ok(()),
        decision => decision,
    };
    let decisions: Vec<Result<(), Refusal>> = disks.iter().map(decide).collect();
    let chosen: Vec<&Disk> =
        disks.iter().zip(&decisions).filter(|(_, decision)| decision.is_ok()).map(|(disk, _)| disk).collect();
    let current = chosen.iter().map(|disk| exported_as(target, disk)).collect();
    let mut identities = identity::assign(machine, &chosen, current).into_iter();
    disks
        .into_iter()
        .zip(decisions)
        .filter_map(|(disk, decision)| {
            let enabled = exported_as(target, &disk).is_some();
            let decision = match decision {
                Ok(()) => {
                    let identity = identities.next()?;
                    match config.export {
                        ExportMode::None if !enabled => Err(Refusal::ByHandOnly(Box::new(identity))),
                        ExportMode::None | ExportMode::All => Ok(identity),
                    }
                }
                Err(refusal) => Err(refusal),
            };
            Some(Export { disk, decision, enabled })
        })
        .collect()
}

/// The subsystems that `exports` ask for, by NQN.
pub fn desired(exports: &[Export]) -> BTreeMap<String, Subsystem> {
    exports
        .iter()
        .filter_map(|export| {
            let identity = export.decision.as_ref().ok()?;
            Some((identity.nqn.clone(), Subsystem::disk(identity, device_path(&export.disk))))
        })
        .collect()
}

/// Whether the subsystem `nqn` is the business of whoever exports disks by hand:
/// it has the name of a disk that is not exported otherwise, so it is just
/// being made or taken down. `exports` has no claim to it, yet it is no
/// leftover, unless its device is one that is gone.
pub fn is_made_by_hand(nqn: &str, exports: &[Export], target: &Target) -> bool {
    let is_of_nqn = |export: &&Export| match &export.decision {
        Err(Refusal::ByHandOnly(identity)) => identity.nqn == nqn,
        _ => false,
    };
    let Some(export) = exports.iter().find(is_of_nqn) else { return false };
    let path = device_path(&export.disk);
    let mut namespaces = target.subsystems.get(nqn).into_iter().flat_map(|subsystem| subsystem.namespaces.values());
    namespaces.all(|namespace| namespace.device_path.is_empty() || namespace.device_path == path)
}

/// The path by which the target opens a disk. The name by `diskseq` means
/// this disk only: the kernel gives a name such as `sda` to the next disk
/// while the target may still hold the one that was pulled.
pub fn device_path(disk: &Disk) -> String {
    match disk.diskseq {
        0 => format!("/dev/{}", disk.name),
        diskseq => format!("/dev/disk/by-diskseq/{diskseq}"),
    }
}

/// What hosts know the disk as now, if it is exported. It goes on under that
/// name even if another one would be found for it today: its twin may have been
/// pulled, or a part of sysfs not be readable this time.
pub fn exported_as(target: &Target, disk: &Disk) -> Option<Identity> {
    let path = device_path(disk);
    target.subsystems.iter().filter(|(nqn, _)| is_ours(nqn)).find_map(|(nqn, subsystem)| {
        let namespace = subsystem.namespaces.get(&NSID)?;
        (namespace.enabled && namespace.device_path == path).then(|| Identity {
            nqn: nqn.clone(),
            uuid: namespace.uuid.clone(),
            nguid: namespace.nguid.clone(),
            serial: subsystem.serial.clone(),
            model: subsystem.model.clone(),
            firmware: subsystem.firmware.clone(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Attributes;
    use crate::nvmet::fake::Fake;
    use crate::nvmet::model::{PortId, listen_addresses};
    use crate::nvmet::plan::{Op, plan_disks, plan_ports};

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
        let machine = Machine::new(None, &[]);
        let disks = vec![disk("sda", 3, 8), disk("sdb", 4, 0), disk("sdc", 5, 8)];
        let before = decide(&machine, disks.clone(), &Config::default(), &Target::default());
        assert_eq!(before.iter().map(|export| export.enabled).collect::<Vec<_>>(), [false; 3]);
        assert_eq!(before[1].decision, Err(Refusal::NoMedium));

        let wanted = desired(&before);
        assert_eq!(wanted.len(), 2);
        let target = Target { subsystems: wanted, ports: BTreeMap::new() };
        let after = decide(&machine, disks, &Config::default(), &target);
        assert_eq!(after.iter().map(|export| export.enabled).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn the_name_in_use_outlives_its_reasons() {
        let before = decide(&Machine::new(None, &[]), vec![disk("sda", 3, 8)], &Config::default(), &Target::default());
        let target = Target { subsystems: desired(&before), ports: BTreeMap::new() };
        let changed = Disk { wwid: None, serial: None, mounted: true, ..disk("sda", 3, 8) };
        let machine = Machine::new(None, &[[0, 1, 2, 3, 4, 5]]);
        let after = decide(&machine, vec![changed], &Config::default(), &target);
        assert_eq!(after[0].decision, before[0].decision);
        assert!(after[0].enabled);
    }

    #[test]
    fn a_disk_that_took_the_name_of_a_pulled_one_is_not_taken_for_it() {
        let machine = Machine::new(None, &[]);
        let before = decide(&machine, vec![disk("sda", 3, 8)], &Config::default(), &Target::default());
        let target = Target { subsystems: desired(&before), ports: BTreeMap::new() };
        let after = decide(&machine, vec![disk("sda", 9, 8)], &Config::default(), &target);
        assert!(!after[0].enabled);
        assert_ne!(desired(&after), target.subsystems);
    }

    fn by_hand() -> Config {
        Config { export: ExportMode::None, ..Config::default() }
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

    /// What a sync by hand does.
    fn sync_plan(disks: &[Disk], target: &Target, ports: &[PortId]) -> Vec<Op> {
        let exports = decide(&Machine::new(None, &[]), disks.to_vec(), &Config::default(), target);
        plan_disks(&desired(&exports), target, ports).into_values().flatten().collect()
    }

    /// What is done without anybody saying so.
    fn own_plan(disks: &[Disk], target: &Target, ports: &[PortId]) -> Vec<Op> {
        let exports = decide(&Machine::new(None, &[]), disks.to_vec(), &by_hand(), target);
        let plan = plan_disks(&desired(&exports), target, ports);
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
        let after = decide(&Machine::new(None, &[]), vec![sda, sdb, late], &by_hand(), &fake.target());
        assert_eq!(after.iter().map(|export| export.enabled).collect::<Vec<_>>(), [true, true, false]);
        assert!(matches!(after[2].decision, Err(Refusal::ByHandOnly(_))));
    }

    #[test]
    fn where_nothing_is_exported_by_itself_the_setting_is_the_reason_unless_the_disk_has_one() {
        let disks = vec![disk("sda", 3, 8), Disk { read_only: true, ..disk("sdb", 4, 8) }];
        let machine = Machine::new(None, &[]);
        let all = decide(&machine, disks.clone(), &Config::default(), &Target::default());
        let none = decide(&machine, disks, &by_hand(), &Target::default());
        let Err(refusal) = &none[0].decision else { panic!("{none:?}") };
        assert_eq!(refusal.to_string(), "diskomator.export=none");
        assert!(refusal.worth_showing());
        // By hand it gets the name that it would have got by itself.
        assert_eq!(refusal, &Refusal::ByHandOnly(Box::new(all[0].decision.clone().unwrap())));
        assert_eq!(none[1].decision, Err(Refusal::ReadOnly));
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
