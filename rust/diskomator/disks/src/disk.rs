//! Disks: what sysfs says of a block device, read into what the rest needs.

pub use crate::kind::Bus;
use crate::kind::{Kind, components, numbered};

/// The files of one block device in sysfs, unparsed. Absent files are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The kernel's name: `sda`, `nvme0n1`.
    pub name: String,
    /// The device below `/sys` with every link followed, without a leading
    /// slash: `devices/pci0000:00/…/block/sda`.
    pub devpath: String,
    /// `diskseq`: a number that no other disk, and no other medium of the
    /// same drive, has had since boot.
    pub diskseq: Option<u64>,
    /// `size`, in units of 512 bytes whatever the block size is.
    pub sectors: u64,
    /// `queue/logical_block_size`, bytes.
    pub block_size: u32,
    /// `ro`.
    pub read_only: bool,
    /// `queue/rotational`.
    pub rotational: bool,
    /// `queue/zoned`, if it is not `none`: `host-managed`.
    pub zoned: Option<String>,
    /// The controllers of an NVMe disk: `nvme0`.
    pub controllers: Vec<String>,
    /// `removable`: the medium is, not the drive.
    pub removable: bool,
    /// `hidden`: not a device of its own, such as one path of an NVMe disk.
    pub hidden: bool,
    /// `holders/`: the device mapper or md devices that are made of this one.
    pub holders: Vec<String>,
    /// `wwid`, or `device/wwid`, or an MMC card's `device/cid`.
    pub wwid: Option<String>,
    /// `serial` or `device/serial`.
    pub serial: Option<String>,
    /// `device/model`, or an MMC card's `device/name`.
    pub model: Option<String>,
    /// `device/vendor`.
    pub vendor: Option<String>,
    /// `device/firmware_rev`, `device/rev` or an MMC card's `device/fwrev`.
    pub firmware: Option<String>,
    /// `device/vpd_pg80`: SCSI's Unit Serial Number page.
    pub vpd_serial: Option<Vec<u8>>,
    /// `device/vpd_pg89`: the ATA Information page, of SATA and PATA disks.
    pub vpd_ata: Option<Vec<u8>>,
    /// The major version of the USB root hub that the disk is behind: `2`, `3`.
    pub usb_version: Option<String>,
    /// The disk or a partition of it is mounted, or is swapped to.
    pub mounted: bool,
    /// `serial` of the USB device that the disk is in.
    pub usb_serial: Option<String>,
    /// `port_no` of the ATA port that the disk is at.
    pub ata_port: Option<u32>,
    /// `device/transport` of an NVMe controller: `pcie`, `tcp`, …
    pub transport: Option<String>,
    /// `nsid` of an NVMe disk: which namespace of its controller it is.
    pub nsid: Option<u32>,
    /// `partition`, of a partition: its number, and the name of its disk.
    pub partition: Option<(u32, String)>,
    /// `start` of a partition, in units of 512 bytes.
    pub start: u64,
    /// This machine was started from it.
    pub boot: bool,
    /// This machine may have been started from it: its partition table can't be read.
    pub may_be_boot: bool,
}

/// The I/O between the kernel and a disk since it appeared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Activity {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Requests finished, of any kind.
    pub finished: u64,
    /// Requests that the disk is at.
    pub in_flight: u64,
}

impl Activity {
    /// Reads a block device's `stat` (the kernel's `Documentation/block/stat.rst`).
    pub fn parse(stat: &str) -> Option<Self> {
        const SECTOR: u64 = 512;
        let fields: Vec<u64> = stat.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let at = |field: usize| fields.get(field).copied();
        // Discards and flushes came with later kernels.
        let late = |field: usize| at(field).unwrap_or(0);
        Some(Self {
            read: at(2)?.saturating_mul(SECTOR),
            written: at(6)?.saturating_mul(SECTOR),
            finished: [at(0)?, at(4)?, late(11), late(15)].into_iter().fold(0, u64::saturating_add),
            in_flight: at(8)?,
        })
    }

    /// Whether nothing was finished since `before`, though there was work all along.
    pub fn is_stuck_since(&self, before: &Self) -> bool {
        before.in_flight > 0 && self.in_flight > 0 && self.finished == before.finished
    }
}

