//! The kernel's own console over UDP: what it says when it crashes leaves by the
//! network card's driver alone (the kernel's
//! `Documentation/networking/netconsole.rst`, "Dynamic reconfiguration").

use std::net::IpAddr;

use netproto::net::Mac;

use crate::root::{FileError, Root};

const DIRECTORY: &str = "sys/kernel/config/netconsole";
/// Our target.
const TARGET: &str = "sys/kernel/config/netconsole/appliance";
/// Where netconsole sends from when nobody says otherwise.
const LOCAL_PORT: u16 = 6665;

/// Whom the kernel sends to, and how. It asks nobody when it crashes, so all of it must be known before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The link's name.
    pub link: String,
    /// The link's address.
    pub local: IpAddr,
    /// The receiver.
    pub remote: IpAddr,
    /// The port there.
    pub port: u16,
    /// The hardware address of who gets it, or of the router on the way.
    pub mac: Mac,
}

/// Whether this kernel has it.
pub fn is_supported(root: &Root) -> bool {
    root.exists(DIRECTORY)
}

/// Whether it sends to `target` just now. The kernel switches it off when the link goes away.
pub fn is_set(root: &Root, target: &Target) -> bool {
    let is = |name: &str, value: &str| root.read(format!("{TARGET}/{name}")).is_ok_and(|found| found == value);
    is("enabled", "1") && attributes(target).iter().all(|(name, value)| is(name, value))
}

/// Makes it send to `target`.
pub fn set(root: &Root, target: &Target) -> Result<(), FileError> {
    if !root.exists(TARGET) {
        root.make_dir(TARGET)?;
    }
    let enabled = format!("{TARGET}/enabled");
    // Nothing can be changed while it is in use.
    if root.read(&enabled)? == "1" {
        root.write(&enabled, "0")?;
    }
    for (name, value) in attributes(target) {
        root.write(format!("{TARGET}/{name}"), &value)?;
    }
    root.write(&enabled, "1")
}

fn attributes(target: &Target) -> [(&'static str, String); 6] {
    [
        ("dev_name", target.link.clone()),
        ("local_ip", target.local.to_string()),
        ("local_port", LOCAL_PORT.to_string()),
        ("remote_ip", target.remote.to_string()),
        ("remote_port", target.port.to_string()),
        ("remote_mac", target.mac.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_target_is_written_once_and_again_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path());
        assert!(!is_supported(&root));
        fs::create_dir_all(directory.path().join(TARGET)).unwrap();
        for (name, value) in [("enabled", "0"), ("dev_name", "eth0"), ("local_ip", "0.0.0.0"), ("local_port", "6665")] {
            fs::write(directory.path().join(TARGET).join(name), format!("{value}\n")).unwrap();
        }
        for name in ["remote_ip", "remote_port", "remote_mac"] {
            fs::write(directory.path().join(TARGET).join(name), "").unwrap();
        }
        let target = Target {
            link: "eth1".to_owned(),
            local: "192.0.2.7".parse().unwrap(),
            remote: "192.0.2.1".parse().unwrap(),
            port: 6666,
            mac: Mac([2, 0, 0, 0, 0, 1]),
        };
        assert!(is_supported(&root) && !is_set(&root, &target));
        set(&root, &target).unwrap();
        assert!(is_set(&root, &target));
        assert_eq!(root.read(format!("{TARGET}/remote_mac")).unwrap(), "02:00:00:00:00:01");
        let moved = Target { local: "192.0.2.8".parse().unwrap(), ..target.clone() };
        assert!(!is_set(&root, &moved));
        set(&root, &moved).unwrap();
        assert!(is_set(&root, &moved) && !is_set(&root, &target));
        // The link went away.
        root.write(format!("{TARGET}/enabled"), "0").unwrap();
        assert!(!is_set(&root, &moved));
    }
}
