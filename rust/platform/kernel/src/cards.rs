//! Network cards in sysfs.

use std::path::Path;

use netproto::net::Mac;

use crate::root::Root;

/// Which of these Ethernet links, by name and address, names the machine: of
/// those that are built in, or else plugged in, or else made up, the one with
/// the lowest address.
pub fn naming_mac<'a>(root: &Root, links: impl Iterator<Item = (&'a str, Mac)>) -> Option<Mac> {
    const LOCAL: u8 = 0b10;
    let rank = |(name, address): &(&str, Mac)| {
        let is_permanent = permanent_mac(root, name) == Some(address.0);
        (!is_permanent, !is_built_in(root, name), address.0[0] & LOCAL, *address)
    };
    links.min_by_key(rank).map(|(_, address)| address)
}

/// Whether a card is neither on USB nor behind a socket for Thunderbolt, whose PCI devices the kernel
/// calls removable (`Documentation/ABI/testing/sysfs-devices-removable`).
pub fn is_built_in(root: &Root, link: &str) -> bool {
    let is_socket = |directory: &Path| {
        directory.file_name().is_some_and(|name| name.to_string_lossy().starts_with("usb"))
            || root.value(directory.join("removable")).as_deref() == Some("removable")
    };
    root.resolve(format!("sys/class/net/{link}")).is_ok_and(|path| !path.ancestors().any(is_socket))
}

/// A link's MAC address, if the hardware gave it (`addr_assign_type` 0,
/// `NET_ADDR_PERM`) and it is an Ethernet link (`type` 1, `ARPHRD_ETHER`) with
/// a device behind it.
pub fn permanent_mac(root: &Root, link: &str) -> Option<[u8; 6]> {
    let directory = format!("sys/class/net/{link}");
    let is = |file: &str, value: &str| root.value(format!("{directory}/{file}")).as_deref() == Some(value);
    if !is("type", "1") || !is("addr_assign_type", "0") || !root.exists(format!("{directory}/device")) {
        return None;
    }
    let text = root.value(format!("{directory}/address"))?;
    let bytes: Vec<u8> = text.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes.try_into().ok()
}
