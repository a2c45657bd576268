//! Disks, and the machine's own names, as sysfs has them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt};
use std::path::Path;

use disks::disk::{Activity, Answer, Attributes, Bus, Disk};
use disks::kind::Kind;
use disks::selection::Selection;
use kernel::cards::{is_built_in, permanent_mac};
use kernel::root::{FileError, Root};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nvmet::export::{by_diskseq, by_diskseq_controller};
use nvmet::identity::Machine;

use crate::probe::{Key, Prober};

/// Where udev puts links by `diskseq`, and where we do in its absence.
const BY_DISKSEQ: &str = "dev/disk/by-diskseq";

/// Every whole disk that the kernel knows now, with its partitions after it if
/// it is one of `in_parts`, and what kept others from being read; one that
/// can't be read does not stop the rest. Asks no disk; `prober` has the answers that have come.
pub fn disks(root: &Root, prober: &Prober, in_parts: &Selection) -> Result<(Vec<Disk>, Vec<FileError>), FileError> {
    let (mut disks, mut errors) = (Vec::new(), Vec::new());
    let names = root.list("sys/block")?;
    let usage = Usage::of(root, &names);
    for name in names {
        match whole_disk(root, prober, &name, &usage) {
            Ok((mut disk, attributes)) => {
                let mut parts = Vec::new();
                if in_parts.takes(&disk) {
                    parts = partitions(root, &disk, &attributes, &usage);
                }
                disk.in_parts = !parts.is_empty();
                disks.push(disk);
                disks.append(&mut parts);
            }
            // Gone between the listing and the look.
            Err(error) if error.io().kind() == io::ErrorKind::NotFound => {}
            Err(error) => errors.push(error),
        }
    }
    Ok((disks, errors))
}

/// Takes the answers of disks that have come, asks the disks that are due, and forgets those that are gone.
/// [`disks`] reports those that can't be read.
pub fn ask_disks(root: &Root, prober: &mut Prober) -> Result<(), FileError> {
    prober.take_answers();
    let mut present = BTreeSet::new();
    for name in root.list("sys/block")? {
        let key = key(root, &name);
        if prober.is_due(&key) {
            // Each look reads again what changes, such as the use of the disk.
            let attributes = match prober.known(&key) {
                Some(known) => Ok(known.clone()),
                None => attributes(root, &name, Some(key.1).filter(|diskseq| *diskseq != 0), &Usage::default()),
            };
            if let Ok(attributes) = attributes {
                let disk = Disk::new(attributes.clone());
                if key.1 != 0 {
                    prober.learn(&key, attributes);
                }
                if disk.is_probed() {
                    prober.ask(&key, disk.block_size);
                }
            }
        }
        present.insert(key);
    }
    prober.retain(|key| present.contains(key));
    Ok(())
}

/// The disk's name and `diskseq`, which is 0 on kernels before 5.15.
fn key(root: &Root, name: &str) -> Key {
    let diskseq = root.value(format!("sys/block/{name}/diskseq")).and_then(|value| value.parse().ok());
    (name.to_owned(), diskseq.unwrap_or(0))
}

/// The whole disk of this name, as sysfs has it: nothing is asked of the disk itself.
pub fn disk(root: &Root, name: &str) -> Result<Disk, FileError> {
    let usage = Usage::of(root, &root.list("sys/block")?);
    attributes(root, name, None, &usage).map(Disk::new)
}

/// The use of disks by this machine itself.
#[derive(Default)]
struct Usage {
    /// The kernel's names of the block devices that are mounted or swapped to.
    mounted: BTreeSet<String>,
    /// Whether any device is made of others.
    has_holders: bool,
}

impl Usage {
    fn of(root: &Root, names: &[String]) -> Self {
        let is_made_of_others = |name: &&String| {
            Kind::of(name).is_composed
                && root.list(format!("sys/block/{name}/slaves")).is_ok_and(|slaves| !slaves.is_empty())
        };
        Self { mounted: mounted(root), has_holders: names.iter().any(|name| is_made_of_others(&name)) }
    }
}

