//! `ssh`: a shell for who debugs this machine from afar. It decides
//! who gets in and makes the machine's key; dropbear does the rest.
//!
//! The data for the screen is in a directory in RAM that only root can look into,
//! so that it outlives this process: the password, which dropbear removes when
//! it admits a user with it, and the fingerprint.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use kernel::given;
use kernel::process::{end_with_us, terminate};
use kernel::random;
use kernel::root::{FileError, Root};
use kernel::watch::{Directories, WatchError};
use runtime::events::{EventLoop, EventLoopError, Waker};
use runtime::{AppletError, Failure, print, print_help, start_daemon};
use settings::Product;
use settings::ssh::{PASSWORD_SYMBOLS, authorized_keys, count_keys, fingerprint, password, refused as refused_in};
use settings::system::System;

const HELP: &str = "\
Usage: {product} ssh [--status]

Lets people log in over SSH, port 22, as root, until stopped, if the setting
`{product}.ssh` says so. Without it nothing listens.

Admitted are:
  keys      those that `{product}.ssh=KEY` gives, as often as needed, where KEY
            is a line such as id_ed25519.pub has it, or its second word alone;
            those in the credential ssh.authorized_keys.root; those that were
            built into the image; and those in /root/.ssh/authorized_keys
            A line counts if the server takes it. Lines that it does not take
            are on the screen and in the log, with the reason
  password  only if no key counts. It is on the screen, new on every boot and
            good once: after a login with it, there is another one

The machine's own key is made at each boot. Its fingerprint is on the screen, to
be compared with what the SSH client asks about.

On the kernel command line, a key with spaces needs quotes:
  \"{product}.ssh=ssh-ed25519 AAAAC3… me@laptop\"

On the other machine:
  ssh root@ADDRESS
  ssh root@ADDRESS {product} export list
  ssh root@ADDRESS 'cat >/tmp/file' <file   copies a file there; scp -O does, too

Options:
  --status    say how to log in, and end
  -h, --help  this text

Exit codes: 1 if the server could not start or ended, or nobody wants it, 2 if
the command line makes no sense.
";

/// The directory that only root may look into.
const DIRECTORY: &str = "run/ssh";
const KEY: &str = "run/ssh/host_key";
const FINGERPRINT: &str = "run/ssh/fingerprint";
/// The server knows this path, too (`board/common/dropbear.h`).
const PASSWORD: &str = "run/ssh/password";
/// Where the server looks for keys (`authorized_keys` in sshd(8)).
const HOME: &str = "root/.ssh";
const KEYS: &str = "root/.ssh/authorized_keys";
/// Reasons why given keys admit no user: a sentence in each line.
const REFUSED: &str = "run/ssh/refused";
/// Others must not be able to write to these, or the server takes no key in them (`checkpubkeyperms` of
/// dropbear's `svr-authpubkey.c`).
const OWNERS: [&str; 2] = ["root", HOME];
/// systemd.system-credentials(7).
const CREDENTIAL: &str = "ssh.authorized_keys.root";
const SERVER: &str = "dropbear";
const KEY_MAKER: &str = "dropbearkey";

/// The time that a program may take to write the file of keys.
const SETTLE: Duration = Duration::from_millis(300);

/// The sources of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A file in the server's directories changed.
    Files,
    /// The server has ended.
    Ended,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "changes of keys and password",
            Self::Ended => "the end of the server",
        })
    }
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The password, without spaces; `None` where keys are admitted.
    pub password: Option<String>,
    /// That of the machine's key, as OpenSSH prints it.
    pub fingerprint: String,
    /// How many keys let in.
    pub keys: usize,
    /// Reasons why given keys admit no user, in sentences.
    pub refused: Vec<String>,
}

/// The directories in which something changes when [`status`] does.
pub const WATCHED: [&str; 2] = ["run", DIRECTORY];

/// The way to log in, if there is one.
pub fn status(root: &Root) -> Option<Status> {
    let fingerprint = root.read(FINGERPRINT).ok()?;
    let keys = read_keys(root).map_or(0, |file| count(root, &file));
    Some(Status { password: root.read(PASSWORD).ok(), fingerprint, keys, refused: refused(root) })
}

