//! `make bench TUNING=1`: what settings of the exporting machine do to what its hosts see, as ratios of one run.
//!
//! Each setting is measured with and without, in turn and more than once: what else the machine under QEMU does then
//! meets both. An emulated processor tells what costs instructions, not what a cache or an interrupt costs.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use e2e::measure::{self, WORKLOADS};
use e2e::program::{exit_code, say, write_json};
use e2e::{Appliance, Boot, Bus, Disk, Failure, Lab, project};
use serde::Serialize;

const SOON: Duration = Duration::from_secs(60);
/// MiB; with less, transfers are smaller.
const MEMORY: u32 = 512;
/// How often each side of a setting is measured.
const ROUNDS: usize = 3;
/// How long fio runs for each figure.
const SECONDS: u32 = 3;

/// A setting that is measured.
struct Setting {
    name: &'static str,
    /// The image has it.
    is_kept: bool,
    /// Of the disk that is measured.
    bus: Bus,
    change: Change,
}

/// How a machine gets the setting, or is relieved of it if the image has it.
enum Change {
    /// By words on the kernel's command line.
    Words(&'static str),
    /// By a line of shell, and another that takes it back. Hosts connect after either.
    Shell { to: &'static str, back: &'static str },
}

/// Has every port take another size of data that comes with the command.
macro_rules! inline_data {
    ($bytes:literal) => {
        concat!(
            "cd /sys/kernel/config/nvmet/ports; for port in *; do links=$(ls $port/subsystems); ",
            "for link in $links; do rm $port/subsystems/$link; done; echo ",
            $bytes,
            " >$port/param_inline_data_size; ",
            "for link in $links; do ln -s /sys/kernel/config/nvmet/subsystems/$link $port/subsystems/; done; done"
        )
    };
}

const SETTINGS: [Setting; 7] = [
    Setting {
        name: "transfers of at most 1 MiB, memory for data bounded",
        is_kept: true,
        bus: Bus::Nvme,
        change: Change::Words("nvmet_tcp.mdts=0 nvmet_tcp.data_limit=1G"),
    },
    Setting { name: "mitigations=off", is_kept: false, bus: Bus::VirtioScsi, change: Change::Words("mitigations=off") },
    Setting {
        name: "no I/O scheduler (none, not mq-deadline)",
        is_kept: false,
        bus: Bus::VirtioScsi,
        change: Change::Shell {
            to: "echo none >/sys/block/sda/queue/scheduler",
            back: "echo mq-deadline >/sys/block/sda/queue/scheduler",
        },
    },
    Setting {
        name: "no readahead",
        is_kept: false,
        bus: Bus::VirtioScsi,
        change: Change::Shell {
            to: "echo 0 >/sys/block/sda/queue/read_ahead_kb",
            back: "echo 128 >/sys/block/sda/queue/read_ahead_kb",
        },
    },
    Setting {
        name: "64 KiB of data with a command (not 16 KiB)",
        is_kept: false,
        bus: Bus::VirtioScsi,
        change: Change::Shell { to: inline_data!("65536"), back: inline_data!("16384") },
    },
    Setting {
        name: "sockets polled for 1 ms (idle_poll_period_usecs)",
        is_kept: false,
        bus: Bus::VirtioScsi,
        change: Change::Shell {
            to: "echo 1000 >/sys/module/nvmet_tcp/parameters/idle_poll_period_usecs",
            back: "echo 0 >/sys/module/nvmet_tcp/parameters/idle_poll_period_usecs",
        },
    },
    Setting {
        name: "socket buffers of 1 MiB from the start",
        is_kept: false,
        bus: Bus::VirtioScsi,
        change: Change::Shell {
            to: "sysctl -q -w net.ipv4.tcp_rmem='4096 1048576 16777216' net.ipv4.tcp_wmem='4096 1048576 16777216'",
            back: "sysctl -q -w net.ipv4.tcp_rmem='4096 131072 6291456' net.ipv4.tcp_wmem='4096 16384 4194304'",
        },
    },
];

fn main() -> ExitCode {
    exit_code(run())
}

/// For each kind of work.
type Figures = [f64; WORKLOADS.len()];

/// The measurements on one side of a setting.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    /// Bytes or requests a second.
    speed: Figures,
    /// Processor time of the exporting machine for a byte or a request.
    work: Figures,
}

