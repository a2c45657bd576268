//! The machine's secret, the keys of each host that are derived from it, and
//! the TLS keys that both ends of a connection derive from those.
//!
//! Nothing here opens a file, logs, or makes up a random number. No type shows
//! a key by [`Debug`](std::fmt::Debug) or [`Display`](std::fmt::Display), and
//! each clears its memory when it is dropped; a key leaves by a function whose
//! name says so.
#![forbid(unsafe_code)]

mod commands;
mod identity;
mod interchange;
mod key;
mod psk;
mod secret;

pub use commands::{Cli, Commands};
pub use identity::{Identity, IdentityError, Version};
pub use interchange::FormatError;
pub use key::{Hash, Key};
pub use psk::{ConfiguredPsk, DhchapKey, Method, RetainedPsk, TlsPsk, Transform};
pub use secret::{HostKeys, Secret, SecretError};
