//! A shell over the network: only when asked for, and only for who was meant.

#[path = "../../../platform/settings/tests/authorized_keys/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::login::{LOGIN, OPTIONS, password_login, shown_passwords, wait_password, with_password};
use e2e::{Appliance, Boot, Failure, Initiator, Lab, Output, Result, wait_for};

const SOON: Duration = Duration::from_secs(60);
/// Makes a pair of keys on the other machine; the line of the public one.
fn make_key(other: &Initiator, name: &str, kind: &str) -> Result<String> {
    other.run(&format!("ssh-keygen -q -t {kind} -N '' -C {name} -f /tmp/{name}"))?;
    Ok(other.run(&format!("cat /tmp/{name}.pub"))?.trim().to_owned())
}

fn with_key(other: &Initiator, address: &str, key: &str, command: &str) -> Result<Output> {
    let options = format!("{OPTIONS} -o BatchMode=yes -o IdentitiesOnly=yes -i /tmp/{key}");
    other.try_run(&format!("ssh {options} root@{address} {command}"), LOGIN)
}

fn wait_listening(other: &Initiator, address: &str) -> Result<()> {
    wait_for("something that listens on port 22", SOON, || {
        let output = other.try_run(&format!("ssh-keyscan -T 30 -t ed25519 {address}"), LOGIN)?;
        Ok(if output.stdout.contains("ssh-ed25519") { Ok(()) } else { Err(output.stderr) })
    })
}

/// The TCP ports that answer, all 65535 of them asked.
fn open_ports(other: &Initiator, address: &str) -> Result<BTreeSet<u16>> {
    // Its library is where Debian's alternatives would make a link to.
    let scan =
        "LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/blas nmap --unprivileged -n -Pn -sT -p- --min-rate 1500 -oG -";
    let report = other.start_command(&format!("{scan} {address}"))?.wait(Duration::from_secs(240))?;
    let ports = report.lines().filter_map(|line| line.split_once("Ports: ")).flat_map(|(_, ports)| {
        let open = ports.split(", ").filter(|port| port.contains("/open/"));
        open.filter_map(|port| port.trim().split('/').next()?.parse().ok()).collect::<Vec<u16>>()
    });
    Ok(ports.collect())
}

/// The ports on which its own sockets listen, of `kind`: tcp or udp.
fn sockets(machine: &Appliance, kind: &str) -> Result<BTreeSet<u16>> {
    // Lines of proc_net_tcp(5): the local address ends in a port in hexadecimal; 0A is LISTEN, 07 a socket of UDP.
    let state = if kind == "tcp" { "0A" } else { "07" };
    let text = machine.shell(&format!("cat /proc/net/{kind} /proc/net/{kind}6"))?;
    let ports = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, _, found) = (words.next()?, words.next()?, words.next()?);
        if found == state { u16::from_str_radix(local.rsplit(':').next()?, 16).ok() } else { None }
    });
    Ok(ports.collect())
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn no_port_is_open_but_those_that_were_promised() -> std::result::Result<(), Failure> {
    Lab::run_for("no_port_is_open_but_those_that_were_promised", Duration::from_secs(900), |lab| {
        let other = lab.initiator();
        let word = |word: Option<&str>| {
            let machine = lab.appliance().boot(Boot::Kernel).debug();
            word.map_or(machine.clone(), |word| machine.word(word))
        };
        for (words, promised) in [(None, vec![4420, 8009]), (Some("diskomator.ssh"), vec![22, 4420, 8009])] {
            let promised: BTreeSet<u16> = promised.into_iter().collect();
            let (machine, address) = lab.boot_with_address(word(words))?;
            other.wait_discovered(&address, "an answer", SOON, |_| true)?;
            if promised.contains(&22) {
                wait_listening(other, &address)?;
            } else {
                let refused = with_password(other, &address, "x", "true")?;
                assert!(refused.stderr.contains("Connection refused"), "{refused:?}");
            }
            assert_eq!(open_ports(other, &address)?, promised, "from outside, with {words:?}");
            assert_eq!(sockets(&machine, "tcp")?, promised, "inside, with {words:?}");
            // Multicast DNS, and clients of DHCP.
            let may: BTreeSet<u16> = [5353, 68, 546].into();
            let has = sockets(&machine, "udp")?;
            assert!(has.is_subset(&may), "{has:?}");
            // Nor does a packet of a neighbour's change its routes (RFC 1122 section 3.2.2.2).
            let redirects = "cd /proc/sys/net; cat ipv[46]/conf/eth0/accept_redirects ipv4/conf/all/accept_redirects";
            assert_eq!(machine.shell(redirects)?.split_whitespace().collect::<Vec<_>>(), ["0"; 3]);
            machine.cut_power();
        }
        Ok(())
    })
}

