//! `diskomator hosts` and `diskomator disconnect`: who uses the disks, asks for them
//! and may use them, and the end of a use.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use access::{Admission, Admitted, Denied, Mode, Request, State, StateError};
use disks::config::Config;
use kernel::clock;
use kernel::given;
use kernel::root::{FileError, Root};
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;
use local::configfs;
use nvmet::hosts::{NoController, NotChosen, Wanted, choose};
use nvmet::model::Host;
use runtime::table;
use runtime::{AppletError, Failure, print, print_json};
use serde::Serialize;

use crate::exporter::{Exporter, Observation};

const HOSTS_USAGE: &str = "\
Usage: diskomator hosts [--json]

Lists which hosts are connected to which disk, each host once for each disk;
then the hosts that ask for the disks, and those that are admitted or denied.
`diskomator allow` and `diskomator deny` answer those that ask.

Options:
  --json      list as JSON, see below
  -h, --help  this text

As JSON: {\"hosts\": [{\"disk\", \"nqn\" (of the disk), \"host\" (its NQN), \"address\"}],
  \"access\" (open, ask or paired: the setting),
  \"everyone\" (whether every host is admitted now),
  \"requests\": [{\"number\", \"nqn\" (of the host), \"address\", \"first\" and \"last\" (the
    times of its attempts), \"tries\"}],
  \"admitted\": [{\"nqn\", \"read_only\", \"by\" (setting, command, screen or key),
    \"address\" (of the request that was answered)}],
  \"denied\": [{\"nqn\", \"until\"}]}.
Times are seconds since the machine's start. Absent values are null.

Exit status: 0 done, 1 the target cannot be read, 2 wrong usage.
";

const DISCONNECT_USAGE: &str = "\
Usage: diskomator disconnect [--all] {NQN | ADDRESS | NQN ADDRESS}

Ends all connections of a host, which is named by its NQN or its address, as
`diskomator hosts` lists them, or by both. The kernel reports a fatal error of its
controllers to the host and takes them down; what the host has under way there
fails, or waits for a new connection.

Cloned machines can have one NQN, and machines behind a router one address. Where
more than one host is meant, nothing is done, and those are listed.

It is no ban: Linux hosts connect again after some ten seconds, and may. To keep
a disk from everyone, type `diskomator export remove DISK`.

Options:
  --all       of every host that is called so
  --controllers LIST
              end these controllers alone, if they are that host's still; so the
              console's key names those that its question was about
  -h, --help  this text

Exit status: 0 its connections are ended, 1 it has none or they cannot be ended,
2 wrong usage.
";

/// Why no connection was ended.
#[derive(Debug, thiserror::Error)]
enum DisconnectError {
    #[error("cannot end the connections of {name}")]
    NotChosen { name: String, source: NotChosen },
    #[error("cannot end the connections of {name}")]
    Kernel { name: String, source: FileError },
}

impl AppletError for DisconnectError {}

