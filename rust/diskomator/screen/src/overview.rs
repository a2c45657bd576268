//! The overview: the line to type, large; then the network, and every disk.

use access::Mode;
use std::fmt;

use disks::disk::human_size;
use qrcodegen::{QrCode, QrCodeEcc};
use tui::canvas::{BAD, Canvas, FAINT, Line, ORIGIN, PLAIN, STRONG, Size, Style, TITLE, WARN, line, wrap};

use netproto::net::speed_text;

use crate::model::{
    Address, BY_HAND, Disk, DiskState, Link, Request, STARTING, Snapshot, connect_line, printable, shortened,
};
use crate::traffic::{Blocks, rate_text, sparkline};
use crate::widgets::{fitted, state_word};

/// Draws the overview between the first row and the last.
pub(crate) fn draw(canvas: &mut Canvas, snapshot: &Snapshot, blocks: Blocks, codes: &mut Codes) {
    let Size { width, height } = canvas.size();
    let (first, last) = (1, height - 1);
    let addresses = snapshot.addresses();
    let warnings = warnings(snapshot, width, if height < 20 { 1 } else { 3 });
    let roomy = usize::from(height >= 30);

    // The lower part: warnings, then disks, of which some must have room.
    let disk_rows = snapshot.disks.len().max(1) + 1;
    let below_least = warnings.len() + disk_rows.min(5);
    let code = addresses.first().filter(|_| !snapshot.is_by_hand).and_then(|(address, _)| {
        let modules = codes.of(&connect_line(address));
        let all = warnings.len() + disk_rows + 2 * roomy;
        let fits = |quiet: usize, scale: usize, below: usize, beside: usize| {
            let code = Code { modules: modules.clone()?, quiet, scale };
            (first + roomy + code.height() + below <= last && code.width() + beside <= width).then_some(code)
        };
        // The largest code that leaves room for every disk; if there is none, for some.
        fits(4, 2, all, 80).or_else(|| fits(4, 1, below_least, 50)).or_else(|| fits(2, 1, below_least, 46))
    });

    let (mut left_width, mut code_height) = (width - 2, 0);
    if let Some(code) = &code {
        let x = width - code.width() - roomy;
        code.draw(canvas, x, first + roomy);
        left_width = x - 2;
        code_height = code.height();
    }
    // The text beside the code may be longer than the code, as long as the disks have room.
    let above = last - first - roomy;
    let room = above.saturating_sub(warnings.len() + disk_rows + 2 * roomy);
    let room = room.max(if code.is_some() { code_height } else { above.saturating_sub(below_least) });
    let left = left(snapshot, &addresses, left_width, room);
    for (y, row) in (first + roomy..).zip(&left) {
        canvas.put_line(1, y, 1 + left_width, row);
    }
    let mut y = first + roomy + code_height.max(left.len()) + roomy;
    for row in &warnings {
        canvas.put_line(1, y, width - 1, row);
        y += 1;
    }
    if roomy > 0 && y + disk_rows < last {
        y += 1;
    }
    table(canvas, snapshot, y, last, None, blocks);
}

/// The QR code of the line to type, alone and as large as it can be.
pub(crate) fn code_page(canvas: &mut Canvas, snapshot: &Snapshot, chosen: usize, codes: &mut Codes) {
    let Size { width, height } = canvas.size();
    let addresses = snapshot.addresses();
    let Some((address, _)) = addresses.get(chosen) else {
        canvas.put(1, 2, width, "No network address yet.", WARN);
        return;
    };
    let text = connect_line(address);
    let lines = wrap(&text, width - 2);
    let rows = height.saturating_sub(2 + lines.len());
    let modules = codes.of(&text);
    let code = [(4, 2), (4, 1), (2, 1), (1, 1)].into_iter().find_map(|(quiet, scale)| {
        let code = Code { modules: modules.clone()?, quiet, scale };
        (code.width() <= width && code.height() <= rows).then_some(code)
    });
    let mut y = 1;
    match &code {
        Some(code) => {
            y += rows.saturating_sub(code.height()) / 2;
            code.draw(canvas, (width - code.width()) / 2, y);
            y += code.height();
        }
        None => {
            canvas.put(1, 2, width, "This screen is too small for a QR code.", WARN);
            y = 4;
        }
    }
    for row in &lines {
        canvas.put(width.saturating_sub(row.len()) / 2, y, width, row, STRONG);
        y += 1;
    }
}

