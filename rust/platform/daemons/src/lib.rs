//! Applets that each product has. A product names them in its registry, with its settings as their type parameter.
#![forbid(unsafe_code)]

pub mod config;
pub mod dhcp;
mod dhcp6;
pub mod mdns;
pub mod name;
pub mod name_in_use;
pub mod net;
mod network;
pub mod power;
pub mod remote_log;
#[cfg(test)]
mod sample;
pub mod ssh;
