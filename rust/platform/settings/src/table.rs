//! The table of settings: the name, syntax, meaning and parser of each. The table
//! in the documentation and the help of `config` are made of it.

use std::fmt::Write;

use super::{Problem, Product};

/// A setting.
#[derive(Debug)]
pub struct Setting<C> {
    /// Its name, without the prefix.
    pub name: &'static str,
    /// The value's syntax, such as `=DISKS`; in brackets if it can be left out.
    pub syntax: &'static str,
    /// Its effect, in Markdown without links.
    pub text: &'static str,
    /// It can be given more than once; of a credential, each line is a value.
    pub is_list: bool,
    /// Takes a value, `None` if there was only the name.
    pub set: fn(&mut C, Option<&str>) -> Result<(), Problem>,
    /// The values that say the same, at least one.
    pub values: fn(&C) -> Vec<String>,
    /// The effect of a value that means nothing, if it is not just ignored.
    pub instead: Option<Instead<C>>,
}

/// The effect of a value that means nothing: a setting that an administrator wanted to close is closed.
#[derive(Debug)]
pub struct Instead<C> {
    /// In words.
    pub effect: &'static str,
    /// In fact.
    pub apply: fn(&mut C),
    /// The resource that is protected.
    pub guards: Guards,
}

/// The resource that a setting protects from people without permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guards {
    /// The resource that the product exists for, such as disks: no unknown value and no lost source opens it.
    Purpose,
    /// A way to a shell.
    Shell,
    /// A way to a shell that some have a key to. A broken key locks out nobody else; a mistyped word closes it.
    ShellWithKeys,
}

impl<C> Instead<C> {
    /// Whether it is done for a value that means nothing; `None` if the value could not be read.
    pub(super) fn is_for(&self, value: Option<&str>) -> bool {
        match self.guards {
            Guards::Purpose => true,
            Guards::Shell => value.is_some(),
            Guards::ShellWithKeys => value.is_some_and(|value| {
                value.len() <= SWITCH_MAX && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
            }),
        }
    }

    /// Whether it is done where a setting may be lost.
    pub(super) fn is_for_losses(&self) -> bool {
        self.guards == Guards::Purpose
    }
}

/// A word of at most so many letters was meant as a switch: `disabled`. It is no part of a key.
const SWITCH_MAX: usize = 8;

impl<C: Product> Setting<C> {
    /// The value where no source has the setting.
    pub fn default_value(&self) -> String {
        (self.values)(&C::default()).join(" ")
    }
}

/// The table as Markdown.
pub fn markdown<C: Product>() -> String {
    let mut text = String::from("| Setting | What it does | Default |\n|---|---|---|\n");
    for setting in C::SETTINGS {
        let Setting { name, syntax, text: what, .. } = setting;
        let (product, default) = (C::NAME, setting.default_value());
        let _ = writeln!(text, "| `{product}.{name}{syntax}` | {what} | `{default}` |");
    }
    text
}

/// The table for a terminal, in lines of at most `width` columns.
pub fn help<C: Product>(width: usize) -> String {
    const INDENT: &str = "      ";
    let mut text = String::new();
    for setting in C::SETTINGS {
        let _ = writeln!(text, "  {}{}  (default: {})", setting.name, setting.syntax, setting.default_value());
        let mut line = String::from(INDENT);
        for word in setting.text.split(' ').map(|word| word.replace('`', "")) {
            if line.len() > INDENT.len() && line.len() + word.len() > width {
                let _ = writeln!(text, "{}", line.trim_end());
                line = String::from(INDENT);
            }
            line.push_str(&word);
            line.push(' ');
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// A switch: present is on, and the words that systemd's `parse_boolean` takes.
pub fn boolean(value: Option<&str>) -> Result<bool, Problem> {
    match value {
        None | Some("1" | "yes" | "true" | "on") => Ok(true),
        Some("0" | "no" | "false" | "off") => Ok(false),
        Some(_) => Err(Problem::Value { expected: "yes or no", nearest: None }),
    }
}
