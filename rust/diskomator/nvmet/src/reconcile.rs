//! Which changes the target needs, and when: the policy of `diskomator hotplug`
//! as a state machine.
//!
//! Its caller observes the machine, calls [`Reconciler::step`], carries out the
//! actions, and reports the end of each job to [`Reconciler::finish`]. The state
//! is only what the kernel can't tell: jobs under way, what has been logged, and
//! when a failed disk is due again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use disks::disk::Disk;
use netproto::pace::Moment;
use settings::system::LogLevel;

use super::admission::{Admission, to_end};
use super::hosts::{Controller, ControllerId};
use super::model::{
    Host, LISTENER_NQN, Namespace, PortId, Subsystem, Target, disk_nqn, is_ours, is_read_only_nqn, queues,
};
use super::plan::{Op, enables, plan_admission, plan_disks, plan_hosts, plan_linger, plan_remake, plan_resize};
use crate::export::{Export, desired, is_made_by_hand};
use crate::identity;
use crate::policy::Refusal;

/// A job that takes this long is logged.
const LONG: Duration = Duration::from_secs(5);

/// How long the hosts of a disk that went away stay connected, should it come
/// back: as long as a host tries to reach a machine that went away
/// (`NVMF_DEF_CTRL_LOSS_TMO` in the kernel's `drivers/nvme/host/fabrics.h`).
const LINGER: Duration = Duration::from_secs(600);

/// A disk that does not open may just need a moment: the pauses before each new
/// attempt. The last one repeats itself.
const RETRY_AFTER: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// The state of the machine at one moment.
#[derive(Debug)]
pub struct Observation<'a> {
    /// Every disk.
    pub exports: &'a [Export],
    /// The target.
    pub target: &'a Target,
    /// The ports that every disk is to be linked to.
    pub ports: &'a [PortId],
    /// The hosts that may use the disks. Those on which somebody has decided have their directories.
    pub admission: &'a Admission,
    /// The controllers at each subsystem, by its NQN; none need be given while everyone is admitted.
    pub controllers: &'a BTreeMap<String, Vec<Controller>>,
    /// Those of [`unclaimed`] that a host is connected to.
    pub held: &'a BTreeSet<String>,
    /// A network card has been found, so that the machine has a name.
    pub can_be_named: bool,
    /// The machine's name is of this boot alone.
    pub is_nameless: bool,
    /// Disks and ports that can't be used at all, in words.
    pub complaints: BTreeSet<String>,
}

/// The subsystems of ours that no disk has a claim to.
pub fn unclaimed<'a>(exports: &[Export], target: &'a Target) -> impl Iterator<Item = &'a String> {
    let claimed: BTreeSet<String> = exports.iter().flat_map(Export::nqns).collect();
    target.subsystems.keys().filter(move |nqn| is_ours(nqn) && *nqn != LISTENER_NQN && !claimed.contains(*nqn))
}

/// Something for the caller to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Carry out operations that wait for no disk, at once and before any other action. Each is attempted, whatever
    /// becomes of the others, and the failures are reported to [`Reconciler::admitted`].
    Admit(Vec<Op>),
    /// End a controller at a subsystem.
    End {
        /// The subsystem.
        nqn: String,
        /// The controller.
        controller: Controller,
    },
    /// Carry out a job, beside the others.
    Start(Job),
    /// Log a line.
    Log(Line),
}

/// A change to one subsystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The subsystem.
    pub nqn: String,
    /// Its operations, in their order.
    pub ops: Vec<Op>,
    /// If one fails, the operations before it are to be undone.
    pub is_undone: bool,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its level.
    pub level: LogLevel,
    /// Its text.
    pub text: String,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words for a person who looks at the disk.
    pub reason: String,
    /// As the kernel said it.
    pub detail: String,
}

/// The parts of a disk that can change while its hosts are connected.
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

