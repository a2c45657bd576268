//! The DHCP servers that there are, each with settings of one meaning.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::lab::{Background, Lab, put, wait_for};

/// A program that gives addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Dnsmasq,
    Kea,
    Dhcpd,
    Udhcpd,
    Networkd,
}

pub(crate) const SERVERS: [Server; 5] = [Server::Dnsmasq, Server::Kea, Server::Dhcpd, Server::Udhcpd, Server::Networkd];

/// The settings of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Its own address.
    pub(crate) own: Ipv4Addr,
    /// The network that it serves, a /24, and there its router.
    pub(crate) network: [u8; 3],
    /// First and last host of the pool.
    pub(crate) pool: (u8, u8),
    /// T1, T2 and the end, in seconds.
    pub(crate) times: [u32; 3],
    /// How long dnsmasq thinks, in seconds.
    pub(crate) delay: u32,
}

impl Terms {
    pub(crate) fn host(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, host)
    }

    pub(crate) fn router(&self) -> Ipv4Addr {
        self.host(1)
    }

    pub(crate) fn gives(&self, address: Ipv4Addr) -> bool {
        (self.pool.0..=self.pool.1).any(|host| self.host(host) == address)
    }

    fn ends(&self) -> [Ipv4Addr; 2] {
        [self.host(self.pool.0), self.host(self.pool.1)]
    }

    fn is_local(&self) -> bool {
        self.own.octets()[..3] == self.network
    }
}

/// A server's record of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    Given,
    Declined,
    Released,
}

impl Server {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Dnsmasq => "dnsmasq",
            Self::Kea => "Kea",
            Self::Dhcpd => "ISC dhcpd",
            Self::Udhcpd => "udhcpd",
            Self::Networkd => "networkd",
        }
    }

    /// The shortest terms that it keeps to: T1, T2 and the end, in seconds.
    /// dhcpcd takes twenty seconds for any lease that is shorter.
    pub(crate) const fn shortest(self) -> [u32; 3] {
        match self {
            // Two minutes at least, but the other two are as one likes.
            Self::Dnsmasq => [2, 4, 120],
            Self::Kea | Self::Dhcpd | Self::Udhcpd => [2, 4, 24],
            // Half and seven eighths, whatever one asks for.
            Self::Networkd => [4, 7, 8],
        }
    }

    /// T1, T2 and the lease's end, with time for a server on a busy machine to answer before T2.
    pub(crate) const fn unhurried(self) -> [u32; 3] {
        match self {
            Self::Dnsmasq => [6, 12, 120],
            Self::Kea | Self::Dhcpd | Self::Udhcpd => [6, 12, 24],
            Self::Networkd => [8, 14, 16],
        }
    }

    /// It gives an address again that was declined.
    pub(crate) fn forgets_declines(self) -> bool {
        self == Self::Networkd
    }

    /// Starts one on `machine`'s `link`. Started again there it finds the
    /// leases that the last one wrote down, if it writes them down.
    pub(crate) fn start<'a>(self, lab: &'a Lab, machine: &Background, link: &'a str, terms: &Terms) -> Running<'a> {
        let leases = lab.path(&format!("{self:?}-leases")).to_str().unwrap().to_owned();
        if !fs::exists(&leases).unwrap() {
            fs::write(&leases, "").unwrap();
        }
        let files = Files {
            settings: lab.path(&format!("{self:?}-settings")).to_str().unwrap().to_owned(),
            pid: lab.path(&format!("{self:?}-pid")).to_str().unwrap().to_owned(),
            leases,
        };
        if self == Self::Networkd {
            // It sets the link's address itself, and goes on for ever about one that is there already.
            machine.run("ip", &["address", "flush", "dev", link]);
            lab.empty_run();
        }
        let (words, ready) = match self {
            Self::Dnsmasq => dnsmasq(&files, link, terms),
            Self::Kea => kea(&files, link, terms),
            Self::Dhcpd => dhcpd(&files, link, terms),
            Self::Udhcpd => udhcpd(&files, link, terms),
            Self::Networkd => networkd(link, terms),
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (process, log) = lab.start_on(Some(machine), words[0], &words[1..]);
        let running = Running { server: self, lab, process, log, leases: files.leases };
        wait_for(&format!("{} to say {ready:?}", self.name()), || running.log().contains(ready).then_some(()));
        running
    }
}

