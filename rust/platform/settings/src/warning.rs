//! Faults of a setting, in words for the person who gave it.

use std::fmt;

use netproto::addressing::AddressingError;
use netproto::destination::DestinationError;

use super::credential::{SIZE_MAX, Source};
use super::{Product, nearest};
use crate::ssh::KeyError;

/// More of a value is not repeated, in characters.
const SHOWN_MAX: usize = 100;

/// Why something had not the effect that was meant. None of these stops the system from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The word or the credential, as it was given.
    pub what: String,
    /// Where it was given.
    pub source: Source,
    /// The effect that it has instead, if it is not just ignored.
    pub effect: Option<&'static str>,
    /// The fault.
    pub problem: Problem,
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No setting has this name.
    #[error("there is no such setting")]
    Unknown {
        /// The setting that was probably meant.
        nearest: Option<String>,
    },
    /// The setting has no such value.
    #[error("it must be {expected}")]
    Value {
        /// The values that would have been right.
        expected: &'static str,
        /// The value that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The product's own parser refuses the value.
    #[error("{text}")]
    Refused {
        /// Its message.
        text: String,
        /// The value that was probably meant.
        nearest: Option<String>,
    },
    /// It gives no address.
    #[error(transparent)]
    Addressing(#[from] AddressingError),
    /// It is nowhere to send to.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// It is no public key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The setting takes one line.
    #[error("it has {0} lines, and the value is one")]
    Lines(usize),
    /// It is larger than any value.
    #[error("it has more than {} KiB", SIZE_MAX >> 10)]
    TooLong,
    /// It is not UTF-8, or has control characters in it.
    #[error("it is not plain text")]
    NoText,
    /// Nothing here can decrypt it.
    #[error("it is encrypted, and must be the value itself, as plain text")]
    Encrypted,
    /// It was said to be Base64.
    #[error("it is no Base64")]
    NoBase64,
    /// It is there, and the kernel does not give it out.
    #[error("it can't be read: {0}")]
    Unreadable(String),
    /// A source is there, and the kernel does not give it out.
    #[error("{0}")]
    Lost(String),
    /// The kernel keeps only the start of a long command line.
    #[error("the kernel keeps no more than {0} bytes of a command line")]
    Cut(usize),
    /// Words after `--` are not for the kernel.
    #[error("it stands after \"--\", where words are for init")]
    AfterEnd,
    /// It is where everybody can read it.
    #[error("every program can read the command line: give it as a credential")]
    Public,
    /// It could have been changed by anybody.
    #[error("with Secure Boot on, only what is signed counts, such as an addon with this word")]
    Unsigned,
}

impl std::error::Error for Warning {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, source, effect, problem } = self;
        if let Problem::Unknown { .. } = problem {
            write!(f, "unknown setting {:?} {source} is ignored", cut(what))?;
        } else if let Problem::Lost(_) | Problem::Cut(_) = problem {
            let safe = effect.unwrap_or("the defaults count");
            write!(f, "settings {source} may be lost, so {safe}: {problem}")?;
        } else {
            write!(f, "{} {source} {}: {problem}", cut(what), effect.unwrap_or("is ignored"))?;
        }
        let name = what.split('=').next().unwrap_or_default();
        match problem {
            Problem::Unknown { nearest: Some(nearest) } => write!(f, "; did you mean \"{nearest}\"?"),
            Problem::Value { nearest: Some(nearest), .. } => write!(f, "; did you mean \"{name}={nearest}\"?"),
            Problem::Refused { nearest: Some(nearest), .. } => {
                write!(f, "; did you mean {nearest:?}?")
            }
            _ => Ok(()),
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// That no setting has the name that `word`, with or without a value, begins with.
pub(super) fn unknown<C: Product>(word: &str) -> Problem {
    let name = word.split('=').next().unwrap_or(word);
    let setting = name.split_once(['.', '-', '_']).map_or(name, |(_, setting)| setting);
    let nearest = nearest(C::SETTINGS.iter().map(|setting| setting.name), setting);
    Problem::Unknown { nearest: nearest.map(|nearest| format!("{}.{nearest}", C::NAME)) }
}
