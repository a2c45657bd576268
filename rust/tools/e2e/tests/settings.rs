//! Settings have the same effect wherever they are given.

use std::time::Duration;

use e2e::{ApplianceBuilder, Bus, Failure, Lab, Stick, image_file, setting, settings};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(1200);
const BESIDE_IMAGE: &str = "EFI/BOOT/BOOTX64.EFI.extra.d";
const BOOT_PARTITION: &str = "loader/credentials";

fn stick(lab: &Lab, name: &str, path: &str, content: &str) -> Result<Stick, Failure> {
    let stick = lab.stick(name)?;
    stick.add(path, content.as_bytes())?;
    Ok(stick)
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn the_same_setting_has_the_same_effect_from_every_source() -> Result<(), Failure> {
    Lab::run_for("the_same_setting_has_the_same_effect_from_every_source", LONG, |lab| {
        let disk = lab.disk(Bus::Nvme, "SETTING-1201", 64)?;
        let machine = || lab.appliance().disk(&disk).debug();
        let addon = lab.stick("addon.raw")?;
        addon.add_addon("diskomator.readonly=serial:SETTING*")?;
        let file = "diskomator.readonly.cred";
        let beside = stick(lab, "beside.raw", &format!("{BESIDE_IMAGE}/{file}"), "serial:SETTING*\n")?;
        let global = stick(lab, "global.raw", &format!("{BOOT_PARTITION}/{file}"), "serial:SETTING*\r\n")?;
        let smbios = "io.systemd.credential:diskomator.readonly=serial:SETTING*";
        // `printf 'serial:SETTING*' | base64`
        let binary = "io.systemd.credential.binary:diskomator.readonly=c2VyaWFsOlNFVFRJTkcq";
        let sources: [(&str, ApplianceBuilder); 7] = [
            ("command-line", machine().image(addon.raw())),
            ("command-line", machine().word("diskomator.readonly=serial:SETTING*")),
            ("beside-image", machine().image(beside.raw())),
            ("boot-partition", machine().image(global.raw())),
            ("smbios", machine().smbios(smbios)),
            ("smbios", machine().smbios(binary)),
            ("fw_cfg", machine().fw_cfg("opt/io.systemd.credentials/diskomator.readonly", "serial:SETTING*")),
        ];
        for (source, builder) in sources {
            let (machine, _) = lab.boot_with_address(builder)?;
            let settings = settings(&machine)?;
            assert_eq!(setting(&settings, "readonly"), ("serial:SETTING*", source), "{settings}");
            assert_eq!(settings["warnings"], serde_json::json!([]));
            let list: Value = serde_json::from_str(&machine.shell("diskomator export list --json")?)?;
            let disks = list["disks"].as_array().map(Vec::as_slice).unwrap_or_default();
            for disk in disks {
                let is_named = disk["serial"] == "SETTING-1201";
                assert_eq!(disk["state"] == "read-only", is_named, "{source}: {list}");
            }
            assert!(disks.iter().any(|disk| disk["state"] == "read-only"), "{source}: {list}");
            if let "beside-image" | "boot-partition" = source {
                // Credentials may be secrets and are root's alone, as the stub makes them.
                let modes = machine.shell("stat -c %a /.extra/*credentials /.extra/*credentials/*")?;
                assert_eq!(modes.split_whitespace().collect::<Vec<_>>(), ["500", "400"], "{source}");
            }
        }
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn of_many_sources_the_nearest_counts_and_what_means_nothing_is_named() -> Result<(), Failure> {
    Lab::run("of_many_sources_the_nearest_counts_and_what_means_nothing_is_named", |lab| {
        let stick = lab.stick("many.raw")?;
        let beside = |name: &str| format!("{BESIDE_IMAGE}/{name}.cred");
        let global = |name: &str| format!("{BOOT_PARTITION}/{name}.cred");
        // The name of the setting says which source is to count.
        stick.add(&global("diskomator.partitions"), b"usb")?;
        stick.add(&global("diskomator.passthru"), b"nvme")?;
        stick.add(&beside("diskomator.passthru"), b"none")?;
        stick.add(&beside("diskomator.log"), b"error")?;
        stick.add(&beside("diskomator.name"), b"wrong")?;
        stick.add(&beside("diskomator.exprot"), b"none")?;
        stick.add(&beside("diskomator.readonly"), b"no\0ne")?;
        stick.add(&beside("ssh.authorized_keys.root"), b"ssh-ed25519 AAAA")?;
        let machine = lab.appliance().image(stick.raw()).smbios("io.systemd.credential:diskomator.log=debug");
        let machine = machine.smbios("io.systemd.credential:diskomator.name=wrong").word("diskomator.name=bench-7");
        let (machine, _) = lab.boot_with_address(machine.debug())?;
        let settings = settings(&machine)?;
        for (name, value, source) in [
            ("partitions", "usb", "boot-partition"),
            ("passthru", "none", "beside-image"),
            ("log", "debug", "smbios"),
            ("name", "bench-7", "command-line"),
            ("readonly", "all", "beside-image"),
        ] {
            assert_eq!(setting(&settings, name), (value, source), "{settings}");
        }
        let warnings = settings["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(warnings.len(), 2, "{settings}");
        let log = machine.kernel_log()?;
        assert!(log.contains("did you mean \"diskomator.export\"?"), "{log}");
        assert!(log.contains("makes all disks read-only: it is not plain text"), "{log}");
        assert_eq!(machine.shell("hostname")?.trim(), "bench-7");
        let other = lab.initiator();
        other.run("/usr/lib/initiator/avahi")?;
        other.run("avahi-resolve -4 -n bench-7.local")?;
        let leases = other.run("cat /run/dnsmasq.leases")?;
        assert!(leases.contains(" bench-7 "), "{leases}");
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn with_secure_boot_on_files_that_nobody_signed_change_nothing() -> Result<(), Failure> {
    Lab::run("with_secure_boot_on_files_that_nobody_signed_change_nothing", |lab| {
        let owner = lab.secure_boot()?;
        let image = owner.disk(&owner.sign(&image_file("diskomator.efi")?, "signed.efi")?)?;
        let stick = lab.stick_of(&image, "stick.raw")?;
        stick.add(&format!("{BESIDE_IMAGE}/diskomator.name.cred"), b"wrong")?;
        stick.add(&format!("{BOOT_PARTITION}/diskomator.export.cred"), b"all")?;
        stick.add_addon("diskomator.log=trace")?;
        let machine = lab.appliance().secure_boot(&owner).image(stick.raw()).debug();
        let (machine, _) = lab.boot_with_address(machine)?;
        let settings = settings(&machine)?;
        assert_eq!(setting(&settings, "name"), ("auto", ""), "{settings}");
        assert_eq!(setting(&settings, "log"), ("info", ""), "{settings}");
        // A source that cannot be trusted gives nothing.
        assert_eq!(setting(&settings, "export"), ("none", "boot-partition"), "{settings}");
        let warnings = settings["warnings"].to_string();
        assert_eq!(warnings.matches("with Secure Boot on, only what is signed counts").count(), 2, "{warnings}");
        Ok(())
    })
}
