//! Switching it off leaves no host hanging.

use std::time::Duration;

use e2e::{Appliance, Bus, Failure, Lab, Result};

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
