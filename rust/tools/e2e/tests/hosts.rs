//! The hosts that people have: each release of Debian, with its kernel and its nvme-cli. `docs/hosts.md` has the table.

use std::fmt::Write as _;
use std::thread::sleep;
use std::time::Duration;

use e2e::{Appliance, ApplianceBuilder, Boot, Bus, Disk, Failure, Initiator, Lab, digest_of_file, project, wait_for};

type Result<T = ()> = std::result::Result<T, Failure>;

const SOON: Duration = Duration::from_secs(60);
/// Two hosts and a power cut.
const DEADLINE: Duration = Duration::from_secs(900);
/// The amount of data that is written to a disk and read back, in MiB.
const DATA: u64 = 8;
/// The port of the disks.
const PORT: u16 = 4420;
/// The number of queues of a host that asks for eight: one for each processor.
const QUEUES: u32 = 4;
/// nvme-cli 3 connects to all disks but one, once in twenty times (docs/hosts.md).
const TRIES: usize = 5;
/// The name that two hosts have, where an installation was cloned, and their identifiers.
const SHARED_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:c10ec10e-0000-4000-8000-000000000000";
const FIRST_ID: &str = "c10ec10e-0000-4000-8000-000000000001";
const SECOND_ID: &str = "c10ec10e-0000-4000-8000-000000000002";

