//! Names of machines and disks: no host ever sees other data under a name that
//! it knows.
//!
//! The machine keeps no memory, so a name is safe by what it is made of. Each
//! has all that tells a machine from others, and a disk from others, and none
//! has anything that depends on the kernel's names (`sda`), on the order of
//! discovery or on chance. Where nothing tells two apart, a name holds for one
//! boot only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use disks::disk::Disk;
use disks::kind::{Identifiers, Media};
use disks::worthless;
use uuid::Uuid;

use crate::model::{LISTENER_NQN, NQN_PREFIX, NSID, NSID_MAX, READ_ONLY_NAME, Target, read_only_nqn};

/// The most that is kept of a disk's own name within an NQN: with the longest
/// name of a machine, and one byte less than `NQN_MAX`, as Linux hosts take no
/// more (`NVMF_NQN_SIZE` in `drivers/nvme/host/fabrics.c`), there is room for it
/// and for the end of the NQN of the read-only subsystem.
const DISK_NAME_MAX: usize = 128;

/// The name space of our version 5 UUIDs, itself made from the NQN prefix in
/// the name space for URLs (RFC 9562, 6.6), so that anyone can recompute it.
fn name_space() -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, NQN_PREFIX.as_bytes())
}

/// A name for the machine, as it stands in NQNs. It has no colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    name: String,
    /// The kernel's `boot_id`.
    boot: String,
}

impl Machine {
    /// From the DMI product UUID and the lowest of the permanent MAC addresses,
    /// both: whole series of boards have one UUID. One that tells nothing (see
    /// [`worthless`]) is left out; a machine that has neither has a name for
    /// this boot alone, of the kernel's `boot_id`.
    pub fn new(product_uuid: Option<&str>, macs: &[[u8; 6]], boot_id: &str) -> Self {
        let uuid = product_uuid.and_then(|text| Uuid::try_parse(text.trim()).ok());
        let uuid = uuid.filter(|uuid| !worthless::is_uuid(uuid)).map(|uuid| uuid.hyphenated().to_string());
        let mut macs: Vec<&[u8; 6]> = macs.iter().filter(|mac| !worthless::is_mac(mac)).collect();
        macs.sort_unstable_by_key(|mac| (!is_universal(**mac), **mac));
        let mac = macs.first().map(|mac| mac.iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}")));
        let boot = escaped(boot_id.trim());
        let name = match (uuid, mac) {
            (Some(uuid), Some(mac)) => format!("{uuid}-{mac}"),
            (Some(uuid), None) => uuid,
            (None, Some(mac)) => format!("mac-{mac}"),
            (None, None) if boot.is_empty() => "unnamed".to_owned(),
            (None, None) => format!("boot-{boot}"),
        };
        Self { name, boot }
    }

    /// The same machine by the name that hosts know already in this boot, if they
    /// do: a network card that is plugged in or pulled does not change it.
    #[must_use]
    pub fn known_by(self, target: &Target) -> Self {
        let known = target.subsystems.keys().filter(|nqn| *nqn != LISTENER_NQN).find_map(|nqn| {
            let (machine, _) = nqn.strip_prefix(NQN_PREFIX)?.split_once(':')?;
            (!machine.is_empty()).then(|| machine.to_owned())
        });
        Self { name: known.unwrap_or(self.name), boot: self.boot }
    }

