//! `diskomator console`: what this machine is, what to type, and what goes on,
//! on the screen and on the serial console, with keys for what a person there
//! may want to do. It only looks by itself; nothing depends on it, and what a
//! key does another process of this program does.
//!
//! It sleeps until something changes: links and addresses are told of by
//! netlink, disks by the kernel's uevents, exports and hosts by inotify on the
//! target's directories, the log by `/dev/kmsg`. Only while hosts are connected
//! does it look at counters every second, and only where there is no NVMe
//! target to watch does it look again every few seconds.

mod jobs;
mod observer;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::admission;
use daemons::{name_in_use, ssh};
use disks::config::Settings;
use jobs::{JobError, Jobs};
use kernel::clock;
use kernel::error::chain;
use kernel::given;
use kernel::kmsg::Kmsg;
use kernel::netlink::{Monitor, NetlinkError, Watch};
use kernel::process;
use kernel::root::Root;
use kernel::signals::{SignalError, TerminalSignals};
use kernel::terminal::Terminal;
use kernel::uevent::UeventSocket;
use kernel::watch::Directories;
use local::sysfs;
use netproto::syslog;
use observer::Observer;
use runtime::events::{Event, EventLoop, EventLoopError};
use runtime::{AppletError, Failure, print, start_daemon};
use screen::log::{Entry, Log};
use screen::model::{STARTING, Snapshot, screen_text, uptime_text};
use screen::plain::render;
use screen::traffic::Meter;
use view::{View, Wish};

const HELP: &str = "\
Usage: diskomator console [--once | --splash]

Shows what this machine is, its addresses, its disks, who is connected to them
and what to type on another machine, until stopped: as a full screen on the
first virtual terminal, with keys, of which h shows all; and as plain lines on
the serial console, where f shows the full screen and Ctrl-C the lines again.
With the setting `debug` the serial console is left to its shell.

Options:
  --once      print the plain lines to standard output, and end
  --splash    draw on the first virtual terminal what is known without asking
              disk or network, and end: for a boot that has nothing else yet
  -h, --help  this text
";

/// How wide the plain lines are.
const WIDTH: usize = 80;
/// Changes come in bunches; all is looked at once for each bunch.
const SETTLE: Duration = Duration::from_millis(100);
/// How far it lets others go first.
const NICE: i32 = 5;
/// How often to look for an NVMe target that is not there yet.
const NO_TARGET: Duration = Duration::from_secs(5);
/// How often to look at the counters of disks while data flows, and while none
/// does though hosts are connected.
const FLOWING: Duration = Duration::from_secs(1);
const STANDING: Duration = Duration::from_secs(3);
/// Where the target's directories are, and those of connected hosts.
const NVMET: &str = "sys/kernel/config/nvmet";
const HOSTS: &str = "sys/kernel/debug/nvmet";

/// The sources of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Network,
    Disks,
    /// The target's directories, and those of other daemons.
    Exports,
    /// A disk has answered, or a job is done.
    Answers,
    Log,
    /// Another size of a terminal, or its end.
    TerminalSignals,
    /// A terminal, by its place.
    Terminal(usize),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "links and addresses",
            Self::Disks => "the kernel's uevents",
            Self::Exports => "changes of directories",
            Self::Answers => "disks and jobs",
            Self::Log => "the kernel's log",
            Self::TerminalSignals => "signals of terminals",
            Self::Terminal(number) => return write!(f, "terminal {number}"),
        })
    }
}

/// Why the console had to end.
#[derive(Debug, thiserror::Error)]
enum ConsoleError {
    #[error(transparent)]
    Events(#[from] EventLoopError),
    #[error(transparent)]
    Signals(#[from] SignalError),
    #[error(transparent)]
    Network(#[from] NetlinkError),
    #[error("cannot listen to {from}")]
    Listen { from: Source, source: io::Error },
}

impl AppletError for ConsoleError {}

impl ConsoleError {
    fn listen(from: Source) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Listen { from, source }
    }
}

pub(crate) fn run(args: lexopt::Parser) -> Result<(), Failure> {
    let root = Root::default();
    match parse(args)? {
        Mode::Help => print(HELP),
        Mode::Once => {
            let settings = given::read(&root).0;
            print(&once(root, settings)?)
        }
        Mode::Splash => {
            let settings = start_daemon("console", &root, false);
            Ok(splash(&root, settings)?)
        }
        Mode::Daemon => {
            let settings = start_daemon("console", &root, false);
            Ok(watch(&root, settings)?)
        }
    }
}

enum Mode {
    Help,
    Once,
    Splash,
    Daemon,
}

fn parse(mut args: lexopt::Parser) -> Result<Mode, lexopt::Error> {
    use lexopt::prelude::*;
    let mut mode = Mode::Daemon;
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Mode::Help),
            Long("once") => mode = Mode::Once,
            Long("splash") => mode = Mode::Splash,
            other => return Err(other.unexpected()),
        }
    }
    Ok(mode)
}

