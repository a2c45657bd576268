//! The view of one terminal, and the effect of each key on it.

use access::Mode;
use nvmet::model::Host;
use tui::canvas::{BAD, BAR, BAR_STRONG, Canvas, GOOD, Size, Style};
use tui::keys::Key;

use crate::bindings::{self, Act, BINDINGS, Binding, Command, DiskAct, HostAct, Page};
use crate::model::{Admitted, Disk, HostRow, Request, Snapshot, printable, uptime_text};
use crate::overview;
use crate::pages;
use crate::traffic::Blocks;
use crate::widgets;

/// The caller's part of a key's effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The changed view is to be drawn.
    Shown,
    /// The whole screen is to be drawn anew.
    Redraw,
    /// This command is to be carried out.
    Run(Command),
    /// A root shell is wanted.
    Shell,
    /// No full screen is wanted any more.
    Leave,
}

/// The row that a person looks at, however many others come before it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    /// The disk's name and its number in the kernel (diskseq).
    Disk(String, u64),
    Request(Request),
    Host(Host),
    Admitted(Admitted),
}

impl Subject {
    /// The subject in the row `place` of a page.
    fn at(page: Page, place: usize, snapshot: &Snapshot) -> Option<Self> {
        match page {
            Page::Disks => snapshot.disks.get(place).map(|disk| Self::Disk(disk.name.clone(), disk.diskseq)),
            Page::Hosts => snapshot.host_rows().get(place).map(|row| match row {
                HostRow::Request(request) => Self::Request((*request).clone()),
                HostRow::Connected(host, _) => Self::Host((*host).clone()),
                HostRow::Admitted(admitted) => Self::Admitted((*admitted).clone()),
            }),
            _ => None,
        }
    }

    /// The row of the subject; `None` if it is gone.
    fn place(&self, snapshot: &Snapshot) -> Option<usize> {
        match self {
            Self::Disk(name, diskseq) => {
                snapshot.disks.iter().position(|disk| disk.name == *name && disk.diskseq == *diskseq)
            }
            Self::Request(request) => {
                snapshot.host_rows().iter().position(|row| matches!(row, HostRow::Request(other) if *other == request))
            }
            Self::Host(host) => snapshot
                .host_rows()
                .iter()
                .position(|row| matches!(row, HostRow::Connected(other, _) if *other == host)),
            Self::Admitted(admitted) => snapshot
                .host_rows()
                .iter()
                .position(|row| matches!(row, HostRow::Admitted(other) if other.nqn == admitted.nqn)),
        }
    }

    /// The message about a subject that is gone.
    fn is_gone(&self) -> String {
        match self {
            Self::Disk(name, _) => format!("Nothing was done: {} is gone, or is another disk now.", printable(name)),
            Self::Request(request) => format!("Nothing was done: request {} is answered or gone.", request.number),
            Self::Host(host) => {
                let who = host.address.as_deref().unwrap_or(&host.nqn);
                format!("Nothing was done: {} is not connected any more.", printable(who))
            }
            Self::Admitted(admitted) => {
                format!("Nothing was done: {} has connected, or is not admitted any more.", printable(&admitted.nqn))
            }
        }
    }
}

/// A question that must be answered before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    binding: Binding,
    /// The disk or host of the question; `None` if it is about the machine.
    subject: Option<Subject>,
    /// The hosts that would lose a disk. If they are others when the yes comes, it asks anew.
    hosts: Vec<Host>,
    text: String,
    grave: bool,
    outcome: Outcome,
}

/// A message about the last command.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    text: String,
    style: Style,
}

/// The view of one terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ui {
    page: Page,
    /// The number of rows from the page's start to the view; on the log, from its end.
    top: usize,
    /// The row of the chosen disk, host or address.
    chosen: usize,
    /// The chosen disk or host, once it was drawn.
    subject: Option<Subject>,
    errors_only: bool,
    question: Option<Question>,
    note: Option<Note>,
    codes: overview::Codes,
    /// The block characters of the terminal's font.
    pub blocks: Blocks,
}

impl Default for Ui {
    fn default() -> Self {
        Self {
            page: Page::Overview,
            top: 0,
            chosen: 0,
            subject: None,
            errors_only: false,
            question: None,
            note: None,
            codes: overview::Codes::default(),
            blocks: Blocks::Half,
        }
    }
}

impl Ui {
    /// Shows a page from its start.
    pub fn go(&mut self, page: Page) {
        (self.page, self.top, self.chosen, self.subject) = (page, 0, 0, None);
    }

    /// Whether the next key answers a question.
    pub fn asks(&self) -> bool {
        self.question.is_some()
    }

    /// The page that is shown.
    pub fn page(&self) -> Page {
        self.page
    }

    /// Shows a message about a command until the next key.
    pub fn say(&mut self, text: &str, is_bad: bool) {
        // The lines of an error become one.
        let text = printable(&text.trim().replace('\n', "; "));
        self.note = Some(Note { text, style: if is_bad { BAD } else { GOOD } });
    }