    /// Nothing names it, so that hosts won't know it after a restart.
    pub fn is_of_this_boot(&self) -> bool {
        self.name.starts_with("boot-") || self.name == "unnamed"
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Not locally administered (IEEE 802, "U/L bit"), so not made up.
fn is_universal(mac: [u8; 6]) -> bool {
    mac[0] & 0b10 == 0
}

/// The names of an exported disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The NVMe Qualified Name of its subsystem.
    pub nqn: String,
    /// The namespace's number. A host that has lost its connection repeats its
    /// last commands as soon as it is back, before it looks what is there: where
    /// that may be another disk, it has another number, and they fail.
    pub nsid: u32,
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

/// A disk that needs a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnamed<'a> {
    /// The disk.
    pub disk: &'a Disk,
    /// Its identity on hosts, if it is exported already: it keeps that, whichever
    /// other disks are there.
    pub current: Option<Identity>,
    /// It is to be exported. The others only tell which names are not theirs alone.
    pub is_chosen: bool,
}

/// Names for those of `disks` that are chosen, in their order, the same in
/// whichever order they come and were found. `is_replaced` says whether hosts
/// still have another disk or medium by an NQN.
///
/// Disks that say the same of themselves have their places in their names, each
/// of them, so that none has the name that another would have alone.
pub fn assign(
    machine: &Machine,
    disks: &[Unnamed<'_>],
    is_replaced: impl Fn(&str, &Disk) -> bool,
) -> Vec<Option<Identity>> {
    let mut claims: BTreeMap<String, usize> = BTreeMap::new();
    for disk in disks {
        *claims.entry(own_name(disk.disk)).or_default() += 1;
    }
    let all: Vec<&Disk> = disks.iter().map(|unnamed| unnamed.disk).collect();
    let taken: BTreeSet<String> =
        disks.iter().filter_map(|unnamed| Some(unnamed.current.as_ref()?.nqn.clone())).collect();
    let name = |disk: &Disk| {
        let own = own_name(disk);
        let is_claimed = claims.get(&own).is_some_and(|count| *count > 1);
        if is_claimed || belongs_to_its_place(disk) { format!("{own}:at:{}", placed(&disk.bus_path)) } else { own }
    };
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for unnamed in disks {
        *wanted.entry(name(unnamed.disk)).or_default() += usize::from(unnamed.current.is_none());
    }
    let new = |disk: &Disk| {
        let mut name = name(disk);
        // Nothing at all tells them apart.
        if wanted.get(&name).is_some_and(|count| *count > 1) || taken.contains(&nqn(machine, &name)) {
            let once = Uuid::new_v5(&name_space(), format!("{} {}", generation(machine, disk), disk.name).as_bytes());
            name = format!("{name}:once:{}", once.simple());
        }
        let nqn = nqn(machine, &name);
        let medium = medium(disk, &all);
        let is_once = match medium {
            Medium::Known => false,
            Medium::OfItsPlace => is_replaced(&nqn, disk),
            Medium::Unknown => true,
        };
        let identity = identity(disk, nqn, is_once.then(|| generation(machine, disk)).as_deref());
        if medium == Medium::Known { Identity { nsid: NSID, ..identity } } else { identity }
    };
    let named = disks.iter().map(|unnamed| {
        let identity = unnamed.current.clone().or_else(|| unnamed.is_chosen.then(|| new(unnamed.disk)));
        identity.filter(|_| unnamed.is_chosen)
    });
    named.collect()
}

/// A disk that stays exported as `current`, but as another namespace than before:
/// with its size and block size of today.
pub fn renewed(current: &Identity, disk: &Disk) -> Identity {
    let fresh = identity(disk, current.nqn.clone(), Some(&current.uuid));
    Identity { nsid: fresh.nsid, uuid: fresh.uuid, nguid: fresh.nguid, ..current.clone() }
}

/// The identity of the read-only subsystem of a disk. Its namespace has other names: a host that has both would take
/// one of two with the same for a fault, and ignore it. They follow from those of the disk's own namespace, and where
/// it has none, since the controller `is_passed_through`, from the NQN.
pub fn read_only(disk: &Identity, is_passed_through: bool) -> Identity {
    let nqn = read_only_nqn(&disk.nqn);
    let of_nqn = Uuid::new_v5(&name_space(), nqn.as_bytes());
    let uuid = match Uuid::try_parse(&disk.uuid) {
        Ok(uuid) if !is_passed_through => Uuid::new_v5(&uuid, READ_ONLY_NAME.as_bytes()),
        _ => of_nqn,
    };
    let nguid = Uuid::new_v5(&uuid, b"nguid");
    let nsid = if is_passed_through { NSID } else { disk.nsid };
    Identity { nqn, nsid, uuid: uuid.hyphenated().to_string(), nguid: nguid.hyphenated().to_string(), ..disk.clone() }
}

/// Whether two disks say the same of themselves, though they should not.
pub fn are_twins(a: &Disk, b: &Disk) -> bool {
    (a.serial.is_some() || a.wwid.is_some()) && own_name(a) == own_name(b)
}

/// How well a disk's name tells what is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    /// The name has an identifier that the medium itself has.
    Known,
    /// A disk in this place, with this size and these identifiers, is taken for
    /// the same disk on the next boot, but not within one.
    OfItsPlace,
    /// The name is that of a drive, and its media have none, or only some that
    /// all have: each is another one, on each boot.
    Unknown,
}

fn medium(disk: &Disk, all: &[&Disk]) -> Medium {
    let has_wwid = wwid(disk).is_some();
    let is_sound = has_own_serial(disk);
    match disk.bus.identifiers() {
        _ if disk.kind().media == Media::Discs => Medium::Unknown,
        Identifiers::Software | Identifiers::Card if has_wwid => Medium::Known,
        Identifiers::Software | Identifiers::Card => Medium::Unknown,
        _ if is_card_reader(disk, all) => Medium::Unknown,
        Identifiers::Electronics if is_sound => Medium::OfItsPlace,
        _ if is_sound => Medium::Known,
        _ if disk.removable || disk.is_placeless => Medium::Unknown,
        _ => Medium::OfItsPlace,
    }
}

/// A USB stick says that its medium can be taken out, as a card reader does.
/// Readers have several slots, or say what they are. Some SATA ports say that
/// their disks can be taken out.
fn is_card_reader(disk: &Disk, all: &[&Disk]) -> bool {
    const WORDS: [&str; 5] = ["reader", "card", "sd/mmc", "micro sd", "compact flash"];
    let says_so = || {
        let model = disk.model.as_deref().unwrap_or_default().to_ascii_lowercase();
        WORDS.iter().any(|word| model.contains(word))
    };
    let socket = |disk: &Disk| disk.bus_path.split("-scsi-").next().map(str::to_owned);
    let has_siblings = || all.iter().any(|other| other.lun != disk.lun && socket(other) == socket(disk));
    match disk.bus.identifiers() {
        Identifiers::Electronics => disk.removable && (disk.lun != 0 || says_so() || has_siblings()),
        Identifiers::Card => true,
        Identifiers::DiskAtPort => false,
        Identifiers::Disk | Identifiers::Software => disk.removable && disk.kind().media != Media::Discs,
    }
}

/// Whether a disk has its place in its name, whatever it says of itself: the
/// electronics of USB disks and of card readers say something of themselves, and
/// often the same as all others of their kind; others say nothing.
fn belongs_to_its_place(disk: &Disk) -> bool {
    match disk.bus.identifiers() {
        Identifiers::Electronics | Identifiers::Card => true,
        Identifiers::Software => wwid(disk).is_none(),
        Identifiers::Disk | Identifiers::DiskAtPort => is_card_reader(disk, &[]) || !has_own_serial(disk),
    }
}

/// Whether its serial number is one that no other disk should have.
fn has_own_serial(disk: &Disk) -> bool {
    serial(disk).is_some_and(|serial| !disk.is_serial_garbled && !worthless::is_serial(serial))
}

/// Without what tells its partition.
fn of_the_whole<'a>(disk: &Disk, text: Option<&'a str>) -> Option<&'a str> {
    let text = text?;
    let part = disk.partition.as_ref().map(|(number, _)| format!("-part{number}")).unwrap_or_default();
    Some(text.strip_suffix(part.as_str()).unwrap_or(text))
}

