//! Writes the image to a USB stick, adapted to its blocks and its size. `make burn` runs it.

mod admission;
mod fat;
mod gpt;
mod identity;
mod layout;
mod medium;
mod options;
mod secret;
mod sparse;
mod target;
mod trial;
mod wipe;
mod write;

use std::env;
use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, BufRead, IsTerminal, Write as _};
use std::ops::Range;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use access::{HostNqn, Mode};
use admission::{Change, Found, Plan, Told, Wanted};
use disks::disk::human_size;
use identity::Identity;
use kernel::block::Exclusive;
use kernel::error::chain;
use kernel::random;
use kernel::root::{FileError, Root};
use kernel::signals::{SignalError, Termination};
use keys::Secret;
use layout::{Content, Layout, LayoutError};
use medium::Medium;
use options::{Options, SecretOption, Usage};
use secret::{Owner, SecretFileError};
use target::{PathError, Target, Unfit};
use tempfile::NamedTempFile;
use thiserror::Error;
use trial::TrialError;
use write::{Pace, Progress, WriteError};
use zeroize::Zeroizing;

/// Why nothing, or not all, was written.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Usage(#[from] Usage),
    #[error("which device? DEV=/dev/disk/by-id/...\n{0}")]
    WhichDevice(String),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("{0}\n{1}")]
    NotThere(PathError, String),
    #[error(transparent)]
    Sysfs(#[from] FileError),
    #[error("failed to {verb} {path}")]
    File { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("{path}: {refusal}")]
    Refused { path: PathBuf, refusal: Unfit },
    #[error("{0} is in use by this machine, which does not say for what; unmount or stop it first")]
    Busy(PathBuf),
    #[error("only root can write to {path}; run: {command}")]
    NotRoot { path: PathBuf, command: String },
    #[error("{0} has fewer bytes than the image needs, {1}: SIZE=1G, or more")]
    FileTooSmall(PathBuf, String),
    #[error("the image {path} is none that this program knows")]
    Image { path: PathBuf, source: LayoutError },
    #[error("can't keep what is on {path}, so nothing was changed; without KEEP=1 it is overwritten as it is")]
    Keep { path: PathBuf, source: LayoutError },
    #[error("can't put what is kept of {device} into safety in {folder}, so nothing was changed")]
    Safety { device: PathBuf, folder: PathBuf, source: io::Error },
    #[error(
        "{0} is from before hosts had to be admitted: it has neither a mode of access nor a secret, and nobody is \
         there to choose; ACCESS=ask asks a person at the machine, ACCESS=open admits every host, ACCESS=paired is for \
         keys alone"
    )]
    Older(PathBuf),
    #[error("{0:?} is no mode, so nothing was written")]
    NoMode(String),
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    #[error("failed to get random numbers")]
    Random(#[source] io::Error),
    #[error("nothing was changed on {path}")]
    Trial { path: PathBuf, source: TrialError },
    #[error("{path} was not written to")]
    Restore { path: PathBuf, source: TrialError },
    #[error("{path} can't take what is to be on it")]
    Layout { path: PathBuf, source: LayoutError },
    #[error("nobody is there to confirm it; to overwrite {0} without being asked: YES=1")]
    NobodyThere(PathBuf),
    #[error("nothing was written to {0}")]
    NotConfirmed(PathBuf),
    #[error(transparent)]
    Signals(#[from] SignalError),
    #[error("interrupted. {0} does not boot now, and what was on it is lost{1}; run this again to write all of it")]
    Interrupted(PathBuf, Saved),
    #[error("{path} does not boot now{saved}")]
    Write { path: PathBuf, saved: Saved, source: WriteError },
}

impl Failure {
    /// As shells have it: 2 for a command that makes no sense, 130 for Ctrl-C.
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) | Self::WhichDevice(_) => 2,
            Self::Interrupted(..) | Self::Trial { source: TrialError::Interrupted, .. } => 130,
            _ => 1,
        })
    }
}

/// Where the files are that were to be kept, if that is not the stick.
#[derive(Debug, Default)]
struct Saved(Option<PathBuf>);

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => {
                let path = path.display();
                write!(f, "; all that was to be on it is in {path}, a FAT file system: sudo mount -o loop {path} /mnt")
            }
            None => Ok(()),
        }
    }
}

