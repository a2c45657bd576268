//! Settings from every source that gives them: words of the kernel command
//! line, and credentials. The product names its settings in one table, to which
//! each crate contributes its own.
#![forbid(unsafe_code)]

pub mod base64;
mod credential;
pub mod ssh;
pub mod system;
mod table;
mod warning;

use std::collections::BTreeMap;
use std::fmt;

use netproto::addressing;
use system::System;

pub use credential::{Content, Credential, SIZE_MAX, Source, from_smbios};
pub use table::{Guards, Instead, Setting, boolean, help, markdown};
pub use warning::{Problem, Warning};

/// The kernel's own word for an address.
const KERNEL_IP: &str = "ip";

/// The values of all settings of a product.
pub trait Product: AsRef<System> + AsMut<System> + Clone + fmt::Debug + Default + PartialEq + 'static {
    /// Its name, as in the names of its machines and, before a dot, of its settings.
    const NAME: &'static str;
    /// The table of its settings, sorted by name.
    const SETTINGS: &'static [Setting<Self>];
    /// The effect of a source of settings that can't be read, such as `nothing is exported`.
    const SAFE: &'static str;
    /// The names of settings whose values nobody may see. Only a credential gives them, for every program can read the
    /// kernel's command line, and no warning repeats them.
    const SECRETS: &'static [&'static str] = &[];

    /// The setting with this name, without the prefix.
    fn setting(name: &str) -> Option<&'static Setting<Self>> {
        Self::SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// The setting that `word` names, with the prefix.
    fn setting_of(word: &str) -> Option<&'static Setting<Self>> {
        Self::without_prefix(word).and_then(Self::setting)
    }

    /// The rest of a word that starts with the prefix.
    fn without_prefix(word: &str) -> Option<&str> {
        word.strip_prefix(Self::NAME)?.strip_prefix('.')
    }

    /// The settings of a kernel command line alone, as [`Settings::read`] has them.
    fn from_cmdline(line: &str) -> (Self, Vec<Warning>) {
        let settings = Settings::read(&Given { cmdline: line.to_owned(), ..Given::default() });
        (settings.config, settings.warnings)
    }
}

/// Everything that this machine was given to read settings from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// The kernel command line.
    pub cmdline: String,
    /// The command line that is built into the image.
    pub image_cmdline: String,
    /// Every credential, also those of other programs.
    pub credentials: Vec<Credential>,
    /// Sources of which something is missing, and why. Nobody knows which settings were there.
    pub lost: Vec<(Source, Problem)>,
    /// The boot loader handed over an initrd, and none of it was taken, as nobody signed it.
    pub ignored_initrd: bool,
    /// The firmware starts only what is signed.
    pub secure_boot: bool,
}

impl Given {
    /// The text of a credential, of the strongest source that has one with this
    /// name: of any program, such as `ssh.authorized_keys.root`.
    pub fn credential(&self, name: &str) -> Option<Result<String, Warning>> {
        let credential = self.credentials.iter().filter(|one| one.name == name).max_by_key(|one| one.source)?;
        Some(credential.lines(self.secure_boot).map_err(|problem| Warning {
            what: name.to_owned(),
            source: credential.source,
            effect: None,
            problem,
        }))
    }
}

/// The settings of a product, each with its source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings<C> {
    /// Their values.
    pub config: C,
    /// Settings without the effect that was meant.
    pub warnings: Vec<Warning>,
    /// The values of each setting that a source gives.
    origins: BTreeMap<&'static str, Vec<(String, Source)>>,
}

impl<C: Product> Settings<C> {
    /// Reads the settings from all sources, the weakest first, so that the last
    /// word about a setting counts.
    ///
    /// The image's own words are the weakest source, also where a boot loader put
    /// others in their place. The command line is in the kernel's own syntax: words
    /// are parted by white space, double quotes keep it, and `--` ends what is for
    /// the kernel (`next_arg` in the kernel's `lib/cmdline.c`). A credential's name
    /// is that of the word, its content is the value, and where there is none it is
    /// as if the word had none.
    ///
    /// Words for other programs are ignored. A word with our prefix, or nearly so,
    /// that is no setting gives a warning. Where a
    /// setting may be lost, the disks are safe: nothing is exported, and all is
    /// read-only.
    pub fn read(given: &Given) -> Self {
        let mut settings = Self::default();
        let (line, image) = (words(&given.cmdline), words(&given.image_cmdline));
        settings.take_words(Source::Image, &image);
        settings.take_losses(Source::Image, given);
        for source in Source::CREDENTIALS {
            for credential in given.credentials.iter().filter(|credential| credential.source == source) {
                settings.take_credential(credential, given.secure_boot);
            }
            settings.take_losses(source, given);
        }
        let (before, after) = around(&line, &image);
        settings.take_words(Source::CommandLine, before);
        settings.take_words(Source::CommandLine, after);
        settings.take_losses(Source::CommandLine, given);
        if given.ignored_initrd {
            settings.warn("everything".to_owned(), Source::BootLoader, None, Problem::Unsigned);
        }
        settings
    }

