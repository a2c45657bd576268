//! The machine under test, booted from the image that people get.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::paths::cmdline;
use crate::qemu::{Arguments, Emulated, Qemu, SocketDir, escaped, locked};
use crate::shell::Shell;
use crate::{Bus, Disk, Error, Output, Result, SecureBoot, image_file};

/// PCI Express slots of the machine: disks that are there from the start and those that are plugged in later.
const SLOTS: usize = 8;
/// SATA ports of the q35 chipset.
const SATA_PORTS: usize = 6;
/// QEMU's name of the SCSI adapter that can be plugged in.
const ADAPTER: &str = "adapter";
/// The word for whom the machine admits.
const ACCESS: &str = "diskomator.access=";
/// Between two keys.
const KEY_PAUSE: Duration = Duration::from_millis(300);
/// The vendor part of QEMU's own addresses, then one of ours for each card.
const MAC_PREFIX: &str = "52:54:00:d1:5c";

/// How the machine gets at the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// The raw image as a USB stick, under UEFI.
    UsbStick,
    /// The EFI file alone, handed to the firmware; the machine has no disk for it.
    EfiFile,
    /// By the firmware itself, over HTTP, from where the DHCP server says.
    Http,
    /// Kernel and initramfs handed over without any firmware's help.
    Kernel,
}

/// A network card, by QEMU's name of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nic(pub &'static str);

/// A machine that is being put together.
#[derive(Debug, Clone)]
pub struct ApplianceBuilder {
    boot: Boot,
    image: Option<PathBuf>,
    stick_blocks: u32,
    variables: Option<PathBuf>,
    graphics: Option<String>,
    is_headless: bool,
    memory: u32,
    processors: Option<u32>,
    nics: Vec<Nic>,
    first_mac: usize,
    disks: Vec<Disk>,
    drives: Vec<Drive>,
    words: Vec<String>,
    is_as_shipped: bool,
    strings: Vec<String>,
    fw_cfg: Vec<(String, String)>,
    uuid: &'static str,
    restarts: bool,
    deadline: Duration,
}

impl ApplianceBuilder {
    /// A machine with 256 MiB, one virtio network card and no disks, booted from the USB stick. It admits every host.
    pub(crate) fn new() -> Self {
        Self {
            boot: Boot::UsbStick,
            image: None,
            stick_blocks: 512,
            variables: None,
            graphics: Some("VGA".to_owned()),
            is_headless: false,
            memory: 256,
            processors: None,
            nics: vec![Nic("virtio-net-pci")],
            first_mac: 0,
            disks: Vec::new(),
            drives: Vec::new(),
            words: Vec::new(),
            is_as_shipped: false,
            strings: Vec::new(),
            fw_cfg: Vec::new(),
            uuid: "5f6e1a2c-74b0-4c1e-9d53-0a1b2c3d4e5f",
            restarts: false,
            deadline: Duration::from_secs(500),
        }
    }

    /// How it boots.
    #[must_use]
    pub fn boot(mut self, boot: Boot) -> Self {
        self.boot = boot;
        self
    }

    /// Another image on its USB stick.
    #[must_use]
    pub fn image(mut self, raw: &Path) -> Self {
        self.image = Some(raw.to_owned());
        self
    }

    /// Of how many bytes the blocks of its USB stick are.
    #[must_use]
    pub fn stick_blocks(mut self, bytes: u32) -> Self {
        self.stick_blocks = bytes;
        self
    }

    /// Its firmware has Secure Boot on, and boots only what `owner` signs.
    #[must_use]
    pub fn secure_boot(mut self, owner: &SecureBoot) -> Self {
        self.variables = Some(owner.variables());
        self
    }

    /// Its screen has so many pixels; else as many as its firmware likes.
    #[must_use]
    pub fn resolution(mut self, width: u32, height: u32) -> Self {
        self.graphics = Some(format!("VGA,edid=on,xres={width},yres={height}"));
        self
    }