/// A disk, and what it was made of.
fn whole_disk(root: &Root, prober: &Prober, name: &str, usage: &Usage) -> Result<(Disk, Attributes), FileError> {
    let key = key(root, name);
    let mut attributes = match prober.known(&key) {
        Some(known) => refreshed(root, known.clone(), usage)?,
        None => attributes(root, name, Some(key.1).filter(|diskseq| *diskseq != 0), usage)?,
    };
    let mut disk = Disk::new(attributes.clone());
    if !disk.is_probed() {
        return Ok((disk, attributes));
    }
    let (answer, reply) = prober.answer(&key);
    attributes.serial = attributes.serial.or(reply.serial);
    attributes.boot = reply.is_boot_medium == Some(true);
    attributes.may_be_boot = answer == Answer::Given && reply.is_boot_medium.is_none();
    if reply.is_empty {
        attributes.sectors = 0;
    }
    disk = Disk { answer, open_error: reply.error, ..Disk::new(attributes.clone()) };
    Ok((disk, attributes))
}

/// The partitions of a disk: everything is as the disk has it, but for what
/// makes them parts.
fn partitions(root: &Root, disk: &Disk, whole: &Attributes, usage: &Usage) -> Vec<Disk> {
    let directory = format!("sys/block/{}", disk.name);
    let part = |name: String| {
        let at = |file: &str| root.value(format!("{directory}/{name}/{file}"));
        let number = at("partition")?.parse().ok()?;
        let attributes = Attributes {
            sectors: at("size")?.parse().ok()?,
            read_only: whole.read_only || at("ro").is_some_and(|value| value != "0"),
            holders: root.list(format!("{directory}/{name}/holders")).unwrap_or_default(),
            mounted: usage.mounted.contains(&name),
            partition: Some((number, disk.name.clone())),
            start: at("start").and_then(|value| value.parse().ok()).unwrap_or(0),
            name,
            ..whole.clone()
        };
        Some(Disk { answer: disk.answer, ..Disk::new(attributes) })
    };
    let mut parts: Vec<Disk> = root.list(directory.as_str()).unwrap_or_default().into_iter().filter_map(part).collect();
    parts.sort_by_key(|part| part.partition.as_ref().map(|(number, _)| *number));
    parts
}

/// The kernel's names of the block devices that are mounted or swapped to.
fn mounted(root: &Root) -> BTreeSet<String> {
    let tables = ["proc/self/mounts", "proc/swaps"].map(|table| root.read(table).unwrap_or_default());
    let sources = tables.iter().flat_map(|table| table.lines()).filter_map(|line| line.split_whitespace().next());
    sources
        .filter_map(|source| source.strip_prefix("/dev/"))
        .filter_map(|device| {
            Some(root.resolve(format!("dev/{device}")).ok()?.file_name()?.to_string_lossy().into_owned())
        })
        .collect()
}

/// Whether the disk or one of its partitions, which are directories of it, is
/// among them.
fn is_mounted(root: &Root, name: &str, mounted: &BTreeSet<String>) -> bool {
    mounted.contains(name) || mounted.iter().any(|part| root.exists(format!("sys/block/{name}/{part}/partition")))
}

/// The attributes that can change while a disk is there, read again. The rest is some thirty
/// files, which counts on a machine with many disks.
fn refreshed(root: &Root, known: Attributes, usage: &Usage) -> Result<Attributes, FileError> {
    let directory = format!("sys/block/{}", known.name);
    let at = |file: &str| format!("{directory}/{file}");
    Ok(Attributes {
        sectors: root.read(at("size"))?.parse().unwrap_or(0),
        block_size: root.value(at("queue/logical_block_size")).and_then(|value| value.parse().ok()).unwrap_or(512),
        read_only: root.value(at("ro")).is_some_and(|value| value != "0"),
        holders: if usage.has_holders { holders(root, &directory, &known.name) } else { Vec::new() },
        mounted: is_mounted(root, &known.name, &usage.mounted),
        ..known
    })
}