    /// The values of a setting as they could be given, each with its source,
    /// which is `None` where nobody has set it.
    pub fn values(&self, setting: &Setting<C>) -> Vec<(String, Option<Source>)> {
        match self.origins.get(setting.name) {
            Some(values) => values.iter().map(|(value, source)| (value.clone(), Some(*source))).collect(),
            None => (setting.values)(&self.config).into_iter().map(|value| (value, None)).collect(),
        }
    }

    fn take_words(&mut self, source: Source, words: &[String]) {
        let words = words.get(file_name::<C>(words)..).unwrap_or_default();
        let end = words.iter().position(|word| word == END).unwrap_or(words.len());
        for (number, word) in words.iter().enumerate() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            let setting = C::setting_of(name);
            if let Some(setting) = setting.filter(|_| number > end) {
                self.refuse(source, setting, value, Problem::AfterEnd);
            } else if number > end || is_file(word) {
                // Words for init, and the name of a file of the boot loader's.
            } else if name == KERNEL_IP {
                self.take_kernel_ip(source, value.unwrap_or_default());
            } else if let Some(setting) = setting.filter(|setting| C::SECRETS.contains(&setting.name)) {
                self.refuse(source, setting, value, Problem::Public);
            } else if let Some(setting) = setting {
                self.set(source, setting, value);
            } else if is_ours(C::NAME, name) {
                self.warn(word.clone(), source, None, warning::unknown::<C>(word));
            }
        }
    }

    /// Makes the disks safe from what is not known of a source.
    fn take_losses(&mut self, source: Source, given: &Given) {
        for (_, problem) in given.lost.iter().filter(|(lost, _)| *lost == source) {
            let guards = C::SETTINGS.iter().filter_map(|one| Some((one, one.instead.as_ref()?)));
            // No command line has a secret to lose.
            let is_public = matches!(source, Source::Image | Source::CommandLine);
            let guards = guards.filter(|(setting, _)| !is_public || !C::SECRETS.contains(&setting.name));
            for (setting, instead) in guards.filter(|(_, instead)| instead.is_for_losses()) {
                (instead.apply)(&mut self.config);
                self.note(source, setting);
            }
            self.warn(String::new(), source, Some(C::SAFE), problem.clone());
        }
    }

    fn take_credential(&mut self, credential: &Credential, secure_boot: bool) {
        let Credential { name, source, .. } = credential;
        let Some(setting) = C::setting_of(name) else {
            if is_ours(C::NAME, name) {
                self.warn(name.clone(), *source, None, warning::unknown::<C>(name));
            }
            return;
        };
        let text = match credential.text(secure_boot) {
            Ok(text) => text,
            Err(problem) => return self.refuse(*source, setting, None, problem),
        };
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.as_slice() {
            [] => self.set(*source, setting, None),
            [_, _, ..] if !setting.is_list => self.refuse(*source, setting, None, Problem::Lines(lines.len())),
            lines => lines.iter().for_each(|line| self.set(*source, setting, Some(line))),
        }
    }

    fn take_kernel_ip(&mut self, source: Source, value: &str) {
        match (addressing::from_kernel(value), C::setting(KERNEL_IP)) {
            (Ok(Some(address)), Some(setting)) => {
                self.config.as_mut().ip.add(address);
                self.note(source, setting);
            }
            (Err(error), _) => self.warn(format!("{KERNEL_IP}={value:?}"), source, None, error.into()),
            _ => {}
        }
    }

    fn set(&mut self, source: Source, setting: &'static Setting<C>, value: Option<&str>) {
        match (setting.set)(&mut self.config, value) {
            Ok(()) => self.note(source, setting),
            Err(problem) => self.refuse(source, setting, Some(value.unwrap_or_default()), problem),
        }
    }

    fn refuse(&mut self, source: Source, setting: &'static Setting<C>, value: Option<&str>, problem: Problem) {
        let instead = setting.instead.as_ref().filter(|instead| instead.is_for(value));
        if let Some(instead) = instead {
            (instead.apply)(&mut self.config);
            self.note(source, setting);
        }
        let value = value.filter(|_| !C::SECRETS.contains(&setting.name));
        let value = value.map(|value| format!("={value:?}")).unwrap_or_default();
        let what = format!("{}.{}{value}", C::NAME, setting.name);
        self.warn(what, source, instead.map(|instead| instead.effect), problem);
    }

    fn warn(&mut self, what: String, source: Source, effect: Option<&'static str>, problem: Problem) {
        self.warnings.push(Warning { what, source, effect, problem });
    }

    /// Remembers where the values of a setting come from that has just been set.
    fn note(&mut self, source: Source, setting: &'static Setting<C>) {
        let before = self.origins.remove(setting.name).unwrap_or_default();
        let known = |value: &String| before.iter().find(|(known, _)| setting.is_list && known == value).cloned();
        let values = (setting.values)(&self.config).into_iter();
        let after = values.map(|value| known(&value).unwrap_or((value, source))).collect();
        self.origins.insert(setting.name, after);
    }
}

