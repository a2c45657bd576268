//! What the machine shows of itself: the model, the pages drawn from it, the
//! keys, and the same as plain lines.

pub mod canvas;
pub mod keys;
pub mod log;
pub mod model;
mod overview;
mod pages;
pub mod plain;
pub mod traffic;
pub mod ui;

pub use canvas::{Canvas, Size};
pub use model::Snapshot;
pub use ui::Ui;
