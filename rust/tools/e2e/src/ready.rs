//! The other machine as it is when it has started, kept in `output/initiator`, so that it starts once and not for
//! each test. The machine under test is never kept: its start belongs to what the tests see.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::initiator::{Init, Initiator};
use crate::paths::{USUAL_RELEASE, initiator_file, initiator_folder};
use crate::qemu::{PROGRAM, Qemu, accelerator};
use crate::{Error, Result, wait_for};

/// The disk's changes since it was written, in QEMU's format qcow2.
const DISK: &str = "disk.qcow2";
/// Memory and devices, as QEMU's migration stream.
const STATE: &str = "state";
/// How long the first start and the copy may take, each.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes a second, so that the guest can't change its memory faster than it is copied.
const BANDWIDTH: u64 = 8 << 30;

/// A started machine.
pub(crate) struct Ready(PathBuf);

impl Ready {
    /// The one that runs `init`; the first caller starts it. Several processes may call at once.
    pub(crate) fn of(init: Init) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let kept = initiator_folder(USUAL_RELEASE).join(format!("ready-{}-{:016x}", init.name(), inputs(init)?));
        if kept.exists() {
            return Ok(Self(kept));
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let new =
            initiator_folder(USUAL_RELEASE).join(format!("ready-{}.{}-{number}", init.name(), std::process::id()));
        fs::create_dir_all(&new).map_err(|source| Error::File { verb: "create", path: new.clone(), source })?;
        let made = make(init, &new).and_then(|()| match fs::rename(&new, &kept) {
            // Another process was quicker.
            Err(_) if kept.exists() => Ok(()),
            Err(source) => Err(Error::File { verb: "create", path: kept.clone(), source }),
            Ok(()) => Ok(()),
        });
        // The files of a machine that did not start, or is not needed.
        let _ = fs::remove_dir_all(&new);
        made.map(|()| Self(kept))
    }

    /// Its disk, to be opened with `snapshot=on`.
    pub(crate) fn disk(&self) -> PathBuf {
        self.0.join(DISK)
    }

    /// QEMU's `-incoming` for its state.
    pub(crate) fn incoming(&self) -> OsString {
        let mut uri = OsString::from("exec:cat <");
        uri.push(quoted(&self.0.join(STATE)));
        uri
    }
}

/// A word for the shell, in which QEMU runs the command of an `exec:` address.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// A digest of all that decides whether a kept machine can go on: QEMU and its options, and the machine's files.
fn inputs(init: Init) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    run(PROGRAM, &["--version".into()])?.hash(&mut hasher);
    let stamp = initiator_file(USUAL_RELEASE, "stamp")?;
    fs::read(&stamp).map_err(|source| Error::File { verb: "read", path: stamp, source })?.hash(&mut hasher);
    let root = initiator_file(USUAL_RELEASE, "root.ext4")?;
    root.hash(&mut hasher);
    let written = fs::metadata(&root).and_then(|data| data.modified());
    written.map_err(|source| Error::File { verb: "read", path: root, source })?.hash(&mut hasher);
    accelerator().hash(&mut hasher);
    Initiator::machine(init)?.hash(&mut hasher);
    Ok(hasher.finish())
}

/// Starts the machine and keeps it in `folder`.
fn make(init: Init, folder: &Path) -> Result<()> {
    let disk = folder.join(DISK);
    let root = initiator_file(USUAL_RELEASE, "root.ext4")?;
    let create = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"].map(OsString::from);
    run("qemu-img", &[&create[..], &[root.into(), disk.clone().into()]].concat())?;
    let machine = Initiator::start_first(init, &disk, &folder.join("log"), 2 * PATIENCE)?;
    machine.wait_ready()?;
    keep(machine.qemu(), &folder.join(STATE))?;
    drop(machine);
    let log = folder.join("log");
    fs::remove_dir_all(&log).map_err(|source| Error::File { verb: "remove", path: log, source })
}

/// Copies memory and devices to a file. The machine stands still afterwards, and its disk is written.
fn keep(qemu: &Qemu, file: &Path) -> Result<()> {
    qemu.qmp("migrate-set-parameters", &json!({ "max-bandwidth": BANDWIDTH }))?;
    qemu.qmp("migrate", &json!({ "uri": format!("exec:cat >{}", quoted(file)) }))?;
    wait_for("the copy of the other machine", PATIENCE, || {
        let answer = qemu.qmp("query-migrate", &json!({}))?;
        match answer.get("status").and_then(Value::as_str) {
            Some("completed") => Ok(Ok(())),
            Some("failed") => Err(Error::Answer { what: "a state that was kept", text: answer.to_string() }),
            _ => Ok(Err(answer.to_string())),
        }
    })
}

/// Runs a program of this machine; its output.
fn run(program: &str, arguments: &[OsString]) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|source| Error::Start { program: program.to_owned(), source })?;
    if !output.status.success() {
        return Err(Error::Program {
            command: program.to_owned(),
            status: output.status,
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
