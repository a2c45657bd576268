//! Whom the machine admits: the setting `access`.

use std::fmt;
use std::str::FromStr;

/// Whom the machine admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every host.
    Open,
    /// Hosts that a setting, a person or a key admits.
    Ask,
    /// Hosts that prove a key.
    Paired,
}

/// The mode without a setting. This line alone changes it.
const DEFAULT: Mode = Mode::Ask;

impl Default for Mode {
    fn default() -> Self {
        DEFAULT
    }
}

impl Mode {
    /// Every mode with its word.
    pub const ALL: [(&'static str, Self); 3] = [("open", Self::Open), ("ask", Self::Ask), ("paired", Self::Paired)];

    /// Its word in the setting.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ask => "ask",
            Self::Paired => "paired",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be open, ask or paired")]
pub struct NoMode;

impl FromStr for Mode {
    type Err = NoMode;

    fn from_str(word: &str) -> Result<Self, NoMode> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, mode)| *mode).ok_or(NoMode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_is_read_from_its_word() {
        for (word, mode) in Mode::ALL {
            assert_eq!((mode.word(), word.parse()), (word, Ok(mode)));
        }
        for word in ["", "Open", "opne", "ask "] {
            assert_eq!(word.parse::<Mode>(), Err(NoMode), "{word}");
        }
    }
}
