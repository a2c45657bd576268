//! The kind of screen that the machine has.

/// The kind of console (`vtconsole`) that the kernel draws the virtual terminals on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Screen {
    /// Nothing: the machine has no screen, or one that the kernel has no driver for.
    None,
    /// The characters of a VGA card.
    Text,
    /// Pixels.
    #[default]
    FrameBuffer,
}

impl Screen {
    /// From the files `name` and `bind` of each `/sys/class/vtconsole/vtcon*`. The kernel's console that draws
    /// nowhere is there everywhere, and bound to the terminals that no other one has.
    pub fn of<'a>(consoles: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let bound = consoles.into_iter().filter(|(_, bind)| bind.trim() == "1");
        let kinds = bound.map(|(name, _)| match name {
            name if name.contains("dummy device") => Self::None,
            name if name.contains("frame buffer") => Self::FrameBuffer,
            _ => Self::Text,
        });
        kinds.max().unwrap_or(Self::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_one_that_the_kernel_draws_on() {
        let dummy = "(S) dummy device";
        let pixels = "(M) frame buffer device";
        for (consoles, screen) in [
            (vec![], Screen::None),
            (vec![(dummy, "1")], Screen::None),
            (vec![(dummy, "0"), (pixels, "1")], Screen::FrameBuffer),
            // The frame buffer is gone, or drawing on it was switched off.
            (vec![(dummy, "1"), (pixels, "0")], Screen::None),
            // One that has some of the terminals only.
            (vec![(pixels, "1"), (dummy, "1")], Screen::FrameBuffer),
            (vec![("(S) VGA+", "1")], Screen::Text),
            (vec![("(S) *MDA", "1\n")], Screen::Text),
            (vec![("(S) VGA+", "0"), (pixels, "1")], Screen::FrameBuffer),
            (vec![("(S) VGA+", "1"), (pixels, "1")], Screen::FrameBuffer),
        ] {
            assert_eq!(Screen::of(consoles.clone()), screen, "{consoles:?}");
        }
    }
}
