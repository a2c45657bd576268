//! `diskomator hosts` and `diskomator disconnect`: who uses the disks, and the
//! end of that.

use diskomator_core::nvmet::model::Host;
use diskomator_sys::nvmet;
use diskomator_sys::root::{FileError, Root};
use diskomator_sys::settings;
use lexopt::Arg::{Long, Short, Value};
use serde::Serialize;

use crate::applet::{Failure, print, print_json};
use crate::exporter::{Exporter, Observation};
use crate::table::table;

const HOSTS_USAGE: &str = "\
Usage: diskomator hosts [--json]

Lists which hosts are connected to which disk, each host once for each disk.

Options:
  --json      list as JSON, see below
  -h, --help  this text

As JSON: {\"hosts\": [{\"disk\", \"nqn\" (of the disk), \"host\" (its NQN), \"address\"}]}.
Absent values are null.

Exit status: 0 done, 1 the target cannot be read, 2 wrong usage.
";

const DISCONNECT_USAGE: &str = "\
Usage: diskomator disconnect HOST

Ends all connections of a host, which is named by its NQN or its address, as
`diskomator hosts` lists them. The kernel reports a fatal error of its
controllers to the host and takes them down; what the host has under way there
fails, or waits for a new connection.

It is no ban: Linux hosts connect again after some ten seconds, and may. To keep
a disk from everyone, type `diskomator export remove DISK`.

Options:
  -h, --help  this text

Exit status: 0 its connections are ended, 1 it has none or they cannot be ended,
2 wrong usage.
";

/// Why no connection was ended.
#[derive(Debug, thiserror::Error)]
enum DisconnectError {
    #[error("no host {0} is connected; `diskomator hosts` lists those that are")]
    NoSuchHost(String),
    #[error("cannot end the connections of {host}")]
    Kernel { host: String, source: FileError },
}

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
    let config = settings::read(&root).0.config;
    let Observation { exports, .. } = Exporter::new(root.clone(), config, || {}).observe().map_err(Failure::failed)?;
    let rows = exports.iter().filter_map(|export| Some((export.disk.name.clone(), export.nqn()?.to_owned())));
    let rows = rows.flat_map(|(disk, nqn)| {
        nvmet::hosts(&root, &nqn).into_iter().map(move |Host { nqn: host, address }| Row {
            disk: disk.clone(),
            nqn: nqn.clone(),
            host,
            address,
        })
    });
    let listing = Listing { hosts: rows.collect() };
    if json { print_json(&listing) } else { print(&text(&listing)) }
}

fn text(listing: &Listing) -> String {
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
pub(crate) fn disconnect(mut args: lexopt::Parser) -> Result<(), Failure> {
    let mut host = None;
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return print(DISCONNECT_USAGE),
            Value(word) if host.is_none() => host = Some(word.to_string_lossy().into_owned()),
            other => return Err(other.unexpected().into()),
        }
    }
    let host = host.ok_or_else(|| lexopt::Error::from("say which host: disconnect HOST (see --help)"))?;
    match nvmet::disconnect(&Root::default(), &host) {
        Ok(0) => Err(Failure::failed(DisconnectError::NoSuchHost(host))),
        Ok(_) => Ok(()),
        Err(source) => Err(Failure::failed(DisconnectError::Kernel { host, source })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_a_table() {
        assert_eq!(text(&Listing { hosts: Vec::new() }), "No host is connected.\n");
        let row = |disk: &str, address: Option<&str>| Row {
            disk: disk.to_owned(),
            nqn: "nqn.d".to_owned(),
            host: "nqn.h".to_owned(),
            address: address.map(str::to_owned),
        };
        assert_eq!(
            text(&Listing { hosts: vec![row("nvme0n1", Some("192.0.2.9")), row("sda", None)] }),
            "DISK     ADDRESS    HOST\nnvme0n1  192.0.2.9  nqn.h\nsda      -          nqn.h\n"
        );
    }
}
