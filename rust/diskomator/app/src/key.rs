//! `diskomator key`: the keys of a host, and the commands by which it connects with them.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::PathBuf;

use access::HostNqn;
use access::control::Command;
use kernel::netlink::Netlink;
use kernel::root::Root;
use keys::{Cli, Commands, Hash, HostKeys, Secret};
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;
use local::configfs;
use nvmet::model::{LISTENER_NQN, is_ours, is_read_only_nqn};
use runtime::{AppletError, Failure, print, print_json};
use serde::Serialize;
use settings::SIZE_MAX;
use zeroize::Zeroizing;

use crate::access::answer::{AskError, ask};
use crate::secret::{self, KeptError, Origin, TextError};

const USAGE: &str = "\
Usage: diskomator key HOSTNQN [--json]
       diskomator key HOSTNQN --secret FILE [--address ADDRESS] [--json]

Prints the keys of a host, and the commands by which it connects with nvme-cli
2 and 3. HOSTNQN is the host's NQN, as `cat /etc/nvme/hostnqn` shows it there.

On the appliance, this admits the host: from now on, until the next start or
until `diskomator deny`, it gets the disks if it proves its key (DH-HMAC-CHAP),
and this machine proves its own to the host. A host that is admitted already
must prove its key from its next connection on. The keys come of the machine's
secret: of the credential `diskomator.secret`, else of a random one, and then
they are others after the next start.

With --secret it only prints, on any Linux machine. FILE holds the secret as the
credential does. The machine admits the host by its keys if the setting
`diskomator.allow` there names it, or after `diskomator key HOSTNQN` there.

What it prints is secret: whoever has it is that host. The commands hold keys,
too; other users of the host can see them while they run. The keys for TLS are
of no use yet, as no port of the machine speaks TLS.

Options:
  --secret FILE      the secret is in this file; - is standard input
  --address ADDRESS  the appliance's address, for the commands
  --json             print as JSON, see below
  -h, --help         this text

As JSON: {\"host\", \"dhchap_host\", \"dhchap_controller\", \"tls_sha256\",
\"tls_sha384\", \"lasting\" (null with --secret), \"nvme_cli_2\": [COMMAND],
\"nvme_cli_3\": [COMMAND]}.

Exit status: 0 done, 1 there is no secret or the host cannot be admitted,
2 wrong usage.
";

/// Stands for the address of a machine that is not known.
const UNKNOWN_ADDRESS: &str = "ADDRESS";
/// Room for the text without the commands: a text that grows leaves keys in memory.
const TEXT_MAX: usize = 4096;

/// Why there are no keys. No message holds a part of the secret.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("cannot read the secret in {0}")]
    File(String, #[source] io::Error),
    #[error("{0} holds no secret")]
    Text(String, #[source] TextError),
    #[error(transparent)]
    Kept(#[from] KeptError),
    #[error(
        "this machine has no secret: `diskomator access`, which keeps it, does not run; elsewhere, say --secret FILE"
    )]
    NoSecret,
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl AppletError for KeyError {}

/// The words of the command line.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    host: HostNqn,
    secret: Option<PathBuf>,
    address: Option<String>,
    json: bool,
}

/// All that is printed.
struct Printed {
    keys: HostKeys,
    address: String,
    subsystems: Vec<String>,
    /// Whether the keys are the same after the next start, if that is known.
    lasting: Option<bool>,
    /// For now, the machine admits every host.
    everyone: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    host: &'a str,
    dhchap_host: &'a str,
    dhchap_controller: &'a str,
    tls_sha256: &'a str,
    tls_sha384: &'a str,
    lasting: Option<bool>,
    nvme_cli_2: Vec<&'a str>,
    nvme_cli_3: Vec<&'a str>,
}

/// Runs the applet.
pub(crate) fn run(args: lexopt::Parser) -> Result<(), Failure> {
    let Some(words) = parse(args)? else { return print(USAGE) };
    secret::enter();
    let json = words.json;
    let printed = match &words.secret {
        Some(file) => elsewhere(&words, file)?,
        None => here(&Root::default(), &words)?,
    };
    if json { printed.print_json() } else { print(&printed.text()) }
}

/// `None` if only help is wanted.
fn parse(mut args: lexopt::Parser) -> Result<Option<Words>, lexopt::Error> {
    let (mut host, mut secret, mut address, mut json) = (None::<HostNqn>, None, None, false);
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Long("json") => json = true,
            Long("secret") if secret.is_none() => secret = Some(PathBuf::from(args.value()?)),
            Long("address") if address.is_none() => {
                let word = args.value()?.string()?;
                let (ip, _) = word.split_once('%').unwrap_or((&word, ""));
                ip.parse::<IpAddr>().map_err(|_| format!("{word:?} is no address (see --help)"))?;
                address = Some(word);
            }
            Value(word) if host.is_none() => {
                let nqn = word.string()?.parse().map_err(|error: access::NqnError| error.to_string())?;
                host = Some(nqn);
            }
            other => return Err(other.unexpected()),
        }
    }
    let host = host.ok_or("say which host, by its NQN (see --help)")?;
    Ok(Some(Words { host, secret, address, json }))
}

