//! The commands of keys, done by this very program under its other names, each in
//! a process of its own: a disk that hangs holds up no key.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// This program.
const PROGRAM: &str = "/proc/self/exe";

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
    pub(super) fn start(&self, view: usize, words: Vec<String>) -> io::Result<()> {
        let mut command = Command::new(PROGRAM);
        command.arg0("diskomator").args(&words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn()?;
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
    pub(super) fn start_shell(&self, view: usize, terminal: &Path) -> io::Result<()> {
        let open = || std::fs::File::options().read(true).write(true).open(terminal);
        let mut command = Command::new("setsid");
        command.args(["-c", "sh", "-l"]).stdin(open()?).stdout(open()?).stderr(open()?);
        let mut child = command.spawn()?;
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
