//! `make bench`: what one event costs, from a host's socket to a consumer's, beside what cannot
//! be avoided, measured in the same run.
//!
//! The relay is a child process, so that its CPU time is its own. Prints tables; writes JSON to
//! the file that is named as the only argument.

use std::time::Duration;

use anyhow::Context as _;
use loadtest::network::{Network, Options};
use loadtest::report::{Report, count_f64};
use serde_json::{Value, json};

mod child;
mod flat;
mod live;
mod raw;
mod table;

use child::{NO_PLC_LIMIT, Relay, print, start_before};
use live::Live;
use table::{Row, Target};

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (reports, rows) = runtime.block_on(run())?;
    let rows_json: Vec<Value> = rows.iter().map(Row::json).collect();
    let reports_json: Vec<Value> = reports.iter().map(Report::json).collect();
    print(&table::table(&rows))?;
    if let Some(path) = std::env::args_os().nth(1) {
        let all = json!({ "targets": rows_json, "reports": reports_json });
        std::fs::write(&path, serde_json::to_string_pretty(&all)?).context("write the JSON")?;
    }
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "a straight story: one measurement after the other")]
async fn run() -> anyhow::Result<(Vec<Report>, Vec<Row>)> {
    let mut network = Network::start(&Options {
        hosts: 10,
        accounts_per_host: 100,
        records_per_account: 200,
        start: start_before(EVENTS),
        ..Options::default()
    })
    .await?;
    print("drawing the events\n")?;
    network.send_next(EVENTS);
    let folder = tempfile::tempdir()?;
    let mut rows = Vec::new();
    let mut reports = Vec::new();

    let mut report = Report::new(format!("flat out: {EVENTS} events, one consumer, fsync"));
    let relay = Relay::start(folder.path(), &network, &NO_PLC_LIMIT)?;
    let messages = flat::flat_out(&relay, &network, &mut report).await?;
    let unavoidable = flat::unavoidable(&network, &messages, &mut report)?;
    let figure = |report: &Report, name: &str| report.get(name).context(name.to_owned());
    let cpu = figure(&report, flat::CPU_PER_EVENT)?;
    rows.push(Row {
        what: "whole relay, socket to log to one consumer, CPU of an event".into(),
        value: cpu,
        unit: "us",
        target: Target::AtMost(60.0),
        raw: Some((unavoidable, "us: signature, hash, copy, share of fsync")),
    });
    rows.push(Row {
        what: "the same, as events for each core".into(),
        value: 1e6 / cpu,
        unit: "1/s",
        target: Target::AtLeast(16_000.0),
        raw: Some((1e6 / unavoidable, "1/s")),
    });
    finished(&mut reports, report)?;

    rows.push(memory("resident memory after the first events", &relay)?);
    let mut report = Report::new("replay: one consumer from cursor 0, from the disk's cache");
    let replay = flat::replay(&relay, &messages, folder.path(), &mut report).await?;
    rows.push(Row {
        what: "replay, frames to one consumer".into(),
        value: replay.frames_per_second,
        unit: "1/s",
        target: Target::AtLeast(500_000.0),
        raw: Some((replay.raw_frames_per_second, "1/s: pread and write of a flat file")),
    });
    finished(&mut reports, report)?;
    rows.push(memory("resident memory after the replays", &relay)?);
    drop(messages);

    let fsync = raw::fsync(folder.path())?;
    for rate in [500, 2_000] {
        let mut report = Report::new(format!("live: {rate} events/s, one consumer, fsync"));
        report.add_spread("one fsync, nothing else going on", fsync, "ms");
        let alone = live::run(&relay, &mut network, rate, 1, &mut report).await?;
        for (what, value, limit, raw) in [
            ("p50", alone.age.p50, 5.0, (fsync.p50, "ms: one fsync, p50")),
            ("p99", alone.age.p99, 10.0, (fsync.p99, "ms: one fsync, p99")),
        ] {
            rows.push(Row {
                what: format!("host to consumer at {rate} events/s, {what}"),
                value,
                unit: "ms",
                target: Target::AtMost(limit),
                raw: Some(raw),
            });
        }
        finished(&mut reports, report)?;

        let mut report = Report::new(format!("crowd: {rate} events/s, {CROWD} consumers, fsync"));
        let crowd = live::run(&relay, &mut network, rate, CROWD, &mut report).await?;
        crowd_rows(rate, &alone, &crowd, &mut rows, &mut report)?;
        finished(&mut reports, report)?;
    }
    rows.push(memory("resident memory after all of this", &relay)?);
    Ok((reports, rows))
}

fn memory(what: &str, relay: &Relay) -> anyhow::Result<Row> {
    let resident = relay.usage()?.resident_bytes;
    Ok(Row {
        what: format!("{what}, 10 hosts, 1,000 accounts"),
        value: count_f64(usize::try_from(resident)?) / 1e6,
        unit: "MB",
        target: Target::AtMost(150.0),
        raw: None,
    })
}

/// What delivery to a crowd costs beyond what the events cost anyway.
fn crowd_rows(
    rate: u32,
    alone: &Live,
    crowd: &Live,
    rows: &mut Vec<Row>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let consumers = count_f64(CROWD);
    let frames = crowd.events_per_second * (consumers - 1.0);
    let delivered = (crowd.cores - alone.cores) * 1e6 / frames;
    // The same bytes in as many writes.
    let interval = Duration::from_secs_f64(crowd.frames_per_write / crowd.events_per_second);
    let bytes = crowd.frames_per_write * crowd.bytes_per_frame;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some kB")]
    let write = raw::writes(CROWD, bytes as usize, interval)?;
    let raw = write.as_secs_f64() * 1e6 / crowd.frames_per_write;
    report.add("CPU per delivered frame", delivered, "us");
    report.add("the same, raw write", raw, "us");
    rows.push(Row {
        what: format!("delivered frame, {CROWD} consumers at {rate} events/s"),
        value: delivered,
        unit: "us",
        target: if rate == 2_000 { Target::AtMost(1.0) } else { Target::None },
        raw: Some((raw, "us: one write per batch and socket")),
    });
    rows.push(Row {
        what: format!("whole relay, {CROWD} consumers at {rate} events/s"),
        value: crowd.cores,
        unit: "cores",
        target: if rate == 500 { Target::AtMost(0.15) } else { Target::None },
        raw: Some((raw * frames / 1e6, "cores: the writes")),
    });
    for (what, value, limit) in [("p50", crowd.age.p50, 5.0), ("p99", crowd.age.p99, 10.0)] {
        rows.push(Row {
            what: format!("host to {CROWD} consumers at {rate} events/s, {what}"),
            value,
            unit: "ms",
            target: Target::AtMost(limit),
            raw: None,
        });
    }
    Ok(())
}

fn finished(reports: &mut Vec<Report>, report: Report) -> anyhow::Result<()> {
    print(&format!("{}\n", report.table()))?;
    reports.push(report);
    Ok(())
}

const EVENTS: usize = 60_000;
const CROWD: usize = 100;
