//! Errors as people read them.

use std::error::Error;

/// An error with its causes, each once, in the order from what was wanted to
/// what the kernel said.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
