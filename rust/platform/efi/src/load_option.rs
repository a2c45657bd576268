//! `EFI_LOAD_OPTION` (3.1.3): what a variable such as `Boot0001` says.

use crate::bytes::{from_text, half, text, word};
use crate::path::Path;

const ACTIVE: u32 = 1;
/// The category of an entry; zero is one to start an operating system by.
const CATEGORY: u32 = 0x1f00;

/// An entry of the firmware's boot menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOption {
    /// Its flags.
    pub attributes: u32,
    /// Its name in the menu.
    pub description: String,
    /// The file to start.
    pub path: Path,
    /// More paths, of no meaning to the firmware.
    pub more_paths: Vec<u8>,
    /// What the file that is started gets.
    pub optional: Vec<u8>,
}

impl LoadOption {
    /// An entry that starts a file, by itself if the order has it.
    pub fn new(description: &str, path: Path) -> Self {
        let description = description.to_owned();
        Self { attributes: ACTIVE, description, path, more_paths: Vec::new(), optional: Vec::new() }
    }

    /// Reads a variable's content; `None` if that is no entry.
    pub fn parse(content: &[u8]) -> Option<Self> {
        let (attributes, length) = (word(content, 0)?, usize::from(half(content, 4)?));
        let rest = content.get(6..)?;
        let (description, end) = text(rest)?;
        let rest = rest.get(end..)?;
        let (paths, optional) = (rest.get(..length)?, rest.get(length..)?);
        let path = Path::parse(paths)?;
        let more_paths = paths.get(path.to_bytes()?.len()..)?.to_vec();
        Some(Self { attributes, description, path, more_paths, optional: optional.to_vec() })
    }

    /// The variable's content; `None` if its paths are too long.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut paths = self.path.to_bytes()?;
        paths.extend(&self.more_paths);
        let mut content = self.attributes.to_le_bytes().to_vec();
        content.extend(u16::try_from(paths.len()).ok()?.to_le_bytes());
        content.extend(from_text(&self.description));
        content.extend(paths);
        content.extend(&self.optional);
        Some(content)
    }

    /// Whether the firmware starts it by itself when its turn comes.
    pub fn is_active(&self) -> bool {
        self.attributes & ACTIVE != 0
    }

    /// Whether it starts an operating system, and not a tool of the firmware such as its setup.
    pub fn is_for_booting(&self) -> bool {
        self.attributes & CATEGORY == 0
    }
}
