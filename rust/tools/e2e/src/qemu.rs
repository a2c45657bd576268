//! One QEMU process: started, watched, and killed with its owner.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::qmp::Qmp;
use crate::{Error, Result, wait_for};

pub(crate) const PROGRAM: &str = "qemu-system-x86_64";

/// A directory for sockets, whose paths may have 107 bytes at most; removed when dropped.
pub(crate) struct SocketDir(PathBuf);

impl SocketDir {
    pub(crate) fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("diskomator-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|source| Error::File { verb: "create", path: path.clone(), source })?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// QEMU's command line as it grows.
#[derive(Default, Hash)]
pub(crate) struct Arguments(Vec<OsString>);

impl Arguments {
    /// A flag and its value.
    pub(crate) fn add(&mut self, flag: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.push(flag.into());
        self.0.push(value.into());
        self
    }

    fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|word| word == flag)
    }

    /// A flag alone.
    pub(crate) fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }
}

/// The kernel's unit of processor time in `/proc` (`USER_HZ`), on every architecture that QEMU runs on here.
const TICK: Duration = Duration::from_millis(10);

/// A running virtual machine.
pub(crate) struct Qemu {
    name: String,
    child: Arc<Mutex<Child>>,
    expired: Arc<AtomicBool>,
    qmp: RefCell<Option<Qmp>>,
    evidence: PathBuf,
    sockets: SocketDir,
    started: Instant,
}

impl Qemu {
    /// Starts a machine called `name`, its sockets in `sockets`. Its serial log, QEMU's messages and QMP's go to
    /// `evidence/name.*`. After `deadline` it is killed, whatever it does. It has as many `processors` as fit the
    /// machine that it runs on where nothing is said.
    ///
    /// The thread that starts it must live as long as the machine: the kernel kills QEMU when that thread ends.
    pub(crate) fn start(
        name: &str,
        evidence: &Path,
        sockets: SocketDir,
        emulated: Emulated,
        processors: Option<u32>,
        arguments: Arguments,
        deadline: Duration,
    ) -> Result<Self> {
        fs::create_dir_all(evidence).map_err(|source| Error::File {
            verb: "create",
            path: evidence.to_owned(),
            source,
        })?;
        let stderr = create(&evidence.join(format!("{name}.qemu.log")))?;
        let mut all = Arguments::default();
        all.add("-name", name).flag("-nodefaults").flag("-no-user-config").add("-display", "none");
        all.add("-machine", "q35");
        if kvm() {
            all.add("-accel", "kvm").add("-cpu", "host");
        } else {
            // Several take turns: see `usual_processors`.
            let threads = if processors.is_none() { "multi" } else { "single" };
            all.add("-accel", format!("tcg,thread={threads}")).add("-cpu", emulated.model());
        }
        all.add("-smp", processors.unwrap_or_else(usual_processors).to_string());
        all.add("-qmp", socket_server(&sockets.path("qmp")));
        all.add("-chardev", {
            let mut value = OsString::from("socket,id=serial,server=on,wait=off,path=");
            value.push(sockets.path("serial"));
            value.push(",logfile=");
            value.push(evidence.join(format!("{name}.serial.log")));
            value
        });
        // A machine may say itself that it has none.
        if !arguments.has("-serial") {
            all.add("-serial", "chardev:serial");
        }
        all.0.extend(arguments.0);

        // setpriv replaces itself with QEMU; a killed test run thus leaves no machine behind.
        let started = Instant::now();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", PROGRAM])
            .args(&all.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|source| Error::Start { program: "setpriv".to_owned(), source })?;
        let child = Arc::new(Mutex::new(child));
        let expired = Arc::new(AtomicBool::new(false));
        watch(Arc::clone(&child), Arc::clone(&expired), deadline);
        let qemu = Self {
            name: name.to_owned(),
            child,
            expired,
            qmp: RefCell::new(None),
            evidence: evidence.to_owned(),
            sockets,
            started,
        };
        qemu.open_qmp()?;
        Ok(qemu)
    }

