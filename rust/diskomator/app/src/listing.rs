//! `diskomator export list`: every disk, for people and for scripts.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use disks::disk::{Activity, human_size};
use kernel::error::chain;
use kernel::root::Root;
use local::configfs;
use local::sysfs;
use nvmet::export::Export;
use nvmet::model::{Host, is_read_only_nqn};
use nvmet::policy::Access;
use runtime::table;
use runtime::{Failure, print, print_json};
use serde::Serialize;

use crate::exporter::{Exporter, Observation, State, state};

/// How long a disk that is at work must have finished nothing to be called hung,
/// and how often it is looked at meanwhile. A disk that works is found out at
/// the first look.
const HUNG: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A disk as it is listed; the shape of its JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    size: u64,
    block_size: u32,
    bus: String,
    model: Option<&'a str>,
    #[serde(skip)]
    marked_model: Option<String>,
    serial: Option<&'a str>,
    firmware: Option<&'a str>,
    removable: bool,
    boot: bool,
    state: &'static str,
    read_only: bool,
    reason: Option<String>,
    nqn: Option<&'a str>,
    uuid: Option<&'a str>,
    hosts: Vec<JsonHost>,
    bytes_read: Option<u64>,
    bytes_written: Option<u64>,
}

#[derive(Debug, Serialize)]
struct JsonHost {
    nqn: String,
    address: Option<String>,
    /// It may only read.
    read_only: bool,
}

#[derive(Debug, Serialize)]
struct Listing<'a> {
    machine: String,
    disks: Vec<Row<'a>>,
}

/// Prints the list.
pub(crate) fn list(exporter: &mut Exporter, json: bool) -> Result<(), Failure> {
    exporter.ask_all()?;
    let Observation { machine, exports, unreadable, .. } = exporter.observe()?;
    for error in &unreadable {
        log::warn!("{}", chain(error));
    }
    let hung = hung(exporter, &exports);
    let disks = exports.iter().filter_map(|export| row(exporter, export, hung.contains(&export.disk.name))).collect();
    let listing = Listing { machine: machine.to_string(), disks };
    if json { print_json(&listing) } else { print(&text(&listing)) }
}

/// The names of the disks that have work and finish none of it.
fn hung(exporter: &Exporter, exports: &[Export]) -> BTreeSet<String> {
    let activity = |export: &Export| sysfs::activity(&exporter.root, &export.disk);
    let at_work = |export: &&Export| export.enabled && activity(export).is_some_and(|activity| activity.in_flight > 0);
    let mut suspects: Vec<(&Export, Activity)> =
        exports.iter().filter(at_work).filter_map(|export| Some((export, activity(export)?))).collect();
    let until = Instant::now() + HUNG;
    while !suspects.is_empty() && Instant::now() < until {
        sleep(LOOK_AGAIN);
        suspects.retain(|(export, before)| activity(export).is_some_and(|now| now.is_stuck_since(before)));
    }
    suspects.into_iter().map(|(export, _)| export.disk.name.clone()).collect()
}

fn row<'a>(exporter: &Exporter, export: &'a Export, is_hung: bool) -> Option<Row<'a>> {
    let Export { disk, decision, .. } = export;
    let (state, reason) = match state(export) {
        State::Hidden => return None,
        State::Exported(_) if is_hung => ("hung", None),
        State::Exported(Access::ReadWrite) => ("exported", None),
        State::Exported(Access::ReadOnly) => ("read-only", None),
        State::Exported(Access::Passthru) => ("passthru", None),
        State::Empty => ("empty", None),
        State::Waiting => ("waiting", Some("if it stays so, dmesg says why".to_owned())),
        State::Failed(why) => ("failed", Some(why)),
        State::Refused(why) => ("refused", Some(why)),
    };
    let grant = decision.as_ref().ok();
    let activity = sysfs::activity(&exporter.root, disk);
    Some(Row {
        name: &disk.name,
        size: disk.size,
        block_size: disk.block_size,
        bus: disk.bus.to_string(),
        model: disk.model.as_deref(),
        marked_model: disk.marked_model(usize::MAX),
        serial: disk.serial.as_deref(),
        firmware: disk.firmware.as_deref(),
        removable: disk.removable,
        boot: disk.is_boot_medium,
        state,
        read_only: grant.is_some_and(|grant| grant.access == Access::ReadOnly),
        reason,
        nqn: export.nqn(),
        // A namespace that is passed through has its own.
        uuid: grant.filter(|grant| grant.access != Access::Passthru).map(|grant| grant.identity.uuid.as_str()),
        hosts: export.nqns().flat_map(|nqn| hosts(&exporter.root, &nqn)).collect(),
        bytes_read: activity.map(|activity| activity.read),
        bytes_written: activity.map(|activity| activity.written),
    })
}

fn hosts(root: &Root, nqn: &str) -> Vec<JsonHost> {
    let read_only = is_read_only_nqn(nqn);
    let hosts = configfs::hosts(root, nqn).into_iter();
    hosts.map(|Host { nqn, address }| JsonHost { nqn, address, read_only }).collect()
}

fn text(listing: &Listing<'_>) -> String {
    const HEADER: [&str; 10] =
        ["DISK", "SIZE", "BUS", "MODEL", "SERIAL", "STATE", "HOSTS", "READ", "WRITTEN", "NQN OR REASON"];
    if listing.disks.is_empty() {
        return "No disks.\n".to_owned();
    }
    let mut rows = vec![HEADER.map(str::to_owned)];
    for disk in &listing.disks {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), human_size);
        rows.push([
            disk.name.to_owned(),
            human_size(disk.size),
            disk.bus.clone(),
            disk.marked_model.clone().unwrap_or_else(|| "-".to_owned()),
            disk.serial.unwrap_or("-").to_owned(),
            disk.state.to_owned(),
            disk.hosts.len().to_string(),
            bytes(disk.bytes_read),
            bytes(disk.bytes_written),
            disk.reason.as_deref().or(disk.nqn).unwrap_or("-").to_owned(),
        ]);
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_table() {
        let row = |name, state, reason: Option<&str>, nqn| Row {
            name,
            size: 64 << 20,
            block_size: 512,
            bus: "nvme".to_owned(),
            model: Some("QEMU NVMe Ctrl"),
            marked_model: Some(if name == "sda" { "QEMU NVMe Ctrl [boot]" } else { "QEMU NVMe Ctrl" }.to_owned()),
            serial: None,
            firmware: None,
            removable: false,
            boot: name == "sda",
            state,
            read_only: false,
            reason: reason.map(str::to_owned),
            nqn,
            uuid: None,
            hosts: nqn
                .map(|_| JsonHost { nqn: "nqn.host".to_owned(), address: None, read_only: false })
                .into_iter()
                .collect(),
            bytes_read: nqn.map(|_| 3 << 29),
            bytes_written: None,
        };
        let disks = vec![
            row("nvme0n1", "exported", None, Some("nqn.x")),
            row("sda", "refused", Some("mounted on this machine"), None),
        ];
        assert_eq!(
            text(&Listing { machine: "m".to_owned(), disks }),
            "\
DISK     SIZE    BUS   MODEL                  SERIAL  STATE     HOSTS  READ     WRITTEN  NQN OR REASON
nvme0n1  64 MiB  nvme  QEMU NVMe Ctrl         -       exported  1      1.5 GiB  -        nqn.x
sda      64 MiB  nvme  QEMU NVMe Ctrl [boot]  -       refused   0      -        -        mounted on this machine
"
        );
    }
}
