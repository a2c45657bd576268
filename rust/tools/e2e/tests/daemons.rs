//! The appliance's daemons may die at any moment.

use std::time::Duration;

use e2e::{Appliance, Bus, Failure, Lab, Result, wait_for};

const SOON: Duration = Duration::from_secs(60);

/// The process whose name the kernel knows as `comm`, if it runs.
fn process(machine: &Appliance, comm: &str) -> Result<Option<u32>> {
    let found = machine.shell(&format!(
        "for p in /proc/[0-9]*; do read -r n 2>/dev/null <$p/comm && [ \"$n\" = {comm} ] && echo ${{p#/proc/}}; done; true"
    ))?;
    Ok(found.lines().find_map(|line| line.trim().parse().ok()))
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn killing_any_daemon_disturbs_no_read_or_write() -> std::result::Result<(), Failure> {
    Lab::run("killing_any_daemon_disturbs_no_read_or_write", |lab| {
        let disk = lab.disk(Bus::Nvme, "BUSY-4001", 128)?;
        let late = lab.disk(Bus::VirtioBlk, "LATE-4002", 64)?;
        let (machine, address) = lab.boot_with_address(lab.appliance().disk(&disk).debug())?;
        let other = lab.initiator();
        other.wait_discovered(&address, "the disk and the stick", SOON, |log| log.len() == 2)?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        let load = other.start_load(&device)?;
        // The kernel keeps 15 bytes of a process's name.
        for comm in ["diskomator-hotp", "diskomator-dhcp", "diskomator-mdns", "diskomator-cons"] {
            let Some(before) = process(&machine, comm)? else {
                return Err(Failure::new(format!("{comm} does not run")));
            };
            machine.shell(&format!("kill -9 {before}"))?;
            wait_for(&format!("another {comm}"), SOON, || {
                let now = process(&machine, comm)?;
                Ok(if now.is_some_and(|pid| pid != before) { Ok(()) } else { Err(format!("{now:?}")) })
            })?;
        }
        machine.add_disk(&late)?;
        other.wait_discovered(&address, "the disk plugged in", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        other.wait_disk(late.serial(), SOON)?;
        load.finish()?;
        assert_eq!(other.io_errors()?, "");
        Ok(())
    })
}
