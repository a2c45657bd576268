//! The use of the disks on another Linux machine, with nothing but nvme-cli.

use std::time::Duration;

use e2e::{ApplianceBuilder, Bus, Disk, Failure, Lab, Namespace, digest_of_file};

const SOON: Duration = Duration::from_secs(60);
/// RFC 4291, appendix A, of the prefix on the link and the first network card.
const IPV6_ADDRESS: &str = "fd77:d15c::5054:ff:fed1:5c00";
/// Random data to write, in bytes.
const DATA: u64 = 256 << 20;

/// The disk in `nvme list` is the one in the machine: its size, and the names that its maker gave it.
fn assert_same_disk(seen: &Namespace, disk: &Disk) {
    assert_eq!(seen.size, disk.size(), "size of {seen:?}");
    assert_eq!(seen.serial, disk.serial(), "serial of {seen:?}");
    assert!(seen.nqn.starts_with("nqn.2026-11.io.github.diskomator:"), "name of {seen:?}");
    match disk.bus().model() {
        Some(model) => assert_eq!(seen.model, model),
        // A virtio disk has no model of its own, yet the attribute can't be empty.
        None => assert_ne!(seen.model, ""),
    }
    if let Some(firmware) = disk.bus().firmware() {
        assert_eq!(seen.firmware, firmware);
    }
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn every_kind_of_disk_is_used_like_a_local_one() -> Result<(), Failure> {
    Lab::run("every_kind_of_disk_is_used_like_a_local_one", |lab| {
        let nvme = lab.disk(Bus::Nvme, "NVME-2001", 512)?;
        let disks = [
            nvme.clone(),
            lab.disk(Bus::Ahci, "SATA-2002", 96)?,
            lab.disk(Bus::VirtioBlk, "VIRTIO-2003", 97)?,
            lab.disk(Bus::VirtioScsi, "SCSI-2004", 98)?,
            lab.disk(Bus::UsbStorage, "USB-2005", 99)?,
            lab.disk(Bus::Uas, "UAS-2006", 100)?,
        ];
        let machine = disks.iter().fold(lab.appliance(), ApplianceBuilder::disk);
        let (_machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();

        // The stick that it booted from is a disk like any other.
        let count = disks.len() + 1;
        let log = other.wait_discovered(&address, "every disk", SOON, |log| log.len() >= count)?;
        assert_eq!(log.len(), count, "{log:?}");
        assert!(log.iter().all(|entry| entry.trsvcid == "8009" && entry.traddr == address), "{log:?}");

        // The address that it made for itself from the router's prefix and its network card's address.
        let log = other.wait_discovered(IPV6_ADDRESS, "every disk", SOON, |log| log.len() == count)?;
        assert!(log.iter().all(|entry| entry.traddr == IPV6_ADDRESS), "{log:?}");

        other.connect_all(&address)?;
        for disk in &disks {
            assert_same_disk(&other.wait_disk(disk.serial(), SOON)?, disk);
        }
        assert_eq!(other.list()?.len(), count);

        // Random data comes back after a new connection, and is on the disk.
        let device = other.wait_disk(nvme.serial(), SOON)?.device;
        let written = other.run(&format!("head -c {DATA} /dev/urandom | tee {device} | b2sum && sync"))?;
        other.disconnect_all()?;
        assert_eq!(other.list()?, []);
        other.connect_all(&address)?;
        let device = other.wait_disk(nvme.serial(), SOON)?.device;
        assert_eq!(other.run(&format!("head -c {DATA} {device} | b2sum"))?, written);
        let on_disk = digest_of_file(nvme.file(), DATA)?;
        assert_eq!(written.split_whitespace().next(), Some(on_disk.as_str()));

        // A file system, on the SATA disk.
        let device = other.wait_disk("SATA-2002", SOON)?.device;
        other.run(&format!("mkfs.ext4 -q {device} && mount {device} /mnt"))?;
        let copied = other.run("cp /usr/bin/fio /mnt/ && b2sum </usr/bin/fio && umount /mnt")?;
        other.run(&format!("fsck.ext4 -f -n {device}"))?;
        let read = other.run(&format!("mount -o ro {device} /mnt && b2sum </mnt/fio && umount /mnt"))?;
        assert_eq!(read, copied);
        assert_eq!(other.io_errors()?, "");
        other.disconnect_all()?;
        Ok(())
    })
}
