//! Machines without screen and serial line, on which nobody can be asked.

use std::fs;
use std::path::Path;
use std::time::Duration;

use e2e::{Bus, Disk, Failure, Initiator, Lab, Stick, wait_for};
use keys::Secret;

type Result<T = ()> = std::result::Result<T, Failure>;

const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(1200);
/// A host that nobody knows.
const STRANGER: &str = "nqn.2014-08.org.example:stranger";
const STRANGER_ID: &str = "57a46e00-0000-4000-8000-000000000001";
/// The beginning of our subsystems' names.
const OURS: &str = "nqn.2026-11.io.github.diskomator:";

/// A stick that `dd` wrote.
fn stick(lab: &Lab) -> Result<Stick> {
    Ok(lab.stick("written.raw")?)
}

/// The discovery log as the stranger gets it.
fn told_stranger(other: &Initiator, address: &str) -> Result<String> {
    Ok(wait_for("discovery to answer", SOON, || {
        let ids = format!("--hostnqn={STRANGER} --hostid={STRANGER_ID}");
        let output = other.try_run(&format!("nvme discover -t tcp -a {address} {ids}"), SOON)?;
        Ok(if output.status == 0 { Ok(output.stdout) } else { Err(output.stderr) })
    })?)
}

/// The other machine reads and writes the disk.
fn uses(other: &Initiator, disk: &Disk) -> Result {
    let device = other.wait_disk(disk.serial(), SOON)?.device;
    other.run(&format!("dd if=/dev/urandom of={device} bs=1M count=1 oflag=direct 2>&1"))?;
    other.disconnect_all()?;
    Ok(other.wait_gone(disk.serial(), SOON)?)
}

/// Its name as a host.
fn nqn(other: &Initiator) -> Result<String> {
    other.wait_ready()?;
    Ok(other.run("cat /etc/nvme/hostnqn")?.trim().to_owned())
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_stick_by_dd_with_open_in_a_file_exports_to_everyone() -> Result {
    Lab::run_for("a_stick_by_dd_with_open_in_a_file_exports_to_everyone", LONG, |lab| {
        let disk = lab.disk(Bus::Nvme, "OPEN-7301", 64)?;
        let other = lab.initiator();
        let utf16: Vec<u8> = "\u{feff}open\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let plain = stick(lab)?;
        let (machine, address) =
            lab.boot_with_address(lab.appliance().as_shipped().headless().image(plain.raw()).disk(&disk))?;
        assert!(!told_stranger(other, &address)?.contains(OURS));
        drop(machine);
        for (path, content) in [
            ("loader/credentials/diskomator.access.cred", &b"open"[..]),
            // As Windows' editor writes and names it, and its PowerShell.
            ("loader/credentials/diskomator.access.cred.txt", b"\xef\xbb\xbfopen\r\n"),
            ("EFI/BOOT/BOOTX64.EFI.extra.d/diskomator.access.cred", &utf16),
        ] {
            let stick = stick(lab)?;
            stick.add(path, content)?;
            let machine = lab.appliance().as_shipped().headless().image(stick.raw()).disk(&disk);
            let (_machine, address) = lab.boot_with_address(machine)?;
            // The disk, and the stick itself.
            other.wait_discovered(&address, path, SOON, |log| log.len() == 2)?;
            assert!(told_stranger(other, &address)?.contains(OURS), "{path}");
            other.connect_all(&address)?;
            uses(other, &disk)?;
        }
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_stick_by_dd_with_a_host_in_a_file_exports_to_that_host_alone() -> Result {
    Lab::run("a_stick_by_dd_with_a_host_in_a_file_exports_to_that_host_alone", |lab| {
        let disk = lab.disk(Bus::Nvme, "ALLOW-7302", 64)?;
        let other = lab.initiator();
        let stick = stick(lab)?;
        stick.add("loader/credentials/diskomator.allow.cred", format!("{}\r\n", nqn(other)?).as_bytes())?;
        let machine = lab.appliance().as_shipped().headless().image(stick.raw()).disk(&disk);
        let (_machine, address) = lab.boot_with_address(machine)?;
        // Without the stick, which nobody gets in this mode.
        other.wait_discovered(&address, "the disk", SOON, |log| log.len() == 1)?;
        assert!(!told_stranger(other, &address)?.contains(OURS));
        other.connect_all(&address)?;
        uses(other, &disk)
    })
}

/// Connects with the keys that the secret gives this host.
fn connect_with_keys(other: &Initiator, address: &str, secret: &Secret, host: &str) -> Result {
    let keys = secret.host(host);
    let chap = format!(
        "--dhchap-secret={} --dhchap-ctrl-secret={}",
        *keys.dhchap_host.expose(),
        *keys.dhchap_controller.expose()
    );
    // connect-all takes no key of the controller.
    for entry in other.discover(address)? {
        other.run(&format!("nvme connect -t tcp -a {address} -s 4420 -n {} {chap}", entry.subnqn))?;
    }
    Ok(())
}

fn read_secret(file: &Path) -> Result<Secret> {
    Ok(Secret::from_base64(&fs::read(file)?)?)
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_burned_stick_admits_who_keeps_its_secret_and_shows_it_to_nobody() -> Result {
    Lab::run_for("a_burned_stick_admits_who_keeps_its_secret_and_shows_it_to_nobody", LONG, |lab| {
        let disk = lab.disk(Bus::Nvme, "KEEPER-7303", 64)?;
        let other = lab.initiator();
        let host = nqn(other)?;
        for (blocks, size) in [(512, "64M"), (4096, "300M")] {
            let stick = Stick::at(lab.burn_with(blocks, size, &[])?);
            // As on a stick that this host had written.
            stick.add("loader/credentials/diskomator.allow.cred", host.as_bytes())?;
            let machine = lab.appliance().as_shipped().headless().image(stick.raw()).stick_blocks(blocks).disk(&disk);
            let (_machine, address) = lab.boot_with_address(machine)?;
            other.wait_discovered(&address, "the disk alone", SOON, |log| log.len() == 1)?;
            // Its name does not do.
            other.try_run(&format!("nvme connect-all -t tcp -a {address}"), SOON)?;
            assert!(other.list()?.iter().all(|namespace| namespace.serial != disk.serial()));
            connect_with_keys(other, &address, &read_secret(&lab.kept_secret()?)?, &host)?;
            uses(other, &disk)?;
        }
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_stick_by_dd_with_a_secret_in_a_file_admits_who_has_it() -> Result {
    Lab::run("a_stick_by_dd_with_a_secret_in_a_file_admits_who_has_it", |lab| {
        // `head -c 32 /dev/zero | base64`, for a test.
        const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let disk = lab.disk(Bus::Nvme, "SECRET-7304", 64)?;
        let other = lab.initiator();
        let host = nqn(other)?;
        let stick = stick(lab)?;
        stick.add("loader/credentials/diskomator.secret.cred.txt", format!("\u{feff}{SECRET}\r\n").as_bytes())?;
        stick.add("loader/credentials/diskomator.allow.cred", host.as_bytes())?;
        let machine = lab.appliance().as_shipped().headless().image(stick.raw()).disk(&disk);
        let (_machine, address) = lab.boot_with_address(machine)?;
        other.wait_discovered(&address, "the disk", SOON, |log| log.len() == 1)?;
        other.try_run(&format!("nvme connect-all -t tcp -a {address}"), SOON)?;
        assert!(other.list()?.iter().all(|namespace| namespace.serial != disk.serial()));
        connect_with_keys(other, &address, &Secret::from_base64(SECRET.as_bytes())?, &host)?;
        uses(other, &disk)
    })
}
