//! The disk that is to be written to: what it is, and why it may not be.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use diskomator_core::disk::{Bus, Disk, human_size};
use diskomator_sys::root::{FileError, Root};
use diskomator_sys::sysfs;
use thiserror::Error;

/// Where a disk is mounted that no machine can do without.
const SYSTEM: [&str; 6] = ["/", "/usr", "/boot", "/boot/efi", "/efi", "/var"];

/// Why a path is not a disk's.
#[derive(Debug, Error)]
pub(crate) enum PathError {
    #[error("there is no {0}")]
    Missing(PathBuf),
    #[error("{0} is a file and not a device; to write into a file, say which blocks its disk has: SECTOR=512 or 4096")]
    File(PathBuf),
    #[error("{0} is not a block device")]
    NotBlock(PathBuf),
    #[error("{path} is a partition; the whole disk is /dev/{whole}: DEV=/dev/{whole}")]
    Partition { path: PathBuf, whole: String },
    #[error("failed to look at {path}")]
    Look { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Sysfs(#[from] FileError),
}

/// Why a disk is not written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What this machine runs from is on it.
    System { at: String },
    /// Something of it is mounted: the device, and where.
    Mounted(Vec<(String, String)>),
    /// This machine swaps to it.
    Swap(Vec<String>),
    /// RAID or device mapper are made of it.
    Held(Vec<String>),
    /// It can't be written to.
    ReadOnly,
    /// There is nothing in the drive.
    Empty,
    /// It has fewer bytes than the image needs.
    TooSmall { least: u64 },
    /// Its blocks are none that a FAT file system can have.
    Blocks(u32),
    /// CDs and DVDs are written otherwise.
    Optical,
    /// Nothing says that it is a stick or a card.
    Fixed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { at } => write!(f, "this machine runs from it: {at} is on it. Choose another device"),
            Self::Mounted(places) => {
                for (device, at) in places {
                    write!(f, "/dev/{device} is mounted on {at}; ")?;
                }
                let devices: BTreeSet<String> = places.iter().map(|(device, _)| format!("/dev/{device}")).collect();
                write!(f, "unmount it: sudo umount {}", devices.into_iter().collect::<Vec<_>>().join(" "))
            }
            Self::Swap(devices) => {
                let devices: Vec<String> = devices.iter().map(|device| format!("/dev/{device}")).collect();
                write!(f, "this machine swaps to it; stop that: sudo swapoff {}", devices.join(" "))
            }
            Self::Held(names) => {
                write!(f, "in use by {} (RAID, LVM or encryption); stop that first", names.join(", "))
            }
            Self::ReadOnly => f.write_str("it is read-only; is the card's lock on?"),
            Self::Empty => f.write_str("there is no medium in it"),
            Self::TooSmall { least } => write!(f, "it is too small: the image needs {}", human_size(*least)),
            Self::Blocks(size) => write!(f, "its blocks have {size} bytes; firmware boots from 512 and 4096 only"),
            Self::Optical => f.write_str("it is a CD or DVD drive; take a USB stick or a card"),
            Self::Fixed => f.write_str(
                "it is neither removable nor on USB, so probably not a stick. If it is really the one that is to be \
                 overwritten: FORCE=1",
            ),
        }
    }
}

/// A whole disk and what this machine does with it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) disk: Disk,
    mounts: Vec<(String, String)>,
    swaps: Vec<String>,
    holders: Vec<String>,
    is_stick: bool,
}

/// The kernel's name of the whole disk that `path` leads to.
pub(crate) fn name_of(root: &Root, path: &Path) -> Result<String, PathError> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(PathError::Missing(path.to_owned())),
        Err(source) => return Err(PathError::Look { path: path.to_owned(), source }),
    };
    if metadata.is_file() {
        return Err(PathError::File(path.to_owned()));
    }
    if !metadata.file_type().is_block_device() {
        return Err(PathError::NotBlock(path.to_owned()));
    }
    let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    whole_disk(root, path, &format!("{major}:{minor}"))
}

/// The same, by the device's number.
fn whole_disk(root: &Root, path: &Path, number: &str) -> Result<String, PathError> {
    let directory = root.resolve(format!("sys/dev/block/{number}"))?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if root.exists(directory.join("partition")) {
        let whole = directory.parent().map(name).unwrap_or_default();
        return Err(PathError::Partition { path: path.to_owned(), whole });
    }
    Ok(name(&directory))
}

impl Target {
    /// Looks at the disk of this name.
    pub(crate) fn look(root: &Root, name: &str) -> Result<Self, FileError> {
        let disk = sysfs::disk(root, name)?;
        // A card, but no eMMC, which is soldered in.
        let is_card = || root.read(format!("sys/block/{name}/device/type")).is_ok_and(|kind| kind == "SD");
        let is_stick = match disk.bus {
            Bus::Usb => true,
            Bus::Mmc => is_card(),
            _ => disk.removable,
        };
        let own = own(root, name);
        let devices = with_holders(root, &own);
        let holders = devices.iter().filter(|device| !own.contains(*device)).map(|device| {
            let names = ["dm/name", "md/array_state"].map(|file| root.read(format!("sys/block/{device}/{file}")));
            match names {
                [Ok(name), _] => format!("{device} ({name})"),
                _ => device.clone(),
            }
        });
        Ok(Self {
            holders: holders.collect(),
            mounts: mounts(root, &devices),
            swaps: swaps(root).into_iter().filter(|device| devices.contains(device)).collect(),
            disk,
            is_stick,
        })
    }