    /// Handles a key, and returns the work that is left to the caller.
    pub fn key(&mut self, key: Key, snapshot: &Snapshot, size: Size) -> Outcome {
        self.note = None;
        if let Some(question) = self.question.take() {
            if key != Key::Char('y') {
                self.say("Nothing was done.", false);
                return Outcome::Shown;
            }
            // A yes counts only for the facts that the question named.
            match pose(&question.binding, question.subject.as_ref(), snapshot) {
                Some(now) if now == question => return question.outcome,
                Some(now) => {
                    self.say(
                        "Nothing was done: something has changed since the question. Here is what is so now.",
                        true,
                    );
                    self.question = Some(now);
                }
                None => self.say(&question.subject.map_or_else(String::new, |subject| subject.is_gone()), true),
            }
            return Outcome::Shown;
        }
        let is_gone = self.follow(snapshot);
        let binding = bindings::binding(key, self.page);
        match binding {
            // The disk or host under the cursor is gone, and another one has moved to its row since it was drawn.
            Some(Binding { page: Some(page), asks: true, .. }) if *page == self.page && is_gone.is_some() => {
                self.say(&is_gone.unwrap_or_default(), true);
                Outcome::Shown
            }
            Some(binding) if binding.page.is_none_or(|page| page == self.page) => self.act(binding, snapshot),
            Some(Binding { page: Some(page), what, .. }) => {
                let thing = if *page == Page::Disks { "disk" } else { "host" };
                let opener = BINDINGS.iter().find(|binding| binding.act == Act::Go(*page));
                if let Some(Binding { name: letter, .. }) = opener.filter(|_| *page != Page::Log) {
                    self.say(&format!("Choose a {thing} first: press {letter} (then: {what})."), true);
                }
                Outcome::Shown
            }
            _ => self.move_about(key, snapshot, size),
        }
    }

    fn act(&mut self, binding: &Binding, snapshot: &Snapshot) -> Outcome {
        match binding.act {
            Act::Go(page) => self.go(page),
            Act::ErrorsOnly => {
                self.errors_only = !self.errors_only;
                self.top = 0;
            }
            Act::Redraw => return Outcome::Redraw,
            Act::Leave => return Outcome::Leave,
            Act::Disk(_) | Act::Boot | Act::Host(_) | Act::Everyone | Act::Reboot | Act::PowerOff | Act::Shell => {
                if let Some(reason) = no_use(binding, snapshot) {
                    self.say(reason, true);
                    return Outcome::Shown;
                }
                let subject = binding.page.and_then(|page| Subject::at(page, self.chosen, snapshot));
                self.question = pose(binding, subject.as_ref(), snapshot);
                if self.question.is_none() {
                    self.say(
                        if binding.page == Some(Page::Hosts) {
                            "No host asks or is connected."
                        } else {
                            "There is no disk."
                        },
                        true,
                    );
                }
            }
        }
        Outcome::Shown
    }

    /// Moves the cursor to the new row of the chosen disk or host. Returns a message if that is gone.
    fn follow(&mut self, snapshot: &Snapshot) -> Option<String> {
        let subject = self.subject.as_ref()?;
        match subject.place(snapshot) {
            Some(place) => self.chosen = place,
            None => return Some(subject.is_gone()),
        }
        None
    }

    fn move_about(&mut self, key: Key, snapshot: &Snapshot, size: Size) -> Outcome {
        const PAGES: [Page; 6] = [Page::Overview, Page::Disks, Page::Network, Page::Hosts, Page::Log, Page::Machine];
        let rows = size.height.saturating_sub(4).max(1);
        let at = PAGES.iter().position(|page| *page == self.page);
        let turned = |step: usize| PAGES.get((at.unwrap_or(0) + step) % PAGES.len()).copied().unwrap_or(Page::Overview);
        match key {
            Key::Tab | Key::Right => {
                let page = turned(1);
                self.go(page);
                return Outcome::Shown;
            }
            Key::Left => {
                let page = turned(PAGES.len() - 1);
                self.go(page);
                return Outcome::Shown;
            }
            Key::Esc | Key::Backspace => {
                self.go(Page::Overview);
                return Outcome::Shown;
            }
            _ => {}
        }
        // Keys move the cursor on pages with rows to choose from, and the view on others.
        let count = match self.page {
            Page::Disks => Some(snapshot.disks.len()),
            Page::Hosts => Some(snapshot.host_rows().len()),
            Page::Code => Some(snapshot.addresses().len()),
            _ => None,
        };
        if key == Key::Enter || (self.page == Page::Overview && matches!(key, Key::Down | Key::PageDown)) {
            if self.page == Page::Overview {
                self.go(Page::Disks);
            }
            return Outcome::Shown;
        }
        let most = count.map_or(usize::MAX, |count| count.saturating_sub(1));
        let place = if count.is_some() { &mut self.chosen } else { &mut self.top };
        // The log is read from its end.
        let key = match (self.page, key) {
            (Page::Log, Key::Up) => Key::Down,
            (Page::Log, Key::Down) => Key::Up,
            (Page::Log, Key::PageUp) => Key::PageDown,
            (Page::Log, Key::PageDown) => Key::PageUp,
            (Page::Log, Key::Home) => Key::End,
            (Page::Log, Key::End) => Key::Home,
            (_, key) => key,
        };
        *place = match key {
            Key::Up => place.saturating_sub(1),
            Key::Down => place.saturating_add(1),
            Key::PageUp => place.saturating_sub(rows),
            Key::PageDown => place.saturating_add(rows),
            Key::Home => 0,
            // `render`, which knows the length of the page, brings this back to its end.
            Key::End => usize::MAX / 2,
            _ => *place,
        }
        .min(most);
        self.subject = Subject::at(self.page, self.chosen, snapshot);
        Outcome::Shown
    }

