//! Which hosts the kernel's target lets in, whom it asks about the others, and that a host is who it says it is. The
//! subsystem and its port are made by hand, beside what the image does by itself.

use std::fmt::Write as _;
use std::time::Duration;

use e2e::{Appliance, Boot, Bus, Disk, Failure, Initiator, Lab, wait_for};

type Result<T = ()> = std::result::Result<T, Failure>;

const SOON: Duration = Duration::from_secs(60);
const PORT: u16 = 4477;
const SUBSYSTEM: &str = "nqn.2014-08.org.example:rules";
const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";
const TARGET: &str = "/sys/kernel/config/nvmet";
const HOST: &str = "nqn.2014-08.org.example:host";
const HOST_ID: &str = "c10ec10e-0000-4000-8000-00000000000a";
/// Connect Invalid Host.
const INVALID_HOST: u16 = 0x184;
const DO_NOT_RETRY: u16 = 0x4000;
/// How long after a change of the hosts nobody is refused for good: the kernel's five seconds, and the time that a
/// command takes.
const SETTLED: &str = "sleep 6";
/// How many events a second the kernel passes on from one address.
const EVENTS: usize = 10;

/// A subsystem that allows no host, on a port of its own.
fn export(machine: &Appliance) -> Result {
    machine.shell(&format!(
        "cd {TARGET} && mkdir subsystems/{SUBSYSTEM} subsystems/{SUBSYSTEM}/namespaces/1 ports/77 && \
         echo -n /dev/vda >subsystems/{SUBSYSTEM}/namespaces/1/device_path && \
         echo 1 >subsystems/{SUBSYSTEM}/namespaces/1/enable && \
         echo ipv4 >ports/77/addr_adrfam && echo tcp >ports/77/addr_trtype && \
         echo 0.0.0.0 >ports/77/addr_traddr && echo {PORT} >ports/77/addr_trsvcid && \
         ln -s $PWD/subsystems/{SUBSYSTEM} ports/77/subsystems/{SUBSYSTEM}"
    ))?;
    Ok(())
}

fn link() -> String {
    format!("ln -s {TARGET}/hosts/{HOST} {TARGET}/subsystems/{SUBSYSTEM}/allowed_hosts/{HOST}")
}

fn unlink() -> String {
    format!("rm {TARGET}/subsystems/{SUBSYSTEM}/allowed_hosts/{HOST}")
}

/// Ends the connections of the subsystem, which hosts take for a fault of the network.
fn break_connections(machine: &Appliance) -> Result {
    machine
        .shell(&format!("for state in /sys/kernel/debug/nvmet/{SUBSYSTEM}/ctrl*/state; do echo fatal >$state; done"))?;
    Ok(())
}

/// The kernel's events on the machine, with a program of the other one's: the image has none for that.
struct Events<'a>(&'a Appliance);

impl<'a> Events<'a> {
    fn listen(machine: &'a Appliance, other: &Initiator) -> Result<Self> {
        other.run("busybox httpd -p 80 -h /usr/bin </dev/null >/dev/null 2>&1")?;
        machine.shell(
            "wget -q -O /tmp/busybox http://192.168.77.1/busybox && chmod 755 /tmp/busybox && : >/tmp/events && \
             printf '#!/bin/sh\\n[ \"$SUBSYSTEM\" != nvmet ] || \
             echo \"$ACTION $NVMET_REQUEST $HOSTNQN $HOST_TRADDR $SUBSYSNQN\" >>/tmp/events\\n' >/tmp/note && \
             chmod 755 /tmp/note && { /tmp/busybox uevent /tmp/note >/dev/null 2>&1 & }",
        )?;
        // It is there as soon as it hears of an event that is made for it.
        wait_for("the listener to uevents", SOON, || {
            machine.shell("echo add >/sys/class/nvmet/nvmet/uevent")?;
            let heard = machine.shell("cat /tmp/events")?;
            Ok(if heard.is_empty() { Err(heard) } else { Ok(()) })
        })?;
        Ok(Self(machine))
    }

    /// Those since the last time, after which nothing may come any more: a line each.
    fn take(&self) -> Result<Vec<String>> {
        let lines = self.0.shell("sleep 1; cat /tmp/events; : >/tmp/events")?;
        Ok(lines.lines().filter(|line| !line.starts_with("add ")).map(str::to_owned).collect())
    }

