//! Hosts whose own services find and connect the disks: Debian 13's, as its packages set them up.

use std::time::{Duration, Instant};

use e2e::{ApplianceBuilder, Boot, Bus, Failure, Init, Initiator, Lab, wait_for};

/// Services in Python take their time on an emulated processor.
const SOON: Duration = Duration::from_secs(120);
const DEADLINE: Duration = Duration::from_secs(1200);

/// Waits until the other machine is connected to so many disks of the appliance, and tries to be to no other.
fn wait_connected(other: &Initiator, disks: usize) -> e2e::Result<()> {
    let command = "grep -hs diskomator /sys/class/nvme/nvme*/subsysnqn | sort -u";
    wait_for(&format!("connections to {disks} disks"), SOON, || {
        let names = other.run(command)?;
        Ok(if names.lines().count() == disks { Ok(()) } else { Err(names) })
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn with_nvme_stas_disks_connect_by_themselves() -> Result<(), Failure> {
    Lab::run_beside(Init::Systemd, "with_nvme_stas_disks_connect_by_themselves", DEADLINE, |lab| {
        let disks = [lab.disk(Bus::Nvme, "STAS-4101", 64)?, lab.disk(Bus::Ahci, "STAS-4102", 64)?];
        let late = lab.disk(Bus::UsbStorage, "STAS-4103", 64)?;
        let machine = || disks.iter().fold(lab.appliance().boot(Boot::EfiFile), ApplianceBuilder::disk);
        let other = lab.initiator();
        // The packages enable and start their services, which name the host, too. That is all; and what starts first
        // does not matter.
        let services = "rm /etc/nvme/hostnqn /etc/nvme/hostid; systemctl enable --now avahi-daemon stafd stacd";
        other.wait_ready()?;
        let services = other.start_command(services)?;
        let mut machine_on = lab.boot(machine())?;
        services.wait(SOON)?;
        for disk in &disks {
            other.wait_disk(disk.serial(), SOON)?;
        }
        // However many paths there are: avahi names one address for each family that the link has, of any family.
        wait_connected(other, disks.len())?;
        assert_eq!(other.list()?.len(), disks.len());
        println!("paths:\n{}", other.run("cat /sys/class/nvme/nvme*/address")?);
        let device = other.wait_disk(disks[0].serial(), SOON)?.device;
        other.run(&format!("echo found | dd of={device} bs=4096 conv=sync oflag=direct status=none"))?;
        assert!(std::fs::read(disks[0].file())?.starts_with(b"found\n"));

        let plugged = Instant::now();
        machine_on.add_disk(&late)?;
        other.wait_disk(late.serial(), SOON)?;
        println!("there {:.1} s after it was plugged in", plugged.elapsed().as_secs_f64());
        wait_connected(other, 3)?;
        machine_on.pull_disk(&late)?;
        other.wait_gone(late.serial(), SOON)?;
        wait_connected(other, 2)?;
        machine_on.add_disk(&late)?;
        other.wait_disk(late.serial(), SOON)?;
        wait_connected(other, 3)?;

        // Off for a moment, and for so long that the kernel gives up, which is ten minutes if nobody says otherwise.
        for is_long in [false, true] {
            machine_on.press_power_button()?;
            machine_on.wait_off(SOON)?;
            for disk in disks.iter().chain([&late]) {
                other.wait_gone(disk.serial(), SOON)?;
            }
            // Nothing tries to have them again until the machine is there.
            wait_connected(other, 0)?;
            if is_long {
                other.run("for limit in /sys/class/nvme/nvme*/ctrl_loss_tmo; do echo 10 >$limit; done")?;
                wait_for("the kernel to give up", SOON, || {
                    let left = other.run("ls /sys/class/nvme")?;
                    Ok(if left.is_empty() { Ok(()) } else { Err(left) })
                })?;
            }
            let on = Instant::now();
            machine_on = lab.boot_again(machine())?.0;
            for disk in &disks {
                other.wait_disk(disk.serial(), SOON)?;
            }
            println!("its disks are there again {:.1} s after it was switched on", on.elapsed().as_secs_f64());
            wait_connected(other, disks.len())?;
            let device = other.wait_disk(disks[0].serial(), SOON)?.device;
            let first = other.run(&format!("dd if={device} bs=4096 count=1 iflag=direct status=none | head -c 6"))?;
            assert_eq!(first, "found\n");
        }
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn with_a_discovery_connection_that_stays_later_disks_connect_by_themselves() -> Result<(), Failure> {
    let name = "with_a_discovery_connection_that_stays_later_disks_connect_by_themselves";
    Lab::run_beside(Init::Systemd, name, DEADLINE, |lab| {
        let disk = lab.disk(Bus::Nvme, "STAYS-4111", 64)?;
        let late = lab.disk(Bus::UsbStorage, "STAYS-4112", 64)?;
        let machine = lab.appliance().as_shipped().boot(Boot::Kernel).disk(&disk).debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        other.run("modprobe nvme-tcp")?;
        // Nobody has admitted it yet: it waits, and when it is admitted nothing is typed on it.
        other.run(&format!("nvme connect-all --persistent -t tcp -a {address}"))?;
        assert_eq!(other.list()?, []);
        wait_for("its request", SOON, || {
            let answer = machine.try_shell("diskomator allow 1", SOON)?;
            Ok(if answer.status == 0 { Ok(()) } else { Err(answer.stdout) })
        })?;
        other.wait_disk(disk.serial(), SOON)?;
        let plugged = Instant::now();
        machine.add_disk(&late)?;
        other.wait_disk(late.serial(), SOON)?;
        println!("there {:.1} s after it was plugged in", plugged.elapsed().as_secs_f64());
        machine.pull_disk(&late)?;
        other.wait_gone(late.serial(), SOON)?;
        Ok(())
    })
}
