//! `mainstem check`: a data folder verified as it lies there, without a relay.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use protocol::datetime;
use protocol::ids::Seq;
use serde_json::{Value, json};
use storage::check::{Finding, Progress, Report, check};

use crate::config;

/// Prints what was found; the exit code tells whether it is sound.
pub fn run(options: &config::Check) -> ExitCode {
    let began = Instant::now();
    let mut said = began;
    let mut say = |progress: Progress| {
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            // Whoever closed standard error does not want to know.
            drop(writeln!(std::io::stderr(), "{}", describe(progress, began.elapsed())));
        }
    };
    let report = match check(&options.data_dir, &mut say) {
        Ok(report) => report,
        Err(error) => {
            tracing::error!("not checked: {error}");
            return ExitCode::from(NOT_CHECKED);
        }
    };
    let text = if options.json { as_json(&report).to_string() } else { as_text(&report) };
    // Standard output is this command's purpose.
    if let Err(error) = writeln!(std::io::stdout().lock(), "{text}").context("print") {
        tracing::error!("{error:#}");
        return ExitCode::from(NOT_CHECKED);
    }
    if report.findings_total == 0 { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) }
}

fn describe(progress: Progress, elapsed: Duration) -> String {
    let Progress { family, bytes, file_bytes } = progress;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = bytes as f64 / 1e6 / elapsed.as_secs_f64().max(1e-3);
    format!(
        "{family}: {} of about {} MB, {rate:.0} MB/s",
        bytes / 1_000_000,
        file_bytes / 1_000_000
    )
}

fn as_text(report: &Report) -> String {
    let seq = |seq: Option<Seq>| seq.map_or_else(|| "none".to_owned(), |seq| seq.to_string());
    let format = report.format.map_or_else(|| "unknown".to_owned(), |format| format.to_string());
    let Report { batches, head, floor, .. } = report;
    let mut lines = vec![
        format!("format   {format}"),
        format!("log      begin {}, floor {floor}, head {head}", seq(report.begin)),
        format!("clock    {} at the last commit of events", datetime::format(report.clock)),
    ];
    lines.extend(report.mark.map(|mark| format!("mark     {mark}")));
    lines.push(format!(
        "batches  {}, {} events, {} bytes, seq {} to {}, {} below the floor",
        batches.count,
        batches.events,
        batches.bytes,
        seq(batches.first),
        seq(batches.last),
        batches.below_floor
    ));
    let rows: Vec<String> =
        report.rows.iter().map(|(family, count)| format!("{family} {count}")).collect();
    lines.push(format!("rows     {}", rows.join(", ")));
    lines.push(format!(
        "files    {} of data, {} bytes; {} commits in the write-ahead log",
        report.files, report.file_bytes, report.wal_commits
    ));
    lines.extend(report.wal_torn.as_ref().map(|(file, at)| {
        format!("         {file} ends in a torn commit at byte {at}, as a crash leaves it")
    }));
    for Finding { place, key, what } in &report.findings {
        let key = key.as_ref().map_or_else(String::new, |key| format!(", {key}"));
        lines.push(format!("DAMAGED  {place}{key}: {what}"));
    }
    let untold = report.findings_total.saturating_sub(report.findings.len() as u64);
    if untold > 0 {
        lines.push(format!("         and {untold} more"));
    }
    lines.push(match report.findings_total {
        0 => "sound: every row reads, and none contradicts another".to_owned(),
        count => format!("{count} findings. {REMEDY}"),
    });
    lines.join("\n")
}

fn as_json(report: &Report) -> Value {
    let number = |seq: Option<Seq>| seq.map(Seq::get);
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|Finding { place, key, what }| {
            json!({ "place": place, "key": key, "what": what, "remedy": REMEDY })
        })
        .collect();
    let batches = &report.batches;
    json!({
        "sound": report.findings_total == 0,
        "format": report.format,
        "begin": number(report.begin),
        "floor": report.floor.get(),
        "head": report.head.get(),
        "clock": datetime::format(report.clock),
        "mark": number(report.mark),
        "batches": {
            "count": batches.count,
            "events": batches.events,
            "bytes": batches.bytes,
            "first": number(batches.first),
            "last": number(batches.last),
            "belowFloor": batches.below_floor,
        },
        "rows": report.rows.iter().map(|(family, count)| ((*family).to_owned(), json!(count)))
            .collect::<serde_json::Map<String, Value>>(),
        "files": report.files,
        "fileBytes": report.file_bytes,
        "walCommits": report.wal_commits,
        "walTorn": report.wal_torn.as_ref().map(|(file, at)| json!({ "file": file, "at": at })),
        "findings": findings,
        "findingsTotal": report.findings_total,
    })
}

const REMEDY: &str = "Restore a backup, or start with an empty folder: hosts resend what they \
    still have (docs/operations.md, \"The data folder is damaged\")";
const DAMAGED: u8 = 1;
const NOT_CHECKED: u8 = 2;
const SAY_EVERY: Duration = Duration::from_secs(2);

/// For `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 sound, 1 damaged (what and where is printed), 2 not \
    checked (no data folder, a relay is running on it, or it cannot be read). Nothing in the \
    folder is changed.";