/// Whether the disk itself has answered: opening a device, and some of what
/// sysfs says of it, takes as long as the device likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer {
    /// It has, or nobody asked.
    #[default]
    Given,
    /// Not yet.
    Awaited,
    /// Not in a time in which any disk should.
    Overdue,
}

/// A block device that may be exported: a whole disk, or a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name of this boot: `sda`, `nvme0n1`.
    pub name: String,
    /// See [`Attributes::diskseq`]; 0 on kernels before 5.15.
    pub diskseq: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes of a logical block.
    pub block_size: u32,
    /// The device refuses writes.
    pub read_only: bool,
    /// It turns, or says nothing to the contrary, as USB sticks do.
    pub rotational: bool,
    /// It can only be written to zone by zone.
    pub is_zoned: bool,
    /// The one controller of an NVMe disk: `nvme0`. Some have several.
    pub controller: Option<String>,
    /// The medium can be taken out.
    pub removable: bool,
    /// Not a device of its own.
    pub hidden: bool,
    /// Devices that are made of this one.
    pub holders: Vec<String>,
    /// This machine itself uses it, or a partition of it.
    pub mounted: bool,
    /// How it is attached.
    pub bus: Bus,
    /// Reached over NVMe over Fabrics, so not a disk of this machine.
    pub remote: bool,
    /// A name that the disk itself has and no other should, if it has one.
    pub wwid: Option<String>,
    /// The disk's own model, cleaned.
    pub model: Option<String>,
    /// The disk's own serial number, cleaned.
    pub serial: Option<String>,
    /// The serial number had characters that are no text, so that another one
    /// may look the same once it is cleaned.
    pub is_serial_garbled: bool,
    /// The disk's own firmware revision, cleaned.
    pub firmware: Option<String>,
    /// Where the disk is plugged in: the same on every boot while it stays
    /// there, in the manner of udev's `ID_PATH`.
    pub bus_path: String,
    /// It is nowhere in particular, and its bus path is the kernel's name of this boot.
    pub is_placeless: bool,
    /// The logical unit of a SCSI or USB device: 0 but for card readers and
    /// storage arrays.
    pub lun: u64,
    /// The namespace of an NVMe controller: 1 but for those that have several;
    /// 0 of other disks.
    pub nsid: u32,
    /// Of a partition: its number, and the name of its disk.
    pub partition: Option<(u32, String)>,
    /// Where a partition begins on its disk, in units of 512 bytes.
    pub start: u64,
    /// Its partitions are to be exported instead of it.
    pub in_parts: bool,
    /// This machine was started from it.
    pub is_boot_medium: bool,
    /// This machine may have been started from it: its partition table can't be read.
    pub may_be_boot_medium: bool,
    /// Whether it answers.
    pub answer: Answer,
    /// Why it does not even open for reading, in the kernel's words.
    pub open_error: Option<String>,
}