    /// The first reason not to write to it, the worst first. `least` is what the image needs, in bytes. Force helps
    /// where the only doubt is whether it is the one that was meant.
    pub(crate) fn refusal(&self, least: u64, force: bool) -> Option<Refusal> {
        let system = self.mounts.iter().find(|(_, at)| SYSTEM.contains(&at.as_str()));
        if let Some((_, at)) = system {
            return Some(Refusal::System { at: at.clone() });
        }
        let in_use = [
            (!self.mounts.is_empty()).then(|| Refusal::Mounted(self.mounts.clone())),
            (!self.swaps.is_empty()).then(|| Refusal::Swap(self.swaps.clone())),
            (!self.holders.is_empty()).then(|| Refusal::Held(self.holders.clone())),
        ];
        let disk = &self.disk;
        in_use.into_iter().flatten().next().or_else(|| {
            Some(if disk.name.starts_with("sr") {
                Refusal::Optical
            } else if disk.size == 0 {
                Refusal::Empty
            } else if disk.read_only {
                Refusal::ReadOnly
            } else if ![512, 4096].contains(&disk.block_size) {
                Refusal::Blocks(disk.block_size)
            } else if disk.size < least {
                Refusal::TooSmall { least }
            } else if !self.is_stick && !force {
                Refusal::Fixed
            } else {
                return None;
            })
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = &self.disk;
        let model = disk.model.as_deref().unwrap_or("unknown model");
        write!(f, "{model}, ")?;
        match &disk.serial {
            Some(serial) => write!(f, "serial number {serial}, ")?,
            None => write!(f, "no serial number, ")?,
        }
        write!(f, "{}, {}, blocks of {} bytes", human_size(disk.size), disk.bus, disk.block_size)
    }
}

/// Every disk that would be taken, by the name that `/dev/disk/by-id` has for it, or the kernel's.
pub(crate) fn candidates(root: &Root, least: u64) -> Vec<(PathBuf, Target)> {
    let names = root.list("sys/block").unwrap_or_default();
    let targets = names.iter().filter_map(|name| Target::look(root, name).ok());
    let fit = targets.filter(|target| target.disk.bus != Bus::Virtual && target.refusal(least, false).is_none());
    fit.map(|target| (path_by_id(root, &target.disk.name), target)).collect()
}

/// The name that is the same wherever the disk is plugged in.
fn path_by_id(root: &Root, name: &str) -> PathBuf {
    const BY_ID: &str = "dev/disk/by-id";
    let leads_here = |id: &String| root.resolve(format!("{BY_ID}/{id}")).is_ok_and(|device| device.ends_with(name));
    // Of its several names, one that tells the model.
    let mut ids: Vec<String> = root.list(BY_ID).unwrap_or_default().into_iter().filter(leads_here).collect();
    ids.sort_by_key(|id| id.starts_with("wwn-"));
    let path = ids.first().map_or_else(|| format!("dev/{name}"), |id| format!("{BY_ID}/{id}"));
    root.path(path)
}

/// The disk and its partitions.
fn own(root: &Root, name: &str) -> BTreeSet<String> {
    let entries = root.list(format!("sys/block/{name}")).unwrap_or_default();
    let parts = entries.into_iter().filter(|entry| root.exists(format!("sys/block/{name}/{entry}/partition")));
    parts.chain([name.to_owned()]).collect()
}

/// These devices, and all that are made of them, and of those.
fn with_holders(root: &Root, own: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left: Vec<String> = own.iter().cloned().collect();
    while let Some(device) = left.pop() {
        if !found.insert(device.clone()) {
            continue;
        }
        left.extend(root.list(format!("sys/class/block/{device}/holders")).unwrap_or_default());
        // Such a device can have partitions itself.
        left.extend(self::own(root, &device));
    }
    found
}

/// Which of these devices are mounted, and where: by their numbers, since the source of a mount may be a name that
/// is no more, and by the source, since btrfs has numbers of its own (`proc_pid_mountinfo(5)`).
fn mounts(root: &Root, devices: &BTreeSet<String>) -> Vec<(String, String)> {
    let number = |device: &String| Some((root.read(format!("sys/class/block/{device}/dev")).ok()?, device.clone()));
    let numbers: Vec<(String, String)> = devices.iter().filter_map(number).collect();
    let table = root.read("proc/self/mountinfo").unwrap_or_default();
    let mut found = Vec::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (Some(number), Some(at)) = (fields.get(2), fields.get(4)) else { continue };
        let separator = fields.iter().position(|field| *field == "-").unwrap_or(fields.len());
        let source = fields.get(separator + 2).and_then(|source| kernel_name(root, &unescaped(source)));
        let by_number = numbers.iter().find(|(own, _)| own == number).map(|(_, device)| device.clone());
        if let Some(device) = by_number.or_else(|| source.filter(|source| devices.contains(source))) {
            found.push((device, unescaped(at)));
        }
    }
    found
}

/// The kernel's names of what is swapped to.
fn swaps(root: &Root) -> Vec<String> {
    let table = root.read("proc/swaps").unwrap_or_default();
    let sources = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    sources.filter_map(|source| kernel_name(root, &unescaped(source))).collect()
}

fn kernel_name(root: &Root, device: &str) -> Option<String> {
    let path = root.resolve(device.strip_prefix('/').filter(|path| path.starts_with("dev/"))?).ok()?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// Spaces and the like are octal in the tables of the kernel.
fn unescaped(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .into_iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}
