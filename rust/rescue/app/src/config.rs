//! The settings of this product: those that each product has. SSH is on.

use settings::ssh::Access;
use settings::system::{self, System};
use settings::{Product, Setting};

/// The settings of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config(System);

impl Default for Config {
    /// A machine without a screen can be reached by its keys, and one with a
    /// screen also by the password on it.
    fn default() -> Self {
        Self(System { ssh: Access { is_on: true, ..Access::default() }, ..System::default() })
    }
}

impl AsRef<System> for Config {
    fn as_ref(&self) -> &System {
        &self.0
    }
}

impl AsMut<System> for Config {
    fn as_mut(&mut self) -> &mut System {
        &mut self.0
    }
}

impl Product for Config {
    const NAME: &'static str = "rescue";
    const SETTINGS: &'static [Setting<Self>] = &system::all();
    const SAFE: &'static str = "nobody can log in over SSH";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_is_on_unless_a_setting_says_no() {
        assert!(Config::from_cmdline("quiet").0.as_ref().ssh.is_on);
        let (off, warnings) = Config::from_cmdline("rescue.ssh=no");
        assert!(!off.as_ref().ssh.is_on && warnings.is_empty());
    }
}
