//! `diskomator hotplug`: exports each disk as it appears and withdraws each
//! that goes away, until stopped.
//!
//! This is the I/O alone: it waits, observes, carries out and reports. The policy
//! is `nvmet::reconcile`. After a kill, the next process looks at
//! the kernel, plans, and goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use disks::config::Config;
use kernel::clock;
use kernel::error::chain;
use kernel::root::{FileError, Root};
use kernel::uevent::{Received, UeventSocket};
use kernel::watch::{Directories, WatchError};
use local::configfs;
use local::sysfs;
use netproto::uevent::{self, Uevent};
use nvmet::admission::Admission;
use nvmet::hosts::Controller;
use nvmet::plan::Op;
use nvmet::reconcile::{self, Action, Job, Line, Reconciler, unclaimed};
use runtime::events::{Event, EventLoop, EventLoopError, Waker, after};
use runtime::{AppletError, Failure, level_filter, print, start_daemon};

use crate::admission;
use crate::exporter::{ExportError, Exporter, Observation, carry_out, carry_out_or_undo, reason};
use crate::secret;

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

/// The sources of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Uevents,
    /// Other hosts may be admitted now.
    Admission,
    /// A worker is done, or a disk has answered.
    Done,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uevents => "the kernel's uevents",
            Self::Admission => "the admission of hosts",
            Self::Done => "workers",
        })
    }
}

/// A worker only writes to configfs.
const WORKER_STACK: usize = 128 * 1024;

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
    secret::enter();
    Ok(follow(root, config)?)
}

