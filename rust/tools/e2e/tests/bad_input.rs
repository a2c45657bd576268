//! A fault is named, and stops nothing else.

use std::time::Duration;

use e2e::{Bus, Failure, Lab};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn an_unknown_word_is_named_and_a_bad_choice_of_disks_keeps_them_safe() -> Result<(), Failure> {
    Lab::run("an_unknown_word_is_named_and_a_bad_choice_of_disks_keeps_them_safe", |lab| {
        let good = lab.disk(Bus::Nvme, "GOOD-9001", 64)?;
        let locked = lab.disk(Bus::VirtioBlk, "LOCKED-9002", 65)?.write_protected();
        let machine = lab.appliance().disk(&locked).disk(&good).debug();
        let machine = machine.word("diskomator.flux-capacitor=1.21GW").word("diskomator.readonly=yse");
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        other.wait_discovered(&address, "both disks and the stick", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        for disk in [&good, &locked] {
            let device = other.wait_disk(disk.serial(), SOON)?.device;
            let read_only = other.run(&format!("cat /sys/block/{}/ro", device.trim_start_matches("/dev/")))?;
            assert_eq!(read_only.trim(), "1", "{}", disk.serial());
        }
        let log = machine.kernel_log()?;
        for word in ["diskomator.flux-capacitor", "diskomator.readonly=\"yse\""] {
            assert!(log.lines().any(|line| line.contains(word)), "{word}: {log}");
        }
        let list = machine.shell("diskomator export list --json")?;
        let list: Value = serde_json::from_str(&list)?;
        let disks = list["disks"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(disks.len() == 3 && disks.iter().all(|disk| disk["state"] == "read-only"), "{list}");
        Ok(())
    })
}
