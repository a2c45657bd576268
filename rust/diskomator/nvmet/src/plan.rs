//! From the state that is to the state that should be.
//!
//! An operation is one change to configfs. A plan is split by subject, since
//! a disk that hangs while it is taken down must hold up neither the ports nor
//! other disks. Planning again after a plan was applied gives nothing; after a
//! part of it was applied, it gives the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::admission::Admission;
use super::model::{ChapKeys, KeyText, LISTENER_NQN, Namespace, Port, PortAddress, PortId, Subsystem, Target, is_ours};

/// The attribute of a namespace that only our kernel has.
pub const READONLY: &str = "readonly";

/// One change below `/sys/kernel/config/nvmet`. Paths are relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Make an item.
    MakeDir(String),
    /// Remove an item.
    RemoveDir(String),
    /// Write an attribute.
    Write {
        /// The attribute.
        path: String,
        /// Its new value.
        value: String,
    },
    /// Write a key of a host.
    WriteKey {
        /// The attribute.
        path: String,
        /// The key.
        key: KeyText,
    },
    /// Link a subsystem to a port, or a host to a subsystem.
    Link {
        /// The directory of the subsystem, or of the host.
        target: String,
        /// The link.
        path: String,
    },
    /// Remove such a link.
    Unlink(String),
}

impl fmt::Display for Op {
    /// A line of shell that does the same, run in that directory, but for a key, which is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDir(path) => write!(f, "mkdir {path}"),
            Self::RemoveDir(path) => write!(f, "rmdir {path}"),
            Self::Write { path, value } => write!(f, "echo -n '{}' >{path}", value.replace('\'', r"'\''")),
            Self::WriteKey { path, .. } => write!(f, "echo -n \"$KEY\" >{path}"),
            Self::Link { target, path } => write!(f, "ln -s \"$PWD\"/{target} {path}"),
            Self::Unlink(path) => write!(f, "rm {path}"),
        }
    }
}

/// Our ports, and how to get them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPlan {
    /// The operations for the listener, before any port.
    pub listener: Vec<Op>,
    /// The ports that every disk is to be linked to, and what each of them
    /// needs first.
    pub ports: Vec<(PortId, Vec<Op>)>,
}

/// Makes every address of `addresses` listen, with the listener linked.
///
/// A port of another owner that has one of the addresses is used as it is,
/// since the kernel would let no second one listen there.
pub fn plan_ports(addresses: &[PortAddress], actual: &Target) -> PortPlan {
    let mut listener = Vec::new();
    match actual.subsystems.get(LISTENER_NQN) {
        Some(found) if !found.allow_any_host => {}
        found => {
            if found.is_none() {
                listener.push(Op::MakeDir(subsystem(LISTENER_NQN)));
            }
            listener.push(write(&subsystem(LISTENER_NQN), "attr_allow_any_host", "0"));
        }
    }
    let mut ports: Vec<(PortId, Vec<Op>)> = Vec::new();
    for address in addresses {
        let taken: Vec<PortId> = ports.iter().map(|(id, _)| *id).collect();
        let mut ops = Vec::new();
        let found = find_port(actual, address, &taken);
        let id = match found {
            Some((id, _)) => id,
            None => {
                let free = |id: &PortId| !actual.ports.contains_key(id) && !taken.contains(id);
                let id = (1..=PortId::MAX).find(free).unwrap_or(PortId::MAX);
                ops.push(Op::MakeDir(port(id)));
                id
            }
        };
        ops.extend(port_attributes(id, address, found.map(|(_, port)| &port.address)));
        if !found.is_some_and(|(_, port)| port.subsystems.contains(LISTENER_NQN)) {
            ops.push(link(id, LISTENER_NQN));
        }
        ports.push((id, ops));
    }
    PortPlan { listener, ports }
}

/// Removes the listener from every port, and the ports that are then empty
/// and have one of our addresses. To be done when our disks are gone.
pub fn plan_no_ports(addresses: &[PortAddress], actual: &Target) -> Vec<Op> {
    let mut ops = Vec::new();
    for (id, port) in &actual.ports {
        if port.subsystems.contains(LISTENER_NQN) {
            ops.push(unlink(*id, LISTENER_NQN));
        }
        let others = port.subsystems.iter().any(|nqn| nqn != LISTENER_NQN);
        if addresses.contains(&port.address) && !others {
            ops.push(Op::RemoveDir(self::port(*id)));
        }
    }
    if actual.subsystems.contains_key(LISTENER_NQN) {
        ops.push(Op::RemoveDir(subsystem(LISTENER_NQN)));
    }
    ops
}

/// The operations for each disk, by NQN; disks that need none are left out.
/// Subsystems of other people are never touched.
pub fn plan_disks(
    desired: &BTreeMap<String, Subsystem>,
    actual: &Target,
    ports: &[PortId],
) -> BTreeMap<String, Vec<Op>> {
    let ours = actual.subsystems.keys().filter(|nqn| is_ours(nqn) && *nqn != LISTENER_NQN);
    desired
        .keys()
        .chain(ours)
        .map(|nqn| (nqn.clone(), plan_disk(nqn, desired.get(nqn), actual, ports)))
        .filter(|(_, ops)| !ops.is_empty())
        .collect()
}

/// The operations for one disk.
pub fn plan_disk(nqn: &str, desired: Option<&Subsystem>, actual: &Target, ports: &[PortId]) -> Vec<Op> {
    let found = actual.subsystems.get(nqn);
    let links = links(actual, nqn);
    match (desired, found) {
        (None, None) => Vec::new(),
        (None, Some(found)) => teardown(nqn, found, &links),
        (Some(desired), None) => bring_up(nqn, desired, None, &links, ports),
        (Some(desired), Some(found)) => {
            // Serial, model and firmware are fixed once a host has asked for them, and
            // nothing tells whether one has: there is only a new subsystem.
            if strings(desired) == strings(found) {
                bring_up(nqn, desired, Some(found), &links, ports)
            } else {
                let mut ops = teardown(nqn, found, &links);
                ops.extend(bring_up(nqn, desired, None, &BTreeSet::new(), ports));
                ops
            }
        }
    }
}