/// The last QR code, kept because making one takes by far the most time of drawing a screen.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Codes(Option<(String, QrCode)>);

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Codes").field(&self.0.as_ref().map(|(text, _)| text)).finish()
    }
}

impl Codes {
    fn of(&mut self, text: &str) -> Option<QrCode> {
        if self.0.as_ref().is_none_or(|(old, _)| old != text) {
            self.0 = QrCode::encode_text(text, QrCodeEcc::Low).ok().map(|code| (text.to_owned(), code));
        }
        self.0.as_ref().map(|(_, code)| code.clone())
    }
}

/// A QR code as it is drawn.
struct Code {
    modules: QrCode,
    quiet: usize,
    /// The width of a module in cells. At 1, a cell has two modules, one above the other.
    scale: usize,
}

impl Code {
    /// The width and height in modules, with the quiet zone at both ends.
    fn side(&self) -> usize {
        usize::try_from(self.modules.size()).unwrap_or(0) + 2 * self.quiet
    }

    fn width(&self) -> usize {
        self.side() * self.scale
    }

    fn height(&self) -> usize {
        if self.scale == 2 { self.side() } else { self.side().div_ceil(2) }
    }

    /// Whether a module is light. The quiet zone is.
    fn is_light(&self, x: usize, y: usize) -> bool {
        let at = |place: usize| i32::try_from(place).unwrap_or(0) - i32::try_from(self.quiet).unwrap_or(0);
        !self.modules.get_module(at(x), at(y))
    }

    fn draw(&self, canvas: &mut Canvas, x: usize, y: usize) {
        for row in 0..self.height() {
            for column in 0..self.width() {
                let glyph = if self.scale == 2 {
                    if self.is_light(column / 2, row) { '█' } else { ' ' }
                } else {
                    let lower = 2 * row + 1;
                    match (self.is_light(column, 2 * row), lower < self.side() && self.is_light(column, lower)) {
                        (true, true) => '█',
                        (true, false) => '▀',
                        (false, true) => '▄',
                        (false, false) => ' ',
                    }
                };
                // Light modules are glyphs, because white paper is not bright on every terminal.
                canvas.set(x + column, y + row, glyph, STRONG);
            }
        }
    }
}

/// The text beside the QR code, in at most `room` rows.
fn left(snapshot: &Snapshot, addresses: &[(Address, &str)], width: usize, room: usize) -> Vec<Line> {
    let mut head = requests(snapshot, width, if room < 16 { 1 } else { 3 });
    if snapshot.is_by_hand {
        head.extend(by_hand(width));
    }
    let mut large = Vec::new();
    match addresses.first() {
        None => head.extend(first_steps(snapshot)),
        Some((address, _)) => {
            head.extend(to_type(address, width));
            large = banner(&address.ip.to_string(), width);
            if !large.is_empty() {
                large.insert(0, Line::new());
                large.push(Line::new());
            }
        }
    }
    let mut hint = hint(addresses, width);
    hint.extend(whose_decision(snapshot, width));
    let network = network_rows(snapshot, width);
    let machine = machine_rows(snapshot, width);
    // The large address goes first if the room is short, then the machine.
    let needed = head.len() + hint.len() + 1 + network.len();
    let with_machine = needed + 1 + machine.len() <= room || room >= 16;
    let machine = if with_machine { machine } else { Vec::new() };
    let below = if machine.is_empty() { 0 } else { machine.len() + 1 };
    let with_large = needed + below + large.len() <= room;
    let mut rows = head;
    if with_large {
        rows.extend(large);
    }
    rows.extend(hint);
    rows.push(Line::new());
    rows.extend(with_more(network, room.saturating_sub(rows.len() + below)));
    if !machine.is_empty() {
        rows.push(Line::new());
        rows.extend(machine);
    }
    rows.truncate(room);
    rows
}

