//! What is wrong is said by name, and stops nothing else.

use std::time::Duration;

use e2e::{Bus, Failure, Lab};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn an_unknown_word_and_a_write_protected_disk_are_named_and_the_rest_works() -> Result<(), Failure> {
    Lab::run("an_unknown_word_and_a_write_protected_disk_are_named_and_the_rest_works", |lab| {
        let good = lab.disk(Bus::Nvme, "GOOD-9001", 64)?;
        let locked = lab.disk(Bus::VirtioBlk, "LOCKED-9002", 65)?.write_protected();
        let locked_scsi = lab.disk(Bus::VirtioScsi, "LOCKED-9003", 66)?.write_protected();
        let machine = lab.appliance().disk(&locked).disk(&locked_scsi).disk(&good);
        let (machine, address) = lab.boot_with_address(machine.debug().word("diskomator.flux-capacitor=1.21GW"))?;
        let other = lab.initiator();
        other.wait_discovered(&address, "the good disk and the stick", SOON, |log| log.len() == 2)?;
        other.connect_all(&address)?;
        other.wait_disk(good.serial(), SOON)?;
        let serials: Vec<_> = other.list()?.into_iter().map(|disk| disk.serial).collect();
        assert!(!serials.iter().any(|serial| serial.starts_with("LOCKED")), "{serials:?}");

        let log = machine.kernel_log()?;
        assert!(log.lines().any(|line| line.contains("diskomator.flux-capacitor")), "{log}");

        let list = machine.shell("diskomator export list --json")?;
        let list: Value = serde_json::from_str(&list)?;
        let empty = Vec::new();
        for disk in [&locked, &locked_scsi] {
            let found =
                list["disks"].as_array().unwrap_or(&empty).iter().find(|entry| entry["serial"] == disk.serial());
            let Some(entry) = found else { return Err(Failure::new(format!("{} is not in {list}", disk.serial()))) };
            assert_ne!(entry["state"], "exported", "{entry}");
            let reason = entry["reason"].as_str().unwrap_or_default();
            assert!(!reason.is_empty(), "{entry}");
            println!("{}: {reason}", disk.serial());
        }
        Ok(())
    })
}
