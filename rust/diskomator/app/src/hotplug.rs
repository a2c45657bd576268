//! `diskomator hotplug`: exports each disk as it appears and withdraws each
//! that goes away, until stopped.
//!
//! It keeps nothing that it could not find out again: after a kill, the next
//! one looks at the kernel, plans, and goes on. What it remembers is only what
//! it has already said, and when to try a failed disk again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use disks::config::Config;
use disks::disk::Disk;
use kernel::error::chain;
use kernel::root::{FileError, Root};
use kernel::uevent::{Received, UeventSocket};
use local::configfs;
use local::sysfs;
use mio::{Events, Interest, Poll, Token, Waker};
use netproto::uevent::{Action, Uevent};
use nvmet::export::{Export, is_made_by_hand};
use nvmet::model::{PortId, Target};
use nvmet::plan::{Op, enables, plan_disks, plan_linger, plan_remake, plan_resize};
use nvmet::policy::Refusal;
use runtime::{Failure, print, start_daemon};

use crate::exporter::{ExportError, Exporter, Observation, carry_out, carry_out_or_undo, label, reason};

const USAGE: &str = "\
Usage: diskomator hotplug

Exports every local disk over NVMe/TCP as soon as the kernel finds it, and
withdraws it when it goes away. Runs until it is stopped, and leaves what is
exported as it is: `diskomator export remove --all` ends that.

The setting `diskomator.export` says which disks it exports by itself. It looks
after others that `diskomator export sync` has exported. `diskomator.readonly`
says which of them hosts can only read, and `diskomator.partitions` of which the
partitions are exported instead. See `diskomator help config`.

Logs to the kernel's log (dmesg); the setting `diskomator.log=debug` says more.

Options:
  -h, --help  show this text
";

const UEVENTS: Token = Token(0);
const DONE: Token = Token(1);

/// After how long a change to one subsystem is found to be long.
const LONG: Duration = Duration::from_secs(5);

/// How long the hosts of a disk that went away stay connected, should it come
/// back: as long as a host tries to reach a machine that went away
/// (`NVMF_DEF_CTRL_LOSS_TMO` in the kernel's `drivers/nvme/host/fabrics.h`).
const LINGER: Duration = Duration::from_secs(600);

/// A worker only writes to configfs.
const WORKER_STACK: usize = 128 * 1024;

/// A disk that does not open may just need a moment: these are the pauses
/// before it is tried again. The last one repeats itself.
const RETRY_AFTER: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// Runs the applet.
pub(crate) fn run(mut args: lexopt::Parser) -> Result<(), Failure> {
    if let Some(arg) = args.next()? {
        return match arg {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => print(USAGE),
            other => Err(other.unexpected().into()),
        };
    }
    let root = Root::default();
    let config = start_daemon::<Config>("hotplug", &root, true).config;
    follow(root, config).map_err(Failure::failed)
}