/// As many rows as there is room for; the last one names the number of the others.
fn with_more(mut rows: Vec<Line>, room: usize) -> Vec<Line> {
    if rows.len() > room {
        let more = rows.len() + 1 - room.max(1);
        rows.truncate(room.saturating_sub(1));
        rows.push(vec![(format!("  ... {more} more lines, press "), PLAIN), ("n".to_owned(), STRONG)]);
    }
    rows
}

/// The undecided hosts, at most `most` of them, before all else: they wait for an answer.
fn requests(snapshot: &Snapshot, width: usize, most: usize) -> Vec<Line> {
    let requests = &snapshot.access.requests;
    let mut rows = Vec::new();
    for Request { number, host } in requests.iter().take(most) {
        let address = host.address.as_deref().unwrap_or("a host");
        let first = format!("{number}: {} asks for the disks", printable(address));
        rows.extend(wrap(&first, width).into_iter().map(|row| line(row, WARN)));
        rows.push(fitted(&format!("   {}", host.nqn), width, PLAIN));
    }
    if requests.len() > most {
        rows.push(line(format!("... {} more", requests.len() - most), WARN));
    }
    if !requests.is_empty() {
        let text = "To answer press c, choose it, then a to admit it, r to let it read only, or x to deny.";
        rows.extend(wrap(text, width).into_iter().map(|row| line(row, STRONG)));
        rows.push(Line::new());
    }
    rows
}

/// The next step for a person who has typed the line on the other machine.
fn whose_decision(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let text = match snapshot.access.mode {
        Mode::Open => return Vec::new(),
        Mode::Ask => "The other machine then asks here for the disks, and waits for your answer.",
        Mode::Paired => {
            "Only a host with a key of this machine is admitted. For a key and what to type with it, type on Alt-F9: \
             diskomator key HOSTNQN"
        }
    };
    wrap(text, width).into_iter().map(|row| line(row, PLAIN)).collect()
}

/// The way to export disks if none is exported by itself. It comes first, because no host sees a disk before.
fn by_hand(width: usize) -> Vec<Line> {
    let text =
        format!("{BY_HAND} Choose disks with d and export them with e, or type on Alt-F9: diskomator export sync");
    wrap(&text, width).into_iter().map(|row| line(row, WARN)).chain([Line::new()]).collect()
}

/// Whether slow disks and cards may still be on their way.
fn is_starting(snapshot: &Snapshot) -> bool {
    snapshot.uptime < STARTING
}

/// The state of each link before there is an address.
fn first_steps(snapshot: &Snapshot) -> Vec<Line> {
    let mut rows = vec![line("Waiting for a network address", STRONG)];
    if snapshot.links.is_empty() {
        rows.push(if is_starting(snapshot) {
            line("  Looking for network cards ...", PLAIN)
        } else {
            line("  No network card has been found so far.", WARN)
        });
    }
    for link in &snapshot.links {
        let name = shortened(&printable(&link.name), 16);
        rows.push(if link.has_carrier {
            vec![(format!("  {name}"), STRONG), (" asks the network for an address ...".to_owned(), PLAIN)]
        } else {
            vec![(format!("  {name}"), STRONG), (" has no cable, or nothing at its other end".to_owned(), WARN)]
        });
    }
    rows
}

