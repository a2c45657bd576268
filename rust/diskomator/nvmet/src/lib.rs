//! The NVMe target: the names and the policy of exported disks, the kernel's target
//! (`drivers/nvme/target`) as configfs shows it, and the plan from one state of it to
//! another.
//!
//! Nothing here opens a file or a socket, reads a clock, starts a thread or
//! makes up a random number: time, randomness and the kernel's answers are
//! arguments. So each decision can be tested on any machine.
#![forbid(unsafe_code)]

pub mod admission;
pub mod discovery;
pub mod export;
pub mod hosts;
pub mod identity;
pub mod model;
pub mod plan;
pub mod policy;
pub mod reconcile;

#[cfg(test)]
pub(crate) mod fake;
