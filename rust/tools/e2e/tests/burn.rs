//! Sticks that `make burn` wrote.

use std::time::Duration;

use e2e::{Bus, Failure, Initiator, Lab, digest_of_file, image_file};

const SOON: Duration = Duration::from_secs(60);
/// For some 100 MiB over the network, written and read.
const BURNED: Duration = Duration::from_secs(120);

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_burned_stick_boots_whatever_its_blocks_and_its_size() -> Result<(), Failure> {
    Lab::run("a_burned_stick_boots_whatever_its_blocks_and_its_size", |lab| {
        // A FAT32 each, and the smallest file system there is.
        for (blocks, size, bytes) in [(512, "3G", 3 << 30), (4096, "3G", 3 << 30), (4096, "17M", 17 << 20)] {
            let stick = lab.burn(blocks, size)?;
            let (machine, address) =
                lab.boot_with_address(lab.appliance().image(&stick).stick_blocks(blocks).debug())?;
            let other = lab.initiator();
            other.wait_discovered(&address, "the stick", SOON, |log| log.len() == 1)?;
            other.connect_all(&address)?;
            let device = other.wait_sized(bytes, SOON)?.device;
            let name = device.trim_start_matches("/dev/");
            // The kernel there finds the partition, and says nothing of a table at the wrong place.
            other.run(&format!("test -e /sys/block/{name}/{name}p1"))?;
            let complaints = other.run("dmesg | grep -iE 'GPT:|alternate GPT' || true")?;
            assert_eq!(complaints, "", "blocks of {blocks} bytes, {size}");
            let own = machine.shell("cat /sys/block/sda/queue/logical_block_size")?;
            assert_eq!(own.trim(), blocks.to_string());
            let list = machine.shell("diskomator export list")?;
            assert!(list.contains("[boot]"), "the machine knows what it was started from: {list}");
            other.disconnect_all()?;
        }
        Ok(())
    })
}

/// Names that no other file system's short ones, and no C locale, can say.
const FOREIGN: &str = "Gäste 日本 中国 🎠";

/// Runs the writer on the other machine for a machine that admits every host, and gives what it said and how it ended.
fn burn(other: &Initiator, words: &str) -> Result<(String, i32), Failure> {
    burn_as_it_is(other, &format!("--access open --secret none {words}"))
}

/// The same with these words alone.
fn burn_as_it_is(other: &Initiator, words: &str) -> Result<(String, i32), Failure> {
    let output = other.try_run(&format!("cd /tmp && ./burn --image diskomator.raw {words} 2>&1"), BURNED)?;
    Ok((output.stdout, output.status))
}

