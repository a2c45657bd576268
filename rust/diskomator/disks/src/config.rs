//! The settings of this product: those of every product, which disks are exported in
//! which way, and who is admitted.

use access::{Grant, Mode, NoMode, NqnError};
use settings::system::{self, System};
use settings::{Guards, Instead, Problem, Product, Setting, boolean};

use crate::selection::{Selection, SelectionError};

/// The settings of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The settings that every product has.
    pub system: System,
    /// `diskomator.access=MODE`: whom the machine admits.
    pub access: Mode,
    /// `diskomator.allow=HOSTS`: the hosts that are admitted without a question.
    pub allow: Vec<Grant>,
    /// `diskomator.secret=BASE64`: whether there is one. It is kept in the one file of its reader alone.
    pub secret: Secret,
    /// `diskomator.export=DISKS`: the disks that are exported without a command. Disks
    /// that are exported by command stay exported.
    pub export: Selection,
    /// `diskomator.readonly=DISKS`: the disks that hosts may only read.
    pub readonly: Selection,
    /// `diskomator.partitions=DISKS`: the disks of which each partition is
    /// exported, and not the disk itself.
    pub partitions: Selection,
    /// `diskomator.passthru=DISKS`: the NVMe disks that hosts get with their
    /// controller, and not as a namespace of ours.
    pub passthru: Selection,
}

/// Where the machine's secret comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// Nobody gave one.
    Random,
    /// The credential.
    Given,
    /// Somebody gave one that counts for nothing, so that it is random.
    Refused,
}

impl Config {
    /// Whom the machine admits. Somebody who gave a secret meant to keep others out: with one that is refused, the
    /// machine is open to nobody who was not named.
    pub const fn mode(&self) -> Mode {
        match (self.access, self.secret) {
            (Mode::Paired, _) => Mode::Paired,
            (_, Secret::Refused) => Mode::Ask,
            (mode, Secret::Random | Secret::Given) => mode,
        }
    }
}

/// The settings, each with its source.
pub type Settings = settings::Settings<Config>;

impl Default for Config {
    fn default() -> Self {
        Self {
            system: System::default(),
            access: Mode::default(),
            allow: Vec::new(),
            secret: Secret::Random,
            export: Selection::all(),
            readonly: Selection::none(),
            partitions: Selection::none(),
            passthru: Selection::none(),
        }
    }
}

impl AsRef<System> for Config {
    fn as_ref(&self) -> &System {
        &self.system
    }
}

impl AsMut<System> for Config {
    fn as_mut(&mut self) -> &mut System {
        &mut self.system
    }
}

impl Product for Config {
    const NAME: &'static str = "diskomator";
    const SETTINGS: &'static [Setting<Self>] = &[
        ACCESS,
        ALLOW,
        system::debug(),
        EXPORT,
        system::ip(),
        system::log(),
        system::name(),
        system::netconsole(),
        PARTITIONS,
        PASSTHRU,
        READONLY,
        SECRET,
        system::ssh(),
        system::syslog(),
    ];
    const SAFE: &'static str = "nothing is exported and all disks are read-only";
    const SECRETS: &'static [&'static str] = &[SECRET.name];
}

impl From<SelectionError> for Problem {
    fn from(error: SelectionError) -> Self {
        let nearest = match &error {
            SelectionError::NoDisk { nearest, .. } => nearest.map(str::to_owned),
            _ => None,
        };
        Self::Refused { text: error.to_string(), nearest }
    }
}

const ACCESS: Setting<Config> = Setting {
    name: "access",
    syntax: "=MODE",
    text: "whom the machine admits: `open`, every host; `ask`, hosts that `allow` or a person names; `paired`, hosts \
           that prove a key",
    is_list: false,
    set: |config, value| {
        let word = value.unwrap_or_default();
        let mode = word.parse().map_err(|NoMode| Problem::Value {
            expected: "open, ask or paired",
            nearest: settings::nearest(Mode::ALL.iter().map(|(known, _)| *known), word),
        });
        mode.map(|mode| config.access = mode)
    },
    values: |config| vec![config.access.to_string()],
    instead: Some(Instead {
        effect: "counts as paired",
        apply: |config| config.access = Mode::Paired,
        guards: Guards::Purpose,
    }),
};

