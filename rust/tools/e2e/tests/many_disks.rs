//! A machine full of disks.

use std::time::Duration;

use e2e::{ApplianceBuilder, Bus, Disk, Failure, Lab, wait_for};

const SOON: Duration = Duration::from_secs(90);
const COUNT: usize = 64;

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn sixty_four_disks_in_128_mib_of_memory() -> Result<(), Failure> {
    Lab::run("sixty_four_disks_in_128_mib_of_memory", |lab| {
        let disks: Vec<Disk> =
            (0..COUNT).map(|i| lab.disk(Bus::VirtioScsi, &format!("MANY-{i:04}"), 16)).collect::<Result<_, _>>()?;
        let machine = disks.iter().fold(lab.appliance().memory(128), ApplianceBuilder::disk);
        let (machine, address) = lab.boot_with_address(machine.debug())?;
        let other = lab.initiator();
        other.wait_discovered(&address, "all disks and the stick", SOON, |log| log.len() == COUNT + 1)?;
        let log = machine.kernel_log()?;
        let at = |line: &str| -> Option<f64> { line.strip_prefix('[')?.split(']').next()?.trim().parse().ok() };
        let last = |text: &str| log.lines().filter(|line| line.contains(text)).filter_map(at).fold(0.0, f64::max);
        let (attached, exported) = (last("Attached SCSI"), last("adding nsid 1"));
        println!("the last of {COUNT} disks was there at {attached:.2} s and exported at {exported:.2} s");

        // Pulled and put back one by one, while one of them is used.
        let steady = &disks[0];
        let entry =
            log.lines().find(|line| line.contains("adding nsid 1") && line.to_lowercase().contains("many-0000"));
        let name = entry.and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned();
        other.run(&format!("nvme connect -t tcp -a {address} -s 4420 -n {name}"))?;
        let load = other.start_load_of(&other.wait_disk(steady.serial(), SOON)?.device, 8)?;
        for disk in &disks[1..] {
            machine.pull_disk(disk)?;
        }
        other.wait_discovered(&address, "one disk and the stick", SOON, |log| log.len() == 2)?;
        for disk in &disks[1..] {
            machine.add_disk(disk)?;
        }
        other.wait_discovered(&address, "all disks again", SOON, |log| log.len() == COUNT + 1)?;
        load.finish()?;
        let left = wait_for("the last worker to end", SOON, || {
            let left = machine.shell("ls /sys/kernel/config/nvmet/subsystems | wc -l")?;
            // The listener is one.
            Ok(if left.trim() == (COUNT + 2).to_string() { Ok(left) } else { Err(left) })
        })?;
        println!(
            "subsystems in the end: {}; {}",
            left.trim(),
            machine.shell("grep MemAvailable /proc/meminfo")?.trim()
        );
        assert_eq!(other.io_errors()?, "");
        other.disconnect_all()?;
        Ok(())
    })
}
