//! The demo on a terminal: the figures as one picture that is drawn again several times a second.

use std::io::{IsTerminal as _, Write as _, stdout};

use anyhow::Context as _;
use protocol::datetime;
use protocol::ids::Micros;
use rustix::termios::tcgetwinsize;

use super::figures::{Figures, HostFigures, Rate};

/// A terminal that is drawn on. Dropping it gives it back.
pub(super) struct Screen {
    title: Title,
}

/// What stands above the figures.
#[derive(Clone, Debug)]
pub(super) struct Title {
    /// Hosts, accounts and rate of the simulated network.
    pub(super) network: String,
    /// Where the relay can be reached.
    pub(super) addresses: Vec<(&'static str, String)>,
    /// What is under way.
    pub(super) phase: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    columns: usize,
    rows: usize,
}

/// A line of the picture, in pieces of one look each.
#[derive(Default)]
struct Line(Vec<(Look, String)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Plain,
    Dim,
    Bold,
    Good,
    Bad,
    Accent,
}

impl Screen {
    /// Takes the terminal; `None` if standard output is none, or too small for the picture.
    pub(super) fn open(title: Title) -> anyhow::Result<Option<Self>> {
        if size().is_none() {
            return Ok(None);
        }
        write!(stdout().lock(), "{HIDE_CURSOR}{CLEAR}").context("print")?;
        Ok(Some(Self { title }))
    }

    /// What is under way from here on.
    pub(super) fn enter(&mut self, phase: String) {
        self.title.phase = phase;
    }

    /// Draws the picture in the place of the last one.
    pub(super) fn draw(&self, figures: &Figures) -> anyhow::Result<()> {
        let size = size().unwrap_or(SIZE_MIN);
        let mut out = String::from(HOME);
        for line in picture(&self.title, figures, size) {
            line.write(size.columns, &mut out);
            out.push_str("\x1b[K\n");
        }
        out.push_str("\x1b[J");
        let mut stdout = stdout().lock();
        stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()).context("print")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to tell if the terminal is gone.
        drop(write!(stdout().lock(), "{SHOW_CURSOR}"));
    }
}

/// The size of the terminal, if there is one that has room.
fn size() -> Option<Size> {
    let stdout = stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = tcgetwinsize(&stdout).ok()?;
    let size = Size { columns: size.ws_col.into(), rows: size.ws_row.into() };
    (size.columns >= SIZE_MIN.columns && size.rows >= SIZE_MIN.rows).then_some(size)
}

/// The whole picture, one row less than the terminal has: the last one is for what comes after.
fn picture(title: &Title, figures: &Figures, size: Size) -> Vec<Line> {
    let mut lines = head(title, figures);
    lines.extend(path(figures));
    lines.extend(course(figures, size.columns));
    let room = size.rows.saturating_sub(1 + lines.len());
    lines.extend(tables(figures, room));
    lines
}

fn head(title: &Title, figures: &Figures) -> Vec<Line> {
    let mut lines = vec![
        Line::default()
            .put(Look::Accent, " Mainstem ")
            .put(Look::Bold, format!(" {}", title.network)),
        Line::default()
            .put(Look::Dim, format!(" {:>4} s  ", figures.elapsed.as_secs()))
            .put(Look::Plain, title.phase.clone()),
    ];
    for (name, address) in &title.addresses {
        lines.push(Line::default().put(Look::Dim, format!(" {name:<9}")).put(Look::Plain, address));
    }
    lines.push(Line::default());
    lines
}

/// The way of the events, and how many came where.
fn path(figures: &Figures) -> Vec<Line> {
    let stations = [
        ("hosts", figures.sent),
        ("crawler", figures.received),
        ("verifier", figures.passed),
        ("consumer", figures.delivered),
    ];
    let mut names = Line::default().put(Look::Plain, " ");
    let mut counts = Line::default().put(Look::Plain, " ");
    for (index, (name, count)) in stations.into_iter().enumerate() {
        let arrow = if index == 0 { "" } else { " ──▶ " };
        names = names.put(Look::Dim, arrow).put(Look::Bold, format!("{name:>11}"));
        counts = counts.put(Look::Plain, format!("{:>1$}", "", arrow.chars().count()));
        counts = counts.put(Look::Plain, format!("{:>11}", grouped(count)));
    }
    let look = if figures.dropped() > 0 { Look::Bad } else { Look::Good };
    counts = counts.put(look, format!("   {} refused by name", grouped(figures.dropped())));
    let head = match figures.head {
        0 => "none yet".to_owned(),
        // A seq is a time.
        seq => format!("{seq}  ({})", datetime::format(Micros(seq))),
    };
    vec![
        names,
        counts,
        Line::default().put(Look::Dim, " head seq  ").put(Look::Plain, head),
        Line::default(),
    ]
}