/// Why admissions can't be listed.
#[derive(Debug, thiserror::Error)]
enum HostsError {
    #[error("cannot list the admitted hosts")]
    File(#[source] FileError),
    #[error("cannot list the admitted hosts")]
    State(#[source] StateError),
}

impl AppletError for HostsError {}

#[derive(Debug, Serialize)]
struct Row {
    disk: String,
    nqn: String,
    host: String,
    address: Option<String>,
}

#[derive(Debug, Serialize)]
struct Listing {
    hosts: Vec<Row>,
    access: &'static str,
    everyone: bool,
    requests: Vec<Request>,
    admitted: Vec<Admitted>,
    denied: Vec<Denied>,
}

/// Runs `hosts`.
pub(crate) fn hosts(mut args: lexopt::Parser) -> Result<(), Failure> {
    let mut json = false;
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return print(HOSTS_USAGE),
            Long("json") => json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let root = Root::default();
    let config = given::read::<Config>(&root).0.config;
    let mode = config.mode();
    let Observation { exports, .. } = Exporter::new(root.clone(), config, || {}).observe()?;
    let rows = exports.iter().flat_map(|export| export.nqns().map(|nqn| (export.disk.name.clone(), nqn)));
    let rows = rows.flat_map(|(disk, nqn)| {
        configfs::hosts(&root, &nqn).into_iter().map(move |Host { nqn: host, address }| Row {
            disk: disk.clone(),
            nqn: nqn.clone(),
            host,
            address,
        })
    });
    let listing = listing(rows.collect(), mode, known(&root)?.as_ref());
    if json { print_json(&listing) } else { print(&text(&listing, clock::uptime())) }
}

/// The requests, admissions and denials; none before `diskomator access` has started.
fn known(root: &Root) -> Result<Option<State>, HostsError> {
    match root.read_bytes(crate::access::FILE) {
        Err(error) if error.io().kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HostsError::File(error)),
        Ok(file) => State::parse(&file).map(Some).map_err(HostsError::State),
    }
}

fn listing(hosts: Vec<Row>, mode: Mode, state: Option<&State>) -> Listing {
    let everyone = Admission::of(mode, state) == Admission::Everyone;
    let state = state.cloned().unwrap_or_default();
    Listing {
        hosts,
        access: mode.word(),
        everyone,
        requests: state.requests().to_vec(),
        admitted: state.admitted().to_vec(),
        denied: state.denied().to_vec(),
    }
}

fn text(listing: &Listing, now: Duration) -> String {
    let mut text = connected(listing);
    text.push_str(if listing.everyone { "\nEvery host is admitted.\n" } else { "\nOnly these hosts are admitted:\n" });
    if !listing.everyone && listing.admitted.is_empty() {
        text.push_str("none\n");
    }
    let address = |address: Option<IpAddr>| address.map_or_else(|| "-".to_owned(), |address| address.to_string());
    if !listing.admitted.is_empty() {
        let mut rows = vec![["ACCESS", "BY", "ADDRESS", "HOST"].map(str::to_owned)];
        for host in &listing.admitted {
            let access = if host.read_only { "read-only" } else { "read-write" };
            let by = host.by.word().to_owned();
            rows.push([access.to_owned(), by, address(host.address), host.nqn.to_string()]);
        }
        text.push_str(&table(&rows));
    }
    if !listing.denied.is_empty() {
        text.push_str("\nDenied:\n");
        let mut rows = vec![["FOR", "HOST"].map(str::to_owned)];
        let left = |host: &Denied| format!("{} s", host.until.saturating_sub(now.as_secs()));
        rows.extend(listing.denied.iter().map(|host| [left(host), host.nqn.to_string()]));
        text.push_str(&table(&rows));
    }
    if !listing.requests.is_empty() {
        text.push_str("\nThese ask; answer with `diskomator allow NUMBER` or `diskomator deny NUMBER`:\n");
        let mut rows = vec![["NUMBER", "ADDRESS", "LAST", "HOST"].map(str::to_owned)];
        for request in &listing.requests {
            let last = format!("{} s ago", now.as_secs().saturating_sub(request.last));
            rows.push([request.number.to_string(), request.address.to_string(), last, request.nqn.to_string()]);
        }
        text.push_str(&table(&rows));
    }
    text
}

fn connected(listing: &Listing) -> String {
    if listing.hosts.is_empty() {
        return "No host is connected.\n".to_owned();
    }
    let mut rows = vec![["DISK", "ADDRESS", "HOST"].map(str::to_owned)];
    for row in &listing.hosts {
        rows.push([row.disk.clone(), row.address.clone().unwrap_or_else(|| "-".to_owned()), row.host.clone()]);
    }
    table(&rows)
}

/// Runs `disconnect`.
pub(crate) fn disconnect(args: lexopt::Parser) -> Result<(), Failure> {
    let Some(wanted) = parse(args)? else { return print(DISCONNECT_USAGE) };
    let root = Root::default();
    Ok(end_connections(&root, &wanted)?)
}

fn end_connections(root: &Root, wanted: &Wanted) -> Result<(), DisconnectError> {
    let name = [&wanted.nqn, &wanted.address].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    let kernel = |source| DisconnectError::Kernel { name: name.clone(), source };
    let not_chosen = |source| DisconnectError::NotChosen { name: name.clone(), source };
    let all = configfs::all_controllers(root).map_err(kernel)?;
    let mut outcomes = Vec::new();
    // One that cannot be ended does not stop the others.
    for (nqn, controller) in choose(&all, wanted).map_err(not_chosen)? {
        outcomes.push(configfs::disconnect(root, nqn, controller));
    }
    let is_one_ended = outcomes.iter().any(|outcome| matches!(outcome, Ok(true)));
    if let Some(source) = outcomes.into_iter().find_map(Result::err) {
        return Err(kernel(source));
    }
    if is_one_ended { Ok(()) } else { Err(not_chosen(NotChosen::Gone)) }
}

/// `None` if only help is wanted.
fn parse(mut args: lexopt::Parser) -> Result<Option<Wanted>, lexopt::Error> {
    let mut wanted = Wanted::default();
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Long("all") => wanted.all = true,
            Long("controllers") => {
                let list = args.value()?.string()?;
                let ids: Result<_, _> = list.split(',').map(str::parse).collect();
                wanted.controllers = Some(ids.map_err(|error: NoController| error.to_string())?);
            }
            Value(word) => {
                let word = word.string()?;
                if !wanted.name(&word) {
                    return Err(format!("{word:?} is one name too many (see --help)").into());
                }
            }
            other => return Err(other.unexpected()),
        }
    }
    if wanted.nqn.is_none() && wanted.address.is_none() {
        return Err("say which host: disconnect NQN, or disconnect ADDRESS (see --help)".into());
    }
    Ok(Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_by_its_nqn_or_its_address_or_both() {
        let parsed = |words: &[&str]| parse(lexopt::Parser::from_args(words)).map_err(|error| error.to_string());
        let wanted = Wanted { nqn: Some("nqn.h".into()), address: Some("192.0.2.9".into()), ..Wanted::default() };
        assert_eq!(parsed(&["192.0.2.9", "nqn.h"]), Ok(Some(wanted.clone())));
        let controllers = Some(["1:10".parse().unwrap(), "2:20".parse().unwrap()].into());
        assert_eq!(
            parsed(&["nqn.h", "192.0.2.9", "--controllers", "1:10,2:20"]),
            Ok(Some(Wanted { controllers, ..wanted }))
        );
        let like_an_option = Wanted { nqn: Some("--all".into()), ..Wanted::default() };
        assert_eq!(parsed(&["--", "--all"]), Ok(Some(like_an_option)));
        assert_eq!(parsed(&["-h"]), Ok(None));
        for wrong in [&[][..], &["--all"], &["nqn.a", "nqn.b"], &["::1", "::2"], &["nqn.a", "--controllers", "x"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn hosts_are_a_table() {
        let now = Duration::from_secs(100);
        let none = listing(Vec::new(), Mode::Open, None);
        assert_eq!(text(&none, now), "No host is connected.\n\nEvery host is admitted.\n");
        let none = listing(Vec::new(), Mode::Ask, None);
        assert_eq!(text(&none, now), "No host is connected.\n\nOnly these hosts are admitted:\nnone\n");
        let row = |disk: &str, address: Option<&str>| Row {
            disk: disk.to_owned(),
            nqn: "nqn.d".to_owned(),
            host: "nqn.h".to_owned(),
            address: address.map(str::to_owned),
        };
        let mut state = State::new(false, &["nqn.h".parse().unwrap(), "nqn.r:ro".parse().unwrap()]);
        state.heard(&"nqn.x".parse().unwrap(), "192.0.2.7".parse().unwrap(), Duration::from_secs(93));
        state.deny(&access::Named::text("nqn.y").unwrap(), None, Duration::from_secs(70)).unwrap();
        let hosts = vec![row("nvme0n1", Some("192.0.2.9")), row("sda", None)];
        let listing = listing(hosts, Mode::Ask, Some(&state));
        assert_eq!(
            text(&listing, now),
            "DISK     ADDRESS    HOST\nnvme0n1  192.0.2.9  nqn.h\nsda      -          nqn.h\n\n\
             Only these hosts are admitted:\n\
             ACCESS      BY       ADDRESS  HOST\n\
             read-write  setting  -        nqn.h\n\
             read-only   setting  -        nqn.r\n\n\
             Denied:\nFOR   HOST\n30 s  nqn.y\n\n\
             These ask; answer with `diskomator allow NUMBER` or `diskomator deny NUMBER`:\n\
             NUMBER  ADDRESS    LAST     HOST\n\
             1       192.0.2.7  7 s ago  nqn.x\n"
        );
        let json = serde_json::to_value(&listing).unwrap();
        assert_eq!(json["access"], "ask");
        assert_eq!(json["requests"][0]["address"], "192.0.2.7");
        assert_eq!(json["admitted"][1]["by"], "setting");
    }
}
