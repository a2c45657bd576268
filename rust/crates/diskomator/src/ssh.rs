//! `diskomator ssh`: a shell for who debugs this machine from afar. It decides
//! who gets in and makes the machine's key; dropbear does the rest.
//!
//! What there is to show is in a directory in RAM that only root can look into,
//! so that it outlives this process: the password, which dropbear removes when
//! it lets somebody in with it, and the fingerprint.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use mio::{Events, Interest, Poll, Token, Waker};

use diskomator_core::config::Config;
use diskomator_core::ssh::{PASSWORD_SYMBOLS, authorized_keys, fingerprint, key_lines, password};
use diskomator_sys::process::end_with_us;
use diskomator_sys::random;
use diskomator_sys::root::{FileError, Root};
use diskomator_sys::settings;
use diskomator_sys::watch::Directories;

use crate::applet::{Failure, print, start_daemon};

const HELP: &str = "\
Usage: diskomator ssh [--status]

Lets people log in over SSH, port 22, as root, until stopped, if the setting
`diskomator.ssh` says so. Without it nothing listens.

Who gets in:
  keys      those that `diskomator.ssh=KEY` gives, as often as needed, where KEY
            is a line such as id_ed25519.pub has it, or its second word alone;
            those in the credential ssh.authorized_keys.root; those that were
            built into the image; and those in /root/.ssh/authorized_keys
  password  only if there is no key. It is on the screen, new on every boot and
            good once: after somebody used it, there is another one

The machine's own key is made at each boot. Its fingerprint is on the screen, to
be compared with what the SSH client asks about.

On the kernel command line, a key with spaces needs quotes:
  \"diskomator.ssh=ssh-ed25519 AAAAC3… me@laptop\"

On the other machine:
  ssh root@ADDRESS
  ssh root@ADDRESS diskomator export list
  ssh root@ADDRESS 'cat >/tmp/file' <file   copies a file there; scp -O does, too

Options:
  --status    say how to log in, and end
  -h, --help  this text

Exit codes: 1 if the server could not start or ended, or nobody wants it, 2 if
the command line makes no sense.
";

/// What only root may look into.
const DIRECTORY: &str = "run/ssh";
const KEY: &str = "run/ssh/host_key";
const FINGERPRINT: &str = "run/ssh/fingerprint";
/// The server knows this path, too (`board/diskomator/dropbear.h`).
const PASSWORD: &str = "run/ssh/password";
/// Where the server looks for keys (`authorized_keys` in sshd(8)).
const HOME: &str = "root/.ssh";
const KEYS: &str = "root/.ssh/authorized_keys";
/// systemd.system-credentials(7).
const CREDENTIAL: &str = "ssh.authorized_keys.root";
const SERVER: &str = "dropbear";
const KEY_MAKER: &str = "dropbearkey";

const CHANGED: Token = Token(0);
const ENDED: Token = Token(1);

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// What is typed when asked; `None` where keys let in.
    pub(crate) password: Option<String>,
    /// That of the machine's key, as OpenSSH prints it.
    pub(crate) fingerprint: String,
    /// How many keys let in.
    pub(crate) keys: usize,
}

/// The directories in which something changes when [`status`] does.
pub(crate) const WATCHED: [&str; 2] = ["run", DIRECTORY];

/// How to log in, if somebody can.
pub(crate) fn status(root: &Root) -> Option<Status> {
    let fingerprint = root.read(FINGERPRINT).ok()?;
    let keys = key_lines(&root.read(KEYS).unwrap_or_default()).count();
    Some(Status { password: root.read(PASSWORD).ok(), fingerprint, keys })
}

/// Why nobody can log in.
#[derive(Debug, thiserror::Error)]
enum SshError {
    #[error("nobody asked for SSH: the setting is diskomator.ssh")]
    Off,
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
}

/// Runs the applet.
pub(crate) fn run(mut args: lexopt::Parser) -> Result<(), Failure> {
    use lexopt::prelude::*;
    let root = Root::default();
    let mut wants_status = false;
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return print(HELP),
            Long("status") => wants_status = true,
            other => return Err(other.unexpected().into()),
        }
    }
    if wants_status {
        return print(
            &status(&root).map_or_else(|| "Nobody can log in over SSH.\n".to_owned(), |status| text(&status)),
        );
    }
    let config = start_daemon("ssh", &root, false).config;
    if !config.ssh.is_on {
        return Err(Failure::failed(SshError::Off));
    }
    serve(&root, &config)
}

fn text(status: &Status) -> String {
    let with = match &status.password {
        Some(password) => format!("password     {password}, good once"),
        None => format!("keys         {}", status.keys),
    };
    format!("ssh root@ADDRESS\n{with}\nfingerprint  {}\n", status.fingerprint)
}

