//! Two network namespaces with cables between them: in one runs the appliance's
//! program and the test itself, in the other the DHCP servers.
//!
//! Each test runs in a child of its own that is in new namespaces from its
//! start. They end with it, and so does all that was made in them. Root is not
//! needed where the system lets users make namespaces.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kernel::netlink::Netlink;
use kernel::packet::PacketSocket;
use netproto::dhcp::frame::build_between;
use netproto::dhcp::wire::{Kind, Message, Op, Options};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn6, SockaddrStorage};
use serde_json::Value;

/// Set in the child, so that it knows what it is.
const INSIDE: &str = "DISKOMATOR_TEST_NAMESPACE";

/// How long anything that should happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much longer others' programs may take.
static LENIENCE: AtomicU64 = AtomicU64::new(0);

/// Waits for up to `seconds` more.
pub(crate) fn be_lenient(seconds: u64) {
    LENIENCE.store(seconds, Ordering::Relaxed);
}

/// Runs `test` in namespaces of its own.
pub(crate) fn in_namespaces(name: &str, test: impl FnOnce(&Lab)) {
    if case().is_some() {
        test(&Lab::new(name));
        return;
    }
    match apart(name, "1") {
        Ok(said) => println!("{said}"),
        Err(said) => panic!("{name} failed in its namespaces:\n{said}"),
    }
}

/// In a child, which case of its test it runs.
pub(crate) fn case() -> Option<String> {
    std::env::var(INSIDE).ok()
}

/// Runs one case of the test `name` in a child with namespaces of its own, and
/// returns what that said: as an error, if it failed.
pub(crate) fn apart(name: &str, case: &str) -> Result<String, String> {
    let own = std::env::current_exe().unwrap();
    let is_root = output(Command::new("id").arg("-u")).trim() == "0";
    let mut unshare = Command::new("unshare");
    unshare.args(if is_root { &["--net", "--mount"][..] } else { &["--map-root-user", "--net", "--mount"] });
    unshare.arg(own).args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    let result = unshare.env(INSIDE, case).output().expect("unshare (util-linux) is needed");
    let (out, err) = (String::from_utf8_lossy(&result.stdout), String::from_utf8_lossy(&result.stderr));
    let passed = result.status.success() && out.contains("1 passed");
    if !passed {
        return Err(format!("{out}\n{err}"));
    }
    // Only the parent's results are counted.
    Ok(out.lines().filter(|line| !line.starts_with("test result:")).collect::<Vec<_>>().join("\n"))
}

/// The namespaces of one test.
pub(crate) struct Lab {
    directory: PathBuf,
    servers: Background,
    links: Cell<u8>,
    /// How many other programs were started.
    others: Cell<u32>,
    has_empty_run: Cell<bool>,
}

