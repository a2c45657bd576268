//! The kernel's NVMe target (`drivers/nvme/target`) as configfs shows it,
//! and how to get it from one state to another.

pub mod hosts;
pub mod model;
pub mod plan;
pub mod reconcile;

#[cfg(test)]
pub(crate) mod fake;
