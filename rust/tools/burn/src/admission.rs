//! The files on the stick that say whom the machine admits: its mode, its secret, and this machine's NQN.

use std::fmt;

use access::{Grant, HostNqn, Mode};
use disks::config::Config;
use keys::Secret;
use settings::Product;

use crate::fat::FatError;
use crate::layout::Content;

/// The mode of a new stick, if nobody names one.
pub(crate) const DEFAULT_MODE: Mode = Mode::Ask;

/// The folder of the files that this program writes.
const FOLDER: &str = "loader/credentials";
/// The folders in which the boot stub looks (systemd-stub(7), "Companion Files").
const FOLDERS: [&str; 2] = [FOLDER, "EFI/BOOT/BOOTX64.EFI.extra.d"];
/// The ends of a file's name, of which Windows' editor adds the second (`kernel::given`).
const SUFFIXES: [&str; 2] = [".cred", ".cred.txt"];
const ACCESS: &str = "access";
const ALLOW: &str = "allow";
const SECRET: &str = "secret";

/// Whether a file gives one of our settings.
fn gives(setting: &str, file: &str) -> bool {
    let name = format!("{}.{setting}", Config::NAME);
    SUFFIXES.iter().any(|suffix| file.eq_ignore_ascii_case(&format!("{name}{suffix}")))
}

/// Which of the files a stick has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) mode: bool,
    pub(crate) secret: bool,
    pub(crate) allow: bool,
}

impl Found {
    pub(crate) fn on(content: &Content) -> Self {
        let files: Vec<String> = FOLDERS.iter().flat_map(|folder| content.files_in(folder)).collect();
        let has = |setting| files.iter().any(|file| gives(setting, file));
        Self { mode: has(ACCESS), secret: has(SECRET), allow: has(ALLOW) }
    }

    /// The stick is from before there were modes, or nobody chose one.
    pub(crate) const fn is_older(self) -> bool {
        !self.mode && !self.secret
    }
}

/// What is to become of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change<T> {
    /// It stays as it is on the stick, or stays away.
    Stays,
    /// The stick has none afterwards.
    None,
    /// This is its content.
    Is(T),
}

/// The source of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The user's own, which is made if there is none.
    User,
    /// None.
    Nothing,
    /// The one in a file.
    File,
}

/// The changes to all files.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) mode: Change<Mode>,
    pub(crate) secret: Change<Wanted>,
    pub(crate) allow: Change<HostNqn>,
}

impl Plan {
    /// The plan for a stick that has `found` files which are kept, or is new; `None` for a stick that is older and for
    /// which somebody must choose a mode first. `host` is this machine.
    pub(crate) fn new(
        kept: Option<Found>,
        mode: Option<Mode>,
        secret: Option<Wanted>,
        host: Option<HostNqn>,
    ) -> Option<Self> {
        let is_older = kept.is_some_and(Found::is_older);
        let is_new = kept.is_none() || is_older;
        let found = kept.unwrap_or_default();
        let mode = match mode {
            Some(mode) => Change::Is(mode),
            None if is_older => return None,
            None if is_new => Change::Is(DEFAULT_MODE),
            None => Change::Stays,
        };
        let secret = match secret {
            Some(Wanted::Nothing) if found.secret => Change::None,
            Some(Wanted::Nothing) => Change::Stays,
            Some(wanted) => Change::Is(wanted),
            None if is_new => Change::Is(Wanted::User),
            None => Change::Stays,
        };
        let allow = match host {
            Some(host) if is_new && !found.allow => Change::Is(host),
            _ => Change::Stays,
        };
        Some(Self { mode, secret, allow })
    }

    /// Whether a file that was on the stick, by its path, is not kept.
    pub(crate) fn changes(&self, path: &str) -> bool {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let changed = [
            (ACCESS, self.mode != Change::Stays),
            (SECRET, self.secret != Change::Stays),
            (ALLOW, self.allow != Change::Stays),
        ];
        let is_changed = changed.iter().any(|(setting, is_changed)| *is_changed && gives(setting, file));
        is_changed && FOLDERS.iter().any(|one| folder.eq_ignore_ascii_case(one))
    }

