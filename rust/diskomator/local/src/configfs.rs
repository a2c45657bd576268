//! The NVMe target, as configfs has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use kernel::root::{FileError, Root};
use nvmet::hosts::{Controller, ControllerId};
use nvmet::model::{ChapKeys, Host, KeyText, Namespace, Port, PortAddress, Subsystem, Target};
use nvmet::plan::{Op, READONLY};
use zeroize::Zeroizing;

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
    let hosts = names(root, &format!("{NVMET}/hosts"))?;
    let mut target = Target { hosts, ..Target::default() };
    for nqn in &target.hosts {
        let keys = keys(root, nqn);
        if keys != ChapKeys::default() {
            target.keys.insert(nqn.clone(), keys);
        }
    }
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

/// The names in a directory; none if it has gone.
fn names(root: &Root, path: &str) -> Result<BTreeSet<String>, FileError> {
    Ok(unless_gone(root.list(path))?.unwrap_or_default().into_iter().collect())
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
        allowed_hosts: names(root, &format!("{directory}/allowed_hosts"))?,
        serial: at("attr_serial")?,
        model: at("attr_model")?,
        firmware: at("attr_firmware")?,
        namespaces,
    })
}

/// The keys of a host; none where the kernel has no DH-HMAC-CHAP.
fn keys(root: &Root, nqn: &str) -> ChapKeys {
    let at = |attribute: &str| {
        let text = root.read(format!("{NVMET}/hosts/{nqn}/{attribute}")).unwrap_or_default();
        KeyText::from(Zeroizing::new(text))
    };
    ChapKeys { host: at("dhchap_key"), controller: at("dhchap_ctrl_key") }
}

/// Where the kernel shows who is connected, if it has `CONFIG_NVME_TARGET_DEBUGFS` and debugfs is mounted.
const SUBSYSTEMS: &str = "sys/kernel/debug/nvmet";

/// Where it shows a subsystem's controllers.
fn controllers(nqn: &str) -> String {
    format!("{SUBSYSTEMS}/{nqn}")
}

/// Whether any host is connected to the subsystem `nqn`.
pub fn has_hosts(root: &Root, nqn: &str) -> bool {
    !root.list(controllers(nqn)).unwrap_or_default().is_empty()
}

/// The controllers at the subsystem `nqn`.
pub fn controllers_of(root: &Root, nqn: &str) -> Vec<Controller> {
    let directory = controllers(nqn);
    // Other kernels may crash when asked for the address of a host that just comes or goes
    // (see the patches to ours).
    let namespaces = format!("{NVMET}/subsystems/{nqn}/namespaces");
    let nsids = root.list(&namespaces).unwrap_or_default();
    let is_safe = nsids.iter().any(|nsid| root.exists(format!("{namespaces}/{nsid}/{READONLY}")));
    let controller = |name: &String| {
        let number = name.strip_prefix("ctrl")?.parse().ok()?;
        let opened = Opened::new(root, nqn, number).ok()?;
        Some(Controller { id: ControllerId { number, inode: opened.inode }, host: opened.host(is_safe)? })
    };
    root.list(&directory).unwrap_or_default().iter().filter_map(controller).collect()
}

/// Every controller, with the NQN of its subsystem.
pub fn all_controllers(root: &Root) -> Result<Vec<(String, Controller)>, FileError> {
    let of = |nqn: String| controllers_of(root, &nqn).into_iter().map(move |controller| (nqn.clone(), controller));
    Ok(root.list(SUBSYSTEMS)?.into_iter().flat_map(of).collect())
}

