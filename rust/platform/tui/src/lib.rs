//! A text screen: the grid of characters that is drawn, and the keys that are read.
//!
//! Nothing here opens a file or a socket, reads a clock, starts a thread or
//! makes up a random number: time, randomness and the kernel's answers are
//! arguments. So each decision can be tested on any machine.
#![forbid(unsafe_code)]

pub mod canvas;
pub mod keys;
pub mod screen;

pub use canvas::{Canvas, Size};
