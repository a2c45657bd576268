//! `diskomator boot`: the machine's next start is from a disk, once.

use daemons::power::{self, PowerError};
use disks::config::Config;
use efi::{DEFAULT_LOADER, Firmware, NoPlan, Plan, is_boot_variable, variable};
use kernel::efi::{NoVariables, Variables, Writable};
use kernel::root::{FileError, Root};
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;
use local::configfs;
use local::esp::{self, EspError};
use local::sysfs;
use nvmet::model::{Host, is_ours};
use runtime::{AppletError, Failure, print};

const USAGE: &str = "\
Usage: diskomator boot [--dry-run] [--force] [--diskseq N] DISK
       diskomator boot --forget

Restarts this machine from a disk, once: the firmware is told to start the
disk's EFI system partition next, hosts are told that the disks are gone, disks
write what they hold in their caches, and the machine restarts. What it starts
from after that is said; it is Diskomator only if that comes first in the
firmware's order.

An entry of the firmware's boot menu that leads to the disk's EFI system
partition is used. Where there is none, one is made for the file that firmware
looks for by itself (EFI/BOOT/BOOTX64.EFI or the like); it is in no order, and
is removed when Diskomator is next up. Nothing is written to the disk.

Nothing is done while hosts are connected, where the disk has no EFI system
partition, or where the firmware keeps no variables (a BIOS).

Options:
  --dry-run    say what would be done, and do nothing
  --force      also while hosts are connected; they lose their disks
  --diskseq N  only if DISK is the disk that has this number in
               /sys/block/DISK/diskseq
  --forget     remove the entry that an earlier `boot` has made, and do nothing
               else; each start of Diskomator does that
  -h, --help   this text

DISK is the kernel name of a whole disk such as sda, with or without /dev/.

Exit status: 0 it is going to restart (with --dry-run: it would), 1 it is not,
2 wrong usage.
";