/// With the setting over without it.
#[derive(Serialize)]
struct Ratios {
    is_in_the_image: bool,
    speed: Figures,
    work: Figures,
}

fn run() -> Result<(), Failure> {
    let rows = Lab::run_for("tuning", Duration::from_secs(60 * 60), |lab| {
        say(&format!(
            "with each setting / without it, {ROUNDS} rounds of each: speed that the host sees, and processor"
        ));
        say("time of the exporting machine for the same work");
        let names = WORKLOADS.map(|workload| format!("{:>11}", workload.name)).concat();
        say(&format!("  {:58}{names}", "setting"));
        let mut rows = BTreeMap::new();
        for (number, setting) in SETTINGS.iter().enumerate() {
            let disk = lab.disk(setting.bus, &format!("TUNED-{number}"), 512)?;
            let ratios = measure(lab, &disk, setting)?;
            let kept = if setting.is_kept { "" } else { " *" };
            for (what, figures) in [("speed", &ratios.speed), ("work", &ratios.work)] {
                let name = if what == "speed" { setting.name.to_owned() + kept } else { String::new() };
                say(&format!("  {name:52}{what:>6}{}", figures.map(|ratio| format!("{ratio:11.2}")).concat()));
            }
            rows.insert(setting.name, ratios);
        }
        Ok(rows)
    })?;
    say(&format!("  * is not in the image; measured with QEMU's accelerator {}", e2e::accelerator()));
    let path = project().join("output/tuning.json");
    write_json(&path, &rows)?;
    say("  the same figures are in output/tuning.json");
    Ok(())
}

fn measure(lab: &Lab, disk: &Disk, setting: &Setting) -> Result<Ratios, Failure> {
    // As the image is, and changed.
    let (mut plain, mut changed) = (Side::default(), Side::default());
    match setting.change {
        Change::Words(words) => {
            for _ in 0..ROUNDS {
                for (words, side) in [("", &mut plain), (words, &mut changed)] {
                    let (machine, address) = boot(lab, disk, words)?;
                    pass(lab, disk, &machine, &address, side)?;
                    machine.cut_power();
                }
            }
        }
        Change::Shell { to, back } => {
            let (machine, address) = boot(lab, disk, "")?;
            for _ in 0..ROUNDS {
                for (line, side) in [(back, &mut plain), (to, &mut changed)] {
                    machine.shell(&format!("({line})"))?;
                    pass(lab, disk, &machine, &address, side)?;
                }
            }
            machine.cut_power();
        }
    }
    let (with, without) = if setting.is_kept { (plain, changed) } else { (changed, plain) };
    Ok(Ratios {
        is_in_the_image: setting.is_kept,
        speed: ratio(with.speed, without.speed),
        work: ratio(with.work, without.work),
    })
}

fn ratio(with: Figures, without: Figures) -> Figures {
    let mut ratios = with;
    for (ratio, without) in ratios.iter_mut().zip(without) {
        *ratio /= without;
    }
    ratios
}

fn boot(lab: &Lab, disk: &Disk, words: &str) -> Result<(Appliance, String), Failure> {
    let machine = lab
        .appliance()
        .boot(Boot::Kernel)
        .memory(MEMORY)
        .disk(disk)
        .word(words)
        .deadline(Duration::from_secs(600))
        .debug();
    let (machine, address) = lab.boot_with_address(machine)?;
    lab.initiator().wait_discovered(&address, "the disk", SOON, |log| log.len() == 1)?;
    Ok((machine, address))
}

/// Connects, measures, disconnects, and adds what was measured to `side`.
fn pass(lab: &Lab, disk: &Disk, machine: &Appliance, address: &str, side: &mut Side) -> Result<(), Failure> {
    let other = lab.initiator();
    other.wait_discovered(address, "the disk", SOON, |log| log.len() == 1)?;
    other.connect_all(address)?;
    let device = other.wait_disk(disk.serial(), SOON)?.device;
    for (i, workload) in WORKLOADS.iter().enumerate() {
        let before = machine.processor_time()?;
        // The requests of a disk in a second are far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let figure = measure::run(other, &device, SECONDS, workload)? as f64;
        side.speed[i] += figure;
        side.work[i] += machine.processor_time()?.saturating_sub(before).as_secs_f64() / figure;
    }
    other.disconnect_all()?;
    Ok(())
}
