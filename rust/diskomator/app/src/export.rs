//! `diskomator export`: the same work as `hotplug`, once and by hand, and a
//! list of what is exported.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use disks::config::Config;
use disks::kind::Bus;
use disks::selection::Selection;
use kernel::error::chain;
use kernel::given;
use kernel::logger;
use kernel::process::Worker;
use kernel::root::{FileError, Root};
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;
use local::configfs;
use local::sysfs;
use nvmet::admission::Admission;
use nvmet::export::{Export, exported_access, exported_as};
use nvmet::model::{DISCOVERY_NQN, LISTENER_NQN, Subsystem, Target, disk_nqn, is_ours};
use nvmet::plan::{Op, parted_at_the_cut, plan_disks, plan_hosts, plan_keys, plan_no_hosts, plan_no_ports, plan_ports};
use nvmet::policy::Access;
use runtime::{AppletError, Failure, level_filter, print};
use settings::Product;

use crate::admission;
use crate::exporter::{ExportError, Exporter, Observation, carry_out, carry_out_or_undo};
use crate::listing::list;
use crate::secret;

const USAGE: &str = "\
Usage: diskomator export list [--json]
       diskomator export sync [--dry-run] [DISK...]
       diskomator export remove [--dry-run] {--all | DISK...}
       diskomator export {readonly | readwrite} DISK...

Exports local disks over NVMe/TCP, on the ports 4420 (I/O) and 8009
(discovery) of every address, to the hosts that are admitted (see
`diskomator help access`). Works on any Linux with the kernel's NVMe target
(modules nvmet and nvmet-tcp, configfs mounted); needs root.

Commands:
  list        show every disk, and what it is exported as or why it is not
  sync        export the disks named, or all; disks that are gone are withdrawn.
              This is an explicit command, so it exports them also where
              the setting `diskomator.export=none` keeps `diskomator hotplug`
              from doing so, which then leaves them exported
  remove      withdraw the disks named, or with --all every one and the ports;
              hosts are told that the disk is gone. Where `diskomator hotplug`
              runs, it exports them again at the next event, unless the setting
              is `diskomator.export=none`
  readonly    have hosts only read the disks named, from now on until the machine
              is restarted or `readwrite` is said; they see the disk go and come
              back protected
  readwrite   take that back. A disk that cannot be written to, or is read-only
              by `diskomator.readonly`, stays so

DISK is a kernel name such as sda, with or without /dev/, or an NQN.

Options:
  --json      list as JSON, see below
  --dry-run   print what would be done, as shell commands, and do nothing
  --diskseq N do nothing unless DISK, one only, is the disk with this number in
              /sys/block/DISK/diskseq: the kernel gives names to other disks
  -h, --help  show this text

List:
  STATE is one of
    exported   admitted hosts can read and write the disk
    read-only  they can only read it: it can't be written to, or the setting
               `diskomator.readonly` says so
    passthru   hosts have its controller, because the setting
               `diskomator.passthru` says so
    empty      a drive with no medium; hosts can connect to it and see one
               that is put in
    hung       exported, and has finished no request for two seconds though
               some are under way
    waiting    about to be exported, or the disk has not answered yet
    failed     could not be exported, or does not answer; see the reason, and
               dmesg. It is tried again
    refused    is not exported, for the reason given
  HOSTS is how many hosts are connected, also those that may only read. READ and
  WRITTEN count what was read and written since the disk appeared, by hosts or by
  this machine.

  As JSON: {\"machine\", \"disks\": [{\"name\", \"size\", \"block_size\" (bytes),
  \"bus\" (BUSES), \"model\",
  \"serial\", \"firmware\", \"removable\", \"boot\" (this machine was started from
  it), \"state\" (as above), \"read_only\" (hosts can only read), \"reason\",
  \"nqn\", \"uuid\", \"hosts\": [{\"nqn\", \"address\", \"read_only\" (it may only
  read)}], \"bytes_read\", \"bytes_written\"}]}. Absent values are null.

Exit status: 0 done, 1 something could not be done, 2 wrong usage.
";

/// The place of the buses in the text.
const BUSES: &str = "BUSES";

/// How long a command waits for a disk. The machine's shutdown waits for
/// the command.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long a host may take to read the list of namespaces after the event that it
/// has changed. A host that is cut off before that goes on waiting for its disks.
const LOOKING: Duration = Duration::from_secs(1);

