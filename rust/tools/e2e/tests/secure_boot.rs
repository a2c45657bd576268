//! Machines whose firmware boots only what their owner signed.

use std::path::Path;
use std::time::Duration;

use e2e::{Bus, Failure, Lab, SecureBoot, image_file, wait_for};

const SOON: Duration = Duration::from_secs(60);

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_signed_image_boots_with_secure_boot_on_and_exports_the_disks() -> Result<(), Failure> {
    Lab::run("a_signed_image_boots_with_secure_boot_on_and_exports_the_disks", |lab| {
        let owner = lab.secure_boot()?;
        let image = owner.disk(&owner.sign(&image_file("diskomator.efi")?, "signed.efi")?)?;
        let disk = lab.disk(Bus::Nvme, "SECURE-1101", 64)?;
        // The stub takes the words of a virtual machine's host with Secure Boot on, too: hence the debug shell.
        let machine = lab.appliance().secure_boot(&owner).image(&image).disk(&disk).debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        let log = machine.kernel_log()?;
        assert!(log.contains("Secure boot enabled"), "{log}");
        let other = lab.initiator();
        other.wait_discovered(&address, "the disk and the stick", SOON, |log| log.len() == 2)?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        other.run(&format!("echo kept | dd of={device} bs=4096 conv=sync oflag=direct status=none"))?;
        assert!(std::fs::read(disk.file())?.starts_with(b"kept\n"));
        Ok(())
    })
}

/// The firmware's verdict on an image: `starting`, or its word for the refusal.
fn verdict(lab: &Lab, owner: &SecureBoot, efi: &Path) -> Result<String, Failure> {
    let image = owner.disk(efi)?;
    let machine = lab.boot(lab.appliance().secure_boot(owner).image(&image))?;
    // The stick is the first that it tries: "BdsDxe: failed to load Boot0001 … : Access Denied".
    Ok(wait_for("the firmware to try the stick", SOON, || {
        machine.check()?;
        let log = machine.serial_log();
        let said = log.lines().rev().find_map(|line| {
            let (verb, rest) = line.split_once("BdsDxe: ")?.1.split_once(" Boot0001 ")?;
            match verb {
                "starting" => Some(verb.to_owned()),
                "failed to load" => rest.trim_end().rsplit_once(": ").map(|(_, why)| why.to_owned()),
                _ => None,
            }
        });
        Ok(said.ok_or(log))
    })?)
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn with_secure_boot_on_an_image_that_is_not_the_signed_one_is_refused() -> Result<(), Failure> {
    Lab::run("with_secure_boot_on_an_image_that_is_not_the_signed_one_is_refused", |lab| {
        let owner = lab.secure_boot()?;
        // As it was built: unsigned, or signed by another owner.
        let built = image_file("diskomator.efi")?;
        let signed = owner.sign(&built, "signed.efi")?;
        assert_eq!(verdict(lab, &owner, &signed)?, "starting");
        let foreign = owner.copy(&built, "foreign.efi")?;
        assert_eq!(verdict(lab, &owner, &foreign)?, "Access Denied", "an image without the owner's signature");
        for section in [".cmdline", ".initrd"] {
            let altered = owner.alter(&signed, section, &format!("altered{section}.efi"))?;
            assert_eq!(verdict(lab, &owner, &altered)?, "Access Denied", "an image with another {section}");
        }
        Ok(())
    })
}
