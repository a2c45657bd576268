//! The screen that a person at the machine sees, and its keys.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use e2e::measure::{self, Effort};
use e2e::{Appliance, Bus, Error, Failure, Lab, Result, wait_for};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

/// Waits until the screen has a text.
fn wait_shown(machine: &Appliance, text: &str) -> Result<()> {
    wait_for(&format!("{text:?} on the screen"), SOON, || {
        let screen = machine.screen_text()?;
        Ok(if screen.contains(text) { Ok(()) } else { Err(screen) })
    })
}

/// Waits until a phone would read `text` on the screen.
fn wait_code(machine: &Appliance, name: &str, text: &str) -> Result<()> {
    let path = std::env::temp_dir().join(format!("diskomator-{}-{name}.png", std::process::id()));
    let read = || {
        machine.save_screen(&path)?;
        let output = Command::new("zbarimg").args(["-q", "--raw"]).arg(&path).output();
        let output = output.map_err(|source| Error::Start { program: "zbarimg".to_owned(), source })?;
        let code = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(if code == text { Ok(()) } else { Err(format!("the QR code is {code:?}")) })
    };
    let outcome = wait_for(&format!("a QR code with {text:?}"), SOON, read);
    let _ = std::fs::remove_file(&path);
    outcome
}

fn state(machine: &Appliance, serial: &str) -> Result<String> {
    let list: Value = serde_json::from_str(&machine.shell("diskomator export list --json")?).unwrap_or_default();
    let disk = list["disks"].as_array().into_iter().flatten().find(|disk| disk["serial"] == serial);
    Ok(disk.map(|disk| disk["state"].as_str().unwrap_or_default().to_owned()).unwrap_or_default())
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn the_screen_says_what_to_type_and_its_keys_ask_and_do_it() -> std::result::Result<(), Failure> {
    Lab::run("the_screen_says_what_to_type_and_its_keys_ask_and_do_it", |lab| {
        let disk = lab.disk(Bus::Nvme, "SCREEN-7001", 64)?;
        let machine = lab.appliance().resolution(1280, 800).disk(&disk).debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        let line = format!("nvme connect-all -t tcp -a {address}");
        for text in [&line, "DISKOMATOR", "Everyone on this network", "nvme0n1", "exported", "h help"] {
            wait_shown(&machine, text)?;
        }
        wait_code(&machine, "overview", &line)?;
        machine.press_keys(&["q"])?;
        wait_shown(&machine, "QR code")?;
        wait_code(&machine, "alone", &line)?;

        // The screen is up before anything else is; and once nothing changes, it takes no time.
        println!("the screen is up {:?} after the first process starts", measure::screen_up(&machine)?);
        sleep(Duration::from_secs(5));
        let before = Effort::of_console(&machine)?;
        sleep(Duration::from_secs(20));
        let after = Effort::of_console(&machine)?;
        println!("20 s of nothing: {:.2} % of a processor", after.percent_since(&before));
        // It does not look again and again: a minute that has passed, a router's word and the log's are all there is.
        assert!(after.sleeps - before.sleeps < 20, "{before:?} {after:?}");

        // Another machine uses it, which is seen, too.
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        machine.press_keys(&["c"])?;
        wait_shown(&machine, "nqn.")?;
        let load = other.start_load(&device)?;
        machine.press_keys(&["o"])?;
        wait_shown(&machine, "iB/s")?;
        let before = Effort::of_console(&machine)?;
        sleep(Duration::from_secs(20));
        let after = Effort::of_console(&machine)?;
        println!("20 s of data flow: {:.2} % of a processor", after.percent_since(&before));
        load.finish()?;

        // Each key that changes anything asks, and nothing is done without a yes.
        let disk_keys = ["r", "w", "u", "e", "b"].map(|key| (key, "d"));
        let others = [("shift-r", "o"), ("shift-p", "o"), ("s", "o"), ("x", "c")];
        for (key, page) in disk_keys.into_iter().chain(others) {
            machine.press_keys(&[page, key])?;
            wait_shown(&machine, "any other key")?;
            if key.starts_with("shift") {
                wait_shown(&machine, "ONE HOST IS CONNECTED")?;
            }
            machine.press_keys(&["n"])?;
            wait_shown(&machine, "Nothing was done.")?;
        }
        assert_eq!(state(&machine, disk.serial())?, "exported");
        let name = device.trim_start_matches("/dev/");
        assert_eq!(other.run(&format!("cat /sys/block/{name}/ro"))?.trim(), "0");

        machine.press_keys(&["d", "r"])?;
        wait_shown(&machine, "Let hosts only read nvme0n1")?;
        machine.press_keys(&["y"])?;
        wait_shown(&machine, "done: diskomator export readonly nvme0n1")?;
        assert_eq!(state(&machine, disk.serial())?, "read-only");
        other.connect_all(&address)?;
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        wait_for("the disk to be read-only over there", SOON, || {
            let said = other.run(&format!("cat /sys/block/{}/ro", device.trim_start_matches("/dev/")))?;
            Ok(if said.trim() == "1" { Ok(()) } else { Err(said) })
        })?;

        // A shell is on another screen, and there is a way back.
        let active = "cat /sys/class/tty/tty0/active";
        machine.press_keys(&["s", "y"])?;
        wait_for("the shell's screen", SOON, || {
            let tty = machine.shell(active)?;
            Ok(if tty.trim() == "tty9" { Ok(()) } else { Err(tty) })
        })?;
        machine.press_keys(&["i", "d", "ret"])?;
        wait_for("the shell's answer", SOON, || {
            let text = machine.shell("tr -c ' -~' ' ' </dev/vcs9")?;
            Ok(if text.contains("uid=0(root)") { Ok(()) } else { Err(text) })
        })?;
        machine.press_keys(&["alt-f1"])?;
        wait_for("the status screen", SOON, || {
            let tty = machine.shell(active)?;
            Ok(if tty.trim() == "tty1" { Ok(()) } else { Err(tty) })
        })?;

        // Its end is no end of the screen.
        let before = machine.shell("pidof diskomator-console")?;
        machine.shell("kill -9 $(pidof diskomator-console)")?;
        wait_for("another console", SOON, || {
            let now = machine.try_shell("pidof diskomator-console", SOON)?.stdout;
            Ok(if now.trim().is_empty() || now == before { Err(now) } else { Ok(()) })
        })?;
        wait_shown(&machine, &line)?;
        machine.press_keys(&["m"])?;
        wait_shown(&machine, "Version")?;

        // A host that is sent away tries again.
        machine.press_keys(&["c", "x", "y"])?;
        wait_shown(&machine, "done: diskomator disconnect")?;
        wait_for("the host to be back", SOON, || {
            let hosts = machine.shell("diskomator hosts")?;
            Ok(if hosts.contains("nvme0n1") { Ok(()) } else { Err(hosts) })
        })?;
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn the_serial_line_has_plain_lines_and_a_full_screen_on_a_key() -> std::result::Result<(), Failure> {
    Lab::run("the_serial_line_has_plain_lines_and_a_full_screen_on_a_key", |lab| {
        let disk = lab.disk(Bus::Nvme, "SERIAL-7002", 64)?;
        // Nothing else tells of this machine: it has no screen.
        let (machine, address) = lab.boot_with_address(lab.appliance().no_graphics().disk(&disk))?;
        let line = format!("  nvme connect-all -t tcp -a {address}\r\n");
        let wait_said = |from: usize, text: &str| {
            wait_for(&format!("{text:?} on the serial line"), SOON, || {
                machine.check()?;
                let log = machine.serial_log();
                let new = log.get(from..).unwrap_or_default().to_owned();
                Ok(if new.contains(text) { Ok(()) } else { Err(new) })
            })
        };
        wait_said(0, &line)?;
        wait_said(0, "SERIAL-7002")?;
        wait_said(0, "no screen: ")?;
        let plain = machine.serial_log();
        // The firmware's console ends its rows where they end.
        let said: String = plain.chars().filter(|c| !c.is_whitespace()).collect();
        assert!(said.contains("thefirmwareleavesnoframebuffer"), "{plain}");
        let start = plain.find("f: full screen").unwrap_or(0);
        assert!(!plain.get(start..).unwrap_or_default().contains('\u{1b}'), "{plain:?}");

        // A break, and the byte after it, which would restart the machine; and a stop, which would silence it.
        machine.break_serial()?;
        machine.type_on_serial("b")?;
        machine.type_on_serial("\u{13}\u{3}\u{1c}\u{1a}")?;
        let mark = machine.serial_log().len();
        machine.type_on_serial("\r")?;
        wait_said(mark, &line)?;

        // A byte that nobody typed gives no full screen for good: no terminal answers.
        let mark = machine.serial_log().len();
        machine.type_on_serial("f")?;
        wait_said(mark, "\u{1b}[999;999H\u{1b}[6n")?;
        wait_said(mark, &line)?;

        let mark = machine.serial_log().len();
        machine.type_on_serial("f")?;
        wait_said(mark, "DISKOMATOR")?;
        // It asks how large the terminal is, and believes it.
        wait_said(mark, "\u{1b}[999;999H\u{1b}[6n")?;
        machine.type_on_serial("\u{1b}[30;100R")?;
        wait_said(mark, "\u{1b}[30;1H")?;
        machine.type_on_serial("h")?;
        wait_said(mark, "diskomator export readonly DISK")?;
        // A yes that comes with other bytes is noise.
        machine.type_on_serial("Py")?;
        wait_said(mark, "Nothing was done.")?;
        let mark = machine.serial_log().len();
        machine.type_on_serial("P")?;
        wait_said(mark, "Switch this machine off?")?;
        machine.type_on_serial("\u{1b}")?;
        wait_said(mark, "Nothing was done.")?;

        let mark = machine.serial_log().len();
        machine.type_on_serial("\u{3}")?;
        wait_said(mark, &line)?;
        let mark = machine.serial_log().len();
        machine.type_on_serial("\r")?;
        wait_said(mark, &line)?;
        // Keys that are none there do nothing, on a line that may be noisy.
        machine.type_on_serial("PyRyxysy")?;
        let late = lab.disk(Bus::VirtioBlk, "LATE-7003", 65)?;
        machine.add_disk(&late)?;
        wait_said(mark, "vda (virtio-blk, 65 MiB): new disk")?;
        machine.check()?;
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_kernel_that_panics_says_so_and_stays() -> std::result::Result<(), Failure> {
    Lab::run("a_kernel_that_panics_says_so_and_stays", |lab| {
        // Of this card the firmware leaves no frame buffer.
        let machine = lab.appliance().graphics("virtio-gpu-pci").debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        let line = format!("nvme connect-all -t tcp -a {address}");
        wait_code(&machine, "panic", &line)?;
        let log = machine.kernel_log()?;
        assert!(log.contains("diskomator-console: the screen is up"), "{log}");
        let picture = |name: &str| -> std::result::Result<Vec<u8>, Failure> {
            let path = std::env::temp_dir().join(format!("diskomator-{}-{name}.png", std::process::id()));
            machine.save_screen(&path)?;
            let bytes = std::fs::read(&path)?;
            std::fs::remove_file(&path)?;
            Ok(bytes)
        };
        let before = picture("before")?;
        // The shell will not answer.
        let _ = machine.try_shell("echo c >/proc/sysrq-trigger", Duration::from_secs(3));
        wait_for("the panic on the serial line", SOON, || {
            let log = machine.serial_log();
            Ok(if log.contains("end Kernel panic - not syncing") { Ok(()) } else { Err(log) })
        })?;
        // A restart would end it.
        sleep(Duration::from_secs(15));
        machine.check()?;
        // Nothing is scheduled any more, and yet its last words are on the screen.
        assert!(picture("after")? != before, "the screen shows what it showed before the panic");
        Ok(())
    })
}
