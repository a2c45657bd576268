//! The commands of keys, done by this very program under its other names, each in
//! a process of its own: a disk that hangs holds up no key.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use screen::bindings::{Command as Wanted, DiskAct};

use super::view::LostTerminal;

/// This program.
const PROGRAM: &str = "/proc/self/exe";

/// The arguments with which this program carries out a command. They name the diskseq or the controllers, because
/// another disk or host may have the same name by then.
pub(super) fn arguments(command: &Wanted) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match command {
        Wanted::Disk { act, name, diskseq, has_light } => {
            let verb: &[&str] = match act {
                DiskAct::ReadOnly => &["export", "readonly"],
                DiskAct::ReadWrite => &["export", "readwrite"],
                DiskAct::Remove => &["export", "remove"],
                DiskAct::Export => &["export", "sync"],
                DiskAct::Blink => &["blink"],
            };
            let by_reading: &[&str] = if *act == DiskAct::Blink && !has_light { &["--read"] } else { &[] };
            words(&[verb, &[name, "--diskseq", &diskseq.to_string()], by_reading].concat())
        }
        Wanted::Boot { name, diskseq, is_forced } => {
            let force: &[&str] = if *is_forced { &["--force"] } else { &[] };
            words(&[&["boot", name, "--diskseq", &diskseq.to_string()], force].concat())
        }
        Wanted::Disconnect { host, controllers } => {
            let ids: Vec<String> = controllers.iter().map(ToString::to_string).collect();
            // A host chooses its NQN, which may look like an option or an address.
            let is_plain = host.nqn.starts_with("nqn.") && host.nqn.chars().all(|c| c == ' ' || c.is_ascii_graphic());
            let nqn = Some(host.nqn.as_str()).filter(|_| is_plain || host.address.is_none());
            let names: Vec<&str> = nqn.into_iter().chain(host.address.as_deref()).collect();
            if names.iter().any(|name| name.starts_with('-')) {
                return words(&[&["disconnect", "--controllers", &ids.join(","), "--"], names.as_slice()].concat());
            }
            words(&[&["disconnect"], names.as_slice(), &["--controllers", &ids.join(",")]].concat())
        }
        Wanted::Allow { number, nqn, is_read_only } => {
            let read_only: &[&str] = if *is_read_only { &["--read-only"] } else { &[] };
            words(&[&["allow", &host(*number, nqn)], read_only, &["--on-screen"]].concat())
        }
        Wanted::Deny { number, nqn } => words(&["deny", &host(*number, nqn)]),
        Wanted::Open => words(&["allow", "--everyone"]),
        Wanted::Ask => words(&["deny", "--everyone"]),
        Wanted::Reboot => words(&["reboot"]),
        Wanted::PowerOff => words(&["poweroff"]),
    }
}

/// A host as a command names it. A request has a number that no other one ever gets. Hosts choose their NQNs, which
/// may look like a number, an address or an option.
fn host(number: Option<u64>, nqn: &str) -> String {
    match number {
        Some(number) => number.to_string(),
        None if nqn.starts_with("nqn.") => nqn.to_owned(),
        None => format!("--nqn={nqn}"),
    }
}

/// The result of a job.
pub(super) struct Done {
    /// Whose key it was.
    pub(super) view: usize,
    /// A shell has ended, and the terminal is free again.
    pub(super) is_shell: bool,
    pub(super) succeeded: bool,
    /// Its text for the person.
    pub(super) text: String,
}

