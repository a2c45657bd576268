//! Names of machines and disks: the same on every boot and at every port.
//!
//! Nothing here depends on the kernel's names (`sda`), on the order of
//! discovery or on chance.

use std::collections::BTreeSet;
use std::fmt;

use uuid::Uuid;

use crate::disk::Disk;

/// What each of our NQNs starts with (NVM Express Base Specification, "NVMe
/// Qualified Names": `nqn.`, a date, a reversed domain name, a colon).
pub const NQN_PREFIX: &str = "nqn.2026-11.io.github.diskomator:";

/// The longest NQN, in bytes.
pub const NQN_MAX: usize = 223;

/// The most that is kept of a disk's own name within an NQN. Names of disks
/// are shorter but for broken ones; `nvme` and people print NQNs in tables.
const DISK_NAME_MAX: usize = 96;

/// The name space of our version 5 UUIDs, itself made from the NQN prefix in
/// the name space for URLs (RFC 9562, 6.6), so that anyone can recompute it.
fn name_space() -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, NQN_PREFIX.as_bytes())
}

/// A name for the machine, as it stands in NQNs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine(String);

impl Machine {
    /// From the DMI product UUID if the firmware has a real one, else from the
    /// lowest of the permanent MAC addresses.
    ///
    /// UUIDs of all zeros or ones mean "none" (SMBIOS 7.2.1); so does one that
    /// firmware vendors forgot to change.
    pub fn new(product_uuid: Option<&str>, macs: &[[u8; 6]]) -> Self {
        let uuid = product_uuid.and_then(|text| Uuid::try_parse(text.trim()).ok());
        if let Some(uuid) = uuid.filter(|uuid| !is_placeholder(uuid)) {
            return Self(uuid.hyphenated().to_string());
        }
        let mac = macs.iter().filter(|mac| is_universal(**mac)).min().or_else(|| macs.iter().min());
        match mac {
            Some(mac) => Self(mac.iter().fold(String::from("mac-"), |name, byte| format!("{name}{byte:02x}"))),
            None => Self("unnamed".to_owned()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_placeholder(uuid: &Uuid) -> bool {
    const FORGOTTEN: [Uuid; 2] = [
        // On many boards of AMI firmware.
        Uuid::from_u128(0x0300_0200_0400_0500_0006_0007_0008_0009),
        Uuid::from_u128(0x0302_0100_0504_0706_0809_0a0b_0c0d_0e0f),
    ];
    uuid.is_nil() || uuid.is_max() || FORGOTTEN.contains(uuid)
}

/// Not locally administered (IEEE 802, "U/L bit"), so not made up at boot.
fn is_universal(mac: [u8; 6]) -> bool {
    mac[0] & 0b10 == 0 && mac.iter().any(|byte| *byte != 0)
}

/// What an exported disk is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The NVMe Qualified Name of its subsystem.
    pub nqn: String,
    /// The namespace's UUID, hyphenated.
    pub uuid: String,
    /// The namespace's NGUID, in the same notation.
    pub nguid: String,
    /// Serial number, 1 to 20 characters.
    pub serial: String,
    /// Model number, 1 to 40 characters.
    pub model: String,
    /// Firmware revision, 1 to 8 characters.
    pub firmware: String,
}

/// Between a disk's own name and its place.
const PLACE: &str = ".at.";

/// Names for all of `disks`, in their order. A disk that hosts know already, by
/// a name in `current` at the same place, keeps it, whatever else is there.
///
/// Two disks that claim to be the same one get distinct names all the same:
/// the first keeps the plain name and the others are told apart by where they
/// are plugged in.
pub fn assign(machine: &Machine, disks: &[&Disk], current: Vec<Option<Identity>>) -> Vec<Identity> {
    let mut taken: BTreeSet<String> = current.iter().flatten().map(|identity| identity.nqn.clone()).collect();
    let mut identities = current;
    identities.resize(disks.len(), None);
    let mut order: Vec<usize> = (0..disks.len()).filter(|&i| identities[i].is_none()).collect();
    order.sort_by_key(|&i| (&disks[i].bus_path, &disks[i].name));
    for i in order {
        let (own, at) = (own_name(disks[i]), &disks[i].bus_path);
        let twin = format!("{own}{PLACE}{at}");
        // The last resort is for what claims the same place as well.
        let by_number = (2..).map(|number| format!("{twin}.{number}"));
        let names = [own, twin.clone()].into_iter().chain(by_number);
        let free = names.map(|name| nqn(machine, &name)).find(|nqn| !taken.contains(nqn));
        identities[i] = free.map(|nqn| {
            taken.insert(nqn.clone());
            identity(disks[i], nqn)
        });
    }
    identities.into_iter().flatten().collect()
}

impl Identity {
    /// Whether another disk claims to be the same one, so that this one is told
    /// apart by where it is plugged in.
    pub fn is_told_apart(&self) -> bool {
        self.nqn.contains(PLACE)
    }
}

fn identity(disk: &Disk, nqn: String) -> Identity {
    let uuid = Uuid::new_v5(&name_space(), nqn.as_bytes());
    let nguid = Uuid::new_v5(&uuid, b"nguid");
    let serial = match &disk.serial {
        // What tells serial numbers of one maker apart is at their end.
        Some(serial) => last(serial, 20),
        None => last(&uuid.simple().to_string(), 20),
    };
    Identity {
        serial,
        model: disk.marked_model(40).unwrap_or_else(|| "disk".to_owned()),
        firmware: first(disk.firmware.as_deref().unwrap_or("-"), 8),
        uuid: uuid.hyphenated().to_string(),
        nguid: nguid.hyphenated().to_string(),
        nqn,
    }
}

/// The disk's name for itself, or failing that what it is and where.
fn own_name(disk: &Disk) -> String {
    if let Some(wwid) = disk.wwid.as_ref().filter(|wwid| !is_made_up(wwid)) {
        return wwid.clone();
    }
    match (&disk.model, &disk.serial) {
        (Some(model), Some(serial)) if disk.lun == 0 => format!("{model}-{serial}"),
        // The slots of a card reader share a serial number.
        (Some(model), Some(serial)) => format!("{model}-{serial}-lun{}", disk.lun),
        (None, Some(serial)) => serial.clone(),
        (_, None) => disk.bus_path.clone(),
    }
}

/// Where an NVMe disk has no name of its own, the kernel makes one of its
/// vendor, serial, model and namespace in hexadecimal (`wwid_show` in the
/// kernel's `drivers/nvme/host/sysfs.c`). For the first namespace, model and
/// serial say the same, and people can read them.
fn is_made_up(wwid: &str) -> bool {
    wwid.starts_with("nvme.") && wwid.ends_with("-00000001")
}

fn nqn(machine: &Machine, disk: &str) -> String {
    let mut name = String::with_capacity(disk.len());
    for c in disk.chars() {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':') { c.to_ascii_lowercase() } else { '-' };
        if c != '-' || !name.ends_with('-') {
            name.push(c);
        }
    }
    let mut name = name.trim_matches('-').to_owned();
    if name.len() > DISK_NAME_MAX {
        // Cut names must stay distinct.
        let digest = Uuid::new_v5(&name_space(), disk.as_bytes()).simple().to_string();
        name.truncate(DISK_NAME_MAX - 1 - digest.len());
        name = format!("{name}-{digest}");
    }
    format!("{NQN_PREFIX}{machine}:{name}")
}

fn first(text: &str, most: usize) -> String {
    text.chars().take(most).collect::<String>().trim_end().to_owned()
}

fn last(text: &str, most: usize) -> String {
    let skipped = text.chars().count().saturating_sub(most);
    text.chars().skip(skipped).collect::<String>().trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Attributes;

    fn disk(name: &str, path: &str) -> Disk {
        Disk::new(Attributes {
            name: name.to_owned(),
            devpath: format!("devices/pci0000:00/{path}/block/{name}"),
            sectors: 1,
            ..Attributes::default()
        })
    }

    fn names(disks: &[&Disk]) -> Vec<Identity> {
        assign(&Machine::new(Some("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"), &[]), disks, vec![])
    }

    #[test]
    fn the_machine_is_its_product_uuid_or_its_lowest_universal_mac() {
        let macs = [[0x52, 0x54, 0, 0, 0, 1], [0x00, 0x1b, 0x21, 2, 3, 4]];
        for (uuid, name) in [
            (Some("9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D\n"), "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"),
            (Some("00000000-0000-0000-0000-000000000000"), "mac-001b21020304"),
            (Some("ffffffff-ffff-ffff-ffff-ffffffffffff"), "mac-001b21020304"),
            (Some("03000200-0400-0500-0006-000700080009"), "mac-001b21020304"),
            (Some("Not Settable"), "mac-001b21020304"),
            (None, "mac-001b21020304"),
        ] {
            assert_eq!(Machine::new(uuid, &macs).to_string(), name);
        }
        assert_eq!(Machine::new(None, &macs[..1]).to_string(), "mac-525400000001");
        assert_eq!(Machine::new(None, &[]).to_string(), "unnamed");
    }

    #[test]
    fn names_do_not_depend_on_the_kernel_s_names() {
        let here = Disk { wwid: Some("eui.0025385B71B0A1C2".into()), ..disk("nvme0n1", "0000:00:05.0") };
        let there = Disk { wwid: Some("eui.0025385B71B0A1C2".into()), ..disk("nvme3n1", "0000:00:09.0") };
        assert_eq!(names(&[&here]), names(&[&there]));
        assert_eq!(
            names(&[&here])[0].nqn,
            "nqn.2026-11.io.github.diskomator:9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d:eui.0025385b71b0a1c2"
        );
    }

    #[test]
    fn a_name_that_the_kernel_made_up_gives_way_to_model_and_serial() {
        let nvme = |nsid| Disk {
            wwid: Some(format!("nvme.1b36-3031-51454d55-0000000{nsid}")),
            model: Some("QEMU NVMe Ctrl".into()),
            serial: Some("01".into()),
            ..disk("nvme0n1", "0000:00:05.0")
        };
        let (first, second) = (nvme(1), nvme(2));
        let names = names(&[&first, &second]);
        assert!(names[0].nqn.ends_with(":qemu-nvme-ctrl-01"), "{}", names[0].nqn);
        assert!(names[1].nqn.ends_with(":nvme.1b36-3031-51454d55-00000002"), "{}", names[1].nqn);
    }

    #[test]
    fn names_given_to_the_world_stay() {
        let disk =
            Disk { model: Some("QEMU HARDDISK".into()), serial: Some("SN_1".into()), ..disk("sda", "0000:00:1f.2") };
        let identity = &names(&[&disk])[0];
        assert_eq!(
            identity.nqn,
            "nqn.2026-11.io.github.diskomator:9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d:qemu-harddisk-sn-1"
        );
        assert_eq!(identity.uuid, Uuid::new_v5(&name_space(), identity.nqn.as_bytes()).to_string());
        assert_eq!(identity.uuid, "e1e2abcb-59ac-51f8-b893-9a5ba2aa0dbc");
        assert_eq!(identity.nguid, "bfbbbc94-4910-56f3-9e4a-7033001bf5ce");
        assert_eq!((identity.serial.as_str(), identity.model.as_str()), ("SN_1", "QEMU HARDDISK"));
    }

    #[test]
    fn disks_that_claim_the_same_name_are_told_apart_by_place() {
        let twin = |path| Disk { serial: Some("0123456789".into()), ..disk("sda", path) };
        let (a, b) = (twin("0000:00:01.0"), twin("0000:00:02.0"));
        let machine = Machine::new(None, &[]);
        let of = |disks: &[&Disk], current: Vec<Option<Identity>>| {
            assign(&machine, disks, current).into_iter().map(|identity| identity.nqn).collect::<Vec<_>>()
        };
        let plain = "nqn.2026-11.io.github.diskomator:unnamed:0123456789";
        let at = |path| format!("{plain}.at.pci-{path}");
        assert_eq!(of(&[&a, &b], vec![]), [plain.to_owned(), at("0000:00:02.0")]);
        assert_eq!(of(&[&b, &a], vec![]), [at("0000:00:02.0"), plain.to_owned()]);
        let third = of(&[&a, &a, &a], vec![]);
        assert_eq!(third, [plain.to_owned(), at("0000:00:01.0"), format!("{}.2", at("0000:00:01.0"))]);
        // Each in use keeps its name: when the other goes, and when it comes.
        let both = assign(&machine, &[&a, &b], vec![]);
        assert_eq!(of(&[&b], vec![Some(both[1].clone())]), [at("0000:00:02.0")]);
        assert_eq!(of(&[&a, &b], vec![None, Some(both[0].clone())]), [at("0000:00:01.0"), plain.to_owned()]);
    }

    #[test]
    fn slots_of_a_card_reader_have_names_of_their_own() {
        let slot = |lun| Disk {
            model: Some("Generic Reader".into()),
            serial: Some("1".into()),
            lun,
            ..disk("sda", "0000:00:01.0")
        };
        let (first, second) = (slot(0), slot(1));
        let names = names(&[&first, &second]);
        assert!(names[0].nqn.ends_with(":generic-reader-1"));
        assert!(names[1].nqn.ends_with(":generic-reader-1-lun1"));
    }

    #[test]
    fn every_name_fits_what_nvme_allows() {
        let long = "x".repeat(400);
        let disk = Disk {
            wwid: Some(long.clone()),
            model: Some(long.clone()),
            serial: Some(format!("{long}1234")),
            firmware: Some(long),
            ..disk("sda", "0000:00:01.0")
        };
        let identity = &names(&[&disk])[0];
        assert!(identity.nqn.len() <= NQN_MAX);
        assert_eq!(identity.serial.len(), 20);
        assert!(identity.serial.ends_with("1234"));
        assert_eq!(identity.model.len(), 40);
        assert_eq!(identity.firmware.len(), 8);
        let bare = &names(&[&self::disk("sda", "0000:00:01.0")])[0];
        assert_eq!(bare.serial.len(), 20);
        assert_eq!((bare.model.as_str(), bare.firmware.as_str()), ("disk", "-"));
    }
}
