//! The measurements of `make demo` and `make bench`. The figures are those of one run on this machine.

use std::fs;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::{Appliance, ApplianceBuilder, Boot, Bus, Error, Initiator, Lab, Result, fio, image_file};

const SOON: Duration = Duration::from_secs(120);
/// The smallest step in RAM that is looked at, in MiB.
const MEMORY_STEP: u32 = 4;

/// Sizes of the image's files, in bytes.
#[derive(Debug, Serialize)]
pub struct Sizes {
    /// The EFI file.
    pub efi: u64,
    /// The raw image.
    pub raw: u64,
    /// The kernel alone.
    pub kernel: u64,
    /// The root file system alone, as the kernel unpacks it.
    pub rootfs: u64,
}

/// Measurements by fio on the other machine, with direct I/O.
#[derive(Debug, Serialize)]
pub struct Throughput {
    /// Sequential reads of 1 MiB, bytes a second.
    pub read: u64,
    /// Sequential writes of 1 MiB, bytes a second.
    pub write: u64,
    /// Random reads of 4 KiB, requests a second.
    pub random_read: u64,
    /// Random writes of 4 KiB, requests a second.
    pub random_write: u64,
    /// Writes of 64 KiB, one after the other, requests a second.
    pub single_write: u64,
}

/// One kind of work that fio does with direct I/O.
pub struct Workload {
    /// A short name, where there is little room.
    pub name: &'static str,
    mode: &'static str,
    block: &'static str,
    depth: u32,
    side: &'static str,
    figure: &'static str,
}

/// The kinds of work that are measured, in the order of [`Throughput`].
pub const WORKLOADS: [Workload; 5] = [
    Workload { name: "read", mode: "read", block: "1M", depth: 8, side: "read", figure: "bw_bytes" },
    Workload { name: "write", mode: "write", block: "1M", depth: 8, side: "write", figure: "bw_bytes" },
    Workload { name: "rand read", mode: "randread", block: "4k", depth: 32, side: "read", figure: "iops" },
    Workload { name: "rand write", mode: "randwrite", block: "4k", depth: 32, side: "write", figure: "iops" },
    Workload { name: "one write", mode: "write", block: "64k", depth: 1, side: "write", figure: "iops" },
];

/// Looks at the image's files.
pub fn sizes() -> Result<Sizes> {
    let size = |name| {
        let path = image_file(name)?;
        fs::metadata(&path).map(|metadata| metadata.len()).map_err(|source| Error::File {
            verb: "examine",
            path,
            source,
        })
    };
    Ok(Sizes {
        efi: size("diskomator.efi")?,
        raw: size("diskomator.raw")?,
        kernel: size("bzImage")?,
        rootfs: size("rootfs.cpio")?,
    })
}

/// Powers a machine on; the time until the other machine finds a disk in its discovery log.
pub fn first_export(lab: &Lab, machine: ApplianceBuilder) -> Result<(Appliance, String, Duration)> {
    let (appliance, address) = lab.boot_with_address(machine)?;
    lab.initiator().wait_discovered(&address, "a disk", SOON, |log| !log.is_empty())?;
    let time = appliance.powered_on().elapsed();
    Ok((appliance, address, time))
}

/// RAM in MiB that the appliance can't give to anything else: all that the machine has, less what is available.
pub fn memory_used(appliance: &Appliance, installed: u32) -> Result<u32> {
    let text = appliance.shell("cat /proc/meminfo")?;
    let available = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u32>().ok())
        .unwrap_or_default();
    Ok(installed.saturating_sub(available / 1024))
}

/// From the start of the first process to the first full screen, by the clock of the machine itself.
pub fn screen_up(appliance: &Appliance) -> Result<Duration> {
    let log = appliance.kernel_log()?;
    let at = |text: &str| {
        let line = log.lines().find(|line| line.contains(text))?;
        let stamp = line.trim_start_matches('[').split(']').next()?.trim();
        stamp.parse().ok().map(Duration::from_secs_f64)
    };
    let times = at("Run /init as init process").zip(at("diskomator-console: the screen is up"));
    let time = times.and_then(|(start, drawn)| drawn.checked_sub(start));
    time.ok_or(Error::Answer { what: "when init started and when the screen was up", text: log })
}

