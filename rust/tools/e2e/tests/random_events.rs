//! Disks that come, go and grow, media that are changed, daemons that die and a network that fails, by chance, against a
//! model of what should be.
//!
//! A longer run: `EVENTS=200 SEED=7 make test E2E=by_chance`.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use e2e::{Appliance, Bus, Disk, Drive, Failure, Lab, Result, wait_for};
use netproto::rng::Rng;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
/// The kernel's name of the CD drive.
const DRIVE: &str = "sr0";
/// How often the machine is compared with the model, in events.
const COMPARE: u64 = 5;
/// The memory that may be used more in the end than in the beginning, in KiB.
const MEMORY: u64 = 12 << 10;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Size by serial number, of what hosts can use, or by name where there is none.
type Model = BTreeMap<String, u64>;

fn exported(machine: &Appliance) -> Result<Model> {
    let text = machine.shell("diskomator export list --json")?;
    let list: Value = serde_json::from_str(&text).map_err(|source| e2e::Error::Json {
        what: "diskomator export list",
        text: text.clone(),
        source,
    })?;
    let disks = list.get("disks").and_then(Value::as_array).into_iter().flatten();
    let is_exported = |disk: &&Value| {
        disk.get("state").and_then(Value::as_str).is_some_and(|state| ["exported", "read-only"].contains(&state))
    };
    let exported = disks.filter(is_exported);
    Ok(exported
        .filter_map(|disk| {
            // The CD drive tells Linux no serial number.
            let name = disk.get("serial")?.as_str().or(disk.get("name")?.as_str())?;
            Some((name.to_owned(), disk.get("size")?.as_u64()?))
        })
        .collect())
}

fn available(machine: &Appliance) -> Result<u64> {
    let text = machine.shell("sed -n 's/^MemAvailable: *\\([0-9]*\\).*/\\1/p' /proc/meminfo")?;
    Ok(text.trim().parse().unwrap_or_default())
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn what_happens_by_chance_ends_as_it_should() -> std::result::Result<(), Failure> {
    let (events, seed) = (setting("EVENTS", 40), setting("SEED", 1));
    println!("EVENTS={events} SEED={seed}");
    let deadline = Duration::from_secs(300 + 10 * events);
    Lab::run_for("what_happens_by_chance_ends_as_it_should", deadline, |lab| {
        let mut rng = Rng::new(seed);
        let steady = lab.disk(Bus::Nvme, "STEADY", 96)?;
        let growing = lab.disk(Bus::VirtioBlk, "GROWING", 32)?;
        let pool: Vec<Disk> = [Bus::UsbStorage, Bus::VirtioScsi, Bus::VirtioScsi, Bus::UsbStorage, Bus::VirtioScsi]
            .into_iter()
            .zip(40..)
            .map(|(bus, size)| lab.disk(bus, &format!("POOL-{size}"), size))
            .collect::<Result<_>>()?;
        let media: Vec<Disk> = [(1, 8), (2, 12)]
            .into_iter()
            .map(|(number, size)| lab.disk(Bus::VirtioScsi, &format!("MEDIUM-{number}"), size))
            .collect::<Result<_>>()?;
        let mut medium: Option<&Disk> = None;
        let machine = lab.appliance().disk(&steady).disk(&growing).drive(Drive::Cd).deadline(deadline).debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        other.wait_discovered(&address, "two disks, the drive and the stick", SOON, |log| log.len() == 4)?;
        other.connect_all(&address)?;
        let load = other.start_load(&other.wait_disk(steady.serial(), SOON)?.device)?;
        let mut model = exported(&machine)?;
        assert_eq!(model.len(), 3);
        machine.open_tray(Drive::Cd)?;
        let before = available(&machine)?;

        for event in 1..=events {
            match rng.below(12) {
                0 => {
                    let applet = ["hotplug", "dhcp", "mdns", "console"][usize::try_from(rng.below(4)).unwrap_or(0)];
                    machine.shell(&format!("killall -9 diskomator-{applet}; true")).map(drop)?;
                }
                2 => {
                    // Less than a host waits before it gives a connection up.
                    machine.connect_cable(0, false)?;
                    sleep(Duration::from_millis(200 + rng.below(2000)));
                    machine.connect_cable(0, true)?;
                }
                3 | 4 => match medium.take() {
                    Some(old) => {
                        machine.eject(Drive::Cd, old)?;
                        model.remove(DRIVE);
                    }
                    None => {
                        let new = &media[usize::try_from(rng.below(2)).unwrap_or(0)];
                        machine.insert(Drive::Cd, new)?;
                        model.insert(DRIVE.to_owned(), new.size());
                        medium = Some(new);
                    }
                },
                1 => {
                    let size = (32 + rng.below(32)) << 20;
                    machine.resize_disk(&growing, size)?;
                    model.insert(growing.serial().to_owned(), size);
                }
                _ => {
                    let choice = usize::try_from(rng.below(5)).unwrap_or(0);
                    let disk = &pool[choice];
                    if model.remove(disk.serial()).is_some() {
                        machine.pull_disk(disk)?;
                    } else {
                        machine.add_disk(disk)?;
                        model.insert(disk.serial().to_owned(), disk.size());
                    }
                }
            }
            if event % COMPARE == 0 || event == events {
                wait_for(&format!("the machine to be as the model after {event} events"), SOON, || {
                    let exported = exported(&machine)?;
                    Ok(if exported == model { Ok(()) } else { Err(format!("{exported:?}, and not {model:?}")) })
                })?;
            }
        }
        load.finish()?;
        assert_eq!(other.io_errors()?, "");
        let left = wait_for("the last subsystem to be gone", SOON, || {
            let left = machine.shell("ls /sys/kernel/config/nvmet/subsystems")?;
            // Beside the disks there are the listener, and the drive when it is empty.
            let others = if medium.is_some() { 1 } else { 2 };
            Ok(if left.lines().count() == model.len() + others { Ok(left) } else { Err(left) })
        })?;
        assert!(left.contains("listener"), "{left}");
        let after = available(&machine)?;
        println!("available memory: {before} KiB before, {after} KiB after");
        assert!(after + MEMORY >= before, "{before} KiB were available before, {after} KiB after");
        other.disconnect_all()?;
        Ok(())
    })
}
