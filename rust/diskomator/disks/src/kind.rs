//! The kinds of disks: one table of what the kernel's name of a disk tells,
//! and the buses that disks are on. Nothing else knows a disk by its name.
//!
//! To add a kind, add its row to [`KINDS`], and write `docs/disks.md` with the
//! command in it.

use std::fmt::{self, Write as _};

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bus {
    /// NVMe, local or over fabrics.
    Nvme,
    /// SATA or PATA, but not behind USB or a SAS controller.
    Ata,
    /// SAS, parallel SCSI, RAID controllers, virtio-scsi, Hyper-V, UFS.
    Scsi,
    /// USB mass storage, also as UAS.
    Usb,
    /// SD cards and eMMC.
    Mmc,
    /// virtio-blk.
    Virtio,
    /// Made by the kernel out of something else: loop, dm, md, zram.
    Virtual,
    /// Any other controller.
    Other,
}

/// The source of the identifiers that a disk shows on a bus, and so how far
/// they tell it, or its medium, from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identifiers {
    /// The disk itself. One with removable media is a card reader.
    Disk,
    /// The disk itself, also where its port says that it can be taken out.
    DiskAtPort,
    /// The electronics before the medium, which often say the same in each of
    /// their kind. A stick and a card reader both claim removable media.
    Electronics,
    /// The card: its world-wide name, if any. The reader says nothing.
    Card,
    /// The software that made the disk: a UUID, if any.
    Software,
}

/// The facts of a bus.
struct BusFacts {
    /// The word for it in settings and in JSON.
    keyword: &'static str,
    /// The start of udev's names in `/dev/disk/by-id`.
    by_id: &'static str,
    /// The part of a path in sysfs that shows this bus; without one, the kind
    /// of the disk alone tells.
    is_part: Option<fn(&str) -> bool>,
    identifiers: Identifiers,
    /// The model of each disk, on a bus that tells none.
    model: Option<&'static str>,
    text: &'static str,
}

const BUS: BusFacts =
    BusFacts { keyword: "", by_id: "", is_part: None, identifiers: Identifiers::Disk, model: None, text: "" };

impl Bus {
    /// Each bus, in the order of the documentation.
    pub const ALL: [Self; 8] =
        [Self::Nvme, Self::Ata, Self::Scsi, Self::Usb, Self::Mmc, Self::Virtio, Self::Virtual, Self::Other];

    fn facts(self) -> BusFacts {
        match self {
            Self::Nvme => BusFacts { keyword: "nvme", by_id: "nvme", text: "NVMe", ..BUS },
            Self::Ata => BusFacts {
                keyword: "ata",
                by_id: "ata",
                is_part: Some(|part| numbered(part, "ata").is_some()),
                identifiers: Identifiers::DiskAtPort,
                text: "SATA and PATA, but not behind USB or a SAS controller",
                ..BUS
            },
            Self::Scsi => BusFacts {
                keyword: "scsi",
                by_id: "scsi",
                is_part: Some(|part| part.starts_with("target")),
                text: "SAS, parallel SCSI, RAID controllers, virtio-scsi, Hyper-V, UFS",
                ..BUS
            },
            Self::Usb => BusFacts {
                keyword: "usb",
                by_id: "usb",
                is_part: Some(|part| part.starts_with("usb")),
                identifiers: Identifiers::Electronics,
                text: "USB",
                ..BUS
            },
            Self::Mmc => BusFacts {
                keyword: "mmc",
                by_id: "mmc",
                identifiers: Identifiers::Card,
                text: "SD cards and eMMC, but not behind USB",
                ..BUS
            },
            Self::Virtio => BusFacts {
                keyword: "virtio",
                by_id: "virtio",
                model: Some("virtio-blk"),
                text: "virtio-blk, of a virtual machine",
                ..BUS
            },
            Self::Virtual => BusFacts {
                keyword: "virtual",
                by_id: "dm",
                identifiers: Identifiers::Software,
                text: "made by the kernel out of other disks, a file, memory or a network",
                ..BUS
            },
            Self::Other => BusFacts { keyword: "other", by_id: "other", text: "any other controller", ..BUS },
        }
    }