fn attributes(root: &Root, name: &str, diskseq: Option<u64>, usage: &Usage) -> Result<Attributes, FileError> {
    let directory = format!("sys/block/{name}");
    let at = |file: &str| format!("{directory}/{file}");
    let flag = |file: &str| root.value(at(file)).is_some_and(|value| value != "0");
    let resolved = root.resolve(&directory)?;
    let devpath = resolved.to_string_lossy().trim_start_matches("sys/").to_owned();
    // Each file that is not there costs as much as one that is, which counts with many disks.
    let kind = Kind::of(name);
    let (is_usb, is_nvme) = (devpath.contains("/usb"), kind.is_always(Bus::Nvme));
    let attributes = Attributes {
        diskseq,
        rotational: flag("queue/rotational"),
        zoned: root.value(at("queue/zoned")).filter(|value| value != "none"),
        removable: flag("removable"),
        hidden: flag("hidden"),
        wwid: first(root, &directory, &["wwid", "device/wwid", "device/cid", "dm/uuid", "md/uuid"]),
        // `probe` reads a serial number that the device itself is asked for.
        serial: first(root, &directory, if kind.is_serial_asked { &[] } else { &["serial", "device/serial"] }),
        model: first(root, &directory, &["device/model", "device/name", "dm/name"]),
        vendor: first(root, &directory, &["device/vendor"]),
        firmware: first(root, &directory, &["device/firmware_rev", "device/rev", "device/fwrev"]),
        vpd_serial: root.read_bytes(at("device/vpd_pg80")).ok(),
        vpd_ata: root.read_bytes(at("device/vpd_pg89")).ok(),
        usb_version: if is_usb { usb_version(root, &resolved) } else { None },
        usb_serial: if is_usb { usb_serial(root, &resolved) } else { None },
        ata_port: ata_port(root, &devpath),
        transport: if is_nvme { transport(root, &directory) } else { None },
        controllers: if is_nvme { controllers(root, &directory) } else { Vec::new() },
        nsid: if is_nvme { root.value(at("nsid")).and_then(|value| value.parse().ok()) } else { None },
        name: name.to_owned(),
        devpath,
        ..Attributes::default()
    };
    refreshed(root, attributes, usage)
}

/// The devices that are made of the disk or of a partition of it.
fn holders(root: &Root, directory: &str, name: &str) -> Vec<String> {
    let mut holders = root.list(format!("{directory}/holders")).unwrap_or_default();
    for part in root.list(directory).unwrap_or_default().iter().filter(|part| part.starts_with(name)) {
        holders.extend(root.list(format!("{directory}/{part}/holders")).unwrap_or_default());
    }
    holders.sort_unstable();
    holders.dedup();
    holders
}

fn first(root: &Root, directory: &str, files: &[&str]) -> Option<String> {
    files.iter().find_map(|file| root.value(format!("{directory}/{file}")))
}

/// The serial number of the USB device that `disk` is a part of.
fn usb_serial(root: &Root, disk: &Path) -> Option<String> {
    let device = disk.ancestors().find(|directory| root.exists(directory.join("idVendor")))?;
    root.value(device.join("serial"))
}