/// The work of the console since its start.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Processor time, in ticks of 10 ms (`proc_pid_stat(5)`).
    pub ticks: u64,
    /// How often it has gone to sleep.
    pub sleeps: u64,
    at: Instant,
}

impl Effort {
    /// The work until now.
    pub fn of_console(appliance: &Appliance) -> Result<Self> {
        let text = appliance.shell(
            "p=$(pidof diskomator-console); set -- $(cat /proc/$p/stat); echo $((${14} + ${15})); \
             sed -n 's/^voluntary_ctxt_switches:.//p' /proc/$p/status",
        )?;
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers.as_slice() {
            [ticks, sleeps] => Ok(Self { ticks: *ticks, sleeps: *sleeps, at: Instant::now() }),
            _ => Err(Error::Answer { what: "the console's time and sleeps", text }),
        }
    }

    /// Processor time since `before`, in hundredths of one processor.
    pub fn percent_since(&self, before: &Self) -> f64 {
        let ticks = u32::try_from(self.ticks.saturating_sub(before.ticks)).unwrap_or(u32::MAX);
        f64::from(ticks) / (self.at - before.at).as_secs_f64()
    }
}

/// Runs fio on a disk of the other machine: bytes or requests a second. The data on the disk is lost.
pub fn run(initiator: &Initiator, device: &str, seconds: u32, workload: &Workload) -> Result<u64> {
    let Workload { mode, block, depth, side, figure, .. } = workload;
    let options = format!(
        "--rw={mode} --bs={block} --iodepth={depth} --time_based --runtime={seconds} --ramp_time=1 --output-format=json"
    );
    let text = initiator.run(&fio(device, &options))?;
    let report: Value =
        serde_json::from_str(&text).map_err(|source| Error::Json { what: "fio", text: text.clone(), source })?;
    let value = report.pointer(&format!("/jobs/0/{side}/{figure}")).and_then(Value::as_f64).unwrap_or_default();
    // Fractions of a byte or a request are noise.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(value.round() as u64)
}

/// All kinds of work.
pub fn throughput(initiator: &Initiator, device: &str, seconds: u32) -> Result<Throughput> {
    let [read, write, random_read, random_write, single_write] = &WORKLOADS;
    let run = |workload| run(initiator, device, seconds, workload);
    Ok(Throughput {
        read: run(read)?,
        write: run(write)?,
        random_read: run(random_read)?,
        random_write: run(random_write)?,
        single_write: run(single_write)?,
    })
}

/// The smallest RAM in MiB with which a machine still exports a disk that can be read, in steps of 4 MiB.
/// `most` is known to be enough.
pub fn smallest_memory(lab: &Lab, boot: Boot, most: u32, mut report: impl FnMut(u32, bool)) -> Result<u32> {
    let (mut too_small, mut enough) = (0, most);
    while enough - too_small > MEMORY_STEP {
        let middle = u32::midpoint(too_small, enough) / MEMORY_STEP * MEMORY_STEP;
        let exports = exports_with(lab, boot, middle)?;
        report(middle, exports);
        if exports {
            enough = middle;
        } else {
            too_small = middle;
        }
    }
    Ok(enough)
}

/// Whether it exports. Any way of failing is a no: a machine that is too small ends in many ways.
fn exports_with(lab: &Lab, boot: Boot, mebibytes: u32) -> Result<bool> {
    let other = lab.initiator();
    let disk = lab.disk(Bus::Nvme, "SMALL", 64)?;
    let machine = lab.appliance().boot(boot).memory(mebibytes).disk(&disk).deadline(Duration::from_secs(75));
    let attempt = || -> Result<()> {
        let (appliance, address, _) = first_export(lab, machine)?;
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), Duration::from_secs(30))?.device;
        other.run(&format!("dd if={device} of=/dev/null bs=1M count=16 iflag=direct status=none"))?;
        other.disconnect_all()?;
        appliance.cut_power();
        Ok(())
    };
    let exports = attempt().is_ok();
    if !exports {
        // A host that lost its disk keeps trying; the next machine must not meet it.
        other.disconnect_all()?;
    }
    Ok(exports)
}

/// Bytes as MiB with one decimal.
pub fn mebibytes(bytes: u64) -> String {
    // 52 bits of mantissa are enough for a disk.
    #[allow(clippy::cast_precision_loss)]
    let value = bytes as f64 / f64::from(1 << 20);
    format!("{value:.1} MiB")
}
