//! Commands of a disk beyond reads and writes.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use e2e::{Bus, Failure, Initiator, Lab, digest_of_file, wait_for};

const SOON: Duration = Duration::from_secs(60);

/// A file of the disk's queue directory on the other machine.
fn queue(other: &Initiator, device: &str, file: &str) -> Result<u64, Failure> {
    let text = other.run(&format!("cat /sys/block/{}/queue/{file}", device.trim_start_matches("/dev/")))?;
    Ok(text.trim().parse()?)
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn what_a_disk_can_do_its_host_can_use() -> Result<(), Failure> {
    Lab::run("what_a_disk_can_do_its_host_can_use", |lab| {
        let emulating = lab.disk(Bus::VirtioScsi, "CAP-512E", 64)?.with_blocks(512, 4096).with_optimal_io(65536);
        let native = lab.disk(Bus::VirtioBlk, "CAP-4KN", 64)?.with_blocks(4096, 4096);
        let (machine, address) = lab.boot_with_address(lab.appliance().disk(&emulating).disk(&native).debug())?;
        let other = lab.initiator();
        other.wait_discovered(&address, "both disks and the stick", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;

        for (disk, logical, physical, optimal) in [(&emulating, 512, 4096, 65536), (&native, 4096, 4096, 0)] {
            let device = other.wait_disk(disk.serial(), SOON)?.device;
            let queue = |file| queue(other, &device, file);
            assert_eq!(queue("logical_block_size")?, logical, "{}", disk.serial());
            assert_eq!(queue("physical_block_size")?, physical, "{}", disk.serial());
            assert_eq!(queue("optimal_io_size")?, optimal, "{}", disk.serial());
            assert_eq!(queue("fua")?, 1);
            // Atomic in case of a power cut (NAWUPF, zero-based, in logical blocks): a physical block.
            let namespace = other.run(&format!("nvme id-ns {device} | sed -n 's/^nawupf *: *//p'"))?;
            assert_eq!(namespace.trim(), (physical / logical - 1).to_string(), "{}", disk.serial());

            let blocks = || -> Result<u64, Failure> { Ok(disk.file().metadata()?.blocks()) };
            other.run(&format!("dd if=/dev/urandom of={device} bs=1M count=16 oflag=direct status=none"))?;
            let written = blocks()?;
            assert!(written >= 16 << 11, "{written} sectors hold 16 MiB");
            other.run(&format!("blkdiscard -o 0 -l 8M {device}"))?;
            let left = blocks()?;
            assert!(left <= written - (7 << 11), "{written} sectors before 8 MiB were discarded, {left} after");
            other.run(&format!("blkdiscard -z -o 8M -l 8M {device}"))?;
            let other_than_zero = other.run(&format!("head -c 16M {device} | tr -d '\\0' | wc -c"))?;
            assert_eq!(other_than_zero.trim(), "0", "{}", disk.serial());
        }

        // A flush of the host is one of the disk. The sixteenth field of its `stat` counts them.
        let device = other.wait_disk(emulating.serial(), SOON)?.device;
        let flushes = || -> Result<u64, Failure> {
            Ok(machine.shell("awk '{ print $16 }' /sys/block/sda/stat")?.trim().parse()?)
        };
        let before = flushes()?;
        other.run(&format!("dd if=/dev/zero of={device} bs=4k count=1 conv=fsync status=none"))?;
        assert!(flushes()? > before, "no flush came to the disk");
        other.disconnect_all()?;
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_controller_that_is_passed_through_takes_any_command() -> Result<(), Failure> {
    Lab::run("a_controller_that_is_passed_through_takes_any_command", |lab| {
        let disk = lab.disk(Bus::Nvme, "THROUGH-1", 64)?;
        let kept = lab.disk(Bus::Nvme, "KEPT-2", 64)?;
        let machine = lab.appliance().disk(&disk).disk(&kept);
        let machine = machine.word("diskomator.passthru").word("diskomator.readonly=serial:KEPT-2").debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        let log = other.wait_discovered(&address, "both disks and the stick", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        let list = machine.shell("diskomator export list")?;
        let state = |serial: &str| -> String {
            let line = list.lines().find(|line| line.contains(serial)).unwrap_or_default();
            ["passthru", "read-only"].into_iter().filter(|word| line.contains(word)).collect()
        };
        assert_eq!([state("THROUGH-1"), state("KEPT-2")], ["passthru", "read-only"], "{list}");

        // QEMU's controllers are at 50 degrees Celsius; the target's own are at none.
        let smart = other.run(&format!("nvme smart-log {device} -o json"))?;
        assert!(smart.contains("\"temperature\":323"), "{smart}");
        other.run(&format!("dd if=/dev/urandom of={device} bs=1M count=32 oflag=direct status=none"))?;
        let there = other.run(&format!("head -c 32M {device} | b2sum"))?;
        assert_eq!(there.split_whitespace().next(), Some(digest_of_file(disk.file(), 32 << 20)?.as_str()));
        other.run(&format!("nvme format {device} --ses=0 --force"))?;
        other.run(&format!("nvme get-feature {device} -f 6"))?;
        let firmware = other.run(&format!("nvme fw-log {device}"))?;
        assert!(firmware.contains("frs1"), "{firmware}");

        // Pulled, it goes; put back, it is the same.
        machine.pull_disk(&disk)?;
        other.wait_discovered(&address, "one disk less", SOON, |log| log.len() == 2)?;
        other.wait_gone(disk.serial(), SOON)?;
        machine.add_disk(&disk)?;
        let again = other.wait_discovered(&address, "the disk again", SOON, |log| log.len() == 3)?;
        assert_eq!(names(&log), names(&again));
        other.connect_all(&address)?;
        other.wait_disk(disk.serial(), SOON)?;
        other.run("nvme list-subsys")?;
        other.disconnect_all()?;
        wait_for("the hosts to be gone", SOON, || {
            let list = machine.shell("diskomator export list --json | grep -c hostnqn || true")?;
            Ok(if list.trim() == "0" { Ok(()) } else { Err(list) })
        })?;
        Ok(())
    })
}

fn names(log: &[e2e::LogEntry]) -> Vec<&str> {
    let mut names: Vec<&str> = log.iter().map(|entry| entry.subnqn.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_zoned_disk_is_zoned_for_its_host_too() -> Result<(), Failure> {
    Lab::run("a_zoned_disk_is_zoned_for_its_host_too", |lab| {
        let disk = lab.disk(Bus::Nvme, "ZONED-1", 64)?.with_zones(4 << 20);
        let (_machine, address) = lab.boot_with_address(lab.appliance().disk(&disk))?;
        let other = lab.initiator();
        other.wait_discovered(&address, "the disk and the stick", SOON, |log| log.len() == 2)?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        let zones = other.run(&format!("blkzone report {device}"))?;
        assert_eq!(zones.lines().count(), 16, "{zones}");
        // In order, and not otherwise.
        other.run(&format!("dd if=/dev/urandom of={device} bs=64k count=16 oflag=direct status=none"))?;
        let wrong = other.try_run(&format!("dd if=/dev/zero of={device} bs=64k count=1 seek=32 oflag=direct"), SOON)?;
        assert!(wrong.status != 0, "{wrong:?}");
        let there = other.run(&format!("head -c 1M {device} | b2sum"))?;
        assert_eq!(there.split_whitespace().next(), Some(digest_of_file(disk.file(), 1 << 20)?.as_str()));
        other.run(&format!("blkzone reset -o 0 -c 1 {device}"))?;
        other.run(&format!("dd if=/dev/urandom of={device} bs=64k count=1 oflag=direct status=none"))?;
        other.disconnect_all()?;
        Ok(())
    })
}