    /// The word for it in settings and in JSON.
    pub fn keyword(self) -> &'static str {
        self.facts().keyword
    }

    /// The start of udev's names in `/dev/disk/by-id`.
    pub fn by_id(self) -> &'static str {
        self.facts().by_id
    }

    /// The source of the identifiers that a disk shows on it.
    pub fn identifiers(self) -> Identifiers {
        self.facts().identifiers
    }

    /// The model of each disk, on a bus that tells none.
    pub fn model(self) -> Option<&'static str> {
        self.facts().model
    }

    /// The keywords of all buses as a sentence has them: `nvme, ata or other`.
    pub fn keywords() -> String {
        let words = Self::ALL.map(Self::keyword);
        let (last, first) = words.split_last().unwrap_or((&"", &[]));
        format!("{} or {last}", first.join(", "))
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.keyword())
    }
}

/// Whether disks of a kind are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exported {
    /// As `diskomator.export` says; not those that the kernel made out of
    /// something else.
    Yes,
    /// If `diskomator.export` names the disk, its kind or its bus.
    ByName,
    /// Never.
    No(Never),
}

/// Why disks of a kind are never exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {
    /// The kernel makes them out of memory, a file or other devices.
    Virtual,
    /// Parts of an eMMC that hold no files: for booting, or replay-protected.
    MmcSpecial,
    /// Floppies.
    Floppy,
    /// Disks of other machines.
    Remote,
}

impl Never {
    /// Whether a person who looks for disks wants to hear of this one at all,
    /// and may name it in a setting.
    pub fn is_shown(self) -> bool {
        match self {
            Self::Floppy => true,
            Self::Virtual | Self::MmcSpecial | Self::Remote => false,
        }
    }
}

/// Whether the medium in a drive can be another one tomorrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// As the drive says.
    AsTold,
    /// Yes. These are discs: a drive says nothing of its disc by which hosts
    /// could know it, and not each tells that its disc was taken out.
    Discs,
}

/// A kind of disk: all that the kernel's name of a disk tells.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The start of the kernel's names (`Documentation/admin-guide/devices.txt`).
    pub prefix: &'static str,
    /// Of a disk that is a part of another, parted in hardware: what follows
    /// the number.
    pub part: &'static str,
    /// The noun.
    noun: &'static str,
    /// The buses that disks of this kind are on: the path in sysfs chooses, and
    /// the last one is for any path.
    buses: &'static [Bus],
    /// Whether they are exported.
    pub exported: Exported,
    /// Whether their media can be changed.
    pub media: Media,
    /// Nothing can be written to them block by block.
    pub is_read_only: bool,
    /// A host should have little under way at each of them. Other disks are
    /// slow if they turn.
    pub is_slow: bool,
    /// The kernel asks the device for the serial number when the file is read,
    /// which takes as long as the device likes.
    pub is_serial_asked: bool,
    /// They may be made of other block devices.
    pub is_composed: bool,
    /// Why the row is as it is, for the user.
    why: &'static str,
}

/// The row for names that no other row has.
const ANY: Kind = Kind {
    prefix: "",
    part: "",
    noun: "any other",
    buses: &[Bus::Usb, Bus::Ata, Bus::Scsi, Bus::Other],
    exported: Exported::Yes,
    media: Media::AsTold,
    is_read_only: false,
    is_slow: false,
    is_serial_asked: false,
    is_composed: true,
    why: "the disk of a rare controller, unless the kernel made it out of something else",
};

/// A disk with a controller of its own.
const DISK: Kind = Kind { is_composed: false, ..ANY };

/// A card in a slot of this machine, or a soldered eMMC.
const CARD: Kind = Kind { prefix: "mmcblk", buses: &[Bus::Usb, Bus::Mmc], is_slow: true, ..DISK };

/// A disk that the kernel made.
const VIRTUAL: Kind = Kind { buses: &[Bus::Virtual], exported: Exported::No(Never::Virtual), ..DISK };

