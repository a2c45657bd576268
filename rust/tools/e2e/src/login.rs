//! A login over SSH from the other machine, with the password that the screen shows.

use std::time::Duration;

use crate::{Appliance, Initiator, Output, Result, wait_for};

const SOON: Duration = Duration::from_secs(60);
/// One login, on two emulated processors.
pub const LOGIN: Duration = Duration::from_secs(90);
/// Asks nobody about the machine's key, and for a password once.
pub const OPTIONS: &str = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
                       -o NumberOfPasswordPrompts=1 -o ConnectTimeout=60";

/// The command line that logs in with a password. Only what asks for it sees that.
pub fn password_login(address: &str, command: &str) -> String {
    format!(
        "SSH_ASKPASS=/tmp/askpass SSH_ASKPASS_REQUIRE=force ssh {OPTIONS} -o PubkeyAuthentication=no \
         root@{address} {command}"
    )
}

/// Logs in with a password, and runs a command.
pub fn with_password(other: &Initiator, address: &str, password: &str, command: &str) -> Result<Output> {
    other.run(&format!("printf '#!/bin/sh\\necho {password}\\n' >/tmp/askpass && chmod 700 /tmp/askpass"))?;
    other.try_run(&password_login(address, command), LOGIN)
}

/// Every password that the screen on the serial port has shown, the last one at the end.
pub fn shown_passwords(machine: &Appliance) -> Vec<String> {
    let is_password = |word: &&str| {
        let groups: Vec<&str> = word.split('-').collect();
        let is_group = |group: &&str| {
            group.len() == 5 && group.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        groups.len() == 3 && groups.iter().all(is_group)
    };
    let log = machine.serial_log();
    let words = log.split(|c: char| c.is_whitespace() || c.is_control());
    let mut shown: Vec<String> = Vec::new();
    for password in words.filter(is_password) {
        if shown.last().is_none_or(|last| last != password) {
            shown.push(password.to_owned());
        }
    }
    shown
}

/// The password that is on the screen after `number` other ones.
pub fn wait_password(machine: &Appliance, number: usize) -> Result<String> {
    wait_for(&format!("password {number} on the screen"), SOON, || {
        machine.check()?;
        let shown = shown_passwords(machine);
        Ok(shown.get(number).cloned().ok_or_else(|| format!("{shown:?}")))
    })
}
