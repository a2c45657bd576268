//! The commands that a user types on a host with nvme-cli.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::{Hash, HostKeys};

/// The options of nvme-cli that a version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cli {
    /// 2.11 to 2.16. Its `connect-all` has no option for the controller's key (`nvme-connect-all(1)`),
    /// so each subsystem is connected by itself.
    V2,
    /// 3.0: `connect-all` has all keys, and those of DH-HMAC-CHAP are called KX-HMAC-CHAP.
    V3,
}

/// The facts that commands are made of.
#[derive(Debug, Clone, Copy)]
pub struct Commands<'a> {
    /// The host's keys.
    pub keys: &'a HostKeys,
    /// This machine's address, such as `192.0.2.1` or `fe80::1%eth0`.
    pub address: &'a str,
    /// The NQNs of this machine's subsystems. If none is known, a word stands for it.
    pub subsystems: &'a [&'a str],
    /// The hash of the TLS key; `None` is for the ports without TLS.
    pub tls: Option<Hash>,
}

/// The ports with and without TLS.
const DISCOVERY: [&str; 2] = ["8009", "8010"];
const IO: [&str; 2] = ["4420", "4421"];
/// Stands for the NQN of a subsystem.
const UNKNOWN: &str = "SUBSYSTEM";

impl Commands<'_> {
    /// The commands, one a line. They hold keys, and are as secret.
    pub fn expose(&self, cli: Cli) -> Zeroizing<String> {
        let tls_key = self.tls.map(|hash| self.keys.tls(hash).expose());
        let (host, controller) = (self.keys.dhchap_host.expose(), self.keys.dhchap_controller.expose());
        let discovery = DISCOVERY[usize::from(self.tls.is_some())];
        let tls: &[(&str, &str)] = match &tls_key {
            Some(key) => &[("tls", ""), ("tls-key", key)],
            None => &[],
        };
        let chap = |option: &'static str, controller_option| [(option, &**host), (controller_option, &**controller)];
        let mut lines = Lines::for_commands(self.subsystems.len() + 2);
        match cli {
            Cli::V2 => {
                lines.command("discover", &[self.at(discovery), tls.to_vec()]);
                let subsystems = if self.subsystems.is_empty() { &[UNKNOWN] } else { self.subsystems };
                let port = IO[usize::from(self.tls.is_some())];
                for nqn in subsystems {
                    let chap = chap("dhchap-secret", "dhchap-ctrl-secret").to_vec();
                    lines.command("connect", &[self.at(port), vec![("nqn", nqn)], tls.to_vec(), chap]);
                }
            }
            Cli::V3 => {
                let chap = chap("kxchap-secret", "kxchap-ctrl-secret").to_vec();
                lines.command("connect-all", &[self.at(discovery), tls.to_vec(), chap]);
            }
        }
        lines.0
    }

    fn at<'a>(&'a self, port: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![("transport", "tcp"), ("traddr", self.address), ("trsvcid", port), ("hostnqn", &self.keys.nqn)]
    }
}

/// Text that is allocated once: one that grows leaves keys in memory.
struct Lines(Zeroizing<String>);

impl Lines {
    /// Room for a command with three keys, two NQNs in quotes and an address.
    const LINE_MAX: usize = 4096;

    fn for_commands(count: usize) -> Self {
        Self(Zeroizing::new(String::with_capacity(count * Self::LINE_MAX)))
    }

    fn command(&mut self, name: &str, options: &[Vec<(&str, &str)>]) {
        for part in ["nvme ", name] {
            self.0.push_str(part);
        }
        for (option, value) in options.iter().flatten() {
            for part in [" --", option] {
                self.0.push_str(part);
            }
            if !value.is_empty() {
                self.0.push('=');
                self.0.push_str(&quoted(value));
            }
        }
        self.0.push('\n');
    }
}

