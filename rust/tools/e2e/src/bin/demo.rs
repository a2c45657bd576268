//! `make demo`: the whole story, unattended: one machine becomes a disk, and another one uses it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use e2e::measure::{self, mebibytes};
use e2e::program::{exit_code, say};
use e2e::{Bus, Disk, Failure, Initiator, Lab, digest_of_file};

const SOON: Duration = Duration::from_secs(120);
const MEMORY: u32 = 256;
const DATA: u64 = 256 << 20;

fn main() -> ExitCode {
    exit_code(Lab::run_for("demo", Duration::from_secs(900), story))
}

/// Tells the story with the time since its start.
struct Teller {
    start: Instant,
}

impl Teller {
    fn step(&self, text: &str) {
        say(&format!("{:>6.1} s  {text}", self.start.elapsed().as_secs_f64()));
    }

    /// The result of a step, below it.
    fn result(text: &str) {
        for line in text.lines() {
            say(&format!("            {line}"));
        }
    }

    /// Shows a command as a person types it on the other machine, then runs it.
    fn types(&self, other: &Initiator, command: &str) -> Result<String, Failure> {
        self.step(&format!("# {command}"));
        Ok(other.run(command)?)
    }
}

/// An error unless it holds: the demo shows nothing that it did not see.
fn ensure(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::new(format!("{what} is not so"))) }
}

fn story(lab: &Lab) -> Result<(), Failure> {
    let teller = Teller { start: Instant::now() };
    let other = lab.initiator();
    say(&format!(
        "Two virtual machines on one link, emulated by QEMU ({}). Your own disks are not touched.",
        e2e::accelerator()
    ));
    say("Lines with # are typed on the other machine, a stock Debian 13.\n");

    other.wait_ready()?;
    let versions = other.run("uname -r; nvme version | head -n 1")?;
    teller.step(&format!("The other machine is up: Linux {}", versions.trim().replace('\n', ", ")));
    let disks = [
        lab.disk(Bus::Nvme, "NVME-1001", 512)?,
        lab.disk(Bus::Ahci, "SATA-1002", 96)?,
        lab.disk(Bus::VirtioBlk, "VIRTIO-1003", 128)?,
        lab.disk(Bus::UsbStorage, "USB-1004", 64)?,
    ];
    teller.step("A machine with a NVMe, a SATA, a virtio and a USB disk boots diskomator.raw from a USB stick; diskomator.access=open admits every host");
    let machine = disks.iter().fold(lab.appliance().memory(MEMORY), e2e::ApplianceBuilder::disk);
    let (appliance, address, first_export) = measure::first_export(lab, machine)?;
    Teller::result(&format!(
        "its first disk is on the network {:.1} s after power-on, at {address}",
        first_export.as_secs_f64()
    ));
    let count = disks.len() + 1;
    other.wait_discovered(&address, "every disk", SOON, |log| log.len() == count)?;
    teller.step("Its serial console says:");
    Teller::result(&console_text(&appliance.serial_log()));

    teller.step(&format!("# nvme discover -t tcp -a {address}"));
    let log = other.discover(&address)?;
    for entry in &log {
        Teller::result(&entry.subnqn);
    }
    teller.types(other, &format!("nvme connect-all -t tcp -a {address}"))?;
    for disk in &disks {
        let seen = other.wait_disk(disk.serial(), SOON)?;
        ensure(seen.size == disk.size(), &format!("the size of {}", disk.serial()))?;
    }
    let list = teller.types(other, "nvme list")?;
    Teller::result(&list);

    write_and_read_back(&teller, other, &address, &disks[0])?;
    file_system(&teller, other, &disks[1])?;
    plug_and_pull(&teller, lab, &appliance, &address)?;

    let device = other.wait_disk(disks[0].serial(), SOON)?.device;
    teller.step(&format!("fio on {device}: sequential and random, 3 s each"));
    let throughput = measure::throughput(other, &device, 3)?;
    let names = names(other)?;
    ensure(other.io_errors()?.is_empty(), "that there was no I/O error")?;

    teller.step("The machine's power button is pressed");
    appliance.press_power_button()?;
    let how = appliance.wait_off(SOON)?;
    ensure(how == "guest-shutdown", "that it switched itself off")?;
    other.wait_gone(disks[0].serial(), SOON)?;
    other.disconnect_all()?;
    Teller::result("it is off, and the other machine has let its disks go");

    teller.step("It is powered on again, with its disks the other way round and a debug shell on the serial port");
    let machine = disks.iter().rev().fold(lab.appliance().memory(MEMORY).debug(), e2e::ApplianceBuilder::disk);
    let (appliance, address, _) = measure::first_export(lab, machine)?;
    other.wait_discovered(&address, "every disk", SOON, |log| log.len() == count)?;
    teller.types(other, &format!("nvme connect-all -t tcp -a {address}"))?;
    for disk in &disks {
        other.wait_disk(disk.serial(), SOON)?;
    }
    ensure(self::names(other)? == names, "that every disk has the name it had before")?;
    Teller::result("every disk has the name, the serial number and the model that it had before");
    let memory = measure::memory_used(&appliance, MEMORY)?;

    let sizes = measure::sizes()?;
    say("");
    let row = |what: &str, figure: &str| say(&format!("  {what:<36} {figure:>12}"));
    row("EFI file", &mebibytes(sizes.efi));
    row("raw image", &mebibytes(sizes.raw));
    row("power-on to first export", &format!("{:.1} s", first_export.as_secs_f64()));
    row(&format!("RAM used of {MEMORY} MiB"), &format!("{memory} MiB"));
    row("sequential read", &format!("{}/s", mebibytes(throughput.read)));
    row("sequential write", &format!("{}/s", mebibytes(throughput.write)));
    row("random reads of 4 KiB", &format!("{}/s", throughput.random_read));
    row("random writes of 4 KiB", &format!("{}/s", throughput.random_write));
    say(&format!("\nAll of it worked, in {:.0} s.", teller.start.elapsed().as_secs_f64()));
    Ok(())
}

