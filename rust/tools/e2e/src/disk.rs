//! Disks of a virtual machine: a file on this machine, and the hardware that QEMU makes of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{Error, Result};

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bus {
    /// A NVMe drive in its own PCI Express slot.
    Nvme,
    /// A SATA drive at the chipset's AHCI controller. QEMU can't add or pull it while the machine runs.
    Ahci,
    /// virtio-blk in its own PCI Express slot.
    VirtioBlk,
    /// A SCSI disk at a virtio-scsi controller.
    VirtioScsi,
    /// A USB stick.
    UsbStorage,
    /// A USB disk that speaks UAS. Not for adding while the machine runs.
    Uas,
    /// A SD card in a reader.
    Sd,
}

impl Bus {
    /// The model that the hardware reports about itself, where it has one of its own.
    pub fn model(self) -> Option<&'static str> {
        match self {
            Self::Nvme => Some("QEMU NVMe Ctrl"),
            Self::Ahci => Some("Winter SATA 2000"),
            Self::VirtioScsi | Self::Uas => Some("Autumn SCSI 3000"),
            Self::UsbStorage => Some("QEMU HARDDISK"),
            Self::VirtioBlk | Self::Sd => None,
        }
    }

    /// The firmware version that the hardware reports about itself, where it can be chosen.
    pub fn firmware(self) -> Option<&'static str> {
        match self {
            Self::Ahci => Some("A1b2c3"),
            Self::VirtioScsi | Self::Uas => Some("4.20"),
            _ => None,
        }
    }
}

/// A disk, plugged in or not.
#[derive(Debug, Clone)]
pub struct Disk {
    pub(crate) bus: Bus,
    pub(crate) serial: String,
    pub(crate) file: PathBuf,
    pub(crate) size: u64,
    pub(crate) read_only: bool,
    fault: Fault,
    block_sizes: Option<(u32, u32)>,
    optimal_io: Option<u32>,
    zone_size: Option<u64>,
    claimed: Option<String>,
    wwn: Option<u64>,
    socket: Option<u32>,
}

/// A fault of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It stops answering when told to.
    Hangs,
    /// Reads of this sector of 512 bytes fail.
    FailsAt(u64),
}

