//! NQNs of hosts, which are hostile text until they are checked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest NQN in bytes (NVM Express Base Specification, "NVMe Qualified Names").
pub const NQN_MAX: usize = 223;
/// The NQN of each discovery subsystem, which no host has.
const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// The NQN of a host: one to 223 printable ASCII characters without space or `/`. It is safe as the name of a directory
/// and in a log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostNqn(String);

/// Why a text is no NQN of a host. The text itself is not part of the message: it is hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NqnError {
    /// It is empty.
    #[error("the NQN of a host is empty")]
    Empty,
    /// It is longer than any NQN.
    #[error("the NQN of a host has {0} bytes, and {NQN_MAX} is the limit")]
    TooLong(usize),
    /// It has a character that no NQN has.
    #[error("the NQN of a host has printable ASCII characters without space or /, and the byte at {0} is none")]
    Character(usize),
    /// It is `.` or `..`.
    #[error("the NQN of a host is no . or ..")]
    Dots,
    /// It is that of the discovery subsystem.
    #[error("{DISCOVERY} names no host")]
    Discovery,
}

impl FromStr for HostNqn {
    type Err = NqnError;

    fn from_str(text: &str) -> Result<Self, NqnError> {
        match text {
            "" => return Err(NqnError::Empty),
            "." | ".." => return Err(NqnError::Dots),
            DISCOVERY => return Err(NqnError::Discovery),
            _ if text.len() > NQN_MAX => return Err(NqnError::TooLong(text.len())),
            _ => {}
        }
        match text.bytes().position(|byte| !byte.is_ascii_graphic() || byte == b'/') {
            Some(place) => Err(NqnError::Character(place)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for HostNqn {
    type Error = NqnError;

    fn try_from(text: String) -> Result<Self, NqnError> {
        text.parse()
    }
}

impl From<HostNqn> for String {
    fn from(nqn: HostNqn) -> Self {
        nqn.0
    }
}

impl AsRef<str> for HostNqn {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostNqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A host that the setting `allow` admits: `HOSTNQN`, or `HOSTNQN:ro`. An NQN has colons itself, so only a last `:ro` is
/// the option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The host.
    pub nqn: HostNqn,
    /// It may only read.
    pub read_only: bool,
}

const READ_ONLY: &str = ":ro";

impl FromStr for Grant {
    type Err = NqnError;

    fn from_str(text: &str) -> Result<Self, NqnError> {
        let (nqn, read_only) = text.strip_suffix(READ_ONLY).map_or((text, false), |nqn| (nqn, true));
        Ok(Self { nqn: nqn.parse()?, read_only })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.nqn, if self.read_only { READ_ONLY } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nqn_that_could_be_a_path_or_move_a_cursor_is_refused() {
        let long = "n".repeat(NQN_MAX);
        for good in ["nqn.2014-08.org.nvmexpress:uuid:0", "x", "...", ".a", "a\"b\\c", &long] {
            assert_eq!(good.parse::<HostNqn>().unwrap().as_ref(), good);
        }
        let too_long = "n".repeat(NQN_MAX + 1);
        for (bad, error) in [
            ("", NqnError::Empty),
            (".", NqnError::Dots),
            ("..", NqnError::Dots),
            ("../x", NqnError::Character(2)),
            ("a b", NqnError::Character(1)),
            ("a\n", NqnError::Character(1)),
            ("\x1b[2J", NqnError::Character(0)),
            ("\x7f", NqnError::Character(0)),
            ("n\u{e4}", NqnError::Character(1)),
            ("a\0", NqnError::Character(1)),
            (DISCOVERY, NqnError::Discovery),
            (&too_long, NqnError::TooLong(NQN_MAX + 1)),
        ] {
            assert_eq!(bad.parse::<HostNqn>(), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn only_a_last_ro_is_the_option() {
        for (text, nqn, read_only) in [
            ("nqn.a:uuid:1", "nqn.a:uuid:1", false),
            ("nqn.a:uuid:1:ro", "nqn.a:uuid:1", true),
            ("nqn.a:ro:1", "nqn.a:ro:1", false),
            ("nqn.a:ro:ro", "nqn.a:ro", true),
            ("nqn.aro", "nqn.aro", false),
            ("nqn.a:RO", "nqn.a:RO", false),
        ] {
            let grant: Grant = text.parse().unwrap();
            assert_eq!((grant.nqn.as_ref(), grant.read_only), (nqn, read_only), "{text}");
            assert_eq!(grant.to_string(), text);
        }
        assert_eq!(":ro".parse::<Grant>(), Err(NqnError::Empty));
    }
}
