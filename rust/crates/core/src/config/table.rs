//! Every setting: how it is written, what it means, and how it is read. The
//! table in docs/settings.md and the help of `diskomator config` are made of this.

use std::fmt::Write;

use super::{Config, LogLevel, PREFIX, Problem, nearest};
use crate::addressing::Setting as Address;
use crate::destination::Destination;
use crate::selection::Selection;
use crate::ssh::{Access, PublicKey};

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name, without the prefix.
    pub name: &'static str,
    /// What follows the name, such as `=DISKS`; in brackets if it can be left out.
    pub syntax: &'static str,
    /// What it does, in Markdown without links.
    pub text: &'static str,
    /// It can be given more than once; of a credential, each line is a value.
    pub is_list: bool,
    /// Takes a value, `None` if there was only the name.
    pub(super) set: fn(&mut Config, Option<&str>) -> Result<(), Problem>,
    /// The values that say the same, at least one.
    pub(super) values: fn(&Config) -> Vec<String>,
    /// What a value that means nothing does, if it is not just ignored.
    pub(super) instead: Option<Instead>,
}

/// The effect of a value that means nothing: a setting that an administrator wanted to close is closed.
#[derive(Debug)]
pub(super) struct Instead {
    /// In words.
    pub(super) effect: &'static str,
    /// In fact.
    pub(super) apply: fn(&mut Config),
    guards: Guards,
}

/// The resource that a setting protects from people without permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guards {
    /// The disks: nothing that is not known opens them.
    Disks,
    /// A way to a shell.
    Shell,
    /// A way to a shell that some have a key to. A broken key locks out nobody else; a mistyped word closes it.
    ShellWithKeys,
}

impl Instead {
    /// Whether it is done for a value that means nothing; `None` if the value could not be read.
    pub(super) fn is_for(&self, value: Option<&str>) -> bool {
        match self.guards {
            Guards::Disks => true,
            Guards::Shell => value.is_some(),
            Guards::ShellWithKeys => value.is_some_and(|value| {
                value.len() <= SWITCH_MAX && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
            }),
        }
    }

    /// Whether it is done where a setting may be lost.
    pub(super) fn is_for_losses(&self) -> bool {
        self.guards == Guards::Disks
    }
}

/// Every setting, by name.
pub static SETTINGS: [Setting; 11] = [
    Setting {
        name: "debug",
        syntax: "",
        text: "a root shell, without a password, on the serial console; `yes` or `no`",
        is_list: false,
        set: |config, value| boolean(value).map(|value| config.debug = value),
        values: |config| vec![if config.debug { "yes" } else { "no" }.to_owned()],
        instead: Some(Instead {
            effect: "gives no shell on the serial console",
            apply: |config| config.debug = false,
            guards: Guards::Shell,
        }),
    },
    Setting {
        name: "export",
        syntax: "=DISKS",
        text: "which disks are exported by themselves: `all`, `none`, or patterns. \
               The others are exported by `diskomator export sync DISK`, typed in the shell",
        is_list: false,
        set: |config, value| selection(value).map(|value| config.export = value),
        values: |config| vec![config.export.to_string()],
        // Who sets this wants to keep disks back, or safe: so does a value that means nothing.
        instead: Some(Instead {
            effect: "exports nothing",
            apply: |config| config.export = Selection::none(),
            guards: Guards::Disks,
        }),
    },
    Setting {
        name: "ip",
        syntax: "=[DEV:]ADDRESS/PREFIX[,GATEWAY]",
        text: "an address that a network card has, IPv4 or IPv6. Or `[DEV:]off`: no DHCP and no link-local IPv4 \
               address on this card, or on all; `dhcp` takes it back. Can be given more than once",
        is_list: true,
        set: |config, value| {
            config.ip.add(value.unwrap_or_default().parse()?);
            Ok(())
        },
        values: |config| {
            let values: Vec<_> = config.ip.settings().map(Address::to_string).collect();
            if values.is_empty() { vec!["dhcp".to_owned()] } else { values }
        },
        instead: None,
    },
    Setting {
        name: "log",
        syntax: "=LEVEL",
        text: "what the daemons log: `error`, `warn`, `info`, `debug` or `trace`",
        is_list: false,
        set: |config, value| value.unwrap_or_default().parse().map(|value| config.log = value),
        values: |config| {
            let names = LogLevel::ALL.iter().filter(|(_, level)| *level == config.log);
            names.map(|(name, _)| (*name).to_owned()).collect()
        },
        instead: None,
    },
    Setting {
        name: "name",
        syntax: "=NAME",
        text: "the machine's name, in multicast DNS, for DHCP servers and in logs. `auto` is `diskomator-` and the end \
               of its hardware address",
        is_list: false,
        set: |config, value| host_name(value).map(|value| config.name = value),
        values: |config| vec![config.name.clone().unwrap_or_else(|| AUTO.to_owned())],
        instead: None,
    },
    Setting {
        name: "netconsole",
        syntax: "=ADDRESS[:PORT]",
        text: "sends what the kernel says when it crashes to this address, over UDP, to port 6666 if none is named; \
               or `none`",
        is_list: false,
        set: |config, value| destination(value).map(|value| config.netconsole = value),
        values: |config| vec![said(config.netconsole.as_ref())],
        instead: None,
    },
    Setting {
        name: "partitions",
        syntax: "[=DISKS]",
        text: "of which disks each partition is exported, and not the disk as a whole; without `=DISKS`, of all",
        is_list: false,
        set: |config, value| selection(switch(value)).map(|value| config.partitions = value),
        values: |config| vec![config.partitions.to_string()],
        instead: Some(Instead {
            effect: "means no disk",
            apply: |config| config.partitions = Selection::none(),
            guards: Guards::Disks,
        }),
    },
    Setting {
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
            guards: Guards::Disks,
        }),
    },
    Setting {
        name: "readonly",
        syntax: "[=DISKS]",
        text: "which disks hosts can only read; without `=DISKS`, all",
        is_list: false,
        set: |config, value| selection(switch(value)).map(|value| config.readonly = value),
        values: |config| vec![config.readonly.to_string()],
        instead: Some(Instead {
            effect: "makes all disks read-only",
            apply: |config| config.readonly = Selection::all(),
            guards: Guards::Disks,
        }),
    },
    Setting {
        name: "ssh",
        syntax: "[=KEY]",
        text: "listens for SSH, and lets in who has this public key; without `=KEY`, who has another one that is \
               known here, or the password on the screen. Or `no`. Can be given more than once",
        is_list: true,
        set: |config, value| {
            match boolean(value) {
                Ok(true) => config.ssh.is_on = true,
                Ok(false) => config.ssh = Access::default(),
                Err(_) => config.ssh.admit(value.unwrap_or_default().parse()?),
            }
            Ok(())
        },
        values: |config| match &config.ssh {
            Access { is_on: false, .. } => vec!["no".to_owned()],
            Access { keys, .. } if keys.is_empty() => vec!["yes".to_owned()],
            Access { keys, .. } => keys.iter().map(PublicKey::to_string).collect(),
        },
        instead: Some(Instead {
            effect: "turns SSH off",
            apply: |config| config.ssh = Access::default(),
            guards: Guards::ShellWithKeys,
        }),
    },
    Setting {
        name: "syslog",
        syntax: "=ADDRESS[:PORT]",
        text: "sends the log, from the start of the kernel on, to the syslog server at this address, over UDP, to port \
               514 if none is named; or `none`",
        is_list: false,
        set: |config, value| destination(value).map(|value| config.syslog = value),
        values: |config| vec![said(config.syslog.as_ref())],
        instead: None,
    },
];

