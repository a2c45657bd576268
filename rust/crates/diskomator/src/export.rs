//! `diskomator export`: the same work as `hotplug`, once and by hand, and a
//! list of what is exported.

use std::collections::BTreeMap;

use diskomator_core::config::{Config, ExportMode};
use diskomator_core::disk::human_size;
use diskomator_core::export::{Export, desired, exported_as};
use diskomator_core::nvmet::model::{LISTENER_NQN, Subsystem, Target, is_ours};
use diskomator_core::nvmet::plan::{Op, plan_disks, plan_no_ports, plan_ports};
use diskomator_core::policy::Refusal;
use diskomator_sys::nvmet;
use diskomator_sys::root::{FileError, Root};
use diskomator_sys::{logger, sysfs};
use lexopt::Arg::{Long, Short, Value};
use serde::Serialize;

use crate::applet::{Failure, chain, level_filter, print};
use crate::exporter::{ExportError, Exporter, Observation, carry_out, carry_out_or_undo, label, reason};

const USAGE: &str = "\
Usage: diskomator export list [--json]
       diskomator export sync [--dry-run] [DISK...]
       diskomator export remove [--dry-run] {--all | DISK...}

Exports local disks over NVMe/TCP, on the ports 4420 (I/O) and 8009
(discovery) of every address. Works on any Linux with the kernel's NVMe target
(modules nvmet and nvmet-tcp, configfs mounted); needs root.

Commands:
  list        show every disk, and what it is exported as or why it is not
  sync        export the disks named, or all; disks that are gone are withdrawn.
              This is an explicit command, so it exports them also where
              `diskomator.export=none` on the kernel command line keeps
              `diskomator hotplug` from doing so, which then leaves them exported
  remove      withdraw the disks named, or with --all every one and the ports;
              hosts are told that the disk is gone. Where `diskomator hotplug`
              runs, it exports them again at the next event, unless
              `diskomator.export=none` is on the kernel command line

DISK is a kernel name such as sda, with or without /dev/, or an NQN.

Options:
  --json      list as JSON: {\"machine\", \"disks\": [{\"name\", \"size\" in bytes,
              \"block_size\", \"bus\", \"model\", \"serial\", \"firmware\",
              \"removable\", \"read_only\", \"state\" (exported, waiting, failed or
              refused), \"reason\", \"nqn\", \"uuid\"}]}; absent values are null
  --dry-run   print what would be done, as shell commands, and do nothing
  -h, --help  show this text

Exit status: 0 done, 1 something could not be done, 2 wrong usage.
";

/// Runs the applet.
pub(crate) fn run(args: lexopt::Parser) -> Result<(), Failure> {
    let root = Root::default();
    let cmdline = root.read("proc/cmdline").unwrap_or_default();
    let (config, _) = Config::from_cmdline(&cmdline);
    logger::init("export", level_filter(config.log), false);
    // The mode is for what happens by itself. Who types a command means it.
    let explicit = Config { export: ExportMode::All, ..config.clone() };
    match parse(args)? {
        Command::Help => print(USAGE),
        Command::List { json } => list(&Exporter::new(root, config), json),
        Command::Sync { dry_run: true, disks } => sync_dry_run(&Exporter::new(root, explicit), &disks),
        Command::Sync { dry_run: false, disks } => sync(&Exporter::prepare(root, explicit), &disks),
        Command::Remove { dry_run, disks } => remove(&Exporter::new(root, explicit), &disks, dry_run),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Help,
    List {
        json: bool,
    },
    Sync {
        dry_run: bool,
        disks: Vec<String>,
    },
    /// No disk means all.
    Remove {
        dry_run: bool,
        disks: Vec<String>,
    },
}

fn parse(mut args: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut verb, mut disks) = (None, Vec::new());
    let (mut json, mut dry_run, mut all) = (false, false, false);
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("json") => json = true,
            Long("dry-run") => dry_run = true,
            Long("all") => all = true,
            Value(word) if verb.is_none() => verb = Some(word.to_string_lossy().into_owned()),
            Value(word) => disks.push(word.to_string_lossy().into_owned()),
            other => return Err(other.unexpected()),
        }
    }
    let verb = verb.ok_or("say what to do: list, sync or remove (see --help)")?;
    let wrong = |option: &str| Err(format!("{option} makes no sense with `export {verb}` (see --help)").into());
    match verb.as_str() {
        "list" if dry_run => wrong("--dry-run"),
        "list" if !disks.is_empty() => wrong("a disk"),
        "list" | "sync" if all => wrong("--all"),
        "sync" | "remove" if json => wrong("--json"),
        "list" => Ok(Command::List { json }),
        "sync" => Ok(Command::Sync { dry_run, disks }),
        "remove" if all != disks.is_empty() => Err("name disks, or say --all, but not both".into()),
        "remove" => Ok(Command::Remove { dry_run, disks }),
        _ => Err(format!("there is no `export {verb}`: it is list, sync or remove").into()),
    }
}