/// Why the machine goes on as it is.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("there is no whole disk {0}; `diskomator export list` shows those there are")]
    NoSuchDisk(String),
    #[error("nothing was done: {disk} is not the disk with the diskseq {diskseq} any more")]
    OtherDisk { disk: String, diskseq: u64 },
    #[error("this machine cannot be told to start from {disk}; choose the disk in the firmware's own boot menu")]
    NoVariables { disk: String, source: NoVariables },
    #[error("cannot look for an EFI system partition on {disk}")]
    Look { disk: String, source: EspError },
    #[error(
        "firmware cannot start from {disk}; install a system there for UEFI, with a GPT that has a partition of the type \"EFI system\""
    )]
    NoPlan { disk: String, source: NoPlan },
    #[error("{} connected and would lose their disks: {}; disconnect there, or use --force", count(.0.len()), names(.0))]
    Connected(Vec<Host>),
    #[error("cannot look which hosts are connected")]
    Hosts(#[from] FileError),
    #[error("the machine does not restart")]
    Power(#[from] PowerError),
    #[error("the firmware did not take {variable}; nothing was disconnected")]
    Write { variable: String, source: FileError },
    #[error("the firmware has {variable} otherwise than it was written; nothing was disconnected")]
    NotKept { variable: String },
}

impl AppletError for BootError {}

fn count(hosts: usize) -> String {
    if hosts == 1 { "one host is".to_owned() } else { format!("{hosts} hosts are") }
}

fn names(hosts: &[Host]) -> String {
    let name = |host: &Host| host.address.clone().unwrap_or_else(|| host.nqn.escape_default().to_string());
    hosts.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Why a former entry is still there.
#[derive(Debug, thiserror::Error)]
enum ForgetError {
    #[error("cannot remove the boot entry of an earlier `boot`")]
    NoVariables(#[source] NoVariables),
    #[error("cannot remove the boot entry of an earlier `boot`")]
    Remove(#[source] FileError),
}

impl AppletError for ForgetError {}

#[derive(Debug, PartialEq, Eq)]
enum Arguments {
    Help,
    Forget,
    Boot { disk: String, diskseq: Option<u64>, is_dry: bool, is_forced: bool },
}

/// Runs the applet.
pub(crate) fn run(args: lexopt::Parser) -> Result<(), Failure> {
    let root = Root::default();
    match parse(args)? {
        Arguments::Help => print(USAGE),
        Arguments::Forget => Ok(forget(&root)?),
        Arguments::Boot { disk, diskseq, is_dry, is_forced } => {
            // The order: all that can be refused, before anything changes.
            let prepared = prepare(&root, &disk, diskseq)?;
            let hosts = hosts(&root)?;
            if !hosts.is_empty() && !is_forced {
                return Err(BootError::Connected(hosts).into());
            }
            let text = text(&disk, &prepared.plan, &prepared.firmware);
            if is_dry {
                return print(&format!("{text}Nothing was done: this was a dry run.\n"));
            }
            check_power()?;
            write(&disk, &prepared)?;
            let outcome = print(&text).and_then(|()| Ok(restart()?));
            if outcome.is_err() {
                take_back(&prepared);
            }
            outcome
        }
    }
}

fn parse(mut args: lexopt::Parser) -> Result<Arguments, lexopt::Error> {
    let (mut disk, mut diskseq, mut is_dry, mut is_forced, mut is_forget) = (None, None, false, false, false);
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Arguments::Help),
            Long("dry-run") => is_dry = true,
            Long("force") => is_forced = true,
            Long("forget") => is_forget = true,
            Long("diskseq") => diskseq = Some(args.value()?.parse()?),
            Value(word) if disk.is_none() => disk = Some(word.to_string_lossy().into_owned()),
            other => return Err(other.unexpected()),
        }
    }
    match disk {
        Some(_) if is_forget => Err("--forget goes with no disk (see --help)".into()),
        None if is_forget => Ok(Arguments::Forget),
        None => Err("say which disk: boot DISK (see --help)".into()),
        Some(disk) => {
            let disk = disk.strip_prefix("/dev/").unwrap_or(&disk).to_owned();
            Ok(Arguments::Boot { disk, diskseq, is_dry, is_forced })
        }
    }
}

/// What was found, before anything changes.
struct Prepared {
    variables: Variables,
    firmware: Firmware,
    plan: Plan,
}

fn prepare(root: &Root, name: &str, diskseq: Option<u64>) -> Result<Prepared, BootError> {
    let fail = |source| BootError::NoVariables { disk: name.to_owned(), source };
    if name.contains('/') || name.starts_with('.') || !root.exists(format!("sys/block/{name}")) {
        return Err(BootError::NoSuchDisk(name.to_owned()));
    }
    let disk = sysfs::disk(root, name).map_err(|_| BootError::NoSuchDisk(name.to_owned()))?;
    if let Some(diskseq) = diskseq.filter(|diskseq| *diskseq != disk.diskseq) {
        return Err(BootError::OtherDisk { disk: name.to_owned(), diskseq });
    }
    let (variables, firmware) = firmware(root).map_err(fail)?;
    let esps = match esp::esps(root, &disk) {
        Ok(esps) => esps,
        // The plan says what to do about it.
        Err(EspError::Table(efi::TableError::None)) => Vec::new(),
        Err(source) => return Err(BootError::Look { disk: name.to_owned(), source }),
    };
    let plan = firmware.plan(&esps, DEFAULT_LOADER);
    let plan = plan.map_err(|source| BootError::NoPlan { disk: name.to_owned(), source })?;
    Ok(Prepared { variables, firmware, plan })
}

/// The firmware's variables about starting.
pub(crate) fn firmware(root: &Root) -> Result<(Variables, Firmware), NoVariables> {
    let variables = Variables::open(root)?;
    let found = variables.read_all(is_boot_variable)?;
    let firmware = Firmware::new(found.iter().map(|(name, content)| (name.as_str(), content.as_slice())));
    Ok((variables, firmware))
}

/// The hosts that use a disk, each once.
fn hosts(root: &Root) -> Result<Vec<Host>, BootError> {
    let ours = configfs::all_controllers(root)?.into_iter().filter(|(nqn, _)| is_ours(nqn));
    Ok(configfs::hosts_of(&ours.map(|(_, controller)| controller).collect::<Vec<_>>()))
}

fn check_power() -> Result<(), BootError> {
    Ok(power::check_init::<Config>()?)
}

fn restart() -> Result<(), BootError> {
    Ok(power::restart::<Config>()?)
}

/// What happens, for a person.
fn text(disk: &str, plan: &Plan, firmware: &Firmware) -> String {
    let Plan { entry, new, file, partition, is_current } = plan;
    let file = file
        .as_ref()
        .map_or_else(String::new, |file| format!("{}, ", file.escape_default().to_string().replace("\\\\", "\\")));
    let new = if new.is_some() { ", a new entry that Diskomator removes when it is next up" } else { "" };
    let current =
        if *is_current { " This machine was started by that entry, so it may start Diskomator again." } else { "" };
    format!(
        "The next start is from {disk}: {file}partition {} ({entry}{new}).{current}\n{}\n",
        partition.number,
        firmware.after()
    )
}

/// Tells the firmware, and looks whether it has understood.
fn write(disk: &str, prepared: &Prepared) -> Result<(), BootError> {
    let Prepared { variables, plan, .. } = prepared;
    let writable = variables.writable();
    let writable = writable.map_err(|source| BootError::NoVariables { disk: disk.to_owned(), source })?;
    let name = variable(plan.entry.number);
    let attempt = || {
        if let Some(new) = &plan.new {
            set(variables, &writable, &name, new)?;
        }
        set(variables, &writable, "BootNext", &plan.entry.number.to_le_bytes())
    };
    let outcome = attempt();
    if outcome.is_err() {
        remove(&writable, plan);
    }
    outcome
}

/// Removes what [`write`] has written: half done, or without the restart, it would lead some later start astray.
fn take_back(prepared: &Prepared) {
    if let Ok(writable) = prepared.variables.writable() {
        remove(&writable, &prepared.plan);
    }
}

fn remove(writable: &Writable<'_>, plan: &Plan) {
    let _ = writable.remove("BootNext");
    if plan.new.is_some() {
        let _ = writable.remove(&variable(plan.entry.number));
    }
}

fn set(variables: &Variables, writable: &Writable<'_>, name: &str, content: &[u8]) -> Result<(), BootError> {
    let fail = |source| BootError::Write { variable: name.to_owned(), source };
    writable.write(name, content).map_err(fail)?;
    if variables.read(name).map_err(fail)? == content {
        Ok(())
    } else {
        Err(BootError::NotKept { variable: name.to_owned() })
    }
}

/// Removes what an earlier `boot` has left. Where there are no variables, there is nothing to remove.
fn forget(root: &Root) -> Result<(), ForgetError> {
    let (variables, firmware) = match firmware(root) {
        Ok(found) => found,
        Err(NoVariables::NoFirmware | NoVariables::NotShown(_)) => return Ok(()),
        Err(error) => return Err(ForgetError::NoVariables(error)),
    };
    let ours = firmware.ours();
    if ours.is_empty() {
        return Ok(());
    }
    let writable = variables.writable().map_err(ForgetError::NoVariables)?;
    // Firmware that did not heed it would do so some other time.
    if firmware.next.is_some_and(|next| ours.contains(&next)) {
        writable.remove("BootNext").map_err(ForgetError::Remove)?;
    }
    for number in ours {
        writable.remove(&variable(number)).map_err(ForgetError::Remove)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kernel::error::chain;

    use super::*;

    #[test]
    fn the_disk_and_the_options_are_understood() {
        let parsed = |words: &[&str]| parse(lexopt::Parser::from_args(words)).map_err(|error| error.to_string());
        let boot = |diskseq, is_dry, is_forced| Arguments::Boot { disk: "sda".to_owned(), diskseq, is_dry, is_forced };
        assert_eq!(parsed(&["/dev/sda", "--diskseq", "7"]), Ok(boot(Some(7), false, false)));
        assert_eq!(parsed(&["--dry-run", "--force", "sda"]), Ok(boot(None, true, true)));
        assert_eq!(parsed(&["--forget"]), Ok(Arguments::Forget));
        assert_eq!(parsed(&["-h"]), Ok(Arguments::Help));
        for wrong in [&[][..], &["sda", "sdb"], &["--forget", "sda"], &["--once", "sda"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
        assert!(USAGE.lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path());
        let refused = |disk: &str| chain(&prepare(&root, disk, None).map(|_| ()).unwrap_err());
        for none in ["sda", "../sda", "."] {
            assert!(refused(none).starts_with(&format!("there is no whole disk {none};")));
        }
        let host = |address: &str| Host { nqn: "nqn.h".to_owned(), address: Some(address.to_owned()) };
        assert_eq!(
            BootError::Connected(vec![host("192.0.2.1"), host("192.0.2.2")]).to_string(),
            "2 hosts are connected and would lose their disks: 192.0.2.1, 192.0.2.2; disconnect there, or use --force"
        );
        let error = BootError::NoVariables { disk: "sda".to_owned(), source: NoVariables::NoFirmware };
        assert!(chain(&error).contains("started without UEFI"), "{}", chain(&error));
        let error = BootError::NoPlan { disk: "sda".to_owned(), source: NoPlan::NoPartition };
        assert!(chain(&error).ends_with("it has no EFI system partition"));
        // A machine without UEFI has nothing to forget.
        forget(&root).unwrap();
    }
}