    /// Draws the screen. A view or cursor beyond the end of the page moves back to it.
    pub fn render(&mut self, snapshot: &Snapshot, size: Size) -> Canvas {
        let size = Size { width: size.width.clamp(20, 500), height: size.height.clamp(6, 200) };
        let mut canvas = Canvas::new(size);
        header(&mut canvas, snapshot, self.page);
        // The row of a disk or host that is gone has the next one.
        self.follow(snapshot);
        self.chosen = match self.page {
            Page::Disks => self.chosen.min(snapshot.disks.len().saturating_sub(1)),
            Page::Hosts => self.chosen.min(snapshot.host_rows().len().saturating_sub(1)),
            Page::Code => self.chosen.min(snapshot.addresses().len().saturating_sub(1)),
            _ => 0,
        };
        self.subject = Subject::at(self.page, self.chosen, snapshot);
        match self.page {
            Page::Overview => overview::draw(&mut canvas, snapshot, self.blocks, &mut self.codes),
            Page::Disks => pages::disks(&mut canvas, snapshot, self.chosen, self.blocks),
            Page::Hosts => pages::hosts(&mut canvas, snapshot, self.chosen),
            Page::Code => overview::code_page(&mut canvas, snapshot, self.chosen, &mut self.codes),
            Page::Log => self.top = pages::log(&mut canvas, snapshot, self.top, self.errors_only),
            Page::Network => self.top = widgets::scrolled(&mut canvas, &pages::network(snapshot, size.width), self.top),
            Page::Machine => self.top = widgets::scrolled(&mut canvas, &pages::machine(snapshot, size.width), self.top),
            Page::Help => self.top = widgets::scrolled(&mut canvas, &pages::help(size.width), self.top),
        }
        match &self.note {
            Some(note) => widgets::note(&mut canvas, &note.text, note.style),
            None => widgets::key_row(&mut canvas, &bindings::footer(self.page, self.errors_only)),
        }
        if let Some(question) = &self.question {
            widgets::question(&mut canvas, &question.text, question.grave);
        }
        canvas
    }
}

/// The question about an act, from the facts of this snapshot; `None` without a disk or host to act on. Question and
/// command are made of the same row.
fn pose(binding: &Binding, subject: Option<&Subject>, snapshot: &Snapshot) -> Option<Question> {
    let place = || subject.and_then(|subject| subject.place(snapshot));
    let mut losers = Vec::new();
    let (text, grave, outcome) = match binding.act {
        Act::Go(_) | Act::ErrorsOnly | Act::Redraw | Act::Leave => return None,
        Act::Disk(act) => {
            let disk = snapshot.disks.get(place()?)?;
            losers.clone_from(&disk.hosts);
            let (name, diskseq, has_light) = (disk.name.clone(), disk.diskseq, disk.has_light);
            let command = Command::Disk { act, name, diskseq, has_light };
            (disk_question(act, disk, snapshot), act == DiskAct::Remove, Outcome::Run(command))
        }
        Act::Boot => {
            let disk = snapshot.disks.get(place()?)?;
            losers.extend(snapshot.hosts().into_iter().map(|(host, _)| host.clone()));
            let model = disk.model.as_deref().map_or_else(String::new, |model| format!(" ({})", printable(model)));
            let after = snapshot.after.as_ref().map_or_else(String::new, ToString::to_string);
            let text =
                format!("Restart this machine from {}{model}, once? {after}\n{}", printable(&disk.name), connected(&losers));
            let (name, diskseq, is_forced) = (disk.name.clone(), disk.diskseq, !losers.is_empty());
            (text, true, Outcome::Run(Command::Boot { name, diskseq, is_forced }))
        }
        Act::Host(act) => {
            let rows = snapshot.host_rows();
            let (text, command) = host_question(act, rows.get(place()?)?, snapshot);
            (text, act != HostAct::AdmitReadOnly, Outcome::Run(command))
        }
        Act::Everyone => {
            let (text, command) = match snapshot.access.mode {
                Mode::Open => (
                    "Ask about each host from now on? Hosts that were not admitted lose their disks.",
                    Command::Ask,
                ),
                Mode::Ask | Mode::Paired => (
                    "Open the disks to everyone until the next start? Every machine on this network can then read and overwrite them without a question.",
                    Command::Open,
                ),
            };
            losers.extend(snapshot.hosts().into_iter().map(|(host, _)| host.clone()));
            (text.to_owned(), true, Outcome::Run(command))
        }
        Act::Reboot | Act::PowerOff => {
            let (what, command) = if binding.act == Act::Reboot {
                ("Restart this machine?", Command::Reboot)
            } else {
                ("Switch this machine off?", Command::PowerOff)
            };
            losers.extend(snapshot.hosts().into_iter().map(|(host, _)| host.clone()));
            (format!("{what}\n{}", connected(&losers)), true, Outcome::Run(command))
        }
        Act::Shell => (
            "Open a root shell? It can do anything to this machine and its disks. On the screen it is on Alt-F9, and Alt-F1 leads back; on a serial line `exit` does.".to_owned(),
            false,
            Outcome::Shell,
        ),
    };
    Some(Question { binding: *binding, subject: subject.cloned(), hosts: losers, text, grave, outcome })
}

