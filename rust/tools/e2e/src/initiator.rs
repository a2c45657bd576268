//! The other machine: Debian with its own kernel and nvme-cli. It also gives the appliance its address.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::agent::{Agent, Output};
use crate::nvme::{LogEntry, Namespace, discovery_log, namespaces};
use crate::paths::{USUAL_RELEASE, initiator_file};
use crate::qemu::{Arguments, Emulated, Qemu, SocketDir, escaped};
use crate::ready::Ready;
use crate::{Error, Result, wait_for};

/// The default time limit of a command. Other machines may be emulated at the same time, beside a build.
const PATIENCE: Duration = Duration::from_secs(180);

/// Processors of each of two hosts: with one alone, a host asks for one queue.
const PAIR_PROCESSORS: u32 = 4;

/// The first process of the other machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// `BusyBox`, which starts what the tests of the appliance need and nothing else.
    Busybox,
    /// Debian's own, with udev and a system bus, for services that are packaged for it.
    Systemd,
}

impl Init {
    /// Its name in file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Systemd => "systemd",
        }
    }

    /// Words for the kernel's command line.
    fn words(self) -> &'static str {
        match self {
            Self::Busybox => "userland=/usr/lib/initiator/init",
            // The link has one name everywhere, no one logs in, and what updates rebuild is as it was shipped.
            Self::Systemd => {
                "userland=/usr/lib/systemd/systemd net.ifnames=0 systemd.getty_auto=no systemd.condition-needs-update=no"
            }
        }
    }
}

/// Where on the link it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// Alone with the machine under test, which gets its address from it.
    Alone,
    /// The same, with room for a second host.
    First,
    /// That second host; the socket is [`Initiator::room`] of the first one.
    Second(&'a Path),
}

impl Place<'_> {
    fn is_second(self) -> bool {
        matches!(self, Self::Second(_))
    }

    /// Its network card, on the link.
    fn add_network(self, arguments: &mut Arguments, sockets: &SocketDir) {
        let link = escaped(&sockets.path("link"));
        match self {
            Self::Alone | Self::First => {
                arguments.add("-netdev", format!("stream,id=link,server=on,addr.type=unix,addr.path={link}"));
            }
            Self::Second(room) => {
                let room = escaped(room);
                arguments.add("-netdev", format!("stream,id=link,server=off,addr.type=unix,addr.path={room}"));
            }
        }
        let mut netdev = "link";
        if self == Self::First {
            let room = escaped(&sockets.path("room"));
            arguments.add("-netdev", format!("stream,id=room,server=on,addr.type=unix,addr.path={room}"));
            arguments.add("-netdev", "hubport,id=hub0,hubid=0,netdev=link");
            arguments.add("-netdev", "hubport,id=hub1,hubid=0,netdev=room");
            arguments.add("-netdev", "hubport,id=hub2,hubid=0");
            netdev = "hub2";
        }
        let last = if self.is_second() { "fe" } else { "ff" };
        arguments.add("-device", format!("virtio-net-pci,netdev={netdev},mac=52:54:00:d1:5c:{last}"));
    }
}

/// The running other machine.
pub struct Initiator {
    qemu: Qemu,
    agent: RefCell<Option<Agent>>,
}

/// A command that runs in the background.
#[must_use]
pub struct Background<'a> {
    machine: &'a Initiator,
    command: String,
    pid: i64,
}

/// Reads and writes in the background that stop at nothing but an error.
#[must_use]
pub struct Load<'a> {
    command: Background<'a>,
    stop: String,
}

impl Initiator {
    /// A machine with the usual release that has started already, from where it was kept.
    pub(crate) fn start(init: Init, evidence: &Path, deadline: Duration) -> Result<Self> {
        let ready = Ready::of(init)?;
        let mut arguments = Self::machine(init)?;
        arguments.add("-incoming", ready.incoming());
        let disk = format!("format=qcow2,snapshot=on,file={}", escaped(&ready.disk()));
        let machine = Self::power_on(arguments, &disk, Place::Alone, evidence, deadline)?;
        // Its clock stood still since it was kept.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        machine.run(&format!("date -s @{} >/dev/null", now.as_secs()))?;
        Ok(machine)
    }

