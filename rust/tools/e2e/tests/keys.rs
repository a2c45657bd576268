//! Hosts that prove a key to the machine, and to which the machine proves its own, with stock nvme-cli.

use std::time::Duration;

use e2e::{Appliance, Boot, Bus, Failure, Initiator, Lab, Output, Result, digest_of_file, wait_for};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const HOST: &str = "nqn.2014-08.org.example:keyed";
const OTHER_HOST: &str = "nqn.2014-08.org.example:other";
const HOST_ID: &str = "c10ec10e-0000-4000-8000-00000000000b";
const OTHER_ID: &str = "c10ec10e-0000-4000-8000-00000000000c";
/// The bytes 0 to 31.
const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What `diskomator key` prints for a host.
struct Keys {
    host: String,
    controller: String,
    /// The command that connects the machine's one disk, without a host ID.
    connect: String,
    lasting: Value,
}

impl Keys {
    fn of(machine: &Appliance, nqn: &str) -> Result<Self> {
        let text = machine.shell(&format!("diskomator key {nqn} --json"))?;
        let all: Value = serde_json::from_str(&text).unwrap_or_default();
        let word = |name: &str| all[name].as_str().unwrap_or_default().to_owned();
        let connect = all["nvme_cli_2"][1].as_str().unwrap_or_default().to_owned();
        assert!(connect.starts_with("nvme connect ") && connect.contains(nqn), "{connect}");
        let lasting = all["lasting"].clone();
        Ok(Self { host: word("dhchap_host"), controller: word("dhchap_controller"), connect, lasting })
    }
}

fn connect(other: &Initiator, command: &str, id: &str) -> Result<Output> {
    other.try_run(&format!("{command} --hostid={id} --nr-io-queues=1 2>&1"), SOON)
}

/// Waits until the machine's target demands the host's key.
fn wait_keyed(machine: &Appliance, nqn: &str) -> Result<()> {
    let target = "/sys/kernel/config/nvmet";
    wait_for("the host's key in the target", SOON, || {
        let found = machine.try_shell(
            &format!(
                "grep -q DHHC-1 {target}/hosts/{nqn}/dhchap_key && ls -d {target}/subsystems/*/allowed_hosts/{nqn}"
            ),
            SOON,
        )?;
        Ok(if found.status == 0 { Ok(()) } else { Err(found.stdout) })
    })
}