/// Files of a server's own.
struct Files {
    settings: String,
    leases: String,
    pid: String,
}

/// The words that start a server, and what it says once it listens.
type Command = (Vec<String>, &'static str);

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

fn dnsmasq(files: &Files, link: &str, terms: &Terms) -> Command {
    let [t1, t2, end] = terms.times;
    let [first, last] = terms.ends();
    let mut all = words(&["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-ping"]);
    all.extend(words(&["--bind-interfaces", "--dhcp-authoritative", "--log-dhcp", "--pid-file="]));
    all.extend([
        format!("--interface={link}"),
        format!("--dhcp-leasefile={}", files.leases),
        format!("--dhcp-range={first},{last},255.255.255.0,{end}s"),
        format!("--dhcp-option=3,{}", terms.router()),
        format!("--dhcp-option-force=58,{t1}"),
        format!("--dhcp-option-force=59,{t2}"),
        format!("--dhcp-reply-delay={}", terms.delay),
    ]);
    (all, "sockets bound")
}

fn kea(files: &Files, link: &str, terms: &Terms) -> Command {
    let [t1, t2, end] = terms.times;
    let [first, last] = terms.ends();
    let mut subnet = serde_json::json!({
        "subnet": format!("{}/24", terms.host(0)),
        "pools": [{ "pool": format!("{first}-{last}") }],
        "option-data": [{ "name": "routers", "data": terms.router().to_string() }],
    });
    if terms.is_local() {
        subnet["interface"] = link.into();
    }
    let settings = serde_json::json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": [link] },
        // No clean-up of the file, which is another program's work.
        "lease-database": { "type": "memfile", "name": files.leases, "lfc-interval": 0 },
        "authoritative": true,
        "valid-lifetime": end, "renew-timer": t1, "rebind-timer": t2,
        "subnet4": [subnet],
        "loggers": [{
            "name": "kea-dhcp4", "severity": "DEBUG", "debuglevel": 40, "output_options": [{ "output": "stdout" }],
        }],
    }});
    put(&files.settings, &settings.to_string());
    let pid = format!("KEA_PIDFILE_DIR={}", Path::new(&files.pid).parent().unwrap().display());
    (words(&["env", &pid, "KEA_LOCKFILE_DIR=none", "kea-dhcp4", "-c", &files.settings]), "DHCP4_STARTED")
}

fn dhcpd(files: &Files, link: &str, terms: &Terms) -> Command {
    let [t1, t2, end] = terms.times;
    let [first, last] = terms.ends();
    let [a, b, c, _] = terms.own.octets();
    let elsewhere =
        if terms.is_local() { String::new() } else { format!("subnet {a}.{b}.{c}.0 netmask 255.255.255.0 {{}}\n") };
    put(
        &files.settings,
        &format!(
            "authoritative;\nping-check false;\nddns-update-style none;\n\
             default-lease-time {end};\nmax-lease-time {end};\n\
             option dhcp-renewal-time {t1};\noption dhcp-rebinding-time {t2};\n{elsewhere}\
             subnet {} netmask 255.255.255.0 {{ range {first} {last}; option routers {}; }}\n",
            terms.host(0),
            terms.router(),
        ),
    );
    let all = ["dhcpd", "-4", "-f", "-d", "-cf", &files.settings, "-lf", &files.leases, "-pf", &files.pid, link];
    (words(&all), "Server starting service")
}