/// The hosts of these controllers, each once.
pub fn hosts_of(controllers: &[Controller]) -> Vec<Host> {
    let mut hosts: Vec<Host> = controllers.iter().map(|controller| controller.host.clone()).collect();
    // One whose controller is just being made or taken down has no address, and may have another.
    let named: BTreeSet<String> =
        hosts.iter().filter(|host| host.address.is_some()).map(|host| host.nqn.clone()).collect();
    hosts.retain(|host| host.address.is_some() || !named.contains(&host.nqn));
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// The hosts that are connected to the subsystem `nqn`, each once.
pub fn hosts(root: &Root, nqn: &str) -> Vec<Host> {
    hosts_of(&controllers_of(root, nqn))
}

/// Has the kernel end a controller at the subsystem `nqn`, if it is that one
/// still; whether it was. The host is told by its connection's end; it connects
/// again after a while, unless its administrator prevents that.
pub fn disconnect(root: &Root, nqn: &str, controller: &Controller) -> Result<bool, FileError> {
    let is_gone = |error: &FileError| {
        // The latter is the kernel's answer for a file of one that has just gone.
        error.io().kind() == io::ErrorKind::NotFound || error.io().raw_os_error() == Some(nix::libc::EIO)
    };
    let attempt = || {
        let opened = Opened::new(root, nqn, controller.id.number)?;
        let has_address = controller.host.address.is_some();
        if opened.inode != controller.id.inode || opened.host(has_address).as_ref() != Some(&controller.host) {
            return Ok(false);
        }
        // The kernel's `drivers/nvme/target/debugfs.c` knows this one word.
        root.write(opened.path("state"), "fatal").map(|()| true)
    };
    match attempt() {
        Err(error) if is_gone(&error) => Ok(false),
        outcome => outcome,
    }
}

/// The directory of one controller, of which there may soon be another one of the same name.
struct Opened {
    directory: File,
    inode: u64,
}

impl Opened {
    fn new(root: &Root, nqn: &str, number: u16) -> Result<Self, FileError> {
        let path = root.path(format!("{}/ctrl{number}", controllers(nqn)));
        let open = || {
            let directory = File::open(&path)?;
            let inode = directory.metadata()?.ino();
            Ok(Self { directory, inode })
        };
        open().map_err(|source| FileError::Read { path: path.clone(), source })
    }

    /// A file in that very directory (`proc_pid_fd(5)`).
    fn path(&self, file: &str) -> String {
        format!("/proc/self/fd/{}/{file}", self.directory.as_raw_fd())
    }

    fn host(&self, has_address: bool) -> Option<Host> {
        let at = |file: &str| {
            let text = fs::read(self.path(file)).ok()?;
            let text = String::from_utf8_lossy(&text);
            // A host may call itself like another one and a space.
            Some(text.strip_suffix('\n').unwrap_or(&text).to_owned()).filter(|text| !text.is_empty())
        };
        let address = if has_address { at("host_traddr") } else { None };
        Some(Host { nqn: at("hostnqn")?, address })
    }
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

/// Carries out one operation. A change by another process in the meantime is as
/// good as done: an item that is there need not be made, one that is gone
/// need not be removed.
pub fn apply(root: &Root, op: &Op) -> Result<(), FileError> {
    let at = |path: &str| format!("{NVMET}/{path}");
    let (result, done) = match op {
        Op::MakeDir(path) => (root.make_dir(at(path)), io::ErrorKind::AlreadyExists),
        Op::RemoveDir(path) => (root.remove_dir(at(path)), io::ErrorKind::NotFound),
        Op::Write { path, value } => return root.write(at(path), value),
        Op::WriteKey { path, key } => return root.write_secret(at(path), key.expose()),
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

#[cfg(test)]
mod tests {
    use nvmet::model::NSID;

    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn root(&self) -> Root {
            Root::at(self.0.path())
        }

        /// A controller as debugfs has it.
        fn connect(&self, disk: &str, number: u16, nqn: &str, address: &str) {
            let directory = self.0.path().join(controllers(disk)).join(format!("ctrl{number}"));
            fs::create_dir_all(&directory).unwrap();
            for (file, text) in [("hostnqn", nqn), ("host_traddr", address), ("state", "ready")] {
                fs::write(directory.join(file), format!("{text}\n")).unwrap();
            }
            let namespace = self.0.path().join(format!("{NVMET}/subsystems/{disk}/namespaces/{NSID}"));
            fs::create_dir_all(&namespace).unwrap();
            fs::write(namespace.join(READONLY), "0\n").unwrap();
        }

        fn state(&self, disk: &str, number: u16) -> String {
            self.root().read(format!("{}/ctrl{number}/state", controllers(disk))).unwrap()
        }
    }

    #[test]
    fn hosts_and_their_links_are_read_and_made() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let root = tree.root();
        let subsystem = format!("{NVMET}/subsystems/nqn.disk");
        for directory in ["hosts", "ports", "subsystems/nqn.disk/namespaces", "subsystems/nqn.disk/allowed_hosts"] {
            fs::create_dir_all(tree.0.path().join(NVMET).join(directory)).unwrap();
        }
        for file in ["attr_allow_any_host", "attr_serial", "attr_model", "attr_firmware"] {
            fs::write(tree.0.path().join(&subsystem).join(file), "0\n").unwrap();
        }
        let path = "subsystems/nqn.disk/allowed_hosts/nqn.host".to_owned();
        let host = "hosts/nqn.host".to_owned();
        let allowed = || {
            let target = read(&root).unwrap();
            (target.hosts.into_iter().collect::<Vec<_>>(), target.subsystems["nqn.disk"].allowed_hosts.len())
        };
        assert_eq!(allowed(), (vec![], 0));
        for (op, expected) in [
            (Op::MakeDir(host.clone()), 0),
            (Op::Link { target: host.clone(), path: path.clone() }, 1),
            (Op::Link { target: host, path: path.clone() }, 1),
            (Op::Unlink(path.clone()), 0),
            (Op::Unlink(path), 0),
        ] {
            apply(&root, &op).unwrap();
            assert_eq!(allowed(), (vec!["nqn.host".to_owned()], expected), "after {op}");
        }
        // A key is read back as it was written, and an error does not tell it.
        let directory = tree.0.path().join(NVMET).join("hosts/nqn.host");
        fs::write(directory.join("dhchap_key"), "\n").unwrap();
        assert!(read(&root).unwrap().keys.is_empty());
        let key = KeyText::from(Zeroizing::new("DHHC-1:01:AAAA:".to_owned()));
        let write = |attribute: &str| {
            apply(&root, &Op::WriteKey { path: format!("hosts/nqn.host/{attribute}"), key: key.clone() })
        };
        write("dhchap_key").unwrap();
        let expected = ChapKeys { host: key.clone(), controller: KeyText::default() };
        assert_eq!(read(&root).unwrap().keys["nqn.host"], expected);
        let error = write("dhchap_ctrl_key").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("AAAA"), "{error:?}");
        fs::remove_file(directory.join("dhchap_key")).unwrap();
        apply(&root, &Op::RemoveDir("hosts/nqn.host".to_owned())).unwrap();
        assert_eq!(allowed(), (vec![], 0));
    }

    #[test]
    fn only_the_controller_that_is_meant_is_ended_and_not_the_next_one_of_its_number() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let root = tree.root();
        // Two machines of one name, and the disks of one of them.
        tree.connect("nqn.disk1", 1, "nqn.clone", "192.0.2.1");
        tree.connect("nqn.disk1", 2, "nqn.clone", "192.0.2.2");
        tree.connect("nqn.disk2", 3, "nqn.clone", "192.0.2.1");
        let all = all_controllers(&root).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(hosts(&root, "nqn.disk1").len(), 2);
        let (disk, first) = all.iter().find(|(_, controller)| controller.id.number == 1).unwrap();
        assert!(disconnect(&root, disk, first).unwrap());
        assert_eq!([1, 2].map(|number| tree.state("nqn.disk1", number)), ["fatal", "ready"]);
        assert_eq!(tree.state("nqn.disk2", 3), "ready");

        // It is gone, and another has its number: of the same host, or of another one.
        let path = tree.0.path().join(controllers("nqn.disk1"));
        fs::rename(path.join("ctrl1"), path.join("gone")).unwrap();
        assert!(!disconnect(&root, disk, first).unwrap());
        tree.connect("nqn.disk1", 1, "nqn.clone", "192.0.2.1");
        assert!(!disconnect(&root, disk, first).unwrap());
        assert_eq!(tree.state("nqn.disk1", 1), "ready");
        let (_, second) = all.iter().find(|(_, controller)| controller.id.number == 2).unwrap();
        fs::write(path.join("ctrl2/host_traddr"), "192.0.2.9\n").unwrap();
        assert!(!disconnect(&root, disk, second).unwrap());
        assert_eq!(tree.state("nqn.disk1", 2), "ready");
    }
}