/// Every kind, in the order of the documentation. The longest prefix of a name
/// decides; the last row is for names that no other has.
pub static KINDS: &[Kind] = &[
    Kind {
        prefix: "nvme",
        noun: "NVMe disk",
        buses: &[Bus::Nvme],
        why: "a namespace is a disk; the kernel hides its paths, such as `nvme0c0n1`",
        ..DISK
    },
    Kind { prefix: "sd", noun: "SATA, SAS or USB disk, RAID volume", why: "a disk", ..DISK },
    Kind {
        prefix: "sr",
        noun: "CD or DVD drive",
        media: Media::Discs,
        is_read_only: true,
        why: "burning software writes to discs, and not by block; the drive is asked for its disc again and again",
        ..DISK
    },
    Kind {
        prefix: "vd",
        noun: "disk of a virtual machine",
        buses: &[Bus::Virtio],
        is_serial_asked: true,
        why: "a disk",
        ..DISK
    },
    Kind { noun: "SD card, eMMC", why: "a disk with little room for writes under way", ..CARD },
    Kind { part: "gp", noun: "general purpose part of an eMMC", why: "a disk, parted in hardware", ..CARD },
    Kind {
        part: "boot",
        noun: "boot part of an eMMC",
        exported: Exported::No(Never::MmcSpecial),
        why: "it has code that starts the machine, and no files",
        ..CARD
    },
    Kind {
        part: "rpmb",
        noun: "replay-protected part of an eMMC",
        exported: Exported::No(Never::MmcSpecial),
        why: "it takes signed requests only, and no blocks",
        ..CARD
    },
    Kind { prefix: "hd", noun: "PATA disk, by an old driver", buses: &[Bus::Other], why: "a disk", ..DISK },
    Kind { prefix: "xvd", noun: "disk of a Xen machine", buses: &[Bus::Other], why: "a disk", ..DISK },
    Kind {
        prefix: "pmem",
        noun: "persistent memory",
        buses: &[Bus::Other],
        why: "a disk, at the controller of the memory",
        ..DISK
    },
    Kind { prefix: "rssd", noun: "Micron PCIe disk", buses: &[Bus::Other], why: "a disk", ..DISK },
    Kind {
        prefix: "dm-",
        noun: "device mapper: LVM, encryption",
        exported: Exported::ByName,
        is_composed: true,
        why: "its disks are in use by it, so they are not exported; it is, for a user who names it",
        ..VIRTUAL
    },
    Kind {
        prefix: "md",
        noun: "software RAID",
        exported: Exported::ByName,
        is_composed: true,
        why: "its disks are in use by it, so they are not exported; it is, for a user who names it",
        ..VIRTUAL
    },
    Kind {
        prefix: "bcache",
        noun: "cached disk",
        is_composed: true,
        why: "the kernel makes it out of other disks",
        ..VIRTUAL
    },
    Kind {
        prefix: "drbd",
        noun: "disk mirrored to another machine",
        is_composed: true,
        why: "the kernel makes it out of another disk and a network",
        ..VIRTUAL
    },
    Kind { prefix: "loop", noun: "loop device", why: "the kernel makes it out of a file", ..VIRTUAL },
    Kind { prefix: "ram", noun: "RAM disk", why: "the kernel makes it out of memory", ..VIRTUAL },
    Kind { prefix: "zram", noun: "compressed RAM disk", why: "the kernel makes it out of memory", ..VIRTUAL },
    Kind {
        prefix: "mtdblock",
        noun: "raw flash",
        buses: &[Bus::Other],
        why: "the kernel makes it out of flash chips, such as the firmware's: one write may keep the machine from \
              starting",
        ..VIRTUAL
    },
    Kind { prefix: "ubiblock", noun: "volume in raw flash", why: "the kernel makes it out of flash chips", ..VIRTUAL },
    Kind {
        prefix: "nbd",
        noun: "network block device",
        why: "no disk of this machine is behind it, and without a server it hangs",
        ..VIRTUAL
    },
    Kind {
        prefix: "rbd",
        noun: "Ceph block device",
        buses: &[Bus::Other],
        exported: Exported::No(Never::Remote),
        why: "a disk of other machines",
        ..VIRTUAL
    },
    Kind {
        prefix: "fd",
        noun: "floppy",
        buses: &[Bus::Other],
        exported: Exported::No(Never::Floppy),
        why: "its driver blocks for seconds on each look",
        ..DISK
    },
    ANY,
];

