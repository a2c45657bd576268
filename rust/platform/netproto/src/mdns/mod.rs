//! Multicast DNS (RFC 6762) and DNS-SD (RFC 6763): a responder, so that the
//! machine is found by its name and by what it serves.

pub mod responder;
pub mod wire;
pub mod zone;

#[cfg(test)]
mod tests;