/// Asks the server about every line of the table: whether it takes the public key in it, for which no
/// private key is known. The keys that it takes are those that this program counts.
fn compare_with_the_server(machine: &Appliance, other: &Initiator, address: &str) -> std::result::Result<(), Failure> {
    /// It ends a session that asks about more keys.
    const AT_ONCE: usize = 10;
    /// Four letters each, in an argument of at most 128 KiB.
    const BYTES: usize = 20_000;
    let rows = table::rows();
    let file: Vec<u8> = rows.iter().flat_map(|row| row.line.iter().copied().chain([b'\n'])).collect();
    machine.shell("cp /root/.ssh/authorized_keys /tmp/keys")?;
    other.run(": >/tmp/lines")?;
    for part in file.chunks(BYTES) {
        let octal: Vec<String> = part.iter().map(|byte| format!("\\{byte:03o}")).collect();
        other.run(&format!("printf '{}' >>/tmp/lines", octal.concat()))?;
    }
    let copied = with_key(other, address, "line", "'cat >/tmp/lines' </tmp/lines")?;
    assert_eq!(copied.status, 0, "{copied:?}");
    machine.shell("cat /tmp/lines >/root/.ssh/authorized_keys")?;
    for (number, some) in rows.chunks(AT_ONCE).enumerate() {
        let name = |place: usize| format!("/tmp/row-{number}-{place}.pub");
        let files: Vec<String> =
            some.iter().enumerate().map(|(place, row)| format!("echo '{}' >{}", row.key, name(place))).collect();
        other.run(&files.join("; "))?;
        let offered: Vec<String> = (0..some.len()).map(|place| format!("-i {}", name(place))).collect();
        let options = OPTIONS.replace("LogLevel=ERROR", "LogLevel=DEBUG1");
        let line =
            format!("ssh {options} -o BatchMode=yes -o IdentitiesOnly=yes {} root@{address} true", offered.join(" "));
        let output = other.try_run(&line, LOGIN)?;
        for (place, row) in some.iter().enumerate() {
            let is_said = |what: &str| {
                output.stderr.lines().any(|line| line.contains(what) && line.contains(&format!("{} ", name(place))))
            };
            assert!(is_said("Offering public key: "), "{}: {output:?}", row.what);
            assert_eq!(is_said("Server accepts key: "), row.admits, "{}: {output:?}", row.what);
        }
    }
    // The screen gives the number of keys that count, and the lines that do not. Then the file is as it was.
    let admitted = rows.iter().filter(|row| row.admits).count();
    wait_for("the lines on the screen", SOON, || {
        let screen = machine.shell("diskomator console --once")?;
        let is_told = screen.contains(&format!("who has a key, of {admitted}\n")) && screen.contains("lets nobody in");
        Ok(if is_told { Ok(()) } else { Err(screen) })
    })?;
    machine.shell("cat /tmp/keys >/root/.ssh/authorized_keys")?;
    Ok(())
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn who_has_a_key_that_was_given_gets_in_and_nobody_else() -> std::result::Result<(), Failure> {
    Lab::run_for("who_has_a_key_that_was_given_gets_in_and_nobody_else", Duration::from_secs(900), |lab| {
        let other = lab.initiator();
        other.wait_ready()?;
        let line = make_key(other, "line", "ed25519")?;
        let bare = make_key(other, "bare", "ecdsa")?;
        let credential = make_key(other, "credential", "ed25519")?;
        let rsa = make_key(other, "rsa", "rsa")?;
        let late = make_key(other, "late", "ed25519")?;
        make_key(other, "stranger", "ed25519")?;
        let builder = lab
            .appliance()
            .boot(Boot::Kernel)
            .debug()
            .word(&format!("\"diskomator.ssh={line}\""))
            .word(&format!("diskomator.ssh={}", bare.split(' ').nth(1).unwrap_or_default()))
            .smbios(&format!("io.systemd.credential:ssh.authorized_keys.root=# of the bench\n{credential}\n{rsa}\n"));
        let (machine, address) = lab.boot_with_address(builder)?;
        wait_listening(other, &address)?;

        for key in ["line", "bare", "credential", "rsa"] {
            let output = with_key(other, &address, key, "'id -u; diskomator export list'")?;
            assert_eq!((output.status, output.stdout.lines().next()), (0, Some("0")), "{key}: {output:?}");
        }
        for key in ["stranger", "late"] {
            let output = with_key(other, &address, key, "true")?;
            assert!(output.status != 0 && output.stderr.contains("Permission denied (publickey)"), "{output:?}");
        }
        // With keys there is no password at all.
        let output = with_password(other, &address, "", "true")?;
        assert!(output.stderr.contains("Permission denied (publickey)"), "{output:?}");
        machine.shell("test ! -e /run/ssh/password")?;
        // A user who is logged in can admit others.
        machine.shell(&format!("echo '{late}' >>/root/.ssh/authorized_keys"))?;
        assert_eq!(with_key(other, &address, "late", "true")?.status, 0);

        // The fingerprint on the screen is the one that the other machine sees.
        let seen = other.run(&format!("ssh-keyscan -t ed25519 {address} 2>/dev/null | ssh-keygen -lf -"))?;
        let fingerprint = seen.split_whitespace().nth(1).unwrap_or_default().to_owned();
        assert!(fingerprint.starts_with("SHA256:"), "{seen}");
        let status = machine.shell("diskomator ssh --status")?;
        assert!(status.contains(&format!("fingerprint  {fingerprint}")), "{status}");
        let screen = machine.shell("diskomator console --once")?;
        assert!(screen.contains(&format!("ssh root@{address}")) && screen.contains(&fingerprint), "{screen}");

        // A terminal, whose end would end the shell, a file, and no way to other machines.
        let output = other.try_run(
            &format!(
                "(echo 'tty; exit 7'; sleep 15) | ssh -tt {OPTIONS} -o IdentitiesOnly=yes -i /tmp/line root@{address}"
            ),
            LOGIN,
        )?;
        assert!(output.status == 7 && output.stdout.contains("/dev/pts/"), "{output:?}");
        let digests = other.run(&format!(
            "scp -q -O {OPTIONS} -i /tmp/line /usr/bin/ssh-keygen root@{address}:/tmp/copy && \
             scp -q -O {OPTIONS} -i /tmp/line root@{address}:/tmp/copy /tmp/copy && \
             b2sum </usr/bin/ssh-keygen && b2sum </tmp/copy"
        ))?;
        let digests: Vec<&str> = digests.lines().collect();
        assert!(digests.len() == 2 && digests[0] == digests[1], "{digests:?}");
        let output = other.try_run(
            &format!("ssh {OPTIONS} -o IdentitiesOnly=yes -i /tmp/line -W {address}:4420 root@{address} </dev/null"),
            LOGIN,
        )?;
        assert_ne!(output.status, 0, "{output:?}");

        compare_with_the_server(&machine, other, &address)?;

        // Neither who is in nor the machine's key is lost when the applet dies.
        let session = other.start_command(&format!(
            "ssh {OPTIONS} -o IdentitiesOnly=yes -i /tmp/line root@{address} 'touch /tmp/in; while [ ! -e /tmp/go ]; do sleep 1; done; echo still'"
        ))?;
        wait_for("the session", SOON, || {
            let output = machine.try_shell("test -e /tmp/in", SOON)?;
            Ok(if output.status == 0 { Ok(()) } else { Err("not in yet".to_owned()) })
        })?;
        machine.shell("kill -9 $(pidof diskomator-ssh)")?;
        wait_for("the server's end", SOON, || {
            let again = machine.shell("pidof diskomator-ssh || true")?;
            Ok(if again.trim().is_empty() { Err("not started again".to_owned()) } else { Ok(()) })
        })?;
        wait_listening(other, &address)?;
        let again = other.run(&format!("ssh-keyscan -t ed25519 {address} 2>/dev/null | ssh-keygen -lf -"))?;
        assert_eq!(again.split_whitespace().nth(1), Some(fingerprint.as_str()));
        machine.shell("touch /tmp/go")?;
        assert_eq!(session.wait(LOGIN)?.trim(), "still");
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn the_password_on_the_screen_lets_in_once() -> std::result::Result<(), Failure> {
    Lab::run_for("the_password_on_the_screen_lets_in_once", Duration::from_secs(900), |lab| {
        let other = lab.initiator();
        // A key that the server does not take is none: the screen says so, and there is a password.
        let refused =
            "from=\"192.0.2.0/24\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPVJlQV3uvuRQk/WwZlRqW84R54QqMaRcbUIjDI28UBs";
        let builder = lab.appliance().boot(Boot::Kernel).word("diskomator.ssh");
        let builder =
            builder.smbios(&format!("io.systemd.credential:ssh.authorized_keys.root=# of the bench\n{refused}\n"));
        let (machine, address) = lab.boot_with_address(builder)?;
        let first = wait_password(&machine, 0)?;
        wait_for("the line that does not count", SOON, || {
            let log = machine.serial_log();
            Ok(if log.contains("Line 2 of the credential ssh.authorized_keys.root") { Ok(()) } else { Err(log) })
        })?;
        wait_listening(other, &address)?;
        let denied = |output: &Output| output.status != 0 && output.stderr.contains("Permission denied");
        for wrong in ["", "diskomator", "root", &first.to_uppercase(), &first[1..]] {
            let output = with_password(other, &address, wrong, "true")?;
            assert!(denied(&output), "{wrong:?}: {output:?}");
        }
        assert_eq!(shown_passwords(&machine), [first.as_str()], "a wrong password changes nothing");

        // Two who have read it at the same time.
        other.run(&format!("printf '#!/bin/sh\\necho {first}\\n' >/tmp/askpass && chmod 700 /tmp/askpass"))?;
        let login = password_login(&address, "'echo in'");
        let both = other.try_run(&format!("{login} & {login} & wait"), LOGIN)?;
        assert_eq!(both.stdout.lines().filter(|line| line.trim() == "in").count(), 1, "{both:?}");
        let output = with_password(other, &address, &first, "true")?;
        assert!(denied(&output), "a second time: {output:?}");

        let second = wait_password(&machine, 1)?;
        assert_ne!(first, second);
        let look = "'dmesg; diskomator config --json; cat /proc/cmdline; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; \
                    cat /etc/passwd /etc/shadow'";
        let output = with_password(other, &address, &second, look)?;
        assert!(output.stdout.contains("Password auth succeeded for 'root'"), "{output:?}");
        let third = wait_password(&machine, 2)?;
        for password in [&first, &second, &third] {
            assert!(!output.stdout.contains(password.as_str()), "a password is to be found on the machine");
        }
        Ok(())
    })
}