/// The operations that remove the rest of `ops` that failed half-way: all of a subsystem
/// that they made, but only a namespace that is not enabled of one that was
/// there. Hosts are told for good that a subsystem is gone once it is.
pub fn plan_undo(nqn: &str, ops: &[Op], actual: &Target) -> Vec<Op> {
    if ops.contains(&Op::MakeDir(subsystem(nqn))) {
        return plan_disk(nqn, None, actual, &[]);
    }
    let namespaces = actual.subsystems.get(nqn).into_iter().flat_map(|found| &found.namespaces);
    namespaces
        .filter(|(_, namespace)| !namespace.enabled)
        .flat_map(|(nsid, namespace)| remove_namespace(nqn, *nsid, namespace))
        .collect()
}

/// The namespace first, so that hosts get the event that it is gone and drop
/// the disk; then the links, which cuts the connections; then the rest. No host
/// connects to what has no namespace any more.
fn teardown(nqn: &str, found: &Subsystem, links: &BTreeSet<PortId>) -> Vec<Op> {
    let mut ops = Vec::new();
    for (nsid, namespace) in &found.namespaces {
        ops.extend(remove_namespace(nqn, *nsid, namespace));
    }
    ops.extend(found.passthru.as_ref().map(|_| passthru(nqn, "enable", "0")));
    ops.extend(keep_out(nqn, found, &BTreeSet::new()));
    ops.extend(links.iter().map(|id| unlink(*id, nqn)));
    ops.push(Op::RemoveDir(subsystem(nqn)));
    ops
}

/// The part of a disk's plan that tells hosts that the disk goes, and the part that
/// cuts them off.
pub fn parted_at_the_cut(ops: &[Op]) -> (&[Op], &[Op]) {
    let cuts = |op: &Op| matches!(op, Op::Unlink(path) if path.starts_with("ports/"));
    let cut = ops.iter().position(cuts).unwrap_or(ops.len());
    ops.split_at(cut)
}

/// Takes the disk of `nqn` away, and leaves its hosts connected: should it come
/// back, they have it again without anybody's doing. Nobody new finds or may
/// use the subsystem meanwhile.
pub fn plan_linger(nqn: &str, actual: &Target) -> Vec<Op> {
    let Some(found) = actual.subsystems.get(nqn) else { return Vec::new() };
    let namespaces = found.namespaces.iter();
    let mut ops: Vec<Op> = namespaces.flat_map(|(nsid, namespace)| remove_namespace(nqn, *nsid, namespace)).collect();
    ops.extend(keep_out(nqn, found, &BTreeSet::new()));
    ops
}

/// Keeps hosts that are not connected out of everything. To be done before all is
/// withdrawn: nobody is to start on what is about to end.
pub fn plan_no_hosts(actual: &Target) -> Vec<Op> {
    let ours = actual.subsystems.iter().filter(|(nqn, _)| is_ours(nqn));
    ours.flat_map(|(nqn, found)| keep_out(nqn, found, &BTreeSet::new())).collect()
}

/// Keeps hosts out of a subsystem that are neither connected nor `allowed`.
fn keep_out(nqn: &str, found: &Subsystem, allowed: &BTreeSet<String>) -> Vec<Op> {
    let close = found.allow_any_host.then(|| write(&subsystem(nqn), "attr_allow_any_host", "0"));
    close.into_iter().chain(found.allowed_hosts.difference(allowed).map(|host| disallow(nqn, host))).collect()
}

/// The directories of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// The operation that makes the directory of each host that needs one: before any host is linked. The kernel tells
    /// a host that has one and is not linked never to try again, so it is to be linked at once.
    pub make: Vec<(String, Op)>,
    /// The operations that remove the directories of hosts on which nobody has decided (any more): when our subsystems
    /// have no links to them.
    pub remove: Vec<Op>,
}

/// Gives each host a directory on which somebody has decided, and takes it from all others, but for those that
/// subsystems of other people link to. If everyone is admitted the directories stay as they are: they mean nothing.
pub fn plan_hosts(admission: &Admission, actual: &Target) -> HostPlan {
    if *admission == Admission::Everyone {
        return HostPlan { make: Vec::new(), remove: Vec::new() };
    }
    let decided = admission.decided();
    let foreign: BTreeSet<&String> = actual
        .subsystems
        .iter()
        .filter(|(nqn, _)| !is_ours(nqn))
        .flat_map(|(_, subsystem)| &subsystem.allowed_hosts)
        .collect();
    let make = decided.difference(&actual.hosts).map(|nqn| (nqn.clone(), Op::MakeDir(host(nqn)))).collect();
    let gone = actual.hosts.difference(&decided).filter(|nqn| !foreign.contains(nqn));
    HostPlan { make, remove: gone.map(|nqn| Op::RemoveDir(host(nqn))).collect() }
}

/// Gives each host its keys that must prove one: after its directory is made, and before the host is linked. A host
/// without its keys may not be linked, as it would be admitted by its name alone.
///
/// The controller's key is first: it has no effect without the host's.
pub fn plan_keys(keys: &BTreeMap<String, ChapKeys>, actual: &Target) -> Vec<(String, Vec<Op>)> {
    let none = ChapKeys::default();
    let ops = |(nqn, wanted): (&String, &ChapKeys)| {
        let found = actual.keys.get(nqn).unwrap_or(&none);
        let attributes =
            [("dhchap_ctrl_key", &wanted.controller, &found.controller), ("dhchap_key", &wanted.host, &found.host)];
        let changed = attributes.into_iter().filter(|(_, wanted, found)| wanted != found);
        let write = |(attribute, key, _): (&str, &KeyText, _)| Op::WriteKey {
            path: format!("{}/{attribute}", host(nqn)),
            key: key.clone(),
        };
        (nqn.clone(), changed.map(write).collect::<Vec<_>>())
    };
    keys.iter().map(ops).filter(|(_, ops)| !ops.is_empty()).collect()
}