fn serial(disk: &Disk) -> Option<&str> {
    of_the_whole(disk, disk.serial.as_deref())
}

/// The disk's world-wide name, unless it tells nothing, or nothing that model and
/// serial number don't tell: where an NVMe disk has none the kernel makes one of
/// its vendor, serial, model and namespace in hexadecimal (`wwid_show` in
/// `drivers/nvme/host/sysfs.c`), and libata one of model and serial.
fn wwid(disk: &Disk) -> Option<&str> {
    let squeezed = |text: &str| text.replace([' ', '_'], "");
    let of_both = || Some(format!("t10.ATA{}{}", disk.model.as_deref()?, serial(disk)?));
    of_the_whole(disk, disk.wwid.as_deref()).filter(|wwid| {
        let is_made_up = wwid.starts_with("nvme.") || of_both().is_some_and(|both| squeezed(&both) == squeezed(wwid));
        !is_made_up && !worthless::is_wwid(wwid)
    })
}

/// All that the disk says of itself: model, serial number and world-wide name,
/// each `-` if it has none, and which unit or partition it is. No two disks with
/// different ones have the same name: a field has no colon.
fn own_name(disk: &Disk) -> String {
    let optional = |text: Option<&str>| match text {
        None => "-".to_owned(),
        Some("-") => "~2d".to_owned(),
        Some(text) => field(text),
    };
    let mut name = format!("{}:{}:{}", optional(disk.model.as_deref()), optional(serial(disk)), optional(wwid(disk)));
    if disk.lun != 0 {
        name += &format!(":lun{}", disk.lun);
    }
    if disk.nsid > 1 {
        name += &format!(":ns{}", disk.nsid);
    }
    if let Some((number, _)) = &disk.partition {
        name += &format!(":part{number}");
    }
    name
}

/// Letters, digits, dots and hyphens as they are, a space as `_`, and the rest in
/// hexadecimal after a `~`: safe in a path, in a shell and in an NQN, and no two
/// texts become one.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => escaped.push('_'),
            b'.' | b'-' => escaped.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            byte => escaped += &format!("~{byte:02x}"),
        }
    }
    escaped
}

/// The same for a field between colons. None is the name that the read-only subsystem's NQN ends with.
fn field(text: &str) -> String {
    if text == READ_ONLY_NAME { text.replacen('r', "~72", 1) } else { escaped(text) }
}

/// The same for the last field, which may have colons.
fn placed(path: &str) -> String {
    path.split(':').map(field).collect::<Vec<_>>().join(":")
}

fn nqn(machine: &Machine, disk: &str) -> String {
    let mut name = disk.to_owned();
    if name.len() > DISK_NAME_MAX {
        // Cut names must stay distinct; no other has a `+`.
        let digest = Uuid::new_v5(&name_space(), disk.as_bytes()).simple().to_string();
        name.truncate(DISK_NAME_MAX - 1 - digest.len());
        name = format!("{name}+{digest}");
    }
    format!("{NQN_PREFIX}{machine}:{name}")
}

/// This disk, or this medium in its drive, of this boot.
fn generation(machine: &Machine, disk: &Disk) -> String {
    format!("{} {}", machine.boot, disk.diskseq)
}

