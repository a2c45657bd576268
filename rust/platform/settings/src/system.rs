//! The settings that each product has.

use std::str::FromStr;

use netproto::addressing::{Addressing, Setting as Address};
use netproto::destination::Destination;

use super::table::{Guards, Instead, Setting, boolean};
use super::{Problem, nearest};
use crate::ssh::{Access, PublicKey};

/// Their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// `debug`: a root shell on the serial console.
    pub debug: bool,
    /// `ip=[DEV:]ADDR/PREFIX[,GATEWAY]`, as often as needed, and the kernel's `ip=`: the addresses of each link,
    /// or that it asks for none.
    pub ip: Addressing,
    /// `log=LEVEL`: the level from which daemons write to the kernel's log.
    pub log: LogLevel,
    /// `name=NAME`: the machine's name, if it is not made of its hardware address.
    pub name: Option<String>,
    /// `netconsole=ADDRESS[:PORT]`: the receiver of the kernel's last words.
    pub netconsole: Option<Destination>,
    /// `ssh[=KEY]`, as often as needed: whether the machine listens for SSH, and the keys that it admits.
    pub ssh: Access,
    /// `syslog=ADDRESS[:PORT]`: the receiver of the log.
    pub syslog: Option<Destination>,
}

impl Default for System {
    fn default() -> Self {
        Self {
            debug: false,
            ip: Addressing::default(),
            log: LogLevel::Info,
            name: None,
            netconsole: None,
            ssh: Access::default(),
            syslog: None,
        }
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

/// The word for a name that is made of the hardware address.
const AUTO: &str = "auto";
/// The word for no receiver.
const NONE: &str = "none";

/// The settings that each product has, for a product that has no other ones.
pub const fn all<C: AsRef<System> + AsMut<System>>() -> [Setting<C>; 7] {
    [debug(), ip(), log(), name(), netconsole(), ssh(), syslog()]
}

/// A root shell on the serial console.
pub const fn debug<C: AsRef<System> + AsMut<System>>() -> Setting<C> {
    Setting {
        name: "debug",
        syntax: "",
        text: "a root shell, without a password, on the serial console; `yes` or `no`",
        is_list: false,
        set: |config, value| boolean(value).map(|value| config.as_mut().debug = value),
        values: |config| vec![if config.as_ref().debug { "yes" } else { "no" }.to_owned()],
        instead: Some(Instead {
            effect: "gives no shell on the serial console",
            apply: |config| config.as_mut().debug = false,
            guards: Guards::Shell,
        }),
    }
}

/// Addresses of network cards.
pub const fn ip<C: AsRef<System> + AsMut<System>>() -> Setting<C> {
    Setting {
        name: "ip",
        syntax: "=[DEV:]ADDRESS/PREFIX[,GATEWAY]",
        text: "an address that a network card has, IPv4 or IPv6. Or `[DEV:]off`: no DHCP and no link-local IPv4 \
               address on this card, or on all; `dhcp` takes it back. Can be given more than once",
        is_list: true,
        set: |config, value| {
            config.as_mut().ip.add(value.unwrap_or_default().parse()?);
            Ok(())
        },
        values: |config| {
            let values: Vec<_> = config.as_ref().ip.settings().map(Address::to_string).collect();
            if values.is_empty() { vec!["dhcp".to_owned()] } else { values }
        },
        instead: None,
    }
}

/// The level of the log.
pub const fn log<C: AsRef<System> + AsMut<System>>() -> Setting<C> {
    Setting {
        name: "log",
        syntax: "=LEVEL",
        text: "what the daemons log: `error`, `warn`, `info`, `debug` or `trace`",
        is_list: false,
        set: |config, value| value.unwrap_or_default().parse().map(|value| config.as_mut().log = value),
        values: |config| {
            let names = LogLevel::ALL.iter().filter(|(_, level)| *level == config.as_ref().log);
            names.map(|(name, _)| (*name).to_owned()).collect()
        },
        instead: None,
    }
}

/// The machine's name.
pub const fn name<C: AsRef<System> + AsMut<System>>() -> Setting<C> {
    Setting {
        name: "name",
        syntax: "=NAME",
        text: "the machine's name, in multicast DNS, for DHCP servers and in logs. `auto` is `diskomator-` and the end \
               of its hardware address",
        is_list: false,
        set: |config, value| host_name(value).map(|value| config.as_mut().name = value),
        values: |config| vec![config.as_ref().name.clone().unwrap_or_else(|| AUTO.to_owned())],
        instead: None,
    }
}

/// The receiver of the kernel's last words.
pub const fn netconsole<C: AsRef<System> + AsMut<System>>() -> Setting<C> {
    Setting {
        name: "netconsole",
        syntax: "=ADDRESS[:PORT]",
        text: "sends what the kernel says when it crashes to this address, over UDP, to port 6666 if none is named; \
               or `none`",
        is_list: false,
        set: |config, value| destination(value).map(|value| config.as_mut().netconsole = value),
        values: |config| vec![said(config.as_ref().netconsole.as_ref())],
        instead: None,
    }
}

/// The SSH server.
pub const fn ssh<C: AsRef<System> + AsMut<System>>() -> Setting<C> {
    Setting {
        name: "ssh",
        syntax: "[=KEY]",
        text: "listens for SSH, and lets in who has this public key; without `=KEY`, who has another one that is \
               known here, or the password on the screen. Or `no`. Can be given more than once",
        is_list: true,
        set: |config, value| {
            match boolean(value) {
                Ok(true) => config.as_mut().ssh.is_on = true,
                Ok(false) => config.as_mut().ssh = Access::default(),
                Err(_) => config.as_mut().ssh.admit(value.unwrap_or_default().parse()?),
            }
            Ok(())
        },
        values: |config| match &config.as_ref().ssh {
            Access { is_on: false, .. } => vec!["no".to_owned()],
            Access { keys, .. } if keys.is_empty() => vec!["yes".to_owned()],
            Access { keys, .. } => keys.iter().map(PublicKey::to_string).collect(),
        },
        instead: Some(Instead {
            effect: "turns SSH off",
            apply: |config| config.as_mut().ssh = Access::default(),
            guards: Guards::ShellWithKeys,
        }),
    }
}

/// The receiver of the log.
pub const fn syslog<C: AsRef<System> + AsMut<System>>() -> Setting<C> {
    Setting {
        name: "syslog",
        syntax: "=ADDRESS[:PORT]",
        text: "sends the log, from the start of the kernel on, to the syslog server at this address, over UDP, to port \
               514 if none is named; or `none`",
        is_list: false,
        set: |config, value| destination(value).map(|value| config.as_mut().syslog = value),
        values: |config| vec![said(config.as_ref().syslog.as_ref())],
        instead: None,
    }
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
