//! Old and small machines.

use std::fs;
use std::time::Duration;

use e2e::{Boot, Bus, Failure, Lab, image_file};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// What the README promises for an image: sizes in MiB.
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
