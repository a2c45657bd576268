//! The state of the NVMe target: subsystems, their namespace, ports.

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::{Identity, NQN_PREFIX};
use crate::policy::Access;

/// The one namespace of each of our subsystems.
pub const NSID: u32 = 1;

/// The subsystem that every port has a link to. It has no namespace and lets
/// no host in, so no discovery log lists it, but it keeps the ports listening
/// when there is no disk: discovery answers with an empty log, and a host
/// whose disk went away is told so at once instead of being refused and
/// trying for ten minutes.
pub const LISTENER_NQN: &str = "nqn.2026-11.io.github.diskomator:listener";

/// Whether a subsystem is ours to change.
pub fn is_ours(nqn: &str) -> bool {
    nqn.starts_with(NQN_PREFIX)
}

/// A subsystem and what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subsystem {
    /// `attr_allow_any_host`.
    pub allow_any_host: bool,
    /// `attr_serial`.
    pub serial: String,
    /// `attr_model`.
    pub model: String,
    /// `attr_firmware`.
    pub firmware: String,
    /// Namespaces by their identifiers.
    pub namespaces: BTreeMap<u32, Namespace>,
}

/// A namespace: a block device as hosts see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// `device_path`; empty if none has been set.
    pub device_path: String,
    /// `device_uuid`.
    pub uuid: String,
    /// `device_nguid`.
    pub nguid: String,
    /// `readonly`: opened for reading only, and write protected for good. The
    /// attribute is our kernel's (`board/diskomator/patches/linux`); others
    /// have only namespaces that can be written to.
    pub readonly: bool,
    /// `enable`.
    pub enabled: bool,
}

impl Subsystem {
    /// The listener's state; its strings are what the kernel set, and nobody
    /// ever reads them.
    pub fn listener() -> Self {
        Self::default()
    }

    /// A drive, open to every host: one enabled namespace if there is a medium
    /// in it, by the path of its device, else none.
    pub fn drive(identity: &Identity, medium: Option<(String, Access)>) -> Self {
        let namespace = medium.map(|(device_path, access)| Namespace {
            device_path,
            uuid: identity.uuid.clone(),
            nguid: identity.nguid.clone(),
            readonly: access == Access::ReadOnly,
            enabled: true,
        });
        Self {
            allow_any_host: true,
            serial: identity.serial.clone(),
            model: identity.model.clone(),
            firmware: identity.firmware.clone(),
            namespaces: namespace.map(|namespace| (NSID, namespace)).into_iter().collect(),
        }
    }
}

/// A host that is connected to a subsystem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// Its NQN.
    pub nqn: String,
    /// The address it comes from, if the kernel tells.
    pub address: Option<String>,
}

/// Where a port listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortAddress {
    /// `addr_trtype`: `tcp`.
    pub trtype: String,
    /// `addr_adrfam`: `ipv4` or `ipv6`.
    pub adrfam: String,
    /// `addr_traddr`.
    pub traddr: String,
    /// `addr_trsvcid`: the TCP port.
    pub trsvcid: String,
}

/// A port and the subsystems that can be reached through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Where it listens.
    pub address: PortAddress,
    /// The NQNs of the subsystems that are linked to it.
    pub subsystems: BTreeSet<String>,
}

/// The number by which configfs knows a port.
pub type PortId = u16;

/// Everything below `/sys/kernel/config/nvmet`, as far as it concerns us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// By NQN, other people's included.
    pub subsystems: BTreeMap<String, Subsystem>,
    /// By number, other people's included.
    pub ports: BTreeMap<PortId, Port>,
}

/// The TCP ports that IANA assigned: `nvme` for I/O (also known as
/// nvme-over-TCP) and `nvme-disc`, which hosts ask when they are told no port.
const SERVICES: [&str; 2] = ["4420", "8009"];

/// Where we listen: on every address that the machine has or will have, so
/// that no change of an address touches a port. One port serves one family
/// only because its discovery log gives its own kind of address.
pub fn listen_addresses(ipv6: bool) -> Vec<PortAddress> {
    let families: &[(&str, &str)] = if ipv6 { &[("ipv4", "0.0.0.0"), ("ipv6", "::")] } else { &[("ipv4", "0.0.0.0")] };
    families
        .iter()
        .flat_map(|(adrfam, traddr)| {
            SERVICES.iter().map(move |trsvcid| PortAddress {
                trtype: "tcp".to_owned(),
                adrfam: (*adrfam).to_owned(),
                traddr: (*traddr).to_owned(),
                trsvcid: (*trsvcid).to_owned(),
            })
        })
        .collect()
}