    /// Its only graphics card, by QEMU's name of it; else one with VGA.
    #[must_use]
    pub fn graphics(mut self, device: &str) -> Self {
        self.graphics = Some(device.to_owned());
        self
    }

    /// It has no graphics card.
    #[must_use]
    pub fn no_graphics(mut self) -> Self {
        self.graphics = None;
        self
    }

    /// It has neither a graphics card nor a serial port, and so no debug shell either.
    #[must_use]
    pub fn headless(self) -> Self {
        Self { is_headless: true, ..self.no_graphics() }
    }

    /// Its RAM in MiB.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// How many processors it has.
    #[must_use]
    pub fn processors(mut self, count: u32) -> Self {
        self.processors = Some(count);
        self
    }

    /// Its network cards, all on the one link.
    #[must_use]
    pub fn nics(mut self, nics: &[Nic]) -> Self {
        self.nics = nics.to_vec();
        self
    }

    /// Another machine than the others of this test, with the same firmware: its network cards have the hardware
    /// addresses from the one with this number on.
    #[must_use]
    pub fn first_mac(mut self, number: usize) -> Self {
        self.first_mac = number;
        self
    }

    /// One more disk, there from power-on.
    #[must_use]
    pub fn disk(mut self, disk: &Disk) -> Self {
        self.disks.push(disk.clone());
        self
    }

    /// One more drive with nothing in it.
    #[must_use]
    pub fn drive(mut self, drive: Drive) -> Self {
        self.drives.push(drive);
        self
    }

    /// One more word on the kernel's command line.
    #[must_use]
    pub fn word(mut self, word: &str) -> Self {
        self.words.push(word.to_owned());
        self
    }

    /// Whom it admits is left to its image and its stick; else a word lets every host in, if no other one names a mode.
    #[must_use]
    pub fn as_shipped(mut self) -> Self {
        self.is_as_shipped = true;
        self
    }

    /// One more SMBIOS string of type 11.
    #[must_use]
    pub fn smbios(mut self, string: &str) -> Self {
        self.strings.push(string.to_owned());
        self
    }

    /// A file in the device `fw_cfg`.
    #[must_use]
    pub fn fw_cfg(mut self, name: &str, content: &str) -> Self {
        self.fw_cfg.push((name.to_owned(), content.to_owned()));
        self
    }

    /// A root shell on the serial port, for tests that look inside.
    #[must_use]
    pub fn debug(self) -> Self {
        self.word("diskomator.debug")
    }

    /// It starts again after a restart ([`Appliance::wait_restart`]), which else ends it.
    #[must_use]
    pub fn restarts(mut self) -> Self {
        self.restarts = true;
        self
    }

    /// When to give up on it, from power-on.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Powers it on. `link` is the socket of the other machine's network card.
    pub(crate) fn start(mut self, name: &str, evidence: &Path, link: &Path) -> Result<Appliance> {
        if !self.is_as_shipped && !self.words.iter().any(|word| word.starts_with(ACCESS)) {
            self.words.push(format!("{ACCESS}open"));
        }
        let mut arguments = Arguments::default();
        arguments.add("-m", format!("{}M", self.memory));
        arguments.add("-uuid", self.uuid);
        arguments.add("-vga", "none");
        if let Some(device) = &self.graphics {
            arguments.add("-device", device.clone());
        }
        if self.is_headless {
            arguments.add("-serial", "none");
        }
        for string in &self.strings {
            arguments.add("-smbios", format!("type=11,value={}", string.replace(',', ",,")));
        }
        for (name, content) in &self.fw_cfg {
            arguments.add("-fw_cfg", format!("name={name},string={}", content.replace(',', ",,")));
        }
        // A restart ends it, so that a test sees it; QEMU's own way out is quit.
        if !self.restarts {
            arguments.flag("-no-reboot");
        }
        // Buses come before what sits on them: QEMU creates devices in the order given.
        arguments.add("-device", "qemu-xhci,id=usb,p2=8,p3=8").add("-device", "usb-kbd,bus=usb.0");
        self.add_boot(&mut arguments, name, evidence)?;
        self.add_network(&mut arguments, link);
        arguments.add("-device", "virtio-scsi-pci,id=scsi");
        for slot in 0..SLOTS {
            arguments.add("-device", format!("pcie-root-port,id=port{slot},chassis={},slot={}", slot + 1, slot + 1));
        }
        for drive in &self.drives {
            if *drive == Drive::CardReader {
                // It wants something to put cards into.
                arguments.add("-drive", "if=none,id=slot");
            }
            for device in drive.devices() {
                arguments.add("-device", device.to_string());
            }
        }
        let slots = Slots::default();
        for disk in &self.disks {
            let slot = slots.take(disk, name)?;
            if let Some(object) = disk.object() {
                arguments.add("-object", object.to_string());
            }
            arguments.add("-blockdev", disk.blockdev().to_string());
            for device in disk.devices(slot) {
                arguments.add("-device", device.to_string());
            }
        }
        let (sockets, model) = (SocketDir::new()?, Emulated::Everything);
        let qemu = Qemu::start(name, evidence, sockets, model, self.processors, arguments, self.deadline)?;
        let (shell, serial) = (RefCell::new(None), RefCell::new(None));
        let macs = (0..self.nics.len()).map(|number| mac(self.first_mac + number)).collect();
        Ok(Appliance { qemu, slots, shell, serial, macs })
    }

