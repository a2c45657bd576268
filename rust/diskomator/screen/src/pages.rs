//! The pages behind the overview.

use access::Mode;
use disks::disk::human_size;
use tui::canvas::{
    BAD, Canvas, FAINT, GOOD, Line, ORIGIN, PLAIN, SELECTED, STRONG, Size, Style, TITLE, WARN, line, wrap,
};
use tui::screen::Screen;

use crate::bindings::{BINDINGS, MOVES, Page};
use crate::log::{Entry, Level};
use crate::model::{Disk, DiskState, HostRow, Snapshot, connect_line, printable, shortened};
use crate::overview::{link_row, table};
use crate::traffic::{Blocks, rate_text, sparkline};
use crate::widgets::{below, field, fitted, scrolled, state_word};

/// Every disk, and below the list the details of the chosen one.
pub(crate) fn disks(canvas: &mut Canvas, snapshot: &Snapshot, chosen: usize, blocks: Blocks) {
    let width = canvas.size().width;
    let details = snapshot.disks.get(chosen).map(|disk| disk_details(disk, width, blocks)).unwrap_or_default();
    let end = below(canvas, &details, "diskomator export list");
    table(canvas, snapshot, 1, end, Some(chosen), blocks);
}

fn disk_details(disk: &Disk, width: usize, blocks: Blocks) -> Vec<Line> {
    let (word, style) = state_word(disk);
    let mut head = vec![
        (shortened(&printable(&disk.name), 20), STRONG),
        (format!("  {}  {}", human_size(disk.size), disk.bus), PLAIN),
        (format!("  {word}"), style),
    ];
    if let Some(model) = &disk.model {
        head.push((format!("  {}", printable(model)), PLAIN));
    }
    let mut rows = vec![head];
    if let DiskState::NotExported(why) = &disk.state {
        rows.extend(field("Why", why, width));
    }
    let number = [("serial ", &disk.serial), ("firmware ", &disk.firmware)]
        .into_iter()
        .filter_map(|(what, value)| Some(format!("{what}{}", printable(value.as_deref()?))))
        .collect::<Vec<_>>();
    if !number.is_empty() {
        rows.extend(field("Number", &number.join(", "), width));
    }
    if let Some(nqn) = &disk.nqn {
        rows.extend(field("NQN", nqn, width));
    }
    if let Some(traffic) = &disk.traffic {
        let text = format!(
            "read {}, written {}, {} requests/s  ",
            rate_text(traffic.read),
            rate_text(traffic.written),
            traffic.requests
        );
        let room = width.saturating_sub(12 + text.len()).min(60);
        rows.push(vec![
            (format!("{:9}", "Now"), TITLE),
            (text, PLAIN),
            (sparkline(&traffic.history, room, blocks), TITLE),
        ]);
    }
    if disk.hosts.is_empty() {
        rows.extend(field("Hosts", "none connected", width));
    }
    for host in &disk.hosts {
        let address = host.address.as_deref().unwrap_or("unknown address");
        rows.extend(field("Host", &format!("{address}  {}", host.nqn), width));
    }
    rows
}

/// The state of a row's host in a word, and its colour.
fn host_state(row: &HostRow<'_>, snapshot: &Snapshot) -> (String, Style) {
    let is_read_only = |nqn| snapshot.admission(nqn).is_some_and(|admitted| admitted.is_read_only);
    match row {
        HostRow::Request(request) => (format!("{}: asks", request.number), WARN),
        HostRow::Connected(host, _) if is_read_only(&host.nqn) => ("reads".to_owned(), GOOD),
        HostRow::Connected(..) => ("connected".to_owned(), GOOD),
        HostRow::Admitted(admitted) if admitted.is_read_only => ("may read".to_owned(), PLAIN),
        HostRow::Admitted(_) => ("admitted".to_owned(), PLAIN),
    }
}

