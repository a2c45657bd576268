//! The console: the model, the pages that are drawn from it, their keys, and the same
//! as plain lines.
#![forbid(unsafe_code)]

pub mod bindings;
pub mod log;
pub mod model;
mod overview;
mod pages;
pub mod plain;
#[cfg(test)]
mod tests;
pub mod traffic;
pub mod ui;
mod widgets;

pub use model::Snapshot;
pub use ui::Ui;