fn wait_exported(machine: &Appliance) -> Result<()> {
    wait_for("the disk's subsystem", SOON, || {
        let listed = machine.shell("echo /sys/kernel/config/nvmet/subsystems/*/namespaces/*")?;
        Ok(if listed.split_whitespace().any(|path| path.ends_with("/namespaces/1")) { Ok(()) } else { Err(listed) })
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn only_the_host_that_proves_its_key_gets_the_disk() -> std::result::Result<(), Failure> {
    Lab::run("only_the_host_that_proves_its_key_gets_the_disk", |lab| {
        let disk = lab.disk(Bus::Nvme, "KEYS-1", 64)?;
        let machine = lab.appliance().boot(Boot::Kernel).disk(&disk).word("diskomator.access=ask").debug();
        let (machine, _) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        wait_exported(&machine)?;
        let before = digest_of_file(disk.file(), disk.size())?;
        let (keys, others) = (Keys::of(&machine, HOST)?, Keys::of(&machine, OTHER_HOST)?);
        assert_eq!(keys.lasting, Value::Bool(false), "nobody gave this machine a secret");
        wait_keyed(&machine, HOST)?;
        wait_keyed(&machine, OTHER_HOST)?;

        let without = |command: &str, option: &str| {
            let words = command.split(' ').filter(|word| !word.starts_with(option));
            words.collect::<Vec<_>>().join(" ")
        };
        let one_way = without(&keys.connect, "--dhchap-ctrl-secret");
        let wrong = other.run("nvme gen-dhchap-key -m 1")?.trim().to_owned();
        for (what, command) in [
            ("no key", without(&one_way, "--dhchap-secret")),
            ("one way", one_way),
            ("a wrong key", keys.connect.replace(&keys.host, &wrong)),
            ("a wrong key of the machine", keys.connect.replace(&keys.controller, &wrong)),
            ("another host's keys", keys.connect.replace(&keys.host, &others.host)),
            ("its key for both ways", keys.connect.replace(&keys.controller, &keys.host)),
        ] {
            let refused = connect(other, &command, HOST_ID)?;
            assert_ne!(refused.status, 0, "a host connects with {what}");
            assert!(other.list()?.iter().all(|namespace| namespace.serial != disk.serial()), "{what}");
        }
        assert_eq!(digest_of_file(disk.file(), disk.size())?, before);

        let connected = connect(other, &keys.connect, HOST_ID)?;
        assert_eq!(connected.status, 0, "{}", connected.stdout);
        let device = other.wait_disk(disk.serial(), SOON)?.device;
        other.run(&format!("dd if=/dev/urandom of={device} bs=1M count=1 oflag=direct 2>&1"))?;
        assert_ne!(digest_of_file(disk.file(), disk.size())?, before);

        // Its daemon dies, and the keys stay the same.
        machine.shell("kill -9 $(pidof diskomator-access)")?;
        wait_for("the daemon", SOON, || {
            let again = machine.try_shell(&format!("diskomator key {HOST} --json"), SOON)?;
            Ok(if again.stdout.contains(&keys.host) { Ok(()) } else { Err("other keys, or none".to_owned()) })
        })?;

        // No secret and no key is where it could be read by others, or by accident.
        machine.shell("[ $(stat -c %a /run/access) = 700 ] && [ $(stat -c %a /run/access/secret) = 600 ]")?;
        let said = machine.kernel_log()?;
        let shown = machine.shell("diskomator config; diskomator hosts --json; diskomator export sync --dry-run")?;
        for text in [&said, &shown] {
            assert!(!text.contains("DHHC-1") && !text.contains(keys.host.trim_start_matches("DHHC-1:01:")), "{text}");
        }

        // A denial ends it at once, and its key alone does not bring it back.
        machine.shell(&format!("diskomator deny {HOST}"))?;
        other.wait_given_up()?;
        assert_ne!(connect(other, &keys.connect, HOST_ID)?.status, 0);
        let connected = connect(other, &others.connect, OTHER_ID)?;
        assert_eq!(connected.status, 0, "{}", connected.stdout);
        other.disconnect_all()?;
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_host_of_the_settings_connects_with_keys_of_the_secret_that_somebody_gave() -> std::result::Result<(), Failure> {
    Lab::run("a_host_of_the_settings_connects_with_keys_of_the_secret_that_somebody_gave", |lab| {
        let disk = lab.disk(Bus::Nvme, "KEYS-2", 64)?;
        let machine = lab.appliance().disk(&disk).smbios(&format!("io.systemd.credential:diskomator.secret={SECRET}"));
        let machine = machine.word("diskomator.access=paired").word(&format!("diskomator.allow={HOST}")).debug();
        let (machine, _) = lab.boot_with_address(machine)?;
        let other = lab.initiator();
        wait_exported(&machine)?;
        wait_keyed(&machine, HOST)?;
        let keys = Keys::of(&machine, HOST)?;
        assert_eq!(keys.lasting, Value::Bool(true));
        // The same as on the user's own machine.
        let elsewhere = machine.shell(&format!("echo {SECRET} | diskomator key {HOST} --secret -"))?;
        assert!(elsewhere.contains(&keys.host) && elsewhere.contains(&keys.controller), "{elsewhere}");
        let config = machine.shell("diskomator config")?;
        assert!(config.contains("given") && !config.contains(SECRET), "{config}");
        assert!(!machine.kernel_log()?.contains(SECRET));

        let by_name = connect(other, &keys.connect.replace(&format!(" --dhchap-secret={}", keys.host), ""), HOST_ID)?;
        assert_ne!(by_name.status, 0, "a host connects by its name alone");
        let connected = connect(other, &keys.connect, HOST_ID)?;
        assert_eq!(connected.status, 0, "{}", connected.stdout);
        other.wait_disk(disk.serial(), SOON)?;
        other.disconnect_all()?;
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_secret_that_is_refused_closes_an_open_machine() -> std::result::Result<(), Failure> {
    Lab::run("a_secret_that_is_refused_closes_an_open_machine", |lab| {
        let disk = lab.disk(Bus::Nvme, "KEYS-3", 64)?;
        let machine = lab.appliance().disk(&disk).smbios("io.systemd.credential:diskomator.secret=hunter2");
        let (machine, address) = lab.boot_with_address(machine.word("diskomator.access=open").debug())?;
        let other = lab.initiator();
        wait_exported(&machine)?;
        other.try_run(&format!("nvme connect-all -t tcp -a {address} 2>&1"), SOON)?;
        assert!(other.list()?.iter().all(|namespace| namespace.serial != disk.serial()));
        let said = machine.shell("diskomator config")?;
        assert!(said.contains("diskomator.secret in SMBIOS is refused") && !said.contains("hunter2"), "{said}");
        assert!(!machine.kernel_log()?.contains("hunter2"));
        Ok(())
    })
}
