//! Disks: their description, and the settings that select them.
//!
//! Nothing here opens a file or a socket, reads a clock, starts a thread or
//! makes up a random number: time, randomness and the kernel's answers are
//! arguments. So each decision can be tested on any machine.
#![forbid(unsafe_code)]

pub mod boot;
pub mod config;
pub mod disk;
pub mod kind;
pub mod selection;
pub mod worthless;