/// Reasons why given keys admit no user, in sentences.
pub fn refused(root: &Root) -> Vec<String> {
    root.read(REFUSED).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Why nobody can log in.
#[derive(Debug, thiserror::Error)]
enum SshError {
    #[error("nobody asked for SSH: the setting is {product}.ssh")]
    Off { product: &'static str },
    #[error("failed to start {program}")]
    Start { program: &'static str, source: io::Error },
    #[error("{program} did not make a key: {status}")]
    NoKey { program: &'static str, status: ExitStatus },
    #[error("{program} told no fingerprint of {KEY}")]
    NoFingerprint { program: &'static str },
    #[error("failed to get random bytes for a password")]
    Random(#[source] io::Error),
    #[error("failed to wait for {program}")]
    Wait { program: &'static str, source: io::Error },
    #[error("{program} has ended: {status}")]
    Ended { program: &'static str, status: ExitStatus },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot watch the directories of keys and password")]
    Changes(#[source] io::Error),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Events(#[from] EventLoopError),
}

impl AppletError for SshError {}

/// Runs the applet.
pub fn run<C: Product>(mut args: lexopt::Parser) -> Result<(), Failure> {
    use lexopt::prelude::*;
    let root = Root::default();
    let mut wants_status = false;
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return print_help::<C>(HELP),
            Long("status") => wants_status = true,
            other => return Err(other.unexpected().into()),
        }
    }
    if wants_status {
        return print(
            &status(&root).map_or_else(|| "Nobody can log in over SSH.\n".to_owned(), |status| text(&status)),
        );
    }
    let config = start_daemon::<C>("ssh", &root, false).config;
    if !config.as_ref().ssh.is_on {
        return Err(SshError::Off { product: C::NAME }.into());
    }
    Ok(serve(&root, config.as_ref())?)
}

impl Status {
    /// The lines below `ssh root@ADDRESS`: what logs a user in, and the fingerprint.
    pub fn lines(&self) -> String {
        let with = match &self.password {
            Some(password) => format!("password     {password} (good once)"),
            None => format!("keys         {}", self.keys),
        };
        format!("{with}\nfingerprint  {}\n", self.fingerprint)
    }
}

fn text(status: &Status) -> String {
    let first = format!("ssh root@ADDRESS\n{}", status.lines());
    status.refused.iter().fold(first, |text, line| text + line + "\n")
}

fn serve(root: &Root, system: &System) -> Result<(), SshError> {
    root.keep_dir(DIRECTORY)?;
    root.keep_dir(HOME)?;
    make_key(root)?;
    // A user of the password must not find the next one before its use is known.
    let mut changes = Directories::new().map_err(SshError::Changes)?;
    for directory in [DIRECTORY, HOME] {
        changes.add(root.path(directory))?;
    }
    let mut events = EventLoop::new()?;
    events.register(Source::Files, &mut changes)?;
    let waker = events.waker(Source::Ended)?;

    let credential = credential(root);
    let mut told = BTreeSet::new();
    let mut has_keys = admit(root, system, &credential, &mut told)?;
    renew_password(root, has_keys)?;
    let mut server = Server::start(root, has_keys, &waker)?;
    loop {
        // Each turn looks at both sources.
        events.wait(None)?;
        if let Some(error) = server.end() {
            return Err(error);
        }
        renew_password(root, has_keys)?;
        // A file that is written anew is empty for a moment.
        thread::sleep(SETTLE);
        changes.drain().map_err(SshError::Changes)?;
        let has_keys_now = look(root, &credential, &mut told)?;
        if has_keys_now != has_keys {
            // It offers to ask for a password from its start on, or never. Sessions outlive it.
            has_keys = has_keys_now;
            server.stop();
            renew_password(root, has_keys)?;
            server = Server::start(root, has_keys, &waker)?;
        }
        renew_password(root, has_keys)?;
    }
}

/// The server.
struct Server {
    id: u32,
    /// Its exit status, from a thread that waits for it.
    status: Receiver<io::Result<ExitStatus>>,
}

impl Server {
    /// `waker` wakes when it ends.
    fn start(root: &Root, has_keys: bool, waker: &Waker) -> Result<Self, SshError> {
        let mut command = Command::new(SERVER);
        // In the foreground, its words on standard error, with one key of its own.
        command.args(["-F", "-E", "-r"]).arg(root.path(KEY)).stdin(Stdio::null()).stderr(Stdio::piped());
        if has_keys {
            command.arg("-s");
        }
        let started = end_with_us(&mut command).spawn();
        let mut server: Child = started.map_err(|source| SshError::Start { program: SERVER, source })?;
        log::info!(
            "listening, {}",
            if has_keys { "for who has a key" } else { "for who has the password on the screen" }
        );
        if let Some(words) = server.stderr.take() {
            // Sessions have the other end, too, and may outlive the server.
            thread::spawn(move || repeat(words));
        }
        let (id, waker) = (server.id(), waker.clone());
        let (report, status) = mpsc::channel();
        thread::spawn(move || {
            // That fails only when the applet is ending. The status comes first: the loop looks once for each wake.
            drop(report.send(server.wait()));
            waker.wake();
        });
        Ok(Self { id, status })
    }

    /// How it ended, if it has.
    fn end(&self) -> Option<SshError> {
        match self.status.try_recv() {
            Ok(Ok(status)) => Some(SshError::Ended { program: SERVER, status }),
            Ok(Err(source)) => Some(SshError::Wait { program: SERVER, source }),
            Err(TryRecvError::Disconnected) => {
                Some(SshError::Wait { program: SERVER, source: io::ErrorKind::BrokenPipe.into() })
            }
            Err(TryRecvError::Empty) => None,
        }
    }

    /// Has it end, and waits for that.
    fn stop(self) {
        if self.end().is_some() {
            return;
        }
        if let Err(error) = terminate(self.id) {
            log::debug!("{SERVER} has ended by itself: {error}");
        }
        drop(self.status.recv());
    }
}

/// Says in our log what the server says, until nobody is left who could.
fn repeat(words: impl Read) {
    for line in BufReader::new(words).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        log::info!("{}", without_time(&line));
    }
}

/// The server's message without the prefix `[PID] Mon DD HH:MM:SS `, which the log has itself.
fn without_time(line: &str) -> &str {
    let text = line.trim_end().split_once("] ").filter(|_| line.starts_with('[')).map(|(_, text)| text);
    text.and_then(|text| text.get("Nov 24 16:37:34 ".len()..)).unwrap_or(line.trim_end())
}

/// The credential with keys; why it counts for nothing, if it does.
fn credential(root: &Root) -> Result<String, String> {
    match given::given(root).0.credential(CREDENTIAL) {
        None => Ok(String::new()),
        Some(Ok(text)) => Ok(text),
        Some(Err(warning)) => Err(warning.to_string()),
    }
}

/// The file in which the server looks for keys. Others' bytes may be in it.
fn read_keys(root: &Root) -> Result<Vec<u8>, FileError> {
    match root.read_bytes(KEYS) {
        Err(error) if error.io().kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        file => file,
    }
}

/// Puts the keys of the settings and the credential where the server looks for them, and looks whether a key counts.
fn admit(
    root: &Root,
    system: &System,
    credential: &Result<String, String>,
    told: &mut BTreeSet<String>,
) -> Result<bool, FileError> {
    let given: Vec<String> = system.ssh.keys.iter().map(ToString::to_string).collect();
    let given = given.iter().chain(credential.as_ref().ok()).map(String::as_bytes);
    if let Some(text) = authorized_keys(&read_keys(root)?, given) {
        root.keep_dir(HOME)?;
        root.keep(KEYS, text)?;
    }
    look(root, credential, told)
}

/// Whether a key counts. Says of each line that does not why it does not, once, and to the screen.
fn look(root: &Root, credential: &Result<String, String>, told: &mut BTreeSet<String>) -> Result<bool, FileError> {
    let file = read_keys(root)?;
    let mut sentences = Vec::new();
    match credential {
        Ok(text) => sentences.extend(refusals(text.as_bytes(), &format!("the credential {CREDENTIAL}"))),
        Err(why) => sentences.push(why.clone()),
    }
    sentences.extend(refusals(&file, &format!("/{KEYS}")));
    let open = open_directory(root).filter(|_| count_keys(&file) > 0);
    sentences.extend(
        open.map(|path| format!("The keys in /{KEYS} let nobody in: others than root can write to /{path}, or own it")),
    );
    for sentence in &sentences {
        if told.insert(sentence.clone()) {
            log::warn!("{sentence}");
        }
    }
    if sentences != refused(root) {
        root.keep(REFUSED, sentences.join("\n"))?;
    }
    Ok(count(root, &file) > 0)
}

/// A sentence about each line of a file that lets nobody in.
fn refusals(file: &[u8], name: &str) -> Vec<String> {
    const MOST: usize = 8;
    let sentence = |(number, why)| format!("Line {number} of {name} lets nobody in: {why}");
    let mut sentences: Vec<String> = refused_in(file).map(sentence).collect();
    if sentences.len() > MOST {
        let more = sentences.split_off(MOST).len();
        sentences.push(format!("{more} more lines of {name} let nobody in"));
    }
    sentences
}

/// How many keys let in.
fn count(root: &Root, file: &[u8]) -> usize {
    if open_directory(root).is_some() { 0 } else { count_keys(file) }
}

/// A directory because of which the server takes no key.
fn open_directory(root: &Root) -> Option<&'static str> {
    OWNERS.into_iter().find(|path| root.is_open_to_others(path).unwrap_or(false))
}

/// Makes the machine's key, once, and tells its fingerprint.
fn make_key(root: &Root) -> Result<(), SshError> {
    let program = KEY_MAKER;
    let key_maker = |arguments: &[&str], file: &str| {
        let mut command = Command::new(program);
        command.args(arguments).arg("-f").arg(root.path(file)).stdin(Stdio::null());
        command.output().map_err(|source| SshError::Start { program, source })
    };
    if !root.exists(KEY) {
        // A file that a killed process left behind.
        let new = format!("{KEY}.made");
        drop(root.unlink(&new));
        let output = key_maker(&["-t", "ed25519"], &new)?;
        if !output.status.success() {
            return Err(SshError::NoKey { program, status: output.status });
        }
        root.rename(&new, KEY)?;
    }
    let output = key_maker(&["-y"], KEY)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let fingerprint = fingerprint(&said).ok_or(SshError::NoFingerprint { program })?;
    if root.read(FINGERPRINT).ok().as_deref() != Some(fingerprint) {
        root.keep(FINGERPRINT, fingerprint)?;
    }
    Ok(())
}

/// Makes a password where there is none, at the start or after a login with it.
/// Where keys are admitted there is none.
fn renew_password(root: &Root, has_keys: bool) -> Result<(), SshError> {
    match (root.exists(PASSWORD), has_keys) {
        (true, true) => root.unlink(PASSWORD)?,
        (false, false) => {
            let mut bytes = [0; PASSWORD_SYMBOLS];
            random::fill(&mut bytes).map_err(SshError::Random)?;
            root.keep(PASSWORD, password(&bytes))?;
            log::info!("there is a new password on the screen");
        }
        (true, false) | (false, true) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use settings::Product;

    use super::*;
    use crate::sample::Sample;

    const KEY_LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPVJlQV3uvuRQk/WwZlRqW84R54QqMaRcbUIjDI28UBs someone";

    struct Tree {
        root: Root,
        directory: tempfile::TempDir,
    }

    impl Tree {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let root = Root::at(directory.path());
            root.keep_dir(DIRECTORY).unwrap();
            root.keep_dir("root").unwrap();
            Self { root, directory }
        }

        fn mode(&self, path: &str) -> u32 {
            std::fs::metadata(self.directory.path().join(path)).unwrap().permissions().mode() & 0o777
        }
    }

    #[test]
    fn nobody_can_log_in_before_there_is_a_key_of_the_machine() {
        let Tree { root, .. } = &Tree::new();
        assert_eq!(status(root), None);
        root.keep(FINGERPRINT, "SHA256:x").unwrap();
        assert_eq!(
            status(root),
            Some(Status { password: None, fingerprint: "SHA256:x".into(), keys: 0, refused: Vec::new() })
        );
    }

    #[test]
    fn a_password_stays_until_it_is_used_and_then_there_is_another_one() {
        let tree = Tree::new();
        let root = &tree.root;
        renew_password(root, false).unwrap();
        let first = root.read(PASSWORD).unwrap();
        assert_eq!(first.len(), 17);
        assert_eq!(tree.mode(PASSWORD), 0o600);
        assert_eq!(tree.mode(DIRECTORY), 0o700);
        renew_password(root, false).unwrap();
        assert_eq!(root.read(PASSWORD).unwrap(), first);
        root.unlink(PASSWORD).unwrap();
        renew_password(root, false).unwrap();
        assert_ne!(root.read(PASSWORD).unwrap(), first);
        renew_password(root, true).unwrap();
        assert!(!root.exists(PASSWORD));
        renew_password(root, true).unwrap();
        assert!(!root.exists(PASSWORD));
    }

    #[test]
    fn what_the_server_says_is_said_without_its_clock() {
        let said = "[125] Nov  4 16:37:43 Password auth succeeded for 'root' from 192.0.2.1:48666";
        assert_eq!(without_time(said), "Password auth succeeded for 'root' from 192.0.2.1:48666");
        for other in ["", "[", "[1] ä", "Failed listening on '22': Error listening: Address in use"] {
            assert_eq!(without_time(other), other);
        }
    }

    fn credential_in(tree: &Tree, text: &[u8]) {
        let directory = tree.directory.path().join(".extra/credentials");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("ssh.authorized_keys.root.cred"), text).unwrap();
    }

    fn admitted(tree: &Tree, cmdline: &str) -> bool {
        let (config, _) = Sample::from_cmdline(cmdline);
        admit(&tree.root, config.as_ref(), &credential(&tree.root), &mut BTreeSet::new()).unwrap()
    }

    #[test]
    fn keys_come_from_the_settings_and_from_a_credential_and_are_nobody_else_s() {
        let tree = Tree::new();
        let root = &tree.root;
        assert!(!admitted(&tree, "sample.ssh"));
        assert!(!root.exists(HOME));
        assert!(admitted(&tree, &format!("\"sample.ssh={KEY_LINE}\"")));
        assert_eq!(root.read(KEYS).unwrap(), KEY_LINE);
        assert_eq!((tree.mode(HOME), tree.mode(KEYS)), (0o700, 0o600));

        let other = Tree::new();
        credential_in(&other, format!("# of the bench\n{KEY_LINE}\n").as_bytes());
        assert!(admitted(&other, "sample.ssh"));
        assert_eq!(other.root.read(KEYS).unwrap(), KEY_LINE);
        assert_eq!(refused(&other.root), Vec::<String>::new());
    }

    #[test]
    fn keys_that_the_server_does_not_take_leave_the_password_and_are_told_with_their_lines() {
        let tree = Tree::new();
        let lines =
            format!("\n# of the bench\r\nfrom=\"10.0.0.0/8\" {KEY_LINE}\r\n{}\n", KEY_LINE.replacen(' ', "  ", 1));
        credential_in(&tree, lines.as_bytes());
        assert!(!admitted(&tree, "sample.ssh"));
        assert!(!tree.root.exists(KEYS));
        assert_eq!(
            refused(&tree.root),
            [
                "Line 3 of the credential ssh.authorized_keys.root lets nobody in: \
                 the server does not take the option from=\"10.0.0.0/8\"",
                "Line 4 of the credential ssh.authorized_keys.root lets nobody in: \
                 before the key there is something else than its kind and one space",
            ]
        );
        // One good line among them counts, and is all that the server gets.
        credential_in(&tree, format!("{lines}restrict {KEY_LINE}").as_bytes());
        assert!(admitted(&tree, "sample.ssh"));
        assert_eq!(tree.root.read(KEYS).unwrap(), format!("restrict {KEY_LINE}"));
        assert_eq!(refused(&tree.root).len(), 2);
    }

    #[test]
    fn a_credential_that_cannot_be_read_is_told_and_the_password_stays() {
        let tree = Tree::new();
        credential_in(&tree, b"ssh-ed25519 AAAA \xe9\n");
        assert!(!admitted(&tree, "sample.ssh"));
        let told = refused(&tree.root);
        assert!(told.len() == 1 && told[0].ends_with("it is not plain text"), "{told:?}");
    }

    #[test]
    fn a_file_with_others_bytes_and_lines_that_do_not_count_is_judged_by_the_lines_that_do() {
        let tree = Tree::new();
        tree.root.keep_dir(HOME).unwrap();
        tree.root.keep(KEYS, [b"ssh-ed25519 \xff\xfe\n", KEY_LINE.as_bytes(), b" \xe9"].concat()).unwrap();
        assert!(admitted(&tree, "sample.ssh"));
        assert_eq!(refused(&tree.root).len(), 1);
        tree.root.keep(KEYS, format!("\t{KEY_LINE}\n")).unwrap();
        assert!(!look(&tree.root, &Ok(String::new()), &mut BTreeSet::new()).unwrap(), "from now on there is none");
        tree.root.keep(KEYS, KEY_LINE).unwrap();
        assert!(look(&tree.root, &Ok(String::new()), &mut BTreeSet::new()).unwrap());
        assert_eq!(refused(&tree.root), Vec::<String>::new());
    }

    #[test]
    fn keys_where_others_can_write_do_not_count() {
        let tree = Tree::new();
        assert!(admitted(&tree, &format!("\"sample.ssh={KEY_LINE}\"")));
        for path in OWNERS {
            let set = |mode| {
                let path = tree.directory.path().join(path);
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            };
            set(0o775);
            assert!(!admitted(&tree, "sample.ssh"), "{path}");
            assert!(refused(&tree.root).concat().contains(&format!("can write to /{path},")));
            set(0o755);
            assert!(admitted(&tree, "sample.ssh"), "{path}");
        }
    }
}