    fn add_boot(&self, arguments: &mut Arguments, name: &str, evidence: &Path) -> Result<()> {
        if self.boot == Boot::Kernel {
            arguments.add("-kernel", image_file("bzImage")?).add("-initrd", image_file("rootfs.cpio")?);
            arguments.add("-append", format!("{} {}", cmdline()?, self.words.join(" ")));
            return Ok(());
        }
        let (code, vars) = match &self.variables {
            Some(variables) => {
                // System management mode guards the variables: without it any program could change them.
                arguments.add("-machine", "smm=on").add("-global", "ICH9-LPC.disable_s3=1");
                arguments.add("-global", "driver=cfi.pflash01,property=secure,value=on");
                (secure_firmware()?.0, variables.clone())
            }
            None => firmware()?,
        };
        let own_vars = evidence.join(format!("{name}.efivars"));
        fs::copy(&vars, &own_vars).map_err(|source| Error::File { verb: "copy", path: vars, source })?;
        arguments.add("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escaped(&code)));
        arguments.add("-drive", format!("if=pflash,unit=1,format=raw,file={}", escaped(&own_vars)));
        if !self.words.is_empty() {
            let words = self.words.join(" ").replace(',', ",,");
            arguments.add("-smbios", format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={words}"));
        }
        if self.boot == Boot::EfiFile {
            arguments.add("-kernel", image_file("diskomator.efi")?);
        } else if self.boot == Boot::Http {
            for version in ["IPv4", "IPv6"] {
                arguments.add("-fw_cfg", format!("name=opt/org.tianocore/{version}PXESupport,string=no"));
            }
        } else {
            let image = escaped(&self.image.clone().map_or_else(|| image_file("diskomator.raw"), Ok)?);
            arguments.add("-drive", format!("if=none,id=stick,format=raw,snapshot=on,file={image}"));
            let stick = "usb-storage,id=stick,drive=stick,bus=usb.0,removable=on,bootindex=0,serial=STICK";
            let blocks = self.stick_blocks;
            arguments.add("-device", format!("{stick},logical_block_size={blocks},physical_block_size={blocks}"));
        }
        Ok(())
    }

    fn add_network(&self, arguments: &mut Arguments, link: &Path) {
        let mut netdev = OsString::from("stream,id=link,server=off,addr.type=unix,addr.path=");
        netdev.push(escaped(link));
        arguments.add("-netdev", netdev);
        if self.nics.len() == 1 {
            self.add_nic(arguments, 0, "link");
            return;
        }
        // One hub connects the link and every card.
        arguments.add("-netdev", "hubport,id=uplink,hubid=0,netdev=link");
        for number in 0..self.nics.len() {
            arguments.add("-netdev", format!("hubport,id=hub{number},hubid=0"));
            self.add_nic(arguments, number, &format!("hub{number}"));
        }
    }

    fn add_nic(&self, arguments: &mut Arguments, number: usize, netdev: &str) {
        let Some(Nic(model)) = self.nics.get(number) else { return };
        let mac = mac(self.first_mac + number);
        if model.starts_with("usb") {
            arguments.add("-device", format!("qemu-xhci,id=usb-nic{number}"));
            arguments.add("-device", format!("{model},bus=usb-nic{number}.0,netdev={netdev},mac={mac}"));
        } else {
            // The card has no firmware of its own, which would be iPXE.
            let boot = if self.boot == Boot::Http { ",bootindex=0" } else { "" };
            arguments.add("-device", format!("{model},netdev={netdev},mac={mac},romfile={boot}"));
        }
    }
}

/// A drive whose media come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// A CD drive at the virtio-scsi controller.
    Cd,
    /// A reader of SD cards.
    CardReader,
}

impl Drive {
    /// QEMU's name of it.
    fn id(self) -> &'static str {
        match self {
            Self::Cd => "cd",
            Self::CardReader => "card",
        }
    }

