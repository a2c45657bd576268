//! Disks, and the machine's own names, as sysfs has them.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use diskomator_core::disk::{Attributes, Disk};
use diskomator_core::identity::Machine;

use crate::root::{FileError, Root};

/// Where udev puts links by `diskseq`, and where we do in its absence.
const BY_DISKSEQ: &str = "dev/disk/by-diskseq";

/// Every whole disk that the kernel knows now, and what kept others from
/// being read; one that can't be read does not stop the rest.
pub fn disks(root: &Root) -> Result<(Vec<Disk>, Vec<FileError>), FileError> {
    let (mut disks, mut errors) = (Vec::new(), Vec::new());
    let mounted = mounted(root);
    for name in root.list("sys/block")? {
        match attributes(root, &name, &mounted) {
            Ok(attributes) => disks.push(Disk::new(attributes)),
            // Gone between the listing and the look.
            Err(error) if error.io().kind() == io::ErrorKind::NotFound => {}
            Err(error) => errors.push(error),
        }
    }
    Ok((disks, errors))
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

fn attributes(root: &Root, name: &str, mounted: &BTreeSet<String>) -> Result<Attributes, FileError> {
    let directory = format!("sys/block/{name}");
    let at = |file: &str| format!("{directory}/{file}");
    let flag = |file: &str| optional(root, &at(file)).is_some_and(|value| value != "0");
    let resolved = root.resolve(&directory)?;
    let devpath = resolved.to_string_lossy().trim_start_matches("sys/").to_owned();
    let sectors = root.read(at("size"))?;
    Ok(Attributes {
        sectors: sectors.parse().unwrap_or(0),
        diskseq: optional(root, &at("diskseq")).and_then(|value| value.parse().ok()),
        block_size: optional(root, &at("queue/logical_block_size")).and_then(|value| value.parse().ok()).unwrap_or(512),
        read_only: flag("ro"),
        removable: flag("removable"),
        hidden: flag("hidden"),
        holders: root.list(at("holders")).unwrap_or_default(),
        wwid: first(root, &directory, &["wwid", "device/wwid", "device/cid"]),
        serial: first(root, &directory, &["serial", "device/serial"]),
        model: first(root, &directory, &["device/model", "device/name"]),
        vendor: first(root, &directory, &["device/vendor"]),
        firmware: first(root, &directory, &["device/firmware_rev", "device/rev", "device/fwrev"]),
        vpd_serial: root.read_bytes(at("device/vpd_pg80")).ok(),
        vpd_ata: root.read_bytes(at("device/vpd_pg89")).ok(),
        mounted: is_mounted(root, name, mounted),
        usb_version: usb_version(root, &resolved),
        usb_serial: usb_serial(root, &resolved),
        ata_port: ata_port(root, &devpath),
        transport: transport(root, &directory),
        name: name.to_owned(),
        devpath,
    })
}

/// A file that some kinds of disks have.
fn optional(root: &Root, path: &str) -> Option<String> {
    root.read(path).ok().filter(|value| !value.is_empty())
}

fn first(root: &Root, directory: &str, files: &[&str]) -> Option<String> {
    files.iter().find_map(|file| optional(root, &format!("{directory}/{file}")))
}

/// The serial number of the USB device that `disk` is a part of.
fn usb_serial(root: &Root, disk: &Path) -> Option<String> {
    let device = disk.ancestors().find(|directory| root.exists(directory.join("idVendor")))?;
    optional(root, &device.join("serial").to_string_lossy())
}

/// The major version of the USB root hub (`usb2`, whose number is a counter)
/// that `disk` is behind.
fn usb_version(root: &Root, disk: &Path) -> Option<String> {
    let is_root_hub = |directory: &&Path| {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix("usb").is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let version = optional(root, &disk.ancestors().find(is_root_hub)?.join("version").to_string_lossy())?;
    Some(version.split('.').next()?.to_owned())
}

/// The number of the ATA port on its controller.
fn ata_port(root: &Root, devpath: &str) -> Option<u32> {
    let port = devpath
        .split('/')
        .find(|component| component.strip_prefix("ata").is_some_and(|number| number.parse::<u32>().is_ok()))?;
    optional(root, &format!("sys/class/ata_port/{port}/port_no"))?.parse().ok()
}

/// How an NVMe disk is reached: its controller's transport, or that of a path
/// of its subsystem which is not the local bus.
fn transport(root: &Root, directory: &str) -> Option<String> {
    if let Some(transport) = optional(root, &format!("{directory}/device/transport")) {
        return Some(transport);
    }
    let names = root.list(format!("{directory}/device")).ok()?;
    let paths = names.iter().filter(|name| name.starts_with("nvme"));
    let transports = paths.filter_map(|name| optional(root, &format!("{directory}/device/{name}/transport")));
    transports.max_by_key(|transport| transport != "pcie")
}

/// The machine's name, from its firmware or its network cards.
pub fn machine(root: &Root) -> Machine {
    let uuid = optional(root, "sys/class/dmi/id/product_uuid");
    let names = root.list("sys/class/net").unwrap_or_default();
    let macs = |built_in: bool| -> Vec<[u8; 6]> {
        names.iter().filter(|name| is_built_in(root, name) == built_in).filter_map(|name| mac(root, name)).collect()
    };
    let built_in = macs(true);
    // What is plugged in today may be gone tomorrow.
    Machine::new(uuid.as_deref(), &if built_in.is_empty() { macs(false) } else { built_in })
}

fn is_built_in(root: &Root, link: &str) -> bool {
    root.resolve(format!("sys/class/net/{link}")).is_ok_and(|path| {
        !path.components().any(|component| component.as_os_str().to_string_lossy().starts_with("usb"))
    })
}

/// A link's MAC address, if the hardware gave it (`addr_assign_type` 0,
/// `NET_ADDR_PERM`) and it is an Ethernet link (`type` 1, `ARPHRD_ETHER`) with
/// a device behind it.
fn mac(root: &Root, link: &str) -> Option<[u8; 6]> {
    let directory = format!("sys/class/net/{link}");
    let is = |file: &str, value: &str| optional(root, &format!("{directory}/{file}")).as_deref() == Some(value);
    if !is("type", "1") || !is("addr_assign_type", "0") || !root.exists(format!("{directory}/device")) {
        return None;
    }
    let text = optional(root, &format!("{directory}/address"))?;
    let bytes: Vec<u8> = text.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes.try_into().ok()
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
    for disk in &disks {
        if !present.contains(&disk.diskseq.to_string()) {
            note(root.link_relative(format!("../../{}", disk.name), format!("{BY_DISKSEQ}/{}", disk.diskseq)));
        }
    }
    if !root.exists("run/udev/control") {
        for name in present {
            if !disks.iter().any(|disk| disk.diskseq.to_string() == name) {
                note(root.unlink(format!("{BY_DISKSEQ}/{name}")));
            }
        }
    }
    errors
}

/// Lets every Thunderbolt and USB4 device in that waits for it, and returns
/// those. On machines with the security level `user` the kernel keeps docks and
/// enclosures out until somebody agrees (its `admin-guide/thunderbolt.rst`):
/// on this one, whoever plugged them in has.
pub fn authorize_thunderbolt(root: &Root) -> (Vec<String>, Vec<FileError>) {
    const DEVICES: &str = "sys/bus/thunderbolt/devices";
    let (mut authorized, mut errors) = (Vec::new(), Vec::new());
    for name in root.list(DEVICES).unwrap_or_default() {
        let path = format!("{DEVICES}/{name}/authorized");
        if optional(root, &path).as_deref() == Some("0") {
            match root.write(&path, "1") {
                Ok(()) => authorized.push(name),
                Err(error) => errors.push(error),
            }
        }
    }
    (authorized, errors)
}

/// Why a disk does not open for reading and writing, or `None` if it does.
pub fn open_error(root: &Root, disk: &Disk) -> Option<io::Error> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(root.path(format!("dev/{}", disk.name)))
        .err()
}
