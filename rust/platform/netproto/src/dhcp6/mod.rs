//! DHCPv6 (RFC 8415, and RFC 9915 that takes its place): the client as a state
//! machine, and its wire format. One address for each link, nothing else:
//! prefixes are for routers, and what has no address of its own to ask for
//! (stateless DHCPv6) would only be names of servers that nothing here asks.

pub mod client;
pub mod lease;
pub mod wire;

#[cfg(test)]
mod odd;
#[cfg(test)]
mod tests;