/// Why the applet had to end.
#[derive(Debug, thiserror::Error)]
enum HotplugError {
    #[error("cannot listen to the kernel's uevents")]
    Uevents(#[source] io::Error),
    #[error("cannot wait for events")]
    Poll(#[source] io::Error),
    #[error("cannot start a worker")]
    Worker(#[source] io::Error),
    #[error(transparent)]
    Export(#[from] ExportError),
}

fn follow(root: Root, config: Config) -> Result<(), HotplugError> {
    let mut poll = Poll::new().map_err(HotplugError::Poll)?;
    // Subscribe first, then look: what appears in between is seen twice
    // rather than never.
    let mut uevents = UeventSocket::open().map_err(HotplugError::Uevents)?;
    poll.registry().register(&mut uevents, UEVENTS, Interest::READABLE).map_err(HotplugError::Uevents)?;
    let waker = Arc::new(Waker::new(poll.registry(), DONE).map_err(HotplugError::Poll)?);
    let answered = Arc::clone(&waker);
    if let Err(error) = sysfs::poll_media(&root) {
        log::warn!("media that are changed may go unnoticed: {}", chain(&error));
    }
    // That fails only when the applet is ending.
    let exporter = Exporter::prepare(root, config, move || drop(answered.wake()));
    let mut hotplug = Hotplug::new(exporter, waker);
    let mut events = Events::with_capacity(4);
    loop {
        hotplug.reconcile()?;
        let timeout = hotplug.next_look().map(|at| at.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(HotplugError::Poll(error)),
            _ => {}
        }
        hotplug.take_uevents(&uevents).map_err(HotplugError::Uevents)?;
        hotplug.take_results();
    }
}

/// One change to one subsystem, on its way or done.
#[derive(Debug, Clone)]
struct Job {
    nqn: String,
    kind: JobKind,
}

#[derive(Debug, Clone)]
enum JobKind {
    /// Exports a disk.
    Export {
        label: String,
        name: String,
        /// What hosts learn of it, if they do.
        geometry: Option<Geometry>,
        /// It is a drive with nothing in it.
        is_empty: bool,
        /// Another disk says that it is the same one.
        has_twin: bool,
    },
    /// Tells hosts of a new size.
    Resize { label: String, geometry: Geometry },
    /// Takes the disk away and keeps its hosts.
    Linger,
    /// Takes a subsystem down that no disk has a claim to any more.
    Withdraw,
}

/// What hosts know of a disk that can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Geometry {
    size: u64,
    block_size: u32,
}

impl Geometry {
    fn of(disk: &Disk) -> Self {
        Self { size: disk.size, block_size: disk.block_size }
    }
}

/// An export, or its end, that did not succeed.
#[derive(Debug)]
struct Failed {
    /// The disk's kernel name; empty if there is none.
    name: String,
    attempts: usize,
    retry: Instant,
}

struct Hotplug {
    exporter: Exporter,
    /// Subsystems that a worker is at, since when, and whether that was found
    /// to be long. Nothing else touches them meanwhile.
    busy: BTreeMap<String, (Instant, bool)>,
    results: Receiver<(Job, Result<(), FileError>)>,
    report: Sender<(Job, Result<(), FileError>)>,
    waker: Arc<Waker>,
    failed: BTreeMap<String, Failed>,
    /// Subsystems whose disk went away, and when.
    lingering: BTreeMap<String, Instant>,
    /// What hosts were last told, by NQN.
    told: BTreeMap<String, Geometry>,
    /// The messages about the machine's name that have been logged.
    is_waiting_for_a_card: bool,
    is_nameless: bool,
    /// What has been logged of each disk, by `diskseq` and name, and of ports
    /// and disks that can't be used at all.
    said: BTreeMap<(u64, String), String>,
    complaints: BTreeSet<String>,
}

impl Hotplug {
    fn new(exporter: Exporter, waker: Arc<Waker>) -> Self {
        let (report, results) = mpsc::channel();
        Self {
            exporter,
            busy: BTreeMap::new(),
            results,
            report,
            waker,
            failed: BTreeMap::new(),
            lingering: BTreeMap::new(),
            told: BTreeMap::new(),
            is_waiting_for_a_card: false,
            is_nameless: false,
            said: BTreeMap::new(),
            complaints: BTreeSet::new(),
        }
    }

    /// Looks at everything and starts what is missing.
    fn reconcile(&mut self) -> Result<(), HotplugError> {
        let Observation { exports, target, unreadable } = self.exporter.observe()?;
        let (ports, unusable) = self.exporter.listen(&target)?;
        let (let_in, kept_out) = sysfs::authorize_thunderbolt(&self.exporter.root);
        for device in let_in {
            log::info!("the Thunderbolt device {device} is let in");
        }
        let disks = exports.iter().map(|export| &export.disk);
        let unlinked = sysfs::link_by_diskseq(&self.exporter.root, disks);
        self.complain(unreadable.iter().chain(&unusable).chain(&unlinked).chain(&kept_out));
        self.say_refusals(&exports);

        if self.exporter.can_be_named() || exports.iter().any(|export| export.enabled) {
            self.say_machine();
            self.start_exports(&exports, &target, &ports)?;
        } else if !self.is_waiting_for_a_card {
            self.is_waiting_for_a_card = true;
            log::info!("no network card has been found yet: disks are exported as soon as there is one");
        }
        self.start_resizes(&exports, &target, &ports)?;
        self.say_stuck();
        Ok(())
    }

    fn start_exports(&mut self, exports: &[Export], target: &Target, ports: &[PortId]) -> Result<(), HotplugError> {
        let mut plan = plan_disks(&self.exporter.desired(exports), target, ports);
        plan.retain(|nqn, _| !is_made_by_hand(nqn, exports, target));
        self.failed.retain(|nqn, _| plan.contains_key(nqn));
        self.lingering.retain(|nqn, _| plan.contains_key(nqn));
        for (nqn, mut ops) in plan {
            let export = exports.iter().find(|export| export.nqn() == Some(&nqn));
            let name = export.map(|export| export.disk.name.clone()).unwrap_or_default();
            if self.busy.contains_key(&nqn) || self.is_waiting(&nqn, &name) {
                continue;
            }
            let kind = match export {
                Some(export @ Export { disk, .. }) => {
                    let geometry = enables(&ops).then(|| Geometry::of(disk));
                    JobKind::Export {
                        label: label(disk),
                        name,
                        geometry,
                        is_empty: !export.has_medium(),
                        has_twin: export.has_twin,
                    }
                }
                None if self.may_linger(&nqn, target) => {
                    ops = plan_linger(&nqn, target);
                    JobKind::Linger
                }
                None => JobKind::Withdraw,
            };
            if !ops.is_empty() {
                self.start(Job { nqn, kind }, ops)?;
            }
        }
        Ok(())
    }

    /// Whether somebody would have the disk back, and there is time yet.
    fn may_linger(&mut self, nqn: &str, target: &Target) -> bool {
        // What its hosts know of a controller they would not ask again.
        let is_passthru = target.subsystems.get(nqn).is_some_and(|subsystem| subsystem.passthru.is_some());
        if is_passthru || !configfs::has_hosts(&self.exporter.root, nqn) {
            return false;
        }
        let since = self.lingering.entry(nqn.to_owned()).or_insert_with(Instant::now);
        since.elapsed() < LINGER
    }

    /// A new size can be told; with a new block size it is another namespace.
    fn start_resizes(&mut self, exports: &[Export], target: &Target, ports: &[PortId]) -> Result<(), HotplugError> {
        let desired = self.exporter.desired(exports);
        for export in exports.iter().filter(|export| export.enabled) {
            let Some((nqn, wanted)) = export.nqn().and_then(|nqn| desired.get_key_value(nqn)) else { continue };
            // A controller that is passed through tells its hosts itself.
            if wanted.passthru.is_some() {
                continue;
            }
            let geometry = Geometry::of(&export.disk);
            let told = self.told.get(nqn).copied();
            if self.busy.contains_key(nqn) || told == Some(geometry) || !export.has_medium() {
                continue;
            }
            let label = label(&export.disk);
            let (kind, ops) = if told.is_some_and(|told| told.block_size != geometry.block_size) {
                log::info!("{label} has blocks of {} bytes now", geometry.block_size);
                let name = export.disk.name.clone();
                let geometry = Some(geometry);
                let kind = JobKind::Export { label, name, geometry, is_empty: false, has_twin: false };
                let renewed = self.exporter.renewed(export);
                (kind, plan_remake(nqn, renewed.as_ref().unwrap_or(wanted), target, ports))
            } else {
                let resizes = wanted.namespaces.keys().map(|nsid| plan_resize(nqn, *nsid));
                (JobKind::Resize { label, geometry }, resizes.collect())
            };
            self.start(Job { nqn: nqn.clone(), kind }, ops)?;
        }
        Ok(())
    }

    /// A worker for each subsystem: `enable` waits for the disk, and taking it
    /// back waits for the I/O in flight. One stuck disk must hold up nobody.
    fn start(&mut self, job: Job, ops: Vec<Op>) -> Result<(), HotplugError> {
        self.busy.insert(job.nqn.clone(), (Instant::now(), false));
        let (root, report, waker) = (self.exporter.root.clone(), self.report.clone(), Arc::clone(&self.waker));
        let work = move || {
            let outcome = match job.kind {
                JobKind::Export { .. } => carry_out_or_undo(&root, &job.nqn, &ops),
                JobKind::Resize { .. } | JobKind::Linger | JobKind::Withdraw => carry_out(&root, &ops),
            };
            // Both fail only when the applet is ending.
            if report.send((job, outcome)).is_ok() {
                drop(waker.wake());
            }
        };
        thread::Builder::new()
            .name("export".to_owned())
            .stack_size(WORKER_STACK)
            .spawn(work)
            .map(drop)
            .map_err(HotplugError::Worker)
    }

    fn take_results(&mut self) {
        while let Ok((job, outcome)) = self.results.try_recv() {
            if let Some((_, true)) = self.busy.remove(&job.nqn) {
                log::info!("{} goes on", job.nqn);
            }
            match outcome {
                Ok(()) => self.succeeded(job),
                Err(error) => self.fail(job, &error),
            }
        }
    }

    fn succeeded(&mut self, Job { nqn, kind }: Job) {
        self.failed.remove(&nqn);
        match kind {
            JobKind::Export { label, is_empty: true, .. } => {
                log::info!("{label} has no medium; hosts see one that comes as {nqn}");
                self.told.remove(&nqn);
            }
            JobKind::Export { label, geometry, has_twin, .. } => {
                log::info!("{label} is exported as {nqn}");
                if has_twin {
                    log::warn!(
                        "{label} and another disk claim to be the same one; it is named by where it is plugged in"
                    );
                }
                if let Some(geometry) = geometry {
                    self.told.insert(nqn, geometry);
                }
            }
            JobKind::Resize { label, geometry } => {
                // The first time is after a restart, when hosts know it.
                if self.told.insert(nqn, geometry).is_some() {
                    log::info!("{label} has a new size");
                }
            }
            JobKind::Linger => {
                log::info!("{nqn} is gone; its hosts will have it again if it comes back soon");
                self.told.remove(&nqn);
            }
            JobKind::Withdraw => {
                log::info!("{nqn} is withdrawn");
                self.told.remove(&nqn);
            }
        }
    }

    fn fail(&mut self, Job { nqn, kind }: Job, error: &FileError) {
        let (what, name) = match kind {
            JobKind::Export { label, name, .. } => (format!("{label} is not exported"), name),
            JobKind::Resize { label, geometry } => {
                log::warn!("cannot tell hosts the size of {label}: {}", chain(error));
                self.told.insert(nqn, geometry);
                return;
            }
            JobKind::Linger | JobKind::Withdraw => (format!("{nqn} is not withdrawn"), String::new()),
        };
        let attempts = self.failed.get(&nqn).map_or(0, |failed| failed.attempts);
        let pause = RETRY_AFTER.get(attempts).or(RETRY_AFTER.last()).copied().unwrap_or_default();
        self.failed.insert(nqn, Failed { name, attempts: attempts + 1, retry: Instant::now() + pause });
        if attempts == 0 {
            log::warn!("{what}: {} ({})", reason(error), chain(error));
        } else {
            log::debug!("{what} after {} attempts: {}", attempts + 1, chain(error));
        }
    }

    /// A subsystem whose disk has another name than when it failed need not wait.
    fn is_waiting(&self, nqn: &str, name: &str) -> bool {
        self.failed.get(nqn).is_some_and(|failed| failed.name == name && failed.retry > Instant::now())
    }

    /// When to look at everything though nothing has happened.
    fn next_look(&self) -> Option<Instant> {
        let retries = self.failed.iter().filter(|(nqn, _)| !self.busy.contains_key(*nqn));
        let retries = retries.map(|(_, failed)| failed.retry);
        let long = self.busy.values().filter(|(_, is_long)| !is_long).map(|(since, _)| *since + LONG);
        let lingering = self.lingering.iter().filter(|(nqn, _)| !self.busy.contains_key(*nqn));
        let lingering = lingering.map(|(_, since)| *since + LINGER).filter(|at| *at > Instant::now());
        retries.chain(long).chain(lingering).chain(self.exporter.prober.next_look()).min()
    }

    /// Says once of each change that it takes long.
    fn say_stuck(&mut self) {
        for (nqn, (since, is_long)) in &mut self.busy {
            if !*is_long && since.elapsed() >= LONG {
                *is_long = true;
                log::warn!("{nqn}: its disk does not answer; waiting for it");
            }
        }
    }

    fn take_uevents(&mut self, socket: &UeventSocket) -> io::Result<()> {
        loop {
            match socket.receive()? {
                Received::Uevent(uevent) => self.take_uevent(&uevent),
                Received::Ignored(why) => log::debug!("a uevent is ignored: {why}"),
                // The next pass looks at all disks anyway; any may have changed.
                Received::Overrun => {
                    log::debug!("uevents were lost");
                    self.failed.clear();
                }
                Received::Empty => return Ok(()),
            }
        }
    }

    /// A disk that changed deserves another try at once.
    fn take_uevent(&mut self, uevent: &Uevent) {
        if uevent.has_new_capacity() {
            self.rescan(&uevent.devpath);
        }
        if uevent.subsystem != "block" || uevent.action == Action::Other {
            return;
        }
        let Some(name) = uevent.property("DEVNAME") else { return };
        log::debug!("{name}: {:?}", uevent.action);
        self.failed.retain(|_, failed| failed.name != name);
    }

    /// A SCSI disk says that it has another size, and the kernel leaves it to us to
    /// ask which. The answer may take as long as the disk likes.
    fn rescan(&self, devpath: &str) {
        let (root, devpath) = (self.exporter.root.clone(), devpath.to_owned());
        let work = move || {
            if let Err(error) = sysfs::rescan_scsi(&root, &devpath) {
                log::warn!("{}", chain(&error));
            }
        };
        if let Err(error) = thread::Builder::new().name("rescan".to_owned()).stack_size(WORKER_STACK).spawn(work) {
            log::warn!("cannot start a worker: {error}");
        }
    }

    fn say_machine(&mut self) {
        if self.exporter.machine.is_of_this_boot() && !self.is_nameless {
            self.is_nameless = true;
            log::warn!(
                "this machine has neither a UUID nor a hardware address of its own: after a restart its disks have other names"
            );
        }
    }

    fn say_refusals(&mut self, exports: &[Export]) {
        let mut said = BTreeMap::new();
        for Export { disk, decision, .. } in exports {
            let Err(refusal) = decision else { continue };
            let key = (disk.diskseq, disk.name.clone());
            let text = format!("{} is not exported: {refusal}", label(disk));
            if self.said.get(&key) != Some(&text) {
                let level = match refusal {
                    Refusal::Awaited => log::Level::Debug,
                    Refusal::Unanswered => log::Level::Warn,
                    refusal if refusal.worth_showing() => log::Level::Info,
                    _ => log::Level::Debug,
                };
                log::log!(level, "{text}");
            }
            said.insert(key, text);
        }
        self.said = said;
    }

    /// Each complaint once, however often the cause is met.
    fn complain<'a>(&mut self, errors: impl Iterator<Item = &'a FileError>) {
        let complaints: BTreeSet<String> = errors.map(|error| chain(error)).collect();
        for complaint in complaints.difference(&self.complaints) {
            log::warn!("{complaint}");
        }
        self.complaints = complaints;
    }
}