    /// Powers a new one on, whose changes stay in `disk`; it is ready when its first command returns.
    pub(crate) fn start_first(init: Init, disk: &Path, evidence: &Path, deadline: Duration) -> Result<Self> {
        let disk = format!("format=qcow2,file={}", escaped(disk));
        Self::power_on(Self::machine(init)?, &disk, Place::Alone, evidence, deadline)
    }

    /// Powers a host on, one of two, with a release of Debian; it is ready when its first command
    /// returns.
    pub(crate) fn start_host(release: &str, place: Place<'_>, evidence: &Path, deadline: Duration) -> Result<Self> {
        let disk = format!("format=raw,snapshot=on,file={}", escaped(&initiator_file(release, "root.ext4")?));
        Self::power_on(Self::machine_of(release, Init::Busybox, place)?, &disk, place, evidence, deadline)
    }

    /// The machine that has the usual release, but for its disk and its sockets.
    pub(crate) fn machine(init: Init) -> Result<Arguments> {
        Self::machine_of(USUAL_RELEASE, init, Place::Alone)
    }

    fn machine_of(release: &str, init: Init, place: Place<'_>) -> Result<Arguments> {
        let number = if place.is_second() { 2 } else { 1 };
        let mut arguments = Arguments::default();
        arguments.add("-m", "640M");
        arguments.add("-uuid", format!("8d0f2f0e-5c5e-4c0b-9e0a-b1c2d3e4f5a{}", 5 + number));
        arguments.add("-kernel", initiator_file(release, "vmlinuz")?);
        arguments.add("-initrd", initiator_file(release, "initrd")?);
        let words = init.words();
        arguments.add("-append", format!("console=ttyS0 quiet panic=-1 mitigations=off host={number} {words}"));
        arguments.flag("-no-reboot");
        arguments.add("-device", "virtio-rng-pci").add("-device", "virtio-serial-pci");
        Ok(arguments)
    }

    fn power_on(
        mut arguments: Arguments,
        disk: &str,
        place: Place<'_>,
        evidence: &Path,
        deadline: Duration,
    ) -> Result<Self> {
        let sockets = SocketDir::new()?;
        arguments.add("-drive", format!("if=none,id=root,{disk}"));
        arguments.add("-device", "virtio-blk-pci,drive=root");
        let agent = escaped(&sockets.path("agent"));
        arguments.add("-chardev", format!("socket,id=agent,server=on,wait=off,path={agent}"));
        arguments.add("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0");
        place.add_network(&mut arguments, &sockets);
        arguments.add("-device", "pcie-root-port,id=bay,chassis=1,slot=1");
        let name = if place.is_second() { "initiator2" } else { "initiator" };
        let processors = (place != Place::Alone).then_some(PAIR_PROCESSORS);
        let qemu = Qemu::start(name, evidence, sockets, Emulated::Quick, processors, arguments, deadline)?;
        Ok(Self { qemu, agent: RefCell::new(None) })
    }

    /// The process that runs it.
    pub(crate) fn qemu(&self) -> &Qemu {
        &self.qemu
    }

    /// The socket that the other end of the link connects to.
    pub(crate) fn link(&self) -> PathBuf {
        self.qemu.socket("link")
    }

    /// The socket that a second host connects to.
    pub(crate) fn room(&self) -> PathBuf {
        self.qemu.socket("room")
    }

    /// Plugs a file in as a disk that can't be written: `/dev/vdb`.
    pub(crate) fn attach(&self, file: &Path) -> Result<()> {
        let own = json!({ "driver": "file", "filename": file, "read-only": true });
        self.qemu
            .qmp("blockdev-add", &json!({ "driver": "raw", "node-name": "file", "read-only": true, "file": own }))?;
        let disk = json!({ "driver": "virtio-blk-pci", "id": "disk", "drive": "file", "bus": "bay" });
        self.qemu.qmp("device_add", &disk).map(|_| ())
    }