/// The plain lines of this moment.
fn once(root: Root, settings: Settings) -> Result<String, ConsoleError> {
    let mut observer = Observer::new(root, settings, || {})?;
    Ok(render(&observer.look_at_all(&Log::default())?, WIDTH))
}

/// The first picture, of what the kernel knows by itself.
fn splash(root: &Root, settings: Settings) -> Result<(), ConsoleError> {
    let slot = EventLoop::new()?.slot(Source::Terminal(0))?;
    let observer = Observer::new(root.clone(), settings, || {})?;
    let snapshot = Snapshot { uptime: clock::uptime(), ..observer.first_glance() };
    let mut view = View::new(Terminal::screen(root), slot);
    view.show(&snapshot);
    if !view.is_lost() {
        // Text for a terminal that is drawn nowhere arrives, too.
        log::info!("{}", screen_text(snapshot.machine.screen));
    }
    Ok(())
}

fn watch(root: &Root, settings: Settings) -> Result<(), ConsoleError> {
    let mut events = EventLoop::new()?;
    events.end_by_signal()?;
    let mut terminal_signals = TerminalSignals::new()?;
    let mut network = Monitor::new(Watch::LinksAndAddresses)?;
    let mut disks = UeventSocket::open().map_err(ConsoleError::listen(Source::Disks))?;
    let mut exports = Directories::new().map_err(ConsoleError::listen(Source::Exports))?;
    events.register(Source::TerminalSignals, &mut terminal_signals)?;
    events.register(Source::Network, &mut network)?;
    events.register(Source::Disks, &mut disks)?;
    events.register(Source::Exports, &mut exports)?;
    // A log that cannot be waited for, or not be read, is not shown.
    let mut kernel_log = Kmsg::open(root).ok();
    if let Some(log) = &mut kernel_log {
        if events.register(Source::Log, log).is_err() {
            kernel_log = None;
        }
    }
    let waker = events.waker(Source::Answers)?;

    let views = Terminal::find(root, !settings.config.system.debug);
    let views = views.into_iter().enumerate();
    let views: Result<Vec<View>, EventLoopError> =
        views.map(|(number, terminal)| Ok(View::new(terminal, events.slot(Source::Terminal(number))?))).collect();
    let answers = waker.clone();
    let observer = Observer::new(root.clone(), settings, move || answers.wake())?;
    let mut console = Console {
        root: root.clone(),
        snapshot: observer.first_glance(),
        observer,
        views: views?,
        log: Log::default(),
        meters: BTreeMap::new(),
        started: Instant::now(),
        jobs: Jobs::new(move || waker.wake()),
        exports,
        look: Some(Instant::now()),
        network: None,
        measure: None,
        draw: None,
        tick: None,
    };
    // Something is on the screen before anything has answered. Skip plain lines here: they would be stale at once.
    console.show(true);
    // A person has something to look at; from here on the disks come first.
    if let Err(error) = process::give_way(NICE) {
        log::debug!("{}", chain(&error));
    }

    loop {
        console.do_what_is_due();
        for event in events.wait(console.next())? {
            let (source, is_readable) = match event {
                Event::End | Event::Release => return Ok(()),
                Event::Ready { source, is_readable } => (source, is_readable),
            };
            match source {
                Source::TerminalSignals => {
                    terminal_signals.drain().map_err(ConsoleError::listen(source))?;
                    console.draw_soon(Duration::ZERO);
                }
                Source::Network => {
                    network.drain()?;
                    // A router's word of an address that stays is no reason to look at every disk.
                    console.network = Some(console.network.unwrap_or_else(|| Instant::now() + SETTLE));
                }
                Source::Disks => {
                    disks.drain().map_err(ConsoleError::listen(source))?;
                    console.look_soon();
                }
                Source::Exports => {
                    console.exports.drain().map_err(ConsoleError::listen(source))?;
                    console.look_soon();
                }
                Source::Log => {
                    if let Some(log) = &mut kernel_log {
                        console.note(read(log));
                    }
                }
                Source::Answers => {
                    console.finish_jobs();
                    console.look_soon();
                }
                Source::Terminal(number) => console.type_at(number, is_readable),
            }
        }
    }
}