fn udhcpd(files: &Files, link: &str, terms: &Terms) -> Command {
    let [t1, t2, end] = terms.times;
    let [first, last] = terms.ends();
    put(
        &files.settings,
        &format!(
            "interface {link}\nstart {first}\nend {last}\nlease_file {}\npidfile {}\nmin_lease 5\n\
             auto_time 1\noption lease {end}\noption subnet 255.255.255.0\noption router {}\n\
             option 0x3a {t1:08x}\noption 0x3b {t2:08x}\n",
            files.leases,
            files.pid,
            terms.router(),
        ),
    );
    (words(&["busybox", "udhcpd", "-f", &files.settings]), "started, v")
}

fn networkd(link: &str, terms: &Terms) -> Command {
    let [_, _, end] = terms.times;
    put(
        "/run/systemd/network/10-test.network",
        &format!(
            "[Match]\nName={link}\n[Network]\nAddress={}/24\nDHCPServer=yes\nLinkLocalAddressing=no\n\
             IPv6AcceptRA=no\n[DHCPServer]\nPoolOffset={}\nPoolSize={}\nDefaultLeaseTimeSec={end}\n\
             MaxLeaseTimeSec={end}\nEmitDNS=no\nEmitNTP=no\nEmitTimezone=no\n",
            terms.own,
            terms.pool.0,
            terms.pool.1 - terms.pool.0 + 1,
        ),
    );
    // It looks for its links in /sys, and waits for udev unless that is read-only.
    let script = "mount -t sysfs -o ro none /sys && \
                  SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console exec systemd-networkd";
    (words(&["unshare", "--mount", "sh", "-c", script]), "STARTED")
}

/// A server at work.
pub(crate) struct Running<'a> {
    server: Server,
    lab: &'a Lab,
    process: Background,
    log: String,
    leases: String,
}

impl Running<'_> {
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Forgets all leases, as a new machine does.
    pub(crate) fn forget(&self) {
        fs::remove_file(&self.leases).unwrap();
    }

    fn log(&self) -> String {
        self.lab.text(&self.log)
    }

    /// Waits until it has written down what became of `address`.
    pub(crate) fn wait_for(&self, note: Note, address: Ipv4Addr) {
        wait_for(&format!("{} to note {address} as {note:?}", self.server.name()), || {
            self.has_noted(note, address).then_some(())
        });
    }

    fn has_noted(&self, note: Note, address: Ipv4Addr) -> bool {
        let text = address.to_string();
        let word = match (self.server, note) {
            (Server::Dnsmasq | Server::Dhcpd, Note::Given) => "DHCPACK",
            (Server::Dnsmasq | Server::Dhcpd, Note::Declined) => "DHCPDECLINE",
            (Server::Dnsmasq | Server::Dhcpd, Note::Released) => "DHCPRELEASE",
            (Server::Kea, Note::Given) => "DHCP4_LEASE_ALLOC",
            (Server::Kea, Note::Declined) => "DHCP4_DECLINE_LEASE",
            (Server::Kea, Note::Released) => "DHCP4_RELEASE ",
            (Server::Udhcpd, _) => return self.udhcpd_has_noted(note, address),
            // It names a client, never an address.
            (Server::Networkd, Note::Given) => return self.log().contains("ACK ("),
            (Server::Networkd, Note::Declined) => return self.log().contains("DECLINE ("),
            (Server::Networkd, Note::Released) => return self.log().contains("RELEASE ("),
        };
        self.log().lines().any(|line| line.contains(word) && line.contains(&text))
    }

    /// Its file has the time, and for each lease in 36 bytes what is left of
    /// that, the address, and the client, which is nobody if it was declined.
    fn udhcpd_has_noted(&self, note: Note, address: Ipv4Addr) -> bool {
        let file = fs::read(&self.leases).unwrap();
        let leases = file.get(8..).unwrap_or_default().chunks_exact(36);
        let mut of_address = leases.filter(|lease| lease[4..8] == address.octets());
        of_address.any(|lease| match note {
            Note::Given => lease[..4] != [0; 4] && lease[8..14] != [0; 6],
            Note::Declined => lease[8..14] == [0; 6],
            Note::Released => lease[..4] == [0; 4],
        })
    }
}
