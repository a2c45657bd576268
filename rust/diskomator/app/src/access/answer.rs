//! `diskomator allow` and `diskomator deny`: the answers to hosts that ask for the disks.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use access::control::{Answer, Command, Done};
use access::{By, Named};
use kernel::root::Root;
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;
use runtime::{AppletError, Failure, print};

use super::CONTROL;

const ALLOW_USAGE: &str = "\
Usage: diskomator allow HOST [ADDRESS] [--read-only]
       diskomator allow --everyone

Admits a host to the disks until the next start. HOST is the number of its
request, as `diskomator hosts` lists it, or its NQN or address. A number means
exactly the host that was listed with it, and no other ever has it. By its NQN,
a host can be admitted before it asks. Where an address means more than one
host, nothing is done, and those are listed. With ADDRESS, the answer counts
only if the request came from there.

A host that is admitted already gets the access that this command says.

A host names itself: whoever has its NQN is admitted, too, unless it must prove
a key. In the mode `paired` it must, and is named by its NQN; `diskomator key`
prints the key. See `diskomator help access`.

Options:
  --read-only  the host can only read
  --everyone   admit every host until the next start
  --nqn NQN    instead of HOST, the NQN of a host that looks like an option or a
               number
  --on-screen  the answer was given on the screen, which is noted
  -h, --help   this text

Exit status: 0 it is admitted, 1 it cannot be, 2 wrong usage.
";

const DENY_USAGE: &str = "\
Usage: diskomator deny HOST [ADDRESS]
       diskomator deny --everyone

Refuses the disks to a host, and ends its admission and its connections if it
was admitted. HOST and ADDRESS are as in `diskomator allow`; an address also
means an admitted host whose request came from there. A Linux host that is
denied gives up. For a minute it raises no new question; then it may ask again.

Options:
  --everyone  admit no more every host, but those that are allowed by name
  --nqn NQN   instead of HOST, the NQN of a host that looks like an option or a
              number
  -h, --help  this text

Exit status: 0 it is denied, 1 it cannot be, 2 wrong usage.
";

/// How long the daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer in bytes.
const ANSWER_MAX: u64 = 1 << 20;

