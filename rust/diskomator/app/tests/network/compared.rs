//! The appliance's DHCP client beside those that others use: a benchmark.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use kernel::netlink::Netlink;
use netproto::dhcp::wire::Kind;
use serde_json::{Value, json};

use crate::clients::Client;
use crate::lab::{Background, Lab, apart, case, program};
use crate::matrix::{LONG, Stage, ran_case, run_all, terms};
use crate::servers::Server;

const NAME: &str = "compared::clients_compared";
/// How often each is started.
const RUNS: usize = 9;
const CLIENTS: [Client; 5] =
    [Client::Diskomator, Client::UdhcpcProbing, Client::Dhcpcd, Client::Udhcpc, Client::DhcpcdHasty];

#[test]
#[ignore = "a benchmark; run by make bench DHCP=1"]
fn clients_compared() {
    let clients = [Client::Diskomator, Client::Udhcpc, Client::Dhcpcd];
    if ran_case(NAME, &clients) {
        return;
    }
    if let Some(client) = CLIENTS.into_iter().find(|client| case() == Some(word(*client))) {
        println!("{MEASURED}{}", measure(&Lab::new(NAME), client));
        return;
    }
    let mut figures: Vec<(Client, Vec<Value>)> = CLIENTS.map(|client| (client, Vec::new())).to_vec();
    // In turn, so that what else the machine does befalls all alike.
    for _ in 0..RUNS {
        for (client, figures) in &mut figures {
            let said = apart(NAME, &word(*client)).unwrap_or_else(|said| panic!("{}:\n{said}", client.name()));
            let line = said.lines().find_map(|line| line.split_once(MEASURED)).unwrap().1;
            figures.push(serde_json::from_str(line).unwrap());
        }
    }
    print(&figures);
    let failed = run_all(NAME, &clients);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The word of a child before its figures.
const MEASURED: &str = "measured ";

fn word(client: Client) -> String {
    format!("measure {client:?}")
}

/// One start with a server that answers at once: times in milliseconds from the
/// start of the process, memory in KiB.
fn measure(lab: &Lab, client: Client) -> Value {
    let stage = Stage::set(lab, client, Server::Dnsmasq);
    let terms = terms(LONG);
    let (_machine, _server) = stage.serve(&terms);
    let netlink = Netlink::new().unwrap();
    let start = Instant::now();
    let end = start + Duration::from_secs(30);
    let asking = client.start(lab);
    let address = loop {
        let all = netlink.addresses().unwrap().into_iter();
        let leased = all.filter_map(|address| match address.ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        if let Some(address) = leased.into_iter().find(|address| terms.gives(*address)) {
            break address;
        }
        assert!(Instant::now() < end, "no address in {:?}", end - start);
        thread::sleep(Duration::from_millis(1));
    };
    let held = start.elapsed();
    let since = |kind| {
        let first = stage.wire.wait_for("the message", |seen| seen.is(kind));
        first.at.saturating_duration_since(start).as_secs_f64() * 1e3
    };
    let times = [since(Kind::Discover), since(Kind::Ack), held.as_secs_f64() * 1e3];
    // Its work at the start is over.
    thread::sleep(Duration::from_secs(1));
    let (resident, own) = memory(&asking.process);
    json!({ "discover": times[0], "ack": times[1], "address": times[2], "probes": stage.wire.probes(address),
            "resident": resident, "own": own })
}

/// Resident memory of a process and all that it started, and the part that is
/// proportionally theirs where they share it, in KiB.
fn memory(process: &Background) -> (u64, u64) {
    let mut all = vec![process.id()];
    let mut at = 0;
    while let Some(id) = all.get(at) {
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        all.extend(children.split_whitespace().map(|child| child.parse::<u32>().unwrap()));
        at += 1;
    }
    let sum = |field: &str| {
        let rows = all.iter().map(|id| fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default());
        let of = |text: String| {
            let line = text.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
            line.and_then(|line| line.trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
        };
        rows.map(of).sum()
    };
    (sum("Rss:"), sum("Pss:"))
}

/// A program's file, and those of the libraries that it loads, in KiB.
fn sizes(client: Client) -> (u32, u32) {
    let file = match client {
        Client::Diskomator => PathBuf::from(program()),
        Client::Udhcpc | Client::UdhcpcProbing => unpacked("busybox"),
        Client::Dhcpcd | Client::DhcpcdHasty => unpacked("dhcpcd"),
    };
    let libraries = Command::new("ldd").arg(&file).output().unwrap();
    let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
    let paths = libraries.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let size = |path: &Path| u32::try_from(fs::metadata(path).unwrap().len() / 1024).unwrap();
    (size(&file), paths.map(|path| size(Path::new(path))).sum())
}

/// The program that a script of scripts/servers starts.
fn unpacked(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap();
    let script = path.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.exists()).unwrap();
    let text = fs::read(&script).unwrap();
    let text = String::from_utf8_lossy(&text);
    let target = text.split_whitespace().skip_while(|word| *word != "exec").nth(1);
    target.filter(|_| text.starts_with("#!")).map_or(script, PathBuf::from)
}

fn print(figures: &[(Client, Vec<Value>)]) {
    let median = |all: &[Value], what: &str| {
        let mut all: Vec<f64> = all.iter().map(|figures| figures[what].as_f64().unwrap()).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let ours = &figures[0].1;
    println!("\nmedians of {RUNS} starts each, in turn, with dnsmasq; ×: as many times diskomator's");
    println!(
        "{:<12}{:>7}{:>13}{:>16}{:>17}{:>13}{:>10}{:>15}{:>17}",
        "client",
        "probes",
        "DISCOVER ms",
        "ACK ms",
        "address ms",
        "RSS KiB",
        "PSS KiB",
        "file+libs KiB",
        "file+RSS KiB"
    );
    let footprint = |client: Client, all: &[Value]| f64::from(sizes(client).0) + median(all, "resident");
    let own_footprint = footprint(figures[0].0, ours);
    for (client, all) in figures {
        let with_ratio = |what: &str| {
            let figure = median(all, what);
            format!("{figure:.0} ×{:.2}", figure / median(ours, what))
        };
        let (file, libraries) = sizes(*client);
        let footprint = footprint(*client, all);
        println!(
            "{:<12}{:>7.0}{:>13.0}{:>16}{:>17}{:>13.0}{:>10.0}{:>15}{:>17}",
            client.name(),
            median(all, "probes"),
            median(all, "discover"),
            with_ratio("ack"),
            with_ratio("address"),
            median(all, "resident"),
            median(all, "own"),
            format!("{file} + {libraries}"),
            format!("{footprint:.0} ×{:.2}", footprint / own_footprint),
        );
    }
}