    /// Waits until it runs commands.
    pub fn wait_ready(&self) -> Result<()> {
        self.with_agent(|_| Ok(()))
    }

    /// An error when the machine has ended.
    pub fn check(&self) -> Result<()> {
        self.qemu.check()
    }

    /// Runs a shell command; its output, or an error when it fails.
    pub fn run(&self, command: &str) -> Result<String> {
        self.finished(command, self.try_run(command, PATIENCE)?)
    }

    /// Runs a shell command for at most `limit`, whatever comes of it.
    pub fn try_run(&self, command: &str, limit: Duration) -> Result<Output> {
        self.start_command(command)?.collect(limit)
    }

    /// Starts a shell command in the background.
    pub fn start_command(&self, command: &str) -> Result<Background<'_>> {
        let pid = self.with_agent(|agent| agent.start(command))?;
        Ok(Background { machine: self, command: command.to_owned(), pid })
    }

    /// Reads and writes random data on a disk, and verifies it, until [`Load::finish`]. The first 64 MiB of the disk
    /// are lost.
    pub fn start_load(&self, device: &str) -> Result<Load<'_>> {
        self.start_load_of(device, 64)
    }

    /// The same with so many MiB at the beginning of the disk.
    pub fn start_load_of(&self, device: &str, mebibytes: u32) -> Result<Load<'_>> {
        let stop = format!("/tmp/stop-{}", device.replace('/', "-"));
        let load = fio(
            device,
            &format!(
                "--rw=randrw --bs=16k --size={mebibytes}m --iodepth=4 --verify=crc32c --verify_backlog=64 \
                 --verify_fatal=1 --time_based --runtime=10"
            ),
        );
        let command = format!("rm -f {stop}; until test -e {stop}; do {load} || exit; done");
        Ok(Load { command: self.start_command(&command)?, stop })
    }

    /// The address that it gave to that network card, as soon as it has given one.
    pub fn wait_address(&self, mac: &str, limit: Duration) -> Result<String> {
        wait_for(&format!("an address for {mac}"), limit, || {
            let leases = self.run("cat /run/dnsmasq.leases 2>/dev/null || true")?;
            // dnsmasq writes: expiry, hardware address, address, name, client id.
            let address = leases.lines().find_map(|line| {
                let mut fields = line.split_whitespace().skip(1);
                // QEMU's usb-net has another first byte for the drivers of some kernels.
                let is_of = |lease: &str| lease.get(2..) == mac.get(2..);
                fields.next().filter(|lease| is_of(lease)).and_then(|_| fields.next())
            });
            Ok(address.map(str::to_owned).ok_or_else(|| format!("leases: {leases}")))
        })
    }

    /// Forgets which addresses it gave, as after a restart of the DHCP server.
    pub fn forget_addresses(&self) -> Result<()> {
        self.run(
            "kill $(cat /run/dnsmasq.pid); while kill -0 $(cat /run/dnsmasq.pid) 2>/dev/null; do sleep 0.05; done; \
             rm -f /run/dnsmasq.leases; dnsmasq --conf-file=/etc/dnsmasq.conf",
        )
        .map(|_| ())
    }

    /// The discovery log of the machine at `address`, asked with no port.
    pub fn discover(&self, address: &str) -> Result<Vec<LogEntry>> {
        discovery_log(&self.run(&format!("nvme discover -t tcp -a {address} -o json"))?)
    }

    /// Waits until discovery answers and `wanted` is content with its log.
    pub fn wait_discovered(
        &self,
        address: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&[LogEntry]) -> bool,
    ) -> Result<Vec<LogEntry>> {
        let command = format!("nvme discover -t tcp -a {address} -o json");
        wait_for(&format!("{what} in the discovery log of {address}"), limit, || {
            let output = self.try_run(&command, PATIENCE)?;
            if output.status != 0 {
                return Ok(Err(output.stderr));
            }
            let log = discovery_log(&output.stdout)?;
            Ok(if wanted(&log) { Ok(log) } else { Err(output.stdout) })
        })
    }

    /// Connects to every disk of the machine at `address`, with no port named.
    pub fn connect_all(&self, address: &str) -> Result<()> {
        self.run(&format!("nvme connect-all -t tcp -a {address}")).map(|_| ())
    }

    /// Disconnects from everything.
    pub fn disconnect_all(&self) -> Result<()> {
        self.run("nvme disconnect-all").map(|_| ())
    }

    /// The disks that it sees.
    pub fn list(&self) -> Result<Vec<Namespace>> {
        namespaces(&self.run("nvme list --verbose -o json")?)
    }

    /// The disk with that serial number, as soon as it is there. Namespaces are scanned after the connection.
    pub fn wait_disk(&self, serial: &str, limit: Duration) -> Result<Namespace> {
        wait_for(&format!("the disk {serial}"), limit, || {
            let list = self.list()?;
            let found = list.iter().find(|namespace| namespace.serial == serial && namespace.size > 0).cloned();
            // Its block device is made by the kernel a moment after the namespace shows up in sysfs.
            match found {
                Some(disk) if self.try_run(&format!("test -b {}", disk.device), PATIENCE)?.status == 0 => Ok(Ok(disk)),
                // A node that is no block device stays in the way of the kernel's.
                _ => Ok(Err(format!("{list:?}\n{}", self.run("ls -l /dev/nvme* /dev/ng*; lsblk")?))),
            }
        })
    }

    /// The disk of that size in bytes, as soon as it is there.
    pub fn wait_sized(&self, size: u64, limit: Duration) -> Result<Namespace> {
        let serial = wait_for(&format!("a disk of {size} bytes"), limit, || {
            let list = self.list()?;
            let found = list.iter().find(|namespace| namespace.size == size);
            Ok(found.map(|found| found.serial.clone()).ok_or_else(|| format!("{list:?}")))
        })?;
        self.wait_disk(&serial, limit)
    }

    /// Waits until nothing is in the drive with that serial number. Its controller stays.
    pub fn wait_no_medium(&self, serial: &str, limit: Duration) -> Result<()> {
        self.wait_gone(serial, limit)?;
        let controllers = self.run("cat /sys/class/nvme/nvme*/serial")?;
        if controllers.lines().any(|line| line.trim() == serial) {
            return Ok(());
        }
        Err(Error::None { machine: self.qemu.name().to_owned(), what: format!("connection to the drive {serial}") })
    }

    /// Waits until no disk has that serial number.
    pub fn wait_gone(&self, serial: &str, limit: Duration) -> Result<()> {
        wait_for(&format!("the disk {serial} to go"), limit, || {
            let list = self.list()?;
            Ok(if list.iter().any(|disk| disk.serial == serial) { Err(format!("{list:?}")) } else { Ok(()) })
        })
    }

    /// Waits until it has no controller of a disk left, not even one that tries to connect again. The limit is longer
    /// than its kernel waits for the answer to one command (60 s) and then until the next attempt (10 s).
    pub fn wait_given_up(&self) -> Result<()> {
        wait_for("the host to give its disks up", Duration::from_secs(150), || {
            let left = self.run("nvme list-subsys | grep -A3 diskomator || true")?;
            let log = self.run("dmesg | grep -i nvme | tail -n 20")?;
            Ok(if left.trim().is_empty() { Ok(()) } else { Err(format!("{left}\n{log}")) })
        })
    }

    /// Lines of its kernel's log that tell of an error in a read or a write.
    pub fn io_errors(&self) -> Result<String> {
        self.run("dmesg | grep -E 'I/O error|I/O timeout|Buffer I/O|critical|resetting' || true")
    }

    fn finished(&self, command: &str, output: Output) -> Result<String> {
        if output.status == 0 {
            return Ok(output.stdout);
        }
        Err(Error::Command {
            machine: self.qemu.name().to_owned(),
            command: command.to_owned(),
            status: output.status,
            said: format!("{}{}", output.stderr, output.stdout),
        })
    }

    fn with_agent<T>(&self, action: impl FnOnce(&mut Agent) -> Result<T>) -> Result<T> {
        let mut slot = self.agent.borrow_mut();
        let mut agent = match slot.take() {
            Some(agent) => agent,
            None => self.connect_agent()?,
        };
        let result = action(&mut agent).or_else(|error| self.qemu.check().and(Err(error)));
        slot.replace(agent);
        result
    }

    fn connect_agent(&self) -> Result<Agent> {
        let mut agent = Agent::connect(&self.qemu.socket("agent"), self.qemu.name())?;
        let mut question = 0;
        wait_for("the other machine's guest agent", Duration::from_secs(120), || {
            self.qemu.check()?;
            question += 1;
            let here = agent.sync(question, Duration::from_secs(2))?;
            Ok(if here { Ok(()) } else { Err("no answer".to_owned()) })
        })?;
        Ok(agent)
    }
}