/// Has the subsystems that there are admit the admitted hosts, and no others. None of this waits for a disk, so it can
/// be done at once whatever becomes of the disks' plans; the result is the target as those plans find it then. Hosts
/// are kept out of all subsystems of ours, and let in where `may_let_in` says so.
///
/// Where everyone is admitted that is left to the disks' plans.
pub fn plan_admission(admission: &Admission, actual: &Target, may_let_in: impl Fn(&str) -> bool) -> (Vec<Op>, Target) {
    let (mut ops, mut after) = (Vec::new(), actual.clone());
    if *admission == Admission::Everyone {
        return (ops, after);
    }
    for (nqn, changed) in after.subsystems.iter_mut().filter(|(nqn, _)| is_ours(nqn)) {
        let Some(allowed) = admission.at(nqn) else { continue };
        let found = changed.clone();
        changed.allow_any_host = false;
        changed.allowed_hosts = if may_let_in(nqn) { allowed } else { &found.allowed_hosts & &allowed };
        ops.extend(admit(nqn, changed, Some(&found)));
    }
    (ops, after)
}

/// Has a subsystem admit the hosts that it should. A host that may use it before and after is never refused in between,
/// unless it is opened to everyone or closed, which the kernel does in no one step.
fn admit(nqn: &str, desired: &Subsystem, found: Option<&Subsystem>) -> Vec<Op> {
    let none = BTreeSet::new();
    let directory = subsystem(nqn);
    let linked = found.map_or(&none, |found| &found.allowed_hosts);
    let mut ops = Vec::new();
    if desired.allow_any_host {
        // Not while hosts are linked.
        ops.extend(linked.iter().map(|host| disallow(nqn, host)));
        if !found.is_some_and(|found| found.allow_any_host) {
            ops.push(write(&directory, "attr_allow_any_host", "1"));
        }
        return ops;
    }
    match found {
        Some(found) => ops.extend(keep_out(nqn, found, &desired.allowed_hosts)),
        None => ops.push(write(&directory, "attr_allow_any_host", "0")),
    }
    ops.extend(desired.allowed_hosts.difference(linked).map(|host| allow(nqn, host)));
    ops
}

fn bring_up(
    nqn: &str,
    desired: &Subsystem,
    found: Option<&Subsystem>,
    links: &BTreeSet<PortId>,
    ports: &[PortId],
) -> Vec<Op> {
    let mut ops = Vec::new();
    let directory = subsystem(nqn);
    if found.is_none() {
        ops.push(Op::MakeDir(directory.clone()));
        // First: what has the right strings has the rest, too.
        ops.push(write(&directory, "attr_qid_max", &desired.queues.to_string()));
        ops.push(write(&directory, "attr_serial", &desired.serial));
        ops.push(write(&directory, "attr_model", &desired.model));
        ops.push(write(&directory, "attr_firmware", &desired.firmware));
    }
    ops.extend(admit(nqn, desired, found));
    for (nsid, namespace) in found.iter().flat_map(|found| &found.namespaces) {
        if !desired.namespaces.contains_key(nsid) {
            ops.extend(remove_namespace(nqn, *nsid, namespace));
        }
    }
    let enabled = found.and_then(|found| found.passthru.as_ref());
    if enabled.is_some() && enabled != desired.passthru.as_ref() {
        ops.push(passthru(nqn, "enable", "0"));
    }
    if let Some(path) = desired.passthru.as_ref().filter(|path| enabled != Some(path)) {
        ops.push(passthru(nqn, "device_path", path));
        ops.push(passthru(nqn, "enable", "1"));
    }
    for (nsid, wanted) in &desired.namespaces {
        ops.extend(bring_up_namespace(nqn, *nsid, wanted, found.and_then(|found| found.namespaces.get(nsid))));
    }
    ops.extend(ports.iter().filter(|id| !links.contains(id)).map(|id| link(*id, nqn)));
    ops
}

fn bring_up_namespace(nqn: &str, nsid: u32, wanted: &Namespace, found: Option<&Namespace>) -> Vec<Op> {
    if found == Some(wanted) {
        return Vec::new();
    }
    let directory = namespace(nqn, nsid);
    let mut ops = Vec::new();
    // Another device, or the same one with another medium, may have another
    // block size. Only a namespace that is made anew takes that over.
    let found = match found {
        Some(found) if found.enabled => {
            ops.extend(remove_namespace(nqn, nsid, found));
            None
        }
        other => other,
    };
    if found.is_none() {
        ops.push(Op::MakeDir(directory.clone()));
    }
    for (attribute, wanted, is) in [
        ("device_path", &wanted.device_path, found.map(|found| &found.device_path)),
        ("device_uuid", &wanted.uuid, found.map(|found| &found.uuid)),
        ("device_nguid", &wanted.nguid, found.map(|found| &found.nguid)),
    ] {
        if is != Some(wanted) {
            ops.push(write(&directory, attribute, wanted));
        }
    }
    if wanted.readonly != found.is_some_and(|found| found.readonly) {
        ops.push(write(&directory, READONLY, if wanted.readonly { "1" } else { "0" }));
    }
    ops.push(write(&directory, "enable", "1"));
    ops
}

fn remove_namespace(nqn: &str, nsid: u32, found: &Namespace) -> Vec<Op> {
    let directory = namespace(nqn, nsid);
    let disable = found.enabled.then(|| write(&directory, "enable", "0"));
    disable.into_iter().chain([Op::RemoveDir(directory)]).collect()
}

/// Has the namespace of `nqn` made anew: its device has another block size.
pub fn plan_remake(nqn: &str, desired: &Subsystem, actual: &Target, ports: &[PortId]) -> Vec<Op> {
    let namespaces = actual.subsystems.get(nqn).into_iter().flat_map(|found| &found.namespaces);
    let mut ops: Vec<Op> = namespaces.flat_map(|(nsid, namespace)| remove_namespace(nqn, *nsid, namespace)).collect();
    let mut emptied = actual.clone();
    if let Some(subsystem) = emptied.subsystems.get_mut(nqn) {
        subsystem.namespaces.clear();
    }
    ops.extend(plan_disk(nqn, Some(desired), &emptied, ports));
    ops
}

/// Whether a disk's plan lets hosts use it.
pub fn enables(ops: &[Op]) -> bool {
    let enables = |op: &Op| match op {
        Op::Write { path, value } => path.contains("/namespaces/") && path.ends_with("/enable") && value == "1",
        _ => false,
    };
    ops.iter().any(enables)
}

/// Tells hosts that the disk of `nqn` has another size.
pub fn plan_resize(nqn: &str, nsid: u32) -> Op {
    write(&namespace(nqn, nsid), "revalidate_size", "1")
}