    fn devices(self) -> Vec<Value> {
        match self {
            Self::Cd => vec![json!({ "driver": "scsi-cd", "id": self.id(), "bus": "scsi.0", "serial": "CD-DRIVE" })],
            Self::CardReader => {
                vec![
                    json!({ "driver": "sdhci-pci", "id": "reader" }),
                    json!({ "driver": "sd-card", "id": self.id(), "drive": "slot" }),
                ]
            }
        }
    }
}

/// Which disk sits where.
#[derive(Default)]
struct Slots {
    pcie: RefCell<BTreeMap<usize, String>>,
    sata: RefCell<BTreeMap<usize, String>>,
}

impl Slots {
    fn take(&self, disk: &Disk, machine: &str) -> Result<usize> {
        let (ports, count) = match disk.bus {
            Bus::Nvme | Bus::VirtioBlk => (&self.pcie, SLOTS),
            Bus::Ahci => (&self.sata, SATA_PORTS),
            Bus::VirtioScsi | Bus::UsbStorage | Bus::Uas | Bus::Sd => return Ok(0),
        };
        let mut ports = ports.borrow_mut();
        let Some(free) = (0..count).find(|slot| !ports.contains_key(slot)) else {
            return Err(Error::None { machine: machine.to_owned(), what: format!("free slot for {}", disk.serial) });
        };
        ports.insert(free, disk.id());
        Ok(free)
    }

    fn release(&self, disk: &Disk) {
        let id = disk.id();
        self.pcie.borrow_mut().retain(|_, owner| *owner != id);
    }
}

/// A serial line that a test types on.
struct Line {
    stream: UnixStream,
    /// All that the machine said before.
    before: String,
    /// And since then. QEMU's log has some bytes twice where the line takes less than the machine says.
    said: Arc<Mutex<Vec<u8>>>,
}

impl Line {
    fn open(before: String, socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        let mut other = stream.try_clone()?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = other.read(&mut chunk) {
                locked(&heard).extend_from_slice(chunk.get(..count).unwrap_or_default());
            }
        });
        Ok(Self { stream, before, said })
    }
}

/// The running machine under test.
pub struct Appliance {
    qemu: Qemu,
    slots: Slots,
    shell: RefCell<Option<Shell>>,
    serial: RefCell<Option<Line>>,
    macs: Vec<String>,
}

impl Appliance {
    /// When it was powered on.
    pub fn powered_on(&self) -> Instant {
        self.qemu.started()
    }

    /// How much of this machine's processor time it has used.
    pub fn processor_time(&self) -> Result<Duration> {
        self.qemu.processor_time()
    }

    /// The hardware addresses of its network cards.
    pub fn macs(&self) -> Vec<String> {
        self.macs.clone()
    }

