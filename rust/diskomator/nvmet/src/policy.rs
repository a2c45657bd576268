//! Which disks are exported, and why the others are not.

use std::fmt;

use access::Mode;
use disks::config::{Config, Secret};
use disks::disk::{Answer, Bus, Disk};
use disks::kind::{Exported, Never};

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
    /// It has not answered yet.
    Awaited,
    /// It does not answer. It may yet.
    Unanswered,
    /// Its controller is passed through with another of its namespaces, and so
    /// is this one.
    PassedThrough(String),
    /// Its partitions are exported instead. Never both: who writes to one would
    /// destroy what the other's user sees.
    InParts,
    /// The machine was started from it, and admits hosts one by one or has a secret. Its FAT file system has the
    /// secret and the settings.
    BootDisk,
    /// Its partition table can't be read, so it may be the one that the machine was started from.
    Unread,
    /// A device mapper or md device is made of it.
    Held(Vec<String>),
    /// This machine has it mounted, or swaps to it. A second writer would
    /// destroy what is on it.
    Mounted,
    /// The settings of this boot leave it to a person to export it.
    ByHandOnly {
        /// The name that it will then have.
        identity: Box<Identity>,
        /// The setting: `none`, or the patterns that do not take it.
        setting: String,
    },
}

/// The access of hosts to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read and write.
    ReadWrite,
    /// Read.
    ReadOnly,
    /// Give the controller any command.
    Passthru,
}

impl Refusal {
    /// Whether a person who looks for disks wants to hear of this one at all.
    pub fn worth_showing(&self) -> bool {
        match self {
            Self::Hidden => false,
            refusal => refusal.never().is_none_or(Never::is_shown),
        }
    }

    /// Whether it is about something that is no disk of this machine, whatever
    /// the state of the machine and of the disk.
    pub fn is_no_disk(&self) -> bool {
        *self == Self::Hidden || self.never().is_some()
    }

    fn never(&self) -> Option<Never> {
        match self {
            Self::Virtual => Some(Never::Virtual),
            Self::MmcSpecial => Some(Never::MmcSpecial),
            Self::Floppy => Some(Never::Floppy),
            Self::Remote => Some(Never::Remote),
            Self::Hidden
            | Self::Awaited
            | Self::Unanswered
            | Self::PassedThrough(_)
            | Self::InParts
            | Self::BootDisk
            | Self::Unread
            | Self::Held(_)
            | Self::Mounted
            | Self::ByHandOnly { .. } => None,
        }
    }
}

impl From<Never> for Refusal {
    fn from(never: Never) -> Self {
        match never {
            Never::Virtual => Self::Virtual,
            Never::MmcSpecial => Self::MmcSpecial,
            Never::Floppy => Self::Floppy,
            Never::Remote => Self::Remote,
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
            Self::Awaited => f.write_str("has not answered yet"),
            Self::Unanswered => f.write_str("does not answer"),
            Self::PassedThrough(first) => write!(f, "passed through with {first}, as another namespace"),
            Self::InParts => f.write_str("its partitions are exported"),
            Self::BootDisk => f.write_str(
                "this machine was started from it; exported only with diskomator.access=open and without a secret",
            ),
            Self::Unread => f.write_str(
                "its partition table can't be read, so this machine may have been started from it; exported only with \
                 diskomator.access=open and without a secret",
            ),
            Self::Mounted => f.write_str("mounted on this machine"),
            Self::ByHandOnly { setting, .. } => write!(f, "diskomator.export={setting}"),
            Self::Held(holders) => write!(f, "in use by {}", holders.join(", ")),
        }
    }
}

/// Whether `disk` can be exported, by itself or by hand, and with which rights.
pub fn exportable(disk: &Disk, config: &Config) -> Result<Access, Refusal> {
    if disk.hidden {
        return Err(Refusal::Hidden);
    }
    if disk.remote {
        return Err(Refusal::Remote);
    }
    match disk.kind().exported {
        Exported::No(never) => return Err(never.into()),
        // Asked for by name; then the disks that it is made of are held, and not exported.
        Exported::ByName if config.export.asks_for(disk) => {}
        Exported::Yes if disk.bus != Bus::Virtual => {}
        Exported::ByName | Exported::Yes => return Err(Refusal::Virtual),
    }
    // Before it has answered, nobody knows whether it is the one, and it waits for that below.
    if config.mode() != Mode::Open || config.secret == Secret::Given {
        if disk.is_boot_medium {
            return Err(Refusal::BootDisk);
        }
        if disk.may_be_boot_medium {
            return Err(Refusal::Unread);
        }
    }
    if disk.in_parts {
        return Err(Refusal::InParts);
    }
    answered(disk)?;
    if !disk.holders.is_empty() {
        return Err(Refusal::Held(disk.holders.clone()));
    }
    if disk.mounted {
        return Err(Refusal::Mounted);
    }
    Ok(if disk.is_read_only() || config.readonly.takes(disk) {
        Access::ReadOnly
    } else if disk.controller.is_some() && config.passthru.takes(disk) {
        Access::Passthru
    } else {
        Access::ReadWrite
    })
}

