//! Another machine gets the log, and what the kernel says when it crashes.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::{Failure, Initiator, Lab, wait_for};

const SOON: Duration = Duration::from_secs(60);

/// Writes what rsyslog understood of each message, a line each. The log comes at once, and a busy machine must have room
/// for it, as UDP asks for nothing again.
const CONFIGURATION: &str = r#"
module(load="imudp")
template(name="parsed" type="list") {
  property(name="pri") constant(value="|")
  property(name="timestamp" dateFormat="rfc3339") constant(value="|")
  property(name="hostname") constant(value="|")
  property(name="app-name") constant(value="|")
  property(name="structured-data") constant(value="|")
  property(name="msg") constant(value="\n")
}
template(name="raw" type="string" string="%rawmsg%\n")
ruleset(name="syslog") { action(type="omfile" file="/run/syslog.log" template="parsed") }
ruleset(name="console") { action(type="omfile" file="/run/console.log" template="raw") }
input(type="imudp" port="514" ruleset="syslog" rcvBufSize="4m")
input(type="imudp" port="6666" ruleset="console")
"#;

fn read(other: &Initiator, file: &str) -> Result<String, e2e::Error> {
    other.run(&format!("cat /run/{file} 2>/dev/null || true"))
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn another_machine_gets_the_log_from_its_start_and_the_kernel_s_last_words() -> Result<(), Failure> {
    Lab::run("another_machine_gets_the_log_from_its_start_and_the_kernel_s_last_words", |lab| {
        // A machine without a screen, which its log doesn't hide.
        let machine = lab.appliance().no_graphics().debug().word("diskomator.syslog=192.168.77.1");
        let (machine, _) = lab.boot_with_address(machine.word("diskomator.netconsole=192.168.77.1"))?;
        let other = lab.initiator();
        // Nobody listens yet: what is sent until then is refused.
        let log = machine.kernel_log()?;
        assert!(log.contains("diskomator-console: no screen: ") && !log.contains("the screen is up"), "{log}");
        wait_for("the log to be refused", SOON, || {
            let log = machine.kernel_log()?;
            Ok(if log.contains("the log can't be sent to 192.168.77.1 yet") { Ok(()) } else { Err(log) })
        })?;
        other.run(&format!("cat >/run/rsyslog.conf <<'END'\n{CONFIGURATION}\nEND"))?;
        other.run("rsyslogd -f /run/rsyslog.conf -i /run/rsyslogd.pid")?;
        let received = wait_for("the log", SOON, || {
            let log = read(other, "syslog.log")?;
            Ok(if log.contains("the log is sent to 192.168.77.1") { Ok(log) } else { Err(log) })
        })?;
        let mac = machine.macs().remove(0).replace(':', "");
        let name = format!("diskomator-{}", &mac[6..]);
        let lines: Vec<Vec<&str>> = received.lines().map(|line| line.splitn(6, '|').collect()).collect();
        for line in &lines {
            assert_eq!((line.len(), line[2]), (6, name.as_str()), "{line:?}");
            assert!(line[1].starts_with("20"), "{line:?}");
        }
        let said = |app: &str, text: &str| lines.iter().any(|line| line[3] == app && line[5].contains(text));
        assert!(said("kernel", "Linux version 6."), "{received}");
        assert!(said("diskomator-dhcp", "leased 192.168.77."), "{received}");
        assert!(lines.iter().any(|line| line[3] == "diskomator-dhcp" && line[0] == "30"), "{received}");
        let numbers: BTreeSet<u64> = lines
            .iter()
            .filter_map(|line| line[4].split_once("sequenceId=\"")?.1.split_once('"')?.0.parse().ok())
            .collect();
        assert_eq!(numbers.first(), Some(&1), "the first record of the kernel is there");
        assert_eq!(numbers.last().copied(), u64::try_from(numbers.len()).ok(), "and none is missing: {received}");
        assert!(numbers.len() > 100 && log.lines().count() <= numbers.len());

        wait_for("netconsole", SOON, || {
            let log = machine.kernel_log()?;
            Ok(if log.contains("the kernel's last words go to 192.168.77.1") { Ok(()) } else { Err(log) })
        })?;
        // A kernel that crashes answers no more.
        let _ = machine.try_shell("echo c >/proc/sysrq-trigger", Duration::from_secs(5));
        wait_for("the panic", SOON, || {
            let console = read(other, "console.log")?;
            Ok(if console.contains("Kernel panic - not syncing: sysrq triggered crash") {
                Ok(())
            } else {
                Err(console)
            })
        })?;
        Ok(())
    })
}
