//! `diskomator hotplug`: exports each disk as it appears and withdraws each
//! that goes away, until stopped.
//!
//! This is the I/O alone: it waits, observes, carries out and reports. The policy
//! is `nvmet::reconcile`. After a kill, the next process looks at
//! the kernel, plans, and goes on.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use disks::config::Config;
use kernel::clock;
use kernel::error::chain;
use kernel::root::{FileError, Root};
use kernel::uevent::{Received, UeventSocket};
use local::configfs;
use local::sysfs;
use mio::{Events, Interest, Poll, Token, Waker};
use netproto::uevent::{self, Uevent};
use nvmet::reconcile::{self, Action, Job, Line, Reconciler, unclaimed};
use runtime::{Failure, level_filter, print, start_daemon};

use crate::exporter::{ExportError, Exporter, Observation, carry_out, carry_out_or_undo, reason};

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
        let deadline = hotplug.reconciler.deadline().map(|at| at.saturating_sub(clock::uptime()));
        let look = hotplug.exporter.prober.next_look().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = deadline.into_iter().chain(look).min();
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(HotplugError::Poll(error)),
            _ => {}
        }
        hotplug.take_uevents(&uevents).map_err(HotplugError::Uevents)?;
        hotplug.take_results();
    }
}

struct Hotplug {
    exporter: Exporter,
    reconciler: Reconciler,
    results: Receiver<(Job, Result<(), FileError>)>,
    report: Sender<(Job, Result<(), FileError>)>,
    waker: Arc<Waker>,
}

impl Hotplug {
    fn new(exporter: Exporter, waker: Arc<Waker>) -> Self {
        let (report, results) = mpsc::channel();
        let reconciler = Reconciler::new(exporter.capacity);
        Self { exporter, reconciler, results, report, waker }
    }

    /// Looks at everything and starts what is due.
    fn reconcile(&mut self) -> Result<(), HotplugError> {
        self.exporter.ask_disks()?;
        let Observation { machine, exports, target, unreadable } = self.exporter.observe()?;
        let root = &self.exporter.root;
        let (ports, unusable) = self.exporter.listen(&target)?;
        let (let_in, kept_out) = sysfs::authorize_thunderbolt(root);
        for device in let_in {
            log::info!("the Thunderbolt device {device} is let in");
        }
        let unlinked = sysfs::link_by_diskseq(root, exports.iter().map(|export| &export.disk));
        let complaints: [&[FileError]; 4] = [&unreadable, &unusable, &unlinked, &kept_out];
        let held: BTreeSet<String> =
            unclaimed(&exports, &target).filter(|nqn| configfs::has_hosts(root, nqn)).cloned().collect();
        let observation = reconcile::Observation {
            exports: &exports,
            target: &target,
            ports: &ports,
            held: &held,
            can_be_named: sysfs::has_network_card(root),
            is_nameless: machine.is_of_this_boot(),
            complaints: complaints.into_iter().flatten().map(|error| chain(error)).collect(),
        };
        for action in self.reconciler.step(clock::uptime(), &observation) {
            match action {
                Action::Log(line) => log_line(&line),
                Action::Start(job) => self.start(job)?,
            }
        }
        Ok(())
    }

    /// A worker for each subsystem: `enable` waits for the disk, and taking it
    /// back waits for the I/O in flight. One stuck disk must hold up no other.
    fn start(&self, job: Job) -> Result<(), HotplugError> {
        let (root, report, waker) = (self.exporter.root.clone(), self.report.clone(), Arc::clone(&self.waker));
        let work = move || {
            let outcome =
                if job.is_undone { carry_out_or_undo(&root, &job.nqn, &job.ops) } else { carry_out(&root, &job.ops) };
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
}

fn log_line(Line { level, text }: &Line) {
    if let Some(level) = level_filter(*level).to_level() {
        log::log!(level, "{text}");
    }
}