/// A host's kernel drops a namespace whose UUID or NGUID changes, so these have
/// what a name can't: size, block size and the place of a partition; and, where
/// that does not tell a medium from others, `once`. The namespace's number follows
/// from them.
fn identity(disk: &Disk, nqn: String, once: Option<&str>) -> Identity {
    let name = Uuid::new_v5(&name_space(), nqn.as_bytes());
    let shape = format!("{} {} {} {}", disk.size, disk.block_size, disk.start, once.unwrap_or_default());
    let uuid = Uuid::new_v5(&name, shape.as_bytes());
    let nguid = Uuid::new_v5(&uuid, b"nguid");
    let serial = match &disk.serial {
        // Serial numbers of one maker differ at their end.
        Some(serial) => last(serial, 20),
        None => last(&name.simple().to_string(), 20),
    };
    // Not the number of those that are told by their names.
    let [a, b, ..] = uuid.into_bytes();
    let nsid = NSID + 1 + u32::from(u16::from_be_bytes([a, b])) % (NSID_MAX - NSID);
    Identity {
        nsid,
        serial,
        model: disk.marked_model(40).unwrap_or_else(|| "disk".to_owned()),
        firmware: first(disk.firmware.as_deref().unwrap_or("-"), 8),
        uuid: uuid.hyphenated().to_string(),
        nguid: nguid.hyphenated().to_string(),
        nqn,
    }
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
    use crate::model::{NQN_MAX, disk_nqn, is_read_only_nqn};
    use disks::disk::{Attributes, Bus};
    use netproto::rng::Rng;

    const BOOT: &str = "3f0d6c1e-6f0a-4a53-9d7e-0a4c6d2b9f11";
    const MAC: [u8; 6] = [0x00, 0x1b, 0x21, 2, 3, 4];
    const PREFIX: &str = "nqn.2026-11.io.github.diskomator:9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d-001b21020304:";

    fn machine() -> Machine {
        Machine::new(Some("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"), &[MAC], BOOT)
    }

    fn disk(name: &str, path: &str) -> Disk {
        Disk::new(Attributes {
            name: name.to_owned(),
            devpath: format!("devices/pci0000:00/{path}/block/{name}"),
            sectors: 2048,
            block_size: 512,
            ..Attributes::default()
        })
    }

    fn sata(path: &str, wwid: &str, serial: &str) -> Disk {
        Disk {
            bus: Bus::Ata,
            model: Some("ACME SSD".into()),
            wwid: Some(wwid.into()),
            serial: Some(serial.into()),
            ..disk("sda", path)
        }
    }

    fn stick(path: &str, serial: &str) -> Disk {
        Disk {
            bus: Bus::Usb,
            removable: true,
            model: Some("ACME Stick".into()),
            serial: Some(serial.into()),
            ..disk("sda", path)
        }
    }

    fn unnamed(disk: &Disk) -> Unnamed<'_> {
        Unnamed { disk, current: None, is_chosen: true }
    }

    fn names(disks: &[&Disk]) -> Vec<Identity> {
        let disks: Vec<Unnamed<'_>> = disks.iter().map(|disk| unnamed(disk)).collect();
        assign(&machine(), &disks, |_, _| false).into_iter().flatten().collect()
    }

    fn name(disk: &Disk) -> Identity {
        names(&[disk]).remove(0)
    }

    fn own(disk: &Disk) -> String {
        name(disk).nqn.strip_prefix(PREFIX).unwrap().to_owned()
    }

    #[test]
    fn the_machine_is_its_uuid_and_its_lowest_built_in_address() {
        let macs = [[0x52, 0x54, 0, 0, 0, 1], MAC, [0x00, 0x1b, 0x21, 2, 3, 5], [0; 6]];
        let uuid = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d";
        for (product_uuid, macs, expected) in [
            (Some("9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D\n"), &macs[..], format!("{uuid}-001b21020304")),
            (Some(uuid), &macs[..1], format!("{uuid}-525400000001")),
            (Some(uuid), &macs[3..], uuid.to_owned()),
            (Some(uuid), &[], uuid.to_owned()),
            (Some("00000000-0000-0000-0000-000000000000"), &macs, "mac-001b21020304".to_owned()),
            (Some("03000200-0400-0500-0006-000700080009"), &macs, "mac-001b21020304".to_owned()),
            (Some("Not Settable"), &macs, "mac-001b21020304".to_owned()),
            (None, &macs, "mac-001b21020304".to_owned()),
        ] {
            let machine = Machine::new(product_uuid, macs, BOOT);
            assert_eq!(machine.to_string(), expected, "{product_uuid:?} {macs:02x?}");
            assert!(!machine.is_of_this_boot());
        }
    }

    #[test]
    fn two_machines_with_one_uuid_have_no_name_in_common() {
        let uuid = Some("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d");
        let drive = sata("0000:00:1f.2", "naa.5002538e40a1b2c3", "S3Z8");
        let of = |machine| assign(&machine, &[unnamed(&drive)], |_, _| false).remove(0).unwrap();
        let names = [0, 1].map(|mac| of(Machine::new(uuid, &[[0x52, 0x54, 0, 0xd1, 0x5c, mac]], BOOT)));
        let [a, b] = &names;
        assert!(a.nqn != b.nqn && a.uuid != b.uuid && a.nguid != b.nguid);
    }

    #[test]
    fn a_machine_that_nothing_names_has_other_names_on_each_boot() {
        let of = |boot| Machine::new(None, &[[0x52, 0x54, 0, 0x12, 0x34, 0x56]], boot);
        assert_eq!(of(BOOT).to_string(), format!("boot-{BOOT}"));
        assert!(of(BOOT).is_of_this_boot());
        assert_ne!(of(BOOT), of("another"));
    }

    #[test]
    fn a_machine_keeps_the_name_that_hosts_know_when_a_card_comes() {
        let mut target = Target::default();
        target.subsystems.insert(LISTENER_NQN.to_owned(), crate::model::Subsystem::listener());
        target.subsystems.insert("nqn.2014-08.org.example:a:b".to_owned(), crate::model::Subsystem::default());
        assert_eq!(machine().known_by(&target), machine());
        target.subsystems.insert(format!("{PREFIX}a:b:c"), crate::model::Subsystem::default());
        let later = Machine::new(None, &[[0, 0, 0, 0, 0, 1]], BOOT);
        assert_eq!(later.known_by(&target), machine());
    }

    #[test]
    fn a_read_only_subsystem_has_names_of_its_own_that_no_disk_has() {
        let disk = name(&sata("0000:00:1f.2", "naa.5002538e40a1b2c3", "S3Z8"));
        let readers = read_only(&disk, false);
        assert_eq!(readers.nqn, format!("{}:read-only", disk.nqn));
        assert!(readers.uuid != disk.uuid && readers.nguid != disk.nguid && readers.nguid != readers.uuid);
        assert_eq!((readers.nsid, &readers.serial), (disk.nsid, &disk.serial));
        assert_eq!((disk_nqn(&readers.nqn), disk_nqn(&disk.nqn)), (&*disk.nqn, &*disk.nqn));
        // It follows the namespace, and where the disk's subsystem has none of ours, the NQN.
        let other = Identity { uuid: name(&stick("0000:00:14.0", "4C53")).uuid, ..disk.clone() };
        assert_ne!(read_only(&other, false).uuid, readers.uuid);
        let passed = read_only(&disk, true);
        assert_eq!(read_only(&Identity { uuid: String::new(), ..disk.clone() }, true), passed);
        // A disk that calls itself so, or is plugged in there, is not taken for one.
        for text in ["read-only", "x:read-only"] {
            let named = Disk { wwid: Some(text.into()), ..sata("0000:00:1f.2", "", "S3Z8") };
            let at = Disk { bus_path: text.into(), ..stick("0000:00:14.0", "4C53") };
            for disk in [named, at] {
                assert!(!is_read_only_nqn(&name(&disk).nqn), "{}", name(&disk).nqn);
            }
        }
        let target = [disk.nqn, readers.nqn].map(|nqn| (nqn, crate::model::Subsystem::default()));
        let known = machine().known_by(&Target { subsystems: target.into(), ..Target::default() });
        assert_eq!(known, machine());
    }

    #[test]
    fn names_do_not_depend_on_the_kernel_s_names_nor_on_the_port() {
        let at = |name: &str, path| Disk {
            wwid: Some("eui.0025385B71B0A1C2".into()),
            serial: Some("S3Z8".into()),
            nsid: 1,
            ..disk(name, path)
        };
        let (here, there) = (at("nvme0n1", "0000:00:05.0"), at("nvme3n1", "0000:00:09.0"));
        assert_eq!(name(&here), name(&there));
        assert_eq!(own(&here), "-:S3Z8:eui.0025385B71B0A1C2");
        // Nor on its firmware.
        let updated = Disk { firmware: Some("2".into()), ..here.clone() };
        assert_eq!(name(&updated).nqn, name(&here).nqn);
        assert_eq!(name(&updated).uuid, name(&here).uuid);
    }

    #[test]
    fn a_disk_is_all_that_it_says_of_itself() {
        let one = sata("0000:00:01.0", "naa.5002538e40a1b2c3", "A1B2");
        assert_eq!(own(&one), "ACME_SSD:A1B2:naa.5002538e40a1b2c3");
        for other in [
            Disk { serial: Some("A1B3".into()), ..one.clone() },
            Disk { wwid: Some("naa.5002538e40a1b2c4".into()), ..one.clone() },
            Disk { model: Some("ACME SSD 2".into()), ..one.clone() },
            Disk { lun: 1, ..one.clone() },
            Disk { nsid: 2, ..one.clone() },
            Disk { partition: Some((1, "sda".into())), ..one.clone() },
        ] {
            assert_ne!(name(&one).nqn, name(&other).nqn, "{other:?}");
            assert_ne!(name(&one).uuid, name(&other).uuid, "{other:?}");
        }
    }

    #[test]
    fn names_that_tell_nothing_new_are_left_out() {
        let nvme = |nsid| Disk {
            bus: Bus::Nvme,
            wwid: Some(format!("nvme.1b36-3031-51454d55-0000000{nsid}")),
            model: Some("QEMU NVMe Ctrl".into()),
            serial: Some("01".into()),
            nsid,
            ..disk("nvme0n1", "0000:00:05.0")
        };
        assert_eq!(own(&nvme(1)), "QEMU_NVMe_Ctrl:01:-");
        assert_eq!(own(&nvme(2)), "QEMU_NVMe_Ctrl:01:-:ns2");
        // QEMU makes it of the order of its command line.
        let counted = Disk { wwid: Some("eui.5254000000000002".into()), ..nvme(1) };
        assert_eq!(own(&counted), "QEMU_NVMe_Ctrl:01:-");
        let ata = sata("0000:00:01.0", "t10.ATA     ACME SSD                     A1B2", "A1B2");
        assert_eq!(own(&ata), "ACME_SSD:A1B2:-");
    }

    #[test]
    fn a_drive_with_the_wwn_of_another_never_has_its_name() {
        let wwid = "naa.5002538e40a1b2c3";
        let (a, b) = (sata("0000:00:01.0", wwid, "A1B2"), sata("0000:00:02.0", wwid, "A1B3"));
        let both = names(&[&a, &b]);
        // Each has its own, alone or together, wherever it is.
        assert_eq!(both, [name(&a), name(&b)]);
        assert_eq!(name(&b), name(&Disk { bus_path: a.bus_path.clone(), ..b.clone() }));
        assert_ne!(both[0].nqn, both[1].nqn);
    }

    #[test]
    fn a_stick_with_the_serial_number_of_another_has_not_its_name_at_another_socket() {
        let (a, b) = (stick("0000:00:01.0", "4C53"), stick("0000:00:02.0", "4C53"));
        assert_eq!(own(&a), "ACME_Stick:4C53:-:at:pci-0000:00:01.0");
        assert_eq!(names(&[&a, &b]), [name(&a), name(&b)]);
        assert_ne!(name(&a).nqn, name(&b).nqn);
        assert!(are_twins(&a, &b));
        // In the socket of the first, its size tells.
        let there = Disk { bus_path: a.bus_path.clone(), size: b.size * 2, ..b };
        assert_eq!(name(&there).nqn, name(&a).nqn);
        assert!(name(&there).uuid != name(&a).uuid && name(&there).nguid != name(&a).nguid);
        // Plugged in again it has its UUID again, but not if hosts still have the first.
        let replaced =
            |hosts_have_it: bool| assign(&machine(), &[unnamed(&a)], |_, _| hosts_have_it).remove(0).unwrap();
        assert_eq!(replaced(false), name(&a));
        assert_ne!(replaced(true).uuid, name(&a).uuid);
    }

    #[test]
    fn a_disk_without_a_serial_number_of_its_own_has_its_place_in_its_name() {
        for (serial, is_serial_garbled) in [
            (None, false),
            (Some("0000000000"), false),
            (Some("0123456789ABCDEF"), false),
            (Some("123456789012"), false),
            (Some("A1B2"), true),
        ] {
            let serial = serial.map(str::to_owned);
            let at =
                |path| Disk { serial: serial.clone(), is_serial_garbled, ..sata(path, "naa.5002538e40a1b2c3", "") };
            let (a, b) = (at("0000:00:01.0"), at("0000:00:02.0"));
            assert!(own(&a).ends_with(":naa.5002538e40a1b2c3:at:pci-0000:00:01.0"), "{}", own(&a));
            assert_ne!(name(&a).nqn, name(&b).nqn);
            // Another one there has another size, or other blocks.
            for other in [Disk { size: 1 << 30, ..a.clone() }, Disk { block_size: 4096, ..a.clone() }] {
                let [a, other] = [name(&a), name(&other)];
                assert_eq!((&a.nqn, &a.serial), (&other.nqn, &other.serial));
                assert!(a.uuid != other.uuid && a.nguid != other.nguid);
                assert_ne!(a.nsid, other.nsid, "what is under way for one must not reach the other");
            }
        }
    }

    #[test]
    fn a_medium_that_says_nothing_of_itself_is_another_one_each_time() {
        let of = |boot: &str, disk: &Disk| {
            let machine = Machine::new(None, &[MAC], boot);
            assign(&machine, &[unnamed(disk)], |_, _| false).remove(0).unwrap()
        };
        let cd = Disk { bus: Bus::Ata, removable: true, ..sata("0000:00:01.0", "", "CD-DRIVE") };
        let card = Disk {
            bus: Bus::Mmc,
            wwid: Some("034453445355363480a1b2c3d4e5f6".into()),
            ..stick("0000:00:02.0", "0x1a")
        };
        let reader = |model: &str, lun| Disk { model: Some(model.into()), lun, ..stick("0000:00:03.0", "058F") };
        for (drive, is_known) in [
            (Disk { name: "sr0".into(), ..cd.clone() }, false),
            (Disk { name: "sda".into(), ..cd }, true),
            (card.clone(), true),
            (Disk { wwid: Some("aa585951454d552101deadbeef006219".into()), ..card.clone() }, false),
            (Disk { wwid: None, ..card }, false),
            (reader("ACME Stick", 0), true),
            (reader("Generic USB SD Reader", 0), false),
            (reader("ACME Stick", 1), false),
            (stick("0000:00:04.0", "0000"), false),
            (Disk { removable: false, ..stick("0000:00:04.0", "0000") }, true),
        ] {
            let mut drive = drive;
            let mut seen = Vec::new();
            for (boot, diskseq) in [(BOOT, 5), (BOOT, 6), ("another", 5)] {
                drive.diskseq = diskseq;
                seen.push(of(boot, &drive));
            }
            for other in &seen[1..] {
                assert_eq!((&seen[0].nqn, &seen[0].serial), (&other.nqn, &other.serial), "hosts find the drive");
                assert_eq!(seen[0].uuid == other.uuid, is_known, "{drive:?}");
                assert_eq!(seen[0].nguid == other.nguid, is_known, "{drive:?}");
                assert_eq!(seen[0].nsid == other.nsid, is_known, "{drive:?}");
                assert!((1..=NSID_MAX).contains(&other.nsid));
            }
        }
        // Its other slot gives a reader away.
        let slots = [reader("ACME Stick", 0), reader("ACME Stick", 1)];
        let medium = |disk| medium(disk, &slots.iter().collect::<Vec<_>>());
        assert_eq!(slots.iter().map(medium).collect::<Vec<_>>(), [Medium::Unknown; 2]);
    }

    #[test]
    fn twins_are_named_by_their_places_both_of_them_in_whatever_order_they_came() {
        let twin = |path| sata(path, "naa.5002538e40a1b2c3", "A1B2");
        let (a, b) = (twin("0000:00:01.0"), twin("0000:00:02.0"));
        let of = |disks: &[Unnamed<'_>]| -> Vec<Option<String>> {
            let named = assign(&machine(), disks, |_, _| false);
            named.into_iter().map(|identity| Some(identity?.nqn.strip_prefix(PREFIX)?.to_owned())).collect()
        };
        let at = |path| Some(format!("ACME_SSD:A1B2:naa.5002538e40a1b2c3:at:pci-{path}"));
        assert_eq!(of(&[unnamed(&a), unnamed(&b)]), [at("0000:00:01.0"), at("0000:00:02.0")]);
        assert_eq!(of(&[unnamed(&b), unnamed(&a)]), [at("0000:00:02.0"), at("0000:00:01.0")]);
        // Also if one is not exported.
        let other = Unnamed { is_chosen: false, ..unnamed(&b) };
        assert_eq!(of(&[other, unnamed(&a)]), [None, at("0000:00:01.0")]);
        // The one that hosts have keeps its name, and the other never gets it.
        let alone = name(&a);
        let known = Unnamed { current: Some(alone.clone()), ..unnamed(&a) };
        let plain = Some("ACME_SSD:A1B2:naa.5002538e40a1b2c3".to_owned());
        assert_eq!(of(&[known, unnamed(&b)]), [plain, at("0000:00:02.0")]);
        // Two that claim one place as well have names of this boot, both of them.
        let (c, d) = (Disk { diskseq: 3, ..a.clone() }, Disk { diskseq: 4, ..a.clone() });
        let both = of(&[unnamed(&c), unnamed(&d)]);
        assert_ne!(both[0], both[1]);
        assert!(both.iter().flatten().all(|name| name.contains(":once:")), "{both:?}");
        assert_eq!(of(&[unnamed(&d), unnamed(&c)]), [both[1].clone(), both[0].clone()]);
    }

    /// One boot after the other, with some of a heap of bad disks in some places: no
    /// name ever leads to the data of another disk, unless both say the same of
    /// themselves and have one size, and sit in one place or are no USB disks.
    #[test]
    fn no_name_is_ever_that_of_another_disk() {
        let mut rng = Rng::new(2);
        let mut pick = |most: u64| usize::try_from(rng.below(most)).unwrap();
        // By NQN, UUID and NGUID: which disk hosts know by it.
        let mut known: BTreeMap<(String, String), Disk> = BTreeMap::new();
        let serials = [None, Some("A1"), Some("A2"), Some("A:1"), Some("a1"), Some("A 1"), Some("A_1"), Some("0000")];
        let wwids = [None, Some("naa.5002538e40a1b2c3"), Some("naa.5002538e40a1b2c4"), Some("naa.5000000000000001")];
        for boot in 0..3000 {
            let mut disks = Vec::new();
            for place in 0..=pick(4) {
                let disk = sata(&format!("0000:00:0{place}.0"), "", "");
                disks.push(Disk {
                    bus: [Bus::Ata, Bus::Usb, Bus::Scsi, Bus::Nvme][pick(4)],
                    serial: serials[pick(8)].map(str::to_owned),
                    wwid: wwids[pick(4)].map(str::to_owned),
                    model: [None, Some("-"), Some("A:1")][pick(3)].map(str::to_owned),
                    size: [1 << 20, 1 << 21][pick(2)],
                    lun: u64::try_from(pick(2)).unwrap(),
                    diskseq: u64::try_from(place).unwrap(),
                    ..disk
                });
            }
            let of_boot = Machine::new(None, &[MAC], &format!("{boot}"));
            let identities = assign(&of_boot, &disks.iter().map(unnamed).collect::<Vec<_>>(), |_, _| false);
            let identities: Vec<Identity> = identities.into_iter().flatten().collect();
            assert_eq!(identities.iter().map(|identity| &identity.nqn).collect::<BTreeSet<_>>().len(), disks.len());
            for (disk, Identity { nqn, uuid, nguid, .. }) in disks.iter().zip(identities) {
                for id in [uuid, nguid] {
                    let Some(other) = known.insert((nqn.clone(), id), disk.clone()) else { continue };
                    let tells = |disk: &Disk| (disk.model.clone(), disk.serial.clone(), disk.lun, disk.size);
                    assert_eq!(tells(disk), tells(&other), "{nqn}");
                    assert_eq!(wwid(disk), wwid(&other), "{nqn}");
                    if disk.bus == Bus::Usb || !has_own_serial(disk) {
                        assert_eq!(disk.bus_path, other.bus_path, "{nqn}");
                    }
                }
            }
        }
        assert!(known.len() > 500, "{}", known.len());
    }

    #[test]
    fn names_given_to_the_world_stay() {
        let drive = Disk { serial: Some("SN_1".into()), ..sata("0000:00:1f.2", "naa.5002538e40a1b2c3", "") };
        let identity = name(&drive);
        assert_eq!(identity.nqn, format!("{PREFIX}ACME_SSD:SN~5f1:naa.5002538e40a1b2c3"));
        let of_nqn = Uuid::new_v5(&name_space(), identity.nqn.as_bytes());
        assert_eq!(identity.uuid, Uuid::new_v5(&of_nqn, b"1048576 512 0 ").to_string());
        assert_eq!(identity.uuid, "3205d66b-cc72-5854-97f1-68323c7b2308");
        assert_eq!(identity.nsid, 1);
        assert_eq!(identity.nguid, "0e66e20d-6a00-54a9-9ba1-232a0a296c60");
        assert_eq!((identity.serial.as_str(), identity.model.as_str()), ("SN_1", "ACME SSD"));
    }

    #[test]
    fn a_partition_that_begins_elsewhere_is_another_one() {
        let part = |start| Disk {
            partition: Some((2, "sda".into())),
            start,
            ..sata("0000:00:01.0", "naa.5002538e40a1b2c3-part2", "A1B2-part2")
        };
        assert_eq!(own(&part(2048)), "ACME_SSD:A1B2:naa.5002538e40a1b2c3:part2");
        assert_ne!(name(&part(2048)).uuid, name(&part(4096)).uuid);
        // The whole disk's serial number counts.
        let worthless = Disk { serial: Some("0000-part2".into()), ..part(2048) };
        assert!(own(&worthless).contains(":part2:at:"), "{}", own(&worthless));
    }

    #[test]
    fn every_name_fits_what_nvme_and_linux_hosts_allow() {
        let long = "x/\u{e4} ".repeat(100);
        let disk = Disk {
            wwid: Some(long.clone()),
            model: Some(long.clone()),
            serial: Some(format!("{long}1234")),
            firmware: Some(long),
            ..disk("sda", "0000:00:01.0")
        };
        let identity = name(&disk);
        assert!(identity.nqn.len() < NQN_MAX, "{}", identity.nqn.len());
        let longest = Identity { nqn: nqn(&machine(), &"x".repeat(999)), ..identity.clone() };
        assert!(read_only(&longest, false).nqn.len() < NQN_MAX, "{}", read_only(&longest, false).nqn);
        let is_safe = |c: char| c.is_ascii_alphanumeric() || "-._:~+".contains(c);
        assert!(identity.nqn.chars().all(is_safe), "{}", identity.nqn);
        assert_eq!(identity.serial.chars().count(), 20);
        assert!(identity.serial.ends_with("1234"));
        assert_eq!(identity.model.chars().count(), 39);
        assert_eq!(identity.firmware.chars().count(), 7);
        // Names that differ only beyond the cut still differ.
        let other = Disk { wwid: Some("y".into()), ..disk };
        assert_ne!(name(&other).nqn, identity.nqn);
        let bare = name(&self::disk("sda", "0000:00:01.0"));
        assert_eq!(bare.serial.len(), 20);
        assert_eq!((bare.model.as_str(), bare.firmware.as_str()), ("disk", "-"));
    }

    #[test]
    fn a_disk_with_other_blocks_is_another_namespace_of_its_subsystem() {
        let drive = sata("0000:00:01.0", "naa.5002538e40a1b2c3", "A1B2");
        let before = name(&drive);
        let after = renewed(&before, &Disk { block_size: 4096, ..drive });
        assert!(after.uuid != before.uuid && after.nguid != before.nguid && after.nsid != before.nsid);
        let Identity { nsid, uuid, nguid, .. } = before.clone();
        assert_eq!(Identity { nsid, uuid, nguid, ..after }, before);
    }
}