    /// Puts the files on the stick. `secret` is the one that the plan wants.
    pub(crate) fn apply(&self, content: &mut Content, secret: Option<&Secret>) -> Result<(), FatError> {
        let mode = match self.mode {
            Change::Is(mode) => Some(Change::Is(mode.to_string())),
            Change::None => Some(Change::None),
            Change::Stays => None,
        };
        let secret = match (&self.secret, secret) {
            (Change::Is(_), Some(secret)) => Some(Change::Is(secret.expose().to_string())),
            (Change::Stays, _) => None,
            _ => Some(Change::None),
        };
        let allow = match &self.allow {
            Change::Is(host) => Some(Change::Is(host.to_string())),
            Change::None => Some(Change::None),
            Change::Stays => None,
        };
        for (setting, change) in [(ACCESS, mode), (SECRET, secret), (ALLOW, allow)] {
            let Some(change) = change else { continue };
            // A file of the other folder or with the other end would count more.
            for folder in FOLDERS {
                content.remove_in(folder, |file| gives(setting, file));
            }
            if let Change::Is(value) = change {
                content.add(&format!("{FOLDER}/{}.{setting}.cred", Config::NAME), format!("{value}\n").as_bytes())?;
            }
        }
        Ok(())
    }
}

/// What the plan means, in lines for a person; `secret` says where the secret is from.
pub(crate) struct Told<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) secret: Option<String>,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.plan.mode {
            Change::Is(Mode::Open) => writeln!(f, "ACCESS=open: every host on its network gets its disks.")?,
            Change::Is(Mode::Ask) => writeln!(
                f,
                "ACCESS=ask: a host gets its disks by a key, by the setting allow, or from a person at the machine."
            )?,
            Change::Is(Mode::Paired) => writeln!(f, "ACCESS=paired: a host gets its disks by a key.")?,
            Change::Stays | Change::None => writeln!(f, "Its mode of access stays what it is on the stick.")?,
        }
        match (&self.plan.secret, &self.secret) {
            (Change::Is(Wanted::User | Wanted::File), Some(secret)) => {
                writeln!(f, "Its secret, of which the keys come, is {secret}.")?;
            }
            (Change::Stays, _) => {}
            _ => writeln!(f, "It has no secret: at each start it makes up another one.")?,
        }
        if let Change::Is(host) = &self.plan.allow {
            let (with, how) = if matches!(self.plan.secret, Change::Is(Wanted::User | Wanted::File)) {
                (" with its keys", "; \"diskomator key\" with --secret prints them")
            } else {
                ("", "")
            };
            writeln!(f, "This machine is admitted{with}, as {host} (/etc/nvme/hostnqn){how}.")?;
        }
        Ok(())
    }
}