impl Disk {
    /// Makes sense of what sysfs says.
    pub fn new(attributes: Attributes) -> Self {
        let a = attributes;
        let (bus, place) = (Kind::of(&a.name).bus(&a.devpath), bus_path(&a));
        let ata = a.vpd_ata.as_deref().and_then(AtaIdentity::parse);
        let ata = ata.as_ref();
        let model = ata
            .and_then(|ata| clean(&ata.model))
            .or_else(|| full_model(a.vendor.as_deref(), a.model.as_deref()))
            .or_else(|| bus.model().map(str::to_owned));
        let part = a.partition.as_ref().map(|(number, _)| format!("-part{number}")).unwrap_or_default();
        let serial = [
            ata.map(|ata| ata.serial.clone()),
            a.vpd_serial.as_deref().and_then(vpd_text),
            a.serial.clone(),
            a.usb_serial.clone(),
        ];
        let serial = serial.into_iter().flatten().find_map(|raw| Some((clean(&raw)?, is_garbled(&raw))));
        let (serial, is_serial_garbled) = serial.map_or((None, false), |(serial, garbled)| (Some(serial), garbled));
        let serial = serial.map(|serial| serial + &part);
        let firmware = ata.and_then(|ata| clean(&ata.firmware)).or_else(|| a.firmware.as_deref().and_then(clean));
        Self {
            is_placeless: place.is_none(),
            bus_path: place.unwrap_or_else(|| a.name.clone()) + &part,
            partition: a.partition,
            in_parts: false,
            is_boot_medium: a.boot,
            may_be_boot_medium: a.may_be_boot,
            answer: Answer::Given,
            open_error: None,
            lun: lun(&a.devpath),
            nsid: a.nsid.unwrap_or(0),
            start: a.start,
            diskseq: a.diskseq.unwrap_or(0),
            size: a.sectors.saturating_mul(512),
            block_size: a.block_size,
            read_only: a.read_only,
            rotational: a.rotational,
            is_zoned: a.zoned.is_some(),
            controller: match <[String; 1]>::try_from(a.controllers) {
                Ok([only]) if !a.hidden => Some(only),
                _ => None,
            },
            removable: a.removable,
            hidden: a.hidden,
            remote: a.transport.as_deref().is_some_and(|transport| transport != "pcie"),
            wwid: a.wwid.as_deref().and_then(clean).map(|wwid| match Kind::hardware_part(&a.name) {
                Some(partition) => format!("{wwid}-{partition}"),
                None => wwid + &part,
            }),
            name: a.name,
            holders: a.holders,
            mounted: a.mounted,
            bus,
            model,
            serial,
            is_serial_garbled,
            firmware,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> &'static Kind {
        Kind::of(&self.name)
    }

    /// Whether it is opened and asked for what only it can tell.
    pub fn is_probed(&self) -> bool {
        !self.hidden && !self.remote && self.bus != Bus::Virtual && self.kind().is_probed()
    }

    /// Its name in log lines.
    pub fn label(&self) -> String {
        let size = human_size(self.size);
        match &self.model {
            Some(model) => format!("{} ({model}, {size})", self.name),
            None => format!("{} ({size})", self.name),
        }
    }

    /// The model, of at most `most` characters, with a mark on the disk that this
    /// machine was started from: who writes to it should mean to.
    pub fn marked_model(&self, most: usize) -> Option<String> {
        const MARK: &str = " [boot]";
        let cut = |model: &str, most: usize| model.chars().take(most).collect::<String>().trim_end().to_owned();
        match (&self.model, self.is_boot_medium) {
            (Some(model), false) => Some(cut(model, most)),
            (model, true) => Some(cut(model.as_deref().unwrap_or("disk"), most.saturating_sub(MARK.len())) + MARK),
            (None, false) => None,
        }
    }

    /// Whether nothing can be written to it, by its own switch or by its kind.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.kind().is_read_only
    }

    /// Whether its host should have little under way at it.
    pub fn is_slow(&self) -> bool {
        self.rotational || self.kind().is_slow
    }

    /// The names by which udev would link to it in `/dev/disk/by-id`, as far as
    /// they are made of what the disk says of itself: `usb-SanDisk_Ultra_4C53`.
    pub fn ids(&self) -> Vec<String> {
        let bus = self.bus.by_id();
        let names = match (&self.model, &self.serial) {
            (Some(model), Some(serial)) if self.bus.model().is_none() => Some(format!("{model}_{serial}")),
            (_, Some(serial)) => Some(serial.clone()),
            (Some(model), None) => Some(model.clone()),
            (None, None) => None,
        };
        let wwn = self.wwid.as_ref().map(|wwid| match wwid.split_once("naa.") {
            Some((_, number)) => format!("wwn-0x{number}"),
            None => format!("{bus}-{wwid}"),
        });
        let text = names.map(|name| format!("{bus}-{name}")).into_iter().chain(wwn);
        text.map(|id| id.replace(' ', "_")).collect()
    }
}

/// A size as people say it: in powers of 1024, with as many digits as matter.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    // Tenths, rounded, so that 1023.96 MiB becomes 1 GiB.
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10235 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {}", UNITS[unit]),
        (whole, tenth) if whole < 100 => format!("{whole}.{tenth} {}", UNITS[unit]),
        (whole, tenth) => format!("{} {}", whole + u128::from(tenth >= 5), UNITS[unit]),
    }
}

/// Printable ASCII with single spaces, or nothing if nothing is left: what an
/// NVMe string may hold (NVM Express Base Specification, "ASCII strings") and
/// what a terminal can be shown.
fn clean(text: &str) -> Option<String> {
    let printable: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).collect();
    let words: Vec<&str> = printable.split(' ').filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Whether `clean` takes out more than what pads a text at its ends.