/// The port at `address`, or one whose making was cut short before it had an
/// address at all: that is written last. `taken` ports serve another address.
fn find_port<'a>(actual: &'a Target, address: &PortAddress, taken: &[PortId]) -> Option<(PortId, &'a Port)> {
    let half_made = |port: &Port| {
        let PortAddress { trtype, traddr, trsvcid, .. } = &port.address;
        port.subsystems.is_empty()
            && traddr.is_empty()
            && (trtype.is_empty() || *trtype == address.trtype)
            && (trsvcid.is_empty() || *trsvcid == address.trsvcid)
    };
    let ports = || actual.ports.iter().map(|(id, port)| (*id, port));
    ports()
        .find(|(_, port)| port.address == *address)
        .or_else(|| ports().find(|(id, port)| !taken.contains(id) && half_made(port)))
}

fn port_attributes(id: PortId, wanted: &PortAddress, found: Option<&PortAddress>) -> Vec<Op> {
    [
        ("addr_trtype", &wanted.trtype, found.map(|found| &found.trtype)),
        ("addr_adrfam", &wanted.adrfam, found.map(|found| &found.adrfam)),
        ("addr_trsvcid", &wanted.trsvcid, found.map(|found| &found.trsvcid)),
        ("addr_traddr", &wanted.traddr, found.map(|found| &found.traddr)),
    ]
    .into_iter()
    .filter(|(_, wanted, found)| Some(*wanted) != *found)
    .map(|(attribute, wanted, _)| write(&port(id), attribute, wanted))
    .collect()
}

fn links(actual: &Target, nqn: &str) -> BTreeSet<PortId> {
    actual.ports.iter().filter(|(_, port)| port.subsystems.contains(nqn)).map(|(id, _)| *id).collect()
}

fn strings(subsystem: &Subsystem) -> [&str; 3] {
    [&subsystem.serial, &subsystem.model, &subsystem.firmware]
}

fn subsystem(nqn: &str) -> String {
    format!("subsystems/{nqn}")
}

fn namespace(nqn: &str, nsid: u32) -> String {
    format!("subsystems/{nqn}/namespaces/{nsid}")
}

fn port(id: PortId) -> String {
    format!("ports/{id}")
}

fn link(id: PortId, nqn: &str) -> Op {
    Op::Link { target: subsystem(nqn), path: format!("ports/{id}/subsystems/{nqn}") }
}

fn host(nqn: &str) -> String {
    format!("hosts/{nqn}")
}

fn allow(nqn: &str, host: &str) -> Op {
    Op::Link { target: self::host(host), path: format!("{}/allowed_hosts/{host}", subsystem(nqn)) }
}

fn disallow(nqn: &str, host: &str) -> Op {
    Op::Unlink(format!("{}/allowed_hosts/{host}", subsystem(nqn)))
}

fn unlink(id: PortId, nqn: &str) -> Op {
    Op::Unlink(format!("ports/{id}/subsystems/{nqn}"))
}

fn passthru(nqn: &str, attribute: &str, value: &str) -> Op {
    write(&format!("{}/passthru", subsystem(nqn)), attribute, value)
}

