//! Disks that come, go and grow by chance, against a model of what should be.
//!
//! A longer run: `EVENTS=200 SEED=7 make test E2E=by_chance`.

use std::collections::BTreeMap;
use std::time::Duration;

use diskomator_core::rng::Rng;
use e2e::{Appliance, Bus, Disk, Failure, Lab, Result, wait_for};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
/// How often the machine is compared with the model, in events.
const COMPARE: u64 = 5;
/// What may be used more in the end than in the beginning, in KiB.
const MEMORY: u64 = 12 << 10;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Size by serial number, of what hosts can use.
type Model = BTreeMap<String, u64>;

fn exported(machine: &Appliance) -> Result<Model> {
    let text = machine.shell("diskomator export list --json")?;
    let list: Value = serde_json::from_str(&text).map_err(|source| e2e::Error::Json {
        what: "diskomator export list",
        text: text.clone(),
        source,
    })?;
    let disks = list.get("disks").and_then(Value::as_array).into_iter().flatten();
    let exported = disks.filter(|disk| disk.get("state").and_then(Value::as_str) == Some("exported"));
    Ok(exported
        .filter_map(|disk| Some((disk.get("serial")?.as_str()?.to_owned(), disk.get("size")?.as_u64()?)))
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
        let machine = lab.appliance().disk(&steady).disk(&growing).deadline(deadline).debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        other.wait_discovered(&address, "two disks and the stick", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        let load = other.start_load(&other.wait_disk(steady.serial(), SOON)?.device)?;
        let mut model = exported(&machine)?;
        assert_eq!(model.len(), 3);
        let before = available(&machine)?;

        for event in 1..=events {
            match rng.below(10) {
                0 => machine.shell("killall -9 diskomator-hotplug; true").map(drop)?,
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
            // The listener is one.
            Ok(if left.lines().count() == model.len() + 1 { Ok(left) } else { Err(left) })
        })?;
        assert!(left.contains("listener"), "{left}");
        let after = available(&machine)?;
        println!("available memory: {before} KiB before, {after} KiB after");
        assert!(after + MEMORY >= before, "{before} KiB were available before, {after} KiB after");
        other.disconnect_all()?;
        Ok(())
    })
}
