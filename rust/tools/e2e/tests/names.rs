//! Scripts and `fstab`s on other machines rely on names that stay, and on each of them being one disk for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use e2e::{ApplianceBuilder, Bus, Disk, Failure, Initiator, Lab, LogEntry, wait_for};
use netproto::rng::Rng;

const SOON: Duration = Duration::from_secs(60);
const BOOTS: u32 = 5;

/// The identifiers by which a host may know a disk, beside its serial number: NQN, UUID, NGUID and model.
type Names = BTreeMap<String, [String; 4]>;

/// Boots with `disks`, in that order, and connects to those of `known` by the names of yesterday.
fn names(lab: &Lab, disks: &[Disk], known: &Names) -> Result<Names, Failure> {
    let machine = disks.iter().fold(lab.appliance(), ApplianceBuilder::disk);
    let (machine, address) = lab.boot_with_address(machine)?;
    let other = lab.initiator();
    other.wait_discovered(&address, "every disk and the stick", SOON, |log| log.len() == disks.len() + 1)?;
    for [nqn, ..] in known.values() {
        other.run(&format!("nvme connect -t tcp -a {address} -s 4420 -n {nqn}"))?;
    }
    if known.is_empty() {
        other.connect_all(&address)?;
    }
    let mut names = Names::new();
    for disk in disks {
        let seen = other.wait_disk(disk.serial(), SOON)?;
        let block = seen.device.trim_start_matches("/dev/");
        let uuid = other.run(&format!("cat /sys/block/{block}/uuid"))?;
        let nguid = other.run(&format!("cat /sys/block/{block}/nguid"))?;
        names.insert(seen.serial, [seen.nqn, uuid, nguid, seen.model]);
    }
    other.disconnect_all()?;
    machine.cut_power();
    Ok(names)
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn names_are_the_same_on_every_boot_and_wherever_a_disk_is_plugged_in() -> Result<(), Failure> {
    Lab::run("names_are_the_same_on_every_boot_and_wherever_a_disk_is_plugged_in", |lab| {
        let mut disks = vec![
            lab.disk(Bus::Nvme, "NVME-7001", 64)?,
            lab.disk(Bus::Nvme, "NVME-7002", 64)?,
            lab.disk(Bus::Ahci, "SATA-7003", 64)?,
            lab.disk(Bus::Ahci, "SATA-7004", 64)?,
            lab.disk(Bus::VirtioScsi, "SCSI-7005", 64)?,
            // Those have their sockets in their names.
            lab.disk(Bus::Uas, "SCSI-7006", 64)?.in_socket(7),
            lab.disk(Bus::VirtioBlk, "VIRTIO-7007", 64)?,
            lab.disk(Bus::UsbStorage, "USB-7008", 64)?.in_socket(8),
        ];
        let first = names(lab, &disks, &Names::new())?;
        assert_eq!(first.len(), disks.len());
        let mut rng = Rng::new(7);
        for boot in 2..=BOOTS {
            // Their order decides about slots, ports and addresses.
            for i in (1..disks.len()).rev() {
                disks.swap(i, usize::try_from(rng.below(u64::try_from(i)? + 1))?);
            }
            let order: Vec<&str> = disks.iter().map(Disk::serial).collect();
            assert_eq!(names(lab, &disks, &first)?, first, "boot {boot}, disks in the order {order:?}");
        }
        Ok(())
    })
}

/// A host's identifiers of a disk: NQN, UUID and NGUID, and its device there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    nqn: String,
    ids: [String; 2],
    device: String,
}

/// A byte that hosts write here, and nothing else does.
const WRITTEN_AT: u64 = 4 << 20;

/// Writes a disk's own name to its beginning, by which a test knows it wherever it appears.
fn mark(disk: &Disk) -> Result<(), Failure> {
    Ok(fs::OpenOptions::new().write(true).open(disk.file())?.write_all_at(disk.serial().as_bytes(), 0)?)
}

/// Whether a host has written to the disk.
fn is_written(disk: &Disk) -> Result<bool, Failure> {
    let mut byte = [0];
    fs::File::open(disk.file())?.read_exact_at(&mut byte, WRITTEN_AT)?;
    Ok(byte != [0])
}

/// The disks that the host has, by what they are marked with, once all of `disks` are among them.
fn known(host: &Initiator, disks: &[&Disk]) -> Result<BTreeMap<String, Known>, Failure> {
    let known = wait_for("every disk to be read", SOON, || {
        let mut known = BTreeMap::new();
        for seen in host.list()?.into_iter().filter(|seen| seen.size > 0) {
            let block = seen.device.trim_start_matches("/dev/");
            let mark = host.run(&format!("head -c 16 {} | tr -d '\\0'", seen.device))?;
            let id = |file: &str| host.run(&format!("cat /sys/block/{block}/{file}"));
            known.insert(mark, Known { nqn: seen.nqn, ids: [id("uuid")?, id("nguid")?], device: seen.device });
        }
        let has_all = disks.iter().all(|disk| known.contains_key(disk.serial()));
        Ok(if has_all { Ok(known) } else { Err(format!("{known:?}")) })
    })?;
    Ok(known)
}

