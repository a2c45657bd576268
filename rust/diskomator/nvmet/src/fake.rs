//! A stand-in for `/sys/kernel/config/nvmet` that enforces the kernel's rules
//! (`drivers/nvme/target/configfs.c`, `fs/configfs/dir.c`), for tests of
//! plans. Its answers are compared with a real kernel's by the end-to-end tests.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::model::{KeyText, NQN_MAX, Namespace, Port, PortAddress, PortId, Subsystem, Target};
use super::plan::Op;

/// The kernel's answers, by its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errno {
    /// ENOENT
    NoEntry,
    /// EEXIST
    Exists,
    /// EBUSY
    Busy,
    /// EACCES
    Access,
    /// EINVAL
    Invalid,
    /// ENOTEMPTY
    NotEmpty,
    /// EADDRINUSE
    AddressInUse,
    /// ENOMEDIUM
    NoMedium,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Fake {
    target: Target,
    /// Subsystems that a host has sent Identify Controller to.
    discovered: BTreeSet<String>,
    /// `passthru/device_path` by NQN.
    controllers: BTreeMap<String, String>,
    /// Devices that do not open.
    refused: BTreeMap<String, Errno>,
}

impl Fake {
    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }

    pub(crate) fn refuse(&mut self, device: &str, errno: Errno) {
        self.refused.insert(device.to_owned(), errno);
    }

    pub(crate) fn accept(&mut self, device: &str) {
        self.refused.remove(device);
    }

    pub(crate) fn identify(&mut self, nqn: &str) {
        self.discovered.insert(nqn.to_owned());
    }

    pub(crate) fn apply(&mut self, op: &Op) -> Result<(), Errno> {
        match op {
            Op::MakeDir(path) => self.make_dir(&split(path)),
            Op::RemoveDir(path) => self.remove_dir(&split(path)),
            Op::Write { path, value } => self.write(&split(path), value),
            Op::WriteKey { path, key } => self.write_key(&split(path), key),
            Op::Link { target, path } => match (&split(path)[..], &split(target)[..]) {
                (["ports", id, "subsystems", nqn], ["subsystems", target]) if nqn == target => self.link(id, nqn),
                (["subsystems", nqn, "allowed_hosts", host], ["hosts", target]) if host == target => {
                    self.allow(nqn, host)
                }
                _ => Err(Errno::Invalid),
            },
            Op::Unlink(path) => {
                let links = match split(path)[..] {
                    ["ports", id, "subsystems", _] => &mut self.port(id)?.subsystems,
                    ["subsystems", nqn, "allowed_hosts", _] => &mut self.subsystem(nqn)?.allowed_hosts,
                    _ => return Err(Errno::Invalid),
                };
                let name = path.rsplit('/').next().unwrap_or_default();
                if links.remove(name) { Ok(()) } else { Err(Errno::NoEntry) }
            }
        }
    }

    /// A host that is linked, unless every one is let in.
    fn allow(&mut self, nqn: &str, host: &str) -> Result<(), Errno> {
        if !self.target.hosts.contains(host) {
            return Err(Errno::NoEntry);
        }
        let subsystem = self.subsystem(nqn)?;
        if subsystem.allowed_hosts.contains(host) {
            return Err(Errno::Exists);
        }
        if subsystem.allow_any_host {
            return Err(Errno::Invalid);
        }
        subsystem.allowed_hosts.insert(host.to_owned());
        Ok(())
    }

    fn make_dir(&mut self, path: &[&str]) -> Result<(), Errno> {
        match *path {
            ["subsystems", nqn] if nqn.len() > NQN_MAX => Err(Errno::Invalid),
            ["subsystems", nqn] => {
                let made = Subsystem {
                    serial: "0123456789abcdef0123".into(),
                    model: "Linux".into(),
                    firmware: "6.12".into(),
                    queues: 128,
                    ..Subsystem::default()
                };
                insert(&mut self.target.subsystems, nqn.to_owned(), made)
            }
            ["hosts", nqn] if self.target.hosts.contains(nqn) => Err(Errno::Exists),
            ["hosts", nqn] => {
                self.target.hosts.insert(nqn.to_owned());
                Ok(())
            }
            ["subsystems", nqn, "namespaces", nsid] => {
                let made = Namespace { uuid: "random".into(), nguid: "zeros".into(), ..Namespace::default() };
                insert(&mut self.subsystem(nqn)?.namespaces, number(nsid)?, made)
            }
            ["ports", id] => {
                let address = PortAddress {
                    trtype: String::new(),
                    adrfam: "pcie".into(),
                    traddr: String::new(),
                    trsvcid: String::new(),
                };
                let id = PortId::try_from(number(id)?).map_err(|_| Errno::Invalid)?;
                insert(&mut self.target.ports, id, Port { address, subsystems: BTreeSet::new() })
            }
            _ => Err(Errno::NoEntry),
        }
    }

    fn remove_dir(&mut self, path: &[&str]) -> Result<(), Errno> {
        match *path {
            ["subsystems", nqn] => {
                self.subsystem(nqn)?;
                if self.target.ports.values().any(|port| port.subsystems.contains(nqn)) {
                    return Err(Errno::Busy);
                }
                let subsystem = self.subsystem(nqn)?;
                if !subsystem.namespaces.is_empty() || !subsystem.allowed_hosts.is_empty() {
                    return Err(Errno::NotEmpty);
                }
                self.target.subsystems.remove(nqn);
                self.discovered.remove(nqn);
                self.controllers.remove(nqn);
                Ok(())
            }
            ["hosts", nqn]
                if self.target.subsystems.values().any(|subsystem| subsystem.allowed_hosts.contains(nqn)) =>
            {
                Err(Errno::Busy)
            }
            ["hosts", nqn] => {
                self.target.keys.remove(nqn);
                if self.target.hosts.remove(nqn) { Ok(()) } else { Err(Errno::NoEntry) }
            }
            // The kernel disables what is still enabled.
            ["subsystems", nqn, "namespaces", nsid] => {
                self.subsystem(nqn)?.namespaces.remove(&number(nsid)?).map(drop).ok_or(Errno::NoEntry)
            }
            ["ports", id] => {
                if !self.port(id)?.subsystems.is_empty() {
                    return Err(Errno::NotEmpty);
                }
                self.target.ports.remove(&id.parse().map_err(|_| Errno::NoEntry)?);
                Ok(())
            }
            _ => Err(Errno::NoEntry),
        }
    }

    fn write(&mut self, path: &[&str], value: &str) -> Result<(), Errno> {
        match *path {
            ["subsystems", nqn, "namespaces", nsid, attribute] => {
                let refused = self.refused.clone();
                let subsystem = self.subsystem(nqn)?;
                let is_passthru = subsystem.passthru.is_some();
                let namespace = subsystem.namespaces.get_mut(&number(nsid)?).ok_or(Errno::NoEntry)?;
                match (attribute, value) {
                    ("enable", "1") => {
                        // The kernel says so, and does nothing.
                        if is_passthru {
                            return Ok(());
                        }
                        if namespace.device_path.is_empty() {
                            return Err(Errno::NoEntry);
                        }
                        if let Some(errno) = refused.get(&namespace.device_path) {
                            return Err(*errno);
                        }
                        namespace.enabled = true;
                    }
                    ("enable", "0") => namespace.enabled = false,
                    ("revalidate_size", _) if !namespace.enabled => return Err(Errno::Invalid),
                    ("revalidate_size", _) => {}
                    ("device_path" | "device_uuid" | "device_nguid", _) if namespace.enabled => {
                        return Err(Errno::Busy);
                    }
                    ("readonly", _) if namespace.enabled => return Err(Errno::Busy),
                    ("readonly", value) => namespace.readonly = value == "1",
                    ("device_path", value) => value.clone_into(&mut namespace.device_path),
                    ("device_uuid", value) => value.clone_into(&mut namespace.uuid),
                    ("device_nguid", value) => value.clone_into(&mut namespace.nguid),
                    _ => return Err(Errno::NoEntry),
                }
                Ok(())
            }
            ["subsystems", nqn, "passthru", attribute] => self.write_passthru(nqn, attribute, value),
            ["subsystems", nqn, attribute] => {
                let discovered = self.discovered.contains(nqn);
                let subsystem = self.subsystem(nqn)?;
                let (field, most) = match attribute {
                    "attr_allow_any_host" if value == "1" && !subsystem.allowed_hosts.is_empty() => {
                        return Err(Errno::Invalid);
                    }
                    "attr_allow_any_host" => {
                        subsystem.allow_any_host = value == "1";
                        return Ok(());
                    }
                    "attr_qid_max" => {
                        let queues = value.parse().ok().filter(|queues| (1..=128).contains(queues));
                        subsystem.queues = queues.ok_or(Errno::Invalid)?;
                        return Ok(());
                    }
                    "attr_serial" => (&mut subsystem.serial, 20),
                    "attr_model" => (&mut subsystem.model, 40),
                    "attr_firmware" => (&mut subsystem.firmware, 8),
                    _ => return Err(Errno::NoEntry),
                };
                let printable = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
                if discovered || value.is_empty() || value.len() > most || !printable {
                    return Err(Errno::Invalid);
                }
                value.clone_into(field);
                Ok(())
            }
            ["ports", id, attribute] => {
                let port = self.port(id)?;
                if !port.subsystems.is_empty() {
                    return Err(Errno::Access);
                }
                let field = match attribute {
                    "addr_trtype" => &mut port.address.trtype,
                    "addr_adrfam" => &mut port.address.adrfam,
                    "addr_traddr" => &mut port.address.traddr,
                    "addr_trsvcid" => &mut port.address.trsvcid,
                    _ => return Err(Errno::NoEntry),
                };
                value.clone_into(field);
                Ok(())
            }
            _ => Err(Errno::NoEntry),
        }
    }

    /// The kernel looks at the start of a key alone (`nvmet_auth_set_key` in its `drivers/nvme/target/auth.c`).
    fn write_key(&mut self, path: &[&str], key: &KeyText) -> Result<(), Errno> {
        let ["hosts", nqn, attribute] = *path else { return Err(Errno::NoEntry) };
        if !self.target.hosts.contains(nqn) {
            return Err(Errno::NoEntry);
        }
        let digits = key.expose().strip_prefix("DHHC-1:").unwrap_or_default();
        let end = digits.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
        if digits.get(..end).and_then(|hash| hash.parse().ok()).is_none_or(|hash: u8| hash > 3) {
            return Err(Errno::Invalid);
        }
        let keys = self.target.keys.entry(nqn.to_owned()).or_default();
        match attribute {
            "dhchap_key" => keys.host = key.clone(),
            "dhchap_ctrl_key" => keys.controller = key.clone(),
            _ => return Err(Errno::NoEntry),
        }
        Ok(())
    }

    /// A controller is passed through by one subsystem at most.
    fn write_passthru(&mut self, nqn: &str, attribute: &str, value: &str) -> Result<(), Errno> {
        let path = self.controllers.get(nqn).cloned();
        let is_taken = self.target.subsystems.values().any(|other| other.passthru.is_some() && other.passthru == path);
        let subsystem = self.subsystem(nqn)?;
        match (attribute, value) {
            ("device_path", _) if subsystem.passthru.is_some() => return Err(Errno::Busy),
            ("device_path", value) => drop(self.controllers.insert(nqn.to_owned(), value.to_owned())),
            ("enable", "0") => subsystem.passthru = None,
            ("enable", "1") => {
                if path.is_none() || is_taken || subsystem.namespaces.values().any(|namespace| namespace.enabled) {
                    return Err(Errno::Invalid);
                }
                subsystem.passthru = path;
            }
            _ => return Err(Errno::NoEntry),
        }
        Ok(())
    }

    /// The first link of a port makes it listen.
    fn link(&mut self, id: &str, nqn: &str) -> Result<(), Errno> {
        self.subsystem(nqn)?;
        let address = self.port(id)?.address.clone();
        if address.trtype != "tcp" {
            return Err(Errno::Invalid);
        }
        let id: PortId = id.parse().map_err(|_| Errno::NoEntry)?;
        let listening =
            |(other, port): (&PortId, &Port)| *other != id && !port.subsystems.is_empty() && port.address == address;
        if self.target.ports.iter().any(listening) {
            return Err(Errno::AddressInUse);
        }
        let port = self.target.ports.get_mut(&id).ok_or(Errno::NoEntry)?;
        if port.subsystems.insert(nqn.to_owned()) { Ok(()) } else { Err(Errno::Exists) }
    }

    fn subsystem(&mut self, nqn: &str) -> Result<&mut Subsystem, Errno> {
        self.target.subsystems.get_mut(nqn).ok_or(Errno::NoEntry)
    }

    fn port(&mut self, id: &str) -> Result<&mut Port, Errno> {
        let id: PortId = id.parse().map_err(|_| Errno::NoEntry)?;
        self.target.ports.get_mut(&id).ok_or(Errno::NoEntry)
    }
}

