//! Hosts whose own services find and connect the disks: Debian 13's, as its packages set them up.

use std::time::{Duration, Instant};

use e2e::{ApplianceBuilder, Boot, Bus, Failure, Init, Initiator, Lab, wait_for};

const SOON: Duration = Duration::from_secs(60);
/// Its own services take their time on an emulated processor.
const DEADLINE: Duration = Duration::from_secs(600);

/// How many connections the other machine has to disks of the appliance, by their state.
fn connections(other: &Initiator) -> e2e::Result<String> {
    other.run("for c in /sys/class/nvme/nvme*; do if grep -qs diskomator $c/subsysnqn; then cat $c/state; fi; done | sort | uniq -c")
}

fn wait_connections(other: &Initiator, what: &str, limit: Duration, wanted: &[&str]) -> e2e::Result<()> {
    wait_for(what, limit, || {
        let found = connections(other)?;
        Ok(if found.split_whitespace().eq(wanted.iter().copied()) { Ok(()) } else { Err(found) })
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
        let (machine_on, address) = lab.boot_with_address(machine())?;
        services.wait(SOON)?;
        for disk in &disks {
            other.wait_disk(disk.serial(), SOON)?;
        }
        // Each disk is there once, and has a path for each family.
        wait_connections(other, "a path over each family", SOON, &["4", "live"])?;
        assert_eq!(other.list()?.len(), 2);
        let paths = other.run("cat /sys/class/nvme/*/address")?;
        assert!(paths.contains(&format!("traddr={address},")) && paths.contains("traddr=fe80:"), "{paths}");
        let device = other.wait_disk(disks[0].serial(), SOON)?.device;
        other.run(&format!("echo found | dd of={device} bs=4096 conv=sync oflag=direct status=none"))?;
        assert!(std::fs::read(disks[0].file())?.starts_with(b"found\n"));

        let plugged = Instant::now();
        machine_on.add_disk(&late)?;
        other.wait_disk(late.serial(), SOON)?;
        println!("there {:.1} s after it was plugged in", plugged.elapsed().as_secs_f64());
        wait_connections(other, "a path over each family to the disk plugged in", SOON, &["6", "live"])?;
        machine_on.pull_disk(&late)?;
        other.wait_gone(late.serial(), SOON)?;
        wait_connections(other, "the connections to the disk that was pulled to go", SOON, &["4", "live"])?;

        machine_on.press_power_button()?;
        machine_on.wait_off(SOON)?;
        for disk in &disks {
            other.wait_gone(disk.serial(), SOON)?;
        }
        // Nothing tries to have them again until the machine is there.
        wait_connections(other, "the connections to go", SOON, &[])?;
        let on = Instant::now();
        let (_machine, _) = lab.boot_again(machine())?;
        for disk in &disks {
            other.wait_disk(disk.serial(), SOON)?;
        }
        println!("its disks are there again {:.1} s after it was switched on", on.elapsed().as_secs_f64());
        wait_connections(other, "a path over each family, again", SOON, &["4", "live"])?;
        let device = other.wait_disk(disks[0].serial(), SOON)?.device;
        let first = other.run(&format!("dd if={device} bs=4096 count=1 iflag=direct status=none | head -c 6"))?;
        assert_eq!(first, "found\n");
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
        let machine = lab.appliance().boot(Boot::Kernel).disk(&disk);
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        other.wait_discovered(&address, "the disk", SOON, |log| log.len() == 1)?;
        other.run(&format!("nvme connect-all --persistent -t tcp -a {address}"))?;
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
