//! DHCPv4 (RFC 2131): the client as a state machine, and its wire format.

pub mod client;
pub mod frame;
pub mod lease;
pub mod wire;

#[cfg(test)]
mod odd;
#[cfg(test)]
mod tests;