/// Rates over time, latency, and what it costs.
fn course(figures: &Figures, columns: usize) -> Vec<Line> {
    let room = columns.saturating_sub(24).min(60);
    let row = |name: &str, look: Look, of: fn(&Rate) -> u64| {
        let rates: Vec<u64> = figures.rates.iter().map(of).collect();
        let newest = rates.last().copied().unwrap_or(0);
        Line::default()
            .put(Look::Dim, format!(" {name:<9}"))
            .put(Look::Plain, format!("{:>8}/s  ", grouped(newest)))
            .put(look, spark(&rates[rates.len().saturating_sub(room)..]))
    };
    vec![
        row("in", Look::Accent, |rate| rate.received),
        row("out", Look::Good, |rate| rate.delivered),
        Line::default()
            .put(Look::Dim, " latency   ")
            .put(Look::Plain, format!("p50 {:.1} ms   ", figures.latency.p50))
            .put(Look::Plain, format!("p99 {:.1} ms   ", figures.latency.p99))
            .put(Look::Dim, "host to consumer, the last 1,000 events"),
        Line::default()
            .put(Look::Dim, " process   ")
            .put(Look::Plain, format!("cpu {:.0} % of a core   ", figures.cpu_percent))
            .put(Look::Plain, format!("memory {} MiB   ", figures.resident_mib))
            .put(Look::Dim, "relay and simulated network together"),
        Line::default(),
    ]
}

/// Hosts on the left, drops on the right.
fn tables(figures: &Figures, room: usize) -> Vec<Line> {
    let Some(rows) = room.checked_sub(1).filter(|rows| *rows > 0) else { return Vec::new() };
    let mut drops: Vec<(&String, &u64)> = figures.drops.iter().collect();
    drops.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let headings = format!(
        " {:<22} {:<9} {:>8} {:>8} {:>7}",
        "HOST", "STATUS", "CURSOR", "ACCOUNTS", "REFUSED"
    );
    let mut lines =
        vec![Line::default().put(Look::Dim, headings).put(Look::Dim, "    REFUSED, BY REASON")];
    for index in 0..rows.min(figures.hosts.len().max(drops.len())) {
        let is_last = index + 1 == rows;
        let mut line = match figures.hosts.get(index) {
            Some(_) if is_last && figures.hosts.len() > rows => {
                let more = figures.hosts.len() - index;
                Line::default().put(Look::Dim, format!(" {:<58}", format!("and {more} more")))
            }
            Some(host) => host_row(host),
            None => Line::default().put(Look::Plain, format!("{:59}", "")),
        };
        if let Some((reason, count)) = drops.get(index) {
            line = line.put(Look::Bad, format!("{:>7}", grouped(**count)));
            line = line.put(Look::Plain, format!("  {reason}"));
        }
        lines.push(line);
    }
    lines
}

fn host_row(host: &HostFigures) -> Line {
    let look = match host.status {
        "active" => Look::Good,
        "idle" => Look::Dim,
        _ => Look::Bad,
    };
    let name: String = host.name.chars().take(22).collect();
    Line::default()
        .put(Look::Plain, format!(" {name:<22} "))
        .put(look, format!("{:<9}", host.status))
        .put(Look::Plain, format!(" {:>8}", grouped(host.cursor)))
        .put(Look::Plain, format!(" {:>8}", grouped(host.accounts)))
        .put(Look::Plain, format!(" {:>7}", grouped(host.rejects)))
        .put(Look::Plain, "  ")
}

impl Line {
    fn put(mut self, look: Look, text: impl Into<String>) -> Self {
        self.0.push((look, text.into()));
        self
    }

