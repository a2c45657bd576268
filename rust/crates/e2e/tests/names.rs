//! Scripts and `fstab`s on other machines rely on names that stay.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::{Bus, Disk, Failure, Lab};

const SOON: Duration = Duration::from_secs(60);

/// What a host may know a disk by: name, UUID, NGUID, serial number and model of each.
fn names(lab: &Lab, disks: &[&Disk]) -> Result<BTreeSet<[String; 5]>, Failure> {
    let machine = disks.iter().fold(lab.appliance(), |machine, disk| machine.disk(disk));
    let (machine, address) = lab.boot_with_address(machine)?;
    let other = lab.initiator();
    let count = disks.len() + 1;
    other.wait_discovered(&address, "every disk", SOON, |log| log.len() >= count)?;
    other.connect_all(&address)?;
    let mut names = BTreeSet::new();
    for disk in disks {
        let seen = other.wait_disk(disk.serial(), SOON)?;
        let block = seen.device.trim_start_matches("/dev/");
        let uuid = other.run(&format!("cat /sys/block/{block}/uuid"))?;
        let nguid = other.run(&format!("cat /sys/block/{block}/nguid"))?;
        names.insert([seen.nqn, uuid, nguid, seen.serial, seen.model]);
    }
    other.disconnect_all()?;
    machine.cut_power();
    Ok(names)
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn names_are_the_same_on_every_boot_and_in_every_order() -> Result<(), Failure> {
    Lab::run("names_are_the_same_on_every_boot_and_in_every_order", |lab| {
        let nvme = lab.disk(Bus::Nvme, "NVME-7001", 64)?;
        let second_nvme = lab.disk(Bus::Nvme, "NVME-7002", 64)?;
        let sata = lab.disk(Bus::Ahci, "SATA-7003", 64)?;
        let scsi = lab.disk(Bus::VirtioScsi, "SCSI-7004", 64)?;
        let virtio = lab.disk(Bus::VirtioBlk, "VIRTIO-7005", 64)?;
        let stick = lab.disk(Bus::UsbStorage, "USB-7006", 64)?;
        let first = names(lab, &[&nvme, &second_nvme, &sata, &scsi, &virtio, &stick])?;
        let again = names(lab, &[&stick, &virtio, &scsi, &sata, &second_nvme, &nvme])?;
        assert_eq!(first, again);
        assert_eq!(first.len(), 6);
        Ok(())
    })
}