fn serve(root: &Root, config: &Config) -> Result<(), Failure> {
    root.keep_dir(DIRECTORY).map_err(Failure::failed)?;
    let has_keys = admit(root, config).map_err(Failure::failed)?;
    make_key(root).map_err(Failure::failed)?;
    // Who just used the password must not find the next one before it is known to be used.
    let changes = Directories::new().map_err(Failure::failed)?;
    changes.add(root.path(DIRECTORY)).map_err(Failure::failed)?;
    renew_password(root, has_keys).map_err(Failure::failed)?;

    let mut command = Command::new(SERVER);
    // In the foreground, its words on standard error, with one key of its own.
    command.args(["-F", "-E", "-r"]).arg(root.path(KEY)).stdin(Stdio::null()).stderr(Stdio::piped());
    if has_keys {
        command.arg("-s");
    }
    let started = end_with_us(&mut command).spawn();
    let mut server = started.map_err(|source| Failure::failed(SshError::Start { program: SERVER, source }))?;
    log::info!("listening, {}", if has_keys { "for who has a key" } else { "for who has the password on the screen" });

    if let Some(words) = server.stderr.take() {
        // Sessions have the other end, too, and may outlive the server.
        thread::spawn(move || repeat(words));
    }

    let mut changes = changes;
    let mut poll = Poll::new().map_err(Failure::failed)?;
    poll.registry().register(&mut changes, CHANGED, Interest::READABLE).map_err(Failure::failed)?;
    let waker = Waker::new(poll.registry(), ENDED).map_err(Failure::failed)?;
    let watcher = thread::spawn(move || {
        let ended = server.wait();
        // That fails only when the applet is ending.
        drop(waker.wake());
        ended
    });
    let mut events = Events::with_capacity(4);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(Failure::failed)?,
        }
        if watcher.is_finished() || events.iter().any(|event| event.token() == ENDED) {
            let ended = watcher.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
            return Err(Failure::failed(match ended {
                Ok(status) => SshError::Ended { program: SERVER, status },
                Err(source) => SshError::Wait { program: SERVER, source },
            }));
        }
        changes.drain().map_err(Failure::failed)?;
        renew_password(root, has_keys).map_err(Failure::failed)?;
    }
}

/// Says in our log what the server says, until nobody is left who could.
fn repeat(words: impl Read) {
    for line in BufReader::new(words).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        log::info!("{}", without_time(&line));
    }
}

/// What the server says, without what the log has itself: `[PID] Mon DD HH:MM:SS `.
fn without_time(line: &str) -> &str {
    let text = line.trim_end().split_once("] ").filter(|_| line.starts_with('[')).map(|(_, text)| text);
    text.and_then(|text| text.get("Nov 24 16:37:34 ".len()..)).unwrap_or(line.trim_end())
}

/// Puts every key that somebody gave where the server looks for it; whether there is one.
fn admit(root: &Root, config: &Config) -> Result<bool, FileError> {
    let credential = match settings::given(root).0.credential(CREDENTIAL) {
        None => String::new(),
        Some(Ok(text)) => text,
        Some(Err(warning)) => {
            log::warn!("{warning}");
            String::new()
        }
    };
    let given: Vec<String> = config.ssh.keys.iter().map(ToString::to_string).collect();
    let file = match root.read(KEYS) {
        Err(error) if error.io().kind() != io::ErrorKind::NotFound => return Err(error),
        file => file.unwrap_or_default(),
    };
    let added = authorized_keys(&file, given.iter().map(String::as_str).chain(credential.lines()));
    if let Some(text) = &added {
        root.keep_dir(HOME)?;
        root.keep(KEYS, text)?;
    }
    let count = key_lines(added.as_deref().unwrap_or(&file)).count();
    if count == 0 && !credential.is_empty() {
        log::warn!("no line of the credential {CREDENTIAL} is a public key");
    }
    Ok(count > 0)
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
        // What a process that was killed left behind.
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

/// Makes a password where there is none, because nobody had one yet or somebody
/// used it. Where keys let in there is none.
fn renew_password(root: &Root, has_keys: bool) -> Result<(), SshError> {
    match (root.exists(PASSWORD), has_keys) {
        (true, true) => root.unlink(PASSWORD)?,
        (false, false) => {
            let mut bytes = [0; PASSWORD_SYMBOLS];
            random::fill(&mut bytes).map_err(SshError::Random)?;
            root.keep(PASSWORD, &password(&bytes))?;
            log::info!("there is a new password on the screen");
        }
        (true, false) | (false, true) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const KEY_LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPVJlQV3uvuRQk/WwZlRqW84R54QqMaRcbUIjDI28UBs somebody";

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
        assert_eq!(status(root), Some(Status { password: None, fingerprint: "SHA256:x".into(), keys: 0 }));
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

    #[test]
    fn keys_come_from_the_settings_and_from_a_credential_and_are_nobody_else_s() {
        let tree = Tree::new();
        let root = &tree.root;
        let (config, _) = Config::from_cmdline("diskomator.ssh");
        assert!(!admit(root, &config).unwrap());
        assert!(!root.exists(HOME));
        let (config, warnings) = Config::from_cmdline(&format!("\"diskomator.ssh={KEY_LINE}\""));
        assert_eq!(warnings, []);
        assert!(admit(root, &config).unwrap());
        assert_eq!(root.read(KEYS).unwrap(), KEY_LINE);
        assert_eq!((tree.mode(HOME), tree.mode(KEYS)), (0o700, 0o600));

        let other = Tree::new();
        std::fs::create_dir_all(other.directory.path().join(".extra/credentials")).unwrap();
        let credential = other.directory.path().join(".extra/credentials/ssh.authorized_keys.root.cred");
        std::fs::write(credential, format!("# of the bench\n{KEY_LINE}\n")).unwrap();
        let (config, _) = Config::from_cmdline("diskomator.ssh");
        assert!(admit(&other.root, &config).unwrap());
        assert_eq!(other.root.read(KEYS).unwrap(), KEY_LINE);
    }
}