/// The major version of the USB root hub (`usb2`, whose number is a counter)
/// that `disk` is behind.
fn usb_version(root: &Root, disk: &Path) -> Option<String> {
    let is_root_hub = |directory: &&Path| {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix("usb").is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let version = root.value(disk.ancestors().find(is_root_hub)?.join("version"))?;
    Some(version.split('.').next()?.to_owned())
}

/// The number of the ATA port on its controller.
fn ata_port(root: &Root, devpath: &str) -> Option<u32> {
    let port = devpath
        .split('/')
        .find(|component| component.strip_prefix("ata").is_some_and(|number| number.parse::<u32>().is_ok()))?;
    root.value(format!("sys/class/ata_port/{port}/port_no"))?.parse().ok()
}

/// How an NVMe disk is reached: its controller's transport, or that of a path
/// of its subsystem which is not the local bus.
fn transport(root: &Root, directory: &str) -> Option<String> {
    if let Some(transport) = root.value(format!("{directory}/device/transport")) {
        return Some(transport);
    }
    let names = root.list(format!("{directory}/device")).ok()?;
    let paths = names.iter().filter(|name| name.starts_with("nvme"));
    let transports = paths.filter_map(|name| root.value(format!("{directory}/device/{name}/transport")));
    transports.max_by_key(|transport| transport != "pcie")
}

/// The controllers of an NVMe disk: the device that it is on, or, with the
/// kernel's multipath, each of its subsystem.
fn controllers(root: &Root, directory: &str) -> Vec<String> {
    let is_controller = |name: &str| root.exists(format!("sys/class/nvme/{name}"));
    let device = root.resolve(format!("{directory}/device")).ok();
    let own = device.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    if let Some(own) = own.filter(|own| is_controller(own)) {
        return vec![own];
    }
    let mut names = root.list(format!("{directory}/device")).unwrap_or_default();
    names.retain(|name| is_controller(name));
    names
}

/// The machine's name, from its firmware and its network cards.
pub fn machine(root: &Root) -> Machine {
    let uuid = root.value("sys/class/dmi/id/product_uuid");
    let boot = root.value("proc/sys/kernel/random/boot_id").unwrap_or_default();
    let names = root.list("sys/class/net").unwrap_or_default();
    let macs = |built_in: bool| -> Vec<[u8; 6]> {
        names
            .iter()
            .filter(|name| is_built_in(root, name) == built_in)
            .filter_map(|name| permanent_mac(root, name))
            .collect()
    };
    let built_in = macs(true);
    // A card that is plugged in today may be gone tomorrow.
    Machine::new(uuid.as_deref(), &if built_in.is_empty() { macs(false) } else { built_in }, &boot)
}

/// Whether there is any network card. Those that are plugged in are found some
/// time after the start, and without one nobody could use a disk.
pub fn has_network_card(root: &Root) -> bool {
    let names = root.list("sys/class/net").unwrap_or_default();
    names.iter().any(|name| root.exists(format!("sys/class/net/{name}/device")))
}

/// Sees to it that there is a link by `diskseq` for each disk, and, where no
/// udev does this, that there are none for disks which are gone.
pub fn link_by_diskseq<'a>(root: &Root, disks: impl Iterator<Item = &'a Disk>) -> Vec<FileError> {
    let disks: Vec<&Disk> = disks.filter(|disk| disk.diskseq != 0).collect();
    let mut errors = Vec::new();
    let mut note = |result: Result<(), FileError>| {
        errors.extend(result.err().filter(|error| error.io().kind() != io::ErrorKind::AlreadyExists));
    };
    for directory in ["dev/disk", BY_DISKSEQ] {
        if !root.exists(directory) {
            note(root.make_dir(directory));
        }
    }
    let present = root.list(BY_DISKSEQ).unwrap_or_default();
    let controllers = disks.iter().filter_map(|disk| Some((by_diskseq_controller(disk)?, disk.controller.clone()?)));
    let links: Vec<(String, String)> =
        disks.iter().map(|disk| (by_diskseq(disk), disk.name.clone())).chain(controllers).collect();
    for (link, device) in &links {
        if !present.contains(link) {
            note(root.link_relative(format!("../../{device}"), format!("{BY_DISKSEQ}/{link}")));
        }
    }
    if !root.exists("run/udev/control") {
        for name in present {
            if !links.iter().any(|(link, _)| *link == name) {
                note(root.unlink(format!("{BY_DISKSEQ}/{name}")));
            }
        }
    }
    errors
}

