//! One start from a disk of the machine, and back.

use std::time::Duration;

use e2e::{Appliance, Bus, Failure, Lab, Result, wait_for};

const SOON: Duration = Duration::from_secs(60);
/// Firmware is slow where it is emulated.
const START: Duration = Duration::from_secs(300);
const LONG: Duration = Duration::from_secs(1200);
/// The specification's own variables.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// The name of the entries that are ours, letter by letter: a shell sees no zeros of UTF-16.
const OURS: &str = "Diskomator: boot this disk once";

/// Which partition the machine was started from.
fn started_from(machine: &Appliance) -> Result<String> {
    wait_for("the machine to be up", START, || {
        let path = "/sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
        Ok(match machine.try_shell(&format!("tail -c +5 {path} | tr -d '\\000'"), Duration::from_secs(5)) {
            Ok(output) if output.status == 0 && !output.stdout.is_empty() => Ok(output.stdout.trim().to_owned()),
            Ok(output) => Err(output.stdout),
            Err(error) => {
                machine.check()?;
                Err(error.to_string())
            }
        })
    })
}

/// The variables about the next start: `BootNext`, and our entry.
fn left(machine: &Appliance) -> Result<String> {
    machine.shell(&format!(
        "cd /sys/firmware/efi/efivars; for v in Boot????-{GLOBAL} BootNext-{GLOBAL}; do \
         [ ! -e $v ] || case $v in BootNext*) echo $v ;; *) tr -d '\\000' <$v | grep -q '{OURS}' && echo $v ;; esac; done; true"
    ))
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_machine_starts_from_a_disk_once_and_is_diskomator_again() -> std::result::Result<(), Failure> {
    Lab::run_for("a_machine_starts_from_a_disk_once_and_is_diskomator_again", LONG, |lab| {
        let (system, blank) = (lab.disk(Bus::Nvme, "BOOT-7001", 256)?, lab.disk(Bus::VirtioBlk, "BOOT-7002", 64)?);
        lab.burn_disk(&system)?;
        let machine = lab.appliance().disk(&system).disk(&blank).debug().restarts().deadline(LONG);
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        other.wait_discovered(&address, "both disks and the stick", SOON, |log| log.len() == 3)?;
        let stick = started_from(&machine)?;

        let refused = machine.try_shell("diskomator boot vda", SOON)?;
        assert!(refused.status == 1 && refused.stdout.contains("no EFI system partition"), "{}", refused.stdout);
        let would = machine.shell("diskomator boot --dry-run nvme0n1")?;
        assert!(would.contains("a new entry") && would.contains("again, as it did this time"), "{would}");
        assert_eq!(left(&machine)?, "");
        other.connect_all(&address)?;
        other.wait_disk(blank.serial(), SOON)?;
        let refused = machine.try_shell("diskomator boot nvme0n1", SOON)?;
        assert!(refused.status == 1 && refused.stdout.contains("one host is connected"), "{}", refused.stdout);
        assert_eq!(left(&machine)?, "");

        // Its answer may be cut off. The host is told.
        let _ = machine.try_shell("diskomator boot --force nvme0n1", SOON);
        other.wait_gone(blank.serial(), SOON)?;
        machine.wait_restart(SOON)?;
        let disk = started_from(&machine)?;
        assert_ne!(disk, stick);
        // That is Diskomator, too, and removes the entry.
        wait_for("the entry to be removed", SOON, || {
            let left = left(&machine)?;
            Ok(if left.is_empty() { Ok(()) } else { Err(left) })
        })?;
        // The firmware's order has the stick first.
        let would = machine.shell("diskomator boot --dry-run nvme0n1")?;
        assert!(would.contains("which is not what this machine was started by"), "{would}");
        let _ = machine.try_shell("diskomator reboot", SOON);
        machine.wait_restart(SOON)?;
        assert_eq!(started_from(&machine)?, stick);
        Ok(())
    })
}
