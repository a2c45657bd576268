//! The lines by which other programs ask for a change: one JSON object a line, and one answer a line.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::Named;
use crate::mode::Mode;
use crate::nqn::{HostNqn, NqnError};
use crate::state::{Admitted, AnswerError, By, Denied, State};

/// The longest line in bytes, without its newline.
pub const LINE_MAX: usize = 4096;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    /// Admits a host.
    Allow {
        /// The number of a request, or an NQN or an address as text.
        host: Host,
        /// The address that the request must have come from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
        /// The host may only read.
        #[serde(default)]
        read_only: bool,
        /// Who decided.
        #[serde(default = "command")]
        by: By,
    },
    /// Refuses a host for a minute, and ends its admission.
    Deny {
        /// As in `allow`.
        host: Host,
        /// As in `allow`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
    },
    /// Admits a host that proves its key. The key itself is nobody's answer: it is derived from the machine's secret.
    Key {
        /// Its NQN.
        host: HostNqn,
    },
    /// Takes the decision on a host back.
    Forget {
        /// As in `allow`.
        host: Host,
    },
    /// Admits every host until the next start.
    Open {},
    /// Ends that: admits only those that are admitted by name.
    Close {},
    /// Changes nothing.
    List {},
}

const fn command() -> By {
    By::Command
}

/// A host in a command: a number is that of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Host {
    /// The number of a request.
    Number(u64),
    /// An NQN or an address.
    Text(String),
}

impl From<Named> for Host {
    fn from(named: Named) -> Self {
        match named {
            Named::Number(number) => Self::Number(number),
            Named::Nqn(nqn) => Self::Text(nqn.into()),
            Named::Address(address) => Self::Text(address.to_string()),
        }
    }
}

impl TryFrom<Host> for Named {
    type Error = NqnError;

    fn try_from(host: Host) -> Result<Self, NqnError> {
        match host {
            Host::Number(number) => Ok(Self::Number(number)),
            Host::Text(text) => Self::text(&text),
        }
    }
}

/// Why a command is refused.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The line is no command. The reason may quote the line, and is escaped.
    #[error("the line is no command of this machine: {0}")]
    NoCommand(String),
    /// The line is too long.
    #[error("the line is longer than {LINE_MAX} bytes")]
    TooLong,
    /// The host is named by something that is no NQN.
    #[error(transparent)]
    Nqn(#[from] NqnError),
    /// The answer has no effect.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// A person cannot admit all hosts in mode `paired`.
    #[error(
        "this machine admits only hosts that prove a key; `diskomator key NQN` prints one; the setting `access=ask` lets a person admit others"
    )]
    Paired,
    /// Nobody can be denied while all are admitted.
    #[error(
        "this machine admits every host; `diskomator deny --everyone` ends that, and leaves those that are allowed"
    )]
    Open,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// It is done, or was so before.
    Done(Done),
    /// It is refused.
    Refused {
        /// The reason, which says what to do.
        error: String,
    },
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// It is.
    pub ok: bool,
    /// The host that is admitted now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted: Option<Admitted>,
    /// The host that is denied now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,
    /// The NQN of the host that is undecided now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<String>,
    /// Every host is admitted until the next start.
    #[serde(default)]
    pub everyone: bool,
    /// The answer to `list`: the state, as the file has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
}

impl Command {
    /// Reads a line without its newline.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        if line.len() > LINE_MAX {
            return Err(CommandError::TooLong);
        }
        let escaped = |error: serde_json::Error| CommandError::NoCommand(error.to_string().escape_debug().to_string());
        serde_json::from_slice(line).map_err(escaped)
    }

    /// Carries the command out.
    pub fn carry_out(self, state: &mut State, mode: Mode, now: Duration) -> Result<Done, CommandError> {
        let mut done = Done { ok: true, ..Done::default() };
        match self {
            Self::Key { host } => done.admitted = Some(state.key(&host, now)?),
            Self::Open {} if mode == Mode::Paired => return Err(CommandError::Paired),
            Self::Allow { host, address, read_only, by } => {
                // Nobody is admitted there by a name alone: whoever is named must prove the key of that name.
                let by = if mode == Mode::Paired { By::Key } else { by };
                done.admitted = Some(state.allow(&host.try_into()?, address, read_only, by, now)?);
            }
            Self::Deny { .. } if state.everyone() => return Err(CommandError::Open),
            Self::Deny { host, address } => done.denied = Some(state.deny(&host.try_into()?, address, now)?),
            Self::Forget { host } => done.forgotten = Some(state.forget(&host.try_into()?, now)?.into()),
            Self::Open {} => state.set_everyone(true),
            Self::Close {} => state.set_everyone(false),
            Self::List {} => {
                state.expire(now);
                done.state = Some(state.clone());
            }
        }
        done.everyone = state.everyone();
        Ok(done)
    }
}