/// The whole state.
struct Console {
    root: Root,
    observer: Observer,
    snapshot: Snapshot,
    views: Vec<View>,
    log: Log,
    /// For each disk with hosts, by its name and number in the kernel.
    meters: BTreeMap<(String, u64), Meter>,
    started: Instant,
    jobs: Jobs,
    exports: Directories,
    /// When to look at everything again,
    look: Option<Instant>,
    /// at links and addresses alone,
    network: Option<Instant>,
    /// at the counters,
    measure: Option<Instant>,
    /// when to draw,
    draw: Option<Instant>,
    /// and when the time that is shown will be another.
    tick: Option<Instant>,
}

fn is_due(due: Option<Instant>) -> bool {
    due.is_some_and(|due| due <= Instant::now())
}

impl Console {
    fn next(&self) -> Option<Instant> {
        let views = self.views.iter().filter_map(View::due);
        [self.look, self.network, self.measure, self.draw, self.tick].into_iter().flatten().chain(views).min()
    }

    fn look_soon(&mut self) {
        let soon = Instant::now() + SETTLE;
        self.look = Some(self.look.map_or(soon, |due| due.min(soon)));
    }

    fn draw_soon(&mut self, delay: Duration) {
        let soon = Instant::now() + delay;
        self.draw = Some(self.draw.map_or(soon, |due| due.min(soon)));
    }

    fn do_what_is_due(&mut self) {
        for number in 0..self.views.len() {
            if is_due(self.views.get(number).and_then(View::due)) {
                self.type_at(number, false);
            }
        }
        if is_due(self.look) {
            // First watch, then look: nothing falls in between.
            let has_target = watch_exports(&self.root, &self.exports);
            let looked = self.observer.look(&self.log);
            let next = self.observer.next_look();
            self.network = None;
            self.look = if has_target { next } else { Some(Instant::now() + NO_TARGET) };
            let screen = self.snapshot.machine.screen;
            match looked {
                Ok(snapshot) => self.snapshot = snapshot,
                Err(error) => log::error!("{}", chain(&error)),
            }
            if self.snapshot.machine.screen != screen {
                log::info!("{}", screen_text(self.snapshot.machine.screen));
                // Another size, and another font.
                self.views.iter_mut().for_each(View::reopen_screen);
            }
            self.measure();
            self.draw = Some(Instant::now());
        }
        if is_due(self.network) {
            self.network = None;
            match self.observer.look_at_network(&mut self.snapshot) {
                Ok(()) => self.draw = Some(Instant::now()),
                Err(error) => log::error!("{}", chain(&error)),
            }
        }
        if is_due(self.measure) {
            self.measure();
            self.draw = Some(Instant::now());
        }
        if is_due(self.tick) || is_due(self.draw) {
            self.show(false);
        }
    }

    /// Looks at the counters of the disks that hosts are connected to.
    fn measure(&mut self) {
        let now = self.started.elapsed();
        let mut meters = std::mem::take(&mut self.meters);
        let mut flows = false;
        for disk in self.snapshot.disks.iter_mut().filter(|disk| !disk.hosts.is_empty()) {
            let Some(known) = self.observer.disk(&disk.name) else { continue };
            let Some(activity) = sysfs::activity(&self.root, known) else { continue };
            let key = (disk.name.clone(), known.diskseq);
            let mut meter = meters.remove(&key).unwrap_or_default();
            let traffic = meter.look(now, activity).clone();
            flows |= !traffic.is_idle() || activity.in_flight > 0 || traffic.history.is_empty();
            disk.traffic = Some(traffic);
            self.meters.insert(key, meter);
        }
        let next = if flows { FLOWING } else { STANDING };
        self.measure = (!self.meters.is_empty()).then(|| Instant::now() + next);
    }

    fn show(&mut self, is_first: bool) {
        let uptime = clock::uptime();
        let left = uptime_text(uptime).1;
        let left =
            Some(STARTING.saturating_sub(uptime)).filter(|left| !left.is_zero()).map_or(left, |end| left.min(end));
        self.tick = Some(Instant::now() + left + Duration::from_millis(10));
        self.draw = None;
        self.snapshot.uptime = uptime;
        // It is lent for the time of drawing: it is large.
        self.snapshot.log = std::mem::take(&mut self.log);
        for view in self.views.iter_mut().filter(|view| view.is_full() || !is_first) {
            view.show(&self.snapshot);
        }
        self.log = std::mem::take(&mut self.snapshot.log);
    }