    /// How much processor time it has used.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let path = PathBuf::from(format!("/proc/{}/stat", locked(&self.child).id()));
        let stat = fs::read_to_string(&path).map_err(|source| Error::File { verb: "read", path, source })?;
        // proc_pid_stat(5): `utime` and `stime` are the fourteenth and fifteenth field, and the second ends with a
        // parenthesis.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        Ok(TICK * fields.filter_map(|field| field.parse::<u32>().ok()).sum::<u32>())
    }

    /// QMP answers once every device exists, so the machine's sockets are there when this returns.
    fn open_qmp(&self) -> Result<()> {
        let socket = self.sockets.path("qmp");
        // The file is there a moment before anybody listens.
        let stream = wait_for(&format!("QEMU of {}", self.name), Duration::from_secs(30), || {
            self.check()?;
            Ok(UnixStream::connect(&socket).map_err(|error| format!("QMP socket: {error}")))
        })?;
        let log = create(&self.evidence.join(format!("{}.qmp.log", self.name)))?;
        // A QEMU that refuses its command line opens the socket before it says so.
        let qmp = Qmp::open(stream, &self.name, log).or_else(|error| self.check().and(Err(error)))?;
        self.qmp.replace(Some(qmp));
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn evidence(&self) -> &Path {
        &self.evidence
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.sockets.path(name)
    }

    /// When the machine was powered on.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Everything the serial port said so far.
    pub(crate) fn serial_log(&self) -> String {
        let path = self.evidence.join(format!("{}.serial.log", self.name));
        fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// An error when the machine has ended.
    pub(crate) fn check(&self) -> Result<()> {
        match self.status()? {
            None => Ok(()),
            Some(status) => Err(Error::Ended {
                machine: self.name.clone(),
                status: if self.expired.load(Ordering::Relaxed) {
                    "its deadline".to_owned()
                } else {
                    status.to_string()
                },
                said: fs::read_to_string(self.evidence.join(format!("{}.qemu.log", self.name))).unwrap_or_default(),
            }),
        }
    }

    fn status(&self) -> Result<Option<ExitStatus>> {
        locked(&self.child).try_wait().map_err(|source| Error::Start { program: PROGRAM.to_owned(), source })
    }

    pub(crate) fn qmp(&self, command: &str, arguments: &Value) -> Result<Value> {
        let mut slot = self.qmp.borrow_mut();
        let Some(qmp) = slot.as_mut() else {
            return Err(Error::None { machine: self.name.clone(), what: "QMP connection".to_owned() });
        };
        qmp.execute(command, arguments)
    }

    pub(crate) fn event(&self, name: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut slot = self.qmp.borrow_mut();
        let Some(qmp) = slot.as_mut() else {
            return Err(Error::None { machine: self.name.clone(), what: "QMP connection".to_owned() });
        };
        qmp.event(name, limit, wanted)
    }

    /// Waits until QEMU has ended by itself.
    pub(crate) fn wait_end(&self, limit: Duration) -> Result<()> {
        wait_for(&format!("the end of {}", self.name), limit, || {
            Ok(self.status()?.map(|_| ()).ok_or_else(|| "it still runs".to_owned()))
        })
    }

    /// Saves what its screen shows. QEMU before 7.1 writes PPM only, so PPM it is when PNG is refused.
    fn screendump(&self) {
        let path = |extension: &str| self.evidence.join(format!("{}.screen.{extension}", self.name));
        let png = json!({ "filename": path("png"), "format": "png" });
        if self.qmp("screendump", &png).is_err() {
            let _ = self.qmp("screendump", &json!({ "filename": path("ppm") }));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Evidence is always taken; the lab removes it when the test passed.
        if matches!(self.status(), Ok(None)) {
            self.screendump();
        }
        let mut child = locked(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Whether this QEMU has a device of that name.
pub fn supports_device(name: &str) -> Result<bool> {
    let output = Command::new(PROGRAM)
        .args(["-machine", "none", "-device", "help"])
        .output()
        .map_err(|source| Error::Start { program: PROGRAM.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&output.stdout).contains(&format!("name \"{name}\"")))
}

pub(crate) fn socket_server(path: &Path) -> OsString {
    let mut value = OsString::from("unix:");
    value.push(path);
    value.push(",server=on,wait=off");
    value
}

/// A value for QEMU's option syntax, in which a comma inside a value is written twice.
pub(crate) fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// How QEMU runs the machines: `kvm`, or emulation where the processor or its kernel does not offer that.
pub fn accelerator() -> &'static str {
    if kvm() { "kvm" } else { "tcg" }
}

/// Processors to give a machine where no number is asked for. QEMU before 8.1 can crash an emulated kernel that patches
/// its own code while another processor runs it, so there is one where there is no KVM.
fn usual_processors() -> u32 {
    if kvm() { 2 } else { 1 }
}

/// The processor of a machine that is emulated.
#[derive(Clone, Copy)]
pub(crate) enum Emulated {
    /// All that QEMU knows, for the machine under test.
    Everything,
    /// The model that is quick to emulate: no wide vectors, no protection keys, no fifth level of page tables.
    Quick,
}

impl Emulated {
    fn model(self) -> &'static str {
        match self {
            Self::Everything => "max",
            Self::Quick => "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand",
        }
    }
}

/// A /dev/kvm can exist on a machine whose processor has no virtualisation, so the processor is asked, too.
fn kvm() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let capable = flags
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
    capable && File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

fn create(path: &Path) -> Result<File> {
    File::create(path).map_err(|source| Error::File { verb: "create", path: path.to_owned(), source })
}

pub(crate) fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch(child: Arc<Mutex<Child>>, expired: Arc<AtomicBool>, deadline: Duration) {
    let until = Instant::now() + deadline;
    thread::spawn(move || {
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(200));
            // Alone with it: the owner is gone, and killed it.
            if Arc::strong_count(&child) == 1 || !matches!(locked(&child).try_wait(), Ok(None)) {
                return;
            }
        }
        expired.store(true, Ordering::Relaxed);
        let _ = locked(&child).kill();
    });
}
