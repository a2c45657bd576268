//! Kernel uevents, as a `NETLINK_KOBJECT_UEVENT` socket delivers them
//! (the kernel's `lib/kobject_uevent.c`).

/// The action of the kernel on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It appeared.
    Add,
    /// It went away.
    Remove,
    /// Something about it changed: size, medium, read-only flag.
    Change,
    /// `move`, `online`, `offline`, `bind`, `unbind`: nothing that changes a
    /// disk by itself.
    Other,
}

/// One uevent. Text is lossy UTF-8: names of devices are ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uevent {
    /// The action.
    pub action: Action,
    /// The device below `/sys`, starting with `/devices`.
    pub devpath: String,
    /// `block`, `net`, `usb`, …
    pub subsystem: String,
    /// The other `KEY=value` pairs in the kernel's order.
    pub properties: Vec<(String, String)>,
}

/// Why a datagram is not a kernel uevent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UeventError {
    /// The header `ACTION@DEVPATH` is missing; udev's own messages, which
    /// start with `libudev`, are such.
    #[error("no ACTION@DEVPATH header")]
    Header,
    /// A property that every uevent has is missing.
    #[error("no {0} property")]
    Missing(&'static str),
}

impl Uevent {
    /// Whether a SCSI device says that its capacity is another one
    /// (`scsi_evt_emit` in the kernel's `drivers/scsi/scsi_lib.c`).
    pub fn has_new_capacity(&self) -> bool {
        self.subsystem == "scsi" && self.property("SDEV_UA") == Some("CAPACITY_DATA_HAS_CHANGED")
    }

    /// Reads one datagram.
    pub fn parse(datagram: &[u8]) -> Result<Self, UeventError> {
        let mut fields = datagram.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        let header = fields.next().ok_or(UeventError::Header)?;
        if !header.contains(&b'@') {
            return Err(UeventError::Header);
        }
        let (mut action, mut devpath, mut subsystem) = (None, None, None);
        let mut properties = Vec::new();
        for field in fields {
            let field = String::from_utf8_lossy(field);
            let Some((key, value)) = field.split_once('=') else { continue };
            match key {
                "ACTION" => action = Some(Action::from(value)),
                "DEVPATH" => devpath = Some(value.to_owned()),
                "SUBSYSTEM" => subsystem = Some(value.to_owned()),
                _ => properties.push((key.to_owned(), value.to_owned())),
            }
        }
        Ok(Self {
            action: action.ok_or(UeventError::Missing("ACTION"))?,
            devpath: devpath.ok_or(UeventError::Missing("DEVPATH"))?,
            subsystem: subsystem.ok_or(UeventError::Missing("SUBSYSTEM"))?,
            properties,
        })
    }

    /// The value of a property.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

impl From<&str> for Action {
    fn from(word: &str) -> Self {
        match word {
            "add" => Self::Add,
            "remove" => Self::Remove,
            "change" => Self::Change,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESIZE: &[u8] = b"change@/devices/pci0000:00/0000:00:04.0/virtio1/block/vda\0ACTION=change\0\
        DEVPATH=/devices/pci0000:00/0000:00:04.0/virtio1/block/vda\0SUBSYSTEM=block\0RESIZE=1\0MAJOR=254\0\
        MINOR=0\0DEVNAME=vda\0DEVTYPE=disk\0DISKSEQ=9\0SEQNUM=1205\0";

    #[test]
    fn a_resize_of_a_disk_is_read() {
        let event = Uevent::parse(RESIZE).unwrap();
        assert_eq!(event.action, Action::Change);
        assert_eq!(event.devpath, "/devices/pci0000:00/0000:00:04.0/virtio1/block/vda");
        assert_eq!(event.subsystem, "block");
        assert_eq!(event.property("RESIZE"), Some("1"));
        assert_eq!(event.property("DISKSEQ"), Some("9"));
        assert_eq!(event.property("NONE"), None);
    }

    #[test]
    fn a_scsi_device_tells_of_its_new_capacity() {
        let event = |unit_attention: &str| {
            let datagram = format!(
                "change@/devices/x/0:0:0:0\0ACTION=change\0DEVPATH=/devices/x/0:0:0:0\0SUBSYSTEM=scsi\0\
                 SDEV_UA={unit_attention}\0SEQNUM=1\0"
            );
            Uevent::parse(datagram.as_bytes()).unwrap()
        };
        assert!(event("CAPACITY_DATA_HAS_CHANGED").has_new_capacity());
        assert!(!event("INQUIRY_DATA_HAS_CHANGED").has_new_capacity());
        assert!(!Uevent::parse(RESIZE).unwrap().has_new_capacity());
    }

    #[test]
    fn a_truncated_uevent_is_an_error_or_a_shorter_uevent_but_no_panic() {
        for end in 0..RESIZE.len() {
            if let Ok(event) = Uevent::parse(&RESIZE[..end]) {
                assert_eq!(event.action, Action::Change);
            }
        }
        assert_eq!(Uevent::parse(b""), Err(UeventError::Header));
        assert_eq!(Uevent::parse(b"add@/x\0ACTION=add\0"), Err(UeventError::Missing("DEVPATH")));
    }

    #[test]
    fn what_udev_broadcasts_is_not_a_kernel_uevent() {
        assert_eq!(Uevent::parse(b"libudev\0\xfe\xed\xca\xfe\0ACTION=add\0"), Err(UeventError::Header));
    }
}