/// As one word of a shell.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-./:=@_%".contains(&byte);
    if word.bytes().all(is_plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cli, Commands, Lines};
    use crate::{Hash, HostKeys, Secret};

    fn keys(nqn: &str) -> HostKeys {
        Secret::from_random(&[7; 32]).host(nqn)
    }

    /// The keys, each by the name that the lines below have for it.
    fn named(text: &str, keys: &HostKeys) -> String {
        text.replace(&*keys.tls_sha256.expose(), "TLS256")
            .replace(&*keys.tls_sha384.expose(), "TLS384")
            .replace(&*keys.dhchap_host.expose(), "HOST")
            .replace(&*keys.dhchap_controller.expose(), "CONTROLLER")
    }

    #[test]
    fn each_version_has_its_own_options() {
        let keys = keys("nqn.host");
        let tls =
            Commands { keys: &keys, address: "192.0.2.1", subsystems: &["nqn.a", "nqn.b"], tls: Some(Hash::Sha256) };
        let plain = Commands { address: "fe80::1%eth0", subsystems: &[], tls: None, ..tls };
        let sha384 = Commands { tls: Some(Hash::Sha384), ..tls };
        for (commands, cli, expected) in [
            (
                tls,
                Cli::V2,
                "nvme discover --transport=tcp --traddr=192.0.2.1 --trsvcid=8010 --hostnqn=nqn.host --tls --tls-key=TLS256\n\
                 nvme connect --transport=tcp --traddr=192.0.2.1 --trsvcid=4421 --hostnqn=nqn.host --nqn=nqn.a --tls \
                 --tls-key=TLS256 --dhchap-secret=HOST --dhchap-ctrl-secret=CONTROLLER\n\
                 nvme connect --transport=tcp --traddr=192.0.2.1 --trsvcid=4421 --hostnqn=nqn.host --nqn=nqn.b --tls \
                 --tls-key=TLS256 --dhchap-secret=HOST --dhchap-ctrl-secret=CONTROLLER\n",
            ),
            (
                sha384,
                Cli::V3,
                "nvme connect-all --transport=tcp --traddr=192.0.2.1 --trsvcid=8010 --hostnqn=nqn.host --tls \
                 --tls-key=TLS384 --kxchap-secret=HOST --kxchap-ctrl-secret=CONTROLLER\n",
            ),
            (
                plain,
                Cli::V2,
                "nvme discover --transport=tcp --traddr=fe80::1%eth0 --trsvcid=8009 --hostnqn=nqn.host\n\
                 nvme connect --transport=tcp --traddr=fe80::1%eth0 --trsvcid=4420 --hostnqn=nqn.host --nqn=SUBSYSTEM \
                 --dhchap-secret=HOST --dhchap-ctrl-secret=CONTROLLER\n",
            ),
            (
                plain,
                Cli::V3,
                "nvme connect-all --transport=tcp --traddr=fe80::1%eth0 --trsvcid=8009 --hostnqn=nqn.host \
                 --kxchap-secret=HOST --kxchap-ctrl-secret=CONTROLLER\n",
            ),
        ] {
            assert_eq!(named(&commands.expose(cli), &keys), expected);
        }
    }

    #[test]
    fn a_name_is_never_more_than_a_word() {
        let keys = keys("nqn.$(reboot)';reboot");
        let commands = Commands { keys: &keys, address: "192.0.2.1", subsystems: &[], tls: None };
        assert!(commands.expose(Cli::V3).contains(r" --hostnqn='nqn.$(reboot)'\'';reboot' "));
    }

    #[test]
    fn there_is_room_for_the_longest_line() {
        let nqn = "'".repeat(223);
        let keys = keys(&nqn);
        let address = "fe80:1234:1234:1234:1234:1234:1234:1234%enp0s31f6123456";
        let commands = Commands { keys: &keys, address, subsystems: &[&nqn], tls: Some(Hash::Sha384) };
        assert!(commands.expose(Cli::V2).lines().all(|line| line.len() < Lines::LINE_MAX));
    }
}