impl Disk {
    /// A blank disk of `size` bytes, sparse on this machine.
    pub(crate) fn create(dir: &Path, bus: Bus, serial: &str, size: u64) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|source| Error::File { verb: "create", path: dir.to_owned(), source })?;
        let file = dir.join(format!("{serial}.img"));
        let fail = |verb| {
            let path = file.clone();
            move |source| Error::File { verb, path, source }
        };
        File::create(&file).map_err(fail("create"))?.set_len(size).map_err(fail("extend"))?;
        Ok(Self {
            bus,
            serial: serial.to_owned(),
            file,
            size,
            read_only: false,
            fault: Fault::None,
            block_sizes: None,
            optimal_io: None,
            zone_size: None,
            claimed: None,
            wwn: None,
            socket: None,
        })
    }

    /// The same disk, attached in another way.
    #[must_use]
    pub fn at(mut self, bus: Bus) -> Self {
        self.bus = bus;
        self
    }

    /// The same disk with its write-protect switch on.
    #[must_use]
    pub fn write_protected(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The same disk, which can be made to hang ([`crate::Appliance::hang_disk`]).
    #[must_use]
    pub fn that_can_hang(mut self) -> Self {
        self.fault = Fault::Hangs;
        self
    }

    /// The same disk with a sector of 512 bytes that can't be read.
    #[must_use]
    pub fn with_bad_sector(mut self, sector: u64) -> Self {
        self.fault = Fault::FailsAt(sector);
        self
    }

    /// The same disk with logical and physical blocks of that many bytes.
    #[must_use]
    pub fn with_blocks(mut self, logical: u32, physical: u32) -> Self {
        self.block_sizes = Some((logical, physical));
        self
    }

    /// The same disk with requests of that many bytes as those it likes best.
    #[must_use]
    pub fn with_optimal_io(mut self, bytes: u32) -> Self {
        self.optimal_io = Some(bytes);
        self
    }

    /// The same NVMe disk with zones of that many bytes, each to be written from its beginning to its end.
    #[must_use]
    pub fn with_zones(mut self, bytes: u64) -> Self {
        self.zone_size = Some(bytes);
        self
    }

    /// The same SCSI disk with this world-wide name.
    #[must_use]
    pub fn with_wwn(mut self, wwn: u64) -> Self {
        self.wwn = Some(wwn);
        self
    }

    /// The same USB disk in this socket of the machine; else it is in the first that is free.
    #[must_use]
    pub fn in_socket(mut self, number: u32) -> Self {
        self.socket = Some(number);
        self
    }

    /// The same disk, which says that this is its serial number.
    #[must_use]
    pub fn claiming(mut self, serial: &str) -> Self {
        self.claimed = Some(serial.to_owned());
        self
    }

    /// How it is attached.
    pub fn bus(&self) -> Bus {
        self.bus
    }

    /// The serial number that it reports, unless it [claims](Self::claiming) another.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file on this machine that holds its data.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// QEMU's name of the device.
    pub(crate) fn id(&self) -> String {
        format!("disk-{}", self.serial)
    }

    /// QEMU's name of the block node.
    pub(crate) fn node(&self) -> String {
        format!("node-{}", self.serial)
    }

    /// The object that QEMU must make before the block node: it can make the disk hang.
    pub(crate) fn object(&self) -> Option<Value> {
        (self.fault == Fault::Hangs)
            .then(|| json!({ "qom-type": "throttle-group", "id": self.throttle(), "limits": {} }))
    }

    /// QEMU's name of that object.
    pub(crate) fn throttle(&self) -> String {
        format!("throttle-{}", self.serial)
    }

    pub(crate) fn blockdev(&self) -> Value {
        let file = json!({
            "driver": "file",
            "filename": self.file,
            "read-only": self.read_only,
            "discard": "unmap",
        });
        let raw =
            |file: Value| json!({ "driver": "raw", "read-only": self.read_only, "discard": "unmap", "file": file });
        let mut node = match self.fault {
            Fault::None => raw(file),
            Fault::Hangs => json!({
                "driver": "throttle",
                "throttle-group": self.throttle(),
                "read-only": self.read_only,
                "discard": "unmap",
                "file": raw(file),
            }),
            Fault::FailsAt(sector) => raw(json!({
                "driver": "blkdebug",
                "read-only": self.read_only,
                "discard": "unmap",
                "image": file,
                "inject-error": [{ "event": "none", "iotype": "read", "errno": 5, "sector": sector }],
            })),
        };
        node["node-name"] = json!(self.node());
        node
    }

    /// The devices that QEMU must make for it beside its block node, in their order. `slot` is the PCI Express port or
    /// the SATA port to use, for those who need one.
    pub(crate) fn devices(&self, slot: usize) -> Vec<Value> {
        let (id, node) = (self.id(), self.node());
        let mut disk = json!({ "id": id, "drive": node });
        let set = |value: &mut Value, pairs: &[(&str, String)]| {
            for (key, text) in pairs {
                value[*key] = json!(text);
            }
        };
        let serial = ("serial", self.claimed.clone().unwrap_or_else(|| self.serial.clone()));
        let model = self.bus.model().unwrap_or_default().to_owned();
        let firmware = ("ver", self.bus.firmware().unwrap_or_default().to_owned());
        let mut devices = Vec::new();
        match self.bus {
            Bus::Nvme if self.zone_size.is_some() => {
                let controller = format!("zoned-{}", self.serial);
                devices.push(json!({
                    "driver": "nvme", "id": controller, "bus": format!("port{slot}"), "serial": self.serial,
                }));
                set(&mut disk, &[("driver", "nvme-ns".into()), ("bus", controller)]);
                disk["zoned"] = json!(true);
                disk["zoned.zone_size"] = json!(self.zone_size);
            }
            Bus::Nvme => set(&mut disk, &[("driver", "nvme".into()), ("bus", format!("port{slot}")), serial]),
            Bus::VirtioBlk => {
                set(&mut disk, &[("driver", "virtio-blk-pci".into()), ("bus", format!("port{slot}")), serial]);
            }
            Bus::Ahci => set(
                &mut disk,
                &[("driver", "ide-hd".into()), ("bus", format!("ide.{slot}")), ("model", model), firmware, serial],
            ),
            Bus::VirtioScsi => {
                let (vendor, product) = model.split_once(' ').unwrap_or_default();
                set(
                    &mut disk,
                    &[
                        ("driver", "scsi-hd".into()),
                        ("bus", "scsi.0".into()),
                        ("vendor", vendor.into()),
                        ("product", product.into()),
                        firmware,
                        serial,
                    ],
                );
            }
            Bus::UsbStorage => set(&mut disk, &[("driver", "usb-storage".into()), ("bus", "usb.0".into()), serial]),
            Bus::Uas => {
                let adapter = format!("uas-{}", self.serial);
                devices.push(json!({ "driver": "usb-uas", "id": adapter, "bus": "usb.0" }));
                let (vendor, product) = model.split_once(' ').unwrap_or_default();
                set(
                    &mut disk,
                    &[
                        ("driver", "scsi-hd".into()),
                        ("bus", format!("{adapter}.0")),
                        ("vendor", vendor.into()),
                        ("product", product.into()),
                        firmware,
                        serial,
                    ],
                );
            }
            Bus::Sd => {
                devices.push(json!({ "driver": "sdhci-pci", "id": format!("reader-{}", self.serial) }));
                // The only reader of the machine, so the card finds it without being told.
                set(&mut disk, &[("driver", "sd-card".into())]);
            }
        }
        if let Some((logical, physical)) = self.block_sizes {
            disk["logical_block_size"] = json!(logical);
            disk["physical_block_size"] = json!(physical);
        }
        if let Some(bytes) = self.optimal_io {
            disk["opt_io_size"] = json!(bytes);
        }
        if let Some(wwn) = self.wwn {
            disk["wwn"] = json!(wwn);
        }
        devices.push(disk);
        // The device on USB comes first: the disk itself, or its adapter.
        if let (Some(socket), Some(device)) = (self.socket, devices.first_mut()) {
            device["port"] = json!(socket.to_string());
        }
        devices
    }
}
