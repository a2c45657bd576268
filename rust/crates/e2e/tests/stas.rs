//! Hosts whose own services find and connect the disks.

use std::time::{Duration, Instant};

use e2e::{Boot, Bus, Failure, Init, Lab, wait_for};

const SOON: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(600);

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn with_nvme_stas_disks_connect_by_themselves() -> Result<(), Failure> {
    Lab::run_beside(Init::Systemd, "with_nvme_stas_disks_connect_by_themselves", DEADLINE, |lab| {
        let start = Instant::now();
        let disks = [lab.disk(Bus::Nvme, "STAS-4101", 64)?, lab.disk(Bus::Ahci, "STAS-4102", 64)?];
        let late = lab.disk(Bus::Nvme, "STAS-4103", 64)?;
        let other = lab.initiator();
        other.wait_ready()?;
        println!("ready after {:?}", start.elapsed());
        println!("{}", other.run("systemctl is-system-running; systemctl --failed; ps ax; systemd-analyze; systemd-analyze blame | head -20")?);
        println!("{}", other.run("sed -i 's/^#tron=false/tron=true/' /etc/stas/*.conf; systemctl enable --now avahi-daemon stafd stacd 2>&1")?);
        println!("enabled {:?}", start.elapsed());
        let machine = disks.iter().fold(lab.appliance().boot(Boot::EfiFile), e2e::ApplianceBuilder::disk);
        let machine = lab.boot(machine)?;
        for disk in &disks {
            let seen = other.wait_disk(disk.serial(), SOON * 3)?;
            println!("{} {:?}", seen.device, start.elapsed());
        }
        std::thread::sleep(Duration::from_secs(5));
        println!("{}", other.run("nvme list; nvme list-subsys; stafctl status; stacctl status; stafctl ls; stacctl ls;ls -la /sys/class/nvme")?);
        machine.add_disk(&late)?;
        let at = Instant::now();
        let seen = other.wait_disk(late.serial(), SOON)?;
        println!("{} {:?}", seen.device, at.elapsed());
        machine.pull_disk(&late)?;
        other.wait_gone(late.serial(), SOON)?;
        std::thread::sleep(Duration::from_secs(10));
        println!("{}", other.run("nvme list; nvme list-subsys; stacctl ls")?);
        machine.press_power_button()?;
        machine.wait_off(SOON)?;
        for i in 0..4 {
            std::thread::sleep(Duration::from_secs(10));
            println!("{i} {}", other.run("nvme list; nvme list-subsys; stafctl ls; stacctl ls; ls /sys/class/nvme")?);
        }
        Err(Failure::new("look"))
    })
}