/// Every host that asks, is connected or is admitted, and below the list the NQN and disks of the chosen one.
pub(crate) fn hosts(canvas: &mut Canvas, snapshot: &Snapshot, chosen: usize) {
    const STATE_WIDTH: usize = 10;
    let width = canvas.size().width;
    let rows = snapshot.host_rows();
    if rows.is_empty() {
        let text = match snapshot.access.mode {
            Mode::Open => "No host is connected. Every host is admitted.",
            Mode::Ask => "No host asks, and none is connected. One that asks appears here.",
            Mode::Paired => "No host is connected. Only hosts with a key are admitted.",
        };
        canvas.put(1, 2, width, text, PLAIN);
        return;
    }
    let of = |row: &HostRow<'_>| match row {
        HostRow::Admitted(_) => "-".to_owned(),
        _ => printable(row.address().unwrap_or("unknown address")),
    };
    let address_width = rows.iter().map(|row| of(row).len()).max().unwrap_or(0).clamp(7, 40);
    let details = rows.get(chosen).map(|row| {
        let mut lines = field("Host", row.nqn(), width);
        match row {
            HostRow::Request(_) => {
                lines.extend(field("Asks", "for the disks: a admits it, r admits it to read only, x denies", width));
            }
            HostRow::Connected(_, disks) => {
                let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
                lines.extend(field("Disks", &names.join(" "), width));
            }
            HostRow::Admitted(_) => lines.extend(field("Disks", "none: it is not connected", width)),
        }
        lines
    });
    let end = below(canvas, &details.unwrap_or_default(), "diskomator hosts");
    let shown = end.saturating_sub(2).max(1);
    let first = (chosen + 1).saturating_sub(shown);
    canvas.put(1, 1, width, &format!("{:address_width$}  {:STATE_WIDTH$}  DISKS  NAME", "ADDRESS", "STATE"), TITLE);
    for (number, row) in rows.iter().enumerate().skip(first).take(shown) {
        let y = 2 + number - first;
        let address = shortened(&of(row), address_width);
        let (state, style) = host_state(row, snapshot);
        let disks = match row {
            HostRow::Connected(_, disks) => disks.len().to_string(),
            HostRow::Request(_) | HostRow::Admitted(_) => "-".to_owned(),
        };
        let x = canvas.put(1, y, width, &format!("{address:address_width$}  "), STRONG);
        let x = canvas.put(x, y, width, &format!("{state:STATE_WIDTH$}  "), style);
        let x = canvas.put(x, y, width, &format!("{disks:>5}  "), PLAIN);
        canvas.put_line(x, y, width, &fitted(row.nqn(), width.saturating_sub(x + 1), ORIGIN));
        if number == chosen {
            canvas.restyle(0, y, width, SELECTED);
        }
    }
    if rows.len() > shown {
        let text = format!("{} to {} of {}", first + 1, (first + shown).min(rows.len()), rows.len());
        canvas.put(width.saturating_sub(text.len() + 1), 1, width, &text, FAINT);
    }
}

/// The log, `back` rows before its end. Returns `back`, or less if the log has fewer rows.
pub(crate) fn log(canvas: &mut Canvas, snapshot: &Snapshot, back: usize, errors_only: bool) -> usize {
    let Size { width, height } = canvas.size();
    let rows: Vec<Line> = snapshot.log.records(errors_only).flat_map(|record| log_rows(record, width - 2)).collect();
    if rows.is_empty() {
        canvas.put(1, 2, width, if errors_only { "Nothing went wrong." } else { "The log is empty." }, GOOD);
        return 0;
    }
    let room = height - 2;
    let most = rows.len().saturating_sub(room);
    let back = back.min(most);
    scrolled(canvas, &rows, most - back);
    back
}

fn log_rows(record: &Entry, width: usize) -> Vec<Line> {
    let style = match record.level {
        Level::Error => BAD,
        Level::Warning => WARN,
        Level::Info => PLAIN,
    };
    let time = format!("{:>6}.{:03} ", record.millis / 1000, record.millis % 1000);
    let texts = wrap(&record.text, width.saturating_sub(time.len() + 1));
    let lead = |number| if number == 0 { time.clone() } else { " ".repeat(time.len()) };
    texts.into_iter().enumerate().map(|(number, text)| vec![(lead(number), FAINT), (text, style)]).collect()
}