impl Background<'_> {
    /// Waits for its end; its output, or an error when it failed.
    pub fn wait(self, limit: Duration) -> Result<String> {
        let output = self.collect(limit)?;
        self.machine.finished(&self.command, output)
    }

    /// Whether it still runs. Its outcome is lost when it does not.
    pub fn ended(&self) -> Result<Option<Output>> {
        self.machine.with_agent(|agent| agent.outcome(self.pid))
    }

    fn collect(&self, limit: Duration) -> Result<Output> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(output) = self.ended()? {
                return Ok(output);
            }
            if start.elapsed() >= limit {
                // A process that is stuck in the kernel does not die of this; the machine does later.
                let _ = self.machine.with_agent(|agent| agent.start(&format!("kill -9 {}", self.pid)));
                return Err(Error::Deadline {
                    what: format!("`{}` on {}", self.command, self.machine.qemu.name()),
                    after: limit,
                    last: "it still runs".to_owned(),
                });
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}

impl Load<'_> {
    /// Ends it; an error when a request failed or data was not what was written. How long the slowest request took.
    pub fn finish(self) -> Result<Duration> {
        self.command.machine.run(&format!("touch {}", self.stop))?;
        self.command.wait(PATIENCE).map(|report| slowest(&report))
    }
}

/// The shell command that runs fio with direct I/O on a block device.
///
/// fio takes a path without a file for a file to be made: it unlinks the path first, also where the kernel has made
/// the device node meanwhile, and the node never comes back. An open file descriptor stays a block device.
pub fn fio(device: &str, options: &str) -> String {
    format!(
        "fio --name=fio --filename=/proc/self/fd/3 --direct=1 --ioengine=libaio --allow_file_create=0 {options} \
         3<>{device}"
    )
}