/// The reason why a key has no effect on this machine.
fn no_use(binding: &Binding, snapshot: &Snapshot) -> Option<&'static str> {
    match (binding.act, snapshot.access.mode) {
        (Act::Host(HostAct::Admit | HostAct::AdmitReadOnly), Mode::Open) => {
            Some("Every host is admitted here: the mode is open (O, or the setting diskomator.access).")
        }
        (Act::Boot, _) if snapshot.after.is_none() => {
            Some("This machine's firmware can't be told where to start from: use its own boot menu (see the log).")
        }
        _ => None,
    }
}

/// How many hosts lose their disks.
fn connected(hosts: &[Host]) -> String {
    match hosts.len() {
        0 => "No host is connected.".to_owned(),
        1 => "ONE HOST IS CONNECTED and loses its disks.".to_owned(),
        count => format!("{count} HOSTS ARE CONNECTED and lose their disks."),
    }
}

/// The question about a host, and the command after its yes.
fn host_question(act: HostAct, row: &HostRow<'_>, snapshot: &Snapshot) -> (String, Command) {
    let nqn = row.nqn();
    let who = match row.address() {
        Some(address) => format!("{} ({})", printable(address), printable(nqn)),
        None => printable(nqn),
    };
    let number = match row {
        HostRow::Request(request) => Some(request.number),
        HostRow::Connected(..) | HostRow::Admitted(_) => None,
    };
    let command = |is_read_only| Command::Allow { number, nqn: nqn.to_owned(), is_read_only };
    match (act, row, snapshot.access.mode) {
        (HostAct::Admit, ..) => (
            format!("Admit {who} until the next start? It can read and overwrite all disks of this machine."),
            command(false),
        ),
        (HostAct::AdmitReadOnly, ..) => {
            (format!("Admit {who} until the next start, to read the disks and not to write to them?"), command(true))
        }
        (HostAct::Deny, HostRow::Connected(host, disks), Mode::Open) => disconnection(host, disks, snapshot),
        (HostAct::Deny, HostRow::Request(_), _) => (
            format!(
                "Deny the disks to {who}? It is told to give up. If it asks again after a minute, so does this screen."
            ),
            Command::Deny { number, nqn: nqn.to_owned() },
        ),
        (HostAct::Deny, HostRow::Connected(..) | HostRow::Admitted(_), _) => (
            format!("Take the admission of {who} back? Its connections end, and what it has under way fails."),
            Command::Deny { number, nqn: nqn.to_owned() },
        ),
    }
}

fn disconnection(host: &Host, disks: &[&Disk], snapshot: &Snapshot) -> (String, Command) {
    let hosts = snapshot.hosts();
    let who = match &host.address {
        // Hosts behind one router share an address.
        Some(address) if hosts.iter().any(|(other, _)| other.nqn != host.nqn && other.address == host.address) => {
            format!("{} ({})", printable(address), printable(&host.nqn))
        }
        Some(address) => printable(address),
        None => printable(&host.nqn),
    };
    let names: Vec<String> = disks.iter().map(|disk| printable(&disk.name)).collect();
    let text = format!(
        "End the connections of {who} to {}? What it has under way fails or waits. It tries again after some seconds, and may: to keep a disk from everyone, press u among the disks.",
        names.join(", ")
    );
    let controllers = disks.iter().flat_map(|disk| &disk.controllers);
    let controllers = controllers.filter(|one| one.host == *host).map(|one| one.id).collect();
    (text, Command::Disconnect { host: host.clone(), controllers })
}

