//! A read-only disk is not written to by any command of a host.

use std::time::Duration;

use e2e::{Bus, Disk, Drive, Failure, Initiator, Lab, digest_of_file, wait_for};

const SOON: Duration = Duration::from_secs(60);
const CARD_READ: u64 = 1 << 20;

/// Fills a disk's file with what is worth keeping.
fn fill(disk: &Disk) -> Result<String, Failure> {
    let data: Vec<u8> = (0..disk.size()).map(|i| (i % 251).to_le_bytes()[0]).collect();
    std::fs::write(disk.file(), data)?;
    Ok(digest_of_file(disk.file(), disk.size())?)
}

/// Every way there is to change a namespace, raw commands included; the names of those that succeed.
fn attack(other: &Initiator, device: &str) -> Result<Vec<String>, Failure> {
    let controller = device.trim_end_matches("n1");
    other.run("head -c 4096 /dev/urandom >/tmp/junk && head -c 16 /dev/zero >/tmp/range")?;
    let commands = [
        ("dd", format!("dd if=/tmp/junk of={device} bs=4096 oflag=direct conv=notrunc")),
        ("blkdiscard", format!("blkdiscard -f -l 1M {device}")),
        ("blkdiscard -z", format!("blkdiscard -f -z -l 1M {device}")),
        // Set Features, Namespace Write Protection Config: no write protection.
        ("unprotect", format!("nvme set-feature {controller} -n 1 -f 0x84 -V 0")),
        ("format", format!("nvme format {device} --force")),
        ("format, raw", format!("nvme admin-passthru {controller} --opcode=0x80 --namespace-id=1")),
        ("sanitize", format!("nvme admin-passthru {controller} --opcode=0x84 --cdw10=2")),
        // Write, Write Zeroes, Dataset Management (deallocate), Write Uncorrectable, Compare; as the block layer would
        // not let them through.
        ("write", format!("nvme io-passthru {device} --opcode=1 -n 1 --cdw12=7 -w -l 4096 -i /tmp/junk")),
        ("write zeroes", format!("nvme io-passthru {device} --opcode=8 -n 1 --cdw12=7")),
        ("deallocate", format!("nvme io-passthru {device} --opcode=9 -n 1 --cdw11=4 -w -l 16 -i /tmp/range")),
        ("write uncorrectable", format!("nvme io-passthru {device} --opcode=4 -n 1 --cdw12=7")),
        // Once more, now that an attempt to lift the protection was made.
        ("write again", format!("nvme io-passthru {device} --opcode=1 -n 1 --cdw12=7 -w -l 4096 -i /tmp/junk")),
    ];
    let mut succeeded = Vec::new();
    for (name, command) in commands {
        if other.try_run(&command, SOON)?.status == 0 {
            succeeded.push(name.to_owned());
        }
    }
    Ok(succeeded)
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn no_host_can_change_a_byte_of_what_is_read_only() -> Result<(), Failure> {
    Lab::run("no_host_can_change_a_byte_of_what_is_read_only", |lab| {
        // One by its own switch, one by the settings, and a third that shows that the attacks are real.
        let locked = lab.disk(Bus::VirtioScsi, "LOCKED-9001", 32)?;
        let spared = lab.disk(Bus::Nvme, "SPARED-9002", 32)?;
        let open = lab.disk(Bus::Nvme, "OPEN-9003", 32)?;
        let (kept, kept_too) = (fill(&locked)?, fill(&spared)?);
        fill(&open)?;
        let machine = lab.appliance().disk(&locked.clone().write_protected()).disk(&spared).disk(&open);
        let (machine, address) = lab.boot_with_address(machine.word("diskomator.readonly=serial:SPARED*").debug())?;
        let other = lab.initiator();
        other.wait_discovered(&address, "three disks and the stick", SOON, |log| log.len() == 4)?;
        other.connect_all(&address)?;
        for disk in [&locked, &spared] {
            let seen = other.wait_disk(disk.serial(), SOON)?;
            let name = seen.device.trim_start_matches("/dev/");
            assert_eq!((seen.size, seen.block), (disk.size(), 512));
            assert_eq!(other.run(&format!("cat /sys/block/{name}/ro"))?.trim(), "1", "the host sees it as read-only");
            let read = other.run(&format!("b2sum <{}", seen.device))?;
            let succeeded = attack(other, &seen.device)?;
            assert_eq!(succeeded, Vec::<String>::new(), "on {}", disk.serial());
            assert_eq!(other.run(&format!("echo 3 >/proc/sys/vm/drop_caches; b2sum <{}", seen.device))?, read);
        }
        assert_eq!(digest_of_file(locked.file(), locked.size())?, kept);
        assert_eq!(digest_of_file(spared.file(), spared.size())?, kept_too);

        let seen = other.wait_disk(open.serial(), SOON)?;
        let succeeded = attack(other, &seen.device)?;
        for name in ["dd", "unprotect", "write", "write zeroes", "deallocate"] {
            assert!(succeeded.iter().any(|succeeded| succeeded == name), "{name} does nothing at all: {succeeded:?}");
        }
        let list = machine.shell("diskomator export list")?;
        let states: Vec<&str> = list.lines().filter(|line| line.contains(" read-only ")).collect();
        assert_eq!(states.len(), 2, "{list}");
        other.disconnect_all()?;
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn media_come_and_go_and_hosts_see_each() -> Result<(), Failure> {
    Lab::run("media_come_and_go_and_hosts_see_each", |lab| {
        let (disc, second) = (lab.disk(Bus::VirtioScsi, "DISC", 3)?, lab.disk(Bus::VirtioScsi, "SECOND", 5)?);
        let (small, large) = (lab.disk(Bus::Sd, "SMALL", 64)?, lab.disk(Bus::Sd, "LARGE", 128)?);
        for disk in [&disc, &second, &small, &large] {
            fill(disk)?;
        }
        let machine = lab.appliance().drive(Drive::Cd).drive(Drive::CardReader).debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        // The drive can be connected to though nothing is in it, and the discs are there by themselves.
        other.wait_discovered(&address, "the stick and the CD drive", SOON, |log| log.len() == 2)?;
        other.connect_all(&address)?;
        for disc in [&disc, &second] {
            machine.open_tray(Drive::Cd)?;
            machine.insert(Drive::Cd, disc)?;
            let seen = other.wait_sized(disc.size(), SOON)?;
            assert_eq!((seen.model.as_str(), seen.block), ("QEMU CD-ROM", 2048));
            let read = other.run(&format!("b2sum <{}", seen.device))?;
            let expected = digest_of_file(disc.file(), disc.size())?;
            assert_eq!(read.split_whitespace().next(), Some(expected.as_str()));
            assert_ne!(other.try_run(&format!("echo x >{} && sync", seen.device), SOON)?.status, 0);
            machine.eject(Drive::Cd, disc)?;
            other.wait_no_medium(&seen.serial, SOON)?;
            let list = machine.shell("diskomator export list")?;
            assert!(list.lines().any(|line| line.starts_with("sr0 ") && line.contains(" empty ")), "{list}");
        }
        // A card in a SDHCI reader is a disk that is plugged in.
        for card in [&small, &large, &small] {
            machine.insert(Drive::CardReader, card)?;
            other.wait_discovered(&address, "the card", SOON, |log| log.len() == 3)?;
            other.connect_all(&address)?;
            let seen = other.wait_sized(card.size(), SOON)?;
            // An emulated reader is slow.
            let read = other.run(&format!("head -c {CARD_READ} {} | b2sum", seen.device))?;
            let expected = digest_of_file(card.file(), CARD_READ)?;
            assert_eq!(read.split_whitespace().next(), Some(expected.as_str()));
            machine.eject(Drive::CardReader, card)?;
            other.wait_discovered(&address, "no card", SOON, |log| log.len() == 2)?;
        }
        other.disconnect_all()?;
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_command_makes_a_disk_read_only_and_writable_again() -> Result<(), Failure> {
    Lab::run("a_command_makes_a_disk_read_only_and_writable_again", |lab| {
        let disk = lab.disk(Bus::VirtioBlk, "FLIPS-9301", 32)?;
        let fixed = lab.disk(Bus::Nvme, "FIXED-9302", 32)?;
        let machine = lab.appliance().disk(&disk).disk(&fixed).word("diskomator.readonly=serial:FIXED*").debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        let log = other.wait_discovered(&address, "both disks and the stick", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        let name = other.wait_disk(disk.serial(), SOON)?.nqn;
        let write = |to: &str| other.try_run(&format!("dd if=/dev/zero of={to} bs=4k count=1 oflag=direct"), SOON);
        for (verb, hosts_write) in [("readonly", false), ("readonly", false), ("readwrite", true)] {
            machine.shell(&format!("diskomator export {verb} vda"))?;
            // Hosts are told, and have it again by themselves.
            wait_for(&format!("the host to see it after {verb}"), SOON, || {
                let device = other.wait_disk(disk.serial(), SOON)?.device;
                let ro = other.try_run(&format!("cat /sys/block/{}/ro", &device[5..]), SOON)?.stdout;
                let written = write(&device)?.status == 0;
                let is_right = ro.trim() == if hosts_write { "0" } else { "1" } && written == hosts_write;
                Ok(if is_right { Ok(()) } else { Err(format!("ro is {ro:?}, and a write succeeds: {written}")) })
            })?;
        }
        assert_eq!(other.wait_disk(disk.serial(), SOON)?.nqn, name);
        assert_eq!(other.discover(&address)?.len(), log.len());

        for (words, said) in [
            ("readwrite nvme0n1", "stays read-only"),
            ("readonly sdz", "no disk is called sdz"),
            ("readonly", "say of which disks"),
        ] {
            let output = machine.try_shell(&format!("diskomator export {words} 2>&1; echo status $?"), SOON)?;
            assert!(output.stdout.contains(said) && !output.stdout.contains("status 0"), "{words}: {output:?}");
        }
        other.disconnect_all()?;
        Ok(())
    })
}