fn write_and_read_back(teller: &Teller, other: &Initiator, address: &str, disk: &Disk) -> Result<(), Failure> {
    let device = other.wait_disk(disk.serial(), SOON)?.device;
    let written = teller.types(other, &format!("head -c {DATA} /dev/urandom | tee {device} | b2sum && sync"))?;
    teller.types(other, "nvme disconnect-all")?;
    teller.types(other, &format!("nvme connect-all -t tcp -a {address}"))?;
    let device = other.wait_disk(disk.serial(), SOON)?.device;
    let read = teller.types(other, &format!("head -c {DATA} {device} | b2sum"))?;
    ensure(read == written, "that the data read back is the data written")?;
    let on_disk = digest_of_file(disk.file(), DATA)?;
    ensure(written.starts_with(&on_disk), "that the data is on the machine's own disk")?;
    Teller::result("256 MiB came back identical, and are the same on the machine's own disk");
    Ok(())
}

fn file_system(teller: &Teller, other: &Initiator, disk: &Disk) -> Result<(), Failure> {
    let device = other.wait_disk(disk.serial(), SOON)?.device;
    teller.types(other, &format!("mkfs.ext4 -q {device}"))?;
    teller.types(other, &format!("mount {device} /mnt && cp /usr/bin/fio /mnt && umount /mnt"))?;
    let check = teller.types(other, &format!("fsck.ext4 -f -n {device} 2>&1"))?;
    Teller::result(check.lines().last().unwrap_or_default());
    Ok(())
}

fn plug_and_pull(teller: &Teller, lab: &Lab, appliance: &e2e::Appliance, address: &str) -> Result<(), Failure> {
    let other = lab.initiator();
    let late = lab.disk(Bus::Nvme, "LATE-1005", 80)?;
    let before = other.discover(address)?.len();
    teller.step("A second NVMe disk is plugged into the machine");
    let plugged = Instant::now();
    appliance.add_disk(&late)?;
    other.wait_discovered(address, "the disk plugged in", SOON, |log| log.len() == before + 1)?;
    Teller::result(&format!("the discovery log has it after {:.1} s", plugged.elapsed().as_secs_f64()));
    teller.types(other, &format!("nvme connect-all -t tcp -a {address}"))?;
    let device = other.wait_disk(late.serial(), SOON)?.device;
    teller.types(other, &format!("dd if=/dev/zero of={device} bs=1M count=16 oflag=direct status=none"))?;
    teller.step("It is pulled");
    appliance.pull_disk(&late)?;
    other.wait_gone(late.serial(), SOON)?;
    other.wait_discovered(address, "the other disks alone", SOON, |log| log.len() == before)?;
    Teller::result("it is gone from the log and from the other machine");
    Ok(())
}

/// The identifiers of disks on the other machine, except the names that its kernel gives.
fn names(other: &Initiator) -> Result<Vec<(String, String, String)>, Failure> {
    let mut names: Vec<_> = other.list()?.into_iter().map(|disk| (disk.nqn, disk.serial, disk.model)).collect();
    names.sort();
    Ok(names)
}

/// The last screenful of a serial log, without what moves the cursor.
fn console_text(log: &str) -> String {
    let mut text = String::new();
    let mut characters = log.chars();
    while let Some(character) = characters.next() {
        match character {
            // ECMA-48, 5.4: a control sequence ends with a byte from 0x40 to 0x7e.
            '\u{1b}' => {
                if characters.next() == Some('[') {
                    characters.by_ref().find(|end| ('\u{40}'..='\u{7e}').contains(end));
                }
            }
            '\r' => {}
            other => text.push(other),
        }
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(16)..).unwrap_or_default().join("\n")
}