fn main() -> ExitCode {
    match Options::parse(lexopt::Parser::from_env()).map_err(Failure::from).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", chain(&failure));
            failure.exit_code()
        }
    }
}

/// Prints a line. A closed standard output is no failure.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The same, without an end.
fn show(text: &str) {
    let mut out = io::stdout();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

fn run(options: &Options) -> Result<(), Failure> {
    let root = Root::default();
    let image = &options.image;
    let read = |source| Failure::File { verb: "read", path: image.clone(), source };
    let least = Layout::least(image.metadata().map_err(read)?.len());
    let mut file = File::open(image).map_err(read)?;
    let mut content = Content::of_image(&mut file).map_err(|source| Failure::Image { path: image.clone(), source })?;
    let Some(path) = &options.device else { return Err(Failure::WhichDevice(choices(&root, least))) };
    let mut numbers = [0; Identity::RANDOM];
    random::fill(&mut numbers).map_err(Failure::Random)?;
    let identity = Identity::of(&numbers);
    match options.sector {
        Some(block) => into_file(&root, options, path, &mut content, &identity, block, least),
        None => to_device(&root, options, path, content, &identity, least),
    }
}

/// The devices that would do, as words to type.
fn choices(root: &Root, least: u64) -> String {
    let lines: Vec<String> = target::candidates(root, least)
        .iter()
        .map(|(path, target)| format!("  make burn DEV={}\n      {target}", path.display()))
        .collect();
    if lines.is_empty() {
        return "There is no stick or card here that is not in use; plug one in, or unmount it.".to_owned();
    }
    format!("These would do:\n{}", lines.join("\n"))
}

fn to_device(
    root: &Root,
    options: &Options,
    path: &Path,
    mut content: Content,
    identity: &Identity,
    least: u64,
) -> Result<(), Failure> {
    let name = target::name_of(root, path).map_err(|error| match error {
        PathError::Missing(_) => Failure::NotThere(error, choices(root, least)),
        error => error.into(),
    })?;
    let target = Target::look(root, &name)?;
    if let Some(refusal) = target.refusal(least, options.force) {
        return Err(Failure::Refused { path: path.to_owned(), refusal });
    }
    let device = root.path(format!("dev/{name}"));
    let mut exclusive = Exclusive::open(&device).map_err(|source| open_failed(options, path, source))?;
    let mut kept = Vec::new();
    if options.keep {
        let old = Content::of_disk(exclusive.file(), target.disk.block_size);
        let failed = |source| Failure::Keep { path: path.to_owned(), source };
        kept = old.and_then(|old| content.keep(old)).map_err(failed)?;
    }
    let admission = Admission::prepare(root, options, path, &mut content)?;
    kept.retain(|file| !admission.plan.as_ref().is_some_and(|plan| plan.changes(file)));
    let (size, block) = (target.disk.size, u16::try_from(target.disk.block_size).unwrap_or(u16::MAX));
    let layout = lay_out(path, &content, identity, (size, block), &target::partitions(root, &name))?;
    say(&format!("{}: {target}", path.display()));
    say(&format!(
        "On it is now, all of which will be lost{}:",
        if kept.is_empty() { "" } else { " but for what is kept" }
    ));
    list_partitions(&device);
    admission.tell();
    confirm(options, path, &kept)?;
    admission.keep()?;
    let started = Instant::now();
    let stop = Termination::new()?;
    say("trying whether it keeps as much as it says");
    let tried = trial::run(exclusive.file(), size, block, identity.nonce, &mut || !stop.has_come());
    tried.map_err(|error| match error {
        TrialError::Restore { .. } => Failure::Restore { path: path.to_owned(), source: error },
        source => Failure::Trial { path: path.to_owned(), source },
    })?;
    let saved = if kept.is_empty() { None } else { Some(save(path, &layout)?) };
    finish(path, write_watched(exclusive.file(), &layout, &stop), saved)?;
    if let Err(error) = exclusive.reread_partitions() {
        say(&format!(
            "This machine did not take note of the new partitions ({error}); pull the stick and put it back."
        ));
    }
    say_done(&layout, identity, started);
    say("The stick can be pulled.");
    Ok(())
}

/// Whom the machine will admit that boots from the stick. There is nothing to it for a product without hosts.
struct Admission<'a> {
    plan: Option<Plan>,
    owner: Owner,
    folder: Option<&'a Path>,
    secret: Option<Secret>,
    source: Option<String>,
    /// The secret is new, and the user has no copy yet.
    is_new: bool,
    warning: Option<String>,
}

