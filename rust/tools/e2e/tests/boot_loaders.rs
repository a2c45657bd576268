//! Machines that start the image over a network, or by another project's boot loader.

use std::path::Path;
use std::time::Duration;

use e2e::{Appliance, Boot, Bus, Failure, Lab, boot_loader_file, setting, settings, wait_for};
use serde_json::{Value, json};

/// A firmware's network is slow where it is emulated.
const LONG: Duration = Duration::from_secs(900);
/// Words of the image; a panic never happens here, and nobody else sets this.
const WORDS: &str = "diskomator.export=none diskomator.debug panic=7";

/// That the words of the image count, ours and the kernel's, and that nothing is complained of.
fn assert_own_words(machine: &Appliance, settings: &Value) -> Result<(), Failure> {
    assert_eq!(setting(settings, "export"), ("none", "image"), "{settings}");
    assert_eq!(setting(settings, "debug"), ("yes", "image"), "{settings}");
    assert_eq!(settings["warnings"], json!([]), "{settings}");
    assert_eq!(machine.shell("cat /proc/sys/kernel/panic")?.trim(), "7");
    Ok(())
}

/// The machine's address. The firmware or boot loader that started it has had one before, which may differ.
fn address(lab: &Lab, machine: &Appliance) -> Result<String, Failure> {
    let mac = machine.macs().into_iter().next().unwrap_or_default();
    lab.initiator().wait_address(&mac, Duration::from_secs(300))?;
    Ok(wait_for("an address", Duration::from_secs(60), || {
        let text = machine.shell("ip -4 address show")?;
        let mut words = text.split_whitespace().skip_while(|word| !word.starts_with("192.168.77."));
        let address = words.next().and_then(|word| word.split('/').next()).map(str::to_owned);
        Ok(address.ok_or(text))
    })?)
}

/// That each disk is left alone.
fn assert_nothing_exported(lab: &Lab, machine: &Appliance, address: &str) -> Result<(), Failure> {
    let list: Value = serde_json::from_str(&machine.shell("diskomator export list --json")?)?;
    let disks = list["disks"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(!disks.is_empty() && disks.iter().all(|disk| disk["state"] == "refused"), "{list}");
    let log = lab.initiator().wait_discovered(address, "an answer", Duration::from_secs(60), |_| true)?;
    assert_eq!(log, []);
    Ok(())
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn ipxe_starts_the_image_with_its_own_words_and_hands_over_credentials_and_nothing_else() -> Result<(), Failure> {
    const NAME: &str = "ipxe_starts_the_image_with_its_own_words_and_hands_over_credentials_and_nothing_else";
    Lab::run_for(NAME, LONG, |lab| {
        let disk = lab.disk(Bus::Nvme, "IPXE-1301", 64)?;
        let stick = lab.boot_loader("ipxe.efi")?;
        // The file's name has a space in it, an end of the kernel's words, and a setting.
        let script = b"#!ipxe
dhcp
initrd http://192.168.77.1/foreign.cpio
initrd http://192.168.77.1/junk
initrd http://192.168.77.1/readonly /.extra/credentials/diskomator.readonly.cred
chain http://192.168.77.1/a%20--%20diskomator.name=wrong.efi diskomator.name=typed
";
        stick.add("autoexec.ipxe", script)?;
        stick.add("EFI/BOOT/autoexec.ipxe", script)?;
        let readonly = stick.raw().with_extension("readonly");
        std::fs::write(&readonly, "serial:IPXE*\n")?;
        let (image, foreign) = (lab.variant(WORDS)?, lab.foreign_initrd()?);
        let junk = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        lab.serve(&[
            ("a -- diskomator.name=wrong.efi", &image),
            ("foreign.cpio", &foreign),
            ("junk", junk),
            ("readonly", &readonly),
        ])?;
        let machine = lab.boot(lab.appliance().image(stick.raw()).memory(512).disk(&disk))?;
        let address = address(lab, &machine)?;
        let settings = settings(&machine)?;
        assert_own_words(&machine, &settings)?;
        for (name, value, source) in [
            ("readonly", "serial:IPXE*", "boot-loader"),
            ("log", "debug", "boot-loader"),
            ("name", "typed", "command-line"),
        ] {
            assert_eq!(setting(&settings, name), (value, source), "{settings}");
        }
        assert_nothing_exported(lab, &machine, &address)?;
        let found = machine.shell("ls -A /init /root /.extra; cat /etc/passwd /etc/inittab; ls -ld /bin")?;
        for foreign in ["foreign", ".ssh", "/tmp"] {
            assert!(!found.contains(foreign), "{found}");
        }
        let modes = machine.shell("stat -c %a /.extra/*credentials /.extra/*credentials/*")?;
        assert_eq!(modes.split_whitespace().collect::<Vec<_>>(), ["500", "400", "400"]);
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn firmware_starts_the_image_over_http() -> Result<(), Failure> {
    Lab::run_for("firmware_starts_the_image_over_http", LONG, |lab| {
        let disk = lab.disk(Bus::Nvme, "HTTP-1302", 64)?;
        lab.serve(&[("diskomator.efi", &lab.variant(WORDS)?)])?;
        let machine = lab.boot(lab.appliance().boot(Boot::Http).memory(512).disk(&disk))?;
        let address = address(lab, &machine)?;
        assert_own_words(&machine, &settings(&machine)?)?;
        assert_nothing_exported(lab, &machine, &address)
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn with_secure_boot_on_no_initrd_and_no_word_of_a_boot_loader_reaches_the_machine() -> Result<(), Failure> {
    const NAME: &str = "with_secure_boot_on_no_initrd_and_no_word_of_a_boot_loader_reaches_the_machine";
    Lab::run_for(NAME, LONG, |lab| {
        let owner = lab.secure_boot()?;
        let image = owner.sign(&lab.variant(WORDS)?, "signed.efi")?;
        let loader = owner.sign(&boot_loader_file("ipxe.efi")?, "loader.efi")?;
        let stick = lab.stick_that_boots(&loader)?;
        let script = b"#!ipxe
dhcp
initrd http://192.168.77.1/foreign.cpio
initrd http://192.168.77.1/readonly /.extra/credentials/diskomator.readonly.cred
chain http://192.168.77.1/diskomator.efi diskomator.name=typed
";
        stick.add("autoexec.ipxe", script)?;
        stick.add("EFI/BOOT/autoexec.ipxe", script)?;
        let foreign = lab.foreign_initrd()?;
        lab.serve(&[("diskomator.efi", &image), ("foreign.cpio", &foreign), ("readonly", &foreign)])?;
        let machine = lab.boot(lab.appliance().secure_boot(&owner).image(stick.raw()).memory(512))?;
        address(lab, &machine)?;
        let settings = settings(&machine)?;
        assert!(machine.kernel_log()?.contains("Secure boot enabled"));
        assert_eq!(setting(&settings, "export"), ("none", "image"), "{settings}");
        for name in ["readonly", "log", "name"] {
            assert_eq!(setting(&settings, name).1, "", "{settings}");
        }
        // It is said that there was one.
        assert_eq!(settings["warnings"].as_array().map(Vec::len), Some(1), "{settings}");
        assert_eq!(
            machine.shell("cd /.extra; echo *")?.split_whitespace().collect::<Vec<_>>(),
            ["boot-loader-initrd-ignored", "os-release"]
        );
        Ok(())
    })
}