fn is_garbled(text: &str) -> bool {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    text.chars().any(|c| !c.is_ascii_graphic() && c != ' ')
}

/// SCSI parts a name into vendor and product. Some repeat the vendor, and the
/// SCSI layer calls every ATA disk's vendor `ATA`; virtio has a PCI number.
fn full_model(vendor: Option<&str>, model: Option<&str>) -> Option<String> {
    let model = model.and_then(clean)?;
    match vendor.and_then(clean) {
        Some(vendor) if vendor != "ATA" && !vendor.starts_with("0x") && !model.starts_with(&vendor) => {
            Some(format!("{vendor} {model}"))
        }
        _ => Some(model),
    }
}

/// `2:0:1:0`, the name of a SCSI device: host, channel, target, LUN.
fn scsi_address(component: &str) -> Option<[&str; 4]> {
    let parts: Vec<&str> = component.split(':').collect();
    let parts: [&str; 4] = parts.try_into().ok()?;
    parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())).then_some(parts)
}

/// `0000:00:1f.2`, the name of a PCI function. Intel's VMD has domains of five
/// digits.
fn is_pci_address(component: &str) -> bool {
    let Some((domain, function)) = component.split_once(':') else { return false };
    let pattern = b"xx:xx.x";
    domain.len() >= 4
        && domain.bytes().all(|byte| byte.is_ascii_hexdigit())
        && function.len() == pattern.len()
        && function.bytes().zip(pattern).all(|(byte, expected)| match expected {
            b'x' => byte.is_ascii_hexdigit(),
            other => byte == *other,
        })
}

fn lun(devpath: &str) -> u64 {
    components(devpath).rev().find_map(scsi_address).and_then(|[_, _, _, lun]| lun.parse().ok()).unwrap_or(0)
}

/// The parts of a sysfs path that stay the same from boot to boot: the PCI
/// functions on the way, the USB ports, the ATA port's number on its controller,
/// SCSI channel, target and LUN. Counters such as `host3`, `ata5`, `usb1` or
/// `virtio2`, which depend on the order of discovery, are left out, and so are
/// the numbers of PCI buses behind bridges, which depend on what else is
/// plugged in. Nothing, if nothing is left.
fn bus_path(a: &Attributes) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut is_in_pci = false;
    for component in components(&a.devpath) {
        if is_pci_address(component) {
            let function = component.rsplit(':').next().unwrap_or(component);
            parts.push(if is_in_pci { function.to_owned() } else { format!("pci-{component}") });
            is_in_pci = true;
        } else if let Some((port, interface)) = component.split_once('-').and_then(|(bus, rest)| {
            let numeric = !bus.is_empty() && bus.bytes().all(|byte| byte.is_ascii_digit());
            numeric.then(|| rest.split_once(':')).flatten()
        }) {
            // A socket has one number at the slow root hub and one at the fast.
            parts.push(format!("usb{}-{port}:{interface}", a.usb_version.as_deref().unwrap_or_default()));
        } else if numbered(component, "ata").is_some() {
            if let Some(port) = a.ata_port {
                parts.push(format!("ata-{port}"));
            }
        } else if let Some([_, channel, target, lun]) = scsi_address(component) {
            parts.push(format!("scsi-{channel}:{target}:{lun}"));
        } else if component == "mmc_host" {
            // Its address on the bus, `mmc0:4567`, is one that the card makes up.
            parts.push("mmc".to_owned());
        } else if is_firmware_device(component) {
            parts.push(component.to_owned());
        }
    }
    if parts.is_empty() {
        return None;
    }
    // The number in its name is one of discovery, too, and the last resort.
    let kind = Kind::of(&a.name);
    let in_name =
        || a.name.strip_prefix(kind.prefix).filter(|_| kind.is_always(Bus::Nvme))?.split_once('n')?.1.parse().ok();
    parts.extend(a.nsid.or_else(in_name).map(|nsid: u32| format!("nvme-{nsid}")));
    parts.extend(Kind::hardware_part(&a.name).map(str::to_owned));
    Some(parts.join("-"))
}