fn disk_question(act: DiskAct, disk: &Disk, snapshot: &Snapshot) -> String {
    let name = printable(&disk.name);
    let model = disk.model.as_deref().map_or_else(String::new, |model| format!(" ({})", printable(model)));
    let whose = match disk.hosts.len() {
        0 => String::new(),
        1 => " One host is connected to it.".to_owned(),
        count => format!(" {count} hosts are connected to it."),
    };
    match act {
        DiskAct::ReadOnly => format!(
            "Let hosts only read {name}{model}?{whose} They see it go and come back protected, until this machine is restarted."
        ),
        DiskAct::ReadWrite => format!("Let hosts write to {name}{model}?{whose} They see it go and come back."),
        DiskAct::Remove => {
            let again = if snapshot.is_by_hand {
                ""
            } else {
                " As all disks are exported by themselves here, it comes back at the next change of disks."
            };
            format!("Take {name}{model} away from all hosts?{whose}{again}")
        }
        DiskAct::Export => {
            format!("Export {name}{model}? Everyone on this network can read and overwrite it then.")
        }
        DiskAct::Blink if disk.has_light => format!("Blink the light of {name}{model} for 15 seconds?"),
        DiskAct::Blink => format!(
            "The bay of {name}{model} has no light of its own to switch. Read from the disk for 15 seconds, so that its activity light blinks?"
        ),
    }
}