/// A word of at most so many letters was meant as a switch: `disabled`. It is no part of a key.
const SWITCH_MAX: usize = 8;
/// What stands for a name that is made of the hardware address.
const AUTO: &str = "auto";
/// What stands for nowhere to send to.
const NONE: &str = "none";

impl Setting {
    /// The setting with this name, without the prefix.
    pub fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// What it is when nobody says anything.
    pub fn default_value(&self) -> String {
        (self.values)(&Config::default()).join(" ")
    }
}

/// The table as Markdown.
pub fn markdown() -> String {
    let mut text = String::from("| Setting | What it does | Default |\n|---|---|---|\n");
    for setting in &SETTINGS {
        let Setting { name, syntax, text: what, .. } = setting;
        let _ = writeln!(text, "| `{PREFIX}{name}{syntax}` | {what} | `{}` |", setting.default_value());
    }
    text
}

/// The table for a terminal, in lines of at most `width` columns.
pub fn help(width: usize) -> String {
    const INDENT: &str = "      ";
    let mut text = String::new();
    for setting in &SETTINGS {
        let _ = writeln!(text, "  {}{}  (default: {})", setting.name, setting.syntax, setting.default_value());
        let mut line = String::from(INDENT);
        for word in setting.text.split(' ').map(|word| word.replace('`', "")) {
            if line.len() > INDENT.len() && line.len() + word.len() > width {
                let _ = writeln!(text, "{}", line.trim_end());
                line = String::from(INDENT);
            }
            line.push_str(&word);
            line.push(' ');
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// A switch: present is on, and the words that systemd's `parse_boolean` takes.
fn boolean(value: Option<&str>) -> Result<bool, Problem> {
    match value {
        None | Some("1" | "yes" | "true" | "on") => Ok(true),
        Some("0" | "no" | "false" | "off") => Ok(false),
        Some(_) => Err(Problem::Value { expected: "yes or no", nearest: None }),
    }
}

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

fn destination(value: Option<&str>) -> Result<Option<Destination>, Problem> {
    match value.unwrap_or_default() {
        NONE => Ok(None),
        other => Ok(Some(other.parse()?)),
    }
}

fn said(destination: Option<&Destination>) -> String {
    destination.map_or_else(|| NONE.to_owned(), Destination::to_string)
}

/// A label of a domain name (RFC 1123 section 2.1), which leaves room for the
/// number that multicast DNS adds to a name that is taken.
fn host_name(value: Option<&str>) -> Result<Option<String>, Problem> {
    const LEN_MAX: usize = 56;
    let name = value.unwrap_or_default().to_ascii_lowercase();
    if name == AUTO {
        return Ok(None);
    }
    let is_good = (1..=LEN_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_good {
        return Ok(Some(name));
    }
    Err(Problem::Value {
        expected: "letters, digits and hyphens, at most 56",
        nearest: nearest([AUTO].into_iter(), &name),
    })
}