const SECRET: Setting<Config> = Setting {
    name: "secret",
    syntax: "=BASE64",
    text: "the machine's secret, from which the keys of all hosts come: at least 32 bytes in base64, as a credential and \
           nowhere else. Without it, the secret is another one after each start",
    is_list: false,
    set: |config, value| {
        let secret = keys::Secret::from_base64(value.unwrap_or_default().as_bytes());
        secret.map_err(|error| Problem::Refused { text: error.to_string(), nearest: None })?;
        config.secret = Secret::Given;
        Ok(())
    },
    // Never the value.
    values: |config| {
        let word = match config.secret {
            Secret::Random => "random",
            Secret::Given => "given",
            Secret::Refused => "refused",
        };
        vec![word.to_owned()]
    },
    instead: Some(Instead {
        effect: "is refused, so that the secret is random and the mode is not open",
        apply: |config| config.secret = Secret::Refused,
        guards: Guards::Purpose,
    }),
};

const NOBODY: &str = "none";

const ALLOW: Setting<Config> = Setting {
    name: "allow",
    syntax: "=HOSTNQN[:ro],...",
    text: "hosts that are admitted without a question in the mode `ask`, by their NQNs; with `:ro` at the end, only to \
           read. With a `secret` they must prove their keys, in the mode `paired`, too. Or `none`. Can be given more than once",
    is_list: true,
    set: |config, value| {
        let value = value.unwrap_or_default();
        if value == NOBODY {
            config.allow.clear();
            return Ok(());
        }
        let hosts: Result<Vec<Grant>, _> = value.split(',').map(str::parse).collect();
        let refused = |error: NqnError| Problem::Refused { text: error.to_string(), nearest: None };
        config.allow.extend(hosts.map_err(refused)?);
        Ok(())
    },
    values: |config| {
        let hosts: Vec<_> = config.allow.iter().map(Grant::to_string).collect();
        if hosts.is_empty() { vec![NOBODY.to_owned()] } else { hosts }
    },
    instead: None,
};

const EXPORT: Setting<Config> = Setting {
    name: "export",
    syntax: "=DISKS",
    text: "which disks are exported by themselves: `all`, `none`, or patterns. \
           The others are exported by `diskomator export sync DISK`, typed in the shell",
    is_list: false,
    set: |config, value| selection(value).map(|value| config.export = value),
    values: |config| vec![config.export.to_string()],
    // This is set to keep disks back, or safe: so does a value that means nothing.
    instead: Some(Instead {
        effect: "exports nothing",
        apply: |config| config.export = Selection::none(),
        guards: Guards::Purpose,
    }),
};

const PARTITIONS: Setting<Config> = Setting {
    name: "partitions",
    syntax: "[=DISKS]",
    text: "of which disks each partition is exported, and not the disk as a whole; without `=DISKS`, of all",
    is_list: false,
    set: |config, value| selection(switch(value)).map(|value| config.partitions = value),
    values: |config| vec![config.partitions.to_string()],
    instead: Some(Instead {
        effect: "means no disk",
        apply: |config| config.partitions = Selection::none(),
        guards: Guards::Purpose,
    }),
};

const PASSTHRU: Setting<Config> = Setting {
    name: "passthru",
    syntax: "[=DISKS]",
    text: "with which NVMe disks hosts get the controller itself, for SMART, firmware and format commands, and all \
           of its namespaces, unless it is read-only; without `=DISKS`, with all",
    is_list: false,
    set: |config, value| selection(switch(value)).map(|value| config.passthru = value),
    values: |config| vec![config.passthru.to_string()],
    instead: Some(Instead {
        effect: "means no disk",
        apply: |config| config.passthru = Selection::none(),
        guards: Guards::Purpose,
    }),
};

const READONLY: Setting<Config> = Setting {
    name: "readonly",
    syntax: "[=DISKS]",
    text: "which disks hosts can only read; without `=DISKS`, all",
    is_list: false,
    set: |config, value| selection(switch(value)).map(|value| config.readonly = value),
    values: |config| vec![config.readonly.to_string()],
    instead: Some(Instead {
        effect: "makes all disks read-only",
        apply: |config| config.readonly = Selection::all(),
        guards: Guards::Purpose,
    }),
};

/// The disks that a switch means: with no value, or yes, all.
fn switch(value: Option<&str>) -> Option<&str> {
    match boolean(value) {
        Ok(true) => Some("all"),
        Ok(false) => Some("none"),
        Err(_) => value,
    }
}