/// Why `sync` or `remove` did not do all that was asked.
#[derive(Debug, thiserror::Error)]
enum Incomplete {
    #[error("no disk is called {0}; `diskomator export list` shows those there are")]
    NoSuchDisk(String),
    #[error("{disk} cannot be exported: {reason}")]
    Refused { disk: String, reason: String },
    #[error("{0} failed, as reported above")]
    Failed(usize),
}

/// Whether `word`, as a person types it, means this disk.
fn is_called(export: &Export, word: &str) -> bool {
    let nqn = export.decision.as_ref().ok().map(|identity| identity.nqn.as_str());
    word.strip_prefix("/dev/").unwrap_or(word) == export.disk.name || nqn == Some(word)
}

/// The disks that are to be exported after a sync: those named and, as it is
/// with all, nothing else is changed for the others.
fn chosen(exports: &[Export], words: &[String]) -> Result<BTreeMap<String, Subsystem>, Incomplete> {
    let mut wanted = desired(exports);
    if words.is_empty() {
        return Ok(wanted);
    }
    for word in words {
        let export = exports.iter().find(|export| is_called(export, word));
        let export = export.ok_or_else(|| Incomplete::NoSuchDisk(word.clone()))?;
        if let Err(refusal) = &export.decision {
            return Err(Incomplete::Refused { disk: label(&export.disk), reason: refusal.to_string() });
        }
    }
    let named = |nqn: &str| {
        exports.iter().any(|export| {
            export.decision.as_ref().is_ok_and(|identity| identity.nqn == nqn)
                && (export.enabled || words.iter().any(|word| is_called(export, word)))
        })
    };
    wanted.retain(|nqn, _| named(nqn));
    Ok(wanted)
}

fn sync_dry_run(exporter: &Exporter, words: &[String]) -> Result<(), Failure> {
    let Observation { exports, target, .. } = exporter.observe().map_err(Failure::failed)?;
    let wanted = chosen(&exports, words).map_err(Failure::failed)?;
    let plan = plan_ports(&exporter.addresses, &target);
    let ports: Vec<_> = plan.ports.iter().map(|(id, _)| *id).collect();
    let disks = plan_disks(&wanted, &target, &ports);
    let ops = plan.listener.into_iter().chain(plan.ports.into_iter().flat_map(|(_, ops)| ops));
    print_plan(ops.chain(disks.into_values().flatten()))
}

fn sync(exporter: &Exporter, words: &[String]) -> Result<(), Failure> {
    let Observation { exports, target, unreadable } = exporter.observe().map_err(Failure::failed)?;
    let wanted = chosen(&exports, words).map_err(Failure::failed)?;
    let (ports, unusable) = exporter.listen(&target).map_err(Failure::failed)?;
    let unlinked = sysfs::link_by_diskseq(&exporter.root, exports.iter().map(|export| &export.disk));
    let mut failures = Failures::default();
    failures.extend(unreadable.iter().chain(&unusable).chain(&unlinked));
    for (nqn, ops) in plan_disks(&wanted, &target, &ports) {
        let outcome = if wanted.contains_key(&nqn) {
            carry_out_or_undo(&exporter.root, &nqn, &ops)
        } else {
            carry_out(&exporter.root, &ops)
        };
        failures.extend(outcome.err().iter());
    }
    failures.finish()
}