/// The word that ends what is for the kernel.
const END: &str = "--";

/// The words of a line. A quote that nothing closes would hide all words behind it, and so quotes nothing.
fn words(line: &str) -> Vec<String> {
    let (line, open) = match line.rsplit_once('"') {
        Some((line, open)) if line.matches('"').count() % 2 == 0 => (line, open),
        _ => (line, ""),
    };
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars().chain(open.chars()) {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// The words of a line before and after those of the image, which has them as they were built in, or not at all.
fn around<'line>(line: &'line [String], image: &[String]) -> (&'line [String], &'line [String]) {
    if image.is_empty() {
        return (line, &[]);
    }
    match line.windows(image.len()).position(|words| words == image) {
        Some(start) => {
            let (before, rest) = line.split_at_checked(start).unwrap_or_default();
            (before, rest.get(image.len()..).unwrap_or_default())
        }
        None => (line, &[]),
    }
}

/// How many of the words that a boot loader hands over are the name of the file that it started. iPXE has it before
/// what is typed, as the script or the URL has it, with all spaces in it.
fn file_name<C: Product>(words: &[String]) -> usize {
    let is_setting = |word: &String| C::setting_of(word).is_some();
    let words = words.iter().take_while(|word| !is_setting(word) && *word != END && !word.contains('='));
    let mut words = words.enumerate();
    let first = words.next();
    match first.iter().copied().chain(words).find(|(_, word)| is_file(word)) {
        Some((number, _)) => number + 1,
        // `diskomator-257` is no typo, unlike `diskomator.foo` and `diskomater.debug`.
        None => usize::from(first.is_some_and(|(_, word)| {
            let is_typo = !matches!(warning::unknown::<C>(word), Problem::Unknown { nearest: None });
            !is_typo && C::without_prefix(word).is_none()
        })),
    }
}

/// Whether a word is a path or the name of an EFI program, such as `diskomator.efi`, and no setting.
fn is_file(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or(word);
    name.contains(['/', '\\']) || name.to_ascii_lowercase().contains(".efi")
}

/// The one of `known` that was probably meant by `word`.
/// The known word that was probably meant.
pub fn nearest(known: impl Iterator<Item = &'static str>, word: &str) -> Option<&'static str> {
    known
        .map(|known| (strsim::osa_distance(known, word), known))
        .min()
        // One slip in a short word, two in a longer one.
        .filter(|(slips, known)| *slips <= known.len().div_ceil(4).max(1))
        .map(|(_, known)| known)
}

/// `diskomator.x` and `diskomater.debug` are meant for us; `dm_mod.create` is not.
fn is_ours(ours: &str, name: &str) -> bool {
    name.split_once(['.', '-', '_']).is_some_and(|(first, _)| strsim::osa_distance(first, ours) <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_white_space() {
        assert_eq!(words("a \"b c\"  d=\"e f\""), ["a", "b c", "d=e f"]);
    }
}