/// Every link and address.
pub(crate) fn network(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let mut rows = vec![Line::new()];
    if snapshot.links.is_empty() {
        rows.push(line("No network card has been found.", WARN));
    }
    for link in &snapshot.links {
        rows.push(link_row(link, width.max(60)));
        let mut addresses = link.addresses.clone();
        addresses.sort_unstable();
        for address in addresses {
            let text = format!("{}/{}", address.ip, address.prefix_len);
            rows.push(vec![(format!("    {text:44}"), PLAIN), (address.origin.to_owned(), ORIGIN)]);
        }
        rows.push(Line::new());
    }
    let addresses = snapshot.addresses();
    if !addresses.is_empty() {
        rows.push(line("On another Linux machine, type as root one of these:", TITLE));
        for (address, _) in &addresses {
            rows.extend(
                wrap(&connect_line(address), width - 3).into_iter().map(|row| line(format!("  {row}"), STRONG)),
            );
        }
        if let Some(name) = &snapshot.machine.name {
            rows.push(Line::new());
            let text = format!(
                "Its name in the local network is {}; avahi-browse -rt _nvme-disc._tcp finds it.",
                printable(name)
            );
            rows.extend(wrap(&text, width - 3).into_iter().map(|row| line(row, PLAIN)));
        }
    }
    rows
}

/// The machine, the way to log in to it, and all warnings.
pub(crate) fn machine(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let machine = &snapshot.machine;
    let mut rows = vec![Line::new()];
    let unknown = || "unknown".to_owned();
    let memory = format!("{}, {} free", human_size(machine.memory), human_size(machine.memory_free));
    for (name, value) in [
        ("Name", machine.name.clone().unwrap_or_else(unknown)),
        ("Machine", machine.model.clone().unwrap_or_else(unknown)),
        ("CPU", format!("{} x {}", machine.processor.clone().unwrap_or_else(unknown), machine.processors)),
        ("RAM", memory),
        (
            "Screen",
            match machine.screen {
                Screen::FrameBuffer => "frame buffer".to_owned(),
                Screen::Text => "text mode".to_owned(),
                Screen::None => "none, of those that the kernel can draw on".to_owned(),
            },
        ),
        ("Version", machine.version.to_owned()),
    ] {
        rows.extend(field(name, &value, width));
    }
    if let Some(ssh) = &snapshot.ssh {
        rows.push(Line::new());
        rows.push(line("Log in over the network: ssh root@ADDRESS", TITLE));
        if let Some(password) = &ssh.password {
            rows.extend(field("Password", password, width));
        }
        rows.extend(field("Key", &ssh.fingerprint, width));
    }
    rows.push(Line::new());
    if snapshot.warnings.is_empty() {
        rows.push(line("No warnings.", GOOD));
    }
    for warning in &snapshot.warnings {
        for (number, text) in wrap(&printable(warning), width.saturating_sub(5)).into_iter().enumerate() {
            rows.push(vec![(if number == 0 { "! " } else { "  " }.to_owned(), BAD), (text, WARN)]);
        }
        rows.push(Line::new());
    }
    rows
}

/// The keys, each with its act and the command that does the same.
pub(crate) fn help(width: usize) -> Vec<Line> {
    let mut rows = vec![Line::new()];
    let name_width = BINDINGS.iter().map(|binding| binding.name.len()).max().unwrap_or(0).max(9);
    for (title, page) in [
        ("Everywhere", None),
        ("Among the disks, for the one that is chosen", Some(Page::Disks)),
        ("Among the hosts, for the one that is chosen", Some(Page::Hosts)),
        ("In the log", Some(Page::Log)),
    ] {
        rows.push(line(title, TITLE));
        for binding in BINDINGS.iter().filter(|binding| binding.page == page) {
            let asks = if binding.asks { " (asks)" } else { "" };
            let what = format!("{}{asks}", binding.what);
            let mut row = vec![(format!("  {:name_width$} ", binding.name), STRONG)];
            if width >= 76 {
                row.push((format!("{what:31}"), PLAIN));
                row.push((binding.command.to_owned(), ORIGIN));
            } else {
                row.push((what, PLAIN));
            }
            rows.push(row);
        }
        if page.is_none() {
            for (keys, what) in MOVES {
                rows.push(vec![(format!("  {keys:name_width$} "), STRONG), (what.to_owned(), PLAIN)]);
            }
        }
        rows.push(Line::new());
    }
    rows
}