/// Why a job was not started, as the person who pressed its key reads it.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    #[error("diskomator {words}: cannot be started")]
    Program { words: String, source: io::Error },
    #[error("The shell cannot be started: failed to open {path}")]
    Terminal { path: PathBuf, source: io::Error },
    #[error("The shell cannot be started")]
    Shell(#[source] io::Error),
    #[error("The shell cannot be started")]
    Lost(#[from] LostTerminal),
}

/// The jobs under way.
pub(super) struct Jobs {
    sender: Sender<Done>,
    receiver: Receiver<Done>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Jobs {
    /// `wake` is called when one has ended.
    pub(super) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver, wake: Arc::new(wake) }
    }

    /// Runs this program with some arguments.
    pub(super) fn start(&self, view: usize, words: Vec<String>) -> Result<(), JobError> {
        let mut command = Command::new(PROGRAM);
        command.arg0("diskomator").args(&words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|source| JobError::Program { words: words.join(" "), source })?;
        self.wait(move || {
            let text = format!("diskomator {}", words.join(" "));
            match child.wait_with_output() {
                Ok(output) => {
                    let said = if output.status.success() { &output.stdout } else { &output.stderr };
                    let said = String::from_utf8_lossy(said);
                    let said = said.trim();
                    let how = if output.status.success() { "done" } else { "failed" };
                    let rest = if said.is_empty() { String::new() } else { format!(": {said}") };
                    Done {
                        view,
                        is_shell: false,
                        succeeded: output.status.success(),
                        text: format!("{how}: {text}{rest}"),
                    }
                }
                Err(error) => Done { view, is_shell: false, succeeded: false, text: format!("{text}: {error}") },
            }
        });
        Ok(())
    }

    /// Gives a terminal to a root shell until that ends.
    pub(super) fn start_shell(&self, view: usize, terminal: &Path) -> Result<(), JobError> {
        let open = || {
            let opened = File::options().read(true).write(true).open(terminal);
            opened.map_err(|source| JobError::Terminal { path: terminal.to_owned(), source })
        };
        let mut command = Command::new("setsid");
        command.args(["-c", "sh", "-l"]).stdin(open()?).stdout(open()?).stderr(open()?);
        let mut child = command.spawn().map_err(JobError::Shell)?;
        self.wait(move || {
            let succeeded = child.wait().is_ok();
            Done { view, is_shell: true, succeeded, text: String::new() }
        });
        Ok(())
    }

    fn wait(&self, wait: impl FnOnce() -> Done + Send + 'static) {
        let (sender, wake) = (self.sender.clone(), Arc::clone(&self.wake));
        thread::spawn(move || {
            // Nobody wants to know when the applet is ending.
            drop(sender.send(wait()));
            wake();
        });
    }

    /// Those that have ended.
    pub(super) fn finished(&self) -> Vec<Done> {
        self.receiver.try_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use kernel::error::chain;
    use nvmet::hosts::ControllerId;
    use nvmet::model::Host;
    use screen::bindings::{Act, BINDINGS, HostAct};

    use super::*;

    fn disk(act: DiskAct, has_light: bool) -> Wanted {
        Wanted::Disk { act, name: "sda".to_owned(), diskseq: 39, has_light }
    }

    fn boot(is_forced: bool) -> Wanted {
        Wanted::Boot { name: "sda".to_owned(), diskseq: 39, is_forced }
    }

    fn disconnect(nqn: &str, address: Option<&str>) -> Wanted {
        let host = Host { nqn: nqn.to_owned(), address: address.map(str::to_owned) };
        let controllers = [(2, 102), (3, 103)].map(|(number, inode)| ControllerId { number, inode }).to_vec();
        Wanted::Disconnect { host, controllers }
    }

    #[test]
    fn each_command_has_its_arguments() {
        for (command, words) in [
            (disk(DiskAct::ReadOnly, false), "export readonly sda --diskseq 39"),
            (disk(DiskAct::ReadWrite, false), "export readwrite sda --diskseq 39"),
            (disk(DiskAct::Remove, true), "export remove sda --diskseq 39"),
            (disk(DiskAct::Export, true), "export sync sda --diskseq 39"),
            (disk(DiskAct::Blink, true), "blink sda --diskseq 39"),
            (disk(DiskAct::Blink, false), "blink sda --diskseq 39 --read"),
            (disconnect("nqn.h", Some("192.0.2.2")), "disconnect nqn.h 192.0.2.2 --controllers 2:102,3:103"),
            (disconnect("nqn.h", None), "disconnect nqn.h --controllers 2:102,3:103"),
            (boot(false), "boot sda --diskseq 39"),
            (boot(true), "boot sda --diskseq 39 --force"),
            (Wanted::Reboot, "reboot"),
            (Wanted::PowerOff, "poweroff"),
        ] {
            assert_eq!(arguments(&command).join(" "), words);
        }
    }

    #[test]
    fn a_person_reads_which_terminal_got_no_shell() {
        let error = Jobs::new(|| {}).start_shell(0, Path::new("/dev/none/ttyS9")).unwrap_err();
        assert_eq!(
            chain(&error),
            "The shell cannot be started: failed to open /dev/none/ttyS9: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_host_that_calls_itself_like_an_option_is_named_by_its_address() {
        let words = |nqn, address| arguments(&disconnect(nqn, address)).join(" ");
        assert_eq!(words("--all", Some("192.0.2.1")), "disconnect 192.0.2.1 --controllers 2:102,3:103");
        assert_eq!(words("--all", None), "disconnect --controllers 2:102,3:103 -- --all");
        let allow =
            |number, nqn: &str| arguments(&Wanted::Allow { number, nqn: nqn.to_owned(), is_read_only: true }).join(" ");
        assert_eq!(allow(Some(3), "--everyone"), "allow 3 --read-only --on-screen");
        assert_eq!(allow(None, "--everyone"), "allow --nqn=--everyone --read-only --on-screen");
        assert_eq!(allow(None, "3"), "allow --nqn=3 --read-only --on-screen");
    }

    #[test]
    fn the_help_page_names_the_command_that_a_key_runs() {
        for binding in BINDINGS.iter().filter(|binding| binding.asks) {
            let command = match binding.act {
                Act::Disk(act) => disk(act, true),
                Act::Boot => boot(false),
                Act::Host(HostAct::Deny) => Wanted::Deny { number: None, nqn: "nqn.h".to_owned() },
                Act::Host(act) => {
                    let is_read_only = act == HostAct::AdmitReadOnly;
                    Wanted::Allow { number: None, nqn: "nqn.h".to_owned(), is_read_only }
                }
                Act::Everyone => Wanted::Open,
                Act::Reboot => Wanted::Reboot,
                Act::PowerOff => Wanted::PowerOff,
                // The terminal itself becomes the shell.
                Act::Shell | Act::Go(_) | Act::ErrorsOnly | Act::Redraw | Act::Leave => continue,
            };
            let told = binding.command.replace("DISK", "sda").replace("HOST", "nqn.h");
            assert!(format!("diskomator {}", arguments(&command).join(" ")).starts_with(&told), "{told}");
        }
    }
}
