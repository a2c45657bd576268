//! The NVMe target, as configfs has it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use diskomator_core::nvmet::model::{Host, Namespace, Port, PortAddress, Subsystem, Target};
use diskomator_core::nvmet::plan::{Op, READONLY};

use crate::root::{FileError, Root};

/// Where the target's configuration is.
const NVMET: &str = "sys/kernel/config/nvmet";

/// Makes new `::` sockets leave IPv4 to others, as our ports need it.
const BINDV6ONLY: &str = "proc/sys/net/ipv6/bindv6only";

/// Why the target can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NvmetError {
    /// No configfs, or no nvmet in it.
    #[error("the kernel has no NVMe target at /{NVMET}: mount configfs and load the modules nvmet and nvmet-tcp")]
    Absent,
    /// A file below it.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads the whole state of the target.
pub fn read(root: &Root) -> Result<Target, NvmetError> {
    if !root.exists(NVMET) {
        return Err(NvmetError::Absent);
    }
    let mut target = Target::default();
    for nqn in root.list(format!("{NVMET}/subsystems"))? {
        if let Some(subsystem) = unless_gone(subsystem(root, &nqn))? {
            target.subsystems.insert(nqn, subsystem);
        }
    }
    for name in root.list(format!("{NVMET}/ports"))? {
        let Ok(id) = name.parse() else { continue };
        if let Some(port) = unless_gone(port(root, &name))? {
            target.ports.insert(id, port);
        }
    }
    Ok(target)
}

/// Items come and go while they are read.
fn unless_gone<T>(result: Result<T, FileError>) -> Result<Option<T>, FileError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.io().kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn subsystem(root: &Root, nqn: &str) -> Result<Subsystem, FileError> {
    let directory = format!("{NVMET}/subsystems/{nqn}");
    let mut namespaces = BTreeMap::new();
    for name in root.list(format!("{directory}/namespaces"))? {
        let Ok(nsid) = name.parse() else { continue };
        let at = |file: &str| root.read(format!("{directory}/namespaces/{name}/{file}"));
        let namespace = unless_gone((|| {
            Ok(Namespace {
                device_path: some(at("device_path")?),
                uuid: at("device_uuid")?,
                nguid: at("device_nguid")?,
                // Not every kernel has it.
                readonly: at(READONLY).is_ok_and(|value| value == "1"),
                enabled: at("enable")? == "1",
            })
        })())?;
        if let Some(namespace) = namespace {
            namespaces.insert(nsid, namespace);
        }
    }
    let at = |file: &str| root.read(format!("{directory}/{file}"));
    // Not every kernel can do this.
    let passthru =
        if at("passthru/enable").is_ok_and(|value| value == "1") { Some(at("passthru/device_path")?) } else { None };
    Ok(Subsystem {
        queues: at("attr_qid_max").ok().and_then(|value| value.parse().ok()).unwrap_or_default(),
        passthru,
        allow_any_host: at("attr_allow_any_host")? == "1",
        serial: at("attr_serial")?,
        model: at("attr_model")?,
        firmware: at("attr_firmware")?,
        namespaces,
    })
}

/// Where the kernel shows a subsystem's controllers, if it has
/// `CONFIG_NVME_TARGET_DEBUGFS` and debugfs is mounted.
fn controllers(nqn: &str) -> String {
    format!("sys/kernel/debug/nvmet/{nqn}")
}

/// Whether any host is connected to the subsystem `nqn`.
pub fn has_hosts(root: &Root, nqn: &str) -> bool {
    !root.list(controllers(nqn)).unwrap_or_default().is_empty()
}