/// The longest latency in what fio reports, in lines such as `     lat (usec): min=96, max=1204, avg=…`.
fn slowest(report: &str) -> Duration {
    let of_line = |line: &str| {
        let (unit, figures) = line.trim_start().strip_prefix("lat (")?.split_once("):")?;
        let nanoseconds = match unit {
            "nsec" => 1.0,
            "usec" => 1e3,
            "msec" => 1e6,
            _ => return None,
        };
        let (_, most) = figures.split_once("max=")?;
        let digits: String = most.trim_start().chars().take_while(|c| !matches!(c, ',' | ' ')).collect();
        // fio shortens thousands.
        let (number, factor) = match digits.strip_suffix('k') {
            Some(thousands) => (thousands.to_owned(), 1e3),
            None => (digits, 1.0),
        };
        Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * factor * nanoseconds / 1e9))
    };
    report.lines().filter_map(of_line).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_request_is_found_in_fio_s_report() {
        let report = "  read: IOPS=1
    slat (usec): min=7, max=900000, avg=9
    clat (usec): min=90, max=800000, avg=99
     lat (usec): min=96, max=1204, avg=108.2, stdev=3
     lat (usec): min=96, max=34.5k, avg=108.2, stdev=3
     lat (nsec): min=960, max=999999, avg=108.2, stdev=3
    lat percentiles (usec):
    lat (msec)   : 2=0.01%, 4=0.02%
";
        assert_eq!(slowest(report), Duration::from_micros(34_500));
        assert_eq!(slowest(""), Duration::ZERO);
    }
}
