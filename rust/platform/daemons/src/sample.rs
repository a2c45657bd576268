//! A product of tests, with the settings that each product has.

use settings::system::{self, System};
use settings::{Product, Setting};

/// Its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sample(System);

impl AsRef<System> for Sample {
    fn as_ref(&self) -> &System {
        &self.0
    }
}

impl AsMut<System> for Sample {
    fn as_mut(&mut self) -> &mut System {
        &mut self.0
    }
}

impl Product for Sample {
    const NAME: &'static str = "sample";
    const SETTINGS: &'static [Setting<Self>] = &system::all();
    const SAFE: &'static str = "nothing starts";
}