impl Kind {
    /// The kind of the disk with this name, or of the disk of this partition.
    pub fn of(name: &str) -> &'static Self {
        let fitting = KINDS.iter().filter(|kind| kind.part_in(name).is_some());
        fitting.max_by_key(|kind| (kind.prefix.len(), kind.part.len())).unwrap_or(&ANY)
    }

    /// `name` without prefix and number, if the name is one of this kind.
    fn part_in<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = name.strip_prefix(self.prefix)?.trim_start_matches(|c: char| c.is_ascii_digit());
        rest.starts_with(self.part).then_some(rest)
    }

    /// `gp1` of `mmcblk0gp1`, `boot0` of `mmcblk0boot0`: an eMMC is parted in
    /// hardware, and its parts share its name and place.
    pub fn hardware_part(name: &str) -> Option<&str> {
        let kind = Self::of(name);
        kind.part_in(name).filter(|_| !kind.part.is_empty())
    }

    /// The bus of a disk of this kind at `devpath`, which is as in [`Attributes`].
    ///
    /// [`Attributes`]: crate::disk::Attributes
    pub fn bus(&self, devpath: &str) -> Bus {
        // The disk of an NVMe subsystem with several paths is virtual, and yet a disk.
        if devpath.starts_with("devices/virtual/") && !components(devpath).any(|part| part.starts_with("nvme-")) {
            return Bus::Virtual;
        }
        let is_at = |bus: &&Bus| bus.facts().is_part.is_none_or(|is_part| components(devpath).any(is_part));
        let default = self.buses.last().copied().unwrap_or(Bus::Other);
        self.buses.iter().find(is_at).copied().unwrap_or(default)
    }

    /// Whether every disk of this kind is on `bus`.
    pub fn is_always(&self, bus: Bus) -> bool {
        self.buses == [bus]
    }

    /// Whether such disks are opened and asked for what only they can tell:
    /// those that are exported by themselves. The others are not
    /// opened; some of them block the process that opens them.
    pub fn is_probed(&self) -> bool {
        self.exported == Exported::Yes
    }

    /// Whether a setting can select such a disk by its name.
    pub fn is_named(&self) -> bool {
        let is_known = match self.exported {
            Exported::Yes | Exported::ByName => true,
            Exported::No(never) => never.is_shown(),
        };
        is_known && !self.prefix.is_empty()
    }
}

/// The parts of a path in sysfs.
pub(crate) fn components(devpath: &str) -> impl DoubleEndedIterator<Item = &str> {
    devpath.split('/').filter(|component| !component.is_empty())
}

/// The number in `ata5`, if the prefix is `ata`.
pub(crate) fn numbered<'a>(component: &'a str, prefix: &str) -> Option<&'a str> {
    let number = component.strip_prefix(prefix)?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

/// The tables of buses and kinds for `docs/disks.md`.
pub fn markdown() -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut text = String::from("| Keyword | Disks |\n|---|---|\n");
    for bus in Bus::ALL {
        let _ = writeln!(text, "| `{bus}` | {} |", bus.facts().text);
    }
    text += "\n| Name | Kind | Keyword | Exported | Opened | Removable | Read-only | Slow | Why |\n\
             |---|---|---|---|---|---|---|---|---|\n";
    for kind in KINDS {
        let name = match (kind.prefix, kind.part) {
            ("", _) => "any other".to_owned(),
            (prefix, "") => format!("`{prefix}*`"),
            (prefix, part) => format!("`{prefix}*{part}*`"),
        };
        let keywords: Vec<String> = kind.buses.iter().map(|bus| format!("`{bus}`")).collect();
        let exported = match kind.exported {
            Exported::Yes => "yes",
            Exported::ByName => "if named",
            Exported::No(_) => "no",
        };
        let removable = match kind.media {
            Media::AsTold => "as it says",
            Media::Discs => "yes",
        };
        let read_only = if kind.is_read_only { "yes" } else { "as it says" };
        let slow = if kind.is_slow { "yes" } else { "if it turns" };
        let (noun, keywords, opened, why) = (kind.noun, keywords.join(", "), yes(kind.is_probed()), kind.why);
        let _ = writeln!(
            text,
            "| {name} | {noun} | {keywords} | {exported} | {opened} | {removable} | {read_only} | {slow} | {why} |"
        );
    }
    text
}