    fn wait(&self, wanted: &str) -> Result {
        wait_for(&format!("the event {wanted}"), SOON, || {
            let heard = self.0.shell("cat /tmp/events")?;
            Ok(if heard.lines().any(|line| line == wanted) { Ok(()) } else { Err(heard) })
        })?;
        Ok(())
    }
}

/// The bytes that a host sends, put together by hand: what a stock host never sends, and an exact answer.
struct Wire(Vec<u8>);

impl Wire {
    /// Begins with the request for a connection.
    fn new() -> Self {
        let mut bytes = vec![0; 128];
        bytes[2] = 128;
        bytes[4] = 128;
        Self(bytes)
    }

    /// A command with these bytes at places of it, and its data.
    fn command(mut self, opcode: u8, parts: &[(usize, &[u8])], data: &[u8]) -> Self {
        let mut command = [0; 64];
        command[0] = opcode;
        // Scattered data is described as NVMe over Fabrics has it.
        command[1] = 0x40;
        let length = u32::try_from(data.len()).unwrap_or_default();
        command[32..36].copy_from_slice(&length.to_le_bytes());
        command[39] = 0x01;
        for (at, part) in parts {
            command[*at..at + part.len()].copy_from_slice(part);
        }
        let whole = 72 + length;
        self.0.extend([0x04, 0, 72, if data.is_empty() { 0 } else { 72 }]);
        self.0.extend(whole.to_le_bytes());
        self.0.extend(command);
        self.0.extend(data);
        self
    }

    /// Connect, of the queue for administration.
    fn connect(self, subsystem: &str, host: &[u8]) -> Self {
        let mut data = [0; 1024];
        data[..16].copy_from_slice(b"raw host of test");
        data[16..18].copy_from_slice(&[0xff, 0xff]);
        data[256..256 + subsystem.len()].copy_from_slice(subsystem.as_bytes());
        data[512..512 + host.len()].copy_from_slice(host);
        self.command(0x7f, &[(4, &[1]), (44, &[31, 0])], &data)
    }

    /// A command that asks for so many bytes.
    fn ask(self, opcode: u8, parts: &[(usize, &[u8])], length: u32) -> Self {
        let mut all: Vec<(usize, &[u8])> = parts.to_vec();
        let length = length.to_le_bytes();
        all.extend([(32, &length[..]), (39, &[0x5a][..])]);
        self.command(opcode, &all, &[])
    }

    /// A message of the authentication.
    fn prove(self, message: &[u8]) -> Self {
        let length = u32::try_from(message.len()).unwrap_or_default().to_le_bytes();
        self.command(0x7f, &[(4, &[5]), (41, &[1, 1, 0xe9]), (44, &length)], message)
    }

    /// Asks for the other side's message.
    fn hear(self) -> Self {
        let length = 2048_u32;
        self.ask(0x7f, &[(4, &[6]), (41, &[1, 1, 0xe9]), (44, &length.to_le_bytes())], length)
    }

    /// Sends it, and gives what comes back within two seconds.
    fn send(self, other: &Initiator, address: &str) -> Result<Vec<u8>> {
        let mut hex = String::new();
        for byte in &self.0 {
            let _ = write!(hex, "{byte:02x}");
        }
        let said = other.run(&format!(
            "echo {hex} | busybox xxd -r -p >/tmp/wire; (cat /tmp/wire; sleep 2) | \
             busybox timeout 10 busybox nc {address} {PORT} | od -An -v -tx1"
        ))?;
        Ok(said.split_whitespace().filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect())
    }
}

/// The status that the target answers Connect with; 0 is success.
fn connect_status(other: &Initiator, address: &str, host: &[u8]) -> Result<u16> {
    let answer = Wire::new().connect(SUBSYSTEM, host).send(other, address)?;
    // Behind the answer to the request, the header of the next one, and the status at the end of the completion.
    match answer.get(128 + 8 + 14..128 + 24) {
        Some(&[low, high]) => Ok(u16::from_le_bytes([low, high]) >> 1),
        _ => Err(Failure::new(format!("no answer to Connect, but {answer:02x?}"))),
    }
}

/// The states of the other machine's connections, as its kernel has them; empty when it has none.
fn states(other: &Initiator) -> e2e::Result<String> {
    Ok(other.run("cat /sys/class/nvme/nvme*/state 2>/dev/null || true")?.trim().to_owned())
}

