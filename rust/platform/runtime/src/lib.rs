//! The frame of a program of applets: its command line, its errors, its output, the
//! start of its daemons and their event loop.
#![forbid(unsafe_code)]

mod applet;
mod daemon;
pub mod events;
mod failure;
mod output;

pub use applet::{Applet, Program};
pub use daemon::{chosen_links, level_filter, start_daemon};
pub use failure::{AppletError, Failure};
pub use output::{OutputError, print, print_help, print_json, table};