fn write(directory: &str, attribute: &str, value: &str) -> Op {
    Op::Write { path: format!("{directory}/{attribute}"), value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Errno, Fake};
    use super::super::model::{NSID, listen_addresses, read_only_nqn};
    use super::*;
    use netproto::rng::Rng;

    const A: &str = "nqn.2026-11.io.github.diskomator:m:a";
    const B: &str = "nqn.2026-11.io.github.diskomator:m:b";
    const FOREIGN: &str = "nqn.2014-08.com.example:theirs";

    fn disk(name: &str, device: &str) -> Subsystem {
        Subsystem {
            allow_any_host: true,
            allowed_hosts: BTreeSet::new(),
            serial: format!("serial-{name}"),
            model: "model".into(),
            firmware: "1".into(),
            queues: 4,
            passthru: None,
            namespaces: BTreeMap::from([(
                NSID,
                Namespace {
                    device_path: device.into(),
                    uuid: format!("uuid-{name}"),
                    nguid: format!("nguid-{name}"),
                    readonly: false,
                    enabled: true,
                },
            )]),
        }
    }

    fn desired(disks: &[(&str, &str)]) -> BTreeMap<String, Subsystem> {
        disks.iter().map(|(nqn, device)| ((*nqn).to_owned(), disk(nqn.rsplit(':').next().unwrap(), device))).collect()
    }

    /// All that is needed, in the order in which a sync does it.
    fn whole_plan(wanted: &BTreeMap<String, Subsystem>, actual: &Target) -> Vec<Op> {
        whole_plan_for(&Admission::Everyone, wanted, actual)
    }

    fn whole_plan_for(admission: &Admission, wanted: &BTreeMap<String, Subsystem>, actual: &Target) -> Vec<Op> {
        let plan = plan_ports(&listen_addresses(true), actual);
        let ports: Vec<PortId> = plan.ports.iter().map(|(id, _)| *id).collect();
        let hosts = plan_hosts(admission, actual);
        let mut ops = plan.listener;
        ops.extend(plan.ports.into_iter().flat_map(|(_, ops)| ops));
        ops.extend(hosts.make.into_iter().map(|(_, op)| op));
        ops.extend(plan_disks(wanted, actual, &ports).into_values().flatten());
        ops.extend(hosts.remove);
        ops
    }

    fn sync(fake: &mut Fake, wanted: &BTreeMap<String, Subsystem>) {
        sync_for(fake, &Admission::Everyone, wanted);
    }

    fn sync_for(fake: &mut Fake, admission: &Admission, wanted: &BTreeMap<String, Subsystem>) {
        for op in whole_plan_for(admission, wanted, &fake.target()) {
            fake.apply(&op).unwrap_or_else(|errno| panic!("{errno:?} from: {op}"));
        }
        let again = whole_plan_for(admission, wanted, &fake.target());
        assert_eq!(again, [], "planning after applying must give nothing");
    }

    /// `read_write` and `read_only` are hosts by a letter each.
    fn hosts(read_write: &str, read_only: &str, denied: &str) -> Admission {
        let [read_write, read_only, denied] =
            [read_write, read_only, denied].map(|hosts| hosts.chars().map(String::from).collect());
        Admission::Hosts { read_write, read_only, denied }
    }

    /// The same disks for these hosts: each has a read-only subsystem if one of them may only read.
    fn admitting(admission: &Admission, disks: &BTreeMap<String, Subsystem>) -> BTreeMap<String, Subsystem> {
        let mut wanted = disks.clone();
        if admission.has_readers() {
            for (nqn, disk) in disks {
                let mut disk = Subsystem { passthru: None, ..disk.clone() };
                for namespace in disk.namespaces.values_mut() {
                    namespace.readonly = true;
                    namespace.uuid += " read-only";
                }
                wanted.insert(read_only_nqn(nqn), disk);
            }
        }
        for (nqn, subsystem) in &mut wanted {
            let allowed = admission.at(nqn);
            subsystem.allow_any_host = allowed.is_none();
            subsystem.allowed_hosts = allowed.unwrap_or_default();
        }
        wanted
    }

    #[test]
    fn an_empty_target_listens_and_exports() {
        let mut fake = Fake::default();
        sync(&mut fake, &desired(&[(A, "/dev/a"), (B, "/dev/b")]));
        let target = fake.target();
        assert_eq!(target.ports.len(), 4);
        for port in target.ports.values() {
            assert_eq!(port.subsystems.iter().collect::<Vec<_>>(), [LISTENER_NQN, A, B]);
        }
        assert_eq!(target.subsystems[A], disk("a", "/dev/a"));
        assert!(!target.subsystems[LISTENER_NQN].allow_any_host);
    }

    #[test]
    fn with_no_disk_the_ports_listen_all_the_same() {
        let mut fake = Fake::default();
        sync(&mut fake, &desired(&[]));
        assert!(fake.target().ports.values().all(|port| port.subsystems.contains(LISTENER_NQN)));
    }

    #[test]
    fn a_pulled_disk_loses_its_namespace_before_its_links() {
        let mut fake = Fake::default();
        sync(&mut fake, &desired(&[(A, "/dev/a"), (B, "/dev/b")]));
        let ports: Vec<PortId> = fake.target().ports.keys().copied().collect();
        let plan = plan_disk(B, None, &fake.target(), &ports);
        let ops: Vec<String> = plan.iter().map(ToString::to_string).collect();
        let b = format!("subsystems/{B}");
        assert_eq!(
            ops,
            [
                format!("echo -n '0' >{b}/namespaces/1/enable"),
                format!("rmdir {b}/namespaces/1"),
                format!("echo -n '0' >{b}/attr_allow_any_host"),
                format!("rm ports/1/{b}"),
                format!("rm ports/2/{b}"),
                format!("rm ports/3/{b}"),
                format!("rm ports/4/{b}"),
                format!("rmdir {b}"),
            ]
        );
        // Hosts that are connected can look at what has gone until the first link goes.
        let (tell, cut_off) = parted_at_the_cut(&plan);
        assert_eq!((tell.len(), cut_off.len()), (3, 5));
        assert_eq!(parted_at_the_cut(tell), (tell, &[][..]));
        sync(&mut fake, &desired(&[(A, "/dev/a")]));
        assert!(!fake.target().subsystems.contains_key(B));
    }

    #[test]
    fn hosts_stay_connected_to_a_disk_that_may_come_back() {
        let mut fake = Fake::default();
        sync(&mut fake, &desired(&[(A, "/dev/a")]));
        for op in plan_linger(A, &fake.target()) {
            assert!(matches!(op, Op::Write { .. } | Op::RemoveDir(_)), "no link is cut: {op}");
            fake.apply(&op).unwrap();
        }
        assert_eq!(plan_linger(A, &fake.target()), []);
        let left = &fake.target().subsystems[A];
        assert!(left.namespaces.is_empty() && !left.allow_any_host);
        let ops = whole_plan(&desired(&[(A, "/dev/b")]), &fake.target());
        assert!(ops.iter().all(|op| op.to_string().contains(A)), "{ops:?}");
        sync(&mut fake, &desired(&[(A, "/dev/b")]));
        assert_eq!(plan_linger(B, &fake.target()), []);
    }

    #[test]
    fn a_disk_that_came_back_under_another_name_gets_a_new_namespace_in_the_same_subsystem() {
        let mut fake = Fake::default();
        sync(&mut fake, &desired(&[(A, "/dev/a")]));
        let wanted = desired(&[(A, "/dev/other")]);
        let ops = whole_plan(&wanted, &fake.target());
        assert!(ops.iter().all(|op| op.to_string().contains("/namespaces/1")), "{ops:?}");
        sync(&mut fake, &wanted);
        assert_eq!(fake.target().subsystems[A], wanted[A]);
    }

    #[test]
    fn other_people_s_subsystems_and_ports_stay_as_they_are() {
        let mut fake = Fake::default();
        for op in [
            Op::MakeDir(subsystem(FOREIGN)),
            Op::MakeDir(port(1)),
            write("ports/1", "addr_trtype", "tcp"),
            write("ports/1", "addr_adrfam", "ipv4"),
            write("ports/1", "addr_traddr", "192.0.2.1"),
            write("ports/1", "addr_trsvcid", "4420"),
            link(1, FOREIGN),
        ] {
            fake.apply(&op).unwrap();
        }
        let theirs = fake.target();
        sync(&mut fake, &desired(&[(A, "/dev/a")]));
        sync(&mut fake, &desired(&[]));
        let target = fake.target();
        assert_eq!(target.subsystems[FOREIGN], theirs.subsystems[FOREIGN]);
        assert_eq!(target.ports[&1], theirs.ports[&1]);
        assert_eq!(target.ports.len(), 5);
        for op in plan_no_ports(&listen_addresses(true), &target) {
            fake.apply(&op).unwrap();
        }
        assert_eq!(fake.target(), theirs);
    }

    #[test]
    fn before_all_is_withdrawn_nobody_new_is_let_in() {
        let mut fake = Fake::default();
        sync(&mut fake, &desired(&[(A, "/dev/a"), (B, "/dev/b")]));
        fake.apply(&Op::MakeDir(subsystem(FOREIGN))).unwrap();
        fake.apply(&write(&subsystem(FOREIGN), "attr_allow_any_host", "1")).unwrap();
        for op in plan_no_hosts(&fake.target()) {
            fake.apply(&op).unwrap();
        }
        let target = fake.target();
        let open: Vec<_> = target.subsystems.iter().filter(|(_, found)| found.allow_any_host).collect();
        assert_eq!(open.iter().map(|(nqn, _)| nqn.as_str()).collect::<Vec<_>>(), [FOREIGN]);
        assert!(target.subsystems[A].namespaces[&NSID].enabled, "who is connected can still finish");
    }

    #[test]
    fn a_new_disk_is_closed_before_it_is_there_and_links_come_last() {
        let admission = hosts("xy", "", "z");
        let mut fake = Fake::default();
        sync_for(&mut fake, &admission, &desired(&[]));
        let wanted = admitting(&admission, &desired(&[(A, "/dev/a")]));
        let ops: Vec<String> =
            whole_plan_for(&admission, &wanted, &fake.target()).iter().map(ToString::to_string).collect();
        let a = format!("subsystems/{A}");
        let position =
            |text: String| ops.iter().position(|op| *op == text).unwrap_or_else(|| panic!("{text}: {ops:#?}"));
        let positions = [
            format!("mkdir {a}"),
            format!("echo -n '0' >{a}/attr_allow_any_host"),
            format!("ln -s \"$PWD\"/hosts/x {a}/allowed_hosts/x"),
            format!("ln -s \"$PWD\"/hosts/y {a}/allowed_hosts/y"),
            format!("echo -n '1' >{a}/namespaces/1/enable"),
            format!("ln -s \"$PWD\"/{a} ports/1/{a}"),
        ]
        .map(position);
        assert!(positions.is_sorted(), "{ops:#?}");
        sync_for(&mut fake, &admission, &wanted);
        assert_eq!(fake.target().hosts, BTreeSet::from(["x", "y", "z"].map(String::from)));
        let listener = &fake.target().subsystems[LISTENER_NQN];
        assert!(listener.allowed_hosts.is_empty() && !listener.allow_any_host);
    }

    #[test]
    fn keys_are_written_once_and_never_shown() {
        let text = |text: &str| KeyText::from(zeroize::Zeroizing::new(text.to_owned()));
        let pair = |host: &str, controller: &str| ChapKeys { host: text(host), controller: text(controller) };
        let mut fake = Fake::default();
        for (_, op) in plan_hosts(&hosts("xy", "", ""), &fake.target()).make {
            fake.apply(&op).unwrap();
        }
        let apply = |fake: &mut Fake, keys: &BTreeMap<String, ChapKeys>| -> Vec<String> {
            let ops: Vec<Op> = plan_keys(keys, &fake.target()).into_iter().flat_map(|(_, ops)| ops).collect();
            for op in &ops {
                assert!(!format!("{op} {op:?}").contains("DHHC"), "{op:?}");
                fake.apply(op).unwrap();
            }
            assert_eq!(plan_keys(keys, &fake.target()), []);
            ops.iter().map(ToString::to_string).collect()
        };
        let mut keys = BTreeMap::from([("x".to_owned(), pair("DHHC-1:01:HOST:", "DHHC-1:01:CONTROLLER:"))]);
        let line = |attribute: &str| format!("echo -n \"$KEY\" >hosts/x/{attribute}");
        assert_eq!(apply(&mut fake, &keys), [line("dhchap_ctrl_key"), line("dhchap_key")]);
        assert_eq!(fake.target().keys, keys);
        assert!(!format!("{:?}", fake.target()).contains("DHHC"));
        keys.insert("x".to_owned(), pair("DHHC-1:01:OTHER:", "DHHC-1:01:CONTROLLER:"));
        assert_eq!(apply(&mut fake, &keys), [line("dhchap_key")]);
        // They go with the directory.
        for op in plan_hosts(&hosts("y", "", ""), &fake.target()).remove {
            fake.apply(&op).unwrap();
        }
        assert!(fake.target().keys.is_empty());
    }

    #[test]
    fn a_disk_is_closed_to_others_before_a_host_is_linked_and_opened_when_none_is() {
        let mut fake = Fake::default();
        let disks = desired(&[(A, "/dev/a")]);
        sync(&mut fake, &disks);
        let a = format!("subsystems/{A}");
        let plan = |fake: &Fake, admission: &Admission| -> Vec<String> {
            let ops = whole_plan_for(admission, &admitting(admission, &disks), &fake.target());
            ops.iter().map(ToString::to_string).collect()
        };
        let admission = hosts("x", "", "");
        let link = format!("ln -s \"$PWD\"/hosts/x {a}/allowed_hosts/x");
        assert_eq!(
            plan(&fake, &admission),
            ["mkdir hosts/x", &format!("echo -n '0' >{a}/attr_allow_any_host"), &link].map(str::to_owned)
        );
        sync_for(&mut fake, &admission, &admitting(&admission, &disks));
        // The directory that is left means nothing.
        assert_eq!(
            plan(&fake, &Admission::Everyone),
            [format!("rm {a}/allowed_hosts/x"), format!("echo -n '1' >{a}/attr_allow_any_host")]
        );
        // Another host: who is out goes first, and the directory when nothing holds it.
        let unlink = format!("rm {a}/allowed_hosts/x");
        let link = format!("ln -s \"$PWD\"/hosts/y {a}/allowed_hosts/y");
        assert_eq!(
            plan(&fake, &hosts("y", "", "")),
            ["mkdir hosts/y", &unlink, &link, "rmdir hosts/x"].map(str::to_owned)
        );
        assert_eq!(plan(&fake, &hosts("", "", "x")), [unlink]);
    }

    #[test]
    fn hosts_are_let_in_at_once_only_where_no_job_is_and_kept_out_everywhere() {
        let mut fake = Fake::default();
        let disks = desired(&[(A, "/dev/a"), (B, "/dev/b")]);
        let before = hosts("xy", "", "");
        sync_for(&mut fake, &before, &admitting(&before, &disks));
        let after = hosts("yz", "", "");
        for (_, op) in plan_hosts(&after, &fake.target()).make {
            fake.apply(&op).unwrap();
        }
        let (ops, target) = plan_admission(&after, &fake.target(), |nqn| nqn == A);
        for op in &ops {
            fake.apply(op).unwrap();
        }
        assert_eq!(fake.target(), target);
        let allowed = |nqn: &str| target.subsystems[nqn].allowed_hosts.iter().cloned().collect::<String>();
        assert_eq!((allowed(A), allowed(B)), ("yz".to_owned(), "y".to_owned()));
        // Where everyone is admitted nothing is done beside the disks' own plans.
        let (ops, same) = plan_admission(&Admission::Everyone, &target, |_| true);
        assert_eq!((ops, same), (vec![], target));
    }

    #[test]
    fn hosts_of_other_people_keep_their_directories() {
        let mut fake = Fake::default();
        for op in [
            Op::MakeDir(subsystem(FOREIGN)),
            Op::MakeDir(host("theirs")),
            Op::MakeDir(host("left")),
            allow(FOREIGN, "theirs"),
        ] {
            fake.apply(&op).unwrap();
        }
        let theirs = fake.target();
        sync(&mut fake, &desired(&[(A, "/dev/a")]));
        assert_eq!(fake.target().hosts, theirs.hosts, "nothing is asked about hosts");
        let admission = hosts("x", "", "");
        sync_for(&mut fake, &admission, &admitting(&admission, &desired(&[(A, "/dev/a")])));
        assert_eq!(fake.target().hosts, BTreeSet::from(["theirs", "x"].map(String::from)));
        assert_eq!(fake.target().subsystems[FOREIGN], theirs.subsystems[FOREIGN]);
    }

    #[test]
    fn nobody_new_is_let_in_where_hosts_are_linked() {
        let admission = hosts("xy", "", "");
        let mut fake = Fake::default();
        sync_for(&mut fake, &admission, &admitting(&admission, &desired(&[(A, "/dev/a"), (B, "/dev/b")])));
        let mut all = fake.clone();
        for op in plan_no_hosts(&all.target()) {
            all.apply(&op).unwrap();
        }
        assert!(all.target().subsystems.values().all(|found| found.allowed_hosts.is_empty() && !found.allow_any_host));
        assert_eq!(plan_no_hosts(&all.target()), []);
        for op in plan_linger(A, &fake.target()) {
            fake.apply(&op).unwrap();
        }
        assert_eq!(plan_linger(A, &fake.target()), []);
        let target = fake.target();
        assert!(target.subsystems[A].allowed_hosts.is_empty() && !target.subsystems[B].allowed_hosts.is_empty());
        assert!(target.ports.values().all(|port| port.subsystems.contains(A)), "hosts stay connected");
        // The hosts are unlinked before hosts are cut off.
        let plan = plan_disk(B, None, &target, &[]);
        let (tell, cut_off) = parted_at_the_cut(&plan);
        assert!(tell.contains(&disallow(B, "x")) && cut_off[0].to_string().starts_with("rm ports/"), "{plan:?}");
    }

    #[test]
    fn a_subsystem_whose_enable_failed_is_taken_up_again_or_cleaned() {
        let mut fake = Fake::default();
        fake.refuse("/dev/a", Errno::NoMedium);
        let wanted = desired(&[(A, "/dev/a")]);
        let errors: Vec<Errno> =
            whole_plan(&wanted, &fake.target()).iter().filter_map(|op| fake.apply(op).err()).collect();
        assert_eq!(errors, [Errno::NoMedium]);
        let mut cleaned = fake.clone();
        sync(&mut cleaned, &desired(&[]));
        assert!(!cleaned.target().subsystems.contains_key(A));
        fake.accept("/dev/a");
        sync(&mut fake, &wanted);
        assert_eq!(fake.target().subsystems[A], wanted[A]);
    }

    #[test]
    fn what_failed_is_undone_as_far_as_it_was_new() {
        let mut fake = Fake::default();
        fake.refuse("/dev/a", Errno::NoMedium);
        let run = |fake: &mut Fake, wanted: &BTreeMap<String, Subsystem>| {
            let ops = whole_plan(wanted, &fake.target());
            let failed = ops.iter().any(|op| fake.apply(op).is_err());
            for op in plan_undo(A, &ops, &fake.target()) {
                fake.apply(&op).unwrap();
            }
            failed
        };
        assert!(run(&mut fake, &desired(&[(A, "/dev/a")])));
        assert!(!fake.target().subsystems.contains_key(A));

        sync(&mut fake, &desired(&[(A, "/dev/b")]));
        assert!(run(&mut fake, &desired(&[(A, "/dev/a")])));
        let target = fake.target();
        assert_eq!(target.subsystems[A].namespaces, BTreeMap::new());
        assert!(target.ports.values().all(|port| port.subsystems.contains(A)), "hosts stay connected");
    }

    #[test]
    fn a_disk_that_changed_its_serial_gets_a_new_subsystem_once_hosts_know_the_old_one() {
        let mut fake = Fake::default();
        sync(&mut fake, &desired(&[(A, "/dev/a")]));
        fake.identify(A);
        let mut wanted = desired(&[(A, "/dev/a")]);
        wanted.get_mut(A).unwrap().serial = "another".into();
        sync(&mut fake, &wanted);
        assert_eq!(fake.target().subsystems[A], wanted[A]);
    }

    #[test]
    fn after_a_kill_at_any_operation_the_next_sync_converges() {
        let states: [&[(&str, &str)]; 5] =
            [&[], &[(A, "/dev/a")], &[(A, "/dev/a"), (B, "/dev/b")], &[(B, "/dev/c")], &[(A, "/dev/b"), (B, "/dev/a")]];
        for from in states {
            for to in states {
                let mut start = Fake::default();
                if !from.is_empty() {
                    sync(&mut start, &desired(from));
                }
                let ops = whole_plan(&desired(to), &start.target());
                for done in 0..=ops.len() {
                    let mut fake = start.clone();
                    for op in &ops[..done] {
                        fake.apply(op).unwrap();
                    }
                    sync(&mut fake, &desired(to));
                    let target = fake.target();
                    assert_eq!(target.ports.len(), 4, "{from:?} to {to:?}, killed after {done}");
                    assert_eq!(target.subsystems.len(), 1 + to.len());
                    for (nqn, subsystem) in desired(to) {
                        assert_eq!(target.subsystems[&nqn], subsystem);
                    }
                }
            }
        }
    }

    /// A set of drives by chance: each may be absent, empty, read-only, at one
    /// of a few devices, or have changed its serial number.
    fn random_desired(rng: &mut Rng) -> BTreeMap<String, Subsystem> {
        let mut wanted = BTreeMap::new();
        for name in ["a", "b", "c"].into_iter().filter(|_| rng.below(4) > 0).collect::<Vec<_>>() {
            let mut drive = disk(name, &format!("/dev/{}", rng.below(4)));
            if rng.below(4) == 0 {
                drive.namespaces.clear();
            }
            for namespace in drive.namespaces.values_mut() {
                namespace.readonly = rng.below(3) == 0;
            }
            if rng.below(5) == 0 {
                drive.namespaces.clear();
                drive.passthru = Some(format!("/dev/{name}-{}", rng.below(2)));
            }
            if rng.below(6) == 0 {
                drive.serial.push_str(" 2");
            }
            wanted.insert(format!("nqn.2026-11.io.github.diskomator:m:{name}"), drive);
        }
        wanted
    }

    /// Hosts by chance: each is admitted, may read, is denied, or is none of these. Now and then everyone is admitted.
    fn random_admission(rng: &mut Rng) -> Admission {
        if rng.below(4) == 0 {
            return Admission::Everyone;
        }
        let (mut read_write, mut read_only, mut denied) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for host in ["v", "w", "x", "y", "z"].map(str::to_owned) {
            match rng.below(6) {
                0..3 => drop(read_write.insert(host)),
                3 => drop(read_only.insert(host)),
                4 => drop(denied.insert(host)),
                _ => {}
            }
        }
        Admission::Hosts { read_write, read_only, denied }
    }

    /// An operation of a plan lets nobody in who is not to be in, and takes nobody out who is to stay.
    fn check(op: &Op, before: &Target, after: &Target, start: &Target, wanted: &BTreeMap<String, Subsystem>) {
        let none = BTreeSet::new();
        for (nqn, found) in after.subsystems.iter().filter(|(nqn, _)| is_ours(nqn) && *nqn != LISTENER_NQN) {
            let was = before.subsystems.get(nqn);
            let wanted = wanted.get(nqn);
            let allowed = wanted.map_or(&none, |wanted| &wanted.allowed_hosts);
            let linked = was.map_or(&none, |was| &was.allowed_hosts);
            let new: BTreeSet<_> = found.allowed_hosts.difference(linked).collect();
            assert!(new.iter().all(|host| allowed.contains(*host)), "{op} links {new:?}");
            let is_opened = found.allow_any_host && !was.is_some_and(|was| was.allow_any_host);
            assert!(!is_opened || wanted.is_some_and(|wanted| wanted.allow_any_host), "{op} opens {nqn}");
            // A subsystem that is made anew has nobody at first.
            let (Some(wanted), Some(start)) = (wanted, start.subsystems.get(nqn)) else { continue };
            if strings(start) == strings(wanted) {
                let stay: BTreeSet<_> = start.allowed_hosts.intersection(&wanted.allowed_hosts).cloned().collect();
                assert!(stay.is_subset(&found.allowed_hosts), "{op} refuses one of {stay:?} at {nqn}");
                assert!(!(start.allow_any_host && wanted.allow_any_host) || found.allow_any_host, "{op} closes {nqn}");
            }
        }
    }

    /// Random changes by hosts and other processes.
    fn disturb(fake: &mut Fake, rng: &mut Rng) {
        let target = fake.target();
        for nqn in target.subsystems.keys() {
            if rng.below(3) == 0 {
                fake.identify(nqn);
            }
        }
        if rng.below(4) == 0 {
            // Fails where it is there already.
            let _ = fake.apply(&Op::MakeDir(subsystem(FOREIGN)));
            let _ = fake.apply(&Op::MakeDir(namespace(A, 7)));
        }
        if rng.below(4) == 0 {
            let _ = fake.apply(&Op::MakeDir(subsystem(FOREIGN)));
            for name in ["x", "stranger"] {
                let _ = fake.apply(&Op::MakeDir(host(name)));
                let _ = fake.apply(&allow([FOREIGN, A][usize::from(rng.below(2) == 0)], name));
            }
        }
        if rng.below(4) == 0 {
            for op in plan_linger(A, &target) {
                fake.apply(&op).unwrap();
            }
        }
    }

    #[test]
    fn from_any_state_to_any_other_one_plan_does_even_after_a_kill_anywhere() {
        let (mut longest, mut links) = (0, 0);
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            let mut fake = Fake::default();
            let random = |rng: &mut Rng| {
                let admission = random_admission(rng);
                let wanted = admitting(&admission, &random_desired(rng));
                (admission, wanted)
            };
            for _ in 0..4 {
                let (admission, wanted) = random(&mut rng);
                let start = fake.target();
                let ops = whole_plan_for(&admission, &wanted, &start);
                longest = longest.max(ops.len());
                let mut reached = fake.clone();
                for (killed_after, op) in ops.iter().enumerate() {
                    let mut half = reached.clone();
                    let before = reached.target();
                    reached.apply(op).unwrap_or_else(|errno| panic!("seed {seed}: {errno:?} from {op}"));
                    check(op, &before, &reached.target(), &start, &wanted);
                    links += usize::from(op.to_string().contains("allowed_hosts"));
                    disturb(&mut half, &mut rng);
                    // The one that comes after need not want the same.
                    let (admission, now) =
                        if rng.below(2) == 0 { (admission.clone(), wanted.clone()) } else { random(&mut rng) };
                    let theirs = half.target().subsystems.get(FOREIGN).cloned().unwrap_or_default();
                    sync_for(&mut half, &admission, &now);
                    let target = half.target();
                    let ours = target.subsystems.into_iter().filter(|(nqn, _)| is_ours(nqn) && nqn != LISTENER_NQN);
                    assert_eq!(ours.collect::<BTreeMap<_, _>>(), now, "seed {seed}, killed after {killed_after}");
                    if admission != Admission::Everyone {
                        assert_eq!(target.hosts, &admission.decided() | &theirs.allowed_hosts);
                    }
                }
                sync_for(&mut fake, &admission, &wanted);
                disturb(&mut fake, &mut rng);
            }
        }
        assert!(longest > 30 && links > 300, "{longest} operations and {links} links are no test");
    }
}