/// `HOSTS` names the releases; two at a time use one machine, the oldest beside the newest.
#[test]
#[ignore = "boots virtual machines; run by make test HOSTS=all"]
fn hosts_compared() -> Result {
    let named = std::env::var("HOSTS").unwrap_or_default();
    let mut left: Vec<&str> = named.split_whitespace().collect();
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    while !left.is_empty() {
        let first = left.remove(0);
        let second = left.pop().unwrap_or(first);
        match pair(&format!("hosts_compared_{first}_{second}"), [first, second]) {
            Ok(both) => rows.extend(both),
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    rows.sort_by_key(|row| named.split_whitespace().position(|release| release == row.release));
    print!("{}", table(&rows));
    if !failures.is_empty() {
        return Err(Failure::new(failures.join("\n")));
    }
    if rows.is_empty() { Err(Failure::new("HOSTS names no release")) } else { Ok(()) }
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn the_oldest_and_the_newest_host_can_do_all_that_is_promised() -> Result {
    let list = project().join("rust/tools/e2e/initiator/hosts");
    let list = std::fs::read_to_string(list)?;
    let named = list.lines().filter(|line| !line.starts_with('#'));
    let mut releases = named.filter_map(|line| line.split_once(':')).map(|(release, _)| release);
    let (Some(oldest), Some(newest)) = (releases.next(), releases.next_back()) else {
        return Err(Failure::new("the list of hosts names fewer than two"));
    };
    let name = "the_oldest_and_the_newest_host_can_do_all_that_is_promised";
    print!("{}", table(&pair(name, [oldest, newest])?));
    Ok(())
}

/// How a step of a host ended.
enum Outcome {
    Passed,
    /// The failure is the host's own, for this reason.
    Known(&'static str),
    Failed(Failure),
    /// Its nvme-cli has no such thing.
    None,
}

/// A failure of a host that is none of the appliance's.
struct Known {
    step: &'static str,
    /// The versions of nvme-cli that have it, from the first to before the second.
    versions: [(u32, u32); 2],
    /// Words of the failure.
    sign: &'static str,
    reason: &'static str,
}

const KNOWN: [Known; 2] = [
    Known {
        step: "duplicates",
        versions: [(2, 0), (2, 9)],
        sign: "already connected",
        reason: "refuses -D itself, until 2.9",
    },
    Known {
        step: "duplicates",
        versions: [(3, 0), (4, 0)],
        sign: "Did not find device",
        reason: "knows only one of two connections with one address",
    },
];

/// The outcomes of a release's host.
struct Row {
    release: String,
    kernel: String,
    nvme: String,
    steps: Vec<(&'static str, Outcome)>,
}

impl Row {
    fn new(release: &str, host: &Initiator) -> Result<Self> {
        let version = host.run("nvme version")?;
        let nvme = version.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        Ok(Self {
            release: release.to_owned(),
            kernel: host.run("uname -r")?.trim().to_owned(),
            nvme: nvme.unwrap_or_default().to_owned(),
            steps: Vec::new(),
        })
    }

    fn add(&mut self, step: &'static str, result: Result) {
        let outcome = match result {
            Ok(()) => Outcome::Passed,
            Err(failure) => {
                let (version, said) = (self.version(), failure.to_string());
                let known = KNOWN.iter().find(|known| {
                    let [first, end] = known.versions;
                    known.step == step && said.contains(known.sign) && first <= version && version < end
                });
                known.map_or(Outcome::Failed(failure), |known| Outcome::Known(known.reason))
            }
        };
        self.steps.push((step, outcome));
    }

    /// Its nvme-cli's, up to the first dot and up to the second.
    fn version(&self) -> (u32, u32) {
        let mut numbers = self.nvme.split('.').map(|number| number.parse().unwrap_or_default());
        (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
    }

    /// Since this version, nvme-cli keeps a list of who connected what.
    fn has_owners(&self) -> bool {
        self.version() >= (3, 0)
    }
}

/// The table of what was tried, and below it why something failed.
fn table(rows: &[Row]) -> String {
    let mut text = String::from("| release | kernel | nvme-cli |");
    for (step, _) in rows.first().map_or(&[][..], |row| &row.steps) {
        let _ = write!(text, " {step} |");
    }
    text.push('\n');
    let mut reasons = String::new();
    for row in rows {
        let _ = write!(text, "| {} | {} | {} |", row.release, row.kernel, row.nvme);
        for (step, outcome) in &row.steps {
            text.push_str(match outcome {
                Outcome::None => " – |",
                Outcome::Passed => " ✓ |",
                Outcome::Known(reason) => {
                    let _ = writeln!(reasons, "{}, {step}: the host's fault: {reason}", row.release);
                    " ✗ |"
                }
                Outcome::Failed(failure) => {
                    let _ = writeln!(reasons, "{}, {step}: {failure}", row.release);
                    " ✗ |"
                }
            });
        }
        text.push('\n');
    }
    text + &reasons
}

/// Lets two hosts use one machine, one after the other, then at once. An error where a step failed that is not known to.
fn pair(name: &str, [first, second]: [&str; 2]) -> Result<Vec<Row>> {
    Lab::run_between([first, second], name, DEADLINE, |lab| {
        let disks = [lab.disk(Bus::Nvme, "HOST-1", 64)?, lab.disk(Bus::Nvme, "HOST-2", 64)?];
        let late = lab.disk(Bus::VirtioBlk, "LATE-3", 32)?;
        let builder = lab.appliance().boot(Boot::Kernel).processors(QUEUES).disk(&disks[0]).disk(&disks[1]).debug();
        let (machine, address) = lab.boot_with_address(builder.clone())?;
        let hosts = [lab.initiator(), lab.second()?];
        let mut rows = vec![Row::new(first, hosts[0])?, Row::new(second, hosts[1])?];
        let mut users = Vec::new();
        for (host, disk) in hosts.into_iter().zip(&disks) {
            users.push(User { host, address: &address, disk, commands: Commands::of_readme()? });
        }

        for (row, user) in rows.iter_mut().zip(&users) {
            user.first_contact(row);
        }
        for (row, user) in rows.iter_mut().zip(&users) {
            user.alone(row);
        }
        let connected: Vec<Result> = users.iter().map(|user| user.connect_all("")).collect();
        machine.add_disk(&late)?;
        for ((row, user), connected) in rows.iter_mut().zip(&users).zip(connected) {
            user.with_another_disk(row, connected, &late);
        }
        let shared = shared_name(&machine, &users);
        let cut = power_cut(lab, machine, builder.disk(&late), &users);
        for (row, cut) in rows.iter_mut().zip(cut) {
            row.add("one host NQN", shared.as_ref().copied().map_err(|failure| Failure::new(failure.to_string())));
            row.add("power cut", cut);
        }
        let failed = rows.iter().flat_map(|row| &row.steps).any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
        if failed { Err(Failure::new(table(&rows))) } else { Ok(rows) }
    })
}

/// The commands of the README's section on how to connect.
#[derive(Clone)]
struct Commands(Vec<String>);

impl Commands {
    fn of_readme() -> Result<Self> {
        let readme = std::fs::read_to_string(project().join("README.md"))?;
        let section = readme.split("\n## Connect to it\n").nth(1).and_then(|rest| rest.split("\n## ").next());
        let mut commands = Vec::new();
        let mut inside = false;
        for line in section.unwrap_or_default().lines() {
            match line {
                "```sh" => inside = true,
                "```" => inside = false,
                _ if inside => commands.push(line.split('#').next().unwrap_or_default().trim().to_owned()),
                _ => {}
            }
        }
        Ok(Self(commands))
    }

    /// The one that begins so.
    fn get(&self, start: &str) -> Result<&str> {
        let found = self.0.iter().find(|command| command.split(" -").next() == Some(start));
        found
            .map(String::as_str)
            .ok_or_else(|| Failure::new(format!("the README has no command {start}: {:?}", self.0)))
    }
}

/// A host, and the disk that it alone writes to.
struct User<'a> {
    host: &'a Initiator,
    address: &'a str,
    disk: &'a Disk,
    commands: Commands,
}

impl User<'_> {
    /// Runs a command of the README, with more options if need be; its output.
    fn say(&self, start: &str, nqn: &str, more: &str) -> Result<String> {
        let command = self.commands.get(start)?.replace("ADDRESS", self.address).replace("NQN", nqn);
        Ok(self.host.run(&format!("{command} {more}"))?)
    }

    /// Connects every disk of the machine, by as many commands as it takes.
    fn connect_all(&self, more: &str) -> Result {
        for _ in 0..TRIES {
            let disks = self.discovered()?;
            self.say("nvme connect-all", "", more)?;
            let connected = self.host.run("grep -hs diskomator /sys/class/nvme/nvme*/subsysnqn | sort -u")?;
            if connected.lines().count() >= disks {
                return Ok(());
            }
        }
        Err(Failure::new(format!("not every disk is connected after {TRIES} times connect-all")))
    }

    /// How many disks the machine offers.
    fn discovered(&self) -> Result<usize> {
        let log = self.say("nvme discover", "", "")?;
        Ok(log.lines().filter(|line| line.starts_with("subtype:") && line.contains("nvme subsystem")).count())
    }

    fn connect(&self, nqn: &str, more: &str) -> Result<String> {
        Ok(self.host.run(&format!("nvme connect -t tcp -a {} -s {PORT} -n {nqn} {more}", self.address))?)
    }

    /// Its address on the link, which the machine sees.
    fn own_address(&self) -> Result<String> {
        let route = self.host.run(&format!("ip route get {}", self.address))?;
        let address = route.split_whitespace().skip_while(|word| *word != "src").nth(1);
        Ok(address.ok_or_else(|| Failure::new(format!("no address of its own: {route}")))?.to_owned())
    }

    /// How often its kernel has had to connect again.
    fn lost_connections(&self) -> Result<u32> {
        let count = self.host.run("dmesg | grep -c 'starting error recovery' || true")?;
        count.trim().parse().map_err(|_| Failure::new(format!("not a number: {count}")))
    }

    fn disconnect_all(&self) -> Result {
        self.say("nvme disconnect-all", "", "")?;
        self.nothing_left()
    }

    fn nothing_left(&self) -> Result {
        let left = self.host.run("ls /sys/class/nvme")?;
        if left.is_empty() { Ok(()) } else { Err(Failure::new(format!("still connected: {left}"))) }
    }

    /// The block device of that disk, as soon as it is there.
    fn device(&self, disk: &Disk) -> Result<String> {
        let serial = disk.serial();
        // Paths have a `c` in their names, and are hidden.
        let find = format!(
            "for s in /sys/class/nvme-subsystem/*; do case $(cat $s/serial) in {serial}*) \
             for n in $s/nvme*n*; do n=/dev/${{n##*/}}; test -b $n && echo $n; done;; esac; done 2>/dev/null; true"
        );
        let device = wait_for(&format!("the disk {serial}"), SOON, || {
            let found = self.host.run(&find)?;
            Ok(found.lines().next().map(str::to_owned).ok_or_else(|| "not there".to_owned()))
        })?;
        Ok(device)
    }

    /// The name of that disk's subsystem, which is connected.
    fn nqn(&self, disk: &Disk) -> Result<String> {
        let device = self.device(disk)?;
        Ok(self.host.run(&format!("cat /sys/block/{}/device/subsysnqn", name(&device)))?.trim().to_owned())
    }

    /// The controllers of that subsystem.
    fn controllers(&self, nqn: &str) -> Result<Vec<String>> {
        let found =
            self.host.run(&format!("grep -lx {nqn} /sys/class/nvme/nvme*/subsysnqn 2>/dev/null | cut -d / -f 5"))?;
        Ok(found.lines().map(str::to_owned).collect())
    }

    /// Writes random data in large and in small requests, several at once; reads it back; and compares.
    fn write_and_read(&self, device: &str) -> Result {
        self.host.run(&format!("dd if=/dev/urandom of=/tmp/data bs=1M count={DATA} status=none"))?;
        self.host.run(&write(device))?;
        self.same_as_written(device)?;
        let written = self.host.run("b2sum </tmp/data")?;
        let there = digest_of_file(self.disk.file(), DATA << 20)?;
        let same = written.starts_with(&there);
        if same { Ok(()) } else { Err(Failure::new("other data is on the machine's disk")) }
    }

    fn same_as_written(&self, device: &str) -> Result {
        let digests = self.host.run(&format!(
            "b2sum </tmp/data; dd if={device} bs=256k count={} iflag=direct status=none | b2sum",
            DATA * 4
        ))?;
        let mut lines = digests.lines();
        let same = lines.next() == lines.next();
        if same { Ok(()) } else { Err(Failure::new(format!("read other data than was written: {digests}"))) }
    }

    /// The README's commands on a host that knows nothing of the machine.
    fn first_contact(&self, row: &mut Row) {
        row.add("discover", self.discovers());
        row.add("connect", self.connects());
    }

    fn discovers(&self) -> Result {
        self.host.run("modprobe -r nvme-tcp")?;
        self.say("modprobe nvme-tcp", "", "")?;
        wait_for("both disks in the discovery log", SOON, || {
            let disks = self.discovered().map_err(|failure| failure.to_string());
            Ok(disks.and_then(|disks| if disks == 2 { Ok(()) } else { Err(format!("{disks} disks")) }))
        })?;
        Ok(())
    }

    fn connects(&self) -> Result {
        self.connect_all("")?;
        let device = self.device(self.disk)?;
        let list = self.say("nvme list", "", "")?;
        if !list.contains(&device) || !list.contains(self.disk.serial()) {
            return Err(Failure::new(format!("{device} is not in the list: {list}")));
        }
        self.write_and_read(&device)
    }

    /// Adds the outcome of a step. One that failed leaves no connection behind: that is not the next one's fault.
    fn step(&self, row: &mut Row, name: &'static str, result: Result) {
        if result.is_err() {
            let force = if row.has_owners() { "--force" } else { "" };
            let _ = self.host.run(&format!(
                "for i in 1 2 3 4; do [ -z \"$(ls /sys/class/nvme)\" ] || nvme disconnect-all {force}; done"
            ));
        }
        row.add(name, result);
    }

    fn alone(&self, row: &mut Row) {
        self.step(row, "disconnect", self.disconnects());
        self.step(row, "digests", self.uses_digests());
        self.step(row, "queues", self.uses_many_queues());
        self.step(row, "persistent", self.stays_for_news());
    }

    fn with_another_disk(&self, row: &mut Row, connected: Result, late: &Disk) {
        self.step(row, "hot add", connected.and_then(|()| self.sees_what_is_added(late)));
        if row.has_owners() {
            self.step(row, "owners", self.keeps_what_others_connected());
        } else {
            row.steps.push(("owners", Outcome::None));
        }
        self.step(row, "duplicates", self.connects_twice());
    }

    fn sees_what_is_added(&self, late: &Disk) -> Result {
        wait_for("the disk that was added", SOON, || {
            let disks = self.discovered().map_err(|failure| failure.to_string());
            Ok(disks.and_then(|disks| if disks == 3 { Ok(()) } else { Err(format!("{disks} disks")) }))
        })?;
        self.connect_all("")?;
        self.device(late)?;
        // Nothing came twice.
        let controllers = self.controllers(&self.nqn(self.disk)?)?;
        if controllers.len() != 1 {
            return Err(Failure::new(format!("several controllers: {controllers:?}")));
        }
        self.disconnect_all()
    }

    fn disconnects(&self) -> Result {
        self.connect_all("")?;
        let nqn = self.nqn(self.disk)?;
        self.say("nvme disconnect", &nqn, "")?;
        if !self.controllers(&nqn)?.is_empty() {
            return Err(Failure::new("nvme disconnect -n left it connected"));
        }
        if self.host.run("ls /sys/class/nvme")?.is_empty() {
            return Err(Failure::new("nvme disconnect -n disconnected others, too"));
        }
        self.disconnect_all()
    }

    /// Others' connections stay, unless it is told otherwise.
    fn keeps_what_others_connected(&self) -> Result {
        self.connect_all("--owner=another")?;
        self.say("nvme disconnect-all", "", "")?;
        self.device(self.disk)?;
        self.say("nvme disconnect", &self.nqn(self.disk)?, "")?;
        self.say("nvme disconnect-all", "", "--force")?;
        self.nothing_left()
    }

    fn uses_digests(&self) -> Result {
        self.connect_all("-g -G")?;
        self.write_and_read(&self.device(self.disk)?)?;
        self.disconnect_all()
    }

    fn uses_many_queues(&self) -> Result {
        self.connect_all("-i 8 -Q 1024")?;
        let device = self.device(self.disk)?;
        self.write_and_read(&device)?;
        let queues = self.host.run(&format!("cat /sys/block/{}/device/nvme*/queue_count", name(&device)))?;
        // One is for admin commands.
        if queues.trim() != (QUEUES + 1).to_string() {
            let processors = self.host.run("nproc")?;
            return Err(Failure::new(format!("{} queues, {} processors", queues.trim(), processors.trim())));
        }
        self.disconnect_all()
    }

    fn connects_twice(&self) -> Result {
        self.connect_all("")?;
        let nqn = self.nqn(self.disk)?;
        self.disconnect_all()?;
        // By hand: the discovery log may name another port, which is another path.
        self.connect(&nqn, "")?;
        let device = self.device(self.disk)?;
        if self.connect(&nqn, "").is_ok() && self.controllers(&nqn)?.len() != 1 {
            return Err(Failure::new("it connected twice without being told to"));
        }
        self.connect(&nqn, "-D")?;
        let controllers = self.controllers(&nqn)?;
        let [first, _] = controllers.as_slice() else {
            return Err(Failure::new(format!("controllers: {controllers:?}")));
        };
        self.write_and_read(&device)?;
        // One of two paths goes in the midst of it.
        let write = write(&device);
        self.host.run(&format!("({write}) & w=$!; sleep 0.1; nvme disconnect -d {first}; s=$?; wait $w && exit $s"))?;
        self.same_as_written(&device)?;
        self.disconnect_all()
    }

    fn stays_for_news(&self) -> Result {
        self.connect_all("--persistent")?;
        self.device(self.disk)?;
        let discovery = self.controllers("nqn.2014-08.org.nvmexpress.discovery")?;
        if discovery.len() != 1 {
            return Err(Failure::new(format!("discovery controllers: {discovery:?}")));
        }
        self.disconnect_all()
    }
}

/// Two hosts with one name, as cloned installations have it, with one identifier each, and with the same one.
fn shared_name(machine: &Appliance, users: &[User<'_>]) -> Result {
    let [first, second] = users else { return Err(Failure::new("two hosts, please")) };
    first.connect_all("")?;
    let nqn = first.nqn(first.disk)?;
    first.disconnect_all()?;
    for other in [SECOND_ID, FIRST_ID] {
        first.connect(&nqn, &format!("-q {SHARED_NQN} -I {FIRST_ID}"))?;
        second.connect(&nqn, &format!("-q {SHARED_NQN} -I {other}"))?;
        let devices = [first.device(first.disk)?, second.device(first.disk)?];
        first.write_and_read(&devices[0])?;
        let digest = first.host.run("b2sum </tmp/data")?;
        let count = DATA * 4;
        let read = format!("dd if={} bs=256k count={count} iflag=direct status=none | b2sum", devices[1]);
        if second.host.run(&read)? != digest {
            return Err(Failure::new("the second host reads other data"));
        }
        // An administrator tells the two hosts apart by their addresses.
        let before = [first.lost_connections()?, second.lost_connections()?];
        machine.shell(&format!("diskomator disconnect {SHARED_NQN} {}", first.own_address()?))?;
        wait_for("the first host to lose its connection", SOON, || {
            let lost = first.lost_connections().map_err(|failure| failure.to_string());
            Ok(lost.and_then(|lost| if lost > before[0] { Ok(()) } else { Err("it has it still".to_owned()) }))
        })?;
        first.same_as_written(&devices[0])?;
        if second.lost_connections()? != before[1] {
            return Err(Failure::new("the second host was sent away with the first"));
        }
        first.disconnect_all()?;
        // Nothing of this one went with the other.
        if second.host.run(&read)? != digest {
            return Err(Failure::new("the second host reads other data without the first"));
        }
        second.disconnect_all()?;
    }
    Ok(())
}

/// Both hosts write while the machine has no power, and go on when it is back.
fn power_cut(lab: &Lab, machine: Appliance, builder: ApplianceBuilder, users: &[User<'_>]) -> Vec<Result> {
    let connect = |user: &User<'_>| -> Result<String> {
        user.connect_all("")?;
        let device = user.device(user.disk)?;
        user.write_and_read(&device)?;
        Ok(device)
    };
    let devices: Vec<Result<String>> = users.iter().map(connect).collect();
    machine.cut_power();
    let writes: Vec<_> = users
        .iter()
        .zip(&devices)
        .map(|(user, device)| user.host.start_command(&write(device.as_deref().unwrap_or("/dev/null"))))
        .collect();
    sleep(Duration::from_secs(1));
    let again = lab.boot_again(builder);
    let waited = |(user, (device, write)): (&User<'_>, (Result<String>, e2e::Result<e2e::Background<'_>>))| -> Result {
        let device = device?;
        write?.wait(Duration::from_secs(120))?;
        let _machine = again.as_ref().map_err(|error| Failure::new(error.to_string()))?;
        if user.device(user.disk)? != device {
            return Err(Failure::new("it has another name"));
        }
        user.same_as_written(&device)?;
        user.write_and_read(&device)?;
        user.disconnect_all()
    };
    users.iter().zip(devices.into_iter().zip(writes)).map(waited).collect()
}

/// A command that writes what is in `/tmp/data`, its second half in four streams of small requests at once.
fn write(device: &str) -> String {
    let half = DATA / 2;
    let dd = format!("dd if=/tmp/data of={device} oflag=direct conv=notrunc status=none");
    let streams = half * 16;
    format!(
        "set -e; {dd} bs=1M count={half} & p=$!; \
         for i in 0 1 2 3; do at=$(({half} * 64 + i * {streams})); \
         {dd} bs=16k count={streams} skip=$at seek=$at & p=\"$p $!\"; done; for i in $p; do wait $i; done"
    )
}

fn name(device: &str) -> &str {
    device.trim_start_matches("/dev/")
}