fn header(canvas: &mut Canvas, snapshot: &Snapshot, page: Page) {
    let width = canvas.size().width;
    canvas.fill(0, 0, width, BAR);
    let mut x = canvas.put(1, 0, width, "■", Style { ink: 10, paper: BAR.paper });
    x = canvas.put(x + 1, 0, width, "DISKOMATOR", BAR_STRONG);
    let title = match page {
        Page::Overview => "",
        Page::Disks => "Disks",
        Page::Network => "Network",
        Page::Hosts => "Hosts",
        Page::Log => "Log",
        Page::Machine => "Machine",
        Page::Code => "QR code",
        Page::Help => "Help",
    };
    let hosts = match snapshot.hosts().len() {
        0 => String::new(),
        1 => "1 host  ".to_owned(),
        count => format!("{count} hosts  "),
    };
    let hosts = match snapshot.access.requests.len() {
        0 => hosts,
        1 => format!("1 host asks  {hosts}"),
        count => format!("{count} hosts ask  {hosts}"),
    };
    let uptime = format!("{hosts}{}", uptime_text(snapshot.uptime).0);
    let right = width.saturating_sub(uptime.len() + 1);
    let name = snapshot.machine.name.as_deref().map(printable).unwrap_or_default();
    for (text, style) in [(title, Style { ink: 14, paper: BAR.paper }), (name.as_str(), BAR)] {
        if !text.is_empty() && x + 2 + text.len() < right {
            x = canvas.put(x + 2, 0, right, text, style);
        }
    }
    if right > x {
        canvas.put(right, 0, width, &uptime, BAR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Access;
    use crate::tests::sample;
    use nvmet::hosts::{Controller, ControllerId};

    const SIZE: Size = Size { width: 80, height: 25 };

    #[test]
    fn each_key_is_there_once_and_has_a_command_and_what_changes_anything_asks() {
        for (number, binding) in BINDINGS.iter().enumerate() {
            let clashes = |other: &Binding| {
                let is_apart = matches!((other.page, binding.page), (Some(one), Some(other)) if one != other);
                other.key == binding.key && !is_apart
            };
            assert!(!BINDINGS.iter().skip(number + 1).any(clashes), "{}", binding.name);
            assert!(!binding.command.is_empty() && !binding.what.is_empty(), "{}", binding.name);
            let is_looking = matches!(binding.act, Act::Go(_) | Act::ErrorsOnly | Act::Redraw | Act::Leave);
            assert_eq!(binding.asks, !is_looking, "{}", binding.name);
        }
    }

    #[test]
    fn a_key_that_changes_anything_does_nothing_before_y() {
        let mut snapshot = sample(3, 1);
        let host = Host { nqn: "nqn.host".to_owned(), address: Some("192.0.2.9".to_owned()) };
        snapshot.disks[1].hosts.push(host);
        snapshot.access.mode = Mode::Ask;
        snapshot.after = Some(efi::After::Unknown);
        for binding in BINDINGS.iter().filter(|binding| binding.asks) {
            for other in [Key::Char('n'), Key::Enter, Key::Esc, Key::Char('Y'), binding.key] {
                let mut ui = Ui::default();
                ui.go(binding.page.unwrap_or(Page::Overview));
                assert_eq!(ui.key(binding.key, &snapshot, SIZE), Outcome::Shown);
                assert!(ui.render(&snapshot, SIZE).text().contains("y yes    any other key no"), "{}", binding.name);
                assert_eq!(ui.key(other, &snapshot, SIZE), Outcome::Shown, "{}", binding.name);
                // A key that answers no question ends it.
                assert_eq!(ui.key(Key::Char('y'), &snapshot, SIZE), Outcome::Shown);
            }
            let mut ui = Ui::default();
            ui.go(binding.page.unwrap_or(Page::Overview));
            ui.key(binding.key, &snapshot, SIZE);
            let done = ui.key(Key::Char('y'), &snapshot, SIZE);
            match done {
                Outcome::Shell => assert_eq!(binding.act, Act::Shell),
                Outcome::Run(Command::Disk { act, name, .. }) => {
                    assert_eq!((binding.act, name.as_str()), (Act::Disk(act), "nvme0n1"));
                }
                Outcome::Run(Command::Boot { name, is_forced, .. }) => {
                    assert_eq!((binding.act, name.as_str(), is_forced), (Act::Boot, "nvme0n1", true));
                }
                Outcome::Run(Command::Allow { nqn, is_read_only, .. }) => {
                    let act = if is_read_only { HostAct::AdmitReadOnly } else { HostAct::Admit };
                    assert_eq!((binding.act, nqn.as_str()), (Act::Host(act), "nqn.host"));
                }
                Outcome::Run(Command::Deny { nqn, .. }) => {
                    assert_eq!((binding.act, nqn.as_str()), (Act::Host(HostAct::Deny), "nqn.host"));
                }
                Outcome::Run(Command::Open) => assert_eq!(binding.act, Act::Everyone),
                Outcome::Run(Command::Reboot) => assert_eq!(binding.act, Act::Reboot),
                Outcome::Run(Command::PowerOff) => assert_eq!(binding.act, Act::PowerOff),
                other => panic!("{other:?} for {}", binding.name),
            }
        }
    }

    #[test]
    fn a_yes_is_about_the_disk_that_was_asked_about_and_no_other_of_its_name() {
        let before = sample(2, 1);
        let asked = |after: &Snapshot| {
            let mut ui = Ui::default();
            ui.go(Page::Disks);
            ui.key(Key::Char('u'), &before, SIZE);
            let outcome = ui.key(Key::Char('y'), after, SIZE);
            (outcome == Outcome::Shown, ui.render(after, SIZE).text().contains("is another disk now"))
        };
        assert_eq!(asked(&before), (false, false));
        let mut replaced = before.clone();
        replaced.disks[0].diskseq = 99;
        assert_eq!(asked(&replaced), (true, true));
        let mut gone = before.clone();
        gone.disks.remove(0);
        assert_eq!(asked(&gone), (true, true));
    }

    #[test]
    fn the_question_about_a_start_from_a_disk_says_what_follows_after_that() {
        let mut snapshot = sample(1, 1);
        snapshot.disks[0].hosts.clear();
        let text = |snapshot: &Snapshot| {
            let mut ui = Ui::default();
            ui.go(Page::Disks);
            ui.key(Key::Char('B'), snapshot, SIZE);
            let text = ui.render(snapshot, SIZE).text();
            (text.split_whitespace().collect::<Vec<_>>().join(" "), ui.key(Key::Char('y'), snapshot, SIZE))
        };
        let (refused, outcome) = text(&snapshot);
        assert!(refused.contains("can't be told where to start from") && outcome == Outcome::Shown, "{refused}");
        let entry = efi::Entry { number: 7, description: "stick".to_owned() };
        for (after, word) in [(efi::After::Ours(entry.clone()), "again"), (efi::After::Other(entry), "which is not")] {
            snapshot.after = Some(after);
            let (asked, outcome) = text(&snapshot);
            assert!(asked.contains("Boot0007 (stick)") && asked.contains(word), "{asked}");
            let command = Command::Boot { name: "nvme0n1".to_owned(), diskseq: 1, is_forced: false };
            assert_eq!(outcome, Outcome::Run(command));
        }
    }

    /// Connects a host to a disk.
    fn connect(snapshot: &mut Snapshot, disk: usize, number: u16, nqn: &str, address: &str) {
        let host = Host { nqn: nqn.to_owned(), address: Some(address.to_owned()) };
        let id = ControllerId { number, inode: 100 + u64::from(number) };
        snapshot.disks[disk].hosts.push(host.clone());
        snapshot.disks[disk].controllers.push(Controller { id, host });
    }

    /// Two cloned machines, of which one has two disks.
    fn clones() -> Snapshot {
        let mut snapshot = sample(2, 1);
        snapshot.disks[0].hosts.clear();
        connect(&mut snapshot, 0, 1, "nqn.clone", "192.0.2.1");
        connect(&mut snapshot, 0, 2, "nqn.clone", "192.0.2.2");
        connect(&mut snapshot, 1, 3, "nqn.clone", "192.0.2.2");
        snapshot
    }

    #[test]
    fn a_host_is_sent_away_by_its_address_and_not_its_clone() {
        let snapshot = clones();
        let mut ui = Ui::default();
        for key in [Key::Char('c'), Key::Down, Key::Char('x')] {
            ui.key(key, &snapshot, SIZE);
        }
        let text = ui.render(&snapshot, SIZE).text();
        assert!(text.contains("192.0.2.2 to nvme0n1,") && text.contains("sdb"), "{text}");
        let host = Host { nqn: "nqn.clone".to_owned(), address: Some("192.0.2.2".to_owned()) };
        let controllers = [(2, 102), (3, 103)].map(|(number, inode)| ControllerId { number, inode }).to_vec();
        let command = Command::Disconnect { host, controllers };
        assert_eq!(ui.key(Key::Char('y'), &snapshot, SIZE), Outcome::Run(command));
    }

    #[test]
    fn a_yes_to_a_question_whose_facts_have_changed_does_nothing_and_asks_anew() {
        let before = clones();
        let mut later = before.clone();
        connect(&mut later, 1, 4, "nqn.late", "192.0.2.3");
        let mut again = before.clone();
        again.disks[0].controllers[1].id.inode = 999;
        let mut other = later.clone();
        other.disks[0].hosts.remove(0);
        let mut more = before.clone();
        connect(&mut more, 1, 5, "nqn.clone", "192.0.2.1");
        let mut none = before.clone();
        none.disks[0].hosts.clear();
        for (keys, after) in [("P", &later), ("R", &later), ("P", &other), ("cx", &more), ("dr", &none)] {
            let mut ui = Ui::default();
            for key in keys.chars() {
                ui.key(Key::Char(key), &before, SIZE);
            }
            assert_eq!(ui.key(Key::Char('y'), after, SIZE), Outcome::Shown, "{keys}");
            let text = ui.render(after, SIZE).text();
            assert!(text.contains("has changed since the question") && text.contains("y yes"), "{text}");
            assert!(matches!(ui.key(Key::Char('y'), after, SIZE), Outcome::Run(_)), "{keys}");
        }
        // A new connection of the same host looks the same; the question was about the old one.
        let mut ui = Ui::default();
        for key in [Key::Char('c'), Key::Down, Key::Char('x')] {
            ui.key(key, &before, SIZE);
        }
        assert_eq!(ui.key(Key::Char('y'), &again, SIZE), Outcome::Shown);
        let mut ui = Ui::default();
        ui.key(Key::Char('c'), &before, SIZE);
        ui.key(Key::Char('x'), &before, SIZE);
        let mut gone = before.clone();
        gone.disks[0].hosts.remove(0);
        assert_eq!(ui.key(Key::Char('y'), &gone, SIZE), Outcome::Shown);
        assert!(ui.render(&gone, SIZE).text().contains("192.0.2.1 is not connected any more"));
    }

    /// A machine that asks about each host, with requests of these numbers.
    fn asked(numbers: &[u64]) -> Snapshot {
        let mut snapshot = clones();
        snapshot.access.mode = Mode::Ask;
        let host = |number: &u64| Host { nqn: format!("nqn.ask{number}"), address: Some(format!("192.0.2.1{number}")) };
        snapshot.access.requests =
            numbers.iter().map(|number| Request { number: *number, host: host(number) }).collect();
        snapshot
    }

    #[test]
    fn an_answer_is_for_the_request_that_was_shown_whatever_comes_meanwhile() {
        let before = asked(&[3, 4]);
        let mut ui = Ui::default();
        for key in [Key::Char('c'), Key::Down] {
            ui.key(key, &before, SIZE);
        }
        ui.render(&before, SIZE);
        // Request 3 is withdrawn and two more come before the key, another one before the yes.
        ui.key(Key::Char('r'), &asked(&[4, 5, 6]), SIZE);
        let text = ui.render(&asked(&[4, 5, 6]), SIZE).text();
        assert!(text.contains("192.0.2.14 (nqn.ask4)") && text.contains("not to write"), "{text}");
        let command = Command::Allow { number: Some(4), nqn: "nqn.ask4".to_owned(), is_read_only: true };
        assert_eq!(ui.key(Key::Char('y'), &asked(&[4, 5, 6, 7]), SIZE), Outcome::Run(command));
        // One that is answered elsewhere, or that is another one's by now, is not answered here.
        ui.key(Key::Char('x'), &asked(&[4]), SIZE);
        assert_eq!(ui.key(Key::Char('y'), &asked(&[5]), SIZE), Outcome::Shown);
        assert!(ui.render(&asked(&[5]), SIZE).text().contains("request 4 is answered or gone"));
        let mut other = asked(&[4]);
        other.access.requests[0].host.address = Some("192.0.2.66".to_owned());
        let mut ui = Ui::default();
        for key in [Key::Char('c'), Key::Char('a')] {
            ui.key(key, &asked(&[4]), SIZE);
        }
        assert_eq!(ui.key(Key::Char('y'), &other, SIZE), Outcome::Shown);
    }

    #[test]
    fn the_page_of_hosts_has_those_that_ask_first_and_then_those_that_may() {
        let mut snapshot = asked(&[7]);
        let admitted = |nqn: &str, is_read_only| Admitted { nqn: nqn.to_owned(), is_read_only };
        snapshot.access.admitted = vec![admitted("nqn.clone", true), admitted("nqn.away", false)];
        let mut ui = Ui::default();
        ui.go(Page::Hosts);
        let text = ui.render(&snapshot, SIZE).text();
        let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("no {word} in\n{text}"));
        assert!(at("7: asks") < at("reads") && at("reads") < at("admitted"), "{text}");
        for key in [Key::End, Key::Char('x')] {
            ui.key(key, &snapshot, SIZE);
            ui.render(&snapshot, SIZE);
        }
        let command = Command::Deny { number: None, nqn: "nqn.away".to_owned() };
        assert_eq!(ui.key(Key::Char('y'), &snapshot, SIZE), Outcome::Run(command));
        // Where everyone is admitted there is nothing to admit, and x ends connections alone.
        snapshot.access = Access { mode: Mode::Open, ..Access::default() };
        let mut ui = Ui::default();
        for key in [Key::Char('c'), Key::Char('a')] {
            ui.key(key, &snapshot, SIZE);
        }
        assert!(!ui.asks() && ui.render(&snapshot, SIZE).text().contains("the mode is open"));
        ui.key(Key::Char('x'), &snapshot, SIZE);
        assert!(matches!(ui.key(Key::Char('y'), &snapshot, SIZE), Outcome::Run(Command::Disconnect { .. })));
    }

    #[test]
    fn a_key_of_two_pages_does_what_each_page_says() {
        let snapshot = asked(&[1]);
        for (page, act) in [('d', Act::Disk(DiskAct::ReadOnly)), ('c', Act::Host(HostAct::AdmitReadOnly))] {
            let mut ui = Ui::default();
            for key in [page, 'r'] {
                ui.key(Key::Char(key), &snapshot, SIZE);
            }
            assert_eq!(ui.question.map(|question| question.binding.act), Some(act));
        }
    }

    #[test]
    fn the_row_that_is_chosen_stays_the_same_disk_when_others_come_before_it() {
        let before = sample(3, 1);
        let mut ui = Ui::default();
        for key in [Key::Char('d'), Key::Down] {
            ui.key(key, &before, SIZE);
        }
        ui.render(&before, SIZE);
        let mut after = before.clone();
        after.disks.insert(0, Disk { name: "new".to_owned(), diskseq: 77, ..before.disks[0].clone() });
        // The key comes before the new row is drawn.
        ui.key(Key::Char('u'), &after, SIZE);
        assert!(ui.render(&after, SIZE).text().contains(&format!("Take {} (", before.disks[1].name)));
        ui.key(Key::Char('n'), &after, SIZE);
        let mut gone = before.clone();
        gone.disks.remove(1);
        assert_eq!(ui.key(Key::Char('u'), &gone, SIZE), Outcome::Shown);
        let text = ui.render(&gone, SIZE).text();
        assert!(text.contains(&format!("{} is gone", before.disks[1].name)) && !text.contains("y yes"), "{text}");
    }

    #[test]
    fn all_disks_of_a_host_are_named_or_a_command_that_names_them() {
        for (count, is_told) in [(1, true), (40, true), (400, false)] {
            let mut snapshot = sample(count, 1);
            for disk in &mut snapshot.disks {
                disk.hosts = vec![Host { nqn: "nqn.host".to_owned(), address: None }];
            }
            let mut ui = Ui::default();
            ui.go(Page::Hosts);
            let text = ui.render(&snapshot, SIZE).text();
            let mut words = text.split_whitespace();
            assert_eq!(
                snapshot.disks.iter().all(|disk| words.clone().any(|word| word == disk.name)),
                is_told,
                "{text}"
            );
            assert!(words.any(|word| word == count.to_string()), "{text}");
            assert_eq!(text.contains("diskomator hosts"), !is_told, "{text}");
        }
    }

    #[test]
    fn who_switches_off_is_told_who_loses_disks() {
        let mut snapshot = sample(1, 1);
        snapshot.disks[0].hosts.clear();
        let mut ui = Ui::default();
        ui.key(Key::Char('P'), &snapshot, SIZE);
        assert!(ui.render(&snapshot, SIZE).text().contains("No host is connected."));
        snapshot.disks[0].hosts.push(Host { nqn: "nqn.host".to_owned(), address: None });
        let mut ui = Ui::default();
        ui.key(Key::Char('R'), &snapshot, SIZE);
        assert!(ui.render(&snapshot, SIZE).text().contains("ONE HOST IS CONNECTED"));
    }

    #[test]
    fn the_disk_that_is_chosen_is_the_one_that_is_meant() {
        let snapshot = sample(40, 1);
        let mut ui = Ui::default();
        for key in [Key::Char('d'), Key::End, Key::Up, Key::Char('r')] {
            ui.key(key, &snapshot, SIZE);
            ui.render(&snapshot, SIZE);
        }
        let name = snapshot.disks[38].name.clone();
        assert!(ui.render(&snapshot, SIZE).text().contains(&format!("Let hosts only read {name}")));
        let command = Command::Disk { act: DiskAct::ReadOnly, name, diskseq: 39, has_light: false };
        assert_eq!(ui.key(Key::Char('y'), &snapshot, SIZE), Outcome::Run(command));
    }
}