/// The line to type in its frame.
fn to_type(address: &Address, width: usize) -> Vec<Line> {
    let mut rows = vec![line("On another Linux machine, type as root:", STRONG)];
    let text = connect_line(address);
    let most = width.saturating_sub(2).max(1);
    // A backslash continues a line that is too long, as in a shell.
    let parts: Vec<String> = if text.len() <= most {
        vec![text]
    } else {
        let (command, argument) = text.split_once(" -a ").unwrap_or((&text, ""));
        let first = format!("{command} \\");
        let second = format!(" -a {argument}");
        [first, second].iter().flat_map(|part| wrap(part, most)).collect()
    };
    let longest = parts.iter().map(|part| part.chars().count()).max().unwrap_or(0);
    let pad = if longest + 4 <= width { " " } else { "" };
    let edge = "─".repeat(longest + 2 * pad.len());
    rows.push(line(format!("┌{edge}┐"), TITLE));
    for part in parts {
        rows.push(vec![(format!("│{pad}"), TITLE), (format!("{part:longest$}"), STRONG), (format!("{pad}│"), TITLE)]);
    }
    rows.push(line(format!("└{edge}┘"), TITLE));
    rows
}

/// A hint for the line to type.
fn hint(all: &[(Address, &str)], width: usize) -> Vec<Line> {
    let zone = all.iter().any(|(address, _)| address.needs_zone());
    let text = match (all.len(), zone) {
        (0, _) => return Vec::new(),
        (1, false) => "The QR code is the same line.",
        (_, false) => "Any address below will do.",
        (1, true) => "For <interface> write the one of that machine which is wired to this one, as in -f eth0",
        (_, true) => "Any address below will do; to one of fe80:: add -f and your own interface.",
    };
    wrap(text, width).into_iter().map(|row| line(row, PLAIN)).collect()
}

/// An address in figures that can be read from afar; no rows if it does not fit.
fn banner(text: &str, width: usize) -> Vec<Line> {
    /// A figure's five rows of three pixels, from the top; the lowest bit is the right pixel.
    const fn figure(c: char) -> Option<[u8; 5]> {
        Some(match c {
            '0' => [7, 5, 5, 5, 7],
            '1' => [2, 6, 2, 2, 7],
            '2' => [7, 1, 7, 4, 7],
            '3' => [7, 1, 3, 1, 7],
            '4' => [5, 5, 7, 1, 1],
            '5' => [7, 4, 7, 1, 7],
            '6' => [7, 4, 7, 5, 7],
            '7' => [7, 1, 1, 1, 1],
            '8' => [7, 5, 7, 5, 7],
            '9' => [7, 5, 7, 1, 7],
            _ => return None,
        })
    }
    let mut pixels: [Vec<bool>; 5] = Default::default();
    for c in text.chars() {
        let figure = if c == '.' {
            None
        } else if let Some(figure) = figure(c) {
            Some(figure)
        } else {
            return Vec::new();
        };
        for (row, line) in pixels.iter_mut().enumerate() {
            match figure {
                Some(figure) => {
                    let bits = figure.get(row).copied().unwrap_or(0);
                    line.extend([bits & 4 != 0, bits & 2 != 0, bits & 1 != 0, false]);
                }
                None => line.extend([row == 4, false]),
            }
        }
    }
    let columns = pixels.first().map_or(0, Vec::len);
    let lit = |x: usize, y: usize| pixels.get(y).and_then(|row| row.get(x)).copied().unwrap_or(false);
    if columns * 2 <= width {
        let row = |y| (0..columns).map(|x| if lit(x, y) { "██" } else { "  " }).collect::<String>();
        return (0..5).map(|y| line(row(y), STRONG)).collect();
    }
    if columns > width {
        return Vec::new();
    }
    let half = |x: usize, y: usize| match (lit(x, 2 * y), lit(x, 2 * y + 1)) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    };
    (0..3).map(|y| line((0..columns).map(|x| half(x, y)).collect::<String>(), STRONG)).collect()
}