/// The NQN in a file as nvme-cli writes it, unless the setting `allow` would read something else from it.
pub(crate) fn host(file: &str) -> Option<HostNqn> {
    let text = file.trim();
    let grant: Grant = text.parse().ok()?;
    (!grant.read_only && text != "none" && !text.contains(',')).then_some(grant.nqn)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:5f7a1d2c-8f3e-4b6a-9c1d-0e2f3a4b5c6d";

    fn own() -> Option<HostNqn> {
        host(HOST)
    }

    fn secret() -> Secret {
        Secret::from_base64(TEXT.as_bytes()).unwrap()
    }

    /// The files of a folder with their contents.
    fn files(content: &Content) -> Vec<(String, String)> {
        let in_folder = |folder: &'static str| {
            content.files_in(folder).into_iter().map(move |file| {
                let text = content.content(&format!("{folder}/{file}")).unwrap();
                (file, String::from_utf8(text.to_vec()).unwrap())
            })
        };
        FOLDERS.into_iter().flat_map(in_folder).collect()
    }

    fn shown(content: &Content) -> Vec<String> {
        files(content).into_iter().map(|(file, text)| format!("{file}: {}", text.trim_end())).collect()
    }

    #[test]
    fn a_new_stick_has_the_usual_mode_the_secret_and_this_machine() {
        let mut content = Content::example("boots");
        let plan = Plan::new(None, None, None, own()).unwrap();
        plan.apply(&mut content, Some(&secret())).unwrap();
        assert_eq!(
            shown(&content),
            [
                format!("diskomator.access.cred: {DEFAULT_MODE}"),
                format!("diskomator.secret.cred: {TEXT}"),
                format!("diskomator.allow.cred: {HOST}"),
            ]
        );
        assert_eq!(Found::on(&content), Found { mode: true, secret: true, allow: true });
        // As the machine reads it.
        let told = Told { plan: &plan, secret: Some("new".to_owned()) }.to_string();
        assert!(told.contains(HOST) && !told.contains(TEXT), "{told}");
    }

    #[test]
    fn a_stick_without_a_secret_has_none() {
        let mut content = Content::example("boots");
        let plan = Plan::new(None, Some(Mode::Open), Some(Wanted::Nothing), None).unwrap();
        plan.apply(&mut content, None).unwrap();
        assert_eq!(shown(&content), ["diskomator.access.cred: open"]);
    }

    fn stick(files: &[(&str, &str)]) -> Content {
        let mut content = Content::example("boots");
        for (path, text) in files {
            content.add(path, text.as_bytes()).unwrap();
        }
        content
    }

    #[test]
    fn what_is_kept_stays_as_it_is() {
        for files in [
            &[("loader/credentials/diskomator.access.cred", "open")][..],
            &[("loader/credentials/Diskomator.Secret.CRED", "x")],
            &[("EFI/BOOT/BOOTX64.EFI.extra.d/diskomator.access.cred.txt", "paired")],
        ] {
            let mut content = stick(files);
            let before = shown(&content);
            let plan = Plan::new(Some(Found::on(&content)), None, None, own()).unwrap();
            plan.apply(&mut content, None).unwrap();
            assert_eq!(shown(&content), before);
        }
    }

    #[test]
    fn a_named_mode_and_secret_are_in_place_of_those_that_are_kept() {
        let mut content = stick(&[
            ("EFI/BOOT/BOOTX64.EFI.extra.d/diskomator.access.cred", "open"),
            ("loader/credentials/DISKOMATOR.ACCESS.CRED.TXT", "open"),
            ("loader/credentials/diskomator.secret.cred", "x"),
            ("loader/credentials/diskomator.allow.cred", "nqn.other"),
            ("loader/credentials/diskomator.log.cred", "debug"),
        ]);
        let found = Found::on(&content);
        let plan = Plan::new(Some(found), Some(Mode::Paired), Some(Wanted::File), own()).unwrap();
        plan.apply(&mut content, Some(&secret())).unwrap();
        for (path, is_changed) in [
            ("EFI/BOOT/BOOTX64.EFI.extra.d/diskomator.access.cred", true),
            ("loader/credentials/DISKOMATOR.SECRET.CRED.TXT", true),
            ("loader/credentials/diskomator.allow.cred", false),
            ("loader/credentials/diskomator.log.cred", false),
            ("diskomator.access.cred", false),
        ] {
            assert_eq!(plan.changes(path), is_changed, "{path}");
        }
        let mut now = shown(&content);
        now.sort();
        assert_eq!(
            now,
            [
                "diskomator.access.cred: paired".to_owned(),
                "diskomator.allow.cred: nqn.other".to_owned(),
                "diskomator.log.cred: debug".to_owned(),
                format!("diskomator.secret.cred: {TEXT}"),
            ]
        );
        let plan = Plan::new(Some(Found::on(&content)), None, Some(Wanted::Nothing), own()).unwrap();
        plan.apply(&mut content, None).unwrap();
        assert_eq!(Found::on(&content), Found { mode: true, secret: false, allow: true });
    }

    #[test]
    fn for_an_older_stick_somebody_chooses_the_mode() {
        let mut content = stick(&[("loader/credentials/diskomator.allow.cred", "nqn.other"), ("own.txt", "x")]);
        let found = Found::on(&content);
        assert!(found.is_older());
        assert!(Plan::new(Some(found), None, None, own()).is_none());
        assert!(Plan::new(Some(found), None, Some(Wanted::Nothing), own()).is_none());
        let plan = Plan::new(Some(found), Some(Mode::Ask), None, own()).unwrap();
        assert_eq!(plan.secret, Change::Is(Wanted::User));
        plan.apply(&mut content, Some(&secret())).unwrap();
        assert!(shown(&content).contains(&"diskomator.allow.cred: nqn.other".to_owned()));
        assert_eq!(Found::on(&content), Found { mode: true, secret: true, allow: true });
    }

    #[test]
    fn this_machine_is_named_only_if_the_setting_reads_the_same_name() {
        assert_eq!(host(&format!("{HOST}\n")).unwrap().as_ref(), HOST);
        for text in ["", "none", "nqn.a:ro", "nqn.a,nqn.b", "nqn a", "../x", "nqn.a\nnqn.b"] {
            assert_eq!(host(text), None, "{text:?}");
        }
    }
}
