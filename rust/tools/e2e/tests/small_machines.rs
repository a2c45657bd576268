//! Old and small machines.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use e2e::{Appliance, ApplianceBuilder, Boot, Bus, Failure, Lab, fio, image_file};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// The sizes that the README promises for an image, in MiB.
struct Promise {
    efi_file: u64,
    memory_under_uefi: u32,
    memory_without: u32,
}

/// The image for embedded boards promises more than the one with every driver.
fn promise() -> Result<Promise, Failure> {
    let manifest: Value = serde_json::from_slice(&fs::read(image_file("manifest.json")?)?)?;
    match manifest["drivers"].as_str() {
        Some("all") => Ok(Promise { efi_file: 9, memory_under_uefi: 128, memory_without: 64 }),
        Some("tiny") => Ok(Promise { efi_file: 6, memory_under_uefi: 112, memory_without: 48 }),
        other => Err(Failure::new(format!("the manifest says of its drivers {other:?}"))),
    }
}

#[test]
#[ignore = "needs the built image; run by make test"]
fn the_efi_file_is_as_small_as_promised() -> Result<(), Failure> {
    let size = fs::metadata(image_file("diskomator.efi")?)?.len();
    assert!(size <= promise()?.efi_file << 20, "it has {size} bytes");
    Ok(())
}

fn exports(name: &str, boot: Boot, mebibytes: u32) -> Result<(), Failure> {
    Lab::run(name, |lab| {
        let disk = lab.disk(Bus::Ahci, "SMALL-5001", 64)?;
        let machine = lab.appliance().boot(boot).memory(mebibytes).disk(&disk);
        let (_machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        other.wait_discovered(&address, "a disk", SOON, |log| !log.is_empty())?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        // Small machines must survive large requests, too.
        other.run(&format!("dd if=/dev/zero of={device} bs=1M oflag=direct status=none count=32"))?;
        assert_eq!(other.io_errors()?, "");
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn the_least_memory_promised_is_enough_under_uefi() -> Result<(), Failure> {
    exports("the_least_memory_promised_is_enough_under_uefi", Boot::UsbStick, promise()?.memory_under_uefi)
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn the_least_memory_promised_is_enough_when_the_kernel_is_loaded_directly() -> Result<(), Failure> {
    exports(
        "the_least_memory_promised_is_enough_when_the_kernel_is_loaded_directly",
        Boot::Kernel,
        promise()?.memory_without,
    )
}

/// KiB of memory that could be used.
fn available(machine: &Appliance) -> Result<u64, Failure> {
    Ok(machine.shell("awk '/MemAvailable/ { print $2 }' /proc/meminfo")?.trim().parse()?)
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn hosts_that_are_faster_than_the_disks_do_not_use_up_the_memory() -> Result<(), Failure> {
    Lab::run("hosts_that_are_faster_than_the_disks_do_not_use_up_the_memory", |lab| {
        let slow = [
            lab.disk(Bus::UsbStorage, "SLOW-5101", 128)?.that_can_hang(),
            lab.disk(Bus::VirtioScsi, "SLOW-5102", 128)?.that_can_hang(),
        ];
        let quick = lab.disk(Bus::VirtioBlk, "QUICK-5103", 64)?;
        let machine = lab.appliance().boot(Boot::Kernel).memory(promise()?.memory_without).disk(&quick).debug();
        let (machine, address) = lab.boot_with_address(slow.iter().fold(machine, ApplianceBuilder::disk))?;
        let other = lab.initiator();
        other.wait_discovered(&address, "three disks", SOON, |log| log.len() == 3)?;
        other.connect_all(&address)?;
        let before = available(&machine)?;
        let mut writers = Vec::new();
        for disk in &slow {
            // A USB stick's speed. Its host has 64 MiB under way.
            machine.slow_disk(disk, 4 << 20)?;
            let device = other.wait_disk(disk.serial(), SOON)?.device;
            writers.push(
                other.start_command(&fio(&device, "--rw=write --bs=1M --size=64m --iodepth=128 --verify=crc32c"))?,
            );
        }
        let mut least = before;
        for _ in 0..10 {
            sleep(Duration::from_millis(500));
            least = least.min(available(&machine)?);
        }
        println!("available memory: {before} KiB before, at least {least} KiB during the writes");
        assert!(least > before / 3, "{least} KiB of {before} KiB are left");
        // A disk with nothing to wait for does not wait.
        let device = other.wait_disk(quick.serial(), SOON)?.device;
        other.run(&format!("dd if={device} of=/dev/null bs=1M count=64 iflag=direct status=none"))?;
        for writer in &writers {
            assert!(writer.ended()?.is_none(), "the writes were over before the read was");
        }
        for disk in &slow {
            machine.slow_disk(disk, 0)?;
        }
        for writer in writers {
            writer.wait(SOON)?;
        }
        assert_eq!(other.io_errors()?, "");
        other.disconnect_all()?;
        Ok(())
    })
}