/// Why the applet had to end.
#[derive(Debug, thiserror::Error)]
enum HotplugError {
    #[error("cannot listen to the kernel's uevents")]
    Uevents(#[source] io::Error),
    #[error("cannot watch which hosts are admitted")]
    Watch(#[source] io::Error),
    #[error("cannot watch which hosts are admitted")]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Events(#[from] EventLoopError),
    #[error("cannot start a worker for {nqn}")]
    Worker { nqn: String, source: io::Error },
    #[error(transparent)]
    Export(#[from] ExportError),
}

impl AppletError for HotplugError {}

/// Why a directory can't be watched.
#[derive(Debug, thiserror::Error)]
enum DirectoryError {
    #[error(transparent)]
    Make(#[from] FileError),
    #[error(transparent)]
    Watch(#[from] WatchError),
}

fn follow(root: Root, config: Config) -> Result<(), HotplugError> {
    let mut events = EventLoop::new()?;
    // Subscribe first, then look: what appears in between is seen twice
    // rather than never.
    let mut uevents = UeventSocket::open().map_err(HotplugError::Uevents)?;
    events.register(Source::Uevents, &mut uevents)?;
    let mut admissions = Directories::new().map_err(HotplugError::Watch)?;
    root.keep_dir(admission::WATCHED).map_err(DirectoryError::from)?;
    admissions.add(root.path(admission::WATCHED)).map_err(DirectoryError::from)?;
    events.register(Source::Admission, &mut admissions)?;
    let waker = events.waker(Source::Done)?;
    let answered = waker.clone();
    if let Err(error) = sysfs::poll_media(&root) {
        log::warn!("media that are changed may go unnoticed: {}", chain(&error));
    }
    let exporter = Exporter::prepare(root, config, move || answered.wake());
    let mut hotplug = Hotplug::new(exporter, waker);
    loop {
        hotplug.reconcile()?;
        let deadline = hotplug.reconciler.deadline().and_then(|at| after(at.saturating_sub(clock::uptime())));
        let look = hotplug.exporter.prober.next_look();
        for event in events.wait(deadline.into_iter().chain(look).min())? {
            match event {
                Event::Ready { source: Source::Uevents, .. } => {
                    hotplug.take_uevents(&uevents).map_err(HotplugError::Uevents)?;
                }
                Event::Ready { source: Source::Admission, .. } => admissions.drain().map_err(HotplugError::Watch)?,
                Event::Ready { source: Source::Done, .. } => hotplug.take_results(),
                // Signals end the process by themselves: nothing is to be done before.
                Event::End | Event::Release => return Ok(()),
            }
        }
    }
}

struct Hotplug {
    exporter: Exporter,
    reconciler: Reconciler,
    results: Receiver<(Job, Result<(), FileError>)>,
    report: Sender<(Job, Result<(), FileError>)>,
    waker: Waker,
}

impl Hotplug {
    fn new(exporter: Exporter, waker: Waker) -> Self {
        let (report, results) = mpsc::channel();
        let reconciler = Reconciler::new(exporter.capacity);
        Self { exporter, reconciler, results, report, waker }
    }

    /// Looks at everything and starts what is due.
    fn reconcile(&mut self) -> Result<(), HotplugError> {
        self.exporter.ask_disks()?;
        let Observation { machine, exports, mut target, unreadable } = self.exporter.observe()?;
        let root = &self.exporter.root;
        let (ports, unusable) = self.exporter.listen(&target)?;
        let (let_in, kept_out) = sysfs::authorize_thunderbolt(root);
        for device in let_in {
            log::info!("the Thunderbolt device {device} is let in");
        }
        let unlinked = sysfs::link_by_diskseq(root, exports.iter().map(|export| &export.disk));
        let hosts = admission::current(root, &self.exporter.config);
        let (controllers, unseen) = controllers(root, &hosts.admission);
        let held: BTreeSet<String> =
            unclaimed(&exports, &target).filter(|nqn| configfs::has_hosts(root, nqn)).cloned().collect();
        // Last, as the kernel tells a host that is not linked yet never to try again.
        let (admission, homeless) = self.exporter.prepare_hosts(hosts, &mut target);
        let complaints: [&[FileError]; 6] = [&unreadable, &unusable, &unlinked, &kept_out, &unseen, &homeless];
        let observation = reconcile::Observation {
            exports: &exports,
            target: &target,
            ports: &ports,
            admission: &admission,
            controllers: &controllers,
            held: &held,
            can_be_named: sysfs::has_network_card(root),
            is_nameless: machine.is_of_this_boot(),
            complaints: complaints.into_iter().flatten().map(|error| chain(error)).collect(),
        };
        for action in self.reconciler.step(clock::uptime(), &observation) {
            match action {
                Action::Log(line) => log_line(&line),
                Action::Admit(ops) => self.admit(&ops),
                Action::End { nqn, controller } => {
                    if let Err(error) = configfs::disconnect(&self.exporter.root, &nqn, &controller) {
                        log::warn!("a host that is not admitted stays connected: {}", chain(&error));
                    }
                }
                Action::Start(job) => self.start(job)?,
            }
        }
        Ok(())
    }

    /// None of it waits for a disk, so it needs no worker.
    fn admit(&mut self, ops: &[Op]) {
        let outcomes = ops.iter().map(|op| carry_out(&self.exporter.root, std::slice::from_ref(op)));
        let failures = outcomes.filter_map(Result::err).map(|error| chain(&error)).collect();
        self.reconciler.admitted(failures).iter().for_each(log_line);
    }

    /// A worker for each subsystem: `enable` waits for the disk, and taking it
    /// back waits for the I/O in flight. One stuck disk must hold up no other.
    fn start(&self, job: Job) -> Result<(), HotplugError> {
        let (root, report, waker) = (self.exporter.root.clone(), self.report.clone(), self.waker.clone());
        let nqn = job.nqn.clone();
        let work = move || {
            let outcome =
                if job.is_undone { carry_out_or_undo(&root, &job.nqn, &job.ops) } else { carry_out(&root, &job.ops) };
            // That fails only when the applet is ending.
            if report.send((job, outcome)).is_ok() {
                waker.wake();
            }
        };
        thread::Builder::new()
            .name("export".to_owned())
            .stack_size(WORKER_STACK)
            .spawn(work)
            .map(drop)
            .map_err(|source| HotplugError::Worker { nqn, source })
    }

    fn take_results(&mut self) {
        while let Ok((job, outcome)) = self.results.try_recv() {
            let outcome = outcome.map_err(|error| reconcile::Failure { reason: reason(&error), detail: chain(&error) });
            self.reconciler.finish(clock::uptime(), &job.nqn, outcome).iter().for_each(log_line);
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
                    self.reconciler.all_changed();
                }
                Received::Empty => return Ok(()),
            }
        }
    }

    fn take_uevent(&mut self, uevent: &Uevent) {
        if uevent.has_new_capacity() {
            self.rescan(&uevent.devpath);
        }
        if uevent.subsystem != "block" || uevent.action == uevent::Action::Other {
            return;
        }
        let Some(name) = uevent.property("DEVNAME") else { return };
        log::debug!("{name}: {:?}", uevent.action);
        self.reconciler.disk_changed(name);
    }

    /// A SCSI disk says that it has another size, and the kernel leaves it to us to
    /// ask which. The answer may take as long as the disk likes.
    fn rescan(&self, devpath: &str) {
        let (root, path) = (self.exporter.root.clone(), devpath.to_owned());
        let work = move || {
            if let Err(error) = sysfs::rescan_scsi(&root, &path) {
                log::warn!("{}", chain(&error));
            }
        };
        if let Err(error) = thread::Builder::new().name("rescan".to_owned()).stack_size(WORKER_STACK).spawn(work) {
            log::warn!("cannot start a worker for {devpath}: {error}");
        }
    }
}

/// The controllers at each subsystem. While everyone is admitted none of them is looked at.
fn controllers(root: &Root, admission: &Admission) -> (BTreeMap<String, Vec<Controller>>, Vec<FileError>) {
    let mut controllers: BTreeMap<String, Vec<Controller>> = BTreeMap::new();
    if *admission == Admission::Everyone {
        return (controllers, Vec::new());
    }
    match configfs::all_controllers(root) {
        Ok(all) => {
            for (nqn, controller) in all {
                controllers.entry(nqn).or_default().push(controller);
            }
            (controllers, Vec::new())
        }
        Err(error) => (controllers, vec![error]),
    }
}

fn log_line(Line { level, text }: &Line) {
    if let Some(level) = level_filter(*level).to_level() {
        log::log!(level, "{text}");
    }
}
