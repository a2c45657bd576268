//! The state of the NVMe target: subsystems, their namespace, ports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use disks::disk::Disk;
use zeroize::Zeroizing;

/// The start of each of our NQNs (NVM Express Base Specification, "NVMe
/// Qualified Names": `nqn.`, a date, a reversed domain name, a colon).
pub const NQN_PREFIX: &str = "nqn.2026-11.io.github.diskomator:";
/// The longest NQN, in bytes.
pub const NQN_MAX: usize = 223;
/// The one namespace of a subsystem whose name tells what is on the disk.
pub const NSID: u32 = 1;
/// The highest number that the target lets a namespace have (`NVMET_MAX_NAMESPACES`
/// in the kernel's `drivers/nvme/target/nvmet.h`).
pub const NSID_MAX: u32 = 1024;

/// The subsystem that every port has a link to. It has no namespace and lets
/// no host in, so no discovery log lists it, but it keeps the ports listening
/// when there is no disk: discovery answers with an empty log, and a host
/// whose disk went away is told so at once instead of being refused and
/// trying for ten minutes.
pub const LISTENER_NQN: &str = "nqn.2026-11.io.github.diskomator:listener";
/// Where a host asks what there is (NVM Express Base Specification, "NVMe Qualified Names").
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// Whether a subsystem is ours to change.
pub fn is_ours(nqn: &str) -> bool {
    nqn.starts_with(NQN_PREFIX)
}

/// The last field of the NQN of a disk's read-only subsystem: the disk once more, for hosts that may only read. It
/// follows the disk's own NQN and a colon, and is the last field of no other NQN of ours (see `identity`).
pub const READ_ONLY_NAME: &str = "read-only";

/// The NQN of the read-only subsystem of a disk that is exported as `nqn`.
pub fn read_only_nqn(nqn: &str) -> String {
    format!("{nqn}:{READ_ONLY_NAME}")
}

/// Whether a subsystem of ours is a disk's read-only subsystem.
pub fn is_read_only_nqn(nqn: &str) -> bool {
    disk_nqn(nqn) != nqn
}

/// The NQN of the disk that a subsystem of ours is of: its own, unless it is a read-only subsystem.
pub fn disk_nqn(nqn: &str) -> &str {
    nqn.strip_suffix(READ_ONLY_NAME).and_then(|nqn| nqn.strip_suffix(':')).unwrap_or(nqn)
}

/// A subsystem and what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subsystem {
    /// `attr_allow_any_host`.
    pub allow_any_host: bool,
    /// `allowed_hosts`: the NQNs of hosts that may connect. There are none if any host may.
    pub allowed_hosts: BTreeSet<String>,
    /// `attr_serial`.
    pub serial: String,
    /// `attr_model`.
    pub model: String,
    /// `attr_firmware`.
    pub firmware: String,
    /// `attr_qid_max`: how many I/O queues a host may have. It is set when the
    /// subsystem is made, and stays: a change has every host connect anew.
    pub queues: u16,
    /// Namespaces by their identifiers.
    pub namespaces: BTreeMap<u32, Namespace>,
    /// `passthru/device_path`, if `passthru/enable` is on: the controller of
    /// this machine whose commands hosts give. It has all of the namespaces.
    pub passthru: Option<String>,
}

/// How many I/O queues a host gets for a disk. Each is a connection and some
/// 300 KiB of memory here, so a host with many processors and a machine with
/// little memory must not agree on one for each of the host's processors: as
/// many as this machine has do all it can. `memory` is in bytes.
///
/// Slow disks get one. A host that fills 128 entries for each of its processors
/// would wait longer for the last of them than it is ready to: 30 seconds
/// (`nvme_core.io_timeout`).
pub fn queues(disk: &Disk, processors: usize, memory: u64) -> u16 {
    /// One for so much of the machine's memory.
    const MEMORY: u64 = 64 << 20;
    if disk.is_slow() {
        return 1;
    }
    let most = u64::try_from(processors).unwrap_or(u64::MAX).min(memory.div_ceil(MEMORY));
    u16::try_from(most.clamp(1, 128)).unwrap_or(1)
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
    /// attribute is our kernel's (`board/common/patches/linux`); others
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

/// The keys with which a host and this machine prove to each other who they are, by DH-HMAC-CHAP (NVM Express Base
/// Specification, "DH-HMAC-CHAP Protocol").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChapKeys {
    /// `dhchap_key`: the host's.
    pub host: KeyText,
    /// `dhchap_ctrl_key`: this machine's.
    pub controller: KeyText,
}

/// The text of a key, such as `DHHC-1:01:…:`; empty if there is none. It never shows itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyText(Zeroizing<String>);

impl KeyText {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Zeroizing<String>> for KeyText {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "no key" } else { "a key" })
    }
}

/// Everything below `/sys/kernel/config/nvmet`, as far as it concerns us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The NQNs of hosts that have a directory, other people's included.
    pub hosts: BTreeSet<String>,
    /// The keys of those that have one, by NQN.
    pub keys: BTreeMap<String, ChapKeys>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use disks::disk::Attributes;

    #[test]
    fn a_host_gets_as_many_queues_as_the_machine_is_good_for() {
        let disk =
            |name: &str, rotational| Disk::new(Attributes { name: name.into(), rotational, ..Attributes::default() });
        let ssd = disk("nvme0n1", false);
        for (disk, processors, mebibytes, expected) in [
            (&ssd, 4, 41, 1),
            (&ssd, 4, 105, 2),
            (&ssd, 4, 16_000, 4),
            (&ssd, 1, 16_000, 1),
            (&ssd, 0, 0, 1),
            (&ssd, 512, 1 << 20, 128),
            (&disk("sda", true), 8, 16_000, 1),
            (&disk("mmcblk0", false), 8, 16_000, 1),
        ] {
            assert_eq!(queues(disk, processors, mebibytes << 20), expected, "{processors} with {mebibytes} MiB");
        }
    }
}
