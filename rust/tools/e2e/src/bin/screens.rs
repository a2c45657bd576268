//! `make screens`: what the machine shows, as pictures and as text, in output/screens; and those of docs/ anew.
//!
//! Each is a machine that is booted for it. To be looked at: no test says what is beautiful.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use e2e::program::{exit_code, say};
use e2e::{Appliance, Bus, Disk, Failure, Lab, project, wait_for};

const SOON: Duration = Duration::from_secs(90);
const RESOLUTIONS: [(u32, u32); 3] = [(640, 480), (1280, 800), (1920, 1080)];
const COUNTS: [usize; 4] = [0, 1, 4, 40];
/// The one that the README shows, and its number of disks.
const OF_DOCS: ((u32, u32), usize) = ((1280, 800), 4);
/// How long data flows before the picture is taken.
const FLOW: Duration = Duration::from_secs(12);

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Failure> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let folder = project().join("output/screens");
    fs::create_dir_all(&folder)?;
    for (width, height) in RESOLUTIONS {
        for count in COUNTS {
            let name = format!("{width}x{height}-{count}-disks");
            if !only.is_empty() && !only.split(',').any(|word| word == name) {
                continue;
            }
            let pictures = Lab::run_for(&format!("screens-{name}"), Duration::from_secs(600), |lab| {
                take(lab, &name, (width, height), count)
            })?;
            for picture in pictures {
                say(&picture.strip_prefix(project()).unwrap_or(&picture).display().to_string());
            }
        }
    }
    Ok(())
}

fn disks(lab: &Lab, count: usize) -> Result<Vec<Disk>, Failure> {
    const FIRST: [(Bus, &str, u64); 4] = [
        (Bus::Nvme, "NVME-1001", 512),
        (Bus::Ahci, "SATA-1002", 4096),
        (Bus::UsbStorage, "USB-1003", 16_384),
        (Bus::VirtioBlk, "VIRTIO-1004", 2048),
    ];
    let of = |number: usize| match FIRST.get(number) {
        Some((bus, serial, size)) => lab.disk(*bus, serial, *size),
        None => lab.disk(Bus::VirtioScsi, &format!("SCSI-{}", 1001 + number), 1024),
    };
    (0..count).map(|number| Ok(of(number)?)).collect()
}

/// Boots it without a shell on its serial line, uses its first disk, and takes the pictures.
fn take(lab: &Lab, name: &str, resolution: (u32, u32), count: usize) -> Result<Vec<PathBuf>, Failure> {
    let disks = disks(lab, count)?;
    let machine = lab.appliance().as_shipped().resolution(resolution.0, resolution.1);
    let machine = disks.iter().enumerate().fold(machine, |machine, (number, disk)| {
        // One that cannot be written to.
        machine.disk(&if number == 3 { disk.clone().write_protected() } else { disk.clone() })
    });
    let (machine, address) = lab.boot_with_address(machine)?;
    let other = lab.initiator();
    wait_for("the address on the serial line", SOON, || {
        let log = machine.serial_log();
        Ok(if log.contains(&format!("-a {address}\r\n")) { Ok(()) } else { Err(log) })
    })?;
    let mut pictures = Vec::new();
    let mut picture = |machine: &Appliance, page: &str| -> Result<PathBuf, Failure> {
        let path = project().join(format!("output/screens/{name}{page}.png"));
        machine.save_screen(&path)?;
        pictures.push(path.clone());
        Ok(path)
    };
    if let Some(disk) = disks.first() {
        // It asks, as it does for everyone who has just booted it.
        other.try_run(&format!("nvme connect-all -t tcp -a {address}"), SOON)?;
        wait_for("the request on the serial line", SOON, || {
            let log = machine.serial_log();
            Ok(if log.contains("asks for the disks") { Ok(()) } else { Err(log) })
        })?;
        sleep(Duration::from_secs(2));
        picture(&machine, "-asks")?;
        machine.press_keys(&["c", "a"])?;
        sleep(Duration::from_secs(2));
        picture(&machine, "-admit")?;
        machine.press_keys(&["y", "o"])?;
        other.wait_discovered(&address, "every disk", SOON, |log| log.len() == count)?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        let load = other.start_load(&device)?;
        sleep(FLOW);
        let taken = picture(&machine, "")?;
        if (resolution, count) == OF_DOCS {
            fs::copy(taken, project().join("docs/screen.png"))?;
        }
        for (key, page) in
            [("d", "disks"), ("n", "network"), ("c", "hosts"), ("l", "log"), ("m", "machine"), ("h", "help")]
        {
            machine.press_keys(&[key])?;
            sleep(Duration::from_secs(2));
            picture(&machine, &format!("-{page}"))?;
        }
        machine.press_keys(&["d", "r"])?;
        sleep(Duration::from_secs(2));
        picture(&machine, "-question")?;
        load.finish()?;
        other.disconnect_all()?;
    } else {
        sleep(Duration::from_secs(3));
        picture(&machine, "")?;
    }
    let serial = machine.serial_log().replace('\r', "");
    let status = serial.rfind("\nDiskomator").and_then(|at| serial.get(at + 1..)).unwrap_or_default();
    let status = status.split("\n[").next().unwrap_or_default().trim_end().to_owned() + "\n";
    let path = project().join(format!("output/screens/{name}.serial.txt"));
    fs::write(&path, &serial)?;
    if (resolution, count) == OF_DOCS {
        fs::write(project().join("docs/serial.txt"), status)?;
    }
    pictures.push(path);
    Ok(pictures)
}