/// Where the output of another program goes.
fn other_log(number: u32) -> String {
    format!("other-{number}")
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the program's log\n{}", self.log());
            eprintln!("--- another server's log\n{}", self.text("server"));
            for number in 0..self.others.get() {
                let name = other_log(number);
                eprintln!("--- {name}\n{}", self.text(&name));
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Another machine: a network of its own, with a process in it that keeps it.
fn machine(directory: &Path) -> Background {
    let machine = Background::start("unshare", &["--net", "sleep", "infinity"], &directory.join("sleep"));
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let theirs = format!("/proc/{}/ns/net", machine.id());
    wait_for("another network", || fs::read_link(&theirs).is_ok_and(|link| link != own).then_some(()));
    machine.run("ip", &["link", "set", "lo", "up"]);
    machine
}

/// A process that ends with the test, or with the test's process.
pub(crate) struct Background(Child);

impl Background {
    fn start(program: &str, args: &[&str], output: &Path) -> Self {
        let output = File::options().create(true).append(true).open(output).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(args).stdin(Stdio::null());
        Self(command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// nsenter's word for the network that it is in.
    fn namespace(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.id())
    }

    /// Runs a command in the network that it is in.
    pub(crate) fn run(&self, program: &str, args: &[&str]) {
        run("nsenter", &[&[self.namespace().as_str(), program], args].concat());
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to end, and returns its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM")
    }

    /// Sends a signal that ends it, and returns its exit code.
    pub(crate) fn signal(&mut self, name: &str) -> Option<i32> {
        run("kill", &["-s", name, &self.id().to_string()]);
        self.0.wait().unwrap().code()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Clock ticks of processor time, and how often it went to sleep.
    pub(crate) fn effort(&self) -> (u64, String) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        (ticks, status.lines().find(|line| line.starts_with("voluntary")).unwrap().to_owned())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Lab {
    pub(crate) fn new(name: &str) -> Self {
        let name = name.replace("::", "-");
        let directory = std::env::temp_dir().join(format!("diskomator-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("log"), "").unwrap();
        fs::write(directory.join("cmdline"), "quiet diskomator.log=debug\n").unwrap();
        run("ip", &["link", "set", "lo", "up"]);
        // The program sees files of ours in these places, in this mount
        // namespace only.
        for (ours, place) in [("log", "/dev/kmsg"), ("cmdline", "/proc/cmdline")] {
            if fs::exists(place).unwrap() {
                run("mount", &["--bind", directory.join(ours).to_str().unwrap(), place]);
            }
        }
        let servers = machine(&directory);
        Self { directory, servers, links: Cell::new(0), others: Cell::new(0), has_empty_run: Cell::new(false) }
    }

    /// One more machine, beyond the servers.
    pub(crate) fn machine(&self) -> Background {
        machine(&self.directory)
    }

    /// The machine that the servers are on.
    pub(crate) const fn servers(&self) -> &Background {
        &self.servers
    }

    /// Sets the kernel command line that the program sees.
    pub(crate) fn set_cmdline(&self, line: &str) {
        fs::write(self.path("cmdline"), line).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A cable from `here`, left down, to `there` with an address, up.
    pub(crate) fn cable(&self, here: &str, there: &str, address: &str) {
        let number = self.links.get() + 1;
        self.links.set(number);
        let mac = format!("52:54:00:00:00:{number:02x}");
        run("ip", &["link", "add", here, "address", &mac, "type", "veth", "peer", "name", there]);
        run("ip", &["link", "set", there, "netns", &self.servers.id().to_string()]);
        self.on_servers("ip", &["address", "add", address, "dev", there]);
        self.on_servers("ip", &["link", "set", there, "up"]);
    }

    /// Runs a command among the servers.
    pub(crate) fn on_servers(&self, program: &str, args: &[&str]) {
        self.servers.run(program, args);
    }

    /// Starts another program, on this machine or on that one. Its output is
    /// in the file whose name comes with it.
    pub(crate) fn start_on(&self, machine: Option<&Background>, program: &str, args: &[&str]) -> (Background, String) {
        let number = self.others.replace(self.others.get() + 1);
        let log = other_log(number);
        let namespace = machine.map(Background::namespace);
        let nsenter: Vec<&str> = namespace.iter().flat_map(|namespace| ["nsenter", namespace]).collect();
        let words = [&nsenter[..], &[program], args].concat();
        (Background::start(words[0], &words[1..], &self.path(&log)), log)
    }

    /// The output of a command among the servers.
    pub(crate) fn said_on_servers(&self, program: &str, args: &[&str]) -> String {
        let namespace = self.servers.namespace();
        output(Command::new("nsenter").args([namespace.as_str(), program]).args(args))
    }

    /// Runs `act` among the servers; sockets that it opens stay there.
    pub(crate) fn among_servers<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.servers.id())).unwrap();
        thread::scope(|scope| {
            let work = scope.spawn(move || {
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                act()
            });
            work.join().unwrap()
        })
    }

    /// dnsmasq on `link`. It answers at once, knows no other servers, and
    /// wants leases renewed after `t1` seconds and rebound after `t2`.
    pub(crate) fn dnsmasq(&self, link: &str, pool: &str, t1: u32, t2: u32, more: &[&str]) -> Background {
        let args = [
            "--no-ping",
            &format!("--dhcp-range={pool},255.255.255.0,2m"),
            &format!("--dhcp-option-force=58,{t1}"),
            &format!("--dhcp-option-force=59,{t2}"),
        ];
        self.dnsmasq_with(link, "sockets bound", &[&args[..], more].concat())
    }

    /// dnsmasq on `link` as `more` says; it is there once it says that it is
    /// `ready`.
    pub(crate) fn dnsmasq_with(&self, link: &str, ready: &str, more: &[&str]) -> Background {
        let args = [
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--bind-interfaces",
            "--dhcp-authoritative",
            "--log-dhcp",
            "--pid-file=",
            &format!("--interface={link}"),
            &format!("--dhcp-leasefile={}", self.path(&format!("leases-{link}")).display()),
        ];
        let namespace = self.servers.namespace();
        let words = [&[namespace.as_str(), "dnsmasq"], &args[..], more].concat();
        let log = format!("dnsmasq-{link}");
        let before = self.text(&log).matches(ready).count();
        let server = Background::start("nsenter", &words, &self.path(&log));
        wait_for("dnsmasq", || (self.text(&log).matches(ready).count() > before).then_some(()));
        server
    }

    /// The log of dnsmasq on `link`.
    pub(crate) fn dnsmasq_log(&self, link: &str) -> String {
        self.text(&format!("dnsmasq-{link}"))
    }

    /// Another server as a background process.
    pub(crate) fn server(&self, program: &str, args: &[&str]) -> Background {
        let namespace = self.servers.namespace();
        Background::start("nsenter", &[&[namespace.as_str(), program], args].concat(), &self.path("server"))
    }

    /// A file for a server's settings.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// An applet of the program under test.
    pub(crate) fn diskomator(&self, args: &[&str]) -> Background {
        Background::start(&program(), args, &self.path("log"))
    }

    /// An empty /run, for programs that would meet others of this machine
    /// there, and the users that they insist on, all of whom are root here.
    pub(crate) fn empty_run(&self) {
        if self.has_empty_run.replace(true) {
            return;
        }
        run("mount", &["-t", "tmpfs", "none", "/run"]);
        for (file, rest) in [("passwd", ":x:0:0::/run/home:/bin/false"), ("group", ":x:0:")] {
            let lines: String = ["avahi", "systemd-network", "dhcpcd"].map(|user| format!("{user}{rest}\n")).concat();
            put(&format!("/run/{file}"), &lines);
            run("mount", &["--bind", &format!("/run/{file}"), &format!("/etc/{file}")]);
        }
        fs::create_dir("/run/home").unwrap();
    }

    /// The output of an applet of the program under test.
    pub(crate) fn said(args: &[&str]) -> String {
        output(Command::new(env!("CARGO_BIN_EXE_diskomator")).args(args))
    }

    /// The program's log.
    pub(crate) fn log(&self) -> String {
        self.text("log")
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read(self.path(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// A socket to send raw packets from among the servers.
    pub(crate) fn packet_socket(&self, link: &str) -> PacketSocket {
        self.among_servers(|| {
            let links = Netlink::new().unwrap().links().unwrap();
            let index = links.iter().find(|found| found.name == link).unwrap().index;
            PacketSocket::open(index, link).unwrap()
        })
    }

    /// A server that does what `script` says: for each message the packets to
    /// answer with.
    pub(crate) fn scripted<F>(&self, link: &'static str, mut script: F) -> Scripted
    where
        F: FnMut(&Message) -> Vec<Vec<u8>> + Send + 'static,
    {
        let asked = self.among_servers(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).unwrap());
        let answers = self.packet_socket(link);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(len) = asked.recv(&mut buffer) {
                let message = Message::parse(&buffer[..len]).expect("the client's messages are good");
                log.lock().unwrap().push((Instant::now(), message.clone()));
                for packet in script(&message) {
                    // A packet that the kernel refuses to send is no test.
                    let _ = answers.broadcast(&packet);
                }
            }
        });
        Scripted(seen)
    }
}

/// The questions to a scripted server, and their times.
pub(crate) struct Scripted(Arc<Mutex<Vec<(Instant, Message)>>>);

impl Scripted {
    pub(crate) fn seen(&self) -> Vec<(Instant, Message)> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.seen().iter().filter(|(_, message)| message.kind == kind).count()
    }
}

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const GIVEN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);

/// A good answer to `asked`, for `seconds`.
pub(crate) fn answer(asked: &Message, seconds: u32) -> Message {
    Message {
        op: Op::Reply,
        kind: if asked.kind == Kind::Discover { Kind::Offer } else { Kind::Ack },
        yiaddr: GIVEN,
        options: Options {
            server: Some(SERVER),
            mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            lease_time: Some(seconds),
            ..Options::default()
        },
        ..asked.clone()
    }
}

/// A message as the packet that carries it.
pub(crate) fn packet(payload: &[u8]) -> Vec<u8> {
    build_between((SERVER, 67), (Ipv4Addr::BROADCAST, 68), payload)
}

/// An address and its remaining time in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix_len: u64,
    pub(crate) valid: u64,
}

/// The IPv4 addresses of a link.
pub(crate) fn addresses(link: &str) -> Vec<Held> {
    let all = json(&["-4", "address", "show", "dev", link]);
    let list = all.as_array().into_iter().flatten().filter_map(|link| link["addr_info"].as_array()).flatten();
    list.filter_map(|info| {
        Some(Held {
            address: info["local"].as_str()?.parse().unwrap(),
            prefix_len: info["prefixlen"].as_u64()?,
            valid: info["valid_life_time"].as_u64()?,
        })
    })
    .collect()
}

/// Waits until `link` has one IPv4 address and no other.
pub(crate) fn wait_for_address(link: &str, wanted: impl Fn(Ipv4Addr) -> bool) -> Held {
    wait_for(&format!("an address on {link}"), || match addresses(link).as_slice() {
        [held] if wanted(held.address) => Some(*held),
        _ => None,
    })
}

/// Waits until `link` has no IPv4 address.
pub(crate) fn wait_for_no_address(link: &str) {
    wait_for(&format!("no address on {link}"), || addresses(link).is_empty().then_some(()));
}

/// Writes what becomes of addresses of a family, `-4` or `-6`, to a file.
pub(crate) fn monitor_addresses(family: &str, file: &str) -> Background {
    Background::start("ip", &[family, "monitor", "address"], Path::new(file))
}

/// Puts plain files in the place of the kernel's `/dev` and `/sys`.
pub(crate) fn plain_dev_and_sys(files: &[(&str, &str)]) {
    // No command starts without a /dev/null.
    run("sh", &["-c", "mount -t tmpfs none /sys && mount -t tmpfs none /dev && : >/dev/null"]);
    for (path, content) in files {
        put(path, content);
    }
}

/// Makes a file and the directories that it is in.
pub(crate) fn put(path: &str, content: &str) {
    fs::create_dir_all(PathBuf::from(path).parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// The output of `ip`, as JSON.
pub(crate) fn json(args: &[&str]) -> Value {
    let text = output(Command::new("ip").arg("-json").args(args));
    serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap()
}

/// A TCP connection from the servers to the appliance's address, as a host has
/// it that uses a disk.
pub(crate) struct Connection {
    here: TcpStream,
    there: TcpStream,
}

impl Connection {
    pub(crate) fn open(lab: &Lab, address: impl Into<IpAddr>) -> Self {
        Self::opened(lab, address.into(), |to| TcpStream::connect_timeout(&to, PATIENCE).unwrap())
    }

    /// One from an IPv6 address among the servers that the kernel would not choose.
    pub(crate) fn from(lab: &Lab, from: Ipv6Addr, address: Ipv6Addr) -> Self {
        Self::opened(lab, address.into(), |to| {
            let socket = socket::socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(from, 0, 0, 0))).unwrap();
            socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
            TcpStream::from(socket)
        })
    }

    fn opened(lab: &Lab, address: IpAddr, connect: impl FnOnce(SocketAddr) -> TcpStream + Send) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let there = lab.among_servers(|| connect(to));
        let here = listener.accept().unwrap().0;
        for end in [&here, &there] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Self { here, there }
    }

    pub(crate) fn check(&mut self) {
        let mut byte = [0];
        self.there.write_all(b"?").unwrap();
        self.here.read_exact(&mut byte).unwrap();
        self.here.write_all(b"!").unwrap();
        self.there.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"!");
    }
}

/// The program under test: the one of the image, if it is named.
pub(crate) fn program() -> String {
    std::env::var("DISKOMATOR").unwrap_or_else(|_| env!("CARGO_BIN_EXE_diskomator").to_owned())
}

/// Runs a command that has to succeed.
pub(crate) fn run(program: &str, args: &[&str]) {
    let result = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success(), "{program} {}: {said}", args.join(" "));
}

fn output(command: &mut Command) -> String {
    let result = command.output().unwrap();
    String::from_utf8(result.stdout).unwrap()
}

/// Waits until there is something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE + Duration::from_secs(LENIENCE.load(Ordering::Relaxed));
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited for {what} in vain");
        thread::sleep(Duration::from_millis(20));
    }
}
