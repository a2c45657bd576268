//! Old and small machines.

use std::fs;
use std::time::Duration;

use e2e::{Boot, Bus, Failure, Lab, image_file};

const SOON: Duration = Duration::from_secs(60);
const LARGEST_EFI_FILE: u64 = 12 << 20;

#[test]
#[ignore = "needs the built image; run by make test"]
fn the_efi_file_has_at_most_12_mib() -> Result<(), Failure> {
    let size = fs::metadata(image_file("diskomator.efi")?)?.len();
    assert!(size <= LARGEST_EFI_FILE, "it has {size} bytes");
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
fn a_machine_with_128_mib_exports_under_uefi() -> Result<(), Failure> {
    exports("a_machine_with_128_mib_exports_under_uefi", Boot::UsbStick, 128)
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_machine_with_64_mib_exports_when_the_kernel_is_loaded_directly() -> Result<(), Failure> {
    exports("a_machine_with_64_mib_exports_when_the_kernel_is_loaded_directly", Boot::Kernel, 64)
}
