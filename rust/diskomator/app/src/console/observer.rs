//! The view of the kernel's state.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use access::Mode;
use daemons::name::current_name;
use daemons::net::{link_speed, origin_name};
use daemons::ssh;
use disks::config::{Config, Settings};
use disks::disk::Disk as KernelDisk;
use kernel::clock;
use kernel::error::chain;
use kernel::machine;
use kernel::netlink::{self, Netlink, NetlinkError};
use kernel::root::Root;
use local::configfs;
use local::sysfs;
use nvmet::export::Export;
use nvmet::model::Host;
use nvmet::policy::Access;
use screen::log::Log;
use screen::model::{self, Address, Admitted, Disk, DiskState, Link, Machine, Request, Snapshot, Ssh};

use crate::admission;
use crate::boot;
use crate::exporter::{ExportError, Exporter, Observation, State, state};

/// Less than this, and programs are about to be ended for want of memory.
const LITTLE_MEMORY: u64 = 16 << 20;

/// Reads the kernel's state for the console.
pub(super) struct Observer {
    netlink: Netlink,
    exporter: Exporter,
    machine: Machine,
    /// Warnings about the settings.
    settings: Vec<String>,
    exports: Vec<Export>,
    /// No clock that goes is before this.
    earliest: Duration,
    /// What the firmware starts when nothing is asked of it; `None` if it keeps no variables. It was asked once, when
    /// there was something on the screen already.
    after: OnceCell<Option<efi::After>>,
}

impl Observer {
    /// `wake` is called when a disk has answered that had not.
    pub(super) fn new(
        root: Root,
        settings: Settings,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, NetlinkError> {
        let (processors, memory) = sysfs::capacity();
        let machine = Machine {
            name: None,
            version: env!("CARGO_PKG_VERSION"),
            model: machine::model(&root),
            processor: machine::processor(&root),
            processors,
            memory,
            memory_free: 0,
            screen: machine::screen(&root),
        };
        let earliest = clock::earliest(&root);
        let exporter = Exporter::new(root, settings.config, wake);
        let settings = settings.warnings.iter().map(ToString::to_string).collect();
        Ok(Self {
            netlink: Netlink::new()?,
            exporter,
            machine,
            settings,
            exports: Vec::new(),
            earliest,
            after: OnceCell::new(),
        })
    }

    /// The state that is known at once, without asking any disk.
    pub(super) fn first_glance(&self) -> Snapshot {
        Snapshot { machine: self.machine.clone(), links: self.links().unwrap_or_default().0, ..Snapshot::default() }
    }

    pub(super) fn look(&mut self, log: &Log) -> Result<Snapshot, NetlinkError> {
        let observed = self.exporter.ask_disks().and_then(|()| self.exporter.observe());
        self.snapshot(observed, log)
    }

    /// The same, once every disk has answered that will.
    pub(super) fn look_at_all(&mut self, log: &Log) -> Result<Snapshot, NetlinkError> {
        let observed = self.exporter.ask_all().and_then(|()| self.exporter.observe());
        self.snapshot(observed, log)
    }

    /// Looks at links and addresses alone.
    pub(super) fn look_at_network(&self, snapshot: &mut Snapshot) -> Result<(), NetlinkError> {
        let (links, name) = self.links()?;
        snapshot.links = links;
        snapshot.machine.name = name;
        Ok(())
    }

    /// When a disk will be found not to answer.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.exporter.prober.next_look()
    }

    /// A disk as the kernel has it.
    pub(super) fn disk(&self, name: &str) -> Option<&KernelDisk> {
        self.exports.iter().map(|export| &export.disk).find(|disk| disk.name == name)
    }

    fn snapshot(&mut self, observed: Result<Observation, ExportError>, log: &Log) -> Result<Snapshot, NetlinkError> {
        let (links, name) = self.links()?;
        let root = &self.exporter.root;
        let (disks, exports, problem) = match observed {
            Ok(observation) => (disks(root, &observation.exports), observation.exports, None),
            Err(error) => (Vec::new(), Vec::new(), Some(chain(&error))),
        };
        let access = hosts(root, &self.exporter.config);
        self.exports = exports;
        self.machine.name = name;
        self.machine.memory_free = machine::memory_free(root).unwrap_or_default();
        self.machine.screen = machine::screen(root);
        Ok(Snapshot {
            machine: self.machine.clone(),
            is_by_hand: self.exporter.config.export.is_none(),
            warnings: self.warnings(&disks, access.mode, log),
            after: self.after.get_or_init(|| after(root)).clone(),
            access,
            links,
            disks,
            problem,
            ssh: ssh::status(root).map(|status| Ssh {
                password: status.password,
                fingerprint: status.fingerprint,
                keys: status.keys,
            }),
            ..Snapshot::default()
        })
    }