/// The keys by the secret in a file.
fn elsewhere(words: &Words, file: &PathBuf) -> Result<Printed, KeyError> {
    let secret = from_file(file)?;
    Ok(Printed {
        keys: secret.host(words.host.as_ref()),
        address: words.address.clone().unwrap_or_else(|| UNKNOWN_ADDRESS.to_owned()),
        subsystems: Vec::new(),
        lasting: None,
        everyone: false,
    })
}

fn from_file(file: &PathBuf) -> Result<Secret, KeyError> {
    let is_input = file.as_os_str() == "-";
    let name = if is_input { "standard input".to_owned() } else { file.display().to_string() };
    // No more than a secret has, whatever the file is; and in one piece, which leaves no copy.
    let mut content = Zeroizing::new(Vec::with_capacity(SIZE_MAX + 1));
    let most = SIZE_MAX as u64 + 1;
    let read = if is_input {
        io::stdin().lock().take(most).read_to_end(&mut content)
    } else {
        File::open(file).and_then(|file| file.take(most).read_to_end(&mut content))
    };
    read.map_err(|source| KeyError::File(name.clone(), source))?;
    secret::parse(&content).map_err(|source| KeyError::Text(name, source))
}

/// The keys by this machine's secret, which admits the host.
fn here(root: &Root, words: &Words) -> Result<Printed, KeyError> {
    let kept = secret::read(root)?.ok_or(KeyError::NoSecret)?;
    let done = ask(root, &Command::Key { host: words.host.clone() })?;
    let is_reader = done.admitted.is_some_and(|host| host.read_only);
    Ok(Printed {
        keys: kept.secret.host(words.host.as_ref()),
        address: words.address.clone().or_else(own_address).unwrap_or_else(|| UNKNOWN_ADDRESS.to_owned()),
        subsystems: subsystems(root, is_reader),
        lasting: Some(kept.origin == Origin::Credential),
        everyone: done.everyone,
    })
}

/// An address at which hosts reach this machine, if there is one that is good on more than a link.
fn own_address() -> Option<String> {
    let addresses = Netlink::new().and_then(|netlink| netlink.addresses()).unwrap_or_default();
    let usable = addresses.iter().filter(|address| address.is_usable && !address.ip.is_loopback());
    usable
        .min_by_key(|address| (address.is_link_local, address.ip.is_ipv6()))
        .filter(|address| !address.is_link_local || address.ip.is_ipv4())
        .map(|address| address.ip.to_string())
}

/// The subsystems of the disks that the host gets.
fn subsystems(root: &Root, is_reader: bool) -> Vec<String> {
    let nqns = configfs::read(root).map(|target| target.subsystems.into_keys().collect::<Vec<_>>()).unwrap_or_default();
    nqns.into_iter().filter(|nqn| is_ours(nqn) && nqn != LISTENER_NQN && is_read_only_nqn(nqn) == is_reader).collect()
}

impl Printed {
    fn commands(&self, cli: Cli) -> Zeroizing<String> {
        let subsystems: Vec<&str> = self.subsystems.iter().map(String::as_str).collect();
        Commands { keys: &self.keys, address: &self.address, subsystems: &subsystems, tls: None }.expose(cli)
    }

    /// Lines that a shell can take as they are: all but the commands are comments.
    fn text(&self) -> Zeroizing<String> {
        let (two, three) = (self.commands(Cli::V2), self.commands(Cli::V3));
        let (host, controller) = (self.keys.dhchap_host.expose(), self.keys.dhchap_controller.expose());
        let (sha256, sha384) = (self.keys.tls(Hash::Sha256).expose(), self.keys.tls(Hash::Sha384).expose());
        let lasting = match self.lasting {
            Some(true) => {
                "# They stay the same as long as the credential diskomator.secret does. The next start\n# asks for this command again, unless the setting diskomator.allow names the host.\n"
            }
            Some(false) => "# They are good until this machine restarts, as its secret is random.\n",
            None => "",
        };
        let everyone =
            if self.everyone { "# For now, this machine admits every host, with a key or without.\n" } else { "" };
        let mut text = Zeroizing::new(String::with_capacity(TEXT_MAX + two.len() + three.len()));
        for part in [
            "# The keys of ",
            &self.keys.nqn,
            ". They are secret.\n",
            lasting,
            everyone,
            "# DH-HMAC-CHAP, the host:    ",
            &host,
            "\n# DH-HMAC-CHAP, the machine: ",
            &controller,
            "\n# TLS 1.3 with SHA-256:      ",
            &sha256,
            "\n# TLS 1.3 with SHA-384:      ",
            &sha384,
            "\n#\n# With nvme-cli 2, as root on the host. The first command lists the disks.\n",
            &two,
            "#\n# With nvme-cli 3:\n",
            &three,
        ] {
            text.push_str(part);
        }
        text
    }

