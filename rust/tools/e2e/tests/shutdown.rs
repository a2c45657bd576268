//! Switching it off leaves no host hanging.

use std::thread::sleep;
use std::time::{Duration, Instant};

use e2e::{Appliance, ApplianceBuilder, Bus, Failure, Lab, Result, fio, wait_for};

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

/// Random reads, 32 at a time, until they fail.
fn hammer(device: &str) -> String {
    fio(device, "--rw=randread --bs=4k --iodepth=32 --numjobs=2 --time_based --runtime=300")
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_machine_that_hosts_keep_busy_still_switches_off() -> std::result::Result<(), Failure> {
    Lab::run("a_machine_that_hosts_keep_busy_still_switches_off", |lab| {
        let disks = [
            lab.disk(Bus::Nvme, "BUSY-1", 64)?,
            lab.disk(Bus::VirtioBlk, "BUSY-2", 64)?,
            lab.disk(Bus::Ahci, "BUSY-3", 64)?,
            lab.disk(Bus::VirtioScsi, "BUSY-4", 64)?,
        ];
        let machine = disks.iter().fold(lab.appliance(), ApplianceBuilder::disk).debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        other.wait_discovered(&address, "four disks and the stick", SOON, |log| log.len() == 5)?;
        other.connect_all(&address)?;
        let mut loads = Vec::new();
        for disk in &disks {
            loads.push(other.start_command(&hammer(&other.wait_disk(disk.serial(), SOON)?.device))?);
        }
        sleep(Duration::from_secs(3));
        machine.press_power_button()?;
        let pressed = Instant::now();
        assert_eq!(machine.wait_off(SOON)?, "guest-shutdown", "{}", machine.serial_log());
        println!("off {:.1} s after the button", pressed.elapsed().as_secs_f64());
        for load in loads {
            assert!(load.wait(SOON).is_err(), "reads of a machine that is off succeeded");
        }
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_disk_can_be_withdrawn_under_load_again_and_again() -> std::result::Result<(), Failure> {
    Lab::run("a_disk_can_be_withdrawn_under_load_again_and_again", |lab| {
        let disk = lab.disk(Bus::VirtioBlk, "TOGGLED-6003", 64)?;
        // Hosts are told for good that it is gone, as they are when the machine has been up for a while.
        let machine = lab.appliance().disk(&disk).word("nvmet.settle_secs=0").word("diskomator.export=none");
        let (machine, address) = lab.boot_with_address(machine.debug())?;
        let other = lab.initiator();
        for round in 1..=8 {
            machine.shell("diskomator export sync vda")?;
            let log = other.wait_discovered(&address, "the disk", SOON, |log| log.len() == 1)?;
            other.run(&format!("nvme connect -t tcp -a {address} -s 4420 -n {}", log[0].subnqn))?;
            let load = other.start_command(&hammer(&other.wait_disk(disk.serial(), SOON)?.device))?;
            sleep(Duration::from_millis(700));
            machine.shell("diskomator export remove vda")?;
            other.wait_gone(disk.serial(), SOON)?;
            assert!(load.wait(SOON).is_err(), "round {round}: reads of a disk that is gone succeeded");
            other.wait_given_up()?;
        }
        let log = machine.kernel_log()?;
        assert!(!log.contains("BUG:"), "{log}");
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn hosts_have_their_disks_again_after_a_power_cut() -> std::result::Result<(), Failure> {
    Lab::run("hosts_have_their_disks_again_after_a_power_cut", |lab| {
        let disk = lab.disk(Bus::Nvme, "BACK-6004", 64)?;
        let late = lab.disk(Bus::VirtioBlk, "LATE-6005", 64)?;
        let (machine, address) = lab.boot_with_address(lab.appliance().disk(&disk).disk(&late))?;
        let other = lab.initiator();
        other.wait_discovered(&address, "both disks and the stick", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        let (device, late_device) = (other.wait_disk(disk.serial(), SOON)?, other.wait_disk(late.serial(), SOON)?);
        machine.cut_power();
        // A program that waits for its disk all the while.
        let reads = [&device, &late_device].map(|disk| {
            other.start_command(&format!("dd if={} of=/dev/null bs=4k count=1 iflag=direct status=none", disk.device))
        });
        let (machine, again) = lab.boot_again(lab.appliance().disk(&disk))?;
        assert_eq!(again, address);
        other.wait_discovered(&address, "a disk and the stick", SOON, |log| log.len() == 2)?;
        // This one takes its time to spin up; its host is refused meanwhile.
        sleep(Duration::from_secs(15));
        machine.add_disk(&late)?;
        for read in reads {
            read?.wait(SOON)?;
        }
        Ok(())
    })
}
