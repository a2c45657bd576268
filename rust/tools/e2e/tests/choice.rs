//! Which disks are exported, and in which parts, is for the settings to say.

use std::time::Duration;

use e2e::{Bus, Failure, Lab};

const SOON: Duration = Duration::from_secs(60);

/// A partition table of the old kind with two partitions, of 8 and 16 MiB.
fn partition_table() -> Vec<u8> {
    let mut sector = vec![0; 512];
    for (entry, (first, count)) in [(2048u32, 16384u32), (20480, 32768)].into_iter().enumerate() {
        let at = 446 + 16 * entry;
        sector[at + 4] = 0x83;
        sector[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
        sector[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn patterns_choose_disks_and_partitions_stand_for_a_disk() -> Result<(), Failure> {
    Lab::run("patterns_choose_disks_and_partitions_stand_for_a_disk", |lab| {
        let parted = lab.disk(Bus::Nvme, "PARTED-9301", 32)?;
        let wanted = lab.disk(Bus::VirtioBlk, "WANTED-9302", 33)?;
        let spared = lab.disk(Bus::VirtioBlk, "SPARED-9303", 34)?;
        let file = std::fs::OpenOptions::new().write(true).open(parted.file())?;
        std::os::unix::fs::FileExt::write_all_at(&file, &partition_table(), 0)?;
        let machine = lab.appliance().disk(&parted).disk(&wanted).disk(&spared);
        let machine =
            machine.word("diskomator.export=nvme*,virtio,!serial:SPARED*").word("diskomator.partitions=nvme*");
        let (machine, address) = lab.boot_with_address(machine.debug())?;
        let other = lab.initiator();
        other.wait_discovered(&address, "two partitions and a disk", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        other.wait_disk(wanted.serial(), SOON)?;
        let first = other.wait_sized(8 << 20, SOON)?;
        let second = other.wait_sized(16 << 20, SOON)?;
        assert_eq!((first.serial.as_str(), second.serial.as_str()), ("PARTED-9301-part1", "PARTED-9301-part2"));

        // A write lands in its partition, and nowhere else.
        other.run(&format!("echo second | dd of={} bs=4096 conv=sync oflag=direct status=none", second.device))?;
        other.disconnect_all()?;
        let disk = std::fs::read(parted.file())?;
        assert!(disk[20480 * 512..].starts_with(b"second\n"));
        assert_eq!(disk[..512], partition_table());

        let list = machine.shell("diskomator export list")?;
        let line = |word: &str| list.lines().find(|line| line.contains(word)).unwrap_or_default();
        assert!(line("SPARED").contains("diskomator.export=nvme*,virtio,!serial:SPARED*"), "{list}");
        assert!(line("nvme0n1 ").contains("its partitions are exported"), "{list}");
        // The stick, which no pattern names; it is known for what it is.
        assert!(line("[boot]").contains(" refused "), "{list}");
        Ok(())
    })
}