fn nqns(log: &[LogEntry]) -> BTreeSet<&str> {
    log.iter().map(|entry| entry.subnqn.as_str()).collect()
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn after_a_power_cut_no_host_goes_on_with_another_disk_nor_another_machine() -> Result<(), Failure> {
    Lab::run("after_a_power_cut_no_host_goes_on_with_another_disk_nor_another_machine", |lab| {
        // As cheap drives and bridges do. Those of one kind have one size, too.
        const WWN: u64 = 0x5000_c500_a1b2_c3d4;
        let drives = [
            lab.disk(Bus::VirtioScsi, "DRIVE-1", 32)?.with_wwn(WWN),
            lab.disk(Bus::VirtioScsi, "DRIVE-2", 32)?.with_wwn(WWN),
        ];
        let sticks = [
            lab.disk(Bus::UsbStorage, "STICK-1", 32)?.claiming("TWIN").in_socket(6),
            lab.disk(Bus::UsbStorage, "STICK-2", 32)?.claiming("TWIN").in_socket(7),
        ];
        let silent = [
            lab.disk(Bus::VirtioBlk, "SILENT-1", 32)?.claiming(""),
            lab.disk(Bus::VirtioBlk, "SILENT-2", 40)?.claiming(""),
        ];
        for disk in drives.iter().chain(&sticks).chain(&silent) {
            mark(disk)?;
        }
        let before = [&drives[0], &drives[1], &sticks[0], &sticks[1], &silent[0]];
        let after = [&drives[1], &sticks[1], &silent[1]];
        let with = |disks: &[&Disk]| disks.iter().fold(lab.appliance(), |machine, disk| machine.disk(disk));

        let (machine, address) = lab.boot_with_address(with(&before))?;
        let other = lab.initiator();
        other.wait_discovered(&address, "five disks and the stick", SOON, |log| log.len() == 6)?;
        other.connect_all(&address)?;
        let first = known(other, &before)?;
        let of = |disk: &Disk| &first[disk.serial()];
        assert_eq!(first.values().map(|known| &known.nqn).collect::<BTreeSet<_>>().len(), 6, "{first:?}");
        for gone in [&drives[0], &sticks[0], &silent[0]] {
            drop(other.start_command(&format!(
                "while head -c 4096 /dev/zero | tr '\\0' x | dd of={} bs=4096 seek={} conv=notrunc oflag=direct; do :; done",
                of(gone).device,
                WRITTEN_AT / 4096,
            ))?);
        }
        wait_for("the host to write", SOON, || {
            let written = [&drives[0], &sticks[0], &silent[0]].iter().all(|disk| is_written(disk).unwrap_or(false));
            Ok(if written { Ok(()) } else { Err("nothing is written".to_owned()) })
        })?;
        machine.cut_power();

        // The first of each kind is gone, and the host would have it back.
        let (machine, address) = lab.boot_again(with(&after))?;
        let log = other.wait_discovered(&address, "three disks and the stick", SOON, |log| log.len() == 4)?;
        for stays in [&drives[1], &sticks[1]] {
            assert!(nqns(&log).contains(of(stays).nqn.as_str()), "{} has another name now: {log:?}", stays.serial());
            let mark = other.run(&format!("head -c 16 {} | tr -d '\\0'", of(stays).device))?;
            assert_eq!(mark, stays.serial());
        }
        for gone in [&drives[0], &sticks[0]] {
            assert!(!nqns(&log).contains(of(gone).nqn.as_str()), "the name of {} is there: {log:?}", gone.serial());
        }
        // The disk that took the place of one without a serial number is another namespace of the same subsystem.
        let [uuid, _] = &of(&silent[0]).ids;
        let block = of(&silent[0]).device.trim_start_matches("/dev/");
        wait_for("the host to drop the disk that was replaced", SOON, || {
            let now = other.run(&format!("cat /sys/block/{block}/uuid || true"))?;
            Ok(if now == *uuid { Err(now) } else { Ok(()) })
        })?;
        let _ = other.try_run(&format!("nvme connect-all -t tcp -a {address}"), SOON)?;
        other.run("for controller in /sys/class/nvme/nvme*/rescan_controller; do echo 1 >$controller || true; done")?;
        let seen = wait_for("what took its place", SOON, || {
            let list = other.list()?;
            let found = list.iter().find(|seen| seen.size == silent[1].size()).cloned();
            Ok(found.ok_or_else(|| format!("{list:?}")))
        })?;
        assert_eq!(seen.nqn, of(&silent[0]).nqn);
        for disk in after {
            assert!(!is_written(disk)?, "a host went on with {}", disk.serial());
        }
        other.disconnect_all()?;
        machine.cut_power();

        // Another machine of the same make, with the same disks.
        let (_machine, address) = lab.boot_with_address(with(&after).first_mac(1))?;
        let theirs = other.wait_discovered(&address, "three disks and the stick", SOON, |log| log.len() == 4)?;
        assert_eq!(nqns(&theirs).intersection(&nqns(&log)).collect::<Vec<_>>(), Vec::<&&str>::new());
        Ok(())
    })
}
