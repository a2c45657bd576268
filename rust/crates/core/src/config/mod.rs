//! Settings, from wherever they are given: words of the kernel command line,
//! and credentials.

mod credential;
mod table;
mod warning;

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::addressing::{self, Addressing};
use crate::destination::Destination;
use crate::selection::Selection;
use crate::ssh::Access;

pub use credential::{Content, Credential, SIZE_MAX, Source, from_smbios};
pub use table::{SETTINGS, Setting, help, markdown};
pub use warning::{Problem, Warning};

/// What every setting's name starts with.
pub const PREFIX: &str = "diskomator.";

/// The kernel's own word for an address.
const KERNEL_IP: &str = "ip";

/// The settings of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `diskomator.log=LEVEL`: what the daemons write to the kernel's log.
    pub log: LogLevel,
    /// `diskomator.debug`: a root shell on the serial console.
    pub debug: bool,
    /// `diskomator.export=DISKS`: which disks are exported by themselves. What
    /// is exported by hand stays exported.
    pub export: Selection,
    /// `diskomator.readonly=DISKS`: which disks hosts may only read.
    pub readonly: Selection,
    /// `diskomator.partitions=DISKS`: of which disks each partition is
    /// exported, and not the disk itself.
    pub partitions: Selection,
    /// `diskomator.passthru=DISKS`: which NVMe disks hosts get with their
    /// controller, rather than as a namespace of ours.
    pub passthru: Selection,
    /// `diskomator.ip=[DEV:]ADDR/PREFIX[,GATEWAY]`, as often as needed, and the
    /// kernel's `ip=`: which links have which addresses, or none by themselves.
    pub ip: Addressing,
    /// `diskomator.name=NAME`: the machine's name, if it is not made of its
    /// hardware address.
    pub name: Option<String>,
    /// `diskomator.syslog=ADDRESS[:PORT]`: who gets the log.
    pub syslog: Option<Destination>,
    /// `diskomator.netconsole=ADDRESS[:PORT]`: who gets the kernel's last words.
    pub netconsole: Option<Destination>,
    /// `diskomator.ssh[=KEY]`, as often as needed: whether the machine listens
    /// for SSH, and who may log in.
    pub ssh: Access,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: LogLevel::Info,
            debug: false,
            export: Selection::all(),
            readonly: Selection::none(),
            partitions: Selection::none(),
            passthru: Selection::none(),
            ip: Addressing::default(),
            name: None,
            syslog: None,
            netconsole: None,
            ssh: Access::default(),
        }
    }
}

impl Config {
    /// The settings of a kernel command line alone, as [`Settings::read`] has them.
    pub fn from_cmdline(line: &str) -> (Self, Vec<Warning>) {
        let settings = Settings::read(&Given { cmdline: line.to_owned(), ..Given::default() });
        (settings.config, settings.warnings)
    }
}

/// How much is logged, from little to much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what is odd.
    Warn,
    /// Also each change of state, once.
    Info,
    /// Also why: packets dropped, events ignored.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Every level with the word that selects it.
    pub const ALL: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl FromStr for LogLevel {
    type Err = Problem;

    fn from_str(word: &str) -> Result<Self, Problem> {
        let found = Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, level)| *level);
        found.ok_or_else(|| Problem::Value {
            expected: "error, warn, info, debug or trace",
            nearest: nearest(Self::ALL.iter().map(|(known, _)| *known), word),
        })
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

/// The settings with where they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Their values.
    pub config: Config,
    /// What had not the effect that was meant.
    pub warnings: Vec<Warning>,
    /// The values of each setting that somebody has set.
    origins: BTreeMap<&'static str, Vec<(String, Source)>>,
}

impl Settings {
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
    /// What is for other programs is none of our business. What carries our
    /// prefix, or nearly carries it, and means nothing gives a warning. Where a
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
    pub fn values(&self, setting: &Setting) -> Vec<(String, Option<Source>)> {
        match self.origins.get(setting.name) {
            Some(values) => values.iter().map(|(value, source)| (value.clone(), Some(*source))).collect(),
            None => (setting.values)(&self.config).into_iter().map(|value| (value, None)).collect(),
        }
    }