fn connect(other: &Initiator, address: &str, options: &str) -> Result<e2e::Output> {
    let command = format!(
        "nvme connect -t tcp -a {address} -s {PORT} -n {SUBSYSTEM} --hostnqn={HOST} --hostid={HOST_ID} \
         --nr-io-queues=1 --reconnect-delay=1 --ctrl-loss-tmo=600 {options}"
    );
    Ok(other.try_run(&command, SOON)?)
}

/// Boots the machine with one disk, and exports that by hand.
fn with_target(name: &str, test: impl FnOnce(&Disk, &Appliance, &Initiator, &str) -> Result) -> Result {
    Lab::run(name, |lab| {
        let disk = lab.disk(Bus::VirtioBlk, "ADMIT-8101", 64)?;
        let machine = lab.appliance().boot(Boot::Kernel).disk(&disk).word("diskomator.export=none").debug();
        let (machine, address) = lab.boot_with_address(machine)?;
        export(&machine)?;
        test(&disk, &machine, lab.initiator(), &address)
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_host_that_nobody_decided_on_is_asked_about_and_waits() -> Result {
    with_target("a_host_that_nobody_decided_on_is_asked_about_and_waits", |_, machine, other, address| {
        let events = Events::listen(machine, other)?;
        let on_connect = format!("change connect {HOST} 192.168.77.1 {SUBSYSTEM}");

        // The log that it reads is empty, and Connect is refused, each time with an event.
        let log = other
            .run(&format!("nvme discover -t tcp -a {address} -s {PORT} --hostnqn={HOST} --hostid={HOST_ID} -o json"))?;
        assert!(!log.contains(SUBSYSTEM), "a host that is not allowed is told of {log}");
        events.wait(&format!("change discover {HOST} 192.168.77.1 "))?;
        let refused = connect(other, address, "")?;
        assert_ne!(refused.status, 0, "a host that is not allowed could connect");
        events.wait(&on_connect)?;
        events.take()?;
        assert_eq!(connect_status(other, address, HOST.as_bytes())?, INVALID_HOST, "it may retry");
        assert_eq!(events.take()?, std::slice::from_ref(&on_connect));

        // Admitted, it connects. Forgotten, it tries again and again.
        machine.shell(&format!("mkdir {TARGET}/hosts/{HOST} && {}", link()))?;
        let connected = connect(other, address, "")?;
        assert_eq!(connected.status, 0, "{connected:?}");
        machine.shell(&format!("{} && rmdir {TARGET}/hosts/{HOST} && {SETTLED}", unlink()))?;
        assert_eq!(states(other)?, "live", "taking the link away ends no connection");
        break_connections(machine)?;
        wait_for("the host to try four times", SOON, || {
            let tries = other.run("dmesg | grep -c 'Failed reconnect attempt' || true")?;
            Ok(if tries.trim().parse().unwrap_or(0) >= 4 { Ok(()) } else { Err(tries) })
        })?;
        assert_eq!(states(other)?, "connecting");
        assert!(events.take()?.contains(&on_connect));

        // Between the steps of its admission it is not told to give up, and then it is there by itself.
        machine.shell(&format!("mkdir {TARGET}/hosts/{HOST} && sleep 3 && {}", link()))?;
        wait_for("the host to be connected again", SOON, || {
            let states = states(other)?;
            Ok(if states == "live" { Ok(()) } else { Err(states) })
        })?;
        events.take()?;

        // Denied, it gives up, and nobody is asked.
        machine.shell(&format!("{} && {SETTLED}", unlink()))?;
        break_connections(machine)?;
        wait_for("the host to give up", SOON, || {
            let states = states(other)?;
            Ok(if states.is_empty() { Ok(()) } else { Err(states) })
        })?;
        assert_eq!(connect_status(other, address, HOST.as_bytes())?, INVALID_HOST | DO_NOT_RETRY);
        other.run(&format!("nvme discover -t tcp -a {address} -s {PORT} --hostnqn={HOST} --hostid={HOST_ID}"))?;
        assert_eq!(events.take()?, Vec::<String>::new(), "events of a host that was denied");
        Ok(())
    })
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn hostile_names_and_floods_of_requests_do_not_reach_user_space() -> Result {
    with_target("hostile_names_and_floods_of_requests_do_not_reach_user_space", |_, machine, other, address| {
        let events = Events::listen(machine, other)?;
        events.take()?;
        let hostile: [&[u8]; 7] = [
            b"",
            b"nqn.2014-08.org.example:two words",
            b"nqn.2014-08.org.example:line\nHOSTNQN=another",
            b"nqn.2014-08.org.example:\x1b[2J",
            b"nqn.2014-08.org.example:\x7f",
            "nqn.2014-08.org.example:\u{fc}".as_bytes(),
            b"../subsystems/x",
        ];
        for host in hostile {
            let status = connect_status(other, address, host)?;
            assert_eq!(status, INVALID_HOST | DO_NOT_RETRY, "{host:?}");
            // The log, which is never refused: a controller that is enabled, and its first bytes.
            read_log(Wire::new().connect(DISCOVERY, host), 1).send(other, address)?;
        }
        // The longest name there can be, and a longer one.
        let long = [b'n'; 224];
        assert_eq!(connect_status(other, address, &long)?, INVALID_HOST | DO_NOT_RETRY);
        assert_eq!(events.take()?, Vec::<String>::new());
        assert_eq!(connect_status(other, address, &long[..223])?, INVALID_HOST);
        assert_eq!(events.take()?.len(), 1);

        // All in less than a second, by one connection.
        let answers = read_log(Wire::new().connect(DISCOVERY, HOST.as_bytes()), 60).send(other, address)?;
        assert!(answers.len() > 60 * 24, "{} bytes of answers", answers.len());
        let heard = events.take()?;
        assert!(!heard.is_empty() && heard.len() <= 3 * EVENTS, "{} events: {heard:?}", heard.len());
        machine.check()?;
        Ok(())
    })
}

/// Has the controller enabled, and its log read so many times.
fn read_log(wire: Wire, times: usize) -> Wire {
    let enable = 0x0046_0001_u32.to_le_bytes();
    let enabled = wire.command(0x7f, &[(4, &[0]), (44, &[0x14]), (48, &enable)], &[]);
    (0..times).fold(enabled, |wire, _| wire.ask(0x02, &[(40, &[0x70, 0, 0x03, 0])], 16))
}

#[test]
#[ignore = "boots virtual machines; run by make test"]
fn a_host_leaves_out_nothing_of_its_authentication() -> Result {
    with_target("a_host_leaves_out_nothing_of_its_authentication", |disk, machine, other, address| {
        let key = || Ok::<_, Failure>(other.run("nvme gen-dhchap-key -m 0")?.trim().to_owned());
        let (own, controller) = (key()?, key()?);
        let host = format!("{TARGET}/hosts/{HOST}");
        machine.shell(&format!(
            "mkdir {host} && echo -n '{own}' >{host}/dhchap_key && echo -n '{controller}' >{host}/dhchap_ctrl_key && \
             echo ffdhe2048 >{host}/dhchap_dhgroup && {}",
            link()
        ))?;

        let one_way = connect(other, address, &format!("--dhchap-secret={own}"))?;
        assert_ne!(one_way.status, 0, "a host that does not challenge the machine could connect");
        let said = machine.kernel_log()?;
        assert!(said.contains("does not challenge the controller"), "{said}");

        // An answer without a value of Diffie and Hellman is refused before anything is computed from it.
        let negotiate = {
            let mut message = [0; 72];
            message[4] = 7;
            message[7] = 1;
            message[8] = 1;
            message[10..13].copy_from_slice(&[1, 1, 1]);
            message[12 + 30] = 1;
            message
        };
        let reply = {
            let mut message = [0; 16 + 2 * 32];
            // The reply of a host that challenges the machine.
            message[..2].copy_from_slice(&[1, 2]);
            message[4] = 7;
            message[6] = 32;
            message[8] = 1;
            message
        };
        let wire = Wire::new().connect(SUBSYSTEM, HOST.as_bytes());
        let answers = wire.prove(&negotiate).hear().prove(&reply).hear().send(other, address)?;
        // Failure 1: authentication failed, because of an incorrect payload.
        let failure = [0, 0xf1, 0, 0, 7, 0, 1, 6];
        assert!(answers.windows(failure.len()).any(|bytes| bytes == failure), "{answers:02x?}");

        // Both ways and with a value, as stock hosts have it.
        let both = connect(other, address, &format!("--dhchap-secret={own} --dhchap-ctrl-secret={controller}"))?;
        assert_eq!(both.status, 0, "{both:?}");
        let seen = other.wait_sized(disk.size(), SOON)?;
        other.run(&format!("dd if={} of=/dev/null bs=64k count=1", seen.device))?;
        other.disconnect_all()?;
        Ok(())
    })
}
