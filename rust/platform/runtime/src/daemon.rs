//! The start of a daemon.

use kernel::error::chain;
use kernel::root::Root;
use kernel::{given, logger};
use log::LevelFilter;
use settings::system::LogLevel;
use settings::{Product, Settings};

/// The links that a daemon is to use, from its command line, none meaning all; `None` if only help is wanted.
pub fn chosen_links(mut args: lexopt::Parser) -> Result<Option<Vec<String>>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut only = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Short('i') | Long("interface") => only.push(args.value()?.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(only))
}

/// Starts a daemon's log and returns the settings of this boot. Every daemon
/// would find the same typos, so only one of them reports (`report_typos`).
pub fn start_daemon<C: Product>(name: &'static str, root: &Root, report_typos: bool) -> Settings<C> {
    let (settings, error) = given::read::<C>(root);
    logger::init(format!("{}-{name}", C::NAME), level_filter(settings.config.as_ref().log), true);
    if let Some(error) = &error {
        log::warn!("no kernel command line: {}", chain(error));
    }
    if report_typos {
        for warning in &settings.warnings {
            log::warn!("{warning}");
        }
    }
    settings
}

/// `log`'s name for a level.
pub const fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}