fn selection(value: Option<&str>) -> Result<Selection, Problem> {
    Ok(value.unwrap_or_default().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use settings::system::LogLevel;
    use settings::{Content, Credential, Given, Source, help, markdown};

    fn warnings(line: &str) -> Vec<String> {
        Config::from_cmdline(line).1.iter().map(ToString::to_string).collect()
    }

    fn credential(source: Source, name: &str, content: &str) -> Credential {
        Credential { name: name.to_owned(), source, content: Content::Plain(content.as_bytes().to_vec()) }
    }

    fn shown(settings: &Settings, name: &str) -> Vec<(String, Option<Source>)> {
        settings.values(Config::setting(name).unwrap())
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
        assert_eq!(
            config,
            Config { system: System { log: LogLevel::Trace, ..System::default() }, ..Config::default() }
        );
        assert_eq!(warnings, vec![]);
        let (config, warnings) = Config::from_cmdline(&format!("{last} x {first}"));
        assert_eq!(
            config,
            Config {
                system: System { log: LogLevel::Error, debug: true, ..System::default() },
                export: Selection::none(),
                ..Config::default()
            }
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
        assert_eq!((config.system.log, warnings.len()), (LogLevel::Error, 1));
    }

    #[test]
    fn a_way_to_a_shell_is_closed_by_a_word_that_means_nothing() {
        for word in ["of", "noo", "none", "disabled", ""] {
            let (config, warnings) = Config::from_cmdline(&format!("diskomator.debug diskomator.debug={word}"));
            assert!(!config.system.debug, "{word}");
            let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
            assert!(warning.to_string().contains("gives no shell on the serial console"), "{warning}");

            let (config, warnings) = Config::from_cmdline(&format!("diskomator.ssh diskomator.ssh={word}"));
            assert!(!config.system.ssh.is_on, "{word}");
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
            assert!(config.system.ssh.is_on, "{broken}");
            assert_eq!(warnings.len(), 1, "{broken}");
        }
    }

    #[test]
    fn a_switch_takes_the_usual_words() {
        for (line, on) in
            [("diskomator.debug", true), ("diskomator.debug=yes", true), ("diskomator.debug diskomator.debug=0", false)]
        {
            assert_eq!(Config::from_cmdline(line).0.system.debug, on, "{line}");
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
        let settings: Vec<String> = config.system.ip.settings().map(ToString::to_string).collect();
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
    fn a_secret_is_never_shown_and_one_that_is_refused_closes_the_machine() {
        const GOOD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let read = |cmdline: &str, secrets: &[(Source, &str)]| {
            let credential = |(source, text): &(Source, &str)| Credential {
                name: "diskomator.secret".to_owned(),
                source: *source,
                content: Content::Plain(text.as_bytes().to_vec()),
            };
            let given = Given {
                cmdline: cmdline.to_owned(),
                credentials: secrets.iter().map(credential).collect(),
                ..Given::default()
            };
            let settings = Settings::read(&given);
            let values = Config::SETTINGS.iter().flat_map(|setting| settings.values(setting));
            let shown = format!("{:?} {:?} {settings:?} {given:?}", values.collect::<Vec<_>>(), settings.warnings);
            let of_the_credentials = shown.replace(cmdline, "");
            assert!(!of_the_credentials.contains("AAEC") && !of_the_credentials.contains("hunter2"), "{shown}");
            (
                settings.config.secret,
                settings.config.mode(),
                settings.warnings.iter().map(ToString::to_string).collect(),
            )
        };
        let none: Vec<String> = vec![];
        assert_eq!(read("diskomator.access=open", &[]), (Secret::Random, Mode::Open, none.clone()));
        let beside = [(Source::BesideImage, GOOD)];
        assert_eq!(read("diskomator.access=open", &beside), (Secret::Given, Mode::Open, none));
        for (line, mode) in [("open", Mode::Ask), ("ask", Mode::Ask), ("paired", Mode::Paired), ("", Mode::Paired)] {
            let line = format!("diskomator.access={line}");
            let (secret, found, said) = read(&line, &[(Source::BesideImage, GOOD), (Source::Smbios, "hunter2")]);
            assert_eq!((secret, found), (Secret::Refused, mode), "{line}");
            let said: String = said.concat();
            assert!(said.contains("diskomator.secret in SMBIOS is refused, so that the secret is random"), "{said}");
        }
        // Everybody can read the command line.
        let (secret, mode, said) = read(&format!("diskomator.access=open diskomator.secret={GOOD}"), &beside);
        assert_eq!((secret, mode), (Secret::Refused, Mode::Ask));
        assert!(said.concat().contains("on the kernel command line") && !said.concat().contains("AAEC"), "{said:?}");
    }

    #[test]
    fn a_mode_that_means_nothing_admits_only_keys() {
        for (line, mode) in [
            ("", Mode::default()),
            ("diskomator.access=open", Mode::Open),
            ("diskomator.access=paired diskomator.access=ask", Mode::Ask),
        ] {
            let (config, warnings) = Config::from_cmdline(line);
            assert_eq!((config.access, warnings), (mode, vec![]), "{line}");
        }
        for line in ["diskomator.access", "diskomator.access=", "diskomator.access=opne diskomator.x-y"] {
            assert_eq!(Config::from_cmdline(line).0.access, Mode::Paired, "{line}");
        }
        assert_eq!(
            warnings("diskomator.access=opne"),
            ["diskomator.access=\"opne\" on the kernel command line counts as paired: \
              it must be open, ask or paired; did you mean \"diskomator.access=open\"?"]
        );
    }

    #[test]
    fn allowed_hosts_add_up_and_a_broken_list_allows_nobody() {
        let allowed = |line: &str| {
            let (config, warnings) = Config::from_cmdline(line);
            (config.allow.iter().map(Grant::to_string).collect::<Vec<_>>(), warnings.len())
        };
        let line = "diskomator.allow=nqn.a:uuid:1,nqn.b:ro diskomator.allow=nqn.c";
        let hosts = ["nqn.a:uuid:1", "nqn.b:ro", "nqn.c"].map(str::to_owned).to_vec();
        assert_eq!(allowed(line), (hosts, 0));
        assert_eq!(allowed(&format!("{line} diskomator.allow=none diskomator.allow=nqn.d")).0, ["nqn.d"]);
        for broken in ["", "nqn.a,", "nqn.a,../x", ":ro", "nqn.a,nqn.b/c"] {
            assert_eq!(allowed(&format!("diskomator.allow={broken}")), (vec![], 1), "{broken}");
        }
        let (config, _) = Config::from_cmdline("diskomator.allow=nqn.a:uuid:1:ro");
        assert_eq!((config.allow[0].nqn.as_ref(), config.allow[0].read_only), ("nqn.a:uuid:1", true));
    }

    #[test]
    fn two_dashes_end_the_line() {
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
            let config = Config {
                access: Mode::Paired,
                export: Selection::none(),
                readonly: Selection::all(),
                // A command line has no secret to lose.
                secret: match source {
                    Source::Image | Source::CommandLine => Secret::Random,
                    _ => Secret::Refused,
                },
                ..Config::default()
            };
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
            ("access", "ask"),
            ("access", "opne"),
            ("allow", "nqn.2014-08.org.example:a,nqn.b:ro nqn.c"),
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
        // The effect of a bad value has its source, too.
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
        assert_eq!(
            settings.config,
            Config {
                system: System { log: LogLevel::Debug, ..System::default() },
                export: Selection::none(),
                ..Config::default()
            }
        );
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
        assert_eq!(config.system.syslog.unwrap().to_string(), "192.0.2.1:5514");
        assert_eq!(config.system.netconsole.unwrap().to_string(), "fe80::1%eth0");
        assert_eq!(config.system.name.as_deref(), Some("bench-7"));
        let taken_back = "diskomator.syslog=192.0.2.1 diskomator.syslog=none diskomator.name=x diskomator.name=auto";
        assert_eq!(Config::from_cmdline(taken_back), (Config::default(), vec![]));
        for bad in ["syslog", "syslog=loghost", "netconsole=yes", "name", "name=a.b", "name=-a", "name=ä"] {
            assert_eq!(warnings(&format!("diskomator.{bad}")).len(), 1, "{bad}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_its_help_fits_a_terminal() {
        assert!(Config::SETTINGS.is_sorted_by_key(|setting| setting.name));
        assert!(
            help::<Config>(78).lines().all(|line| line.len() <= 78 && !line.contains('`')),
            "{}",
            help::<Config>(78)
        );
        assert!(!markdown::<Config>().lines().any(|line| line.matches('|').count() != 4));
    }
}
