//! The user's copy of the secret: a file that only its owner reads, of which each stick gets the same.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use keys::{Secret, SecretError};
use nix::unistd::{Gid, Uid, getegid, geteuid, setfsgid, setfsuid};
use thiserror::Error;
use zeroize::Zeroizing;

/// The file's name in its folder.
const NAME: &str = "secret";
/// The bits of others in a file's mode, and those to write.
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// Why there is no secret from a file, or none in it. None of these holds the text.
#[derive(Debug, Error)]
pub(crate) enum SecretFileError {
    #[error("failed to {verb} {path}")]
    File { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("{0} is a symbolic link; SECRET=FILE names the file itself")]
    Link(PathBuf),
    #[error("{0} is no file")]
    NoFile(PathBuf),
    #[error("{path} belongs to the user {uid}, who could change it; chown it, or name another: SECRET=FILE")]
    Owner { path: PathBuf, uid: u32 },
    #[error("others could replace what is in {path}: chmod go-w {path}")]
    Folder { path: PathBuf },
    #[error("{path} has no secret in it")]
    Secret { path: PathBuf, source: SecretError },
    #[error("there is no home for a copy of the secret: SECRET=FILE names one that exists, SECRET=none is for none")]
    NoHome,
    #[error("another secret came to {0} just now; run this again to take it")]
    Raced(PathBuf),
    #[error("the kernel does not let this act as the user {uid}")]
    User { uid: u32 },
}

/// The user for whom sticks are written: the one who called sudo, else the one who runs this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Owner {
    /// `uid` and `gid` are `SUDO_UID` and `SUDO_GID`, which count for root alone.
    pub(crate) fn of_sudo(uid: Option<&str>, gid: Option<&str>) -> Self {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
        match (number(uid), number(gid)) {
            (Some(uid), Some(gid)) if geteuid().is_root() => Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) },
            _ => Self { uid: geteuid(), gid: getegid() },
        }
    }

    /// Runs `work` as the owner as far as files go (setfsuid(2)), so that no path of the owner's leads root astray and
    /// all new files are the owner's. Other threads stay what they are.
    fn acting<T>(self, work: impl FnOnce() -> Result<T, SecretFileError>) -> Result<T, SecretFileError> {
        let (uid, gid) = (geteuid(), getegid());
        if self.uid == uid {
            return work();
        }
        // The second call tells whether the first one had an effect.
        let switch = |uid, gid| {
            setfsgid(gid);
            setfsuid(uid);
            (setfsgid(gid), setfsuid(uid)) == (gid, uid)
        };
        let refused = || SecretFileError::User { uid: self.uid.as_raw() };
        let outcome = if switch(self.uid, self.gid) { work() } else { Err(refused()) };
        if switch(uid, gid) { outcome } else { Err(refused()) }
    }

    /// Whether a file of this user is as safe as one of the owner's.
    fn trusts(self, uid: u32) -> bool {
        uid == self.uid.as_raw() || uid == 0
    }
}

/// A secret from a file, and what is wrong with that.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) secret: Secret,
    pub(crate) warning: Option<String>,
}

/// Reads the secret in a file that somebody named.
pub(crate) fn read(path: &Path, owner: Owner) -> Result<Found, SecretFileError> {
    let missing = || SecretFileError::File { verb: "open", path: path.to_owned(), source: ErrorKind::NotFound.into() };
    read_if_there(path, owner)?.ok_or_else(missing)
}

fn read_if_there(path: &Path, owner: Owner) -> Result<Option<Found>, SecretFileError> {
    let failed = |verb, source| SecretFileError::File { verb, path: path.to_owned(), source };
    // Of a pipe, the opening would not end.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(SecretFileError::Link(path.to_owned())),
        Err(error) => return Err(failed("open", error)),
    };
    let metadata = file.metadata().map_err(|error| failed("look at", error))?;
    if !metadata.is_file() {
        return Err(SecretFileError::NoFile(path.to_owned()));
    }
    if !owner.trusts(metadata.uid()) {
        return Err(SecretFileError::Owner { path: path.to_owned(), uid: metadata.uid() });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(settings::SIZE_MAX + 1));
    let mut start = file.take(settings::SIZE_MAX as u64);
    start.read_to_end(&mut text).map_err(|error| failed("read", error))?;
    // The mark of editors on Windows.
    let content = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let secret = Secret::from_base64(content);
    let secret = secret.map_err(|source| SecretFileError::Secret { path: path.to_owned(), source })?;
    let is_open = metadata.mode() & OTHERS != 0;
    let path = path.display();
    let warning =
        is_open.then(|| format!("others than its owner may use {path}, and with it the disks: chmod 600 {path}"));
    Ok(Some(Found { secret, warning }))
}

/// The file in the user's folder, if it is there.
pub(crate) fn read_own(folder: &Path, owner: Owner) -> Result<Option<Found>, SecretFileError> {
    owner.acting(|| match folder.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SecretFileError::File { verb: "look at", path: folder.to_owned(), source }),
        Ok(metadata) if !owner.trusts(metadata.uid()) => {
            Err(SecretFileError::Owner { path: folder.to_owned(), uid: metadata.uid() })
        }
        Ok(metadata) if metadata.mode() & OTHERS_WRITE != 0 => Err(SecretFileError::Folder { path: folder.to_owned() }),
        Ok(_) => read_if_there(&own(folder), owner),
    })
}

