//! The keys and their acts in one table. The footer and the help page are made from it.

use nvmet::hosts::ControllerId;
use nvmet::model::Host;
use tui::keys::Key;

/// A view that fills the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// All in one view.
    Overview,
    /// Each disk.
    Disks,
    /// Each link and address.
    Network,
    /// Each connected host.
    Hosts,
    /// The kernel's log.
    Log,
    /// The machine and its warnings.
    Machine,
    /// The line to type, as a QR code alone.
    Code,
    /// The keys and their effects.
    Help,
}

/// The effect of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Shows another page.
    Go(Page),
    /// Does something with the disk that is chosen.
    Disk(DiskAct),
    /// Restarts the machine from the disk that is chosen.
    Boot,
    /// Decides on the host that is chosen.
    Host(HostAct),
    /// Opens the disks to every host until the next start, or asks again.
    Everyone,
    /// Restarts the machine.
    Reboot,
    /// Switches the machine off.
    PowerOff,
    /// Gives a root shell.
    Shell,
    /// Shows only the errors of the log, or all records again.
    ErrorsOnly,
    /// Draws everything anew.
    Redraw,
    /// Leaves the full screen for plain lines.
    Leave,
}

/// An operation on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAct {
    /// Lets hosts only read the disk.
    ReadOnly,
    /// Lets hosts write to the disk.
    ReadWrite,
    /// Ends the export of the disk.
    Remove,
    /// Exports the disk.
    Export,
    /// Blinks the light of its bay.
    Blink,
}

/// A decision on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostAct {
    /// Admits the host.
    Admit,
    /// Admits the host, which may only read.
    AdmitReadOnly,
    /// Denies a request, takes an admission back, or ends connections where every host is admitted.
    Deny,
}

/// A key and its act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The key.
    pub key: Key,
    /// The key's name on the screen.
    pub name: &'static str,
    /// The help page's words for its act.
    pub what: &'static str,
    /// The command line that does the same, for the help page; `DISK` and `HOST` stand for those chosen.
    pub command: &'static str,
    /// The place of the key in the footer.
    pub footer: Footer,
    /// The only page on which the key works; `None` for all pages.
    pub page: Option<Page>,
    /// Whether a question comes first.
    pub asks: bool,
    /// The effect.
    pub act: Act,
}

/// The pages whose last row names a key, and its word there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Footer {
    /// No page.
    Never,
    /// The overview alone, which has no keys of its own and so has room.
    Overview(&'static str),
    /// Every page on which the key works.
    Always(&'static str),
}

impl Binding {
    /// A letter that works on every page and is in no footer.
    const fn new(letter: char, name: &'static str, what: &'static str, command: &'static str, act: Act) -> Self {
        let asks = !matches!(act, Act::Go(_) | Act::ErrorsOnly | Act::Redraw | Act::Leave);
        Self { key: Key::Char(letter), name, what, command, footer: Footer::Never, page: None, asks, act }
    }

    const fn ctrl(self, letter: char) -> Self {
        Self { key: Key::Ctrl(letter), ..self }
    }

    const fn only_on(self, page: Page) -> Self {
        Self { page: Some(page), ..self }
    }

    const fn footer(self, footer: Footer) -> Self {
        Self { footer, ..self }
    }
}

/// The binding of a key on a page.
pub(crate) fn binding(key: Key, page: Page) -> Option<&'static Binding> {
    let is_here = |binding: &&Binding| binding.page.is_none_or(|other| other == page);
    let mut all = BINDINGS.iter().filter(|binding| binding.key == key);
    all.clone().find(is_here).or_else(|| all.next())
}

