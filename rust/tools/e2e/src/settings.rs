//! The settings of a machine, as `diskomator config` lists them.

use serde_json::Value;

use crate::{Appliance, Failure};

/// The settings as the machine lists them, and its warnings.
pub fn settings(machine: &Appliance) -> Result<Value, Failure> {
    Ok(serde_json::from_str(&machine.shell("diskomator config --json")?)?)
}

/// The first value of a setting, and where it comes from.
pub fn setting<'a>(settings: &'a Value, name: &str) -> (&'a str, &'a str) {
    let all = settings["settings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = all.iter().find(|setting| setting["name"] == name).unwrap_or(&Value::Null);
    (found["value"].as_str().unwrap_or_default(), found["from"].as_str().unwrap_or_default())
}