/// Each link with its addresses.
fn network_rows(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let mut rows = vec![line("Network", TITLE)];
    if snapshot.links.is_empty() {
        rows.push(line("  no network card", WARN));
    }
    for link in &snapshot.links {
        rows.push(link_row(link, width));
        let mut addresses = link.addresses.clone();
        addresses.sort_unstable();
        let ip_width = addresses.iter().map(|address| address.ip.to_string().len()).max().unwrap_or(0);
        for address in addresses {
            let origin = if ip_width + 4 + address.origin.len() <= width { address.origin } else { "" };
            rows.push(vec![(format!("    {:ip_width$} ", address.ip.to_string()), PLAIN), (origin.to_owned(), ORIGIN)]);
        }
    }
    rows
}

pub(crate) fn link_row(link: &Link, width: usize) -> Line {
    let name = shortened(&printable(&link.name), 16);
    let (state, style) = match (link.has_carrier, link.speed) {
        (false, _) => ("no cable".to_owned(), WARN),
        (true, Some(speed)) => (speed_text(speed), PLAIN),
        (true, None) => ("connected".to_owned(), PLAIN),
    };
    let mut row = vec![(format!("  {name}"), STRONG), (format!("  {state}"), style)];
    if link.has_carrier && link.addresses.is_empty() {
        row.push(("  no address yet".to_owned(), WARN));
    }
    let used: usize = row.iter().map(|(text, _)| text.len()).sum();
    if let Some(mac) = link.mac.filter(|_| used + 19 <= width) {
        row.push((format!("  {mac}"), FAINT));
    }
    row
}

/// The machine, and the way to log in to it.
fn machine_rows(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let machine = &snapshot.machine;
    let mut rows = Vec::new();
    if let Some(password) = snapshot.ssh.as_ref().and_then(|ssh| ssh.password.as_ref()) {
        rows.push(vec![("ssh root@ADDRESS, password, good once: ".to_owned(), PLAIN), (printable(password), STRONG)]);
    } else if snapshot.ssh.is_some() {
        rows.push(line("ssh root@ADDRESS, with a key that is allowed", PLAIN));
    }
    if let Some(model) = &machine.model {
        rows.push(fitted(model, width, PLAIN));
    }
    let memory = format!("{} RAM", human_size(machine.memory));
    let processor = machine.processor.as_deref().unwrap_or("unknown processor");
    let count = if machine.processors > 1 { format!(" x {}", machine.processors) } else { String::new() };
    let room = width.saturating_sub(memory.len() + count.len() + 2);
    rows.push(line(format!("{}{count}, {memory}", shortened(&printable(processor), room)), PLAIN));
    rows
}

/// The warnings, in at most `most` rows.
fn warnings(snapshot: &Snapshot, width: usize, most: usize) -> Vec<Line> {
    let mut rows: Vec<Line> = Vec::new();
    for warning in &snapshot.warnings {
        for (number, text) in wrap(&printable(warning), width.saturating_sub(4)).into_iter().enumerate() {
            let mark = if number == 0 { "! " } else { "  " };
            rows.push(vec![(mark.to_owned(), BAD), (text, WARN)]);
        }
    }
    if rows.len() > most {
        rows.truncate(most);
        if let Some(last) = rows.last_mut() {
            let used: usize = last.iter().map(|(text, _)| text.chars().count()).sum();
            let more = "  ... press m";
            if used + more.len() > width.saturating_sub(2) {
                let keep = width.saturating_sub(4 + more.len());
                if let Some((text, _)) = last.last_mut() {
                    *text = text.chars().take(keep).collect();
                }
            }
            last.push((more.to_owned(), STRONG));
        }
    }
    rows
}

/// A model of at most `max` characters. The mark of the disk that this machine was started from stays whole.
fn model_text(model: &str, max: usize) -> String {
    const MARK: &str = " [boot]";
    match model.strip_suffix(MARK) {
        Some(name) if max > MARK.len() + 2 => shortened(name, max - MARK.len()) + MARK,
        _ => shortened(model, max),
    }
}

/// The widths of the columns of disks, in characters.
struct Columns {
    name: usize,
    model: usize,
    serial: usize,
    /// Zero if the bus has no room.
    bus: usize,
    state: usize,
    /// Whether reads, writes and requests have a column each.
    detailed: bool,
    spark: usize,
}