    /// The gravest first.
    fn warnings(&self, disks: &[Disk], mode: Mode, log: &Log) -> Vec<String> {
        let mut warnings = log.troubles();
        if (1..LITTLE_MEMORY).contains(&self.machine.memory_free) {
            let left = disks::disk::human_size(self.machine.memory_free);
            warnings.push(format!("Memory is nearly used up: {left} are left. Programs may be ended."));
        }
        let is_open = |state: &DiskState| {
            matches!(state, DiskState::Exported | DiskState::ReadOnly | DiskState::Passthru | DiskState::NoMedium)
        };
        if mode == Mode::Open && disks.iter().any(|disk| is_open(&disk.state)) {
            warnings.push("Everyone on this network can read and overwrite these disks.".to_owned());
        }
        warnings.extend(self.settings.iter().cloned());
        warnings.extend(ssh::refused(&self.exporter.root));
        if clock::time_of_day() < self.earliest {
            warnings.push("The clock is late: this image is newer. The machine's battery may be empty.".to_owned());
        }
        warnings
    }

    /// The links, and the machine's name on them.
    fn links(&self) -> Result<(Vec<Link>, Option<String>), NetlinkError> {
        let root = &self.exporter.root;
        let addresses = self.netlink.addresses()?;
        let links: Vec<netlink::Link> = self.netlink.links()?.into_iter().filter(|link| !link.is_loopback).collect();
        let name = current_name(&self.exporter.config, root, &links).map(|name| format!("{name}.local"));
        let links = links.into_iter().map(|link| {
            let own = addresses.iter().filter(|address| address.link == link.index && address.is_usable);
            let addresses: Vec<Address> = own
                .map(|address| Address {
                    is_link_local: address.is_link_local,
                    ip: address.ip,
                    prefix_len: address.prefix_len,
                    origin: origin_name(address),
                })
                .collect();
            let speed = link_speed(root, &link.name).filter(|_| link.has_carrier);
            Link { name: link.name, mac: link.ethernet, has_carrier: link.has_carrier, speed, addresses }
        });
        // Tunnels and the like, which are nobody's to plug in, only with an address.
        Ok((links.filter(|link| link.mac.is_some() || !link.addresses.is_empty()).collect(), name))
    }
}

fn after(root: &Root) -> Option<efi::After> {
    match boot::firmware(root) {
        Ok((_, firmware)) => Some(firmware.after()),
        Err(error) => {
            log::info!("no start from a chosen disk: {}", chain(&error));
            None
        }
    }
}

/// The admitted hosts, and those that ask.
fn hosts(root: &Root, config: &Config) -> model::Access {
    let (mode, state) = admission::state(root, config);
    let request = |request: &access::Request| Request {
        number: request.number,
        host: Host { nqn: request.nqn.to_string(), address: Some(request.address.to_string()) },
    };
    let admitted = |host: &access::Admitted| Admitted { nqn: host.nqn.to_string(), is_read_only: host.read_only };
    // In mode `open` nobody was admitted by name.
    let by_name = if mode == Mode::Open { &[] } else { state.admitted() };
    model::Access {
        mode,
        requests: state.requests().iter().map(request).collect(),
        admitted: by_name.iter().map(admitted).collect(),
    }
}

fn disks(root: &Root, exports: &[Export]) -> Vec<Disk> {
    let shown = exports.iter().filter_map(|export| {
        let state = match state(export) {
            State::Hidden => return None,
            State::Exported(Access::ReadWrite) => DiskState::Exported,
            State::Exported(Access::ReadOnly) => DiskState::ReadOnly,
            State::Exported(Access::Passthru) => DiskState::Passthru,
            State::Empty => DiskState::NoMedium,
            State::Waiting => DiskState::Waiting,
            State::Failed(why) | State::Refused(why) => DiskState::NotExported(why),
        };
        let disk = &export.disk;
        let controllers: Vec<_> = export.nqns().flat_map(|nqn| configfs::controllers_of(root, &nqn)).collect();
        Some(Disk {
            name: disk.name.clone(),
            diskseq: disk.diskseq,
            size: disk.size,
            model: disk.marked_model(MODEL_MAX),
            serial: disk.serial.clone(),
            firmware: disk.firmware.clone(),
            bus: disk.bus.to_string(),
            nqn: export.nqn().map(str::to_owned),
            has_light: sysfs::light(root, &disk.name).is_some(),
            state,
            hosts: configfs::hosts_of(&controllers),
            controllers,
            traffic: None,
        })
    });
    let mut shown: Vec<Disk> = shown.collect();
    // As people count: sdz comes before sdaa, and nvme9n1 before nvme10n1.
    shown.sort_by(|a, b| {
        let key = |disk: &Disk| (disk.name.chars().take(2).collect::<String>(), disk.name.len());
        (key(a), &a.name).cmp(&(key(b), &b.name))
    });
    shown
}

/// The longest model of NVMe, and the mark of the boot disk.
const MODEL_MAX: usize = 48;