/// Every key that does more than move.
pub const BINDINGS: [Binding; 25] = [
    Binding::new('o', "o", "overview", "diskomator console --once", Act::Go(Page::Overview)),
    Binding::new('d', "d", "disks", "diskomator export list", Act::Go(Page::Disks)).footer(Footer::Always("disks")),
    Binding::new('n', "n", "network", "diskomator net", Act::Go(Page::Network)).footer(Footer::Always("network")),
    Binding::new('c', "c", "connected hosts", "diskomator hosts", Act::Go(Page::Hosts)).footer(Footer::Always("hosts")),
    Binding::new('l', "l", "log", "dmesg", Act::Go(Page::Log)).footer(Footer::Always("log")),
    Binding::new('m', "m", "machine and warnings", "diskomator config", Act::Go(Page::Machine))
        .footer(Footer::Always("machine")),
    Binding::new('q', "q", "QR code alone", "diskomator console --once", Act::Go(Page::Code))
        .footer(Footer::Overview("QR")),
    Binding::new('h', "h", "help", "diskomator --help", Act::Go(Page::Help)).footer(Footer::Overview("help")),
    Binding::new('?', "?", "help", "diskomator --help", Act::Go(Page::Help)),
    Binding::new('r', "r", "hosts only read it", "diskomator export readonly DISK", Act::Disk(DiskAct::ReadOnly))
        .only_on(Page::Disks)
        .footer(Footer::Always("read-only")),
    Binding::new(
        'w',
        "w",
        "hosts read and write it",
        "diskomator export readwrite DISK",
        Act::Disk(DiskAct::ReadWrite),
    )
    .only_on(Page::Disks)
    .footer(Footer::Always("read-write")),
    Binding::new('u', "u", "not exported any more", "diskomator export remove DISK", Act::Disk(DiskAct::Remove))
        .only_on(Page::Disks)
        .footer(Footer::Always("take away")),
    Binding::new('e', "e", "export it", "diskomator export sync DISK", Act::Disk(DiskAct::Export))
        .only_on(Page::Disks)
        .footer(Footer::Always("export")),
    Binding::new('b', "b", "blink its light", "diskomator blink DISK", Act::Disk(DiskAct::Blink))
        .only_on(Page::Disks)
        .footer(Footer::Always("blink")),
    Binding::new('B', "B", "restart from it, once", "diskomator boot DISK", Act::Boot)
        // A row of 80 columns has no room for it beside the way to the help, which has it.
        .only_on(Page::Disks),
    Binding::new('a', "a", "admit it", "diskomator allow HOST", Act::Host(HostAct::Admit))
        .only_on(Page::Hosts)
        .footer(Footer::Always("admit")),
    Binding::new(
        'r',
        "r",
        "admit it, to read only",
        "diskomator allow HOST --read-only",
        Act::Host(HostAct::AdmitReadOnly),
    )
    .only_on(Page::Hosts)
    .footer(Footer::Always("read-only")),
    Binding::new('x', "x", "deny or disconnect it", "diskomator deny HOST", Act::Host(HostAct::Deny))
        .only_on(Page::Hosts)
        .footer(Footer::Always("deny")),
    Binding::new('O', "O", "open to everyone, or ask", "diskomator allow --everyone", Act::Everyone),
    Binding::new('R', "R", "reboot", "diskomator reboot", Act::Reboot).footer(Footer::Overview("reboot")),
    Binding::new('P', "P", "power off", "diskomator poweroff", Act::PowerOff).footer(Footer::Overview("off")),
    Binding::new('s', "s", "root shell", "Alt-F9, or diskomator.debug", Act::Shell),
    Binding::new('f', "f", "errors only, or all", "dmesg -r", Act::ErrorsOnly)
        .only_on(Page::Log)
        .footer(Footer::Always("errors only")),
    Binding::new('l', "Ctrl-L", "draw everything anew", "diskomator console --once", Act::Redraw).ctrl('l'),
    Binding::new('c', "Ctrl-C", "plain lines (serial)", "diskomator console --once", Act::Leave).ctrl('c'),
];

/// The keys that move, on every page: their names, and the help page's words for them.
pub(crate) const MOVES: [(&str, &str); 4] = [
    ("Tab ← →", "the next page, and the one before"),
    ("↑ ↓ PgUp", "scroll, or choose; also PgDn, Home and End"),
    ("Esc", "back to the overview"),
    ("Alt-F9", "a root shell on the screen; Alt-F1 leads back"),
];

/// The keys that the last row names, each with its word: first those of the page alone.
pub(crate) fn footer(page: Page, errors_only: bool) -> Vec<(&'static str, &'static str)> {
    let is_overview = page == Page::Overview;
    let word = |binding: &Binding| match binding.footer {
        Footer::Always(_) if binding.act == Act::ErrorsOnly && errors_only => Some((binding.name, "all")),
        Footer::Always(word) => Some((binding.name, word)),
        Footer::Overview(word) if is_overview => Some((binding.name, word)),
        Footer::Overview(_) | Footer::Never => None,
    };
    let of = |of: Option<Page>| BINDINGS.iter().filter(move |binding| binding.page == of).filter_map(word);
    let moves = match page {
        Page::Overview => Vec::new(),
        Page::Disks | Page::Hosts | Page::Code => vec![("Esc", "back"), ("h", "help"), ("↑↓", "choose")],
        Page::Network | Page::Log | Page::Machine | Page::Help => {
            vec![("Esc", "back"), ("h", "help"), ("↑↓", "scroll")]
        }
    };
    of(Some(page)).chain(moves).chain(of(None)).collect()
}

/// An act together with its disk, its host or the machine: ready to be carried out, after the question got its yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Does something with a disk.
    Disk {
        /// The operation.
        act: DiskAct,
        /// The kernel's name, which another disk may have after this one.
        name: String,
        /// The kernel's number, which no other disk of this boot has.
        diskseq: u64,
        /// Whether the disk's bay has a light that can be switched.
        has_light: bool,
    },
    /// Restarts the machine from a disk.
    Boot {
        /// The kernel's name, which another disk may have after this one.
        name: String,
        /// The kernel's number, which no other disk of this boot has.
        diskseq: u64,
        /// Also while hosts are connected.
        is_forced: bool,
    },
    /// Admits a host.
    Allow {
        /// The number of its request, if it asks.
        number: Option<u64>,
        /// Its NQN.
        nqn: String,
        /// It may only read.
        is_read_only: bool,
    },
    /// Denies a request, or takes an admission back.
    Deny {
        /// The number of its request, if it asks.
        number: Option<u64>,
        /// Its NQN.
        nqn: String,
    },
    /// Opens the disks to every host until the next start.
    Open,
    /// Asks a person again, after that.
    Ask,
    /// Ends these connections of a host.
    Disconnect {
        /// The host.
        host: Host,
        /// The controllers of its connections.
        controllers: Vec<ControllerId>,
    },
    /// Restarts the machine.
    Reboot,
    /// Switches the machine off.
    PowerOff,
}