const SIZE_WIDTH: usize = 8;
/// A model cut to fewer characters tells little.
const MODEL_LEAST: usize = 14;
const HOSTS_WIDTH: usize = 5;
const RATE_WIDTH: usize = 10;

impl Columns {
    fn new(disks: &[Disk], width: usize) -> Self {
        let longest = |text: fn(&Disk) -> usize, least: usize, most: usize| {
            disks.iter().map(text).max().unwrap_or(0).clamp(least, most)
        };
        let name = longest(|disk| disk.name.len(), 4, 12);
        let model_wish = longest(|disk| disk.model.as_ref().map_or(0, String::len), 5, 40);
        let serial_wish = longest(|disk| disk.serial.as_ref().map_or(0, String::len), 6, 20);
        let detailed = width >= 110;
        let bus = if width >= 70 { longest(|disk| disk.bus.len(), 3, 7) } else { 0 };
        let state = longest(|disk| state_word(disk).0.len(), 5, 9);
        let rates = if detailed { 2 * (RATE_WIDTH + 2) + 9 } else { RATE_WIDTH + 2 };
        let hosts = if width >= 60 { HOSTS_WIDTH + 2 + rates } else { 0 };
        // The second 2 is a mark and a space before the state.
        let fixed = 2 + name + 2 + SIZE_WIDTH + 2 + 2 + state + hosts;
        let left = width.saturating_sub(fixed + 1);
        // The picture of the traffic may cost letters of the model, but the bus goes before the model is too short:
        // the disk's name tells the bus, too.
        let flows = hosts > 0 && width >= 70 && disks.iter().any(|disk| disk.traffic.is_some());
        let picture = if flows { 9 } else { 0 };
        let bus_room = if bus > 0 { bus + 2 } else { 0 };
        let with_bus = left.saturating_sub(2 + picture + bus_room) >= model_wish.min(MODEL_LEAST);
        let (bus, bus_room) = if with_bus { (bus, bus_room) } else { (0, 0) };
        let left = left.saturating_sub(bus_room);
        let model = model_wish.min(left.saturating_sub(2 + picture));
        let left = left.saturating_sub(model + 2);
        let serial = if width >= 110 && left >= serial_wish + 12 { serial_wish } else { 0 };
        let left = left.saturating_sub(if serial > 0 { serial + 2 } else { 0 });
        Self {
            name,
            model,
            serial,
            bus,
            state,
            detailed,
            spark: if hosts > 0 && left >= 6 { (left - 2).min(40) } else { 0 },
        }
    }

    /// The columns before the state.
    fn lead(&self, name: &str, size: &str, model: &str, serial: &str, bus: &str) -> String {
        let mut text = format!("{:width$}  {size:>SIZE_WIDTH$}", shortened(name, self.name), width = self.name);
        if self.model > 0 {
            text.push_str(&format!("  {:width$}", model_text(model, self.model), width = self.model));
        }
        if self.serial > 0 {
            text.push_str(&format!("  {:width$}", shortened(serial, self.serial), width = self.serial));
        }
        if self.bus > 0 {
            text.push_str(&format!("  {bus:width$}", width = self.bus));
        }
        text.push_str("  ");
        text
    }

    fn header(&self, width: usize) -> String {
        let mut text = self.lead("DISK", "SIZE", "MODEL", "SERIAL", "BUS");
        text.push_str(&format!("  {:width$}", "STATE", width = self.state));
        if width >= 60 {
            text.push_str(&format!("  {:>HOSTS_WIDTH$}", "HOSTS"));
            if self.detailed {
                text.push_str(&format!("  {:>RATE_WIDTH$}  {:>RATE_WIDTH$}  {:>7}", "READ", "WRITTEN", "IOPS"));
            } else {
                text.push_str(&format!("  {:>RATE_WIDTH$}", "DATA FLOW"));
            }
        }
        text
    }

