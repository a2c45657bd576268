//! Switching it off leaves no host hanging.

use std::time::Duration;

use e2e::{Appliance, Bus, Failure, Lab, Result, wait_for};

const SOON: Duration = Duration::from_secs(60);

/// A host that has a disk in use is told that it goes: its disk is gone, not waiting for ten minutes.
fn switch_off(
    name: &str,
    press: impl FnOnce(&Appliance) -> Result<()>,
    reason: &str,
) -> std::result::Result<(), Failure> {
    Lab::run(name, |lab| {
        let disk = lab.disk(Bus::Ahci, "OFF-6001", 64)?;
        let (machine, address) = lab.boot_with_address(lab.appliance().disk(&disk))?;
        let other = lab.initiator();
        other.wait_discovered(&address, "the disk and the stick", SOON, |log| log.len() == 2)?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        other.run(&format!("echo kept | dd of={device} bs=4096 conv=sync oflag=direct status=none"))?;
        press(&machine)?;
        let how = machine.wait_off(SOON)?;
        assert_eq!(how, reason, "{}", machine.serial_log());
        other.wait_gone(disk.serial(), Duration::from_secs(20))?;
        let kept = std::fs::read(disk.file())?;
        assert!(kept.starts_with(b"kept\n"));
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn the_power_button_switches_it_off_and_hosts_are_told() -> std::result::Result<(), Failure> {
    let name = "the_power_button_switches_it_off_and_hosts_are_told";
    switch_off(name, Appliance::press_power_button, "guest-shutdown")
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn ctrl_alt_del_restarts_it_and_hosts_are_told() -> std::result::Result<(), Failure> {
    switch_off("ctrl_alt_del_restarts_it_and_hosts_are_told", Appliance::press_ctrl_alt_del, "guest-reset")
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn what_a_host_was_told_is_written_is_there_after_a_poweroff_by_command() -> std::result::Result<(), Failure> {
    Lab::run("what_a_host_was_told_is_written_is_there_after_a_poweroff_by_command", |lab| {
        const BLOCK: usize = 4096;
        let disk = lab.disk(Bus::Nvme, "OFF-6002", 64)?;
        let (machine, address) = lab.boot_with_address(lab.appliance().disk(&disk).debug())?;
        let other = lab.initiator();
        other.wait_discovered(&address, "the disk and the stick", SOON, |log| log.len() == 2)?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        // Block after block, each with its number in it, until one can't be written.
        let writer = other.start_command(&format!(
            "i=0; while printf '%-8d' $i | dd of={device} bs={BLOCK} seek=$i conv=sync,notrunc,nocreat oflag=direct status=none; \
             do i=$((i+1)); echo $i >/tmp/written; done"
        ))?;
        wait_for("some blocks to be written", SOON, || {
            let written = other.run("cat /tmp/written 2>/dev/null || echo 0")?;
            Ok(if written.trim().parse::<u32>().is_ok_and(|count| count > 20) { Ok(()) } else { Err(written) })
        })?;
        // Its answer may be cut off.
        let _ = machine.try_shell("diskomator poweroff", SOON);
        assert_eq!(machine.wait_off(SOON)?, "guest-shutdown", "{}", machine.serial_log());
        other.wait_gone(disk.serial(), Duration::from_secs(20))?;
        // The last of them failed.
        writer.wait(SOON)?;
        let count: usize = other.run("cat /tmp/written")?.trim().parse()?;
        let data = std::fs::read(disk.file())?;
        let lost: Vec<usize> =
            (0..count).filter(|i| !data[i * BLOCK..].starts_with(format!("{i:<8}").as_bytes())).collect();
        println!("{count} blocks were acknowledged");
        assert!(lost.is_empty(), "of {count} blocks, these are not there: {lost:?}");
        Ok(())
    })
}