    /// Everything that its serial port said so far.
    pub fn serial_log(&self) -> String {
        match &*self.serial.borrow() {
            Some(line) => line.before.clone() + &String::from_utf8_lossy(&locked(&line.said)),
            None => self.qemu.serial_log(),
        }
    }

    /// An error when the machine has ended.
    pub fn check(&self) -> Result<()> {
        self.qemu.check()
    }

    /// Plugs a disk in while it runs.
    pub fn add_disk(&self, disk: &Disk) -> Result<()> {
        let slot = self.slots.take(disk, self.qemu.name())?;
        if let Some(object) = disk.object() {
            self.qemu.qmp("object-add", &object)?;
        }
        self.qemu.qmp("blockdev-add", &disk.blockdev())?;
        for device in disk.devices(slot) {
            self.qemu.qmp("device_add", &device)?;
        }
        Ok(())
    }

    /// Pulls a disk, and waits until QEMU has let it go. NVMe and virtio disks are pulled as the button at their
    /// slot does it; USB ones simply go.
    pub fn pull_disk(&self, disk: &Disk) -> Result<()> {
        let id = disk.id();
        self.qemu.qmp("device_del", &json!({ "id": id }))?;
        self.qemu.event("DEVICE_DELETED", Duration::from_secs(60), |data| {
            data.get("device").and_then(Value::as_str) == Some(&id)
        })?;
        self.slots.release(disk);
        self.qemu.qmp("blockdev-del", &json!({ "node-name": disk.node() }))?;
        Ok(())
    }

    /// Plugs in a SCSI adapter with such disks on it.
    pub fn add_adapter(&self, disks: &[Disk]) -> Result<()> {
        let adapter = json!({ "driver": "virtio-scsi-pci", "id": ADAPTER, "bus": format!("port{}", SLOTS - 1) });
        self.qemu.qmp("device_add", &adapter)?;
        for disk in disks {
            self.qemu.qmp("blockdev-add", &disk.blockdev())?;
            for mut device in disk.devices(0) {
                device["bus"] = json!(format!("{ADAPTER}.0"));
                self.qemu.qmp("device_add", &device)?;
            }
        }
        Ok(())
    }

    /// Pulls that adapter, and its disks with it.
    pub fn pull_adapter(&self, disks: &[Disk]) -> Result<()> {
        self.qemu.qmp("device_del", &json!({ "id": ADAPTER }))?;
        self.qemu.event("DEVICE_DELETED", Duration::from_secs(60), |data| {
            data.get("device").and_then(Value::as_str) == Some(ADAPTER)
        })?;
        for disk in disks {
            self.qemu.qmp("blockdev-del", &json!({ "node-name": disk.node() }))?;
        }
        Ok(())
    }

    /// Puts a medium into a drive.
    pub fn insert(&self, drive: Drive, medium: &Disk) -> Result<()> {
        self.qemu.qmp("blockdev-add", &medium.blockdev())?;
        self.qemu.qmp("blockdev-insert-medium", &json!({ "id": drive.id(), "node-name": medium.node() }))?;
        if drive == Drive::Cd {
            self.qemu.qmp("blockdev-close-tray", &json!({ "id": drive.id() }))?;
        }
        Ok(())
    }

    /// Takes it out again.
    pub fn eject(&self, drive: Drive, medium: &Disk) -> Result<()> {
        if drive == Drive::Cd {
            self.qemu.qmp("blockdev-open-tray", &json!({ "id": drive.id(), "force": true }))?;
        }
        self.qemu.qmp("blockdev-remove-medium", &json!({ "id": drive.id() }))?;
        self.qemu.qmp("blockdev-del", &json!({ "node-name": medium.node() })).map(|_| ())
    }

    /// Opens the tray of a drive that is empty.
    pub fn open_tray(&self, drive: Drive) -> Result<()> {
        self.qemu.qmp("blockdev-open-tray", &json!({ "id": drive.id() })).map(|_| ())
    }