impl<'a> Admission<'a> {
    /// Decides, asks if nobody else can, and puts the files into `content`. Outside of that nothing changes yet.
    fn prepare(root: &Root, options: &'a Options, path: &Path, content: &mut Content) -> Result<Self, Failure> {
        let variable = |name| env::var(name).ok();
        let owner = Owner::of_sudo(variable("SUDO_UID").as_deref(), variable("SUDO_GID").as_deref());
        let folder = options.folder.as_deref();
        let mut own = Self { plan: None, owner, folder, secret: None, source: None, is_new: false, warning: None };
        if !options.admits_hosts() {
            return Ok(own);
        }
        let kept = options.keep.then(|| Found::on(content));
        let wanted = options.secret.as_ref().map(|secret| match secret {
            SecretOption::Nothing => Wanted::Nothing,
            SecretOption::File(_) => Wanted::File,
        });
        let host = own_nqn(root);
        let plan = match Plan::new(kept, options.access, wanted, host.clone()) {
            Some(plan) => Some(plan),
            None => Plan::new(kept, Some(choose_mode(options, path)?), wanted, host),
        };
        if let Some(plan) = &plan {
            if let Change::Is(wanted) = plan.secret {
                own.find_secret(options, wanted)?;
            }
            let failed = |error| Failure::Keep { path: path.to_owned(), source: LayoutError::from(error) };
            plan.apply(content, own.secret.as_ref()).map_err(failed)?;
        }
        own.plan = plan;
        Ok(own)
    }

    fn find_secret(&mut self, options: &Options, wanted: Wanted) -> Result<(), Failure> {
        let found = match (wanted, &options.secret) {
            (Wanted::Nothing, _) => return Ok(()),
            (Wanted::File, Some(SecretOption::File(path))) => {
                self.source = Some(format!("the one in {}", path.display()));
                Some(secret::read(path, self.owner)?)
            }
            _ => {
                let folder = self.folder.ok_or(SecretFileError::NoHome)?;
                let file = secret::own(folder);
                let found = secret::read_own(folder, self.owner)?;
                self.source = Some(match found {
                    Some(_) => format!("the one in {}, as on your other sticks", file.display()),
                    None => format!("new, and kept in {} for your other sticks", file.display()),
                });
                found
            }
        };
        if let Some(found) = found {
            (self.secret, self.warning) = (Some(found.secret), found.warning);
            return Ok(());
        }
        let mut bytes = Zeroizing::new([0; Secret::SIZE_MIN]);
        random::fill(bytes.as_mut()).map_err(Failure::Random)?;
        (self.secret, self.is_new) = (Some(Secret::from_random(&bytes)), true);
        Ok(())
    }

    fn tell(&self) {
        if let Some(plan) = &self.plan {
            show(&Told { plan, secret: self.source.clone() }.to_string());
        }
        if let Some(warning) = &self.warning {
            say(&format!("warning: {warning}"));
        }
    }

    /// Keeps the user's copy, before the first stick has it.
    fn keep(&self) -> Result<(), Failure> {
        match (&self.secret, self.folder) {
            (Some(secret), Some(folder)) if self.is_new => Ok(secret::keep_own(folder, self.owner, secret)?),
            _ => Ok(()),
        }
    }
}

/// This machine, if it is a host.
fn own_nqn(root: &Root) -> Option<HostNqn> {
    admission::host(&root.value("etc/nvme/hostnqn")?)
}

/// Asks a person whom the machine is to admit.
fn choose_mode(options: &Options, path: &Path) -> Result<Mode, Failure> {
    if options.yes || !io::stdin().is_terminal() {
        return Err(Failure::Older(path.to_owned()));
    }
    say(&format!(
        "{} is from before hosts had to be admitted: it has neither a mode of access nor a secret.\n\
         From now on a machine that boots it can admit every host (open), those with a key and those that a person\n\
         at the machine admits (ask), or those with a key alone (paired).",
        path.display()
    ));
    show(&format!("Type open, ask or paired (nothing is {}): ", admission::DEFAULT_MODE));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|_| Failure::NotConfirmed(path.to_owned()))?;
    mode_of(&answer).ok_or_else(|| Failure::NoMode(answer.trim().to_owned()))
}

