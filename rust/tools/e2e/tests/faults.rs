//! Disks that hang, fail and die.

use std::time::Duration;

use e2e::{Bus, Failure, Lab, wait_for};

const SOON: Duration = Duration::from_secs(60);

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_disk_that_hangs_holds_up_no_other() -> Result<(), Failure> {
    Lab::run("a_disk_that_hangs_holds_up_no_other", |lab| {
        let good = lab.disk(Bus::Nvme, "GOOD-9101", 96)?;
        let bad = lab.disk(Bus::UsbStorage, "HUNG-9102", 64)?.that_can_hang();
        let late = lab.disk(Bus::Nvme, "LATE-9103", 32)?;
        let dead = lab.disk(Bus::VirtioBlk, "DEAD-9104", 32)?.that_can_hang();
        let (machine, address) = lab.boot_with_address(lab.appliance().disk(&good).disk(&bad).debug())?;
        let other = lab.initiator();
        other.wait_discovered(&address, "both disks and the stick", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        let load = other.start_load(&other.wait_disk(good.serial(), SOON)?.device)?;
        let device = other.wait_disk(bad.serial(), SOON)?.device;

        machine.hang_disk(&bad)?;
        let stuck = other.start_command(&format!("dd if={device} of=/dev/null bs=64k count=16 iflag=direct"))?;
        let line = wait_for("the disk to be called hung", SOON, || {
            let list = machine.shell("diskomator export list")?;
            let line = list.lines().find(|line| line.contains(bad.serial())).unwrap_or_default().to_owned();
            Ok(if line.contains(" hung ") { Ok(line) } else { Err(list) })
        })?;
        let name = line.split_whitespace().next().unwrap_or_default().to_owned();

        // Others are exported, listed and withdrawn meanwhile.
        machine.add_disk(&dead)?;
        machine.hang_disk(&dead)?;
        machine.add_disk(&late)?;
        other.wait_discovered(&address, "the disk plugged in", SOON, |log| log.len() >= 4)?;
        other.connect_all(&address)?;
        other.wait_disk(late.serial(), SOON)?;
        machine.pull_disk(&late)?;
        other.wait_gone(late.serial(), SOON)?;

        // Asked to withdraw the one that hangs, the command gives up in time, and the others stay.
        let removed = machine.try_shell(&format!("diskomator export remove {name} 2>&1; echo status $?"), SOON)?;
        assert!(removed.stdout.contains("does not answer"), "{removed:?}");
        assert!(removed.stdout.contains("status 1"), "{removed:?}");
        other.discover(&address)?;

        // It dies, and leaves nothing behind.
        machine.pull_disk(&bad)?;
        other.wait_gone(bad.serial(), SOON)?;
        assert!(stuck.wait(SOON).is_err(), "a read of a disk that died succeeded");
        wait_for("the dead disk to be withdrawn", SOON, || {
            let list = machine.shell("diskomator export list")?;
            Ok(if list.contains(bad.serial()) { Err(list) } else { Ok(()) })
        })?;
        load.finish()?;
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn an_error_of_a_disk_reaches_the_host_and_stays_there() -> Result<(), Failure> {
    Lab::run("an_error_of_a_disk_reaches_the_host_and_stays_there", |lab| {
        let bad = lab.disk(Bus::VirtioScsi, "BAD-9201", 64)?.with_bad_sector(80_000);
        let good = lab.disk(Bus::VirtioScsi, "GOOD-9202", 64)?;
        let (_machine, address) = lab.boot_with_address(lab.appliance().disk(&bad).disk(&good))?;
        let other = lab.initiator();
        other.wait_discovered(&address, "both disks and the stick", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        let load = other.start_load(&other.wait_disk(good.serial(), SOON)?.device)?;
        let device = other.wait_disk(bad.serial(), SOON)?.device;

        // As a program sees it, and as NVMe says it (NVM Command Set, status values of media errors).
        let read =
            other.try_run(&format!("dd if={device} of=/dev/null bs=512 skip=80000 count=1 iflag=direct"), SOON)?;
        assert!(read.stderr.contains("Input/output error"), "{read:?}");
        let raw = other.try_run(&format!("nvme read {device} -s 80000 -c 0 -z 512 -d /dev/null 2>&1"), SOON)?;
        println!("the host's status: {}", raw.stdout.trim());
        assert!(raw.status != 0, "{raw:?}");
        // The sectors beside it can be read, and the other disk knows nothing of it.
        other.run(&format!("dd if={device} of=/dev/null bs=1M count=36 iflag=direct status=none"))?;
        other.run(&format!("dd if={device} of=/dev/null bs=512 skip=80008 count=8 iflag=direct status=none"))?;
        load.finish()?;
        let errors = other.io_errors()?;
        let name = device.trim_start_matches("/dev/").trim_end_matches("n1");
        let others: Vec<&str> = errors.lines().filter(|line| !line.contains(name)).collect();
        assert!(others.is_empty(), "{others:?}");
        other.disconnect_all()?;
        Ok(())
    })
}
