//! The machine's secret: from the credential `diskomator.secret`, else random, and then in one file for this boot.

use std::io;

use disks::config::{Config, Secret as Source};
use kernel::error::chain;
use kernel::root::{FileError, Root};
use kernel::{given, process, random};
use keys::{Secret, SecretError};
use settings::SIZE_MAX;
use zeroize::Zeroizing;

/// The file: a line with the origin and one with the secret. The applet `access` alone writes it.
pub(crate) const FILE: &str = "run/access/secret";
/// The credential.
const CREDENTIAL: &str = "diskomator.secret";

/// Where the secret comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Somebody gave it, and has its keys after the next start, too.
    Credential,
    /// It is another one after the next start.
    Random,
}

impl Origin {
    const ALL: [Self; 2] = [Self::Credential, Self::Random];

    /// Its word in the file.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Random => "random",
        }
    }
}

/// The secret of this boot.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) origin: Origin,
    pub(crate) secret: Secret,
}

/// Why there is no secret. No message holds a part of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    #[error("cannot read the machine's secret")]
    Read(#[source] FileError),
    #[error("/{FILE} holds no secret")]
    Broken,
    #[error("the kernel has no random numbers for a secret")]
    Random(#[source] io::Error),
    #[error("cannot keep the machine's secret")]
    Keep(#[source] FileError),
}

/// Why a text is no secret. It never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TextError {
    #[error("it has more than {} KiB", SIZE_MAX >> 10)]
    TooLong,
    #[error("it has {0} lines, and a secret is one")]
    Lines(usize),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// The secret that a file holds, as the credential is read: white space at its ends counts for nothing, nor does the mark
/// with which some editors begin a file.
pub(crate) fn parse(content: &[u8]) -> Result<Secret, TextError> {
    if content.len() > SIZE_MAX {
        return Err(TextError::TooLong);
    }
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let lines = || content.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.trim_ascii().is_empty());
    match lines().count() {
        0 => Ok(Secret::from_base64(b"")?),
        1 => Ok(Secret::from_base64(lines().next().unwrap_or_default())?),
        count => Err(TextError::Lines(count)),
    }
}

/// Keeps the memory of this process, which will hold the secret or keys, out of core dumps.
pub(crate) fn enter() {
    if let Err(error) = process::keep_memory_private() {
        log::warn!("a core dump of this process may hold keys: {error}");
    }
}

/// The secret of this boot; `None` if the applet `access` has not kept one yet.
pub(crate) fn read(root: &Root) -> Result<Option<Kept>, KeptError> {
    let content = match root.read_bytes(FILE) {
        Err(error) if error.io().kind() == io::ErrorKind::NotFound => return Ok(None),
        content => Zeroizing::new(content.map_err(KeptError::Read)?),
    };
    let parsed = || {
        let end = content.iter().position(|byte| *byte == b'\n')?;
        let (word, secret) = content.split_at_checked(end)?;
        let origin = Origin::ALL.into_iter().find(|origin| origin.word().as_bytes() == word)?;
        // The last byte that is written is the newline.
        Some(Kept { origin, secret: Secret::from_base64(secret.strip_suffix(b"\n")?).ok()? })
    };
    parsed().map(Some).ok_or(KeptError::Broken)
}

/// The secret of this boot, which is made and kept if there is none. After a kill it is the same; only where its file is
/// lost or broken, a random one is another.
pub(crate) fn keep(root: &Root, config: &Config) -> Result<Kept, KeptError> {
    match read(root) {
        Ok(Some(kept)) => return Ok(kept),
        Ok(None) => {}
        Err(error) => {
            log::error!("the keys of this boot are lost, unless a credential has the secret: {}", chain(&error));
        }
    }
    let kept = match credential(root, config) {
        Some(secret) => Kept { origin: Origin::Credential, secret },
        None => {
            let mut bytes = Zeroizing::new([0; Secret::SIZE_MIN]);
            random::fill(&mut *bytes).map_err(KeptError::Random)?;
            Kept { origin: Origin::Random, secret: Secret::from_random(&bytes) }
        }
    };
    let secret = kept.secret.expose();
    let mut content = Zeroizing::new(String::with_capacity(secret.len() + 16));
    for part in [kept.origin.word(), "\n", &secret, "\n"] {
        content.push_str(part);
    }
    root.keep(FILE, content.as_bytes()).map_err(KeptError::Keep)?;
    Ok(kept)
}

/// The secret that somebody gave, if it counts.
fn credential(root: &Root, config: &Config) -> Option<Secret> {
    if config.secret != Source::Given {
        return None;
    }
    let text = given::given(root).0.credential(CREDENTIAL)?.ok().map(Zeroizing::new)?;
    parse(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use settings::Settings;

    use super::*;

    const TEXT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn tree(credential: Option<&[u8]>) -> (tempfile::TempDir, Root, Config) {
        let directory = tempfile::tempdir().unwrap();
        for folder in ["run/access", "proc", ".extra/global_credentials"] {
            fs::create_dir_all(directory.path().join(folder)).unwrap();
        }
        fs::write(directory.path().join("proc/cmdline"), "diskomator.access=open\n").unwrap();
        if let Some(content) = credential {
            fs::write(directory.path().join(".extra/global_credentials/diskomator.secret.cred"), content).unwrap();
        }
        let root = Root::at(directory.path());
        let settings: Settings<Config> = given::read(&root).0;
        let said: String = settings.warnings.iter().map(ToString::to_string).collect();
        assert!(!said.contains("AAEC"), "{said}");
        (directory, root, settings.config)
    }

    #[test]
    fn a_secret_is_that_of_the_credential_and_the_same_after_a_kill() {
        for text in [TEXT.to_owned(), format!("{TEXT}\n"), format!("\u{feff} {TEXT}\r\n\r\n")] {
            let (directory, root, config) = tree(Some(text.as_bytes()));
            assert!(read(&root).unwrap().is_none());
            let kept = keep(&root, &config).unwrap();
            assert_eq!((kept.origin, &**kept.secret.expose()), (Origin::Credential, TEXT));
            assert_eq!(config.mode(), access::Mode::Open);
            let mode = fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            // The next run needs the file alone.
            let (_, again) = (fs::remove_dir_all(directory.path().join(".extra")), keep(&root, &config).unwrap());
            assert_eq!((again.origin, again.secret.expose()), (kept.origin, kept.secret.expose()));
        }
    }

    #[test]
    fn a_secret_that_is_refused_is_random_and_closes_the_machine() {
        let (_directory, root, config) = tree(None);
        assert_eq!(config.mode(), access::Mode::Open);
        let kept = keep(&root, &config).unwrap();
        assert_eq!(kept.origin, Origin::Random);
        assert_eq!(read(&root).unwrap().unwrap().secret.expose(), kept.secret.expose());
        let large = vec![b'A'; 1 << 20];
        let two = format!("{TEXT}\n{TEXT}\n");
        for text in
            [&b""[..], b"\n", b"hunter2", b"AAEC", &TEXT.as_bytes()[..43], &large, two.as_bytes(), b"\xff\xfeA\0"]
        {
            let (_directory, root, config) = tree(Some(text));
            assert_eq!(config.mode(), access::Mode::Ask, "{:?}", text.get(..20));
            let other = keep(&root, &config).unwrap();
            assert_eq!(other.origin, Origin::Random);
            assert_ne!(other.secret.expose(), kept.secret.expose());
        }
    }

    #[test]
    fn a_broken_file_is_no_secret_and_is_made_anew() {
        let (directory, root, config) = tree(Some(TEXT.as_bytes()));
        for broken in
            ["", "random", "random\n", &format!("random\n{TEXT}"), &format!("x\n{TEXT}\n"), "credential\nAAAA\n"]
        {
            fs::write(directory.path().join(FILE), broken).unwrap();
            let error = read(&root).unwrap_err();
            assert!(!chain(&error).contains("AAEC"), "{error}");
            assert_eq!(*keep(&root, &config).unwrap().secret.expose(), TEXT);
            assert!(read(&root).unwrap().is_some());
        }
        // Nobody can keep a secret in the place of a directory.
        fs::remove_file(directory.path().join(FILE)).unwrap();
        fs::create_dir_all(directory.path().join(FILE).join("x")).unwrap();
        assert!(matches!(keep(&root, &config), Err(KeptError::Keep(_))));
    }

    #[test]
    fn a_text_is_read_as_the_credential_is() {
        assert_eq!(*parse(format!("  {TEXT} \r\n").as_bytes()).unwrap().expose(), TEXT);
        assert_eq!(parse(&vec![b'A'; SIZE_MAX + 1]).unwrap_err(), TextError::TooLong);
        assert_eq!(parse(format!("{TEXT}\n{TEXT}").as_bytes()).unwrap_err(), TextError::Lines(2));
        assert_eq!(parse(b" \r\n").unwrap_err(), TextError::Secret(SecretError::TooShort(0)));
    }
}