/// How long a host with a discovery connection may take to read the empty discovery
/// log and to disconnect from its disks. A service in Python does that, as nvme-stas,
/// and on a busy host it takes more than a second.
const FOLLOWING: Duration = Duration::from_secs(4);

/// How often it looks whether work is done.
const POLL: Duration = Duration::from_millis(10);

/// Runs the applet.
pub(crate) fn run(args: lexopt::Parser) -> Result<(), Failure> {
    let root = Root::default();
    let config: Config = given::read(&root).0.config;
    secret::enter();
    logger::init(format!("{}-export", Config::NAME), level_filter(config.system.log), false);
    let nobody = || {};
    match parse(args)? {
        Command::Help => print(&USAGE.replace(BUSES, &Bus::keywords())),
        Command::List { json } => list(&mut Exporter::new(root, config, nobody), json),
        Command::Sync { dry_run: true, disks } => {
            sync_dry_run(&mut Exporter::new(root, explicit(config, &disks.words), nobody), &disks)
        }
        Command::Sync { dry_run: false, disks } => {
            Ok(sync(&mut Exporter::prepare(root, explicit(config, &disks.words), nobody), &disks)?)
        }
        Command::Remove { dry_run, disks } => {
            remove(&Exporter::new(root, explicit(config, &disks.words), nobody), &disks, dry_run)
        }
        Command::Protect { access, disks } => Ok(protect(&mut Exporter::new(root, config, nobody), &disks, access)?),
    }
}

/// The setting is for exports without a command. A command is meant, and a disk that
/// it names is exported whatever the setting says of it.
fn explicit(config: Config, words: &[String]) -> Config {
    let named = words.iter().filter_map(|word| word.parse::<Selection>().ok());
    let list: Vec<String> = ["all".to_owned()].into_iter().chain(named.map(|word| word.to_string())).collect();
    Config { export: list.join(",").parse().unwrap_or_else(|_| Selection::all()), ..config }
}

/// The disks that are meant, as a person types them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    words: Vec<String>,
    /// The number of the one that there is.
    diskseq: Option<u64>,
}

impl Named {
    /// The disk that `word` means. Its name alone may be another one's by now.
    fn find<'a>(&self, exports: &'a [Export], word: &str) -> Result<&'a Export, Incomplete> {
        let found = exports.iter().find(|export| is_called(export, word));
        let export = found.ok_or_else(|| Incomplete::NoSuchDisk(word.to_owned()))?;
        match self.diskseq {
            Some(diskseq) if diskseq != export.disk.diskseq => {
                Err(Incomplete::OtherDisk { disk: word.to_owned(), diskseq })
            }
            _ => Ok(export),
        }
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
        disks: Named,
    },
    /// No disk means all.
    Remove {
        dry_run: bool,
        disks: Named,
    },
    Protect {
        access: Access,
        disks: Named,
    },
}

fn parse(mut args: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut verb, mut disks, mut diskseq) = (None, Vec::new(), None);
    let (mut json, mut dry_run, mut all) = (false, false, false);
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("json") => json = true,
            Long("dry-run") => dry_run = true,
            Long("all") => all = true,
            Long("diskseq") => diskseq = Some(args.value()?.parse()?),
            Value(word) if verb.is_none() => verb = Some(word.to_string_lossy().into_owned()),
            Value(word) => disks.push(word.to_string_lossy().into_owned()),
            other => return Err(other.unexpected()),
        }
    }
    let verb = verb.ok_or("say what to do: list, sync, remove, readonly or readwrite (see --help)")?;
    let wrong = |option: &str| Err(format!("{option} makes no sense with `export {verb}` (see --help)").into());
    let named = |words| Named { words, diskseq };
    match verb.as_str() {
        _ if diskseq.is_some() && disks.len() != 1 => Err("--diskseq is about one disk: name that, too".into()),
        "list" | "readonly" | "readwrite" if dry_run => wrong("--dry-run"),
        "list" if !disks.is_empty() => wrong("a disk"),
        "list" | "sync" | "readonly" | "readwrite" if all => wrong("--all"),
        "sync" | "remove" | "readonly" | "readwrite" if json => wrong("--json"),
        "list" => Ok(Command::List { json }),
        "sync" => Ok(Command::Sync { dry_run, disks: named(disks) }),
        "remove" if all != disks.is_empty() => Err("name disks, or say --all, but not both".into()),
        "remove" => Ok(Command::Remove { dry_run, disks: named(disks) }),
        "readonly" | "readwrite" if disks.is_empty() => {
            Err(format!("say of which disks: export {verb} DISK...").into())
        }
        "readonly" => Ok(Command::Protect { access: Access::ReadOnly, disks: named(disks) }),
        "readwrite" => Ok(Command::Protect { access: Access::ReadWrite, disks: named(disks) }),
        _ => Err(format!("there is no `export {verb}`: it is list, sync, remove, readonly or readwrite").into()),
    }
}

