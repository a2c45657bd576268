//! The kernel's pseudo-files, below a root that a test can move.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where `/sys`, `/proc`, `/dev` and configfs are found: `/`, or a tree that
/// a test laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

/// An operation on a file, and the kernel's error.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file could not be read.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A value could not be written.
    #[error("failed to write {value:?} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file that only its owner may read could not be put in place. Its content is nobody's business.
    #[error("failed to write {path}")]
    Keep {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A directory could not be made.
    #[error("failed to make the directory {path}")]
    MakeDir {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A directory could not be removed.
    #[error("failed to remove the directory {path}")]
    RemoveDir {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A symbolic link could not be made.
    #[error("failed to link {path} to {target}")]
    Link {
        /// The link.
        path: PathBuf,
        /// The path that it should point to.
        target: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A symbolic link could not be removed.
    #[error("failed to remove the link {path}")]
    Unlink {
        /// The link.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A device could not be protected from writes, or the protection not lifted.
    #[error("failed to make {path} {}", if *.read_only { "read-only" } else { "writable" })]
    Protect {
        /// The device.
        path: PathBuf,
        /// The state that was wanted.
        read_only: bool,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A directory could not be listed.
    #[error("failed to list {path}")]
    List {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl FileError {
    /// The kernel's error.
    pub fn io(&self) -> &io::Error {
        match self {
            Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Keep { source, .. }
            | Self::MakeDir { source, .. }
            | Self::RemoveDir { source, .. }
            | Self::Link { source, .. }
            | Self::Unlink { source, .. }
            | Self::Protect { source, .. }
            | Self::List { source, .. } => source,
        }
    }
}

impl Default for Root {
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl Root {
    /// A root below `path`, for tests.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where `path`, relative to the root, really is.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    /// A text file's content without white space at its ends. Bytes that are
    /// not UTF-8, which serial numbers do contain, become U+FFFD.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<String, FileError> {
        let bytes = self.read_bytes(path)?;
        Ok(String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
    }

    /// The text of a file that may not be there; `None` too if it is empty.
    pub fn value(&self, path: impl AsRef<Path>) -> Option<String> {
        self.read(path).ok().filter(|value| !value.is_empty())
    }

    /// A file's content.
    pub fn read_bytes(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, FileError> {
        let is_attribute = path.as_ref().starts_with("sys");
        let path = self.path(path);
        let content = if is_attribute { read_attribute(&path) } else { fs::read(&path) };
        content.map_err(|source| FileError::Read { path, source })
    }

    /// Writes `value` with one system call to a file that exists.
    pub fn write(&self, path: impl AsRef<Path>, value: &str) -> Result<(), FileError> {
        let path = self.path(path);
        let attempt = || {
            let mut file = fs::OpenOptions::new().write(true).truncate(true).open(&path)?;
            io::Write::write_all(&mut file, value.as_bytes())
        };
        attempt().map_err(|source| FileError::Write { path: path.clone(), value: value.to_owned(), source })
    }

    /// The same for a value that is nobody's business: no error repeats it, and no other user may read the file.
    pub fn write_secret(&self, path: impl AsRef<Path>, value: &str) -> Result<(), FileError> {
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path(&path), mode)
            .map_err(|source| FileError::Keep { path: self.path(&path), source })?;
        self.write(path, value).map_err(|error| match error {
            FileError::Write { path, source, .. } => FileError::Keep { path, source },
            other => other,
        })
    }

    /// Puts a file in place that only its owner may read. A reader finds
    /// the former content, or all of the new one.
    pub fn keep(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<(), FileError> {
        let path = self.path(path);
        let mut new = path.clone().into_os_string();
        new.push(".new");
        let attempt = || {
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            io::Write::write_all(&mut file, content.as_ref())?;
            fs::rename(&new, &path)
        };
        attempt().map_err(|source| FileError::Keep { path: path.clone(), source })
    }

    /// Makes a directory that only its owner may look into, if there is none.
    pub fn keep_dir(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        let path = self.path(path);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| FileError::MakeDir { path, source })
    }

    /// Whether another user than root and this one owns a file or directory, or others may write to it.
    pub fn is_open_to_others(&self, path: impl AsRef<Path>) -> Result<bool, FileError> {
        const WRITABLE: u32 = 0o022;
        let path = self.path(path);
        let attempt = || Ok((fs::metadata(&path)?, fs::metadata("/proc/self")?));
        let (found, us) = attempt().map_err(|source| FileError::Read { path: path.clone(), source })?;
        let is_trusted = found.uid() == 0 || found.uid() == us.uid();
        Ok(!is_trusted || found.mode() & WRITABLE != 0)
    }

    /// Makes a directory.
    pub fn make_dir(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        let path = self.path(path);
        fs::create_dir(&path).map_err(|source| FileError::MakeDir { path, source })
    }

    /// Removes an empty directory; in configfs, an item.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        let path = self.path(path);
        fs::remove_dir(&path).map_err(|source| FileError::RemoveDir { path, source })
    }

    /// Makes the symbolic link `path` point to `target`, both below the root.
    pub fn link(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<(), FileError> {
        let (target, path) = (self.path(target), self.path(path));
        std::os::unix::fs::symlink(&target, &path).map_err(|source| FileError::Link { path, target, source })
    }

    /// Makes the symbolic link `path` hold `target` to the letter.
    pub fn link_relative(&self, target: impl Into<PathBuf>, path: impl AsRef<Path>) -> Result<(), FileError> {
        let (target, path) = (target.into(), self.path(path));
        std::os::unix::fs::symlink(&target, &path).map_err(|source| FileError::Link { path, target, source })
    }

    /// Removes a symbolic link, or a file.
    pub fn unlink(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        let path = self.path(path);
        fs::remove_file(&path).map_err(|source| FileError::Unlink { path, source })
    }

    /// Gives a file its name.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), FileError> {
        let path = self.path(to);
        fs::rename(self.path(from), &path).map_err(|source| FileError::Keep { path, source })
    }

    /// The names in a directory, sorted.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<String>, FileError> {
        let path = self.path(path);
        let attempt = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&path)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort_unstable();
            Ok(names)
        };
        attempt().map_err(|source| FileError::List { path: path.clone(), source })
    }

    /// The path, relative to the root, that `path` leads to once every
    /// symbolic link is followed.
    pub fn resolve(&self, path: impl AsRef<Path>) -> Result<PathBuf, FileError> {
        let path = self.path(path);
        let attempt = || {
            let (target, root) = (path.canonicalize()?, self.0.canonicalize()?);
            Ok(target.strip_prefix(&root).map_or(target.clone(), Path::to_path_buf))
        };
        attempt().map_err(|source| FileError::Read { path: path.clone(), source })
    }

    /// Whether `path` exists.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }
}

/// An attribute of sysfs or configfs comes whole with the first read, unless it
/// has more than a page (the kernel's `Documentation/filesystems/sysfs.rst`).
/// With many disks there are thousands of them.
fn read_attribute(path: &Path) -> io::Result<Vec<u8>> {
    const PAGE: usize = 4096;
    let mut file = fs::File::open(path)?;
    let mut content = vec![0; PAGE];
    let length = loop {
        match file.read(&mut content) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            length => break length?,
        }
    };
    content.truncate(length);
    if length == PAGE {
        file.read_to_end(&mut content)?;
    }
    Ok(content)
}
