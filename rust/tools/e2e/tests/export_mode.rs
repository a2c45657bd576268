//! A machine that exports nothing until it is told to.

use std::time::Duration;

use e2e::{Appliance, Bus, Disk, Failure, Lab, Result, wait_for};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
/// The word, and the reason that is given for each disk because of it.
const BY_HAND: &str = "diskomator.export=none";

/// The start of the first line of the kernel's log.
const POWER_ON: &str = "Linux version";

/// Waits until the list of disks gives the setting as the reason, and the daemon has said so too, after `mark` in the
/// kernel's log: a disk that it has not yet seen would be missing in the discovery log anyway.
fn wait_refused(machine: &Appliance, disk: &Disk, mark: &str) -> Result<()> {
    wait_for(&format!("{} to be left alone", disk.serial()), SOON, || {
        let text = machine.shell("diskomator export list --json")?;
        let list: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut entries = list["disks"].as_array().into_iter().flatten();
        let entry = entries.find(|entry| {
            entry["serial"] == disk.serial() && entry["state"] == "refused" && entry["reason"] == BY_HAND
        });
        let Some(name) = entry.and_then(|entry| entry["name"].as_str()) else { return Ok(Err(text)) };
        let log = machine.kernel_log()?;
        let (start, end) = (format!("diskomator-hotplug: {name} ("), format!(" is not exported: {BY_HAND}"));
        let mut since = log.rsplit(mark).next().unwrap_or_default().lines();
        let said = since.any(|line| line.contains(&start) && line.trim_end().ends_with(&end));
        Ok(if said { Ok(()) } else { Err(log) })
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_machine_told_to_export_nothing_offers_its_disks_once_somebody_types_so() -> std::result::Result<(), Failure> {
    Lab::run("a_machine_told_to_export_nothing_offers_its_disks_once_somebody_types_so", |lab| {
        let first = lab.disk(Bus::Nvme, "FIRST-6001", 64)?;
        let second = lab.disk(Bus::Ahci, "SECOND-6002", 65)?;
        let late = lab.disk(Bus::VirtioBlk, "LATE-6003", 66)?;
        let machine = lab.appliance().disk(&first).disk(&second).debug().word(BY_HAND);
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        for disk in [&first, &second] {
            wait_refused(&machine, disk, POWER_ON)?;
        }
        let log = other.wait_discovered(&address, "an answer", SOON, |_| true)?;
        assert_eq!(log, []);
        let screen = machine.shell("diskomator console --once")?;
        for text in [BY_HAND, "Alt-F9", "diskomator export sync", "diskomator.export=all"] {
            assert!(screen.contains(text), "{text} is not on the screen:\n{screen}");
        }
        assert_eq!(machine.shell("diskomator config export")?.trim(), "none");

        // With the stick that it booted from.
        machine.shell("diskomator export sync")?;
        let exported = other.wait_discovered(&address, "all disks", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        for disk in [&first, &second] {
            other.wait_disk(disk.serial(), SOON)?;
        }
        let device = other.wait_disk(second.serial(), SOON)?.device;
        let load = other.start_load(&device)?;

        // A daemon that knows nothing of what was typed, and an event for it to act on.
        machine.shell("kill -9 $(pidof diskomator-hotplug)")?;
        machine.add_disk(&late)?;
        wait_refused(&machine, &late, POWER_ON)?;
        assert_eq!(other.discover(&address)?, exported);

        // A disk that was pulled goes, and is as new when it is back.
        machine.pull_disk(&first)?;
        other.wait_gone(first.serial(), SOON)?;
        let left = other.wait_discovered(&address, "the disks that are left", SOON, |log| log.len() == 2)?;
        machine.shell("echo e2e-back >/dev/kmsg")?;
        machine.add_disk(&first)?;
        wait_refused(&machine, &first, "e2e-back")?;
        assert_eq!(other.discover(&address)?, left);

        load.finish()?;
        let errors = other.io_errors()?;
        let of_second: Vec<_> =
            errors.lines().filter(|line| line.contains(device.trim_start_matches("/dev/"))).collect();
        assert!(of_second.is_empty(), "{of_second:?}");
        Ok(())
    })
}