    fn row(&self, disk: &Disk, width: usize, blocks: Blocks) -> Line {
        let dash = || "-".to_owned();
        let lead = self.lead(
            &printable(&disk.name),
            &human_size(disk.size),
            &disk.model.as_deref().map_or_else(dash, printable),
            &disk.serial.as_deref().map_or_else(dash, printable),
            &disk.bus,
        );
        let (word, style) = state_word(disk);
        let mut row = vec![(lead, PLAIN), ("■ ".to_owned(), style)];
        if let DiskState::NotExported(why) = &disk.state {
            let used: usize = row.iter().map(|(text, _)| text.chars().count()).sum();
            row.extend(fitted(&format!("not exported: {why}"), (width - 2).saturating_sub(used), style));
            return row;
        }
        row.push((format!("{word:width$}", width = self.state), style));
        if width < 60 {
            return row;
        }
        let hosts = if disk.hosts.is_empty() { dash() } else { disk.hosts.len().to_string() };
        row.push((format!("  {hosts:>HOSTS_WIDTH$}"), if disk.hosts.is_empty() { FAINT } else { STRONG }));
        let Some(traffic) = disk.traffic.as_ref().filter(|_| !disk.hosts.is_empty()) else { return row };
        let style = if traffic.is_idle() { FAINT } else { STRONG };
        if self.detailed {
            row.push((format!("  {:>RATE_WIDTH$}", rate_text(traffic.read)), style));
            row.push((format!("  {:>RATE_WIDTH$}", rate_text(traffic.written)), style));
            row.push((format!("  {:>7}", traffic.requests), style));
        } else {
            row.push((format!("  {:>RATE_WIDTH$}", rate_text(traffic.read.saturating_add(traffic.written))), style));
        }
        if self.spark > 0 {
            row.push((format!("  {}", sparkline(&traffic.history, self.spark, blocks)), TITLE));
        }
        row
    }
}

/// The disks from row `y` to before row `end`, below a row of titles. If not all have room and one is chosen, the
/// rows are those around it, and a line tells their numbers; if none is, they are the first ones, and a line tells the
/// count of the others.
pub(crate) fn table(
    canvas: &mut Canvas,
    snapshot: &Snapshot,
    y: usize,
    end: usize,
    chosen: Option<usize>,
    blocks: Blocks,
) {
    let width = canvas.size().width;
    let columns = Columns::new(&snapshot.disks, width);
    canvas.put(1, y, width, &columns.header(width), TITLE);
    let room = end.saturating_sub(y + 1);
    if let Some(problem) = &snapshot.problem {
        for (row, text) in (y + 1..end).zip(wrap(&printable(problem), width - 3)) {
            canvas.put(2, row, width, &text, BAD);
        }
        return;
    }
    if snapshot.disks.is_empty() {
        let text = if is_starting(snapshot) {
            "Looking for disks ..."
        } else {
            "No disk yet; one that is plugged in now will appear here."
        };
        canvas.put(1, y + 1, width, text, PLAIN);
        return;
    }
    let count = snapshot.disks.len();
    let shown = if count > room { room.saturating_sub(1) } else { count };
    let first = chosen.map_or(0, |chosen| (chosen + 1).saturating_sub(shown).max(chosen.saturating_sub(shown / 2)));
    let first = first.min(count - shown);
    for (number, disk) in snapshot.disks.iter().enumerate().skip(first).take(shown) {
        let row = y + 1 + number - first;
        canvas.put_line(1, row, width, &columns.row(disk, width, blocks));
        if chosen == Some(number) {
            canvas.restyle(0, row, width, tui::canvas::SELECTED);
        }
    }
    if shown < count && room > 0 {
        let row = end - 1;
        if chosen.is_some() {
            let text = format!("{} to {} of {count}", first + 1, first + shown);
            canvas.put(1, row, width, &text, Style { ink: FAINT.ink, paper: 0 });
        } else {
            let x = canvas.put(1, row, width, &format!("... {} more, press ", count - shown), PLAIN);
            canvas.put(x, row, width, "d", STRONG);
        }
    }
}