/// Who is connected to the subsystem `nqn`, each host once.
pub fn hosts(root: &Root, nqn: &str) -> Vec<Host> {
    let directory = controllers(nqn);
    let controllers = root.list(&directory).unwrap_or_default();
    // Other kernels may crash when asked for the address of a host that just comes or goes
    // (see the patches to ours).
    let namespaces = format!("{NVMET}/subsystems/{nqn}/namespaces");
    let nsids = root.list(&namespaces).unwrap_or_default();
    let is_safe = nsids.iter().any(|nsid| root.exists(format!("{namespaces}/{nsid}/{READONLY}")));
    let host = |controller: &String| {
        let at = |file: &str| root.read(format!("{directory}/{controller}/{file}")).ok();
        let address = if is_safe { at("host_traddr").filter(|address| !address.is_empty()) } else { None };
        Some(Host { nqn: at("hostnqn")?, address })
    };
    let mut hosts: Vec<Host> = controllers.iter().filter_map(host).collect();
    // One whose controller is just being made or taken down has no address, and may have another.
    let named: BTreeSet<String> =
        hosts.iter().filter(|host| host.address.is_some()).map(|host| host.nqn.clone()).collect();
    hosts.retain(|host| host.address.is_some() || !named.contains(&host.nqn));
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// Has the kernel end every controller of the host that has this NQN or address,
/// and returns how many there were. The host is told by its connection's end; it
/// connects again after a while, unless somebody there says otherwise.
pub fn disconnect(root: &Root, who: &str) -> Result<usize, FileError> {
    const SUBSYSTEMS: &str = "sys/kernel/debug/nvmet";
    let mut count = 0;
    for nqn in root.list(SUBSYSTEMS)? {
        for controller in root.list(controllers(&nqn)).unwrap_or_default() {
            let directory = format!("{}/{controller}", controllers(&nqn));
            let is = |file: &str| root.read(format!("{directory}/{file}")).is_ok_and(|value| value == who);
            if is("hostnqn") || is("host_traddr") {
                // The kernel's `drivers/nvme/target/debugfs.c` knows this one word.
                match root.write(format!("{directory}/state"), "fatal") {
                    Err(error) if error.io().kind() == io::ErrorKind::NotFound => {}
                    outcome => {
                        outcome?;
                        count += 1;
                    }
                }
            }
        }
    }
    Ok(count)
}

/// The kernel prints a path that was never set as `(null)`.
fn some(path: String) -> String {
    if path == "(null)" { String::new() } else { path }
}

fn port(root: &Root, name: &str) -> Result<Port, FileError> {
    let directory = format!("{NVMET}/ports/{name}");
    let at = |file: &str| root.read(format!("{directory}/{file}"));
    Ok(Port {
        address: PortAddress {
            trtype: at("addr_trtype")?,
            adrfam: at("addr_adrfam")?,
            traddr: at("addr_traddr")?,
            trsvcid: at("addr_trsvcid")?,
        },
        subsystems: BTreeSet::from_iter(root.list(format!("{directory}/subsystems"))?),
    })
}

/// Carries out one operation. What somebody else did in the meantime is as
/// good as done: an item that is there need not be made, one that is gone
/// need not be removed.
pub fn apply(root: &Root, op: &Op) -> Result<(), FileError> {
    let at = |path: &str| format!("{NVMET}/{path}");
    let (result, done) = match op {
        Op::MakeDir(path) => (root.make_dir(at(path)), io::ErrorKind::AlreadyExists),
        Op::RemoveDir(path) => (root.remove_dir(at(path)), io::ErrorKind::NotFound),
        Op::Write { path, value } => return root.write(at(path), value),
        Op::Link { target, path } => (root.link(at(target), at(path)), io::ErrorKind::AlreadyExists),
        Op::Unlink(path) => (root.unlink(at(path)), io::ErrorKind::NotFound),
    };
    match result {
        Err(error) if error.io().kind() == done => Ok(()),
        result => result,
    }
}

/// Whether the kernel has IPv6.
pub fn has_ipv6(root: &Root) -> bool {
    root.exists(BINDV6ONLY)
}

/// Whether IPv6 is there, after seeing to it that a listener on `::` leaves
/// IPv4 alone: else the kernel's discovery log prints IPv4 addresses in IPv6's
/// clothes, and the IPv4 port finds its address taken.
pub fn prepare_ipv6(root: &Root) -> Result<bool, FileError> {
    if !has_ipv6(root) {
        return Ok(false);
    }
    if root.read(BINDV6ONLY)? != "1" {
        root.write(BINDV6ONLY, "1")?;
    }
    Ok(true)
}