    /// Pulls the cable of a network card, by its number from 0 on, or puts it back.
    pub fn connect_cable(&self, number: usize, connected: bool) -> Result<()> {
        let name = if self.macs.len() == 1 { "link".to_owned() } else { format!("hub{number}") };
        self.qemu.qmp("set_link", &json!({ "name": name, "up": connected })).map(|_| ())
    }

    /// Plugs a USB network adapter into a machine with several cards; its hardware address.
    pub fn add_usb_nic(&self) -> Result<String> {
        let (number, mac) = (self.macs.len(), mac(self.macs.len()));
        let id = format!("hub{number}");
        self.qemu.qmp("netdev_add", &json!({ "type": "hubport", "id": id, "hubid": 0 }))?;
        let adapter = json!({ "driver": "usb-net", "id": "adapter-nic", "bus": "usb.0", "netdev": id, "mac": mac });
        self.qemu.qmp("device_add", &adapter)?;
        Ok(mac)
    }

    /// Gives a disk another size, in bytes.
    pub fn resize_disk(&self, disk: &Disk, bytes: u64) -> Result<()> {
        self.qemu.qmp("block_resize", &json!({ "node-name": disk.node(), "size": bytes })).map(|_| ())
    }

    /// From the next request but one on, the disk answers none any more.
    pub fn hang_disk(&self, disk: &Disk) -> Result<()> {
        self.slow_disk(disk, 1)
    }

    /// It answers again.
    pub fn release_disk(&self, disk: &Disk) -> Result<()> {
        self.slow_disk(disk, 0)
    }

    /// It is no faster than so many bytes a second; 0 is as fast as it can. For disks that
    /// [can hang](Disk::that_can_hang).
    pub fn slow_disk(&self, disk: &Disk, bytes: u64) -> Result<()> {
        let arguments = json!({
            "path": format!("/objects/{}", disk.throttle()),
            "property": "limits",
            "value": { "bps-total": bytes },
        });
        self.qemu.qmp("qom-set", &arguments).map(|_| ())
    }

    /// Presses the power button.
    pub fn press_power_button(&self) -> Result<()> {
        self.qemu.qmp("system_powerdown", &json!({})).map(|_| ())
    }

    /// Presses Ctrl, Alt and Del.
    pub fn press_ctrl_alt_del(&self) -> Result<()> {
        let keys: Vec<Value> =
            ["ctrl", "alt", "delete"].iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.qemu.qmp("send-key", &json!({ "keys": keys })).map(|_| ())
    }