/// The mode that a line means. A line that never came has no end.
fn mode_of(line: &str) -> Option<Mode> {
    match line.trim() {
        "" if line.ends_with('\n') => Some(admission::DEFAULT_MODE),
        word => word.parse().ok(),
    }
}

/// Puts all that will be on the stick where it is not lost with the stick.
fn save(device: &Path, layout: &Layout) -> Result<NamedTempFile, Failure> {
    // Where a restart does not clear it.
    let folder = Some(PathBuf::from("/var/tmp")).filter(|folder| folder.is_dir()).unwrap_or_else(std::env::temp_dir);
    let save = || {
        let mut file = tempfile::Builder::new().prefix("diskomator-kept-").suffix(".vfat").tempfile_in(&folder)?;
        file.as_file().set_len(layout.esp)?;
        layout.save(file.as_file_mut())?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    save().map_err(|source| Failure::Safety { device: device.to_owned(), folder: folder.clone(), source })
}

/// Lists the partitions of a device with lsblk, which knows every file system.
fn list_partitions(device: &Path) {
    let mut command = Command::new("lsblk");
    command.args(["--noheadings", "--output", "NAME,SIZE,FSTYPE,LABEL,PARTLABEL"]).arg(device);
    match command.output() {
        Ok(output) if output.status.success() => {
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                say(&format!("  {}", line.trim_end()));
            }
        }
        // Without it, one knows model and size.
        _ => say("  (lsblk, which could tell, is missing)"),
    }
}

fn open_failed(options: &Options, path: &Path, source: io::Error) -> Failure {
    let path = path.to_owned();
    match source.raw_os_error() {
        Some(libc::EBUSY) => Failure::Busy(path),
        Some(libc::EACCES | libc::EPERM) => Failure::NotRoot { command: options.as_root(), path },
        Some(libc::EROFS) => Failure::Refused { path, refusal: Unfit::ReadOnly },
        Some(libc::ENOMEDIUM) => Failure::Refused { path, refusal: Unfit::Empty },
        _ => Failure::File { verb: "open", path, source },
    }
}

fn into_file(
    root: &Root,
    options: &Options,
    path: &Path,
    content: &mut Content,
    identity: &Identity,
    block: u16,
    least: u64,
) -> Result<(), Failure> {
    let failed = |verb| move |source| Failure::File { verb, path: path.to_owned(), source };
    let old = match path.metadata() {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return Err(Usage::NotAFile(path.to_owned()).into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(source) => return Err(failed("look at")(source)),
    };
    let size = options.size.unwrap_or(old) / u64::from(block) * u64::from(block);
    if size < least {
        return Err(Failure::FileTooSmall(path.to_owned(), human_size(least)));
    }
    let admission = Admission::prepare(root, options, path, content)?;
    let layout = lay_out(path, content, identity, (size, block), &[])?;
    admission.tell();
    if old > 0 {
        say(&format!("{} is a file of {}, which will be overwritten.", path.display(), human_size(old)));
        confirm(options, path, &[])?;
    }
    admission.keep()?;
    let started = Instant::now();
    let stop = Termination::new()?;
    // Whoever reads the secret can make every host's keys.
    let has_secret = admission.secret.is_some();
    let mode = if has_secret { 0o600 } else { 0o666 };
    let mut file = File::options();
    let file = file.read(true).write(true).create(true).truncate(true).mode(mode);
    let mut file = file.open(path).map_err(failed("open"))?;
    if has_secret {
        file.set_permissions(Permissions::from_mode(mode)).map_err(failed("set the permissions of"))?;
    }
    file.set_len(size).map_err(failed("resize"))?;
    finish(path, write_watched(&mut file, &layout, &stop), None)?;
    say_done(&layout, identity, started);
    Ok(())
}

/// For a disk of so many bytes in blocks of so many, with partitions there.
fn lay_out(
    path: &Path,
    content: &Content,
    identity: &Identity,
    (size, block): (u64, u16),
    old: &[Range<u64>],
) -> Result<Layout, Failure> {
    let layout = Layout::new(content, identity, size, block, old);
    layout.map_err(|source| Failure::Layout { path: path.to_owned(), source })
}

/// Asks a person, unless there is no need to.
fn confirm(options: &Options, path: &Path, kept: &[String]) -> Result<(), Failure> {
    if !kept.is_empty() {
        say("Kept from it:");
        for file in kept {
            say(&format!("  {file}"));
        }
    }
    if options.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::NobodyThere(path.to_owned()));
    }
    show(&format!("Type yes to overwrite {}: ", path.display()));
    let mut answer = String::new();
    let answered = io::stdin().lock().read_line(&mut answer).is_ok();
    if answered && answer.trim() == "yes" { Ok(()) } else { Err(Failure::NotConfirmed(path.to_owned())) }
}