/// The file in the user's folder.
pub(crate) fn own(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Keeps a new secret in the user's folder. Whenever this ends, the file is not there, or whole.
pub(crate) fn keep_own(folder: &Path, owner: Owner, secret: &Secret) -> Result<(), SecretFileError> {
    let path = own(folder);
    let failed = |verb, path: &Path| {
        let path = path.to_owned();
        move |source| SecretFileError::File { verb, path, source }
    };
    owner.acting(|| {
        if !folder.exists() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(folder).map_err(failed("make the folder", folder))?;
            // Whatever the umask is.
            fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed("protect", folder))?;
        }
        let mut file =
            tempfile::Builder::new().prefix(".secret-").tempfile_in(folder).map_err(failed("write to", folder))?;
        let write = |file: &mut File| {
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(secret.expose().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        };
        write(file.as_file_mut()).map_err(failed("write", &path))?;
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
                return Err(SecretFileError::Raced(path.clone()));
            }
            Err(error) => return Err(failed("write", &path)(error.error)),
        }
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("write to", folder))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    const TEXT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn me() -> Owner {
        Owner::of_sudo(None, None)
    }

    fn secret() -> Secret {
        Secret::from_base64(TEXT.as_bytes()).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    /// A folder with a file of this text that its owner alone reads.
    fn with(text: &str) -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = own(folder.path());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_new_secret_is_its_owner_s_alone_and_the_next_stick_gets_the_same() {
        let home = TempDir::new().unwrap();
        let folder = home.path().join("config/diskomator");
        assert!(read_own(&folder, me()).unwrap().is_none());
        keep_own(&folder, me(), &secret()).unwrap();
        assert_eq!((mode(&folder), mode(&own(&folder))), (0o700, 0o600));
        let again = read_own(&folder, me()).unwrap().unwrap();
        assert_eq!((&**again.secret.expose(), again.warning), (TEXT, None));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no other file is left");
        // One that is there is never overwritten.
        assert!(matches!(keep_own(&folder, me(), &secret()), Err(SecretFileError::Raced(_))));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_link_in_the_place_of_the_file_is_refused() {
        let (folder, path) = with(TEXT);
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        symlink("elsewhere", &path).unwrap();
        assert!(matches!(read_own(folder.path(), me()), Err(SecretFileError::Link(_))));
        assert!(matches!(read(&path, me()), Err(SecretFileError::Link(_))));
        // One that leads to nothing does not become a file.
        fs::remove_file(folder.path().join("elsewhere")).unwrap();
        assert!(matches!(read_own(folder.path(), me()), Err(SecretFileError::Link(_))));
        assert!(matches!(keep_own(folder.path(), me(), &secret()), Err(SecretFileError::Raced(_))));
        assert!(!folder.path().join("elsewhere").exists());
    }

    #[test]
    fn a_file_that_others_read_is_warned_of() {
        let (folder, path) = with(TEXT);
        for bits in [0o644, 0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            let warning = read_own(folder.path(), me()).unwrap().unwrap().warning.unwrap();
            assert!(warning.contains("chmod 600"), "{warning}");
        }
    }

    #[test]
    fn a_folder_in_which_others_write_is_refused() {
        let (folder, _) = with(TEXT);
        for bits in [0o777, 0o770, 0o1777] {
            fs::set_permissions(folder.path(), Permissions::from_mode(bits)).unwrap();
            assert!(matches!(read_own(folder.path(), me()), Err(SecretFileError::Folder { .. })), "{bits:o}");
        }
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        let (folder, path) = with(TEXT);
        let other = Owner { uid: Uid::from_raw(geteuid().as_raw() + 4711), gid: getegid() };
        let is_root = geteuid().is_root();
        // What root owns is as safe.
        assert_eq!(read_if_there(&path, other).is_ok(), is_root);
        if is_root {
            std::os::unix::fs::chown(&path, Some(4712), None).unwrap();
            assert!(matches!(read(&path, me()), Err(SecretFileError::Owner { uid: 4712, .. })));
        }
        drop(folder);
    }

    #[test]
    fn root_makes_the_files_of_the_user_who_called_sudo() {
        if !geteuid().is_root() {
            assert_eq!(Owner::of_sudo(Some("4711"), Some("4712")), me(), "only root acts for others");
            return;
        }
        let home = TempDir::new().unwrap();
        std::os::unix::fs::chown(home.path(), Some(4711), Some(4712)).unwrap();
        let owner = Owner::of_sudo(Some("4711"), Some("4712"));
        let folder = home.path().join(".config/diskomator");
        keep_own(&folder, owner, &secret()).unwrap();
        for path in [home.path().join(".config"), folder.clone(), own(&folder)] {
            let metadata = path.metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (4711, 4712), "{}", path.display());
        }
        assert!(geteuid().is_root());
        assert_eq!(&**read_own(&folder, owner).unwrap().unwrap().secret.expose(), TEXT);
        // A place that is not the user's stays out of reach.
        let theirs = TempDir::new().unwrap();
        assert!(keep_own(&theirs.path().join("x"), owner, &secret()).is_err());
    }

    #[test]
    fn what_is_no_secret_is_named_by_its_file_and_not_shown() {
        for text in ["", "hunter2", "AAECAwQFBgcICQoLDA0ODw=="] {
            let (folder, path) = with(text);
            let error = read_own(folder.path(), me()).unwrap_err();
            let said = kernel::error::chain(&error);
            assert!(said.contains(path.to_str().unwrap()) && (text.is_empty() || !said.contains(text)), "{said}");
        }
        assert!(matches!(read(Path::new("/nowhere/secret"), me()), Err(SecretFileError::File { .. })));
        assert!(matches!(read(Path::new("/"), me()), Err(SecretFileError::NoFile(_))));
    }

    #[test]
    fn a_secret_from_an_editor_of_windows_is_read() {
        for text in [format!("{TEXT}\r\n"), format!("\u{feff}{TEXT}"), format!(" {TEXT}\n\n")] {
            let (_folder, path) = with(&text);
            assert_eq!(&**read(&path, me()).unwrap().secret.expose(), TEXT, "{text:?}");
        }
    }
}