/// That it refuses, with a reason that says `reason`, and leaves the disk alone.
fn refuses(other: &Initiator, words: &str, reason: &str) -> Result<(), Failure> {
    let (said, status) = burn(other, words)?;
    assert_eq!(status, 1, "{words}: {said}");
    assert!(said.contains("error: ") && said.contains(reason), "{words}: {said}");
    Ok(())
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn only_a_disk_that_nobody_uses_is_burned_and_it_boots_with_what_was_kept() -> Result<(), Failure> {
    Lab::run("only_a_disk_that_nobody_uses_is_burned_and_it_boots_with_what_was_kept", |lab| {
        let tools = lab.burner("TOOLS-1201")?;
        let stick = lab.disk(Bus::VirtioBlk, "STICK-1202", 1100)?.with_blocks(4096, 4096);
        let (machine, address) = lab.boot_with_address(lab.appliance().disk(&tools).disk(&stick))?;
        let other = lab.initiator();
        other.wait_discovered(&address, "the disks and the stick", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        let archive = other.wait_disk(tools.serial(), SOON)?.device;
        let device = other.wait_disk(stick.serial(), SOON)?.device;
        other.run(&format!("mkdir -p /tmp && cd /tmp && busybox tar -xf {archive} && ln -s {device} /tmp/by-id"))?;
        let forced = format!("--yes --force {device}");

        // Nothing says that it is a stick, and nobody is asked.
        refuses(other, &format!("--yes {device}"), "neither removable nor on USB")?;
        refuses(other, &format!("--force {device}"), "nobody is there to confirm it")?;
        refuses(other, "--yes /dev/vda", "this machine runs from it")?;
        refuses(other, "--yes --force /dev/nothing", "there is no /dev/nothing")?;
        refuses(other, "--yes --force diskomator.raw", "SECTOR=512 or 4096")?;
        refuses(other, "--yes --force /dev/null", "not a block device")?;
        assert_eq!(other.run(&format!("head -c 1M {device} | tr -d '\\0' | wc -c"))?.trim(), "0");

        // By any name of it.
        let (said, status) = burn(other, "--yes --force /tmp/by-id")?;
        assert_eq!(status, 0, "{said}");
        assert!(said.contains("STICK-1202") && said.contains("blocks of 4096 bytes"), "{said}");
        assert!(said.ends_with("The stick can be pulled.\n"), "{said}");
        // Its partition is there at once.
        other.run(&format!("mkdir -p /mnt/stick && mount {device}p1 /mnt/stick"))?;
        let burned = other.run("b2sum </mnt/stick/EFI/BOOT/BOOTX64.EFI")?;
        let efi = image_file("diskomator.efi")?;
        assert_eq!(burned.split_whitespace().next(), Some(digest_of_file(&efi, efi.metadata()?.len())?.as_str()));

        refuses(other, &forced, "is mounted on /mnt/stick; unmount it: sudo umount")?;
        refuses(other, &format!("--yes --force {device}p1"), &format!("DEV={device}"))?;
        other.run("mkdir /mnt/stick/own && echo mine >'/mnt/stick/own/A long name.txt' && umount /mnt/stick")?;
        // In any language, whatever this machine's own is.
        other.run(&format!("mount -o utf8 {device}p1 /mnt/stick"))?;
        other.run(&format!("cd /mnt/stick && for name in {FOREIGN}; do echo $name >$name.txt; done"))?;
        other.run("umount /mnt/stick")?;
        // Where this process does not see it.
        let elsewhere = format!("mount {device}p1 /mnt/stick && sleep 100");
        let _hidden = other.start_command(&format!("unshare -m sh -c '{elsewhere}'"))?;
        other.run("until pgrep -x sleep; do sleep 0.1; done")?;
        refuses(other, &forced, "in use by this machine")?;
        other.run("pkill -x sleep; while pgrep -x unshare; do sleep 0.1; done")?;
        other.run(&format!("blockdev --setro {device}"))?;
        refuses(other, &forced, "it is read-only")?;
        other.run(&format!("blockdev --setrw {device}"))?;
        other.run("modprobe loop && truncate -s 16M /tmp/small && losetup -b 4096 /dev/loop0 /tmp/small")?;
        refuses(other, "--yes --force /dev/loop0", "too small")?;
        other.run("truncate -s 64M /tmp/small && losetup -c /dev/loop0 && mkswap /dev/loop0 && swapon /dev/loop0")?;
        refuses(other, "--yes --force /dev/loop0", "sudo swapoff /dev/loop0")?;
        other.run("swapoff /dev/loop0")?;

        // One that is from before there were modes is not kept without a word about them.
        other.run(&format!("mount {device}p1 /mnt/stick"))?;
        other.run("mv /mnt/stick/loader/credentials/diskomator.access.cred /tmp/ && umount /mnt/stick")?;
        let (said, status) = burn_as_it_is(other, &format!("--keep {forced}"))?;
        assert_eq!(status, 1, "{said}");
        assert!(said.contains("from before hosts had to be admitted") && said.contains("ACCESS=ask"), "{said}");
        other.run(&format!("mount {device}p1 /mnt/stick"))?;
        other.run("cp /tmp/diskomator.access.cred /mnt/stick/loader/credentials/ && umount /mnt/stick")?;

        // Over itself, with what is beside the image, the mode among it.
        let (said, status) = burn_as_it_is(other, &format!("--keep {forced}"))?;
        assert_eq!(status, 0, "{said}");
        assert!(said.contains("loader/credentials/diskomator.access.cred"), "{said}");
        assert!(said.contains("own/A long name.txt"), "{said}");
        other.run(&format!("mount -o utf8 {device}p1 /mnt/stick"))?;
        assert_eq!(other.run("cat '/mnt/stick/own/A long name.txt'")?, "mine\n");
        let kept = other.run(&format!("cd /mnt/stick && for name in {FOREIGN}; do cat $name.txt; done"))?;
        assert_eq!(kept.split_whitespace().collect::<Vec<_>>().join(" "), FOREIGN);
        other.run("umount /mnt/stick")?;
        other.run(&format!("fsck.vfat -n {device}p1"))?;
        other.disconnect_all()?;
        drop(machine);
        let second = lab.disk(Bus::VirtioBlk, "STICK-1203", 64)?;
        lab.burn_disk(&second)?;
        let again = lab.appliance().image(stick.file()).stick_blocks(4096).disk(&second).debug();
        let (machine, address) = lab.boot_with_address(again)?;
        other.wait_discovered(&address, "both sticks", SOON, |log| log.len() == 2)?;
        let list = machine.shell("diskomator export list")?;
        let marked: Vec<&str> = list.lines().filter(|line| line.contains("[boot]")).collect();
        assert!(marked.len() == 1 && !marked[0].contains("STICK-1203"), "{list}");
        Ok(())
    })
}