#[derive(Debug)]
enum Kind {
    /// Exports a disk.
    Export {
        label: String,
        name: String,
        /// The geometry that hosts learn of, if they do.
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

/// A job under way.
#[derive(Debug)]
struct Busy {
    kind: Kind,
    since: Moment,
    /// That it takes long has been logged.
    is_long: bool,
}

/// An export, or its end, that did not succeed.
#[derive(Debug)]
struct Failed {
    /// The disk's kernel name; empty if there is none.
    name: String,
    attempts: usize,
    retry: Moment,
}

/// The state machine.
#[derive(Debug)]
pub struct Reconciler {
    /// The machine's processors, and its memory in bytes.
    capacity: (usize, u64),
    /// When it made its last step.
    stepped: Moment,
    /// By NQN. Nothing else touches these subsystems meanwhile.
    busy: BTreeMap<String, Busy>,
    failed: BTreeMap<String, Failed>,
    /// Subsystems whose disk went away, and when.
    lingering: BTreeMap<String, Moment>,
    /// The geometry that hosts know, by NQN.
    told: BTreeMap<String, Geometry>,
    /// The messages about the machine's name that have been logged.
    is_waiting_for_a_card: bool,
    is_nameless: bool,
    /// The refusals that have been logged, by `diskseq` and name, and the complaints.
    refusals: BTreeMap<(u64, String), String>,
    complaints: BTreeSet<String>,
    /// When to look at the hosts though nothing has happened, after so many attempts to change them.
    hosts: Option<(usize, Moment)>,
    /// The failures of changes for hosts that have been logged.
    not_admitted: BTreeSet<String>,
    /// The controllers of which it has been logged that they are ended.
    ended: BTreeSet<ControllerId>,
    /// Everyone was admitted in the last step.
    is_open: bool,
}

impl Reconciler {
    /// For a machine with so many processors, and so much memory in bytes.
    pub fn new(capacity: (usize, u64)) -> Self {
        Self {
            capacity,
            stepped: Moment::ZERO,
            busy: BTreeMap::new(),
            failed: BTreeMap::new(),
            lingering: BTreeMap::new(),
            told: BTreeMap::new(),
            is_waiting_for_a_card: false,
            is_nameless: false,
            refusals: BTreeMap::new(),
            complaints: BTreeSet::new(),
            hosts: None,
            not_admitted: BTreeSet::new(),
            ended: BTreeSet::new(),
            is_open: false,
        }
    }

    /// The changes from the observed state to the wanted one, as far as they are due.
    pub fn step(&mut self, now: Moment, seen: &Observation<'_>) -> Vec<Action> {
        self.stepped = now;
        let mut actions: Vec<Action> = self.complain(&seen.complaints).map(Action::Log).collect();
        actions.extend(self.refuse(seen.exports).into_iter().map(Action::Log));
        let wanted = self.desired(seen.exports, seen.admission);
        let was_open = std::mem::replace(&mut self.is_open, *seen.admission == Admission::Everyone);
        actions.extend(self.tell_open(was_open, seen).map(Action::Log));
        let target = &self.admit(now, seen, &wanted, &mut actions);
        let seen = &Observation { target, complaints: BTreeSet::new(), ..*seen };
        self.end(was_open && !self.is_open, seen, &mut actions);
        if seen.can_be_named || seen.exports.iter().any(|export| export.enabled) {
            if seen.is_nameless && !self.is_nameless {
                self.is_nameless = true;
                actions.push(log(
                    LogLevel::Warn,
                    "this machine has neither a UUID nor a hardware address of its own: after a restart its disks \
                     have other names",
                ));
            }
            self.start_exports(now, seen, &wanted, &mut actions);
        } else if !self.is_waiting_for_a_card {
            self.is_waiting_for_a_card = true;
            let text = "no network card has been found yet: disks are exported as soon as there is one";
            actions.push(log(LogLevel::Info, text));
        }
        self.start_resizes(now, seen, &wanted, &mut actions);
        for (nqn, job) in &mut self.busy {
            if !job.is_long && now.saturating_sub(job.since) >= LONG {
                job.is_long = true;
                actions.push(log(LogLevel::Warn, format!("{nqn}: its disk does not answer; waiting for it")));
            }
        }
        actions
    }

    /// When the next step is due though nothing has happened.
    pub fn deadline(&self) -> Option<Moment> {
        let is_free = |nqn: &String| !self.busy.contains_key(nqn);
        let retries = self.failed.iter().filter(|(nqn, _)| is_free(nqn)).map(|(_, failed)| failed.retry);
        let lingering = self.lingering.iter().filter(|(nqn, _)| is_free(nqn)).map(|(_, since)| *since + LINGER);
        let long = self.busy.values().filter(|job| !job.is_long).map(|job| job.since + LONG);
        // The last step has dealt with the others, or could not.
        let hosts = self.hosts.map(|(_, at)| at);
        retries.chain(lingering).chain(long).chain(hosts).filter(|at| *at > self.stepped).min()
    }

    /// Takes the outcome of the job at the subsystem `nqn`.
    pub fn finish(&mut self, now: Moment, nqn: &str, outcome: Result<(), Failure>) -> Vec<Line> {
        let Some(Busy { kind, is_long, .. }) = self.busy.remove(nqn) else { return Vec::new() };
        let mut lines: Vec<Line> =
            is_long.then(|| line(LogLevel::Info, format!("{nqn} goes on"))).into_iter().collect();
        match outcome {
            Ok(()) => lines.extend(self.succeed(nqn, kind)),
            Err(failure) => lines.push(self.fail(now, nqn, kind, &failure)),
        }
        lines
    }

    /// Takes the failures among the operations of [`Action::Admit`], in words. Each is logged once.
    pub fn admitted(&mut self, failures: BTreeSet<String>) -> Vec<Line> {
        let new = failures.difference(&self.not_admitted).map(|text| line(LogLevel::Warn, text.as_str())).collect();
        self.not_admitted = failures;
        new
    }

    /// The disk of this kernel name changed, and deserves another attempt at once.
    pub fn disk_changed(&mut self, name: &str) {
        self.failed.retain(|_, failed| failed.name != name);
    }

    /// Any disk may have changed.
    pub fn all_changed(&mut self) {
        self.failed.clear();
    }

    fn desired(&self, exports: &[Export], admission: &Admission) -> BTreeMap<String, Subsystem> {
        let (processors, memory) = self.capacity;
        desired(exports, admission, |disk| queues(disk, processors, memory))
    }

    /// The subsystems that are open to everyone though nobody here opened them. What follows closes them.
    fn tell_open(&self, was_open: bool, seen: &Observation<'_>) -> impl Iterator<Item = Line> {
        let is_unexpected = !was_open && !self.is_open;
        let ours = seen.target.subsystems.iter().filter(|(nqn, subsystem)| is_ours(nqn) && subsystem.allow_any_host);
        ours.filter(move |(nqn, _)| is_unexpected && !self.busy.contains_key(*nqn)).map(|(nqn, _)| {
            let text = "lets every host in (attr_allow_any_host), which the setting access does not allow: it is closed, \
                        and hosts that are not admitted are disconnected";
            line(LogLevel::Error, format!("{nqn} {text}"))
        })
    }

    /// Has the kernel know who is admitted: whichever disk hangs, a host that is not admitted any more is out at once.
    /// The target as it is then.
    fn admit(
        &mut self,
        now: Moment,
        seen: &Observation<'_>,
        wanted: &BTreeMap<String, Subsystem>,
        actions: &mut Vec<Action>,
    ) -> Target {
        // A job may be taking the subsystem down.
        let may_let_in = |nqn: &str| wanted.contains_key(nqn) && !self.busy.contains_key(nqn);
        let (mut ops, target) = plan_admission(seen.admission, seen.target, may_let_in);
        ops.extend(plan_hosts(seen.admission, &target).remove);
        // A host that was just connecting shows itself a moment later, and an operation that failed is to be repeated.
        if ops.is_empty() {
            self.not_admitted.clear();
            self.hosts = self.hosts.filter(|(_, at)| *at > now);
        } else {
            let attempts = self.hosts.filter(|_| !self.not_admitted.is_empty()).map_or(0, |(attempts, _)| attempts);
            self.hosts = Some((attempts + 1, now + pause(attempts)));
            actions.push(Action::Admit(ops));
        }
        target
    }

    /// Ends the controllers of hosts that are not admitted, as the kernel keeps them. When the machine closes again,
    /// those of hosts with a key, too: while it was open they had nothing to prove.
    fn end(&mut self, is_closing: bool, seen: &Observation<'_>, actions: &mut Vec<Action>) {
        let ending: Vec<(&String, &Controller)> = seen
            .controllers
            .iter()
            .flat_map(|(nqn, controllers)| {
                let mut ending = to_end(controllers, seen.admission, nqn);
                if is_closing && is_ours(nqn) {
                    let unproven = |controller: &&Controller| seen.target.keys.contains_key(&controller.host.nqn);
                    ending.extend(controllers.iter().filter(unproven));
                    ending.sort_unstable_by_key(|controller| controller.id);
                    ending.dedup();
                }
                ending.into_iter().map(move |controller| (nqn, controller))
            })
            .collect();
        for (nqn, controller) in &ending {
            if !self.ended.contains(&controller.id) {
                let Host { nqn: host, address } = &controller.host;
                let address = address.as_deref().unwrap_or("unknown address").escape_debug();
                let host = host.escape_debug();
                let is_admitted = seen.admission.at(nqn).is_none_or(|allowed| allowed.contains(&controller.host.nqn));
                let why = if is_admitted { "has to prove its key to" } else { "is not admitted to" };
                let text = format!("{host} ({address}) {why} {nqn}: its connection is ended");
                actions.push(log(LogLevel::Info, text));
            }
            actions.push(Action::End { nqn: (*nqn).clone(), controller: (*controller).clone() });
        }
        self.ended = ending.iter().map(|(_, controller)| controller.id).collect();
    }

    fn start_exports(
        &mut self,
        now: Moment,
        seen: &Observation<'_>,
        wanted: &BTreeMap<String, Subsystem>,
        actions: &mut Vec<Action>,
    ) {
        let mut plan = plan_disks(wanted, seen.target, seen.ports);
        plan.retain(|nqn, _| !is_made_by_hand(nqn, seen.exports, seen.target));
        self.failed.retain(|nqn, _| plan.contains_key(nqn));
        self.lingering.retain(|nqn, _| plan.contains_key(nqn));
        for (nqn, mut ops) in plan {
            let export = seen.exports.iter().find(|export| export.nqn() == Some(disk_nqn(&nqn)));
            let name = export.map_or("", |export| &export.disk.name);
            // A disk that has another name than when it failed need not wait.
            let is_waiting = self.failed.get(&nqn).is_some_and(|failed| failed.name == name && failed.retry > now);
            if self.is_busy(&nqn) || is_waiting {
                continue;
            }
            let is_read_only = is_read_only_nqn(&nqn);
            let kind = match export {
                // No host is admitted any more that may only read.
                Some(_) if is_read_only && !wanted.contains_key(&nqn) => Kind::Withdraw,
                Some(export) => Kind::Export {
                    label: label(export, &nqn),
                    name: name.to_owned(),
                    geometry: enables(&ops).then(|| Geometry::of(&export.disk)),
                    is_empty: !export.has_medium(),
                    has_twin: export.has_twin && !is_read_only,
                },
                None if is_read_only && !seen.admission.has_readers() => Kind::Withdraw,
                None if self.may_linger(now, &nqn, seen) => {
                    ops = plan_linger(&nqn, seen.target);
                    Kind::Linger
                }
                None => Kind::Withdraw,
            };
            self.start(now, nqn, kind, ops, actions);
        }
    }

    /// Whether the subsystem `nqn` has to wait for a job. A read-only subsystem waits for the disk's own, too: it is
    /// named after that, and a name is not known while it changes.
    fn is_busy(&self, nqn: &str) -> bool {
        self.busy.contains_key(nqn) || self.busy.contains_key(disk_nqn(nqn))
    }

    /// Whether a host would have the disk back, and there is time yet.
    fn may_linger(&mut self, now: Moment, nqn: &str, seen: &Observation<'_>) -> bool {
        // A host asks a controller only once for what it is, and another one may come.
        let is_passthru = seen.target.subsystems.get(nqn).is_some_and(|subsystem| subsystem.passthru.is_some());
        if is_passthru || !seen.held.contains(nqn) {
            return false;
        }
        let since = *self.lingering.entry(nqn.to_owned()).or_insert(now);
        now.saturating_sub(since) < LINGER
    }

    /// A new size can be told; with a new block size it is another namespace.
    fn start_resizes(
        &mut self,
        now: Moment,
        seen: &Observation<'_>,
        wanted: &BTreeMap<String, Subsystem>,
        actions: &mut Vec<Action>,
    ) {
        let has_medium = seen.exports.iter().filter(|export| export.has_medium());
        for (export, nqn) in has_medium.flat_map(|export| export.nqns().map(move |nqn| (export, nqn))) {
            let nqn = &nqn;
            let Some(wanted) = wanted.get(nqn) else { continue };
            if !are_enabled(wanted, nqn, seen.target) {
                continue;
            }
            let (geometry, told) = (Geometry::of(&export.disk), self.told.get(nqn).copied());
            // A controller that is passed through tells its hosts itself.
            let is_busy = self.is_busy(nqn);
            if wanted.passthru.is_some() || is_busy || told == Some(geometry) {
                continue;
            }
            let label = label(export, nqn);
            let (kind, ops) = if told.is_some_and(|told| told.block_size != geometry.block_size) {
                actions.push(log(LogLevel::Info, format!("{label} has blocks of {} bytes now", geometry.block_size)));
                let name = export.disk.name.clone();
                let kind = Kind::Export { label, name, geometry: Some(geometry), is_empty: false, has_twin: false };
                let renewed = self.renewed(export, seen.admission, nqn);
                (kind, plan_remake(nqn, renewed.as_ref().unwrap_or(wanted), seen.target, seen.ports))
            } else {
                let resizes = wanted.namespaces.keys().map(|nsid| plan_resize(nqn, *nsid));
                (Kind::Resize { label, geometry }, resizes.collect())
            };
            self.start(now, nqn.clone(), kind, ops, actions);
        }
    }

    /// The subsystem `nqn` of a disk that is another namespace now than the one that its
    /// hosts have.
    fn renewed(&self, export: &Export, admission: &Admission, nqn: &str) -> Option<Subsystem> {
        let mut export = export.clone();
        if let Ok(grant) = &mut export.decision {
            grant.identity = identity::renewed(&grant.identity, &export.disk);
        }
        self.desired(&[export], admission).remove(nqn)
    }

    fn start(&mut self, now: Moment, nqn: String, kind: Kind, ops: Vec<Op>, actions: &mut Vec<Action>) {
        if ops.is_empty() {
            return;
        }
        let is_undone = matches!(kind, Kind::Export { .. });
        self.busy.insert(nqn.clone(), Busy { kind, since: now, is_long: false });
        actions.push(Action::Start(Job { nqn, ops, is_undone }));
    }

    fn succeed(&mut self, nqn: &str, kind: Kind) -> Vec<Line> {
        self.failed.remove(nqn);
        let told = match &kind {
            Kind::Export { is_empty: true, .. } | Kind::Linger | Kind::Withdraw => self.told.remove(nqn),
            Kind::Export { geometry: Some(geometry), .. } | Kind::Resize { geometry, .. } => {
                self.told.insert(nqn.to_owned(), *geometry)
            }
            Kind::Export { geometry: None, .. } => None,
        };
        let (text, twin) = match kind {
            Kind::Export { label, is_empty: true, .. } => {
                (format!("{label} has no medium; hosts see one that comes as {nqn}"), None)
            }
            Kind::Export { label, has_twin, .. } => {
                (format!("{label} is exported as {nqn}"), has_twin.then_some(label))
            }
            // The first time is after a restart, when hosts know it.
            Kind::Resize { .. } if told.is_none() => return Vec::new(),
            Kind::Resize { label, .. } => (format!("{label} has a new size"), None),
            Kind::Linger => (format!("{nqn} is gone; its hosts will have it again if it comes back soon"), None),
            Kind::Withdraw => (format!("{nqn} is withdrawn"), None),
        };
        let twin = twin.map(|label| {
            let text = "and another disk claim to be the same one; it is named by where it is plugged in";
            line(LogLevel::Warn, format!("{label} {text}"))
        });
        [line(LogLevel::Info, text)].into_iter().chain(twin).collect()
    }

    fn fail(&mut self, now: Moment, nqn: &str, kind: Kind, Failure { reason, detail }: &Failure) -> Line {
        let (what, name) = match kind {
            Kind::Export { label, name, .. } => (format!("{label} is not exported"), name),
            Kind::Resize { label, geometry } => {
                self.told.insert(nqn.to_owned(), geometry);
                return line(LogLevel::Warn, format!("cannot tell hosts the size of {label}: {detail}"));
            }
            Kind::Linger | Kind::Withdraw => (format!("{nqn} is not withdrawn"), String::new()),
        };
        let attempts = self.failed.get(nqn).map_or(0, |failed| failed.attempts);
        self.failed.insert(nqn.to_owned(), Failed { name, attempts: attempts + 1, retry: now + pause(attempts) });
        match attempts {
            0 => line(LogLevel::Warn, format!("{what}: {reason} ({detail})")),
            _ => line(LogLevel::Debug, format!("{what} after {} attempts: {detail}", attempts + 1)),
        }
    }

    /// Each refusal once.
    fn refuse(&mut self, exports: &[Export]) -> Vec<Line> {
        let (mut refusals, mut lines) = (BTreeMap::new(), Vec::new());
        for Export { disk, decision, .. } in exports {
            let Err(refusal) = decision else { continue };
            let key = (disk.diskseq, disk.name.clone());
            let text = format!("{} is not exported: {refusal}", disk.label());
            if self.refusals.get(&key) != Some(&text) {
                let level = match refusal {
                    Refusal::Unanswered => LogLevel::Warn,
                    Refusal::Awaited => LogLevel::Debug,
                    refusal if refusal.worth_showing() => LogLevel::Info,
                    _ => LogLevel::Debug,
                };
                lines.push(line(level, text.as_str()));
            }
            refusals.insert(key, text);
        }
        self.refusals = refusals;
        lines
    }

    /// Each complaint once, however often its cause is met.
    fn complain(&mut self, complaints: &BTreeSet<String>) -> impl Iterator<Item = Line> + use<> {
        let new: Vec<String> = complaints.difference(&self.complaints).cloned().collect();
        self.complaints.clone_from(complaints);
        new.into_iter().map(|complaint| line(LogLevel::Warn, complaint))
    }
}

/// The pause after so many attempts that failed before.
fn pause(attempts: usize) -> Duration {
    RETRY_AFTER.get(attempts).or(RETRY_AFTER.last()).copied().unwrap_or_default()
}

/// A disk at its subsystem `nqn`, for the log.
fn label(export: &Export, nqn: &str) -> String {
    let label = export.disk.label();
    if is_read_only_nqn(nqn) { format!("{label} for hosts that only read") } else { label }
}

/// Whether hosts have the namespaces that they should have at the subsystem `nqn`.
fn are_enabled(wanted: &Subsystem, nqn: &str, target: &Target) -> bool {
    let is_enabled = |found: &Subsystem, nsid: &u32, wanted: &Namespace| {
        let found = found.namespaces.get(nsid);
        found.is_some_and(|found| found.enabled && found.device_path == wanted.device_path)
    };
    let found = target.subsystems.get(nqn);
    found.is_some_and(|found| wanted.namespaces.iter().all(|(nsid, wanted)| is_enabled(found, nsid, wanted)))
}

fn line(level: LogLevel, text: impl Into<String>) -> Line {
    Line { level, text: text.into() }
}

fn log(level: LogLevel, text: impl Into<String>) -> Action {
    Action::Log(line(level, text))
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Errno, Fake};
    use super::super::model::{KeyText, listen_addresses, read_only_nqn};
    use super::super::plan::{PortPlan, plan_ports, plan_undo};
    use super::*;
    use crate::export::{decide, device_path};
    use crate::identity::Machine;
    use disks::config::Config;
    use disks::disk::{Answer, Attributes};
    use netproto::rng::Rng;
    use zeroize::Zeroizing;

    /// A machine with a target, its disks and its hosts.
    struct World {
        reconciler: Reconciler,
        fake: Fake,
        disks: Vec<Disk>,
        /// A host is connected to every subsystem.
        has_hosts: bool,
        has_card: bool,
        complaints: BTreeSet<String>,
        admission: Admission,
        /// The hosts that are connected, by subsystem.
        controllers: BTreeMap<String, Vec<Controller>>,
        now: Moment,
    }

    fn disk(name: &str, diskseq: u64) -> Disk {
        Disk::new(Attributes {
            name: name.into(),
            devpath: "devices/pci0000:00/0000:00:05.0".into(),
            diskseq: Some(diskseq),
            sectors: 2048,
            block_size: 512,
            wwid: Some("wwid-of-the-one-disk".into()),
            ..Attributes::default()
        })
    }

    fn world(disks: Vec<Disk>) -> World {
        let (has_hosts, has_card, complaints) = (true, true, BTreeSet::new());
        let (reconciler, now) = (Reconciler::new((2, 1 << 30)), Moment::from_secs(100));
        let (admission, controllers) = (Admission::Everyone, BTreeMap::new());
        let fake = Fake::default();
        World { reconciler, fake, disks, has_hosts, has_card, complaints, admission, controllers, now }
    }

    impl World {
        fn machine() -> Machine {
            Machine::new(Some("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"), &[], "")
        }

        fn exports(&self) -> Vec<Export> {
            decide(&Self::machine(), self.disks.clone(), &Config::default(), &self.fake.target())
        }

        fn step(&mut self) -> Vec<Action> {
            let PortPlan { listener, ports } = plan_ports(&listen_addresses(true), &self.fake.target());
            let (ids, ops): (Vec<PortId>, Vec<Vec<Op>>) = ports.into_iter().unzip();
            for op in listener.iter().chain(ops.iter().flatten()) {
                self.fake.apply(op).unwrap();
            }
            for (_, op) in plan_hosts(&self.admission, &self.fake.target()).make {
                self.fake.apply(&op).unwrap();
            }
            let (exports, target) = (self.exports(), self.fake.target());
            let held = unclaimed(&exports, &target).filter(|_| self.has_hosts).cloned().collect();
            self.reconciler.step(
                self.now,
                &Observation {
                    exports: &exports,
                    target: &target,
                    ports: &ids,
                    admission: &self.admission,
                    controllers: &self.controllers,
                    held: &held,
                    can_be_named: self.has_card,
                    is_nameless: Self::machine().is_of_this_boot(),
                    complaints: self.complaints.clone(),
                },
            )
        }

        fn carry_out(&mut self, job: &Job) -> Vec<Line> {
            let outcome = job.ops.iter().try_for_each(|op| self.fake.apply(op));
            if outcome.is_err() && job.is_undone {
                for op in plan_undo(&job.nqn, &job.ops, &self.fake.target()) {
                    self.fake.apply(&op).unwrap();
                }
            }
            let failure = |errno| Failure { reason: "reason".into(), detail: format!("{errno:?}") };
            self.reconciler.finish(self.now, &job.nqn, outcome.map_err(failure))
        }

        fn admit(&mut self, ops: &[Op]) -> Vec<Line> {
            let failures =
                ops.iter().filter_map(|op| self.fake.apply(op).err().map(|errno| format!("{op}: {errno:?}")));
            let failures = failures.collect();
            self.reconciler.admitted(failures)
        }

        /// Waits, steps, and carries out the jobs at once. The log, down to Info.
        fn after(&mut self, seconds: u64) -> Vec<String> {
            self.now += Duration::from_secs(seconds);
            let mut lines = Vec::new();
            for action in self.step() {
                match action {
                    Action::Log(line) => lines.push(line),
                    Action::Start(job) => lines.extend(self.carry_out(&job)),
                    Action::Admit(ops) => lines.extend(self.admit(&ops)),
                    Action::End { nqn, controller } => {
                        self.controllers.get_mut(&nqn).unwrap().retain(|other| *other != controller);
                    }
                }
            }
            lines.into_iter().filter(|line| line.level <= LogLevel::Info).map(|line| line.text).collect()
        }

        fn jobs(&mut self) -> Vec<Job> {
            let jobs = self.step().into_iter().filter_map(|action| match action {
                Action::Start(job) => Some(job),
                Action::Log(_) | Action::Admit(_) | Action::End { .. } => None,
            });
            jobs.collect()
        }

        /// From now to the deadline, in seconds.
        fn deadline(&self) -> Option<u64> {
            self.reconciler.deadline().map(|at| at.saturating_sub(self.now).as_secs())
        }

        fn nqn(&self) -> String {
            self.exports()[0].nqn().unwrap().to_owned()
        }
    }

    /// A world with one exported disk, and the NQN of that.
    fn exported() -> (World, String) {
        let mut world = world(vec![disk("sda", 3)]);
        let nqn = world.nqn();
        assert_eq!(world.after(0), [format!("sda (1 MiB) is exported as {nqn}")]);
        (world, nqn)
    }

    #[test]
    fn nothing_is_done_or_logged_when_nothing_has_changed() {
        let (mut world, _) = exported();
        for seconds in [0, 1, 1000] {
            world.now += Duration::from_secs(seconds);
            assert_eq!(world.step(), []);
            assert_eq!(world.deadline(), None);
        }
    }

    #[test]
    fn the_pause_after_a_failure_grows_and_the_failure_is_logged_once() {
        let mut world = world(vec![disk("sda", 3)]);
        world.fake.refuse(&device_path(&disk("sda", 3)), Errno::NoMedium);
        assert_eq!(world.after(0), ["sda (1 MiB) is not exported: reason (NoMedium)"]);
        for pause in [1, 2, 5, 15, 60, 60] {
            assert_eq!(world.deadline(), Some(pause));
            world.now += Duration::from_millis(pause * 1000 - 1);
            assert_eq!(world.step(), [], "before {pause} seconds");
            world.now += Duration::from_millis(1);
            assert_eq!(world.after(0), Vec::<String>::new());
        }
        world.fake.accept(&device_path(&disk("sda", 3)));
        let exported = format!("sda (1 MiB) is exported as {}", world.nqn());
        assert_eq!(world.after(60), [exported]);
        assert_eq!(world.deadline(), None);
    }

    #[test]
    fn a_disk_that_changed_is_tried_at_once_and_its_pauses_start_anew() {
        for all in [false, true] {
            let mut world = world(vec![disk("sda", 3)]);
            world.fake.refuse(&device_path(&disk("sda", 3)), Errno::NoMedium);
            world.after(0);
            world.after(1);
            assert_eq!(world.deadline(), Some(2));
            world.reconciler.disk_changed("sdb");
            assert_eq!(world.jobs(), []);
            if all {
                world.reconciler.all_changed();
            } else {
                world.reconciler.disk_changed("sda");
            }
            assert_eq!(world.after(0).len(), 1);
            assert_eq!(world.deadline(), Some(1));
        }
    }

    #[test]
    fn a_disk_that_failed_under_another_name_does_not_wait() {
        let mut world = world(vec![disk("sda", 3)]);
        world.fake.refuse(&device_path(&disk("sda", 3)), Errno::NoMedium);
        world.after(0);
        world.disks = vec![disk("sdb", 4)];
        assert_eq!(world.after(0), [format!("sdb (1 MiB) is exported as {}", world.nqn())]);
    }

    #[test]
    fn a_disk_that_is_gone_and_back_within_the_linger_keeps_its_nqn_and_its_hosts() {
        let (mut world, nqn) = exported();
        world.disks.clear();
        assert_eq!(world.after(1), [format!("{nqn} is gone; its hosts will have it again if it comes back soon")]);
        assert_eq!(world.deadline(), Some(600));
        assert_eq!(world.after(599), Vec::<String>::new());
        assert!(world.fake.target().ports.values().all(|port| port.subsystems.contains(&nqn)));
        world.disks = vec![disk("sdb", 9)];
        assert_eq!(world.after(0), [format!("sdb (1 MiB) is exported as {nqn}")]);
        assert_eq!((world.after(1), world.deadline()), (vec![], None));
    }

    #[test]
    fn the_linger_ends_after_ten_minutes_or_with_the_last_host() {
        for (seconds, has_hosts) in [(600, true), (1, false)] {
            let (mut world, nqn) = exported();
            world.disks.clear();
            world.after(1);
            assert_eq!(world.jobs(), []);
            world.has_hosts = has_hosts;
            assert_eq!(world.after(seconds), [format!("{nqn} is withdrawn")]);
            assert!(!world.fake.target().subsystems.contains_key(&nqn));
            assert_eq!((world.after(1), world.deadline()), (vec![], None));
        }
    }

    #[test]
    fn a_disk_without_hosts_is_withdrawn_at_once() {
        let (mut world, nqn) = exported();
        world.has_hosts = false;
        world.disks.clear();
        assert_eq!(world.after(0), [format!("{nqn} is withdrawn")]);
    }

    #[test]
    fn a_new_size_is_told_and_a_new_block_size_renews_the_namespace() {
        let (mut world, nqn) = exported();
        let namespace = |world: &World| world.fake.target().subsystems[&nqn].namespaces.clone();
        let before = namespace(&world);
        world.disks[0].size *= 2;
        assert_eq!(world.after(1), ["sda (2 MiB) has a new size"]);
        assert_eq!(namespace(&world), before);
        world.disks[0].block_size = 4096;
        let lines = ["sda (2 MiB) has blocks of 4096 bytes now".into(), format!("sda (2 MiB) is exported as {nqn}")];
        assert_eq!(world.after(1), lines);
        let (before, after) = (before.into_values().next().unwrap(), namespace(&world).into_values().next().unwrap());
        assert!(before.uuid != after.uuid && after.enabled);
    }

    #[test]
    fn after_a_restart_hosts_are_told_the_size_once_without_a_word() {
        let (mut world, _) = exported();
        world.reconciler = Reconciler::new((2, 1 << 30));
        let jobs = world.jobs();
        assert_eq!(jobs.len(), 1);
        assert_eq!(world.carry_out(&jobs[0]), []);
        assert_eq!(world.step(), []);
    }

    #[test]
    fn a_size_that_cannot_be_told_is_logged_once() {
        let (mut world, nqn) = exported();
        world.disks[0].size *= 2;
        let job = world.jobs().remove(0);
        let failure = Failure { reason: "reason".into(), detail: "detail".into() };
        let lines = world.reconciler.finish(world.now, &job.nqn, Err(failure));
        assert_eq!(lines, [line(LogLevel::Warn, "cannot tell hosts the size of sda (2 MiB): detail")]);
        assert_eq!((job.nqn, world.step(), world.deadline()), (nqn, vec![], None));
    }

    #[test]
    fn one_job_at_a_time_is_at_a_subsystem_and_a_long_one_is_logged_once() {
        let mut world = world(vec![disk("sda", 3)]);
        let job = world.jobs().remove(0);
        assert_eq!(world.deadline(), Some(5));
        world.disks.clear();
        world.now += Duration::from_secs(4);
        assert_eq!(world.step(), []);
        let text = format!("{}: its disk does not answer; waiting for it", job.nqn);
        assert_eq!(world.after(1), [text]);
        assert_eq!((world.after(600), world.deadline()), (vec![], None));
        let lines = world.carry_out(&job);
        assert_eq!(lines[0].text, format!("{} goes on", job.nqn));
        // Now its disk is found to be gone.
        assert_eq!(world.after(0).len(), 1);
        assert_eq!(world.reconciler.finish(world.now, &job.nqn, Ok(())), []);
    }

    #[test]
    fn without_a_network_card_nothing_is_exported_and_nothing_spins() {
        let mut world = world(vec![disk("sda", 3)]);
        world.fake.refuse(&device_path(&disk("sda", 3)), Errno::NoMedium);
        world.after(0);
        world.has_card = false;
        assert_eq!(world.after(1), ["no network card has been found yet: disks are exported as soon as there is one"]);
        assert_eq!((world.step(), world.deadline()), (vec![], None));
        world.has_card = true;
        assert_eq!(world.jobs().len(), 1);
    }

    #[test]
    fn refusals_and_complaints_are_logged_when_they_are_new() {
        let mut world = world(vec![Disk { answer: Answer::Overdue, ..disk("sda", 3) }]);
        world.complaints.insert("cannot listen".into());
        assert_eq!(world.after(0), ["cannot listen", "sda (1 MiB) is not exported: does not answer"]);
        assert_eq!(world.after(1), Vec::<String>::new());
        world.complaints.clear();
        world.disks[0].answer = Answer::Given;
        world.disks[0].mounted = true;
        assert_eq!(world.after(1), ["sda (1 MiB) is not exported: mounted on this machine"]);
        world.complaints.insert("cannot listen".into());
        assert_eq!(world.after(1), ["cannot listen"]);
    }

    #[test]
    fn an_empty_drive_waits_for_its_medium() {
        let empty = Disk { size: 0, removable: true, ..disk("sda", 3) };
        let mut world = world(vec![empty]);
        let nqn = world.nqn();
        assert_eq!(world.after(0), [format!("sda (0 B) has no medium; hosts see one that comes as {nqn}")]);
        world.disks = vec![Disk { removable: true, ..disk("sda", 4) }];
        assert_eq!(world.after(1), [format!("sda (1 MiB) is exported as {nqn}")]);
    }

    fn hosts(read_write: &[&str], read_only: &[&str], denied: &[&str]) -> Admission {
        let [read_write, read_only, denied] =
            [read_write, read_only, denied].map(|hosts| hosts.iter().map(|host| (*host).to_owned()).collect());
        Admission::Hosts { read_write, read_only, denied }
    }

    /// A world with one exported disk and hosts that are admitted to it, and the NQN of that.
    fn admitting(admission: Admission) -> (World, String) {
        let mut world = world(vec![disk("sda", 3)]);
        world.admission = admission;
        let nqn = world.nqn();
        assert_eq!(world.after(0)[0], format!("sda (1 MiB) is exported as {nqn}"));
        // The read-only subsystem follows.
        world.after(0);
        (world, nqn)
    }

    impl World {
        fn allowed(&self, nqn: &str) -> String {
            self.fake.target().subsystems[nqn].allowed_hosts.iter().map(String::as_str).collect()
        }

        fn connect(&mut self, nqn: &str, host: &str, number: u16) {
            let id = ControllerId { number, inode: u64::from(number) };
            let host = Host { nqn: host.to_owned(), address: Some("192.0.2.1".to_owned()) };
            self.controllers.entry(nqn.to_owned()).or_default().push(Controller { id, host });
        }
    }

    #[test]
    fn a_host_that_is_admitted_is_linked_without_a_job_and_one_that_is_not_is_ended() {
        let (mut world, nqn) = admitting(hosts(&["x"], &[], &[]));
        assert_eq!((world.step(), world.deadline()), (vec![], None));
        world.connect(&nqn, "x", 1);
        world.admission = hosts(&["x", "y"], &[], &[]);
        assert_eq!((world.after(0), world.allowed(&nqn)), (vec![], "xy".to_owned()));
        world.admission = hosts(&["y"], &[], &["x"]);
        let ended = format!("x (192.0.2.1) is not admitted to {nqn}: its connection is ended");
        assert_eq!((world.after(0), world.allowed(&nqn)), (vec![ended], "y".to_owned()));
        assert_eq!(world.controllers[&nqn], []);
        // One that was just connecting shows itself a moment later.
        assert_eq!(world.deadline(), Some(1));
        world.connect(&nqn, "x", 2);
        assert_eq!(world.after(1).len(), 1);
        assert_eq!((world.after(0), world.deadline()), (vec![], None));
        world.admission = hosts(&["y"], &[], &[]);
        world.after(0);
        assert_eq!(world.fake.target().hosts, BTreeSet::from(["y".to_owned()]));
    }

    #[test]
    fn a_disk_that_hangs_delays_nobody_s_end_and_lets_nobody_in() {
        let (mut world, nqn) = admitting(hosts(&["x", "y"], &[], &[]));
        world.connect(&nqn, "x", 1);
        world.disks[0].size *= 2;
        let job = world.jobs().remove(0);
        world.admission = hosts(&["y", "z"], &[], &[]);
        assert_eq!(world.after(0).len(), 1);
        assert_eq!((world.allowed(&nqn), world.controllers[&nqn].len()), ("y".to_owned(), 0));
        world.carry_out(&job);
        world.after(0);
        assert_eq!(world.allowed(&nqn), "yz");
    }

    #[test]
    fn a_host_that_may_only_read_from_now_on_changes_its_subsystem() {
        let (mut world, nqn) = admitting(hosts(&["x"], &[], &[]));
        let readers = read_only_nqn(&nqn);
        world.connect(&nqn, "x", 1);
        world.admission = hosts(&[], &["x"], &[]);
        assert_eq!(
            world.after(0),
            [
                format!("x (192.0.2.1) is not admitted to {nqn}: its connection is ended"),
                format!("sda (1 MiB) for hosts that only read is exported as {readers}")
            ]
        );
        assert_eq!((world.allowed(&nqn), world.allowed(&readers)), (String::new(), "x".to_owned()));
        assert_eq!(world.after(1), Vec::<String>::new());
        assert_eq!((world.step(), world.deadline()), (vec![], None));
        world.connect(&readers, "x", 2);
        world.disks[0].size *= 2;
        let sizes = ["sda (2 MiB) has a new size", "sda (2 MiB) for hosts that only read has a new size"];
        assert_eq!([world.after(1), world.after(1)].concat(), sizes);
        // And back: hosts that may only read there are none, so that their subsystem does not wait for them.
        world.admission = hosts(&["x"], &[], &[]);
        let lines = world.after(1);
        assert_eq!(lines[1..], [format!("{readers} is withdrawn")]);
        assert_eq!((world.allowed(&nqn), world.controllers[&readers].len()), ("x".to_owned(), 0));
        assert!(!world.fake.target().subsystems.contains_key(&readers));
    }

    #[test]
    fn a_disk_that_is_pulled_lets_nobody_in_until_it_is_back() {
        let (mut world, nqn) = admitting(hosts(&["x"], &["y"], &[]));
        let readers = read_only_nqn(&nqn);
        world.disks.clear();
        let lines =
            [&nqn, &readers].map(|nqn| format!("{nqn} is gone; its hosts will have it again if it comes back soon"));
        assert_eq!([world.after(1), world.after(1)].concat(), lines);
        assert_eq!((world.allowed(&nqn), world.allowed(&readers)), Default::default());
        assert_eq!(world.after(1), Vec::<String>::new());
        world.disks = vec![disk("sdb", 9)];
        assert_eq!([world.after(1), world.after(1)].concat().len(), 2);
        assert_eq!((world.allowed(&nqn), world.allowed(&readers)), ("x".to_owned(), "y".to_owned()));
        assert_eq!((world.after(1), world.deadline()), (vec![], None));
    }

    #[test]
    fn a_new_block_size_renews_both_namespaces_with_names_that_belong_together() {
        let (mut world, nqn) = admitting(hosts(&["x"], &["y"], &[]));
        let uuids = |world: &World| {
            let target = world.fake.target();
            [nqn.clone(), read_only_nqn(&nqn)]
                .map(|nqn| target.subsystems[&nqn].namespaces.values().next().unwrap().uuid.clone())
        };
        let before = uuids(&world);
        world.after(1);
        world.after(1);
        world.disks[0].block_size = 4096;
        (0..3).for_each(|_| drop(world.after(1)));
        let after = uuids(&world);
        assert!(before[0] != after[0] && before[1] != after[1]);
        assert_eq!((world.step(), uuids(&world)), (vec![], after));
    }

    #[test]
    fn the_read_only_subsystem_waits_for_the_disk_s_own() {
        let (mut world, nqn) = admitting(hosts(&["x"], &["y"], &[]));
        (0..2).for_each(|_| drop(world.after(1)));
        world.disks[0].block_size = 4096;
        let job = world.jobs().remove(0);
        assert_eq!(job.nqn, nqn);
        let removed = 1 + job.ops.iter().position(|op| matches!(op, Op::RemoveDir(_))).unwrap();
        for (done, op) in job.ops.iter().enumerate() {
            world.fake.apply(op).unwrap();
            // The name of the namespace is not known from the target now.
            assert!(done + 1 < removed || world.jobs().is_empty(), "after {op}");
        }
        world.reconciler.finish(world.now, &nqn, Ok(()));
        let jobs = world.jobs();
        assert_eq!(jobs.iter().map(|job| job.nqn.clone()).collect::<Vec<_>>(), [read_only_nqn(&nqn)]);
        world.carry_out(&jobs[0]);
        assert_eq!(world.step(), []);
    }

    #[test]
    fn opening_and_closing_is_open_to_everyone_and_then_to_those_who_are_admitted() {
        let (mut world, nqn) = admitting(hosts(&["x"], &["y"], &[]));
        let readers = read_only_nqn(&nqn);
        world.connect(&nqn, "x", 1);
        world.admission = Admission::Everyone;
        (0..3).for_each(|_| drop(world.after(1)));
        let target = world.fake.target();
        assert!(target.subsystems[&nqn].allow_any_host && !target.subsystems.contains_key(&readers));
        world.connect(&nqn, "z", 2);
        world.admission = hosts(&["x"], &[], &[]);
        assert_eq!(world.after(1), [format!("z (192.0.2.1) is not admitted to {nqn}: its connection is ended")]);
        assert_eq!((world.allowed(&nqn), world.controllers[&nqn].len()), ("x".to_owned(), 1));
        assert_eq!((world.after(1), world.step(), world.deadline()), (vec![], vec![], None));
        // While it was open nobody had to prove the key of x.
        let key = |attribute: &str| Op::WriteKey {
            path: format!("hosts/x/{attribute}"),
            key: KeyText::from(Zeroizing::new("DHHC-1:00:a:".to_owned())),
        };
        for attribute in ["dhchap_ctrl_key", "dhchap_key"] {
            world.fake.apply(&key(attribute)).unwrap();
        }
        assert_eq!((world.after(1), world.controllers[&nqn].len()), (vec![], 1));
        let admission = std::mem::replace(&mut world.admission, Admission::Everyone);
        (0..3).for_each(|_| drop(world.after(1)));
        world.admission = admission;
        assert_eq!(world.after(1), [format!("x (192.0.2.1) has to prove its key to {nqn}: its connection is ended")]);
    }

    #[test]
    fn a_disk_that_somebody_else_opened_to_everyone_is_closed_and_it_is_said() {
        let (mut world, nqn) = admitting(Admission::nobody());
        let open = Op::Write { path: format!("subsystems/{nqn}/attr_allow_any_host"), value: "1".into() };
        let says = |lines: &[String]| lines.first().is_some_and(|line| line.starts_with(&format!("{nqn} lets every")));
        for is_restarted in [false, true] {
            world.fake.apply(&open).unwrap();
            world.connect(&nqn, "x", 1);
            if is_restarted {
                world.reconciler = Reconciler::new((2, 1 << 30));
            }
            let lines = world.after(1);
            assert!(says(&lines) && lines[1].contains("its connection is ended"), "{lines:?}");
            assert!(!world.fake.target().subsystems[&nqn].allow_any_host && world.controllers[&nqn].is_empty());
            assert_eq!(world.after(1), Vec::<String>::new());
        }
        // Who opens it on purpose and closes it again is told nothing.
        for admission in [Admission::Everyone, Admission::nobody()] {
            world.admission = admission;
            assert!(!says(&world.after(1)) && !says(&world.after(1)));
        }
    }

    #[test]
    fn what_fails_about_hosts_is_logged_once_and_tried_again() {
        let (mut world, nqn) = admitting(hosts(&["x"], &[], &[]));
        // Somebody else takes the directory's last link, and it is busy.
        world.fake.apply(&Op::Unlink(format!("subsystems/{nqn}/allowed_hosts/x"))).unwrap();
        world.fake.apply(&Op::RemoveDir("hosts/x".into())).unwrap();
        let admission = std::mem::replace(&mut world.admission, Admission::nobody());
        assert_eq!(world.after(0), Vec::<String>::new());
        world.admission = admission;
        let target = world.fake.target();
        let exports = world.exports();
        let seen = Observation {
            exports: &exports,
            target: &target,
            ports: &[],
            admission: &world.admission,
            controllers: &BTreeMap::new(),
            held: &BTreeSet::new(),
            can_be_named: true,
            is_nameless: false,
            complaints: BTreeSet::new(),
        };
        let failures = BTreeSet::from(["no such host".to_owned()]);
        let mut pauses = Vec::new();
        for attempt in 0..3 {
            let actions = world.reconciler.step(world.now, &seen);
            assert!(matches!(&actions[..], [Action::Admit(ops), ..] if ops.len() == 1), "{actions:?}");
            assert_eq!(world.reconciler.admitted(failures.clone()).len(), usize::from(attempt == 0));
            let at = world.reconciler.hosts.unwrap().1;
            pauses.push(at.saturating_sub(world.now).as_secs());
            world.now = at;
        }
        assert_eq!(pauses, [1, 2, 5]);
    }

    /// As `local::configfs` applies operations: a change that somebody else has made is as good as done.
    fn apply(fake: &mut Fake, op: &Op) -> Result<(), Errno> {
        let done = match op {
            Op::MakeDir(_) | Op::Link { .. } => Some(Errno::Exists),
            Op::RemoveDir(_) | Op::Unlink(_) => Some(Errno::NoEntry),
            Op::Write { .. } | Op::WriteKey { .. } => None,
        };
        fake.apply(op).or_else(|errno| if Some(errno) == done { Ok(()) } else { Err(errno) })
    }

    fn random_admission(rng: &mut Rng) -> Admission {
        if rng.below(5) == 0 {
            return Admission::Everyone;
        }
        let mut sets: [BTreeSet<String>; 4] = Default::default();
        for host in ["x", "y", "z"] {
            sets[usize::try_from(rng.below(4)).unwrap()].insert(host.to_owned());
        }
        let [read_write, read_only, denied, _] = sets;
        Admission::Hosts { read_write, read_only, denied }
    }

    #[test]
    fn whatever_comes_between_nobody_is_linked_who_is_not_admitted_and_it_ends_as_it_should() {
        let mut changes = 0;
        for seed in 0..150 {
            let mut rng = Rng::new(seed);
            let mut world = world(Vec::new());
            world.has_hosts = rng.below(2) == 0;
            // Jobs that have begun, each with the operations that are left.
            let mut jobs: Vec<(Job, usize)> = Vec::new();
            for _ in 0..30 {
                match rng.below(6) {
                    0 | 1 => world.admission = random_admission(&mut rng),
                    2 => {
                        let names = ["sda", "sdb"].into_iter().filter(|_| rng.below(4) > 0).collect::<Vec<_>>();
                        let wwid = |name: &str| Some(format!("naa.5002538e40a1b2{name}"));
                        let disks = names.into_iter().map(|name| Disk { wwid: wwid(name), ..disk(name, 3) });
                        world.disks = disks.collect();
                    }
                    // Killed in the middle of everything.
                    3 if rng.below(4) == 0 => {
                        jobs.clear();
                        world.reconciler = Reconciler::new((2, 1 << 30));
                    }
                    _ => {}
                }
                for action in world.step() {
                    match action {
                        Action::Log(_) | Action::End { .. } => {}
                        Action::Admit(ops) => {
                            changes += ops.len();
                            for op in &ops {
                                apply(&mut world.fake, op)
                                    .unwrap_or_else(|errno| panic!("seed {seed}: {errno:?} {op}"));
                            }
                        }
                        Action::Start(job) => jobs.push((job, 0)),
                    }
                }
                for (nqn, found) in world.fake.target().subsystems {
                    let Some(allowed) = world.admission.at(&nqn).filter(|_| world.admission != Admission::Everyone)
                    else {
                        continue;
                    };
                    assert!(!found.allow_any_host && found.allowed_hosts.is_subset(&allowed), "seed {seed}: {nqn}");
                }
                jobs.retain_mut(|(job, done)| {
                    let until = *done + usize::try_from(rng.below(12)).unwrap();
                    let mut outcome = Ok(());
                    while outcome.is_ok() && *done < job.ops.len().min(until) {
                        outcome = apply(&mut world.fake, &job.ops[*done]);
                        *done += 1;
                    }
                    let is_done = outcome.is_err() || *done == job.ops.len();
                    if outcome.is_err() && job.is_undone {
                        for op in plan_undo(&job.nqn, &job.ops, &world.fake.target()) {
                            apply(&mut world.fake, &op).unwrap();
                        }
                    }
                    if is_done {
                        let failure = |errno| Failure { reason: String::new(), detail: format!("{errno:?}") };
                        world.reconciler.finish(world.now, &job.nqn, outcome.map_err(failure));
                    }
                    !is_done
                });
                world.now += Duration::from_secs(1);
            }
            for (job, done) in jobs {
                let outcome = job.ops[done..].iter().try_for_each(|op| apply(&mut world.fake, op));
                let failure = |errno| Failure { reason: String::new(), detail: format!("{errno:?}") };
                world.reconciler.finish(world.now, &job.nqn, outcome.map_err(failure));
            }
            world.has_hosts = false;
            (0..12).for_each(|_| drop(world.after(100)));
            assert_eq!(world.step(), [], "seed {seed}");
            let exports = world.exports();
            let mut ours = world.fake.target().subsystems;
            ours.remove(LISTENER_NQN);
            assert_eq!(ours, world.reconciler.desired(&exports, &world.admission), "seed {seed}");
            if world.admission != Admission::Everyone {
                assert_eq!(world.fake.target().hosts, world.admission.decided(), "seed {seed}");
            }
        }
        assert!(changes > 500, "{changes} changes are no test");
    }
}