    fn print_json(&self) -> Result<(), Failure> {
        let (two, three) = (self.commands(Cli::V2), self.commands(Cli::V3));
        print_json(&Json {
            host: &self.keys.nqn,
            dhchap_host: &self.keys.dhchap_host.expose(),
            dhchap_controller: &self.keys.dhchap_controller.expose(),
            tls_sha256: &self.keys.tls(Hash::Sha256).expose(),
            tls_sha384: &self.keys.tls(Hash::Sha384).expose(),
            lasting: self.lasting,
            nvme_cli_2: two.lines().collect(),
            nvme_cli_3: three.lines().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use kernel::error::chain;

    use super::*;

    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:5f7a1d2c-8f3e-4b6a-9c1d-0e2f3a4b5c6d";

    fn parsed(words: &[&str]) -> Result<Option<Words>, String> {
        parse(lexopt::Parser::from_args(words)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_host_is_named_by_its_nqn_alone() {
        let words = parsed(&[NQN, "--secret", "-", "--address", "fe80::1%eth0", "--json"]).unwrap().unwrap();
        assert_eq!((words.host.as_ref(), words.json), (NQN, true));
        assert_eq!((words.secret, words.address.as_deref()), (Some(PathBuf::from("-")), Some("fe80::1%eth0")));
        assert_eq!(parsed(&["--help"]), Ok(None));
        let long = "n".repeat(224);
        for wrong in [
            &[][..],
            &["a/b"],
            &[".."],
            &["a b"],
            &["\x1b[2J"],
            &[""],
            &[long.as_str()],
            &["nqn.2014-08.org.nvmexpress.discovery"],
            &[NQN, "nqn.other"],
            &[NQN, "--secret"],
            &[NQN, "--address", "x; reboot"],
            &[NQN, "--key"],
        ] {
            let error = parsed(wrong).unwrap_err();
            assert!(!error.contains('\x1b'), "{error}");
        }
    }

    #[test]
    fn the_keys_are_those_of_the_secret_and_only_they_tell_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        fs::write(&file, format!("{SECRET}\r\n")).unwrap();
        let words = parsed(&[NQN, "--secret", file.to_str().unwrap(), "--address", "192.0.2.1"]).unwrap().unwrap();
        let printed = elsewhere(&words, &file).unwrap();
        let text = printed.text();
        assert!(text.len() < TEXT_MAX);
        // As the crate of the keys has them.
        for key in [
            "DHHC-1:01:rTHZ8AYXwql1KaU5cZM1Y5InZxTK5JmT86dPFQCd65V1xPRz:",
            "NVMeTLSkey-1:01:e/LbDVnG0pw3BvhupRAjX0qK9rp4ho/i2PDWov0SHd8Kxh70:",
        ] {
            assert!(text.contains(key), "{}", *text);
        }
        let is_line = |line: &str| line.starts_with('#') || line.starts_with("nvme ");
        assert!(text.lines().all(is_line) && text.contains("--traddr=192.0.2.1 "), "{}", *text);
        assert!(!text.contains(SECRET));
    }

    #[test]
    fn a_file_that_holds_no_secret_is_named_and_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let large = vec![b'A'; 1 << 20];
        for (content, why) in [
            (&b""[..], "it has 0 bytes of at least 32"),
            (b"hunter2", "it is no base64"),
            (&large, "it has more than 64 KiB"),
            (b"AAAA\nAAAA\n", "it has 2 lines"),
        ] {
            fs::write(&file, content).unwrap();
            let error = chain(&from_file(&file).unwrap_err());
            assert!(error.contains(why) && error.contains("/secret holds no secret"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("AAAA"), "{error}");
        }
        for file in [directory.path(), &directory.path().join("absent")] {
            assert!(matches!(from_file(&file.to_owned()), Err(KeyError::File(..))));
        }
    }

    #[test]
    fn a_machine_without_a_secret_admits_nobody_by_a_key() {
        let directory = tempfile::tempdir().unwrap();
        let words = parsed(&[NQN]).unwrap().unwrap();
        let root = Root::at(directory.path());
        assert!(matches!(here(&root, &words), Err(KeyError::NoSecret)));
        root.keep_dir(crate::access::DIRECTORY).unwrap();
        root.keep(secret::FILE, "random\n").unwrap();
        assert!(matches!(here(&root, &words), Err(KeyError::Kept(_))));
        root.keep(secret::FILE, format!("random\n{SECRET}\n")).unwrap();
        assert!(matches!(here(&root, &words), Err(KeyError::Ask(AskError::NoDaemon(_)))));
    }

    #[test]
    fn the_help_fits_a_terminal() {
        assert!(USAGE.lines().all(|line| line.len() <= 80));
    }
}