/// Lets every Thunderbolt and USB4 device in that waits for it, and returns
/// those. On machines with the security level `user` the kernel keeps docks and
/// enclosures out until the user agrees (its `admin-guide/thunderbolt.rst`):
/// on this one, the user who plugged them in has.
pub fn authorize_thunderbolt(root: &Root) -> (Vec<String>, Vec<FileError>) {
    const DEVICES: &str = "sys/bus/thunderbolt/devices";
    let (mut authorized, mut errors) = (Vec::new(), Vec::new());
    for name in root.list(DEVICES).unwrap_or_default() {
        let path = format!("{DEVICES}/{name}/authorized");
        if root.value(&path).as_deref() == Some("0") {
            match root.write(&path, "1") {
                Ok(()) => authorized.push(name),
                Err(error) => errors.push(error),
            }
        }
    }
    (authorized, errors)
}

/// The I/O of a disk or partition, finished and in flight.
pub fn activity(root: &Root, disk: &Disk) -> Option<Activity> {
    Activity::parse(&root.read(format!("{}/stat", directory(disk))).ok()?)
}

/// The switch of the light at a disk's bay, below the root, if it is in an
/// enclosure that tells (the kernel's `drivers/misc/enclosure.c`).
pub fn light(root: &Root, disk: &str) -> Option<String> {
    let device = format!("sys/block/{disk}/device");
    let bay = root.list(&device).ok()?.into_iter().find(|name| name.starts_with("enclosure_device:"))?;
    let switch = format!("{device}/{bay}/locate");
    root.exists(&switch).then_some(switch)
}

/// A disk that is read from, and not from memory.
#[derive(Debug)]
pub struct Uncached {
    disk: File,
    at: u64,
    size: u64,
    buffer: Vec<u8>,
}

impl Uncached {
    /// Opens the disk `name`, to read `chunk` bytes at once, if it is the one with that `diskseq`.
    pub fn open(root: &Root, name: &str, diskseq: Option<u64>, chunk: usize) -> io::Result<Self> {
        let mut disk = File::open(root.path(format!("dev/{name}")))?;
        check_diskseq(&disk, diskseq)?;
        let size = disk.seek(SeekFrom::End(0))?;
        Ok(Self { disk, at: 0, size, buffer: vec![0; chunk] })
    }