fn split(path: &str) -> Vec<&str> {
    path.split('/').collect()
}

fn number(text: &str) -> Result<u32, Errno> {
    text.parse().ok().filter(|number| *number > 0).ok_or(Errno::Invalid)
}

fn insert<K: Ord, V>(items: &mut BTreeMap<K, V>, key: K, made: V) -> Result<(), Errno> {
    match items.entry(key) {
        Entry::Occupied(_) => Err(Errno::Exists),
        Entry::Vacant(entry) => {
            entry.insert(made);
            Ok(())
        }
    }
}

/// The rules by which a real kernel is measured too.
#[test]
fn the_fake_answers_as_the_kernel_does() {
    let mut fake = Fake::default();
    for rule in include_str!("rules.txt").lines().filter(|line| !line.starts_with('#')) {
        let (answer, command) = rule.split_once(' ').unwrap();
        let words: Vec<&str> = command.split_whitespace().collect();
        let op = match words[..] {
            ["mkdir", path] => Op::MakeDir(path.into()),
            ["rmdir", path] => Op::RemoveDir(path.into()),
            ["write", path, value] if path.starts_with("hosts/") => {
                Op::WriteKey { path: path.into(), key: zeroize::Zeroizing::new(value.to_owned()).into() }
            }
            ["write", path, value] => Op::Write { path: path.into(), value: value.into() },
            ["ln", target, path] => Op::Link { target: target.into(), path: path.into() },
            ["rm", path] => Op::Unlink(path.into()),
            _ => panic!("{rule}"),
        };
        let expected = match answer {
            "ok" => Ok(()),
            "EEXIST" => Err(Errno::Exists),
            "EINVAL" => Err(Errno::Invalid),
            "EBUSY" => Err(Errno::Busy),
            "EACCES" => Err(Errno::Access),
            "ENOENT" => Err(Errno::NoEntry),
            "ENOTEMPTY" => Err(Errno::NotEmpty),
            "EADDRINUSE" => Err(Errno::AddressInUse),
            _ => panic!("{rule}"),
        };
        assert_eq!(fake.apply(&op), expected, "{rule}");
    }
    assert_eq!(fake.target(), Target::default());
}
