//! The disk that is to be written to: what it is, and why it may not be.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use disks::disk::{Disk, human_size};
use disks::kind::{Identifiers, Media};
use kernel::root::{FileError, Root};
use local::sysfs;
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

/// The reason why a disk is not written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// This machine runs from it.
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

impl fmt::Display for Unfit {
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
        let is_stick = match disk.bus.identifiers() {
            Identifiers::Electronics => true,
            Identifiers::Card => is_card(),
            Identifiers::Disk | Identifiers::DiskAtPort | Identifiers::Software => disk.removable,
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
    pub(crate) fn refusal(&self, least: u64, force: bool) -> Option<Unfit> {
        let system = self.mounts.iter().find(|(_, at)| SYSTEM.contains(&at.as_str()));
        if let Some((_, at)) = system {
            return Some(Unfit::System { at: at.clone() });
        }
        let in_use = [
            (!self.mounts.is_empty()).then(|| Unfit::Mounted(self.mounts.clone())),
            (!self.swaps.is_empty()).then(|| Unfit::Swap(self.swaps.clone())),
            (!self.holders.is_empty()).then(|| Unfit::Held(self.holders.clone())),
        ];
        let disk = &self.disk;
        in_use.into_iter().flatten().next().or_else(|| {
            Some(if disk.kind().media == Media::Discs {
                Unfit::Optical
            } else if disk.size == 0 {
                Unfit::Empty
            } else if disk.read_only {
                Unfit::ReadOnly
            } else if ![512, 4096].contains(&disk.block_size) {
                Unfit::Blocks(disk.block_size)
            } else if disk.size < least {
                Unfit::TooSmall { least }
            } else if !self.is_stick && !force {
                Unfit::Fixed
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
    let fit = targets.filter(|target| target.disk.is_probed() && target.refusal(least, false).is_none());
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

/// Where the kernel has found partitions on a disk, in bytes; in whichever kind of table.
pub(crate) fn partitions(root: &Root, name: &str) -> Vec<Range<u64>> {
    // sysfs counts in these, whatever the disk's own blocks are.
    const SECTOR: u64 = 512;
    let parts = own(root, name).into_iter().filter(|part| part != name);
    let range = |part: String| {
        let number = |file: &str| root.read(format!("sys/block/{name}/{part}/{file}")).ok()?.parse::<u64>().ok();
        let start = number("start")?.checked_mul(SECTOR)?;
        Some(start..start.checked_add(number("size")?.checked_mul(SECTOR)?)?)
    };
    parts.filter_map(range).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use tempfile::TempDir;

    const LEAST: u64 = 16 << 20;

    /// A machine with a stick `sdb` of two partitions, as the kernel describes it.
    struct Machine(TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Self(TempDir::new().unwrap());
            machine.disk("sdb", "devices/pci0000:00/usb1/1-1/1-1:1.0/host2/target2:0:0/2:0:0:0/block/sdb", "8:16");
            machine.part("sdb", "sdb1", "8:17");
            machine.part("sdb", "sdb2", "8:18");
            machine.set("proc/self/mountinfo", "22 1 0:21 / /proc rw - proc proc rw\n");
            machine
        }

        fn set(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }

        fn link(&self, path: &str, target: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(self.0.path().join(target), path).unwrap();
        }

        fn disk(&self, name: &str, devpath: &str, number: &str) {
            let files = [("size", "65536"), ("ro", "0"), ("removable", "0"), ("queue/logical_block_size", "512")];
            for (file, value) in files.into_iter().chain([("dev", number), ("device/model", "Stick")]) {
                self.set(&format!("sys/{devpath}/{file}"), value);
            }
            for class in
                [format!("sys/block/{name}"), format!("sys/class/block/{name}"), format!("sys/dev/block/{number}")]
            {
                self.link(&class, &format!("sys/{devpath}"));
            }
            self.set(&format!("dev/{name}"), "");
        }

        fn part(&self, disk: &str, name: &str, number: &str) {
            let directory = self.root().resolve(format!("sys/block/{disk}")).unwrap().join(name);
            let directory = directory.to_str().unwrap();
            self.set(&format!("{directory}/partition"), "1");
            self.set(&format!("{directory}/dev"), number);
            self.link(&format!("sys/class/block/{name}"), directory);
            self.link(&format!("sys/dev/block/{number}"), directory);
            self.set(&format!("dev/{name}"), "");
        }

        /// `name` is made of `part`.
        fn hold(&self, part: &str, name: &str, number: &str) {
            self.disk(name, &format!("devices/virtual/block/{name}"), number);
            fs::create_dir_all(self.0.path().join(format!("sys/class/block/{part}/holders/{name}"))).unwrap();
        }

        fn root(&self) -> Root {
            Root::at(self.0.path())
        }

        fn refusal(&self, name: &str, force: bool) -> String {
            let refusal = Target::look(&self.root(), name).unwrap().refusal(LEAST, force);
            refusal.map(|refusal| refusal.to_string()).unwrap_or_default()
        }
    }

    #[test]
    fn a_stick_that_nobody_uses_is_taken_and_offered_by_the_name_that_stays() {
        let machine = Machine::new();
        assert_eq!(machine.refusal("sdb", false), "");
        machine.link("dev/disk/by-id/usb-Stick_1234-0:0", "dev/sdb");
        machine.link("dev/disk/by-id/usb-Stick_1234-0:0-part1", "dev/sdb1");
        machine.link("dev/disk/by-id/wwn-0x1", "dev/sdb");
        machine.disk("sda", "devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda", "8:0");
        let offered = candidates(&machine.root(), LEAST);
        let paths: Vec<_> = offered.iter().map(|(path, _)| path.strip_prefix(machine.0.path()).unwrap()).collect();
        assert_eq!(paths, [Path::new("dev/disk/by-id/usb-Stick_1234-0:0")]);
        assert_eq!(offered[0].1.to_string(), "Stick, no serial number, 32 MiB, usb, blocks of 512 bytes");
    }

    #[test]
    fn the_places_of_partitions_are_known_whatever_the_blocks() {
        let machine = Machine::new();
        for (part, start, size) in [("sdb1", "2048", "4096"), ("sdb2", "8192", "18446744073709551615")] {
            machine.set(&format!("sys/block/sdb/{part}/start"), start);
            machine.set(&format!("sys/block/sdb/{part}/size"), size);
        }
        let found = partitions(&machine.root(), "sdb");
        assert_eq!((found.len(), &found[0]), (1, &(1 << 20..3 << 20)));
    }

    #[test]
    fn what_is_mounted_is_refused_and_the_way_out_is_said() {
        let machine = Machine::new();
        machine.set(
            "proc/self/mountinfo",
            "30 22 8:17 / /media/my\\040stick rw - vfat /dev/gone rw\n\
             31 22 0:40 /sub /mnt rw shared:7 master:2 - btrfs /dev/sdb2 rw",
        );
        let said = "/dev/sdb1 is mounted on /media/my stick; /dev/sdb2 is mounted on /mnt; \
                    unmount it: sudo umount /dev/sdb1 /dev/sdb2";
        assert_eq!(machine.refusal("sdb", true), said);
    }

    #[test]
    fn the_disk_of_the_running_system_is_refused_whatever_is_in_between() {
        let machine = Machine::new();
        machine.hold("sdb2", "dm-0", "253:0");
        machine.set("sys/devices/virtual/block/dm-0/dm/name", "luks");
        assert_eq!(machine.refusal("sdb", true), "in use by dm-0 (luks) (RAID, LVM or encryption); stop that first");
        machine.hold("dm-0", "dm-1", "253:1");
        machine.set("proc/self/mountinfo", "30 22 253:1 / / rw - ext4 /dev/root rw");
        assert_eq!(machine.refusal("sdb", true), "this machine runs from it: / is on it. Choose another device");
    }

    #[test]
    fn what_is_swapped_to_is_refused() {
        let machine = Machine::new();
        machine.set("proc/swaps", "Filename Type Size Used Priority\n/dev/sdb2 partition 1 0 -2");
        assert_eq!(machine.refusal("sdb", true), "this machine swaps to it; stop that: sudo swapoff /dev/sdb2");
    }

    #[test]
    fn what_can_not_be_written_to_is_refused() {
        for (file, value, said) in [
            ("ro", "1", "read-only"),
            ("size", "0", "no medium"),
            ("size", "8192", "too small: the image needs 16 MiB"),
            ("queue/logical_block_size", "2048", "2048 bytes"),
        ] {
            let machine = Machine::new();
            machine.set(&format!("sys/block/sdb/{file}"), value);
            let refusal = machine.refusal("sdb", true);
            assert!(refusal.contains(said), "{file} = {value}: {refusal}");
        }
    }

    #[test]
    fn a_disk_that_is_built_in_is_taken_by_force_only() {
        let machine = Machine::new();
        machine.disk("sda", "devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda", "8:0");
        for (number, name, kind) in [("179:0", "mmcblk0", "MMC"), ("179:8", "mmcblk1", "SD")] {
            machine.disk(name, &format!("devices/pci0000:00/mmc_host/{name}/block/{name}"), number);
            machine.set(&format!("sys/block/{name}/device/type"), kind);
        }
        for (name, needs_force) in [("sda", true), ("mmcblk0", true), ("mmcblk1", false)] {
            assert_eq!(machine.refusal(name, false).contains("FORCE=1"), needs_force, "{name}");
            assert_eq!(machine.refusal(name, true), "", "{name}");
        }
        machine.set("sys/block/sda/removable", "1");
        assert_eq!(machine.refusal("sda", false), "", "a card in a built-in reader");
    }

    #[test]
    fn a_partition_is_refused_with_the_name_of_its_disk() {
        let machine = Machine::new();
        let said = whole_disk(&machine.root(), Path::new("/dev/sdb1"), "8:17").unwrap_err().to_string();
        assert_eq!(said, "/dev/sdb1 is a partition; the whole disk is /dev/sdb: DEV=/dev/sdb");
        assert_eq!(whole_disk(&machine.root(), Path::new("/dev/sdb"), "8:16").unwrap(), "sdb");
        let folder = name_of(&machine.root(), machine.0.path()).unwrap_err().to_string();
        assert!(folder.ends_with("is not a block device"), "{folder}");
    }
}