    /// Waits until it has switched itself off, and gives the reason: `guest-shutdown`, or `guest-reset` after a
    /// restart.
    pub fn wait_off(&self, limit: Duration) -> Result<String> {
        let data = self.qemu.event("SHUTDOWN", limit, |_| true)?;
        self.qemu.wait_end(Duration::from_secs(10))?;
        Ok(data.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Waits until it restarts; it must be one that [does](ApplianceBuilder::restarts).
    pub fn wait_restart(&self, limit: Duration) -> Result<()> {
        self.qemu.event("RESET", limit, |data| data.get("guest").and_then(Value::as_bool) == Some(true)).map(drop)
    }

    /// Cuts its power.
    pub fn cut_power(self) {
        drop(self);
    }

    /// Presses keys one after the other, by QEMU's names of them; `shift-r` are two at once.
    pub fn press_keys(&self, keys: &[&str]) -> Result<()> {
        for key in keys {
            let chord: Vec<Value> = key.split('-').map(|key| json!({ "type": "qcode", "data": key })).collect();
            self.qemu.qmp("send-key", &json!({ "keys": chord }))?;
            // An emulated keyboard loses what comes faster than its driver looks.
            sleep(KEY_PAUSE);
        }
        Ok(())
    }

    /// A break on its serial line: as noise, or a plug that is pulled, makes one.
    pub fn break_serial(&self) -> Result<()> {
        self.qemu.qmp("chardev-send-break", &json!({ "id": "serial" })).map(|_| ())
    }

    /// Types on its serial line, where no shell of [`Appliance::shell`] is.
    pub fn type_on_serial(&self, text: &str) -> Result<()> {
        let failed = |verb, source| Error::Channel {
            verb,
            channel: "the serial port",
            machine: self.qemu.name().to_owned(),
            source,
        };
        let mut slot = self.serial.borrow_mut();
        let mut line = match slot.take() {
            Some(line) => line,
            None => {
                Line::open(self.qemu.serial_log(), &self.qemu.socket("serial")).map_err(|e| failed("connect to", e))?
            }
        };
        let written = line.stream.write_all(text.as_bytes());
        slot.replace(line);
        written.map_err(|e| failed("write to", e))?;
        Ok(())
    }

    /// Saves what its screen shows, as PNG.
    pub fn save_screen(&self, path: &Path) -> Result<()> {
        self.qemu.qmp("screendump", &json!({ "filename": path, "format": "png" })).map(drop)
    }

    /// The text on its first virtual terminal, a line for each row (needs the debug shell). What is not ASCII is `?`.
    pub fn screen_text(&self) -> Result<String> {
        // The device is named by its glyphs, without line ends; the other begins with its rows and columns.
        let columns = self.shell("dd if=/dev/vcsa1 bs=1 skip=1 count=1 2>/dev/null | hexdump -e '1/1 \"%d\"'")?;
        let text = self.shell(&format!("tr -c ' -~' '?' </dev/vcs1 | fold -w {}", columns.trim()))?;
        Ok(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"))
    }

    /// Runs a line in its debug shell (see [`ApplianceBuilder::debug`]); a failure of the line is an error.
    pub fn shell(&self, line: &str) -> Result<String> {
        let output = self.try_shell(line, Duration::from_secs(30))?;
        if output.status == 0 {
            return Ok(output.stdout);
        }
        Err(Error::Command {
            machine: self.qemu.name().to_owned(),
            command: line.to_owned(),
            status: output.status,
            said: output.stdout,
        })
    }

    /// Runs a line in its debug shell, whatever comes of it.
    pub fn try_shell(&self, line: &str, limit: Duration) -> Result<Output> {
        let mut slot = self.shell.borrow_mut();
        let mut shell = match slot.take() {
            Some(shell) => shell,
            None => Shell::connect(&self.qemu.socket("serial"), self.qemu.name(), Duration::from_secs(120))?,
        };
        let output = shell.run(line, limit).or_else(|error| self.qemu.check().and(Err(error)));
        slot.replace(shell);
        output
    }

    /// The kernel's log.
    pub fn kernel_log(&self) -> Result<String> {
        self.shell("dmesg")
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        // With the debug shell the kernel's messages are not on the serial port.
        if self.shell.borrow().is_some() && self.qemu.check().is_ok() {
            if let Ok(output) = self.try_shell("dmesg", Duration::from_secs(5)) {
                let path = self.qemu.evidence().join(format!("{}.dmesg", self.qemu.name()));
                let _ = fs::write(path, output.stdout);
            }
        }
    }
}

fn mac(number: usize) -> String {
    format!("{MAC_PREFIX}:{number:02x}")
}

/// OVMF's code and its variables. Debian 13 has the 4 MiB build alone, Debian 12 both.
fn firmware() -> Result<(PathBuf, PathBuf)> {
    ovmf(&[("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"), ("OVMF_CODE.fd", "OVMF_VARS.fd")])
}

/// The same with Secure Boot, which is off as long as the variables have no certificate.
pub(crate) fn secure_firmware() -> Result<(PathBuf, PathBuf)> {
    ovmf(&[("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.fd")])
}

fn ovmf(pairs: &[(&str, &str)]) -> Result<(PathBuf, PathBuf)> {
    let dir = Path::new("/usr/share/OVMF");
    pairs
        .iter()
        .map(|(code, vars)| (dir.join(code), dir.join(vars)))
        .find(|(code, vars)| code.exists() && vars.exists())
        .ok_or(Error::Missing { path: dir.to_owned(), remedy: "Debian's package ovmf has it" })
}