fn remove(exporter: &Exporter, words: &[String], dry_run: bool) -> Result<(), Failure> {
    let Observation { exports, target, .. } = exporter.observe().map_err(Failure::failed)?;
    let mut wanted = BTreeMap::new();
    if !words.is_empty() {
        for word in words {
            if !exports.iter().any(|export| is_called(export, word)) && !target.subsystems.contains_key(word) {
                return Err(Failure::failed(Incomplete::NoSuchDisk(word.clone())));
            }
        }
        // Also a disk that would not be exported today.
        let is_disk_of = |export: &Export, nqn: &str| {
            let now = exported_as(&target, &export.disk);
            now.as_ref().or(export.decision.as_ref().ok()).is_some_and(|identity| identity.nqn == nqn)
        };
        let named = |nqn: &String| {
            words.iter().any(|word| {
                word == nqn || exports.iter().any(|export| is_called(export, word) && is_disk_of(export, nqn))
            })
        };
        // What is not named stays exactly as it is.
        wanted.extend(target.subsystems.iter().filter(|(nqn, _)| !named(nqn)).map(|(n, s)| (n.clone(), s.clone())));
    }
    wanted.retain(|nqn, _| is_ours(nqn) && nqn != LISTENER_NQN);
    let disks = plan_disks(&wanted, &target, &[]);
    if dry_run {
        let ports =
            if words.is_empty() { plan_no_ports(&exporter.addresses, &without(&target, &disks)) } else { Vec::new() };
        return print_plan(disks.into_values().flatten().chain(ports));
    }
    let mut failures = Failures::default();
    for ops in disks.values() {
        failures.extend(carry_out(&exporter.root, ops).err().iter());
    }
    if words.is_empty() {
        let target = nvmet::read(&exporter.root).map_err(ExportError::from).map_err(Failure::failed)?;
        failures.extend(carry_out(&exporter.root, &plan_no_ports(&exporter.addresses, &target)).err().iter());
    }
    failures.finish()
}

/// The target as it will be once the disks of `plan` are withdrawn.
fn without(target: &Target, plan: &BTreeMap<String, Vec<Op>>) -> Target {
    let mut target = target.clone();
    target.subsystems.retain(|nqn, _| !plan.contains_key(nqn));
    for port in target.ports.values_mut() {
        port.subsystems.retain(|nqn| !plan.contains_key(nqn));
    }
    target
}

fn print_plan(ops: impl Iterator<Item = Op>) -> Result<(), Failure> {
    let mut text = String::from("cd /sys/kernel/config/nvmet\n");
    for op in ops {
        text.push_str(&format!("{op}\n"));
    }
    print(&text)
}

/// Reports each failure and goes on; the exit status tells in the end.
#[derive(Default)]
struct Failures(usize);

impl Failures {
    fn extend<'a>(&mut self, errors: impl Iterator<Item = &'a FileError>) {
        for error in errors {
            log::error!("{}", chain(error));
            self.0 += 1;
        }
    }

    fn finish(self) -> Result<(), Failure> {
        if self.0 == 0 { Ok(()) } else { Err(Failure::failed(Incomplete::Failed(self.0))) }
    }
}

/// A disk as `list` shows it; the shape of its JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    size: u64,
    block_size: u32,
    bus: String,
    model: Option<&'a str>,
    serial: Option<&'a str>,
    firmware: Option<&'a str>,
    removable: bool,
    read_only: bool,
    state: State,
    reason: Option<String>,
    nqn: Option<&'a str>,
    uuid: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Exported,
    Waiting,
    Failed,
    Refused,
}

#[derive(Debug, Serialize)]
struct Listing<'a> {
    machine: String,
    disks: Vec<Row<'a>>,
}

fn list(exporter: &Exporter, json: bool) -> Result<(), Failure> {
    let Observation { exports, unreadable, .. } = exporter.observe().map_err(Failure::failed)?;
    for error in &unreadable {
        log::warn!("{}", chain(error));
    }
    let disks = exports.iter().filter(|export| is_shown(export)).map(|export| row(exporter, export)).collect();
    let listing = Listing { machine: exporter.machine.to_string(), disks };
    if json {
        let mut text = serde_json::to_string_pretty(&listing).map_err(Failure::failed)?;
        text.push('\n');
        print(&text)
    } else {
        print(&table(&listing))
    }
}

fn is_shown(export: &Export) -> bool {
    export.decision.as_ref().err().is_none_or(Refusal::worth_showing)
}