    /// Writes what fits into so many columns: a longer line would push the picture down.
    fn write(&self, columns: usize, out: &mut String) {
        let mut room = columns;
        for (look, text) in &self.0 {
            let fits: String = text.chars().take(room).collect();
            room -= fits.chars().count();
            out.push_str(look.begin());
            out.push_str(&fits);
            out.push_str("\x1b[0m");
        }
    }
}

impl Look {
    fn begin(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
            Self::Accent => "\x1b[1;36m",
        }
    }
}

/// A course as a row of bars, the greatest of which is whole.
fn spark(values: &[u64]) -> String {
    let max = values.iter().copied().max().unwrap_or(0).max(1);
    let last = u64::try_from(BARS.len() - 1).expect("a few bars");
    let bar = |value: &u64| {
        let place = (u128::from(*value) * u128::from(last)).div_ceil(u128::from(max));
        BARS[usize::try_from(place).unwrap_or(0)]
    };
    values.iter().map(bar).collect()
}

/// A number with a comma before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Room for the way of the events, the courses and some hosts.
const SIZE_MIN: Size = Size { columns: 80, rows: 20 };
// ECMA-48, and DEC's private mode of the cursor: every terminal of the last decades knows them.
const HOME: &str = "\x1b[H";
const CLEAR: &str = "\x1b[2J";
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn host(number: u64) -> HostFigures {
        HostFigures {
            name: format!("localhost:{}", 4100 + number),
            status: if number == 1 { "offline" } else { "active" },
            cursor: 1000 * number,
            accounts: 20,
            rejects: number,
        }
    }

    fn drawn(hosts: u64, drops: u64, size: Size) -> Vec<String> {
        let title = Title {
            network: "a simulated network".to_owned(),
            addresses: vec![("firehose", "ws://127.0.0.1:1".to_owned())],
            phase: "honest traffic".to_owned(),
        };
        let figures = Figures {
            elapsed: Duration::from_secs(7),
            sent: 1_234_567,
            head: 1_795_219_200_000_000,
            rates: [0, 50, 100].map(|received| Rate { received, delivered: 7 }).into(),
            hosts: (0..hosts).map(host).collect(),
            drops: (0..drops).map(|number| (format!("reason_{number}"), number + 1)).collect(),
            ..Figures::default()
        };
        let lines = picture(&title, &figures, size);
        lines.iter().map(|line| line.0.iter().map(|(_, text)| text.as_str()).collect()).collect()
    }

    #[test]
    fn the_picture_tells_what_there_is_and_leaves_room_for_a_prompt() {
        let lines = drawn(3, 2, SIZE_MIN);
        assert!(lines.len() < SIZE_MIN.rows);
        let text = lines.join("\n");
        for part in [
            "1,234,567",
            "ws://127.0.0.1:1",
            "2026-11-21T00:00:00",
            "localhost:4102",
            "offline",
            "2  reason_1",
            "100/s   ▄█",
            "honest traffic",
            "3 refused by name",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let columns = SIZE_MIN.columns + 20;
        assert!(lines.iter().all(|line| line.chars().count() <= columns), "{text}");
    }

    #[test]
    fn more_hosts_than_rows_are_counted() {
        let lines = drawn(100, 0, SIZE_MIN);
        assert_eq!(lines.len(), SIZE_MIN.rows - 1);
        let shown = lines.iter().filter(|line| line.contains("localhost")).count();
        let more = format!("and {} more", 100 - shown);
        assert!(lines.last().unwrap().contains(&more), "{more}: {lines:#?}");
    }

    #[test]
    fn a_line_is_cut_at_the_terminals_edge() {
        let line = Line::default().put(Look::Bad, "abc").put(Look::Plain, "▁▂▃");
        let mut out = String::new();
        line.write(4, &mut out);
        assert_eq!(out, "\x1b[31mabc\x1b[0m▁\x1b[0m");
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn bars_are_in_proportion() {
        assert_eq!(spark(&[0, 1, 4, 8]), " ▁▄█");
        assert_eq!(spark(&[0, 0]), "  ");
        assert_eq!(spark(&[u64::MAX]), "█");
    }
}