    fn take_words(&mut self, source: Source, words: &[String]) {
        let words = words.get(file_name(words)..).unwrap_or_default();
        let end = words.iter().position(|word| word == END).unwrap_or(words.len());
        for (number, word) in words.iter().enumerate() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            let setting = name.strip_prefix(PREFIX).and_then(Setting::find);
            if let Some(setting) = setting.filter(|_| number > end) {
                self.refuse(source, setting, value, Problem::AfterEnd);
            } else if number > end || is_file(word) {
                // Words for init, and the name of a file of the boot loader's.
            } else if name == KERNEL_IP {
                self.take_kernel_ip(source, value.unwrap_or_default());
            } else if let Some(setting) = setting {
                self.set(source, setting, value);
            } else if is_ours(name) {
                self.warn(word.clone(), source, None, warning::unknown(word, names()));
            }
        }
    }

    /// Makes the disks safe from what is not known of a source.
    fn take_losses(&mut self, source: Source, given: &Given) {
        for (_, problem) in given.lost.iter().filter(|(lost, _)| *lost == source) {
            let guards = SETTINGS.iter().filter_map(|one| Some((one, one.instead.as_ref()?)));
            for (setting, instead) in guards.filter(|(_, instead)| instead.is_for_losses()) {
                (instead.apply)(&mut self.config);
                self.note(source, setting);
            }
            self.warn(String::new(), source, None, problem.clone());
        }
    }

    fn take_credential(&mut self, credential: &Credential, secure_boot: bool) {
        let Credential { name, source, .. } = credential;
        let Some(setting) = name.strip_prefix(PREFIX).and_then(Setting::find) else {
            if is_ours(name) {
                self.warn(name.clone(), *source, None, warning::unknown(name, names()));
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
        match (addressing::from_kernel(value), Setting::find("ip")) {
            (Ok(Some(address)), Some(setting)) => {
                self.config.ip.add(address);
                self.note(source, setting);
            }
            (Err(error), _) => self.warn(format!("{KERNEL_IP}={value:?}"), source, None, error.into()),
            _ => {}
        }
    }

    fn set(&mut self, source: Source, setting: &'static Setting, value: Option<&str>) {
        match (setting.set)(&mut self.config, value) {
            Ok(()) => self.note(source, setting),
            Err(problem) => self.refuse(source, setting, Some(value.unwrap_or_default()), problem),
        }
    }

    fn refuse(&mut self, source: Source, setting: &'static Setting, value: Option<&str>, problem: Problem) {
        let instead = setting.instead.as_ref().filter(|instead| instead.is_for(value));
        if let Some(instead) = instead {
            (instead.apply)(&mut self.config);
            self.note(source, setting);
        }
        let value = value.map(|value| format!("={value:?}")).unwrap_or_default();
        let what = format!("{PREFIX}{}{value}", setting.name);
        self.warn(what, source, instead.map(|instead| instead.effect), problem);
    }

    fn warn(&mut self, what: String, source: Source, effect: Option<&'static str>, problem: Problem) {
        self.warnings.push(Warning { what, source, effect, problem });
    }

    /// Remembers where the values of a setting come from that has just been set.
    fn note(&mut self, source: Source, setting: &'static Setting) {
        let before = self.origins.remove(setting.name).unwrap_or_default();
        let known = |value: &String| before.iter().find(|(known, _)| setting.is_list && known == value).cloned();
        let values = (setting.values)(&self.config).into_iter();
        let after = values.map(|value| known(&value).unwrap_or((value, source))).collect();
        self.origins.insert(setting.name, after);
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.name)
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
fn file_name(words: &[String]) -> usize {
    let is_setting = |word: &String| word.strip_prefix(PREFIX).and_then(Setting::find).is_some();
    let words = words.iter().take_while(|word| !is_setting(word) && *word != END && !word.contains('='));
    let mut words = words.enumerate();
    let first = words.next();
    match first.iter().copied().chain(words).find(|(_, word)| is_file(word)) {
        Some((number, _)) => number + 1,
        // `diskomator-257` is no typo, unlike `diskomator.foo` and `diskomater.debug`.
        None => usize::from(first.is_some_and(|(_, word)| {
            let is_typo = !matches!(warning::unknown(word, names()), Problem::Unknown { nearest: None });
            !is_typo && !word.starts_with(PREFIX)
        })),
    }
}

/// Whether a word is a path or the name of an EFI program, such as `diskomator.efi`, and no setting.
fn is_file(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or(word);
    name.contains(['/', '\\']) || name.to_ascii_lowercase().contains(".efi")
}

/// The one of `known` that was probably meant by `word`.
fn nearest(known: impl Iterator<Item = &'static str>, word: &str) -> Option<&'static str> {
    known
        .map(|known| (strsim::osa_distance(known, word), known))
        .min()
        // One slip in a short word, two in a longer one.
        .filter(|(slips, known)| *slips <= known.len().div_ceil(4).max(1))
        .map(|(_, known)| known)
}

/// `diskomator.x` and `diskomater.debug` are meant for us; `dm_mod.create` is not.
fn is_ours(name: &str) -> bool {
    let ours = PREFIX.trim_end_matches('.');
    name.split_once(['.', '-', '_']).is_some_and(|(first, _)| strsim::osa_distance(first, ours) <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(line: &str) -> Vec<String> {
        Config::from_cmdline(line).1.iter().map(ToString::to_string).collect()
    }

    fn credential(source: Source, name: &str, content: &str) -> Credential {
        Credential { name: name.to_owned(), source, content: Content::Plain(content.as_bytes().to_vec()) }
    }

    fn shown(settings: &Settings, name: &str) -> Vec<(String, Option<Source>)> {
        settings.values(Setting::find(name).unwrap())
    }

    #[test]
    fn an_empty_line_gives_the_defaults() {
        assert_eq!(Config::from_cmdline(""), (Config::default(), vec![]));
    }

    #[test]
    fn the_last_of_two_equal_settings_counts() {
        // So that a word from outside the image overrides the one that is built into it.
        let first = "diskomator.log=error diskomator.export=none diskomator.debug";
        let last = "diskomator.log=trace diskomator.export=all diskomator.debug=no";
        let (config, warnings) = Config::from_cmdline(&format!("{first} x {last}"));
        assert_eq!(config, Config { log: LogLevel::Trace, ..Config::default() });
        assert_eq!(warnings, vec![]);
        let (config, warnings) = Config::from_cmdline(&format!("{last} x {first}"));
        assert_eq!(
            config,
            Config { log: LogLevel::Error, debug: true, export: Selection::none(), ..Config::default() }
        );
        assert_eq!(warnings, vec![]);
    }

    #[test]
    fn a_value_that_means_nothing_exports_no_disk_and_overrides_no_other_setting() {
        for line in ["diskomator.export=al", "diskomator.export", "diskomator.export=all diskomator.export=non"] {
            let (config, warnings) = Config::from_cmdline(line);
            assert_eq!((config.export, warnings.len()), (Selection::none(), 1), "{line}");
        }
        let (config, warnings) = Config::from_cmdline("diskomator.log=error diskomator.log=eror");
        assert_eq!((config.log, warnings.len()), (LogLevel::Error, 1));
    }

    #[test]
    fn a_way_to_a_shell_is_closed_by_a_word_that_means_nothing() {
        for word in ["of", "noo", "none", "disabled", ""] {
            let (config, warnings) = Config::from_cmdline(&format!("diskomator.debug diskomator.debug={word}"));
            assert!(!config.debug, "{word}");
            let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
            assert!(warning.to_string().contains("gives no shell on the serial console"), "{warning}");

            let (config, warnings) = Config::from_cmdline(&format!("diskomator.ssh diskomator.ssh={word}"));
            assert!(!config.ssh.is_on, "{word}");
            let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
            assert!(warning.to_string().contains("turns SSH off"), "{warning}");
        }
    }

    #[test]
    fn a_broken_key_locks_nobody_else_out() {
        for broken in
            ["ssh-ed25519", "\"ssh-ed25519 AAAA\"", "\"from=10.0.0.1 ssh-ed25519 AAAA\"", "AAAAC3NzaC1lZDI1NTE5"]
        {
            let (config, warnings) = Config::from_cmdline(&format!("diskomator.ssh diskomator.ssh={broken}"));
            assert!(config.ssh.is_on, "{broken}");
            assert_eq!(warnings.len(), 1, "{broken}");
        }
    }

    #[test]
    fn a_switch_takes_the_usual_words() {
        for (line, on) in
            [("diskomator.debug", true), ("diskomator.debug=yes", true), ("diskomator.debug diskomator.debug=0", false)]
        {
            assert_eq!(Config::from_cmdline(line).0.debug, on, "{line}");
        }
    }

    #[test]
    fn a_typo_is_named_with_the_nearest_right_word() {
        assert_eq!(
            warnings("quiet diskomator.lgo=debug console=ttyS0 root=/dev/sda1 dm_mod.create=x"),
            ["unknown setting \"diskomator.lgo=debug\" on the kernel command line is ignored; \
              did you mean \"diskomator.log\"?"]
        );
        assert_eq!(
            warnings("diskomater.debug"),
            ["unknown setting \"diskomater.debug\" on the kernel command line is ignored; \
              did you mean \"diskomator.debug\"?"]
        );
        assert_eq!(
            warnings("diskomator.exprot=none"),
            ["unknown setting \"diskomator.exprot=none\" on the kernel command line is ignored; \
              did you mean \"diskomator.export\"?"]
        );
        assert_eq!(warnings("diskomator-log=debug diskomator.debgu").len(), 2,);
        assert_eq!(
            warnings("diskomator.foo"),
            ["unknown setting \"diskomator.foo\" on the kernel command line is ignored"]
        );
        assert_eq!(
            warnings("diskomator.frobnicate"),
            ["unknown setting \"diskomator.frobnicate\" on the kernel command line is ignored"]
        );
    }

    #[test]
    fn a_bad_value_says_what_would_be_right() {
        assert_eq!(
            warnings("diskomator.log=loud"),
            ["diskomator.log=\"loud\" on the kernel command line is ignored: \
              it must be error, warn, info, debug or trace"]
        );
        assert_eq!(warnings("diskomator.log").len(), 1);
        assert_eq!(
            warnings("diskomator.export=non"),
            ["diskomator.export=\"non\" on the kernel command line exports nothing: \
              \"non\" is neither a keyword nor the name of a disk; did you mean \"none\"?"]
        );
        assert_eq!(
            warnings("diskomator.export"),
            ["diskomator.export=\"\" on the kernel command line exports nothing: a pattern is empty"]
        );
        assert_eq!(
            warnings("diskomator.readonly=yse"),
            ["diskomator.readonly=\"yse\" on the kernel command line makes all disks read-only: \
              \"yse\" is neither a keyword nor the name of a disk"]
        );
    }

    #[test]
    fn disks_are_chosen_by_patterns() {
        let (config, warnings) = Config::from_cmdline(
            "diskomator.export=nvme*,!size<1G \"diskomator.readonly=model:A B\" diskomator.partitions",
        );
        assert_eq!(warnings, vec![]);
        assert_eq!(config.export.to_string(), "nvme*,!size<1G");
        assert_eq!(config.readonly.to_string(), "model:A B");
        assert_eq!(config.partitions, Selection::all());
        for (line, readonly) in [
            ("diskomator.readonly", Selection::all()),
            ("diskomator.readonly=yes", Selection::all()),
            ("diskomator.readonly diskomator.readonly=0", Selection::none()),
            ("diskomator.readonly=", Selection::all()),
        ] {
            assert_eq!(Config::from_cmdline(line).0.readonly, readonly, "{line}");
        }
    }

    #[test]
    fn addresses_add_up_and_typos_in_them_are_named() {
        let line = "diskomator.ip=eth0:192.0.2.7/24,192.0.2.1 ip=dhcp diskomator.ip=eth1:off \
                    ip=198.51.100.7:::255.255.255.0::eth2:none";
        let (config, none) = Config::from_cmdline(line);
        let settings: Vec<String> = config.ip.settings().map(ToString::to_string).collect();
        assert_eq!(settings, ["eth0:192.0.2.7/24,192.0.2.1", "eth1:off", "eth2:198.51.100.7/24"]);
        assert_eq!(none, vec![]);
        assert_eq!(
            warnings("diskomator.ip=eth0:192.0.2.7 diskomator.ip ip=192.0.2.7:::255.0.255.0 diskomator.pi=off"),
            [
                "diskomator.ip=\"eth0:192.0.2.7\" on the kernel command line is ignored: \
                 192.0.2.7 needs the length of its network's prefix, as in 192.0.2.7/24",
                "diskomator.ip=\"\" on the kernel command line is ignored: \
                 \"\" is neither ADDRESS/PREFIX nor off or dhcp",
                "ip=\"192.0.2.7:::255.0.255.0\" on the kernel command line is ignored: \
                 \"255.0.255.0\" is no prefix length, nor a network mask",
                "unknown setting \"diskomator.pi=off\" on the kernel command line is ignored; \
                 did you mean \"diskomator.ip\"?",
            ]
        );
    }

    #[test]
    fn quotes_keep_white_space_and_two_dashes_end_the_line() {
        assert_eq!(words("a \"b c\"  d=\"e f\""), ["a", "b c", "d=e f"]);
        let (config, warnings) = Config::from_cmdline("a -- diskomator.debug diskomator.name=x y diskomator-z");
        assert_eq!((config, warnings.len()), (Config::default(), 2));
    }

    #[test]
    fn a_setting_among_the_words_for_init_is_named_and_leaves_the_disks_safe() {
        let (config, warnings) = Config::from_cmdline("quiet -- diskomator.export=sda diskomator.readonly=sda");
        assert_eq!((config.export, config.readonly), (Selection::none(), Selection::all()));
        assert_eq!(
            warnings[0].to_string(),
            "diskomator.export=\"sda\" on the kernel command line exports nothing: \
             it stands after \"--\", where words are for init"
        );
        // Those that end the image's own words end no others.
        let given = Given {
            cmdline: "quiet -- x diskomator.export=none".to_owned(),
            image_cmdline: "quiet -- x".to_owned(),
            ..Given::default()
        };
        let settings = Settings::read(&given);
        assert_eq!(
            (shown(&settings, "export"), settings.warnings.len()),
            (vec![("none".to_owned(), Some(Source::CommandLine))], 0)
        );
    }

    #[test]
    fn a_quote_that_nothing_closes_hides_no_setting() {
        for line in [
            "my\"file.efi diskomator.export=none",
            "\"diskomator.export=none",
            "diskomator.export=\"none",
            "x=\"a b\" y=\"c diskomator.export=none",
            "diskomator.export=none \"",
        ] {
            assert_eq!(Config::from_cmdline(line).0.export, Selection::none(), "{line}");
        }
    }

    #[test]
    fn the_image_s_words_count_whatever_a_boot_loader_puts_in_their_place() {
        let image = "console=tty0 console=ttyS0 diskomator.export=none diskomator.readonly=sda";
        for (cmdline, readonly) in [
            // In their place.
            (String::new(), "sda"),
            ("diskomator.efi".to_owned(), "sda"),
            ("http://192.0.2.1/a%20b/diskomator.efi?x=1 diskomator.readonly=sdb quiet".to_owned(), "sdb"),
            ("BOOT_IMAGE=(hd0,gpt1)/diskomator.efi initrd=diskomator.cred diskomator.readonly=sdb".to_owned(), "sdb"),
            ("my diskomator-1.2 image.EFI diskomator.readonly=sdb".to_owned(), "sdb"),
            ("diskomator-257 diskomator.readonly=sdb".to_owned(), "sdb"),
            ("\\EFI\\Linux\\diskomator.efi diskomator.readonly=sdb".to_owned(), "sdb"),
            // With only some of them.
            ("console=ttyS0 diskomator.export=none diskomator.readonly=sdb".to_owned(), "sdb"),
            // Before and after them.
            (format!("diskomator.efi {image}"), "sda"),
            (format!("{image} diskomator.efi"), "sda"),
            (format!("diskomator.efi {image} diskomator.readonly=sdb"), "sdb"),
            (format!("diskomator.readonly=sdb {image}"), "sdb"),
            (format!("{image} diskomator.efi diskomator.readonly=sdb"), "sdb"),
        ] {
            let given = Given { cmdline: cmdline.clone(), image_cmdline: image.to_owned(), ..Given::default() };
            let settings = Settings::read(&given);
            assert_eq!(settings.warnings, [], "{cmdline}");
            assert_eq!(shown(&settings, "export")[0].0, "none", "{cmdline}");
            let source = if readonly == "sda" { Source::Image } else { Source::CommandLine };
            assert_eq!(shown(&settings, "readonly"), [(readonly.to_owned(), Some(source))], "{cmdline}");
        }
    }

    #[test]
    fn a_typo_is_named_also_where_a_boot_loader_has_the_name_of_a_file_before_it() {
        for line in ["diskomator.efi diskomator.exprot=none", "a b.efi diskomator.debgu", "diskomator.exprot=a.efi"] {
            assert_eq!(warnings(line).len(), 1, "{line}");
        }
    }

    #[test]
    fn where_a_source_cannot_be_read_the_disks_are_safe_until_a_stronger_one_says_otherwise() {
        let problem = Problem::Lost("failed to list /x: Input/output error".to_owned());
        for source in [Source::Image, Source::BootPartition, Source::BootLoader, Source::Smbios, Source::CommandLine] {
            let mut given = Given {
                image_cmdline: "diskomator.export=all".to_owned(),
                lost: vec![(source, problem.clone())],
                ..Given::default()
            };
            let settings = Settings::read(&given);
            let config = Config { export: Selection::none(), readonly: Selection::all(), ..Config::default() };
            assert_eq!(settings.config, config, "{source:?}");
            assert_eq!(shown(&settings, "export"), [("none".to_owned(), Some(source))]);
            assert_eq!(
                settings.warnings[0].to_string(),
                format!(
                    "settings {source} may be lost, so nothing is exported and all disks are read-only: \
                     failed to list /x: Input/output error"
                )
            );
            given.cmdline = "diskomator.export=sda".to_owned();
            let is_stronger = source != Source::CommandLine;
            assert_eq!(Settings::read(&given).config.export.is_none(), !is_stronger, "{source:?}");
        }
    }

    #[test]
    fn a_credential_that_cannot_be_read_leaves_the_disks_safe() {
        let name = "diskomator.readonly".to_owned();
        let content = Content::Unreadable("Input/output error".to_owned());
        let given =
            Given { credentials: vec![Credential { name, source: Source::BootLoader, content }], ..Given::default() };
        let settings = Settings::read(&given);
        assert_eq!(settings.config.readonly, Selection::all());
        assert_eq!(
            settings.warnings[0].to_string(),
            "diskomator.readonly in the boot loader's initrd makes all disks read-only: \
             it can't be read: Input/output error"
        );
    }

    #[test]
    fn an_initrd_that_nobody_signed_is_named() {
        let given = Given { ignored_initrd: true, secure_boot: true, ..Given::default() };
        let settings = Settings::read(&given);
        assert_eq!(settings.config, Config::default());
        assert_eq!(
            settings.warnings[0].to_string(),
            "everything in the boot loader's initrd is ignored: \
             with Secure Boot on, only what is signed counts, such as an addon with this word"
        );
    }

    #[test]
    fn the_same_word_has_the_same_effect_from_every_source() {
        const LIST: &str = "eth0:192.0.2.7/24 eth1:off";
        for (name, value) in [
            ("export", "none"),
            ("readonly", ""),
            ("log", "debug"),
            ("ip", LIST),
            ("syslog", "192.0.2.1"),
            ("log", "x"),
        ] {
            let words: Vec<String> = value.split(' ').map(|value| format!("diskomator.{name}={value}")).collect();
            let words = if value.is_empty() { format!("diskomator.{name}") } else { words.join(" ") };
            let expected = Config::from_cmdline(&words);
            let image = Given { cmdline: words.clone(), image_cmdline: words, ..Given::default() };
            assert_eq!(Settings::read(&image).config, expected.0, "{name}");
            for source in Source::CREDENTIALS {
                let content = value.replace(' ', "\n") + "\n";
                let credentials = vec![credential(source, &format!("diskomator.{name}"), &content)];
                let settings = Settings::read(&Given { credentials, ..Given::default() });
                assert_eq!(settings.config, expected.0, "{name} {source:?}");
                assert_eq!(settings.warnings.len(), expected.1.len(), "{name} {source:?}");
            }
        }
    }

    #[test]
    fn of_two_sources_the_one_nearer_to_the_start_of_the_machine_counts() {
        use Source::{BesideImage, BootLoader, BootPartition, CommandLine, FwCfg, Image, Smbios};
        let levels = ["error", "warn", "info", "debug", "trace", "error", "warn"];
        let order = [Image, BootPartition, BesideImage, BootLoader, FwCfg, Smbios, CommandLine];
        for last in 0..order.len() {
            let mut given = Given::default();
            // The order in which they are found makes no difference.
            for (source, level) in order.into_iter().zip(levels).take(last + 1).rev() {
                match source {
                    Image => {
                        given.image_cmdline = format!("console=tty0  diskomator.log={level}");
                        given.cmdline = format!("console=tty0 diskomator.log={level} {}", given.cmdline);
                    }
                    CommandLine => given.cmdline = format!("diskomator.log={level}"),
                    source => given.credentials.push(credential(source, "diskomator.log", level)),
                }
            }
            let settings = Settings::read(&given);
            assert_eq!(shown(&settings, "log"), [(levels[last].to_owned(), Some(order[last]))]);
            assert_eq!(settings.warnings, []);
        }
    }

    #[test]
    fn words_in_place_of_the_image_s_are_not_the_image_s() {
        let given = Given {
            cmdline: "diskomator.log=debug".to_owned(),
            image_cmdline: "console=tty0 diskomator.log=debug".to_owned(),
            credentials: vec![credential(Source::BesideImage, "diskomator.log", "error")],
            ..Given::default()
        };
        let settings = Settings::read(&given);
        assert_eq!(shown(&settings, "log"), [("debug".to_owned(), Some(Source::CommandLine))]);
    }

    #[test]
    fn each_value_is_shown_with_its_source() {
        let given = Given {
            cmdline: "diskomator.ip=eth1:off ip=198.51.100.7:::255.255.255.0::eth2:none diskomator.export=x".to_owned(),
            credentials: vec![credential(Source::Smbios, "diskomator.ip", "eth0:192.0.2.7/24")],
            ..Given::default()
        };
        let settings = Settings::read(&given);
        let ip: Vec<_> = shown(&settings, "ip");
        let line = Some(Source::CommandLine);
        assert_eq!(
            ip,
            [
                ("eth0:192.0.2.7/24".to_owned(), Some(Source::Smbios)),
                ("eth1:off".to_owned(), line),
                ("eth2:198.51.100.7/24".to_owned(), line),
            ]
        );
        assert_eq!(shown(&settings, "log"), [("info".to_owned(), None)]);
        // What a bad value does instead is somebody's doing, too.
        assert_eq!(shown(&settings, "export"), [("none".to_owned(), line)]);
        assert_eq!(shown(&Settings::read(&Given::default()), "ip"), [("dhcp".to_owned(), None)]);
    }

    #[test]
    fn credentials_that_mean_nothing_are_named_and_those_of_others_are_not() {
        let given = Given {
            credentials: vec![
                credential(Source::BesideImage, "diskomator.exprot", "none"),
                credential(Source::BesideImage, "Diskomator.debug", ""),
                credential(Source::BootPartition, "diskomator.log", "debug\ntrace"),
                credential(Source::Smbios, "diskomator.readonly", "\0"),
                credential(Source::Smbios, "ssh.authorized_keys.root", "key"),
            ],
            ..Given::default()
        };
        let settings = Settings::read(&given);
        let warnings: Vec<String> = settings.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "diskomator.log in loader/credentials on the boot partition is ignored: \
                 it has 2 lines, and the value is one",
                "unknown setting \"diskomator.exprot\" beside the image on the boot partition is ignored; \
                 did you mean \"diskomator.export\"?",
                "unknown setting \"Diskomator.debug\" beside the image on the boot partition is ignored; \
                 did you mean \"diskomator.debug\"?",
                "diskomator.readonly in SMBIOS makes all disks read-only: it is not plain text",
            ]
        );
        assert_eq!(settings.config, Config { readonly: Selection::all(), ..Config::default() });
    }

    #[test]
    fn with_secure_boot_on_unsigned_files_give_no_more_than_they_could_take_away() {
        let given = Given {
            credentials: vec![
                credential(Source::BesideImage, "diskomator.debug", "yes"),
                credential(Source::BesideImage, "diskomator.export", "all"),
                credential(Source::BootPartition, "ssh.authorized_keys.root", "key"),
                credential(Source::Smbios, "diskomator.log", "debug"),
            ],
            secure_boot: true,
            ..Given::default()
        };
        let settings = Settings::read(&given);
        assert_eq!(settings.config, Config { log: LogLevel::Debug, export: Selection::none(), ..Config::default() });
        assert_eq!(settings.warnings.len(), 2);
        assert_eq!(
            given.credential("ssh.authorized_keys.root").unwrap().unwrap_err().to_string(),
            "ssh.authorized_keys.root in loader/credentials on the boot partition is ignored: \
             with Secure Boot on, only what is signed counts, such as an addon with this word"
        );
    }

    #[test]
    fn another_program_s_credential_is_that_of_the_strongest_source() {
        let name = "ssh.authorized_keys.root";
        let credentials = vec![credential(Source::Smbios, name, "b\n"), credential(Source::BesideImage, name, "a")];
        let given = Given { credentials, ..Given::default() };
        assert_eq!(given.credential(name), Some(Ok("b".to_owned())));
        assert_eq!(given.credential("other"), None);
    }

    #[test]
    fn a_long_value_is_cut_in_what_is_said_of_it() {
        let (_, warnings) = Config::from_cmdline(&format!("diskomator.log={}", "é".repeat(5000)));
        assert!(warnings[0].to_string().len() < 400);
    }

    #[test]
    fn addresses_and_names_are_checked() {
        let (config, none) = Config::from_cmdline(
            "diskomator.syslog=192.0.2.1:5514 diskomator.netconsole=fe80::1%eth0 diskomator.name=Bench-7",
        );
        assert_eq!(none, []);
        assert_eq!(config.syslog.unwrap().to_string(), "192.0.2.1:5514");
        assert_eq!(config.netconsole.unwrap().to_string(), "fe80::1%eth0");
        assert_eq!(config.name.as_deref(), Some("bench-7"));
        let taken_back = "diskomator.syslog=192.0.2.1 diskomator.syslog=none diskomator.name=x diskomator.name=auto";
        assert_eq!(Config::from_cmdline(taken_back), (Config::default(), vec![]));
        for bad in ["syslog", "syslog=loghost", "netconsole=yes", "name", "name=a.b", "name=-a", "name=ä"] {
            assert_eq!(warnings(&format!("diskomator.{bad}")).len(), 1, "{bad}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_its_help_fits_a_terminal() {
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
        assert!(help(78).lines().all(|line| line.len() <= 78 && !line.contains('`')), "{}", help(78));
        assert!(!markdown().lines().any(|line| line.matches('|').count() != 4));
    }
}
