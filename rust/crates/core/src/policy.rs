//! Which disks are exported, and why the others are not.

use std::fmt;

use crate::config::Config;
use crate::disk::{Bus, Disk};
use crate::identity::Identity;

/// Why a disk is not exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The kernel made it out of memory, a file or other devices.
    Virtual,
    /// Not a device of its own, such as one path of an NVMe disk.
    Hidden,
    /// A boot or replay-protected partition of an eMMC.
    MmcSpecial,
    /// A floppy: its driver blocks for seconds on each look.
    Floppy,
    /// A disk of another machine.
    Remote,
    /// No medium in the drive, or a size of zero.
    NoMedium,
    /// The kernel's target opens read-write, and the device refuses that.
    ReadOnly,
    /// A device mapper or md device is made of it.
    Held(Vec<String>),
    /// This machine has it mounted, or swaps to it. A second writer would
    /// destroy what is on it.
    Mounted,
    /// The settings of this boot leave it to a person to export it, as this.
    ByHandOnly(Box<Identity>),
}

impl Refusal {
    /// Whether a person who looks for disks wants to hear of this one at all.
    pub fn worth_showing(&self) -> bool {
        match self {
            Self::Virtual | Self::Hidden | Self::MmcSpecial | Self::Remote => false,
            Self::Floppy | Self::NoMedium | Self::ReadOnly | Self::Held(_) | Self::Mounted | Self::ByHandOnly(_) => {
                true
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Virtual => f.write_str("virtual device"),
            Self::Hidden => f.write_str("path of another disk"),
            Self::MmcSpecial => f.write_str("eMMC boot partition"),
            Self::Floppy => f.write_str("floppy"),
            Self::Remote => f.write_str("disk of another machine"),
            Self::NoMedium => f.write_str("no medium"),
            Self::ReadOnly => f.write_str("read-only"),
            Self::Mounted => f.write_str("mounted on this machine"),
            Self::ByHandOnly(_) => f.write_str("diskomator.export=none"),
            Self::Held(holders) => write!(f, "in use by {}", holders.join(", ")),
        }
    }
}

/// Whether `disk` can be exported, by itself or by hand.
pub fn exportable(disk: &Disk, _config: &Config) -> Result<(), Refusal> {
    if disk.hidden {
        return Err(Refusal::Hidden);
    }
    if disk.remote {
        return Err(Refusal::Remote);
    }
    // Network block devices have no bus of their own, and no local disk behind them.
    if disk.bus == Bus::Virtual || disk.name.starts_with("nbd") {
        return Err(Refusal::Virtual);
    }
    if disk.bus == Bus::Mmc && (disk.name.contains("boot") || disk.name.contains("rpmb")) {
        return Err(Refusal::MmcSpecial);
    }
    if disk.name.starts_with("fd") {
        return Err(Refusal::Floppy);
    }
    if disk.size == 0 {
        return Err(Refusal::NoMedium);
    }
    if disk.read_only || disk.name.starts_with("sr") {
        return Err(Refusal::ReadOnly);
    }
    if !disk.holders.is_empty() {
        return Err(Refusal::Held(disk.holders.clone()));
    }
    if disk.mounted {
        return Err(Refusal::Mounted);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Attributes;

    fn disk(name: &str, devpath: &str) -> Disk {
        Disk::new(Attributes {
            name: name.to_owned(),
            devpath: format!("devices/{devpath}"),
            sectors: 2048,
            block_size: 512,
            ..Attributes::default()
        })
    }

    fn refusal(disk: &Disk) -> Option<Refusal> {
        exportable(disk, &Config::default()).err()
    }

    #[test]
    fn real_disks_are_exported() {
        for name in ["sda", "nvme0n1", "vda", "mmcblk0", "xvda", "hda"] {
            assert_eq!(refusal(&disk(name, "pci0000:00/0000:00:05.0")), None, "{name}");
        }
    }

    #[test]
    fn what_the_kernel_makes_itself_is_not() {
        for name in ["loop0", "zram0", "ram3", "nbd0", "dm-0", "md127"] {
            assert_eq!(refusal(&disk(name, "virtual/block")), Some(Refusal::Virtual), "{name}");
        }
    }

    #[test]
    fn parts_of_other_disks_are_not() {
        let mut path = disk("nvme0c0n1", "pci0000:00/0000:00:05.0");
        path.hidden = true;
        assert_eq!(refusal(&path), Some(Refusal::Hidden));
        for name in ["mmcblk0boot0", "mmcblk0boot1", "mmcblk0rpmb"] {
            assert_eq!(refusal(&disk(name, "pci0000:00")), Some(Refusal::MmcSpecial), "{name}");
        }
    }

    #[test]
    fn each_reason_is_told() {
        let plain = disk("sda", "pci0000:00");
        for (disk, reason) in [
            (Disk { size: 0, ..plain.clone() }, "no medium"),
            (Disk { read_only: true, ..plain.clone() }, "read-only"),
            (Disk { name: "sr0".into(), ..plain.clone() }, "read-only"),
            (Disk { holders: vec!["dm-0".into(), "md0".into()], ..plain.clone() }, "in use by dm-0, md0"),
            (Disk { mounted: true, ..plain.clone() }, "mounted on this machine"),
            (Disk { remote: true, ..plain.clone() }, "disk of another machine"),
        ] {
            assert_eq!(refusal(&disk).map(|refusal| refusal.to_string()).as_deref(), Some(reason));
        }
    }
}