    /// Reads what comes next, or the start again after the end.
    pub fn read_on(&mut self) -> io::Result<()> {
        if self.at >= self.size {
            self.at = 0;
        }
        let length = self.disk.read_at(&mut self.buffer, self.at)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The next time it must come from the disk again.
        let offset = nix::libc::off_t::try_from(self.at).map_err(io::Error::other)?;
        posix_fadvise(&self.disk, offset, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        self.at += u64::try_from(length).map_err(io::Error::other)?;
        Ok(())
    }

    /// Reads all of these bytes from the place `at`. Hosts write past this machine's memory, in which older ones may be.
    pub fn read_exact(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        posix_fadvise(&self.disk, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        self.disk.read_exact_at(bytes, at)
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Has the kernel ask a SCSI device for its size again; `devpath` is the device's,
/// from a uevent. Waits for the device.
pub fn rescan_scsi(root: &Root, devpath: &str) -> Result<(), FileError> {
    root.write(format!("sys/{}/rescan", devpath.trim_start_matches('/')), "1")
}

/// Has a disk write what it holds in its cache. `device` is a path below the
/// root. Waits for the disk.
pub fn flush(root: &Root, device: &str) -> io::Result<()> {
    // For reading only, as closing it otherwise would set udev to work.
    let disk = File::open(root.path(device.trim_start_matches('/')))?;
    disk.sync_all()
}

nix::ioctl_read!(
    /// `BLKGETDISKSEQ` (`include/uapi/linux/fs.h`): the number of the disk that was opened.
    blkgetdiskseq,
    0x12,
    128,
    u64
);

/// Whether the device that was opened is the disk that is meant: the kernel gives its name to the next one.
fn check_diskseq(device: &File, diskseq: Option<u64>) -> io::Result<()> {
    let Some(diskseq) = diskseq else { return Ok(()) };
    let mut found = 0;
    // SAFETY: the descriptor is open, and the kernel writes one u64.
    unsafe { blkgetdiskseq(device.as_raw_fd(), &raw mut found) }?;
    if found == diskseq { Ok(()) } else { Err(io::Error::new(io::ErrorKind::NotFound, "it is another disk now")) }
}

nix::ioctl_write_ptr_bad!(
    /// `BLKROSET` (`include/uapi/linux/fs.h`): whether a block device may only be read.
    blkroset,
    0x125d,
    i32
);

/// Has the kernel refuse writes to a disk or partition, or not any more if it
/// was told to refuse them before, and tells everyone. Waits for the disk. A later
/// one of the same name stays as it is.
pub fn set_read_only(root: &Root, disk: &Disk, read_only: bool) -> Result<(), FileError> {
    let path = root.path(format!("dev/{}", disk.name));
    let set = || -> io::Result<()> {
        let device = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path)?;
        // Kernels before 5.15 have no such number.
        check_diskseq(&device, Some(disk.diskseq).filter(|diskseq| *diskseq != 0))?;
        // SAFETY: the descriptor is open, and the kernel reads one int.
        unsafe { blkroset(device.as_raw_fd(), &i32::from(read_only)) }?;
        Ok(())
    };
    set().map_err(|source| FileError::Protect { path: path.clone(), read_only, source })?;
    // The kernel itself says nothing of it.
    root.write(format!("{}/uevent", directory(disk)), "change")
}

/// Where sysfs has the disk or partition.
fn directory(disk: &Disk) -> String {
    match &disk.partition {
        Some((_, whole)) => format!("sys/block/{whole}/{}", disk.name),
        None => format!("sys/block/{}", disk.name),
    }
}

/// Has the kernel look every two seconds whether a medium was changed in a drive
/// that does not tell by itself, as udev has it do. An interval that is set already stays.
pub fn poll_media(root: &Root) -> Result<(), FileError> {
    const POLL: &str = "sys/module/block/parameters/events_dfl_poll_msecs";
    if root.read(POLL)? == "0" {
        root.write(POLL, "2000")?;
    }
    Ok(())
}

/// Whether the applet `name` of this program is running.
pub fn is_running(root: &Root, name: &str) -> bool {
    let is_it = |process: &String| {
        process.parse::<u32>().is_ok() && {
            let arguments = root.read_bytes(format!("proc/{process}/cmdline")).unwrap_or_default();
            is_applet(&arguments, name)
        }
    };
    root.list("proc").unwrap_or_default().iter().any(is_it)
}

/// Whether a process with these arguments, each ended by a zero byte, is the
/// applet `name`: `diskomator-hotplug`, or `diskomator hotplug`.
fn is_applet(arguments: &[u8], name: &str) -> bool {
    let mut words = arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let program = words.next().unwrap_or_default();
    match program.rsplit('/').next().and_then(|file| file.strip_prefix("diskomator")) {
        Some("") => words.next().is_some_and(|applet| applet == name),
        Some(rest) => rest.strip_prefix('-') == Some(name),
        None => false,
    }
}

/// How many processors and how many bytes of memory this machine has for us.
pub fn capacity() -> (usize, u64) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    // Of a machine that does not tell, the least is assumed.
    (processors, nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_applet_is_known_by_either_of_its_names() {
        for (arguments, is_hotplug) in [
            (&b"/usr/sbin/diskomator-hotplug\0"[..], true),
            (b"diskomator\0hotplug\0", true),
            (b"./diskomator\0hotplug", true),
            (b"diskomator\0export\0hotplug\0", false),
            (b"diskomator-hotplug2\0", false),
            (b"vi\0diskomator-hotplug\0", false),
            (b"", false),
        ] {
            assert_eq!(is_applet(arguments, "hotplug"), is_hotplug, "{:?}", String::from_utf8_lossy(arguments));
        }
    }
}
