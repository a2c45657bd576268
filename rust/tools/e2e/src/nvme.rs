//! The JSON of nvme-cli.

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

/// One subsystem in a discovery log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LogEntry {
    /// `nvme subsystem`, or a kind of discovery subsystem.
    pub subtype: String,
    /// The port to connect to.
    pub trsvcid: String,
    /// Its name.
    pub subnqn: String,
    /// The address to connect to.
    pub traddr: String,
}

/// A NVMe namespace that this machine sees: a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its block device, as `/dev/nvme0n1`.
    pub device: String,
    /// The controller's name, as `nvme0`.
    pub controller: String,
    /// The subsystem it belongs to.
    pub nqn: String,
    /// Model, without the padding.
    pub model: String,
    /// Serial number, without the padding.
    pub serial: String,
    /// Firmware revision, without the padding.
    pub firmware: String,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of a logical block.
    pub block: u64,
}

/// Reads `nvme discover -o json`; discovery subsystems themselves are left out.
pub(crate) fn discovery_log(text: &str) -> Result<Vec<LogEntry>> {
    #[derive(Deserialize)]
    struct Log {
        #[serde(default)]
        records: Vec<LogEntry>,
    }
    // An empty log is an empty output.
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let log: Log = serde_json::from_str(text).map_err(|source| unreadable("nvme discover", text, source))?;
    Ok(log
        .records
        .into_iter()
        .filter(|entry| entry.subtype == "nvme subsystem")
        .map(|entry| LogEntry { trsvcid: entry.trsvcid.trim().to_owned(), ..entry })
        .collect())
}

/// Reads `nvme list --verbose -o json`.
pub(crate) fn namespaces(text: &str) -> Result<Vec<Namespace>> {
    let root: Value = serde_json::from_str(text).map_err(|source| unreadable("nvme list", text, source))?;
    let mut found = Vec::new();
    let subsystems = children(&root, "Devices").flat_map(|host| children(host, "Subsystems"));
    for subsystem in subsystems {
        let Some(controller) = children(subsystem, "Controllers").next() else { continue };
        // With native multipath the namespaces hang below the subsystem, else below the controller.
        for namespace in children(subsystem, "Namespaces").chain(children(controller, "Namespaces")) {
            found.push(Namespace {
                device: format!("/dev/{}", string(namespace, "NameSpace")),
                controller: string(controller, "Controller"),
                nqn: string(subsystem, "SubsystemNQN"),
                model: string(controller, "ModelNumber"),
                serial: string(controller, "SerialNumber"),
                firmware: string(controller, "Firmware"),
                size: number(namespace, "PhysicalSize"),
                block: number(namespace, "SectorSize"),
            });
        }
    }
    Ok(found)
}

fn children<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn string(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn unreadable(what: &'static str, text: &str, source: serde_json::Error) -> Error {
    Error::Json { what, text: text.to_owned(), source }
}
