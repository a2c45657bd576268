//! Uevents.

use netproto::uevent::{Action, Uevent};

/// A datagram: what was read from it is read again from what the kernel would
/// write for it.
pub fn uevent(data: &[u8]) {
    let Ok(event) = Uevent::parse(data) else { return };
    let action = match event.action {
        Action::Add => "add",
        Action::Remove => "remove",
        Action::Change => "change",
        Action::Other => "bind",
    };
    let mut text = format!("x@x\0ACTION={action}\0DEVPATH={}\0SUBSYSTEM={}\0", event.devpath, event.subsystem);
    for (key, value) in &event.properties {
        text.push_str(&format!("{key}={value}\0"));
        assert!(event.property(key).is_some());
    }
    assert_eq!(Uevent::parse(text.as_bytes()).as_ref(), Ok(&event));
    assert!(!event.has_new_capacity() || event.subsystem == "scsi");
}