/// The row on buses in the table of patterns of `docs/settings.md`, up to the
/// second column.
pub fn markdown_keywords() -> String {
    format!("| {} |", Bus::ALL.map(|bus| format!("`{bus}`")).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_of_one_kind() {
        for (name, prefix, part) in [
            ("nvme0n1", "nvme", ""),
            ("nvme0c0n1", "nvme", ""),
            ("nvme10n1p2", "nvme", ""),
            ("sda", "sd", ""),
            ("sdaa1", "sd", ""),
            ("sr0", "sr", ""),
            ("vda", "vd", ""),
            ("hda", "hd", ""),
            ("xvda", "xvd", ""),
            ("mmcblk0", "mmcblk", ""),
            ("mmcblk0p1", "mmcblk", ""),
            ("mmcblk12gp3", "mmcblk", "gp"),
            ("mmcblk0boot0", "mmcblk", "boot"),
            ("mmcblk0boot0p1", "mmcblk", "boot"),
            ("mmcblk0rpmb", "mmcblk", "rpmb"),
            ("pmem0", "pmem", ""),
            ("rssda", "rssd", ""),
            ("dm-0", "dm-", ""),
            ("md127", "md", ""),
            ("md_d0", "md", ""),
            ("bcache0", "bcache", ""),
            ("drbd0", "drbd", ""),
            ("loop0", "loop", ""),
            ("ram0", "ram", ""),
            ("zram0", "zram", ""),
            ("mtdblock0", "mtdblock", ""),
            ("ubiblock0_0", "ubiblock", ""),
            ("nbd0", "nbd", ""),
            ("rbd0", "rbd", ""),
            ("fd0", "fd", ""),
            ("unheard0", "", ""),
            ("", "", ""),
        ] {
            let kind = Kind::of(name);
            assert_eq!((kind.prefix, kind.part), (prefix, part), "{name}");
        }
    }

    #[test]
    fn no_two_rows_claim_one_name() {
        let (any, rows) = KINDS.split_last().unwrap();
        assert_eq!((any.prefix, any.part), ("", ""), "the last row is for all other names");
        for row in rows {
            assert_eq!(Kind::of(&format!("{}0{}", row.prefix, row.part)), row);
            for other in rows.iter().filter(|other| *other != row) {
                if other.prefix == row.prefix {
                    let overlap = other.part.starts_with(row.part) && !row.part.is_empty();
                    assert!(other.part != row.part && !overlap, "{}*{} twice", row.prefix, row.part);
                } else {
                    assert!(!other.prefix.starts_with(row.prefix), "{} and {}", other.prefix, row.prefix);
                }
            }
        }
    }

    #[test]
    fn every_row_is_whole() {
        for kind in KINDS {
            assert!(!kind.noun.is_empty() && !kind.why.is_empty(), "{}", kind.prefix);
            assert!(kind.buses.iter().all(|bus| Bus::ALL.contains(bus)), "{}", kind.prefix);
            let (last, others) = kind.buses.split_last().unwrap();
            assert!(last.facts().is_part.is_none() && others.iter().all(|bus| bus.facts().is_part.is_some()));
        }
        for bus in Bus::ALL {
            assert!(!bus.keyword().is_empty() && !bus.by_id().is_empty() && !bus.facts().text.is_empty(), "{bus:?}");
            assert_eq!(Bus::ALL.iter().filter(|other| other.keyword() == bus.keyword()).count(), 1, "{bus}");
        }
    }

    #[test]
    fn kinds_that_are_never_exported_are_never_opened() {
        for name in ["fd0", "nbd0", "loop0", "zram0", "mmcblk0boot0", "mmcblk0rpmb", "mtdblock0", "rbd0"] {
            let kind = Kind::of(name);
            assert!(matches!(kind.exported, Exported::No(_)) && !kind.is_probed(), "{name}");
        }
    }
}
