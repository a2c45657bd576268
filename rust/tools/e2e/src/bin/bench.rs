//! `make bench`: measures the image, writes output/bench.json and prints a table.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use e2e::measure::{self, Effort, Sizes, Throughput};
use e2e::program::{exit_code, say, write_json};
use e2e::{Boot, Bus, Failure, Lab, project};
use serde::Serialize;

#[derive(Serialize)]
struct Report {
    accelerator: &'static str,
    bytes: Sizes,
    smallest_ram_mib: SmallestRam,
    first_export_seconds: FirstExport,
    ram_used_mib: u32,
    console: Console,
    throughput: Throughput,
}

/// The status console on the screen.
#[derive(Serialize)]
struct Console {
    /// From the start of the first process to the first full screen.
    up_seconds: f64,
    /// Processor time in hundredths of one processor, while nothing changes and while data flows.
    idle_percent: f64,
    busy_percent: f64,
}

#[derive(Serialize)]
struct SmallestRam {
    uefi: u32,
    kernel: u32,
}

#[derive(Serialize)]
struct FirstExport {
    uefi: f64,
    kernel: f64,
}

/// How long nothing is done.
const IDLE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Failure> {
    // Fourteen boots or so, each emulated.
    let report = Lab::run_for("bench", Duration::from_secs(45 * 60), measure_all)?;
    let path = project().join("output/bench.json");
    write_json(&path, &report)?;
    print(&report);
    Ok(())
}

fn measure_all(lab: &Lab) -> Result<Report, Failure> {
    let bytes = measure::sizes()?;
    let other = lab.initiator();

    say("power-on to first export, under UEFI from a USB stick");
    let installed = 256;
    let disk = lab.disk(Bus::Nvme, "BENCH", 1024)?;
    let machine = lab.appliance().memory(installed).disk(&disk).debug();
    let (appliance, address, uefi) = measure::first_export(lab, machine)?;
    say(&format!("  {:.1} s", uefi.as_secs_f64()));
    let ram_used_mib = measure::memory_used(&appliance, installed)?;
    let up_seconds = measure::screen_up(&appliance)?.as_secs_f64();
    say(&format!("first process to the screen, by the machine's clock: {up_seconds:.2} s"));
    // The work after the start, such as the claim of the network name, is over.
    sleep(Duration::from_secs(10));
    let before = Effort::of_console(&appliance)?;
    sleep(IDLE);
    let idle_percent = Effort::of_console(&appliance)?.percent_since(&before);
    say("throughput that the other machine sees");
    other.wait_discovered(&address, "both disks", Duration::from_secs(60), |log| log.len() == 2)?;
    other.connect_all(&address)?;
    let device = other.wait_disk(disk.serial(), Duration::from_secs(60))?.device;
    let before = Effort::of_console(&appliance)?;
    let throughput = measure::throughput(other, &device, 5)?;
    let busy_percent = Effort::of_console(&appliance)?.percent_since(&before);
    other.disconnect_all()?;
    appliance.cut_power();

    say("power-on to first export, kernel loaded directly");
    let (appliance, _, kernel) = measure::first_export(lab, lab.appliance().boot(Boot::Kernel).disk(&disk))?;
    say(&format!("  {:.1} s", kernel.as_secs_f64()));
    appliance.cut_power();

    let smallest = |boot, name: &str| {
        say(&format!("smallest RAM that exports, {name}"));
        measure::smallest_memory(lab, boot, 128, |mebibytes, exports| {
            say(&format!("  {mebibytes} MiB: {}", if exports { "exports" } else { "does not" }));
        })
    };
    let smallest_ram_mib = SmallestRam {
        uefi: smallest(Boot::UsbStick, "UEFI")?,
        kernel: smallest(Boot::Kernel, "kernel loaded directly")?,
    };
    Ok(Report {
        accelerator: e2e::accelerator(),
        bytes,
        smallest_ram_mib,
        first_export_seconds: FirstExport { uefi: uefi.as_secs_f64(), kernel: kernel.as_secs_f64() },
        ram_used_mib,
        console: Console { up_seconds, idle_percent, busy_percent },
        throughput,
    })
}

fn print(report: &Report) {
    let row = |what: &str, figure: String| say(&format!("  {what:<44} {figure:>12}"));
    say(&format!("\nas measured in this run, with QEMU's accelerator {}", report.accelerator));
    row("EFI file", e2e::measure::mebibytes(report.bytes.efi));
    row("raw image", e2e::measure::mebibytes(report.bytes.raw));
    row("kernel", e2e::measure::mebibytes(report.bytes.kernel));
    row("root file system", e2e::measure::mebibytes(report.bytes.rootfs));
    row("smallest RAM that exports, UEFI", format!("{} MiB", report.smallest_ram_mib.uefi));
    row("smallest RAM that exports, kernel loaded", format!("{} MiB", report.smallest_ram_mib.kernel));
    row("RAM used, one disk", format!("{} MiB", report.ram_used_mib));
    row("first process to the screen", format!("{:.2} s", report.console.up_seconds));
    row("console, nothing changes", format!("{:.2} % CPU", report.console.idle_percent));
    row("console, data flows", format!("{:.2} % CPU", report.console.busy_percent));
    row("power-on to first export, UEFI", format!("{:.1} s", report.first_export_seconds.uefi));
    row("power-on to first export, kernel loaded", format!("{:.1} s", report.first_export_seconds.kernel));
    row("sequential read, 1 MiB", format!("{}/s", e2e::measure::mebibytes(report.throughput.read)));
    row("sequential write, 1 MiB", format!("{}/s", e2e::measure::mebibytes(report.throughput.write)));
    row("random read, 4 KiB", format!("{}/s", report.throughput.random_read));
    row("random write, 4 KiB", format!("{}/s", report.throughput.random_write));
    row("one write after the other, 64 KiB", format!("{}/s", report.throughput.single_write));
    say("  the same figures are in output/bench.json");
}