/// A device that the firmware or the hypervisor names: `80860F14:00` of ACPI,
/// `a003e00.virtio_mmio` at an address, a GUID of Hyper-V, `vbd-51712` of Xen.
fn is_firmware_device(component: &str) -> bool {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_acpi = component.split_once(':').is_some_and(|(kind, number)| {
        let is_upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        (7..=8).contains(&kind.len()) && kind.bytes().all(is_upper) && is_hex(number)
    });
    let is_at_address = component.split_once('.').is_some_and(|(address, _)| address.len() >= 4 && is_hex(address));
    is_acpi || is_at_address || uuid::Uuid::try_parse(component).is_ok() || numbered(component, "vbd-").is_some()
}

/// A vital product data page of ASCII text (SPC-4, 7.8: four bytes of header
/// of which the last two are the length of the rest).
fn vpd_text(page: &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let text = page.get(4..)?;
    Some(String::from_utf8_lossy(text.get(..length).unwrap_or(text)).into_owned())
}

/// The data of IDENTIFY DEVICE (ACS-3, 7.12.7), from the ATA Information VPD
/// page, which holds it from byte 60 on (SAT-3, 12.4.2). SCSI's own model and
/// serial fields have room for less.
#[derive(Debug, PartialEq, Eq)]
struct AtaIdentity {
    serial: String,
    firmware: String,
    model: String,
}

