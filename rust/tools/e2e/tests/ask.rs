//! A machine that asks a person about each host, as it does unless it is told otherwise (`diskomator.access=ask`).

use std::time::Duration;

use e2e::{Appliance, Boot, Bus, Failure, Lab, Result, digest_of_file, wait_for};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// Waits until the screen has a text.
fn wait_shown(machine: &Appliance, text: &str) -> Result<()> {
    wait_for(&format!("{text:?} on the screen"), SOON, || {
        let screen = machine.screen_text()?;
        Ok(if screen.contains(text) { Ok(()) } else { Err(screen) })
    })
}

/// The list that `diskomator hosts` has of hosts in one state.
fn hosts(machine: &Appliance, list: &str) -> Result<Vec<Value>> {
    let all: Value = serde_json::from_str(&machine.shell("diskomator hosts --json")?).unwrap_or_default();
    Ok(all[list].as_array().cloned().unwrap_or_default())
}

fn wait_requests(machine: &Appliance, count: usize) -> Result<()> {
    wait_for(&format!("{count} requests"), SOON, || {
        let requests = hosts(machine, "requests")?;
        Ok(if requests.len() == count { Ok(()) } else { Err(format!("{requests:?}")) })
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_host_gets_the_disks_once_a_person_at_the_screen_admits_it() -> std::result::Result<(), Failure> {
    Lab::run("a_host_gets_the_disks_once_a_person_at_the_screen_admits_it", |lab| {
        let disk = lab.disk(Bus::Nvme, "ASK-1", 64)?;
        let machine = lab.appliance().as_shipped().resolution(1280, 800).disk(&disk).debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        wait_shown(&machine, "then asks here")?;
        assert!(!machine.screen_text()?.contains("Everyone on this network"));

        // A stock host finds no disk, and appears on the screen.
        other.try_run(&format!("nvme connect-all -t tcp -a {address}"), SOON)?;
        assert!(other.list()?.iter().all(|namespace| namespace.serial != disk.serial()));
        wait_shown(&machine, "1: 192.168.77.1 asks for the disks")?;
        wait_requests(&machine, 1)?;
        // A key that answers no question does nothing.
        machine.press_keys(&["c", "a"])?;
        wait_shown(&machine, "any other key")?;
        machine.press_keys(&["n"])?;
        wait_shown(&machine, "Nothing was done.")?;
        assert!(hosts(&machine, "admitted")?.is_empty());
        machine.press_keys(&["a"])?;
        wait_shown(&machine, "read and overwrite all disks")?;
        machine.press_keys(&["y"])?;
        wait_shown(&machine, "done: diskomator allow 1")?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        other.run(&format!("dd if=/dev/urandom of={device} bs=1M count=1 oflag=direct 2>&1"))?;
        wait_shown(&machine, "connected")?;

        // Its admission is taken back: the connections end, and for a minute it raises no question.
        machine.press_keys(&["x"])?;
        wait_shown(&machine, "Take the admission")?;
        machine.press_keys(&["y"])?;
        other.wait_given_up()?;
        other.try_run(&format!("nvme connect-all -t tcp -a {address}"), SOON)?;
        assert!(other.list()?.iter().all(|namespace| namespace.serial != disk.serial()));
        assert!(hosts(&machine, "requests")?.is_empty() && hosts(&machine, "denied")?.len() == 1);
        wait_for("the end of the denial", Duration::from_secs(90), || {
            let denied = hosts(&machine, "denied")?;
            Ok(if denied.is_empty() { Ok(()) } else { Err(format!("{denied:?}")) })
        })?;

        // Now it may only read.
        let before = digest_of_file(disk.file(), disk.size())?;
        other.try_run(&format!("nvme connect-all -t tcp -a {address}"), SOON)?;
        wait_shown(&machine, "2: asks")?;
        machine.press_keys(&["r", "y"])?;
        wait_shown(&machine, "done: diskomator allow 2 --read-only")?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        let write = other.try_run(&format!("dd if=/dev/zero of={device} bs=1M count=1 oflag=direct 2>&1"), SOON)?;
        assert!(write.status != 0, "{}", write.stdout);
        other.run(&format!("dd if={device} of=/dev/null bs=1M count=1 iflag=direct 2>&1"))?;
        other.disconnect_all()?;
        assert_eq!(digest_of_file(disk.file(), disk.size())?, before);
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_host_whose_disk_is_in_use_waits_for_an_answer_after_a_power_cut() -> std::result::Result<(), Failure> {
    Lab::run("a_host_whose_disk_is_in_use_waits_for_an_answer_after_a_power_cut", |lab| {
        let disk = lab.disk(Bus::Nvme, "ASK-2", 64)?;
        let machine = || lab.appliance().boot(Boot::Kernel).disk(&disk).word("diskomator.access=ask").debug();
        let (first, address) = lab.boot_with_address(machine())?;
        let other = lab.initiator();
        other.try_run(&format!("nvme connect-all -t tcp -a {address}"), SOON)?;
        wait_requests(&first, 1)?;
        // On the serial line a whole word with its number is the answer, and nothing less.
        first.type_on_serial("xa\rallow\r3\r")?;
        assert!(hosts(&first, "admitted")?.is_empty());
        first.shell("diskomator allow 1")?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        let load = other.start_load(&device)?;
        first.cut_power();
        let (second, _) = lab.boot_again(machine())?;
        wait_requests(&second, 1)?;
        std::thread::sleep(Duration::from_secs(60));
        let number = hosts(&second, "requests")?[0]["number"].clone();
        second.shell(&format!("diskomator allow {number}"))?;
        load.finish()?;
        assert_eq!(other.io_errors()?, "");
        Ok(())
    })
}