/// Writes, shows the progress, and stops at a signal.
fn write_watched(medium: &mut impl Medium, layout: &Layout, stop: &Termination) -> Result<(), WriteError> {
    let mut watcher = Watcher::new(io::stdout().is_terminal());
    let outcome = write::write(medium, layout, &mut |progress| {
        watcher.see(progress);
        !stop.has_come()
    });
    watcher.end();
    outcome
}

/// Keeps the temporary file with the stick's saved files if the write failed.
fn finish(path: &Path, outcome: Result<(), WriteError>, saved: Option<NamedTempFile>) -> Result<(), Failure> {
    outcome.map_err(|error| {
        let saved = Saved(saved.and_then(|file| file.into_temp_path().keep().ok()));
        match error {
            WriteError::Interrupted => Failure::Interrupted(path.to_owned(), saved),
            source => Failure::Write { path: path.to_owned(), saved, source },
        }
    })
}

fn say_done(layout: &Layout, identity: &Identity, started: Instant) {
    say(&format!(
        "Written and read back without a difference in {:.1} s: a partition of {} that boots, {identity}.",
        started.elapsed().as_secs_f32(),
        human_size(layout.esp)
    ));
}

/// Shows how far it is: on a terminal in one line, in a log every ten seconds.
struct Watcher {
    is_terminal: bool,
    verb: &'static str,
    pace: Pace,
    shown: Instant,
}

impl Watcher {
    fn new(is_terminal: bool) -> Self {
        Self { is_terminal, verb: "", pace: Pace::start(), shown: Instant::now() }
    }

    fn see(&mut self, progress: Progress) {
        let is_new = self.verb != progress.verb;
        if is_new {
            self.end();
            (self.verb, self.pace) = (progress.verb, Pace::start());
        }
        let every = Duration::from_millis(if self.is_terminal { 100 } else { 10_000 });
        if !is_new && progress.done < progress.all && self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let line = line(progress, self.pace.at(progress));
        if self.is_terminal {
            // To the start of the line, and what is right of it erased (ECMA-48 EL).
            show(&format!("\r{line}\x1b[K"));
        } else {
            say(&line);
        }
    }

    /// Ends the line, so that the next message begins on its own.
    fn end(&self) {
        if self.is_terminal && !self.verb.is_empty() {
            say("");
        }
    }
}

fn line(progress: Progress, pace: Option<(u64, Duration)>) -> String {
    let Progress { verb, done, all } = progress;
    let mut line = format!("{verb} {} of {}", human_size(done), human_size(all));
    if let Some((rate, left)) = pace {
        line += &format!(", {}/s", human_size(rate));
        if done < all {
            line += &format!(", {} s left", left.as_secs());
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_for_an_older_stick_is_a_mode_or_the_usual_one() {
        for (line, mode) in [
            ("open\n", Some(Mode::Open)),
            (" paired \r\n", Some(Mode::Paired)),
            ("\n", Some(admission::DEFAULT_MODE)),
            ("", None),
            ("yes\n", None),
        ] {
            assert_eq!(mode_of(line), mode, "{line:?}");
        }
    }

    #[test]
    fn a_line_of_progress_says_how_far_how_fast_and_how_long() {
        let progress = Progress { verb: "writing", done: 4 << 20, all: 12 << 20 };
        let pace = Some((2 << 20, Duration::from_secs(4)));
        assert_eq!(line(progress, pace), "writing 4 MiB of 12 MiB, 2 MiB/s, 4 s left");
        assert_eq!(line(progress, None), "writing 4 MiB of 12 MiB");
        assert_eq!(line(Progress { done: 12 << 20, ..progress }, pace), "writing 12 MiB of 12 MiB, 2 MiB/s");
    }
}