impl AtaIdentity {
    fn parse(page: &[u8]) -> Option<Self> {
        let identify = page.get(60..)?;
        let words = |from: usize, to: usize| -> Option<String> {
            let bytes = identify.get(from * 2..to * 2)?;
            // Each word holds two characters, the first in its upper half.
            let text: Vec<u8> = bytes.chunks_exact(2).flat_map(|word| [word[1], word[0]]).collect();
            Some(String::from_utf8_lossy(&text).into_owned())
        };
        Some(Self { serial: words(10, 20)?, firmware: words(23, 27)?, model: words(27, 47)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(name: &str, devpath: &str) -> Attributes {
        Attributes {
            name: name.to_owned(),
            devpath: format!("devices/{devpath}/block/{name}"),
            block_size: 512,
            ..Attributes::default()
        }
    }

    fn ata_page(serial: &str, firmware: &str, model: &str) -> Vec<u8> {
        let mut page = vec![0; 572];
        for (text, word, words) in [(serial, 10, 10), (firmware, 23, 4), (model, 27, 20)] {
            let padded = format!("{text:width$}", width = words * 2);
            for (i, pair) in padded.as_bytes().chunks(2).enumerate() {
                page[60 + (word + i) * 2] = pair[1];
                page[60 + (word + i) * 2 + 1] = pair[0];
            }
        }
        page
    }

    #[test]
    fn the_boot_medium_is_marked() {
        let model = |model: Option<&str>, boot, most| {
            Disk::new(Attributes { model: model.map(str::to_owned), boot, ..attributes("sda", "pci0000:00") })
                .marked_model(most)
        };
        assert_eq!(model(Some("SanDisk Ultra"), true, 40).as_deref(), Some("SanDisk Ultra [boot]"));
        assert_eq!(model(Some("SanDisk Ultra"), true, 15).as_deref(), Some("SanDisk [boot]"));
        assert_eq!(model(Some("SanDisk Ultra"), false, 9).as_deref(), Some("SanDisk U"));
        assert_eq!(model(None, true, 40).as_deref(), Some("disk [boot]"));
        assert_eq!(model(None, false, 40), None);
    }

    #[test]
    fn activity_is_read_and_a_disk_that_hangs_told_from_one_that_works() {
        let stat = "  10 0 80 5 20 1 160 9 2 14 14 3 0 24 1 4 2\n";
        let before = Activity::parse(stat).unwrap();
        assert_eq!(before, Activity { read: 40960, written: 81920, finished: 37, in_flight: 2 });
        assert_eq!(Activity::parse("1 0 8 0 2 0 8 0 0 0 0").map(|activity| activity.finished), Some(3));
        assert_eq!(Activity::parse("1 0 8 0"), None);
        assert_eq!(Activity::parse("1 0 8 0 x 0 8 0 0 0 0"), None);
        assert!(before.is_stuck_since(&before));
        assert!(!Activity { finished: 38, ..before }.is_stuck_since(&before));
        assert!(!Activity { in_flight: 0, ..before }.is_stuck_since(&before));
        assert!(!before.is_stuck_since(&Activity { in_flight: 0, ..before }));
    }

    #[test]
    fn an_ata_disk_has_its_full_model_and_serial() {
        let disk = Disk::new(Attributes {
            vendor: Some("ATA     ".into()),
            model: Some("Samsung SSD 860 ".into()),
            firmware: Some("1B6Q".into()),
            vpd_ata: Some(ata_page("S3Z8NB0K123456X", "RVT01B6Q", "Samsung SSD 860 EVO 500GB")),
            ata_port: Some(2),
            ..attributes("sda", "pci0000:00/0000:00:1f.2/ata5/host4/target4:0:0/4:0:0:0")
        });
        assert_eq!(disk.model.as_deref(), Some("Samsung SSD 860 EVO 500GB"));
        assert_eq!(disk.serial.as_deref(), Some("S3Z8NB0K123456X"));
        assert_eq!(disk.firmware.as_deref(), Some("RVT01B6Q"));
        assert_eq!(disk.bus, Bus::Ata);
        assert_eq!(disk.bus_path, "pci-0000:00:1f.2-ata-2-scsi-0:0:0");
    }

    #[test]
    fn truncated_pages_are_passed_over() {
        let page = ata_page("S", "F", "M");
        for end in 0..page.len() {
            assert_eq!(AtaIdentity::parse(&page[..end]).is_some(), end >= 60 + 94, "{end}");
        }
        for page in [&b""[..], b"\0\x80\0", b"\0\x80\0\x05abc"] {
            assert_eq!(vpd_text(page), if page.len() < 4 { None } else { Some("abc".into()) });
        }
    }

    #[test]
    fn a_usb_disk_has_the_serial_of_its_usb_device_and_the_path_of_its_ports() {
        let disk = Disk::new(Attributes {
            vendor: Some("SanDisk".into()),
            model: Some("Ultra Fit".into()),
            usb_serial: Some("4C530001".into()),
            usb_version: Some("3".into()),
            ..attributes("sdb", "pci0000:00/0000:00:14.0/usb1/1-2/1-2.4/1-2.4:1.0/host6/target6:0:0/6:0:0:3")
        });
        assert_eq!(disk.model.as_deref(), Some("SanDisk Ultra Fit"));
        assert_eq!(disk.serial.as_deref(), Some("4C530001"));
        assert_eq!(disk.bus, Bus::Usb);
        assert_eq!(disk.bus_path, "pci-0000:00:14.0-usb3-2.4:1.0-scsi-0:0:3");
        assert_eq!(disk.lun, 3);
    }

    #[test]
    fn counters_of_discovery_are_no_part_of_the_bus_path() {
        let here = attributes("vda", "pci0000:00/0000:00:02.1/0000:02:00.0/virtio3");
        let there = attributes("vdc", "pci0000:00/0000:00:02.1/0000:02:00.0/virtio7");
        assert_eq!(bus_path(&here).as_deref(), Some("pci-0000:00:02.1-00.0"));
        assert_eq!(bus_path(&here), bus_path(&there));
        // The number in its name is one of discovery, too.
        let nvme = |name: &str, nsid, devpath: &str| Attributes { nsid: Some(nsid), ..attributes(name, devpath) };
        let second = nvme("nvme1n1", 2, "pci0000:00/0000:00:05.0/nvme/nvme1/nvme1n1");
        assert_eq!(bus_path(&second).as_deref(), Some("pci-0000:00:05.0-nvme-2"));
        let vmd = nvme("nvme0n1", 1, "pci0000:00/0000:00:0e.0/pci10000:e0/10000:e1:00.0/nvme/nvme0");
        assert_eq!(bus_path(&vmd).as_deref(), Some("pci-0000:00:0e.0-00.0-nvme-1"));
        // Bridges get their numbers from what else is there.
        let there = attributes("vda", "pci0000:00/0000:00:02.1/0000:07:00.0/virtio3");
        assert_eq!(bus_path(&here), bus_path(&there));
    }

    #[test]
    fn places_that_no_bus_numbers_have_the_firmware_s_names() {
        for (name, devpath, path) in [
            ("mmcblk0", "pci0000:00/0000:00:06.0/mmc_host/mmc0/mmc0:4567", "pci-0000:00:06.0-mmc"),
            ("mmcblk1", "pci0000:00/80860F14:01/mmc_host/mmc1/mmc1:0001", "80860F14:01-mmc"),
            ("mmcblk1boot0", "pci0000:00/80860F14:01/mmc_host/mmc1/mmc1:0001", "80860F14:01-mmc-boot0"),
            ("vda", "platform/a003e00.virtio_mmio/virtio1", "a003e00.virtio_mmio"),
            ("xvda", "vbd-51712", "vbd-51712"),
            (
                "sda",
                "ACPI0004:00/VMBUS:00/f8b3781b-1e82-4818-a1c3-63d806ec15bb/host0/target0:0:1/0:0:1:0",
                "ACPI0004:00-f8b3781b-1e82-4818-a1c3-63d806ec15bb-scsi-0:1:0",
            ),
            ("sda", "elsewhere", "sda"),
        ] {
            assert_eq!(Disk::new(attributes(name, devpath)).bus_path, path, "{name} {devpath}");
        }
    }

    #[test]
    fn buses_are_told_apart() {
        for (name, devpath, bus) in [
            ("nvme0n1", "pci0000:00/0000:00:05.0/nvme/nvme0", Bus::Nvme),
            ("nvme0n1", "virtual/nvme-subsystem/nvme-subsys0", Bus::Nvme),
            ("vda", "pci0000:00/0000:00:04.0/virtio1", Bus::Virtio),
            ("sda", "pci0000:00/0000:00:04.0/virtio1/host0/target0:0:1/0:0:1:0", Bus::Scsi),
            ("mmcblk0", "pci0000:00/0000:00:06.0/mmc_host/mmc0/mmc0:4567", Bus::Mmc),
            ("loop0", "virtual", Bus::Virtual),
            ("dm-0", "virtual", Bus::Virtual),
        ] {
            assert_eq!(Disk::new(attributes(name, devpath)).bus, bus, "{name} {devpath}");
        }
    }

    #[test]
    fn hardware_partitions_of_an_emmc_have_names_of_their_own() {
        let named = |name| {
            let wwid = Some("fe014e".into());
            Disk::new(Attributes { wwid, ..attributes(name, "platform/mmc_host/mmc0/mmc0:0001") }).wwid
        };
        assert_eq!(named("mmcblk0").as_deref(), Some("fe014e"));
        assert_eq!(named("mmcblk12gp3").as_deref(), Some("fe014e-gp3"));
        assert_eq!(named("mmcblk0boot1").as_deref(), Some("fe014e-boot1"));
    }

    #[test]
    fn serial_numbers_with_more_than_text_in_them_are_marked() {
        let garbled = |serial: &str| {
            Disk::new(Attributes { serial: Some(serial.into()), ..attributes("sda", "x") }).is_serial_garbled
        };
        for (serial, expected) in [
            ("WD-WMC4N0", false),
            ("  WD WMC4N0 \0\0", false),
            ("AB\u{1}", true),
            ("AB\u{fffd}12", true),
            ("A\tB", true),
        ] {
            assert_eq!(garbled(serial), expected, "{serial:?}");
        }
    }

    #[test]
    fn text_of_disks_is_cleaned() {
        assert_eq!(clean("  QEMU   HARDDISK\n\u{1b}[2J"), Some("QEMU HARDDISK [2J".into()));
        assert_eq!(clean("\0 \u{fffd}"), None);
        assert_eq!(full_model(Some("QEMU"), Some("QEMU HARDDISK")), Some("QEMU HARDDISK".into()));
        assert_eq!(full_model(Some("0x1af4"), None), None);
    }

    #[test]
    fn sizes_are_said_as_people_say_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            (1 << 30, "1 GiB"),
            ((1 << 30) - 1, "1 GiB"),
            (500_107_862_016, "466 GiB"),
            (4_000_787_030_016, "3.6 TiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn sizes_are_in_bytes_whatever_the_block_size_is() {
        let disk = Disk::new(Attributes { sectors: 8, block_size: 4096, ..attributes("sda", "x") });
        assert_eq!(disk.size, 4096);
    }
}