/// Whether `disk` has answered.
pub fn answered(disk: &Disk) -> Result<(), Refusal> {
    match disk.answer {
        Answer::Given => Ok(()),
        Answer::Awaited => Err(Refusal::Awaited),
        Answer::Overdue => Err(Refusal::Unanswered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disks::disk::Attributes;

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
    fn a_kind_is_refused_whatever_it_is_attached_to() {
        for (name, devpath, reason) in [
            ("mmcblk0boot0", "pci0000:00/0000:00:14.0/usb1/1-2/mmc_host/mmc0/mmc0:0001", "eMMC boot partition"),
            ("mtdblock0", "pci0000:00/0000:00:1f.5/spi_master/spi0/mtd/mtd0", "virtual device"),
            ("rbd0", "rbd/0", "disk of another machine"),
            ("fd0", "platform/floppy.0", "floppy"),
        ] {
            let disk = Disk { in_parts: true, ..disk(name, devpath) };
            assert_eq!(refusal(&disk).map(|refusal| refusal.to_string()).as_deref(), Some(reason), "{name}");
            assert!(!disk.is_probed(), "{name}");
        }
    }

    #[test]
    fn what_can_t_be_written_or_must_not_be_is_exported_for_reading() {
        let plain = disk("sda", "pci0000:00");
        let all = Config::default();
        let readonly = Config { readonly: "sda".parse().unwrap(), ..Config::default() };
        for (disk, config, access) in [
            (plain.clone(), &all, Access::ReadWrite),
            (Disk { read_only: true, ..plain.clone() }, &all, Access::ReadOnly),
            (disk("sr0", "pci0000:00"), &all, Access::ReadOnly),
            (plain, &readonly, Access::ReadOnly),
            (disk("sdb", "pci0000:00"), &readonly, Access::ReadWrite),
        ] {
            assert_eq!(exportable(&disk, config), Ok(access), "{disk:?}");
        }
    }

    #[test]
    fn what_is_put_together_of_others_is_exported_to_those_who_ask() {
        let mapped = disk("dm-0", "virtual/block");
        for (export, refusal) in [("all", Some(Refusal::Virtual)), ("all,dm-*", None), ("virtual", None)] {
            let config = Config { export: export.parse().unwrap(), ..Config::default() };
            assert_eq!(exportable(&mapped, &config).err(), refusal, "{export}");
        }
        let config = Config { export: "virtual".parse().unwrap(), ..Config::default() };
        assert_eq!(exportable(&disk("loop0", "virtual/block"), &config), Err(Refusal::Virtual));
    }

    #[test]
    fn the_disk_that_the_machine_was_started_from_is_exported_to_everyone_or_nobody() {
        let stick = |is_in_parts, answer| Disk {
            is_boot_medium: true,
            in_parts: is_in_parts,
            answer,
            ..disk("sda", "pci0000:00/0000:00:14.0/usb1/1-2")
        };
        for (mode, expected) in
            [(Mode::Open, None), (Mode::Ask, Some(Refusal::BootDisk)), (Mode::Paired, Some(Refusal::BootDisk))]
        {
            // Asking for it by name changes nothing, nor does the export of its partitions.
            for export in ["all", "sda", "none"] {
                let config = Config { access: mode, export: export.parse().unwrap(), ..Config::default() };
                assert_eq!(exportable(&stick(false, Answer::Given), &config).err(), expected, "{mode} {export}");
                let other = disk("sdb", "pci0000:00/0000:00:14.0/usb1/1-3");
                assert_eq!(exportable(&other, &config).err(), None, "{mode} {export}");
            }
            let config = Config { access: mode, ..Config::default() };
            assert_eq!(exportable(&stick(true, Answer::Given), &config).err(), expected.or(Some(Refusal::InParts)));
        }
        // Nor is it where only a refused secret closes the machine, or where everyone could read the secret.
        for secret in [Secret::Refused, Secret::Given] {
            let config = Config { access: Mode::Open, secret, ..Config::default() };
            assert_eq!(exportable(&stick(false, Answer::Given), &config), Err(Refusal::BootDisk), "{secret:?}");
        }
        // One that can't be read may be the one.
        let unread = Disk { is_boot_medium: false, may_be_boot_medium: true, ..stick(false, Answer::Given) };
        for (mode, expected) in
            [(Mode::Open, None), (Mode::Ask, Some(Refusal::Unread)), (Mode::Paired, Some(Refusal::Unread))]
        {
            let config = Config { access: mode, ..Config::default() };
            assert_eq!(exportable(&unread, &config).err(), expected, "{mode}");
        }
        let config = Config { access: Mode::Ask, ..Config::default() };
        let unknown = Disk { is_boot_medium: false, ..stick(false, Answer::Awaited) };
        assert_eq!(exportable(&unknown, &config), Err(Refusal::Awaited));
    }

    #[test]
    fn each_reason_is_told() {
        let plain = disk("sda", "pci0000:00");
        for (disk, reason) in [
            (Disk { answer: Answer::Awaited, ..plain.clone() }, "has not answered yet"),
            (Disk { answer: Answer::Overdue, ..plain.clone() }, "does not answer"),
            (Disk { in_parts: true, ..plain.clone() }, "its partitions are exported"),
            (Disk { holders: vec!["dm-0".into(), "md0".into()], ..plain.clone() }, "in use by dm-0, md0"),
            (Disk { mounted: true, ..plain.clone() }, "mounted on this machine"),
            (Disk { remote: true, ..plain.clone() }, "disk of another machine"),
        ] {
            assert_eq!(refusal(&disk).map(|refusal| refusal.to_string()).as_deref(), Some(reason));
        }
    }
}
