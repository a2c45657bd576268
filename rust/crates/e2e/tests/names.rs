//! Scripts and `fstab`s on other machines rely on names that stay.

use std::collections::BTreeMap;
use std::time::Duration;

use diskomator_core::rng::Rng;
use e2e::{ApplianceBuilder, Bus, Disk, Failure, Lab};

const SOON: Duration = Duration::from_secs(60);
const BOOTS: u32 = 5;

/// What a host may know a disk by, beside its serial number: NQN, UUID, NGUID and model.
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
            lab.disk(Bus::Uas, "SCSI-7006", 64)?,
            lab.disk(Bus::VirtioBlk, "VIRTIO-7007", 64)?,
            lab.disk(Bus::UsbStorage, "USB-7008", 64)?,
        ];
        let first = names(lab, &disks, &Names::new())?;
        assert_eq!(first.len(), disks.len());
        let mut rng = Rng::new(7);
        for boot in 2..=BOOTS {
            // Their order decides about slots, ports and addresses. SCSI disks move to another bus.
            for i in (1..disks.len()).rev() {
                disks.swap(i, usize::try_from(rng.below(u64::try_from(i)? + 1))?);
            }
            for disk in &mut disks {
                *disk = match disk.bus() {
                    Bus::VirtioScsi => disk.clone().at(Bus::Uas),
                    Bus::Uas => disk.clone().at(Bus::VirtioScsi),
                    _ => continue,
                };
            }
            let order: Vec<&str> = disks.iter().map(Disk::serial).collect();
            assert_eq!(names(lab, &disks, &first)?, first, "boot {boot}, disks in the order {order:?}");
        }
        Ok(())
    })
}