/// Why an answer had no effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("`diskomator access` does not run; init starts it within a second, and `dmesg` says why it ended")]
    NoDaemon(#[source] io::Error),
    #[error("`diskomator access` gives no answer")]
    NoAnswer(#[source] io::Error),
    #[error("`diskomator access` gives an answer that is none")]
    Unreadable(#[source] serde_json::Error),
    #[error("{0}")]
    Refused(String),
}

impl AppletError for AskError {}

/// Runs `allow`.
pub(crate) fn allow(args: lexopt::Parser) -> Result<(), Failure> {
    match parse(args, true)? {
        None => print(ALLOW_USAGE),
        Some(command) => print(&said(&ask(&Root::default(), &command)?)),
    }
}

/// Runs `deny`.
pub(crate) fn deny(args: lexopt::Parser) -> Result<(), Failure> {
    match parse(args, false)? {
        None => print(DENY_USAGE),
        Some(command) => print(&said(&ask(&Root::default(), &command)?)),
    }
}

/// Has the daemon carry out a command.
pub(crate) fn ask(root: &Root, command: &Command) -> Result<Done, AskError> {
    let mut line = serde_json::to_vec(command).map_err(AskError::Unreadable)?;
    line.push(b'\n');
    let mut stream = UnixStream::connect(root.path(CONTROL)).map_err(AskError::NoDaemon)?;
    let mut exchange = || {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new((&stream).take(ANSWER_MAX)).read_line(&mut answer)?;
        if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
    };
    let answer = exchange().map_err(AskError::NoAnswer)?;
    match serde_json::from_str(&answer).map_err(AskError::Unreadable)? {
        Answer::Done(done) => Ok(done),
        Answer::Refused { error } => Err(AskError::Refused(error)),
    }
}

fn said(done: &Done) -> String {
    if let Some(host) = &done.admitted {
        let limit = if host.read_only { ", to read only" } else { "" };
        let note = if done.everyone { "; for now, this machine admits every host anyway" } else { "" };
        let proof = if host.by == By::Key { ", if it proves its key" } else { "" };
        return format!("{} is admitted{limit}{proof}{note}\n", host.nqn);
    }
    match &done.denied {
        Some(host) => format!("{} is denied\n", host.nqn),
        None if done.everyone => "Every host is admitted until the next start.\n".to_owned(),
        None => "Only hosts that are allowed by name are admitted.\n".to_owned(),
    }
}

/// `None` if only help is wanted.
fn parse(mut args: lexopt::Parser, is_allowed: bool) -> Result<Option<Command>, lexopt::Error> {
    let (mut host, mut address, mut read_only, mut everyone) = (None::<Named>, None::<IpAddr>, false, false);
    let mut by = By::Command;
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Long("everyone") => everyone = true,
            Long("read-only") if is_allowed => read_only = true,
            Long("on-screen") if is_allowed => by = By::Screen,
            Long("nqn") if host.is_none() => {
                let nqn: access::HostNqn =
                    args.value()?.string()?.parse().map_err(|error: access::NqnError| error.to_string())?;
                host = Some(Named::Nqn(nqn));
            }
            Value(word) => {
                let word = word.string()?;
                if host.is_none() {
                    host = Some(word.parse().map_err(|error: access::NqnError| error.to_string())?);
                } else if address.is_none() {
                    address = Some(word.parse().map_err(|_| format!("{word:?} is no address (see --help)"))?);
                } else {
                    return Err(format!("{word:?} is one name too many (see --help)").into());
                }
            }
            other => return Err(other.unexpected()),
        }
    }
    match (host, everyone, is_allowed) {
        (Some(host), false, true) => Ok(Some(Command::Allow { host: host.into(), address, read_only, by })),
        (Some(host), false, false) => Ok(Some(Command::Deny { host: host.into(), address })),
        (None, true, true) if !read_only => Ok(Some(Command::Open {})),
        (None, true, false) => Ok(Some(Command::Close {})),
        (_, true, _) => Err("--everyone stands alone (see --help)".into()),
        (None, false, _) => Err("say which host: its number, NQN or address (see --help)".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_by_number_nqn_or_address() {
        let parsed = |words: &[&str], is_allowed| {
            parse(lexopt::Parser::from_args(words), is_allowed)
                .map(|command| command.map(|command| serde_json::to_string(&command).unwrap()).unwrap_or_default())
                .map_err(|error| error.to_string())
        };
        for (words, is_allowed, line) in [
            (&["3"][..], true, r#"{"command":"allow","host":3,"read_only":false,"by":"command"}"#),
            (&["--read-only", "nqn.h"], true, r#"{"command":"allow","host":"nqn.h","read_only":true,"by":"command"}"#),
            (
                &["3", "192.0.2.1", "--on-screen"],
                true,
                r#"{"command":"allow","host":3,"address":"192.0.2.1","read_only":false,"by":"screen"}"#,
            ),
            (&["::1"], false, r#"{"command":"deny","host":"::1"}"#),
            (&["--everyone"], true, r#"{"command":"open"}"#),
            (&["--everyone"], false, r#"{"command":"close"}"#),
            (&["-h"], false, ""),
        ] {
            assert_eq!(parsed(words, is_allowed).as_deref(), Ok(line), "{words:?}");
        }
        for (words, is_allowed) in [
            (&[][..], true),
            (&["a b"], true),
            (&["nqn.a", "nqn.b"], true),
            (&["3", "::1", "x"], true),
            (&["3", "--everyone"], true),
            (&["--everyone", "--read-only"], true),
            (&["3", "--read-only"], false),
        ] {
            assert!(parsed(words, is_allowed).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_help_fits_a_terminal() {
        let texts = [ALLOW_USAGE, DENY_USAGE, super::super::USAGE];
        assert!(texts.iter().flat_map(|text| text.lines()).all(|line| line.len() <= 80));
    }
}