fn row<'a>(exporter: &Exporter, export: &'a Export) -> Row<'a> {
    let Export { disk, decision, enabled } = export;
    let (state, reason) = match decision {
        Err(refusal) => (State::Refused, Some(refusal.to_string())),
        Ok(_) if *enabled => (State::Exported, None),
        // Why the target did not take it, the disk itself can tell.
        Ok(_) => match sysfs::open_error(&exporter.root, disk) {
            Some(error) => (State::Failed, Some(reason(&error))),
            None => (State::Waiting, None),
        },
    };
    let identity = decision.as_ref().ok();
    Row {
        name: &disk.name,
        size: disk.size,
        block_size: disk.block_size,
        bus: disk.bus.to_string(),
        model: disk.model.as_deref(),
        serial: disk.serial.as_deref(),
        firmware: disk.firmware.as_deref(),
        removable: disk.removable,
        read_only: disk.read_only,
        state,
        reason,
        nqn: identity.map(|identity| identity.nqn.as_str()),
        uuid: identity.map(|identity| identity.uuid.as_str()),
    }
}

fn table(listing: &Listing<'_>) -> String {
    if listing.disks.is_empty() {
        return "No disks.\n".to_owned();
    }
    let mut rows = vec![["DISK", "SIZE", "BUS", "MODEL", "SERIAL", "STATE", "NQN OR REASON"].map(str::to_owned)];
    for disk in &listing.disks {
        let state = match disk.state {
            State::Exported => "exported",
            State::Waiting => "waiting",
            State::Failed => "failed",
            State::Refused => "refused",
        };
        rows.push([
            disk.name.to_owned(),
            human_size(disk.size),
            disk.bus.clone(),
            disk.model.unwrap_or("-").to_owned(),
            disk.serial.unwrap_or("-").to_owned(),
            state.to_owned(),
            disk.reason.as_deref().or(disk.nqn).unwrap_or("-").to_owned(),
        ]);
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Command, String> {
        parse(lexopt::Parser::from_args(words)).map_err(|error| error.to_string())
    }

    #[test]
    fn commands_are_understood() {
        assert_eq!(parsed(&["list"]), Ok(Command::List { json: false }));
        assert_eq!(parsed(&["list", "--json"]), Ok(Command::List { json: true }));
        assert_eq!(parsed(&["sync"]), Ok(Command::Sync { dry_run: false, disks: vec![] }));
        assert_eq!(
            parsed(&["sync", "--dry-run", "sda"]),
            Ok(Command::Sync { dry_run: true, disks: vec!["sda".into()] })
        );
        assert_eq!(parsed(&["remove", "--all"]), Ok(Command::Remove { dry_run: false, disks: vec![] }));
        assert_eq!(parsed(&["list", "-h"]), Ok(Command::Help));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_says_what_would() {
        for (words, error) in [
            (&[][..], "say what to do: list, sync or remove (see --help)"),
            (&["lst"], "there is no `export lst`: it is list, sync or remove"),
            (&["remove"], "name disks, or say --all, but not both"),
            (&["remove", "--all", "sda"], "name disks, or say --all, but not both"),
            (&["list", "sda"], "a disk makes no sense with `export list` (see --help)"),
            (&["sync", "--json"], "--json makes no sense with `export sync` (see --help)"),
            (&["sync", "--frob"], "invalid option '--frob'"),
        ] {
            assert_eq!(parsed(words), Err(error.to_owned()));
        }
    }

    #[test]
    fn a_list_is_a_table() {
        let row = |name, state, reason: Option<&str>, nqn| Row {
            name,
            size: 64 << 20,
            block_size: 512,
            bus: "nvme".to_owned(),
            model: Some("QEMU NVMe Ctrl"),
            serial: None,
            firmware: None,
            removable: false,
            read_only: false,
            state,
            reason: reason.map(str::to_owned),
            nqn,
            uuid: None,
        };
        let disks = vec![
            row("nvme0n1", State::Exported, None, Some("nqn.x")),
            row("sr0", State::Refused, Some("no medium"), None),
        ];
        assert_eq!(
            table(&Listing { machine: "m".to_owned(), disks }),
            "DISK     SIZE    BUS   MODEL           SERIAL  STATE     NQN OR REASON\n\
             nvme0n1  64 MiB  nvme  QEMU NVMe Ctrl  -       exported  nqn.x\n\
             sr0      64 MiB  nvme  QEMU NVMe Ctrl  -       refused   no medium\n"
        );
    }
}