/// Bytes as they come, parted into lines. It never holds more than one line of [`LINE_MAX`].
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that `bytes` complete, without their newlines. Empty lines are left out. A line that is too long is an
    /// error, and where the next one begins is not said: the connection is to be closed.
    pub fn push(&mut self, bytes: &[u8]) -> (Vec<Vec<u8>>, Result<(), CommandError>) {
        let mut complete = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, is_complete) = piece.strip_suffix(b"\n").map_or((piece, false), |piece| (piece, true));
            if self.begun.len() + piece.len() > LINE_MAX {
                self.begun.clear();
                return (complete, Err(CommandError::TooLong));
            }
            self.begun.extend_from_slice(piece);
            if is_complete {
                let line = std::mem::take(&mut self.begun);
                if !line.is_empty() {
                    complete.push(line);
                }
            }
        }
        (complete, Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn carry_out(state: &mut State, mode: Mode, line: &str) -> Result<Done, String> {
        let command = Command::parse(line.as_bytes()).map_err(|error| error.to_string())?;
        command.carry_out(state, mode, NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_is_one_command() {
        let text = |text: &str| Host::Text(text.to_owned());
        for (line, command) in [
            (
                r#"{"command":"allow","host":3}"#,
                Command::Allow { host: Host::Number(3), address: None, read_only: false, by: By::Command },
            ),
            (
                r#"{"by":"screen","host":"nqn.h","address":"192.0.2.1","read_only":true,"command":"allow"}"#,
                Command::Allow {
                    host: text("nqn.h"),
                    address: Some("192.0.2.1".parse().unwrap()),
                    read_only: true,
                    by: By::Screen,
                },
            ),
            (r#"{"command":"deny","host":"::1"}"#, Command::Deny { host: text("::1"), address: None }),
            (r#"{"command":"forget","host":"nqn.h"}"#, Command::Forget { host: text("nqn.h") }),
            (r#"{"command":"key","host":"nqn.h"}"#, Command::Key { host: "nqn.h".parse().unwrap() }),
            (r#"{"command":"open"}"#, Command::Open {}),
            (r#"{"command":"close"}"#, Command::Close {}),
            (r#"{"command":"list"}"#, Command::List {}),
        ] {
            assert_eq!(Command::parse(line.as_bytes()).unwrap(), command);
            let written = serde_json::to_vec(&command).unwrap();
            assert_eq!(Command::parse(&written).unwrap(), command);
        }
        for wrong in [
            "",
            "{",
            "3",
            r#"{"command":"allow"}"#,
            r#"{"command":"allow","host":-1}"#,
            r#"{"command":"allow","host":1.5}"#,
            r#"{"command":"allow","host":3,"readonly":true}"#,
            r#"{"command":"deny","host":3,"address":"x"}"#,
            r#"{"command":"key","host":3}"#,
            r#"{"command":"key","host":"../x"}"#,
            r#"{"command":"shut"}"#,
            r#"{"command":"list"}{"command":"open"}"#,
        ] {
            assert!(Command::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        for hostile in [r#"{"command":"\u001b[2J"}"#, r#"{"command":"list","\u001b[2J":1}"#] {
            let error = Command::parse(hostile.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains('\x1b'), "{error}");
        }
        assert!(Command::parse(&[b' '; LINE_MAX + 1]).is_err());
    }

    #[test]
    fn a_command_answers_the_request_that_it_names() {
        let mut state = State::new(false, &[]);
        state.heard(&"nqn.h".parse().unwrap(), "192.0.2.1".parse().unwrap(), NOW);
        let wrong = r#"{"command":"allow","host":1,"address":"192.0.2.2"}"#;
        assert!(carry_out(&mut state, Mode::Ask, wrong).unwrap_err().contains("not from 192.0.2.2"));
        let done = carry_out(&mut state, Mode::Ask, r#"{"command":"allow","host":1}"#).unwrap();
        assert_eq!(done.admitted.unwrap().nqn.as_ref(), "nqn.h");
        let done = carry_out(&mut state, Mode::Ask, r#"{"command":"list"}"#).unwrap();
        assert_eq!(done.state, Some(state.clone()));
        let done = carry_out(&mut state, Mode::Ask, r#"{"command":"deny","host":"nqn.h"}"#).unwrap();
        assert_eq!(done.denied.unwrap().until, 160);
        let done = carry_out(&mut state, Mode::Ask, r#"{"command":"forget","host":"nqn.h"}"#).unwrap();
        assert_eq!(done.forgotten.as_deref(), Some("nqn.h"));
        assert!(carry_out(&mut state, Mode::Ask, r#"{"command":"forget","host":"nqn.h"}"#).is_err());
        let hostile = r#"{"command":"allow","host":"\u001b[2J"}"#;
        assert!(!carry_out(&mut state, Mode::Ask, hostile).unwrap_err().contains('\x1b'));
    }

    #[test]
    fn a_host_with_a_key_keeps_it_until_it_is_forgotten() {
        let mut state = State::new(false, &["nqn.h:ro".parse().unwrap()]);
        let key = r#"{"command":"key","host":"nqn.h"}"#;
        let admitted = carry_out(&mut state, Mode::Ask, key).unwrap().admitted.unwrap();
        assert_eq!((admitted.by, admitted.read_only), (By::Key, true));
        for (line, keyed) in [
            (r#"{"command":"deny","host":"nqn.h"}"#, 1),
            (r#"{"command":"allow","host":"nqn.h"}"#, 1),
            (r#"{"command":"forget","host":"nqn.h"}"#, 0),
            (r#"{"command":"allow","host":"nqn.h"}"#, 0),
        ] {
            carry_out(&mut state, Mode::Ask, line).unwrap();
            assert_eq!(state.keyed().len(), keyed, "{line}");
            assert_eq!(State::parse(state.to_file().unwrap().as_bytes()).unwrap(), state);
        }
        // Hosts that are not admitted make room.
        for number in 0..1000 {
            let nqn: HostNqn = format!("nqn.{number}").parse().unwrap();
            state.key(&nqn, NOW).unwrap();
            state.deny(&Named::Nqn(nqn), None, NOW).unwrap();
            assert!(state.keyed().len() <= crate::KEYED_MAX);
        }
    }

    #[test]
    fn a_mode_that_an_answer_cannot_change_says_so() {
        let mut state = State::new(false, &[]);
        assert!(carry_out(&mut state, Mode::Paired, r#"{"command":"open"}"#).unwrap_err().contains("access=ask"));
        // Whoever is named there must prove a key.
        for by in ["command", "screen", "key"] {
            let line = format!(r#"{{"command":"allow","host":"nqn.{by}","by":"{by}","read_only":true}}"#);
            let admitted = carry_out(&mut state, Mode::Paired, &line).unwrap().admitted.unwrap();
            assert_eq!((admitted.by, admitted.read_only), (By::Key, true));
            assert!(state.keyed().contains(&admitted.nqn));
        }
        let nobody = r#"{"command":"allow","host":1}"#;
        assert!(carry_out(&mut state, Mode::Paired, nobody).is_err());
        assert!(carry_out(&mut state, Mode::Ask, r#"{"command":"allow","host":"nqn.h"}"#).is_ok());
        assert!(carry_out(&mut state, Mode::Ask, r#"{"command":"open"}"#).unwrap().everyone);
        let deny = r#"{"command":"deny","host":"nqn.h"}"#;
        assert!(carry_out(&mut state, Mode::Ask, deny).unwrap_err().contains("--everyone"));
        assert!(!carry_out(&mut state, Mode::Ask, r#"{"command":"close"}"#).unwrap().everyone);
        assert!(carry_out(&mut state, Mode::Ask, deny).is_ok());
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        for (answer, line) in [
            (Answer::Done(Done { ok: true, ..Done::default() }), r#"{"ok":true,"everyone":false}"#),
            (Answer::Refused { error: "no".to_owned() }, r#"{"error":"no"}"#),
        ] {
            assert_eq!(serde_json::to_string(&answer).unwrap(), line);
            assert_eq!(serde_json::from_str::<Answer>(line).unwrap(), answer);
        }
    }

    #[test]
    fn lines_come_in_any_pieces() {
        let text = b"{\"a\"}\n\n\r\nlast\nrest";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for piece in text.chunks(size) {
                let (complete, outcome) = lines.push(piece);
                outcome.unwrap();
                got.extend(complete);
            }
            assert_eq!(got, [b"{\"a\"}".to_vec(), b"\r".to_vec(), b"last".to_vec()]);
            assert_eq!(lines.begun, b"rest");
        }
        let mut lines = Lines::default();
        assert!(lines.push(&[b'x'; LINE_MAX]).1.is_ok());
        assert!(lines.push(b"x").1.is_err());
        let (complete, outcome) = Lines::default().push(&[b"one\n".as_slice(), &[b'x'; LINE_MAX + 1]].concat());
        assert_eq!((complete, outcome.is_err()), (vec![b"one".to_vec()], true));
    }
}