/// Why a command did not do all that was asked.
#[derive(Debug, thiserror::Error)]
enum Incomplete {
    #[error("no disk is called {0}; `diskomator export list` shows those there are")]
    NoSuchDisk(String),
    #[error("nothing was done: {disk} is not the disk with the diskseq {diskseq} any more")]
    OtherDisk { disk: String, diskseq: u64 },
    #[error("{disk} cannot be exported: {reason}")]
    Refused { disk: String, reason: String },
    #[error("{0} stays read-only: it cannot be written to, or the setting diskomator.readonly says so")]
    StaysReadOnly(String),
    #[error("{0} is passed through with its controller, which knows no such protection")]
    PassedThrough(String),
    #[error("{disk} is not exported as it should be after {seconds} seconds; see dmesg")]
    NoChange { disk: String, seconds: u64 },
    #[error("{0} failed, as reported above")]
    Failed(usize),
    #[error(transparent)]
    Export(#[from] ExportError),
}

impl AppletError for Incomplete {}

/// Whether `word`, as a person types it, means this disk.
fn is_called(export: &Export, word: &str) -> bool {
    word.strip_prefix("/dev/").unwrap_or(word) == export.disk.name || export.nqn() == Some(word)
}

/// Whether each of the disks that are named can be exported.
fn check(exports: &[Export], disks: &Named) -> Result<(), Incomplete> {
    for word in &disks.words {
        let export = disks.find(exports, word)?;
        if let Err(refusal) = &export.decision {
            return Err(Incomplete::Refused { disk: export.disk.label(), reason: refusal.to_string() });
        }
    }
    Ok(())
}

/// The subsystems, of those that all disks ask for, that are to be there after a sync: those of the disks that are
/// named and, as it is with all, nothing else is changed for the others.
fn chosen(
    mut wanted: BTreeMap<String, Subsystem>,
    exports: &[Export],
    words: &[String],
) -> BTreeMap<String, Subsystem> {
    let named = |nqn: &str| {
        exports.iter().any(|export| {
            export.nqn() == Some(disk_nqn(nqn)) && (export.enabled || words.iter().any(|word| is_called(export, word)))
        })
    };
    wanted.retain(|nqn, _| words.is_empty() || named(nqn));
    wanted
}

fn sync_dry_run(exporter: &mut Exporter, disks: &Named) -> Result<(), Failure> {
    exporter.ask_all()?;
    let Observation { exports, target, .. } = exporter.observe()?;
    check(&exports, disks)?;
    let admission::Hosts { admission, keys } = admission::current(&exporter.root, &exporter.config);
    let wanted = chosen(exporter.desired(&exports, &admission), &exports, &disks.words);
    let plan = plan_ports(&exporter.addresses, &target);
    let ports: Vec<_> = plan.ports.iter().map(|(id, _)| *id).collect();
    let hosts = plan_hosts(&admission, &target);
    let disks = plan_disks(&wanted, &target, &ports);
    let ops = plan.listener.into_iter().chain(plan.ports.into_iter().flat_map(|(_, ops)| ops));
    let ops = ops.chain(hosts.make.into_iter().map(|(_, op)| op));
    let ops =
        ops.chain(plan_keys(&keys, &target).into_iter().flat_map(|(_, ops)| ops)).chain(disks.into_values().flatten());
    print_plan(ops.chain(hosts.remove))
}

fn sync(exporter: &mut Exporter, disks: &Named) -> Result<(), Incomplete> {
    exporter.ask_all()?;
    let Observation { exports, mut target, unreadable, .. } = exporter.observe()?;
    check(&exports, disks)?;
    let (ports, unusable) = exporter.listen(&target)?;
    let unlinked = sysfs::link_by_diskseq(&exporter.root, exports.iter().map(|export| &export.disk));
    let hosts = admission::current(&exporter.root, &exporter.config);
    let (admission, homeless) = exporter.prepare_hosts(hosts, &mut target);
    let wanted = chosen(exporter.desired(&exports, &admission), &exports, &disks.words);
    let mut failures = Failures::default();
    failures.extend(unreadable.iter().chain(&unusable).chain(&unlinked).chain(&homeless));
    let root = exporter.root.clone();
    failures.each(plan_disks(&wanted, &target, &ports), move |nqn, ops| {
        if wanted.contains_key(nqn) { carry_out_or_undo(&root, nqn, ops) } else { carry_out(&root, ops) }
    });
    failures.extend(carry_out(&exporter.root, &plan_hosts(&admission, &target).remove).err().iter());
    failures.finish()
}

/// The kernel's own mark on the device says it, so that it holds whatever becomes
/// of this program or `diskomator hotplug`.
fn protect(exporter: &mut Exporter, named: &Named, access: Access) -> Result<(), Incomplete> {
    exporter.ask_all()?;
    let before = exporter.observe()?;
    let mut disks = BTreeMap::new();
    for word in &named.words {
        let export = named.find(&before.exports, word)?;
        if exported_access(&before.target, &export.disk) == Some(Access::Passthru) {
            return Err(Incomplete::PassedThrough(export.disk.label()));
        }
        disks.insert(export.disk.name.clone(), export.disk.clone());
    }
    let mut failures = Failures::default();
    let (root, marked) = (exporter.root.clone(), disks.clone());
    failures.each(disks.keys().map(|name| (name.clone(), Vec::new())).collect(), move |name, _| {
        marked.get(name).map_or(Ok(()), |disk| sysfs::set_read_only(&root, disk, access == Access::ReadOnly))
    });
    failures.finish()?;

    let until = Instant::now() + PATIENCE;
    loop {
        exporter.ask_all()?;
        let now = exporter.observe()?;
        let is_meant =
            |export: &Export| disks.get(&export.disk.name).is_some_and(|disk| disk.diskseq == export.disk.diskseq);
        let exported = now.exports.iter().filter(|export| export.enabled && is_meant(export));
        let granted = |export: &Export| export.decision.as_ref().ok().map(|grant| grant.access);
        let (done, left): (Vec<&Export>, Vec<&Export>) =
            exported.partition(|export| exported_access(&now.target, &export.disk) == granted(export));
        let Some(first) = left.first() else {
            return match done.into_iter().find(|export| granted(export) != Some(access)) {
                Some(export) => Err(Incomplete::StaysReadOnly(export.disk.label())),
                None => Ok(()),
            };
        };
        if Instant::now() >= until {
            return Err(Incomplete::NoChange { disk: first.disk.label(), seconds: PATIENCE.as_secs() });
        }
        // It has heard of it from the kernel.
        if sysfs::is_running(&exporter.root, "hotplug") {
            sleep(POLL * 10);
        } else {
            let words = left.iter().map(|export| export.disk.name.clone()).collect();
            sync(exporter, &Named { words, diskseq: None })?;
        }
    }
}

fn remove(exporter: &Exporter, disks: &Named, dry_run: bool) -> Result<(), Failure> {
    // Withdrawing a disk takes no answer of it.
    let Observation { exports, target, .. } = exporter.observe()?;
    let (mut wanted, words) = (BTreeMap::new(), &disks.words);
    if !words.is_empty() {
        for word in words {
            match disks.find(&exports, word) {
                // A subsystem that is still exported, though its disk is gone.
                Err(Incomplete::NoSuchDisk(_)) if target.subsystems.contains_key(word) && disks.diskseq.is_none() => {}
                found => drop(found?),
            }
        }
        // Also a disk that would not be exported today.
        let is_disk_of = |export: &Export, nqn: &str| {
            let now = exported_as(&target, &export.disk);
            now.map(|identity| identity.nqn).as_deref().or(export.nqn()) == Some(disk_nqn(nqn))
        };
        // A disk with its read-only subsystem, or that alone.
        let named = |nqn: &String| {
            words.iter().any(|word| {
                word == nqn
                    || word == disk_nqn(nqn)
                    || exports.iter().any(|export| is_called(export, word) && is_disk_of(export, nqn))
            })
        };
        // Subsystems that are not named stay exactly as they are.
        wanted.extend(target.subsystems.iter().filter(|(nqn, _)| !named(nqn)).map(|(n, s)| (n.clone(), s.clone())));
    }
    wanted.retain(|nqn, _| is_ours(nqn) && nqn != LISTENER_NQN);
    let shut = if words.is_empty() { plan_no_hosts(&target) } else { Vec::new() };
    let target = if words.is_empty() { without_hosts(target) } else { target };
    let disks = plan_disks(&wanted, &target, &[]);
    // Where everyone is admitted, no host has a directory of ours.
    let is_about_hosts =
        words.is_empty() && admission::current(&exporter.root, &exporter.config).admission != Admission::Everyone;
    let hosts = if is_about_hosts { plan_hosts(&Admission::nobody(), &target).remove } else { Vec::new() };
    if dry_run {
        let ports =
            if words.is_empty() { plan_no_ports(&exporter.addresses, &without(&target, &disks)) } else { Vec::new() };
        return print_plan(shut.into_iter().chain(disks.into_values().flatten()).chain(ports).chain(hosts));
    }
    let mut failures = Failures::default();
    failures.extend(carry_out(&exporter.root, &shut).err().iter());
    // From here on the discovery log is empty, and hosts are told so.
    let told = Instant::now();
    let is_followed = !shut.is_empty() && configfs::has_hosts(&exporter.root, DISCOVERY_NQN);
    let patience = if is_followed { FOLLOWING } else { LOOKING };
    let (root, was) = (exporter.root.clone(), target.clone());
    failures.each(disks, move |nqn, ops| {
        let (tell, cut_off) = parted_at_the_cut(ops);
        carry_out(&root, tell)?;
        let told = Instant::now();
        // No host can write any more. Data that was written must outlast a power cut.
        for namespace in was.subsystems.get(nqn).into_iter().flat_map(|subsystem| subsystem.namespaces.values()) {
            if let Err(error) = sysfs::flush(&root, &namespace.device_path) {
                log::debug!("{} is not flushed: {error}", namespace.device_path);
            }
        }
        let_look(&root, nqn, told + patience);
        carry_out(&root, cut_off)
    });
    if words.is_empty() {
        if !shut.is_empty() {
            let_look(&exporter.root, DISCOVERY_NQN, told + LOOKING);
        }
        let target = configfs::read(&exporter.root).map_err(ExportError::from)?;
        failures.extend(carry_out(&exporter.root, &plan_no_ports(&exporter.addresses, &target)).err().iter());
        failures.extend(carry_out(&exporter.root, &hosts).err().iter());
    }
    Ok(failures.finish()?)
}

/// Waits for the hosts that are connected to `nqn` to disconnect, `until` then at most.
fn let_look(root: &Root, nqn: &str, until: Instant) {
    while Instant::now() < until && configfs::has_hosts(root, nqn) {
        sleep(POLL * 5);
    }
}

/// The target as it will be once our subsystems let no host in.
fn without_hosts(mut target: Target) -> Target {
    for (_, subsystem) in target.subsystems.iter_mut().filter(|(nqn, _)| is_ours(nqn)) {
        subsystem.allow_any_host = false;
        subsystem.allowed_hosts.clear();
    }
    target
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

    /// Carries out each plan in a process of its own: a disk that hangs holds up
    /// no other, and is given up waiting for in the end.
    fn each(&mut self, plans: BTreeMap<String, Vec<Op>>, work: impl Fn(&str, &[Op]) -> Result<(), FileError>) {
        let mut workers = Vec::new();
        for (nqn, ops) in plans {
            let work = || work(&nqn, &ops).inspect_err(|error| log::error!("{}", chain(error))).is_ok();
            match Worker::start(work) {
                Ok(worker) => workers.push((nqn, worker)),
                Err(error) => {
                    log::error!("{nqn}: cannot start a process: {error}");
                    self.0 += 1;
                }
            }
        }
        let until = Instant::now() + PATIENCE;
        loop {
            workers.retain(|(_, worker)| match worker.outcome() {
                Ok(None) => true,
                Ok(Some(true)) => false,
                Ok(Some(false)) | Err(_) => {
                    self.0 += 1;
                    false
                }
            });
            if workers.is_empty() || Instant::now() >= until {
                break;
            }
            sleep(POLL);
        }
        for (nqn, _) in workers {
            log::error!("{nqn}: its disk does not answer; given up after {} seconds", PATIENCE.as_secs());
            self.0 += 1;
        }
    }

    fn finish(self) -> Result<(), Incomplete> {
        if self.0 == 0 { Ok(()) } else { Err(Incomplete::Failed(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use disks::disk::{Attributes, Disk};
    use nvmet::export::Grant;
    use nvmet::identity::Identity;
    use nvmet::policy::Refusal;

    use super::*;

    fn parsed(words: &[&str]) -> Result<Command, String> {
        parse(lexopt::Parser::from_args(words)).map_err(|error| error.to_string())
    }

    fn sda(diskseq: Option<u64>) -> Named {
        Named { words: vec!["sda".to_owned()], diskseq }
    }

    #[test]
    fn a_disk_that_took_the_name_of_the_one_that_was_meant_is_left_alone() {
        let disk = Disk::new(Attributes { name: "sda".into(), diskseq: Some(9), ..Attributes::default() });
        let exports = [Export { disk, decision: Err(Refusal::Awaited), enabled: false, has_twin: false }];
        assert!(sda(Some(9)).find(&exports, "sda").is_ok() && sda(None).find(&exports, "/dev/sda").is_ok());
        assert!(matches!(
            sda(Some(8)).find(&exports, "sda"),
            Err(Incomplete::OtherDisk { disk, diskseq: 8 }) if disk == "sda"
        ));
        assert!(matches!(sda(Some(9)).find(&exports, "sdb"), Err(Incomplete::NoSuchDisk(_))));
    }

    #[test]
    fn a_disk_that_is_chosen_comes_with_its_read_only_subsystem_and_others_stay() {
        let export = |name: &str, enabled| {
            let text = |text: &str| text.to_owned();
            let disk = Disk::new(Attributes { name: name.into(), sectors: 8, ..Attributes::default() });
            let identity = Identity {
                nqn: format!("nqn.{name}"),
                nsid: 1,
                uuid: text(""),
                nguid: text(""),
                serial: text("1"),
                model: text("m"),
                firmware: text("1"),
            };
            let decision = Ok(Grant { identity, access: Access::ReadWrite });
            Export { disk, decision, enabled, has_twin: false }
        };
        let exports = [export("sda", false), export("sdb", true), export("sdc", false)];
        let readers = ["host".to_owned()].into();
        let admission = Admission::Hosts { read_write: BTreeSet::new(), read_only: readers, denied: BTreeSet::new() };
        let all = nvmet::export::desired(&exports, &admission, |_| 1);
        assert_eq!(all.len(), 6);
        let named = chosen(all.clone(), &exports, &["sda".to_owned()]);
        assert_eq!(named.keys().collect::<Vec<_>>(), ["nqn.sda", "nqn.sda:read-only", "nqn.sdb", "nqn.sdb:read-only"]);
        assert_eq!(chosen(all.clone(), &exports, &[]), all);
    }

    #[test]
    fn commands_are_understood() {
        assert_eq!(
            parsed(&["remove", "sda", "--diskseq", "7"]),
            Ok(Command::Remove { dry_run: false, disks: sda(Some(7)) })
        );
        assert_eq!(parsed(&["list"]), Ok(Command::List { json: false }));
        assert_eq!(parsed(&["list", "--json"]), Ok(Command::List { json: true }));
        assert_eq!(parsed(&["sync"]), Ok(Command::Sync { dry_run: false, disks: Named::default() }));
        assert_eq!(parsed(&["sync", "--dry-run", "sda"]), Ok(Command::Sync { dry_run: true, disks: sda(None) }));
        assert_eq!(parsed(&["remove", "--all"]), Ok(Command::Remove { dry_run: false, disks: Named::default() }));
        assert_eq!(parsed(&["readonly", "sda"]), Ok(Command::Protect { access: Access::ReadOnly, disks: sda(None) }));
        assert_eq!(parsed(&["list", "-h"]), Ok(Command::Help));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_says_what_would() {
        for (words, error) in [
            (&[][..], "say what to do: list, sync, remove, readonly or readwrite (see --help)"),
            (&["lst"], "there is no `export lst`: it is list, sync, remove, readonly or readwrite"),
            (&["readonly"], "say of which disks: export readonly DISK..."),
            (&["readwrite", "--dry-run", "sda"], "--dry-run makes no sense with `export readwrite` (see --help)"),
            (&["remove"], "name disks, or say --all, but not both"),
            (&["remove", "--all", "sda"], "name disks, or say --all, but not both"),
            (&["list", "sda"], "a disk makes no sense with `export list` (see --help)"),
            (&["sync", "--json"], "--json makes no sense with `export sync` (see --help)"),
            (&["remove", "--diskseq", "7", "sda", "sdb"], "--diskseq is about one disk: name that, too"),
            (&["remove", "--all", "--diskseq", "7"], "--diskseq is about one disk: name that, too"),
            (&["sync", "--frob"], "invalid option '--frob'"),
        ] {
            assert_eq!(parsed(words), Err(error.to_owned()));
        }
    }
}
