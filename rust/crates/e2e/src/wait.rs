//! Waiting for something to become true.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How long to sleep between two looks. Each look costs more than this in an emulated machine.
const PAUSE: Duration = Duration::from_millis(50);

/// Calls `look` until it gives something, for at most `limit`.
///
/// `look` answers `Ok(Ok(value))` when it is there, `Ok(Err(state))` with what it saw instead, or an error that will
/// not go away by waiting.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match look()? {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= limit => {
                return Err(Error::Deadline { what: what.to_owned(), after: limit, last });
            }
            Err(_) => sleep(PAUSE),
        }
    }
}