    fn note(&mut self, records: Vec<Entry>) {
        let before = self.log.troubles();
        let said = console_level(&self.root);
        let is_said = records.iter().any(|record| record.priority < said);
        for record in records {
            self.log.add(record);
        }
        if is_said {
            // The kernel has written it across the screen.
            self.views.iter_mut().for_each(View::forget);
            self.draw_soon(SETTLE);
        }
        if self.log.troubles() != before {
            self.look_soon();
        }
        if self.views.iter().any(View::shows_log) {
            self.draw_soon(SETTLE);
        }
    }

    /// Takes what was typed at a terminal, and does what it asks for.
    fn type_at(&mut self, number: usize, readable: bool) {
        let Some(view) = self.views.get_mut(number) else { return };
        self.snapshot.log = std::mem::take(&mut self.log);
        let wishes = view.take_keys(&self.snapshot, readable);
        self.log = std::mem::take(&mut self.snapshot.log);
        let acted = !wishes.is_empty();
        for wish in wishes {
            match wish {
                Wish::Run(command) => {
                    let words = jobs::arguments(&command);
                    let text = format!("diskomator {}", words.join(" "));
                    match self.jobs.start(number, words) {
                        Ok(()) => view.say(&format!("{text} ..."), false),
                        Err(error) => view.say(&chain(&error), true),
                    }
                }
                Wish::Shell => {
                    if let Err(error) = give_to_shell(view, number, &self.jobs) {
                        view.take_back();
                        view.say(&chain(&error), true);
                    }
                }
            }
        }
        if acted {
            self.draw = Some(Instant::now());
        }
    }

    fn finish_jobs(&mut self) {
        for done in self.jobs.finished() {
            let Some(view) = self.views.get_mut(done.view) else { continue };
            if done.is_shell {
                view.take_back();
            } else {
                view.say(&done.text, !done.succeeded);
            }
        }
    }
}

/// A shell gets the terminal of a view.
fn give_to_shell(view: &mut View, number: usize, jobs: &Jobs) -> Result<(), JobError> {
    view.give_away()?;
    jobs.start_shell(number, view.terminal().path())
}

/// The new records of the log.
fn read(log: &mut Kmsg) -> Vec<Entry> {
    let mut records = Vec::new();
    loop {
        match log.read() {
            Ok(Some(record)) => records.extend(syslog::KmsgRecord::parse(&record).map(Entry::from)),
            Ok(None) => return records,
            Err(error) => {
                log::debug!("{}", chain(&error));
                return records;
            }
        }
    }
}

/// Records of a lower number the kernel writes to its consoles (`proc_sys_kernel(5)`).
fn console_level(root: &Root) -> u8 {
    let levels = root.read("proc/sys/kernel/printk").unwrap_or_default();
    levels.split_whitespace().next().and_then(|level| level.parse().ok()).unwrap_or(0)
}

/// Watches each directory of the target in which something can change;
/// `false` if there is no target yet.
fn watch_exports(root: &Root, exports: &Directories) -> bool {
    let mut directories = vec![NVMET.to_owned()];
    for group in ["subsystems", "ports"] {
        let group = format!("{NVMET}/{group}");
        let items = root.list(&group).unwrap_or_default();
        directories.push(group.clone());
        for namespaces in items.iter().map(|item| format!("{group}/{item}/namespaces")) {
            let each = root.list(&namespaces).unwrap_or_default();
            directories.extend(each.iter().map(|nsid| format!("{namespaces}/{nsid}")));
            directories.push(namespaces);
        }
    }
    // A host that connects is a directory that the kernel makes in one of these.
    directories.push(HOSTS.to_owned());
    directories.extend(root.list(HOSTS).unwrap_or_default().iter().map(|item| format!("{HOSTS}/{item}")));
    let mut watched = directories.into_iter().filter(|directory| root.exists(directory)).peekable();
    let found = root.exists(NVMET) && watched.peek().is_some();
    let watched = watched.chain(
        ssh::WATCHED
            .into_iter()
            .chain([name_in_use::DIRECTORY, admission::WATCHED])
            .filter(|directory| root.exists(directory))
            .map(str::to_owned),
    );
    for directory in watched {
        if let Err(error) = exports.add(root.path(directory)) {
            // It may just have been removed, which its parent tells.
            log::debug!("{}", chain(&error));
        }
    }
    found
}
